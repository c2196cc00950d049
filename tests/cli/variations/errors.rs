//! Error responses and invalid responses: they differ in the exit code, and only the error members are shown.

use serde_json::{Value, json};

use super::{UNSEEN, answers, each, fit_to_be_shown, log_in, row};
use crate::support::{Sandbox, quick_issuer};

fn body(status: u16, content_type: &str, body: impl Into<String>) -> Value {
    let body: String = body.into();
    json!({"status": status, "content_type": content_type, "body": body.replace("UNSEEN", UNSEEN)})
}

fn refusal(status: u16, members: Value) -> Value {
    body(status, "application/json", members.to_string())
}

#[test]
fn error_response_is_accepted_with_any_status() {
    let issuer = quick_issuer();
    let section = "RFC 6749, section 5.2";
    let client: &[&str] = &["the issuer refused: invalid_client", "hint:  check --client-id"];
    each(
        &issuer,
        &[
            row(section, "token", refusal(400, json!({"error": "invalid_client", "more": UNSEEN})), 5, client),
            row(section, "token", refusal(401, json!({"error": "invalid_client"})), 5, client),
            row(section, "token", refusal(403, json!({"error": "invalid_client"})), 5, client),
            row(section, "token", refusal(200, json!({"error": "invalid_client"})), 5, client),
            row(section, "token", body(400, "text/html", r#"{"error":"invalid_client"}"#), 5, client),
            row(section, "token", body(400, "text/plain", "\u{feff} {\"error\":\"invalid_client\"}\n"), 5, client),
            row(section, "token", body(400, "application/x-www-form-urlencoded", "error=invalid_client"), 5, client),
            row(section, "token", refusal(400, json!({"error": "invalid_scope"})), 5, &["--scope"]),
            row(section, "token", refusal(400, json!({"error": "own_word", "error_uri": UNSEEN})), 5, &["own_word"]),
            row(section, "token", refusal(400, json!({"error": "invalid_grant"})), 5, &["wrong user name or password"]),
            row(
                "beyond it",
                "token",
                refusal(400, json!({"error": {"type": "OAuthException", "message": "Bad", "trace": UNSEEN}})),
                5,
                &["OAuthException: Bad"],
            ),
        ],
        answers,
    );
}

#[test]
fn invalid_response_is_described_and_not_quoted() {
    let issuer = quick_issuer();
    let section = "beyond RFC 6749, section 5.2";
    let no_error = |what: &'static str| -> Vec<&'static str> { vec!["instead of an OAuth error response", what] };
    let (nothing, page, text, other) = (
        no_error("with an empty body"),
        no_error("a web page"),
        no_error("text that is not JSON"),
        no_error("other JSON"),
    );
    let twice = r#"{"error":"UNSEEN","error":"UNSEEN"}"#;
    each(
        &issuer,
        &[
            row(section, "token", body(400, "application/json", ""), 6, nothing.leak()),
            row(section, "token", body(401, "", " \r\n"), 6, &["HTTP 401 with an empty body"]),
            row(section, "token", body(400, "text/html", "<h1>UNSEEN</h1>"), 6, page.leak()),
            row(section, "token", body(403, "text/plain", "invalid_grant UNSEEN"), 6, text.leak()),
            row(section, "token", body(400, "application/json", "{\"error\":\"UNSEEN"), 6, &["not JSON"]),
            row(section, "token", body(400, "application/json", r#"{"message":"UNSEEN"}"#), 6, other.leak()),
            row(section, "token", body(404, "application/json", r#"["UNSEEN"]"#), 6, &["JSON that is not an object"]),
            row(section, "token", body(400, "application/json", twice), 6, &["with a duplicate or mistyped member"]),
            row(section, "token", body(302, "text/html", "UNSEEN"), 6, &["HTTP 302 (a redirect) instead of"]),
            row(
                section,
                "token",
                body(500, "application/json", r#"{"error":"invalid_grant"}"#),
                6,
                &["returned HTTP 500"],
            ),
            row(section, "token", body(200, "application/json", "{}"), 6, &["a token response without access_token"]),
            row(
                section,
                "token",
                body(200, "text/html", "<p>UNSEEN"),
                6,
                &["with a web page instead of a token response"],
            ),
            row(section, "token", body(204, "", ""), 6, &["HTTP 204 with an empty body instead of a token response"]),
            row(
                "RFC 6749, appendix A.12",
                "token",
                body(200, "application/json", r#"{"access_token":"UNSEEN\u0000"}"#),
                6,
                &["a token with invalid characters"],
            ),
            row(
                "RFC 8414",
                "metadata",
                body(404, "text/html", "UNSEEN"),
                6,
                &["instead of authorization server metadata"],
            ),
            row(
                "RFC 8414",
                "metadata",
                body(200, "text/html", "<p>UNSEEN"),
                6,
                &["HTTP 200 with a web page instead of"],
            ),
        ],
        answers,
    );
}

#[test]
fn error_description_is_sanitized_and_truncated() {
    let issuer = quick_issuer();
    let hostile = "\u{1b}[31m\u{1b}]0;title\u{7}a\r\nerror: done\u{8}\u{9b}2J \u{202e}txt.exe\u{200b}b";
    let long = "word ".repeat(20_000);
    for (code, description, shown) in [
        ("invalid_request", hostile, "a"),
        (hostile, "plain", "plain"),
        ("invalid_request", long.as_str(), "word word"),
        (long.as_str(), "plain", "plain"),
        ("invalid_request", "", "invalid_request"),
    ] {
        let home = Sandbox::new();
        let which = format!("{:.40} {:.40}", code.escape_debug().to_string(), description.escape_debug().to_string());
        answers(&issuer, "token", &refusal(400, json!({"error": code, "error_description": description})), 1);
        let ran = log_in(&home, issuer.issuer(), &[]).exits(5).reports(shown);
        fit_to_be_shown(&ran, &which);
        // The line that it would have forged is no line of its own.
        assert!(!ran.stderr.lines().any(|line| line.starts_with("error: done")), "{which}: {}", ran.stderr);
        answers(&issuer, "token", &refusal(400, json!({"error": code, "error_description": description})), 1);
        let ran = log_in(&home, issuer.issuer(), &["--json"]).exits(5);
        fit_to_be_shown(&ran, &which);
        assert!(ran.error()["message"].as_str().is_some_and(|message| message.len() < 900), "{which}");
    }
}

#[test]
fn refresh_is_retried_without_response_but_not_after_refusal() {
    let issuer = quick_issuer();
    for (edit, code, ends) in [
        (body(400, "text/html", "<p>invalid_grant"), 6, false),
        (body(400, "application/json", ""), 6, false),
        (body(401, "text/plain", "invalid_grant"), 6, false),
        (refusal(503, json!({"error": "invalid_grant"})), 6, false),
        (refusal(200, json!({"error": "invalid_grant"})), 5, false),
        (refusal(400, json!({"error": "invalid_client"})), 5, false),
        (refusal(403, json!({"error": "invalid_grant"})), 3, true),
        (refusal(401, json!({"error": "invalid_grant"})), 3, true),
    ] {
        let home = Sandbox::new();
        log_in(&home, issuer.issuer(), &[]).exits(0);
        home.advance_time("work", 301);
        answers(&issuer, "token", &edit, 1);
        home.run(&["token", "work"]).exits(code);
        let next = home.run(&["refresh", "work"]);
        assert_eq!(next.code, if ends { 3 } else { 0 }, "{edit}: {}", next.stderr);
    }
}
