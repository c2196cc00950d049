//! A login for an API whose provider registers clients: only the address of the API is known.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{Provider, User};
use crate::support::stub_server::{Reply, StubServer};
use crate::webdriver::BrowserSandbox;

/// Starts an API that names the issuer in `issuer`.
fn api(issuer: &Arc<Mutex<String>>) -> StubServer {
    let issuer = Arc::clone(issuer);
    StubServer::start(move |own, request| match request.path.as_str() {
        "/.well-known/oauth-protected-resource/mcp" => {
            let issuer = issuer.lock().unwrap().clone();
            let scopes = ["read", "openid"];
            let document = json!({ "resource": format!("{own}/mcp"), "authorization_servers": [issuer], "scopes_supported": scopes });
            Reply::from((200, document.to_string()))
        }
        _ => Reply { status: 401, headers: "www-authenticate: Bearer\r\n".to_owned(), body: "{}".to_owned() },
    })
}

#[test]
fn client_is_registered_used_and_deleted() {
    let issuer = Arc::default();
    let api = api(&issuer);
    let mut provider = Provider::start(&json!({ "registration": true }));
    *issuer.lock().unwrap() = provider.issuer.clone();
    let browser = BrowserSandbox::new();
    let url = format!("{}/mcp", api.url);
    let (ran, _) = provider.try_login(&browser, &["login", "--for", &url, "--yes"], &User::allowing());
    ran.exits(0);
    let home = &browser.home;
    let first = home.run(&["token", "--for", &url]).exits(0).line().to_owned();
    home.register_secret(&first);
    let claims = unverified_claims(&first);
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!(url), &json!("developer")), "{claims}");
    // A refused token is replaced by a refresh.
    let second = home.run_with(&["token", "--for", &url, "--challenge", "-"], "Bearer error=\"invalid_token\"\n");
    assert_ne!(second.exits(0).line(), first);
    assert_eq!((provider.counts().registered, provider.counts().refreshes), (1, 1));
    home.run(&["logout"]).exits(0).reports("tokens revoked");
    assert_eq!(provider.counts().deleted, 1);
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
}

/// Returns the claims of a JWT, not verified.
fn unverified_claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).expect("a JWT");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64");
    serde_json::from_slice(&bytes).expect("claims")
}
