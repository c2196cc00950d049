//! An agent under constant load with short-lived tokens: no client may see a failure, and memory must not grow.
//!
//! `cargo bench --bench soak -- --minutes 30`; one minute by default. With `--faults`, everything that authctl depends on fails
//! at random, agents and commands are killed, and the failures are counted that the promises forbid; `--seed N` repeats a run's
//! faults. The exit status is 1 if a target is not met.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "benches")]

mod support;

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use rustix::process::Signal;
use support::faults::{Fault, FaultLog, Random, Relay, exchange_store, hold_lock, signal};
use support::table::{Bar, bars, mb, print};
use support::{Agent, Home, Issuer, Running, bytes_in, connect, ends_within, http, resident};

/// The lifetime of the issuer's tokens.
const LIFETIME: &str = "5s";

/// The profiles, each at the same issuer.
const PROFILES: [&str; 3] = ["one", "two", "three"];

/// The number of client threads, and the pause between two requests of one.
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);

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

/// Returns the Unix time.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Checks that the token was valid at the time of the request. On a busy machine it may expire before it is checked.
fn check_token(token: &str, requested_at: u64) -> Result<(), String> {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).ok_or("no JWT")?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).map_err(|e| e.to_string())?;
    match claims["exp"].as_u64() {
        Some(end) if end > requested_at => Ok(()),
        end => Err(format!("the token expired at {end:?}, requested at {requested_at}")),
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

fn constant_load(minutes: u64) -> ExitCode {
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
        ("slowest reply", support::table::ms(*seen.slowest.lock().expect("not poisoned"))),
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

/// The number of profiles with faults, and the clients of each kind.
const FAULT_PROFILES: usize = 20;
const SOCKET_CLIENTS: usize = 4;
const COMMAND_CLIENTS: usize = 3;

/// How often a command is killed: one in this many.
const KILLED: usize = 8;

/// What clients and faults share.
struct Soak {
    home: Home,
    profiles: Vec<String>,
    log: FaultLog,
    /// Until when each profile's session has a valid token, as far as a client has seen it.
    valid_until: Vec<AtomicU64>,
    replies: AtomicU64,
    /// Failures that a fault excuses.
    excused: AtomicU64,
    forbidden: AtomicU64,
    lost: AtomicU64,
    killed: AtomicU64,
    /// The first failures that no promise allows.
    examples: Mutex<Vec<String>>,
    done: AtomicBool,
}

impl Soak {
    /// Records the token of a reply, or the failure of a request that `who` made.
    fn record(
        &self,
        who: &str,
        by_agent: bool,
        profile: usize,
        started: (Instant, u64),
        reply: Result<String, String>,
    ) {
        let (at, requested_at) = started;
        let failure = match reply.and_then(|token| check_token(&token, requested_at).map(|()| token)) {
            Ok(token) => {
                self.valid_until[profile].fetch_max(expiry(&token), Ordering::Relaxed);
                self.replies.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(failure) => failure,
        };
        let name = &self.profiles[profile];
        if failure.contains("login_required") || failure.contains("exit 3") {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return self.example(format!("{who} {name}: session lost: {failure}"));
        }
        // A token can expire at the beginning of its last second.
        let had_valid_token = self.valid_until[profile].load(Ordering::Relaxed) > now() + 1;
        match self.log.forbids(at, by_agent, had_valid_token) {
            Some(why) => {
                self.forbidden.fetch_add(1, Ordering::Relaxed);
                self.example(format!("{who} {name}: failed {why}, after {:.1?}: {failure}", at.elapsed()));
            }
            None => drop(self.excused.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn example(&self, text: String) {
        let mut examples = self.examples.lock().expect("not poisoned");
        if examples.len() < 10 {
            eprintln!("{text}");
            examples.push(text);
        }
    }

    fn is_running(&self) -> bool {
        !self.done.load(Ordering::Relaxed)
    }

    /// Requests tokens over the socket.
    fn socket_client(&self, mut random: Random) {
        let mut reused = None;
        while self.is_running() {
            let profile = random.below(self.profiles.len());
            let request = http::request("GET", &format!("/v1/token/{}", self.profiles[profile]), "authctl", "", "");
            let started = (Instant::now(), now());
            let reply = (|| {
                let mut stream = match reused.take() {
                    Some(stream) => stream,
                    None => connect(&self.home.socket()).map_err(|e| e.to_string())?,
                };
                let reply = http::exchange(&mut stream, &request).map_err(|e| e.to_string())?;
                if random.below(2) == 0 {
                    reused = Some(stream);
                }
                match reply.status {
                    200 => Ok(reply.member("access_token")),
                    status => Err(format!("{status} {}", String::from_utf8_lossy(&reply.body).replace('\n', " "))),
                }
            })();
            self.record("socket", true, profile, started, reply);
            std::thread::sleep(PAUSE);
        }
    }

    /// Runs commands, half of them without the agent, and kills some.
    fn command_client(&self, mut random: Random) {
        while self.is_running() {
            let profile = random.below(self.profiles.len());
            let by_agent = random.below(2) == 0;
            let mut command = self.home.authctl(&["token", &self.profiles[profile]]);
            if !by_agent {
                command.env("AUTHCTL_SOCK", self.home.path().join("no-agent"));
            }
            let started = (Instant::now(), now());
            if random.below(KILLED) == 0 {
                let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let running = Running::start(quiet);
                std::thread::sleep(random.millis(0, 60));
                drop(running);
                self.killed.fetch_add(1, Ordering::Relaxed);
            } else {
                let ran = support::run(&mut command, "");
                let reply = match ran.code {
                    0 => Ok(ran.stdout.trim_end().to_owned()),
                    code => Err(format!("exit {code}: {}", ran.stderr.trim_end().replace('\n', " "))),
                };
                self.record("command", by_agent, profile, started, reply);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Returns when a token expires.
fn expiry(token: &str) -> u64 {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&claims).ok().and_then(|claims| claims["exp"].as_u64()).unwrap_or(0)
}

/// Makes one thing fail for a while.
fn fail<'a>(soak: &'a Soak, issuer: &Issuer, relay: &Relay, agent: &mut Agent<'a>, fault: Fault, random: &mut Random) {
    let duration = random.millis(300, 4000);
    let data = soak.home.path().join("data/authctl");
    let for_a_while = || std::thread::sleep(duration);
    soak.log.begin(fault);
    match fault {
        Fault::Unavailable(kind) | Fault::Held(kind) => {
            issuer.fault("token", kind);
            for_a_while();
            issuer.clear_faults();
        }
        Fault::Reset | Fault::LostReply | Fault::Hang => {
            let kind = match fault {
                Fault::Reset => "reset",
                Fault::LostReply => "lost_reply",
                _ => "hang",
            };
            issuer.fault("token", kind);
            for_a_while();
            issuer.clear_faults();
        }
        Fault::Refused => {
            relay.close(true);
            for_a_while();
            relay.close(false);
        }
        Fault::StoreAway => {
            exchange_store(&data);
            for_a_while();
            exchange_store(&data);
        }
        Fault::LockHeld => {
            let lock = data.join(format!("locks/{}.lock", soak.profiles[random.below(soak.profiles.len())]));
            let held = hold_lock(lock, Duration::from_secs(10));
            for_a_while();
            drop(held);
        }
        Fault::LocksRemoved => {
            for name in &soak.profiles {
                let _ = std::fs::remove_file(data.join(format!("locks/{name}.lock")));
            }
        }
        Fault::AgentStopped => {
            signal(agent.id, Signal::STOP);
            for_a_while();
            signal(agent.id, Signal::CONT);
        }
        Fault::AgentKilled => {
            signal(agent.id, Signal::KILL);
            let next = soak.home.agent();
            std::mem::forget(std::mem::replace(agent, next));
        }
    }
    soak.log.end();
}

/// Returns the number of open descriptors of a process.
fn descriptors(id: u32) -> usize {
    std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count)
}

fn with_faults(minutes: u64, seed: u64) -> ExitCode {
    println!("seed {seed}");
    let duration = Duration::from_secs(minutes * 60);
    ends_within(duration + Duration::from_secs(600));
    let mut random = Random(seed);
    // An issuer that accepts a spent refresh token for longer than a killed command's is held back: at a stricter one, a kill
    // between the issuer's reply and the new session loses that session, whatever the client does.
    let issuer = Issuer::start_with(LIFETIME, &["--reuse-grace", "1m"]);
    let relay = Relay::start(issuer.url.trim_start_matches("http://").parse().expect("an address"));
    let home = Home::new();
    let profiles: Vec<String> = (0..FAULT_PROFILES).map(support::sessions::name).collect();
    let endpoint = format!("token_endpoint=http://{}/token", relay.address);
    for profile in &profiles {
        home.log_in(profile, &issuer);
        home.must(&["profile", "set", profile, &endpoint], "");
    }
    let soak = Soak {
        valid_until: profiles.iter().map(|_| AtomicU64::new(0)).collect(),
        home,
        profiles,
        log: FaultLog::default(),
        replies: AtomicU64::new(0),
        excused: AtomicU64::new(0),
        forbidden: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        killed: AtomicU64::new(0),
        examples: Mutex::default(),
        done: AtomicBool::new(false),
    };
    let (mut early, mut late, mut idle_descriptors) = (0, 0, usize::MAX);
    let mut agent = soak.home.agent();
    let idle = |id: u32| {
        for profile in &soak.profiles {
            soak.home.token(profile);
        }
        std::thread::sleep(Duration::from_secs(2));
        descriptors(id)
    };
    let before = idle(agent.id);
    std::thread::scope(|scope| {
        for client in 0..SOCKET_CLIENTS + COMMAND_CLIENTS {
            let (soak, random) = (&soak, Random(seed.wrapping_add(1 + client as u64)));
            scope.spawn(move || match client < SOCKET_CLIENTS {
                true => soak.socket_client(random),
                false => soak.command_client(random),
            });
        }
        let started = Instant::now();
        while started.elapsed() < duration {
            let fault = Fault::ALL[random.below(Fault::ALL.len())];
            // The memory of one agent is measured, in the second half.
            if fault == Fault::AgentKilled && started.elapsed() > duration / 2 {
                continue;
            }
            fail(&soak, &issuer, &relay, &mut agent, fault, &mut random);
            // Sometimes the next fault comes before the last is forgotten.
            let quiet = if random.below(3) == 0 { Duration::ZERO } else { fault.recovery() };
            std::thread::sleep((quiet + random.millis(500, 2500)).min(duration.saturating_sub(started.elapsed())));
            late = bytes_in(&format!("/proc/{}/status", agent.id), "RssAnon:").unwrap_or(0);
            if started.elapsed() > duration / 2 && started.elapsed() < duration * 3 / 4 {
                early = late.max(early);
            }
        }
        soak.done.store(true, Ordering::Relaxed);
    });
    std::thread::sleep(Fault::Hang.recovery());
    for profile in &soak.profiles {
        let ran = support::run(&mut soak.home.authctl(&["refresh", profile]), "");
        if ran.code != 0 {
            soak.lost.fetch_add(1, Ordering::Relaxed);
            soak.example(format!("{profile}: not refreshed at the end: {}", ran.stderr.trim_end()));
        }
    }
    // Connections of the last clients close at once, those of the last refreshes after a while.
    for _ in 0..10 {
        idle_descriptors = idle_descriptors.min(idle(agent.id));
    }
    let stats = issuer.stats();
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let (forbidden, lost) = (count(&soak.forbidden), count(&soak.lost));
    let figures = [
        ("seed", seed.to_string()),
        ("minutes", minutes.to_string()),
        ("faults", soak.log.count().to_string()),
        ("killed commands", count(&soak.killed).to_string()),
        ("tokens", count(&soak.replies).to_string()),
        ("failures that a fault excuses", count(&soak.excused).to_string()),
        ("failures that the promises forbid", forbidden.to_string()),
        ("lost sessions", lost.to_string()),
        ("refreshes", stats["refreshes_committed"].to_string()),
        ("spent refresh tokens sent", stats["refresh_reuses"].to_string()),
        ("private memory, maximum of the third quarter", mb(early)),
        ("private memory at the end", mb(late)),
        ("descriptors of the idle agent, at the start and at the end", format!("{before}, {idle_descriptors}")),
    ];
    let rows: Vec<Vec<String>> = figures.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]).collect();
    print(&format!("{minutes} min with faults and tokens valid for {LIFETIME}"), &["", ""], &rows);
    #[allow(clippy::cast_precision_loss, reason = "for a table")]
    let growth = late as f64 / early.max(1) as f64;
    bars(&[
        Bar::new(
            "no failure that the promises forbid",
            forbidden.to_string(),
            forbidden == 0 && count(&soak.replies) > 0,
        ),
        Bar::new("no lost session", lost.to_string(), lost == 0),
        Bar::at_most("memory at the end at most 1.1 of the maximum of the third quarter", growth, 1.1),
        Bar::new("no more descriptors than at the start", idle_descriptors.to_string(), idle_descriptors <= before),
    ])
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        Some(args.get(at + 1).and_then(|text| text.parse::<u64>().ok()).unwrap_or_else(|| panic!("{name} NUMBER")))
    };
    let minutes = number("--minutes").unwrap_or(1);
    if !args.iter().any(|arg| arg == "--faults") {
        return constant_load(minutes);
    }
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    with_faults(minutes, number("--seed").unwrap_or_else(|| time.into()))
}
