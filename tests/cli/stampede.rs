//! Many processes that all need a refresh at once, at an issuer that revokes everything when a refresh token is reused.

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};
use serde_json::json;

use crate::support::process::{RunningCommand, wait_until};
use crate::support::{CommandOutput, Sandbox, issuer};

const MANY: usize = 100;

/// Starts that many with the same arguments, holds the issuer until every one of them waits for the profile's lock, and
/// then lets the issuer go on with `kind`.
fn stampede(
    home: &Sandbox,
    issuer: &DevIssuer,
    many: usize,
    args: &[&str],
    then: Option<FaultKind>,
) -> Vec<CommandOutput> {
    issuer.fault(Fault { endpoint: Endpoint::Metadata, kind: FaultKind::Hold, times: 1 });
    let running: Vec<RunningCommand<'_>> = (0..many).map(|_| home.spawn(args)).collect();
    wait_until("the first request", || (issuer.stats().faults == 1).then_some(()));
    for one in &running {
        wait_until("the wait for the lock", || one.has_lock_file_open("work").then_some(()));
    }
    assert_eq!(issuer.stats().refreshes_committed, 0, "all have started before the first refresh");
    issuer.clear_faults();
    if let Some(kind) = then {
        issuer.fault(Fault { endpoint: Endpoint::Token, kind, times: 0 });
    }
    running.into_iter().map(RunningCommand::wait).collect()
}

/// What all must have in common: what remains of a token's life may differ by the second.
fn answer(ran: &CommandOutput) -> String {
    let mut json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    match json.as_object_mut() {
        Some(members) => {
            members.remove("expires_in");
            json.to_string()
        }
        None => ran.stdout.clone(),
    }
}

/// Exactly one refresh, all of the same answer, and a session that goes on.
fn one_for_all(args: &[&str], expired: bool) -> Vec<CommandOutput> {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    if expired {
        home.advance_time("work", 301);
    }
    let all = stampede(&home, &issuer, MANY, args, None);
    for ran in &all {
        assert_eq!((ran.code, answer(ran)), (0, answer(&all[0])), "{}", ran.stderr);
    }
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
    assert_eq!(stats.token_requests.get("refresh_token"), Some(&1));
    home.run(&["refresh", "work"]).exits(0);
    all
}

#[test]
fn hundred_processes_share_a_refresh_of_an_expired_token() {
    let all = one_for_all(&["token", "work"], true);
    assert_eq!(all[0].line().split('.').count(), 3);
}

#[test]
fn hundred_forced_refreshes_are_one() {
    let all = one_for_all(&["refresh", "work", "--json"], false);
    assert_eq!(all[0].json()["refreshed"], json!(true));
}

#[test]
fn hundred_processes_share_a_narrower_token() {
    one_for_all(&["token", "work", "--scope", "profile"], false);
}

#[test]
fn hundred_processes_share_a_token_for_another_audience() {
    one_for_all(&["token", "work", "--audience", "https://api.example"], true);
}

#[test]
fn waiting_processes_share_a_failure() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    home.advance_time("work", 301);
    let asked = || issuer.stats().requests["token"];
    let before = asked();
    let all = stampede(&home, &issuer, 20, &["token", "work"], Some(FaultKind::ServerError));
    assert!(all.iter().all(|ran| ran.code == 6), "{}", all[0].stderr);
    assert_eq!(asked() - before, 1, "one try, not twenty");
    issuer.clear_faults();
    home.run(&["token", "work"]).exits(0);
}
