//! What the tests against a running agent share: an agent that ends with its test, and one bare request.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::Sandbox;
use crate::support::process::{LIMIT, wait_until};

/// A process that ends with the test, whatever becomes of it.
pub struct KillOnDrop(pub Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the agent of this home listens.
pub fn socket_of(home: &Sandbox) -> PathBuf {
    home.path().join("run/authctl/agent.sock")
}

/// Runs the agent of this home, and waits until it answers.
pub fn agent(home: &Sandbox, args: &[&str]) -> KillOnDrop {
    let mut command = home.command(&["agent", "run"]);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let agent = KillOnDrop(command.spawn().expect("the agent starts"));
    answers(&socket_of(home));
    agent
}

/// Waits until whoever listens at `socket` answers.
pub fn answers(socket: &Path) {
    wait_until("an agent that answers", || ask(socket, "GET", "/v1/agent", "").filter(|(status, _)| *status == 200));
}

/// The status and the body of one request; `None` where nobody answers.
pub fn ask(socket: &Path, method: &str, target: &str, body: &str) -> Option<(u16, String)> {
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

/// The same as JSON, of an agent that is there.
#[track_caller]
pub fn asked(socket: &Path, method: &str, target: &str, body: &str) -> (u16, serde_json::Value) {
    let (status, body) = ask(socket, method, target, body).expect("an answer");
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
}

/// Fails the test unless root runs it, who alone can be several users.
#[track_caller]
pub fn needs_root() {
    let root = rustix::process::geteuid().is_root();
    assert!(root, "this test is several users, and only root can be: run it as root, as in `sudo -E tests/run`");
}

/// Runs a program to its end; its stdout, if it succeeded, else what it said.
pub fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{}: {out}{err}", output.status)) }
}
