//! The issuer's signing keys: made, published as a JWK Set, rotated, and used to sign JWTs.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::bounded::sha256;
use crate::secret::Secret;

/// What the issuer signs with (RFC 7518, section 3.1; RFC 8037, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA with 2048 bits, PKCS #1 v1.5 and SHA-256.
    #[default]
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

struct Key {
    algorithm: Algorithm,
    pair: Pair,
    kid: String,
    jwk: Value,
}

impl Key {
    fn generate(algorithm: Algorithm) -> Result<Self, Unspecified> {
        let (pair, required) = match algorithm {
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
                let public = pair.public_key();
                let n = encode(public.modulus().big_endian_without_leading_zero());
                let e = encode(public.exponent().big_endian_without_leading_zero());
                (Pair::Rsa(pair), json!({"e": e, "kty": "RSA", "n": n}))
            }
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
                // Uncompressed point: 0x04, then 32 bytes each of x and y (SEC 1, section 2.3.3).
                let (x, y) = pair.public_key().as_ref().get(1..65).ok_or(Unspecified)?.split_at(32);
                let jwk = json!({"crv": "P-256", "kty": "EC", "x": encode(x), "y": encode(y)});
                (Pair::P256(pair), jwk)
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate()?;
                let jwk = json!({"crv": "Ed25519", "kty": "OKP", "x": encode(pair.public_key().as_ref())});
                (Pair::Ed25519(pair), jwk)
            }
        };
        // RFC 7638: the required members in alphabetical order, which is how serde_json orders a map.
        let kid = encode(&sha256(required.to_string().as_bytes()));
        let mut jwk = required;
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(algorithm.name());
        Ok(Self { algorithm, pair, kid, jwk })
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        Ok(match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                signature
            }
            Pair::P256(pair) => pair.sign(&random, message)?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.try_sign(message)?.as_ref().to_vec(),
        })
    }
}

struct Set {
    /// Oldest first. The last one of an algorithm is the one that signs.
    keys: Vec<Arc<Key>>,
    signing: Algorithm,
}

/// The keys, of every algorithm at least one.
pub(super) struct Keys {
    set: Arc<Mutex<Set>>,
    /// False until the first RSA key is there, which takes the longest to make.
    complete: watch::Receiver<bool>,
}

/// How many keys are published at most; rotating further drops the oldest.
const MAX: usize = 32;

impl Keys {
    /// Makes the elliptic keys at once and the RSA key on a thread of its own, which nobody has to wait for who does
    /// not ask for the JWK Set or an RS256 signature.
    pub(super) fn generate(signing: Algorithm) -> Result<Self, Unspecified> {
        let keys = vec![Arc::new(Key::generate(Algorithm::ES256)?), Arc::new(Key::generate(Algorithm::EdDSA)?)];
        let set = Arc::new(Mutex::new(Set { keys, signing }));
        let (done, complete) = watch::channel(false);
        let shared = Arc::clone(&set);
        std::thread::spawn(move || {
            if let Ok(key) = Key::generate(Algorithm::RS256) {
                let mut set = shared.lock().unwrap_or_else(PoisonError::into_inner);
                set.keys.insert(0, Arc::new(key));
            }
            let _ = done.send(true);
        });
        Ok(Self { set, complete })
    }

    /// Waits until the first RSA key is made.
    pub(super) async fn complete(&self) {
        let _ = self.complete.clone().wait_for(|done| *done).await;
    }

    /// The published keys (RFC 7517, section 5).
    pub(super) fn jwks(&self) -> Value {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        json!({"keys": set.keys.iter().map(|key| &key.jwk).collect::<Vec<_>>()})
    }

    /// Makes a key and signs with it from now on; the others stay published.
    pub(super) fn rotate(&self, algorithm: Option<Algorithm>) -> Result<(), Unspecified> {
        let algorithm = algorithm.unwrap_or_else(|| self.set.lock().unwrap_or_else(PoisonError::into_inner).signing);
        let key = Arc::new(Key::generate(algorithm)?);
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.keys.push(key);
        set.signing = algorithm;
        if set.keys.len() > MAX {
            set.keys.remove(0);
        }
        Ok(())
    }

    /// Whether the signing algorithm hashes with SHA-512, as EdDSA with Ed25519 does.
    pub(super) fn signs_with_sha512(&self) -> bool {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).signing == Algorithm::EdDSA
    }

    /// Publishes from now on only the latest key of each algorithm.
    pub(super) fn drop_old(&self) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut set.keys);
        for (at, key) in all.iter().enumerate() {
            if all.iter().skip(at + 1).all(|later| later.algorithm != key.algorithm) {
                set.keys.push(Arc::clone(key));
            }
        }
    }

    /// Signs `claims` as a JWT of type `typ` in compact form (RFC 7515, section 7.1). [`Keys::complete`] comes first.
    pub(super) fn sign(&self, typ: &str, claims: &Value) -> Result<Secret, Unspecified> {
        let key = {
            let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
            set.keys.iter().rev().find(|key| key.algorithm == set.signing).cloned().ok_or(Unspecified)?
        };
        let header = json!({"alg": key.algorithm.name(), "kid": key.kid, "typ": typ});
        let mut jwt = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = key.sign(jwt.as_bytes())?;
        jwt.push('.');
        jwt.push_str(&encode(&signature));
        Ok(Secret::new(jwt))
    }
}

/// Base64url without padding (RFC 7515, section 2).
pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// 256 random bits as 43 characters that need no escaping anywhere.
pub(super) fn random_text() -> Result<Secret, Unspecified> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut())?;
    Ok(Secret::new(encode(bytes.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_overlaps_until_the_old_keys_are_dropped() {
        let keys = Keys::generate(Algorithm::ES256).expect("keys");
        let before = keys.sign("JWT", &json!({})).expect("signed");
        keys.rotate(None).expect("rotated");
        let after = keys.sign("JWT", &json!({})).expect("signed");
        let header = |jwt: &Secret| jwt.expose().split('.').next().expect("header").to_owned();
        assert_ne!(header(&before), header(&after));
        let es256 = |keys: &Keys| {
            let jwks = keys.jwks();
            jwks["keys"].as_array().expect("array").iter().filter(|key| key["alg"] == "ES256").count()
        };
        assert_eq!(es256(&keys), 2);
        keys.drop_old();
        assert_eq!(es256(&keys), 1);
        assert_eq!(header(&after), header(&keys.sign("JWT", &json!({})).expect("signed")));
    }
}
