//! What `proxy`, `exec --proxy`, `mcp`, `token --for` and `headers` refuse before anything is sent.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use crate::support::jwt::claims;
use crate::support::process::{LIMIT, RunningCommand};
use crate::support::stub_server::{Request, StubServer};
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

fn logged_in() -> Sandbox {
    let home = Sandbox::new();
    home.log_in("work", &quick_issuer());
    home
}

#[test]
fn rules_of_exec_without_proxy_are_refused() {
    let home = logged_in();
    let ran = home.path().join("ran");
    let command = ["work", "--", "touch", ran.to_str().unwrap()];
    for rule in [
        &["--for", "https://api.example"][..],
        &["--for", "https://api.example", "--allow", "GET /v1/*"],
        &["--for", "https://api.example", "--read-only"],
        &["--for", "https://api.example", "--max-requests", "1"],
        &["--read-only"],
    ] {
        home.run(&[&["exec"], rule, &command].concat()).exits(2).reports("--proxy");
        assert!(!ran.exists(), "{rule:?}");
    }
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    let home = logged_in();
    let proxy = ["proxy", "work", "--for", "http://127.0.0.1:1"];
    for (more, text) in [
        (&["--ttl", "0s"][..], "invalid duration"),
        (&["--max-requests", "0"], "--max-requests"),
        (&["--read-only", "--allow", "POST /v1"], "--read-only excludes --allow 'POST /v1'"),
        (&["--read-only", "--allow", "GET /v1", "--allow", "GET,DELETE /v1"], "'GET,DELETE /v1'"),
    ] {
        home.run(&[&proxy[..], more].concat()).exits(2).reports(text);
    }
    for method in ["B AD", "", "GET\r\nX: y", "GÉT"] {
        home.run(&["headers", "work", "--for", "https://api.example", "--method", method]).exits(2).reports("method");
    }
}

#[test]
fn proxy_does_not_replace_a_file_that_is_no_socket() {
    let home = logged_in();
    let file = home.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    let listen = format!("unix:{}", file.display());
    let args = ["proxy", "work", "--for", "http://127.0.0.1:1", "--listen", &listen];
    home.run(&args).exits(2).reports("is not a socket");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn named_profile_for_other_apis_is_refused_with_its_login() {
    let home = logged_in();
    home.run(&["profile", "set", "work", "resources=https://api.example/v1"]).exits(0);
    home.log_in("any", &quick_issuer());
    let api = StubServer::start(|_, _: &Request| (200, "{}".to_owned()));
    let url = format!("{}/", api.url);
    let hint = format!("authctl login work --for {url}");
    for args in [
        &["token", "work", "--for", &url][..],
        &["headers", "work", "--for", &url],
        &["proxy", "work", "--for", &url],
        &["exec", "--proxy", "work", "--for", &url, "--", "true"],
        &["mcp", &url, "--profile", "work"],
    ] {
        home.run(args).exits(3).reports("`work` is not for").reports(&hint);
    }
    for args in [&["token", "nosuch", "--for", &url][..], &["proxy", "nosuch", "--for", &url]] {
        home.run(args).exits(2).reports("nosuch");
    }
    // One whose tokens are for no API in particular is for the API that is named with it.
    assert_eq!(home.run(&["token", "any", "--for", &url]).exits(0).line(), home.token("any"));
    home.run(&["token", "--for", &url]).exits(3).reports(&format!("authctl login --for {url}"));
    assert!(api.requests().is_empty(), "no token was sent");
}

#[test]
fn proxy_gets_a_token_for_its_own_api_alone() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    let api = StubServer::start(|_, _: &Request| (200, "{}".to_owned()));
    let own = format!("{}/v1", api.url);
    let login = ["login", "work", "--issuer", idp.issuer(), "--client-id", "authctl", "--username", USER];
    let resources = ["--password-stdin", "--resource", &own, "--resource", "https://other.example"];
    home.run_with(&[&login[..], &resources].concat(), &format!("{PASSWORD}\n")).exits(0);
    let program = "import sys, urllib.request as r\n\
        r.urlopen(r.Request(sys.argv[1], headers={'X-Authctl-Key': sys.argv[2]})).read()";
    let exec = ["exec", "--proxy", "work", "--for", &own, "--", "python3", "-c", program, "{url}", "{key}"];
    let ran = home.run(&exec);
    let requests = api.requests();
    assert_eq!(requests.len(), 1, "{}", ran.stderr);
    let sent = requests[0].authorization.as_deref().unwrap();
    let audience = claims(sent.trim_start_matches("Bearer "))["aud"].to_string();
    assert!(!audience.contains("https://other.example") && audience.contains(&own), "{audience}");
}

#[test]
fn command_behind_the_proxy_has_no_variable_that_leads_to_a_token() {
    const SECRETS: [&str; 7] = [
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "AUTHCTL_ID_TOKEN",
        "AUTHCTL_TOKEN",
        "AUTHCTL_TOKEN_FILE",
        "AUTHCTL_SOCK",
        "CREDENTIALS_DIRECTORY",
    ];
    let home = logged_in();
    let mut command = home.command(&["exec", "--proxy", "work", "--for", "http://127.0.0.1:1", "--", "env"]);
    for name in SECRETS {
        command.env(name, "/nowhere/secret-value");
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("AUTHCTL_PROXY_KEY="), "{output:?}");
    assert!(!shown.contains("secret-value"), "{shown}");
}

/// Starts a proxy; returns it with its host and key.
fn proxy<'a>(home: &'a Sandbox, args: &[&str]) -> (RunningCommand<'a>, String, String) {
    let running = home.spawn(&[&["proxy", "work"], args].concat());
    let (address, key) = running.wait_for_output("the address and the key", |output| {
        let mut lines = output.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        Some((lines.next()?.to_owned(), lines.next()?.to_owned()))
    });
    let host = address.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    (running, host, key)
}

/// Sends a request on an open connection, and returns the head of the response.
fn head(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn connection_without_the_key_does_not_stay_open() {
    let home = logged_in();
    let api = StubServer::start(|_, _: &Request| (200, String::new()));
    let (_running, host, key) = proxy(&home, &["--for", &api.url]);
    let connect = || {
        let stream = TcpStream::connect(&host).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    };
    let (mut caller, mut idle, mut wrong) = (connect(), connect(), connect());
    let request = |key: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\n\r\n");
    assert!(head(&mut caller, &request(&key)).starts_with("HTTP/1.1 200"));
    assert!(head(&mut wrong, &request("wrong")).starts_with("HTTP/1.1 401"));
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "closed");
    let _ = wrong.read_to_end(&mut Vec::new());
    assert!(head(&mut caller, &request(&key)).starts_with("HTTP/1.1 200"), "that of a caller is still open");
}

#[test]
fn read_only_proxy_opens_no_web_socket() {
    let home = logged_in();
    let api = StubServer::start(|_, _: &Request| (200, String::new()));
    let (_running, host, key) = proxy(&home, &["--for", &api.url, "--read-only"]);
    let mut stream = TcpStream::connect(&host).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    );
    assert!(head(&mut stream, &request).starts_with("HTTP/1.1 403"));
    assert!(api.requests().is_empty());
}
