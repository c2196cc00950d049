//! How much a hung issuer, slow clients, many connections and an endless request delay other clients.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

mod support;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::constant::Constant;
use support::load::{Client, LoadRequest, LoadResult, ReplyEnd, Target};
use support::table::{Bar, bars, mb, ms, print};
use support::{Home, Issuer, Running, connect, ends_within, http, resident, with_many_files};

/// How long each load is measured, and the pause between requests.
const WATCH: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);
/// How much longer to wait for the last reply.
const GRACE: Duration = Duration::from_secs(10);
/// The maximum latency of other clients.
const MAX: Duration = Duration::from_millis(100);

/// The argument that makes the bench run as a load; its name, the number of connections and the socket follow.
const LOAD: &str = "--load";
/// The time limit of a load.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

/// The loads: a name, the number of processes, and what they do.
const LOADS: [(&str, usize, &str); 7] = [
    ("silent", 1, "16 clients connect and send nothing"),
    ("half", 1, "16 clients send half a request"),
    ("slow", 1, "16 clients send a byte a second"),
    ("crowd", 1, "one process opens 10,000 connections"),
    ("crowd", 10, "ten processes open 10,000 connections"),
    ("long", 1, "16 requests with a body of 4 GiB"),
    (WAITING, 1, "an issuer hangs, 50 clients wait for its profile"),
];

/// The load that needs a hung issuer.
const WAITING: &str = "waiting";

/// The number of connections that a crowd opens.
const CROWD: usize = 10_000;

/// The maximum number of bytes that a client sends.
const MAX_SENT: usize = 64 << 20;

struct Row {
    name: String,
    seen: Option<LoadResult>,
    /// The number of clients or connections, and the server's peak memory.
    clients: String,
    memory: String,
}

fn main() {
    support::constant::run_as_server_if_requested();
    run_as_load_if_requested();
    ends_within(Duration::from_secs(600));
    let (issuer, hung) = (Issuer::start("1d"), Issuer::start("1d"));
    let home = Home::new();
    home.log_in("work", &issuer);
    let token = home.token("work");
    home.log_in("stuck", &hung);
    let mut agent = home.agent();
    let reply = agent.request("GET", "/v1/token/work");
    assert_eq!(reply.member("access_token"), token, "the agent has the token");
    let constant = Constant::start(&home, &reply);

    let request = LoadRequest { bytes: http::request("GET", "/v1/token/work", "authctl", "", ""), expected: token };
    let target = |socket| Target { socket, ends: ReplyEnd::Length, reused: false, requests: vec![request.clone()] };
    let peak = |id| mb(resident(id).1);
    let row = |name: &str, seen, clients, memory| Row { name: name.to_owned(), seen, clients, memory };
    let floor = watch(&target(constant.socket.clone()));
    let mut rows = vec![row("none, bare hyper server", floor, String::new(), peak(constant.id()))];
    let quiet = watch(&target(home.socket()));
    rows.push(row("none", quiet, String::new(), peak(agent.id)));
    for (load, processes, description) in LOADS {
        // Each load has its own agent.
        drop(agent);
        if load == WAITING {
            home.expire("stuck");
            for endpoint in ["metadata", "token", "jwks"] {
                hung.fault(endpoint, "hold");
            }
        }
        agent = home.agent();
        let share = (CROWD / processes).to_string();
        let mut running: Vec<Running> = (0..processes).map(|_| start_load(&[load, &share], &home.socket())).collect();
        let started: usize = running.iter_mut().map(|one| one.line().parse::<usize>().expect("a number")).sum();
        let seen = watch(&target(home.socket()));
        let memory = peak(agent.id);
        // The agent finishes open requests before it stops.
        hung.clear_faults();
        drop(running);
        rows.push(row(description, seen, started.to_string(), memory));
    }
    show(rows);
}

fn show(rows: Vec<Row>) {
    let columns = ["load", "clients", "p50", "p99", "worst", "errors", "server's peak memory"];
    let mut targets = Vec::new();
    let mut cells = Vec::new();
    for row in rows {
        let Some(mut seen) = row.seen else {
            targets.push(Bar::new(format!("other clients served within 100 ms: {}", row.name), "not served", false));
            let none = String::new;
            cells.push(vec![row.name, row.clients, none(), none(), "no reply".into(), none(), row.memory]);
            continue;
        };
        let (worst, errors) = (seen.worst(), seen.errors);
        targets.push(Bar::new(
            format!("other clients served within 100 ms: {}", row.name),
            format!("{} {}", ms(worst), seen.first_error.clone().unwrap_or_default()).trim().to_owned(),
            worst < MAX && errors == 0,
        ));
        let [p50, p99] = [0.5, 0.99].map(|share| ms(seen.at(share)));
        cells.push(vec![row.name, row.clients, p50, p99, ms(worst), errors.to_string(), row.memory]);
    }
    let title = format!("A token of another profile, one connection every 2 ms, for {} s", WATCH.as_secs());
    print(&title, &columns, &cells);
    bars(&targets[1..]);
}

/// Sends requests at a steady pace. Returns `None` if a reply does not arrive at all.
fn watch(target: &Target) -> Option<LoadResult> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let target = target.clone();
    // If the server never replies, the thread is abandoned.
    std::thread::spawn(move || {
        let (mut seen, mut client, started) = (LoadResult::default(), Client::new(&target), Instant::now());
        while started.elapsed() < WATCH {
            let sent_at = Instant::now();
            match client.request(&target.requests[0]) {
                Ok(()) => seen.latencies.push(u64::try_from(sent_at.elapsed().as_nanos()).unwrap_or(u64::MAX)),
                Err(error) => {
                    seen.errors += 1;
                    seen.first_error.get_or_insert_with(|| error.to_string());
                }
            }
            std::thread::sleep(PAUSE);
        }
        let _ = sender.send(seen);
    });
    receiver.recv_timeout(WATCH + GRACE).ok()
}

fn start_load(load: &[&str; 2], socket: &Path) -> Running {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(LOAD).args(load).arg(socket).stdin(Stdio::null()).stdout(Stdio::piped());
    Running::start(&mut command)
}

/// Runs as the load and never returns, if the arguments select it. Prints a line when it has started.
fn run_as_load_if_requested() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_none_or(|arg| arg != LOAD) {
        return;
    }
    let socket = PathBuf::from(&args[4]);
    match args[2].as_str() {
        WAITING => clients(50, &socket, wait_for_stuck),
        "silent" => clients(16, &socket, |socket| drop(hold(connect(socket)))),
        "half" => clients(16, &socket, |socket| {
            drop(hold(connect(socket).and_then(|mut stream| {
                stream.write_all(b"GET /v1/token/work HTTP/1.1\r\nHost: au")?;
                Ok(stream)
            })));
        }),
        "slow" => clients(16, &socket, send_byte_per_second),
        "crowd" => crowd(&socket, args[3].parse().expect("a number")),
        "long" => clients(16, &socket, declare_4_gib),
        other => panic!("no load {other}"),
    }
    std::thread::sleep(LOAD_LIMIT);
    std::process::exit(0);
}

/// Starts threads that repeat `act`.
fn clients(count: usize, socket: &Path, act: fn(&Path)) {
    for _ in 0..count {
        let socket = socket.to_owned();
        std::thread::spawn(move || {
            let started = Instant::now();
            while started.elapsed() < LOAD_LIMIT {
                act(&socket);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }
    std::thread::sleep(Duration::from_millis(300));
    println!("{count}");
}

/// Waits until the server closes the connection.
fn hold(stream: std::io::Result<std::os::unix::net::UnixStream>) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    let mut stream = stream?;
    while stream.read(&mut piece)? > 0 {}
    Ok(())
}

fn wait_for_stuck(socket: &Path) {
    let request = http::request("GET", "/v1/token/stuck", "authctl", "", "");
    let _ = connect(socket).and_then(|mut stream| http::exchange(&mut stream, &request));
}

fn send_byte_per_second(socket: &Path) {
    let Ok(mut stream) = connect(socket) else { return };
    for byte in http::request("GET", "/v1/token/work", "authctl", "", "") {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn declare_4_gib(socket: &Path) {
    let Ok(mut stream) = connect(socket) else { return };
    let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
    let head = "POST /v1/verify HTTP/1.1\r\nHost: authctl\r\nContent-Type: application/json\r\nContent-Length: 4294967296\r\n\r\n";
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    let piece = [b' '; 1 << 16];
    let mut sent = 0;
    while sent < MAX_SENT && stream.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    let _ = hold(Ok(stream));
}

/// Opens up to `count` connections and holds them open.
fn crowd(socket: &Path, count: usize) {
    const THREADS: usize = 8;
    with_many_files(|| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..THREADS {
            let (socket, sender) = (socket.to_owned(), sender.clone());
            std::thread::spawn(move || {
                let mut streams = Vec::new();
                for _ in 0..count / THREADS {
                    streams.extend(connect(&socket));
                    let _ = sender.send(());
                }
                std::thread::sleep(LOAD_LIMIT);
            });
        }
        // A server at its limit leaves further connections waiting: count those opened within five seconds.
        let started = Instant::now();
        let mut opened = 0;
        while opened < count / THREADS * THREADS && started.elapsed() < Duration::from_secs(5) {
            opened += usize::from(receiver.recv_timeout(Duration::from_millis(100)).is_ok());
        }
        println!("{opened}");
        std::thread::sleep(LOAD_LIMIT);
    });
}
