//! A key of the test's own, and tokens signed with it that say whatever the test wants.

use authctl::clock::{Clock as _, SystemClock};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "https://api.example";

/// An Ed25519 key called `k`.
pub struct Signer(Ed25519KeyPair);

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The present, in seconds since 1970.
pub fn now() -> i64 {
    SystemClock.now().0
}

/// The claims of a JWT, believed.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

/// Claims that the default policy grants, with `changes` made: `null` takes one out.
pub fn good(changes: Value) -> Value {
    let now = now();
    let mut all = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "developer", "iat": now, "exp": now + 300});
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            all.as_object_mut().expect("an object").remove(name);
        } else {
            all[name] = value.clone();
        }
    }
    all
}

impl Signer {
    pub fn new() -> Self {
        Self(Ed25519KeyPair::generate().expect("a key"))
    }

    fn x(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// The public key as a JWK Set.
    pub fn jwks(&self) -> Value {
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64(self.x())}]})
    }

    /// The public key as PEM (RFC 8410, section 4).
    pub fn pem(&self) -> String {
        let der = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], self.x()].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    /// A JWT with this header and these claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        format!("{signed}.{}", b64(self.0.sign(signed.as_bytes())))
    }

    /// A JWT that the default policy grants but for `changes`; see [`good`].
    pub fn token(&self, changes: Value) -> String {
        self.sign(&json!({"alg": "EdDSA", "kid": "k", "typ": "at+jwt"}), &good(changes))
    }
}
