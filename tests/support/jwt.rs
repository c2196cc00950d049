//! A test key and JWTs with arbitrary claims signed with it.

use authctl::clock::{Clock as _, SystemClock};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::signing_keys::{SigningKey, changed};

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "https://api.example";

/// An Ed25519 key with the key ID `k`.
pub struct Signer(SigningKey);

/// Returns the current Unix time.
pub fn now() -> i64 {
    SystemClock.now().0
}

/// Returns the claims of a JWT without verifying it.
pub fn claims(token: &str) -> Value {
    part(token, 1)
}

/// Returns the header of a JWT.
pub fn header(token: &str) -> Value {
    part(token, 0)
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// Returns claims that the default policy accepts, with `changes` applied: `null` removes a claim.
pub fn valid_claims(changes: Value) -> Value {
    let now = now();
    changed(json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "developer", "iat": now, "exp": now + 300}), changes)
}

impl Signer {
    pub fn new() -> Self {
        Self(SigningKey::ed25519())
    }

    /// Returns the public key as a JWK Set.
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.0.jwk("k")]})
    }

    /// Returns the public key as PEM (RFC 8410, section 4).
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Returns a JWT with this header and these claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.0.token("EdDSA", header.to_string(), claims.to_string())
    }

    /// Returns a JWT with [`valid_claims`], changed by `changes`.
    pub fn token(&self, changes: Value) -> String {
        self.sign(&json!({"alg": "EdDSA", "kid": "k", "typ": "at+jwt"}), &valid_claims(changes))
    }
}
