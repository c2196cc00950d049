//! Metadata that is incomplete, wrong, or split between the two documents.

use authctl::dev_issuer::DevIssuer;
use serde_json::{Value, json};

use super::{answers, edits, log_in};
use crate::support::login_pages::{LoginPages, user_code};
use crate::support::stub_server::StubServer;
use crate::support::{Sandbox, USER, issuer, quick_issuer};

const FIRST: &str = "openid_configuration";
const SECOND: &str = "authorization_server";

/// Returns a reply for a missing document.
fn missing() -> Value {
    json!({"status": 404, "body": "not here"})
}

fn without(members: &[&str]) -> Value {
    json!({"remove": members})
}

/// Returns how often either document was requested since `before`.
fn asked(issuer: &DevIssuer, before: u64) -> u64 {
    issuer.stats().requests.get("metadata").copied().unwrap_or_default() - before
}

/// Signs in with a browser on another machine.
#[track_caller]
fn by_browser(home: &Sandbox, issuer: &DevIssuer) {
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
    let mut pasting = home.spawn(&args);
    let url = pasting.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    let person = LoginPages::sign_in(issuer, &url, USER);
    pasting.type_text(&format!("{}\n", person.location));
    pasting.wait().exits(0);
}

#[test]
fn unlisted_features_are_tried() {
    let issuer = quick_issuer();
    let lists = [
        "response_types_supported",
        "response_modes_supported",
        "grant_types_supported",
        "code_challenge_methods_supported",
        "token_endpoint_auth_methods_supported",
        "revocation_endpoint_auth_methods_supported",
        "scopes_supported",
        "claims_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
        "authorization_response_iss_parameter_supported",
    ];
    let empty: Value =
        lists.iter().map(|name| ((*name).to_owned(), json!([]))).collect::<serde_json::Map<_, _>>().into();
    let odd: Value =
        lists.iter().map(|name| ((*name).to_owned(), json!({"x": 1}))).collect::<serde_json::Map<_, _>>().into();
    for edit in [without(&lists), json!({"set": empty}), json!({"set": odd})] {
        edits(&issuer, "metadata", &edit, 0);
        let home = Sandbox::new();
        log_in(&home, issuer.issuer(), &[]).exits(0);
        assert_eq!(home.run(&["token", "work", "--json"]).json()["scope"], "openid profile offline_access", "{edit}");
        let home = Sandbox::new();
        by_browser(&home, &issuer);
        home.run(&["verify", "work"]).exits(0);
        home.run(&["refresh", "work"]).exits(0);
        issuer.clear_faults();
    }
}

#[test]
fn listed_grant_without_endpoint_is_reported() {
    let issuer = quick_issuer();
    // The grant is listed, but its endpoint is missing.
    for (gone, grant) in [
        ("device_authorization_endpoint", "--device"),
        ("authorization_endpoint", "--no-browser"),
        ("token_endpoint", "--device"),
    ] {
        edits(&issuer, "metadata", &without(&[gone]), 0);
        let home = Sandbox::new();
        let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", grant];
        let ran = home.spawn(&args).wait().exits(5).reports("the issuer does not offer").reports(gone);
        assert!(ran.stderr.contains("hint:  ") || ran.stderr.contains("note:  "), "{}", ran.stderr);
        assert!(!home.config_file().exists());
        issuer.clear_faults();
    }
    // PKCE without S256 would send the verifier in plain text (RFC 7636, section 4.2).
    edits(&issuer, "metadata", &json!({"set": {"code_challenge_methods_supported": ["plain"]}}), 0);
    let home = Sandbox::new();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
    home.spawn(&args).wait().exits(5).reports("S256");
    issuer.clear_faults();
    // Unsupported grants, methods and scopes in the metadata do not prevent a login.
    let strange = json!({"set": {"grant_types_supported": ["urn:x"], "scopes_supported": ["openid", "x", 7],
        "token_endpoint_auth_methods_supported": ["tls_client_auth"], "code_challenge_methods_supported": ["S512", "S256"]}});
    edits(&issuer, "metadata", &strange, 0);
    log_in(&home, issuer.issuer(), &[]).exits(0);
    assert_eq!(home.run(&["token", "work", "--json"]).json()["scope"], "openid", "of the defaults, those it lists");
}

#[test]
fn either_metadata_document_is_enough() {
    for (gone, requests) in [(SECOND, 1), (FIRST, 2)] {
        for path in ["", "/tenant/a"] {
            let issuer = issuer(|options| options.path = path.into());
            answers(&issuer, gone, &missing(), 0);
            let home = Sandbox::new();
            log_in(&home, issuer.issuer(), &[]).exits(0);
            assert_eq!(asked(&issuer, 0), requests, "{gone} {path}");
            home.run(&["verify", "work"]).exits(0);
            home.run(&["refresh", "work"]).exits(0);
            assert_eq!(asked(&issuer, requests), requests, "{gone} {path}");
            home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
            assert_eq!(issuer.stats().families_revoked, 1);
        }
    }
}

#[test]
fn metadata_below_the_issuer_is_found() {
    const PATH: &str = "/tenant/a/.well-known/oauth-authorization-server";
    let server = StubServer::start(|own, request| match request.path.as_str() {
        PATH => {
            let (issuer, token) = (format!("{own}/tenant/a"), format!("{own}/token"));
            (200, json!({"issuer": issuer, "token_endpoint": token}).to_string())
        }
        "/token" => (200, json!({"access_token": "opaque", "refresh_token": "RT", "expires_in": 300}).to_string()),
        _ => (404, "{}".into()),
    });
    let home = Sandbox::new();
    log_in(&home, &format!("{}/tenant/a", server.url), &[]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["logout", "work"]).exits(0).reports("supports no revocation");
}

#[test]
fn endpoint_of_the_second_document_is_found_when_needed() {
    let issuer = issuer(|options| options.device_interval = std::time::Duration::from_secs(1));
    let only_in_second = [
        "device_authorization_endpoint",
        "revocation_endpoint",
        "jwks_uri",
        "token_endpoint",
        "authorization_endpoint",
    ];
    edits(&issuer, FIRST, &without(&only_in_second), 0);
    let home = Sandbox::new();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--device"];
    let waiting = home.spawn(&args);
    let code = waiting.wait_until("a user code", user_code);
    assert!(issuer.approve_device(&code, USER));
    waiting.wait().exits(0);
    assert_eq!(asked(&issuer, 0), 2);
    home.run(&["verify", "work"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["keys", "update", "work"]).exits(0);
    home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
    assert_eq!(issuer.stats().families_revoked, 1);
    by_browser(&Sandbox::new(), &issuer);
}

#[test]
fn second_document_is_not_fetched_without_need() {
    let issuer = quick_issuer();
    // Endpoints that a password login and its refreshes do not need may be missing.
    let unneeded =
        ["device_authorization_endpoint", "revocation_endpoint", "authorization_endpoint", "end_session_endpoint"];
    edits(&issuer, "metadata", &without(&unneeded), 0);
    let home = Sandbox::new();
    log_in(&home, issuer.issuer(), &[]).exits(0);
    assert_eq!(asked(&issuer, 0), 1);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(asked(&issuer, 1), 1);
    issuer.clear_faults();
    // For an issuer without keys, both documents are fetched at the login, but not at each refresh.
    edits(&issuer, "metadata", &without(&["jwks_uri"]), 0);
    edits(&issuer, "token", &without(&["id_token"]), 0);
    let (home, before) = (Sandbox::new(), asked(&issuer, 0));
    log_in(&home, issuer.issuer(), &[]).exits(0);
    assert_eq!(asked(&issuer, before), 2);
    let before = asked(&issuer, 0);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(asked(&issuer, before), 3, "for the refresh, and both documents for the key that the token names");
    let before = asked(&issuer, 0);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(asked(&issuer, before), 1, "missing keys are not requested again at once");
}

#[test]
fn second_document_of_another_issuer_is_ignored() {
    let issuer = quick_issuer();
    let evil = json!({"issuer": "https://evil.example", "device_authorization_endpoint": "https://evil.example/d"});
    for second in [
        json!({"set": evil}),
        json!({"set": {"device_authorization_endpoint": "http://evil.example/d"}}),
        json!({"body": "<p>sign in to the network"}),
        json!({"status": 503, "body": "busy"}),
        missing(),
    ] {
        edits(&issuer, FIRST, &without(&["device_authorization_endpoint"]), 0);
        edits(&issuer, SECOND, &second, 0);
        let home = Sandbox::new();
        let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--device"];
        home.run(&args).exits(5).reports("does not offer device_authorization_endpoint");
        // Nothing else prevents a login.
        log_in(&home, issuer.issuer(), &[]).exits(0);
        issuer.clear_faults();
    }
}

#[test]
fn refresh_fetches_keys_missing_since_login() {
    let issuer = quick_issuer();
    // Without an ID token, the login does not need the issuer's keys.
    let hide_keys_and_id_token = |issuer: &DevIssuer| {
        edits(issuer, FIRST, &without(&["jwks_uri"]), 0);
        edits(issuer, "token", &without(&["id_token"]), 0);
    };
    hide_keys_and_id_token(&issuer);
    answers(&issuer, SECOND, &json!({"status": 503}), 0);
    let home = Sandbox::new();
    log_in(&home, issuer.issuer(), &["--scope", "profile offline_access"]).exits(0);
    home.run(&["verify", "work"]).exits(4);
    issuer.clear_faults();
    hide_keys_and_id_token(&issuer);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
}
