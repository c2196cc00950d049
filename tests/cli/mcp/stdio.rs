//! The client's side: lines, their limits, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::json;

use super::{Client, logged_in};
use crate::support::Sandbox;
use crate::support::mcp_server::{McpServer, answer};
use crate::support::process::wait_until;

#[test]
fn piped_requests_are_all_answered_before_the_end() {
    let (home, _issuer) = logged_in();
    let server = McpServer::simple();
    let lines = [
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": "a", "method": "tools/list"}),
        json!([{"jsonrpc": "2.0", "method": "n"}, {"jsonrpc": "2.0", "id": 9, "result": {}}]),
    ];
    let input: Vec<String> = lines.iter().map(ToString::to_string).collect();
    // The last line has no line break, and empty ones are ignored.
    let ran = home.run_with(&["mcp", &server.url, "--profile", "work"], &input.join("\n\r\n")).exits(0);
    let ids: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["id"].clone())
        .collect();
    assert_eq!(ids, [json!(0), json!("a")]);
    assert_eq!(server.received().iter().filter(|request| request.body.starts_with('[')).count(), 1);
}

#[test]
fn batch_is_posted_whole_and_its_failure_answers_each_request() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|_, request, reply| match request.body.starts_with('[') {
        true => reply.send(400, "", "text/html", "<secret>"),
        false => answer(request, reply),
    });
    let mut client = Client::connect(&home, &server);
    client.send(&json!([{"jsonrpc": "2.0", "id": 1, "method": "a"}, {"jsonrpc": "2.0", "id": 2, "method": "b"}]));
    let failed = client.wait_for("the failed batch", serde_json::Value::is_array);
    let ids: Vec<&serde_json::Value> = failed.as_array().expect("a batch").iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [1, 2]);
    assert!(!failed.to_string().contains("secret") && failed.to_string().contains("HTTP 400"), "{failed}");
    client.close();
}

#[test]
fn lines_that_are_not_messages_are_errors_and_nothing_is_sent() {
    let (home, _issuer) = logged_in();
    let server = McpServer::simple();
    let mut client = Client::start(&home, &server);
    client.0.type_text("hello\n{\"jsonrpc\": \n\n");
    let long = "x".repeat((16 << 20) + 1);
    client.0.type_text(&format!("{long}\n"));
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    assert_eq!(client.request(1, "ping", &json!({"_meta": meta}))["result"], json!({}));
    let lines = client.close();
    let codes: Vec<&serde_json::Value> = lines.iter().map(|line| &line["error"]["code"]).collect();
    assert_eq!(codes, [&json!(-32700), &json!(-32700), &json!(-32700), &json!(null)], "{lines:?}");
    assert_eq!(server.log(), ["ping"]);
}

#[test]
fn invalid_request_is_an_error_with_its_id() {
    let (home, _issuer) = logged_in();
    let server = McpServer::simple();
    let mut client = Client::start(&home, &server);
    client.send(&json!({"id": 9, "method": 7}));
    assert_eq!(client.response(9)["error"]["code"], -32600);
    client.close();
    assert!(server.log().is_empty());
}

#[test]
fn slow_notification_delays_no_request_and_no_cancellation() {
    let (home, _issuer) = logged_in();
    // Held open until the test ends.
    let held = std::sync::Mutex::new(Vec::new());
    let server = McpServer::start(move |_, request, reply| match request.what().as_str() {
        "notifications/slow" | "call" => held.lock().expect("not poisoned").push(reply),
        _ => answer(request, reply),
    });
    let mut client = Client::connect(&home, &server);
    client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "call"}));
    server.wait_for("call");
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/slow"}));
    server.wait_for("notifications/slow");
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/slow", "params": {"second": true}}));
    let cancelled = json!({"requestId": 1});
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}));
    client.send(&json!({"jsonrpc": "2.0", "id": 7, "result": {}}));
    assert_eq!(client.request(2, "ping", &json!({}))["result"], json!({}));
    server.wait_for("notifications/cancelled");
    wait_until("the response", || server.received().iter().find(|one| one.body.contains("\"id\":7")).map(drop));
    let slow = server.log().iter().filter(|what| *what == "notifications/slow").count();
    assert_eq!(slow, 1, "notifications keep their order");
    client.0.signal(Signal::TERM);
    client.0.wait().exits(130);
}

#[test]
fn server_that_is_slow_to_begin_still_gets_requests() {
    let (home, _issuer) = logged_in();
    let held = std::sync::Mutex::new(Vec::new());
    let server = McpServer::start(move |_, request, reply| match request.what().as_str() {
        "notifications/initialized" => held.lock().expect("not poisoned").push(reply),
        _ => answer(request, reply),
    });
    let started = std::time::Instant::now();
    let mut client = Client::connect(&home, &server);
    assert_eq!(client.request(2, "ping", &json!({}))["result"], json!({}));
    assert!(started.elapsed().as_secs() < 20, "long before the server's response");
    client.0.signal(Signal::TERM);
    client.0.wait().exits(130);
}

#[test]
fn invalid_responses_are_errors_that_quote_nothing() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|_, request, reply| match request.what().as_str() {
        "html" => reply.send(200, "", "text/html", "<secret>"),
        "text" => reply.send(200, "", "application/json", "secret"),
        "empty" => reply.send(202, "", "application/json", ""),
        "down" => reply.send(503, "", "text/plain", "secret"),
        "moved" => reply.send(302, "location: /other\r\n", "text/plain", "secret"),
        "elsewhere" => reply.send(308, "location: /other\r\n", "text/plain", "secret"),
        "other-origin" => reply.send(307, "location: http://localhost:1/mcp?secret=1\r\n", "text/plain", "secret"),
        "without-id" => {
            reply.json(400, &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -1, "message": "why"}}))
        }
        "drop" => drop(reply),
        _ => answer(request, reply),
    });
    let mut client = Client::connect(&home, &server);
    let origin = server.url.trim_end_matches("/mcp");
    for (id, (method, expected)) in [
        ("html", "returned no response (HTTP 200)"),
        ("text", "returned a body that is not a JSON-RPC message"),
        ("empty", "returned a body that is not a JSON-RPC message"),
        ("down", "returned HTTP 503"),
        ("moved", &format!("returned HTTP 302, a redirect to {origin}/other")),
        ("elsewhere", &format!("returned HTTP 308, a redirect to {origin}/other")),
        ("other-origin", "returned HTTP 307, a redirect to http://localhost:1/mcp"),
        ("without-id", "why"),
        ("drop", "closed before the response was complete"),
    ]
    .into_iter()
    .enumerate()
    {
        let error = client.request(id as u64 + 1, method, &json!({}))["error"].clone();
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.ends_with(expected) && !message.contains("secret"), "{method}: {error}");
    }
    client.close();
}

#[test]
fn redirect_within_the_server_is_followed_with_the_token() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|before, request, reply| match before {
        0 => reply.send(307, "location: /mcp/\r\n", "text/plain", ""),
        _ => {
            assert!(request.header("authorization").starts_with("Bearer "), "{request:?}");
            answer(request, reply);
        }
    });
    let mut client = Client::start(&home, &server);
    let parameters = json!({"protocolVersion": "2025-11-25"});
    assert_eq!(client.request(0, "initialize", &parameters)["result"]["protocolVersion"], "2025-11-25");
    client.close();
}

#[test]
fn slow_client_stops_the_stream_not_the_memory() {
    let (home, _issuer) = logged_in();
    const MESSAGE: usize = 100_000;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let server = McpServer::start(move |_, request, reply| match request.what().as_str() {
        "flood" => {
            let mut stream = reply.stream();
            let message = json!({"jsonrpc": "2.0", "method": "n", "params": {"text": "x".repeat(MESSAGE)}});
            for _ in 0..1000 {
                if !stream.message(&message) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
            stream.message(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
            stream.end();
        }
        _ => answer(request, reply),
    });
    // The client does not read stdout.
    let mut command = home.command(&["mcp", &server.url, "--profile", "work"]);
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(std::process::Stdio::null()).spawn().expect("spawned");
    let mut input = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"flood\"}\n").expect("written");
    // The count no longer grows although there is more: all buffers on the way are full.
    let mut last = (0, 0);
    let before = wait_until("a stopped stream", || {
        let now = sent.load(Ordering::SeqCst);
        last = if now > 0 && now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        (last.1 > 200).then_some(now)
    });
    assert!(before < 500, "the server could send only {before} of 1000 messages");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("running");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("known");
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 60_000, "{peak} kB");
    // It goes on when the client reads.
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
    assert_eq!(lines.map_while(Result::ok).take(1001).count(), 1001);
    drop(input);
    assert!(child.wait().expect("waited").success());
}

#[test]
fn requests_beyond_the_limit_are_refused_at_once() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|_, request, reply| match request.what().as_str() {
        "slow" => reply.stream().wait_until_closed(),
        _ => answer(request, reply),
    });
    let mut client = Client::connect(&home, &server);
    for id in 1..=128 {
        client.send(&json!({"jsonrpc": "2.0", "id": id, "method": "slow"}));
    }
    let error = client.request(129, "slow", &json!({}))["error"].clone();
    assert_eq!(error["message"], "too many requests at a time");
    // The client can still cancel.
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}));
    let mut ids = 130..;
    wait_until("a free place", || {
        let response = client.request(ids.next().expect("endless"), "ping", &json!({}));
        response["error"].is_null().then_some(())
    });
    client.0.signal(Signal::TERM);
    client.0.wait().exits(130);
}

#[test]
fn signal_ends_the_session_and_the_bridge() {
    let (home, _issuer) = logged_in();
    for signal in [Signal::INT, Signal::TERM] {
        let server = McpServer::start(|_, request, reply| match request.what().as_str() {
            "slow" => reply.stream().wait_until_closed(),
            _ => answer(request, reply),
        });
        let mut client = Client::connect(&home, &server);
        client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "slow"}));
        server.wait_for("slow");
        client.0.signal(signal);
        client.0.wait().exits(130);
        assert_eq!(server.log().last().map(String::as_str), Some("DELETE"));
    }
}

#[test]
fn closed_stdin_ends_the_bridge_although_a_subscription_is_open() {
    let (home, _issuer) = logged_in();
    let server = McpServer::start(|_, request, reply| match request.what().as_str() {
        "subscriptions/listen" => reply.stream().wait_until_closed(),
        _ => answer(request, reply),
    });
    let mut client = Client::start(&home, &server);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"_meta": meta}}));
    server.wait_for("subscriptions/listen");
    assert!(client.close().is_empty());
}

#[test]
fn insecure_url_and_json_option_are_usage_errors() {
    let home = Sandbox::new();
    home.run(&["mcp", "http://api.example/mcp"]).exits(2).reports("it must be https");
    home.run(&["mcp"]).exits(2);
    home.run(&["mcp", "https://api.example/mcp", "--json"]).exits(2).reports("has no JSON output");
}
