//! How long a token is still valid.

use std::time::Duration;

use super::request::MinTtl;
use crate::clock::UnixTime;
use crate::model::TokenSet;

/// When a token was obtained and when it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// When it was obtained, by this machine's clock.
    pub obtained_at: UnixTime,
    /// When it expires; `None` if unknown.
    pub expires_at: Option<UnixTime>,
}

impl From<&TokenSet> for Validity {
    fn from(tokens: &TokenSet) -> Self {
        Self { obtained_at: tokens.obtained_at, expires_at: tokens.expires_at }
    }
}

/// The state of a token at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Valid for as long as required.
    Fresh,
    /// Valid, but for less.
    ExpiresSoon,
    /// Expired.
    Expired,
}

/// A timestamp further in the future than this was written before the clock was set back.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// Returns whether the clock was set back since `time` was written.
#[must_use]
pub fn is_from_the_future(time: UnixTime, now: UnixTime) -> bool {
    time > now.plus(CLOCK_SLACK)
}

/// Returns the [`MinTtl::Default`] of a token with this lifetime.
#[must_use]
pub fn default_min_ttl(lifetime: Duration) -> Duration {
    Duration::from_secs(60).min(lifetime / 2)
}

impl Validity {
    /// Returns the token's state at `now` for a caller that requires `min_ttl`. A token without a known expiry is
    /// fresh.
    #[must_use]
    pub fn freshness(&self, now: UnixTime, min_ttl: MinTtl) -> Freshness {
        let Some(expires_at) = self.expires_at else { return Freshness::Fresh };
        let left = now.until(expires_at);
        if left.is_zero() {
            return Freshness::Expired;
        }
        // How long the token is still valid is unknown.
        if is_from_the_future(self.obtained_at, now) {
            return Freshness::ExpiresSoon;
        }
        let lifetime = self.obtained_at.until(expires_at);
        let required = match min_ttl {
            MinTtl::Default => default_min_ttl(lifetime),
            MinTtl::AtLeast(required) if required >= lifetime => lifetime / 2,
            MinTtl::AtLeast(required) => required,
        };
        if left < required { Freshness::ExpiresSoon } else { Freshness::Fresh }
    }

    pub(super) fn is_expired(&self, now: UnixTime) -> bool {
        self.freshness(now, MinTtl::Default) == Freshness::Expired
    }
}
