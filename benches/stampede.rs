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
/// Between the last request and the issuer's answer: enough to read them all.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the processes may take until all of them wait for the profile's lock, for which each waits 75 s at most.
const GATHER: Duration = Duration::from_secs(45);

struct Way {
    name: &'static str,
    /// Whether the stored token is over beforehand.
    over: bool,
    request: (&'static str, &'static str),
    args: &'static [&'static str],
}

const WAYS: [Way; 4] = [
    Way { name: "by profile", over: true, request: ("GET", "/v1/token/work"), args: &["token", "work", "--json"] },
    Way {
        name: "by scope",
        over: false,
        request: ("GET", "/v1/token/work?scope=profile"),
        args: &["token", "work", "--json", "--scope", "profile"],
    },
    Way {
        name: "by audience",
        over: false,
        request: ("GET", "/v1/token/work?audience=https%3A%2F%2Fapi.example"),
        args: &["token", "work", "--json", "--audience", "https://api.example"],
    },
    Way { name: "forced", over: false, request: ("POST", "/v1/refresh/work"), args: &["refresh", "work", "--json"] },
];

/// What the clients of a stampede saw.
struct Answers {
    /// How many were seen to wait when the first was let go.
    waiting: usize,
    each: Vec<Result<Value, String>>,
    /// From when the first was let go until the last answer.
    slowest: Duration,
}

/// What came of one stampede.
struct Outcome {
    waiting: usize,
    refreshes: u64,
    reuses: u64,
    /// Answers that were none, or not the same as the others'.
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
    for way in &WAYS {
        outcomes.push((format!("through the agent, {}", way.name), stampede(way, &issuer, through_agent)));
    }
    for way in &WAYS {
        outcomes.push((format!("without it, {}", way.name), stampede(way, &issuer, without_agent)));
    }
    for (name, outcome) in &outcomes {
        let [waiting, errors] = [outcome.waiting, outcome.errors].map(|count| count.to_string());
        rows.push(vec![name.clone(), waiting, outcome.refreshes.to_string(), errors, ms(outcome.slowest)]);
    }
    let columns = ["clients", "waiting", "refreshes", "errors", "slowest answer"];
    print(&format!("{CLIENTS} clients at once; answers counted from when the first was let go"), &columns, &rows);
    let bar = |(name, outcome): &(String, Outcome)| {
        let met = (outcome.refreshes, outcome.reuses, outcome.errors) == (1, 0, 0);
        let seen = format!("{} and {}", outcome.refreshes, outcome.errors);
        let seen = outcome.first_error.as_ref().map_or_else(|| seen.clone(), |first| format!("{seen}: {first}"));
        Bar::new(format!("{name}: one refresh, no error"), seen, met)
    };
    bars(&outcomes.iter().map(bar).collect::<Vec<_>>());
}

/// As many connections to a bare hyper server that answers all of them at once.
fn floor() -> Vec<String> {
    let home = Home::new();
    let body = vec![b'x'; 1200];
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    let constant = Constant::start(&home, &http::Reply { status: 200, head, body });
    let slowest = with_many_files(|| {
        let pending = ask_all(&constant.socket, ("GET", "/held"));
        let started = Instant::now();
        http::ask(&constant.socket, "GET", "/go", "");
        for mut stream in pending {
            assert_eq!(http::read(&mut stream).expect("answered").status, 200);
        }
        started.elapsed()
    });
    vec!["a bare hyper server".into(), CLIENTS.to_string(), String::new(), "0".into(), ms(slowest)]
}

/// Opens the connections, sends the request on each, and gives the server time to read them.
fn ask_all(socket: &std::path::Path, (method, path): (&str, &str)) -> Vec<std::os::unix::net::UnixStream> {
    let request = http::request(method, path, "authctl", "", "");
    let ask = |_| {
        let mut stream = connect(socket).expect("connected");
        stream.write_all(&request).expect("sent");
        stream
    };
    let pending = (0..CLIENTS).map(ask).collect();
    std::thread::sleep(SETTLE);
    pending
}

/// A home with a session, an issuer that holds its answer until the clients are there, and the clients.
fn stampede(way: &Way, issuer: &Issuer, clients: fn(&Way, &Home, &Issuer) -> Answers) -> Outcome {
    let home = Home::new();
    home.log_in("work", issuer);
    let old = home.token("work");
    if way.over {
        home.expire("work");
    }
    let count = |name: &str| issuer.stats()[name].as_u64().expect("counted");
    let (refreshes, reuses) = (count("refreshes_committed"), count("refresh_reuses"));
    issuer.fault("token", "hold");
    let Answers { waiting, each, slowest } = clients(way, &home, issuer);
    let (refreshes, reuses) = (count("refreshes_committed") - refreshes, count("refresh_reuses") - reuses);

    let mut outcome = Outcome { waiting, refreshes, reuses, errors: 0, first_error: None, slowest };
    let first = each.iter().find_map(|answer| answer.as_ref().ok()).cloned();
    for answer in each {
        let wrong = match answer {
            Ok(answer) if Some(&answer) != first.as_ref() => "not the reply that the others got".to_owned(),
            Ok(answer) if answer["access_token"].as_str() == Some(&old) => "the old token".to_owned(),
            Ok(_) => continue,
            Err(why) => why,
        };
        outcome.errors += 1;
        outcome.first_error.get_or_insert(wrong);
    }
    let goes_on = run(&mut home.authctl(&["refresh", "work"]), "");
    if goes_on.code != 0 {
        outcome.errors += 1;
        outcome.first_error.get_or_insert(format!("the session was lost: {}", goes_on.stderr.trim()));
    }
    outcome
}

/// A reply without the member that changes every second.
fn answer(text: &[u8]) -> Result<Value, String> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    value.as_object_mut().ok_or("no object")?.remove("expires_in");
    Ok(value)
}

fn through_agent(way: &Way, home: &Home, issuer: &Issuer) -> Answers {
    let _agent = home.agent();
    with_many_files(|| {
        let pending = ask_all(&home.socket(), way.request);
        let started = Instant::now();
        issuer.clear_faults();
        let replies: Vec<_> = pending.into_iter().map(|mut stream| http::read(&mut stream)).collect();
        let slowest = started.elapsed();
        let judge = |reply: std::io::Result<http::Reply>| match reply {
            Ok(reply) if reply.status == 200 => answer(&reply.body),
            Ok(reply) => Err(format!("status {}", reply.status)),
            Err(error) => Err(error.to_string()),
        };
        Answers { waiting: replies.len(), each: replies.into_iter().map(judge).collect(), slowest }
    })
}

/// Holds the profile's lock until all processes wait for it, so that the time to start them does not count.
fn without_agent(way: &Way, home: &Home, issuer: &Issuer) -> Answers {
    issuer.clear_faults();
    let lock = File::options().write(true).open(home.path().join("data/authctl/locks/work.lock")).expect("the lock");
    lock.lock().expect("locked");
    with_many_files(|| {
        let start = |_| {
            let mut command = home.authctl(way.args);
            Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
        };
        let started = Instant::now();
        let running: Vec<Running> = (0..CLIENTS).map(start).collect();
        let mut waiting = 0;
        while waiting < CLIENTS && started.elapsed() < GATHER {
            if wants_lock(running[waiting].0.id()) {
                waiting += 1;
            } else {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let started = Instant::now();
        drop(lock);
        let each = running.into_iter().map(ends).collect();
        Answers { waiting, each, slowest: started.elapsed() }
    })
}

/// Whether a process holds the profile's lock file open, which it does from when it waits for the lock.
fn wants_lock(id: u32) -> bool {
    let files = std::fs::read_dir(format!("/proc/{id}/fd"));
    files.into_iter().flatten().flatten().any(|fd| fd.path().read_link().is_ok_and(|to| to.ends_with("work.lock")))
}

fn ends(mut running: Running) -> Result<Value, String> {
    let (mut output, mut errors) = (Vec::new(), String::new());
    running.0.stdout.take().expect("piped").read_to_end(&mut output).expect("read");
    running.0.stderr.take().expect("piped").read_to_string(&mut errors).expect("read");
    let status = running.0.wait().expect("ended");
    if status.success() { answer(&output) } else { Err(format!("{status}: {}", errors.trim())) }
}
