//! `keys`: the issuer keys that are trusted offline, and pinned keys.

use std::fs;

use authctl::dev_issuer::{Algorithm, DevIssuer, Endpoint, Fault, FaultKind};
use authctl::model::RecordName;
use authctl::secret::SecretBytes;
use serde_json::Value;

use super::login::BY_PASSWORD;
use crate::support::jwt::Signer;
use crate::support::login_pages::get;
use crate::support::{PASSWORD, Sandbox, USER, issuer, quick_issuer};

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

/// Writes a key file and returns its path.
fn key_file(home: &Sandbox, name: &str, content: &str) -> String {
    let path = home.path().join(name);
    fs::write(&path, content).expect("written");
    path.to_str().expect("text").to_owned()
}

#[test]
fn show_prints_key_source_and_trust_period() {
    let (home, issuer) = logged_in();
    let shown = shown(&home);
    let fetched = &shown["fetched"];
    assert_eq!(fetched["source"], format!("{}/jwks", issuer.issuer()));
    assert_eq!(fetched["trusted_until"].as_i64().unwrap() - fetched["fetched_at"].as_i64().unwrap(), 30 * 24 * 3600);
    assert!(shown["keys"].as_array().unwrap().iter().any(|key| key["algorithms"] == serde_json::json!(["ES256"])));
    assert_eq!((&shown["pinned"], &shown["keys_max_age"]), (&Value::Null, &(30 * 24 * 3600).into()));
    home.change_trust(&issuer, |trust| trust.fetched = None);
    let text = home.run(&["keys", "show"]).exits(0).stdout;
    assert!(text.contains("run `authctl keys update work`"), "{text}");
    home.run(&["keys", "update", "work"]).exits(0);
    let connections = issuer.stats().connections;
    let text = home.run(&["keys", "show"]).exits(0).stdout;
    for word in [issuer.issuer(), "fetched ", "trusted offline for another ", "(keys_max_age 30d)", "ES256"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert_eq!(issuer.stats().connections, connections, "no connection to the issuer");
    home.run(&["keys", "show", "unknown"]).exits(2);
}

#[test]
fn keys_are_replaced_only_by_a_successful_update() {
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
    assert_eq!(codes(&home), ["unknown_key"], "the token's key is no longer published");
    home.run(&["refresh"]).exits(0);
    home.run(&["verify"]).exits(0);
}

#[test]
fn keys_without_a_usable_one_do_not_replace_stored_ones() {
    let (home, issuer) = logged_in();
    let before = home.trust(&issuer).fetched;
    let reply = |edit: Value| {
        let mut fault = serde_json::json!({"endpoint": "jwks", "kind": "replaced", "times": 0});
        fault.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        issuer.clear_faults();
        issuer.fault(serde_json::from_value(fault).unwrap());
    };
    let mut encrypts: Value = serde_json::from_str(&get(&issuer, "jwks")).unwrap();
    encrypts["keys"].as_array_mut().unwrap().iter_mut().for_each(|key| key["use"] = "enc".into());
    let own = get(&issuer, "jwks");
    for (edit, why) in [
        (serde_json::json!({"set": {"keys": []}}), "without a usable key"),
        (serde_json::json!({"set": {"keys": null}}), "no `keys`"),
        (serde_json::json!({"body": "{}"}), "no `keys`"),
        (serde_json::json!({"set": encrypts}), "not for signatures"),
        (serde_json::json!({"set": {"keys": vec![0; 257]}}), "more than 256 keys"),
        (serde_json::json!({"body": own.replacen("\"kty\"", "\"kty\":\"EC\",\"kty\"", 9)}), "with a duplicate member"),
    ] {
        reply(edit.clone());
        let ran = home.run(&["keys", "update"]).exits(5).reports("cannot be used").reports(why);
        assert!(ran.stdout.is_empty(), "{edit}");
        assert_eq!(home.trust(&issuer).fetched, before, "{edit}");
        // Old keys are fetched again at a refresh.
        home.change_trust(&issuer, |trust| trust.fetched.as_mut().expect("keys").fetched_at.0 -= 2 * 3600);
        home.run(&["refresh"]).exits(0);
        home.run(&["verify"]).exits(0);
        home.change_trust(&issuer, |trust| trust.fetched.clone_from(&before));
    }
    issuer.clear_faults();
    home.run(&["keys", "update"]).exits(0).reports("fetched");
    // Without stored keys an empty set is what the issuer publishes.
    home.change_trust(&issuer, |trust| trust.fetched = None);
    reply(serde_json::json!({"set": {"keys": []}}));
    home.run(&["keys", "update"]).exits(0).reports("fetched 0 keys");
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
    home.run(&["verify"]).exits(4).reports("keys_max_age").reports("hint:  authctl refresh work\n");
    home.run(&["keys", "show"]).exits(0);
    home.run(&["exec", "--", "true"]).exits(4).reports("hint:  authctl refresh work\n");
    home.run(&["keys", "update"]).exits(0);
    home.run(&["verify"]).exits(0);
    // The default is 30 days.
    home.run(&["profile", "set", "work", "keys_max_age="]).exits(0);
    age(30 * 24 * 3600 - 100);
    home.run(&["verify"]).exits(0);
    age(200);
    assert_eq!(codes(&home), ["keys_stale"]);
}

#[test]
fn pinned_keys_are_never_replaced_by_fetched_ones() {
    let (home, issuer) = logged_in();
    let jwks = home.trust(&issuer).fetched.expect("keys").jwks;
    let pinned = key_file(&home, "pinned.json", &jwks);
    home.run(&["keys", "pin", "work", "--jwks", &pinned]).exits(0).reports("pinned");
    fs::remove_file(&pinned).expect("removed");
    home.run(&["verify"]).exits(0);
    assert_eq!(shown(&home)["pinned"]["source"], *pinned);
    issuer.rotate_keys(None).unwrap();
    issuer.drop_old_keys();
    home.run(&["keys", "update"]).exits(0).reports("only the pinned keys are trusted");
    home.run(&["verify"]).exits(0);
    // The new token is signed with a key that is not pinned.
    home.run(&["refresh"]).exits(0);
    assert_eq!(codes(&home), ["unknown_key"]);
    home.run(&["refresh"]).exits(0);
    assert_eq!(codes(&home), ["unknown_key"], "a refresh does not replace pinned keys");
    home.run(&["keys", "unpin"]).exits(0).reports("the published keys are trusted");
    home.run(&["keys", "unpin"]).exits(0).reports("no keys are pinned");
    home.run(&["verify"]).exits(0);
}

#[test]
fn login_fails_when_id_token_is_not_signed_by_a_pinned_key() {
    let (home, issuer) = logged_in();
    let other_key = key_file(&home, "other.pem", &Signer::new().pem());
    home.run(&["keys", "pin", "--jwks", &other_key]).exits(0);
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
        let path = key_file(&home, "keys", content);
        home.run(&["keys", "pin", "--jwks", &path]).exits(2).reports("cannot use the keys in");
    }
    home.run(&["keys", "pin", "--jwks", "/nonexistent"]).exits(2);
    home.run(&["keys", "pin"]).exits(2);
    assert_eq!(home.trust(&issuer), before);
}

#[test]
fn unknown_key_is_fetched_rarely_and_never_by_verify() {
    let (home, issuer) = logged_in();
    let jwks_requests = || issuer.stats().requests.get("jwks").copied().unwrap_or_default();
    issuer.rotate_keys(Some(Algorithm::ES256)).unwrap();
    issuer.fault(Fault { endpoint: Endpoint::Jwks, kind: FaultKind::Html, times: 0 });
    let before = jwks_requests();
    home.run(&["verify"]).exits(0);
    for (failures, wait) in [(1, 4), (2, 8), (3, 16)] {
        home.run(&["refresh"]).exits(0);
        assert_eq!(codes(&home), ["unknown_key"]);
        assert_eq!(home.trust(&issuer).unknown_key_fetches, failures);
        home.change_trust(&issuer, |trust| trust.unknown_key_fetched_at.as_mut().expect("a time").0 -= wait);
    }
    assert_eq!(jwks_requests() - before, 3, "each after the backoff");
    home.change_trust(&issuer, |trust| trust.unknown_key_fetches = 10);
    home.run(&["refresh"]).exits(0);
    assert_eq!(jwks_requests() - before, 3, "at most one in five minutes");
    issuer.clear_faults();
    home.change_trust(&issuer, |trust| trust.unknown_key_fetched_at.as_mut().expect("a time").0 -= 301);
    home.run(&["verify"]).exits(4);
    assert_eq!(jwks_requests() - before, 3, "verify sends no request");
    home.run(&["refresh"]).exits(0);
    assert_eq!(jwks_requests() - before, 4);
    home.run(&["verify"]).exits(0);
    // A request that brought the key delays none.
    assert_eq!(home.trust(&issuer).unknown_key_fetches, 0);
    issuer.rotate_keys(Some(Algorithm::ES256)).unwrap();
    home.run(&["refresh"]).exits(0);
    home.run(&["verify"]).exits(0);
}

#[test]
fn keys_are_fetched_again_by_a_refresh_after_an_hour() {
    let (home, issuer) = logged_in();
    let jwks_requests = || issuer.stats().requests["jwks"];
    let before = jwks_requests();
    let refresh_at_age = |seconds: i64| {
        home.change_trust(&issuer, |trust| {
            trust.fetched.as_mut().expect("keys").fetched_at.0 -= seconds;
        });
        home.run(&["refresh"]).exits(0);
        jwks_requests() - before
    };
    assert_eq!(refresh_at_age(3500), 0);
    assert_eq!(refresh_at_age(101), 1);
    assert_eq!(refresh_at_age(0), 1, "they are new again");
}

#[test]
fn hanging_key_fetch_delays_a_token_only_briefly_and_once() {
    let (home, issuer) = logged_in();
    home.change_trust(&issuer, |trust| trust.fetched.as_mut().expect("keys").fetched_at.0 -= 7200);
    issuer.fault(Fault { endpoint: Endpoint::Jwks, kind: FaultKind::Hold, times: 0 });
    let jwks_requests = || issuer.stats().requests.get("jwks").copied().unwrap_or_default();
    let (before, begun) = (jwks_requests(), std::time::Instant::now());
    home.run(&["refresh"]).exits(0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
    home.change_trust(&issuer, |trust| trust.unknown_key_fetches = 10);
    home.run(&["refresh"]).exits(0);
    assert_eq!(jwks_requests() - before, 1);
    home.run(&["verify"]).exits(0);
}

#[test]
fn damaged_trust_record_is_rejected() {
    let (home, issuer) = logged_in();
    let pinned = key_file(&home, "pinned.json", &home.trust(&issuer).fetched.expect("keys").jwks);
    home.run(&["keys", "pin", "--jwks", &pinned]).exits(0);
    let record = RecordName::of_issuer(&issuer.issuer().parse().expect("an issuer"));
    let file = home.session_file("work").with_file_name(format!("{}.age", record.as_str()));
    let original = fs::read(&file).expect("readable");
    let text = String::from_utf8_lossy(&original).into_owned();
    assert!(text.starts_with("age-encryption.org/v1"), "the record is encrypted");
    for damaged in [original[..original.len() - 1].to_vec(), b"junk".to_vec(), Vec::new()] {
        fs::write(&file, damaged).expect("written");
        home.run(&["verify"]).exits(7).reports("pinned again").reports("hint:  authctl keys unpin work");
        home.run(&["keys", "show"]).exits(7);
        home.run(&["exec", "--", "true"]).exits(7);
        home.run(&["token"]).exits(0);
        // Published keys do not replace what may be pinned; only the user can decide that.
        let login = ["login", "work", "--password", "--username", USER, "--password-stdin"];
        let sent = issuer.stats().token_requests.len();
        home.run_with(&login, PASSWORD).exits(7).reports("hint:  authctl keys unpin work");
        assert_eq!(issuer.stats().token_requests.len(), sent, "before the sign-in");
        home.run_with(&[&login[..], &["--jwks", &pinned]].concat(), PASSWORD).exits(0);
    }
    // The record of another issuer is rejected too.
    let other = record_of_another_issuer(&home);
    home.store().write_record(&record, &other).expect("written");
    home.run(&["verify"]).exits(7);
    home.run(&["keys", "unpin"]).exits(0).reports("If keys were pinned").reports("authctl keys pin work --jwks");
    home.run(&["keys", "unpin"]).exits(0).reports("no keys are pinned");
    home.run(&["keys", "update"]).exits(0);
    home.run(&["verify"]).exits(0);
}

fn record_of_another_issuer(home: &Sandbox) -> SecretBytes {
    let other = issuer(|_| {});
    home.log_in("other", &other);
    home.trust(&other).to_stored()
}

#[test]
fn login_with_pinned_keys_does_not_fetch_keys() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let keys = home.path().join("keys.json");
    fs::write(&keys, get(&issuer, "jwks")).unwrap();
    issuer.fault(Fault { endpoint: Endpoint::Jwks, kind: FaultKind::EmptyBody { status: 503 }, times: 1000 });
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    let args = [&args[..], &BY_PASSWORD[..]].concat();
    home.run_with(&args, PASSWORD).exits(6);
    home.run_with(&[&args[..], &["--jwks", keys.to_str().unwrap()]].concat(), PASSWORD).exits(0);
    home.run_with(&args, PASSWORD).exits(0);
    home.run(&["verify", "work"]).exits(0);
}

#[test]
fn failure_to_pin_keys_leaves_no_session() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let keys = home.path().join("keys.json");
    fs::write(&keys, get(&issuer, "jwks")).unwrap();
    let locks = home.path().join("data/authctl/locks");
    fs::create_dir_all(&locks).unwrap();
    fs::write(locks.join("trust"), "in the way").unwrap();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    let ran = home.run_with(&[&args[..], &BY_PASSWORD[..], &["--jwks", keys.to_str().unwrap()]].concat(), PASSWORD);
    assert_ne!(ran.code, 0, "{}", ran.stderr);
    assert!(!home.session_file("work").exists(), "a session was stored without its keys");
}
