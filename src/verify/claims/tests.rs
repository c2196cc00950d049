//! The claims that a policy requires: one test a rule.

use std::time::Duration;

use serde_json::json;

use super::super::ReasonCode::*;
use super::super::testing::{AUDIENCE, ISSUER, NOW, codes, ed, policy, set};
use super::super::*;
use super::shown_text;

#[test]
fn times_are_checked_to_the_second_with_leeway() {
    let keys = set(&[ed().jwk.clone()]);
    let at = |changes, leeway, now| {
        let policy = Policy { leeway: Duration::from_secs(leeway), now: UnixTime(now), ..policy() };
        codes(&ed().token(changes), &keys, &policy)
    };
    // iat is NOW by default, so the earlier moments need an earlier one.
    assert_eq!(at(json!({"exp": NOW, "iat": 0}), 0, NOW - 1), []);
    assert_eq!(at(json!({"exp": NOW, "iat": 0}), 0, NOW), [Expired]);
    assert_eq!(at(json!({"exp": NOW}), 30, NOW + 29), []);
    assert_eq!(at(json!({"exp": NOW}), 30, NOW + 30), [Expired]);
    assert_eq!(at(json!({"exp": NOW as f64 + 0.5}), 0, NOW), []);
    assert_eq!(at(json!({"exp": NOW as f64 + 0.5}), 0, NOW + 1), [Expired]);
    assert_eq!(at(json!({"nbf": NOW + 30}), 30, NOW), []);
    assert_eq!(at(json!({"nbf": NOW + 31}), 30, NOW), [NotYetValid]);
    assert_eq!(at(json!({"nbf": NOW as f64 + 0.5}), 0, NOW), [NotYetValid]);
    assert_eq!(at(json!({"iat": NOW + 31}), 30, NOW), [NotYetValid]);
    assert_eq!(at(json!({"auth_time": NOW + 30}), 30, NOW), []);
    assert_eq!(at(json!({"auth_time": NOW + 31}), 30, NOW), [NotYetValid]);
    assert_eq!(at(json!({"exp": null}), 30, NOW), [MissingClaim]);
    // No leeway is longer than a local revocation is remembered.
    assert_eq!(at(json!({"exp": 1000, "iat": 0}), u64::MAX, NOW), [Expired]);
    assert_eq!(at(json!({}), 30, i64::MAX), [Expired]);
    assert_eq!(at(json!({}), 30, i64::MIN), [NotYetValid]);
}

#[test]
fn claims_of_the_wrong_type_are_malformed() {
    let keys = set(&[ed().jwk.clone()]);
    for changes in [
        json!({"exp": "1900000000"}),
        json!({"exp": -1}),
        json!({"exp": 1.9e12}),
        json!({"exp": [NOW]}),
        json!({"exp": true}),
        json!({"nbf": "0"}),
        json!({"iat": {}}),
        json!({"auth_time": "0"}),
        json!({"iss": [ISSUER]}),
        json!({"iss": 1}),
        json!({"aud": 1}),
        json!({"aud": {AUDIENCE: 1}}),
        json!({"aud": [AUDIENCE, 1]}),
        json!({"sub": 1}),
    ] {
        assert_eq!(codes(&ed().token(changes.clone()), &keys, &policy()), [Malformed], "{changes}");
    }
    let recent = Policy { max_auth_age: Some(Duration::from_secs(60)), ..policy() };
    assert_eq!(codes(&ed().token(json!({"auth_time": "0"})), &keys, &recent), [Malformed], "it is not missing");
    for payload in [r#"{"exp":null}"#, r#"[]"#, "\"a\"", r#"{"exp":1,"exp":2}"#, "{\"exp\":NaN}", ""] {
        let codes = codes(&ed().signs(r#"{"alg":"EdDSA"}"#, payload), &keys, &policy());
        assert!(codes.contains(&Malformed), "{payload}: {codes:?}");
    }
}

#[test]
fn issuer_and_audience_are_required_and_exact() {
    let keys = set(&[ed().jwk.clone()]);
    let with = |changes| codes(&ed().token(changes), &keys, &policy());
    assert_eq!(with(json!({"iss": format!("{ISSUER}/")})), [WrongIssuer]);
    assert_eq!(with(json!({"iss": "HTTPS://issuer.example"})), [WrongIssuer]);
    assert_eq!(with(json!({"iss": null})), [MissingClaim]);
    assert_eq!(with(json!({"aud": ["x", AUDIENCE]})), []);
    assert_eq!(with(json!({"aud": format!("{AUDIENCE}/x")})), [WrongAudience]);
    assert_eq!(with(json!({"aud": []})), [WrongAudience]);
    assert_eq!(with(json!({"aud": null})), [MissingClaim]);
    let optional = Policy { optional_claims: vec!["iss".into()], ..policy() };
    assert_eq!(codes(&ed().token(json!({"iss": null})), &keys, &optional), []);
    assert_eq!(codes(&ed().token(json!({"iss": null, "aud": null})), &keys, &optional), [MissingClaim]);
    assert_eq!(codes(&ed().token(json!({"iss": "https://evil.example"})), &keys, &optional), [WrongIssuer]);
    let optional = Policy { optional_claims: vec!["aud".into()], ..policy() };
    assert_eq!(codes(&ed().token(json!({"aud": null})), &keys, &optional), []);
    assert_eq!(codes(&ed().token(json!({"aud": "other"})), &keys, &optional), [WrongAudience]);
    let none = Policy { audiences: Vec::new(), ..policy() };
    assert_eq!(codes(&ed().token(json!({})), &keys, &none), [WrongAudience]);
}

#[test]
fn required_scopes_claims_and_authentication_are_checked() {
    let keys = set(&[ed().jwk.clone()]);
    let token = ed().token(json!({
        "scope": "read write", "n": 7, "b": true, "roles": ["admin", "dev"], "auth_time": NOW - 100, "acr": "high",
        "amr": ["pwd", "otp"],
    }));
    let with = |change: &dyn Fn(&mut Policy)| {
        let mut asked = policy();
        change(&mut asked);
        codes(&token, &keys, &asked)
    };
    let claim = |name: &str, value: &str| with(&|p| p.claims = vec![(name.into(), value.into())]);
    assert_eq!(with(&|p| p.scopes = vec!["write".into(), "read".into()]), []);
    assert_eq!(with(&|p| p.scopes = vec!["read".into(), "wri".into()]), [ClaimMismatch]);
    for (name, value) in [("n", "7"), ("b", "true"), ("roles", "dev"), ("sub", "s")] {
        assert_eq!(claim(name, value), [], "{name}");
    }
    assert_eq!(claim("n", "07"), [ClaimMismatch]);
    assert_eq!(claim("roles", "adm"), [ClaimMismatch]);
    assert_eq!(claim("absent", ""), [MissingClaim]);
    assert_eq!(with(&|p| p.max_auth_age = Some(Duration::from_secs(70))), []);
    assert_eq!(with(&|p| p.max_auth_age = Some(Duration::from_secs(69))), [ClaimMismatch]);
    assert_eq!(with(&|p| p.max_auth_age = Some(Duration::MAX)), []);
    assert_eq!(with(&|p| p.acr = vec!["low".into(), "high".into()]), []);
    assert_eq!(with(&|p| p.acr = vec!["low".into()]), [ClaimMismatch]);
    assert_eq!(with(&|p| p.amr = vec!["otp".into(), "pwd".into()]), []);
    assert_eq!(with(&|p| p.amr = vec!["otp".into(), "hwk".into()]), [ClaimMismatch]);
    let bare = ed().token(json!({}));
    let asked = Policy {
        scopes: vec!["a".into()],
        max_auth_age: Some(Duration::ZERO),
        acr: vec!["a".into()],
        amr: vec!["a".into()],
        ..policy()
    };
    assert_eq!(codes(&bare, &keys, &asked), [MissingClaim; 4]);
    let scp = ed().token(json!({"scp": ["a", "b"]}));
    assert_eq!(codes(&scp, &keys, &Policy { scopes: vec!["b".into()], ..policy() }), []);
}

#[test]
fn untrusted_claim_is_shown_as_text() {
    for (claim, shown) in [
        (json!("a\nb"), Some(r#""a b""#)),
        (json!(["a", 7, null]), Some(r#""a", "7", "null""#)),
        (json!([]), Some("none")),
        (json!(7), None),
    ] {
        assert_eq!(shown_text(&claim).as_deref(), shown, "{claim}");
    }
}
