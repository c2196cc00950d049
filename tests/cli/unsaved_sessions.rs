//! Sessions that were refreshed and that the store does not take.

use authctl::dev_issuer::{DevIssuer, FaultKind};
use rustix::process::Signal;

use super::refresh::{LIFETIME, fault, logged_in};
use crate::support::Sandbox;
use crate::support::agent::{Agent, Connection};
use crate::support::process::{RunningCommand, wait_until};

/// Runs `run` while the directory of the sessions cannot be written to or read.
fn with_store_away(home: &Sandbox, run: impl FnOnce()) {
    let (dir, away) = (home.path().join("data/authctl/sessions"), home.path().join("away"));
    std::fs::rename(&dir, &away).unwrap();
    std::fs::write(&dir, "").unwrap();
    run();
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&away, &dir).unwrap();
}

/// Calls `start` for a refresh whose reply the issuer holds back until the faults are cleared; returns once it is committed.
fn held_refresh<T>(issuer: &DevIssuer, start: impl FnOnce() -> T) -> T {
    fault(issuer, FaultKind::HoldReply, 1);
    let committed = issuer.stats().refreshes_committed + 1;
    let refreshing = start();
    wait_until("the refresh", || (issuer.stats().refreshes_committed == committed).then_some(()));
    refreshing
}

/// Starts a command whose refresh is held back.
fn held_refresh_by_command<'a>(home: &'a Sandbox, issuer: &DevIssuer, args: &[&str]) -> RunningCommand<'a> {
    held_refresh(issuer, || {
        home.advance_time("work", LIFETIME + 1);
        home.spawn(args)
    })
}

/// Requests a token of an agent whose refresh is held back.
fn held_refresh_by_agent(home: &Sandbox, issuer: &DevIssuer, agent: &Agent<'_>) -> Connection {
    held_refresh(issuer, || {
        home.advance_agent_time(agent, "work", LIFETIME + 1);
        agent.start_request("GET", "/v1/token/work")
    })
}

/// Lets the issuer reply, and interrupts the refresh once while it waits for the store.
fn interrupt_while_unsaved(refreshing: &RunningCommand<'_>, issuer: &DevIssuer) {
    issuer.clear_faults();
    refreshing.reports("Waiting up to 60 s");
    refreshing.signal(Signal::INT);
    refreshing.reports("press Ctrl-C again");
}

#[test]
fn refreshed_session_is_stored_when_the_store_is_available_again() {
    let (home, issuer) = logged_in(|_| {});
    for args in [&["token", "work"][..], &["refresh", "work", "--quiet"], &["exec", "work", "--", "true"]] {
        let refreshing = held_refresh_by_command(&home, &issuer, args);
        with_store_away(&home, || {
            issuer.clear_faults();
            refreshing.reports("Waiting up to 60 s to store the refreshed session of work: cannot");
        });
        refreshing.wait().exits(0);
        home.session("work");
        home.run(&["refresh", "work"]).exits(0);
    }
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses), (6, 0));
}

#[test]
fn interrupted_command_stores_the_session_first() {
    let (home, issuer) = logged_in(|_| {});
    let refreshing = held_refresh_by_command(&home, &issuer, &["refresh", "work"]);
    with_store_away(&home, || interrupt_while_unsaved(&refreshing, &issuer));
    let ran = refreshing.wait().exits(130).reports("finished first");
    assert!(!ran.stderr.contains("is lost"), "{}", ran.stderr);
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn interrupted_command_reports_that_the_session_is_lost() {
    for (rotates, word) in [(true, "the session is lost"), (false, "cannot store the refreshed session")] {
        let (home, issuer) = logged_in(|options| options.rotate_refresh_tokens = rotates);
        let refreshing = held_refresh_by_command(&home, &issuer, &["refresh", "work"]);
        with_store_away(&home, || {
            interrupt_while_unsaved(&refreshing, &issuer);
            refreshing.signal(Signal::INT);
            let ran = refreshing.wait().exits(130).reports(word);
            assert_eq!(ran.stderr.contains("is lost"), rotates, "{}", ran.stderr);
            assert!(!ran.stderr.contains("os error"), "{}", ran.stderr);
            assert_eq!(ran.stderr.contains("authctl login work"), rotates, "{}", ran.stderr);
        });
        // What it had written in the directory is found when that is available again.
        home.run(&["token", "work"]).exits(0);
        home.run(&["refresh", "work"]).exits(0);
    }
}

/// A process that is killed between the issuer's reply and the new file loses the session: there must be as little in
/// between as possible.
#[test]
fn no_file_is_opened_or_read_between_the_reply_and_the_new_session() {
    let (home, _issuer) = logged_in(|_| {});
    home.run(&["refresh", "work"]).exits(0);
    let (ran, calls) = home.trace("all", &["refresh", "work"], "");
    ran.exits(0);
    let is_reply = |call: &String| call.contains("recvfrom") && call.contains("HTTP/1.1 200");
    let reply = calls.iter().rposition(is_reply).expect("the reply");
    let renamed =
        calls.iter().rposition(|call| call.contains("rename(") && call.contains("/work.age\"")).expect("stored");
    let between = &calls[reply + 1..renamed];
    for name in ["open(", "openat(", "socket(", "connect(", " read(", "pread64(", "clone", "mkdir(", "flock("] {
        let call = between.iter().find(|call| call.contains(name));
        assert_eq!(call, None, "{} calls:\n{}", between.len(), between.join("\n"));
    }
}

#[test]
fn agent_serves_an_unsaved_session_and_stores_it_later() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    let mut waiting = held_refresh_by_agent(&home, &issuer, &agent);
    with_store_away(&home, || {
        issuer.clear_faults();
        let token = waiting.response().expect("a response").token();
        home.register_secret(&token);
        assert_eq!(events.until("unsaved").0["profile"], "work");
        assert_eq!(agent.get("/v1/token/work").token(), token);
        agent.post("/v1/forget/work", "").expect_status(200);
        assert_eq!(agent.get("/v1/token/work").token(), token, "the only copy");
        agent.post("/v1/refresh/work", "").expect_problem(503, "store_unavailable");
        let line = home.run(&["agent", "status"]).exits(0).stdout;
        assert!(line.contains("the refreshed session of work is only in memory: cannot"), "{line}");
        let status = home.run(&["status", "--json"]).json();
        assert_eq!(status["agent"]["unsaved"][0]["profile"], "work");
    });
    assert_eq!(events.until("saved").0["profile"], "work");
    let token = agent.get("/v1/token/work").token();
    assert_eq!(home.session("work").tokens.access_token.expose(), token);
    assert_eq!(home.run(&["agent", "status", "--json"]).json().get("unsaved"), None);
    agent.post("/v1/refresh/work", "").expect_status(200);
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses), (2, 0));
}

/// Has an agent with a session that it cannot store leave its lock, and runs `command` when the store is available again, with
/// the token of that session. Then `check` holds, and still when the agent has its lock again.
fn with_lock_left(command: impl FnOnce(&Sandbox, &DevIssuer, &str), check: impl Fn(&Sandbox, &DevIssuer, &Agent<'_>)) {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    let mut waiting = held_refresh_by_agent(&home, &issuer, &agent);
    let lock = std::fs::File::open(home.path().join("data/authctl/locks/work.lock")).unwrap();
    let mut token = String::new();
    with_store_away(&home, || {
        issuer.clear_faults();
        token = waiting.response().expect("a response").token();
        home.register_secret(&token);
        events.until("unsaved");
        agent.post("/v1/forget/work", "").expect_status(200);
        // As in a keychain, nothing of the new session is left.
        for entry in std::fs::read_dir(home.path().join("away")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "next") {
                std::fs::remove_file(path).unwrap();
            }
        }
        // A look at whether it is held takes it for a moment.
        wait_until("the lock to be left to a command", || lock.try_lock().ok());
    });
    drop(lock);
    command(&home, &issuer, &token);
    check(&home, &issuer, &agent);
    events.until("saved");
    check(&home, &issuer, &agent);
    agent.stop();
}

#[test]
fn login_replaces_an_unsaved_session_of_the_agent() {
    let own = std::cell::RefCell::new(String::new());
    with_lock_left(
        |home, issuer, _| {
            home.log_in("work", issuer);
            home.session("work").tokens.access_token.expose().clone_into(&mut own.borrow_mut());
        },
        |home, issuer, agent| {
            assert_eq!(home.session("work").tokens.access_token.expose(), *own.borrow());
            assert_eq!(agent.get("/v1/token/work").token(), *own.borrow());
            // Some issuers end every session of the user with one.
            assert!(!issuer.stats().requests.contains_key("revoke"));
        },
    );
}

#[test]
fn logout_ends_an_unsaved_session_of_the_agent() {
    for args in [&["logout", "work"][..], &["logout", "work", "--no-revoke"]] {
        with_lock_left(
            |home, _, token| {
                let verify = || home.run_with(&["verify", "-", "--profile", "work"], token);
                verify().exits(0);
                home.run(args).exits(0);
                verify().exits(4).reports("revoked");
            },
            |home, issuer, agent| {
                assert_eq!(issuer.stats().requests.contains_key("revoke"), args.len() == 2, "{args:?}");
                agent.get("/v1/token/work").expect_problem(401, "login_required");
                assert!(!home.session_file("work").exists());
            },
        );
    }
}

#[test]
fn spent_refresh_token_is_not_sent_while_the_agent_has_the_newer_session() {
    with_lock_left(
        |home, issuer, token| {
            let served = home.run_without_agent(&["token", "work"]).exits(0);
            assert_eq!(served.stdout.trim(), token);
            let stats = issuer.stats();
            assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
        },
        |home, _, agent| {
            assert_eq!(home.session("work").tokens.access_token.expose(), agent.get("/v1/token/work").token());
        },
    );
}

#[test]
fn stopping_agent_stores_an_unsaved_session() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut waiting = held_refresh_by_agent(&home, &issuer, &agent);
    let mut token = String::new();
    with_store_away(&home, || {
        issuer.clear_faults();
        token = waiting.response().expect("a response").token();
        home.register_secret(&token);
        agent.signal(Signal::TERM);
        wait_until("the agent to stop listening", || (!agent.is_listening()).then_some(()));
    });
    agent.wait().expect("a child").exits(0);
    assert_eq!(home.session("work").tokens.access_token.expose(), token);
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn stop_names_the_session_that_the_agent_could_not_store() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut waiting = held_refresh_by_agent(&home, &issuer, &agent);
    with_store_away(&home, || {
        issuer.clear_faults();
        home.register_secret(&waiting.response().expect("a response").token());
        let stopping = home.spawn(&["agent", "stop"]);
        stopping.reports("for the agent, which tries to store the refreshed session of work: cannot");
        // As its supervisor does when it takes too long.
        agent.signal(Signal::KILL);
        let ran = stopping.wait().exits(7).reports("without storing the refreshed session of work, which is lost");
        ran.reports("hint:  authctl login work");
    });
    agent.wait();
}

#[test]
fn status_shows_a_refresh_whose_reply_was_lost_once_it_has_ended() {
    let (home, issuer) = logged_in(|_| {});
    let refreshing = held_refresh_by_command(&home, &issuer, &["refresh", "work"]);
    let lost = || home.run(&["status"]).exits(0).stdout.contains("reply to the refresh at");
    assert!(!lost(), "it is running");
    refreshing.signal(Signal::KILL);
    refreshing.wait();
    assert!(lost());
    let state = home.run(&["status", "work", "--json"]).exits(0).json()["profiles"][0]["state"].clone();
    assert_eq!(state, "refresh_failing");
    issuer.clear_faults();
}
