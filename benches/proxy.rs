//! What the proxy adds to a request, beside a bare hyper reverse proxy and nginx, and its memory with idle connections.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

mod support;

use std::convert::Infallible;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::load::{self, LoadRequest, LoadResult, ReplyEnd, Target};
use support::table::{Bar, absent, bars, mb, middle, ms, print};
use support::{Home, Issuer, Running, connect, ends_within, http, resident, with_many_files};

/// The arguments that make the bench run as the API or as the bare proxy. Its socket and the API's port follow.
const SERVE_API: &str = "--serve-api";
const SERVE_BARE: &str = "--serve-bare";

const BODIES: [(&str, usize); 2] = [("1 KB", 1_000), ("10 MB", 10_000_000)];
const CONNECTIONS: [usize; 2] = [1, 64];
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(300);
const IDLE: usize = 1_000;

/// What each body begins with.
const BEGINNING: &str = "the beginning of the body";

const DIRECT: &str = "no proxy";
const BARE: &str = "bare hyper proxy";
const OWN: &str = "`authctl proxy`";
const NGINX: &str = "nginx, one worker";

/// Runs on one thread, as `authctl proxy` does.
fn block_on(serving: impl Future<Output = ()>) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(serving);
    unreachable!("it serves until it is killed")
}

fn run_as_server_if_requested() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some(SERVE_API) => block_on(serve_api(Path::new(&args[2]))),
        Some(SERVE_BARE) => block_on(serve_bare(Path::new(&args[2]), args[3].parse().expect("a port"))),
        _ => {}
    }
}

/// Serves an API that wants a token, on a socket and on a port, which it prints.
async fn serve_api(socket: &Path) {
    let bodies = BODIES.map(|(_, size)| {
        let mut body = BEGINNING.as_bytes().to_vec();
        body.resize(size, b'x');
        Bytes::from(body)
    });
    let answer = move |request: Request<Incoming>| {
        let body = bodies.iter().find(|body| request.uri().path() == path_of(body.len())).cloned();
        let has_token = request.headers().contains_key(AUTHORIZATION);
        let mut response = Response::new(Full::new(body.unwrap_or_default()));
        if !has_token {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        async move { Ok::<_, Infallible>(response) }
    };
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let unix = tokio::net::UnixListener::bind(socket).expect("a socket");
    println!("{}", port.local_addr().expect("bound").port());
    loop {
        let service = service_fn(answer.clone());
        tokio::select! {
            Ok((stream, _)) = port.accept() => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
            Ok((stream, _)) = unix.accept() => {
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        }
    }
}

/// Passes requests from a socket on to a port with a constant token: the least that such a proxy does.
async fn serve_bare(socket: &Path, port: u16) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build::<_, Incoming>(connector);
    let answer = move |mut request: Request<Incoming>| {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = format!("http://127.0.0.1:{port}{path}").parse::<Uri>().expect("a URL");
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Bearer constant"));
        client.request(request)
    };
    let unix = tokio::net::UnixListener::bind(socket).expect("a socket");
    println!("ready");
    loop {
        let Ok((stream, _)) = unix.accept().await else { continue };
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer.clone())));
    }
}

fn path_of(size: usize) -> String {
    format!("/v1/{size}")
}

/// Starts this program as a server; returns it with the line that it prints.
fn start(args: &[&str]) -> (Running, String) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let mut running = Running::start(command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()));
    let line = running.line();
    (running, line)
}

/// Starts nginx as a proxy, unless it is not installed.
fn nginx(home: &Home, socket: &Path, port: &str) -> Option<Running> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-parts/wrappers/nginx");
    let program = ["/usr/sbin/nginx".into(), unpacked].into_iter().find(|program: &PathBuf| program.is_file())?;
    let dir = home.path().join("nginx");
    fs::create_dir(&dir).expect("made");
    let configuration = format!(
        "daemon off; master_process off; error_log stderr crit; pid nginx.pid;
         events {{ worker_connections 4096; }}
         http {{
             access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d;
             scgi_temp_path e; keepalive_requests 100000000;
             upstream api {{ server 127.0.0.1:{port}; keepalive 128; keepalive_requests 100000000; }}
             server {{
                 listen unix:{socket};
                 location / {{
                     proxy_pass http://api; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
                     proxy_set_header Connection \"\"; proxy_set_header Authorization \"Bearer constant\";
                 }}
             }}
         }}",
        socket = socket.display()
    );
    fs::write(dir.join("nginx.conf"), configuration).expect("written");
    let mut command = home.command(program, &["-p", dir.to_str().expect("text"), "-c", "nginx.conf", "-e", "stderr"]);
    let running = Running::start(command.stdin(Stdio::null()));
    let started = Instant::now();
    while connect(socket).is_err() && started.elapsed() < support::LIMIT {
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(running)
}

/// One row of the table.
struct Row {
    body: &'static str,
    connections: usize,
    way: &'static str,
    target: Target,
    rounds: Vec<LoadResult>,
}

impl Row {
    fn rate(&self) -> f64 {
        middle(self.rounds.iter().map(LoadResult::rate).collect())
    }

    /// Returns the median over the rounds of a percentile.
    fn at(&mut self, share: f64) -> Duration {
        Duration::from_secs_f64(middle(self.rounds.iter_mut().map(|seen| seen.at(share).as_secs_f64()).collect()))
    }
}

/// Returns the growth of a process while this many connections, on each of which a request was answered, are idle.
fn growth_with_idle_connections(id: u32, target: &Target) -> u64 {
    load::run(target, 1, WARM_UP);
    let before = resident(id).0;
    let connections: Vec<_> = (0..IDLE)
        .map(|_| {
            let mut stream = connect(&target.socket).expect("connected");
            stream.write_all(&target.requests[0].bytes).expect("sent");
            assert_eq!(http::read(&mut stream).expect("a reply").status, 200);
            stream
        })
        .collect();
    let after = resident(id).0;
    drop(connections);
    after.saturating_sub(before)
}

fn main() {
    run_as_server_if_requested();
    ends_within(Duration::from_secs(300));
    let (issuer, home) = (Issuer::start("1d"), Home::new());
    home.log_in("work", &issuer);
    let _agent = home.agent();
    let socket = |name: &str| home.path().join(format!("{name}.sock"));
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (_api, port) = start(&[SERVE_API, &text(&socket("api"))]);
    let (bare, _) = start(&[SERVE_BARE, &text(&socket("bare")), &port]);
    let listen = format!("unix:{}", text(&socket("own")));
    let mut command = home.authctl(&[
        "proxy",
        "work",
        "--quiet",
        "--for",
        &format!("http://127.0.0.1:{port}/v1"),
        "--listen",
        &listen,
    ]);
    let mut own = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
    let (address, key) = (own.line(), own.line());
    assert_eq!(address, listen);
    let nginx = nginx(&home, &socket("nginx"), &port);
    let mut ways = vec![(DIRECT, "api"), (BARE, "bare"), (OWN, "own")];
    if nginx.is_some() {
        ways.push((NGINX, "nginx"));
    }

    let target = |name: &str, size: usize| {
        // Without a proxy, the client itself has the token.
        let headers =
            format!("X-Authctl-Key: {key}\r\n{}", if name == "api" { "Authorization: Bearer x\r\n" } else { "" });
        let request = http::request("GET", &path_of(size), "localhost", &headers, "");
        let requests = vec![LoadRequest { bytes: request, expected: BEGINNING.to_owned() }];
        Target { socket: socket(name), ends: ReplyEnd::Length, reused: true, requests }
    };
    let mut rows = Vec::new();
    for (body, size) in BODIES {
        for connections in CONNECTIONS {
            for (way, name) in &ways {
                rows.push(Row { body, connections, way, target: target(name, size), rounds: Vec::new() });
            }
        }
    }
    // First, since a process does not give back what a load has needed.
    let processes = [(BARE, bare.0.id(), "bare"), (OWN, own.0.id(), "own")];
    let grown =
        with_many_files(|| processes.map(|(_, id, name)| growth_with_idle_connections(id, &target(name, BODIES[0].1))));
    for row in &rows {
        load::run(&row.target, row.connections, WARM_UP);
    }
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.rounds.push(load::run(&row.target, row.connections, ROUND));
        }
    }
    report(&mut rows, nginx.is_some());
    let memory: Vec<_> = (processes.iter().zip(grown))
        .map(|((way, id, _), grown)| vec![(*way).to_owned(), mb(grown), mb(resident(*id).1)])
        .collect();
    print("Memory", &["proxy", &format!("growth with {IDLE} idle connections"), "peak"], &memory);
}

fn report(rows: &mut [Row], has_nginx: bool) {
    let columns = ["body", "connections", "proxy", "req/s", "p50", "p99", "added at p50", "added at p99", "errors"];
    let (mut shown, mut targets) = (Vec::new(), Vec::new());
    let (mut base, mut bare) = ([Duration::ZERO; 2], 0.0);
    for row in rows {
        let seen = [0.5, 0.99].map(|share| row.at(share));
        match row.way {
            DIRECT => base = seen,
            BARE => bare = row.rate(),
            _ => {}
        }
        let errors: u64 = row.rounds.iter().map(|seen| seen.errors).sum();
        let mut cells = vec![row.body.to_owned(), row.connections.to_string(), row.way.to_owned()];
        cells.extend([format!("{:.0}", row.rate()), ms(seen[0]), ms(seen[1])]);
        cells.extend([0, 1].map(|at| ms(seen[at].saturating_sub(base[at]))));
        cells.push(errors.to_string());
        shown.push(cells);
        let what = |text: &str| format!("{}, {} connections: {text}", row.body, row.connections);
        if row.way == OWN {
            targets.push(Bar::at_least(what("at least 0.8 of the bare proxy"), row.rate() / bare, 0.8));
        }
        let first = row.rounds.iter().find_map(|seen| seen.first_error.clone()).unwrap_or_default();
        if errors > 0 {
            targets.push(Bar::new(what("no error"), format!("{}: {errors} {first}", row.way), false));
        }
    }
    if !has_nginx {
        shown.push(absent(NGINX, "not installed: run tests/install", columns.len()));
    }
    let title = format!("Medians of {ROUNDS} alternating rounds of {} s; the proxies have one thread", ROUND.as_secs());
    print(&title, &columns, &shown);
    bars(&targets);
}
