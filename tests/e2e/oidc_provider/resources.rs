//! Access tokens that are JWTs, for the resource that was asked for (RFC 8707), in each algorithm the provider signs with.

use serde_json::json;

use super::{Somebody, provider};
use crate::driver::Desk;
use crate::support::Sandbox;
use crate::support::jwt::claims;

const ALGORITHMS: [(&str, &str); 3] =
    [("RS256", "https://rs256.example"), ("ES256", "https://es256.example"), ("EdDSA", "https://eddsa.example")];

/// Fails the test unless the profile's own token is one for `resource`, signed with `algorithm`, and good for nobody else.
#[track_caller]
fn is_for(home: &Sandbox, algorithm: &str, resource: &str) {
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
    // One bit of the signature.
    let mut forged = token.into_bytes();
    let at = forged.len() - 10;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("text");
    let verdict = home.run_with(&["verify", "-", "--profile", "work", "--json"], &forged).exits(4).json();
    assert_eq!(verdict["reasons"][0]["code"], "bad_signature", "{verdict}");
}

#[test]
fn a_login_for_a_resource_brings_its_token_and_refreshes_it() {
    let mut provider = provider();
    let desk = Desk::set();
    let (algorithm, resource) = ALGORITHMS[1];
    provider.sign_in(&desk, &["--resource", resource, "--scope", "openid offline_access read"]);
    let home = &desk.home;
    is_for(home, algorithm, resource);
    let first = home.token("work");
    assert_eq!(claims(&first)["scope"], "read", "{}", claims(&first));
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), first);
    is_for(home, algorithm, resource);
    assert_eq!(provider.counts().refreshes, 1);
    // The provider revokes what it keeps, which a JWT is not: it says so, and the logout is one all the same.
    home.run(&["logout", "work"]).exits(0).reports("the issuer has revoked the tokens");
    assert_eq!(provider.counts().revoked_grants, 1);
}

#[test]
fn a_device_login_for_a_resource_brings_its_token() {
    let (provider, home) = (provider(), Sandbox::new());
    let (algorithm, resource) = ALGORITHMS[2];
    let args = ["--device", "--resource", resource, "--scope", "openid offline_access read"];
    let login = home.spawn(&provider.login("native", &args));
    let (address, code) = crate::driver::shown(&login);
    let somebody = Somebody::who(true, Some(code));
    crate::driver::walk("oidc-provider-device", crate::driver::Screen::Desktop, &address, &somebody);
    login.wait().exits(0);
    is_for(&home, algorithm, resource);
}

#[test]
fn one_session_has_a_token_for_each_resource() {
    let mut provider = provider();
    let desk = Desk::set();
    let mut asked = vec!["--scope", "openid offline_access read"];
    for (_, resource) in ALGORITHMS {
        asked.extend(["--resource", resource]);
    }
    provider.sign_in(&desk, &asked);
    let home = &desk.home;
    for (algorithm, resource) in ALGORITHMS {
        let token = home.run(&["token", "work", "--resource", resource]).exits(0).line().to_owned();
        let verify = ["verify", "-", "--profile", "work", "--audience", resource, "--json"];
        let granted = home.run_with(&verify, &token).exits(0).json();
        assert_eq!(granted["key"]["alg"], algorithm, "{granted}");
        let kept = home.run(&["token", "work", "--resource", resource]).exits(0).line().to_owned();
        assert!(kept == token, "it is kept");
    }
    assert_eq!(provider.counts().refreshes, 3);
    home.run(&["token", "work", "--resource", "https://elsewhere.example"]).exits(3).reports("not for the resource");
    assert_eq!(provider.counts().refused, Vec::<String>::new(), "the provider spends a token that comes with it");
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn a_client_by_itself_gets_tokens_for_each_resource() {
    let provider = provider();
    for (algorithm, resource) in ALGORITHMS {
        let home = Sandbox::new();
        provider.serves(&home, "basic", &["--resource", resource]).exits(0);
        is_for(&home, algorithm, resource);
        home.expire("work");
        is_for(&home, algorithm, resource);
        // Nothing else is there to revoke, and a JWT cannot be: that is told.
        home.run(&["logout", "work"]).exits(5).reports("unsupported_token_type");
    }
}
