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
pub(super) fn default_min_ttl(lifetime: Duration) -> Duration {
    Duration::from_secs(60).min(lifetime / 2)
}

impl Validity {
    /// Returns the token's state at `now` for a caller that requires `min_ttl`. A token without a known expiry is
    /// fresh.
    #[must_use]
    pub fn freshness(&self, now: UnixTime, min_ttl: MinTtl) -> Freshness {
        let (Some(expires_at), Some(due_at)) = (self.expires_at, self.due_at(min_ttl)) else {
            return Freshness::Fresh;
        };
        if now >= expires_at {
            Freshness::Expired
        } else if now >= due_at || is_from_the_future(self.obtained_at, now) {
            // How long a token from the future is still valid is unknown.
            Freshness::ExpiresSoon
        } else {
            Freshness::Fresh
        }
    }

    /// Returns from when on the token is not fresh any more for a caller that requires `min_ttl`; `None` without a known
    /// expiry.
    #[must_use]
    pub fn due_at(&self, min_ttl: MinTtl) -> Option<UnixTime> {
        let expires_at = self.expires_at?;
        let lifetime = self.obtained_at.until(expires_at);
        let required = match min_ttl {
            MinTtl::Default => default_min_ttl(lifetime),
            MinTtl::AtLeast(required) if required >= lifetime => lifetime / 2,
            MinTtl::AtLeast(required) => required,
        };
        // It is fresh as long as `required` is left. Times are whole seconds.
        let seconds = required.as_secs() + u64::from(required.subsec_nanos() > 0);
        Some(expires_at.minus(Duration::from_secs(seconds.saturating_sub(1))))
    }

    pub(super) fn is_expired(&self, now: UnixTime) -> bool {
        self.freshness(now, MinTtl::Default) == Freshness::Expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_fresh_until_it_is_due() {
        for (lifetime, min_ttl, due_in) in [
            (3600, MinTtl::Default, 3541),
            (5, MinTtl::Default, 3),
            (1, MinTtl::Default, 1),
            (3600, MinTtl::AtLeast(Duration::ZERO), 3600),
            (3600, MinTtl::AtLeast(Duration::from_secs(600)), 3001),
            (3600, MinTtl::AtLeast(Duration::from_millis(1500)), 3599),
            (60, MinTtl::AtLeast(Duration::MAX), 31),
            (0, MinTtl::Default, 0),
        ] {
            let obtained_at = UnixTime(1000);
            let validity = Validity { obtained_at, expires_at: Some(UnixTime(1000 + lifetime)) };
            let due_at = validity.due_at(min_ttl).expect("an expiry");
            assert_eq!(due_at.0 - obtained_at.0, due_in, "{lifetime} {min_ttl:?}");
            assert_ne!(validity.freshness(due_at, min_ttl), Freshness::Fresh, "{lifetime} {min_ttl:?}");
            let before = validity.freshness(UnixTime(due_at.0 - 1), min_ttl);
            assert!(before == Freshness::Fresh || lifetime == 0, "{lifetime} {min_ttl:?}");
        }
        let unknown = Validity { obtained_at: UnixTime(1000), expires_at: None };
        assert_eq!(unknown.due_at(MinTtl::Default), None);
    }
}
