//! Tokens bound to a key with nonces in all proofs (DPoP, RFC 9449), and requests that have to be pushed (PAR, RFC 9126).

use serde_json::{Value, json};

use super::{Provider, User};
use crate::agent_support::{agent, request_json, socket_of};
use crate::support::Sandbox;
use crate::support::http;
use crate::webdriver::BrowserSandbox;

/// Calls the userinfo endpoint with a token and a proof of the agent; returns the status and the nonce that the provider asks for.
#[track_caller]
fn call(home: &Sandbox, url: &str, nonce: Option<&str>) -> (u16, String) {
    let socket = socket_of(home);
    let (_, token) = request_json(&socket, "GET", "/v1/token/work", "");
    let wanted = json!({"profile": "work", "method": "GET", "url": url, "nonce": nonce});
    let (status, proof) = request_json(&socket, "POST", "/v1/proof", &wanted.to_string());
    assert_eq!(status, 200, "{proof}");
    let text = |from: &Value, name: &str| from[name].as_str().expect("text").to_owned();
    let headers =
        [format!("Authorization: DPoP {}", text(&token, "access_token")), format!("DPoP: {}", text(&proof, "proof"))];
    let (status, head, _) = http::exchange("GET", url, &[&headers[0], &headers[1]], "");
    let nonce =
        head.lines().find_map(|line| line.to_ascii_lowercase().starts_with("dpop-nonce: ").then(|| &line[12..]));
    (status, nonce.unwrap_or_default().to_owned())
}

#[test]
fn bound_session_is_pushed_used_refreshed_and_revoked() {
    let mut provider = Provider::start(&json!({"dpop": true, "par": true}));
    let browser = BrowserSandbox::new();
    provider.sign_in(&browser, &[]);
    let home = &browser.home;
    assert_eq!((provider.counts().pushed, provider.counts().codes), (1, 1));
    let key = home.session("work").dpop_key.expect("a key");
    let url = format!("{}/me", provider.issuer);
    let _agent = agent(home, &[]);
    let (status, nonce) = call(home, &url, Some("old"));
    assert_eq!((status, nonce.is_empty()), (401, false), "it is not a nonce of the provider");
    assert_eq!(call(home, &url, Some(&nonce)).0, 200);
    for _ in 0..2 {
        let first = home.session("work");
        home.run(&["refresh", "work"]).exits(0);
        let second = home.session("work");
        assert_ne!(second.tokens.access_token.expose(), first.tokens.access_token.expose());
        assert_eq!(second.dpop_key.expect("a key").expose(), key.expose(), "the same key");
        assert_eq!(call(home, &url, None).0, 200, "the nonce is remembered");
    }
    let token = home.session("work").tokens.access_token;
    assert!(provider.is_active(token.expose()));
    home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
    assert!(!provider.is_active(token.expose()));
    let counts = provider.counts();
    assert_eq!((counts.refreshes, counts.revoked_grants), (2, 1), "{counts:?}");
    // The first code came without a proof, since authctl does not know how this client is registered.
    let others: Vec<_> = counts.refused.iter().filter(|why| !why.contains("nonce")).collect();
    assert_eq!(others, ["DPoP proof JWT not provided"]);
}

#[test]
fn provider_that_requires_bound_tokens_refuses_a_login_without() {
    let provider = Provider::start(&json!({"dpop": true, "par": true}));
    let browser = BrowserSandbox::new();
    let login = provider.login("native", &["--prompt", "consent", "--dpop", "never"]);
    let (ran, _) = provider.try_login(&browser, &login, &User::allowing());
    ran.exits(5).reports("invalid_grant");
    assert!(browser.home.sessions().is_empty());
}
