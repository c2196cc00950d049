//! RSA public keys: rejection of weak ones, and verification with a key that is parsed once.
//!
//! `jsonwebtoken` parses a key again for each signature. That is negligible for elliptic curves, but takes a fifth of the
//! time for RSA. So RSA signatures are verified with `aws-lc-rs` directly, with the parameters that `jsonwebtoken` uses.

use std::sync::OnceLock;

use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};

use super::header::decoded;
use super::policy::Algorithm;

/// A modulus and an exponent, and for each of [`Algorithm::RSA`] the key, parsed when it is first used.
#[derive(Clone, Debug)]
pub(super) struct RsaKey {
    numbers: RsaPublicKeyComponents<Vec<u8>>,
    parsed: [OnceLock<Option<ParsedPublicKey>>; Algorithm::RSA.len()],
}

impl RsaKey {
    /// Creates a key, and returns why it is too weak to be used. Returns `None` if the numbers are not a key.
    pub(super) fn new(n: &[u8], e: &[u8]) -> Option<(Self, Option<&'static str>)> {
        let (n, e) = (without_zeros(n), without_zeros(e));
        let weakness = weakness(n, e)?;
        let numbers = RsaPublicKeyComponents { n: n.to_vec(), e: e.to_vec() };
        Some((Self { numbers, parsed: Default::default() }, weakness))
    }

    /// Returns whether `signature`, in base64url, is this key's for `signing_input`. Always false for other algorithms than
    /// RSA's.
    pub(super) fn verifies(&self, signature: &str, signing_input: &[u8], algorithm: Algorithm) -> bool {
        let Some(at) = Algorithm::RSA.iter().position(|a| *a == algorithm) else { return false };
        let parse = || self.numbers.to_parsed_public_key(parameters(algorithm)?).ok();
        let Some(key) = self.parsed[at].get_or_init(parse) else { return false };
        decoded(signature).is_ok_and(|signature| key.verify_sig(signing_input, &signature).is_ok())
    }
}

fn parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512 | Algorithm::EdDSA => None,
    }
}

/// Returns the number without the zeros at its beginning.
pub(super) fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

/// Returns why a key without leading zeros is weak, or the outer `None` if it is not a key.
fn weakness(n: &[u8], e: &[u8]) -> Option<Option<&'static str>> {
    let (n_last, e_last) = (n.last()?, e.last()?);
    let weakness = if bit_length(n) < 2048 {
        Some("RSA with fewer than 2048 bits")
    } else if bit_length(n) > 8192 {
        Some("RSA with more than 8192 bits")
    } else if n_last & 1 == 0 {
        Some("an even RSA modulus")
    } else if e_last & 1 == 0 || e == [1] {
        Some("an RSA exponent that is 1 or even")
    } else if bit_length(e) > 33 {
        Some("an RSA exponent of more than 33 bits")
    } else {
        None
    };
    Some(weakness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::testing::{b64, rsa};

    #[test]
    fn parsed_key_agrees_with_jsonwebtoken() {
        let number = |name: &str| decoded(rsa().jwk[name].as_str().expect("text")).expect("a number");
        let (n, e) = (number("n"), number("e"));
        let (key, weakness) = RsaKey::new(&[&[0, 0], &n[..]].concat(), &e).expect("a key");
        assert_eq!(weakness, None);
        let library = jsonwebtoken::DecodingKey::from_rsa_raw_components(&n, &e);
        // Twice: the first parses the key.
        for (made_with, asked) in [Algorithm::RSA, Algorithm::RSA].concat().into_iter().flat_map(pairs) {
            let token = rsa().signs_as(made_with, "{}", "{}");
            let (signed, signature) = token.rsplit_once('.').expect("three parts");
            let mut other = decoded(signature).expect("base64url");
            other[7] ^= 1;
            for (signature, right) in [(signature, made_with == asked), (&b64(other), false), ("", false)] {
                let verified = jsonwebtoken::crypto::verify(
                    signature,
                    signed.as_bytes(),
                    &library,
                    asked.name().parse().expect("known to it"),
                );
                assert_eq!(matches!(verified, Ok(true)), right, "{made_with} {asked}");
                assert_eq!(key.verifies(signature, signed.as_bytes(), asked), right, "{made_with} {asked}");
                assert!(!key.verifies(signature, b"other", asked));
            }
        }
    }

    /// Returns this algorithm paired with each RSA algorithm.
    fn pairs(made_with: Algorithm) -> impl Iterator<Item = (Algorithm, Algorithm)> {
        Algorithm::RSA.iter().map(move |asked| (made_with, *asked))
    }

    #[test]
    fn only_rsa_algorithms_verify() {
        let (key, _) = RsaKey::new(&[0xff; 256], &[1, 0, 1]).expect("a key");
        for algorithm in Algorithm::ALL {
            assert_eq!(parameters(algorithm).is_some(), Algorithm::RSA.contains(&algorithm), "{algorithm}");
            assert!(!key.verifies(&b64([1; 256]), b"signed", algorithm));
        }
    }
}
