//! Random faults of everything that authctl depends on, and what the promises allow while they last.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::process::{Pid, Signal};

/// A generator of random numbers (SplitMix64): the same seed, the same numbers.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % end.max(1) as u64).unwrap_or(0)
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.draw() % (to - from))
    }
}

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The issuer returns 503, 500 or a proxy's page.
    Unavailable(&'static str),
    /// It closes the connection without acting on the request.
    Reset,
    /// It acts on the request, and the response is lost.
    LostReply,
    /// It acts on the request, or does not, and responds when the fault ends.
    Held(&'static str),
    /// It does not respond at all.
    Hang,
    /// Its port is closed.
    Refused,
    /// The directory of the sessions is gone.
    StoreAway,
    /// Another process holds a profile's lock.
    LockHeld,
    /// The lock files are removed.
    LocksRemoved,
    /// The keychain does not respond.
    KeychainStopped,
    /// The keychain is gone, and starts again.
    KeychainKilled,
    /// The same, and it was not killed: a failure of the machine, which is not among those that are drawn.
    KeychainEnded,
    /// There is no space for the data.
    DiskFull,
    /// The wall clock is set, and set back.
    ClockSet,
    /// The agent is stopped for a while.
    AgentStopped,
    /// The agent is killed, and started again.
    AgentKilled,
}

impl Fault {
    pub const ALL: [Self; 19] = [
        Self::Unavailable("unavailable"),
        Self::Unavailable("server_error"),
        Self::Unavailable("html_error"),
        Self::Reset,
        Self::LostReply,
        Self::LostReply,
        Self::Held("hold"),
        Self::Held("hold_reply"),
        Self::Hang,
        Self::Refused,
        Self::StoreAway,
        Self::LockHeld,
        Self::LocksRemoved,
        Self::KeychainStopped,
        Self::KeychainKilled,
        Self::DiskFull,
        Self::ClockSet,
        Self::AgentStopped,
        Self::AgentKilled,
    ];

    /// Returns how long after its end requests may still fail because of it.
    pub fn recovery(self) -> Duration {
        Duration::from_secs(match self {
            // Its request is given up after 20 s, and the refresh token is then held back until the access token expires.
            Self::Hang => 30,
            // A store that fails is tried again every 8 s at last.
            Self::StoreAway | Self::DiskFull | Self::KeychainStopped | Self::KeychainKilled | Self::KeychainEnded => 12,
            // The response is lost, or `Retry-After` has to pass.
            _ => 6,
        })
    }

    /// Returns whether a request for a profile in the keychain, or in a file, may notice it.
    fn concerns(self, in_keychain: bool) -> bool {
        match self {
            Self::KeychainStopped | Self::KeychainKilled | Self::KeychainEnded => in_keychain,
            Self::StoreAway | Self::DiskFull => !in_keychain,
            _ => true,
        }
    }

    /// Returns whether a valid token is served in spite of it, by the agent or by a command without one.
    fn spares_valid_token(self, by_agent: bool) -> bool {
        match self {
            Self::AgentStopped | Self::AgentKilled => !by_agent,
            // The valid token may be one that another process has stored.
            Self::StoreAway | Self::KeychainStopped | Self::KeychainKilled | Self::KeychainEnded => false,
            _ => true,
        }
    }
}

/// A request that has failed.
pub struct Request {
    pub started: Instant,
    pub by_agent: bool,
    pub in_keychain: bool,
    pub had_valid_token: bool,
}

/// The faults so far, with their beginning and end.
#[derive(Default)]
pub struct FaultLog(Mutex<Vec<(Fault, Instant, Option<Instant>)>>);

impl FaultLog {
    /// Records that a fault begins, and lasts as long as `work`.
    pub fn during<T>(&self, fault: Fault, work: impl FnOnce() -> T) -> T {
        let number = {
            let mut log = self.0.lock().expect("not poisoned");
            log.push((fault, Instant::now(), None));
            log.len() - 1
        };
        let result = work();
        self.0.lock().expect("not poisoned")[number].2 = Some(Instant::now());
        result
    }

    /// Returns how many faults there were that `counts`.
    pub fn count(&self, counts: impl Fn(Fault) -> bool) -> usize {
        self.0.lock().expect("not poisoned").iter().filter(|(fault, ..)| counts(*fault)).count()
    }

    /// Returns the faults that may have affected a request.
    fn affecting(&self, request: &Request) -> Vec<Fault> {
        let log = self.0.lock().expect("not poisoned");
        let affects = |(fault, _, end): &&(Fault, Instant, Option<Instant>)| {
            fault.concerns(request.in_keychain) && end.is_none_or(|end| end + fault.recovery() > request.started)
        };
        log.iter().rev().take(8).filter(affects).map(|(fault, ..)| *fault).collect()
    }

    /// Returns why a request should not have failed: nothing was out of order, or it was made by
    /// a client that could have had a valid token.
    pub fn forbids(&self, request: &Request) -> Option<String> {
        let faults = self.affecting(request);
        if faults.is_empty() {
            return Some("without a fault".into());
        }
        let spared = request.had_valid_token && faults.iter().all(|fault| fault.spares_valid_token(request.by_agent));
        spared.then(|| format!("with a valid token, during {faults:?}"))
    }
}

/// Passes connections on to the issuer, unless its port is closed.
pub struct Relay {
    pub address: SocketAddr,
    is_closed: Arc<AtomicBool>,
}

impl Relay {
    pub fn start(issuer: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, is_closed) = (listener.local_addr().expect("bound"), Arc::<AtomicBool>::default());
        let closed = Arc::clone(&is_closed);
        std::thread::spawn(move || {
            let mut open = Some(listener);
            loop {
                if closed.load(Ordering::Relaxed) {
                    open = None;
                } else if open.is_none() {
                    open = TcpListener::bind(address).ok();
                }
                let Some(listener) = &open else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                listener.set_nonblocking(true).expect("set");
                match listener.accept() {
                    Ok((client, _)) => drop(std::thread::spawn(move || pass(client, issuer))),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Self { address, is_closed }
    }

    pub fn close(&self, is_closed: bool) {
        self.is_closed.store(is_closed, Ordering::Relaxed);
    }
}

/// Passes one request on, under the issuer's own address, and the response back.
fn pass(mut client: TcpStream, issuer: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(issuer) else { return };
    let _ = client.set_nonblocking(false);
    let (mut request, mut piece) = (Vec::new(), [0; 16384]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut piece) {
            Ok(length @ 1..) => request.extend_from_slice(&piece[..length]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let lines = head.split("\r\n").map(|line| match line.to_ascii_lowercase().starts_with("host:") {
        true => format!("host: {issuer}"),
        false => line.to_owned(),
    });
    if server.write_all(lines.collect::<Vec<_>>().join("\r\n").as_bytes()).is_err() {
        return;
    }
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let up = std::thread::spawn(move || copy(from_client, to_server));
    copy(server, client);
    let _ = up.join();
}

/// Copies up to the end, and closes both directions then.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 16384];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

/// Takes the directory of the sessions away, and brings it back, each in one step.
pub fn exchange_store(data: &std::path::Path) {
    let (sessions, away) = (data.join("sessions"), data.join("sessions.away"));
    if !away.exists() {
        std::fs::write(&away, "").expect("written");
    }
    rustix::fs::renameat_with(CWD, &sessions, CWD, &away, RenameFlags::EXCHANGE).expect("exchanged");
}

/// Holds the lock on a file until the returned file is dropped.
pub fn hold_lock(path: PathBuf, limit: Duration) -> io::Result<std::fs::File> {
    let started = Instant::now();
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(path)?;
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if started.elapsed() > limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

pub fn signal(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
