//! The agent conforms to its OpenAPI description: schemathesis sends valid and invalid requests and checks the responses.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use authctl::dev_issuer::DevIssuer;

use crate::agent_support::{KillOnDrop, agent, request_json, socket_of};
use crate::support::process::wait_until;
use crate::support::{self, Sandbox, contains};

/// Returns the schemathesis program that `tests/install` installs.
fn schemathesis() -> PathBuf {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis/bin/schemathesis");
    assert!(at.is_file(), "not installed: {}; `tests/run` installs what the tests drive", at.display());
    at
}

/// Forwards TCP connections to `socket`, for programs without Unix sockets. Returns the base URL.
fn bridge(socket: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let socket = socket.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(agent) = UnixStream::connect(&socket) else { continue };
            let (to_agent, from_client) = (agent.try_clone().expect("cloned"), client.try_clone().expect("cloned"));
            std::thread::spawn(move || {
                copy(from_client, &to_agent);
                let _ = to_agent.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                copy_response(agent, &client);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

fn copy(mut from: impl Read, mut to: impl Write) {
    let mut piece = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..length]).is_err() {
            return;
        }
    }
}

/// Copies a response, and ends an event stream after its first event: schemathesis reads whole responses.
fn copy_response(mut from: UnixStream, mut to: &TcpStream) {
    let (mut piece, mut events) = ([0; 8192], false);
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let came = &piece[..length];
        if to.write_all(came).is_err() {
            return;
        }
        let head = came.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
        events |= came.starts_with(b"HTTP/1.1 200") && contains(&came[..head], b"text/event-stream");
        if events && came.ends_with(b"\n\n\r\n") {
            let _ = to.write_all(b"0\r\n\r\n");
            return;
        }
    }
}

struct Setup {
    home: Sandbox,
    agent: KillOnDrop,
    _issuer: DevIssuer,
    address: String,
    socket: PathBuf,
}

fn setup() -> Setup {
    let (home, issuer) = (Sandbox::new(), support::quick_issuer());
    home.log_in("work", &issuer);
    home.session("work");
    let agent = agent(&home, &[]);
    let socket = socket_of(&home);
    let address = bridge(&socket);
    Setup { home, agent, _issuer: issuer, address, socket }
}

impl Setup {
    /// Runs schemathesis with all of its checks.
    #[track_caller]
    fn expect_conformance(&self, args: &[&str]) {
        let config = self.home.path().join("schemathesis.toml");
        // Requests for another home are all refused.
        let mark = format!("{} {}", self.home.config_file().display(), self.home.path().join("data/authctl").display());
        std::fs::write(&config, format!("{EXPECTED}\n[parameters]\n\"header.Authctl-Home\" = \"{mark}\"\n"))
            .expect("written");
        let mut command = Command::new(schemathesis());
        command
            .arg("--config-file")
            .arg(&config)
            .args(["run", &format!("{}/v1/openapi.json", self.address), "--url", &self.address])
            .args([
                "--checks=all",
                "--phases=examples,coverage,fuzzing",
                "--workers=1",
                "--no-color",
                "--max-failures=20",
            ])
            // The same requests in each run.
            .args(["--seed=1", "--generation-deterministic", "--request-timeout=10", "--suppress-health-check=all"])
            .args(["--continue-on-failure", "--output-sanitize=false", "--exclude-path=/v1/stop"])
            .args(args)
            .current_dir(self.home.path());
        let output = command.stdin(Stdio::null()).output().expect("schemathesis starts");
        let report = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "schemathesis: {}\n{report}", output.status);
        for secret in self.home.secrets() {
            assert!(!report.contains(&secret) || secret.starts_with("ey"), "a secret in the report");
        }
    }
}

/// Responses that are correct in addition to the default ones: the issuer may refuse a request, a file may be unreadable.
const EXPECTED: &str = "
[checks]
not_a_server_error.expected-statuses = [\"2xx\", \"3xx\", \"4xx\", 502, 503]
positive_data_acceptance.expected-statuses = [\"2xx\", 401, 403, 404, 423, 502, 503]
negative_data_rejection.expected-statuses = [400, 401, 404, 413, 423]
";

#[test]
fn unlocked_agent_matches_its_openapi_description() {
    let setup = setup();
    // The request that locks the agent is tested separately.
    setup.expect_conformance(&["--max-examples=15", "--exclude-path=/v1/lock"]);
    let (_, log) = request_json(&setup.socket, "GET", "/v1/log", "");
    let done: Vec<&str> =
        log["entries"].as_array().expect("entries").iter().filter_map(|e| e["action"].as_str()).collect();
    for action in ["token", "id_token", "refresh"] {
        assert!(done.contains(&action), "no {action} was given in the whole run: {done:?}");
    }
}

#[test]
fn locked_agent_matches_its_openapi_description() {
    let setup = setup();
    // The first valid request locks the agent.
    setup.expect_conformance(&["--max-examples=10", "--include-path=/v1/lock"]);
    // Each wrong passphrase delays the next response.
    setup.expect_conformance(&["--max-examples=1", "--include-path=/v1/unlock", "--phases=examples,coverage"]);
    setup.expect_conformance(&["--max-examples=5", "--exclude-path=/v1/unlock"]);
    let (status, state) = request_json(&setup.socket, "GET", "/v1/agent", "");
    assert_eq!((status, &state["locked"], &state["sessions"]), (200, &true.into(), &0.into()), "{state}");
}

#[test]
fn stop_matches_its_description() {
    let mut setup = setup();
    let described = described(&setup.socket, "/v1/stop", "post");
    let (status, problem) = request_json(&setup.socket, "GET", "/v1/stop", "");
    assert_eq!((status, &problem["code"]), (405, &"method_not_allowed".into()), "{problem}");
    let (status, stopping) = request_json(&setup.socket, "POST", "/v1/stop", "");
    assert!(described["responses"][status.to_string()].is_object(), "{status} is not described");
    assert_eq!((status, stopping), (200, serde_json::json!({"pid": setup.agent.0.id()})));
    let ended = wait_until("its end", || setup.agent.0.try_wait().expect("waited"));
    assert!(ended.success() && !setup.socket.exists(), "{ended}");
}

#[test]
fn request_for_another_home_matches_its_description() {
    let setup = setup();
    let described = described(&setup.socket, "/v1/token", "get");
    let url = format!("{}/v1/token", setup.address);
    let (status, body) = support::http::get(&url, &["Authctl-Home: /elsewhere /nowhere"]);
    assert!(described["responses"][status.to_string()].is_object(), "{status} is not described");
    assert!(status == 421 && body.contains(r#""code":"another_home""#) && !body.contains("access_token"), "{body}");
}

/// Returns the agent's description of a request.
fn described(socket: &Path, path: &str, method: &str) -> serde_json::Value {
    request_json(socket, "GET", "/v1/openapi.json", "").1["paths"][path][method].clone()
}
