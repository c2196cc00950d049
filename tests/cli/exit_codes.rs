//! The exit codes, each with the errors that cause it.

use std::fs;
use std::process::Stdio;

use authctl::dev_issuer::{Endpoint, Fault, FaultKind};

use crate::support::{PASSWORD, Sandbox, quick_issuer};

/// Returns a home with a session.
fn logged_in() -> (Sandbox, authctl::dev_issuer::DevIssuer) {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    (home, idp)
}

#[test]
fn done_or_granted_is_0() {
    let (home, _idp) = logged_in();
    for args in [&["token"][..], &["verify"], &["status", "--check"], &["exec", "--", "true"], &["logout"]] {
        home.run(args).exits(0);
    }
}

#[test]
fn unexpected_error_exits_with_1() {
    let (home, _idp) = logged_in();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = home.command(&["token"]).stdin(Stdio::null()).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn wrong_usage_or_configuration_exits_with_2() {
    let (home, _idp) = logged_in();
    for args in [&["tokn"][..], &["token", "--nonsense"], &["token", "missing"], &["agent"]] {
        home.run(args).exits(2);
    }
    fs::write(home.config_file(), "nonsense").unwrap();
    home.run(&["token"]).exits(2);
}

#[test]
fn login_required_exits_with_3() {
    let home = Sandbox::new();
    home.run(&["token"]).exits(3);
    let (home, idp) = logged_in();
    home.expire("work");
    idp.revoke_everything();
    home.run(&["token"]).exits(3).reports("authctl login work");
    home.run(&["token"]).exits(3);
}

#[test]
fn token_denied_exits_with_4() {
    let (home, _idp) = logged_in();
    home.run(&["verify", "--audience", "other"]).exits(4);
    home.run_with(&["verify", "-"], "not a token").exits(4);
}

#[test]
fn refusal_by_the_issuer_exits_with_5() {
    let (home, idp) = logged_in();
    let args = ["login", "--password", "--username", "developer", "--password-stdin"];
    home.run_with(&args, "wrong\n").exits(5).reports("invalid_grant");
    assert_ne!(PASSWORD, "wrong");
    let kind = FaultKind::OAuthError { status: 401, code: "invalid_client".into() };
    idp.fault(Fault { endpoint: Endpoint::Token, kind, times: 1 });
    home.expire("work");
    home.run(&["token"]).exits(5).reports("invalid_client");
}

#[test]
fn unreachable_issuer_exits_with_6() {
    let (home, mut idp) = logged_in();
    home.expire("work");
    // A response that is cut off is requested once more.
    for (kind, times) in [(FaultKind::Html, 1), (FaultKind::InvalidJson, 2), (FaultKind::ServerError, 1)] {
        idp.fault(Fault { endpoint: Endpoint::Token, kind: kind.clone(), times });
        assert_eq!(home.run(&["refresh"]).code, 6, "{kind:?}");
    }
    idp.pause();
    home.run(&["refresh"]).exits(6);
    idp.resume().unwrap();
    home.run(&["refresh"]).exits(0);
    // After `Retry-After` no request is sent before that time.
    idp.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::TooManyRequests { retry_after: 600 }, times: 1 });
    home.run(&["refresh"]).exits(6);
    let asked = idp.stats().requests["token"];
    home.run(&["refresh"]).exits(6).reports("try again after");
    assert_eq!(idp.stats().requests["token"], asked);
}

#[test]
fn unreadable_store_exits_with_7() {
    let (home, _idp) = logged_in();
    let key = fs::read(home.key_file()).unwrap();
    fs::remove_file(home.key_file()).unwrap();
    home.run(&["token"]).exits(7).reports("authctl.key");
    fs::write(home.key_file(), key).unwrap();
    fs::write(home.session_file("work"), "spoilt").unwrap();
    home.run(&["token"]).exits(7);
}

#[test]
fn missing_keychain_exits_with_7() {
    let mut home = Sandbox::with_store("keychain");
    home.set("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    home.configure("[profiles.work]\nissuer = \"https://a.example\"\nclient_id = \"c\"\nstore = \"keychain\"\n");
    home.run(&["token"]).exits(7).reports("--store file");
}

#[test]
fn interrupted_is_130() {
    let (home, idp) = logged_in();
    for signal in ["INT", "TERM", "HUP"] {
        let mut command = home.command(&["login", "work", "--device"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = crate::support::process::Lines::of(child.stderr.take().unwrap());
        assert!(stderr.any(|line| line.contains("waiting for the login")), "it waits");
        let kill = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
    }
    assert_eq!(idp.stats().token_responses.len(), 1, "{:?}", idp.stats());
    home.run(&["token"]).exits(0);
}
