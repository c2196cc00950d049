//! The life of a proxy: a user service, its key file, and what changes while it runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Proxy, api, logged_in};
use crate::support::agent::Agent;
use crate::support::free_port;
use crate::support::mcp_server::{McpServer, Received};
use crate::support::process::{LIMIT, wait_until};

const API: &str = "https://api.example/v1";

/// Returns the words of `ExecStart` in a printed unit.
fn command_of(unit: &str) -> Vec<String> {
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    line.trim_matches('"').split("\" \"").map(|word| word.replace("%%", "%").replace("$$", "$")).collect()
}

#[test]
fn service_runs_the_proxy_with_its_rules_and_no_key_in_the_journal() {
    let (home, _idp) = logged_in();
    let install = ["proxy", "install", "work", "--for", API, "--print"];
    let rules = ["--allow", "GET /v1/50%/*", "--read-only", "--max-requests", "9", "--ttl", "1h"];
    let printed = home.run(&[&install[..], &rules[..]].concat()).exits(0).stdout;
    let path = home.path().join("config/systemd/user/authctl-proxy-work.service");
    assert!(printed.starts_with(&format!("# {}\n", path.display())), "{printed}");
    let words = command_of(&printed);
    let socket = words.iter().find_map(|word| word.strip_prefix("--listen=unix:")).expect("a socket");
    assert!(Path::new(socket).is_absolute() && socket.ends_with("/proxy-work.sock"), "{socket}");
    for word in ["proxy", "work", &format!("--for={API}"), "--allow=GET /v1/50%/*", "--read-only", "--max-requests=9"] {
        assert!(words.iter().any(|own| own == word), "{word}: {words:?}");
    }
    assert!(
        printed.contains("\nStandardOutput=null\n") && printed.contains("\nWantedBy=default.target\n"),
        "{printed}"
    );
    assert!(!path.exists());
    for (args, text) in [
        (&["--listen", "127.0.0.1:8081"][..], "--key-file"),
        (&["--listen", "localhost:0"], "stays the same"),
        (&["--listen", "0.0.0.0:8081"], "other machines"),
    ] {
        home.run(&[&install[..], args].concat()).exits(2).reports(text);
    }
    home.run(&["proxy", "install", "work", "--print"]).exits(2).reports("--for");
    home.run(&["proxy", "uninstall", "work"]).exits(0).reports("no service is installed");
    home.run(&["proxy", "uninstall"]).exits(2).reports("the profile is missing");
}

#[test]
fn installed_command_serves_again_and_uninstall_removes_it() {
    let (home, _idp) = logged_in();
    let api = api();
    let (listen, key_file) = (format!("127.0.0.1:{}", free_port()), home.path().join("api.key"));
    let file = key_file.to_str().unwrap();
    home.run(&["proxy", "install", "work", "--for", &api.url, "--listen", &listen, "--key-file", file]).exits(0);
    let path = home.path().join("config/systemd/user/authctl-proxy-work.service");
    let words = command_of(&std::fs::read_to_string(&path).unwrap());
    let mut keys = Vec::new();
    for _ in 0..2 {
        let proxy = Proxy::start(&home, &words[2..].iter().map(String::as_str).collect::<Vec<_>>());
        keys.push(proxy.key.clone());
        assert_eq!(proxy.get("/v1").0, 200);
        proxy.stop();
    }
    assert_eq!(keys[0], keys[1]);
    home.run(&["proxy", "uninstall", "work"]).exits(0);
    assert!(!path.exists());
}

#[test]
fn key_file_is_the_users_alone() {
    let (home, _idp) = logged_in();
    let api = api();
    let file = home.path().join("api.key");
    let text = file.to_str().unwrap();
    let proxy = Proxy::start(&home, &["work", "--for", &api.url, "--key-file", text]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(proxy.key, std::fs::read_to_string(&file).unwrap());
    drop(proxy);
    let args = ["proxy", "work", "--for", &api.url, "--key-file", text];
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    home.run(&args).exits(2).reports("other users can read");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    for key in ["", "short", "a key with spaces in it"] {
        std::fs::write(&file, key).unwrap();
        home.run(&args).exits(2).reports("has no key");
    }
}

#[test]
fn proxies_started_at_once_have_the_key_of_their_file() {
    let (home, _idp) = logged_in();
    let api = api();
    let file = home.path().join("api.key");
    let text = file.to_str().unwrap();
    std::thread::scope(|scope| {
        let start = || Proxy::start(&home, &["work", "--for", &api.url, "--key-file", text]);
        let proxies: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
        let key = std::fs::read_to_string(&file);
        for proxy in proxies.into_iter().map(|proxy| proxy.join().unwrap()) {
            assert_eq!(proxy.get("/").0, 200, "{key:?}");
        }
    });
}

#[test]
fn request_in_flight_ends_before_the_proxy_stops() {
    let (home, _idp) = logged_in();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let api = McpServer::start(move |_, _: &Received, reply| {
        let _ = held.lock().unwrap().recv_timeout(LIMIT);
        reply.send(200, "", "text/plain", "late");
    });
    let proxy = Arc::new(Proxy::for_api(&home, &api.url));
    let caller = {
        let proxy = Arc::clone(&proxy);
        std::thread::spawn(move || proxy.get("/mcp"))
    };
    api.wait_for("GET");
    kill_process(Pid::from_child(&proxy.child), Signal::TERM).unwrap();
    wait_until("no more connections", || std::net::TcpStream::connect(proxy.host()).is_err().then_some(()));
    release.send(()).unwrap();
    assert_eq!(caller.join().unwrap(), (200, "late".into()));
    let mut proxy = Arc::into_inner(proxy).expect("the caller has ended");
    assert!(wait_until("the proxy to exit", || proxy.child.try_wait().unwrap()).success());
}

#[test]
fn proxy_survives_that_the_agent_starts_stops_and_is_replaced() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::for_api(&home, &api.url);
    let is_used = |_: &Agent<'_>| {
        let log = home.run(&["agent", "log", "--json"]).exits(0).json();
        log["entries"].as_array().unwrap().iter().any(|entry| entry["pid"] == proxy.child.id()).then_some(())
    };
    for _ in 0..2 {
        let agent = Agent::start(&home);
        wait_until("a request by the agent", || {
            assert_eq!(proxy.get("/").0, 200);
            is_used(&agent)
        });
        home.run(&["agent", "stop"]).exits(0);
        assert_eq!(proxy.get("/").0, 200);
    }
}

#[test]
fn proxy_works_while_the_agent_hangs() {
    let (home, _idp) = logged_in();
    let api = api();
    let agent = Agent::run(&home);
    let proxy = Proxy::for_api(&home, &api.url);
    agent.signal(Signal::STOP);
    let is_stopped = || std::fs::read_to_string(format!("/proc/{}/stat", agent.pid)).unwrap().contains(") T ");
    wait_until("the stop", || is_stopped().then_some(()));
    assert_eq!(proxy.get("/").0, 200);
    let log = proxy.stop();
    agent.signal(Signal::CONT);
    assert_eq!(log.matches("continuing without it").count(), 1, "{log}");
    agent.stop().expect("a child").exits(0);
}

#[test]
fn lost_request_is_repeated_only_if_it_changes_nothing() {
    let (home, _idp) = logged_in();
    for (method, body, expected, requests) in
        [("GET", "", 200, 2), ("HEAD", "", 200, 2), ("POST", "", 502, 1), ("POST", "x", 502, 1), ("DELETE", "", 502, 1)]
    {
        // The connection closes without a response to the first request.
        let api = McpServer::start(|before, _: &Received, reply| {
            if before > 0 {
                reply.send(200, "", "text/plain", "");
            }
        });
        let proxy = Proxy::for_api(&home, &api.url);
        assert_eq!(proxy.request(method, "/mcp", body).0, expected, "{method}");
        assert_eq!(api.received().len(), requests, "{method}");
    }
    // An invalid response is one: the request is not lost.
    let api = McpServer::start(|_, _: &Received, reply| reply.send(200, "Content-Length: 3\r\n", "text/plain", "x"));
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/mcp").0, 502);
    assert_eq!(api.received().len(), 1);
}

#[test]
fn proxy_ends_after_its_ttl() {
    let (home, _idp) = logged_in();
    let api = api();
    let started = Instant::now();
    let mut proxy = Proxy::start(&home, &["work", "--for", &api.url, "--ttl", "2s"]);
    assert!(wait_until("the proxy to exit", || proxy.child.try_wait().unwrap()).success());
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    home.run(&["proxy", "list"]).exits(0).reports("no proxy is running");
}

/// As after a suspend: the cached token is from long ago.
#[test]
fn token_that_expired_in_the_meantime_is_replaced() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/").0, 200);
    let before = api.requests()[0].authorization.clone();
    home.advance_time("work", 301);
    wait_until("another token", || {
        assert_eq!(proxy.get("/").0, 200);
        (api.requests().last().unwrap().authorization != before).then_some(())
    });
}

#[test]
fn removed_profile_is_a_problem_and_not_the_end() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/").0, 200);
    let config = std::fs::read_to_string(home.config_file()).unwrap();
    std::fs::write(home.config_file(), "").unwrap();
    let (status, body) = wait_until("the change", || Some(proxy.get("/")).filter(|(status, _)| *status != 200));
    assert!(status == 503 && body.contains("unknown_profile"), "{status} {body}");
    std::fs::write(home.config_file(), config).unwrap();
    wait_until("the profile", || (proxy.get("/").0 == 200).then_some(()));
}

#[test]
fn socket_of_a_proxy_is_its_own_and_leaves_nothing() {
    let (home, _idp) = logged_in();
    let api = api();
    let directory = home.path().join("sockets");
    let place = format!("unix:{}", directory.join("api.sock").display());
    let args = ["work", "--for", &api.url, "--listen", &place];
    let proxy = Proxy::start(&home, &args);
    home.run(&[&["proxy"], &args[..]].concat()).exits(2).reports("a proxy is already running").reports("proxy list");
    std::os::unix::net::UnixStream::connect(directory.join("api.sock")).expect("the first proxy listens");
    let link = directory.join("link.sock");
    std::os::unix::fs::symlink("api.sock", &link).unwrap();
    let at_link = format!("unix:{}", link.display());
    home.run(&["proxy", "work", "--for", &api.url, "--listen", &at_link, "--ttl", "5s"])
        .exits(2)
        .reports("is not a socket");
    assert!(link.is_symlink(), "the user's link is not replaced");
    std::fs::remove_file(&link).unwrap();
    proxy.stop();
    let left: Vec<_> = directory.read_dir().unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    Proxy::start(&home, &args).stop();
}
