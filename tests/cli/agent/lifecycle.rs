//! Starting, stopping and replacing an agent; one agent per home.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::support::agent::Agent;
use crate::support::process::copy_program;
use crate::support::{AUTHCTL, Sandbox, contains};

use super::{DUE, logged_in};

/// Returns the PIDs of this home's agents, found by arguments and environment. Needs root, as agents are not dumpable.
fn agents_of(home: &Sandbox) -> Vec<u32> {
    let of = |pid: &u32| {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let home = home.path().as_os_str().as_encoded_bytes();
        // The process that serves an agent from outside of its confinement has the same arguments and one more.
        let line = file("cmdline");
        contains(&line, b"agent\0run") && !contains(&line, b"--broker") && contains(&file("environ"), home)
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(of).collect()
}

#[test]
fn start_returns_when_the_agent_is_ready() {
    let (home, _issuer) = logged_in(|_| {});
    home.run(&["agent", "status"]).exits(8);
    home.run(&["agent", "start"]).exits(0).reports("agent started");
    let agent = Agent::running(&home);
    assert_eq!(agent.get("/v1/token").token(), home.token("work"));
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid)).unwrap();
    // Parent, process group, session, terminal.
    let fields: Vec<i64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().skip(1).take(4).map(|f| f.parse().unwrap()).collect();
    assert_eq!(&fields[2..], [i64::from(agent.pid), 0], "a session of its own, without a terminal: {stat}");
    assert_ne!(fields[0], i64::from(std::process::id()), "the agent is not a child of this test: {stat}");
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", agent.pid)).unwrap().to_str(), Some("/"));
    let state = home.run(&["agent", "status", "--json"]).exits(0).json();
    assert_eq!((&state["running"], &state["pid"], &state["locked"]), (&json!(true), &json!(agent.pid), &json!(false)));
    assert_eq!(state["socket"], json!(home.socket()));
    home.run(&["agent", "start"]).exits(0).reports("the agent is already running");
    home.spawn(&["agent", "run"]).wait().exits(8).reports("already running");
    assert_eq!(agents_of(&home), [agent.pid]);
    home.run(&["agent", "stop"]).exits(0).reports("agent stopped");
    agent.wait();
    assert!(!home.socket().exists());
    home.run(&["agent", "stop"]).exits(0).reports("the agent is not running");
    assert_eq!(home.run(&["agent", "stop", "--json"]).exits(0).json()["running"], false);
    let state = home.run(&["agent", "status", "--json"]).exits(8).json();
    assert_eq!((&state["running"], &state["pid"]), (&json!(false), &json!(null)));
}

#[test]
fn agent_closes_inherited_descriptors() {
    let home = Sandbox::new();
    let script = format!("exec 5<. 9>lock && flock 9 && exec '{AUTHCTL}' agent start");
    home.run_command(&mut home.command_for("bash", &["-c", &script])).exits(0);
    let agent = Agent::running(&home);
    fs::File::open(home.path().join("lock")).unwrap().try_lock().expect("the agent does not hold the lock");
    let open: Vec<_> = fs::read_dir(format!("/proc/{}/fd", agent.pid)).unwrap().flatten().collect();
    let inherited = open.iter().filter_map(|entry| fs::read_link(entry.path()).ok()).find(|path| path == home.path());
    assert_eq!(inherited, None);
    agent.stop();
}

#[test]
fn concurrent_starts_start_one_agent() {
    let (home, _issuer) = logged_in(|_| {});
    let starts: Vec<_> = (0..10).map(|_| home.spawn(&["agent", "start"])).collect();
    let messages: Vec<String> = starts.into_iter().map(|start| start.wait().exits(0).stderr).collect();
    let agent = Agent::running(&home);
    assert_eq!(messages.iter().filter(|text| text.contains("agent started")).count(), 1, "{messages:?}");
    assert_eq!(messages.iter().filter(|text| text.contains("is already running")).count(), 9, "{messages:?}");
    assert_eq!(agents_of(&home), [agent.pid]);
}

#[test]
fn socket_of_a_killed_agent_is_taken_over() {
    let (home, _issuer) = logged_in(|_| {});
    let token = home.token("work");
    let first = Agent::start(&home);
    let pid = first.pid;
    first.signal(Signal::KILL);
    first.wait();
    assert!(home.socket().exists(), "the socket file remains");
    home.run(&["agent", "status"]).exits(8);
    assert_eq!(home.token("work"), token, "the stale socket is ignored");
    let second = Agent::start(&home);
    assert_ne!(second.pid, pid);
    assert_eq!(second.get("/v1/token").token(), token);
}

#[test]
fn clients_do_not_notice_an_upgrade() {
    let (home, _issuer) = logged_in(|_| {});
    let (program, new) = (home.path().join("authctl"), home.path().join("authctl.new"));
    copy_program(&program);
    let run = |args: &[&str]| home.run_command(&mut home.command_for(&program, args));
    run(&["agent", "start"]).exits(0);
    let old = Agent::running(&home);
    let token = old.get("/v1/token").token();
    home.register_secret(&token);
    copy_program(&new);
    fs::rename(&new, &program).unwrap();
    assert_eq!(old.get("/v1/token").token(), token);
    assert_eq!(run(&["token"]).exits(0).line(), token);
    old.post("/v1/refresh/work", "").expect_status(200);
    run(&["agent", "stop"]).exits(0);
    old.wait();
    run(&["agent", "start"]).exits(0);
    let new = Agent::running(&home);
    assert_eq!(new.get("/v1/token").token(), home.token("work"));
    let running = fs::read_link(format!("/proc/{}/exe", new.pid)).unwrap();
    assert_eq!(running, program, "the new file, not the deleted one");
}

#[test]
fn session_is_refreshed_before_it_expires_without_a_request() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    home.advance_agent_time(&agent, "work", DUE);
    assert_eq!(events.until("refreshed").0["profile"], "work");
    assert_eq!(issuer.stats().refreshes_committed, 1);
}
