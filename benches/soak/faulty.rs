//! Load on an agent and on commands while everything that authctl depends on fails at random.

use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::keyring::Keyring;
use crate::parts::{Clock, Disk, log_in, remove_shared_memory, separate_shared_memory};
use crate::support::faults::{Fault, FaultLog, Random, Relay, Request, exchange_store, hold_lock, signal};
use crate::support::table::{Bar, bars, mb, print};
use crate::support::{self, Agent, Home, Issuer, Running, bytes_in, connect, ends_within, http};
use crate::{LIFETIME, PAUSE, check_token, expiry, now};

/// The number of profiles with faults, and the clients of each kind.
const FAULT_PROFILES: usize = 20;
const SOCKET_CLIENTS: usize = 4;
const COMMAND_CLIENTS: usize = 3;

/// How often a command is killed: one in this many.
const KILLED: usize = 8;

/// One profile in this many is in the keychain.
const IN_KEYCHAIN: usize = 4;

fn is_in_keychain(profile: usize) -> bool {
    profile.is_multiple_of(IN_KEYCHAIN)
}

/// What clients and faults share.
struct Soak {
    // Unmounted before its directory is removed.
    disk: Disk,
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
    keyring: Mutex<Keyring>,
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
        // The clock may have been set back in the meantime.
        let failure = match reply.and_then(|token| check_token(&token, requested_at.min(now())).map(|()| token)) {
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
        let request = Request { started: at, by_agent, in_keychain: is_in_keychain(profile), had_valid_token };
        let why = self.log.forbids(&request).and_then(|_| {
            // What made it fail may not be noticed before.
            self.restart_ended_keychain();
            self.log.forbids(&request)
        });
        match why {
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

    fn keyring(&self) -> MutexGuard<'_, Keyring> {
        self.keyring.lock().expect("not poisoned")
    }

    /// Starts the keychain again if it has ended by itself: a failure of the machine.
    fn restart_ended_keychain(&self) {
        let mut keyring = self.keyring();
        if let Some(failure) = keyring.failure() {
            eprintln!("the keychain is started again: {failure}");
            self.log.during(Fault::KeychainEnded, || {
                keyring.kill_daemon();
                keyring.start_daemon(true);
            });
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
                let id = running.0.id();
                drop(running);
                remove_shared_memory(id);
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

/// What authctl depends on.
struct Outside {
    issuer: Issuer,
    relay: Relay,
    clock: Clock,
}

/// Makes one thing fail for a while.
fn fail<'a>(soak: &'a Soak, outside: &mut Outside, agent: &mut Agent<'a>, fault: Fault, random: &mut Random) {
    let Outside { issuer, relay, clock } = outside;
    let data = soak.home.path().join("data/authctl");
    let lock_of = |profile: usize| {
        let locks = if is_in_keychain(profile) { soak.keyring().locks() } else { data.join("locks") };
        locks.join(format!("{}.lock", soak.profiles[profile]))
    };
    let duration = random.millis(300, 4000);
    let for_a_while = || std::thread::sleep(duration);
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
            let held = hold_lock(lock_of(random.below(soak.profiles.len())), Duration::from_secs(10));
            for_a_while();
            drop(held);
        }
        Fault::LocksRemoved => {
            for profile in 0..soak.profiles.len() {
                let _ = std::fs::remove_file(lock_of(profile));
            }
        }
        Fault::KeychainStopped | Fault::KeychainKilled => {
            let hangs = fault == Fault::KeychainStopped;
            soak.keyring().make_unavailable(hangs);
            for_a_while();
            soak.keyring().make_available(hangs);
        }
        Fault::DiskFull => {
            soak.disk.fill();
            for_a_while();
            soak.disk.clear();
        }
        Fault::ClockSet => {
            // From a part of a token's lifetime to an hour.
            let by = i64::try_from(random.millis(2_000, 3_600_000).as_secs()).unwrap_or(0);
            for ahead in [if random.below(2) == 0 { by } else { -by }, 0] {
                clock.set(ahead);
                // What was valid until then may have expired, and what is issued after may be valid for an hour.
                soak.valid_until.iter().for_each(|until| until.store(0, Ordering::Relaxed));
                for_a_while();
            }
        }
        Fault::AgentStopped => {
            signal(agent.id, Signal::STOP);
            for_a_while();
            signal(agent.id, Signal::CONT);
        }
        Fault::AgentKilled => {
            signal(agent.id, Signal::KILL);
            remove_shared_memory(agent.id);
            let next = soak.home.agent();
            std::mem::forget(std::mem::replace(agent, next));
        }
        Fault::KeychainEnded => {}
    }
}

/// Returns the number of open descriptors of a process.
fn descriptors(id: u32) -> usize {
    std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count)
}

/// Runs the load with faults and prints what was seen.
pub fn with_faults(minutes: u64, seed: u64) -> ExitCode {
    println!("seed {seed}");
    let duration = Duration::from_secs(minutes * 60);
    ends_within(duration + Duration::from_secs(600));
    let mut random = Random(seed);
    // Accepts a spent refresh token for longer than a killed command's is held back, and than the clock jumps: at a stricter
    // issuer, a kill between its reply and the new session loses that session, whatever the client does.
    let grace = ["--reuse-grace", "12h"];
    separate_shared_memory();
    let mut home = Home::new();
    let keyring = Keyring::start();
    home.set("DBUS_SESSION_BUS_ADDRESS", keyring.address());
    let (clock, disk) = (Clock::of(&mut home), Disk::mount(&home));
    let issuer = Issuer::start_in(LIFETIME, &grace, &clock.environment());
    let relay = Relay::start(issuer.url.trim_start_matches("http://").parse().expect("an address"));
    let profiles: Vec<String> = (0..FAULT_PROFILES).map(support::sessions::name).collect();
    let endpoint = format!("token_endpoint=http://{}/token", relay.address);
    clock.set(1_000_000);
    for (number, profile) in profiles.iter().enumerate() {
        log_in(&home, profile, &issuer, is_in_keychain(number));
        if number == 0 {
            let expires_at = expiry(&home.token(profile));
            assert!(expires_at.abs_diff(now()) < 60, "the clock of the program cannot be set: {expires_at}");
            clock.set(0);
        }
        home.must(&["profile", "set", profile, &endpoint], "");
    }
    let mut outside = Outside { issuer, relay, clock };
    let soak = Soak {
        disk,
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
        keyring: Mutex::new(keyring),
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
            soak.log.during(fault, || fail(&soak, &mut outside, &mut agent, fault, &mut random));
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
    soak.restart_ended_keychain();
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
    let stats = outside.issuer.stats();
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let (forbidden, lost) = (count(&soak.forbidden), count(&soak.lost));
    let figures = [
        ("seed", seed.to_string()),
        ("minutes", minutes.to_string()),
        ("faults", soak.log.count(|fault| fault != Fault::KeychainEnded).to_string()),
        ("times the keychain ended by itself", soak.log.count(|fault| fault == Fault::KeychainEnded).to_string()),
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
