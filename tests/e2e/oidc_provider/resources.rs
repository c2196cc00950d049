//! Resource indicators (RFC 8707): JWT access tokens for each requested resource, with each signature algorithm.

use serde_json::json;

use super::{Provider, User, provider};
use crate::support::Sandbox;
use crate::support::jwt::claims;
use crate::webdriver::BrowserSandbox;

const ALGORITHMS: [(&str, &str); 3] =
    [("RS256", "https://rs256.example"), ("ES256", "https://es256.example"), ("EdDSA", "https://eddsa.example")];

/// Fails the test unless the profile's token is signed with `algorithm` and valid for `resource` only.
#[track_caller]
fn expect_token_for(home: &Sandbox, algorithm: &str, resource: &str) {
    let token = home.token("work");
    let granted = home.run_offline(&["verify", "work", "--json"], "").exits(0).json();
    assert_eq!((&granted["key"]["alg"], &granted["claims"]["aud"]), (&json!(algorithm), &json!(resource)), "{granted}");
    for (audience, code) in [(resource, 0), ("https://elsewhere.example", 4), ("native", 4)] {
        let verify = ["verify", "-", "--profile", "work", "--audience", audience, "--json"];
        let verdict = home.run_with(&verify, &token).exits(code).json();
        if code == 4 {
            assert_eq!(verdict["reasons"][0]["code"], "wrong_audience", "{verdict}");
            assert_eq!(verdict["reasons"].as_array().map(Vec::len), Some(1), "{verdict}");
        }
    }
    // A changed signature.
    let mut forged = token.into_bytes();
    let at = forged.len() - 10;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("text");
    let verdict = home.run_with(&["verify", "-", "--profile", "work", "--json"], &forged).exits(4).json();
    assert_eq!(verdict["reasons"][0]["code"], "invalid_signature", "{verdict}");
}

#[test]
fn login_for_a_resource_refreshes_its_token() {
    let mut provider = provider();
    let browser = BrowserSandbox::new();
    let (algorithm, resource) = ALGORITHMS[1];
    provider.sign_in(&browser, &["--resource", resource, "--scope", "openid offline_access read"]);
    let home = &browser.home;
    expect_token_for(home, algorithm, resource);
    let first = home.token("work");
    assert_eq!(claims(&first)["scope"], "read", "{}", claims(&first));
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), first);
    expect_token_for(home, algorithm, resource);
    assert_eq!(provider.counts().refreshes, 1);
    // The provider cannot revoke a JWT. It revokes the grant, and the logout succeeds.
    home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
    assert_eq!(provider.counts().revoked_grants, 1);
}

#[test]
fn device_login_for_a_resource_returns_its_token() {
    let (provider, home) = (provider(), Sandbox::new());
    let (algorithm, resource) = ALGORITHMS[2];
    let args = ["--device", "--resource", resource, "--scope", "openid offline_access read"];
    let login = home.spawn(&provider.login("native", &args));
    let (address, code) = crate::webdriver::shown(&login);
    let user = User::new(true, Some(code));
    crate::webdriver::complete("oidc-provider-device", crate::webdriver::Screen::Desktop, &address, &user);
    login.wait().exits(0);
    expect_token_for(&home, algorithm, resource);
}

#[test]
fn session_has_a_token_for_each_resource() {
    let mut provider = provider();
    let browser = BrowserSandbox::new();
    let mut asked = vec!["--scope", "openid offline_access read"];
    for (_, resource) in ALGORITHMS {
        asked.extend(["--resource", resource]);
    }
    provider.sign_in(&browser, &asked);
    let home = &browser.home;
    for (algorithm, resource) in ALGORITHMS {
        let token = home.run(&["token", "work", "--resource", resource]).exits(0).line().to_owned();
        let verify = ["verify", "-", "--profile", "work", "--audience", resource, "--json"];
        let granted = home.run_with(&verify, &token).exits(0).json();
        assert_eq!(granted["key"]["alg"], algorithm, "{granted}");
        let cached = home.run(&["token", "work", "--resource", resource]).exits(0).line().to_owned();
        assert!(cached == token, "it is cached");
    }
    assert_eq!(provider.counts().refreshes, 3);
    home.run(&["token", "work", "--resource", "https://elsewhere.example"]).exits(3).reports("not for the resource");
    assert_eq!(provider.counts().refused, Vec::<String>::new(), "the provider spends a token that comes with it");
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn access_token_is_exchanged_for_a_resource_outside_the_login() {
    let mut provider = Provider::start(&json!({"exchange": true, "life": 600}));
    let browser = BrowserSandbox::new();
    provider.sign_in(&browser, &["--scope", "openid offline_access"]);
    let home = &browser.home;
    for (algorithm, resource) in ALGORITHMS {
        let token = home.run(&["token", "work", "--resource", resource]).exits(0).line().to_owned();
        let verify = ["verify", "-", "--profile", "work", "--audience", resource, "--json"];
        let granted = home.run_with(&verify, &token).exits(0).json();
        assert_eq!((&granted["key"]["alg"], &granted["claims"]["scope"]), (&json!(algorithm), &json!("read")));
        assert_eq!(home.run(&["token", "work", "--resource", resource]).exits(0).line(), token, "it is cached");
    }
    let counts = provider.counts();
    assert_eq!((counts.exchanges, counts.refreshes, counts.refused), (3, 0, Vec::new()));
    home.run(&["token", "work", "--resource", "https://elsewhere.example"]).exits(5).reports("invalid_target");
    home.advance_time("work", 601);
    home.run(&["token", "work", "--resource", ALGORITHMS[0].1]).exits(0);
    let counts = provider.counts();
    assert_eq!((counts.exchanges, counts.refreshes), (4, 1), "the session's own token is refreshed first");
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
}

#[test]
fn client_credentials_return_a_token_for_each_resource() {
    let provider = provider();
    for (algorithm, resource) in ALGORITHMS {
        let home = Sandbox::new();
        provider.log_in_client(&home, "basic", &["--resource", resource]).exits(0);
        expect_token_for(&home, algorithm, resource);
        home.expire("work");
        expect_token_for(&home, algorithm, resource);
        // There is only the JWT, which the provider cannot revoke.
        home.run(&["logout", "work"]).exits(5).reports("unsupported_token_type");
    }
}
