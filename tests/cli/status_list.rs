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

/// The lists' `ttl`, in seconds.
const TTL: i64 = 600;

/// Returns two sessions at an issuer whose tokens name a status list.
fn logged_in() -> (Sandbox, DevIssuer) {
    let home = Sandbox::new();
    let issuer = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.access_token_ttl = Duration::from_secs(3600);
        options.id_token_ttl = Duration::from_secs(3600);
        options.status_list_ttl = Some(Duration::from_secs(TTL as u64));
        // Lets tests move `fetched_at` into the past and leave it after the list's `iat`.
        options.clock = Arc::new(LaggingClock(2 * TTL));
    });
    home.log_in("work", &issuer);
    home.log_in_as("other", &issuer, "other");
    (home, issuer)
}

fn list_requests(issuer: &DevIssuer) -> u64 {
    issuer.stats().requests.get("status_list").copied().unwrap_or_default()
}

/// Makes the stored lists older by `seconds`.
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

/// Revokes the token of `work` at the issuer without authctl.
fn revoke(home: &Sandbox, issuer: &DevIssuer) {
    let token = home.token("work");
    let form = format!("token={token}&client_id=authctl");
    assert_eq!(http::post(&format!("{}/revoke", issuer.issuer()), &form).0, 200);
}

#[test]
fn stored_list_is_used_offline_and_replaced_at_each_refresh() {
    let (home, issuer) = logged_in();
    assert_eq!(list_requests(&issuer), 1, "one request for both profiles");
    assert!(home.run_offline(&["verify", "work"], "").exits(0).stdout.starts_with("valid"));
    revoke(&home, &issuer);
    assert_eq!(codes(&home, &[]), GRANTED, "the stored list is older than the revocation");
    home.run(&["refresh", "other"]).exits(0);
    assert_eq!((list_requests(&issuer), codes(&home, &[])), (1, vec![]), "the list is not due");
    age(&home, &issuer, TTL / 2 + 1);
    home.run(&["refresh", "other"]).exits(0);
    assert_eq!((list_requests(&issuer), codes(&home, &[])), (2, vec!["revoked".to_owned()]));
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
    home.run(&["verify", "work"]).exits(4).reports("status list").reports("hint:  authctl refresh work\n");
    home.run(&["exec", "work", "--", "true"]).exits(4);
    home.change_trust(&issuer, |trust| trust.lists.clear());
    assert_eq!(codes(&home, &[]), ["keys_stale"]);
    // `--jwks` provides no status list.
    let token = home.token("work");
    let keys = home.path().join("keys.json");
    std::fs::write(&keys, home.trust(&issuer).fetched.expect("keys").jwks).expect("written");
    let args = ["verify", "-", "--jwks", keys.to_str().expect("text"), "--issuer", issuer.issuer()];
    let args = [&args[..], &["--audience", "authctl", "--json"]].concat();
    assert_eq!(home.run_with(&args, &token).exits(4).json()["reasons"][0]["code"], "keys_stale");
    home.run_with(&[&args[..], &["--ignore-status"]].concat(), &token).exits(0);
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
        assert_eq!(codes(&home, &[]), GRANTED, "{kind:?}: the stored list is used");
    }
    // A stored list is verified at each use.
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
    assert_agent_denies_revoked_token(&home, &issuer);
}

#[test]
fn agent_fetches_new_key_that_signed_the_list() {
    let (home, issuer) = logged_in();
    // The token is signed with the old key, so verifying it fetches no keys.
    issuer.rotate_keys(Some(Algorithm::EdDSA)).expect("rotated");
    assert_agent_denies_revoked_token(&home, &issuer);
}

/// Revokes a token while the stored list is fresh. The agent must deny it after it has fetched the next list.
#[track_caller]
fn assert_agent_denies_revoked_token(home: &Sandbox, issuer: &DevIssuer) {
    revoke(home, issuer);
    age(home, issuer, TTL / 2 + 1);
    let token = home.token("work");
    let agent = Agent::run(home);
    assert!(!agent.get("/v1/token/work").token().is_empty(), "the session is cached");
    let body = json!({"profile": "work", "token": token}).to_string();
    let verdict = || agent.post("/v1/verify", &body).expect_status(200);
    let denied: Value = wait_until("the new list", || Some(verdict()).filter(|verdict| verdict["valid"] == false));
    assert_eq!(denied["reasons"][0]["code"], "revoked");
    assert_eq!(issuer.stats().refreshes_committed, 0, "the list is fetched without a refresh");
    agent.stop();
}
