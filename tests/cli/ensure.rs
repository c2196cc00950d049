//! `ensure`: whether a job will need a login, by what is known of the session's end, and the login if it will.

use std::sync::Arc;
use std::time::Duration;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, ReplyEdit};
use serde_json::json;

use crate::support::time_travel::LaggingClock;
use crate::support::{self, PASSWORD, Sandbox, quick_issuer};

/// Adds members to each response of the token endpoint.
fn edit_tokens(issuer: &DevIssuer, set: serde_json::Value, remove: &[&str]) {
    issuer.clear_faults();
    let remove = remove.iter().map(|name| (*name).to_owned()).collect();
    let set = set.as_object().expect("members").clone();
    let kind = FaultKind::Edited(ReplyEdit { set, remove, ..ReplyEdit::default() });
    issuer.fault(Fault { endpoint: Endpoint::Token, kind, times: 0 });
}

/// Returns a home that is logged in to an issuer which states this lifetime of its refresh tokens.
fn logged_in(refresh_lifetime: u64) -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    edit_tokens(&issuer, json!({"refresh_expires_in": refresh_lifetime}), &[]);
    home.log_in("work", &issuer);
    home.session("work");
    (home, issuer)
}

#[test]
fn unknown_end_is_assumed_to_be_late() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.run(&["ensure", "work", "--for", "10h"])
        .exits(0)
        .reports("work: signed in; the end of the session is not known; assumed to last 10 h");
    assert_eq!(issuer.stats().refreshes_committed, 1, "the issuer is asked");
    // The token of five minutes is enough.
    let found = home.run(&["ensure", "--for", "1m", "--json"]).exits(0).json();
    let expected = json!({"profile": "work", "for": 60, "until": null, "limit": null, "refresh_within": null, "replace_identity_token_by": null, "logged_in": false});
    assert_eq!(found, expected);
    assert_eq!(issuer.stats().refreshes_committed, 1);
}

#[test]
fn refresh_token_that_expires_too_early_needs_a_login() {
    let (home, issuer) = logged_in(36_100);
    // The issuer counts the lifetime from the login.
    home.advance_time("work", 20_000);
    edit_tokens(&issuer, json!({"refresh_expires_in": 16_100}), &[]);
    home.run(&["ensure", "work", "--for", "4h"])
        .exits(0)
        .reports("work: signed in; the refresh token is valid for 4 h 28 min; enough for 4 h");
    let found = home.run(&["ensure", "work", "--for", "4h", "--json"]).exits(0).json();
    assert_eq!((&found["limit"], &found["refresh_within"]), (&json!("refresh_token"), &json!(null)));
    let short = home.run(&["ensure", "work", "--for", "10h"]).exits(3);
    assert!(short.stdout.is_empty());
    let text = "error: the session of `work` does not last 10 h: the refresh token is valid for 4 h 28 min";
    assert_eq!(short.stderr.lines().collect::<Vec<_>>(), [text, "hint:  authctl login work"]);
    home.run(&["ensure", "work", "--for", "11h"])
        .exits(5)
        .reports("a session of `work` lasts 10 h 1 min, not 11 h")
        .reports("note:  split the job");
    assert_eq!(home.run(&["ensure", "work", "--for", "11h", "--json"]).exits(5).error()["code"], "session_too_short");
}

#[test]
fn refresh_token_that_each_refresh_extends_is_enough() {
    let (home, _issuer) = logged_in(1800);
    // At once after the login, too early to see it: the command waits.
    home.run(&["ensure", "work", "--for", "10h"])
        .exits(0)
        .reports("each refresh extends the session by 30 min; assumed to last 10 h")
        .reports("ends if it is not refreshed within 30 min; an agent refreshes it: `authctl agent start`");
    let found = home.run(&["ensure", "work", "--for", "10h", "--json"]).exits(0).json();
    assert_eq!((&found["until"], &found["refresh_within"]), (&json!(null), &json!(1800)));
    home.run(&["agent", "start"]).exits(0);
    let with_agent = home.run(&["ensure", "work", "--for", "10h"]).exits(0);
    home.run(&["agent", "stop"]).exits(0);
    assert!(!with_agent.stderr.contains("warning"), "{}", with_agent.stderr);
}

#[test]
fn session_without_refresh_token_lasts_as_long_as_its_token() {
    // A JWT would expire earlier.
    let (home, issuer) = (Sandbox::new(), support::issuer(|options| options.opaque_access_tokens = true));
    edit_tokens(&issuer, json!({"expires_in": 40_000}), &["refresh_token"]);
    home.log_in("work", &issuer);
    let requests = || issuer.stats().requests["token"];
    let before = requests();
    home.run(&["ensure", "work", "--for", "10h"]).exits(0).reports("the access token is valid for 11 h 6 min");
    home.run(&["ensure", "work", "--for", "12h"]).exits(5).reports("a session of `work` lasts 11 h 6 min, not 12 h");
    home.advance_time("work", 20_000);
    home.run(&["ensure", "work", "--for", "10h"])
        .exits(3)
        .reports("the access token is valid for 5 h 33 min and cannot");
    home.advance_time("work", 30_000);
    home.run(&["ensure", "work", "--for", "10h"])
        .exits(3)
        .reports("the access token has expired and cannot be refreshed");
    assert_eq!(requests(), before);
}

#[test]
fn sign_in_that_becomes_too_old_needs_a_login() {
    // The time of the sign-in, an hour ago, is a claim of the tokens.
    let issuer = support::issuer(|options| {
        options.clock = Arc::new(LaggingClock(3600));
        (options.access_token_ttl, options.id_token_ttl) = (Duration::from_secs(7200), Duration::from_secs(7200));
    });
    let home = Sandbox::new();
    home.log_in("work", &issuer);
    home.run(&["profile", "set", "work", "max_auth_age=2h"]).exits(0);
    home.run(&["ensure", "work", "--for", "30m"]).exits(0).reports("`max_auth_age` accepts the sign-in for");
    let short = home.run(&["ensure", "work", "--for", "90m"]).exits(3);
    assert!(short.stderr.contains("hint:  authctl login work --max-age 30m"), "{}", short.stderr);
    home.run(&["ensure", "work", "--for", "3h"]).exits(5).reports("a session of `work` lasts 2 h, not 3 h");
}

#[test]
fn session_ended_by_the_issuer_needs_a_login_at_once() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    issuer.revoke_everything();
    // The token is valid for longer, but the issuer does not announce that.
    let ended = home.run(&["ensure", "work", "--for", "10m"]).exits(3).reports("the session has ended");
    assert!(ended.stderr.contains("hint:  authctl login work"), "{}", ended.stderr);
    home.run(&["ensure", "work", "--for", "1s"]).exits(3);
    home.run(&["logout", "work"]).exits(0);
    home.run(&["ensure", "work", "--for", "1s"]).exits(3).reports("not logged in");
    home.run(&["ensure", "other", "--for", "1s"]).exits(2).reports("unknown profile `other`");
}

#[test]
fn issuer_limit_seen_with_the_last_session_is_expected_again() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.advance_time("work", 28_800);
    home.run(&["refresh", "work"]).exits(0);
    issuer.revoke_everything();
    home.run(&["refresh", "work"]).exits(3);
    home.log_in("work", &issuer);
    home.run(&["ensure", "work", "--for", "7h"]).exits(0).reports("the age that this one reaches in");
    home.run(&["ensure", "work", "--for", "9h"]).exits(5).reports("a session of `work` lasts 8 h, not 9 h");
    home.advance_time("work", 7230);
    home.run(&["ensure", "work", "--for", "7h"]).exits(3).reports("the age that this one reaches in 5 h 59 min");
    // A session that gets older shows that the limit was none.
    home.advance_time("work", 28_800);
    home.run(&["ensure", "work", "--for", "7h"]).exits(0).reports("the end of the session is not known");
}

#[test]
fn unreachable_issuer_leaves_a_long_job_unsure() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    drop(issuer);
    home.run(&["ensure", "work", "--for", "1m"]).exits(0);
    home.run(&["ensure", "work", "--for", "10h"]).exits(6);
}

#[test]
fn client_needs_no_user() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let secret = issuer.client_secret("authctl-service").unwrap();
    home.register_secret(secret.expose());
    let args = ["login", "ci", "--issuer", issuer.issuer(), "--client-id", "authctl-service", "--client-credentials"];
    home.run_with(&[&args[..], &["--client-secret-stdin"]].concat(), secret.expose()).exits(0);
    home.run(&["ensure", "ci", "--for", "30d"])
        .exits(0)
        .reports("ci: signed in; the client logs in by itself; enough for 30 d");
}

#[test]
fn invalid_duration_is_a_usage_error() {
    let home = Sandbox::new();
    for duration in ["", "soon", "10", "-1h", "1h30", "5000d"] {
        let refused = home.run(&["ensure", "work", &format!("--for={duration}")]);
        match duration {
            "10" => drop(refused.exits(2).reports("profile")),
            _ => drop(refused.exits(2).reports(&format!("invalid duration `{duration}` (examples: 90s, 15m, 2h)"))),
        }
    }
    home.run(&["ensure", "work"]).exits(2).reports("--for");
}

#[test]
fn login_at_the_terminal_makes_a_session_last() {
    // A JWT would expire earlier than `expires_in`.
    let (home, issuer) = (Sandbox::new(), support::issuer(|options| options.opaque_access_tokens = true));
    edit_tokens(&issuer, json!({"refresh_expires_in": 36_100}), &[]);
    home.log_in("work", &issuer);
    home.advance_time("work", 20_000);
    edit_tokens(&issuer, json!({"refresh_expires_in": 16_100}), &[]);
    let log_in = |set: serde_json::Value, remove: &[&str]| {
        let mut running = home.spawn_in_terminal(&["ensure", "work", "--for", "10h"]);
        running.reports("the session of `work` does not last 10 h: the refresh token is valid for");
        running.reports("User name: ");
        edit_tokens(&issuer, set, remove);
        running.type_text("developer\n");
        running.reports("Password: ");
        running.type_text(&format!("{PASSWORD}\n"));
        running.wait()
    };
    log_in(json!({"refresh_expires_in": 90_000}), &[]).exits(0).reports("Logged in to work").reports("enough for 10 h");
    // The issuer returns no refresh token any more.
    home.advance_time("work", 80_000);
    edit_tokens(&issuer, json!({"refresh_expires_in": 10_000}), &[]);
    // Half a minute more than the two hours that are shown: the login takes some time.
    log_in(json!({"expires_in": 7230}), &["refresh_token"])
        .exits(5)
        .reports("Logged in to work")
        .reports("a session of `work` lasts 2 h, not 10 h: the access token is valid for");
    // Without input there is no question.
    home.advance_time("work", 3600);
    let refused = home.spawn_in_terminal(&["ensure", "work", "--for", "90m", "--no-input"]).wait().exits(3);
    assert!(!refused.stderr.contains("User name"), "{}", refused.stderr);
}
