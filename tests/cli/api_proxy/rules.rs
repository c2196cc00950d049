//! What may pass: rules of the command line and of the profile, and the audit log of what did not.

use serde_json::{Value, json};

use super::{Proxy, api, logged_in, refusing_api};
use crate::support::agent::Agent;
use crate::support::process::wait_until;

/// Returns the code of a problem document.
fn code(body: &str) -> String {
    let problem: Value = serde_json::from_str(body).expect(body);
    problem["code"].as_str().expect("a code").to_owned()
}

#[test]
fn rules_of_the_profile_and_of_the_command_restrict_each_other() {
    let (home, _idp) = logged_in();
    let api = api();
    home.run(&["profile", "set", "work", "proxy_allow=GET /v1/** POST,PUT /v1/search", "proxy_max_requests=3"])
        .exits(0);
    let shown = home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    assert_eq!(shown["proxy_allow"], json!(["GET /v1/**", "POST,PUT /v1/search"]));
    let proxy = Proxy::start(&home, &["work", "--for", &api.url, "--allow", "* /v1/**", "--max-requests", "9"]);
    for (method, path, status, rule) in [
        ("GET", "/v1/items", 200, ""),
        ("PUT", "/v1/search", 200, ""),
        ("DELETE", "/v1/items", 403, "proxy_allow"),
        ("GET", "/v2", 403, "allow"),
        ("GET", "/v1/items", 200, ""),
        ("GET", "/v1/items", 429, "max-requests"),
    ] {
        let (seen, body) = proxy.request(method, path, "");
        assert_eq!(seen, status, "{method} {path}: {body}");
        assert!(status == 200 || code(&body) == rule, "{method} {path}: {body}");
    }
    assert_eq!(api.requests().len(), 3);
    home.run(&["profile", "set", "work", "proxy_allow=GET"]).exits(2).reports("invalid rule");
    home.run(&["profile", "set", "work", "proxy_read_only=yes"]).exits(2).reports("false, true");
    home.run(&["profile", "set", "work", "proxy_max_requests=-1"]).exits(2).reports("whole number");
}

#[test]
fn running_proxy_applies_changed_rules_of_the_profile() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.request("POST", "/v1", "").0, 200);
    home.run(&["profile", "set", "work", "proxy_read_only=true"]).exits(0);
    let (status, body) =
        wait_until("the rule", || Some(proxy.request("POST", "/v1", "")).filter(|(status, _)| *status != 200));
    assert_eq!((status, &*code(&body)), (403, "proxy_read_only"));
    assert_eq!(proxy.get("/v1").0, 200);
    home.run(&["profile", "set", "work", "proxy_read_only="]).exits(0);
    wait_until("the rule to go", || Some(()).filter(|()| proxy.request("POST", "/v1", "").0 == 200));
}

/// What is sent after a change of protocol cannot be checked.
#[test]
fn profile_that_is_read_only_opens_no_web_socket() {
    let (home, _idp) = logged_in();
    home.run(&["profile", "set", "work", "proxy_read_only=true"]).exits(0);
    let api = api();
    let proxy = Proxy::for_api(&home, &api.url);
    let (host, key) = (proxy.host(), &proxy.key);
    let reply = proxy.send(&format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    ));
    assert!(reply.starts_with("HTTP/1.1 403") && reply.contains("\"proxy_read_only\""), "{reply}");
    assert!(api.requests().is_empty());
}

#[test]
fn request_that_is_sent_again_counts_twice() {
    let (home, _idp) = logged_in();
    let (api, refused) = refusing_api();
    for (most, expected, sent) in [("1", 401, 1), ("2", 200, 3)] {
        *refused.lock().unwrap() = home.token("work");
        let proxy = Proxy::start(&home, &["work", "--for", &api.url, "--max-requests", most]);
        assert_eq!((proxy.get("/").0, api.requests().len()), (expected, sent), "{most}");
        assert_eq!(proxy.get("/").0, 429, "{most}");
    }
}

#[test]
fn profile_that_is_no_longer_for_the_api_gives_it_no_token() {
    let (home, _idp) = logged_in();
    let api = api();
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/").0, 200);
    home.run(&["profile", "set", "work", "resources=https://other.example"]).exits(0);
    let (status, body) = wait_until("the change", || Some(proxy.get("/")).filter(|(status, _)| *status != 200));
    assert!(status == 503 && body.contains("`work` is not for"), "{status} {body}");
    assert_eq!(code(&body), "login_required");
}

#[test]
fn locked_rule_holds_against_the_users_own_configuration() {
    let (mut home, _idp) = logged_in();
    let directory = home.path().join("etc");
    std::fs::create_dir_all(directory.join("authctl")).unwrap();
    let text = "[profiles.work]\nproxy_allow = [\"GET /v1/**\"]\nlocked = [\"proxy_allow\"]\n";
    std::fs::write(directory.join("authctl/config.toml"), text).unwrap();
    home.set("XDG_CONFIG_DIRS", directory.to_str().unwrap());
    let api = api();
    home.run(&["profile", "set", "work", "proxy_allow=* /**"]).exits(2).reports("proxy_allow");
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/v1/items").0, 200);
    let (status, body) = proxy.request("POST", "/v1/items", "");
    assert_eq!((status, &*code(&body)), (403, "proxy_allow"));
}

#[test]
fn command_with_a_proxy_is_bound_by_the_profile() {
    let (home, _idp) = logged_in();
    home.run(&["profile", "set", "work", "proxy_read_only=true"]).exits(0);
    let api = api();
    let program = "import os, urllib.error, urllib.request as r\n\
        q = r.Request(os.environ['URL'], data=b'x', headers={'X-Authctl-Key': os.environ['KEY']})\n\
        try: r.urlopen(q)\n\
        except urllib.error.HTTPError as e: print(e.code, e.read().decode())";
    let environment = ["--env", "URL={url}", "--env", "KEY={key}"];
    let args = [&["exec", "--proxy", "work", "--for", &api.url], &environment[..], &["--", "python3", "-c", program]];
    let ran = home.run(&args.concat()).exits(0);
    assert!(ran.stdout.starts_with("403 ") && ran.stdout.contains("proxy_read_only"), "{}", ran.stdout);
    assert!(api.requests().is_empty());
}

#[test]
fn refused_requests_are_in_the_audit_log_without_queries_and_headers() {
    let (home, _idp) = logged_in();
    home.run(&["profile", "set", "work", "proxy_allow=* /v1/**"]).exits(0);
    let _agent = Agent::start(&home);
    let api = api();
    let proxy = Proxy::start(&home, &["work", "--for", &api.url, "--read-only"]);
    assert_eq!(proxy.get("/v1").0, 200);
    for number in 0..50 {
        assert_eq!(proxy.request("POST", &format!("/v1/{number}?secret-query=1"), "secret-body").0, 403);
    }
    assert_eq!(proxy.get("/v2?secret-query=1").0, 403);
    // The agent takes no longer request than this.
    let (host, long) = (proxy.host(), "x".repeat(20_000));
    let reply = proxy.send(&format!(
        "GET /{long} HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: secret-wrong\r\nConnection: close\r\n\r\n"
    ));
    assert!(reply.starts_with("HTTP/1.1 401"), "{reply}");
    let entries = wait_until("the audit log", || {
        let log = home.run(&["agent", "log", "--json"]).exits(0).json();
        let entries = log["entries"].as_array()?.clone();
        let refused: Vec<Value> = entries.into_iter().filter(|entry| entry["action"] == "proxy_refused").collect();
        let count: u64 = refused.iter().filter_map(|entry| entry["count"].as_u64()).sum();
        (count == 52).then_some(refused)
    });
    let mut shown: Vec<Value> = entries
        .iter()
        .map(|entry| json!([entry["rule"], entry["count"], entry["request"], entry["profile"], entry["pid"]]))
        .collect();
    shown.sort_by_key(ToString::to_string);
    let pid = proxy.child.id();
    let expected = [
        json!(["key", 1, format!("GET /{}…", "x".repeat(495)), "work", pid]),
        json!(["proxy_allow", 1, "GET /v2", "work", pid]),
        json!(["read-only", 50, "POST /v1/49", "work", pid]),
    ];
    assert_eq!(shown, expected);
    let text = home.run(&["agent", "log"]).exits(0).stdout;
    assert!(text.contains("proxy_refused work by read-only: POST /v1/49, 50 times"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    assert!(!proxy.stop().contains("secret"));
}

#[test]
fn agent_takes_only_known_rules_from_a_proxy() {
    let (home, _idp) = logged_in();
    let agent = Agent::start(&home);
    for body in [
        r#"{"reported":{"refused":{"rule":"made-up","count":1,"request":"GET /"}}}"#,
        r#"{"reported":{"refused":{"rule":"key","count":0,"request":"GET /"}}}"#,
        r#"{"reported":{"refused":{"rule":"key","count":1,"request":"GET /","token":"x"}}}"#,
        r#"{"reported":{}}"#,
    ] {
        agent.post("/v1/proxy", body).expect_problem(400, "invalid_request");
    }
    let long = "x".repeat(10_000);
    let report = json!({"profile": "unknown", "reported": {"refused": {"rule": "key", "count": 1, "request": long}}});
    agent.post("/v1/proxy", &report.to_string()).expect_status(200);
    let entry = home.run(&["agent", "log", "--json"]).exits(0).json()["entries"][0].clone();
    assert_eq!(entry["profile"], Value::Null);
    assert!(entry["request"].as_str().unwrap().len() < 600);
}
