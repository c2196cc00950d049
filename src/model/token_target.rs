//! What a token is for: its audience, scopes and resources.

use serde::{Deserialize, Serialize};

/// The target of a token beyond the profile's own request. Tokens for different targets are stored apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenTarget {
    /// The `audience` parameter.
    pub audience: Option<String>,
    /// The scopes, sorted.
    pub scopes: Vec<String>,
    /// The resource indicators (RFC 8707), sorted.
    pub resources: Vec<String>,
}

impl TokenTarget {
    /// A request with its scopes and resources in order and without repetition, so that the same is asked for once.
    #[must_use]
    pub fn new(audience: Option<String>, scopes: &[String], resources: &[String]) -> Self {
        let sorted = |list: &[String]| {
            let mut list: Vec<String> = list.iter().filter(|item| !item.is_empty()).cloned().collect();
            list.sort();
            list.dedup();
            list
        };
        Self { audience, scopes: sorted(scopes), resources: sorted(resources) }
    }

    /// Whether nothing but the profile's own request is meant.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}
