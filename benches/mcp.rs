//! What the MCP bridge adds to a call, beside one without a bridge and one through npm's `mcp-remote`.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::table::{absent, percentile, print};
use support::{Home, Issuer, ends_within};

/// The number of calls of each, after the warm-up.
const ROUNDS: usize = 3000;
const WARM_UP: usize = 100;

/// Answers JSON-RPC requests on one connection after another request; no request is refused.
fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length, mut method, mut has_token) = (String::new(), 0, String::new(), false);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(':') {
                None if line.trim_end().is_empty() => break,
                None => method = line.split(' ').next().unwrap_or_default().to_owned(),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap_or(0);
                }
                Some((name, _)) => has_token |= name.eq_ignore_ascii_case("authorization"),
            }
        }
        assert!(has_token, "a request without a token");
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let result = match message["method"].as_str() {
            Some("initialize") => {
                let version = &message["params"]["protocolVersion"];
                json!({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "bench", "version": "1"}})
            }
            _ => json!({"content": [{"type": "text", "text": "x".repeat(200)}]}),
        };
        let (status, text) = match (method.as_str(), message["id"].is_null()) {
            ("POST", false) => (200, json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string()),
            ("POST", true) => (202, String::new()),
            _ => (405, String::new()),
        };
        let head =
            format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
        reader.get_mut().write_all(&[head.as_bytes(), text.as_bytes()].concat())?;
    }
}

/// Starts the server; returns its URL.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    url
}

fn message(id: usize, method: &str) -> String {
    let parameters = match method {
        "initialize" => {
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}})
        }
        _ => json!({"name": "tool", "arguments": {"text": "x".repeat(100)}}),
    };
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters}).to_string()
}

/// A way to call the server.
trait Way {
    /// Sends a request, and returns when the response has arrived.
    fn call(&mut self, id: usize, method: &str);
}

/// A connection of one's own, without a bridge.
struct Direct {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Way for Direct {
    fn call(&mut self, id: usize, method: &str) {
        let body = message(id, method);
        let request = format!(
            "POST /mcp HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
        let reply = support::http::read(&mut self.stream).expect("a reply");
        assert_eq!(reply.status, 200);
    }
}

/// A bridge on pipes; killed when dropped.
struct Bridge {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Bridge {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("spawned");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, input, output: BufReader::new(output) }
    }
}

impl Way for Bridge {
    fn call(&mut self, id: usize, method: &str) {
        self.input.write_all(format!("{}\n", message(id, method)).as_bytes()).expect("sent");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        let response: Value = serde_json::from_str(&line).expect("JSON");
        assert!(response["id"] == id && response["error"].is_null(), "{line}");
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() {
    ends_within(Duration::from_secs(600));
    let issuer = Issuer::start("1d");
    let home = Home::new();
    home.log_in("work", &issuer);
    let token = home.token("work");
    let _agent = home.agent();
    let url = server();
    let address = url.trim_start_matches("http://").trim_end_matches("/mcp");
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_nodelay(true).expect("set");
    let mut ways: Vec<(String, Box<dyn Way>)> = vec![
        ("no bridge".to_owned(), Box::new(Direct { stream: BufReader::new(stream), token: token.clone() })),
        ("`authctl mcp`".to_owned(), Box::new(Bridge::start(home.authctl(&["mcp", &url, "--profile", "work"])))),
    ];
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mcp/node_modules");
    let remote = modules.join("mcp-remote/dist/proxy.js");
    if remote.is_file() {
        let own = modules.join(".bin/node");
        let program = if own.is_file() { own } else { "node".into() };
        let header = format!("Authorization:Bearer {token}");
        let command = home.command(program, &[&remote.to_string_lossy(), &url, "--allow-http", "--header", &header]);
        ways.push(("`mcp-remote` (0.15.1)".to_owned(), Box::new(Bridge::start(command))));
    }
    for (_, way) in &mut ways {
        way.call(0, "initialize");
    }
    let mut took: Vec<Vec<Duration>> = vec![Vec::with_capacity(ROUNDS); ways.len()];
    for round in 0..WARM_UP + ROUNDS {
        for turn in 0..ways.len() {
            let at = (turn + round) % ways.len();
            let started = Instant::now();
            ways[at].1.call(round + 1, "tools/call");
            if round >= WARM_UP {
                took[at].push(started.elapsed());
            }
        }
    }
    let base = [0.5, 0.99].map(|share| percentile(&mut took[0], share));
    let mut rows: Vec<Vec<String>> = ways
        .iter()
        .zip(&mut took)
        .map(|((name, _), took)| {
            let seen = [0.5, 0.99].map(|share| percentile(took, share));
            let micro = |duration: Duration| format!("{} \u{b5}s", duration.as_micros());
            let added = |at: usize| micro(seen[at].saturating_sub(base[at]));
            vec![name.clone(), micro(seen[0]), micro(seen[1]), added(0), added(1)]
        })
        .collect();
    if ways.len() < 3 {
        rows.push(absent("`mcp-remote`", "not installed: run tests/install", 5));
    }
    print("A call", &["way", "p50", "p99", "added at p50", "added at p99"], &rows);
}
