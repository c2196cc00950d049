//! Tokens for another audience by token exchange (RFC 8693), where the issuer offers it.

use std::fs;

use authctl::dev_issuer::{Algorithm, DevIssuer, Endpoint, Fault, FaultKind, GrantType, Options};
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::jwt::{Signer, claims};
use crate::support::stub_server::StubServer;
use crate::support::{PASSWORD, Sandbox, USER, issuer};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const API: &str = "https://api.example";
const FOR_API: [&str; 4] = ["token", "work", "--audience", API];

/// Starts an issuer whose clients may exchange tokens.
pub fn exchanging_issuer(change: impl FnOnce(&mut Options)) -> DevIssuer {
    issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.clients.iter_mut().for_each(|client| client.grants.push(GrantType::TokenExchange));
        change(options);
    })
}

/// Logs in as `work` with these options.
fn log_in(home: &Sandbox, issuer: &DevIssuer, more: &[&str]) {
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--username", USER];
    home.run_with(&[&login[..], &["--password-stdin"], more].concat(), &format!("{PASSWORD}\n")).exits(0);
}

fn requests(issuer: &DevIssuer, grant_type: &str) -> u64 {
    issuer.stats().token_requests.get(grant_type).copied().unwrap_or(0)
}

fn refuse(issuer: &DevIssuer, code: &str) {
    let kind = FaultKind::OAuthError { status: 400, code: code.into() };
    issuer.fault(Fault { endpoint: Endpoint::Token, kind, times: 0 });
}

#[test]
fn token_for_another_audience_is_exchanged_and_exchanged_again() {
    let (home, issuer) = (Sandbox::new(), exchanging_issuer(|_| {}));
    home.log_in("work", &issuer);
    let before = home.session("work");
    let token = home.run(&FOR_API).exits(0).line().to_owned();
    home.register_secret(&token);
    assert_eq!(claims(&token)["aud"], API);
    assert_eq!((requests(&issuer, EXCHANGE), requests(&issuer, "refresh_token")), (1, 0));
    let after = home.session("work");
    assert!(after.has_refresh_token_of(&before), "the session is unchanged");
    assert_eq!((after.rotates, after.refreshed_at), (before.rotates, before.refreshed_at));
    assert_eq!(after.tokens.access_token.expose(), before.tokens.access_token.expose());
    assert_eq!(home.run(&FOR_API).exits(0).line(), token, "served from the store");
    assert_eq!(
        home.run(&[&FOR_API[..], &["--scope", "profile", "--json"]].concat()).exits(0).json()["scope"],
        "profile"
    );
    assert_eq!((requests(&issuer, EXCHANGE), &home.status("work")["other_tokens"]), (2, &json!(2)));
    home.advance_time("work", 301);
    let next = home.run(&FOR_API).exits(0).line().to_owned();
    assert_ne!(next, token);
    assert_eq!(claims(&next)["aud"], API);
    assert_eq!((requests(&issuer, EXCHANGE), requests(&issuer, "refresh_token")), (3, 1), "the session's own first");
    home.run(&["token", "work", "--id-token"]).exits(0);
    home.log_in("work", &issuer);
    assert_eq!(home.status("work")["other_tokens"], 0, "a login begins without them");
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn resource_of_the_login_is_refreshed_and_another_is_exchanged() {
    let (home, issuer) = (Sandbox::new(), exchanging_issuer(|_| {}));
    let granted = ["--resource", "https://a.example", "--resource", "https://b.example"];
    log_in(&home, &issuer, &granted);
    for (resource, exchanges, refreshes) in [("https://b.example", 0, 1), ("https://c.example", 1, 1)] {
        let token = home.run(&["token", "work", "--resource", resource]).exits(0).line().to_owned();
        assert_eq!(claims(&token)["aud"], resource);
        assert_eq!((requests(&issuer, EXCHANGE), requests(&issuer, "refresh_token")), (exchanges, refreshes));
    }
}

#[test]
fn exchange_needs_a_valid_access_token_and_no_refresh_token() {
    let (home, issuer) = (Sandbox::new(), exchanging_issuer(|_| {}));
    log_in(&home, &issuer, &["--scope", "profile"]);
    assert!(home.session("work").tokens.refresh_token.is_none());
    home.run(&FOR_API).exits(0);
    home.advance_time("work", 270);
    home.run(&FOR_API).exits(0);
    assert_eq!(requests(&issuer, EXCHANGE), 2, "exchanged again before it expires");
    home.advance_time("work", 301);
    let before = issuer.stats().requests["token"];
    home.run(&FOR_API).exits(3).reports("hint:  authctl login work\n");
    assert_eq!(issuer.stats().requests["token"], before);
}

#[test]
fn refused_exchange_is_reported_and_leaves_the_session_unchanged() {
    for (code, exit, hint) in [
        ("invalid_target", 5, "give an --audience"),
        ("unauthorized_client", 5, "allow this client token exchange"),
        ("unsupported_grant_type", 5, "allow this client token exchange"),
        ("access_denied", 5, "allow this client token exchange"),
        ("invalid_grant", 5, "hint:  authctl refresh work\n"),
        ("invalid_request", 5, "hint:  authctl refresh work\n"),
        ("own_word", 5, "operator"),
    ] {
        let (home, issuer) = (Sandbox::new(), exchanging_issuer(|_| {}));
        home.log_in("work", &issuer);
        let before = home.stored("work");
        refuse(&issuer, code);
        for _ in 0..3 {
            let ran = home.run(&FOR_API).exits(exit).reports(&format!("error: no token for `{API}`: "));
            assert!(ran.stdout.is_empty() && ran.stderr.contains(code) && ran.stderr.contains(hint), "{}", ran.stderr);
        }
        assert_eq!(home.stored("work"), before, "{code}");
        let agent = Agent::run(&home);
        let problem = agent.get("/v1/token/work?audience=https://api.example").expect_problem(502, "issuer_refused");
        assert!(problem["title"].as_str().is_some_and(|title| title.contains(code)), "{problem}");
        agent.get("/v1/token/work").expect_status(200);
        assert_eq!(home.stored("work"), before, "{code}");
        // It shares a failure for a second.
        agent.stop();
        issuer.clear_faults();
        home.run(&["refresh", "work"]).exits(0);
        home.run(&FOR_API).exits(0);
    }
}

#[test]
fn valid_exchanged_token_is_served_while_the_exchange_fails() {
    let (home, mut issuer) = (Sandbox::new(), exchanging_issuer(|_| {}));
    home.log_in("work", &issuer);
    let token = home.run(&FOR_API).exits(0).line().to_owned();
    home.advance_time("work", 270);
    refuse(&issuer, "access_denied");
    assert_eq!(home.run(&FOR_API).exits(0).line(), token);
    issuer.clear_faults();
    issuer.pause();
    assert_eq!(home.run(&FOR_API).exits(0).line(), token);
    home.advance_time("work", 301);
    home.run(&FOR_API).exits(6);
    issuer.resume().unwrap();
    home.run(&FOR_API).exits(0);
}

#[test]
fn invalid_exchange_response_is_refused_and_not_stored() {
    let own = Signer::new().token(json!({"aud": "https://other.example"}));
    let usual = json!({"access_token": "exchanged", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer", "expires_in": 60});
    for (name, value, exit, text) in [
        ("issued_token_type", Value::Null, 6, "without issued_token_type"),
        (
            "issued_token_type",
            json!("urn:ietf:params:oauth:token-type:refresh_token"),
            6,
            "another type than was requested (issued_token_type)",
        ),
        ("issued_token_type", json!(1), 6, "without issued_token_type"),
        ("access_token", Value::Null, 5, "JSON that is not a token response"),
        ("token_type", json!("N_A"), 5, "type `N_A`"),
        ("token_type", json!("DPoP"), 5, "type `DPoP`"),
        ("access_token", json!(own), 5, "returned a token for `https://other.example`"),
    ] {
        let home = Sandbox::new();
        let mut reply = usual.clone();
        match &value {
            Value::Null => drop(reply.as_object_mut().unwrap().remove(name)),
            value => reply[name] = value.clone(),
        }
        let server = exchange_server(reply);
        home.run_with(&["login", "work", "--issuer", &server.url, "--client-id", "c", "--with-token"], SUPPLIED)
            .exits(0);
        let before = home.stored("work");
        let ran = home.run(&FOR_API).exits(exit).reports(text);
        assert!(ran.stdout.is_empty(), "{name}");
        assert_eq!(home.stored("work"), before, "{name}: {value}");
    }
}

/// A session without a refresh token.
const SUPPLIED: &str = r#"{"access_token":"subject","token_type":"Bearer","expires_in":300}"#;

/// Starts an issuer that answers token exchanges with `reply`.
fn exchange_server(reply: Value) -> StubServer {
    StubServer::start(move |own, request| match request.path.as_str() {
        "/token" => (200, reply.to_string()),
        _ => {
            let token = format!("{own}/token");
            (200, json!({"issuer": own, "token_endpoint": token, "grant_types_supported": [EXCHANGE]}).to_string())
        }
    })
}

#[test]
fn exchange_request_has_the_parameters_of_the_rfc() {
    let home = Sandbox::new();
    let reply = json!({"access_token": "exchanged", "token_type": "bearer", "refresh_token": "never-stored",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"});
    let server = exchange_server(reply);
    home.run_with(&["login", "work", "--issuer", &server.url, "--client-id", "c", "--with-token"], SUPPLIED).exits(0);
    let args = [&FOR_API[..], &["--resource", "https://r.example", "--scope", "read", "--json"]].concat();
    let token = home.run(&args).exits(0).json();
    assert_eq!((&token["access_token"], &token["token_type"]), (&json!("exchanged"), &json!("Bearer")));
    assert_eq!(token["expires_at"], home.status("work")["expires_at"], "not served longer than the subject token");
    let sent = server.requests().into_iter().find(|request| request.path == "/token").expect("sent").body;
    let sent: Vec<(String, String)> = url::form_urlencoded::parse(sent.as_bytes()).into_owned().collect();
    let expected = [
        ("grant_type", EXCHANGE),
        ("subject_token", "subject"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("scope", "read"),
        ("audience", API),
        ("resource", "https://r.example"),
        ("client_id", "c"),
    ];
    assert_eq!(sent, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(!home.stored("work").to_string().contains("never-stored"));
}

#[test]
fn exchanged_tokens_are_revoked_and_deleted_at_logout() {
    let (home, issuer) = (Sandbox::new(), exchanging_issuer(|_| {}));
    log_in(&home, &issuer, &["--scope", "profile"]);
    let token = home.run(&FOR_API).exits(0).line().to_owned();
    let keys = home.path().join("keys.json");
    fs::write(&keys, home.trust(&issuer).fetched.unwrap().jwks).unwrap();
    let keys = keys.to_str().unwrap();
    let verify = ["verify", "-", "--profile", "work", "--audience", API, "--jwks", keys, "--json"];
    home.run_with(&verify, &token).exits(0);
    home.run(&["logout"]).exits(0);
    let denied = home.run_with(&verify, &token).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "revoked");
    assert_eq!(issuer.stats().requests["revoke"], 2, "both access tokens");
    assert!(!home.session_file("work").exists());
    home.run(&FOR_API).exits(3);
}

#[test]
fn agent_exchanges_serves_and_forgets_tokens_as_the_command_does() {
    let (home, issuer) = (Sandbox::new(), exchanging_issuer(|_| {}));
    home.log_in("work", &issuer);
    let agent = Agent::run(&home);
    let first = agent.get("/v1/token/work?audience=https://api.example").token();
    assert_eq!(claims(&first)["aud"], API);
    assert_eq!(home.run(&FOR_API).exits(0).line(), first);
    assert_eq!(requests(&issuer, EXCHANGE), 1);
    home.advance_agent_time(&agent, "work", 270);
    assert_ne!(agent.get("/v1/token/work?audience=https://api.example").token(), first);
    home.run(&["logout"]).exits(0);
    agent.get("/v1/token/work?audience=https://api.example").expect_problem(401, "login_required");
}

#[test]
fn unreachable_exchange_is_recorded_until_one_succeeds() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let server = StubServer::start(move |own, request| match request.path.as_str() {
        "/token" if down.load(Ordering::Relaxed) => (503, "{}".into()),
        "/token" => {
            let reply = json!({"access_token": "exchanged-token-4711", "token_type": "Bearer", "expires_in": 60,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"});
            (200, reply.to_string())
        }
        _ => {
            let token = format!("{own}/token");
            (200, json!({"issuer": own, "token_endpoint": token, "grant_types_supported": [EXCHANGE]}).to_string())
        }
    });
    let home = Sandbox::new();
    home.run_with(
        &["login", "work", "--issuer", &server.url, "--client-id", "c", "--with-token"],
        &SUPPLIED.replace("subject", "supplied-token-4711"),
    )
    .exits(0);
    let failure = || home.status("work")["last_failure"].clone();
    for failures in 1..=2 {
        home.run(&FOR_API).exits(6);
        assert_eq!((&failure()["code"], &failure()["failures"]), (&json!("issuer_unreachable"), &json!(failures)));
    }
    assert_eq!(home.run(&["token", "work"]).exits(0).line(), "supplied-token-4711", "the session itself is as it was");
    is_down.store(false, Ordering::Relaxed);
    assert_eq!(home.run(&FOR_API).exits(0).line(), "exchanged-token-4711");
    assert_eq!(failure(), Value::Null);
    // A failure of the session's own refresh is not over with an exchange.
    let other = ["token", "work", "--audience", "https://second.example"];
    for other_target in [true, false] {
        home.change_session("work", |session| {
            session.last_failure = Some(authctl::model::RefreshFailure {
                at: session.logged_in_at,
                failures: 1,
                refusals: 0,
                other_target,
                code: authctl::model::ErrorCode::IssuerUnreachable,
                message: "before".into(),
                retry_at: None,
            });
            session.others.clear();
        });
        home.run(&other).exits(0);
        assert_eq!(failure().is_null(), other_target);
    }
}
