//! The provider's keys while they change, and what its authorization responses say of who it is.

use serde_json::json;

use super::{Provider, Somebody, provider};
use crate::driver::Desk;
use crate::support::Sandbox;

const RESOURCE: &str = "https://es256.example";

fn verdict(home: &Sandbox, token: &str) -> serde_json::Value {
    let verify = ["verify", "-", "--profile", "work", "--json"];
    home.run_offline(&verify, token).json()
}

#[test]
fn keys_that_change_are_fetched_once_and_old_ones_hold_while_they_are_published() {
    let mut provider = provider();
    let home = Sandbox::new();
    provider.serves(&home, "basic", &["--resource", RESOURCE]).exits(0);
    let old = home.token("work");
    let before = verdict(&home, &old);
    assert_eq!((&before["valid"], provider.counts().keys), (&json!(true), 1), "{before}");

    provider.told("rotate");
    home.run(&["refresh", "work"]).exits(0);
    let new = home.token("work");
    let after = verdict(&home, &new);
    assert_eq!(after["valid"], true, "{after}");
    assert_ne!(after["key"]["kid"], before["key"]["kid"]);
    assert_eq!(provider.counts().keys, 2, "the one that nobody knew was asked for once");
    assert_eq!(verdict(&home, &old)["valid"], true, "it is published yet");
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(provider.counts().keys, 2, "nothing new was named");

    provider.told("forget");
    assert_eq!(verdict(&home, &old)["valid"], true, "nobody has heard of it here");
    home.run(&["keys", "update", "work"]).exits(0);
    let gone = verdict(&home, &old);
    assert_eq!(gone["reasons"][0]["code"], "unknown_key", "{gone}");
    assert_eq!(verdict(&home, &new)["valid"], true);
}

/// What comes of a login whose answer names `iss`, or what is true where that is null.
fn answered_by(iss: serde_json::Value) -> (crate::support::CommandOutput, crate::driver::Walked, u64) {
    let options = if iss.is_null() { json!({}) } else { json!({"iss": iss}) };
    let mut provider = Provider::start(&options);
    let desk = Desk::set();
    let (ran, walked) = provider.tries(&desk, &provider.login("native", &[]), &Somebody::agreeable());
    (ran, walked, provider.counts().codes)
}

#[test]
fn the_answer_must_name_the_issuer_that_said_it_would() {
    let (ran, walked, codes) = answered_by(serde_json::Value::Null);
    ran.exits(0);
    assert!(walked.address.query_pairs().any(|(name, _)| name == "iss"), "RFC 9207, section 2");
    assert_eq!(codes, 1);
    for (iss, said) in [("", "no `iss`"), ("https://elsewhere.example", "https://elsewhere.example")] {
        let (ran, walked, codes) = answered_by(iss.into());
        ran.exits(5).reports(said);
        assert!(walked.said.contains("Not signed in"), "{}", walked.said);
        assert_eq!(codes, 0, "a code that may be another's is shown to nobody");
    }
}
