//! An agent in a sandbox, killed at the end of its test, and a minimal client for its socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use super::process::{LIMIT, RunningCommand, wait_until};
use super::{CommandOutput, Sandbox};

/// A running agent; killed when dropped.
pub struct Agent<'a> {
    /// The process if it is a child of this test.
    command: Option<RunningCommand<'a>>,
    process: Process,
    socket: PathBuf,
    pub pid: u32,
}

/// A process by pidfd, so that a reused PID is never signalled.
struct Process(OwnedFd);

impl Process {
    #[track_caller]
    fn of(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
        Self(pidfd_open(pid, PidfdFlags::empty()).expect("running"))
    }

    fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.0, signal);
    }

    fn is_running(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        // A pidfd becomes readable when its process exits, reaped or not.
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.process.signal(Signal::KILL);
    }
}

/// A response of the agent.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Fails the test unless the status is `status`; returns the body as JSON.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// Fails the test unless the response is a problem (RFC 9457) with this status and code.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        let problem = self.expect_status(status);
        assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        problem
    }

    /// Returns the access token of a successful response.
    #[track_caller]
    pub fn token(&self) -> String {
        self.expect_status(200)["access_token"].as_str().expect("a token").to_owned()
    }
}

/// A connection to the socket.
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connects; returns `None` if no agent is listening.
    pub fn to(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        Some(Self(BufReader::new(stream)))
    }

    /// Sends text. False if the connection was closed before all of it was sent.
    pub fn send(&mut self, text: &str) -> bool {
        self.0.get_mut().write_all(text.as_bytes()).is_ok()
    }

    /// Sends a request.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &[&str], body: &str) {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text = format!("{method} {target} HTTP/1.1\r\nHost: authctl\r\n{length}{headers}\r\n{body}");
        assert!(self.send(&text), "cannot send {method} {target}");
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(1..) => Some(line.trim_end().to_owned()),
            Ok(0) => None,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock) => panic!("no response within {LIMIT:?}"),
            Err(_) => None,
        }
    }

    fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Some((status, headers))
    }

    /// Reads the next response. `None` if the connection was closed instead.
    #[track_caller]
    pub fn response(&mut self) -> Option<Response> {
        let (status, headers) = self.head()?;
        let mut response = Response { status, headers, body: String::new() };
        let length = response.header("content-length").expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        response.body = String::from_utf8(body).expect("text");
        Some(response)
    }

    /// Waits until the agent closes the connection. False if it sends more.
    pub fn is_closed(&mut self) -> bool {
        self.line().is_none()
    }
}

/// A stream of events.
pub struct Events(Connection);

impl Events {
    /// Waits for the next event and returns its name and data. Comments are skipped.
    #[track_caller]
    pub fn next(&mut self) -> (String, Value) {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < LIMIT, "no event arrived, only comments");
            // The agent sends each event or comment as one chunk (RFC 9112, section 7.1).
            let length = self.0.line().expect("a chunk");
            let mut chunk = vec![0; usize::from_str_radix(&length, 16).expect("a length") + 2];
            self.0.0.read_exact(&mut chunk).expect("a complete chunk");
            let text = String::from_utf8(chunk).expect("text");
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                return (name, serde_json::from_str(&data).expect("JSON"));
            }
        }
    }

    /// Waits for an event and returns its data and the names of the events before it.
    #[track_caller]
    pub fn until(&mut self, expected: &str) -> (Value, Vec<String>) {
        let mut before = Vec::new();
        loop {
            match self.next() {
                (name, data) if name == expected => return (data, before),
                (name, _) => before.push(name),
            }
        }
    }
}

impl Sandbox {
    /// Returns the path of the agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.path().join("run/authctl/agent.sock")
    }

    /// Returns a command that runs another program in this home.
    pub fn command_for(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        let plain = self.command(&[]);
        command.args(args).env_clear().current_dir(self.path());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// Runs a command of this home with empty stdin.
    #[track_caller]
    pub fn run_command(&self, command: &mut Command) -> CommandOutput {
        let args: Vec<String> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        self.finish(child.expect("spawned"), &args)
    }

    /// Runs the program without access to the agent.
    #[track_caller]
    pub fn run_without_agent(&self, args: &[&str]) -> CommandOutput {
        self.run_command(self.command(args).env("AUTHCTL_SOCK", self.path().join("no-agent.sock")))
    }

    /// Advances the time of a session and drops it from the agent's cache.
    #[track_caller]
    pub fn advance_agent_time(&self, agent: &Agent<'_>, profile: &str, seconds: i64) {
        self.advance_time(profile, seconds);
        agent.post(&format!("/v1/forget/{profile}"), "").expect_status(200);
    }
}

impl<'a> Agent<'a> {
    /// Starts an agent in the foreground with the most verbose log.
    #[track_caller]
    pub fn run(home: &'a Sandbox) -> Self {
        Self::of(home.spawn(&["agent", "run", "-vvv"]), home)
    }

    /// Starts an agent in the foreground under `program`, such as `strace`, with these arguments.
    #[track_caller]
    pub fn run_under(home: &'a Sandbox, program: &str, args: &[&str]) -> Self {
        let args = [args, &[super::AUTHCTL, "agent", "run"]].concat();
        Self::of(home.spawn_command(home.command_for(program, &args), &args), home)
    }

    #[track_caller]
    fn of(command: RunningCommand<'a>, home: &Sandbox) -> Self {
        command.reports("the agent listens at");
        let pid = command.id();
        Self { process: Process::of(pid), command: Some(command), socket: home.socket(), pid }
    }

    /// Starts an agent in the background.
    #[track_caller]
    pub fn start(home: &'a Sandbox) -> Self {
        home.run(&["agent", "start"]).exits(0);
        Self::running(home)
    }

    /// Returns the agent that is already running.
    #[track_caller]
    pub fn running(home: &'a Sandbox) -> Self {
        let mut connection = Connection::to(&home.socket()).expect("an agent listens");
        connection.request("GET", "/v1/agent", &[], "");
        let state = connection.response().expect("a response").expect_status(200);
        let pid = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
        Self { process: Process::of(pid), command: None, socket: home.socket(), pid }
    }

    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::to(&self.socket).expect("the agent listens")
    }

    /// Returns whether the agent accepts connections.
    pub fn is_listening(&self) -> bool {
        Connection::to(&self.socket).is_some()
    }

    #[track_caller]
    pub fn request(&self, method: &str, target: &str, headers: &[&str], body: &str) -> Response {
        let mut connection = self.connect();
        connection.request(method, target, headers, body);
        connection.response().expect("a response")
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.request("GET", target, &[], "")
    }

    #[track_caller]
    pub fn post(&self, target: &str, body: &str) -> Response {
        self.request("POST", target, &[], body)
    }

    /// Sends a request without waiting for the response.
    #[track_caller]
    pub fn start_request(&self, method: &str, target: &str) -> Connection {
        let mut connection = self.connect();
        connection.request(method, target, &[], "");
        connection
    }

    /// Subscribes to events.
    #[track_caller]
    pub fn events(&self) -> Events {
        let mut connection = self.start_request("GET", "/v1/events");
        let (status, _) = connection.head().expect("a head");
        assert_eq!(status, 200);
        Events(connection)
    }

    /// Returns the number of open connections, not counting this one.
    #[track_caller]
    pub fn connections(&self) -> u64 {
        self.get("/v1/agent").expect_status(200)["connections"].as_u64().expect("a number") - 1
    }

    /// Returns the number of open connections, or `None` if the agent accepts no more.
    pub fn try_connections(&self) -> Option<u64> {
        let mut connection = Connection::to(&self.socket)?;
        let sent = connection.send("GET /v1/agent HTTP/1.1\r\nHost: authctl\r\n\r\n");
        let response = connection.response().filter(|response| sent && response.status == 200)?;
        response.json()["connections"].as_u64().map(|open| open - 1)
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until the agent exits. Returns its output if it is a child of this test.
    #[track_caller]
    pub fn wait(mut self) -> Option<CommandOutput> {
        match self.command.take() {
            Some(command) => Some(command.wait()),
            None => {
                wait_until("the agent to exit", || (!self.process.is_running()).then_some(()));
                None
            }
        }
    }

    /// Stops the agent and waits until it exits.
    #[track_caller]
    pub fn stop(self) -> Option<CommandOutput> {
        self.post("/v1/stop", "").expect_status(200);
        self.wait()
    }
}
