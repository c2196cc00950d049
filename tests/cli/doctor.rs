//! `authctl doctor`: each part is broken, and its check shows the problem and the command that solves it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::stub_server::StubServer;
use crate::support::{AUTHCTL, CommandOutput, Sandbox, USER, free_port, quick_issuer};

/// Returns a home with the session `work`.
fn logged_in() -> (Sandbox, DevIssuer) {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    home.session("work");
    (home, idp)
}

/// Runs `doctor --json` and returns its report. It may not contain the home directory or the user's name.
#[track_caller]
fn examine(home: &Sandbox, code: i32) -> Value {
    let ran = home.run(&["doctor", "--json", "-vvv"]).exits(code);
    let path = home.path().to_str().expect("text");
    assert!(!ran.stdout.contains(path) && !ran.stdout.contains(USER), "{}", ran.stdout);
    ran.json()
}

/// Returns the finding of a check, the first if there are several.
#[track_caller]
fn find(report: &Value, check: &str) -> Value {
    let all = report["checks"].as_array().expect("checks");
    all.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no {check}: {report}")).clone()
}

/// Fails the test unless the check found this, and only earlier checks are ok. Returns the hint.
#[track_caller]
fn finds(report: &Value, check: &str, status: &str, message: &str) -> String {
    let found = find(report, check);
    let text = found["message"].as_str().expect("text");
    assert!(found["status"] == status && text.contains(message), "{message}: {report}");
    let hint = found["hint"].as_str().expect("text").to_owned();
    assert!(!hint.is_empty(), "{found}");
    hint
}

/// Runs a hint as it is pasted into a shell.
#[track_caller]
fn paste(home: &Sandbox, hint: &str) -> CommandOutput {
    let dir = home.path().join("bin");
    let _ = fs::create_dir(&dir);
    let _ = symlink(AUTHCTL, dir.join("authctl"));
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").expect("a path"));
    let mut shell = home.command_for("sh", &["-c", hint]);
    home.run_command(shell.env("PATH", path))
}

fn configure(home: &Sandbox, issuer: &str) {
    home.configure(&format!("[profiles.work]\nissuer = \"{issuer}\"\nclient_id = \"c\"\nstore = \"file\"\n"));
}

#[test]
fn doctor_exits_with_0_when_nothing_is_wrong() {
    let (home, idp) = logged_in();
    let _agent = Agent::start(&home);
    let report = examine(&home, 0);
    let checks: Vec<(&str, &str)> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["check"].as_str().unwrap(), finding["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        checks,
        [
            ("config", "ok"),
            ("profile", "ok"),
            ("socket", "ok"),
            ("agent", "ok"),
            ("store", "ok"),
            ("session", "ok"),
            ("proxy", "ok"),
            ("dns", "ok"),
            ("connection", "ok"),
            ("tls", "skipped"),
            ("clock", "ok"),
            ("metadata", "ok"),
            ("keys", "ok"),
        ]
    );
    assert_eq!(report["profile"], "work");
    // Without stdin, stdout in text.
    let output = home.command(&["doctor", "work"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), text.lines().count()), (Some(0), checks.len()), "{text}");
    assert!(text.contains("ok       config      ~/config/authctl/config.toml: 1 profile\n"), "{text}");
    assert!(text.contains(&format!("ok       profile     work: {}\n", idp.issuer())), "{text}");
}

#[test]
fn doctor_before_the_first_login_checks_store_and_agent() {
    let home = Sandbox::new();
    let report = examine(&home, 0);
    assert_eq!(find(&report, "store")["status"], "ok", "{report}");
    assert_eq!(find(&report, "session")["status"], "skipped");
    finds(&report, "profile", "warning", "no profile configured");
    let mut home = Sandbox::with_store("keychain");
    home.set("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    let report = examine(&home, 7);
    assert!(finds(&report, "store", "error", "no keychain service").contains("--store file"));
}

#[test]
fn doctor_shows_an_invalid_configuration() {
    let (home, _idp) = logged_in();
    let valid = fs::read_to_string(home.config_file()).unwrap();
    home.register_secret("hunter2");
    fs::write(home.config_file(), "client_secret = hunter2").unwrap();
    let report = examine(&home, 2);
    let hint = finds(&report, "config", "error", "invalid configuration ~/config/authctl/config.toml: line 1,");
    assert_eq!(hint, "${EDITOR:-vi} ~/config/authctl/config.toml");
    for unknown in ["profile", "store", "session"] {
        assert_eq!(find(&report, unknown)["message"], "see config", "{unknown}");
    }
    finds(&report, "agent", "warning", "no agent runs");
    let editor = format!("EDITOR='cp {}'", home.path().join("valid").display());
    fs::write(home.path().join("valid"), &valid).unwrap();
    paste(&home, &format!("{editor}; {hint}")).exits(0);
    examine(&home, 0);
    // One profile of a newer version does not hide the others.
    home.configure(&format!(
        "{valid}\n[profiles.newer]\nissuer = \"https://a.example\"\nclient_id = \"c\"\nx = \"y\"\n"
    ));
    let report = examine(&home, 2);
    finds(&report, "config", "error", "profiles.newer: unknown setting `x`");
    // The store of a profile that does not exist is not the default one.
    let report = home.run(&["doctor", "unknown", "--json"]).exits(2).json();
    assert_eq!(
        (&find(&report, "store")["message"], &find(&report, "store")["hint"]),
        (&json!("see profile"), &json!(""))
    );
}

#[test]
fn doctor_shows_who_can_change_the_configuration() {
    let (home, _idp) = logged_in();
    fs::set_permissions(home.config_file(), fs::Permissions::from_mode(0o666)).unwrap();
    let report = examine(&home, 2);
    let hint = finds(&report, "config", "error", "other users can write to ~/config/authctl/config.toml");
    assert_eq!(hint, "chmod go-w ~/config/authctl/config.toml");
    paste(&home, &hint).exits(0);
    examine(&home, 0);
}

#[test]
fn doctor_shows_why_the_store_cannot_be_used() {
    let (home, _idp) = logged_in();
    let dir = home.path().join("data/authctl/sessions");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let hint = finds(&examine(&home, 7), "store", "error", "other users can write to ~/data/authctl/sessions");
    paste(&home, &hint).exits(0);
    assert_eq!(find(&examine(&home, 0), "store")["message"], "~/data/authctl/sessions/work.age");
    let key = fs::read(home.key_file()).unwrap();
    fs::write(home.key_file(), "no key").unwrap();
    finds(&examine(&home, 7), "store", "error", "it contains no age secret key");
    fs::set_permissions(home.key_file(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(home.key_file(), key).unwrap();
    let hint = finds(&examine(&home, 7), "store", "error", "other users can access it");
    paste(&home, &hint).exits(0);
    examine(&home, 0);
    fs::rename(&dir, home.path().join("away")).unwrap();
    fs::write(&dir, "not a directory").unwrap();
    let report = examine(&home, 7);
    finds(&report, "store", "error", "~/data/authctl/sessions");
    assert_eq!(find(&report, "session")["message"], "see store");
}

#[test]
fn doctor_shows_a_session_that_needs_a_login() {
    let (home, _idp) = logged_in();
    home.run(&["logout"]).exits(0);
    assert_eq!(finds(&examine(&home, 0), "session", "warning", "not logged in"), "authctl login work");
}

#[test]
fn doctor_shows_an_agent_that_does_not_run_or_is_locked() {
    let (home, _idp) = logged_in();
    let hint = finds(&examine(&home, 0), "agent", "warning", "no agent runs at ~/run/authctl/agent.sock");
    assert_eq!(hint, "authctl agent start");
    let agent = Agent::start(&home);
    agent.post("/v1/lock", r#"{"passphrase":"p"}"#).expect_status(200);
    assert_eq!(finds(&examine(&home, 0), "agent", "warning", "the agent is locked"), "authctl agent unlock");
}

/// Answers one request on the agent's socket with `body`; without one it does not answer.
fn stub_agent(home: &Sandbox, body: Option<Value>) -> std::thread::JoinHandle<()> {
    let dir = home.path().join("run/authctl");
    let _ = fs::create_dir_all(&dir);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    let socket = dir.join("agent.sock");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let Some(body) = body.map(|body| body.to_string()) else {
            // Until the client gives up.
            let _ = stream.read(&mut [0; 4096]);
            return;
        };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    })
}

#[test]
fn doctor_shows_an_older_agent_and_one_that_does_not_respond() {
    let (home, _idp) = logged_in();
    let old = stub_agent(&home, Some(json!({"running": true, "socket": "x", "pid": 1, "version": "0.0.9"})));
    let hint = finds(&examine(&home, 0), "agent", "warning", "the running agent has version 0.0.9, this is");
    old.join().unwrap();
    assert_eq!(hint, "authctl agent stop && authctl agent start");
    let silent = stub_agent(&home, None);
    finds(&examine(&home, 8), "agent", "error", "the agent does not respond");
    silent.join().unwrap();
}

#[test]
fn doctor_shows_why_no_agent_can_listen_at_the_socket() {
    let (mut home, _idp) = logged_in();
    let open = home.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    home.set("AUTHCTL_SOCK", open.join("agent.sock"));
    let report = examine(&home, 8);
    let hint = finds(&report, "socket", "error", "other users can write to ~/open");
    assert_eq!(find(&report, "agent")["message"], "see socket");
    paste(&home, &hint).exits(0);
    examine(&home, 0);
    let file = open.join("agent.sock");
    fs::write(&file, "").unwrap();
    let report = examine(&home, 2);
    let hint = finds(&report, "socket", "error", "~/open/agent.sock exists, and is not a socket");
    assert_eq!(find(&report, "agent")["message"], "see socket");
    assert!(paste(&home, &hint).exits(0).stdout.contains("agent.sock"));
    home.set("AUTHCTL_SOCK", home.path().join("x".repeat(200)));
    finds(&examine(&home, 8), "socket", "error", "is too long for a socket address");
}

/// Starts an issuer whose clock is `seconds` ahead of this machine's.
fn issuer_ahead_by(seconds: i64) -> StubServer {
    let now = SystemTime::now();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let date = if seconds < 0 { now - distance } else { now + distance };
    StubServer::with_date(&httpdate::fmt_http_date(date), |own, request| match request.path.as_str() {
        "/.well-known/openid-configuration" => {
            let metadata = json!({"issuer": own, "token_endpoint": format!("{own}/t"), "jwks_uri": format!("{own}/k")});
            (200, metadata.to_string())
        }
        _ => (404, "{}".into()),
    })
}

#[test]
fn doctor_compares_the_clock_with_the_issuers() {
    let home = Sandbox::new();
    for (seconds, status, message) in [
        (-3600, "error", "ahead of the issuer's"),
        (3600, "error", "behind the issuer's"),
        (120, "warning", "behind the issuer's"),
    ] {
        let idp = issuer_ahead_by(seconds);
        configure(&home, &idp.url);
        let report = home.run(&["doctor", "--json"]).json();
        let hint = finds(&report, "clock", status, message);
        assert_eq!(hint, "sudo timedatectl set-ntp true", "{seconds}");
        assert_eq!(home.run(&["doctor"]).code, if status == "error" { 2 } else { 6 }, "{seconds}: {report}");
    }
    let idp = issuer_ahead_by(5);
    configure(&home, &idp.url);
    assert_eq!(find(&examine(&home, 6), "clock")["status"], "ok");
}

#[test]
fn doctor_shows_an_issuer_that_cannot_be_reached() {
    let home = Sandbox::new();
    configure(&home, "https://issuer.invalid");
    let report = examine(&home, 6);
    finds(&report, "dns", "error", "cannot resolve issuer.invalid");
    for check in ["connection", "tls", "clock", "metadata", "keys"] {
        assert_eq!(find(&report, check)["message"], "see dns");
    }
    configure(&home, &format!("http://127.0.0.1:{}", free_port()));
    let report = examine(&home, 6);
    finds(&report, "connection", "error", "refused");
    assert_eq!(find(&report, "dns")["status"], "ok");
}

#[test]
fn doctor_ends_when_the_issuer_does_not_respond() {
    let home = Sandbox::new();
    let slow = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("http://{}", slow.local_addr().unwrap());
    configure(&home, &issuer);
    std::thread::spawn(move || {
        let (mut stream, _) = slow.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        // Each byte arrives within the limit for one.
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let report = examine(&home, 6);
    finds(&report, "connection", "error", &format!("no reply from {issuer} within 20 s"));
    assert_eq!(find(&report, "store")["status"], "ok");
}

#[test]
fn doctor_shows_a_proxy_that_refuses_without_its_password() {
    let mut home = Sandbox::new();
    configure(&home, "https://issuer.invalid");
    for (status, message) in
        [(403, "did not connect to issuer.invalid"), (407, "requires another user name and password")]
    {
        let proxy = StubServer::start(move |_, _| (status, String::new()));
        let address = proxy.url.trim_start_matches("http://");
        home.register_secret("hunter2");
        home.set("HTTPS_PROXY", format!("http://{USER}:hunter2@{address}"));
        let report = examine(&home, 6);
        finds(&report, "proxy", "error", &format!("proxy {address} {message}"));
        assert_eq!(find(&report, "tls")["message"], "see proxy");
    }
    home.set("HTTPS_PROXY", format!("socks://{USER}:hunter2@proxy.example"));
    finds(&examine(&home, 2), "proxy", "error", "invalid proxy address in HTTPS_PROXY");
}

#[test]
fn doctor_shows_certificate_authorities_that_cannot_be_read() {
    let mut home = Sandbox::new();
    configure(&home, "https://issuer.invalid");
    home.set("SSL_CERT_FILE", home.path().join("missing.pem"));
    let report = examine(&home, 2);
    finds(&report, "tls", "error", "~/missing.pem");
    assert_eq!(find(&report, "dns")["message"], "see tls");
}

#[test]
fn doctor_shows_what_is_wrong_with_the_metadata() {
    let (home, idp) = logged_in();
    for (kind, code, message) in [
        (FaultKind::EmptyBody { status: 404 }, 6, "is not an issuer: it returned HTTP 404"),
        (FaultKind::Html, 6, "a web page"),
        (FaultKind::InvalidJson, 6, "ended in the middle of the response"),
        (FaultKind::ServerError, 6, "HTTP 500"),
        (FaultKind::IssuerMismatch, 5, "expected issuer"),
    ] {
        idp.fault(Fault { endpoint: Endpoint::Metadata, kind: kind.clone(), times: 0 });
        let report = examine(&home, code);
        finds(&report, "metadata", "error", message);
        assert_eq!(find(&report, "keys")["message"], "see metadata", "{kind:?}");
        assert_eq!(find(&report, "connection")["status"], "ok", "{kind:?}");
        idp.clear_faults();
    }
}

#[test]
fn doctor_shows_keys_that_are_missing_or_unusable() {
    let (home, idp) = logged_in();
    let edited = |edit: Value| FaultKind::Edited(serde_json::from_value(edit).unwrap());
    let weak = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "weak"});
    for (endpoint, edit, code, message) in [
        (Endpoint::Metadata, json!({"remove": ["jwks_uri"]}), 0, "the issuer publishes no keys"),
        (Endpoint::Jwks, json!({"set": {"keys": []}}), 4, "can verify a token"),
        (Endpoint::Jwks, json!({"set": {"keys": [{"kty": "oct", "k": "AAAA"}]}}), 4, "can verify a token; left out"),
        (Endpoint::Jwks, json!({"set": {"keys": [weak]}}), 4, "can verify a token"),
        (Endpoint::Jwks, json!({"status": 404, "body": "{}"}), 6, "HTTP 404"),
        (Endpoint::Jwks, json!({"body": "<html>"}), 6, "instead of a JWK Set"),
    ] {
        idp.fault(Fault { endpoint, kind: edited(edit.clone()), times: 0 });
        let status = if code == 0 { "warning" } else { "error" };
        finds(&examine(&home, code), "keys", status, message);
        idp.clear_faults();
    }
}

#[test]
fn outage_is_an_error_after_a_refresh_that_failed() {
    let (home, idp) = logged_in();
    drop(idp);
    home.run(&["refresh", "work"]).exits(6);
    finds(&examine(&home, 6), "connection", "error", "refused");
}
