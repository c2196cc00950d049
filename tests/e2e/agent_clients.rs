//! The agent's socket with the HTTP clients of curl, Python and Node.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::agent_support::{KillOnDrop, agent, output_of, socket_of};
use crate::support::parts;
use crate::support::process::Lines;
use crate::support::{self, Sandbox};

#[derive(Clone, Copy, Debug)]
enum Client {
    Curl,
    Python,
    Node,
}

impl Client {
    fn command(self, socket: &Path, method: &str, target: &str) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients");
        let mut command = match self {
            Self::Curl => {
                let mut command = Command::new("curl");
                command.args(["-sS", "--no-buffer", "--max-time", "30", "-X", method, "--unix-socket"]).arg(socket);
                command.arg(format!("http://authctl{target}"));
                return command;
            }
            Self::Python => Command::new("python3"),
            Self::Node => Command::new("node"),
        };
        let script = if matches!(self, Self::Python) { "client.py" } else { "client.js" };
        command.arg(scripts.join(script)).arg(socket).args([method, target]);
        command
    }

    /// Sends a request and returns `{"status", "type", "body"}`.
    #[track_caller]
    fn request(self, socket: &Path, method: &str, target: &str) -> Value {
        let mut command = self.command(socket, method, target);
        if matches!(self, Self::Curl) {
            command.args(["-w", "\n{\"status\":%{http_code},\"type\":\"%{content_type}\"}"]);
        }
        let output = output_of(&mut command).unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let Self::Curl = self else { return read(output.trim_end()) };
        let (body, output) = output.rsplit_once('\n').expect("two lines");
        let mut output = read(output);
        output["body"] = read(body);
        output
    }

    /// Reads events, runs `trigger`, and returns the data of the first event called `name`.
    #[track_caller]
    fn wait_for_event(self, socket: &Path, name: &str, trigger: impl FnOnce()) -> Value {
        let mut command = self.command(socket, "GET", "/v1/events");
        if !matches!(self, Self::Curl) {
            command.arg(name);
        }
        let mut child = KillOnDrop(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts"));
        let mut lines = Lines::of(child.0.stdout.take().expect("piped"));
        let first = lines.next().expect("a line once it is subscribed");
        assert!([": subscribed", "listening"].contains(&first.as_str()), "{self:?}: {first}");
        trigger();
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let Self::Curl = self else { return read(&lines.next().expect("an event"))["body"].clone() };
        let event = format!("event: {name}");
        lines.find(|line| *line == event).expect("the event");
        read(lines.next().expect("its data").strip_prefix("data: ").expect("data"))
    }
}

#[track_caller]
fn expect_tokens_and_events(client: Client, program: &str) {
    parts::require(&[program]);
    let (home, issuer) = (Sandbox::new(), support::quick_issuer());
    home.log_in("work", &issuer);
    let token = home.token("work");
    let _agent = agent(&home, &[]);
    let socket = socket_of(&home);

    let output = client.request(&socket, "GET", "/v1/token/work?min_ttl=60");
    assert_eq!((&output["status"], &output["type"]), (&json!(200), &json!("application/json")), "{client:?}");
    assert!(output["body"]["access_token"] == token.as_str(), "the token that `authctl token` prints");
    assert_eq!(output["body"]["profile"], "work");

    let output = client.request(&socket, "GET", "/v1/token/missing");
    assert_eq!((&output["status"], &output["type"]), (&json!(404), &json!("application/problem+json")), "{output}");
    let problem = &output["body"];
    assert_eq!((&problem["code"], &problem["status"]), (&json!("unknown_profile"), &json!(404)), "{problem}");
    assert!(problem["title"].as_str().is_some_and(|title| title.contains("missing")), "{problem}");
    assert_eq!(problem["exit_code"], home.run(&["token", "missing"]).code, "{problem}");

    let data = client.wait_for_event(&socket, "refreshed", || {
        home.run(&["refresh", "work"]).exits(0);
    });
    assert_eq!((&data["profile"], data["at"].is_i64()), (&json!("work"), true), "{data}");
}

#[test]
fn curl_reads_tokens_and_events() {
    expect_tokens_and_events(Client::Curl, "curl");
}

#[test]
fn python_reads_tokens_and_events() {
    expect_tokens_and_events(Client::Python, "python3");
}

#[test]
fn node_reads_tokens_and_events() {
    expect_tokens_and_events(Client::Node, "node");
}
