//! Keys made for a test run, and tokens signed with them.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::policy::{Algorithm, Policy};
use super::{KeySet, ReasonCode, Verdict, verify};
use crate::clock::UnixTime;

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "https://api.example";
pub const NOW: i64 = 1_800_000_000;

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key pair that signs with one algorithm.
pub struct Signer {
    pair: Pair,
    alg: Algorithm,
    /// The public key as a JWK with the `kid` "k".
    pub jwk: Value,
}

static RSA: LazyLock<Signer> = LazyLock::new(|| {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("generated");
    let numbers = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let jwk = json!({"kty": "RSA", "kid": "k", "n": b64(numbers.n), "e": b64(numbers.e)});
    Signer { pair: Pair::Rsa(pair), alg: Algorithm::RS256, jwk }
});
static P256: LazyLock<Signer> = LazyLock::new(|| ec(Algorithm::ES256));
static P384: LazyLock<Signer> = LazyLock::new(|| ec(Algorithm::ES384));
static ED: LazyLock<Signer> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::generate().expect("generated");
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64(pair.public_key())});
    Signer { pair: Pair::Ed(pair), alg: Algorithm::EdDSA, jwk }
});

fn ec(alg: Algorithm) -> Signer {
    let (kind, crv) = match alg {
        Algorithm::ES256 => (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
        _ => (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
    };
    let pair = EcdsaKeyPair::generate(kind).expect("generated");
    let (x, y) = pair.public_key().as_ref()[1..].split_at(if crv == "P-256" { 32 } else { 48 });
    let jwk = json!({"kty": "EC", "crv": crv, "kid": "k", "x": b64(x), "y": b64(y)});
    Signer { pair: Pair::Ec(pair), alg, jwk }
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn rsa() -> &'static Signer {
    &RSA
}
pub fn p256() -> &'static Signer {
    &P256
}
pub fn p384() -> &'static Signer {
    &P384
}
pub fn ed() -> &'static Signer {
    &ED
}

impl Signer {
    /// A token with exactly these texts as header and payload.
    pub fn signs(&self, header: &str, payload: &str) -> String {
        self.signs_as(self.alg, header, payload)
    }

    pub fn signs_as(&self, alg: Algorithm, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(payload));
        let random = SystemRandom::new();
        let message = signed.as_bytes();
        let signature = match &self.pair {
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Ec(pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match alg {
                    Algorithm::RS384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &signature::RSA_PSS_SHA256,
                    Algorithm::PS384 => &signature::RSA_PSS_SHA384,
                    Algorithm::PS512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).expect("signed");
                signature
            }
        };
        format!("{signed}.{}", b64(signature))
    }

    /// A token with the usual header and [`claims`] changed by `changes`; a null takes a claim away.
    pub fn token(&self, changes: Value) -> String {
        self.signs(&format!(r#"{{"alg":"{}","kid":"k"}}"#, self.alg), &claims(changes).to_string())
    }

    /// The JWK with other members; a null takes one away.
    pub fn jwk_with(&self, changes: Value) -> Value {
        changed(self.jwk.clone(), changes)
    }

    /// The public key as PEM.
    pub fn pem(&self) -> String {
        let (label, der) = match &self.pair {
            Pair::Rsa(pair) => ("RSA PUBLIC KEY", pair.public_key().as_ref().to_vec()),
            Pair::Ec(pair) => {
                use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
                ("PUBLIC KEY", der.as_ref().to_vec())
            }
            Pair::Ed(pair) => {
                use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
                ("PUBLIC KEY", der.as_ref().to_vec())
            }
        };
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }
}

/// Good claims with changes; a null takes a claim away.
pub fn claims(changes: Value) -> Value {
    let good = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "s", "exp": NOW + 300, "iat": NOW});
    changed(good, changes)
}

fn changed(mut object: Value, changes: Value) -> Value {
    let members = object.as_object_mut().expect("object");
    for (name, value) in changes.as_object().expect("object") {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    object
}

/// A JWK Set of these keys.
pub fn set(keys: &[Value]) -> KeySet {
    KeySet::from_jwks(&json!({ "keys": keys }).to_string()).expect("a JWK Set")
}

pub fn policy() -> Policy {
    Policy::new(ISSUER, vec![AUDIENCE.to_owned()], UnixTime(NOW))
}

/// The codes of a denial; empty for a grant.
pub fn codes(token: &str, keys: &KeySet, policy: &Policy) -> Vec<ReasonCode> {
    match verify(token, keys, policy) {
        Verdict::Granted(_) => Vec::new(),
        Verdict::Denied(reasons) => {
            assert!(!reasons.is_empty(), "a denial has a reason");
            reasons.iter().map(|r| r.code).collect()
        }
    }
}
