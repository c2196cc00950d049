//! Constant load on an agent, whose replies and memory are watched.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::table::{Bar, bars, mb, ms, print};
use crate::support::{Home, Issuer, bytes_in, connect, ends_within, http, resident};
use crate::{LIFETIME, PAUSE, check_token, now};

/// The profiles, each at the same issuer.
const PROFILES: [&str; 3] = ["one", "two", "three"];

/// The number of client threads.
const CLIENTS: usize = 8;

/// Requests that fill the audit log, which holds 1,000 entries, before anything is measured.
const FILL: u64 = 1100;

/// The interval at which memory is sampled.
const SAMPLE: Duration = Duration::from_secs(5);
/// The warm-up is the first 1/`WARM_UP` of the run. In it the agent grows to its usual size: concurrent blocking calls
/// start threads, and the C library gives each its own arena. A leak would also grow afterwards.
const WARM_UP: u32 = 2;

/// The number of correct replies, and the first wrong one.
#[derive(Default)]
struct LoadResult {
    right: AtomicU64,
    wrong: AtomicU64,
    first_wrong: Mutex<Option<String>>,
    slowest: Mutex<Duration>,
    done: AtomicBool,
}

impl LoadResult {
    fn record(&self, took: Duration, reply_result: Result<(), String>) {
        match reply_result {
            Ok(()) => self.right.fetch_add(1, Ordering::Relaxed),
            Err(why) => {
                self.first_wrong.lock().expect("not poisoned").get_or_insert(why);
                self.wrong.fetch_add(1, Ordering::Relaxed)
            }
        };
        let mut slowest = self.slowest.lock().expect("not poisoned");
        *slowest = took.max(*slowest);
    }

    fn is_running(&self) -> bool {
        !self.done.load(Ordering::Relaxed)
    }
}

/// Checks the token and `expires_in` of a reply.
fn check_reply(reply: &http::Reply, requested_at: u64) -> Result<(), String> {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).map_err(|e| e.to_string())?;
    match body["expires_in"].as_u64() {
        Some(1..) => check_token(body["access_token"].as_str().unwrap_or_default(), requested_at),
        left => Err(format!("issued a token with expires_in {left:?}")),
    }
}

fn client(index: usize, socket: &Path, seen: &LoadResult) {
    let mut reused = None;
    for turn in 0usize.. {
        if !seen.is_running() {
            return;
        }
        let profile = PROFILES[(index + turn) % PROFILES.len()];
        let query = if turn % 10 == 9 { "?scope=profile" } else { "" };
        let request = http::request("GET", &format!("/v1/token/{profile}{query}"), "authctl", "", "");
        let (started, requested_at) = (Instant::now(), now());
        // Half of the clients reuse their connection, the others open one per request.
        let mut stream = match reused.take() {
            Some(stream) => stream,
            None => connect(socket).expect("the agent's socket"),
        };
        let reply_result = match http::exchange(&mut stream, &request) {
            Ok(reply) if reply.status == 200 => check_reply(&reply, requested_at),
            Ok(reply) => Err(format!("{}: {}", reply.status, reply.member("title"))),
            Err(e) => Err(e.to_string()),
        };
        if index.is_multiple_of(2) && reply_result.is_ok() {
            reused = Some(stream);
        }
        seen.record(started.elapsed(), reply_result);
        std::thread::sleep(PAUSE);
    }
}

/// Runs the load and prints what was seen.
pub fn constant_load(minutes: u64) -> ExitCode {
    let duration = Duration::from_secs(minutes * 60);
    ends_within(duration + Duration::from_secs(240));
    let home = Home::new();
    let issuer = Issuer::start(LIFETIME);
    for profile in PROFILES {
        home.log_in(profile, &issuer);
    }
    let agent = home.agent();
    let seen = Arc::new(LoadResult::default());
    for _ in 0..FILL {
        let requested_at = now();
        seen.record(Duration::ZERO, check_token(&home.token(PROFILES[0]), requested_at));
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| {
            let (socket, seen) = (home.socket(), Arc::clone(&seen));
            std::thread::spawn(move || client(index, &socket, &seen))
        })
        .collect();
    let started = Instant::now();
    let (mut early, mut late) = (0, 0);
    let mut processes = FILL;
    while started.elapsed() < duration {
        let (started, requested_at) = (Instant::now(), now());
        let reply_result = check_token(&home.token(PROFILES[0]), requested_at);
        processes += 1;
        seen.record(started.elapsed(), reply_result);
        let memory = bytes_in(&format!("/proc/{}/status", agent.id), "RssAnon:").expect("readable");
        if started.elapsed() < duration / WARM_UP {
            early = memory.max(early);
        }
        late = memory;
        std::thread::sleep(SAMPLE);
    }
    seen.done.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("client thread");
    }
    let stats = issuer.stats();
    let threads = std::fs::read_dir(format!("/proc/{}/task", agent.id)).map_or(0, Iterator::count);
    let (right, wrong) = (seen.right.load(Ordering::Relaxed), seen.wrong.load(Ordering::Relaxed));
    if let Some(why) = &*seen.first_wrong.lock().expect("not poisoned") {
        println!("first wrong reply: {why}");
    }
    let figures = [
        ("minutes", minutes.to_string()),
        ("replies", right.to_string()),
        ("of these to authctl processes", processes.to_string()),
        ("wrong replies", wrong.to_string()),
        ("slowest reply", ms(*seen.slowest.lock().expect("not poisoned"))),
        ("refreshes", stats["refreshes_committed"].to_string()),
        ("refresh tokens sent twice", stats["refresh_reuses"].to_string()),
        ("private memory, maximum of the first half", mb(early)),
        ("private memory at the end", mb(late)),
        ("resident at the end, program text included", mb(resident(agent.id).0)),
        ("threads at the end", threads.to_string()),
    ];
    let rows: Vec<Vec<String>> = figures.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]).collect();
    print(&format!("{minutes} min with tokens valid for {LIFETIME}"), &["", ""], &rows);
    #[allow(clippy::cast_precision_loss, reason = "for a table")]
    let growth = late as f64 / early.max(1) as f64;
    bars(&[
        Bar::new("no wrong reply", wrong.to_string(), wrong == 0 && right > 0),
        Bar::new("no refresh token twice", stats["refresh_reuses"].to_string(), stats["refresh_reuses"] == 0),
        Bar::at_most("memory at the end at most 1.1 of the maximum of the first half", growth, 1.1),
    ])
}
