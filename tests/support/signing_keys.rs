//! Signing keys of each type that JWTs use, generated for one test run, and helpers to build tokens.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key pair.
pub enum SigningKey {
    Rsa(RsaKeyPair),
    /// With its curve's name.
    Ec(EcdsaKeyPair, &'static str),
    Ed25519(Ed25519KeyPair),
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns `object` with changed members; `null` removes a member.
pub fn changed(mut object: Value, changes: Value) -> Value {
    let members = object.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    object
}

impl SigningKey {
    /// Creates an RSA key of 2048 bits.
    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("generated"))
    }

    pub fn ec(curve: &'static str) -> Self {
        let kind = match curve {
            "P-256" => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            "P-384" => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            "P-521" => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
            _ => &signature::ECDSA_P256K1_SHA256_FIXED_SIGNING,
        };
        Self::Ec(EcdsaKeyPair::generate(kind).expect("generated"), curve)
    }

    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().expect("generated"))
    }

    /// Returns the public key as a JWK with this key ID.
    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let numbers = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "kid": kid, "n": b64(numbers.n), "e": b64(numbers.e)})
            }
            Self::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "kid": kid, "x": b64(x), "y": b64(y)})
            }
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(pair.public_key())})
            }
        }
    }

    /// Returns the public key as `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Rsa(pair) => pair.public_key().as_der(),
            Self::Ec(pair, _) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
        }
        .expect("DER");
        der.as_ref().to_vec()
    }

    /// Returns an RSA key as `RSAPublicKey`.
    pub fn pkcs1(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            _ => panic!("only RSA has this form"),
        }
    }

    /// Returns the public key as PEM.
    pub fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki())
    }

    /// Signs `message` with an algorithm that the key supports.
    pub fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Ec(pair, _) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
            Self::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).expect("signed");
                signature
            }
        }
    }

    /// Returns a token with these texts as header and payload.
    pub fn token(&self, alg: &str, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        self.parts(alg, &b64(header), &b64(payload))
    }

    /// Returns a token with these two encoded parts.
    pub fn parts(&self, alg: &str, header: &str, payload: &str) -> String {
        let signed = format!("{header}.{payload}");
        format!("{signed}.{}", b64(self.sign(alg, signed.as_bytes())))
    }
}

/// Returns PEM with one block (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
