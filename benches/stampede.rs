//! A thousand clients that need a refresh at the same moment, with and without the agent.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

mod support;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::constant::Constant;
use support::table::{Bar, bars, ms, print};
use support::{Home, Issuer, Running, connect, ends_within, http, run, with_many_files};

const CLIENTS: usize = 1_000;
/// The pause between the last request and the issuer's reply, so that the server can read all requests.
const SETTLE: Duration = Duration::from_secs(2);
/// How long to wait until all processes wait for the profile lock. Each waits for at most 75 s.
const GATHER: Duration = Duration::from_secs(45);

struct Scenario {
    name: &'static str,
    /// Whether the stored token has expired.
    expired: bool,
    request: (&'static str, &'static str),
    args: &'static [&'static str],
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "by profile",
        expired: true,
        request: ("GET", "/v1/token/work"),
        args: &["token", "work", "--json"],
    },
    Scenario {
        name: "by scope",
        expired: false,
        request: ("GET", "/v1/token/work?scope=profile"),
        args: &["token", "work", "--json", "--scope", "profile"],
    },
    Scenario {
        name: "by audience",
        expired: false,
        request: ("GET", "/v1/token/work?audience=https%3A%2F%2Fapi.example"),
        args: &["token", "work", "--json", "--audience", "https://api.example"],
    },
    Scenario {
        name: "forced",
        expired: false,
        request: ("POST", "/v1/refresh/work"),
        args: &["refresh", "work", "--json"],
    },
];

/// The replies to the clients of a stampede.
struct Replies {
    /// How many clients were waiting when the refresh was released.
    waiting: usize,
    each: Vec<Result<Value, String>>,
    /// The time from the release until the last reply.
    slowest: Duration,
}

/// The outcome of one stampede.
struct Outcome {
    waiting: usize,
    refreshes: u64,
    reuses: u64,
    /// Failed replies, and replies that differ from the others.
    errors: usize,
    first_error: Option<String>,
    slowest: Duration,
}

fn main() {
    support::constant::run_as_server_if_requested();
    ends_within(Duration::from_secs(900));
    let issuer = Issuer::start("1d");
    let mut rows = vec![floor()];
    let mut outcomes = Vec::new();
    for scenario in &SCENARIOS {
        outcomes.push((format!("through the agent, {}", scenario.name), stampede(scenario, &issuer, through_agent)));
    }
    for scenario in &SCENARIOS {
        outcomes.push((format!("without it, {}", scenario.name), stampede(scenario, &issuer, without_agent)));
    }
    for (name, outcome) in &outcomes {
        let [waiting, errors] = [outcome.waiting, outcome.errors].map(|count| count.to_string());
        rows.push(vec![name.clone(), waiting, outcome.refreshes.to_string(), errors, ms(outcome.slowest)]);
    }
    let columns = ["clients", "waiting", "refreshes", "errors", "slowest reply"];
    print(&format!("{CLIENTS} clients at once; times are measured from the release of the refresh"), &columns, &rows);
    let bar = |(name, outcome): &(String, Outcome)| {
        let met = (outcome.refreshes, outcome.reuses, outcome.errors) == (1, 0, 0);
        let seen = format!("{} and {}", outcome.refreshes, outcome.errors);
        let seen = outcome.first_error.as_ref().map_or_else(|| seen.clone(), |first| format!("{seen}: {first}"));
        Bar::new(format!("{name}: one refresh, no error"), seen, met)
    };
    bars(&outcomes.iter().map(bar).collect::<Vec<_>>());
}

/// Measures a bare hyper server that replies to all connections at once.
fn floor() -> Vec<String> {
    let home = Home::new();
    let body = vec![b'x'; 1200];
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    let constant = Constant::start(&home, &http::Reply { status: 200, head, body });
    let slowest = with_many_files(|| {
        let pending = send_all(&constant.socket, ("GET", "/held"));
        let started = Instant::now();
        http::ask(&constant.socket, "GET", "/go", "");
        for mut stream in pending {
            assert_eq!(http::read(&mut stream).expect("a reply").status, 200);
        }
        started.elapsed()
    });
    vec!["a bare hyper server".into(), CLIENTS.to_string(), String::new(), "0".into(), ms(slowest)]
}

/// Opens the connections, sends the request on each, and gives the server time to read them.
fn send_all(socket: &std::path::Path, (method, path): (&str, &str)) -> Vec<std::os::unix::net::UnixStream> {
    let request = http::request(method, path, "authctl", "", "");
    let send = |_| {
        let mut stream = connect(socket).expect("connected");
        stream.write_all(&request).expect("sent");
        stream
    };
    let pending = (0..CLIENTS).map(send).collect();
    std::thread::sleep(SETTLE);
    pending
}

/// Runs a stampede with an issuer that holds its reply until all clients wait.
fn stampede(scenario: &Scenario, issuer: &Issuer, clients: fn(&Scenario, &Home, &Issuer) -> Replies) -> Outcome {
    let home = Home::new();
    home.log_in("work", issuer);
    let old = home.token("work");
    if scenario.expired {
        home.expire("work");
    }
    let count = |name: &str| issuer.stats()[name].as_u64().expect("counted");
    let (refreshes, reuses) = (count("refreshes_committed"), count("refresh_reuses"));
    issuer.fault("token", "hold");
    let Replies { waiting, each, slowest } = clients(scenario, &home, issuer);
    let (refreshes, reuses) = (count("refreshes_committed") - refreshes, count("refresh_reuses") - reuses);

    let mut outcome = Outcome { waiting, refreshes, reuses, errors: 0, first_error: None, slowest };
    let first = each.iter().find_map(|reply| reply.as_ref().ok()).cloned();
    for reply in each {
        let wrong = match reply {
            Ok(reply) if Some(&reply) != first.as_ref() => "a different reply".to_owned(),
            Ok(reply) if reply["access_token"].as_str() == Some(&old) => "the old token".to_owned(),
            Ok(_) => continue,
            Err(why) => why,
        };
        outcome.errors += 1;
        outcome.first_error.get_or_insert(wrong);
    }
    let refreshed = run(&mut home.authctl(&["refresh", "work"]), "");
    if refreshed.code != 0 {
        outcome.errors += 1;
        outcome.first_error.get_or_insert(format!("the session was lost: {}", refreshed.stderr.trim()));
    }
    outcome
}

/// Parses a reply and removes `expires_in`, which changes every second.
fn reply_body(text: &[u8]) -> Result<Value, String> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    value.as_object_mut().ok_or("no object")?.remove("expires_in");
    Ok(value)
}

fn through_agent(scenario: &Scenario, home: &Home, issuer: &Issuer) -> Replies {
    let _agent = home.agent();
    with_many_files(|| {
        let pending = send_all(&home.socket(), scenario.request);
        let started = Instant::now();
        issuer.clear_faults();
        let replies: Vec<_> = pending.into_iter().map(|mut stream| http::read(&mut stream)).collect();
        let slowest = started.elapsed();
        let judge = |reply: std::io::Result<http::Reply>| match reply {
            Ok(reply) if reply.status == 200 => reply_body(&reply.body),
            Ok(reply) => Err(format!("status {}", reply.status)),
            Err(error) => Err(error.to_string()),
        };
        Replies { waiting: replies.len(), each: replies.into_iter().map(judge).collect(), slowest }
    })
}

/// Holds the profile lock until all processes wait for it, so that the time to start them does not count.
fn without_agent(scenario: &Scenario, home: &Home, issuer: &Issuer) -> Replies {
    issuer.clear_faults();
    let lock = File::options().write(true).open(home.path().join("data/authctl/locks/work.lock")).expect("the lock");
    lock.lock().expect("locked");
    with_many_files(|| {
        let start = |_| {
            let mut command = home.authctl(scenario.args);
            Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
        };
        let started = Instant::now();
        let running: Vec<Running> = (0..CLIENTS).map(start).collect();
        let mut waiting = 0;
        while waiting < CLIENTS && started.elapsed() < GATHER {
            if waits_for_lock(running[waiting].0.id()) {
                waiting += 1;
            } else {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let started = Instant::now();
        drop(lock);
        let each = running.into_iter().map(finish).collect();
        Replies { waiting, each, slowest: started.elapsed() }
    })
}

/// Returns whether a process has the profile lock file open, which it has while it waits for the lock.
fn waits_for_lock(id: u32) -> bool {
    let files = std::fs::read_dir(format!("/proc/{id}/fd"));
    files.into_iter().flatten().flatten().any(|fd| fd.path().read_link().is_ok_and(|to| to.ends_with("work.lock")))
}

fn finish(mut running: Running) -> Result<Value, String> {
    let (mut output, mut errors) = (Vec::new(), String::new());
    running.0.stdout.take().expect("piped").read_to_end(&mut output).expect("read");
    running.0.stderr.take().expect("piped").read_to_string(&mut errors).expect("read");
    let status = running.0.wait().expect("ended");
    if status.success() { reply_body(&output) } else { Err(format!("{status}: {}", errors.trim())) }
}
