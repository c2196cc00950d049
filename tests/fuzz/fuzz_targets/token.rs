//! Tokens: raw input, or a valid signature over a header and payload from the input.
#![no_main]

mod signed;

use std::sync::LazyLock;

use authctl::fuzzing::{KeySet, Policy, Reason, Verdict, looks_like_jwt, unverified_claims, verify};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use signed::{AUDIENCE, ISSUER, KID, NOW, b64, jwk, pair, policy, token};

static PAIR: LazyLock<Ed25519KeyPair> = LazyLock::new(pair);
static KEYS: LazyLock<KeySet> =
    LazyLock::new(|| KeySet::from_jwks(&json!({"keys": [jwk(&PAIR)]}).to_string()).expect("a set"));

// The first byte selects what the rest is: the token; header and payload, separated by a zero byte; or the members to add
// to a valid header and valid claims.
fuzz_target!(|data: &[u8]| {
    let Some((&how, rest)) = data.split_first() else { return };
    let halves = || rest.split_at(rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len()));
    let text = match how % 3 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        1 => {
            let (header, payload) = halves();
            token(&PAIR, header, payload.get(1..).unwrap_or_default())
        }
        _ => {
            let (header, payload) = halves();
            let payload = payload.get(1..).unwrap_or_default();
            let header = object_with(&format!(r#""alg":"EdDSA","kid":"{KID}""#), header);
            let payload = object_with(&format!(r#""iss":"{ISSUER}","aud":"{AUDIENCE}","exp":{}"#, NOW + 300), payload);
            token(&PAIR, &header, &payload)
        }
    };
    let verdict = verify(&text, &KEYS, &policy());
    assert_eq!(verdict, verify(&text, &KEYS, &policy()), "the same again");
    let unverified = unverified_claims(&text);
    assert_eq!(unverified.is_some(), looks_like_jwt(&text));
    match verdict {
        Verdict::Granted(granted) => {
            assert!(unverified.is_some_and(|read| read.iss.as_deref() == Some(ISSUER)));
            assert_eq!(granted.key.kid.as_deref(), Some(KID));
            check_granted(&text, &Value::Object(granted.claims));
        }
        Verdict::Denied(reasons) => check_reasons(&text, &reasons),
    }
});

/// Returns a JSON object with the usual members and `more`.
fn object_with(usual: &str, more: &[u8]) -> Vec<u8> {
    let comma = if more.is_empty() { "" } else { "," };
    [b"{", usual.as_bytes(), comma.as_bytes(), more, b"}"].concat()
}

/// Checks a granted token independently of the verifier.
fn check_granted(text: &str, claims: &Value) {
    let parts: Vec<Vec<u8>> = text.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url")).collect();
    let [header, payload, signature] = &parts[..] else { panic!("three parts") };
    assert_eq!(text, [header, payload, signature].map(b64).join("."), "one spelling");
    let (input, _) = text.rsplit_once('.').expect("parts");
    let key = UnparsedPublicKey::new(&ED25519, PAIR.public_key().as_ref());
    assert!(key.verify(input.as_bytes(), signature).is_ok(), "signed by the set's key");
    let header: Value = serde_json::from_slice(header).expect("JSON");
    assert_eq!(header["alg"], "EdDSA");
    assert!(header.get("kid").is_none_or(|kid| kid == KID));
    assert!(header.get("crit").is_none() && header.get("b64").is_none_or(|b64| *b64 == true));
    let typ = header.get("typ").map(|typ| typ.as_str().expect("text").to_ascii_lowercase());
    assert!(typ.is_none_or(|typ| ["jwt", "at+jwt"].contains(&typ.strip_prefix("application/").unwrap_or(&typ))));
    assert_eq!(*claims, serde_json::from_slice::<Value>(payload).expect("JSON"));
    assert_eq!(claims["iss"], ISSUER);
    let aud = &claims["aud"];
    assert!(aud == AUDIENCE || aud.as_array().is_some_and(|all| all.iter().any(|aud| aud == AUDIENCE)));
    let moment = |name: &str| claims.get(name).map(|value| value.as_f64().expect("a number"));
    assert!(moment("exp").expect("exp") + 30.0 > NOW as f64);
    assert!(["nbf", "iat", "auth_time"].into_iter().all(|name| moment(name).is_none_or(|at| at <= NOW as f64 + 30.0)));
    // With another policy or another signature it is denied.
    for other in [
        Policy { audiences: vec!["https://other.example".into()], ..policy() },
        Policy { issuer: "https://other.example".into(), ..policy() },
        Policy { algorithms: Vec::new(), ..policy() },
        Policy { now: authctl::clock::UnixTime(300_000_000_000), ..policy() },
    ] {
        let admits = *aud != AUDIENCE && other.audiences != policy().audiences;
        assert!(admits || !verify(text, &KEYS, &other).is_granted());
    }
    let mut changed = signature.clone();
    changed[0] ^= 1;
    assert!(!verify(&format!("{input}.{}", b64(changed)), &KEYS, &policy()).is_granted());
    assert!(!verify(text, &KeySet::default(), &policy()).is_granted());
}

/// Checks that the reasons are ordered, short, printable and contain no part of the token.
fn check_reasons(text: &str, reasons: &[Reason]) {
    assert!(!reasons.is_empty() && reasons.is_sorted_by_key(|reason| reason.code));
    for Reason { message, .. } in reasons {
        assert!(!message.is_empty() && message.chars().count() <= Reason::MAX_LENGTH + 1);
        assert!(!message.chars().any(char::is_control), "{message:?}");
        for part in text.split('.').filter(|part| part.len() > 100) {
            assert!(!message.contains(part), "{message}");
        }
    }
}
