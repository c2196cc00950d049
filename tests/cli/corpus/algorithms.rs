//! Allowed values of `alg`, and the keys that each may be used with.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::{Case, PAIRS, Pairs, case, jwks, valid_claims};
use crate::support::signing_keys::{SigningKey, b64, changed, pem};

const RSA: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/// Returns each algorithm with its default key and key ID.
pub(super) fn all() -> Vec<(&'static str, &'static SigningKey, &'static str)> {
    let Pairs { rsa, p256, p384, ed, .. } = &*PAIRS;
    let others = [("ES256", p256, "p256"), ("ES384", p384, "p384"), ("EdDSA", ed, "ed")];
    RSA.into_iter().map(|alg| (alg, rsa, "rsa")).chain(others).collect()
}

/// Returns a token whose header names `alg` and `kid`, signed by `pair` with the algorithm `actual`.
fn signed(alg: &str, kid: &str, pair: &SigningKey, actual: &str) -> String {
    pair.token(actual, json!({"alg": alg, "kid": kid}).to_string(), valid_claims(json!({})).to_string())
}

pub fn cases() -> Vec<Case> {
    let mut cases = accepted();
    cases.extend(mixed_up());
    cases.extend(members_of_the_key());
    cases.extend(none());
    cases.extend(hmac_with_public_keys());
    cases.extend(other_names());
    cases
}

fn accepted() -> Vec<Case> {
    let mut cases = Vec::new();
    for (alg, pair, kid) in all() {
        let rule = if alg == "EdDSA" { "RFC 8037 3.1" } else { "RFC 7518 3.1" };
        let token = signed(alg, kid, pair, alg);
        let without = pair.token(alg, json!({"alg": alg}).to_string(), valid_claims(json!({})).to_string());
        cases.push(case(format!("{alg} by its key"), rule, token.as_str(), "valid"));
        cases.push(case(format!("{alg} by the only key for it, without kid"), "RFC 7515 4.1.4", without, "valid"));
        cases.push(case(format!("{alg} by a PEM key"), rule, token.as_str(), "valid").keys(pair.pem()));
        let only = case(format!("{alg} is required"), "RFC 8725 3.1", token.as_str(), "valid");
        cases.push(only.args(&["--algorithms", alg]));
        let others: Vec<_> = all().into_iter().map(|(other, ..)| other).filter(|other| *other != alg).collect();
        let others = others.join(",");
        let not = case(format!("any other than {alg} is required"), "RFC 8725 3.1", token, "algorithm_not_allowed");
        cases.push(not.args(&["--algorithms", &others]));
    }
    cases
}

fn mixed_up() -> Vec<Case> {
    let mut cases = Vec::new();
    for (alg, _, right) in all() {
        for (by, pair, kid) in [all()[0], all()[6], all()[7], all()[8]] {
            if kid != right {
                let token = signed(alg, kid, pair, by);
                cases.push(case(format!("{alg} by the key {kid}"), "RFC 8725 3.1", token, "algorithm_not_allowed"));
            }
        }
    }
    for alg in RSA {
        for actual in RSA.into_iter().filter(|actual| *actual != alg) {
            let token = signed(alg, "rsa", &PAIRS.rsa, actual);
            cases.push(case(format!("alg {alg}, signed with {actual}"), "RFC 7518 3.3", token, "invalid_signature"));
        }
    }
    for bound in RSA {
        for alg in RSA {
            let keys = jwks([changed(PAIRS.rsa.jwk("rsa"), json!({"alg": bound}))]);
            let expected = if alg == bound { "valid" } else { "algorithm_not_allowed" };
            let token = signed(alg, "rsa", &PAIRS.rsa, alg);
            cases.push(case(format!("{alg} by a key for {bound}"), "RFC 7517 4.4", token, expected).keys(keys));
        }
    }
    cases
}

/// JWK members that restrict a key's use. A second key makes sure that the set is never empty.
fn members_of_the_key() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut key = |rule: &'static str, members: Value, expected: &str| {
        let token = signed("ES256", "p256", &PAIRS.p256, "ES256");
        // Unlike `changed`, this inserts nulls.
        let mut jwk = PAIRS.p256.jwk("p256");
        jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let keys = jwks([jwk, PAIRS.rsa.jwk("rsa")]);
        cases.push(case(format!("a P-256 key with {members}"), rule, token, expected).keys(keys));
    };
    for alg in ["ES256", "ES384", "ES512", "ES256K", "RS256", "EdDSA", "ECDH-ES", "HS256", "none", "es256", ""] {
        // An empty one counts as absent.
        let expected = if ["ES256", ""].contains(&alg) { "valid" } else { "unknown_key" };
        key("RFC 7517 4.4", json!({"alg": alg}), expected);
    }
    for alg in [json!(1), json!(["ES256"])] {
        key("RFC 7517 4.4", json!({"alg": alg}), "unknown_key");
    }
    // Serializers write what is not set as null or as empty.
    for members in [
        json!({"alg": null, "use": null, "key_ops": null, "d": null, "k": null}),
        json!({"alg": "", "use": "", "key_ops": [], "d": "", "oth": [], "x5c": []}),
    ] {
        key("RFC 7517 4.2", members, "valid");
    }
    key("RFC 7517 4.2", json!({"use": "sig"}), "valid");
    for wrong in [json!("enc"), json!("SIG"), json!(1), json!(["sig"])] {
        key("RFC 7517 4.2", json!({"use": wrong}), "unknown_key");
    }
    for right in [json!(["verify"]), json!(["sign", "verify"]), json!(["verify", "x-other"])] {
        key("RFC 7517 4.3", json!({"key_ops": right}), "valid");
    }
    for wrong in [
        json!(["sign"]),
        json!(["encrypt", "wrapKey"]),
        json!(["Verify"]),
        json!("verify"),
        json!({"verify": true}),
        json!(["verify", "verify"]),
        json!(["verify", 7]),
    ] {
        key("RFC 7517 4.3", json!({"key_ops": wrong}), "unknown_key");
    }
    key("RFC 7517 4.3", json!({"use": "sig", "key_ops": ["verify"]}), "valid");
    key("RFC 7517 4.3", json!({"use": "enc", "key_ops": ["verify"]}), "unknown_key");
    key("RFC 7517 4.3", json!({"use": "sig", "key_ops": ["sign"]}), "unknown_key");
    for crv in [json!("P-384"), json!("P-521"), json!("p-256"), json!("secp256k1"), json!("Ed25519"), json!(null)] {
        key("RFC 7518 6.2.1.1", json!({"crv": crv}), "unknown_key");
    }
    for kty in [json!("ec"), json!("RSA"), json!("OKP"), json!("oct"), json!(""), json!(null), json!(["EC"])] {
        key("RFC 7517 4.1", json!({"kty": kty}), "unknown_key");
    }
    for ignored in
        [json!({"x5c": 7}), json!({"x5u": "http://127.0.0.1:9/"}), json!({"ext": true}), json!({"n": "AQAB"})]
    {
        key("RFC 7517 4", ignored, "valid");
    }
    cases
}

fn none() -> Vec<Case> {
    let mut cases = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE"] {
        let signed = signed(alg, "ed", &PAIRS.ed, "EdDSA");
        let (input, signature) = signed.rsplit_once('.').unwrap();
        let without_kid =
            format!("{}.{}.", b64(json!({"alg": alg}).to_string()), b64(valid_claims(json!({})).to_string()));
        for (what, token) in [
            ("no signature", format!("{input}.")),
            ("no signature and no kid", without_kid),
            ("a valid signature", format!("{input}.{signature}")),
            ("another signature", format!("{input}.AAAA")),
        ] {
            cases.push(case(format!("{alg} with {what}"), "RFC 7518 3.6", token, "algorithm_not_allowed"));
        }
    }
    let two_parts = format!("{}.{}", b64(r#"{"alg":"none"}"#), b64(valid_claims(json!({})).to_string()));
    cases.push(case("none in two parts", "RFC 7519 6", two_parts, "malformed"));
    cases
}

/// HMACs whose secret is a public key: they verify if the verifier confuses the algorithms.
fn hmac_with_public_keys() -> Vec<Case> {
    let Pairs { rsa, p256, ed, .. } = &*PAIRS;
    let jwk = rsa.jwk("rsa");
    let n = jwk["n"].as_str().unwrap();
    let secrets: Vec<(&str, &str, Vec<u8>)> = vec![
        ("the RSA key's PEM", "rsa", rsa.pem().into()),
        ("the RSA key's PEM without its last line end", "rsa", rsa.pem().trim_end().into()),
        ("the RSA key's PKCS #1 PEM", "rsa", pem("RSA PUBLIC KEY", &rsa.pkcs1()).into()),
        ("the RSA key's DER", "rsa", rsa.spki()),
        ("the RSA key's JWK", "rsa", jwk.to_string().into()),
        ("the modulus's text", "rsa", n.into()),
        ("the P-256 key's PEM", "p256", p256.pem().into()),
        ("the P-256 key's JWK", "p256", p256.jwk("p256").to_string().into()),
        ("the Ed25519 key's PEM", "ed", ed.pem().into()),
        ("the Ed25519 key's bytes", "ed", ed.spki()[12..].to_vec()),
        ("the whole set", "ed", super::DEFAULT_KEYS.as_bytes().to_vec()),
        ("an empty secret", "ed", Vec::new()),
    ];
    let mut cases = Vec::new();
    for (alg, hash) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        for (what, kid, secret) in &secrets {
            let header = b64(json!({"alg": alg, "kid": kid}).to_string());
            let input = format!("{header}.{}", b64(valid_claims(json!({})).to_string()));
            let tag = hmac::sign(&hmac::Key::new(hash, secret), input.as_bytes());
            let token = format!("{input}.{}", b64(tag));
            let name = format!("{alg} with {what}");
            if what.contains("PEM") {
                let keys = String::from_utf8(secret.clone()).unwrap();
                let named = format!("{name}, with the keys as PEM");
                cases.push(case(named, "RFC 8725 2.1", token.as_str(), "algorithm_not_allowed").keys(keys));
            }
            cases.push(case(name, "RFC 8725 2.1", token, "algorithm_not_allowed"));
        }
    }
    cases
}

fn other_names() -> Vec<Case> {
    let mut cases = Vec::new();
    for alg in [
        "ES512",
        "ES256K",
        "ed25519",
        "Ed448",
        "RS1",
        "RSA1_5",
        "RSA-OAEP",
        "dir",
        "A128KW",
        "ML-DSA-44",
        "es256",
        "eddsa",
        "EDDSA",
        "EdDSA ",
        "EdDSA\u{0}",
        "ЕdDSA",
        "",
    ] {
        let token = signed(alg, "ed", &PAIRS.ed, "EdDSA");
        cases.push(case(format!("alg {alg:?}"), "RFC 7515 4.1.1", token, "algorithm_not_allowed"));
    }
    // Both names of the same algorithm, in the token and in the key.
    for (alg, key_alg) in [("Ed25519", None), ("Ed25519", Some("EdDSA")), ("EdDSA", Some("Ed25519"))] {
        let key = changed(PAIRS.ed.jwk("ed"), json!({"alg": key_alg}));
        let token = signed(alg, "ed", &PAIRS.ed, "EdDSA");
        let name = format!("alg {alg} by a key for {key_alg:?}");
        cases.push(case(name, "RFC 9864 2.2", token, "valid").keys(jwks([key, PAIRS.rsa.jwk("rsa")])));
    }
    let token = signed("Ed25519", "p256", &PAIRS.ed, "EdDSA");
    cases.push(case("alg Ed25519 by a P-256 key", "RFC 9864 2.2", token, "algorithm_not_allowed"));
    for (alg, curve, rule) in [("ES512", "P-521", "RFC 7518 3.4"), ("ES256K", "secp256k1", "RFC 8812 3.2")] {
        let pair = SigningKey::ec(curve);
        let keys = jwks([pair.jwk("k"), PAIRS.ed.jwk("ed")]);
        let token = signed(alg, "k", &pair, alg);
        let expected = if alg == "ES512" { "valid" } else { "algorithm_not_allowed" };
        cases.push(case(format!("{alg}, correctly signed"), rule, token, expected).keys(keys));
        let disguised = signed("ES256", "k", &pair, alg);
        let keys = jwks([pair.jwk("k"), PAIRS.ed.jwk("ed")]);
        let expected = if alg == "ES512" { "algorithm_not_allowed" } else { "unknown_key" };
        cases.push(case(format!("{alg} as ES256"), rule, disguised, expected).keys(keys));
        let disguised = signed("ES256", "k", &pair, alg);
        let keys = jwks([changed(pair.jwk("k"), json!({"crv": "P-256"})), PAIRS.ed.jwk("ed")]);
        let expected = if alg == "ES256K" { "invalid_signature" } else { "unknown_key" };
        cases.push(case(format!("a {curve} key with crv P-256"), "RFC 7518 6.2.1.2", disguised, expected).keys(keys));
    }
    for alg in [json!(null), json!(1), json!(true), json!(["EdDSA"]), json!({"EdDSA": 1})] {
        let header = json!({"alg": alg, "kid": "ed"}).to_string();
        cases.push(case(
            format!("alg {alg}"),
            "RFC 7515 4.1.1",
            super::ed(header, valid_claims(json!({})).to_string()),
            "malformed",
        ));
    }
    let token = super::ed(r#"{"kid":"ed"}"#, valid_claims(json!({})).to_string());
    cases.push(case("no alg", "RFC 7515 4.1.1", token, "malformed"));
    cases
}
