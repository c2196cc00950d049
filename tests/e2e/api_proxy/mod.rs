//! `authctl proxy` and `authctl exec --proxy` with real clients, streams, and a command that searches for the token.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::Value;

use crate::agent_support::{KillOnDrop, output_of};
use crate::support::agent::Agent;
use crate::support::{Sandbox, issuer, parts, quick_issuer};

/// A running API (`api_proxy/api.js`).
struct Api {
    _process: KillOnDrop,
    _orders: ChildStdin,
    url: String,
}

impl Api {
    fn start() -> Self {
        parts::require(&["node"]);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/api_proxy/api.js");
        let mut command = Command::new("node");
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a port");
        let orders = child.stdin.take().expect("piped");
        Self { _process: KillOnDrop(child), _orders: orders, url: format!("http://127.0.0.1:{}/v1", line.trim()) }
    }
}

/// A running proxy.
struct Proxy {
    process: KillOnDrop,
    url: String,
    key: String,
}

impl Proxy {
    fn start(home: &Sandbox, api: &Api) -> Self {
        let mut command = home.command(&["proxy", "work", "--for", &api.url]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut line = || lines.next().expect("a line").expect("text");
        let (url, key) = (line(), line());
        Self { process: KillOnDrop(child), url, key }
    }

    fn curl(&self, args: &[&str], path: &str) -> String {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "60", "-H", &format!("X-Authctl-Key: {}", self.key)]).args(args);
        output_of(command.arg(format!("{}{path}", self.url))).expect("a response")
    }

    /// Returns the memory of the process in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).expect("readable");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

#[test]
fn messages_pass_in_both_directions_as_they_are() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let api = Api::start();
    let proxy = Proxy::start(&home, &api);
    let json = |text: &str| serde_json::from_str::<Value>(text).expect(text);
    let posted = json(&proxy.curl(&["-d", "a=b", "-H", "Cookie: c=d", "-H", "X-Own: e"], "/form?x=y"));
    assert_eq!(
        (&posted["method"], &posted["path"], &posted["length"]),
        (&"POST".into(), &"/v1/form?x=y".into(), &3.into())
    );
    let headers = &posted["headers"];
    assert_eq!(
        (&headers["x-own"], &headers["cookie"], &headers["x-authctl-key"]),
        (&"e".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(headers["forwarded"], Value::Null);
    assert!(!proxy.curl(&["-i"], "/cookie").to_ascii_lowercase().contains("set-cookie"));
    assert_eq!(proxy.curl(&["-N"], "/events?count=3"), "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    assert_eq!(proxy.curl(&["-r", "0-3"], "/range"), "bytes=0-3");
    let head = proxy.curl(&["-I"], "/download?bytes=12345");
    assert!(head.to_ascii_lowercase().contains("content-length: 12345"), "{head}");
    let trailers = proxy.curl(&["-i", "--raw", "-H", "TE: trailers"], "/trailers");
    assert!(trailers.to_ascii_lowercase().contains("x-digest: abc"), "{trailers}");
    let continued = json(&proxy.curl(&["-H", "Expect: 100-continue", "-d", "body"], "/continue"));
    assert_eq!(continued["length"], 4);
}

#[test]
fn large_bodies_pass_in_little_memory() {
    const SIZE: u64 = 256 << 20;
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let api = Api::start();
    let proxy = Proxy::start(&home, &api);
    proxy.curl(&[], "/item");
    let before = proxy.memory();
    let size = proxy.curl(&["-o", "/dev/null", "-w", "%{size_download}"], &format!("/download?bytes={SIZE}"));
    assert_eq!(size, SIZE.to_string());
    let file = home.path().join("upload");
    std::fs::File::create(&file).expect("made").set_len(SIZE).expect("sized");
    let uploaded = proxy.curl(&["-T", file.to_str().expect("text")], "/upload");
    assert_eq!(serde_json::from_str::<Value>(&uploaded).expect("JSON")["length"], SIZE);
    let grown = proxy.memory() - before;
    assert!(grown < SIZE / 16, "the proxy grew by {grown} bytes");
}

#[test]
fn websocket_passes_through() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let api = Api::start();
    let proxy = Proxy::start(&home, &api);
    let host = proxy.url.trim_start_matches("http://").split('/').next().expect("a host").to_owned();
    let mut stream = TcpStream::connect(&host).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let request = format!(
        "GET /v1/socket HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        proxy.key
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream.try_clone().expect("another"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a line"), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    for text in ["first", "second"] {
        let mask = [1u8, 2, 3, 4];
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).expect("short")];
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        stream.write_all(&frame).expect("sent");
        let mut echo = vec![0; 2 + text.len()];
        reader.read_exact(&mut echo).expect("an echo");
        assert_eq!(&echo[2..], text.as_bytes());
    }
}

/// Clients that nobody here wrote, each with the proxy's address in place of the API's.
#[test]
fn clients_of_other_languages_are_served() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let api = Api::start();
    let proxy = Proxy::start(&home, &api);
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python-tools/bin/python");
    let requests = "import os, requests; r = requests.post(os.environ['URL'] + '/item', data=b'abc', headers={'Authorization': \
                    'Bearer ' + os.environ['KEY']}); print(r.text)";
    let fetch = "fetch(process.env.URL + '/item', {method: 'POST', body: 'abc', headers: {authorization: 'Bearer ' + \
                 process.env.KEY}}).then(r => r.text()).then(console.log)";
    let clients: [(&Path, &[&str]); 2] = [(&python, &["-c", requests]), (Path::new("node"), &["-e", fetch])];
    for (program, args) in clients {
        let mut command = Command::new(program);
        command.args(args).env("URL", &proxy.url).env("KEY", &proxy.key);
        let output = output_of(&mut command).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let seen: Value = serde_json::from_str(&output).expect("JSON");
        assert_eq!((&seen["path"], &seen["length"]), (&"/v1/item".into(), &3.into()), "{}", program.display());
    }
}

/// Several lifetimes of a token long, a command in the sandbox uses the API, and finds no secret wherever it looks.
#[test]
fn sandboxed_command_finds_no_token() {
    parts::require(&["bwrap", "python3"]);
    let home = Sandbox::new();
    let idp = issuer(|options| options.access_token_ttl = Duration::from_secs(5));
    home.log_in("work", &idp);
    let agent = Agent::start(&home);
    let api = Api::start();
    let writable = home.path().join("project");
    std::fs::create_dir(&writable).expect("made");
    let writable = writable.to_str().expect("text");
    let secret_digests: Vec<String> = home
        .secrets()
        .iter()
        .map(|secret| {
            digest::digest(&digest::SHA256, secret.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect()
        })
        .collect();
    assert!(secret_digests.len() > 1, "the access and the refresh token");
    // The command sees its working directory, also where that is below /tmp.
    let script = home.path().join("canary.py");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/api_proxy/canary.py"), &script)
        .expect("copied");
    let issuer_address = idp.issuer().trim_start_matches("http://").split('/').next().expect("a host").to_owned();
    let socket = home.socket();
    let ran = home.run(&[
        "exec",
        "--proxy",
        "work",
        "--for",
        &api.url,
        "--sandbox",
        "--bind",
        writable,
        "--",
        "python3",
        script.to_str().expect("text"),
        writable,
        &secret_digests.join(","),
        "12",
        socket.to_str().expect("text"),
        &issuer_address,
    ]);
    let report: Value = serde_json::from_str(&ran.exits(0).stdout).expect("JSON");
    assert_eq!((&report["found"], &report["failures"]), (&serde_json::json!([]), &serde_json::json!([])), "{report}");
    assert!(report["requests"].as_u64().is_some_and(|count| count > 10), "{report}");
    assert_eq!(report["connected"], serde_json::json!([]), "neither the agent nor the issuer");
    assert_eq!(report["writes"], serde_json::json!([format!("{writable}/written")]));
    drop(agent);
}
