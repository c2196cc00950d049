//! Files on a file system that does not respond: the agent goes on serving what does not depend on them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use authctl::dev_issuer::DevIssuer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::agent::Agent;
use crate::support::process::wait_until;
use crate::support::{Sandbox, quick_issuer};

use super::{DUE, LIFETIME, logged_in};

/// Well below the time for which the files do not respond.
const PROMPTLY: Duration = Duration::from_secs(10);

/// Returns the file of the issuer's trust record.
fn trust_file(home: &Sandbox, issuer: &DevIssuer) -> PathBuf {
    let name = authctl::model::RecordName::of_issuer(&issuer.issuer().parse().unwrap());
    home.path().join(format!("data/authctl/sessions/{}.age", name.as_str()))
}

/// Checks that the profile `other` is served, from the cache and by a refresh.
#[track_caller]
fn assert_other_is_served(agent: &Agent<'_>, what: &Path) {
    let started = Instant::now();
    agent.get("/v1/token/other").token();
    agent.post("/v1/refresh/other", "").expect_status(200);
    agent.get("/v1/token/other").token();
    assert!(started.elapsed() < PROMPTLY, "{}: {:?}", what.display(), started.elapsed());
}

/// The calls that use a file or its lock.
const CALLS: &str = "openat,statx,newfstatat,lstat,stat,flock,utimensat";

/// Returns the options of strace with which each of `calls` on `path` takes a minute. They are logged to `log`.
fn delays<'a>(log: &'a Path, path: &'a Path, calls: &str) -> Vec<String> {
    let (trace, delay) = (format!("trace={calls}"), format!("inject={calls}:delay_enter=60s"));
    let options = ["-f", "-qq", "-o", log.to_str().unwrap(), "-P", path.to_str().unwrap(), "-e", &trace, "-e", &delay];
    options.map(str::to_owned).to_vec()
}

/// Waits for a delayed call: the log has it while it is delayed.
fn wait_for_delayed_call(log: &Path) {
    wait_until("a delayed call", || std::fs::metadata(log).is_ok_and(|log| log.len() > 0).then_some(()));
}

#[test]
fn file_that_does_not_respond_delays_only_its_own_profile() {
    /// More than all calls that may run at once.
    const MANY: usize = 300;

    let (home, issuer) = logged_in(|_| {});
    let other = quick_issuer();
    home.log_in("other", &other);
    let data = home.path().join("data/authctl");
    std::fs::write(data.join("revoked"), "authctl-revoked-1 0\n").unwrap();
    let verify = json!({"profile": "work", "token": "x"}).to_string();
    let (session, lock) = (home.session_file("work"), data.join("locks/work.lock"));
    for (file, calls, requests, times) in [
        (&session, CALLS, &[("POST", "/v1/refresh/work", "")][..], 1),
        (&session, CALLS, &[("POST", "/v1/forget/work", "")], MANY),
        (&lock, CALLS, &[("POST", "/v1/refresh/work", "")], 1),
        // The mark of a change.
        (&lock, "utimensat", &[("POST", "/v1/refresh/work", "")], 1),
        (&trust_file(&home, &issuer), CALLS, &[("POST", "/v1/verify", &verify)], MANY),
        (&data.join("revoked"), CALLS, &[("POST", "/v1/verify", &verify)], MANY),
        (&home.config_file(), CALLS, &[("GET", "/v1/token/unknown", ""), ("POST", "/v1/forget/other", "")], 1),
    ] {
        let log = home.path().join("strace.log");
        let _ = std::fs::remove_file(&log);
        let delays = delays(&log, file, calls);
        let delays: Vec<&str> = delays.iter().map(String::as_str).collect();
        // Reading the configuration is part of starting.
        let is_config = *file == home.config_file();
        let agent = if is_config {
            Agent::run(&home)
        } else {
            Agent::run_under(&home, "strace", &[&["-D"], &delays[..], &["--"]].concat())
        };
        let _tracer = is_config.then(|| {
            let pid = agent.pid.to_string();
            let options = [&delays[..], &["-p", &pid]].concat();
            home.spawn_command(home.command_for("strace", &options), &options)
        });
        agent.get("/v1/token/other").token();
        let tracer = wait_until("strace to attach", || tracer_of(&agent));
        let requests = std::iter::repeat_n(requests, times).flatten();
        let _waiting: Vec<_> = requests
            .map(|(method, target, body)| {
                let mut connection = agent.connect();
                connection.request(method, target, &[], body);
                connection
            })
            .collect();
        wait_for_delayed_call(&log);
        assert_other_is_served(&agent, file);
        // Until its delays end, it would keep the agent from exiting.
        kill_process(tracer, Signal::KILL).expect("running");
    }
}

#[test]
fn lock_file_that_does_not_respond_hides_no_change_of_another_profile() {
    let (home, _issuer) = logged_in(|_| {});
    let other = quick_issuer();
    home.log_in("other", &other);
    let (log, lock) = (home.path().join("strace.log"), home.path().join("data/authctl/locks/work.lock"));
    let delays = delays(&log, &lock, "statx,newfstatat,lstat,stat");
    let delays: Vec<&str> = delays.iter().map(String::as_str).collect();
    let agent = Agent::run_under(&home, "strace", &[&["-D"], &delays[..], &["--"]].concat());
    agent.get("/v1/token/work").token();
    let old = agent.get("/v1/token/other").token();
    let tracer = wait_until("strace to attach", || tracer_of(&agent));
    home.run_without_agent(&["refresh", "work"]).exits(0);
    wait_for_delayed_call(&log);
    let started = Instant::now();
    home.run_without_agent(&["refresh", "other"]).exits(0);
    wait_until("the change", || (agent.get("/v1/token/other").token() != old).then_some(()));
    home.run_without_agent(&["logout", "other"]).exits(0);
    wait_until("the logout", || (agent.get("/v1/token/other").status == 401).then_some(()));
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
    kill_process(tracer, Signal::KILL).expect("running");
}

/// Returns the process that traces the agent.
fn tracer_of(agent: &Agent<'_>) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid)).ok()?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    Pid::from_raw(tracer.trim().parse().ok()?)
}

/// Whatever the runtime's thread waits for, all profiles wait for.
#[test]
fn thread_that_serves_requests_uses_no_file() {
    let (home, issuer) = logged_in(|_| {});
    home.log_in("other", &issuer);
    let log = home.path().join("strace.log");
    let trace =
        ["-D", "-f", "-y", "-qq", "-s", "200", "-o", log.to_str().unwrap(), "-e", "trace=%file,%desc,accept4", "--"];
    let agent = Agent::run_under(&home, "strace", &trace);
    let pid = agent.pid;
    let token = agent.get("/v1/token/work").token();
    home.register_secret(&token);
    agent.post("/v1/refresh/work", "").expect_status(200);
    home.advance_agent_time(&agent, "work", DUE);
    agent.get("/v1/token/work").token();
    home.advance_agent_time(&agent, "work", LIFETIME + 1);
    agent.get("/v1/id-token/work").expect_status(200);
    agent.get("/v1/token/work?audience=https://api.example").expect_status(200);
    agent.post("/v1/verify", &json!({"profile": "work", "token": token}).to_string()).expect_status(200);
    agent.get("/v1/status").expect_status(200);
    agent.get("/v1/token/unknown").expect_problem(404, "unknown_profile");
    home.run(&["profile", "set", "other", "audience=https://api.example"]).exits(0);
    home.run_without_agent(&["refresh", "work"]).exits(0);
    home.run(&["logout", "other"]).exits(0);
    agent.get("/v1/token/other").expect_problem(401, "login_required");
    agent.stop().expect("a child").exits(0);
    let calls = std::fs::read_to_string(&log).unwrap();
    let serving = calls.lines().skip_while(|call| !call.contains("accept4(") || !call.contains("SOCK_CLOEXEC"));
    let is_file = |call: &&str| ["\"/", "</"].iter().any(|path| call.contains(path));
    // The system's own file systems respond.
    let is_other =
        |call: &&str| ["\"/proc/", "</proc/", "</dev/", "readlink", "<socket:"].iter().any(|path| call.contains(path));
    // At its end it looks at its lock file and removes the socket.
    let is_serving = |call: &&str| !call.contains("agent.sock.lock");
    let own = format!("{pid} ");
    let calls: Vec<&str> = serving.take_while(is_serving).filter(|call| call.starts_with(&own)).collect();
    assert!(calls.len() > 50, "{calls:?}");
    let files: Vec<&str> = calls.into_iter().filter(is_file).filter(|call| !is_other(call)).collect();
    assert_eq!(files, Vec::<&str>::new());
}

#[test]
fn pipe_in_place_of_a_file_delays_nothing() {
    let (home, issuer) = logged_in(|_| {});
    let other = quick_issuer();
    home.log_in("other", &other);
    let verify = json!({"profile": "work", "token": "x"}).to_string();
    for file in [home.path().join("data/authctl/revoked"), trust_file(&home, &issuer)] {
        let agent = Agent::run(&home);
        agent.get("/v1/token/work").token();
        let _ = std::fs::remove_file(&file);
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        let started = Instant::now();
        agent.post("/v1/verify", &verify).expect_problem(503, "store_unavailable");
        home.run(&["verify", "work"]).exits(7);
        assert!(started.elapsed() < PROMPTLY, "{}: {:?}", file.display(), started.elapsed());
        assert_other_is_served(&agent, &file);
        std::fs::remove_file(&file).unwrap();
    }
}
