//! The tokens that a token endpoint issued, with the time at which they expire.

use crate::clock::UnixTime;
use crate::secret::Secret;

/// A successful token response (RFC 6749, section 5.1), with the lifetime converted to a time.
#[derive(Clone, Debug)]
pub struct TokenSet {
    /// The access token, a JWT (RFC 9068) or opaque.
    pub access_token: Secret,
    /// As the issuer spells it, usually `Bearer`. Compared case-insensitively.
    pub token_type: String,
    /// The refresh token, if the issuer returned one.
    pub refresh_token: Option<Secret>,
    /// The OpenID Connect ID token, if the issuer returned one. Verified before a `TokenSet` is stored.
    pub id_token: Option<Secret>,
    /// When the request for these tokens was sent.
    pub obtained_at: UnixTime,
    /// The issuer's time when it responded, if it has stated it. Not stored.
    pub issuer_time: Option<UnixTime>,
    /// When the access token expires, counted from `obtained_at`; `None` if unknown.
    pub expires_at: Option<UnixTime>,
    /// When the refresh token expires, if the issuer has stated it.
    pub refresh_expires_at: Option<UnixTime>,
    /// The scope granted, space-separated (RFC 6749, section 3.3).
    pub scope: Option<String>,
}

impl TokenSet {
    /// Returns whether it is a bearer token (RFC 6750). A client must not use a token of a type that it does not understand
    /// (RFC 6749, section 7.1).
    #[must_use]
    pub fn is_bearer(&self) -> bool {
        canonical_type(&self.token_type) == "Bearer"
    }

    /// Returns whether it is bound to a key, of which each request needs a proof (DPoP; RFC 9449, section 5).
    #[must_use]
    pub fn is_bound(&self) -> bool {
        canonical_type(&self.token_type) == DPOP_TYPE
    }

    /// Returns how long the access token is still valid, in seconds; `None` if unknown.
    #[must_use]
    pub fn expires_in(&self, now: UnixTime) -> Option<u64> {
        self.expires_at.map(|end| now.until(end).as_secs())
    }

    /// Fills in the scope of a reply without `scope`, which grants the requested one (RFC 6749, section 5.1).
    pub fn fill_scope(&mut self, requested: &[String]) {
        if self.scope.is_none() && !requested.is_empty() {
            self.scope = Some(requested.join(" "));
        }
    }
}

/// The type of tokens that are bound to a key (RFC 9449, section 5).
const DPOP_TYPE: &str = "DPoP";

/// Returns whether tokens of this type, in any case, are bound to a key: each request with one needs a proof.
#[must_use]
pub fn is_dpop(token_type: &str) -> bool {
    token_type.eq_ignore_ascii_case(DPOP_TYPE)
}

/// Returns `Bearer` for `bearer` in any case (RFC 6749, section 5.1) and for the `BearerToken` of some issuers, `DPoP` for that
/// in any case, and any other type unchanged.
#[must_use]
pub fn canonical_type(token_type: &str) -> &str {
    let letters = token_type.replace(['-', '_'], "");
    match ["bearer", "bearertoken"].iter().any(|name| letters.eq_ignore_ascii_case(name)) {
        true => "Bearer",
        false if is_dpop(token_type) => DPOP_TYPE,
        false => token_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_has_several_spellings() {
        for name in ["Bearer", "bearer", "BEARER", "BearerToken", "bearer_token", "Bearer-Token"] {
            assert_eq!(canonical_type(name), "Bearer", "{name}");
        }
        for name in ["DPoP", "dpop", "DPOP"] {
            assert_eq!(canonical_type(name), "DPoP", "{name}");
            assert!(is_dpop(name), "{name}");
        }
        for name in ["mac", "N_A", "Bearer2", "BearerDPoP", ""] {
            assert_eq!(canonical_type(name), name);
            assert!(!is_dpop(name), "{name}");
        }
    }
}
