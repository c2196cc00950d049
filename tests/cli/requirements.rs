//! What a profile requires of a token: `verify`, `exec` and the agent make the same decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use authctl::clock::{Clock as _, SystemClock, UnixTime};
use authctl::dev_issuer::{Algorithm, DevIssuer, Endpoint, Fault, FaultKind, ReplyEdit};
use authctl::secret::Secret;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::jwt::{Signer, claims, valid_claims};
use crate::support::time_travel::LaggingClock;
use crate::support::{Sandbox, USER, issuer};

pub fn logged_in() -> (Sandbox, DevIssuer) {
    let home = Sandbox::new();
    let issuer = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        // The user signed in 100 seconds ago.
        options.clock = Arc::new(LaggingClock(100));
    });
    home.log_in("work", &issuer);
    (home, issuer)
}

fn codes(verdict: &Value) -> BTreeSet<String> {
    let reasons = verdict["reasons"].as_array().into_iter().flatten();
    reasons.map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect()
}

/// Returns the reasons for the denial, none if the token is granted, after checking that `verify`, `exec` and the agent
/// report the same ones.
#[track_caller]
pub fn decided(home: &Sandbox) -> Vec<String> {
    let token = home.session("work").tokens.access_token.expose().to_owned();
    let verify = home.run(&["verify", "work", "--json"]);
    let expected = codes(&verify.json());
    assert_eq!(verify.code, if expected.is_empty() { 0 } else { 4 }, "{}", verify.stdout);
    let exec = |how: &str| {
        let ran = home.run(&["exec", "work", "--json", "--", "true"]);
        let reported = if ran.code == 0 { BTreeSet::new() } else { codes(&ran.json()) };
        assert_eq!((&reported, ran.code), (&expected, verify.code), "exec, {how}: {}{}", ran.stdout, ran.stderr);
    };
    exec("without an agent");
    let agent = Agent::run(home);
    let reply = agent.post("/v1/verify", &json!({"profile": "work", "token": token}).to_string()).expect_status(200);
    assert_eq!(codes(&reply), expected, "the agent: {reply}");
    exec("through the agent");
    agent.stop();
    expected.into_iter().collect()
}

#[track_caller]
pub fn set(home: &Sandbox, setting: &str) {
    home.run(&["profile", "set", "work", setting]).exits(0);
}

#[test]
fn verify_exec_and_agent_apply_the_same_requirements() {
    let (home, issuer) = logged_in();
    assert_eq!(decided(&home), [""; 0]);
    let name = &home.session("work").subject.expect("a subject").sub;
    for (good, bad, unset, code) in [
        ("required_scopes=openid profile", "required_scopes=openid admin", "required_scopes=", "claim_mismatch"),
        (&format!("required_claims=sub={name}"), "required_claims=sub=stranger", "required_claims=", "claim_mismatch"),
        ("required_claims=client_id=authctl", "required_claims=tenant=x", "required_claims=", "missing_claim"),
        ("required_roles=", "required_roles=admin", "required_roles=", "missing_claim"),
        ("required_amr=pwd", "required_amr=pwd hwk", "required_amr=", "claim_mismatch"),
        ("max_auth_age=1h", "max_auth_age=60s", "max_auth_age=", "claim_mismatch"),
        ("max_offline=1h", "max_offline=0s", "max_offline=", "offline_too_long"),
    ] {
        set(&home, good);
        assert_eq!(decided(&home), [""; 0], "{good}");
        set(&home, bad);
        if bad.starts_with("max_offline") {
            home.advance_time("work", 60);
        }
        assert_eq!(decided(&home), [code], "{bad}");
        set(&home, unset);
    }
    assert_eq!(issuer.stats().refreshes_committed, 0);
}

#[test]
fn options_add_to_the_requirements_of_the_profile() {
    let (home, _issuer) = logged_in();
    set(&home, "required_scopes=admin");
    let verdict = home.run(&["verify", "--scope", "openid", "--json"]).exits(4).json();
    assert_eq!(codes(&verdict), ["claim_mismatch".to_owned()].into());
    let token = home.token("work");
    let piped = home.run_with(&["verify", "-", "--json"], &token).exits(4).json();
    assert_eq!(codes(&piped), ["claim_mismatch".to_owned()].into());
    set(&home, "required_scopes=");
    set(&home, "max_auth_age=1h");
    home.run(&["verify", "--max-auth-age", "2h"]).exits(0);
    home.run(&["verify", "--max-auth-age", "60s"]).exits(4);
    set(&home, "max_auth_age=60s");
    home.run(&["verify", "--max-auth-age", "2h"]).exits(4);
}

#[test]
fn max_offline_denies_tokens_until_the_issuer_responds() {
    let (home, mut issuer) = logged_in();
    set(&home, "max_offline=7d");
    issuer.pause();
    assert_eq!(decided(&home), [""; 0]);
    home.change_trust(&issuer, |trust| trust.contact_at.as_mut().expect("answered").0 -= 7 * 24 * 3600 + 60);
    assert_eq!(decided(&home), ["offline_too_long"]);
    home.run(&["verify"]).exits(4).reports("last reached").reports("hint:  authctl refresh work\n");
    issuer.resume().expect("resumed");
    home.run(&["refresh"]).exits(0);
    assert_eq!(decided(&home), [""; 0]);
}

#[test]
fn id_token_decides_if_access_tokens_are_opaque() {
    let (home, issuer) = (Sandbox::new(), issuer(|options| options.opaque_access_tokens = true));
    home.log_in("work", &issuer);
    assert_eq!(decided(&home), ["opaque_token"]);
    set(&home, "verify_token=id_token");
    assert_eq!(decided(&home), [""; 0]);
    let verdict = home.run(&["verify", "--json"]).exits(0).json();
    assert_eq!(verdict["claims"]["aud"], "authctl");
    home.run(&["exec", "--", "sh", "-c", "test \"$AUTHCTL_TOKEN\" = \"$0\"", &home.token("work")]).exits(0);
    home.change_session("work", |session| session.tokens.id_token = None);
    assert_eq!(decided(&home), ["opaque_token"]);
    home.run(&["verify"]).exits(4).reports("verify_token");
    home.run(&["profile", "set", "work", "verify_token=both"]).exits(2);
}

#[test]
fn acr_option_does_not_replace_the_acr_of_the_profile() {
    let (home, _issuer) = logged_in();
    let acr = home.run(&["verify", "--json"]).exits(0).json()["claims"]["acr"].as_str().expect("an acr").to_owned();
    set(&home, "required_acr=high");
    home.run(&["verify", "--acr", &acr]).exits(4).reports("high");
    set(&home, &format!("required_acr={acr}"));
    home.run(&["verify", "--acr", &acr]).exits(0);
    home.run(&["verify", "--acr", "high"]).exits(4);
}

#[test]
fn id_token_that_decides_is_verified_by_all_rules() {
    let (home, issuer) = logged_in();
    set(&home, "verify_token=id_token");
    let signer = Signer::new();
    let keys = home.path().join("keys.json");
    std::fs::write(&keys, signer.jwks().to_string()).expect("written");
    let args = ["verify", "-", "--profile", "work", "--json", "--jwks", keys.to_str().expect("text")];
    for (changes, expected) in [
        (json!({}), vec![]),
        (json!({"aud": ["authctl", "x"], "azp": "authctl"}), vec![]),
        (json!({"aud": ["authctl", "x"], "azp": "x"}), vec!["claim_mismatch"]),
        (json!({"aud": ["authctl", "x"]}), vec!["missing_claim"]),
        (json!({"sub": null}), vec!["malformed"]),
        (json!({"typ": "Bearer"}), vec!["wrong_type"]),
        (json!({"token_use": "access"}), vec!["wrong_type"]),
    ] {
        let mut claims = valid_claims(json!({"iss": issuer.issuer(), "aud": "authctl"}));
        claims.as_object_mut().expect("claims").extend(changes.as_object().cloned().expect("changes"));
        let verdict = home.run_with(&args, &signer.sign(&json!({"alg": "EdDSA", "kid": "k"}), &claims)).json();
        assert_eq!(codes(&verdict), expected.iter().map(ToString::to_string).collect(), "{changes}");
    }
}

#[test]
fn logout_is_recorded_until_the_token_expires() {
    let (home, _issuer) = logged_in();
    let token = home.token("work");
    let end = claims(&token)["exp"].as_i64().expect("exp");
    home.change_session("work", |session| session.tokens.expires_at = Some(UnixTime(end - 250)));
    home.run(&["logout"]).exits(0);
    let list = std::fs::read_to_string(home.path().join("data/authctl/revoked")).expect("a list");
    let ends = list.lines().skip(1).filter_map(|line| line.split(' ').nth(1)?.parse::<i64>().ok());
    assert!(ends.clone().count() > 1 && ends.clone().all(|recorded| recorded >= end), "{list} {end}");
}

#[test]
fn id_token_that_decides_is_refreshed_when_it_expires_first() {
    let home = Sandbox::new();
    let issuer = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.access_token_ttl = std::time::Duration::from_secs(3600);
        options.id_token_ttl = std::time::Duration::from_secs(110);
        options.clock = Arc::new(LaggingClock(100));
    });
    home.log_in("work", &issuer);
    set(&home, "verify_token=id_token");
    // It is valid for ten more seconds, and with the default leeway for thirty after that.
    home.advance_time("work", 60);
    let id_token = || home.session("work").tokens.id_token.expect("one").expose().to_owned();
    let await_expiry = |before: &str| {
        crate::support::process::wait_until("its expiry", || {
            (home.run_with(&["verify", "-", "--leeway", "0s", "--profile", "work"], before).code == 4).then_some(())
        });
    };
    let before = id_token();
    await_expiry(&before);
    home.run(&["exec", "--", "true"]).exits(0);
    let second = id_token();
    assert_ne!(second, before, "without an agent");
    await_expiry(&second);
    let agent = Agent::run(&home);
    home.run(&["exec", "--", "true"]).exits(0);
    assert_ne!(id_token(), second, "through the agent");
    agent.stop();
}

/// Stores an ID token that expired ten minutes ago in a session that was refreshed at `refreshed_at`.
fn expire_id_token(home: &Sandbox, issuer: &DevIssuer, refreshed_at: Option<UnixTime>) {
    let now = SystemClock.now().0;
    let signer = Signer::new();
    let claims = valid_claims(json!({"iss": issuer.issuer(), "aud": "authctl", "iat": now - 900, "exp": now - 600}));
    let expired = signer.sign(&json!({"alg": "EdDSA", "kid": "k"}), &claims);
    home.change_session("work", |session| {
        session.tokens.id_token = Some(Secret::new(expired.clone()));
        session.refreshed_at = refreshed_at;
    });
}

#[test]
fn expired_id_token_is_not_printed_after_a_refresh_without_one() {
    let (home, issuer) = logged_in();
    expire_id_token(&home, &issuer, None);
    let without = ReplyEdit { remove: vec!["id_token".into()], ..ReplyEdit::default() };
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Edited(without), times: 0 });
    let ran = home.run(&["token", "work", "--id-token"]).exits(3).reports("sends no new one with a refresh");
    assert_eq!((ran.stdout.as_str(), issuer.stats().refreshes_committed), ("", 1));
}

#[test]
fn id_token_that_no_refresh_replaces_requires_a_login() {
    let (home, issuer) = logged_in();
    set(&home, "verify_token=id_token");
    // The refresh since then brought none.
    expire_id_token(&home, &issuer, Some(SystemClock.now()));
    let message = "the ID token has expired, and the issuer sends no new one with a refresh";
    let agree = || {
        for args in [&["token", "work", "--id-token"][..], &["verify", "work"], &["exec", "work", "--", "true"]] {
            home.run(args).exits(3).reports(message).reports("hint:  authctl login work");
        }
    };
    agree();
    let agent = Agent::run(&home);
    agree();
    agent.stop();
    // The access token alone is what counts otherwise.
    set(&home, "verify_token=access_token");
    home.run(&["verify", "work"]).exits(0);
}

#[test]
fn token_without_audience_is_denied_with_the_settings_that_help() {
    let (home, issuer) = logged_in();
    let signer = Signer::new();
    let keys = home.path().join("keys.json");
    std::fs::write(&keys, signer.jwks().to_string()).expect("written");
    home.run(&["keys", "pin", "work", "--jwks", keys.to_str().expect("text")]).exits(0);
    let give = |claims: Value| {
        let token = signer.token(claims);
        home.change_session("work", |session| session.tokens.access_token = Secret::new(token.clone()));
    };
    give(json!({"iss": issuer.issuer(), "aud": null}));
    for args in [&["verify", "work"][..], &["exec", "work", "--", "true"]] {
        let ran = home.run(args).exits(4).reports("verify_token=id_token");
        ran.reports("hint:  authctl profile set work optional_claims=aud\n");
    }
    set(&home, "optional_claims=aud");
    home.run(&["verify", "work"]).exits(0);
    // One claim more is added to those that are optional.
    give(json!({"iss": null, "aud": null}));
    home.run(&["verify", "work"]).exits(4).reports("hint:  authctl profile set work 'optional_claims=aud iss'\n");
    set(&home, "optional_claims=aud iss");
    home.run(&["verify", "work"]).exits(0);
    home.run(&["exec", "work", "--", "true"]).exits(0);
}

#[test]
fn unexpired_tokens_of_an_ended_session_are_denied() {
    let (home, issuer) = logged_in();
    let first = home.token("work");
    home.run(&["refresh"]).exits(0);
    let second = home.token("work");
    assert!(issuer.change_password(USER, &authctl::secret::Secret::new("another".into())));
    home.run_with(&["verify", "-"], &second).exits(0);
    home.run(&["refresh"]).exits(3);
    for args in [&["token", "work"][..], &["verify", "work"], &["exec", "work", "--", "true"]] {
        home.run(args).exits(3);
    }
    // The last token, and the one before it from the same login.
    for token in [&first, &second] {
        let denied = home.run_with(&["verify", "-", "--json"], token).exits(4).json();
        assert_eq!(codes(&denied), ["revoked".to_owned()].into());
    }
}

#[test]
fn logout_revokes_earlier_tokens_of_the_same_login_only() {
    let (home, issuer) = logged_in();
    let first = home.token("work");
    home.run(&["refresh"]).exits(0);
    let other = {
        home.log_in_as("other", &issuer, "other");
        home.token("other")
    };
    home.run(&["logout", "work"]).exits(0);
    let verify = |token: &str| home.run_with(&["verify", "-", "--profile", "work"], token).code;
    assert_eq!((verify(&first), verify(&other)), (4, 0));
    home.log_in("work", &issuer);
    assert_eq!(verify(&home.token("work")), 0);
}

#[test]
fn damaged_revocation_list_denies_every_token() {
    let (home, issuer) = logged_in();
    let token = home.token("work");
    let keys = home.path().join("keys.json");
    std::fs::write(&keys, home.trust(&issuer).fetched.expect("keys").jwks).expect("written");
    let without_profile = ["verify", "-", "--issuer", issuer.issuer(), "--audience", "authctl", "--jwks"];
    let without_profile = [&without_profile[..], &[keys.to_str().expect("text")]].concat();
    home.run_with(&without_profile, &token).exits(0);
    let list = home.path().join("data/authctl/revoked");
    // A list that has lost its end, one of another program, and none.
    for damaged in ["authctl-revoked-1 1\n", "junk\n", ""] {
        std::fs::write(&list, damaged).expect("written");
        home.run(&["verify", "work"]).exits(7).reports("damaged");
        home.run_with(&["verify", "-", "--profile", "work"], &token).exits(7);
        home.run_with(&without_profile, &token).exits(7);
        assert_eq!(home.run(&["exec", "work", "--", "echo", "ran"]).exits(7).stdout, "");
    }
    let agent = Agent::run(&home);
    let body = json!({"profile": "work", "token": token}).to_string();
    assert_eq!(agent.post("/v1/verify", &body).status, 503);
    assert_eq!(home.run(&["exec", "work", "--", "echo", "ran"]).exits(7).stdout, "");
    std::fs::remove_file(&list).expect("removed");
    assert_eq!(agent.post("/v1/verify", &body).expect_status(200)["valid"], true);
    agent.stop();
}
