//! Refresh: when it happens, what it stores, and a refresh that is interrupted.

use std::time::Duration;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, Options};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::process::wait_until;
use crate::support::stub_server::StubServer;
use crate::support::{CommandOutput, Sandbox, issuer};

/// The lifetime of access tokens, in seconds.
pub const LIFETIME: i64 = 300;
/// The age in seconds at which a token is still valid and due for a refresh.
pub const DUE: i64 = LIFETIME - 40;

/// Returns a home with the session `work` at an issuer.
pub fn logged_in(change: impl FnOnce(&mut Options)) -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), issuer(change));
    home.log_in("work", &issuer);
    for name in ["access_token", "refresh_token", "id_token"] {
        home.register_secret(home.stored("work")["tokens"][name].as_str().unwrap());
    }
    (home, issuer)
}

pub fn fault(issuer: &DevIssuer, kind: FaultKind, times: u32) {
    issuer.fault(Fault { endpoint: Endpoint::Token, kind, times });
}

pub fn token_requests(issuer: &DevIssuer) -> u64 {
    issuer.stats().requests.get("token").copied().unwrap_or(0)
}

#[track_caller]
pub fn token(home: &Sandbox) -> CommandOutput {
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
    assert_eq!((home.token("work"), token_requests(&issuer)), (first.clone(), 1));
    home.advance_time("work", DUE);
    let second = home.token("work");
    assert_ne!(first, second);
    assert_eq!((home.token("work"), token_requests(&issuer)), (second.clone(), 2));
    home.advance_time("work", LIFETIME + 1);
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
    // Without `--if-expiring`, a fresh token is refreshed too.
    home.run(&["refresh", "work"]).exits(0).reports("refreshed");
    assert_eq!(issuer.stats().refreshes_committed, 3);
    home.run(&["token", "work", "--min-ttl", "soon"]).exits(2);
}

#[test]
fn refresh_waits_for_a_slow_issuer() {
    let (home, issuer) = logged_in(|_| {});
    fault(&issuer, FaultKind::Slow { ms: 300 }, 1);
    home.advance_time("work", LIFETIME + 1);
    token(&home).exits(0);
}

/// A request on a connection that the issuer closes at that moment would count as one whose reply was lost.
#[test]
fn refresh_succeeds_where_the_issuer_closes_idle_connections() {
    let issuer = StubServer::closing_unannounced(|own, request| match request.path.as_str() {
        "/token" => {
            let spent = request.body.split("refresh_token=r").nth(1).and_then(|rest| rest.split('&').next());
            let next = spent.and_then(|number| number.parse::<u32>().ok()).expect("a refresh token") + 1;
            let tokens = json!({"access_token": format!("a{next}"), "refresh_token": format!("r{next}"),
                "token_type": "Bearer", "expires_in": 300});
            (200, tokens.to_string())
        }
        "/.well-known/openid-configuration" => {
            (200, json!({"issuer": own, "token_endpoint": format!("{own}/token")}).to_string())
        }
        _ => (404, "{}".into()),
    });
    let home = Sandbox::new();
    let login = ["login", "work", "--issuer", &issuer.url, "--client-id", "c", "--with-token"];
    let tokens = r#"{"access_token":"a0","refresh_token":"r0","token_type":"Bearer","expires_in":300}"#;
    home.run_with(&login, tokens).exits(0);
    for round in 1..=5 {
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(home.stored("work")["tokens"]["refresh_token"], format!("r{round}"));
    }
    let sent = issuer.requests().iter().filter(|request| request.path == "/token").count();
    assert_eq!(sent, 5, "no request was repeated");
}

#[test]
fn refresh_that_the_issuer_did_not_carry_out_can_be_repeated_at_once() {
    let (home, mut issuer) = logged_in(|_| {});
    for (kind, code) in [
        (FaultKind::TooManyRequests { retry_after: 0 }, 6),
        (FaultKind::OAuthError { status: 400, code: "invalid_scope".into() }, 5),
        (FaultKind::OAuthError { status: 401, code: "invalid_client".into() }, 5),
    ] {
        let what = format!("{kind:?}");
        fault(&issuer, kind, 1);
        home.run(&["refresh", "work"]).exits(code);
        assert_eq!(home.status("work")["refreshing_since"], Value::Null, "{what}");
        home.run(&["refresh", "work"]).exits(0);
    }
    issuer.pause();
    home.run(&["refresh", "work"]).exits(6);
    issuer.resume().unwrap();
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(issuer.stats().refreshes_committed, 4);
}

#[test]
fn refresh_reuses_old_refresh_token_when_reply_has_none() {
    let (home, issuer) = logged_in(|o| o.rotate_refresh_tokens = false);
    let refresh_token = home.stored("work")["tokens"]["refresh_token"].clone();
    for refreshes in 1..=3 {
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(home.stored("work")["tokens"]["refresh_token"], refresh_token);
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
fn tokens_for_other_targets_are_stored_separately() {
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
        assert_eq!(home.run(&args).exits(0).line(), other, "the token is stored");
        assert_eq!(home.token("work"), main, "the profile's own token does not change");
        seen.push(other);
    }
    assert_eq!(issuer.stats().refreshes_committed, 3);
    assert_eq!(home.status("work")["other_tokens"], 3);
    assert_eq!(claims(&main)["aud"], "authctl");
    home.advance_time("work", LIFETIME + 1);
    let refreshed = home.token("work");
    assert_eq!(
        (&claims(&refreshed)["scope"], &claims(&refreshed)["aud"]),
        (&claims(&main)["scope"], &claims(&main)["aud"])
    );
    let again = home.run(&["token", "work", "--scope", "profile"]).exits(0).line().to_owned();
    assert!(!seen.contains(&again), "an expired token is refreshed");
}

#[test]
fn refresh_all_continues_after_a_failure() {
    let (home, first) = logged_in(|_| {});
    let second = issuer(|_| {});
    for name in ["a-broken", "z-valid"] {
        home.log_in(name, &second);
    }
    std::fs::write(home.session_file("a-broken"), "damaged").unwrap();
    let ran = home.run(&["refresh", "--all"]).exits(7).reports("a-broken");
    assert!(ran.stderr.contains("refreshed work") && ran.stderr.contains("refreshed z-valid"), "{}", ran.stderr);
    assert_eq!((first.stats().refreshes_committed, second.stats().refreshes_committed), (1, 1));
    home.run(&["refresh", "work", "--all"]).exits(2);
}

#[test]
fn refresh_killed_before_the_issuer_acted_can_be_repeated() {
    let (home, issuer) = logged_in(|_| {});
    fault(&issuer, FaultKind::Hold, 1);
    home.advance_time("work", LIFETIME + 1);
    let killed = home.spawn(&["token", "work"]);
    wait_until("the request", || (issuer.stats().faults == 1).then_some(()));
    killed.signal(Signal::KILL);
    killed.wait().exits(-1);
    token(&home).exits(0);
    assert_eq!((issuer.stats().refreshes_committed, issuer.stats().families_revoked), (1, 0));
}

#[test]
fn valid_token_is_printed_after_a_refresh_was_killed() {
    let (home, issuer) = logged_in(|_| {});
    let first = home.token("work");
    fault(&issuer, FaultKind::HoldReply, 1);
    home.advance_time("work", DUE);
    // `token` would print the valid token and leave the refresh to a background process.
    let killed = home.spawn(&["refresh", "work"]);
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    killed.signal(Signal::KILL);
    killed.wait().exits(-1);
    let before = token_requests(&issuer);
    assert_eq!(token(&home).exits(0).line(), first);
    assert_eq!(token_requests(&issuer), before);
    assert_eq!(issuer.stats().families_revoked, 0);
    home.advance_time("work", LIFETIME);
    token(&home).exits(3).reports("authctl login work");
}

#[test]
fn valid_token_is_printed_while_the_refresh_continues() {
    let (home, issuer) = logged_in(|_| {});
    let first = home.token("work");
    fault(&issuer, FaultKind::HoldReply, 1);
    home.advance_time("work", DUE);
    // The issuer replies only after the fault is cleared.
    assert_eq!(token(&home).exits(0).line(), first);
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    issuer.clear_faults();
    wait_until("the refresh in the background", || home.status("work")["refreshed_at"].is_number().then_some(()));
    assert_ne!(home.token("work"), first);
    assert_eq!((issuer.stats().refreshes_committed, issuer.stats().families_revoked), (1, 0));
}

#[test]
fn valid_token_is_printed_though_the_store_fails_during_the_refresh() {
    let (home, issuer) = logged_in(|_| {});
    let (first, away) = (home.token("work"), home.path().join("away"));
    fault(&issuer, FaultKind::Hold, 1);
    home.advance_time("work", DUE);
    let requests = token_requests(&issuer);
    let waiting = home.spawn(&["token", "work"]);
    wait_until("the request", || (token_requests(&issuer) > requests).then_some(()));
    std::fs::rename(home.key_file(), &away).unwrap();
    assert_eq!(waiting.wait().exits(0).line(), first);
    std::fs::rename(&away, home.key_file()).unwrap();
    issuer.clear_faults();
}

#[test]
fn killed_refresh_is_recovered_within_the_reuse_grace() {
    let (home, issuer) = logged_in(|o| o.reuse_grace = Duration::from_secs(60));
    fault(&issuer, FaultKind::HoldReply, 1);
    home.advance_time("work", LIFETIME + 1);
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
    home.run(&["refresh", "--all"]).exits(0).reports("no sessions to refresh");
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

/// How often a process reads the session while it waits for the refresh of another.
const WAITING_READS: usize = 8;

/// Refreshes twice at once, and removes the lock files while `endpoint` answers the first process.
fn refresh_with_removed_locks(endpoint: Endpoint) {
    let home = Sandbox::new();
    let issuer = issuer(|_| {});
    home.log_in("work", &issuer);
    home.expire("work");
    issuer.fault(Fault { endpoint, kind: FaultKind::HoldReply, times: 1 });
    let first = home.start(&["refresh", "work"], "");
    wait_until("the request", || (issuer.stats().faults > 0).then_some(()));
    std::fs::remove_dir_all(home.path().join("data/authctl/locks")).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| home.run_traced(&["-e", "trace=?open,openat"], &["refresh", "work"], "").0);
        // Before the refresh token is sent, the second process may send it; after that, it waits.
        wait_until("the second process", || {
            let calls = std::fs::read_to_string(home.path().join("strace.log")).unwrap_or_default();
            let waits = calls.matches("sessions/work.age\"").count() >= WAITING_READS;
            (waits || issuer.stats().refreshes_committed == 1 && endpoint == Endpoint::Metadata).then_some(())
        });
        issuer.clear_faults();
        home.finish(first, &["refresh", "work"]).exits(0);
        second.join().expect("the second process").exits(0);
    });
    let stats = issuer.stats();
    assert_eq!((stats.refresh_reuses, stats.families_revoked), (0, 0), "{stats:?}");
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn refresh_token_is_sent_once_though_the_lock_is_removed_before() {
    refresh_with_removed_locks(Endpoint::Metadata);
}

#[test]
fn refresh_token_is_sent_once_if_its_lock_file_is_removed() {
    refresh_with_removed_locks(Endpoint::Token);
}
