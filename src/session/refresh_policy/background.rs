//! When the agent refreshes a token by itself: before a caller with the default requirement would have to wait.

use std::time::Duration;

use super::request::{Demand, MinTtl};
use super::validity::{Validity, default_min_ttl, is_from_the_future};
use crate::clock::UnixTime;

/// The minimum age at which a token is refreshed, however short its lifetime.
const MIN_AGE: Duration = Duration::from_secs(2);

/// The smallest margin, in percent of [`MinTtl::Default`].
const MIN_PERCENT: u32 = 110;

/// How much the jitter adds to [`MIN_PERCENT`] at most.
const SPREAD: u32 = 40;

impl Validity {
    /// Returns when the token is to be refreshed in the background; `None` without a known expiry. `jitter` spreads tokens that
    /// would be due at the same moment.
    #[must_use]
    pub fn background_due_at(&self, now: UnixTime, jitter: u64) -> Option<UnixTime> {
        let expires_at = self.expires_at?;
        if is_from_the_future(self.obtained_at, now) {
            return Some(now);
        }
        let spread = u32::try_from(jitter % u64::from(SPREAD + 1)).unwrap_or(0);
        let due_at = expires_at.minus(margin(self.obtained_at.until(expires_at), spread));
        Some(due_at.max(self.obtained_at.plus(MIN_AGE)))
    }

    /// Returns what the background refresh requests: a token valid for longer than its margin, or a new one if no token is valid
    /// that long.
    #[must_use]
    pub fn background_demand(&self) -> Demand {
        let Some(expires_at) = self.expires_at else { return Demand::New };
        let lifetime = self.obtained_at.until(expires_at);
        let wanted = margin(lifetime, SPREAD) + Duration::from_secs(1);
        if wanted >= lifetime { Demand::New } else { Demand::ValidFor(MinTtl::AtLeast(wanted)) }
    }
}

/// Returns how long before its expiry a token is refreshed: 10 to 50 % earlier than a caller with the default requirement would
/// have to wait, so that sessions of the same moment are not refreshed at once.
fn margin(lifetime: Duration, spread: u32) -> Duration {
    let margin = default_min_ttl(lifetime) * (MIN_PERCENT + spread) / 100;
    // Rounded up to a whole second.
    Duration::from_secs(margin.as_secs() + u64::from(margin.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const OBTAINED_AT: UnixTime = UnixTime(1000);

    fn valid_for(seconds: u64) -> Validity {
        Validity { obtained_at: OBTAINED_AT, expires_at: Some(OBTAINED_AT.plus(Duration::from_secs(seconds))) }
    }

    fn due_in(seconds: u64, jitter: u64) -> Duration {
        OBTAINED_AT.until(valid_for(seconds).background_due_at(OBTAINED_AT, jitter).expect("an expiry"))
    }

    #[test]
    fn background_refresh_is_before_callers_wait_and_spread() {
        for jitter in 0..100 {
            let hour = due_in(3600, jitter).as_secs();
            assert!((3600 - 90..=3600 - 66).contains(&hour), "{hour}");
            let (five, two) = (due_in(5, jitter).as_secs(), due_in(2, jitter).as_secs());
            assert_eq!((five, two), (2, 2), "the minimum age");
            let callers = OBTAINED_AT.until(valid_for(3600).due_at(MinTtl::Default).expect("an expiry"));
            assert!(due_in(3600, jitter) < callers);
        }
        let spread: HashSet<Duration> = (0..100).map(|jitter| due_in(3600, jitter)).collect();
        assert!(spread.len() > 20);
    }

    #[test]
    fn token_that_is_due_in_the_background_does_not_meet_its_demand() {
        for lifetime in [5, 60, 119, 120, 121, 3600] {
            let validity = valid_for(lifetime);
            let Demand::ValidFor(required) = validity.background_demand() else { continue };
            let due_at = validity.due_at(required).expect("an expiry");
            for jitter in 0..100 {
                let at = validity.background_due_at(OBTAINED_AT, jitter).expect("an expiry");
                assert!(at >= due_at, "{lifetime}: {at:?} is before {due_at:?}");
            }
        }
    }
}
