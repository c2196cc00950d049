//! Logins at the login API of a server that is no authorization server.

use std::fs;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, ReplyEdit};

use super::login::BY_PASSWORD;
use crate::support::jwt::{Signer, now};
use crate::support::login_pages::LoginPages;
use crate::support::stub_server::StubServer;
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

/// Makes the token endpoint respond as a login API with `reply`, and returns its URL.
fn login_api(issuer: &DevIssuer, reply: serde_json::Value) -> String {
    let edit = ReplyEdit { set: reply.as_object().expect("an object").clone(), ..ReplyEdit::default() };
    issuer.clear_faults();
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Replaced(edit), times: 0 });
    format!("{}/token", issuer.issuer())
}

#[test]
fn login_api_has_no_scopes_and_its_jwt_names_the_user() {
    let (home, issuer, signer) = (Sandbox::new(), quick_issuer(), Signer::new());
    let keys = home.path().join("keys.json");
    fs::write(&keys, signer.jwks().to_string()).unwrap();
    let claims = serde_json::json!({"sub": "me", "iat": now(), "exp": now() + 300});
    let jwt = signer.sign(&serde_json::json!({"alg": "EdDSA", "kid": "k"}), &claims);
    home.register_secret(&jwt);
    let endpoint = login_api(&issuer, serde_json::json!({"data": {"jwt": jwt}}));
    let args = ["login", "api", "--issuer", issuer.issuer(), "--login-endpoint", &endpoint, "--jwks"];
    let args = [&args[..], &[keys.to_str().unwrap(), "--username", USER, "--password-stdin"]].concat();
    let stderr = home.run_with(&args, PASSWORD).exits(6).stderr;
    assert!(stderr.contains("no JWT") && stderr.contains("--access-token-field"), "{stderr}");
    let args = [&args[..], &["--access-token-field", "data.jwt"]].concat();
    // With another server's keys the token does not verify, and nothing is stored.
    fs::write(&keys, Signer::new().jwks().to_string()).unwrap();
    home.run_with(&args, PASSWORD).exits(4).reports("access token");
    assert!(!home.session_file("api").exists());
    fs::write(&keys, signer.jwks().to_string()).unwrap();
    home.run_with(&args, PASSWORD).exits(0);
    assert!(home.status("api")["scope"].is_null(), "none was requested: {}", home.status("api"));
    // A token without `iss` and `aud` is denied unless the profile makes them optional.
    home.run(&["verify", "api"]).exits(4).reports("iss");
    home.run(&["profile", "set", "api", "optional_claims=iss aud"]).exits(0);
    home.run(&["verify", "api"]).exits(0);
    let again = ["login", "api", "--username", USER, "--password-stdin", "--replace"];
    home.run_with(&again, PASSWORD).exits(0).reports("Logged in to api as me. ");
}

/// Starts a login API that responds to every request with a token.
fn api() -> StubServer {
    StubServer::start(|_, _| {
        (200, r#"{"token":"from-the-api","refresh_token":"refreshes-at-the-api","expires_in":3600}"#.into())
    })
}

fn log_in_to(home: &Sandbox, api: &StubServer) {
    let at = |path: &str| format!("{}/{path}", api.url);
    let (login, refresh, logout) = (at("login"), at("refresh"), at("logout"));
    let args = ["login", "work", "--issuer", &api.url, "--login-endpoint", &login, "--refresh-endpoint", &refresh];
    let args = [&args[..], &["--logout-endpoint", &logout], &BY_PASSWORD[..]].concat();
    home.run_with(&args, PASSWORD).exits(0);
}

#[test]
fn new_issuer_replaces_login_api_endpoints() {
    let (home, issuer, api) = (Sandbox::new(), quick_issuer(), api());
    log_in_to(&home, &api);
    let asked = api.requests().len();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--replace"];
    home.run_with(&[&args[..], &BY_PASSWORD[..]].concat(), PASSWORD).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["logout", "work"]).exits(0).reports("revoked");
    assert_eq!(api.requests().len(), asked, "the old server received requests for the new one");
    assert!(issuer.stats().families_revoked > 0);
}

#[test]
fn tokens_of_an_issuer_are_not_sent_to_a_login_api() {
    let (home, issuer, api) = (Sandbox::new(), quick_issuer(), api());
    let login = home.spawn(&["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"]);
    let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    login.wait().exits(0);
    let at = |key: &str, path: &str| format!("{key}={}/{path}", api.url);
    let settings = [at("login_endpoint", "a"), at("refresh_endpoint", "b"), at("logout_endpoint", "c")];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let token = format!("token_endpoint={}/token", issuer.issuer());
    home.run(&[&["profile", "set", "work", &token], &settings[..]].concat()).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["logout", "work"]);
    assert_eq!(api.requests().len(), 0, "the API saw the issuer's tokens");
}

#[test]
fn refusing_login_api_hints_at_field_names() {
    let home = Sandbox::new();
    let api = StubServer::start(|_, _| (400, r#"{"email":["This field is required."]}"#.into()));
    let endpoint = format!("{}/login", api.url);
    let args = ["login", "work", "--issuer", &api.url, "--login-endpoint", &endpoint];
    home.run_with(&[&args[..], &BY_PASSWORD[..]].concat(), PASSWORD).exits(5).reports("--username-field NAME");
}
