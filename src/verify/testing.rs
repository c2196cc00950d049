//! Keys generated for a test run, and tokens signed with them.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::policy::{Algorithm, Policy};
use super::{KeySet, ReasonCode, Verdict, verify};
use crate::clock::UnixTime;

#[path = "../../tests/support/signing_keys.rs"]
mod signing_keys;

use signing_keys::SigningKey;
pub use signing_keys::b64;

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "https://api.example";
pub const NOW: i64 = 1_800_000_000;

/// A key pair that signs with one algorithm.
pub struct Signer {
    pair: SigningKey,
    alg: Algorithm,
    /// The public key as a JWK with the `kid` "k".
    pub jwk: Value,
}

static RSA: LazyLock<Signer> = LazyLock::new(|| signer(Algorithm::RS256, SigningKey::rsa()));
static P256: LazyLock<Signer> = LazyLock::new(|| signer(Algorithm::ES256, SigningKey::ec("P-256")));
static P384: LazyLock<Signer> = LazyLock::new(|| signer(Algorithm::ES384, SigningKey::ec("P-384")));
static P521: LazyLock<Signer> = LazyLock::new(|| signer(Algorithm::ES512, SigningKey::ec("P-521")));
static ED: LazyLock<Signer> = LazyLock::new(|| signer(Algorithm::EdDSA, SigningKey::ed25519()));

fn signer(alg: Algorithm, pair: SigningKey) -> Signer {
    Signer { jwk: pair.jwk("k"), pair, alg }
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
pub fn p521() -> &'static Signer {
    &P521
}
pub fn ed() -> &'static Signer {
    &ED
}

impl Signer {
    /// Returns a token with exactly these texts as header and payload.
    pub fn signs(&self, header: &str, payload: &str) -> String {
        self.signs_as(self.alg, header, payload)
    }

    pub fn signs_as(&self, alg: Algorithm, header: &str, payload: &str) -> String {
        self.pair.token(alg.name(), header, payload)
    }

    /// Returns a token with the default header, and [`claims`] with `changes`. A null removes a claim.
    pub fn token(&self, changes: Value) -> String {
        self.signs(&format!(r#"{{"alg":"{}","kid":"k"}}"#, self.alg), &claims(changes).to_string())
    }

    /// Returns the JWK with `changes`. A null removes a member.
    pub fn jwk_with(&self, changes: Value) -> Value {
        signing_keys::changed(self.jwk.clone(), changes)
    }

    /// Returns the public key as PEM, an RSA key as PKCS#1.
    pub fn pem(&self) -> String {
        match &self.pair {
            SigningKey::Rsa(_) => signing_keys::pem("RSA PUBLIC KEY", &self.pair.pkcs1()),
            pair => pair.pem(),
        }
    }
}

/// Returns valid claims with `changes`. A null removes a claim.
pub fn claims(changes: Value) -> Value {
    let valid = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "s", "exp": NOW + 300, "iat": NOW});
    signing_keys::changed(valid, changes)
}

/// Returns a JWK Set of these keys.
pub fn set(keys: &[Value]) -> KeySet {
    KeySet::from_jwks(&json!({ "keys": keys }).to_string()).expect("a JWK Set")
}

pub fn policy() -> Policy {
    Policy::new(ISSUER, vec![AUDIENCE.to_owned()], UnixTime(NOW))
}

/// Returns the codes of a denial. Empty if the token is granted.
pub fn codes(token: &str, keys: &KeySet, policy: &Policy) -> Vec<ReasonCode> {
    match verify(token, keys, policy) {
        Verdict::Granted(_) => Vec::new(),
        Verdict::Denied(reasons) => {
            assert!(!reasons.is_empty(), "a denial has a reason");
            reasons.iter().map(|r| r.code).collect()
        }
    }
}
