//! The lock with a passphrase: while it is closed nothing is handed out, and no session is in the agent's memory.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use authctl::dev_issuer::{Endpoint, FaultKind};
use serde_json::json;

use crate::support::Sandbox;
use crate::support::agent::Agent;

use super::{MORE_THAN_HALF, fault, half_through, logged_in};

const PASSPHRASE: &str = "a passphrase of the tests";

fn body() -> String {
    json!({ "passphrase": PASSPHRASE }).to_string()
}

#[track_caller]
fn pipe(home: &Sandbox, args: &[&str], line: &str) -> crate::support::CommandOutput {
    home.run_with(&[&["agent"], args, &["--passphrase-stdin"]].concat(), &format!("{line}\n"))
}

#[test]
fn locked_agent_issues_nothing_until_unlocked() {
    let (home, issuer) = logged_in(|_| {});
    home.register_secret(PASSPHRASE);
    let agent = Agent::run(&home);
    let token = agent.get("/v1/token").token();
    let mut events = agent.events();
    pipe(&home, &["lock"], PASSPHRASE).exits(0).reports("authctl agent unlock");
    assert_eq!(events.until("locked").1, Vec::<String>::new());
    let verify = json!({"token": token}).to_string();
    // With keys of its own it needs nothing of the agent's, and is refused all the same.
    let own = json!({"token": token, "jwks": {"keys": []}, "issuer": issuer.issuer(), "audience": ["api"]}).to_string();
    for (method, target, body) in [
        ("GET", "/v1/token", ""),
        ("GET", "/v1/token/work?scope=profile", ""),
        ("GET", "/v1/token/nobody", ""),
        ("GET", "/v1/id-token", ""),
        ("POST", "/v1/verify", &verify),
        ("POST", "/v1/verify", &own),
        ("POST", "/v1/refresh/work", ""),
        ("POST", "/v1/lock", &body()),
    ] {
        assert_eq!(
            agent.request(method, target, &[], body).expect_problem(423, "agent_locked")["exit_code"],
            8,
            "{target}"
        );
    }
    for args in [&["token"][..], &["token", "--id-token"], &["refresh", "work"], &["exec", "--", "true"]] {
        home.run(args).exits(8).reports("authctl agent unlock");
    }
    let state = home.run(&["agent", "status", "--json"]).exits(8).json();
    assert_eq!((&state["locked"], &state["sessions"]), (&json!(true), &json!(0)));
    let told = agent.get("/v1/status").expect_status(200);
    assert_eq!((&told["agent"]["locked"], &told["profiles"]), (&json!(true), &json!([])));
    // Somebody who changes the session does not open the lock.
    home.run_without_agent(&["refresh", "work"]).exits(0);
    agent.post("/v1/forget/work", "").expect_status(200);
    agent.get("/v1/token").expect_problem(423, "agent_locked");
    pipe(&home, &["unlock"], PASSPHRASE).exits(0).reports("is unlocked");
    pipe(&home, &["unlock"], "whatever").exits(0).reports("is not locked");
    assert_eq!(events.until("unlocked").1, Vec::<String>::new());
    assert_ne!(agent.get("/v1/token").token(), token, "the session as it is now");
    home.run(&["token"]).exits(0);
    agent.stop().expect("a child").exits(0);
}

#[test]
fn wrong_passphrase_delays_only_the_process_that_tried_it() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.post("/v1/lock", &body()).expect_status(200);
    let wrong = json!({"passphrase": "not it"}).to_string();
    // The third wrong one waits a second.
    let mut waited = Vec::new();
    for _ in 0..2 {
        let begun = Instant::now();
        agent.post("/v1/unlock", &wrong).expect_problem(403, "wrong_passphrase");
        waited.push(begun.elapsed());
    }
    assert!(waited[0] >= Duration::from_millis(250) && waited[1] >= Duration::from_millis(500), "{waited:?}");
    let begun = Instant::now();
    let mut third = agent.connect();
    third.request("POST", "/v1/unlock", &[], &wrong);
    let mut others = 0;
    while begun.elapsed() < Duration::from_millis(900) {
        agent.get("/v1/token").expect_problem(423, "agent_locked");
        others += 1;
    }
    assert!(others >= 10, "others are answered meanwhile: {others}");
    third.response().expect("an answer").expect_problem(403, "wrong_passphrase");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    // Another process with the right one does not wait for that one's penalty.
    pipe(&home, &["unlock"], "nor this").exits(8).reports("passphrase");
    pipe(&home, &["unlock"], PASSPHRASE).exits(0);
    agent.get("/v1/token").token();
}

#[test]
fn one_passphrase_is_checked_at_a_time() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.post("/v1/lock", &body()).expect_status(200);
    let wrong = json!({"passphrase": "not it"}).to_string();
    let mut all: Vec<_> = (0..50).map(|_| agent.connect()).collect();
    all.iter_mut().for_each(|one| one.request("POST", "/v1/unlock", &[], &wrong));
    let statuses: Vec<u16> = all.iter_mut().map(|one| one.response().expect("an answer").status).collect();
    let tried = statuses.iter().filter(|status| **status == 403).count();
    // Refused attempts are told so at once; the one that is tried takes a quarter of a second at least.
    assert!((1..=3).contains(&tried), "{statuses:?}");
}

#[test]
fn agent_locks_itself_when_idle() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    pipe(&home, &["lock", "--after", "1s"], PASSPHRASE).exits(0).reports("locks itself");
    assert_eq!(agent.get("/v1/agent").expect_status(200)["locks_after"], 1);
    events.until("locked");
    agent.get("/v1/token").expect_problem(423, "agent_locked");
    pipe(&home, &["unlock"], PASSPHRASE).exits(0);
    events.until("locked");
    pipe(&home, &["unlock"], PASSPHRASE).exits(0);
    pipe(&home, &["lock", "--after", "0s"], PASSPHRASE).exits(0).reports("no longer");
    assert_eq!(agent.get("/v1/agent").expect_status(200)["locks_after"], json!(null));
}

/// What stands in the writable memory of the process. Only root may look at a hardened one.
fn memory(pid: u32) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("run as root");
    let file = fs::File::open(format!("/proc/{pid}/mem")).expect("only root may read a hardened process's memory");
    let regions = maps.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next()?, words.next()?);
        let (from, to) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        rights.starts_with("rw").then_some((address(from)?, address(to)?))
    });
    regions
        .filter_map(|(from, to)| {
            let mut bytes = vec![0; usize::try_from(to - from).ok()?];
            let read = file.read_at(&mut bytes, from).ok()?;
            bytes.truncate(read);
            Some(String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect()
}

#[test]
fn locked_agent_has_no_session_in_memory() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let old = home.session("work").tokens;
    agent.get("/v1/token").token();
    // What a refresh leaves behind counts too, and what a client was sent.
    agent.post("/v1/refresh/work", "").expect_status(200);
    let new = home.session("work").tokens;
    for _ in 0..20 {
        agent.get("/v1/token").token();
    }
    agent.get("/v1/id-token").expect_status(200);
    let name = |tokens: &authctl::model::TokenSet, which: &str| {
        let refresh = tokens.refresh_token.as_ref().unwrap().expose().to_owned();
        let id = tokens.id_token.as_ref().unwrap().expose().to_owned();
        let access = tokens.access_token.expose().to_owned();
        [(format!("{which} access"), access), (format!("{which} refresh"), refresh), (format!("{which} id"), id)]
    };
    let secrets: Vec<(String, String)> = name(&old, "old").into_iter().chain(name(&new, "new")).collect();
    let found = || -> Vec<String> {
        let memory = memory(agent.pid);
        let is_there = |text: &str| memory.iter().any(|region| region.contains(text));
        // The middle of a token is as good as all of it: its first bytes may be overwritten by whoever freed it.
        let middle = |text: &str| text[text.len() / 3..text.len() * 2 / 3].to_owned();
        secrets.iter().filter(|(_, secret)| is_there(&middle(secret))).map(|(name, _)| name.clone()).collect()
    };
    let before = found();
    for wanted in ["new access", "new refresh", "new id"] {
        assert!(before.iter().any(|name| name == wanted), "the search finds what is there: {before:?}");
    }
    agent.post("/v1/lock", &body()).expect_status(200);
    assert_eq!(found(), Vec::<String>::new());
}

#[test]
fn locking_withholds_an_id_token_from_waiting_callers() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    half_through(&home, &agent);
    let mut events = agent.events();
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 0);
    agent.post("/v1/lock", &json!({"passphrase": PASSPHRASE, "after": 1}).to_string()).expect_status(200);
    // It locks sooner than anybody waits for what would be newer than a token that is valid yet.
    let mut waiting = agent.start_request("GET", MORE_THAN_HALF);
    events.until("locked");
    issuer.clear_faults();
    waiting.response().expect("an answer").expect_problem(423, "agent_locked");
}
