//! What refreshes and the session before have shown of how long a session lasts.

use serde::{Deserialize, Serialize};

/// What is known from the past of how long a session lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionHistory {
    /// Whether refreshes extend the validity of the refresh token; `None` if unknown.
    pub refreshes_extend: Option<bool>,
    /// How many seconds the session before lasted, from its login to its last refresh, if the issuer ended it after that.
    pub previous_lasted: Option<u64>,
}

impl SessionHistory {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
