//! The agent lock: a locked agent issues no tokens and has no session in memory.

use std::process::Stdio;
use std::time::{Duration, Instant};

use authctl::dev_issuer::{Endpoint, FaultKind};
use rustix::process::{Pid, Signal};
use serde_json::json;

use crate::support::Sandbox;
use crate::support::agent::Agent;
use crate::support::process::{Memory, wait_until};

use super::{REFRESHED_ID_TOKEN, fault, logged_in, set_half_expired_id_token};

const PASSPHRASE: &str = "a passphrase of the tests";

fn body() -> String {
    json!({ "passphrase": PASSPHRASE }).to_string()
}

#[track_caller]
fn run_with_passphrase(home: &Sandbox, args: &[&str], line: &str) -> crate::support::CommandOutput {
    home.run_with(&[&["agent"], args, &["--passphrase-stdin"]].concat(), &format!("{line}\n"))
}

/// Returns how many wrong passphrases are in the agent's log.
fn wrong_passphrases(agent: &Agent) -> usize {
    let log = agent.get("/v1/log").expect_status(200);
    log["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == "wrong_passphrase").count()
}

#[test]
fn locked_agent_issues_nothing_until_unlocked() {
    let (home, issuer) = logged_in(|_| {});
    home.register_secret(PASSPHRASE);
    let agent = Agent::run(&home);
    let token = agent.get("/v1/token").token();
    let mut events = agent.events();
    run_with_passphrase(&home, &["lock"], PASSPHRASE).exits(0).reports("authctl agent unlock");
    assert_eq!(events.until("locked").1, Vec::<String>::new());
    let verify = json!({"token": token}).to_string();
    // Refused too, although it brings its own keys and policy.
    let own_keys =
        json!({"token": token, "jwks": {"keys": []}, "issuer": issuer.issuer(), "audience": ["api"]}).to_string();
    for (method, target, body) in [
        ("GET", "/v1/token", ""),
        ("GET", "/v1/token/work?scope=profile", ""),
        ("GET", "/v1/token/unknown", ""),
        ("GET", "/v1/id-token", ""),
        ("POST", "/v1/verify", &verify),
        ("POST", "/v1/verify", &own_keys),
        ("POST", "/v1/refresh/work", ""),
        ("POST", "/v1/proof", r#"{"method":"GET","url":"https://api.example/"}"#),
        ("POST", "/v1/logout/work", ""),
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
    let status = agent.get("/v1/status").expect_status(200);
    assert_eq!((&status["agent"]["locked"], &status["profiles"]), (&json!(true), &json!([])));
    // Changing the session does not unlock the agent.
    home.run_without_agent(&["refresh", "work"]).exits(0);
    agent.post("/v1/forget/work", "").expect_status(200);
    agent.get("/v1/token").expect_problem(423, "agent_locked");
    run_with_passphrase(&home, &["unlock"], PASSPHRASE).exits(0).reports("agent unlocked");
    run_with_passphrase(&home, &["unlock"], "anything").exits(0).reports("is not locked");
    assert_eq!(events.until("unlocked").1, Vec::<String>::new());
    assert_ne!(agent.get("/v1/token").token(), token, "the session was read again");
    home.run(&["token"]).exits(0);
    agent.stop().expect("a child").exits(0);
}

#[test]
fn wrong_passphrase_delays_only_the_process_that_tried_it() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.post("/v1/lock", &body()).expect_status(200);
    let wrong = json!({"passphrase": "not it"}).to_string();
    // Delays double from 250 ms, so the third wrong passphrase waits one second.
    let mut waited = Vec::new();
    for _ in 0..2 {
        let started = Instant::now();
        agent.post("/v1/unlock", &wrong).expect_problem(403, "wrong_passphrase");
        waited.push(started.elapsed());
    }
    assert!(waited[0] >= Duration::from_millis(250) && waited[1] >= Duration::from_millis(500), "{waited:?}");
    let started = Instant::now();
    let mut third = agent.connect();
    third.request("POST", "/v1/unlock", &[], &wrong);
    let mut others = 0;
    while started.elapsed() < Duration::from_millis(900) {
        agent.get("/v1/token").expect_problem(423, "agent_locked");
        others += 1;
    }
    assert!(others >= 1, "other clients are served during the delay: {others}");
    third.response().expect("a response").expect_problem(403, "wrong_passphrase");
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    // The delay applies only to the process with the wrong passphrases.
    run_with_passphrase(&home, &["unlock"], "wrong").exits(8).reports("passphrase");
    run_with_passphrase(&home, &["unlock"], PASSPHRASE).exits(0);
    agent.get("/v1/token").token();
    let log = agent.get("/v1/log").expect_status(200);
    let entries = log["entries"].as_array().unwrap().iter();
    let actions: Vec<&str> =
        entries.filter(|entry| entry["error"].is_null()).map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["lock", "wrong_passphrase", "wrong_passphrase", "unlock", "token"]);
}

#[test]
fn guessing_processes_do_not_keep_the_user_from_unlocking() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.post("/v1/lock", &body()).expect_status(200);
    // More than may wait, in a session of their own, as if another terminal ran a program that forks.
    let script = "for i in $(seq 80); do echo not it | \"$0\" agent unlock --passphrase-stdin & done; wait";
    let mut guessing = home.command_for("setsid", &["sh", "-c", script, crate::support::AUTHCTL]);
    let quiet = guessing.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guessing = quiet.spawn().expect("setsid");
    wait_until("the first ten", || (wrong_passphrases(&agent) >= 10).then_some(()));
    run_with_passphrase(&home, &["unlock"], PASSPHRASE).exits(0).reports("agent unlocked");
    let checked = wrong_passphrases(&agent);
    assert!(checked < 40, "{checked} guesses were checked first");
    agent.get("/v1/token").token();
    let session = Pid::from_child(&guessing);
    let _ = rustix::process::kill_process_group(session, Signal::KILL);
    guessing.wait().expect("ended");
}

#[test]
fn terminal_user_unlocks_before_background_jobs_that_guess() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.post("/v1/lock", &body()).expect_status(200);
    // More than may wait at once. With job control each is in a process group of its own.
    let guess = "for i in $(seq 100); do test -d \"$HOME\" || exit; sleep 0.5; echo not it | \"$0\" agent unlock --passphrase-stdin; done >/dev/null 2>&1";
    let script = format!(
        "set -m; for i in $(seq 70); do {{ {guess}; }} & jobs=\"$jobs $!\"; done; read line; \"$0\" agent unlock; \"$0\" agent unlock; \
         for job in $jobs; do kill -KILL -$job; done; exit 0"
    );
    let mut shell = home.spawn_program_in_terminal("sh", &["-c", &script, crate::support::AUTHCTL], 80);
    wait_until("more than the first ten", || (wrong_passphrases(&agent) >= 12).then_some(()));
    shell.type_text("go\n");
    shell.reports("Passphrase: ");
    shell.type_text("a typo\n");
    shell.reports("wrong passphrase");
    shell.wait_until("the second prompt", |text| (text.matches("Passphrase: ").count() > 1).then_some(()));
    let before = wrong_passphrases(&agent);
    shell.type_text(&format!("{PASSPHRASE}\n"));
    shell.reports("agent unlocked");
    let checked = wrong_passphrases(&agent) - before;
    assert!(checked < 20, "{checked} guesses were checked first");
    shell.wait().exits(0);
}

#[test]
fn one_passphrase_is_checked_at_a_time() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.post("/v1/lock", &body()).expect_status(200);
    let wrong = json!({"passphrase": "not it"}).to_string();
    let mut all: Vec<_> = (0..50).map(|_| agent.connect()).collect();
    all.iter_mut().for_each(|one| one.request("POST", "/v1/unlock", &[], &wrong));
    let statuses: Vec<u16> = all.iter_mut().map(|one| one.response().expect("a response").status).collect();
    let checked = statuses.iter().filter(|status| **status == 403).count();
    // Attempts during a check are refused at once; a check takes at least 250 ms.
    assert!((1..10).contains(&checked), "{statuses:?}");
}

#[test]
fn agent_locks_itself_when_idle() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    run_with_passphrase(&home, &["lock", "--after", "1s"], PASSPHRASE).exits(0).reports("will lock after");
    assert_eq!(agent.get("/v1/agent").expect_status(200)["locks_after"], 1);
    events.until("locked");
    agent.get("/v1/token").expect_problem(423, "agent_locked");
    run_with_passphrase(&home, &["unlock"], PASSPHRASE).exits(0);
    events.until("locked");
    // On a busy machine the second may be over before the next command.
    crate::support::process::wait_until("an unlocked agent", || {
        run_with_passphrase(&home, &["unlock"], PASSPHRASE).exits(0);
        let ran = run_with_passphrase(&home, &["lock", "--after", "0s"], PASSPHRASE);
        ran.stderr.contains("no longer").then_some(())
    });
    assert_eq!(agent.get("/v1/agent").expect_status(200)["locks_after"], json!(null));
}

#[test]
fn locked_agent_has_no_session_in_memory() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let old = home.session("work").tokens;
    agent.get("/v1/token").token();
    // The refreshed session and the sent responses must be wiped too.
    agent.post("/v1/refresh/work", "").expect_status(200);
    let new = home.session("work").tokens;
    for _ in 0..20 {
        agent.get("/v1/token").token();
    }
    agent.get("/v1/id-token").expect_status(200);
    let named = |tokens: &authctl::model::TokenSet, which: &str| {
        let refresh = tokens.refresh_token.as_ref().unwrap().expose().to_owned();
        let id = tokens.id_token.as_ref().unwrap().expose().to_owned();
        let access = tokens.access_token.expose().to_owned();
        [(format!("{which} access"), access), (format!("{which} refresh"), refresh), (format!("{which} id"), id)]
    };
    let secrets: Vec<(String, String)> = named(&old, "old").into_iter().chain(named(&new, "new")).collect();
    let found = || -> Vec<String> {
        let memory = Memory::of(agent.pid).expect("running");
        secrets.iter().filter(|(_, secret)| memory.has(secret)).map(|(name, _)| name.clone()).collect()
    };
    let before = found();
    for expected in ["new access", "new refresh", "new id"] {
        assert!(before.iter().any(|name| name == expected), "the search finds cached tokens: {before:?}");
    }
    agent.post("/v1/lock", &body()).expect_status(200);
    assert_eq!(found(), Vec::<String>::new());
}

#[test]
fn locking_withholds_an_id_token_from_waiting_callers() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    set_half_expired_id_token(&home, &agent);
    let mut events = agent.events();
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 0);
    agent.post("/v1/lock", &json!({"passphrase": PASSPHRASE, "after": 1}).to_string()).expect_status(200);
    // The agent locks before the caller stops waiting and gets the ID token that is still valid.
    let mut waiting = agent.start_request("GET", REFRESHED_ID_TOKEN);
    events.until("locked");
    issuer.clear_faults();
    waiting.response().expect("a response").expect_problem(423, "agent_locked");
}
