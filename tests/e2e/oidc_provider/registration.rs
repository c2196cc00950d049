//! A login for an API whose provider registers clients: only the address of the API is known.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Counts, Provider, User};
use crate::support::stub_server::{Reply, StubServer};
use crate::webdriver::BrowserSandbox;

/// Starts an API that names the issuer in `issuer`, and requires tokens that are `bound` to a key.
fn api(issuer: &Arc<Mutex<String>>, bound: bool) -> StubServer {
    let issuer = Arc::clone(issuer);
    StubServer::start(move |own, request| match request.path.as_str() {
        "/.well-known/oauth-protected-resource/mcp" => {
            let issuer = issuer.lock().unwrap().clone();
            let scopes = ["read", "openid"];
            let document = json!({
                "resource": format!("{own}/mcp"),
                "authorization_servers": [issuer],
                "scopes_supported": scopes,
                "dpop_bound_access_tokens_required": bound,
            });
            Reply::from((200, document.to_string()))
        }
        _ => Reply { status: 401, headers: "www-authenticate: Bearer\r\n".to_owned(), body: "{}".to_owned() },
    })
}

/// Logs in for an API with `more` arguments, where the provider has these options; uses the session, and ends it.
fn uses_the_api(options: &Value, more: &[&str]) -> Counts {
    let bound = options["dpop"] == true;
    let issuer = Arc::default();
    let api = api(&issuer, bound);
    let mut provider = Provider::start(options);
    *issuer.lock().unwrap() = provider.issuer.clone();
    let browser = BrowserSandbox::new();
    let url = format!("{}/mcp", api.url);
    let login = [&["login", "--for", &url, "--yes"], more].concat();
    let (ran, _) = provider.try_login(&browser, &login, &User::allowing());
    ran.exits(0);
    let home = &browser.home;
    let token = || {
        let printed = home.run(&["headers", "--for", &url, "--json"]).exits(0).json();
        assert_eq!(printed["DPoP"].is_string(), bound, "a proof for a bound token");
        let (scheme, token) =
            printed["Authorization"].as_str().and_then(|value| value.split_once(' ')).expect("a token");
        assert_eq!(scheme, if bound { "DPoP" } else { "Bearer" });
        token.to_owned()
    };
    let first = token();
    home.register_secret(&first);
    let claims = unverified_claims(&first);
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!(url), &json!("developer")), "{claims}");
    assert_eq!(claims["cnf"]["jkt"].is_string(), bound, "{claims}");
    // A refused token is replaced by a refresh. A bound one is not printed without a proof.
    let scheme = if bound { "DPoP" } else { "Bearer" };
    let challenge = format!("{scheme} error=\"invalid_token\"\n");
    home.run_with(&["token", "--for", &url, "--challenge", "-"], &challenge).exits(if bound { 2 } else { 0 });
    assert_ne!(token(), first);
    assert_eq!(provider.counts().refreshes, 1);
    home.run(&["logout"]).exits(0).reports("tokens revoked");
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
    provider.counts()
}

#[test]
fn client_is_registered_used_and_deleted() {
    let counts = uses_the_api(&json!({ "registration": true }), &[]);
    assert_eq!((counts.registered, counts.deleted, counts.pushed), (1, 1, 0));
}

#[test]
fn registered_client_binds_its_tokens_and_pushes_its_requests() {
    let counts = uses_the_api(&json!({ "registration": true, "dpop": true, "par": true }), &[]);
    assert_eq!((counts.registered, counts.deleted, counts.pushed), (1, 1, 1));
}

#[test]
fn client_of_a_metadata_document_is_not_registered() {
    let url = "https://client.example/authctl.json";
    let document = json!({
        "client_id": url,
        "client_name": "authctl",
        "application_type": "native",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    for dpop in [false, true] {
        let options = json!({ "registration": true, "client_metadata": document, "dpop": dpop, "par": dpop });
        let counts = uses_the_api(&options, &["--client-metadata-url", url]);
        assert_eq!((counts.registered, counts.deleted, counts.codes), (0, 0, 1));
    }
}

/// Returns the claims of a JWT, not verified.
fn unverified_claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).expect("a JWT");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64");
    serde_json::from_slice(&bytes).expect("claims")
}
