//! Logins that the server asks for, where the user allows the browser.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::Client;
use crate::login::browser;
use crate::support::Sandbox;
use crate::support::mcp_server::{McpServer, Received, Reply, answer};
use crate::support::process::{copy_program, wait_until};
use crate::support::protected_api::ProtectedApi;

/// What is required of the token for each method, as the server's challenge names it.
type Rule = fn(&str, &str) -> Option<&'static str>;

/// A server that requires tokens, and the authorization server that it names.
struct Protected {
    server: McpServer,
    issuer: ProtectedApi,
}

impl Protected {
    /// Starts a server. `rule` returns what it asks for if a request with this method and token is refused.
    fn start(rule: Rule) -> Self {
        let issuer = ProtectedApi::start(|_| ());
        let named = issuer.server.url.clone();
        let own = Arc::new(Mutex::new(String::new()));
        let url = Arc::clone(&own);
        let server = McpServer::start(move |_, request, reply| {
            let url = url.lock().unwrap().clone();
            if request.path == "/.well-known/oauth-protected-resource/mcp" {
                return reply.json(200, &json!({"resource": url, "authorization_servers": [named]}));
            }
            refuse_or_answer(rule, &url, request, reply);
        });
        own.lock().unwrap().clone_from(&server.url);
        Self { server, issuer }
    }

    /// Returns how many authorization requests there were.
    fn logins(&self) -> usize {
        self.issuer.asked("GET", "/authorize").len()
    }

    fn hint(&self, more: &str) -> String {
        format!("authctl login --for {}{more}", self.server.url)
    }
}

fn refuse_or_answer(rule: Rule, url: &str, request: &Received, reply: Reply) {
    let token = request.header("authorization").trim_start_matches("Bearer ");
    let Some(asks) = rule(&request.what(), token).filter(|_| request.method == "POST") else {
        return answer(request, reply);
    };
    let metadata = url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    let status = if asks.contains("insufficient_scope") { 403 } else { 401 };
    let header = format!("www-authenticate: Bearer {asks}, resource_metadata=\"{metadata}\"\r\n");
    reply.send(status, &header, "text/plain", "secret");
}

fn start<'a>(home: &'a mut Sandbox, server: &Protected, options: &[&str]) -> (Client<'a>, PathBuf) {
    let opened = browser(home);
    let arguments = [&["mcp", server.server.url.as_str(), "-v"], options].concat();
    (Client(home.spawn(&arguments)), opened)
}

fn scopes(sent: &std::collections::BTreeMap<String, String>) -> Vec<&str> {
    sent.get("scope").map(|scopes| scopes.split(' ').collect()).unwrap_or_default()
}

fn ping(client: &mut Client<'_>, id: u64, method: &str) {
    client.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}}));
}

fn basic(_: &str, token: &str) -> Option<&'static str> {
    (!token.starts_with("access-")).then_some("scope=\"mcp:basic\"")
}

#[test]
fn first_refusal_opens_one_browser_for_all_requests() {
    let (mut home, server) = (Sandbox::new(), Protected::start(basic));
    let (mut client, opened) = start(&mut home, &server, &["--browser", "--yes"]);
    for id in 1..=5 {
        ping(&mut client, id, "ping");
    }
    let sent = server.issuer.sign_in(&opened);
    assert_eq!((sent["resource"].as_str(), scopes(&sent)), (server.server.url.as_str(), vec!["mcp:basic"]));
    for id in 1..=5 {
        assert_eq!(client.response(id)["result"], json!({}));
    }
    assert_eq!(client.close().len(), 5);
    assert_eq!(server.logins(), 1);
    home.register_secret("access-1");
    assert_eq!(home.leaks_in_files(), Vec::<PathBuf>::new());
}

#[test]
fn bridge_whose_program_was_replaced_logs_in() {
    let (mut home, server) = (Sandbox::new(), Protected::start(basic));
    let (program, opened) = (home.path().join("authctl"), browser(&mut home));
    copy_program(&program);
    let args = ["mcp", server.server.url.as_str(), "-v", "--browser", "--yes"];
    let mut client = Client(home.spawn_command(home.command_for(&program, &args), &args));
    // It has begun to answer.
    client.send(&json!("no request"));
    client.wait_for("an error", |reply| reply["error"].is_object());
    std::fs::remove_file(&program).unwrap();
    ping(&mut client, 1, "ping");
    server.issuer.sign_in(&opened);
    assert_eq!(client.response(1)["result"], json!({}));
    client.close();
}

#[test]
fn refusal_without_the_browser_names_the_login_at_once() {
    let (mut home, server) = (Sandbox::new(), Protected::start(basic));
    let (mut client, opened) = start(&mut home, &server, &[]);
    let error = client.request(1, "ping", &json!({}))["error"].clone();
    assert_eq!(error["data"], json!({"code": "login_required", "hint": server.hint("")}), "{error}");
    assert_eq!((server.logins(), opened.exists()), (0, false));
    client.close();
    // The hint works, and the next bridge has a token.
    let login = home.spawn(&["login", "--for", &server.server.url, "--yes"]);
    server.issuer.sign_in(&opened);
    login.wait().exits(0);
    let mut client = Client(home.spawn(&["mcp", &server.server.url]));
    assert_eq!(client.request(1, "ping", &json!({}))["result"], json!({}));
    client.close();
}

#[test]
fn new_issuer_is_not_trusted_without_consent() {
    let (mut home, server) = (Sandbox::new(), Protected::start(basic));
    let (mut client, opened) = start(&mut home, &server, &["--browser"]);
    let error = client.request(1, "ping", &json!({}))["error"].clone();
    assert_eq!(error["data"]["code"], "login_required", "{error}");
    assert!(error["message"].as_str().unwrap().contains("has to be confirmed"), "{error}");
    assert_eq!((server.logins(), opened.exists()), (0, false));
    client.close();
}

fn write(method: &str, token: &str) -> Option<&'static str> {
    match (method, token) {
        (_, "") => Some("scope=\"mcp:basic\""),
        ("tools/call", "access-1") => Some("error=\"insufficient_scope\", scope=\"mcp:write\""),
        ("never", _) => Some("error=\"insufficient_scope\", scope=\"mcp:never\""),
        ("other", _) => Some("error=\"insufficient_scope\", scope=\"mcp:other\""),
        _ => None,
    }
}

#[test]
fn insufficient_scope_is_requested_once_beside_those_before() {
    let (mut home, server) = (Sandbox::new(), Protected::start(write));
    let (mut client, opened) = start(&mut home, &server, &["--browser", "--yes"]);
    ping(&mut client, 1, "ping");
    assert_eq!(scopes(&server.issuer.sign_in(&opened)), ["mcp:basic"]);
    assert_eq!(client.response(1)["result"], json!({}));
    ping(&mut client, 2, "tools/call");
    assert_eq!(scopes(&server.issuer.sign_in(&opened)), ["mcp:basic", "mcp:write"]);
    assert_eq!(client.response(2)["result"], json!({}));
    assert_eq!(server.logins(), 2);

    // Whatever the server asks for next, no other window is opened for some time.
    for (id, method) in [(3, "never"), (4, "never"), (6, "other")] {
        let error: Value = client.request(id, method, &json!({}))["error"].clone();
        assert_eq!(error["data"]["code"], "login_required", "{error}");
        assert!(error["data"]["hint"].as_str().unwrap().contains(&format!("mcp:{method}")), "{error}");
    }
    assert_eq!((server.logins(), opened.exists()), (2, false));
    assert_eq!(client.request(5, "tools/call", &json!({}))["result"], json!({}), "the session is not lost");
    client.close();
}

#[test]
fn step_up_without_the_browser_is_an_error_with_all_scopes() {
    let (mut home, server) = (Sandbox::new(), Protected::start(write));
    let opened = browser(&mut home);
    let login = home.spawn(&["login", "--for", &server.server.url, "--yes", "--scope", "mcp:basic"]);
    server.issuer.sign_in(&opened);
    login.wait().exits(0);
    let mut client = Client(home.spawn(&["mcp", &server.server.url]));
    let error = client.request(1, "tools/call", &json!({}))["error"].clone();
    assert_eq!(error["data"]["code"], "login_required", "{error}");
    let hint = server.hint(" --scope mcp:basic --scope mcp:write");
    assert_eq!(error["data"]["hint"], hint.replace("login", "login 127.0.0.1-PORT").replace("PORT", port(&server)));
    assert_eq!(client.request(2, "ping", &json!({}))["result"], json!({}));
    client.close();
    assert_eq!(server.logins(), 1);
}

/// Returns the port of the server, which is in the name of its profile.
fn port(server: &Protected) -> &str {
    server.server.url.rsplit(':').next().unwrap().trim_end_matches("/mcp")
}

#[test]
fn declined_login_is_not_repeated_and_its_hint_waits_for_no_input() {
    let (mut home, server) = (Sandbox::new(), Protected::start(write));
    let (mut client, opened) = start(&mut home, &server, &["--browser", "--yes"]);
    ping(&mut client, 1, "ping");
    let address = wait_until("the browser", || std::fs::read_to_string(&opened).ok());
    std::fs::remove_file(&opened).unwrap();
    let address: url::Url = address.trim().parse().unwrap();
    let sent = |name: &str| address.query_pairs().find(|(own, _)| own == name).unwrap().1.into_owned();
    let denied = format!("{}?error=access_denied&state={}", sent("redirect_uri"), sent("state"));
    crate::support::http::get(&denied, &[]);
    let error = client.response(1)["error"].clone();
    let hint = error["data"]["hint"].as_str().unwrap_or_default();
    assert!(!hint.split(' ').any(|word| word == "-" || word == "--challenge"), "{error}");
    for id in [2, 3] {
        let error = client.request(id, "tools/call", &json!({}))["error"].clone();
        assert_eq!(error["data"]["code"], "login_required", "{error}");
    }
    assert!(!opened.exists(), "no other window");
    client.close();
}

#[test]
fn end_of_the_bridge_ends_its_login() {
    let (mut home, server) = (Sandbox::new(), Protected::start(basic));
    let (mut client, opened) = start(&mut home, &server, &["--browser", "--yes"]);
    ping(&mut client, 1, "ping");
    let address = wait_until("the browser", || std::fs::read_to_string(&opened).ok());
    let address: url::Url = address.trim().parse().unwrap();
    let redirect = address.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    let redirect: url::Url = redirect.parse().unwrap();
    client.0.signal(rustix::process::Signal::TERM);
    client.0.wait().exits(130);
    let listener = format!("127.0.0.1:{}", redirect.port().unwrap());
    wait_until("a closed port", || std::net::TcpStream::connect(&listener).is_err().then_some(()));
}
