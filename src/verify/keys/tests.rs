//! Which key may have signed a token: one test a rule.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::super::ReasonCode::*;
use super::super::testing::{b64, claims, codes, ed, p256, p384, p521, policy, rsa, set};
use super::super::*;
use super::KeySetError;

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
        json!({"key_ops": ["sign", null]}),
        json!({"crv": "P-384"}),
        json!({"crv": "secp256k1"}),
        // More bytes are missing than a serializer has removed zeros.
        json!({"x": b64([7; 27])}),
        json!({"y": b64([7; 33])}),
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
    assert_eq!(weak_rsa(odd(256), &[1, 0, 0, 0, 1]), [InvalidSignature], "33 bits");
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
    assert!(!key(neutral).verifies(&forged_for("k")), "the issuer may have a better key");
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
fn pem_key_of_a_wrong_length_is_skipped() {
    for (signer, length) in [(p256(), 65), (p384(), 97), (p521(), 133), (ed(), 32)] {
        let body: String = signer.pem().lines().filter(|line| !line.starts_with('-')).collect();
        let mut der = STANDARD.decode(body).expect("base64");
        // One byte less, in the lengths of the outer sequence and of the bit string too.
        let (sequence, bits) = (if der[1] == 0x81 { 2 } else { 1 }, der.len() - length - 2);
        der[sequence] -= 1;
        der[bits] -= 1;
        der.pop();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        assert_eq!(KeySet::parse(&pem).map(|k| (k.len(), k.skipped())), Ok((0, 1)), "{length}");
    }
}

#[test]
fn number_and_length_of_keys_are_limited() {
    let jwks = |count| KeySet::from_jwks(&json!({"keys": vec![ed().jwk.clone(); count]}).to_string());
    let pem = |count| KeySet::from_pem(&ed().pem().repeat(count));
    for read in [&jwks as &dyn Fn(usize) -> Result<KeySet, KeySetError>, &pem] {
        assert_eq!(read(256).map(|keys| keys.len()), Ok(256));
        assert_eq!(read(257).err(), Some(KeySetError::TooMany));
        assert_eq!(read(10_000).err(), Some(KeySetError::TooLong));
    }
    for text in [json!({"keys": [ed().jwk]}).to_string(), ed().pem()] {
        let padded = |length: usize| {
            let padded = format!("{text}{}", " ".repeat(length - text.len()));
            KeySet::parse(&padded).map(|keys| keys.len())
        };
        assert_eq!(padded(KeySet::MAX_LENGTH), Ok(1));
        assert_eq!(padded(KeySet::MAX_LENGTH + 1), Err(KeySetError::TooLong));
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
    assert!(!keys.is_empty() && set(&odd).is_empty());
    assert_eq!(keys.skipped_text(), "left out: 3 malformed, 1 of an unsupported type, 1 private or symmetric");
    assert_eq!(set(&[ed().jwk.clone()]).skipped_text(), "");
    assert_eq!(codes(&ed().token(json!({})), &keys, &policy()), []);
    assert_eq!(
        KeySet::from_jwks(r#"{"keys":[],"keys":[]}"#).err().map(|e| e.to_string()).as_deref(),
        Some("invalid JWK Set: duplicate member `keys`")
    );
    for text in ["", "[[]]", "[{}]", "{", "{} {}", "null"] {
        assert_eq!(KeySet::from_jwks(text).err(), Some(KeySetError::NotJson("not a JSON object")), "{text}");
    }
    for text in [r#"{"keys":{}}"#, r#"{"keys":"[]"}"#, r#"{"keys":7}"#] {
        assert_eq!(KeySet::from_jwks(text).err(), Some(KeySetError::NoKeys), "{text}");
    }
    for empty in ["{}", r#"{"keys":null}"#] {
        let set = KeySet::from_jwks(empty).expect(empty);
        assert_eq!((set.len(), set.skipped_text().as_str()), (0, "the JWK Set has no `keys`"));
    }
    assert_eq!(KeySet::from_jwks(&json!({"keys": vec![0; 257]}).to_string()).err(), Some(KeySetError::TooMany));
    assert_eq!(KeySet::parse(&format!("{{{}", " ".repeat(KeySet::MAX_LENGTH))).err(), Some(KeySetError::TooLong));
}

#[test]
fn invalid_key_is_left_out_alone_with_its_reason() {
    let own = ed().jwk.to_string();
    let with = |member: &str| format!("{},{member}}}", own.trim_end_matches('}'));
    let deep = format!("{}{}", "[".repeat(130), "]".repeat(130));
    for (odd, reason) in [
        (with(r#""use":"sig","use":"sig""#), "with a duplicate member"),
        (with(r#""x":{"a":1,"\u0061":2}"#), "with a duplicate member"),
        (with(&format!(r#""odd":{deep}"#)), "nested too deeply"),
        (deep.clone(), "nested too deeply"),
        (with(r#""n":1e999"#), "malformed"),
    ] {
        for text in [format!(r#"{{"keys":[{own},{odd}]}}"#), format!(r#"{{"keys":[{odd},{own}]}}"#)] {
            let keys = KeySet::from_jwks(&text).expect("a set");
            assert_eq!((keys.len(), keys.skipped_text()), (1, format!("left out: 1 {reason}")), "{text}");
            assert_eq!(codes(&ed().token(json!({})), &keys, &policy()), [], "{text}");
        }
    }
    // What is not a key does not matter.
    let set = KeySet::from_jwks(&format!(r#"{{"x":{deep},"y":1,"y":2,"keys":[{own}]}}"#)).expect("a set");
    assert_eq!((set.len(), set.skipped()), (1, 0));
}

#[test]
fn reason_for_an_unknown_key_names_the_keys_left_out() {
    let private = json!({"kty": "oct", "k": "AAAA"});
    let (named, nameless) = (r#"{"alg":"ES256","kid":"x"}"#, r#"{"alg":"ES256"}"#);
    for (header, keys, message) in [
        (named, vec![ed().jwk.clone()], r#"key "x" is not among the 1 trusted keys"#),
        (nameless, vec![ed().jwk.clone()], "no trusted key is for ES256"),
        (nameless, vec![], "there are no trusted keys"),
    ] {
        let token = p256().signs(header, &claims(json!({})).to_string());
        for (more, suffix) in [(vec![], ""), (vec![private.clone()], " (left out: 1 private or symmetric)")] {
            let verdict = verify(&token, &set(&[keys.clone(), more].concat()), &policy());
            assert_eq!(verdict, Verdict::Denied(vec![Reason::new(UnknownKey, format!("{message}{suffix}"))]));
        }
    }
}
