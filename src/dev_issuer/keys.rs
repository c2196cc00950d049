//! The issuer's signing keys: generation, publication as a JWK Set, rotation, and signing of JWTs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::crypto::{base64url, sha256};
use crate::secret::Secret;

/// A signature algorithm (RFC 7518, section 3.1; RFC 8037, section 3.1).
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

enum KeyPair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

struct SigningKey {
    algorithm: Algorithm,
    pair: KeyPair,
    kid: String,
    jwk: Value,
}

impl SigningKey {
    fn generate(algorithm: Algorithm) -> Result<Self, Unspecified> {
        let (pair, required) = match algorithm {
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
                let public = pair.public_key();
                let n = base64url(public.modulus().big_endian_without_leading_zero());
                let e = base64url(public.exponent().big_endian_without_leading_zero());
                (KeyPair::Rsa(pair), json!({"e": e, "kty": "RSA", "n": n}))
            }
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
                // Uncompressed point: 0x04, then 32 bytes each of x and y (SEC 1, section 2.3.3).
                let (x, y) = pair.public_key().as_ref().get(1..65).ok_or(Unspecified)?.split_at(32);
                let jwk = json!({"crv": "P-256", "kty": "EC", "x": base64url(x), "y": base64url(y)});
                (KeyPair::P256(pair), jwk)
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate()?;
                let jwk = json!({"crv": "Ed25519", "kty": "OKP", "x": base64url(pair.public_key().as_ref())});
                (KeyPair::Ed25519(pair), jwk)
            }
        };
        // RFC 7638: the required members in alphabetical order, which is how serde_json orders a map.
        let kid = base64url(&sha256(required.to_string().as_bytes()));
        let mut jwk = required;
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(algorithm.name());
        Ok(Self { algorithm, pair, kid, jwk })
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        Ok(match &self.pair {
            KeyPair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                signature
            }
            KeyPair::P256(pair) => pair.sign(&random, message)?.as_ref().to_vec(),
            KeyPair::Ed25519(pair) => pair.try_sign(message)?.as_ref().to_vec(),
        })
    }
}

struct KeySet {
    /// Oldest first. The last key of the signing algorithm signs.
    keys: Vec<Arc<SigningKey>>,
    signing: Algorithm,
}

/// The signing keys, at least one for each algorithm.
pub(super) struct SigningKeys {
    set: Arc<Mutex<KeySet>>,
    /// False until the first RSA key is generated, which takes the longest.
    complete: watch::Receiver<bool>,
}

/// The limit on published keys; rotating further drops the oldest.
const MAX_KEYS: usize = 32;

impl SigningKeys {
    /// Generates the elliptic curve keys at once and the RSA key on a thread of its own: only the JWK Set and RS256
    /// signatures wait for it.
    pub(super) fn generate(signing: Algorithm) -> Result<Self, Unspecified> {
        let keys =
            vec![Arc::new(SigningKey::generate(Algorithm::ES256)?), Arc::new(SigningKey::generate(Algorithm::EdDSA)?)];
        let set = Arc::new(Mutex::new(KeySet { keys, signing }));
        let (done, complete) = watch::channel(false);
        let shared = Arc::clone(&set);
        std::thread::spawn(move || {
            if let Ok(key) = SigningKey::generate(Algorithm::RS256) {
                let mut set = shared.lock().unwrap_or_else(PoisonError::into_inner);
                set.keys.insert(0, Arc::new(key));
            }
            let _ = done.send(true);
        });
        Ok(Self { set, complete })
    }

    fn lock(&self) -> MutexGuard<'_, KeySet> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the first RSA key is generated.
    pub(super) async fn complete(&self) {
        let _ = self.complete.clone().wait_for(|done| *done).await;
    }

    /// Returns the published keys as a JWK Set (RFC 7517, section 5).
    pub(super) fn jwks(&self) -> Value {
        let set = self.lock();
        json!({"keys": set.keys.iter().map(|key| &key.jwk).collect::<Vec<_>>()})
    }

    /// Generates a key and signs with it from now on; the others stay published.
    pub(super) fn rotate(&self, algorithm: Option<Algorithm>) -> Result<(), Unspecified> {
        let algorithm = algorithm.unwrap_or_else(|| self.lock().signing);
        let key = Arc::new(SigningKey::generate(algorithm)?);
        let mut set = self.lock();
        set.keys.push(key);
        set.signing = algorithm;
        if set.keys.len() > MAX_KEYS {
            set.keys.remove(0);
        }
        Ok(())
    }

    /// Returns whether the signing algorithm hashes with SHA-512, as EdDSA with Ed25519 does.
    pub(super) fn signs_with_sha512(&self) -> bool {
        self.lock().signing == Algorithm::EdDSA
    }

    /// Publishes from now on only the latest key of each algorithm.
    pub(super) fn drop_old(&self) {
        let mut set = self.lock();
        let all = std::mem::take(&mut set.keys);
        for (at, key) in all.iter().enumerate() {
            if all.iter().skip(at + 1).all(|later| later.algorithm != key.algorithm) {
                set.keys.push(Arc::clone(key));
            }
        }
    }

    /// Signs `claims` as a JWT of type `typ` in compact form (RFC 7515, section 7.1). [`SigningKeys::complete`] must
    /// have returned.
    pub(super) fn sign(&self, typ: &str, claims: &Value) -> Result<Secret, Unspecified> {
        let key = {
            let set = self.lock();
            set.keys.iter().rev().find(|key| key.algorithm == set.signing).cloned().ok_or(Unspecified)?
        };
        let header = json!({"alg": key.algorithm.name(), "kid": key.kid, "typ": typ});
        let mut jwt =
            format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
        let signature = key.sign(jwt.as_bytes())?;
        jwt.push('.');
        jwt.push_str(&base64url(&signature));
        Ok(Secret::new(jwt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_publishes_old_keys_until_they_are_dropped() {
        let keys = SigningKeys::generate(Algorithm::ES256).expect("keys");
        let before = keys.sign("JWT", &json!({})).expect("signed");
        keys.rotate(None).expect("rotated");
        let after = keys.sign("JWT", &json!({})).expect("signed");
        let header = |jwt: &Secret| jwt.expose().split('.').next().expect("header").to_owned();
        assert_ne!(header(&before), header(&after));
        let es256 = |keys: &SigningKeys| {
            let jwks = keys.jwks();
            jwks["keys"].as_array().expect("array").iter().filter(|key| key["alg"] == "ES256").count()
        };
        assert_eq!(es256(&keys), 2);
        keys.drop_old();
        assert_eq!(es256(&keys), 1);
        assert_eq!(header(&after), header(&keys.sign("JWT", &json!({})).expect("signed")));
    }
}
