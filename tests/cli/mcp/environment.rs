//! What an MCP client passes on: few variables.

use crate::support::mcp_server::McpServer;
use crate::support::{Sandbox, quick_issuer};

#[test]
fn agent_is_found_without_the_variable_of_its_directory() {
    let (mut home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.unset("XDG_RUNTIME_DIR");
    let server = McpServer::simple();
    // A runtime directory as systemd creates it, in a mount namespace of the test's own.
    let with_agent = "mount -t tmpfs tmpfs /run && mkdir -m 700 -p /run/user /run/user/0 && export D=/run/user/0 && \
                      XDG_RUNTIME_DIR=$D \"$0\" agent start && \"$0\" \"$@\"; code=$?; \
                      XDG_RUNTIME_DIR=$D \"$0\" agent stop; exit $code";
    let input = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";
    let ran = home.mounted(with_agent, &["mcp", &server.url, "--profile", "work", "-v"], input).exits(0);
    assert!(ran.stdout.contains("\"result\""), "{}", ran.stdout);
    ran.reports("using the agent at /run/user/0/authctl/agent.sock");
    // One that others can write to is not used.
    let open = with_agent.replace("agent start &&", "agent start && chmod 755 $D &&");
    let ran = home.mounted(&open, &["mcp", &server.url, "--profile", "work", "-v"], input);
    assert!(!ran.stderr.contains("using the agent at /run/user/0"), "{}", ran.stderr);
}
