//! A public key, with the algorithms that it may be used with.

use std::borrow::Cow;
use std::collections::BTreeSet;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::header::decoded;
use super::pem::PublicKey;
use super::policy::Algorithm;
use super::rsa::{RsaKey, without_zeros};

/// A key's type: `kty` (RFC 7518, section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each name is the RFC's own")]
#[allow(clippy::upper_case_acronyms, reason = "spelt as in RFC 7518")]
pub enum KeyType {
    RSA,
    EC,
    OKP,
}

/// A key of a set.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub kid: Option<String>,
    pub kty: KeyType,
    /// The algorithms that `kty`, `crv` and `alg` allow.
    pub algorithms: Cow<'static, [Algorithm]>,
    /// Why it is too weak to be used.
    pub weakness: Option<&'static str>,
    verifier: Verifier,
}

/// Verifies signatures with a key.
#[derive(Clone, Debug)]
enum Verifier {
    Rsa(Box<RsaKey>),
    /// An elliptic curve key, which is parsed again for each signature.
    Curve(&'static dyn VerificationAlgorithm, Vec<u8>),
}

/// Why a key is left out.
pub(super) const MALFORMED: &str = "malformed";
/// See [`MALFORMED`].
pub(super) const UNSUPPORTED: &str = "of an unsupported type";

impl Key {
    /// Parses a JWK, or returns why it is unusable.
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, &'static str> {
        const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
        // Serializers write members, and elements of arrays, that are not set as null or as empty.
        let member = |name: &str| jwk.get(name).filter(|value| !is_unset(value));
        if PRIVATE.iter().any(|name| member(name).is_some()) {
            return Err("private or symmetric");
        }
        // A restriction of the wrong type must not be ignored.
        let text = |name: &str| member(name).map(|value| value.as_str().ok_or(MALFORMED)).transpose();
        // Some also write the padding of base64.
        let bytes = |text: &str| decoded(text.trim_end_matches('=')).map_err(|_| MALFORMED);
        let number = |name: &str| text(name)?.ok_or(MALFORMED).and_then(bytes);
        // The only member in which the empty string means something: a token's `kid` may be empty too.
        let kid = jwk.get("kid").filter(|kid| !kid.is_null()).map(|kid| kid.as_str().ok_or(MALFORMED)).transpose()?;
        if member("use").is_some_and(|usage| usage.as_str() != Some("sig")) || !member("key_ops").is_none_or(has_verify)
        {
            return Err("not for signatures");
        }
        let point = |size: usize| -> Result<Vec<u8>, &'static str> {
            let (x, y) = (of_size(&number("x")?, size)?, of_size(&number("y")?, size)?);
            Ok([&[4], &x[..], &y[..]].concat())
        };
        let key = match (text("kty")?.ok_or(MALFORMED)?, text("crv")?) {
            ("RSA", _) => PublicKey::Rsa { n: number("n")?, e: number("e")? },
            ("EC", Some("P-256")) => PublicKey::P256(point(32)?),
            ("EC", Some("P-384")) => PublicKey::P384(point(48)?),
            ("EC", Some("P-521")) => PublicKey::P521(point(66)?),
            ("OKP", Some("Ed25519")) => PublicKey::Ed25519(number("x")?),
            _ => return Err(UNSUPPORTED),
        };
        Self::new(key, kid, text("alg")?)
    }

    /// Returns whether `signature`, in base64url, is this key's for `signing_input`.
    pub(super) fn verifies(&self, signature: &str, signing_input: &[u8], algorithm: Algorithm) -> bool {
        match &self.verifier {
            Verifier::Rsa(key) => key.verifies(signature, signing_input, algorithm),
            Verifier::Curve(parameters, key) => {
                let key = UnparsedPublicKey::new(*parameters, key);
                decoded(signature).is_ok_and(|signature| key.verify(signing_input, &signature).is_ok())
            }
        }
    }

    /// Creates a key, or returns why it is unusable: the numbers are not a key, or `alg` is not for such a key.
    pub(super) fn new(key: PublicKey, kid: Option<&str>, alg: Option<&str>) -> Result<Self, &'static str> {
        const ES256: &[Algorithm] = &[Algorithm::ES256];
        const ES384: &[Algorithm] = &[Algorithm::ES384];
        const ES512: &[Algorithm] = &[Algorithm::ES512];
        const EDDSA: &[Algorithm] = &[Algorithm::EdDSA];
        let (kty, allowed, weakness, verifier) = match key {
            PublicKey::Rsa { n, e } => {
                let (key, weakness) = RsaKey::new(&n, &e).ok_or(MALFORMED)?;
                (KeyType::RSA, Algorithm::RSA, weakness, Verifier::Rsa(Box::new(key)))
            }
            PublicKey::P256(point) => (KeyType::EC, ES256, None, Verifier::Curve(&ECDSA_P256_SHA256_FIXED, point)),
            PublicKey::P384(point) => (KeyType::EC, ES384, None, Verifier::Curve(&ECDSA_P384_SHA384_FIXED, point)),
            PublicKey::P521(point) => (KeyType::EC, ES512, None, Verifier::Curve(&ECDSA_P521_SHA512_FIXED, point)),
            PublicKey::Ed25519(x) => {
                let x: [u8; 32] = x.try_into().map_err(|_| MALFORMED)?;
                (KeyType::OKP, EDDSA, ed25519_weakness(x), Verifier::Curve(&ED25519, x.to_vec()))
            }
        };
        let algorithms = match alg {
            None => Cow::Borrowed(allowed),
            Some(alg) => {
                let alg = alg.parse().ok().filter(|alg| allowed.contains(alg));
                Cow::Owned(vec![alg.ok_or("of another algorithm than supported")?])
            }
        };
        Ok(Self { kid: kid.map(str::to_owned), kty, algorithms, weakness, verifier })
    }
}

/// How many leading zeros of a key parameter may be missing.
const MAX_ZEROS: usize = 4;

/// Returns the number in `size` bytes: a serializer may have removed zeros at its beginning, or added one, as with any integer.
fn of_size(number: &[u8], size: usize) -> Result<Vec<u8>, &'static str> {
    let number = without_zeros(number);
    let zeros = size.checked_sub(number.len()).filter(|zeros| *zeros <= MAX_ZEROS || number.is_empty());
    let zeros = zeros.ok_or(MALFORMED)?;
    Ok([&vec![0; zeros][..], number].concat())
}

/// Returns whether a value is null or empty, or an array of such values.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_unset),
        _ => false,
    }
}

/// Returns whether `key_ops` is an array of distinct strings (RFC 7517, section 4.3) that contains `verify`.
fn has_verify(key_ops: &Value) -> bool {
    let Some(ops) = key_ops.as_array() else { return false };
    let ops: Vec<&Value> = ops.iter().filter(|op| !is_unset(op)).collect();
    let distinct: BTreeSet<&str> = ops.iter().filter_map(|op| op.as_str()).collect();
    distinct.len() == ops.len() && distinct.contains("verify")
}

/// The encodings of Ed25519's eight points of small order without the sign bit, including the two that are not canonical
/// (RFC 8032, section 5.1). Signatures for them can be forged by anyone.
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
    SMALL_ORDER.contains(&x).then_some("an Ed25519 point of small order")
}
