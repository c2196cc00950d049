//! `authctl logout`: deletes the session whether or not the issuer revokes the tokens, and reports both.

use std::fs;

use authctl::dev_issuer::{Endpoint, Fault, FaultKind};
use serde_json::json;

use crate::support::http::{get, post};
use crate::support::stub_server::StubServer;
use crate::support::{PASSWORD, Sandbox, USER, issuer, quick_issuer};

#[test]
fn logout_deletes_session_and_revokes_tokens_at_issuer() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let tokens = home.session("work").tokens;
    let userinfo = format!("{}/userinfo", idp.issuer());
    let bearer = format!("Authorization: Bearer {}", tokens.access_token.expose());
    assert_eq!(get(&userinfo, &[&bearer]).0, 200, "the token is active before");
    let ran = home.run(&["logout", "work"]).exits(0).reports("logged out of work; tokens revoked");
    assert_eq!(ran.stdout, "");
    assert!(!home.session_file("work").exists());
    assert_eq!(get(&userinfo, &[&bearer]).0, 401);
    let refresh = tokens.refresh_token.unwrap();
    let form = format!("grant_type=refresh_token&client_id=authctl&refresh_token={}", refresh.expose());
    let (status, body) = post(&format!("{}/token", idp.issuer()), &form);
    assert_eq!(status, 400);
    assert!(body.contains("invalid_grant"), "{body}");
    home.run(&["token"]).exits(3);
}

/// Logs in and out at an issuer that revokes the refresh token and answers the next request, for the access token, so.
fn logged_out_where_access_token_is_answered_with(status: u16, body: &'static str) -> crate::support::CommandOutput {
    let server = StubServer::start(move |own, request| match request.path.as_str() {
        "/.well-known/openid-configuration" => {
            let metadata = json!({"issuer": own, "token_endpoint": format!("{own}/token"), "revocation_endpoint": format!("{own}/revoke")});
            (200, metadata.to_string())
        }
        "/token" => (200, json!({"access_token": "opaque", "refresh_token": "RT", "expires_in": 300}).to_string()),
        "/revoke" if request.body.contains("token_type_hint=refresh_token") => (200, String::new()),
        "/revoke" => (status, body.into()),
        _ => (404, "{}".into()),
    });
    let home = Sandbox::new();
    let args = ["login", "work", "--issuer", &server.url, "--client-id", "authctl"];
    let by = ["--password", "--password-stdin", "--username", USER];
    home.run_with(&[&args[..], &by].concat(), PASSWORD).exits(0);
    home.run(&["logout", "work"])
}

#[test]
fn access_token_that_went_with_the_refresh_token_counts_as_revoked() {
    for (status, body) in [
        (400, r#"{"error":"invalid_token"}"#),
        (400, r#"{"error":"invalid_request","error_description":"token not found"}"#),
        (400, r#"{"error":"unsupported_token_type"}"#),
        (400, ""),
        (401, ""),
        (404, r#"{"message":"no such token"}"#),
    ] {
        logged_out_where_access_token_is_answered_with(status, body)
            .exits(0)
            .reports("logged out of work; tokens revoked");
    }
    for (status, body, code) in [(503, "", 6), (400, "<html>", 6), (302, "", 6)] {
        logged_out_where_access_token_is_answered_with(status, body)
            .exits(code)
            .reports("logged out of work; session revoked, its access token may stay valid until it expires")
            .reports("cannot revoke the access token of `work`");
    }
}

#[test]
fn logout_json_is_stable() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    let ran = home.run(&["logout", "--json"]).exits(0);
    assert_eq!(ran.stdout, "{\"profile\":\"work\",\"deleted\":true,\"revocation\":\"revoked\",\"error\":null}\n");
    assert_eq!(ran.stderr, "");
    let ran = home.run(&["logout", "--json"]).exits(0);
    assert_eq!(ran.stdout, "{\"profile\":\"work\",\"deleted\":false,\"revocation\":null,\"error\":null}\n");
    home.log_in("work", &idp);
    let ran = home.run(&["logout", "--json", "--no-revoke"]).exits(0);
    assert_eq!(ran.stdout, "{\"profile\":\"work\",\"deleted\":true,\"revocation\":\"skipped\",\"error\":null}\n");
    home.log_in("work", &idp);
    idp.pause();
    let report = home.run(&["logout", "--json"]).exits(6).json();
    assert_eq!((&report["deleted"], &report["revocation"]), (&json!(true), &json!("failed")));
    assert!(report["error"].is_string());
}

#[test]
fn logout_without_session_succeeds() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.run(&["logout"]).exits(3);
    home.run(&["logout", "--all"]).exits(0);
    home.log_in("work", &idp);
    home.run(&["logout"]).exits(0);
    home.run(&["logout"]).exits(0).reports("not logged in to work");
    home.run(&["logout", "--all"]).exits(0);
    home.run(&["logout", "unknown"]).exits(2);
    home.run(&["logout", "work", "--all"]).exits(2);
}

#[test]
fn logout_with_issuer_down_deletes_session_and_denies_tokens() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    let token = home.token("work");
    let keys = home.path().join("keys.json");
    fs::write(&keys, home.trust(&idp).fetched.unwrap().jwks).unwrap();
    idp.pause();
    home.run(&["logout"]).exits(6).reports("logged out of work").reports("not revoked").reports(idp.issuer());
    assert!(!home.session_file("work").exists());
    let keys = keys.to_str().unwrap();
    let denied = home.run_with(&["verify", "-", "--profile", "work", "--jwks", keys, "--json"], &token).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "revoked");
    // Also without a profile.
    let args = ["verify", "-", "--issuer", idp.issuer(), "--audience", "authctl", "--jwks", keys, "--json"];
    let denied = home.run_with(&args, &token).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "revoked");
}

#[test]
fn token_of_before_a_refresh_is_denied_after_the_logout() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let token = home.token("work");
    let verify = || home.run_with(&["verify", "-", "--profile", "work", "--json"], &token);
    home.run(&["refresh", "work"]).exits(0);
    verify().exits(0);
    home.run(&["logout"]).exits(0);
    assert_eq!(verify().exits(4).json()["reasons"][0]["code"], "revoked");
}

/// A terminal in a sandbox of its own, such as snap's, has another directory for data.
#[test]
fn token_revoked_in_one_terminal_is_denied_in_every_other() {
    let (mut home, issuer) = (Sandbox::new(), quick_issuer());
    // The user has a message bus.
    fs::write(home.path().join("run/bus"), "").unwrap();
    home.log_in("work", &issuer);
    let token = home.token("work");
    let keys = home.path().join("keys.json");
    fs::write(&keys, home.trust(&issuer).fetched.unwrap().jwks).unwrap();
    home.run(&["logout"]).exits(0);
    let verify = |home: &Sandbox| {
        let args = ["verify", "-", "--profile", "work", "--jwks", keys.to_str().unwrap(), "--json"];
        home.run_with(&args, &token)
    };
    home.set("XDG_DATA_HOME", home.path().join("snap/data"));
    assert_eq!(verify(&home).exits(4).json()["reasons"][0]["code"], "revoked");
    fs::remove_file(home.path().join("run/authctl-data/revoked")).unwrap();
    verify(&home).exits(0);
    // A cron job has no message bus.
    fs::remove_file(home.path().join("run/bus")).unwrap();
    home.set("XDG_DATA_HOME", home.path().join("data"));
    assert_eq!(verify(&home).exits(4).json()["reasons"][0]["code"], "revoked");
}

/// A cron job has no message bus, and `HOME` is that of the user database.
#[test]
fn token_revoked_without_a_bus_is_denied_for_other_data_directories() {
    let (mut home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let token = home.token("work");
    let keys = home.path().join("keys.json");
    fs::write(&keys, home.trust(&issuer).fetched.unwrap().jwks).unwrap();
    let own = home.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::write(home.path().join("passwd"), format!("root:x:0:0::{}:/bin/sh\n", own.display())).unwrap();
    let script = "mount --bind passwd /etc/passwd && exec \"$0\" \"$@\"";
    let verify = |home: &Sandbox| {
        let args = ["verify", "-", "--profile", "work", "--jwks", keys.to_str().unwrap(), "--json"];
        home.mounted(script, &args, &token)
    };
    home.set("HOME", &own);
    verify(&home).exits(0);
    home.mounted(script, &["logout"], "").exits(0);
    let cron = home.path().join("cron/data");
    home.set("XDG_DATA_HOME", cron);
    assert_eq!(verify(&home).exits(4).json()["reasons"][0]["code"], "revoked");
    // Where `HOME` is another directory, nothing is outside of it.
    let other = home.path().to_owned();
    home.set("HOME", other);
    verify(&home).exits(0);
}

#[test]
fn logout_revokes_tokens_for_other_audiences_too() {
    let home = Sandbox::new();
    let idp = issuer(|options| options.opaque_access_tokens = true);
    home.log_in("work", &idp);
    let other = home.run(&["token", "work", "--audience", "https://api.example"]).exits(0).line().to_owned();
    let codes = || {
        let verdict = home.run_with(&["verify", "-", "--profile", "work", "--json"], &other).exits(4).json();
        let reasons = verdict["reasons"].as_array().unwrap().iter();
        reasons.map(|reason| reason["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(codes(), ["opaque_token"]);
    home.run(&["logout"]).exits(0);
    assert_eq!(codes(), ["opaque_token", "revoked"]);
    assert_eq!(idp.stats().requests["revoke"], 3, "the refresh token and both access tokens");
}

#[test]
fn refused_revocation_differs_from_unreachable_issuer() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    idp.fault(Fault {
        endpoint: Endpoint::Revoke,
        kind: FaultKind::OAuthError { status: 400, code: "invalid_client".into() },
        times: 0,
    });
    home.run(&["logout"]).exits(5).reports("not revoked").reports("invalid_client");
    assert!(!home.session_file("work").exists());
    home.log_in("work", &idp);
    idp.clear_faults();
    idp.fault(Fault {
        endpoint: Endpoint::Revoke,
        kind: FaultKind::OAuthError { status: 200, code: "invalid_client".into() },
        times: 0,
    });
    home.run(&["logout"]).exits(5).reports("tokens not revoked").reports("invalid_client");
    home.log_in("work", &idp);
    idp.clear_faults();
    idp.fault(Fault { endpoint: Endpoint::Revoke, kind: FaultKind::Html, times: 0 });
    let before = idp.stats().families_revoked;
    let ran = home.run(&["logout"]);
    // A captive portal returns an HTML page with status 200.
    assert_eq!(idp.stats().families_revoked, before);
    ran.exits(6).reports("not revoked");
}

#[test]
fn access_token_is_revoked_though_the_refresh_token_cannot_be() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    let kind = FaultKind::OAuthError { status: 400, code: "unsupported_token_type".into() };
    idp.fault(Fault { endpoint: Endpoint::Revoke, kind, times: 1 });
    home.run(&["logout"]).exits(5).reports("not revoked").reports("unsupported_token_type");
    assert_eq!(idp.stats().requests["revoke"], 2);
}

#[test]
fn no_revoke_sends_no_request() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    idp.pause();
    home.run(&["logout", "--no-revoke"]).exits(0).reports("stay valid at the issuer");
    assert!(!home.session_file("work").exists());
    assert_eq!(idp.stats().families_revoked, 0);
}

#[test]
fn logout_all_reports_each_profile() {
    let home = Sandbox::new();
    let (one, mut two) = (quick_issuer(), quick_issuer());
    home.log_in("a", &one);
    home.log_in("b", &two);
    home.log_in("c", &one);
    two.pause();
    let ran = home.run(&["logout", "--all", "--json"]).exits(6);
    let reports: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let revocations: Vec<_> = reports.iter().map(|report| (&report["profile"], &report["revocation"])).collect();
    let [revoked, failed] = [json!("revoked"), json!("failed")];
    assert_eq!(revocations, [(&json!("a"), &revoked), (&json!("b"), &failed), (&json!("c"), &revoked)]);
    assert!(["a", "b", "c"].iter().all(|name| !home.session_file(name).exists()));
    assert_eq!(one.stats().families_revoked, 2);
}

#[test]
fn logout_deletes_unreadable_session() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    fs::write(home.session_file("work"), "damaged").unwrap();
    home.run(&["logout"]).exits(7).reports("work");
    home.log_in("work", &idp);
    home.run(&["logout"]).exits(0);
}

#[test]
fn end_session_address_contains_no_token() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.session("work");
    let ran = home.run(&["logout", "--end-session"]).exits(0);
    let url = ran.stderr.split_whitespace().find(|word| word.starts_with("http")).expect("a URL").to_owned();
    assert!(url.starts_with(idp.issuer()) && url.contains("client_id=authctl"), "{url}");
    assert!(!url.contains("id_token_hint"), "{url}");
    assert_eq!(get(&url, &[]).0, 200, "the issuer accepts the URL");
}

#[test]
fn logout_is_reported_before_failed_end_session() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    home.session("work");
    idp.pause();
    let ran = home.run(&["logout", "--end-session"]).exits(6);
    assert!(ran.stderr.contains("logged out of work") && ran.stderr.contains("not revoked"), "{}", ran.stderr);
}
