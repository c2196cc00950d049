//! Refresh: once when it is due, through every fault of issuer and network, and never at the cost of the session.

use std::time::Duration;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, Options};
use authctl::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::process::wait_until;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER, issuer};

/// What a token lives at the issuers here, in seconds; [`Sandbox::passes`] takes it away.
const LIFE: i64 = 300;
/// After so long a token is due, and still valid.
const DUE: i64 = LIFE - 40;

/// A home with the session `work` at an issuer.
fn logged_in(change: impl FnOnce(&mut Options)) -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), issuer(change));
    home.log_in("work", &issuer);
    for name in ["access_token", "refresh_token", "id_token"] {
        home.register_secret(home.stored("work")["tokens"][name].as_str().unwrap());
    }
    (home, issuer)
}

fn fault(issuer: &DevIssuer, kind: FaultKind, times: u32) {
    issuer.fault(Fault { endpoint: Endpoint::Token, kind, times });
}

fn asked(issuer: &DevIssuer) -> u64 {
    issuer.stats().requests.get("token").copied().unwrap_or(0)
}

#[track_caller]
fn token(home: &Sandbox) -> CommandOutput {
    home.run(&["token", "work", "-vvv"])
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

#[test]
fn token_is_refreshed_when_due_and_not_before() {
    let (home, issuer) = logged_in(|_| {});
    let first = home.token("work");
    assert_eq!((home.token("work"), asked(&issuer)), (first.clone(), 1));
    home.advance_time("work", DUE);
    let second = home.token("work");
    assert_ne!(first, second);
    assert_eq!((home.token("work"), asked(&issuer)), (second.clone(), 2));
    home.advance_time("work", LIFE + 1);
    assert_ne!(home.token("work"), second);
    assert_eq!(issuer.stats().refreshes_committed, 2);
    assert_eq!(home.status("work")["state"], "valid");
}

#[test]
fn min_ttl_decides_whether_to_refresh() {
    let (home, issuer) = logged_in(|_| {});
    let first = home.token("work");
    home.advance_time("work", 150);
    assert_eq!(home.run(&["token", "work", "--min-ttl", "100"]).exits(0).line(), first);
    home.run(&["refresh", "work", "--if-expiring", "100s"]).exits(0).reports("does not need a refresh");
    assert_eq!(issuer.stats().refreshes_committed, 0);
    assert_ne!(home.run(&["token", "work", "--min-ttl", "200s"]).exits(0).line(), first);
    home.advance_time("work", 150);
    let answer = home.run(&["refresh", "work", "--if-expiring", "2m40s", "--json"]).exits(0).json();
    assert_eq!((&answer["profile"], &answer["refreshed"]), (&json!("work"), &json!(true)));
    assert_eq!(issuer.stats().refreshes_committed, 2);
    // Forced, a fresh one is refreshed too.
    home.run(&["refresh", "work"]).exits(0).reports("refreshed");
    assert_eq!(issuer.stats().refreshes_committed, 3);
    home.run(&["token", "work", "--min-ttl", "soon"]).exits(2);
}

/// While the kind of trouble lasts, a valid token is handed out, an expired one is exit 6, and nothing is lost.
#[track_caller]
fn endures(what: &str, home: &Sandbox, begin: impl FnOnce(), end: impl FnOnce()) {
    let first = home.token("work");
    begin();
    home.advance_time("work", DUE);
    for _ in 0..2 {
        let ran = token(home);
        assert_eq!((ran.code, ran.stdout.trim_end()), (0, first.as_str()), "{what}, still valid: {}", ran.stderr);
    }
    home.advance_time("work", LIFE - DUE + 20);
    let ran = token(home);
    assert_eq!((ran.code, ran.stdout.as_str()), (6, ""), "{what}, expired: {}", ran.stderr);
    assert!(ran.stderr.contains("next: "), "{what}: {}", ran.stderr);
    assert_eq!(home.status("work")["state"], "refreshable", "{what}");
    home.run(&["refresh", "work"]).exits(6);
    end();
    home.advance_time("work", 20);
    let ran = token(home);
    assert_eq!(ran.code, 0, "{what}, over: {}", ran.stderr);
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
        FaultKind::EmptyBody { status: 400 },
        FaultKind::OAuthError { status: 500, code: "invalid_grant".into() },
        FaultKind::OAuthError { status: 503, code: "invalid_grant".into() },
    ] {
        let what = format!("{kind:?}");
        endures(&what, &home, || fault(&issuer, kind, 0), || issuer.clear_faults());
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
        endures(&what, &home, begin, || issuer.clear_faults());
    }
}

#[test]
fn unreachable_issuer_does_not_end_a_session() {
    let (home, issuer) = logged_in(|_| {});
    let issuer = std::cell::RefCell::new(issuer);
    endures("down", &home, || issuer.borrow_mut().pause(), || issuer.borrow_mut().resume().unwrap());
}

#[test]
fn invalid_grant_with_status_200_does_not_end_a_session() {
    let (home, issuer) = logged_in(|_| {});
    fault(&issuer, FaultKind::OAuthError { status: 200, code: "invalid_grant".into() }, 1);
    home.advance_time("work", LIFE + 1);
    let ran = token(&home);
    assert!(matches!(ran.code, 5 | 6), "{} {}", ran.code, ran.stderr);
    assert_eq!(home.status("work")["can_refresh"], true);
    token(&home).exits(0);
}

#[test]
fn refresh_waits_for_a_slow_issuer() {
    let (home, issuer) = logged_in(|_| {});
    fault(&issuer, FaultKind::Slow { ms: 300 }, 1);
    home.advance_time("work", LIFE + 1);
    token(&home).exits(0);
}

#[test]
fn retry_after_is_respected() {
    let (home, issuer) = logged_in(|_| {});
    fault(&issuer, FaultKind::TooManyRequests { retry_after: 120 }, 1);
    home.advance_time("work", LIFE + 1);
    token(&home).exits(6).reports("120 seconds");
    let before = asked(&issuer);
    for args in [&["token", "work"][..], &["refresh", "work"], &["token", "work", "--scope", "profile"]] {
        home.run(args).exits(6).reports("try again after");
    }
    assert_eq!(asked(&issuer), before);
    home.advance_time("work", 121);
    token(&home).exits(0);
    assert_eq!(asked(&issuer), before + 1);
}

#[test]
fn invalid_grant_is_login_required_in_every_command() {
    let (home, issuer) = logged_in(|_| {});
    let first = home.token("work");
    issuer.revoke_everything();
    home.advance_time("work", DUE);
    token(&home).exits(3).reports("authctl login work");
    let before = asked(&issuer);
    // The token has not expired, but the session has ended: every command says so.
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
    assert_eq!(asked(&issuer), before, "a session that is over is not tried again");
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
    assert!(issuer.change_password(USER, &Secret::new("another".into())));
    home.run(&["refresh", "work"]).exits(3).reports("authctl login work");
    let again = ["login", "work", "--password", "--password-stdin", "--username", USER];
    home.run_with(&again, PASSWORD).exits(5);
    home.run_with(&again, "another").exits(0);
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn lost_reply_holds_the_refresh_token_back_until_expiry() {
    let (home, strict) = logged_in(|_| {});
    let first = home.token("work");
    fault(&strict, FaultKind::LostReply, 1);
    home.advance_time("work", DUE);
    let before = asked(&strict);
    assert_eq!(token(&home).exits(0).line(), first);
    // Longer than the pause after any failure.
    home.advance_time("work", 16);
    assert_eq!(token(&home).exits(0).line(), first);
    assert_eq!(asked(&strict), before + 1, "the spent token is not sent while the old access token lives");
    assert!(home.status("work")["refreshing_since"].is_i64());
    assert_eq!(strict.stats().families_revoked, 0);
    home.advance_time("work", LIFE);
    token(&home).exits(3).reports("authctl login work");
    home.log_in("work", &strict);
    token(&home).exits(0);
}

#[test]
fn lost_reply_costs_nothing_at_an_issuer_with_grace() {
    let (home, kind) = logged_in(|o| o.reuse_grace = Duration::from_secs(60));
    fault(&kind, FaultKind::LostReply, 1);
    home.advance_time("work", LIFE + 1);
    token(&home).exits(6);
    token(&home).exits(0);
    assert_eq!(home.status("work")["refreshing_since"], Value::Null);
    assert_eq!(kind.stats().families_revoked, 0);
}

#[test]
fn failures_recorded_before_the_clock_was_set_back_are_ignored() {
    const DAY: i64 = 24 * 3600;
    let (home, issuer) = logged_in(|o| o.reuse_grace = Duration::from_secs(60));
    for kind in [FaultKind::TooManyRequests { retry_after: 10 }, FaultKind::LostReply] {
        let what = format!("{kind:?}");
        let first = home.token("work");
        fault(&issuer, kind, 1);
        home.advance_time("work", LIFE + 1);
        token(&home).exits(6);
        home.advance_time("work", -DAY);
        let second = home.token("work");
        assert_ne!(second, first, "{what}: the old one seems to live another day, and does not");
        assert_eq!(home.token("work"), second, "{what}");
    }
    // Nor where the token has no end that is known.
    home.change_session("work", |session| {
        session.tokens.expires_at = None;
        session.refreshing_since = Some(authctl::clock::UnixTime(crate::support::jwt::now() + DAY));
    });
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(issuer.stats().families_revoked, 0);
}

#[test]
fn refresh_reuses_old_refresh_token_when_reply_has_none() {
    let (home, issuer) = logged_in(|o| o.rotate_refresh_tokens = false);
    let kept = home.stored("work")["tokens"]["refresh_token"].clone();
    for refreshes in 1..=3 {
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(home.stored("work")["tokens"]["refresh_token"], kept);
        assert_eq!(issuer.stats().refreshes_committed, refreshes);
    }
}

#[test]
fn rotated_refresh_token_is_stored() {
    let (home, _issuer) = logged_in(|o| o.refresh_token_uses = Some(2));
    let first = home.stored("work")["tokens"]["refresh_token"].clone();
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.stored("work")["tokens"]["refresh_token"], first);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["refresh", "work"]).exits(3).reports("authctl login work");
}

#[test]
fn tokens_for_other_targets_are_stored_apart() {
    let (home, issuer) = logged_in(|_| {});
    let main = home.token("work");
    let scope = json!("scope");
    let mut seen = vec![main.clone()];
    for (option, value, claim, expected) in [
        ("--scope", "profile", &scope, json!("profile")),
        ("--audience", "https://api.example", &json!("aud"), json!("https://api.example")),
        ("--resource", "https://files.example/", &json!("aud"), json!("https://files.example/")),
    ] {
        let args = ["token", "work", option, value];
        let other = home.run(&args).exits(0).line().to_owned();
        home.register_secret(&other);
        assert_eq!(claims(&other)[claim.as_str().unwrap()], expected, "{option}");
        assert!(!seen.contains(&other), "{option}");
        assert_eq!(home.run(&args).exits(0).line(), other, "kept");
        assert_eq!(home.token("work"), main, "the profile's own token stays as it is");
        seen.push(other);
    }
    assert_eq!(issuer.stats().refreshes_committed, 3);
    assert_eq!(home.status("work")["other_tokens"], 3);
    assert_eq!(claims(&main)["aud"], "authctl");
    home.advance_time("work", LIFE + 1);
    let refreshed = home.token("work");
    assert_eq!(
        (&claims(&refreshed)["scope"], &claims(&refreshed)["aud"]),
        (&claims(&main)["scope"], &claims(&main)["aud"])
    );
    let again = home.run(&["token", "work", "--scope", "profile"]).exits(0).line().to_owned();
    assert!(!seen.contains(&again), "an expired one is refreshed");
}

#[test]
fn refused_scope_leaves_the_session_intact() {
    let (home, issuer) = logged_in(|_| {});
    let main = home.token("work");
    home.run(&["token", "work", "--scope", "admin"]).exits(5).reports("invalid_scope");
    home.run(&["token", "work", "--resource", "not a uri"]).exits(5).reports("invalid_target");
    assert_eq!(home.token("work"), main);
    home.advance_time("work", LIFE + 1);
    token(&home).exits(0);
    assert_eq!(issuer.stats().families_revoked, 0);
}

#[test]
fn refresh_all_goes_on_after_a_failure() {
    let (home, first) = logged_in(|_| {});
    let second = issuer(|_| {});
    for name in ["a-broken", "z-good"] {
        home.log_in(name, &second);
    }
    std::fs::write(home.session_file("a-broken"), "damaged").unwrap();
    let ran = home.run(&["refresh", "--all"]).exits(7).reports("a-broken");
    assert!(ran.stderr.contains("refreshed work") && ran.stderr.contains("refreshed z-good"), "{}", ran.stderr);
    assert_eq!((first.stats().refreshes_committed, second.stats().refreshes_committed), (1, 1));
    home.run(&["refresh", "work", "--all"]).exits(2);
}

#[test]
fn killed_before_the_issuer_acts_the_refresh_can_be_repeated() {
    let (home, issuer) = logged_in(|_| {});
    fault(&issuer, FaultKind::Hold, 1);
    home.advance_time("work", LIFE + 1);
    let killed = home.spawn(&["token", "work"]);
    wait_until("the request", || (issuer.stats().faults == 1).then_some(()));
    killed.signal(Signal::KILL);
    killed.wait().exits(-1);
    token(&home).exits(0);
    assert_eq!((issuer.stats().refreshes_committed, issuer.stats().families_revoked), (1, 0));
}

#[test]
fn killed_after_the_issuer_acted_the_valid_token_is_served() {
    let (home, issuer) = logged_in(|_| {});
    let first = home.token("work");
    fault(&issuer, FaultKind::HoldReply, 1);
    home.advance_time("work", DUE);
    // Not `token`: it has a valid token and leaves the refresh to another process.
    let killed = home.spawn(&["refresh", "work"]);
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    killed.signal(Signal::KILL);
    killed.wait().exits(-1);
    let before = asked(&issuer);
    assert_eq!(token(&home).exits(0).line(), first);
    assert_eq!(asked(&issuer), before);
    assert_eq!(issuer.stats().families_revoked, 0);
    home.advance_time("work", LIFE);
    token(&home).exits(3).reports("authctl login work");
}

#[test]
fn token_does_not_wait_for_a_hung_issuer_and_the_refresh_goes_on() {
    let (home, issuer) = logged_in(|_| {});
    let first = home.token("work");
    fault(&issuer, FaultKind::HoldReply, 1);
    home.advance_time("work", DUE);
    // The reply is held back until the fault is cleared: the command returns before that.
    assert_eq!(token(&home).exits(0).line(), first);
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    issuer.clear_faults();
    wait_until("the refresh in the background", || home.status("work")["refreshed_at"].is_number().then_some(()));
    assert_ne!(home.token("work"), first);
    assert_eq!((issuer.stats().refreshes_committed, issuer.stats().families_revoked), (1, 0));
}

#[test]
fn killed_after_the_issuer_acted_a_grace_saves_the_session() {
    let (home, issuer) = logged_in(|o| o.reuse_grace = Duration::from_secs(60));
    fault(&issuer, FaultKind::HoldReply, 1);
    home.advance_time("work", LIFE + 1);
    let killed = home.spawn(&["token", "work"]);
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    killed.signal(Signal::KILL);
    killed.wait().exits(-1);
    token(&home).exits(0);
}

#[test]
fn refresh_after_logout_is_login_required() {
    let (home, _issuer) = logged_in(|_| {});
    home.run(&["logout", "work"]).exits(0);
    home.run(&["token", "work"]).exits(3).reports("authctl login work");
    home.run(&["refresh", "work"]).exits(3);
    home.run(&["refresh", "--all"]).exits(0).reports("Nobody is logged in");
}

#[test]
fn refresh_fetches_rotated_keys() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    issuer.rotate_keys(None).unwrap();
    issuer.drop_old_keys();
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
}
