//! The agent with a real keychain that stops responding: cached tokens, refreshed sessions and other stores are served, and the
//! sessions in the keychain again once it responds.

use std::time::{Duration, Instant};

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};

use crate::keyring::Keyring;
use crate::support::agent::Agent;
use crate::support::process::wait_until;
use crate::support::{self, PASSWORD, Sandbox, USER};

/// Returns a home with `sealed` and `other` in a keyring and `filed` in the file store.
fn logged_in() -> (Sandbox, Keyring, DevIssuer) {
    let (keyring, issuer) = (Keyring::start(), support::quick_issuer());
    let mut home = Sandbox::with_store("keychain");
    home.set("DBUS_SESSION_BUS_ADDRESS", keyring.address());
    home.log_in("sealed", &issuer);
    home.log_in("other", &issuer);
    let args = ["--issuer", issuer.issuer(), "--client-id", "authctl", "--store", "file", "--username", USER];
    let login = [&["login", "filed", "--password", "--password-stdin"], &args[..]].concat();
    home.run_with(&login, &format!("{PASSWORD}\n")).exits(0);
    (home, keyring, issuer)
}

#[test]
fn passphrase_in_the_keychain_unlocks_the_file_store() {
    let (home, _keyring, _issuer) = logged_in();
    home.register_secret("correct horse 42");
    home.run_with(&["store", "passphrase", "--passphrase-stdin"], "correct horse 42\n").exits(0);
    let agent = Agent::run(&home);
    let unlock = ["agent", "unlock", "--keychain"];
    home.run(&unlock).exits(8).reports("passphrase is required");
    home.run_with(&[&unlock[..], &["--passphrase-stdin"]].concat(), "correct horse 42\n")
        .exits(0)
        .reports("in the keychain");
    home.run(&["token", "filed"]).exits(0);
    home.run(&["agent", "lock"]).exits(0).reports("can still read the sessions of other, sealed in the keychain");
    home.run(&["token", "filed"]).exits(8);
    home.run(&unlock).exits(0);
    home.run(&["token", "filed"]).exits(0);
    // The passphrase is changed, and the one in the keychain is an earlier one.
    home.run_with(&["store", "passphrase", "--passphrase-stdin"], "correct horse 42\nanother\n").exits(0);
    home.run(&["agent", "lock"]).exits(0);
    home.run_with(&[&unlock[..], &["--passphrase-stdin"]].concat(), "another\n").exits(0).reports("an earlier one");
    home.run(&["agent", "lock"]).exits(0);
    home.run(&unlock).exits(0);
    home.run(&["token", "filed"]).exits(0);
    agent.stop().expect("a child").exits(0);
}

/// Fails the test if the fastest of five calls is slow: the machine may be busy.
#[track_caller]
fn expect_fast(mut ask: impl FnMut()) {
    let mut once = || {
        let started = Instant::now();
        ask();
        started.elapsed()
    };
    let quickest = (0..5).map(|_| once()).min().expect("some");
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}

#[test]
fn hanging_keychain_delays_only_its_own_sessions() {
    let (home, keyring, issuer) = logged_in();
    let agent = Agent::run(&home);
    let cached = agent.get("/v1/token/sealed").token();
    let filed = agent.get("/v1/token/filed").token();
    keyring.stop_daemon();
    // Fifty clients wait for a session that is not cached.
    agent.post("/v1/forget/other", "").expect_status(200);
    let mut waiting: Vec<_> = (0..50).map(|_| agent.start_request("GET", "/v1/token/other")).collect();
    expect_fast(|| assert_eq!(agent.get("/v1/token/sealed").token(), cached));
    expect_fast(|| assert_eq!(agent.get("/v1/token/filed").token(), filed));
    agent.post("/v1/refresh/filed", "").expect_status(200);
    assert_eq!(issuer.stats().refreshes_committed, 1);
    // They get an error within the time limit of a keychain call.
    for one in &mut waiting {
        let problem = one.response().expect("an answer").expect_problem(503, "store_timed_out");
        assert_eq!(problem["exit_code"], 7, "{problem}");
    }
    // No refresh starts whose result could not be stored. The cached token is still valid and is returned.
    agent.post("/v1/refresh/sealed", "").expect_problem(503, "store_timed_out");
    assert_eq!(agent.get("/v1/token/sealed").token(), cached);
    assert_eq!(issuer.stats().refreshes_committed, 1, "nothing was sent that could not be stored");
    keyring.continue_daemon();
    let other = wait_until("the keychain's session", || {
        let answer = agent.get("/v1/token/other");
        (answer.status == 200).then(|| answer.token())
    });
    assert!(!other.is_empty());
    agent.post("/v1/refresh/sealed", "").expect_status(200);
    assert_ne!(agent.get("/v1/token/sealed").token(), cached);
}

#[test]
fn refreshed_session_is_served_until_the_keychain_is_available_again() {
    for hangs in [false, true] {
        let (home, mut keyring, issuer) = logged_in();
        let agent = Agent::run(&home);
        let first = agent.get("/v1/token/sealed").token();
        let mut events = agent.events();
        issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
        let mut refresh = agent.start_request("POST", "/v1/refresh/sealed");
        wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
        keyring.make_unavailable(hangs);
        issuer.clear_faults();
        refresh.response().expect("a response").expect_status(200);
        assert_eq!(events.until("unsaved").0["profile"], "sealed");
        let token = agent.get("/v1/token/sealed").token();
        assert_ne!(token, first);
        keyring.make_available(hangs);
        assert_eq!(events.until("saved").0["profile"], "sealed");
        drop(agent);
        assert_eq!(home.token("sealed"), token, "it is in the keychain");
        home.run(&["refresh", "sealed"]).exits(0);
        assert_eq!(issuer.stats().refresh_reuses, 0);
    }
}

#[test]
fn agent_starts_while_the_keychain_hangs() {
    let (home, keyring, _issuer) = logged_in();
    keyring.stop_daemon();
    let agent = Agent::start(&home);
    expect_fast(|| drop(agent.get("/v1/token/filed").token()));
    agent.get("/v1/token/sealed").expect_problem(503, "store_timed_out");
    home.run(&["token", "sealed"]).exits(7);
    home.run(&["status", "--json"]).exits(7);
    keyring.continue_daemon();
    wait_until("the keychain's session", || (agent.get("/v1/token/sealed").status == 200).then_some(()));
    agent.stop();
}
