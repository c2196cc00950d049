//! Responses and messages of the server in streams of events.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Client, logged_in};
use crate::support::mcp_server::{McpServer, Received, answer};

fn result(request: &Received, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": request.message()["id"], "result": result})
}

#[test]
fn messages_before_the_response_reach_the_client_at_once() {
    let (home, _issuer) = logged_in();
    let (sender, answered) = std::sync::mpsc::channel();
    let (sender, answered) = (Mutex::new(sender), Mutex::new(answered));
    let server = McpServer::start(move |_, request, reply| {
        if request.what() == "tools/call" {
            let mut stream = reply.stream();
            stream.send(": comment\n\n");
            stream.send("data: {\"jsonrpc\": \"2.0\",\ndata: \"method\": \"notifications/progress\"}\n\n");
            stream.message(&json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create"}));
            answered.lock().expect("one call").recv().expect("the client's answer");
            stream.message(&result(request, &json!({"done": true})));
            stream.end();
        } else {
            if request.message()["id"] == 7 {
                sender.lock().expect("not poisoned").send(()).expect("awaited");
            }
            answer(request, reply);
        }
    });
    let mut client = Client::connect(&home, &server);
    client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t"}}));
    client.wait_for("progress", |line| line["method"] == "notifications/progress");
    client.wait_for("a request of the server", |line| line["method"] == "elicitation/create");
    assert_eq!(client.request(2, "ping", &json!({}))["result"], json!({}), "another request is served in the meantime");
    client.send(&json!({"jsonrpc": "2.0", "id": 7, "result": {"action": "accept"}}));
    assert_eq!(client.response(1)["result"]["done"], true);
    assert_eq!(client.close().len(), 5);
}

#[test]
fn interrupted_response_is_resumed_after_the_requested_wait() {
    let (home, _issuer) = logged_in();
    let server =
        McpServer::start(|_, request, reply| match (request.what().as_str(), request.header("last-event-id")) {
            ("tools/call", _) => {
                let mut stream = reply.stream();
                stream.send("id: a1\nretry: 30\ndata:\n\n");
                stream.send("id: a2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"first\"}\n\nid: a3\ndata: {\"jsonr");
                // It breaks off.
            }
            ("GET", "a2") => {
                let mut stream = reply.stream();
                stream.send("id: a3\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"second\"}\n\n");
                stream.end();
            }
            ("GET", "a3") => {
                let mut stream = reply.stream();
                stream.message(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
                stream.end();
            }
            _ => answer(request, reply),
        });
    let mut client = Client::connect(&home, &server);
    assert_eq!(client.request(1, "tools/call", &json!({"name": "t"}))["result"], json!({}));
    let methods: Vec<Value> =
        client.close().into_iter().filter_map(|mut line| Some(line.get_mut("method")?.take())).collect();
    assert_eq!(methods, ["first", "second"], "each once and in order");
    assert_eq!(server.log().iter().filter(|what| *what == "tools/call").count(), 1, "the call is not repeated");
}

#[test]
fn response_that_cannot_be_resumed_is_an_error() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|_, request, reply| match request.what().as_str() {
        "without-id" => {
            reply.stream().message(&json!({"jsonrpc": "2.0", "method": "n"}));
        }
        "refused" => {
            reply.stream().send("id: 1\nretry: 1\ndata:\n\n");
        }
        "endless" => {
            reply.stream().send("id: again\nretry: 1\ndata:\n\n");
        }
        "GET" if request.header("last-event-id") == "again" => reply.stream().end(),
        _ => answer(request, reply),
    });
    let mut client = Client::connect(&home, &server);
    for (id, method) in [(1, "without-id"), (2, "refused"), (3, "endless")] {
        let error = client.request(id, method, &json!({}))["error"].clone();
        assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32000), &json!("server_failed")), "{error}");
    }
    client.close();
    let resumed = server.received().iter().filter(|request| request.header("last-event-id") == "again").count();
    assert!((2..10).contains(&resumed), "it gives up: {resumed}");
}

#[test]
fn messages_of_the_session_arrive_and_their_stream_is_opened_again() {
    let (home, _issuer) = logged_in();
    let server =
        McpServer::start(|_, request, reply| match (request.method.as_str(), request.header("last-event-id")) {
            ("GET", "") => {
                let mut stream = reply.stream();
                stream.send("retry: 20\nid: g1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"one\"}\n\n");
                stream.send("event: other\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"skipped\"}\n\ndata: not JSON\n\n");
            }
            ("GET", "g1") => {
                let mut stream = reply.stream();
                stream.message(&json!({"jsonrpc": "2.0", "id": "s", "method": "roots/list"}));
                stream.wait_until_closed();
            }
            _ => answer(request, reply),
        });
    let mut client = Client::connect(&home, &server);
    client.wait_for("the first", |line| line["method"] == "one");
    client.wait_for("a request", |line| line["method"] == "roots/list");
    client.send(&json!({"jsonrpc": "2.0", "id": "s", "result": {"roots": []}}));
    let answered = crate::support::process::wait_until("the answer", || {
        server.received().into_iter().find(|request| request.message()["id"] == "s")
    });
    assert_eq!(answered.message()["result"], json!({"roots": []}));
    assert_eq!(client.close().len(), 3);
}

#[test]
fn cancellation_reaches_the_server_as_its_revision_defines() {
    let (home, _issuer) = logged_in();
    let closed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&closed);
    let server = McpServer::start(move |_, request, reply| match request.what().as_str() {
        "slow" => {
            let mut stream = reply.stream();
            stream.wait_until_closed();
            seen.lock().expect("not poisoned").push(request.message()["id"].clone());
        }
        _ => answer(request, reply),
    });
    let mut client = Client::connect(&home, &server);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "slow"}));
    client.send(&json!({"jsonrpc": "2.0", "id": 2, "method": "slow", "params": {"_meta": meta}}));
    let wait = |what: &str, count: usize| {
        crate::support::process::wait_until(what, || {
            (server.log().iter().filter(|one| *one == what).count() == count).then_some(())
        });
    };
    wait("slow", 2);
    for id in [2, 1] {
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}));
        crate::support::process::wait_until("the closed connection", || {
            closed.lock().ok()?.contains(&json!(id)).then_some(())
        });
    }
    assert_eq!(client.close().len(), 1, "a canceled request has no response");
    let canceled: Vec<Value> = server
        .received()
        .iter()
        .filter(|request| request.what() == "notifications/cancelled")
        .map(|request| request.message()["params"]["requestId"].clone())
        .collect();
    assert_eq!(canceled, [1], "the closed connection is the message of the later revision");
}

#[test]
fn unread_log_does_not_stop_the_bridge() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|_, request: &Received, reply| match request.what().as_str() {
        "initialize" => {
            reply.json(200, &result(request, &json!({"protocolVersion": "2025-11-25", "capabilities": {}})))
        }
        "tools/list" => {
            let mut stream = reply.stream();
            // Each is a line of the log, and together they are more than a pipe holds.
            assert!((0..3000).all(|_| stream.send("data: none\n\n")), "the bridge reads");
            stream.message(&result(request, &json!({"tools": []})));
            stream.end();
        }
        _ => reply.json(202, &json!({})),
    });
    let args = ["mcp", &server.url, "--profile", "work", "-v"];
    let (running, _stderr) = home.spawn_unread(home.command(&args), &args);
    let mut client = Client(running);
    let parameters =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
    client.request(0, "initialize", &parameters);
    assert_eq!(client.request(1, "tools/list", &json!({}))["result"]["tools"], json!([]));
    client.close();
}
