//! Replies to refreshes that are lost: the request is repeated once, where that keeps sessions and cannot end one for nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use authctl::dev_issuer::{FaultKind, ReplyEdit};
use serde_json::Value;

use super::refresh::{DUE, LIFETIME, fault, logged_in, token_requests};
use crate::support::process::wait_until;
use crate::support::stub_server::{Reply, StubServer};
use crate::support::{Sandbox, issuer};

/// The response is lost after the issuer has acted on the request, at the first refresh after a login and at a later one.
#[test]
fn lost_reply_keeps_sessions_where_the_issuer_accepts_a_token_twice() {
    for (rotates, grace, survive) in [(true, 60, true), (false, 0, true), (true, 0, false)] {
        let (home, issuer) = (
            Sandbox::new(),
            issuer(|options| {
                options.rotate_refresh_tokens = rotates;
                options.reuse_grace = Duration::from_secs(grace);
            }),
        );
        let gateway = |status| FaultKind::Edited(ReplyEdit { status: Some(status), ..ReplyEdit::default() });
        let page = |status| {
            let (content_type, body) = (Some("text/html".into()), Some("<h1>Timeout</h1>".into()));
            FaultKind::Edited(ReplyEdit { status: Some(status), content_type, body, ..ReplyEdit::default() })
        };
        let text = |body: &str| ReplyEdit { body: Some(body.into()), ..ReplyEdit::default() };
        let cut_off = ReplyEdit { body: Some("{\"access_token\":\"a".into()), chunked: true, ..ReplyEdit::default() };
        for (name, kind, age, refreshed_before) in [
            ("first-valid", FaultKind::LostReply, DUE, false),
            ("first-expired", FaultKind::LostReply, LIFETIME + 1, false),
            ("later-valid", FaultKind::LostReply, DUE, true),
            ("later-expired", FaultKind::LostReply, LIFETIME + 1, true),
            ("gateway", gateway(502), LIFETIME + 1, true),
            ("unavailable", gateway(503), LIFETIME + 1, true),
            ("network", gateway(524), LIFETIME + 1, true),
            ("page-of-gateway", page(504), LIFETIME + 1, true),
            ("page-of-timeout", page(408), LIFETIME + 1, true),
            ("cut-off", FaultKind::Edited(cut_off), LIFETIME + 1, true),
            ("empty", FaultKind::Edited(text("")), LIFETIME + 1, true),
            ("blank", FaultKind::Edited(text("\0\0\0")), LIFETIME + 1, true),
            ("no-origin", gateway(530), LIFETIME + 1, true),
        ] {
            home.log_in(name, &issuer);
            if refreshed_before {
                home.run(&["refresh", name]).exits(0);
            }
            home.advance_time(name, age);
            let before = token_requests(&issuer);
            fault(&issuer, kind, 1);
            let ran = home.run(&["refresh", name]);
            assert_eq!(token_requests(&issuer), before + 2, "sent again once: {name}, {rotates} {grace}");
            if survive {
                ran.exits(0);
                home.run(&["refresh", name]).exits(0);
                assert_eq!(home.stored(name)["rotates"], rotates);
            } else {
                ran.exits(3).reports(&format!("authctl login {name}"));
            }
        }
        assert_eq!(issuer.stats().families_revoked > 0, !survive);
    }
}

/// Responses to the first request, which is not processed, and how often the request is sent.
#[test]
fn request_is_sent_again_by_status_and_retry_after_alone() {
    let (page, text, json) = ("text/html", "text/plain", "application/json");
    let problem = r#"{"message":"later"}"#;
    let rows = [
        (408, page, "<p>", None, 2),
        (408, page, "<p>", Some(1), 2),
        (408, json, problem, None, 2),
        (408, json, r#"{"error":"timeout"}"#, None, 2),
        (408, text, "", Some(1), 2),
        (425, page, "<p>", None, 1),
        (425, json, r#"{"error":"too_early"}"#, None, 1),
        (429, page, "<p>", None, 1),
        (429, text, "slow down", Some(1), 1),
        (500, page, "<p>", None, 1),
        (500, json, problem, Some(1), 1),
        (501, text, "", None, 1),
        (502, page, "<p>", None, 2),
        (502, json, problem, Some(1), 2),
        (503, page, "<p>", Some(1), 2),
        (503, json, problem, None, 2),
        (503, text, "busy", Some(60), 1),
        (504, page, "<p>", Some(1), 2),
        (504, json, r#"{"error":"invalid_grant"}"#, None, 2),
        (504, text, "", Some(60), 1),
        (505, text, "", None, 1),
        (519, page, "<p>", None, 1),
        (520, page, "<p>", None, 2),
        (524, json, problem, Some(1), 2),
        (527, text, "", None, 2),
        (528, text, "", None, 1),
    ];
    std::thread::scope(|scope| {
        for (status, kind, body, retry_after, expected) in rows {
            scope.spawn(move || {
                let requests = AtomicUsize::new(0);
                let issuer = StubServer::start(move |own, request| {
                    let tokens = r#"{"access_token":"new","token_type":"Bearer","expires_in":60,"refresh_token":"R"}"#;
                    let metadata = format!(r#"{{"issuer":"{own}","token_endpoint":"{own}/token"}}"#);
                    let is_first = request.path == "/token" && requests.fetch_add(1, Ordering::SeqCst) == 0;
                    match is_first {
                        true => {
                            let wait =
                                retry_after.map(|wait: u32| format!("retry-after: {wait}\r\n")).unwrap_or_default();
                            Reply { status, headers: format!("content-type: {kind}\r\n{wait}"), body: body.to_owned() }
                        }
                        false if request.path == "/token" => (200, tokens.to_owned()).into(),
                        false => (200, metadata).into(),
                    }
                });
                let home = Sandbox::new();
                let login = ["login", "work", "--issuer", &issuer.url, "--client-id", "c", "--with-token"];
                let tokens = r#"{"access_token":"old","token_type":"Bearer","expires_in":300,"refresh_token":"R"}"#;
                home.run_with(&login, tokens).exits(0);
                home.run(&["refresh", "work"]).exits(if expected == 2 { 0 } else { 6 });
                let sent = issuer.requests().iter().filter(|request| request.path == "/token").count();
                assert_eq!(sent, expected, "{status} {kind} {retry_after:?}");
            });
        }
    });
}

#[test]
fn page_of_a_portal_is_not_called_a_lost_reply() {
    let (home, issuer) = logged_in(|_| {});
    for (status, body, shown) in [
        (302, "", "HTTP 302 (a redirect)"),
        (511, "<p>portal", "returned HTTP 511"),
        (200, "<p>portal", "HTTP 200 with a web page"),
        (500, "", "returned HTTP 500"),
    ] {
        let page = ReplyEdit { status: Some(status), body: Some(body.into()), ..ReplyEdit::default() };
        fault(&issuer, FaultKind::Edited(page), 1);
        home.run(&["refresh", "work"]).exits(6).reports(shown);
        let before = token_requests(&issuer);
        let ran = home.run(&["refresh", "work"]).exits(6).reports("may have been processed").reports(shown);
        assert!(!ran.stderr.contains("was lost"), "{status}: {}", ran.stderr);
        assert_eq!(token_requests(&issuer), before, "it may be spent: {status}");
        home.log_in("work", &issuer);
    }
}

#[test]
fn refresh_token_is_held_back_after_two_lost_replies_until_expiry() {
    let (home, issuer) = logged_in(|_| {});
    let first = home.token("work");
    // Not processed, which only the issuer knows.
    fault(&issuer, FaultKind::Reset, 2);
    home.advance_time("work", DUE);
    let before = token_requests(&issuer);
    assert_eq!(home.run(&["token", "work"]).exits(0).line(), first);
    wait_until("the second request", || (token_requests(&issuer) == before + 2).then_some(()));
    wait_until("its end", || home.status("work")["last_failure"].is_object().then_some(()));
    // Longer than the backoff after a first failure.
    home.advance_time("work", 16);
    assert_eq!(home.run(&["token", "work"]).exits(0).line(), first);
    assert_eq!(token_requests(&issuer), before + 2, "it may be spent");
    assert!(home.status("work")["refreshing_since"].is_i64());
    home.run(&["refresh", "work"]).exits(6).reports("may have been processed: connection to");
    home.advance_time("work", LIFETIME);
    home.run(&["token", "work"]).exits(0);
    assert_eq!(home.status("work")["refreshing_since"], Value::Null);
    assert_eq!(issuer.stats().families_revoked, 0);
}

#[test]
fn refresh_token_that_does_not_rotate_is_not_held_back() {
    let (home, issuer) = logged_in(|options| options.rotate_refresh_tokens = false);
    home.run(&["refresh", "work"]).exits(0);
    fault(&issuer, FaultKind::LostReply, 2);
    home.run(&["refresh", "work"]).exits(6);
    home.run(&["refresh", "work"]).exits(0);
}

/// An issuer may rotate at some refreshes only.
#[test]
fn session_that_rotated_once_counts_as_rotating() {
    let (home, issuer) = logged_in(|_| {});
    home.run(&["refresh", "work"]).exits(0);
    let without = ReplyEdit { remove: vec!["refresh_token".into()], ..ReplyEdit::default() };
    fault(&issuer, FaultKind::Edited(without), 1);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(home.stored("work")["rotates"], true);
}

#[test]
fn refusal_of_the_second_request_is_reported() {
    let (home, issuer) = logged_in(|_| {});
    fault(&issuer, FaultKind::Reset, 1);
    fault(&issuer, FaultKind::OAuthError { status: 400, code: "bad_refresh_token".into() }, 1);
    home.run(&["refresh", "work"]).exits(5).reports("bad_refresh_token");
    assert!(home.status("work")["refreshing_since"].is_null());
}

#[test]
fn lost_reply_stays_in_doubt_if_the_second_request_is_put_off() {
    let (home, issuer) = logged_in(|_| {});
    for second in [FaultKind::TooManyRequests { retry_after: 1 }, FaultKind::Unavailable] {
        fault(&issuer, FaultKind::Reset, 1);
        fault(&issuer, second, 1);
        home.run(&["refresh", "work"]).exits(6);
        assert!(home.status("work")["refreshing_since"].is_i64());
        home.advance_time("work", LIFETIME + 1);
        home.run(&["token", "work"]).exits(0);
    }
}
