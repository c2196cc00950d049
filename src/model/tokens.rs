//! What a token endpoint gave, with the moment it ends.

use crate::clock::UnixTime;
use crate::secret::Secret;

/// A successful token response (RFC 6749, section 5.1), with the lifetime made a moment.
#[derive(Clone, Debug)]
pub struct TokenSet {
    /// The access token, a JWT (RFC 9068) or opaque.
    pub access_token: Secret,
    /// As the issuer wrote it, usually `Bearer`; compared without regard to case.
    pub token_type: String,
    /// What refreshes the session, where the issuer gave one.
    pub refresh_token: Option<Secret>,
    /// The OpenID Connect ID token, where the issuer gave one. Verified before a `TokenSet` is stored.
    pub id_token: Option<Secret>,
    /// When the request that brought these tokens was sent.
    pub obtained_at: UnixTime,
    /// When the access token expires, counted from `obtained_at`; `None` if unknown.
    pub expires_at: Option<UnixTime>,
    /// The scope granted, space-separated (RFC 6749, section 3.3).
    pub scope: Option<String>,
}

impl TokenSet {
    /// Returns whether the bearer of the access token may use it (RFC 6750). One of another type proves nothing by itself, and a
    /// client that does not understand the type must not use it (RFC 6749, section 7.1).
    #[must_use]
    pub fn is_bearer(&self) -> bool {
        canonical_type(&self.token_type) == "Bearer"
    }
}

/// `bearer` in any case is `Bearer` (RFC 6749, section 5.1); another type stays as the issuer wrote it.
#[must_use]
pub fn canonical_type(token_type: &str) -> &str {
    if token_type.eq_ignore_ascii_case("bearer") { "Bearer" } else { token_type }
}
