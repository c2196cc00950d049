//! Verification as a whole, and the examples of the RFCs.

use serde_json::json;

use super::ReasonCode::*;
use super::key::KeyType;
use super::testing::{NOW, b64, claims, codes, ed, p256, p384, p521, policy, rsa, set};
use super::token::check_signature;
use super::*;

#[test]
fn each_algorithm_is_granted_with_its_own_key_only() {
    let keys = set(&[rsa().jwk.clone(), p256().jwk.clone(), p384().jwk.clone(), p521().jwk.clone(), ed().jwk.clone()]);
    for (signer, algorithms) in [
        (rsa(), &Algorithm::ALL[..6]),
        (p256(), &Algorithm::ALL[6..7]),
        (p384(), &Algorithm::ALL[7..8]),
        (p521(), &Algorithm::ALL[8..9]),
        (ed(), &Algorithm::ALL[9..]),
    ] {
        for &alg in algorithms {
            let token =
                signer.signs_as(alg, &format!(r#"{{"alg":"{alg}","kid":"k"}}"#), &claims(json!({})).to_string());
            assert_eq!(codes(&token, &keys, &policy()), [], "{alg}");
            let narrow = Policy { algorithms: Algorithm::ALL.into_iter().filter(|a| *a != alg).collect(), ..policy() };
            assert_eq!(codes(&token, &keys, &narrow), [AlgorithmNotAllowed], "{alg}");
        }
    }
}

#[test]
fn verified_token_has_claims_and_key() {
    let Verdict::Granted(granted) = verify(&p256().token(json!({"x": [1]})), &set(&[p256().jwk.clone()]), &policy())
    else {
        panic!("granted")
    };
    assert_eq!(granted.claims["x"], json!([1]));
    assert_eq!(granted.key, KeyInfo { kid: Some("k".into()), alg: Algorithm::ES256, kty: KeyType::EC });
    let denied = Verdict::Granted(granted).denied_for(Reason::new(KeysStale, "stale")).denied_for(Reason::revoked());
    let Verdict::Denied(reasons) = denied else { panic!("denied") };
    assert_eq!(reasons.iter().map(|reason| reason.code).collect::<Vec<_>>(), [Revoked, KeysStale], "in order");
}

#[test]
fn all_reasons_come_at_once_and_in_order() {
    let other = set(&[p256().jwk_with(json!({"x": b64([7; 32])}))]);
    let token = p256().token(json!({"exp": NOW - 900, "iss": "https://evil.example", "aud": null}));
    let asked = Policy { claims: vec![("sub".into(), "t".into())], acr: vec!["high".into()], ..policy() };
    let expected = [InvalidSignature, Expired, WrongIssuer, MissingClaim, MissingClaim, ClaimMismatch];
    assert_eq!(codes(&token, &other, &asked), expected);
}

#[test]
fn none_and_hmac_are_never_accepted() {
    let keys = set(&[rsa().jwk.clone()]);
    let payload = b64(claims(json!({})).to_string());
    for alg in ["none", "None", "HS256"] {
        let header = b64(format!(r#"{{"alg":"{alg}","kid":"k"}}"#));
        assert_eq!(codes(&format!("{header}.{payload}.c2ln"), &keys, &policy()), [AlgorithmNotAllowed], "{alg}");
    }
    let unsigned = format!("{}.{payload}.", b64(r#"{"alg":"none"}"#));
    let reason = Reason::new(AlgorithmNotAllowed, "the token is not signed (alg `none`)");
    assert_eq!(verify(&unsigned, &keys, &policy()), Verdict::Denied(vec![reason]));
    // The classic confusion: HMAC, with the public key's text as the secret.
    let header = b64(r#"{"alg":"HS256","kid":"k"}"#);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, rsa().pem().as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    let token = format!("{header}.{payload}.{}", b64(tag));
    assert_eq!(codes(&token, &KeySet::from_pem(&rsa().pem()).expect("PEM"), &policy()), [AlgorithmNotAllowed]);
}

#[test]
fn unsupported_headers_and_other_types_are_denied() {
    let keys = set(&[ed().jwk.clone()]);
    let with = |members: &str| {
        let header = format!(r#"{{"alg":"EdDSA","kid":"k"{members}}}"#);
        codes(&ed().signs(&header, &claims(json!({})).to_string()), &keys, &policy())
    };
    assert_eq!(with(r#","crit":["exp"],"exp":1"#), [UnsupportedHeader]);
    assert_eq!(with(r#","crit":[]"#), [UnsupportedHeader]);
    assert_eq!(with(r#","b64":false"#), [UnsupportedHeader]);
    assert_eq!(with(r#","zip":"DEF""#), [UnsupportedHeader]);
    assert_eq!(with(r#","enc":"A128GCM""#), [UnsupportedHeader]);
    assert_eq!(with(r#","typ":"at+jwt""#), []);
    assert_eq!(with(r#","typ":"logout+jwt""#), [WrongType]);
    assert_eq!(with(r#","kid":"k""#), [Malformed]);
}

#[test]
fn reason_for_a_wrong_type_names_the_accepted_ones() {
    let token = ed().signs(r#"{"alg":"EdDSA","typ":"logout+jwt"}"#, &claims(json!({})).to_string());
    for (types, accepted) in [
        (AcceptedTypes::AccessToken, "no typ, JWT or at+jwt"),
        (AcceptedTypes::StatusList, "statuslist+jwt"),
        (AcceptedTypes::Only(vec!["a".into(), "b".into()]), "a or b"),
    ] {
        let reason = Reason::new(WrongType, format!("expected type {accepted}, found \"logout+jwt\""));
        let verdict = verify(&token, &set(&[ed().jwk.clone()]), &Policy { types, ..policy() });
        assert_eq!(verdict, Verdict::Denied(vec![reason]));
    }
}

#[test]
fn denial_without_verification_has_its_reason_and_step() {
    let reason = || Reason::new(OpaqueToken, "opaque");
    let recorded = Verification::denied("parts", reason(), true);
    assert_eq!(recorded.verdict, Verdict::Denied(vec![reason()]));
    let step = Step { check: "parts", outcome: CheckResult::Denied, message: "opaque".into(), is_text: false };
    assert_eq!(recorded.steps, Some(vec![step]));
    assert_eq!(Verification::denied("parts", reason(), false).steps, None);
}

#[test]
fn id_token_is_not_accepted_as_an_access_token() {
    let keys = set(&[ed().jwk.clone()]);
    let access = Policy { types: AcceptedTypes::AccessToken, ..policy() };
    let with = |changes| codes(&ed().token(changes), &keys, &access);
    for changes in [
        json!({"at_hash": "h"}),
        json!({"c_hash": "h"}),
        json!({"s_hash": "h"}),
        json!({"typ": "ID"}),
        json!({"token_use": "id"}),
        json!({"nonce": "n"}),
    ] {
        assert_eq!(with(changes.clone()), [WrongType], "{changes}");
        let header = r#"{"alg":"EdDSA","kid":"k","typ":"AT+JWT"}"#;
        assert_eq!(codes(&ed().signs(header, &claims(changes).to_string()), &keys, &access), []);
    }
    assert_eq!(with(json!({"nonce": "n", "typ": "Bearer"})), []);
    assert_eq!(with(json!({"nonce": "n", "typ": "other"})), [WrongType]);
    assert_eq!(with(json!({"typ": "Bearer", "token_use": "access"})), []);
}

#[test]
fn explanation_names_each_check_and_its_result() {
    let keys = set(&[ed().jwk.clone()]);
    let asked = Policy { claims: vec![("roles".into(), "dev".into()), ("n".into(), "8".into())], ..policy() };
    let token = ed().token(json!({"roles": ["dev", 7], "n": 7, "exp": 1, "jti": 5}));
    let recorded = verify_with_steps(&token, &keys, &asked, true);
    assert!(!recorded.verdict.is_granted());
    let steps = recorded.steps.expect("recorded");
    let found: Vec<(&str, bool)> =
        steps.iter().map(|step| (step.check, step.outcome == super::checks::CheckResult::Ok)).collect();
    let expected = [
        ("parts", true),
        ("header", true),
        ("typ", true),
        ("alg", true),
        ("key", true),
        ("signature", true),
        ("exp", false),
        ("iat", true),
        ("iss", true),
        ("aud", true),
        ("sub", true),
        ("jti", false),
        ("claim", true),
        ("claim", false),
    ];
    assert_eq!(found, expected);
    assert_eq!((steps[8].message.as_str(), steps[10].message.as_str()), ("\"https://issuer.example\"", "\"s\""));
    assert!(verify_with_steps(&token, &keys, &asked, false).steps.is_none());
}

#[test]
fn each_option_is_a_rule_of_the_policy() {
    let options = PolicyOptions {
        leeway: Some(86_400),
        scope: vec!["a".into(), String::new()],
        claim: [("n".to_owned(), "v".to_owned())].into(),
        max_auth_age: Some(60),
        acr: vec!["high".into()],
        amr: vec!["otp".into()],
        ignore_status: true,
        at: Some(UnixTime(5)),
        ..PolicyOptions::default()
    };
    let policy = options.policy(UnixTime(NOW)).expect("valid");
    assert_eq!((policy.leeway.as_secs(), policy.now, policy.as_of), (86_400, UnixTime(5), true));
    assert_eq!((policy.scopes, policy.claims), (vec!["a".to_owned()], vec![("n".to_owned(), "v".to_owned())]));
    assert_eq!((policy.acr, policy.amr), (vec!["high".to_owned()], vec!["otp".to_owned()]));
    assert_eq!((policy.max_auth_age.map(|age| age.as_secs()), policy.ignore_status), (Some(60), true));
    assert!(PolicyOptions { leeway: Some(86_401), ..options }.policy(UnixTime(NOW)).is_err());
    let algorithms = vec![" ES256 ".into(), "EdDSA".into()];
    let named = PolicyOptions { algorithms, typ: vec!["x".into()], ..PolicyOptions::default() };
    let named = named.policy(UnixTime(NOW)).expect("valid");
    assert_eq!(named.algorithms, ["ES256", "EdDSA"].map(|name| name.parse().expect("known")));
    assert_eq!(named.types, AcceptedTypes::Only(vec!["x".into()]));
    let unknown = PolicyOptions { algorithms: vec!["none".into()], ..PolicyOptions::default() };
    assert!(unknown.policy(UnixTime(NOW)).is_err());
    let default = PolicyOptions::default().policy(UnixTime(NOW)).expect("valid");
    let unchanged = Policy::new(String::new(), Vec::new(), UnixTime(NOW));
    assert_eq!((default.algorithms, default.types), (unchanged.algorithms, unchanged.types));
    assert_eq!((default.leeway, default.now, default.as_of), (Policy::LEEWAY, UnixTime(NOW), false));
}

#[test]
fn options_are_read_from_json() {
    let read = |text: &str| serde_json::from_str::<PolicyOptions>(text).ok();
    let at = |at| Some(PolicyOptions { at, ..PolicyOptions::default() });
    assert_eq!((read("{}"), read(r#"{"at":null}"#)), (at(None), at(None)));
    assert_eq!((read(r#"{"at":5}"#), read(r#"{"at":5.0}"#)), (at(Some(UnixTime(5))), at(Some(UnixTime(5)))));
    assert_eq!((read(r#"{"at":"5"}"#), read(r#"{"at":5.5}"#)), (None, None));
}

#[test]
fn signature_that_is_no_base64url_is_malformed() {
    let keys = set(&[ed().jwk.clone()]);
    let token = ed().token(json!({}));
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    for signature in [String::new(), "!".to_owned(), format!("{signature}="), format!("{signature}\n")] {
        assert_eq!(codes(&format!("{signed}.{signature}"), &keys, &policy()), [Malformed], "{signature:?}");
    }
}

#[test]
fn token_that_has_not_three_parts_is_malformed() {
    let header = b64(r#"{"alg":"EdDSA"}"#);
    for (parts, message) in
        [("b", "has 2 parts"), ("b.c.d", "has 4 parts"), ("b.c.d.e", "encrypted"), ("b.c.d.e.f.g", "has 7 parts")]
    {
        let Verdict::Denied(reasons) = verify(&format!("{header}.{parts}"), &KeySet::default(), &policy()) else {
            panic!("{parts} is granted")
        };
        assert!(reasons[0].code == Malformed && reasons[0].message.contains(message), "{reasons:?}");
    }
}

const RFC_7515_PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn rfc_7515_appendix_a() {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let keys = set(&[
        json!({"kty": "RSA", "n": n, "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
    ]);
    let asked = Policy { issuer: "joe".into(), now: UnixTime(1_300_819_379), ..policy() };
    let rs256 = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let es256 = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    // The examples have no audience; nothing else is wrong with A.2 and A.3.
    assert_eq!(codes(&format!("eyJhbGciOiJSUzI1NiJ9.{RFC_7515_PAYLOAD}.{rs256}"), &keys, &asked), [MissingClaim]);
    assert_eq!(codes(&format!("eyJhbGciOiJFUzI1NiJ9.{RFC_7515_PAYLOAD}.{es256}"), &keys, &asked), [MissingClaim]);
    let swapped = format!("eyJhbGciOiJFUzI1NiJ9.{RFC_7515_PAYLOAD}.{rs256}");
    assert_eq!(codes(&swapped, &keys, &asked), [InvalidSignature, MissingClaim]);
    let a5_unsecured = format!("eyJhbGciOiJub25lIn0.{RFC_7515_PAYLOAD}.");
    assert_eq!(codes(&a5_unsecured, &keys, &asked), [AlgorithmNotAllowed, MissingClaim]);
}

#[test]
fn rfc_8037_appendix_a_4() {
    let keys = set(&[json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})]);
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let header = header::Header { alg: "EdDSA".into(), kid: None, typ: None, unsupported: None };
    let parsed = ParsedToken { signing_input: signed, signature, header, claims: Map::new() };
    let found = check_signature(&parsed, &keys, &policy(), &mut Checks::default());
    assert_eq!(found.map(|key| key.alg), Some(Algorithm::EdDSA));
    // Its payload is text, so it is not a JWT.
    assert_eq!(codes(&format!("{signed}.{signature}"), &keys, &policy()), [Malformed]);
}

#[test]
fn opaque_tokens_are_reported_as_opaque() {
    for opaque in ["ghs_abcdef", "ya29.a0AfH6", ""] {
        assert_eq!(codes(opaque, &KeySet::default(), &policy()), [OpaqueToken], "{opaque}");
    }
    let cut_short = ed().token(json!({}));
    let cut_short = cut_short.rsplit_once('.').expect("three parts").0;
    assert_eq!(codes(cut_short, &KeySet::default(), &policy()), [Malformed]);
    assert!(!looks_like_jwt("ghs_abcdef") && !looks_like_jwt("ya29.a0AfH6"));
    assert!(looks_like_jwt(&ed().token(json!({}))));
}

#[test]
fn unverified_claims_are_read_from_any_well_formed_token() {
    let token = ed().token(json!({"sub": "1", "exp": NOW as f64 + 0.2, "iss": 1}));
    let read = unverified_claims(&token).expect("a JWT");
    assert_eq!((read.exp, read.iss, read.sub.as_deref()), (Some(UnixTime(NOW + 1)), None, Some("1")));
    assert_eq!(unverified_claims("a.b.c"), None);
}
