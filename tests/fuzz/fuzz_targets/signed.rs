//! A key pair and a policy that the targets share.

use authctl::clock::UnixTime;
use authctl::fuzzing::Policy;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "https://api.example";
pub const NOW: i64 = 1_800_000_000;
pub const KID: &str = "the-targets-own-key";

/// Returns the same pair in each run, so that an input can be reproduced.
pub fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key pair")
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn jwk(pair: &Ed25519KeyPair) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": KID, "x": b64(pair.public_key())})
}

/// Signs a token with exactly these bytes as header and payload.
pub fn token(pair: &Ed25519KeyPair, header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    format!("{signed}.{}", b64(pair.sign(signed.as_bytes())))
}

pub fn policy() -> Policy {
    Policy::new(ISSUER, vec![AUDIENCE.to_owned()], UnixTime(NOW))
}
