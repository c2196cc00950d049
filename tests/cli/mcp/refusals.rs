//! Servers that refuse the token, and sessions without one.

use std::sync::Arc;
use std::sync::Mutex;

use serde_json::json;

use super::{Client, logged_in};
use crate::support::mcp_server::{McpServer, Received, Reply, answer};
use crate::support::{PASSWORD, Sandbox, USER, agent::Agent, quick_issuer};

/// A server that refuses these tokens.
fn refusing(refused: &Arc<Mutex<Vec<String>>>) -> McpServer {
    let refused = Arc::clone(refused);
    McpServer::start(move |_, request, reply| {
        let token = request.header("authorization").to_owned();
        match refused.lock().expect("not poisoned").contains(&token) {
            true => unauthorized(reply),
            false => answer(request, reply),
        }
    })
}

fn unauthorized(reply: Reply) {
    reply.send(401, "www-authenticate: Bearer error=\"invalid_token\"\r\n", "text/plain", "secret");
}

fn tokens(server: &McpServer) -> Vec<String> {
    server.received().iter().map(|request: &Received| request.header("authorization").to_owned()).collect()
}

#[test]
fn refused_token_is_refreshed_once_and_the_client_sees_no_error() {
    for with_agent in [false, true] {
        let (home, issuer) = logged_in();
        let _agent = with_agent.then(|| Agent::start(&home));
        let refused = Arc::new(Mutex::new(vec![format!("Bearer {}", home.token("work"))]));
        let server = refusing(&refused);
        let mut client = Client::connect(&home, &server);
        assert_eq!(client.request(1, "ping", &json!({}))["result"], json!({}));
        client.close();
        assert_eq!(issuer.stats().refreshes_committed, 1, "with an agent: {with_agent}");
        let seen = tokens(&server);
        assert_eq!(
            seen.iter().filter(|token| refused.lock().expect("not poisoned").contains(token)).count(),
            1,
            "{seen:?}"
        );
        home.token("work");
    }
}

#[test]
fn refused_token_for_one_api_or_in_memory_is_replaced() {
    for (with_agent, in_memory) in [(false, false), (true, false), (true, true)] {
        let (home, issuer) = (Sandbox::new(), quick_issuer());
        let _agent = with_agent.then(|| Agent::start(&home));
        let refused = Arc::new(Mutex::new(Vec::new()));
        let server = refusing(&refused);
        let store = if in_memory { "memory" } else { "file" };
        // The token for one of several APIs is another one than the session's own.
        let apis = ["--resource", &server.url, "--resource", "https://b.example"];
        let apis = if in_memory { &apis[..2] } else { &apis };
        let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--store", store];
        let grant = ["--password", "--username", USER, "--password-stdin"];
        home.run_with(&[&login[..], &grant, apis].concat(), &format!("{PASSWORD}\n")).exits(0);
        let token = || home.run(&["token", "--for", &server.url]).exits(0).line().to_owned();
        refused.lock().expect("not poisoned").push(format!("Bearer {}", token()));
        let before = issuer.stats().refreshes_committed;
        let mut client = Client::connect(&home, &server);
        assert_eq!(client.request(1, "ping", &json!({}))["result"], json!({}), "agent {with_agent}, {store}");
        client.close();
        assert_eq!(issuer.stats().refreshes_committed, before + 1);
        // The command line does the same, once.
        let challenge = || home.run_with(&["token", "--for", &server.url, "--challenge", "-"], "Bearer\n");
        assert_eq!(challenge().exits(0).line(), token(), "just refreshed");
        assert_eq!(issuer.stats().refreshes_committed, before + 1, "agent {with_agent}, {store}");
    }
}

#[test]
fn server_that_takes_no_token_gets_two_and_the_client_an_error() {
    let (home, issuer) = logged_in();
    home.token("work");
    let server = McpServer::start(|_, _, reply| unauthorized(reply));
    let mut client = Client::start(&home, &server);
    for id in [1, 2] {
        let error = client.request(id, "initialize", &json!({}))["error"].clone();
        let message = error["message"].as_str().expect("a message");
        let hint = format!("authctl login work --for {}", server.url);
        assert_eq!(message, format!("{} requires another login of `work`; run: {hint}", server.url));
        assert_eq!(error["data"], json!({"code": "login_required", "hint": hint}));
    }
    client.close();
    home.token("work");
    assert_eq!(issuer.stats().refreshes_committed, 1, "one forced refresh, however often the server refuses");
    assert!(server.received().len() <= 4, "{:?}", server.log());
}

#[test]
fn without_a_session_each_request_names_the_login_until_there_is_one() {
    let (home, issuer) = logged_in();
    home.run(&["logout", "work"]).exits(0);
    let server = McpServer::simple();
    let mut client = Client::start(&home, &server);
    let error = client.request(1, "initialize", &json!({"protocolVersion": "2025-11-25"}))["error"].clone();
    assert_eq!(error["data"], json!({"code": "login_required", "hint": "authctl login work"}), "{error}");
    assert!(error["message"].as_str().expect("a message").ends_with("; run: authctl login work"), "{error}");
    assert!(server.received().is_empty());
    home.log_in("work", &issuer);
    let began = client.request(2, "initialize", &json!({"protocolVersion": "2025-11-25"}));
    assert_eq!(began["result"]["protocolVersion"], "2025-11-25", "{began}");
    client.close();
}

#[test]
fn token_of_the_environment_is_not_sent_to_a_server() {
    let mut home = Sandbox::new();
    home.log_in("work", &quick_issuer());
    home.set("AUTHCTL_TOKEN", "supplied-token-1");
    home.register_secret("supplied-token-1");
    let server = McpServer::simple();
    // No profile is for the server: it gets no token at all.
    let mut client = Client(home.spawn(&["mcp", &server.url]));
    assert!(client.request(1, "ping", &json!({}))["error"].is_null());
    client.close();
    home.run(&["profile", "set", "work", &format!("resources={}", server.url)]).exits(0);
    let mut client = Client(home.spawn(&["mcp", &server.url]));
    assert!(client.request(2, "ping", &json!({}))["error"].is_null());
    client.close();
    assert!(!server.received().iter().any(|request| format!("{:?}", request.headers).contains("supplied-token-1")));
}

#[test]
fn forbidden_request_is_passed_on_as_the_servers_error() {
    let (home, issuer) = logged_in();
    let server = McpServer::start(|_, request, reply| match request.what().as_str() {
        "forbidden" => {
            let error = json!({"code": -32003, "message": "not allowed"});
            reply.json(403, &json!({"jsonrpc": "2.0", "id": request.message()["id"], "error": error}));
        }
        _ => answer(request, reply),
    });
    let mut client = Client::connect(&home, &server);
    assert_eq!(client.request(1, "forbidden", &json!({}))["error"]["message"], "not allowed");
    client.close();
    assert_eq!(server.log().iter().filter(|what| *what == "forbidden").count(), 1);
    assert_eq!(issuer.stats().refreshes_committed, 0);
}
