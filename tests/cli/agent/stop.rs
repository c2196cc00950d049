//! Stopping or killing an agent during a refresh.

use std::time::Duration;

use authctl::dev_issuer::{DevIssuer, Endpoint, FaultKind};
use rustix::process::Signal;

use crate::support::Sandbox;
use crate::support::agent::{Agent, Connection};
use crate::support::process::{RunningCommand, wait_until};

use super::{DUE, LIFETIME, fault, logged_in};

/// Sends a request that waits for a refresh whose reply the issuer holds back.
fn held_request(home: &Sandbox, issuer: &DevIssuer, agent: &Agent<'_>) -> Connection {
    fault(issuer, Endpoint::Token, FaultKind::HoldReply, 1);
    home.advance_agent_time(agent, "work", LIFETIME + 1);
    let waiting = agent.start_request("GET", "/v1/token/work");
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    waiting
}

/// Stops the agent by a signal or with `agent stop` during a refresh, and checks that the refresh is completed first.
fn assert_refresh_completes(signal: Option<Signal>) {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let before = home.stored("work")["tokens"]["refresh_token"].clone();
    let mut waiting = held_request(&home, &issuer, &agent);
    let mut stop = match signal {
        Some(signal) => {
            agent.signal(signal);
            None
        }
        None => Some(home.spawn(&["agent", "stop"])),
    };
    wait_until("the agent to stop listening", || (!agent.is_listening()).then_some(()));
    assert_eq!(home.stored("work")["tokens"]["refresh_token"], before, "the reply has not arrived");
    home.run(&["agent", "status"]).exits(8);
    assert!(stop.as_mut().is_none_or(RunningCommand::is_running), "`agent stop` waits");
    issuer.clear_faults();
    if let Some(stop) = stop {
        stop.wait().exits(0).reports("agent stopped");
    }
    let token = waiting.response().expect("a response").token();
    home.register_secret(&token);
    agent.wait().expect("a child").exits(0);
    assert_ne!(home.stored("work")["tokens"]["refresh_token"], before);
    home.session("work");
    assert_eq!(home.token("work"), token);
    home.run(&["refresh", "work"]).exits(0);
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (2, 0, 0));
}

#[test]
fn stop_waits_for_the_process_and_not_only_for_its_lock() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut waiting = held_request(&home, &issuer, &agent);
    std::fs::remove_file(home.socket().with_file_name("agent.sock.lock")).unwrap();
    let mut stop = home.spawn(&["agent", "stop"]);
    wait_until("the agent to stop listening", || (!agent.is_listening()).then_some(()));
    home.run(&["agent", "status"]).exits(8);
    assert!(stop.is_running(), "`agent stop` waits");
    issuer.clear_faults();
    stop.wait().exits(0).reports("agent stopped");
    home.register_secret(&waiting.response().expect("a response").token());
    agent.wait().expect("a child").exits(0);
}

#[test]
fn agent_without_its_lock_file_leaves_the_socket_of_the_next() {
    let (home, _issuer) = logged_in(|_| {});
    let first = Agent::run(&home);
    std::fs::remove_file(home.socket().with_file_name("agent.sock.lock")).unwrap();
    let second = Agent::run(&home);
    first.signal(Signal::TERM);
    first.wait().expect("a child").exits(0);
    assert!(second.is_listening());
    home.spawn(&["agent", "run"]).wait().exits(8);
}

#[test]
fn stop_ends_the_one_agent_that_does_not_respond() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let (other, _other_issuer) = logged_in(|_| {});
    let _other_agent = Agent::run(&other);
    agent.signal(Signal::STOP);
    home.run(&["agent", "stop"]).exits(0).reports("agent stopped");
    agent.wait().expect("a child").exits(0);
    other.run(&["agent", "status"]).exits(0);
}

#[test]
fn stop_waits_for_a_refresh_in_flight() {
    assert_refresh_completes(None);
}

#[test]
fn signals_wait_for_a_refresh_in_flight() {
    for signal in [Signal::TERM, Signal::INT] {
        assert_refresh_completes(Some(signal));
    }
}

#[test]
fn killed_refresh_is_recovered_within_the_reuse_grace() {
    let (home, issuer) = logged_in(|options| options.reuse_grace = Duration::from_secs(60));
    let agent = Agent::run(&home);
    let mut waiting = held_request(&home, &issuer, &agent);
    agent.signal(Signal::KILL);
    agent.wait().expect("a child").exits(-1);
    assert!(waiting.is_closed());
    issuer.clear_faults();
    let restarted = Agent::run(&home);
    let token = restarted.get("/v1/token/work").token();
    assert_eq!(home.token("work"), token);
    assert_eq!(issuer.stats().families_revoked, 0);
}

#[test]
fn refresh_killed_before_the_issuer_acted_can_be_repeated() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::start(&home);
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 1);
    home.advance_agent_time(&agent, "work", LIFETIME + 1);
    let _waiting = agent.start_request("GET", "/v1/token/work");
    wait_until("the request", || (issuer.stats().faults == 1).then_some(()));
    agent.signal(Signal::KILL);
    agent.wait();
    let restarted = Agent::start(&home);
    restarted.get("/v1/token/work").token();
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
}

/// The reply to the refresh is lost with the agent. The refresh token may be spent, so it is not sent again while the
/// access token is valid.
#[test]
fn valid_token_is_issued_after_a_refresh_was_killed() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let token = agent.get("/v1/token/work").token();
    fault(&issuer, Endpoint::Token, FaultKind::HoldReply, 1);
    home.advance_agent_time(&agent, "work", DUE);
    let _waiting = agent.start_request("GET", "/v1/token/work");
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    agent.signal(Signal::KILL);
    agent.wait().expect("a child").exits(-1);
    issuer.clear_faults();
    let restarted = Agent::run(&home);
    assert_eq!(restarted.get("/v1/token/work").token(), token);
    assert_eq!(home.token("work"), token);
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
}

#[test]
fn issued_token_survives_killing_the_agent() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    home.advance_agent_time(&agent, "work", LIFETIME + 1);
    let token = agent.get("/v1/token/work").token();
    agent.signal(Signal::KILL);
    agent.wait().expect("a child").exits(-1);
    let restarted = Agent::run(&home);
    assert_eq!(restarted.get("/v1/token/work").token(), token);
    restarted.post("/v1/refresh/work", "").expect_status(200);
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (2, 0, 0));
}
