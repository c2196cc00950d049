//! Key rotation, and the issuer in authorization responses (RFC 9207).

use serde_json::json;

use super::{Provider, User, provider};
use crate::support::Sandbox;
use crate::webdriver::BrowserSandbox;

const RESOURCE: &str = "https://es256.example";

fn verdict(home: &Sandbox, token: &str) -> serde_json::Value {
    let verify = ["verify", "-", "--profile", "work", "--json"];
    home.run_offline(&verify, token).json()
}

#[test]
fn rotated_keys_are_fetched_once() {
    let mut provider = provider();
    let home = Sandbox::new();
    provider.log_in_client(&home, "basic", &["--resource", RESOURCE]).exits(0);
    let old = home.token("work");
    let before = verdict(&home, &old);
    assert_eq!((&before["valid"], provider.counts().keys), (&json!(true), 1), "{before}");

    provider.command("rotate");
    home.run(&["refresh", "work"]).exits(0);
    let new = home.token("work");
    let after = verdict(&home, &new);
    assert_eq!(after["valid"], true, "{after}");
    assert_ne!(after["key"]["kid"], before["key"]["kid"]);
    assert_eq!(provider.counts().keys, 2, "the unknown key was fetched once");
    assert_eq!(verdict(&home, &old)["valid"], true, "it is still published");
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(provider.counts().keys, 2, "no unknown key");

    provider.command("forget");
    assert_eq!(verdict(&home, &old)["valid"], true, "the stored keys are used");
    home.run(&["keys", "update", "work"]).exits(0);
    let gone = verdict(&home, &old);
    assert_eq!(gone["reasons"][0]["code"], "unknown_key", "{gone}");
    assert_eq!(verdict(&home, &new)["valid"], true);
}

/// Logs in with an authorization response that has this `iss`; null is the issuer itself.
fn login_with_iss(iss: serde_json::Value) -> (crate::support::CommandOutput, crate::webdriver::FlowResult, u64) {
    let options = if iss.is_null() { json!({}) } else { json!({"iss": iss}) };
    let mut provider = Provider::start(&options);
    let browser = BrowserSandbox::new();
    let (ran, result) = provider.try_login(&browser, &provider.login("native", &[]), &User::allowing());
    (ran, result, provider.counts().codes)
}

#[test]
fn authorization_response_must_name_the_issuer() {
    let (ran, result, codes) = login_with_iss(serde_json::Value::Null);
    ran.exits(0);
    assert!(result.address.query_pairs().any(|(name, _)| name == "iss"), "RFC 9207, section 2");
    assert_eq!(codes, 1);
    for (iss, message) in [("", "no `iss`"), ("https://elsewhere.example", "https://elsewhere.example")] {
        let (ran, result, codes) = login_with_iss(iss.into());
        ran.exits(5).reports(message);
        assert!(result.text.contains("Login to work failed"), "{}", result.text);
        assert_eq!(codes, 0, "the code is not redeemed");
    }
}
