//! Failed refreshes: the issuer alone ends a session.

use std::time::Duration;

use authctl::dev_issuer::{Endpoint, Fault, FaultKind};
use authctl::secret::Secret;
use serde_json::{Value, json};

use super::refresh::{DUE, LIFETIME, fault, logged_in, token, token_requests};
use crate::support::agent::Agent;
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

/// Checks that during a failure a valid token is printed and an expired one is exit code 6, and that the session can be
/// refreshed afterwards.
#[track_caller]
fn assert_session_survives(what: &str, home: &Sandbox, begin: impl FnOnce(), end: impl FnOnce()) {
    let first = home.token("work");
    begin();
    home.advance_time("work", DUE);
    for _ in 0..2 {
        let ran = token(home);
        assert_eq!((ran.code, ran.stdout.trim_end()), (0, first.as_str()), "{what}, still valid: {}", ran.stderr);
    }
    home.advance_time("work", LIFETIME - DUE + 20);
    let ran = token(home);
    assert_eq!((ran.code, ran.stdout.as_str()), (6, ""), "{what}, expired: {}", ran.stderr);
    assert!(ran.stderr.contains("hint:  ") || ran.stderr.contains("note:  "), "{what}: {}", ran.stderr);
    assert_eq!(home.status("work")["state"], "refresh_failing", "{what}");
    home.run(&["refresh", "work"]).exits(6);
    end();
    home.advance_time("work", 20);
    let ran = token(home);
    assert_eq!(ran.code, 0, "{what}, afterwards: {}", ran.stderr);
    assert_ne!(ran.stdout.trim_end(), first, "{what}");
    home.register_secret(ran.line());
    assert_eq!(home.status("work")["last_failure"], Value::Null, "{what}");
}

#[test]
fn responses_not_from_the_issuer_do_not_end_a_session() {
    let (home, issuer) = logged_in(|_| {});
    for kind in [
        FaultKind::Html,
        FaultKind::HtmlError,
        FaultKind::InvalidJson,
        FaultKind::HugeBody,
        FaultKind::Reset,
        FaultKind::ServerError,
        FaultKind::Unavailable,
        FaultKind::TooManyRequests { retry_after: 7 },
        FaultKind::EmptyBody { status: 200 },
        FaultKind::OAuthError { status: 500, code: "invalid_grant".into() },
        FaultKind::OAuthError { status: 503, code: "invalid_grant".into() },
    ] {
        let what = format!("{kind:?}");
        assert_session_survives(&what, &home, || fault(&issuer, kind, 0), || issuer.clear_faults());
    }
    let stats = issuer.stats();
    assert_eq!((stats.refresh_reuses, stats.families_revoked), (0, 0));
}

#[test]
fn metadata_errors_do_not_end_a_session() {
    let (home, issuer) = logged_in(|_| {});
    for kind in [FaultKind::Html, FaultKind::ServerError, FaultKind::Reset, FaultKind::EmptyBody { status: 404 }] {
        let what = format!("{kind:?}");
        let begin = || issuer.fault(Fault { endpoint: Endpoint::Metadata, kind, times: 0 });
        assert_session_survives(&what, &home, begin, || issuer.clear_faults());
    }
}

#[test]
fn unreachable_issuer_does_not_end_a_session() {
    let (home, issuer) = logged_in(|_| {});
    let issuer = std::cell::RefCell::new(issuer);
    assert_session_survives("down", &home, || issuer.borrow_mut().pause(), || issuer.borrow_mut().resume().unwrap());
}

#[test]
fn invalid_grant_with_status_200_does_not_end_a_session() {
    let (home, issuer) = logged_in(|_| {});
    fault(&issuer, FaultKind::OAuthError { status: 200, code: "invalid_grant".into() }, 1);
    home.advance_time("work", LIFETIME + 1);
    let ran = token(&home);
    assert!(matches!(ran.code, 5 | 6), "{} {}", ran.code, ran.stderr);
    assert_eq!(home.status("work")["can_refresh"], true);
    token(&home).exits(0);
}

#[test]
fn retry_after_is_respected() {
    let (home, issuer) = logged_in(|_| {});
    fault(&issuer, FaultKind::TooManyRequests { retry_after: 120 }, 1);
    home.advance_time("work", LIFETIME + 1);
    token(&home).exits(6).reports("try again in 2 min");
    let before = token_requests(&issuer);
    for args in [&["token", "work"][..], &["refresh", "work"], &["token", "work", "--scope", "profile"]] {
        home.run(args).exits(6).reports("try again after");
    }
    assert_eq!(token_requests(&issuer), before);
    home.advance_time("work", 121);
    token(&home).exits(0);
    assert_eq!(token_requests(&issuer), before + 1);
}

#[test]
fn invalid_grant_is_login_required_in_every_command() {
    let (home, issuer) = logged_in(|_| {});
    let first = home.token("work");
    issuer.revoke_everything();
    home.advance_time("work", DUE);
    token(&home).exits(3).reports("authctl login work");
    let before = token_requests(&issuer);
    // The access token has not expired, but the session has ended.
    let commands = [
        &["token", "work"][..],
        &["refresh", "work"],
        &["token", "work", "--audience", "https://a.example"],
        &["token", "work", "--id-token"],
        &["verify", "work"],
        &["exec", "work", "--", "true"],
        &["status", "work", "--check"],
    ];
    for args in commands {
        let ran = home.run(args).exits(3);
        if args[0] != "status" {
            ran.reports("authctl login work");
        }
    }
    assert_eq!(token_requests(&issuer), before, "an ended session is not refreshed again");
    let status = home.status("work");
    assert_eq!((&status["state"], &status["can_refresh"]), (&json!("login_required"), &json!(false)));
    assert!(status["problem"]["message"].as_str().unwrap().contains("invalid_grant"), "{status}");
    assert_eq!(home.run(&["token", "work", "--json"]).exits(3).error()["code"], "login_required");
    home.run(&["status", "work", "--check"]).exits(3);
    home.log_in("work", &issuer);
    assert_ne!(home.token("work"), first);
}

#[test]
fn password_change_at_the_issuer_ends_the_session() {
    let (home, issuer) = logged_in(|_| {});
    let token = home.token("work");
    let verify = || home.run_with(&["verify", "-", "--profile", "work", "--json"], &token);
    verify().exits(0);
    assert!(issuer.change_password(USER, &Secret::new("another".into())));
    home.run(&["refresh", "work"]).exits(3).reports("authctl login work");
    assert_eq!(verify().exits(4).json()["reasons"][0]["code"], "revoked", "a copy of its token");
    let again = ["login", "work", "--password", "--password-stdin", "--username", USER];
    home.run_with(&again, PASSWORD).exits(5);
    home.run_with(&again, "another").exits(0);
    home.run(&["refresh", "work"]).exits(0);
}

/// A service has no user who logs in again, and the issuer may be corrected.
#[test]
fn refused_client_credentials_are_sent_again() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let secret = issuer.client_secret("authctl-service").expect("drawn").expose().to_owned();
    home.register_secret(&secret);
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl-service", "--scope", "read"];
    home.run_with(&[&login[..], &["--client-credentials", "--client-secret-stdin"]].concat(), &secret).exits(0);
    home.advance_time("work", LIFETIME + 1);
    fault(&issuer, FaultKind::OAuthError { status: 401, code: "invalid_client".into() }, 0);
    for _ in 0..4 {
        token(&home).exits(5);
    }
    issuer.clear_faults();
    token(&home).exits(0);
}

#[test]
fn failures_recorded_before_the_clock_was_set_back_are_ignored() {
    const DAY: i64 = 24 * 3600;
    let (home, issuer) = logged_in(|o| o.reuse_grace = Duration::from_secs(60));
    for (kind, times) in [(FaultKind::TooManyRequests { retry_after: 10 }, 1), (FaultKind::LostReply, 2)] {
        let what = format!("{kind:?}");
        let first = home.token("work");
        fault(&issuer, kind, times);
        home.advance_time("work", LIFETIME + 1);
        token(&home).exits(6);
        home.advance_time("work", -DAY);
        let second = home.token("work");
        assert_ne!(second, first, "{what}: by the set-back clock, the old token is valid for another day");
        assert_eq!(home.token("work"), second, "{what}");
    }
    // The same for a token without a known expiry.
    home.change_session("work", |session| {
        session.tokens.expires_at = None;
        session.refreshing_since = Some(authctl::clock::UnixTime(crate::support::jwt::now() + DAY));
    });
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(issuer.stats().families_revoked, 0);
}

#[test]
fn refused_scope_leaves_the_session_intact() {
    let (home, issuer) = logged_in(|_| {});
    let main = home.token("work");
    home.run(&["token", "work", "--scope", "admin"]).exits(5).reports("invalid_scope");
    home.run(&["token", "work", "--resource", "not a uri"]).exits(5).reports("invalid_target");
    assert_eq!(home.token("work"), main);
    home.advance_time("work", LIFETIME + 1);
    token(&home).exits(0);
    assert_eq!(issuer.stats().families_revoked, 0);
}

#[test]
fn commands_name_the_profile_that_cannot_be_refreshed() {
    let (home, mut issuer) = logged_in(|_| {});
    home.advance_time("work", LIFETIME + 20);
    issuer.pause();
    let check = || {
        for args in [&["refresh"][..], &["token"], &["token", "--json"], &["exec", "--", "true"]] {
            let ran = home.run(args).exits(6);
            let error = ran.stderr.lines().next().unwrap_or_default();
            assert_eq!(error.matches("cannot refresh `work`: connection to ").count(), 1, "{args:?}: {error}");
        }
    };
    check();
    let _agent = Agent::run(&home);
    check();
}

#[test]
fn ended_session_names_its_profile() {
    let (home, issuer) = logged_in(|_| {});
    home.advance_time("work", LIFETIME + 20);
    issuer.revoke_everything();
    for args in [&["token"][..], &["refresh"], &["exec", "--", "true"]] {
        home.run(args).exits(3).reports("error: cannot refresh `work`: the session has ended: ");
    }
    home.run(&["logout", "work"]).exits(0);
    let check = || {
        for args in [&["token"][..], &["refresh"], &["exec", "--", "true"]] {
            home.run(args).exits(3).reports("error: not logged in to work\n");
        }
    };
    check();
    let _agent = Agent::run(&home);
    check();
}
