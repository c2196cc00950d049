//! The issuer's public keys, read from a JWK Set or PEM, each with what it may be used for.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jsonwebtoken::DecodingKey;
use serde::Serialize;
use serde_json::{Map, Value};

use super::der::{self, PublicKey};
use super::header::decoded;
use super::policy::Algorithm;
use super::reason::{Reason, ReasonCode, quoted};
use super::rsa::RsaKey;
use super::strict_json;

/// Why a text holds no keys. Quotes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Longer than [`KeySet::MAX_LENGTH`].
    #[error("the keys are longer than {} KiB", KeySet::MAX_LENGTH / 1024)]
    TooLong,
    /// More than [`KeySet::MAX_KEYS`].
    #[error("there are more than {} keys", KeySet::MAX_KEYS)]
    TooMany,
    /// Not JSON, or no object, or a member stands twice in it.
    #[error("the JWK Set cannot be read: {0}")]
    NotJson(String),
    /// No `keys` array (RFC 7517, section 5).
    #[error("there is no `keys` array, and so it is no JWK Set")]
    NoKeys,
    /// Neither a JWK Set nor PEM.
    #[error("neither a JWK Set nor PEM public keys")]
    NotPem,
}

/// The kind of a key: RFC 7518's `kty`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each name is the RFC's own")]
#[allow(clippy::upper_case_acronyms, reason = "spelt as in RFC 7518")]
pub enum KeyType {
    RSA,
    EC,
    OKP,
}

/// The key that a token was verified with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// The key's `kid`, where it has one.
    pub kid: Option<String>,
    /// The algorithm that it was used with.
    pub alg: Algorithm,
    /// Its kind.
    pub kty: KeyType,
}

/// A key of a set, for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedKey {
    /// The key's `kid`, where it has one.
    pub kid: Option<String>,
    /// Its kind.
    pub kty: KeyType,
    /// The algorithms that it may be used with.
    pub algorithms: Vec<Algorithm>,
    /// Why it is not relied on.
    pub weakness: Option<&'static str>,
}

/// The public keys of one issuer, ready to verify with.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: usize,
    /// PEM gives a key no name, so a token's `kid` cannot contradict it.
    named: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub kid: Option<String>,
    pub kty: KeyType,
    /// What `kty`, `crv` and `alg` allow.
    algorithms: Cow<'static, [Algorithm]>,
    /// Why it must not be relied on.
    weakness: Option<&'static str>,
    material: Material,
}

/// What a signature is verified with.
#[derive(Clone, Debug)]
enum Material {
    Rsa(Box<RsaKey>),
    /// A point on a curve, read anew for each signature.
    Curve(DecodingKey),
}

impl KeySet {
    /// The longest text that is read, in bytes.
    pub const MAX_LENGTH: usize = 256 * 1024;
    /// The most keys that one set may hold.
    pub const MAX_KEYS: usize = 256;

    /// Reads a JWK Set (RFC 7517, section 5). Keys of unknown kinds, private, symmetric and malformed ones, and those
    /// that are not for verifying signatures are left out and counted.
    ///
    /// # Errors
    /// [`KeySetError`], where the set as a whole cannot be read.
    pub fn from_jwks(text: &str) -> Result<Self, KeySetError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(KeySetError::TooLong);
        }
        let set = strict_json::object(text.as_bytes(), Self::MAX_LENGTH)
            .map_err(|fault| KeySetError::NotJson(fault.to_string()))?;
        let Some(Value::Array(members)) = set.get("keys") else {
            return Err(KeySetError::NoKeys);
        };
        if members.len() > Self::MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Key> = members.iter().filter_map(|member| Key::from_jwk(member.as_object()?)).collect();
        Ok(Self { skipped: members.len() - keys.len(), keys, named: true })
    }

    /// Reads PEM: public keys (`PUBLIC KEY`, `RSA PUBLIC KEY`) and certificates, whose key alone is taken. Any other
    /// block is left out and counted.
    ///
    /// # Errors
    /// [`KeySetError`], where the text is no PEM.
    pub fn from_pem(text: &str) -> Result<Self, KeySetError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(KeySetError::TooLong);
        }
        let found = der::pem_keys(text).ok_or(KeySetError::NotPem)?;
        if found.len() > Self::MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let blocks = found.len();
        let keys: Vec<Key> = found.into_iter().flatten().filter_map(|key| Key::new(key, None, None)).collect();
        Ok(Self { skipped: blocks - keys.len(), keys, named: false })
    }

    /// Reads a JWK Set or PEM, whichever it is.
    ///
    /// # Errors
    /// [`KeySetError`], where it is neither.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        if text.trim_start().starts_with('{') { Self::from_jwks(text) } else { Self::from_pem(text) }
    }

    /// How many keys can be verified with, the weak ones among them not left out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys were left out.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The `kid` of each key, in order.
    pub fn kids(&self) -> impl Iterator<Item = Option<&str>> {
        self.keys.iter().map(|key| key.kid.as_deref())
    }

    /// Whether there is a key of this name; what tells a caller with a network that the issuer may have new keys.
    #[must_use]
    pub fn has_kid(&self, kid: &str) -> bool {
        self.kids().any(|k| k == Some(kid))
    }

    /// The keys, for display.
    pub fn listed(&self) -> impl Iterator<Item = ListedKey> + '_ {
        self.keys.iter().map(|key| ListedKey {
            kid: key.kid.clone(),
            kty: key.kty,
            algorithms: key.algorithms.to_vec(),
            weakness: key.weakness,
        })
    }

    /// The keys that may have made a signature with `algorithm` by the key called `kid`, in the set's order.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Vec<&Key>, Reason> {
        let deny = |code, message: String| Err(Reason::new(code, message));
        let kid = kid.filter(|_| self.named);
        let called: Vec<&Key> = self.keys.iter().filter(|k| kid.is_none() || k.kid.as_deref() == kid).collect();
        let shown = kid.map_or_else(|| "the token".to_owned(), |kid| format!("the key {}", quoted(kid)));
        if called.is_empty() {
            return deny(
                ReasonCode::UnknownKey,
                match kid {
                    Some(_) => format!("{shown} is not among the {} trusted keys", self.len()),
                    None => "there is no trusted key".to_owned(),
                },
            );
        }
        let fitting: Vec<&Key> = called.into_iter().filter(|k| k.algorithms.contains(&algorithm)).collect();
        if fitting.is_empty() {
            return match kid {
                Some(_) => deny(ReasonCode::AlgorithmNotAllowed, format!("{shown} is not for {algorithm}")),
                None => deny(ReasonCode::UnknownKey, format!("none of the trusted keys is for {algorithm}")),
            };
        }
        let strong: Vec<&Key> = fitting.iter().copied().filter(|k| k.weakness.is_none()).collect();
        match (strong.as_slice(), kid) {
            ([], _) => {
                let weakness = fitting.iter().find_map(|k| k.weakness).unwrap_or_default();
                deny(ReasonCode::WeakKey, format!("the key that the token needs is too weak: {weakness}"))
            }
            ([_, _, ..], None) => deny(
                ReasonCode::UnknownKey,
                format!("the token names no key (`kid`), and {} trusted keys are for {algorithm}", strong.len()),
            ),
            _ => Ok(strong),
        }
    }
}

impl Key {
    fn from_jwk(jwk: &Map<String, Value>) -> Option<Self> {
        const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
        if PRIVATE.iter().any(|member| jwk.contains_key(*member)) {
            return None;
        }
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let number = |name: &str| text(name).and_then(|n| decoded(n).ok());
        // Absent is fine, a wrong type is not: a limit that cannot be read is not a limit that is not there.
        let kid = jwk.get("kid").map(Value::as_str).map_or(Some(None), |kid| kid.map(Some))?;
        let alg = jwk.get("alg").map(Value::as_str).map_or(Some(None), |alg| alg.map(Some))?;
        let signs = jwk.get("use").is_none_or(|u| u.as_str() == Some("sig"));
        let verifies = jwk.get("key_ops").is_none_or(verifies);
        if !signs || !verifies {
            return None;
        }
        let point = |size: usize| {
            let (x, y) = (number("x")?, number("y")?);
            (x.len() == size && y.len() == size).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
        };
        let key = match (text("kty")?, text("crv")) {
            ("RSA", _) => PublicKey::Rsa { n: number("n")?, e: number("e")? },
            ("EC", Some("P-256")) => PublicKey::P256(point(32)?),
            ("EC", Some("P-384")) => PublicKey::P384(point(48)?),
            ("OKP", Some("Ed25519")) => PublicKey::Ed25519(number("x")?),
            _ => return None,
        };
        Self::new(key, kid, alg)
    }

    /// Whether this key made the `signature`, in base64url, over `signed`.
    pub(super) fn made(&self, signature: &str, signed: &[u8], algorithm: Algorithm) -> bool {
        match &self.material {
            Material::Rsa(key) => key.made(signature, signed, algorithm),
            Material::Curve(key) => {
                matches!(jsonwebtoken::crypto::verify(signature, signed, key, algorithm.into()), Ok(true))
            }
        }
    }

    /// `None` where the numbers are no key, or `alg` is not one for it.
    fn new(key: PublicKey, kid: Option<&str>, alg: Option<&str>) -> Option<Self> {
        let (kty, allowed, weakness, material) = match key {
            PublicKey::Rsa { n, e } => {
                let (key, weakness) = RsaKey::new(&n, &e)?;
                (KeyType::RSA, Algorithm::RSA, weakness, Material::Rsa(Box::new(key)))
            }
            PublicKey::P256(point) => {
                (KeyType::EC, [Algorithm::ES256].as_slice(), None, Material::Curve(DecodingKey::from_ec_der(&point)))
            }
            PublicKey::P384(point) => {
                (KeyType::EC, [Algorithm::ES384].as_slice(), None, Material::Curve(DecodingKey::from_ec_der(&point)))
            }
            PublicKey::Ed25519(x) => {
                let x: [u8; 32] = x.try_into().ok()?;
                let material = Material::Curve(DecodingKey::from_ed_der(&x));
                (KeyType::OKP, [Algorithm::EdDSA].as_slice(), ed25519_weakness(x), material)
            }
        };
        let algorithms = match alg {
            None => Cow::Borrowed(allowed),
            Some(alg) => Cow::Owned(vec![alg.parse().ok().filter(|a| allowed.contains(a))?]),
        };
        Some(Self { kid: kid.map(str::to_owned), kty, algorithms, weakness, material })
    }
}

/// Whether `key_ops` is an array of strings, none of them twice (RFC 7517, section 4.3), with `verify` among them.
fn verifies(key_ops: &Value) -> bool {
    let Some(ops) = key_ops.as_array() else { return false };
    let distinct: BTreeSet<&str> = ops.iter().filter_map(Value::as_str).collect();
    distinct.len() == ops.len() && distinct.contains("verify")
}

/// Ed25519 has eight points of small order, for which anybody can make signatures. These are their encodings without
/// the sign bit, the two that are not canonical among them (RFC 8032, section 5.1).
const SMALL_ORDER: [[u8; 32]; 7] = {
    let zero = [0; 32];
    let mut one = [0; 32];
    one[0] = 1;
    // 2^255 - 19 and its neighbours.
    let mut p = [0xff; 32];
    p[31] = 0x7f;
    let (mut p_less_one, mut p_more_one) = (p, p);
    p[0] = 0xed;
    p_less_one[0] = 0xec;
    p_more_one[0] = 0xee;
    [
        zero,
        one,
        p_less_one,
        p,
        p_more_one,
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

fn ed25519_weakness(mut x: [u8; 32]) -> Option<&'static str> {
    x[31] &= 0x7f;
    SMALL_ORDER.contains(&x).then_some("an Ed25519 point of small order, for which anybody can sign")
}
