//! A session: what a login stores for a profile.

mod history;
mod stored;

use serde::{Deserialize, Serialize};

pub use history::SessionHistory;
pub use stored::SessionFormatError;

use super::{ErrorCode, Grant, IssuerUrl, Profile, TokenSet, TokenTarget};
use crate::clock::UnixTime;
use crate::secret::Secret;
use crate::text::excerpt;

/// The version of a stored session. A refresh is stored only over the generation that it read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Random for each login, so that two logins are never confused.
    pub login: String,
    /// The number of refreshes since that login.
    pub number: u64,
}

impl Generation {
    /// Returns the generation that a refresh of this one stores.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { login: self.login.clone(), number: self.number.saturating_add(1) }
    }
}

/// The user of a session, from a verified ID token or userinfo, else from the claims of the access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The `sub` claim, unique at its issuer.
    pub sub: String,
    /// A display name ([`Subject::display_name`]).
    pub name: Option<String>,
}

impl Subject {
    /// Returns the display name among the claims about a user, which `claim` returns: the first that is not blank of
    /// `preferred_username`, `email` and `name` (OpenID Connect Core 1.0, section 5.1).
    pub fn display_name<'a>(claim: impl FnMut(&'static str) -> Option<&'a str>) -> Option<String> {
        let mut names = ["preferred_username", "email", "name"].into_iter().filter_map(claim);
        names.find(|name| !name.trim().is_empty()).map(|name| excerpt(name, 255))
    }
}

/// A failed refresh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshFailure {
    /// When it failed.
    pub at: UnixTime,
    /// How many refreshes in a row have failed, this one included.
    #[serde(default)]
    pub failures: u32,
    /// How many of them the issuer refused in its own words (`IssuerError::is_refusal`).
    #[serde(default)]
    pub refusals: u32,
    /// Whether it was for another audience, scope or resource: a refusal of that does not concern the session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_target: bool,
    /// What failed; a caller that shares the failure exits with its exit code.
    pub code: ErrorCode,
    /// One line for people, without secrets.
    pub message: String,
    /// When the issuer allows the next attempt (`Retry-After`, RFC 9110, section 10.2.3).
    pub retry_at: Option<UnixTime>,
}

/// A token of the same session for another audience, scope or resource.
#[derive(Clone, Debug)]
pub struct AnotherToken {
    /// The target it was issued for.
    pub target: TokenTarget,
    /// The token. Never holds a refresh token: that is the session's own.
    pub tokens: TokenSet,
    /// Whether it has taken the place of an earlier one.
    pub is_replacement: bool,
}

/// A session as stored.
#[derive(Clone, Debug)]
pub struct Session {
    /// The version of the session.
    pub generation: Generation,
    /// The issuer of the tokens. A profile with another issuer does not use the session.
    pub issuer: IssuerUrl,
    /// The client that the tokens were issued to.
    pub client_id: String,
    /// The grant of the login, which decides how the session is refreshed.
    pub grant: Grant,
    /// The user, if known.
    pub subject: Option<Subject>,
    /// The tokens for the profile's own request.
    pub tokens: TokenSet,
    /// Tokens for other requests, the newest last; at most [`Session::MAX_OTHERS`].
    pub others: Vec<AnotherToken>,
    /// A confidential client's secret.
    pub client_secret: Option<Secret>,
    /// The private key that its tokens are bound to (DPoP, RFC 9449), if they are.
    pub dpop_key: Option<Secret>,
    /// The resources that the login requested (RFC 8707), to which the refresh token is limited. Empty if it requested
    /// none; the issuer then decides.
    pub resources: Vec<String>,
    /// When the login finished.
    pub logged_in_at: UnixTime,
    /// When it was last refreshed.
    pub refreshed_at: Option<UnixTime>,
    /// Set before a refresh token is sent, and cleared once the response is stored. While it is set, the issuer may or may
    /// not have used the token up.
    pub refreshing_since: Option<UnixTime>,
    /// The inode number of the lock file that the process held that set `refreshing_since`. As long as it holds the lock,
    /// no other file has this number: with another lock file, its refresh may still be running.
    pub refreshing_lock: Option<u64>,
    /// Whether refreshes bring a new refresh token; `None` before the first refresh. If they do not, the issuer accepts the
    /// stored one as often as it is sent.
    pub rotates: Option<bool>,
    /// Whether the last refresh brought no valid ID token, so that an older one is stored.
    pub has_older_id_token: bool,
    /// Whether the issuer's metadata lists token exchange (RFC 8693), as last fetched.
    pub offers_exchange: bool,
    /// What is known of its end from the past.
    pub history: SessionHistory,
    /// The last failed refresh, unless a later one succeeded.
    pub last_failure: Option<RefreshFailure>,
    /// Set when the issuer has ended the session (`invalid_grant`). The access token may be unexpired.
    pub ended: Option<RefreshFailure>,
    /// Set when a logout begins. No token is served from then on; the session is stored until its tokens are revoked, so
    /// that a logout that was interrupted can be repeated.
    pub logged_out: bool,
    /// The session of another issuer or client that this one replaces when the profile is saved. Until then the profile
    /// uses the old one.
    pub replaces: Option<Box<Session>>,
}

impl Session {
    /// Creates the session of a login: without a subject, a client secret, a key or resources, and never refreshed.
    #[must_use]
    pub fn new(
        generation: Generation,
        issuer: IssuerUrl,
        client_id: String,
        grant: Grant,
        tokens: TokenSet,
        logged_in_at: UnixTime,
    ) -> Self {
        Self {
            generation,
            issuer,
            client_id,
            grant,
            subject: None,
            tokens,
            others: Vec::new(),
            client_secret: None,
            dpop_key: None,
            resources: Vec::new(),
            logged_in_at,
            refreshed_at: None,
            refreshing_since: None,
            rotates: None,
            has_older_id_token: false,
            offers_exchange: false,
            history: SessionHistory::default(),
            last_failure: None,
            ended: None,
            refreshing_lock: None,
            logged_out: false,
            replaces: None,
        }
    }

    /// Returns whether it is of the profile's issuer and client. The profile may have been changed since the login.
    #[must_use]
    pub fn belongs_to(&self, profile: &Profile) -> bool {
        profile.has_client(&self.issuer, &self.client_id)
    }

    /// Returns whether both are of one issuer and client.
    #[must_use]
    pub fn has_same_client(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.client_id == other.client_id
    }

    /// How many tokens for other requests are stored; the oldest is dropped first.
    pub const MAX_OTHERS: usize = 32;

    /// Stores the access token of a refresh for `target` in the place of the one before. Of the tokens for other targets the
    /// oldest is dropped beyond [`Session::MAX_OTHERS`]. The refresh token and the ID token stay as they are.
    pub fn apply_tokens(&mut self, target: &TokenTarget, mut tokens: TokenSet) {
        if target.is_plain() {
            // A reply without `scope` grants the same scope as before (RFC 6749, section 6).
            let scope = tokens.scope.or_else(|| self.tokens.scope.take());
            let (refresh_token, id_token) = (self.tokens.refresh_token.take(), self.tokens.id_token.take());
            let refresh_expires_at = self.tokens.refresh_expires_at;
            self.tokens = TokenSet { scope, refresh_token, refresh_expires_at, id_token, ..tokens };
            return;
        }
        tokens.fill_scope(&target.scopes);
        let is_replacement = self.token_for(target).is_some();
        self.others.retain(|other| other.target != *target);
        let excess = (self.others.len() + 1).saturating_sub(Self::MAX_OTHERS);
        self.others.drain(..excess);
        self.others.push(AnotherToken { target: target.clone(), tokens, is_replacement });
    }

    /// Returns the stored token for `target`: the session's own or another; `None` if there is none.
    #[must_use]
    pub fn token_for(&self, target: &TokenTarget) -> Option<&TokenSet> {
        if target.is_plain() {
            return Some(&self.tokens);
        }
        self.others.iter().find(|other| other.target == *target).map(|other| &other.tokens)
    }

    /// Returns when the token for `target` took the place of the one before; `None` if it is the first one.
    #[must_use]
    pub fn replaced_at(&self, target: &TokenTarget) -> Option<UnixTime> {
        if target.is_plain() {
            return self.refreshed_at;
        }
        let other = self.others.iter().find(|other| other.target == *target && other.is_replacement);
        other.map(|other| other.tokens.obtained_at)
    }

    /// Returns the target to request from the issuer for `target`. A login for one resource is refreshed for that one:
    /// some issuers return a token for it only if the token request repeats it (RFC 8707, section 2.2). Of several the
    /// issuer chooses.
    #[must_use]
    pub fn request_for(&self, target: &TokenTarget) -> TokenTarget {
        let mut request = target.clone();
        if let ([one], [], None) = (&self.resources[..], &target.resources[..], &target.audience) {
            request.resources.push(one.clone());
        }
        request
    }

    /// Returns a resource of `target` that the login did not request, if the login requested any.
    #[must_use]
    pub fn not_granted<'a>(&self, target: &'a TokenTarget) -> Option<&'a str> {
        let granted = |resource: &String| self.resources.is_empty() || self.resources.contains(resource);
        target.resources.iter().find(|resource| !granted(resource)).map(String::as_str)
    }

    /// Returns whether the token for `target` is requested by token exchange (RFC 8693), which sends the access token, and
    /// not with the refresh token: the issuer offers it, and the target is a service that the login did not request. Without
    /// a user every target is requested in the same way.
    #[must_use]
    pub fn is_exchanged(&self, target: &TokenTarget) -> bool {
        let was_requested = |resource: &String| self.resources.contains(resource);
        let is_another = target.audience.is_some() || !target.resources.iter().all(was_requested);
        self.offers_exchange && is_another && !self.grant.is_unattended()
    }

    /// Returns whether its refresh token is also that of `other`.
    #[must_use]
    pub fn has_refresh_token_of(&self, other: &Self) -> bool {
        let (own, others) = (&self.tokens.refresh_token, &other.tokens.refresh_token);
        own.as_ref().map(Secret::expose) == others.as_ref().map(Secret::expose)
    }

    /// Returns whether a new access token can be requested without a login. A client logs in again by itself with its
    /// secret, or with its key, which is not part of the session, and a workload with a new identity token.
    #[must_use]
    pub fn can_refresh(&self) -> bool {
        self.ended.is_none() && (self.grant.is_unattended() || self.tokens.refresh_token.is_some())
    }
}

#[cfg(test)]
mod tests;
