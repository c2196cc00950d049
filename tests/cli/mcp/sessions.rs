//! The session with the server: its headers, its loss, and its end.

use serde_json::json;

use super::{Client, logged_in};
use crate::support::mcp_server::{McpServer, answer};

#[test]
fn requests_have_token_session_and_protocol_version() {
    let (home, _issuer) = logged_in();
    let token = home.token("work");
    let server = McpServer::simple();
    let mut client = Client::connect(&home, &server);
    assert_eq!(client.request(1, "ping", &json!({})), json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(client.close().len(), 2, "two responses and nothing else");
    let received = server.received();
    assert!(received.iter().all(|request| request.header("authorization") == format!("Bearer {token}")));
    let first = &received[0];
    assert_eq!((first.header("mcp-session-id"), first.header("mcp-protocol-version")), ("", ""));
    assert_eq!(first.header("accept"), "application/json, text/event-stream");
    for request in &received[1..] {
        let session = (request.header("mcp-session-id"), request.header("mcp-protocol-version"));
        assert_eq!(session, ("s1", "2025-11-25"), "{}", request.what());
    }
    let mut log = server.log();
    assert_eq!(log.pop().as_deref(), Some("DELETE"), "the session is ended");
    log.sort();
    assert_eq!(log, ["GET", "initialize", "notifications/initialized", "ping"]);
}

#[test]
fn lost_session_is_begun_again_without_the_client_noticing() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|before, request, reply| match request.what().as_str() {
        "initialize" if before > 0 => {
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
            let body = json!({"jsonrpc": "2.0", "id": request.message()["id"], "result": result});
            reply.send(200, "mcp-session-id: s2\r\n", "application/json", &body.to_string());
        }
        "ping" if request.header("mcp-session-id") == "s1" => {
            let error = json!({"jsonrpc": "2.0", "id": "x", "error": {"code": -32600, "message": "no session"}});
            reply.json(404, &error);
        }
        _ => answer(request, reply),
    });
    let mut client = Client::connect(&home, &server);
    client.send(&json!([]));
    assert_eq!(client.request(1, "ping", &json!({}))["result"], json!({}));
    assert_eq!(client.request(2, "ping", &json!({}))["result"], json!({}));
    let lines = client.close();
    assert_eq!(lines.iter().filter(|line| line["id"] == 0).count(), 1, "one response to initialize: {lines:?}");
    let received = server.received();
    let sessions = |what: &str| -> Vec<String> {
        let requests = received.iter().filter(|request| request.what() == what);
        requests.map(|request| request.header("mcp-session-id").to_owned()).collect()
    };
    assert_eq!(sessions("initialize"), ["", ""]);
    assert_eq!(sessions("ping"), ["s1", "s2", "s2"]);
    assert_eq!(sessions("notifications/initialized"), ["s1", "s2"]);
    assert_eq!(sessions("DELETE"), ["s2"]);
}

#[test]
fn session_that_is_lost_at_once_again_is_an_error() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|_, request, reply| match request.what().as_str() {
        "ping" => reply.send(404, "", "text/plain", "secret body"),
        _ => answer(request, reply),
    });
    let mut client = Client::connect(&home, &server);
    let error = client.request(1, "ping", &json!({}))["error"].clone();
    let message = error["message"].as_str().expect("a message");
    assert!(message.ends_with("has ended the session again") && !message.contains("secret"), "{message}");
    client.close();
    assert_eq!(server.log().iter().filter(|what| *what == "ping").count(), 2);
}

#[test]
fn requests_that_state_their_version_have_its_headers_and_no_session() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|_, request, reply| match request.what().as_str() {
        "tools/list" => {
            let tool = |name: &str, header: &str| {
                let region = json!({"type": "string", "x-mcp-header": header});
                json!({"name": name, "inputSchema": {"type": "object", "properties": {"region": region}}})
            };
            let tools = [tool("sql", "Region"), tool("bad", "not valid")];
            reply.json(200, &json!({"jsonrpc": "2.0", "id": request.message()["id"], "result": {"tools": tools}}));
        }
        "unknown" => {
            let error = json!({"code": -32601, "message": "Method not found"});
            reply.json(404, &json!({"jsonrpc": "2.0", "id": request.message()["id"], "error": error}));
        }
        _ => answer(request, reply),
    });
    let mut client = Client::start(&home, &server);
    let parameters = |mut parameters: serde_json::Value| {
        parameters["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
        parameters
    };
    let listed = client.request(1, "tools/list", &parameters(json!({})));
    assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(1), "the invalid tool is left out: {listed}");
    let call = parameters(json!({"name": "sql", "arguments": {"region": "us-west1"}}));
    assert_eq!(client.request(2, "tools/call", &call)["result"], json!({}));
    assert_eq!(client.request(3, "unknown", &parameters(json!({})))["error"]["code"], -32601);
    client.close();
    let called = server.wait_for("tools/call");
    for (name, value) in [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "sql"),
        ("mcp-param-region", "us-west1"),
        ("mcp-session-id", ""),
    ] {
        assert_eq!(called.header(name), value, "{name}");
    }
    assert_eq!(server.log(), ["tools/list", "tools/call", "unknown"], "no stream, no session to end");
}
