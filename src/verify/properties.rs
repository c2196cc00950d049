//! Properties that hold for any token, any keys and any change to them.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::testing::{AUDIENCE, ISSUER, NOW, Signer, claims, codes, ed, p256, p384, policy, rsa, set};
use super::*;

fn signers() -> [&'static Signer; 4] {
    [ed(), p256(), p384(), rsa()]
}

/// Returns a policy with every requirement.
fn strict_policy() -> Policy {
    Policy {
        scopes: vec!["read".into()],
        claims: vec![("team".into(), "blue".into())],
        max_auth_age: Some(std::time::Duration::from_secs(60)),
        acr: vec!["high".into()],
        amr: vec!["otp".into()],
        ..policy()
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (NOW - 1000..NOW + 1000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!(ISSUER)),
        Just(json!(AUDIENCE)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

/// Returns an object with some of these members and others, with any values.
fn any_object(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let name = prop_oneof![4 => prop::sample::select(names).prop_map(str::to_owned), 1 => ".{0,6}"];
    prop::collection::btree_map(name, any_json(), 0..6).prop_map(|members| json!(members))
}

const HEADER: &[&str] = &["alg", "kid", "typ", "crit", "b64", "zip", "enc", "jwk", "jku", "x5c"];
const CLAIMS: &[&str] =
    &["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "azp", "scope", "scp", "team", "auth_time", "acr", "amr"];
const JWK: &[&str] = &["kty", "crv", "kid", "alg", "use", "key_ops", "n", "e", "x", "y", "d"];

/// Serializes an object with its members in another order, with white space between them.
fn reordered(object: &Value, order: &[Index], space: &str) -> String {
    let mut members: Vec<String> =
        object.as_object().expect("an object").iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    for (at, index) in order.iter().enumerate().take(members.len()) {
        let other = index.index(members.len());
        members.swap(at, other);
    }
    format!("{{{space}{}{space}}}", members.join(&format!("{space},")))
}

fn order() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 12)
}

proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC{0,200}", parts in prop::collection::vec("[A-Za-z0-9_=-]{0,40}", 0..7)) {
        let keys = set(std::slice::from_ref(&ed().jwk));
        for token in [text.clone(), parts.join(".")] {
            prop_assert!(!verify(&token, &keys, &policy()).is_granted());
            let _ = unverified_claims(&token);
        }
        let _ = KeySet::parse(&text);
        let _ = KeySet::parse(&format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", parts.concat()));
    }

    #[test]
    fn arbitrary_headers_claims_and_keys_do_not_panic(
        header in any_object(HEADER),
        payload in any_object(CLAIMS),
        keys in prop::collection::vec(any_object(JWK), 0..4),
    ) {
        let texts = [(header.to_string(), payload.to_string()), (r#"{"alg":"EdDSA"}"#.to_owned(), payload.to_string())];
        let some = KeySet::from_jwks(&json!({"keys": keys}).to_string());
        for (header, payload) in texts {
            let token = ed().signs(&header, &payload);
            let _ = unverified_claims(&token);
            for keys in [some.clone().ok(), Some(set(std::slice::from_ref(&ed().jwk)))].into_iter().flatten() {
                let _ = verify(&token, &keys, &strict_policy());
                let _ = verify(&token, &keys, &policy());
            }
        }
    }

    #[test]
    fn token_with_a_changed_bit_is_denied(at in any::<Index>(), bit in 0u8..7, which in 0usize..4) {
        let signer = signers()[which];
        let keys = set(std::slice::from_ref(&signer.jwk));
        let mut bytes = signer.token(json!({})).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let changed = String::from_utf8(bytes).expect("ASCII stays ASCII");
        prop_assert!(!verify(&changed, &keys, &policy()).is_granted());
    }

    #[test]
    fn token_with_a_changed_character_is_denied(at in any::<Index>(), to in any::<char>(), how in 0u8..4, which in 0usize..4) {
        let signer = signers()[which];
        let keys = set(std::slice::from_ref(&signer.jwk));
        let token = signer.token(json!({}));
        prop_assert!(verify(&token, &keys, &policy()).is_granted());
        let mut characters: Vec<char> = token.chars().collect();
        let at = at.index(characters.len() - 1);
        match how {
            0 => characters[at] = to,
            1 => characters.insert(at, to),
            2 => drop(characters.remove(at)),
            _ => characters.swap(at, at + 1),
        }
        let changed: String = characters.into_iter().collect();
        prop_assume!(changed != token);
        prop_assert!(!verify(&changed, &keys, &policy()).is_granted());
    }

    #[test]
    fn order_of_keys_does_not_matter(order in order(), kids in prop::collection::vec(0u8..3, 6), named in 0u8..4) {
        let other = |x: &str| ed().jwk_with(json!({"x": x}));
        let mut jwks = vec![
            ed().jwk.clone(),
            p256().jwk.clone(),
            rsa().jwk.clone(),
            other("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
            // Of small order.
            other("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            json!({"kty": "oct", "k": "AA"}),
        ];
        for (jwk, kid) in jwks.iter_mut().zip(kids) {
            jwk["kid"] = json!(format!("k{kid}"));
        }
        let straight = set(&jwks);
        for (at, index) in order.iter().enumerate().take(jwks.len()) {
            let other = index.index(jwks.len());
            jwks.swap(at, other);
        }
        let turned = set(&jwks);
        let kid = if named < 3 { format!(r#","kid":"k{named}""#) } else { String::new() };
        for (signer, alg) in [(ed(), "EdDSA"), (p256(), "ES256"), (rsa(), "RS256"), (p384(), "ES384")] {
            let token = signer.signs(&format!(r#"{{"alg":"{alg}"{kid}}}"#), &claims(json!({})).to_string());
            prop_assert_eq!(verify(&token, &straight, &policy()), verify(&token, &turned, &policy()));
        }
    }

    #[test]
    fn order_of_members_and_white_space_do_not_matter(
        order in order(),
        space in "[ \t\r\n]{0,3}",
        changes in any_object(CLAIMS),
        granted in any::<bool>(),
    ) {
        let payload = if granted { claims(json!({"a": [1], "b": {"c": null}})) } else { claims(changes) };
        let header = json!({"alg": "EdDSA", "kid": "k", "typ": "at+jwt", "x": 1});
        let (straight, turned) = (ed().jwk.to_string(), reordered(&ed().jwk, &order, &space));
        let keys = |jwk: &str| KeySet::from_jwks(&format!(r#"{{"keys":[{jwk}]}}"#)).expect("a JWK Set");
        let one = verify(&ed().signs(&header.to_string(), &payload.to_string()), &keys(&straight), &strict_policy());
        let token = ed().signs(&reordered(&header, &order, &space), &reordered(&payload, &order, &space));
        prop_assert_eq!(one, verify(&token, &keys(&turned), &strict_policy()));
        prop_assert!(!granted || verify(&token, &keys(&turned), &policy()).is_granted());
    }

    #[test]
    fn denial_quotes_no_part_of_the_token_and_no_unchecked_claim(
        header in any_object(HEADER),
        payload in any_object(CLAIMS),
        secret in "[a-z]{24}",
        loose in "[A-Za-z0-9._-]{40,300}",
        opaque in "[A-Za-z0-9_-]{40,300}",
    ) {
        let keys = set(std::slice::from_ref(&ed().jwk));
        let mut payload = payload;
        for name in ["email", "nonce", "https://private.example"] {
            payload[name] = json!(secret);
        }
        let signed = ed().signs(&header.to_string(), &payload.to_string());
        let usual = ed().signs(r#"{"alg":"EdDSA","kid":"k"}"#, &payload.to_string());
        for token in [signed, usual, loose, opaque] {
            let Verdict::Denied(reasons) = verify(&token, &keys, &strict_policy()) else { panic!("denied") };
            let messages: String = reasons.iter().map(|reason| format!("{}\n", reason.message)).collect();
            prop_assert!(!messages.contains(&secret), "{}", messages);
            for piece in token.as_bytes().windows(24) {
                let piece = std::str::from_utf8(piece).expect("ASCII");
                prop_assert!(!messages.contains(piece), "{} in {}", piece, messages);
            }
        }
    }

    #[test]
    fn stricter_policy_never_grants_more(payload in any_object(CLAIMS)) {
        let keys = set(std::slice::from_ref(&ed().jwk));
        let token = ed().token(payload);
        let (plain, more) = (codes(&token, &keys, &policy()), codes(&token, &keys, &strict_policy()));
        prop_assert!(plain.iter().all(|code| more.contains(code)), "{:?} {:?}", plain, more);
    }
}
