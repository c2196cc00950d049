//! `authctl proxy` and `authctl exec --proxy` with real clients and APIs, streams, and a command that searches for the token.

mod clients;
mod crowd;
mod sandbox;
mod streams;
mod upstreams;

use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use authctl::dev_issuer::DevIssuer;
use serde_json::{Value, json};

use crate::agent_support::{KillOnDrop, output_of};
use crate::support::process::Lines;
use crate::support::{Sandbox, parts, quick_issuer};

/// Returns the number in an environment variable, which chooses a longer form of a test.
fn chosen(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Returns how long streams stay open and crowds work.
fn duration() -> Duration {
    Duration::from_secs(chosen("AUTHCTL_PROXY_SECONDS", 6))
}

/// Parses JSON.
#[track_caller]
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A running API (`api.js`).
struct Api {
    _process: KillOnDrop,
    orders: ChildStdin,
    url: String,
}

impl Api {
    fn start() -> Self {
        Self::with_options(&json!({}))
    }

    /// Starts an API with the options that `api.js` documents.
    fn with_options(options: &Value) -> Self {
        parts::require(&["node"]);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/api_proxy/api.js");
        let mut command = Command::new("node");
        command.arg(script).arg(options.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = KillOnDrop(command.spawn().expect("node"));
        let port = Lines::of(child.0.stdout.take().expect("piped")).next().expect("a port");
        let orders = child.0.stdin.take().expect("piped");
        let scheme = if options["tls"].is_null() { "http" } else { "https" };
        Self { _process: child, orders, url: format!("{scheme}://127.0.0.1:{port}/v1") }
    }

    /// Sends a command that `api.js` documents.
    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("sent");
    }
}

/// A running proxy.
struct Proxy {
    process: KillOnDrop,
    url: String,
    key: String,
}

impl Proxy {
    /// Starts a proxy with the session `work` for an API.
    #[track_caller]
    fn start(home: &Sandbox, api: &str) -> Self {
        Self::of(home.command(&["proxy", "work", "--for", api]))
    }

    #[track_caller]
    fn of(mut command: Command) -> Self {
        let mut child = KillOnDrop(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started"));
        let mut lines = Lines::of(child.0.stdout.take().expect("piped"));
        let mut line = || lines.next().expect("an address and a key");
        let (url, key) = (line(), line());
        Self { process: child, url, key }
    }

    /// Returns the header with the caller's key.
    fn key_header(&self) -> String {
        format!("X-Authctl-Key: {}", self.key)
    }

    /// Returns a command that requests a path below the API's.
    fn curl_command(&self, args: &[&str], path: &str) -> Command {
        let mut command = Command::new("curl");
        let limit = (duration() + Duration::from_secs(120)).as_secs().to_string();
        command.args(["-sS", "--max-time", &limit, "-H", &self.key_header()]).args(args);
        command.arg(format!("{}{path}", self.url));
        command
    }

    #[track_caller]
    fn curl(&self, args: &[&str], path: &str) -> String {
        output_of(&mut self.curl_command(args, path)).expect("a response")
    }

    /// Returns the peak of the memory of the process in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).expect("readable");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

/// An API behind a proxy with a session.
struct Setup {
    home: Sandbox,
    _idp: DevIssuer,
    _api: Api,
    proxy: Proxy,
}

impl Setup {
    #[track_caller]
    fn new() -> Self {
        let (home, idp) = (Sandbox::new(), quick_issuer());
        home.log_in("work", &idp);
        let api = Api::start();
        let proxy = Proxy::start(&home, &api.url);
        Self { home, _idp: idp, _api: api, proxy }
    }
}
