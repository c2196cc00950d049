//! An agent over a long time of short tokens: clients all along, and none of them may see a failure, nor the memory grow.
//!
//! `cargo bench --bench soak -- --minutes 30`; a minute where nothing is said.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "benches")]

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use support::table::{Bar, bars, mb, print};
use support::{Home, Issuer, bytes_in, connect, ends_within, http, resident};

/// The life of the issuer's tokens.
const LIFE: &str = "5s";

/// The profiles, each at the same issuer.
const PROFILES: [&str; 3] = ["one", "two", "three"];

/// Threads that ask, and each one's pause between two requests.
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// The agent's log holds a thousand deeds, of so many processes each: it is filled before anything is measured.
const FILL: u64 = 1100;

/// The memory is looked at so often. In the first half of the time the agent grows to its usual size: the more calls
/// happen to block at one moment the more threads there are, and the C library gives each an arena of its own. What
/// leaks goes on growing in the second half.
const LOOK: Duration = Duration::from_secs(5);
const WARM_UP: u32 = 2;

/// What may be wrong with an answer, and how many were right.
#[derive(Default)]
struct Seen {
    right: AtomicU64,
    wrong: AtomicU64,
    first_wrong: Mutex<Option<String>>,
    slowest: Mutex<Duration>,
    over: AtomicBool,
}

impl Seen {
    fn note(&self, took: Duration, answer: Result<(), String>) {
        match answer {
            Ok(()) => self.right.fetch_add(1, Ordering::Relaxed),
            Err(why) => {
                self.first_wrong.lock().expect("not poisoned").get_or_insert(why);
                self.wrong.fetch_add(1, Ordering::Relaxed)
            }
        };
        let mut slowest = self.slowest.lock().expect("not poisoned");
        *slowest = took.max(*slowest);
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

/// Now, in seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether a token by its own words ends after the moment at which it was asked for: on a busy machine some time may pass
/// before the answer is looked at.
fn lives(token: &str, asked_at: u64) -> Result<(), String> {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).ok_or("no JWT")?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).map_err(|e| e.to_string())?;
    match claims["exp"].as_u64() {
        Some(end) if end > asked_at => Ok(()),
        end => Err(format!("the token ended at {end:?}, and was asked for at {asked_at}")),
    }
}

/// The same of an answer, which says itself how long the token lives from when it was handed out.
fn hands_out_life(reply: &http::Reply, asked_at: u64) -> Result<(), String> {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).map_err(|e| e.to_string())?;
    match body["expires_in"].as_u64() {
        Some(1..) => lives(body["access_token"].as_str().unwrap_or_default(), asked_at),
        left => Err(format!("a token was handed out that had {left:?} s left")),
    }
}

fn client(index: usize, socket: &Path, seen: &Seen) {
    let mut kept = None;
    for turn in 0usize.. {
        if !seen.goes_on() {
            return;
        }
        let profile = PROFILES[(index + turn) % PROFILES.len()];
        let query = if turn % 10 == 9 { "?scope=profile" } else { "" };
        let request = http::request("GET", &format!("/v1/token/{profile}{query}"), "authctl", "", "");
        let (begun, asked_at) = (Instant::now(), now());
        // Half of the clients keep their connection, the others make one for each request.
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => connect(socket).expect("the agent's socket"),
        };
        let answer = match http::exchange(&mut stream, &request) {
            Ok(reply) if reply.status == 200 => hands_out_life(&reply, asked_at),
            Ok(reply) => Err(format!("{}: {}", reply.status, reply.member("title"))),
            Err(e) => Err(e.to_string()),
        };
        if index.is_multiple_of(2) && answer.is_ok() {
            kept = Some(stream);
        }
        seen.note(begun.elapsed(), answer);
        std::thread::sleep(PAUSE);
    }
}

fn main() {
    let mut args = std::env::args().skip_while(|arg| arg != "--minutes");
    let minutes: u64 = args.nth(1).map_or(1, |text| text.parse().expect("--minutes NUMBER"));
    let whole = Duration::from_secs(minutes * 60);
    ends_within(whole + Duration::from_secs(240));
    let home = Home::new();
    let issuer = Issuer::start(LIFE);
    for profile in PROFILES {
        home.log_in(profile, &issuer);
    }
    let agent = home.agent();
    let seen = Arc::new(Seen::default());
    for _ in 0..FILL {
        let asked_at = now();
        seen.note(Duration::ZERO, lives(&home.token(PROFILES[0]), asked_at));
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| {
            let (socket, seen) = (home.socket(), Arc::clone(&seen));
            std::thread::spawn(move || client(index, &socket, &seen))
        })
        .collect();
    let begun = Instant::now();
    let (mut early, mut late) = (0, 0);
    let mut processes = FILL;
    while begun.elapsed() < whole {
        let (started, asked_at) = (Instant::now(), now());
        let answer = lives(&home.token(PROFILES[0]), asked_at);
        processes += 1;
        seen.note(started.elapsed(), answer);
        let memory = bytes_in(&format!("/proc/{}/status", agent.id), "RssAnon:").expect("readable");
        if begun.elapsed() < whole / WARM_UP {
            early = memory.max(early);
        }
        late = memory;
        std::thread::sleep(LOOK);
    }
    seen.over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no client fails but by its answers");
    }
    let stats = issuer.stats();
    let threads = std::fs::read_dir(format!("/proc/{}/task", agent.id)).map_or(0, Iterator::count);
    let (right, wrong) = (seen.right.load(Ordering::Relaxed), seen.wrong.load(Ordering::Relaxed));
    if let Some(why) = &*seen.first_wrong.lock().expect("not poisoned") {
        println!("the first wrong answer: {why}");
    }
    let figures = [
        ("minutes", minutes.to_string()),
        ("answers", right.to_string()),
        ("of them to processes of authctl", processes.to_string()),
        ("wrong answers", wrong.to_string()),
        ("slowest answer", support::table::ms(*seen.slowest.lock().expect("not poisoned"))),
        ("refreshes", stats["refreshes_committed"].to_string()),
        ("refresh tokens sent twice", stats["refresh_reuses"].to_string()),
        ("memory of its own, at most in the first half", mb(early)),
        ("memory of its own, at the end", mb(late)),
        ("resident at the end, program and all", mb(resident(agent.id).0)),
        ("threads at the end", threads.to_string()),
    ];
    let rows: Vec<Vec<String>> = figures.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]).collect();
    print(&format!("{minutes} min of tokens that live {LIFE}"), &["", ""], &rows);
    #[allow(clippy::cast_precision_loss, reason = "for a table")]
    let growth = late as f64 / early.max(1) as f64;
    bars(&[
        Bar::new("no wrong answer", wrong.to_string(), wrong == 0 && right > 0),
        Bar::new("no refresh token twice", stats["refresh_reuses"].to_string(), stats["refresh_reuses"] == 0),
        Bar::at_most("memory at the end, of the most in the first half, at most 1.1", growth, 1.1),
    ]);
}
