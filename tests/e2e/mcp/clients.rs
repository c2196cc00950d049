//! Many clients at once over several lifetimes of a short-lived token.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use authctl::dev_issuer::Algorithm;
use serde_json::Value;

use super::{node, python, script};
use crate::agent_support::KillOnDrop;
use crate::support::agent::Agent;
use crate::support::{AUTHCTL, Sandbox, http, issuer};

/// How many clients there are.
const CLIENTS: usize = 20;
/// How long they run unless `AUTHCTL_MCP_SECONDS` is set: several lifetimes of a token.
const SECONDS: u64 = 20;
const LIFETIME: u64 = 5;

/// Starts FastMCP's server, which takes tokens of the issuer only; returns its URL.
pub fn server(issuer: &str) -> (KillOnDrop, String) {
    let mut command = Command::new(python());
    command.arg(script("server.py")).arg(issuer).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = KillOnDrop(command.spawn().expect("the server starts"));
    let mut url = String::new();
    BufReader::new(process.0.stdout.take().expect("piped")).read_line(&mut url).expect("its URL");
    assert!(url.starts_with("http://"), "the server has started: {url:?}");
    (process, url.trim_end().to_owned())
}

/// Runs the clients, and checks what they and the server have seen.
fn run(with_agent: bool) {
    let seconds = std::env::var("AUTHCTL_MCP_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let home = Sandbox::new();
    let issuer = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.access_token_ttl = Duration::from_secs(LIFETIME);
    });
    home.log_in("work", &issuer);
    let agent = with_agent.then(|| Agent::start(&home));
    let (_server, url) = server(issuer.issuer());
    let started = Instant::now();
    let mut command = home.command_for(python(), &[]);
    command.arg(script("clients.py")).args([&seconds.to_string(), &CLIENTS.to_string(), AUTHCTL]);
    command.args(["mcp", &url, "--profile", "work"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Beside the calls, the time in which twenty clients and their bridges start on a busy machine.
    let limit = Duration::from_secs(seconds + 180);
    let ran = home.finish_within(limit, command.spawn().expect("spawned"), &["clients.py"]).exits(0);
    let calls: Vec<u64> = serde_json::from_str(&ran.stdout).expect("the calls of each client");
    assert!(calls.len() == CLIENTS && calls.iter().all(|count| *count > 1), "{calls:?}");

    // The inspector starts a bridge for each call.
    let (inspector, path) = node(".bin/mcp-inspector");
    let mut command = home.command_for(inspector, &["--cli"]);
    // It passes on fewer variables than name the test's home.
    for (name, value) in home.command(&[]).get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        command.arg("-e").arg(format!("{}={value}", name.to_string_lossy()));
    }
    command.args(["--method", "tools/list", AUTHCTL, "mcp", &url, "--profile", "work"]).env("PATH", path);
    let listed = home.run_command(&mut command).exits(0).json();
    assert_eq!(listed["tools"][0]["name"], "add", "{listed}");

    let seen: Value = serde_json::from_str(&http::get(&url.replace("/mcp", "/seen"), &[]).1).expect("JSON");
    let refused = ["403", "500"].iter().find(|status| !seen["statuses"][**status].is_null());
    assert_eq!(refused, None, "a client saw an error: {seen}");
    // The clients check each result, so they have seen no 401. The server has if a token expired on its way; the bridge then sends
    // the request again.
    let expired = seen["statuses"]["401"].as_u64().unwrap_or(0);
    let tokens: Vec<&str> = seen["tokens"].as_array().expect("tokens").iter().filter_map(Value::as_str).collect();
    let stats = issuer.stats();
    // The agent refreshes a token of this lifetime when it is a second old. Clients that did not share would refresh each.
    let most = started.elapsed().as_secs() + 2;
    println!(
        "with an agent: {with_agent}; {} calls, {expired} sent again, {} refreshes, {} tokens, at most {most} refreshes",
        calls.iter().sum::<u64>(),
        stats.refreshes_committed,
        tokens.len()
    );
    assert!(tokens.len() > 2, "several lifetimes: {}", tokens.len());
    assert!(stats.refreshes_committed <= most, "one refresh each time: {}", stats.refreshes_committed);
    assert_eq!((stats.refresh_reuses, stats.families_revoked), (0, 0));
    for token in tokens {
        let token = token.strip_prefix("Bearer ").expect("a bearer token");
        home.register_secret(token);
        assert!(!ran.stdout.contains(token) && !ran.stderr.contains(token));
    }
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
    drop(agent);
}

#[test]
fn twenty_clients_share_one_refresh_through_the_agent() {
    run(true);
}

#[test]
fn twenty_clients_share_one_refresh_without_an_agent() {
    run(false);
}
