//! Helpers for tests with a running agent: start one, send it a request.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::Sandbox;
pub use crate::support::kill_on_drop::KillOnDrop;
use crate::support::process::{LIMIT, wait_until};

/// Returns the socket path of the home's agent.
pub fn socket_of(home: &Sandbox) -> PathBuf {
    home.path().join("run/authctl/agent.sock")
}

/// Runs the agent of this home, and waits until it responds.
pub fn agent(home: &Sandbox, args: &[&str]) -> KillOnDrop {
    let mut command = home.command(&["agent", "run"]);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let agent = KillOnDrop(command.spawn().expect("the agent starts"));
    wait_for_agent(&socket_of(home));
    agent
}

/// Waits until the agent at `socket` responds.
pub fn wait_for_agent(socket: &Path) {
    wait_until("an agent that answers", || {
        request(socket, "GET", "/v1/agent", "").filter(|(status, _)| *status == 200)
    });
}

/// Sends a request and returns the status and body of the response; `None` if the agent does not respond.
pub fn request(socket: &Path, method: &str, target: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: authctl\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let status = reply.split(' ').nth(1)?.parse().ok()?;
    Some((status, reply.split_once("\r\n\r\n")?.1.to_owned()))
}

/// Sends a request to a running agent and returns the status and JSON body of the response.
#[track_caller]
pub fn request_json(socket: &Path, method: &str, target: &str, body: &str) -> (u16, serde_json::Value) {
    let (status, body) = request(socket, method, target, body).expect("an answer");
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
}

/// Fails the test unless root runs it: only root can run programs as another user.
#[track_caller]
pub fn needs_root() {
    let root = rustix::process::geteuid().is_root();
    assert!(root, "this test runs programs as another user, which needs root: run `sudo -E tests/run`");
}

/// Runs a program and returns its stdout, or its status and output as an error.
pub fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{}: {out}{err}", output.status)) }
}
