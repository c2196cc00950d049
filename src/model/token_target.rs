//! What a token is for: its audience, scopes and resources.

use serde::{Deserialize, Serialize};

/// The target of a token beyond the profile's own request. Tokens for different targets are stored separately.
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
    /// Creates a target with sorted scopes and resources without duplicates, so that equal requests compare as equal.
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

    /// Returns whether this is the profile's own request.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}
