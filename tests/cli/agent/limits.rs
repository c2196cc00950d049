//! Limits on requests and connections: malicious or broken clients do not affect other clients.

use std::fs;
use std::time::{Duration, Instant};

use authctl::dev_issuer::{Endpoint, FaultKind};

use crate::support::agent::{Agent, Connection};
use crate::support::process::wait_until;

use super::{fault, logged_in};

#[test]
fn invalid_requests_are_refused_with_a_reason() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    for (method, target, allowed) in [
        ("POST", "/v1/token", "GET"),
        ("DELETE", "/v1/token/work", "GET"),
        ("GET", "/v1/lock", "POST"),
        ("GET", "/v1/stop", "POST"),
        ("PUT", "/v1/refresh/work", "POST"),
    ] {
        let response = agent.request(method, target, &[], "");
        response.expect_problem(405, "method_not_allowed");
        assert_eq!(response.header("allow"), Some(allowed), "{method} {target}");
    }
    for target in ["/", "/v1", "/v1/tokens", "/v2/token", "/v1/token/a/b", "/v1/status/a"] {
        assert!([400, 404].contains(&agent.get(target).status), "{target}");
    }
    agent.get("/v2/token").expect_problem(404, "unknown_path");
    agent.get("/v1/token/unknown").expect_problem(404, "unknown_profile");
    for target in ["/v1/token?scopes=a", "/v1/token?min_ttl=soon", "/v1/status?x=1", "/v1/token?min_ttl=1&min_ttl=2"] {
        let problem = agent.get(target).expect_problem(400, "invalid_request");
        assert_eq!(problem["exit_code"], 2, "{target}");
    }
    agent.post("/v1/verify", "{\"token\":4711}").expect_problem(400, "invalid_request");
    agent.post("/v1/verify", "{\"token\":\"x\",\"audiences\":[]}").expect_problem(400, "invalid_request");
    let mut garbage = agent.connect();
    assert!(garbage.send("SSH-2.0-OpenSSH_9\r\n\r\n"));
    assert!(garbage.response().is_none_or(|response| response.status == 400));
    agent.get("/v1/token").expect_status(200);
}

#[test]
fn request_sizes_are_limited() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    // A Content-Length over the limit is refused before the body is sent.
    for (target, length) in [("/v1/verify", (2u64 << 20) + 1), ("/v1/lock", (16 << 10) + 1), ("/v1/unlock", 4 << 30)] {
        let mut connection = agent.connect();
        assert!(connection.send(&format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")));
        connection.response().expect("a response").expect_problem(413, "request_too_large");
        assert!(connection.is_closed(), "the unread body is not parsed as a request");
    }
    // A body on a request that takes none is refused too, with Content-Length or chunked.
    let mut connection = agent.connect();
    connection.request("GET", "/v1/token", &[], "GET /v1/token HTTP/1.1\r\n\r\n");
    connection.response().expect("a response").expect_problem(413, "request_too_large");
    assert!(connection.is_closed());
    let mut chunked = agent.connect();
    chunked.request("POST", "/v1/unlock", &["Transfer-Encoding: chunked"], "");
    let piece = format!("400\r\n{}\r\n", "x".repeat(1024));
    // The agent may refuse before all chunks are sent.
    let _ = (0..64).all(|_| chunked.send(&piece));
    assert!(chunked.response().is_none_or(|response| response.status == 413));
    // The length of the head is limited.
    for (length, expected) in [(32 * 1024, 200), (32 * 1024 + 1, 431), (48 * 1024, 431)] {
        let mut long = agent.connect();
        let start = "GET /v1/agent HTTP/1.1\r\nHost: a\r\nX-Long: ";
        // The agent does not read a longer one to its end.
        let _ = long.send(&format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4)));
        let status = long.response().map(|response| response.status);
        assert!(status == Some(expected) || expected == 431 && status.is_none(), "{length}: {status:?}");
    }
    let (mut longer, started) = (agent.connect(), Instant::now());
    let _ = longer.send("GET /v1/agent HTTP/1.1\r\nX-Long: ");
    let _ = (0..256).all(|_| longer.send(&"x".repeat(1024)));
    assert!(longer.response().is_none_or(|response| response.status == 431));
    assert!(longer.is_closed() && started.elapsed() < Duration::from_secs(10), "the connection is closed at once");
    agent.get("/v1/token").expect_status(200);
}

#[test]
fn event_listeners_are_limited() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let listeners: Vec<_> = (0..64).map(|_| agent.events()).collect();
    agent.get("/v1/events").expect_problem(429, "too_many_requests");
    agent.get("/v1/token").expect_status(200);
    drop(listeners);
    wait_until("the listeners to be gone", || (agent.connections() == 0).then_some(()));
    agent.events();
}

#[test]
fn slow_clients_do_not_delay_others() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let silent: Vec<Connection> = (0..200).map(|_| agent.connect()).collect();
    let mut slow = agent.connect();
    let request = "GET /v1/token/work HTTP/1.1\r\nHost: a\r\n\r\n";
    // Other clients are served between any two bytes.
    for byte in request.chars() {
        assert!(slow.send(&byte.to_string()));
        agent.get("/v1/token/work").expect_status(200);
    }
    slow.response().expect("a response").expect_status(200);
    // Closed connections count until the agent has noticed.
    wait_until("the served connections to close", || (agent.connections() == 201).then_some(()));
    drop((silent, slow));
    wait_until("the connections to close", || (agent.connections() == 0).then_some(()));
}

/// Waits for the agent's time limits of the body and of the head.
#[test]
fn incomplete_requests_time_out() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let (silent, mut slow) = (agent.connect(), agent.connect());
    assert!(slow.send("GET /v1/token HTTP/1.1\r\nHost"));
    wait_until("both connections", || (agent.connections() == 2).then_some(()));
    let mut connection = agent.connect();
    assert!(connection.send("POST /v1/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"));
    let started = Instant::now();
    connection.response().expect("a response").expect_problem(408, "request_timed_out");
    assert!(started.elapsed() > Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(connection.is_closed());
    assert_eq!(agent.connections(), 2);
    wait_until("the silent and the slow connection to close", || (agent.connections() == 0).then_some(()));
    drop((silent, slow));
}

#[test]
fn one_process_cannot_take_all_connections() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    for _ in 0..8 {
        let mut all: Vec<Connection> = (0..1250).map(|_| agent.connect()).collect();
        // Another process is still served by the agent: there is no warning that the agent was not used.
        let ran = home.run(&["token", "work"]).exits(0);
        assert_eq!(ran.stderr, "");
        home.run(&["agent", "status"]).exits(0);
        let last = all.last_mut().unwrap().response().expect("a refusal before any request");
        last.expect_problem(429, "too_many_requests");
        assert!(last.header("retry-after").is_some(), "{last:?}");
        assert_eq!(last.header("connection"), Some("close"));
        drop(all);
        wait_until("the connections to close", || (agent.try_connections()? == 0).then_some(()));
    }
    agent.get("/v1/token").expect_status(200);
}

#[test]
fn low_descriptor_limit_reduces_connections() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run_under(&home, "prlimit", &["--nofile=64", "--"]);
    let all: Vec<Connection> = (0..100).map(|_| agent.connect()).collect();
    for _ in 0..20 {
        assert_eq!(home.run(&["token", "work"]).exits(0).stderr, "");
    }
    // Descriptors for a refresh remain: lock, session and connection.
    assert_eq!(home.run(&["refresh", "work", "--json"]).exits(0).json()["refreshed"], true);
    assert_eq!(issuer.stats().refreshes_committed, 1);
    drop(all);
    wait_until("the connections to close", || (agent.try_connections()? == 0).then_some(()));
}

#[test]
fn connections_leave_descriptors_for_a_refresh() {
    const PROCESSES: usize = 60;
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run_under(&home, "prlimit", &["--nofile=128", "--"]);
    let before = home.stored("work")["tokens"]["refresh_token"].clone();
    fault(&issuer, Endpoint::Token, FaultKind::HoldReply, 1);
    let mut counting = agent.connect();
    let mut refreshing = agent.start_request("POST", "/v1/refresh/work");
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    let socket = home.socket();
    let args = ["-sN", "--unix-socket", socket.to_str().unwrap(), "http://authctl/v1/events"];
    let _processes: Vec<_> =
        (0..PROCESSES).map(|_| home.spawn_command(home.command_for("curl", &args), &args)).collect();
    let mut connected = || {
        counting.request("GET", "/v1/agent", &[], "");
        counting.response().expect("a response").expect_status(200)["connections"].as_u64().expect("a number")
    };
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", agent.pid)).expect("run as root").count();
    wait_until("all connections", || (connected() == PROCESSES as u64 + 2 || descriptors() >= 128).then_some(()));
    // The old refresh token is spent: without a descriptor to store the new one, the session would be lost.
    issuer.clear_faults();
    assert_eq!(refreshing.response().expect("a response").expect_status(200)["refreshed"], true);
    assert_ne!(home.stored("work")["tokens"]["refresh_token"], before);
    assert_eq!(connected(), PROCESSES as u64 + 2, "all connections are still open");
}
