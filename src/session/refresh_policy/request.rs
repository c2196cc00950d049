//! A request for a token.

use std::time::Duration;

use crate::model::TokenTarget;

/// Which of a session's tokens is requested.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestedToken {
    /// The access token for a target; the plain target is the profile's own.
    Access(TokenTarget),
    /// The ID token (OpenID Connect Core 1.0, section 2).
    Id,
}

/// The remaining lifetime that a caller requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MinTtl {
    /// One minute, or half the lifetime if that is shorter.
    Default,
    /// At least this long, or half the lifetime if the whole lifetime is shorter: refreshing again would not help.
    AtLeast(Duration),
}

/// How recent the token has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Demand {
    /// Valid for this long. An unexpired token with less is still served when a refresh fails.
    ValidFor(MinTtl),
    /// Newer than the one the caller has seen. A refresh that ends while the caller waits satisfies it.
    New,
    /// Valid for this long, else as [`Demand::New`].
    NewUnless(MinTtl),
}

impl Demand {
    /// Returns whether the caller requests a refresh, not a token: no valid token is served if it fails.
    #[must_use]
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::New | Self::NewUnless(_))
    }
}

/// A request for a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenRequest {
    /// Which token.
    pub token: RequestedToken,
    /// How recent it has to be.
    pub demand: Demand,
}

impl TokenRequest {
    /// Creates a request for the profile's own access token.
    #[must_use]
    pub fn own(demand: Demand) -> Self {
        Self { token: RequestedToken::Access(TokenTarget::default()), demand }
    }

    /// Creates a request for the access token for `target`.
    #[must_use]
    pub fn access(target: TokenTarget, min_ttl: Option<MinTtl>) -> Self {
        let demand = Demand::ValidFor(min_ttl.unwrap_or(MinTtl::Default));
        Self { token: RequestedToken::Access(target), demand }
    }

    /// Creates a request for a new access token for `target`.
    #[must_use]
    pub fn new_access(target: TokenTarget) -> Self {
        Self { token: RequestedToken::Access(target), demand: Demand::New }
    }

    /// Creates a request for the ID token. By default it only has to be unexpired: issuers rarely send a new one early.
    #[must_use]
    pub fn id_token(min_ttl: Option<MinTtl>) -> Self {
        let demand = Demand::ValidFor(min_ttl.unwrap_or(MinTtl::AtLeast(Duration::ZERO)));
        Self { token: RequestedToken::Id, demand }
    }

    /// Returns the target to request from the issuer: refreshing the profile's own access token also brings the ID
    /// token.
    #[must_use]
    pub fn target(&self) -> TokenTarget {
        match &self.token {
            RequestedToken::Access(target) => target.clone(),
            RequestedToken::Id => TokenTarget::default(),
        }
    }
}
