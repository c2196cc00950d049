//! An end in the middle of a refresh: waited for where it is asked for, and survived where it is not.

use std::time::Duration;

use authctl::dev_issuer::{DevIssuer, Endpoint, FaultKind};
use rustix::process::Signal;

use crate::support::Sandbox;
use crate::support::agent::{Agent, Connection};
use crate::support::process::{RunningCommand, wait_until};

use super::{DUE, LIFE, fault, logged_in};

/// A request that waits for a refresh which the issuer has done and not answered yet.
fn held(home: &Sandbox, issuer: &DevIssuer, agent: &Agent<'_>) -> Connection {
    fault(issuer, Endpoint::Token, FaultKind::HoldReply, 1);
    home.advance_agent_time(agent, "work", LIFE + 1);
    let waiting = agent.start_request("GET", "/v1/token/work");
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    waiting
}

/// Whoever ends the agent while a refresh is under way loses nothing, by a signal or, without one, by `agent stop`.
fn nothing_is_cut(signal: Option<Signal>) {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let before = home.stored("work")["tokens"]["refresh_token"].clone();
    let mut waiting = held(&home, &issuer, &agent);
    let mut stop = match signal {
        Some(signal) => {
            agent.signal(signal);
            None
        }
        None => Some(home.spawn(&["agent", "stop"])),
    };
    wait_until("the end of listening", || (!agent.is_listening()).then_some(()));
    assert_eq!(home.stored("work")["tokens"]["refresh_token"], before, "nothing is stored yet");
    home.run(&["agent", "status"]).exits(8);
    assert!(stop.as_mut().is_none_or(RunningCommand::is_running), "it has not stopped yet");
    issuer.clear_faults();
    if let Some(stop) = stop {
        stop.wait().exits(0).reports("The agent has stopped.");
    }
    let answered = waiting.response().expect("who waited is answered").token();
    home.register_secret(&answered);
    agent.wait().expect("a child").exits(0);
    assert_ne!(home.stored("work")["tokens"]["refresh_token"], before);
    home.session("work");
    assert_eq!(home.token("work"), answered);
    home.run(&["refresh", "work"]).exits(0);
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (2, 0, 0));
}

#[test]
fn stop_waits_for_a_refresh_in_flight() {
    nothing_is_cut(None);
}

#[test]
fn signals_wait_for_a_refresh_in_flight() {
    for signal in [Signal::TERM, Signal::INT] {
        nothing_is_cut(Some(signal));
    }
}

#[test]
fn killed_during_a_refresh_the_session_survives_with_grace() {
    let (home, issuer) = logged_in(|options| options.reuse_grace = Duration::from_secs(60));
    let agent = Agent::run(&home);
    let mut waiting = held(&home, &issuer, &agent);
    agent.signal(Signal::KILL);
    agent.wait().expect("a child").exits(-1);
    assert!(waiting.is_closed());
    issuer.clear_faults();
    let again = Agent::run(&home);
    let token = again.get("/v1/token/work").token();
    assert_eq!(home.token("work"), token);
    assert_eq!(issuer.stats().families_revoked, 0);
}

#[test]
fn killed_before_the_issuer_acts_the_session_survives() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::start(&home);
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 1);
    home.advance_agent_time(&agent, "work", LIFE + 1);
    let _waiting = agent.start_request("GET", "/v1/token/work");
    wait_until("the request", || (issuer.stats().faults == 1).then_some(()));
    agent.signal(Signal::KILL);
    agent.wait();
    let again = Agent::start(&home);
    again.get("/v1/token/work").token();
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
}

/// The reply to a refresh was lost with the agent. Its refresh token may be spent: it is not sent again while there is a
/// token to hand out.
#[test]
fn killed_during_a_refresh_the_valid_token_is_served() {
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
    let again = Agent::run(&home);
    assert_eq!(again.get("/v1/token/work").token(), token);
    assert_eq!(home.token("work"), token);
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
}

#[test]
fn issued_tokens_are_stored_before_the_agent_is_killed() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    home.advance_agent_time(&agent, "work", LIFE + 1);
    let token = agent.get("/v1/token/work").token();
    agent.signal(Signal::KILL);
    agent.wait().expect("a child").exits(-1);
    let again = Agent::run(&home);
    assert_eq!(again.get("/v1/token/work").token(), token);
    again.post("/v1/refresh/work", "").expect_status(200);
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (2, 0, 0));
}
