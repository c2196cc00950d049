//! `keys`: which issuer keys are trusted offline, and keys pinned by hand.

use std::fs;

use authctl::dev_issuer::{Algorithm, DevIssuer, Endpoint, Fault, FaultKind};
use authctl::model::RecordName;
use authctl::secret::SecretBytes;
use serde_json::Value;

use crate::support::jwt::Signer;
use crate::support::{Sandbox, issuer, quick_issuer};

fn logged_in() -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    (home, issuer)
}

#[track_caller]
fn shown(home: &Sandbox) -> Value {
    home.run(&["keys", "show", "work", "--json"]).exits(0).json()
}

#[track_caller]
fn codes(home: &Sandbox) -> Vec<String> {
    let verdict = home.run(&["verify", "work", "--json"]).exits(4).json();
    let reasons = verdict["reasons"].as_array().expect("reasons").iter();
    reasons.map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect()
}

/// A file with somebody else's key in it.
fn foreign(home: &Sandbox, name: &str, content: &str) -> String {
    let path = home.path().join(name);
    fs::write(&path, content).expect("written");
    path.to_str().expect("text").to_owned()
}

#[test]
fn show_prints_the_source_of_the_keys_and_how_long_they_are_trusted() {
    let (home, issuer) = logged_in();
    let shown = shown(&home);
    let fetched = &shown["fetched"];
    assert_eq!(fetched["source"], format!("{}/jwks", issuer.issuer()));
    assert_eq!(fetched["trusted_until"].as_i64().unwrap() - fetched["fetched_at"].as_i64().unwrap(), 30 * 24 * 3600);
    assert!(shown["keys"].as_array().unwrap().iter().any(|key| key["algorithms"] == serde_json::json!(["ES256"])));
    assert_eq!((&shown["pinned"], &shown["keys_max_age"]), (&Value::Null, &(30 * 24 * 3600).into()));
    let asked = issuer.stats().connections;
    let told = home.run(&["keys", "show"]).exits(0).stdout;
    for word in [issuer.issuer(), "fetched ", "trusted offline for another ", "(keys_max_age 30d)", "ES256"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    assert_eq!(issuer.stats().connections, asked, "nobody was asked");
    home.run(&["keys", "show", "nobody"]).exits(2);
}

#[test]
fn failed_update_leaves_the_keys_and_a_later_one_replaces_them() {
    let (home, issuer) = logged_in();
    let before = home.trust(&issuer).fetched;
    issuer.rotate_keys(None).unwrap();
    issuer.drop_old_keys();
    for (kind, code) in [(FaultKind::Html, 6), (FaultKind::HugeBody, 6), (FaultKind::Reset, 6)] {
        issuer.fault(Fault { endpoint: Endpoint::Jwks, kind, times: 0 });
        home.run(&["keys", "update"]).exits(code);
        issuer.clear_faults();
        assert_eq!(home.trust(&issuer).fetched, before);
    }
    home.run(&["verify"]).exits(0);
    home.run(&["keys", "update"]).exits(0).reports("fetched");
    assert_ne!(home.trust(&issuer).fetched, before);
    assert_eq!(codes(&home), ["unknown_key"], "the key that signed the token is withdrawn");
    home.run(&["refresh"]).exits(0);
    home.run(&["verify"]).exits(0);
}

#[test]
fn stale_keys_deny_tokens_until_they_are_fetched_again() {
    let (home, issuer) = logged_in();
    home.run(&["profile", "set", "work", "keys_max_age=1h"]).exits(0);
    home.run(&["verify"]).exits(0);
    let age = |by: i64| {
        home.change_trust(&issuer, |trust| {
            let fetched = trust.fetched.as_mut().expect("keys");
            fetched.fetched_at.0 -= by;
        });
    };
    age(3500);
    home.run(&["verify"]).exits(0);
    age(200);
    assert_eq!(codes(&home), ["keys_stale"]);
    home.run(&["verify"]).exits(4).reports("keys_max_age").reports("authctl refresh");
    home.run(&["keys", "show"]).exits(0);
    home.run(&["exec", "--", "true"]).exits(4);
    home.run(&["keys", "update"]).exits(0);
    home.run(&["verify"]).exits(0);
    // Where nothing is said, it is thirty days.
    home.run(&["profile", "set", "work", "keys_max_age="]).exits(0);
    age(30 * 24 * 3600 - 100);
    home.run(&["verify"]).exits(0);
    age(200);
    assert_eq!(codes(&home), ["keys_stale"]);
}

#[test]
fn pinned_keys_are_never_replaced_by_fetched_ones() {
    let (home, issuer) = logged_in();
    let own = home.trust(&issuer).fetched.expect("keys").jwks;
    let pinned = foreign(&home, "own.json", &own);
    home.run(&["keys", "pin", "work", "--jwks", &pinned]).exits(0).reports("pinned");
    fs::remove_file(&pinned).expect("the file is not needed any more");
    home.run(&["verify"]).exits(0);
    assert_eq!(shown(&home)["pinned"]["source"], *pinned);
    issuer.rotate_keys(None).unwrap();
    issuer.drop_old_keys();
    home.run(&["keys", "update"]).exits(0).reports("Only the pinned keys are trusted");
    home.run(&["verify"]).exits(0);
    // The new token is signed with a key that nobody pinned.
    home.run(&["refresh"]).exits(0);
    assert_eq!(codes(&home), ["unknown_key"]);
    home.run(&["refresh"]).exits(0);
    assert_eq!(codes(&home), ["unknown_key"], "no refresh replaces them");
    home.run(&["keys", "unpin"]).exits(0).reports("trusted again");
    home.run(&["keys", "unpin"]).exits(0).reports("no keys are pinned");
    home.run(&["verify"]).exits(0);
}

#[test]
fn login_fails_when_no_pinned_key_signed_the_id_token() {
    let (home, issuer) = logged_in();
    let strangers = foreign(&home, "other.pem", &Signer::new().pem());
    home.run(&["keys", "pin", "--jwks", &strangers]).exits(0);
    let args = ["login", "work", "--password", "--password-stdin", "--username", crate::support::USER];
    let before = home.stored("work");
    home.run_with(&args, crate::support::PASSWORD).exits(4).reports("does not verify");
    assert_eq!(home.stored("work"), before);
    home.run(&["keys", "unpin"]).exits(0);
    home.log_in("work", &issuer);
}

#[test]
fn only_public_keys_can_be_pinned() {
    let (home, issuer) = logged_in();
    let before = home.trust(&issuer);
    for content in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "-----BEGIN"] {
        let path = foreign(&home, "keys", content);
        home.run(&["keys", "pin", "--jwks", &path]).exits(2).reports("cannot use the keys in");
    }
    home.run(&["keys", "pin", "--jwks", "/nonexistent"]).exits(2);
    home.run(&["keys", "pin"]).exits(2);
    assert_eq!(home.trust(&issuer), before);
}

#[test]
fn unknown_key_is_fetched_rarely_and_never_by_verify() {
    let (home, issuer) = logged_in();
    let asked = || issuer.stats().requests.get("jwks").copied().unwrap_or_default();
    issuer.rotate_keys(Some(Algorithm::ES256)).unwrap();
    issuer.fault(Fault { endpoint: Endpoint::Jwks, kind: FaultKind::Html, times: 0 });
    let before = asked();
    home.run(&["verify"]).exits(0);
    for _ in 0..3 {
        home.run(&["refresh"]).exits(0);
        assert_eq!(codes(&home), ["unknown_key"]);
    }
    assert_eq!(asked() - before, 1, "one request for three refreshes");
    issuer.clear_faults();
    home.change_trust(&issuer, |trust| trust.asked_at.as_mut().expect("asked").0 -= 301);
    home.run(&["verify"]).exits(4);
    assert_eq!(asked() - before, 1, "verify sends no request");
    home.run(&["refresh"]).exits(0);
    assert_eq!(asked() - before, 2);
    home.run(&["verify"]).exits(0);
}

#[test]
fn hanging_key_fetch_delays_a_token_only_briefly_and_once() {
    let (home, issuer) = logged_in();
    home.change_trust(&issuer, |trust| trust.fetched.as_mut().expect("keys").fetched_at.0 -= 7200);
    issuer.fault(Fault { endpoint: Endpoint::Jwks, kind: FaultKind::Hold, times: 0 });
    let asked = || issuer.stats().requests.get("jwks").copied().unwrap_or_default();
    let (before, begun) = (asked(), std::time::Instant::now());
    home.run(&["refresh"]).exits(0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
    home.run(&["refresh"]).exits(0);
    assert_eq!(asked() - before, 1);
    home.run(&["verify"]).exits(0);
}

#[test]
fn changed_trust_record_is_rejected() {
    let (home, issuer) = logged_in();
    let pinned = foreign(&home, "own.json", &home.trust(&issuer).fetched.expect("keys").jwks);
    home.run(&["keys", "pin", "--jwks", &pinned]).exits(0);
    let record = RecordName::of_issuer(&issuer.issuer().parse().expect("an issuer"));
    let file = home.session_file("work").with_file_name(format!("{}.age", record.as_str()));
    let good = fs::read(&file).expect("there");
    let text = String::from_utf8_lossy(&good).into_owned();
    assert!(text.starts_with("age-encryption.org/v1"), "sealed as sessions are");
    for bad in [good[..good.len() - 1].to_vec(), b"junk".to_vec(), Vec::new()] {
        fs::write(&file, bad).expect("written");
        home.run(&["verify"]).exits(7).reports("authctl keys unpin work");
        home.run(&["keys", "show"]).exits(7);
        home.run(&["exec", "--", "true"]).exits(7);
        home.run(&["token"]).exits(0);
    }
    // Another issuer's record in its place is none.
    let other = issuer_of_another(&home);
    home.store().write_record(&record, &other).expect("written");
    home.run(&["verify"]).exits(7);
    home.run(&["keys", "unpin"]).exits(0);
    home.run(&["keys", "update"]).exits(0);
    home.run(&["verify"]).exits(0);
}

fn issuer_of_another(home: &Sandbox) -> SecretBytes {
    let other = issuer(|_| {});
    home.log_in("other", &other);
    home.trust(&other).to_stored()
}
