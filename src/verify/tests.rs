//! Verification as a whole: one test a rule, and the examples of the RFCs.

use std::time::Duration;

use serde_json::json;

use super::ReasonCode::*;
use super::keys::{KeySetError, KeyType};
use super::testing::{AUDIENCE, ISSUER, NOW, b64, claims, codes, ed, p256, p384, p521, policy, rsa, set};
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
    let denied = Verdict::Granted(granted).denied_for(Reason::revoked());
    assert!(matches!(&denied, Verdict::Denied(reasons) if reasons[0].code == Revoked));
}

#[test]
fn all_reasons_come_at_once_and_in_order() {
    let other = set(&[p256().jwk_with(json!({"x": b64([7; 32])}))]);
    let token = p256().token(json!({"exp": NOW - 900, "iss": "https://evil.example", "aud": null}));
    assert_eq!(codes(&token, &other, &policy()), [InvalidSignature, Expired, WrongIssuer, MissingClaim]);
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
    assert_eq!(codes(&unsigned, &keys, &policy()), [AlgorithmNotAllowed]);
    // The classic confusion: HMAC, with the public key's text as the secret.
    let header = b64(r#"{"alg":"HS256","kid":"k"}"#);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, rsa().pem().as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    let token = format!("{header}.{payload}.{}", b64(tag));
    assert_eq!(codes(&token, &KeySet::from_pem(&rsa().pem()).expect("PEM"), &policy()), [AlgorithmNotAllowed]);
}

#[test]
fn key_is_used_only_for_what_its_members_allow() {
    let token = p256().token(json!({}));
    let with = |members| codes(&token, &set(&[p256().jwk_with(members)]), &policy());
    for members in [json!({}), json!({"alg": "ES256"}), json!({"use": "sig"}), json!({"key_ops": ["sign", "verify"]})] {
        assert_eq!(with(members.clone()), [], "{members}");
    }
    // Serializers write what is not set as null or as empty. `jwk_with` would remove a null.
    let names = ["kid", "alg", "use", "key_ops", "d", "p", "q", "dp", "dq", "qi", "oth", "k", "n", "e", "x5c", "x5u"];
    for (name, empty) in names.iter().flat_map(|name| [json!(null), json!(""), json!([])].map(|empty| (*name, empty))) {
        let mut jwk = p256().jwk.clone();
        jwk[name] = empty.clone();
        let bare = p256().signs(r#"{"alg":"ES256"}"#, &claims(json!({})).to_string());
        let expected: &[ReasonCode] = if (name, &empty) == ("kid", &json!([])) { &[UnknownKey] } else { &[] };
        assert_eq!(codes(&bare, &set(&[jwk]), &policy()), expected, "{name}: {empty}");
    }
    for members in [
        json!({"alg": "ES384"}),
        json!({"alg": "RS256"}),
        json!({"alg": 1}),
        json!({"use": "enc"}),
        json!({"use": 1}),
        json!({"key_ops": ["sign"]}),
        json!({"key_ops": "verify"}),
        json!({"key_ops": ["verify", "verify"]}),
        json!({"key_ops": ["verify", 7]}),
        json!({"crv": "P-384"}),
        json!({"crv": "secp256k1"}),
        json!({"kty": "RSA"}),
        json!({"kid": 1}),
        json!({"d": "AQ"}),
        json!({"kty": null}),
    ] {
        assert_eq!(with(members.clone()), [UnknownKey], "{members}");
    }
    let only_rs512 = set(&[rsa().jwk_with(json!({"alg": "RS512"}))]);
    assert_eq!(codes(&rsa().token(json!({})), &only_rs512, &policy()), [AlgorithmNotAllowed]);
}

#[test]
fn kid_must_match_and_without_one_a_single_key_must_be_left() {
    let payload = claims(json!({})).to_string();
    let token = |header: &str| p256().signs(header, &payload);
    let key = p256().jwk.clone();
    let others = [rsa().jwk_with(json!({"kid": "r"})), ed().jwk_with(json!({"kid": "e"}))];
    let mixed = set(&[key.clone(), others[0].clone(), others[1].clone()]);
    assert_eq!(codes(&token(r#"{"alg":"ES256"}"#), &mixed, &policy()), []);
    for kid in ["K", "k ", "", "other"] {
        assert_eq!(codes(&token(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#)), &mixed, &policy()), [UnknownKey]);
    }
    let two = set(&[key.clone(), p256().jwk_with(json!({"kid": "k2"}))]);
    assert_eq!(codes(&token(r#"{"alg":"ES256"}"#), &two, &policy()), [UnknownKey]);
    // A key without a name is not the named one.
    let nameless = set(&[p256().jwk_with(json!({"kid": null}))]);
    assert_eq!(codes(&token(r#"{"alg":"ES256","kid":"k"}"#), &nameless, &policy()), [UnknownKey]);
    // Two keys of one name are both tried.
    let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let twins = set(&[p256().jwk_with(json!({"x": x, "y": y})), key]);
    assert_eq!(codes(&token(r#"{"alg":"ES256","kid":"k"}"#), &twins, &policy()), []);
    assert_eq!(codes(&token(r#"{"alg":"ES256","kid":"k"}"#), &KeySet::default(), &policy()), [UnknownKey]);
}

#[test]
fn keys_in_the_header_are_ignored() {
    let trusted = set(&[p256().jwk.clone()]);
    let evil = rsa();
    let header =
        json!({"alg": "RS256", "kid": "k", "jwk": evil.jwk, "jku": "https://evil.example/jwks", "x5c": ["AA"]});
    let token = evil.signs(&header.to_string(), &claims(json!({})).to_string());
    assert_eq!(codes(&token, &trusted, &policy()), [AlgorithmNotAllowed]);
    let ignored = json!({"alg": "ES256", "kid": "k", "jwk": evil.jwk, "x5t": 7});
    let token = p256().signs(&ignored.to_string(), &claims(json!({})).to_string());
    assert_eq!(codes(&token, &trusted, &policy()), []);
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
    assert_eq!(with(r#","typ":"at+jwt""#), []);
    assert_eq!(with(r#","typ":"logout+jwt""#), [WrongType]);
    assert_eq!(with(r#","kid":"k""#), [Malformed]);
}

#[test]
fn weak_keys_are_denied() {
    let weak_rsa = |n: Vec<u8>, e: &[u8]| {
        let token = rsa().token(json!({}));
        codes(&token, &set(&[rsa().jwk_with(json!({"n": b64(n), "e": b64(e)}))]), &policy())
    };
    let odd = |bytes: usize| vec![0xff; bytes];
    let e = [1, 0, 1];
    assert_eq!(weak_rsa(odd(128), &e), [WeakKey]);
    assert_eq!(weak_rsa([vec![0; 128], odd(128)].concat(), &e), [WeakKey], "zeros in front add no strength");
    assert_eq!(weak_rsa([vec![0x7f], odd(255)].concat(), &e), [WeakKey], "2047 bits");
    assert_eq!(weak_rsa(odd(1025), &e), [WeakKey]);
    assert_eq!(weak_rsa(odd(256), &[1]), [WeakKey]);
    assert_eq!(weak_rsa(odd(256), &[2]), [WeakKey]);
    assert_eq!(weak_rsa(odd(256), &[1, 0, 0, 0, 0, 0, 1]), [WeakKey]);
    assert_eq!(weak_rsa([odd(255), vec![0xfe]].concat(), &e), [WeakKey]);
    assert_eq!(weak_rsa(odd(256), &e), [InvalidSignature]);
    assert_eq!(weak_rsa(odd(256), &[0]), [UnknownKey], "no exponent, no key");
}

#[test]
fn ed25519_keys_of_small_order_are_denied() {
    // With the neutral element as key and as R, and S = 0, RFC 8032's equation holds for every message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let forged_for = |kid: &str| {
        let signed =
            format!("{}.{}", b64(format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#)), b64(claims(json!({})).to_string()));
        format!("{signed}.{}", b64([neutral, [0; 32]].concat()))
    };
    // The library alone accepts the forgery.
    let forged = forged_for("k");
    let (signed, signature) = forged.rsplit_once('.').expect("three parts");
    let decoding = jsonwebtoken::DecodingKey::from_ed_der(&neutral);
    let accepted =
        jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &decoding, jsonwebtoken::Algorithm::EdDSA);
    assert_eq!(accepted.ok(), Some(true));
    let key = |x: [u8; 32]| set(&[ed().jwk_with(json!({"x": b64(x)}))]);
    assert_eq!(codes(&forged_for("k"), &key(neutral), &policy()), [WeakKey]);
    let mut signed_neutral = neutral;
    signed_neutral[31] |= 0x80;
    assert_eq!(codes(&forged_for("k"), &key(signed_neutral), &policy()), [WeakKey]);
    let mut order_two = [0xff; 32];
    (order_two[0], order_two[31]) = (0xec, 0x7f);
    let mut not_canonical = order_two;
    not_canonical[0] = 0xee;
    for x in [[0; 32], order_two, not_canonical] {
        assert_eq!(codes(&forged_for("k"), &key(x), &policy()), [WeakKey], "{x:?}");
    }
    for order_eight in ["JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU", "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o"] {
        let keys = set(&[ed().jwk_with(json!({"x": order_eight}))]);
        assert_eq!(codes(&forged_for("k"), &keys, &policy()), [WeakKey], "{order_eight}");
    }
    assert_eq!(codes(&forged_for("k"), &set(&[ed().jwk.clone()]), &policy()), [InvalidSignature]);
    for length in [0, 31, 33] {
        let odd = set(&[ed().jwk_with(json!({"x": b64(vec![9; length])}))]);
        assert_eq!((odd.len(), odd.skipped()), (0, 1), "{length} bytes");
    }
}

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
fn pem_keys_verify_tokens_with_any_kid() {
    for signer in [rsa(), p256(), p384(), ed()] {
        let keys = KeySet::parse(&signer.pem()).expect("PEM");
        assert_eq!((keys.len(), keys.skipped()), (1, 0));
        assert_eq!(codes(&signer.token(json!({})), &keys, &policy()), []);
    }
    let both = KeySet::parse(&format!("{}\n{}", rsa().pem(), p256().pem())).expect("PEM");
    assert_eq!(codes(&p256().token(json!({})), &both, &policy()), []);
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(KeySet::parse(private).map(|k| (k.len(), k.skipped())), Ok((0, 1)));
    for text in ["", "ssh-ed25519 AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA"] {
        assert_eq!(KeySet::parse(text).err(), Some(KeySetError::NotPem), "{text}");
    }
}

#[test]
fn new_key_is_noticed_by_the_signature() {
    let token = p256().token(json!({}));
    let nameless = p256().signs(r#"{"alg":"ES256"}"#, &claims(json!({})).to_string());
    let other = p256().jwk_with(json!({"x": p256().jwk["y"], "y": p256().jwk["x"]}));
    let (own, twin) = (p256().jwk.clone(), p256().jwk_with(json!({"kid": "k2"})));
    for (what, token, keys, verifies) in [
        ("the key", &token, vec![own.clone()], true),
        ("the key among others of its name", &token, vec![other.clone(), own.clone()], true),
        ("another key of its name", &token, vec![other.clone()], false),
        ("the key under another name", &token, vec![twin.clone()], false),
        ("a key of another type of its name", &token, vec![p521().jwk.clone()], false),
        ("no key", &token, vec![], false),
        ("no name, the key", &nameless, vec![own.clone()], true),
        ("no name, the key twice", &nameless, vec![own.clone(), twin], true),
        ("no name, another key", &nameless, vec![other], false),
        ("an opaque token", &"opaque".to_owned(), vec![], true),
        ("an unsupported algorithm", &p256().signs(r#"{"alg":"HS256"}"#, "{}"), vec![own], true),
    ] {
        assert_eq!(set(&keys).verifies(token), verifies, "{what}");
    }
}

#[test]
fn invalid_keys_of_a_set_are_skipped() {
    let odd =
        [json!({"kty": "oct", "k": "AAAA"}), json!({"kty": "XYZ"}), json!({}), json!(7), json!({"kty": "RSA", "n": 5})];
    let keys = set(&[&odd[..], &[ed().jwk.clone()]].concat());
    assert_eq!((keys.len(), keys.skipped()), (1, 5));
    assert_eq!(keys.skipped_text(), "left out: 3 malformed, 1 of an unsupported type, 1 private or symmetric");
    assert_eq!(set(&[ed().jwk.clone()]).skipped_text(), "");
    assert_eq!(codes(&ed().token(json!({})), &keys, &policy()), []);
    assert_eq!(
        KeySet::from_jwks(r#"{"keys":[],"keys":[]}"#).err().map(|e| e.to_string()).as_deref(),
        Some("invalid JWK Set: duplicate member name")
    );
    assert_eq!(KeySet::from_jwks("{}").err(), Some(KeySetError::NoKeys));
    assert_eq!(KeySet::from_jwks(&json!({"keys": vec![0; 257]}).to_string()).err(), Some(KeySetError::TooMany));
    assert_eq!(KeySet::parse(&format!("{{{}", " ".repeat(KeySet::MAX_LENGTH))).err(), Some(KeySetError::TooLong));
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
