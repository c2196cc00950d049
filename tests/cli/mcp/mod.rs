//! `mcp`: the bridge between an MCP client on stdin and stdout and a server.

mod environment;
mod logins;
mod proofs;
mod refusals;
mod sessions;
mod stdio;
mod streams;

use authctl::dev_issuer::DevIssuer;
use serde_json::{Value, json};

use crate::support::mcp_server::McpServer;
use crate::support::process::RunningCommand;
use crate::support::{Sandbox, quick_issuer};

/// Returns a home with a session of the profile `work`.
fn logged_in() -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    (home, issuer)
}

/// An MCP client.
struct Client<'a>(RunningCommand<'a>);

impl<'a> Client<'a> {
    /// Starts the bridge to a server.
    fn start(home: &'a Sandbox, server: &McpServer) -> Self {
        Self(home.spawn(&["mcp", &server.url, "--profile", "work", "-v"]))
    }

    /// Starts it, and begins a session.
    #[track_caller]
    fn connect(home: &'a Sandbox, server: &McpServer) -> Self {
        let mut client = Self::start(home, server);
        let parameters =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
        let reply = client.request(0, "initialize", &parameters);
        assert_eq!(reply["result"]["protocolVersion"], "2025-11-25", "{reply}");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        server.wait_for("notifications/initialized");
        client
    }

    fn send(&mut self, message: &Value) {
        self.0.type_text(&format!("{message}\n"));
    }

    /// Waits for a line that fits.
    #[track_caller]
    fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.0.wait_for_output(what, |output| {
            let complete = output.rfind('\n').map_or("", |end| &output[..end]);
            complete.lines().map(|line| serde_json::from_str(line).expect(line)).find(|value| fits(value))
        })
    }

    /// Waits for the response to a request.
    #[track_caller]
    fn response(&self, id: u64) -> Value {
        self.wait_for(&format!("response {id}"), |value| value["id"] == id && value["method"].is_null())
    }

    /// Sends a request, and waits for its response.
    #[track_caller]
    fn request(&mut self, id: u64, method: &str, parameters: &Value) -> Value {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters}));
        self.response(id)
    }

    /// Closes stdin, and returns the lines on stdout.
    #[track_caller]
    fn close(mut self) -> Vec<Value> {
        self.0.close_stdin();
        let ran = self.0.wait().exits(0);
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}
