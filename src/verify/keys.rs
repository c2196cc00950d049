//! The issuer's public keys: a JWK Set or PEM, and which of them may have signed a token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::header;
use super::key::{Key, KeyType, MALFORMED, UNSUPPORTED};
use super::pem::{self, PublicKey};
use super::policy::Algorithm;
use super::reason::{Reason, ReasonCode, quoted};
use super::strict_json::{self, StrictJsonError};
use crate::model::MAX_JWKS_LENGTH;

/// Why a text is not a key set. Quotes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Longer than [`KeySet::MAX_LENGTH`].
    #[error("the key set is longer than {} KiB", KeySet::MAX_LENGTH / 1024)]
    TooLong,
    /// More than [`KeySet::MAX_KEYS`].
    #[error("the key set has more than {} keys", KeySet::MAX_KEYS)]
    TooMany,
    /// Not a JSON object, or one with several members `keys`.
    #[error("invalid JWK Set: {0}")]
    NotJson(&'static str),
    /// `keys` is not an array (RFC 7517, section 5).
    #[error("invalid JWK Set: `keys` is not an array")]
    NoKeys,
    /// Neither a JWK Set nor PEM.
    #[error("neither a JWK Set nor PEM public keys")]
    NotPem,
}

/// A JWK Set whose keys are parsed one by one, so that an invalid one is left out by itself.
#[derive(Deserialize)]
struct JwkSet<'a> {
    #[serde(borrow, default)]
    keys: Option<&'a RawValue>,
}

/// The key that a token was verified with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// The key's `kid`, if it has one.
    pub kid: Option<String>,
    /// The algorithm of the signature.
    pub alg: Algorithm,
    /// Its type.
    pub kty: KeyType,
}

/// A key in a set, for display.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeySummary {
    /// The key's `kid`, if it has one.
    pub kid: Option<String>,
    /// Its type.
    pub kty: KeyType,
    /// The algorithms that it may be used with.
    pub algorithms: Vec<Algorithm>,
    /// Why it is too weak to be used.
    pub weakness: Option<&'static str>,
}

/// The public keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Why each key that was left out is unusable.
    skipped: Vec<&'static str>,
    /// Whether a JWK Set has no member `keys`.
    has_no_keys: bool,
    /// Whether the format has key IDs. PEM has none, so a token's `kid` is then ignored.
    has_kids: bool,
}

impl KeySet {
    /// The longest accepted text, in bytes.
    pub const MAX_LENGTH: usize = MAX_JWKS_LENGTH;
    /// The maximum number of keys in a set.
    pub const MAX_KEYS: usize = 256;

    /// Parses a JWK Set (RFC 7517, section 5). Skips and counts keys of unsupported types, private, symmetric and malformed
    /// ones, and those that are not for verifying signatures.
    ///
    /// # Errors
    /// [`KeySetError`], if the set as a whole is invalid.
    pub fn from_jwks(text: &str) -> Result<Self, KeySetError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(KeySetError::TooLong);
        }
        let is_object = text.trim_start().starts_with('{');
        let set: JwkSet<'_> = match serde_json::from_str(text) {
            Ok(set) if is_object => set,
            Err(error) if is_object && error.is_data() => return Err(KeySetError::NotJson("duplicate member `keys`")),
            _ => return Err(KeySetError::NotJson("not a JSON object")),
        };
        let Some(members) = set.keys else { return Ok(Self { has_no_keys: true, ..Self::default() }) };
        let members: Vec<&RawValue> = serde_json::from_str(members.get()).map_err(|_| KeySetError::NoKeys)?;
        if members.len() > Self::MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let parse = |member: &RawValue| match strict_json::object(member.get().as_bytes(), Self::MAX_LENGTH) {
            Ok(members) => Key::from_jwk(&members),
            Err(StrictJsonError::DuplicateMember) => Err("with a duplicate member"),
            Err(StrictJsonError::TooDeep) => Err("nested too deeply"),
            Err(_) => Err(MALFORMED),
        };
        Ok(Self::collect(members.into_iter().map(parse), true))
    }

    /// Parses PEM: public keys (`PUBLIC KEY`, `RSA PUBLIC KEY`) and certificates, of which only the key is used. Skips and
    /// counts other blocks.
    ///
    /// # Errors
    /// [`KeySetError`], if the text is not PEM.
    pub fn from_pem(text: &str) -> Result<Self, KeySetError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(KeySetError::TooLong);
        }
        let found = pem::public_keys(text).ok_or(KeySetError::NotPem)?;
        if found.len() > Self::MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let parse = |key: Option<PublicKey>| Key::new(key.ok_or(UNSUPPORTED)?, None, None);
        Ok(Self::collect(found.into_iter().map(parse), false))
    }

    fn collect(parsed: impl Iterator<Item = Result<Key, &'static str>>, has_kids: bool) -> Self {
        let mut set = Self { has_kids, ..Self::default() };
        for key in parsed {
            match key {
                Ok(key) => set.keys.push(key),
                Err(reason) => set.skipped.push(reason),
            }
        }
        set
    }

    /// Parses a JWK Set or PEM.
    ///
    /// # Errors
    /// [`KeySetError`], if it is neither.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        if text.trim_start().starts_with('{') { Self::from_jwks(text) } else { Self::from_pem(text) }
    }

    /// Returns the number of keys, weak ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns whether a token can be verified with one of the keys.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.keys.iter().any(|key| key.weakness.is_none())
    }

    /// Returns the number of skipped keys.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }

    /// Describes what is missing: the skipped keys, or all; empty if nothing is.
    #[must_use]
    pub fn skipped_text(&self) -> String {
        if self.has_no_keys {
            return "the JWK Set has no `keys`".to_owned();
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.skipped.iter().for_each(|reason| *counts.entry(reason).or_default() += 1);
        let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        if counts.is_empty() { String::new() } else { format!("left out: {}", counts.join(", ")) }
    }

    /// Returns whether one of the keys verifies the signature of `token`. If not, the issuer may have new keys, also under the
    /// same `kid`. Returns true for a token that no new key would verify: not a signed JWT, or of an unsupported algorithm.
    #[must_use]
    pub fn verifies(&self, token: &str) -> bool {
        let Ok(parsed) = header::parse(token) else { return true };
        let Ok(algorithm) = parsed.header.alg.parse::<Algorithm>() else { return true };
        let kid = parsed.header.kid.as_deref().filter(|_| self.has_kids);
        let is_candidate = |key: &&Key| {
            (kid.is_none() || key.kid.as_deref() == kid)
                && key.algorithms.contains(&algorithm)
                && key.weakness.is_none()
        };
        let mut candidates = self.keys.iter().filter(is_candidate);
        candidates.any(|key| key.verifies(parsed.signature, parsed.signing_input.as_bytes(), algorithm))
    }

    /// Returns the keys, for display.
    pub fn summaries(&self) -> impl Iterator<Item = KeySummary> + '_ {
        self.keys.iter().map(|key| KeySummary {
            kid: key.kid.clone(),
            kty: key.kty,
            algorithms: key.algorithms.to_vec(),
            weakness: key.weakness,
        })
    }

    /// Returns the same in parentheses, as the end of a message.
    #[must_use]
    pub fn skipped_suffix(&self) -> String {
        let text = self.skipped_text();
        if text.is_empty() { text } else { format!(" ({text})") }
    }

    /// Returns the keys that may have signed a token with `kid` and `algorithm`, in the set's order.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Vec<&Key>, Reason> {
        let deny = |code, message: String| Err(Reason::new(code, message));
        let kid = kid.filter(|_| self.has_kids);
        let matching: Vec<&Key> = self.keys.iter().filter(|k| kid.is_none() || k.kid.as_deref() == kid).collect();
        let shown = kid.map(quoted).unwrap_or_default();
        if matching.is_empty() {
            return deny(
                ReasonCode::UnknownKey,
                match kid {
                    Some(_) => {
                        format!("key {shown} is not among the {} trusted keys{}", self.len(), self.skipped_suffix())
                    }
                    None => format!("there are no trusted keys{}", self.skipped_suffix()),
                },
            );
        }
        let usable: Vec<&Key> = matching.into_iter().filter(|k| k.algorithms.contains(&algorithm)).collect();
        if usable.is_empty() {
            return match kid {
                Some(_) => deny(ReasonCode::AlgorithmNotAllowed, format!("key {shown} is not for {algorithm}")),
                None => {
                    deny(ReasonCode::UnknownKey, format!("no trusted key is for {algorithm}{}", self.skipped_suffix()))
                }
            };
        }
        let strong: Vec<&Key> = usable.iter().copied().filter(|k| k.weakness.is_none()).collect();
        match (strong.as_slice(), kid) {
            ([], _) => {
                let weakness = usable.iter().find_map(|k| k.weakness).unwrap_or_default();
                deny(ReasonCode::WeakKey, format!("the token's key is too weak: {weakness}"))
            }
            ([_, _, ..], None) => deny(
                ReasonCode::UnknownKey,
                format!("the token has no `kid`, and {} trusted keys are for {algorithm}", strong.len()),
            ),
            _ => Ok(strong),
        }
    }
}

#[cfg(test)]
mod tests;
