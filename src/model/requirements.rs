//! What a profile demands of a token before it is granted offline, beyond what every token must be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which of a session's tokens decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidingToken {
    /// The access token.
    #[default]
    AccessToken,
    /// The ID token: for issuers whose access tokens are opaque, and say nothing without asking them.
    IdToken,
}

impl DecidingToken {
    /// The word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::IdToken => "id_token",
        }
    }
}

/// What a profile demands. Obeyed by `verify`, by `exec` and by the agent alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Which token decides.
    pub token: DecidingToken,
    /// Of `iss` and `aud` those that an access token may lack: for servers that sign without saying who and for whom. One
    /// that is there must be right.
    pub optional_claims: Vec<String>,
    /// How long the issuer may not have answered.
    pub max_offline: Option<Duration>,
    /// How old fetched keys may be; [`Requirements::KEYS_MAX_AGE`] where nothing is said.
    pub keys_max_age: Option<Duration>,
    /// How long ago the user may have signed in.
    pub max_auth_age: Option<Duration>,
    /// Scopes that must all be granted.
    pub scopes: Vec<String>,
    /// Values that must all be in the claim `roles` (RFC 9068, section 2.2.3.1).
    pub roles: Vec<String>,
    /// Claims that must have a value, each as `NAME=VALUE`.
    pub claims: Vec<String>,
    /// Authentication context classes, of which one is needed.
    pub acr: Vec<String>,
    /// Authentication methods that must all have been used.
    pub amr: Vec<String>,
}

impl Requirements {
    /// The claims that can be made optional; of all others that are needed the decision itself depends.
    pub const OPTIONAL: [&'static str; 2] = ["iss", "aud"];

    /// How old fetched keys may be by default: thirty days. An issuer that withdraws a key that was stolen is heard in
    /// that time, and a laptop that was away for a month has to be online once.
    pub const KEYS_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

    /// How old fetched keys may be.
    #[must_use]
    pub fn keys_max_age(&self) -> Duration {
        self.keys_max_age.unwrap_or(Self::KEYS_MAX_AGE)
    }

    /// The claims with their values; those for roles are among them.
    pub fn wanted_claims(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let roles = self.roles.iter().map(|role| ("roles".to_owned(), role.clone()));
        let split = |claim: &String| claim.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        roles.chain(self.claims.iter().filter_map(split))
    }
}
