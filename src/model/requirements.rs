//! What a profile requires of a token before it is accepted offline, in addition to the checks of every token.

use std::time::Duration;

use super::keyword::keywords;

keywords! {
    /// Which of a session's tokens is verified.
    pub enum DecidingToken {
        /// The access token.
        AccessToken = "access_token",
        /// The ID token: for issuers whose access tokens are opaque.
        IdToken = "id_token",
    }
}

/// What a profile requires. `verify`, `exec` and the agent all apply it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Which token is verified.
    pub token: DecidingToken,
    /// Those of `iss` and `aud` that an access token may omit. A claim that is present must still be valid.
    pub optional_claims: Vec<String>,
    /// How long ago the issuer's last response may have been.
    pub max_offline: Option<Duration>,
    /// How old fetched keys may be; see [`Requirements::keys_max_age`].
    pub keys_max_age: Option<Duration>,
    /// How long ago the user may have signed in.
    pub max_auth_age: Option<Duration>,
    /// Scopes that must all be granted.
    pub scopes: Vec<String>,
    /// Values that must all be in the claim `roles` (RFC 9068, section 2.2.3.1).
    pub roles: Vec<String>,
    /// Claims that must have a value, as name and value.
    pub claims: Vec<(String, String)>,
    /// Authentication context classes, of which the token must have one.
    pub acr: Vec<String>,
    /// Authentication methods that must all have been used.
    pub amr: Vec<String>,
}

impl Requirements {
    /// The claims that may be optional. Every other claim that is required decides whether the token is valid.
    pub const OPTIONAL_CLAIMS: [&str; 2] = ["iss", "aud"];

    /// How old fetched keys may be by default: thirty days. A key that the issuer has withdrawn is rejected after that
    /// time, and a laptop that was offline for a month has to connect once.
    pub const DEFAULT_KEYS_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Returns how old fetched keys may be.
    #[must_use]
    pub fn keys_max_age(&self) -> Duration {
        self.keys_max_age.unwrap_or(Self::DEFAULT_KEYS_MAX_AGE)
    }

    /// Returns the claims with their required values, roles included.
    pub fn required_claims(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let roles = self.roles.iter().map(|role| ("roles".to_owned(), role.clone()));
        roles.chain(self.claims.iter().cloned())
    }
}
