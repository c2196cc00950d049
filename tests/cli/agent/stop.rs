//! An end in the middle of a renewal: waited for where it is asked for, and survived where it is not.

use std::time::Duration;

use authctl::dev_issuer::{Endpoint, FaultKind, Handle};
use rustix::process::Signal;

use crate::support::Sandbox;
use crate::support::agent::{Agent, Connection};
use crate::support::watched::until;

use super::{LIFE, fault, logged_in};

/// A request that waits for a renewal which the issuer has done and not answered yet.
fn held(home: &Sandbox, issuer: &Handle, agent: &Agent<'_>) -> Connection {
    fault(issuer, Endpoint::Token, FaultKind::HoldReply, 1);
    home.passes_for(agent, "work", LIFE + 1);
    let waiting = agent.waits_for("GET", "/v1/token/work");
    until("the renewal", || (issuer.stats().refreshes_committed == 1).then_some(()));
    waiting
}

/// Whoever ends the agent while a renewal is under way loses nothing.
fn nothing_is_cut(stop: impl FnOnce(&Sandbox, &Agent<'_>, &dyn Fn())) {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let before = home.stored("work")["tokens"]["refresh_token"].clone();
    let mut waiting = held(&home, &issuer, &agent);
    stop(&home, &agent, &|| {
        until("the end of listening", || (!agent.listens()).then_some(()));
        assert_eq!(home.stored("work")["tokens"]["refresh_token"], before, "nothing is stored yet");
        home.run(&["agent", "status"]).exits(8);
        issuer.clear_faults();
    });
    let answered = waiting.answer().expect("who waited is answered").token();
    home.keep_secret(&answered);
    agent.ends().expect("a child").exits(0);
    assert_ne!(home.stored("work")["tokens"]["refresh_token"], before);
    home.session("work");
    assert_eq!(home.token("work"), answered);
    home.run(&["refresh", "work"]).exits(0);
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (2, 0, 0));
}

#[test]
fn stop_waits_for_what_the_issuer_has_done() {
    nothing_is_cut(|home, _, go_on| {
        let stop = home.watch(&["agent", "stop"]);
        go_on();
        stop.ends().exits(0).says("The agent has stopped.");
    });
}

#[test]
fn so_do_signals() {
    for signal in [Signal::TERM, Signal::INT] {
        nothing_is_cut(|_, agent, go_on| {
            agent.signal(signal);
            go_on();
        });
    }
}

#[test]
fn killed_in_the_middle_a_session_with_grace_goes_on() {
    let (home, issuer) = logged_in(|options| options.reuse_grace = Duration::from_secs(60));
    let agent = Agent::run(&home);
    let mut waiting = held(&home, &issuer, &agent);
    agent.signal(Signal::KILL);
    agent.ends().expect("a child").exits(-1);
    assert!(waiting.is_closed());
    issuer.clear_faults();
    let again = Agent::run(&home);
    let token = again.get("/v1/token/work").token();
    assert_eq!(home.token("work"), token);
    assert_eq!(issuer.stats().families_revoked, 0);
}

#[test]
fn killed_before_the_issuer_acts_nothing_is_lost_anywhere() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::start(&home);
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 1);
    home.passes_for(&agent, "work", LIFE + 1);
    let _waiting = agent.waits_for("GET", "/v1/token/work");
    until("the request", || (issuer.stats().faults == 1).then_some(()));
    agent.signal(Signal::KILL);
    agent.ends();
    let again = Agent::start(&home);
    again.get("/v1/token/work").token();
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
}
