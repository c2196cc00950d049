//! Token Status Lists: fetched at a refresh, verified, stored, and used by offline verification.

use std::sync::Arc;
use std::time::Duration;

use authctl::dev_issuer::{Algorithm, DevIssuer, Endpoint, Fault, FaultKind, StatusListDefect};
use authctl::secret::Secret;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::process::wait_until;
use crate::support::time_travel::LaggingClock;
use crate::support::{Sandbox, http, issuer};

/// How long a list may be kept.
const TTL: i64 = 600;

/// Two sessions at an issuer whose tokens name a status list.
fn logged_in() -> (Sandbox, DevIssuer) {
    let home = Sandbox::new();
    let issuer = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.access_token_ttl = Duration::from_secs(3600);
        options.id_token_ttl = Duration::from_secs(3600);
        options.status_list_ttl = Some(Duration::from_secs(TTL as u64));
        // Lists can then be made older than they are, and not older than they were when they were issued.
        options.clock = Arc::new(LaggingClock(2 * TTL));
    });
    home.log_in("work", &issuer);
    home.log_in_as("other", &issuer, "other");
    (home, issuer)
}

fn asked(issuer: &DevIssuer) -> u64 {
    issuer.stats().requests.get("status_list").copied().unwrap_or_default()
}

/// The kept lists become so much older.
fn age(home: &Sandbox, issuer: &DevIssuer, seconds: i64) {
    home.change_trust(issuer, |trust| trust.lists.iter_mut().for_each(|list| list.fetched_at.0 -= seconds));
}

#[track_caller]
fn codes(home: &Sandbox, args: &[&str]) -> Vec<String> {
    let verdict = home.run(&[&["verify", "work", "--json"], args].concat()).json();
    let reasons = verdict["reasons"].as_array().into_iter().flatten();
    reasons.map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect()
}

const GRANTED: [&str; 0] = [];

/// The issuer revokes the token of `work`, which is not told of it.
fn revoke(home: &Sandbox, issuer: &DevIssuer) {
    let token = home.token("work");
    let form = format!("token={token}&client_id=authctl");
    assert_eq!(http::post(&format!("{}/revoke", issuer.issuer()), &form).0, 200);
}

#[test]
fn stored_list_is_used_offline_and_replaced_at_each_refresh() {
    let (home, issuer) = logged_in();
    assert_eq!(asked(&issuer), 1, "once for both");
    assert!(home.run_offline(&["verify", "work"], "").exits(0).stdout.starts_with("valid"));
    revoke(&home, &issuer);
    assert_eq!(codes(&home, &[]), GRANTED, "nobody has told it yet");
    home.run(&["refresh", "other"]).exits(0);
    assert_eq!((asked(&issuer), codes(&home, &[])), (1, vec![]), "the list is young");
    age(&home, &issuer, TTL / 2 + 1);
    home.run(&["refresh", "other"]).exits(0);
    assert_eq!((asked(&issuer), codes(&home, &[])), (2, vec!["revoked".to_owned()]));
    home.run(&["verify", "work"]).exits(4).reports("the issuer has revoked the token");
    home.run(&["exec", "work", "--", "true"]).exits(4);
    home.run(&["verify", "other"]).exits(0);
    assert_eq!(codes(&home, &["--ignore-status"]), GRANTED);
    assert!(home.run_offline(&["verify", "work"], "").exits(4).stdout.is_empty());
}

#[test]
fn suspended_token_is_denied_until_the_list_changes() {
    let (home, issuer) = logged_in();
    let token = Secret::new(home.token("work"));
    for (suspended, expected) in [(true, vec!["revoked".to_owned()]), (false, vec![])] {
        assert!(issuer.suspend(&token, suspended));
        age(&home, &issuer, TTL);
        home.run(&["refresh", "other"]).exits(0);
        assert_eq!(codes(&home, &[]), expected);
    }
}

#[test]
fn stale_or_missing_list_denies_tokens() {
    let (home, mut issuer) = logged_in();
    issuer.pause();
    age(&home, &issuer, TTL - 30);
    assert_eq!(codes(&home, &[]), GRANTED);
    age(&home, &issuer, 31);
    assert_eq!(codes(&home, &[]), ["keys_stale"]);
    home.run(&["verify", "work"]).exits(4).reports("status list").reports("authctl refresh");
    home.run(&["exec", "work", "--", "true"]).exits(4);
    home.change_trust(&issuer, |trust| trust.lists.clear());
    assert_eq!(codes(&home, &[]), ["keys_stale"]);
    // Keys that are given know no list either.
    let token = home.token("work");
    let keys = home.path().join("keys.json");
    std::fs::write(&keys, home.trust(&issuer).fetched.expect("keys").jwks).expect("written");
    let given = ["verify", "-", "--jwks", keys.to_str().expect("text"), "--issuer", issuer.issuer()];
    let given = [&given[..], &["--audience", "authctl", "--json"]].concat();
    assert_eq!(home.run_with(&given, &token).exits(4).json()["reasons"][0]["code"], "keys_stale");
    home.run_with(&[&given[..], &["--ignore-status"]].concat(), &token).exits(0);
    issuer.resume().expect("resumed");
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(codes(&home, &[]), GRANTED);
}

#[test]
fn invalid_list_does_not_replace_a_valid_one() {
    let (home, issuer) = logged_in();
    revoke(&home, &issuer);
    let faults = [
        StatusListDefect::Truncated,
        StatusListDefect::WrongSignature,
        StatusListDefect::Expired,
        StatusListDefect::DecompressionBomb,
        StatusListDefect::WrongSubject,
        StatusListDefect::WrongType,
    ];
    let faults = faults.into_iter().map(|defect| FaultKind::InvalidStatusList { defect });
    for kind in faults.chain([FaultKind::Html, FaultKind::HugeBody, FaultKind::Reset]) {
        issuer.fault(Fault { endpoint: Endpoint::StatusList, kind: kind.clone(), times: 0 });
        age(&home, &issuer, TTL / 2 + 1);
        let before = home.trust(&issuer).lists;
        home.run(&["refresh", "other"]).exits(0);
        assert_eq!(home.trust(&issuer).lists, before, "{kind:?}");
        issuer.clear_faults();
        age(&home, &issuer, -TTL / 2 - 1);
        assert_eq!(codes(&home, &[]), GRANTED, "{kind:?}: the old one counts");
    }
    // Somebody puts another in its place: it is verified whenever it is asked.
    home.change_trust(&issuer, |trust| {
        let jwt = &mut trust.lists[0].jwt;
        let last = if jwt.ends_with('A') { 'Q' } else { 'A' };
        jwt.truncate(jwt.len() - 1);
        jwt.push(last);
    });
    assert_eq!(codes(&home, &[]), ["keys_stale"]);
}

#[test]
fn hanging_list_fetch_delays_a_token_only_briefly() {
    let (home, issuer) = logged_in();
    issuer.fault(Fault { endpoint: Endpoint::StatusList, kind: FaultKind::Hold, times: 0 });
    age(&home, &issuer, TTL);
    let begun = std::time::Instant::now();
    home.run(&["refresh", "work"]).exits(0);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    issuer.clear_faults();
    home.run(&["token", "work"]).exits(0);
}

#[test]
fn agent_updates_lists_that_become_stale_before_the_token_expires() {
    let (home, issuer) = logged_in();
    the_agent_hears_of_it(&home, &issuer);
}

#[test]
fn list_signed_with_a_new_key_is_valid_once_the_key_is_published() {
    let (home, issuer) = logged_in();
    // The token was signed before, and asks for no new key.
    issuer.rotate_keys(Some(Algorithm::EdDSA)).expect("rotated");
    the_agent_hears_of_it(&home, &issuer);
}

/// A token that is revoked while its list is still good is denied once the agent has fetched the next one.
#[track_caller]
fn the_agent_hears_of_it(home: &Sandbox, issuer: &DevIssuer) {
    revoke(home, issuer);
    age(home, issuer, TTL / 2 + 1);
    let token = home.token("work");
    let agent = Agent::run(home);
    assert!(!agent.get("/v1/token/work").token().is_empty(), "it is cache");
    let body = json!({"profile": "work", "token": token}).to_string();
    let verdict = || agent.post("/v1/verify", &body).expect_status(200);
    let denied: Value = wait_until("the new list", || Some(verdict()).filter(|verdict| verdict["valid"] == false));
    assert_eq!(denied["reasons"][0]["code"], "revoked");
    assert_eq!(issuer.stats().refreshes_committed, 0, "no token was refreshed for it");
    agent.stop();
}
