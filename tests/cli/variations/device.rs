//! Device authorization (RFC 8628): variations of the first response and of those to polls.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{answers, edits, fit_to_be_shown};
use crate::support::login_pages::token_response;
use crate::support::{CommandOutput, Sandbox, USER, quick_issuer};

/// A device login: the changes to the first reply, and the replies to the polls before the tokens.
struct Row {
    section: &'static str,
    first: Value,
    polls: Vec<Value>,
    code: i32,
    stderr: Vec<&'static str>,
    /// The minimum total time between the polls.
    seconds: u64,
}

fn row(section: &'static str, first: Value, code: i32, stderr: &[&'static str]) -> Row {
    Row { section, first, polls: Vec::new(), code, stderr: stderr.to_vec(), seconds: 0 }
}

fn fault(kind: &str) -> Value {
    json!({"kind": kind})
}

fn error(error: &str) -> Value {
    json!({"kind": "replaced", "status": 400, "set": {"error": error}})
}

impl Row {
    fn polls(self, polls: &[Value], seconds: u64) -> Self {
        Self { polls: polls.to_vec(), seconds, ..self }
    }

    fn run(&self) -> (Sandbox, CommandOutput, Duration) {
        let issuer = quick_issuer();
        let tokens = token_response(&issuer, USER);
        let home = Sandbox::new();
        for name in ["access_token", "refresh_token", "id_token"] {
            home.register_secret(tokens[name].as_str().expect("a token"));
        }
        edits(&issuer, "device", &self.first, 1);
        for poll in &self.polls {
            let mut fault = json!({"endpoint": "token", "times": 1});
            fault.as_object_mut().expect("an object").extend(poll.as_object().expect("a fault").clone());
            issuer.fault(serde_json::from_value(fault).expect("a fault"));
        }
        answers(&issuer, "token", &json!({"set": tokens}), 0);
        let begun = Instant::now();
        let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--device", "-vvv"];
        let ran = home.spawn(&args).wait();
        (home, ran, begun.elapsed())
    }

    fn check(&self) {
        let (home, ran, took) = self.run();
        let Self { section, first, polls, .. } = self;
        assert_eq!(ran.code, self.code, "{section}: {first} {polls:?}: {}", ran.stderr);
        for text in &self.stderr {
            assert!(ran.stderr.contains(text), "{section}: {first} {polls:?}: no {text:?} in {}", ran.stderr);
        }
        assert!(took >= Duration::from_secs(self.seconds), "{section}: {first} {polls:?}: {took:?}");
        fit_to_be_shown(&ran, &first.to_string());
        assert_eq!(home.session_file("work").exists(), self.code == 0, "{section}: {first}");
    }
}

/// Checks all rows concurrently, because a row mostly waits between polls.
fn check_all(rows: &[Row]) {
    std::thread::scope(|scope| {
        for row in rows {
            scope.spawn(|| row.check());
        }
    });
}

/// Changes the first reply, with the shortest interval.
fn first(changes: Value) -> Value {
    let mut set = json!({"interval": 1});
    set.as_object_mut().expect("an object").extend(changes.as_object().expect("changes").clone());
    json!({"set": set})
}

fn first_without(member: &str) -> Value {
    json!({"set": {"interval": 1}, "remove": [member]})
}

#[test]
fn device_response_may_omit_optional_members() {
    let section = "RFC 8628, section 3.2";
    let uri = "https://a.example/device";
    check_all(&[
        row(section, first_without("verification_uri_complete"), 0, &["/device", "Logged in"]),
        row(section, first(json!({"verification_uri_complete": format!("{uri}?code=WDJB")})), 0, &["Logged in"]),
        row(section, first(json!({"verification_uri_complete": "https://a.example/#c=1&x=y"})), 0, &["Logged in"]),
        row(section, first(json!({"verification_uri_complete": "javascript:alert(1)"})), 0, &["Logged in"]),
        row(section, first(json!({"verification_uri_complete": 7})), 0, &["Logged in"]),
        row(section, first_without("expires_in"), 0, &["valid for 15 min;"]),
        row(section, first(json!({"expires_in": "600"})), 0, &["valid for 10 min;"]),
        row(section, first(json!({"expires_in": 1e9})), 0, &["valid for 1 h;"]),
        row(section, first(json!({"interval": "1"})), 0, &["Logged in"]),
        row(section, first(json!({"interval": 0})), 0, &["Logged in"]).polls(&[], 5),
        row(section, json!({"remove": ["interval"]}), 0, &["Logged in"]).polls(&[], 5),
        row("RFC 8628, section 6.1", first(json!({"user_code": "WDJBMJHT"})), 0, &["\n  WDJBMJHT\n"]),
        row("RFC 8628, section 6.1", first(json!({"user_code": 12_345_678})), 0, &["\n  12345678\n"]),
        row(section, first(json!({"expires_in": -5})), 0, &["valid for 15 min;"]),
        row(section, first(json!({"expires_in": "0"})), 0, &["valid for 15 min;"]),
        row("RFC 8628, section 6.1", first(json!({"user_code": "123 456 789"})), 0, &["\n  123 456 789\n"]),
        row(
            "as before RFC 8628",
            json!({"set": {"interval": 1, "verification_url": uri},
            "remove": ["verification_uri", "verification_uri_complete"]}),
            0,
            &["\n  https://a.example/device\n"],
        ),
    ]);
}

#[test]
fn invalid_device_response_is_reported() {
    let beyond = "beyond RFC 8628, section 3.2";
    let page = json!({"body": "<p>portal", "content_type": "text/html"});
    let refused = json!({"status": 403, "body": r#"{"error":"unauthorized_client"}"#});
    check_all(&[
        row(beyond, first_without("user_code"), 6, &["a device authorization response without user_code"]),
        row(beyond, first(json!({"user_code": ""})), 6, &["a device authorization response without user_code"]),
        row(beyond, first_without("device_code"), 6, &["a device authorization response without device_code"]),
        row(beyond, first_without("verification_uri"), 6, &["response without verification_uri"]),
        row(beyond, page, 6, &["returned HTTP 200 with a web page instead of a device authorization response"]),
        row(beyond, json!({"body": "{}"}), 6, &["with other JSON instead of a device authorization response"]),
        row("RFC 6749, section 5.2", refused, 5, &["unauthorized_client", "--client-id"]),
        row("RFC 8628, section 5.4", first(json!({"verification_uri": "http://evil.example"})), 5, &["insecure URL"]),
        row("RFC 8628, section 5.4", first(json!({"verification_uri": "javascript:alert(1)"})), 5, &["insecure URL"]),
        row(
            "sanitized for the terminal",
            first(json!({"user_code": "A\u{1b}[2J\u{202e}B\n\nC"})),
            0,
            &["  A\u{fffd}[2J\u{fffd}B"],
        ),
    ]);
}

#[test]
fn only_denial_and_expiry_end_polling() {
    let section = "RFC 8628, section 3.5";
    let start = || first(json!({}));
    let pending = error("authorization_pending");
    let busy = json!({"kind": "too_many_requests", "retry_after": 2});
    let page = json!({"kind": "replaced", "body": "<p>portal", "content_type": "text/html"});
    check_all(&[
        row(section, start(), 0, &["Logged in"]).polls(&[pending.clone(), pending.clone()], 3),
        row(section, start(), 0, &["Logged in"]).polls(&[error("slow_down")], 1 + 6),
        row(section, start(), 5, &["access_denied", "hint:  authctl login"]).polls(&[error("access_denied")], 1),
        row(section, start(), 3, &["login timed out", "authctl login work"]).polls(&[error("expired_token")], 1),
        // The interval grows after each fault (section 3.5), and returns to the old one after a valid response.
        row(section, start(), 0, &["Logged in"])
            .polls(&[fault("reset"), fault("reset"), pending.clone()], 1 + 2 + 4 + 1),
        row(section, start(), 0, &["Logged in"]).polls(&[fault("html_error"), fault("server_error")], 1 + 2 + 4),
        row(section, start(), 0, &["Logged in"]).polls(&[busy], 1 + 2),
        row(section, start(), 6, &["with a web page instead of a token response"]).polls(&[page], 1),
        row("RFC 6749, section 5.2", start(), 5, &["invalid_client"]).polls(&[error("invalid_client")], 1),
        // Polling ends when the code has expired, although the issuer still returns authorization_pending.
        row(section, first(json!({"expires_in": 3})), 3, &["login timed out"])
            .polls(&[pending.clone(), pending.clone(), pending], 2),
    ]);
}

#[test]
fn device_login_shows_client_scopes_and_audience() {
    let issuer = quick_issuer();
    let home = Sandbox::new();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--device"];
    let more = ["--scope", "openid", "--scope", "mail.read", "--audience", "https://api.example"];
    let waiting = home.spawn(&[&args[..], &more].concat());
    let text = waiting.wait_until("the warning", |text| text.contains("Ctrl-C cancels").then(|| text.to_owned()));
    // Lines are wrapped in a narrow terminal, so only the words are compared (RFC 8628, section 5.4).
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let asked = format!(
        "Requesting scope openid mail.read for https://api.example from {}, as client authctl",
        issuer.issuer()
    );
    assert!(text.contains(&asked), "{text}");
    assert!(text.contains("Never enter a code that you were sent"), "{text}");
    assert!(text.find(&asked) < text.find("enter the code"), "before the code: {text}");
}
