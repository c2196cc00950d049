//! Many processes refresh at once, at an issuer that revokes the session when a refresh token is reused.

use std::os::unix::fs::PermissionsExt as _;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};
use authctl::store::ProfileLock;
use serde_json::json;

use super::token_exchange::exchanging_issuer;
use crate::support::process::{RunningCommand, wait_until};
use crate::support::{CommandOutput, Sandbox, issuer};

const PROCESSES: usize = 100;

/// Starts `count` processes and holds the profile lock until all of them wait for it. Applies `then` to the token endpoint
/// afterwards.
fn stampede(
    home: &Sandbox,
    issuer: &DevIssuer,
    count: usize,
    args: &[&str],
    then: Option<FaultKind>,
) -> Vec<CommandOutput> {
    let dir = home.path().join("data/authctl/locks");
    let lock = ProfileLock::try_acquire(&dir, &"work".parse().unwrap()).unwrap().expect("free");
    let running: Vec<RunningCommand<'_>> = (0..count).map(|_| home.spawn(args)).collect();
    for process in &running {
        wait_until("the wait for the lock", || process.has_lock_file_open("work").then_some(()));
    }
    assert_eq!(issuer.stats().refreshes_committed, 0, "all have started before the first refresh");
    if let Some(kind) = then {
        issuer.fault(Fault { endpoint: Endpoint::Token, kind, times: 0 });
    }
    drop(lock);
    running.into_iter().map(RunningCommand::wait).collect()
}

/// Returns stdout without `expires_in`, which may differ by a second.
fn stable_output(ran: &CommandOutput) -> String {
    let mut json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    match json.as_object_mut() {
        Some(members) => {
            members.remove("expires_in");
            json.to_string()
        }
        None => ran.stdout.clone(),
    }
}

/// Checks that all processes print the same after exactly one refresh, and that the session can be refreshed again.
fn assert_one_refresh(args: &[&str], expired: bool) -> Vec<CommandOutput> {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    if expired {
        home.advance_time("work", 301);
    }
    let all = stampede(&home, &issuer, PROCESSES, args, None);
    for ran in &all {
        assert_eq!((ran.code, stable_output(ran)), (0, stable_output(&all[0])), "{}", ran.stderr);
    }
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
    assert_eq!(stats.token_requests.get("refresh_token"), Some(&1));
    home.run(&["refresh", "work"]).exits(0);
    all
}

#[test]
fn hundred_processes_share_a_refresh_of_an_expired_token() {
    let all = assert_one_refresh(&["token", "work"], true);
    assert_eq!(all[0].line().split('.').count(), 3);
}

#[test]
fn hundred_forced_refreshes_are_one() {
    let all = assert_one_refresh(&["refresh", "work", "--json"], false);
    assert_eq!(all[0].json()["refreshed"], json!(true));
}

#[test]
fn hundred_processes_share_a_narrower_token() {
    assert_one_refresh(&["token", "work", "--scope", "profile"], false);
}

#[test]
fn hundred_processes_share_a_token_for_another_audience() {
    assert_one_refresh(&["token", "work", "--audience", "https://api.example"], true);
}

#[test]
fn hundred_processes_share_a_token_exchange() {
    let (home, issuer) = (Sandbox::new(), exchanging_issuer(|_| {}));
    home.log_in("work", &issuer);
    home.advance_time("work", 301);
    let all = stampede(&home, &issuer, PROCESSES, &["token", "work", "--audience", "https://api.example"], None);
    assert!(all.iter().all(|ran| ran.code == 0 && ran.stdout == all[0].stdout), "{}", all[0].stderr);
    let requests = issuer.stats().token_requests;
    let of = |grant_type: &str| requests.get(grant_type).copied();
    assert_eq!(of("refresh_token"), Some(1));
    assert_eq!(of("urn:ietf:params:oauth:grant-type:token-exchange"), Some(1));
}

#[test]
fn waiting_processes_share_a_failure() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    home.advance_time("work", 301);
    let token_requests = || issuer.stats().requests["token"];
    let before = token_requests();
    let all = stampede(&home, &issuer, 20, &["token", "work"], Some(FaultKind::ServerError));
    assert!(all.iter().all(|ran| ran.code == 6), "{}", all[0].stderr);
    assert_eq!(token_requests() - before, 1, "one request for all processes");
    issuer.clear_faults();
    home.run(&["token", "work"]).exits(0);
}

#[test]
fn callers_of_an_ended_session_fail_at_once_without_a_browser() {
    for args in [&["token", "work"][..], &["exec", "work", "--", "touch", "ran"], &["refresh", "work"]] {
        let (mut home, issuer) = (Sandbox::new(), issuer(|_| {}));
        // A browser that a login would find.
        let browser = home.path().join("browser");
        std::fs::write(&browser, "#!/bin/sh\ntouch \"$HOME/opened\"\n").expect("written");
        std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o700)).expect("executable");
        home.set("BROWSER", &browser);
        home.set("DISPLAY", ":0");
        home.log_in("work", &issuer);
        home.run(&["profile", "set", "work", "grant=browser"]).exits(0);
        home.advance_time("work", 301);
        let before = issuer.stats().requests["token"];
        issuer.revoke_everything();
        for ran in stampede(&home, &issuer, 20, args, None) {
            assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{}", ran.stderr);
            assert!(ran.stderr.contains("hint:  authctl login work"), "{}", ran.stderr);
        }
        assert_eq!(issuer.stats().requests["token"] - before, 1, "one request for all processes");
        // The next ones ask no issuer.
        let asked = issuer.stats().requests.values().sum::<u64>();
        home.run(args).exits(3);
        assert_eq!(issuer.stats().requests.values().sum::<u64>(), asked);
        assert!(!home.path().join("opened").exists() && !home.path().join("ran").exists(), "{args:?}");
    }
}
