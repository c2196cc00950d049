//! Error responses and invalid responses: they differ in the exit code, and only the error members are shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{UNSEEN, answers, each, edits, fit_to_be_shown, log_in, row};
use crate::support::stub_server::StubServer;
use crate::support::{Sandbox, issuer, quick_issuer};

fn body(status: u16, content_type: &str, body: impl Into<String>) -> Value {
    let body: String = body.into();
    json!({"status": status, "content_type": content_type, "body": body.replace("UNSEEN", UNSEEN)})
}

fn refusal(status: u16, members: Value) -> Value {
    body(status, "application/json", members.to_string())
}

/// Such as the page of a gateway during maintenance.
#[test]
fn json_without_tokens_and_error_requires_no_login() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    log_in(&home, issuer.issuer(), &[]).exits(0);
    home.expire("work");
    answers(&issuer, "token", &body(200, "application/json", r#"{"message":"maintenance"}"#), 0);
    for _ in 0..3 {
        home.run(&["refresh", "work"]).exits(5).reports("refused the request: HTTP 200 with JSON that is not");
    }
    assert_eq!(home.status("work")["state"], "refresh_failing");
    issuer.clear_faults();
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn error_response_is_accepted_with_any_status() {
    let issuer = quick_issuer();
    let section = "RFC 6749, section 5.2";
    let client: &[&str] = &["the issuer refused: invalid_client", "note:  check --client-id"];
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
            row(section, "token", body(400, "text/html", "<h1>UNSEEN</h1>"), 6, page.leak()),
            row(section, "token", body(403, "text/plain", "invalid_grant UNSEEN"), 6, text.leak()),
            row(section, "token", body(400, "application/json", "{\"error\":\"UNSEEN"), 5, &["JSON that was cut off"]),
            row(section, "token", body(400, "application/xml", "<error>UNSEEN</error>"), 6, &["with XML instead of"]),
            row(
                section,
                "token",
                body(200, "application/json", r#"{"code":1,"msg":"UNSEEN"}"#),
                5,
                &["with JSON that is not"],
            ),
            row(section, "token", body(404, "application/json", r#"{"message":"UNSEEN"}"#), 6, other.leak()),
            row(section, "token", body(404, "application/json", r#"["UNSEEN"]"#), 6, &["JSON that is not an object"]),
            row(section, "token", body(404, "", ""), 6, nothing.leak()),
            row(section, "token", body(408, "", ""), 6, &["returned HTTP 408"]),
            row(section, "token", body(400, "application/json", twice), 5, &["HTTP 400 with other JSON"]),
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
                2,
                &["is not an issuer: it returned HTTP 404 for its metadata"],
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
fn refusal_without_error_member_is_named_by_its_status() {
    let issuer = quick_issuer();
    let section = "RFC 6749, section 5.2";
    let (not_json, web_page) = (&["with text that is not JSON"], &["with a web page"]);
    each(
        &issuer,
        &[
            row(
                section,
                "token",
                body(400, "application/json", ""),
                5,
                &["refused the request: HTTP 400 with an empty body"],
            ),
            row(section, "token", body(401, "", " \r\n"), 5, &["HTTP 401 with an empty body", "check --client-id"]),
            row(section, "token", body(403, "text/html", ""), 5, &["HTTP 403 with an empty body"]),
            row(section, "token", body(410, "", ""), 5, &["HTTP 410 with an empty body"]),
            row(section, "token", body(401, "text/plain", "UNSEEN"), 5, not_json),
            row(section, "token", body(403, "text/plain", "UNSEEN"), 6, not_json),
            row(section, "token", body(401, "text/html", "UNSEEN"), 6, web_page),
            row(section, "token", body(401, "", "\n<html>UNSEEN"), 6, web_page),
            row(section, "token", body(401, "application/json", "{}"), 5, &["HTTP 401 with other JSON"]),
            row(section, "token", refusal(403, json!({"message": UNSEEN})), 5, &["HTTP 403 with other JSON"]),
            row(section, "token", body(403, "application/json", r#""UNSEEN""#), 5, &["JSON that is not an object"]),
            row("RFC 8414", "metadata", body(403, "", ""), 5, &["HTTP 403 with an empty body", "address"]),
            row("RFC 7517", "jwks", body(401, "", ""), 5, &["HTTP 401 with an empty body", "address"]),
        ],
        answers,
    );
    // A logout, too: the tokens are not revoked, and no proxy is to blame.
    for status in [401, 403] {
        for reply in [body(status, "", ""), refusal(status, json!({"message": UNSEEN}))] {
            let home = Sandbox::new();
            log_in(&home, issuer.issuer(), &[]).exits(0);
            answers(&issuer, "revoke", &reply, 0);
            let ran = home.run(&["logout", "work"]).exits(5).reports(&format!("HTTP {status} with"));
            assert!(!ran.stderr.contains("proxy"), "{}", ran.stderr);
            issuer.clear_faults();
        }
    }
}

#[test]
fn grant_that_the_issuer_does_not_allow_is_reported_with_another() {
    let issuer = quick_issuer();
    for code in ["unsupported_grant_type", "unauthorized_client"] {
        for (without, hint) in [
            (&[][..], "--browser"),
            (&["authorization_endpoint"], "--device"),
            (&["authorization_endpoint", "device_authorization_endpoint"], "ask the issuer's operator"),
        ] {
            edits(&issuer, "metadata", &json!({"remove": without}), 0);
            answers(&issuer, "token", &refusal(400, json!({"error": code})), 0);
            let home = Sandbox::new();
            let ran = log_in(&home, issuer.issuer(), &[]).exits(5).reports(code).reports(hint);
            let command = ran.stderr.lines().find_map(|line| line.strip_prefix("hint:  authctl ")).unwrap_or_default();
            issuer.clear_faults();
            if hint == "--device" {
                // The whole command works as it is printed.
                let args: Vec<&str> = command.split(' ').collect();
                let login = home.spawn(&args);
                login.wait_until("a user code", |shown| shown.contains("enter the code").then_some(()));
                login.signal(rustix::process::Signal::INT);
                login.wait().exits(130);
            }
        }
    }
    // By a refresh, too.
    let home = Sandbox::new();
    log_in(&home, issuer.issuer(), &[]).exits(0);
    answers(&issuer, "token", &refusal(400, json!({"error": "unsupported_grant_type"})), 1);
    home.run(&["refresh", "work"]).exits(5).reports("hint:  authctl login work");
}

/// The age in seconds at which a token is valid and due for a refresh; it lives for 300.
const DUE: i64 = 260;

#[test]
fn refresh_token_refused_twice_in_other_words_requires_a_login() {
    let issuer = quick_issuer();
    for edit in [
        refusal(200, json!({"error": "bad_refresh_token", "error_description": "expired"})),
        refusal(200, json!({"error": "invalid_grant"})),
        refusal(400, json!({"error": "invalid_request"})),
        refusal(400, json!({"error": "invalid_token"})),
        refusal(401, json!({"error": "invalid_client"})),
        refusal(403, json!({"error": {"message": "no", "type": "OAuthException"}})),
        refusal(404, json!({"message": "no such token"})),
        refusal(422, json!({"errors": ["x"]})),
        body(400, "application/json", ""),
        body(401, "", ""),
        body(410, "text/html", ""),
        body(400, "application/json", r#""no""#),
        body(400, "application/x-www-form-urlencoded", "error=expired"),
        body(401, "text/plain", "the token is dead"),
        refusal(200, json!({"errcode": 40030, "errmsg": "invalid refresh_token"})),
        refusal(200, json!({"code": 20026, "msg": "refresh token invalid"})),
        refusal(200, json!({"errors": [{"message": "expired"}]})),
        body(400, "application/json", r#"{"error":"a","error":"b"}"#),
        body(400, "application/json", "{\"error\":\"a"),
    ] {
        let home = Sandbox::new();
        log_in(&home, issuer.issuer(), &[]).exits(0);
        let first = home.token("work");
        let refused = home.session("work").tokens.refresh_token.expect("there").expose().to_owned();
        answers(&issuer, "token", &edit, 0);
        home.advance_time("work", DUE);
        assert_eq!(home.token("work"), first, "valid, and refused once: {edit}");
        assert_eq!(home.status("work")["state"], "refresh_failing", "{edit}");
        home.advance_time("work", 300 - DUE + 1);
        assert_eq!(home.status("work")["state"], "refresh_failing", "refused once: {edit}");
        let requests = || issuer.stats().requests["token"];
        home.run(&["token", "work"]).exits(3).reports("hint:  authctl login work");
        let before = requests();
        for args in [&["token", "work"][..], &["verify", "work"], &["exec", "work", "--", "true"]] {
            home.run(args).exits(3).reports("hint:  authctl login work");
        }
        let status = home.status("work");
        assert_eq!(status["state"], "login_required", "{edit}");
        assert_eq!(status["problem"]["hint"], "authctl login work", "{edit}");
        home.run(&["status", "work", "--check"]).exits(3);
        assert_eq!(requests(), before, "not sent again: {edit}");
        let stored = home.session("work").tokens.refresh_token.expect("there").expose().to_owned();
        assert_eq!(stored, refused, "stored until a login: {edit}");
        // An explicit refresh sends it again, and succeeds once the issuer accepts it.
        home.run(&["refresh", "work"]).exits(3).reports("authctl login work");
        issuer.clear_faults();
        home.run(&["refresh", "work"]).exits(0);
        home.run(&["status", "work", "--check"]).exits(0);
    }
}

#[test]
fn reply_that_is_no_refusal_never_requires_a_login() {
    let issuer = quick_issuer();
    let page = "<!doctype html><p>invalid_grant";
    let both_ways: &[&str] = &["proxy", "try again", "hint:  authctl login work\n"];
    for (edit, code, texts) in [
        (body(400, "text/html", page), 6, both_ways),
        (body(401, "", page), 6, both_ways),
        (body(403, "text/html", "sign in to the network"), 6, both_ways),
        (body(200, "text/html", page), 6, both_ways),
        (body(403, "text/plain", "blocked by policy"), 6, both_ways),
        (body(400, "application/xml", "<error>invalid_grant</error>"), 6, both_ways),
        (body(404, "text/html", page), 6, &["address", "authctl profile show work"]),
        (body(302, "", ""), 6, &["address"]),
        (body(407, "", ""), 6, &["try again"]),
        (body(408, "", ""), 6, &["try again"]),
        (body(429, "", ""), 6, &["try again"]),
        (body(500, "application/json", r#"{"error":"invalid_grant"}"#), 6, &["try again"]),
        (refusal(400, json!({"error": "temporarily_unavailable"})), 5, &["temporarily_unavailable"]),
        (refusal(400, json!({"error": "server_error"})), 5, &["server_error"]),
        (refusal(400, json!({"error": "slow_down"})), 5, &["slow_down"]),
        (refusal(408, json!({"error": "invalid_request"})), 6, &["try again"]),
        (refusal(425, json!({"error": "invalid_request"})), 6, &["try again"]),
        (refusal(200, json!({})), 6, both_ways),
    ] {
        let home = Sandbox::new();
        log_in(&home, issuer.issuer(), &[]).exits(0);
        answers(&issuer, "token", &edit, 0);
        home.advance_time("work", 301);
        for _ in 0..3 {
            let ran = home.run(&["token", "work"]).exits(code);
            texts.iter().for_each(|text| assert!(ran.stderr.contains(text), "{edit}: no {text} in {}", ran.stderr));
        }
        assert_eq!(home.status("work")["state"], "refresh_failing", "{edit}");
        home.run(&["status", "work", "--check"]).exits(3);
        issuer.clear_faults();
        home.token("work");
        home.run(&["status", "work", "--check"]).exits(0);
    }
}

/// Returns an issuer that refuses refreshes for an audience with `refusal`, and all while `is_dead`.
fn issuer_that_refuses_audiences(refusal: &'static str, is_dead: &Arc<AtomicBool>) -> StubServer {
    let is_dead = Arc::clone(is_dead);
    StubServer::start(move |own, request| match request.path.as_str() {
        "/token" if is_dead.load(Ordering::SeqCst) || request.body.contains("audience=") => (400, refusal.into()),
        "/token" => {
            let tokens =
                json!({"access_token": "new", "token_type": "Bearer", "expires_in": 300, "refresh_token": "r"});
            (200, tokens.to_string())
        }
        _ => (200, json!({"issuer": own, "token_endpoint": format!("{own}/token")}).to_string()),
    })
}

#[test]
fn refused_audience_requires_a_login_only_if_the_session_is_dead() {
    for (refusal, shows_the_end) in [
        (r#"{"error":"invalid_request"}"#, true),
        (r#"{"error":"access_denied"}"#, true),
        (r#"{"message":"no"}"#, true),
        ("", true),
        (r#"{"error":"invalid_target"}"#, false),
        (r#"{"error":"invalid_scope"}"#, false),
    ] {
        let (home, is_dead) = (Sandbox::new(), Arc::new(AtomicBool::new(false)));
        let issuer = issuer_that_refuses_audiences(refusal, &is_dead);
        let login = ["login", "work", "--issuer", &issuer.url, "--client-id", "c", "--with-token"];
        let tokens = json!({"access_token": "old", "token_type": "Bearer", "expires_in": 300, "refresh_token": "r"});
        home.run_with(&login, &tokens.to_string()).exits(0);
        home.advance_time("work", 301);
        let for_audience = ["token", "work", "--audience", "https://a.example"];
        for _ in 0..4 {
            home.run(&for_audience).exits(5);
        }
        home.run(&["status", "work", "--check"]).exits(0);
        assert_eq!(home.run(&["token", "work"]).exits(0).line(), "new", "{refusal}");
        is_dead.store(true, Ordering::SeqCst);
        home.run(&for_audience).exits(5);
        home.advance_time("work", 301);
        home.run(&for_audience).exits(5);
        let requests = || issuer.requests().iter().filter(|request| request.path == "/token").count();
        if shows_the_end {
            home.run(&for_audience).exits(3).reports("hint:  authctl login work");
            let before = requests();
            home.run(&for_audience).exits(3).reports("hint:  authctl login work");
            home.run(&["status", "work", "--check"]).exits(3);
            assert_eq!(requests(), before, "not sent again: {refusal}");
        } else {
            (0..3).for_each(|_| drop(home.run(&for_audience).exits(5)));
            home.run(&["status", "work", "--check"]).exits(0);
        }
    }
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
        // The text of the error cannot forge a line of its own.
        assert!(!ran.stderr.lines().any(|line| line.starts_with("error: done")), "{which}: {}", ran.stderr);
        answers(&issuer, "token", &refusal(400, json!({"error": code, "error_description": description})), 1);
        let ran = log_in(&home, issuer.issuer(), &["--json"]).exits(5);
        fit_to_be_shown(&ran, &which);
        assert!(ran.error()["message"].as_str().is_some_and(|message| message.len() < 900), "{which}");
    }
}

#[test]
fn logged_error_is_sanitized() {
    let issuer = issuer(|options| options.opaque_access_tokens = true);
    let home = Sandbox::new();
    let hostile = json!({"error": "own_word", "error_description": "a\u{1b}[31m\u{9b}2J\u{202e}b"});
    answers(&issuer, "userinfo", &refusal(400, hostile), 1);
    let ran = log_in(&home, issuer.issuer(), &["--scope", "profile"]).exits(0).reports("own_word");
    fit_to_be_shown(&ran, "the log");
}

#[test]
fn refresh_is_retried_without_response_but_not_after_refusal() {
    let issuer = quick_issuer();
    for (edit, code, ends) in [
        (body(400, "text/html", "<p>invalid_grant"), 6, false),
        (body(400, "application/json", ""), 5, false),
        (body(401, "text/plain", "invalid_grant"), 5, false),
        (refusal(503, json!({"error": "invalid_grant"})), 0, false),
        (refusal(500, json!({"error": "invalid_grant"})), 6, false),
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
