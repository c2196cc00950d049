//! JWK Sets and PEM keys: only a key in the set verifies a token, whatever else is in the set.
#![no_main]

mod signed;

use std::sync::LazyLock;

use authctl::fuzzing::{KeySet, verify};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use signed::{AUDIENCE, ISSUER, KID, NOW, b64, jwk, pair, policy, token};

static PAIR: LazyLock<Ed25519KeyPair> = LazyLock::new(pair);
static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 300}).to_string();
    token(&PAIR, json!({"alg": "EdDSA", "kid": KID}).to_string().as_bytes(), claims.as_bytes())
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(keys) = KeySet::parse(text) else { return };
    assert_eq!((keys.kids().count(), keys.is_empty()), (keys.len(), keys.len() == 0));
    assert!(keys.len() + keys.skipped() <= KeySet::MAX_KEYS);
    // The target's key is not in the input, so its token is denied.
    let public = PAIR.public_key().as_ref();
    if !text.contains(&b64(public)) && !text.contains("BEGIN") {
        assert!(!verify(&TOKEN, &keys, &policy()).is_granted());
    }
    let Ok(mut set) = serde_json::from_str::<Value>(text) else { return };
    let members = set["keys"].as_array_mut().expect("a set was read");
    assert_eq!(members.len(), keys.len() + keys.skipped());
    // In reverse order the set has the same keys.
    members.reverse();
    let turned = KeySet::from_jwks(&set.to_string()).expect("a set as before");
    let mut kids: Vec<_> = turned.kids().collect();
    kids.reverse();
    assert_eq!(kids, keys.kids().collect::<Vec<_>>());
    assert_eq!(turned.skipped(), keys.skipped());
    // A key that is added to the set is found.
    let members = set["keys"].as_array_mut().expect("a set was read");
    if members.len() < KeySet::MAX_KEYS {
        members.push(jwk(&PAIR));
        let more = KeySet::from_jwks(&set.to_string()).expect("a set as before");
        assert_eq!(more.len(), keys.len() + 1);
        assert!(more.has_kid(KID) && verify(&TOKEN, &more, &policy()).is_granted());
    }
});
