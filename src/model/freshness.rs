//! Whether a token can be handed out as it is, should be refreshed first, or has ended.

use std::time::Duration;

use super::TokenSet;
use crate::clock::UnixTime;

/// How a token stands at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Enough life is left.
    Fresh,
    /// Still valid, but with less life left than was asked for.
    Due,
    /// Over.
    Expired,
}

/// How much life a caller wants a token to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MinTtl {
    /// A minute, or half the token's life where that is shorter: a token that lives 30 seconds is not refreshed at each
    /// call.
    Default,
    /// What the caller said. A token that never lives that long is refreshed when half its life is over, since asking
    /// again would bring no more.
    AtLeast(Duration),
}

/// How far the clock may be set back before a token is taken to be from the future.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// How `tokens`' access token stands at `now`. One whose end the issuer did not tell is fresh.
#[must_use]
pub fn freshness(tokens: &TokenSet, now: UnixTime, min_ttl: MinTtl) -> Freshness {
    let Some(expires_at) = tokens.expires_at else {
        return Freshness::Fresh;
    };
    let left = now.until(expires_at);
    if left.is_zero() {
        return Freshness::Expired;
    }
    // A token from the future was got before the clock was set back: how long it lives, the clock no longer says.
    if tokens.obtained_at > now.plus(CLOCK_SLACK) {
        return Freshness::Due;
    }
    let life = tokens.obtained_at.until(expires_at);
    let wanted = match min_ttl {
        MinTtl::Default => Duration::from_secs(60).min(life / 2),
        MinTtl::AtLeast(asked) if asked >= life => life / 2,
        MinTtl::AtLeast(asked) => asked,
    };
    if left < wanted { Freshness::Due } else { Freshness::Fresh }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn tokens(life: Option<i64>) -> TokenSet {
        TokenSet {
            access_token: Secret::new("t".into()),
            token_type: "Bearer".into(),
            refresh_token: None,
            id_token: None,
            obtained_at: UnixTime(1000),
            expires_at: life.map(|l| UnixTime(1000 + l)),
            scope: None,
        }
    }

    #[test]
    fn by_default_a_minute_or_half_the_life() {
        let hour = tokens(Some(3600));
        for (now, expected) in
            [(4600, Freshness::Expired), (4599, Freshness::Due), (4541, Freshness::Due), (4540, Freshness::Fresh)]
        {
            assert_eq!(freshness(&hour, UnixTime(now), MinTtl::Default), expected, "{now}");
        }
        let short = tokens(Some(10));
        for (now, expected) in [(1005, Freshness::Fresh), (1006, Freshness::Due), (1010, Freshness::Expired)] {
            assert_eq!(freshness(&short, UnixTime(now), MinTtl::Default), expected, "{now}");
        }
    }

    #[test]
    fn what_the_caller_asks_for_is_kept_where_it_can_be() {
        let hour = tokens(Some(3600));
        let asked = MinTtl::AtLeast(Duration::from_secs(3000));
        assert_eq!(freshness(&hour, UnixTime(1600), asked), Freshness::Fresh);
        assert_eq!(freshness(&hour, UnixTime(1601), asked), Freshness::Due);
        let never = MinTtl::AtLeast(Duration::from_secs(7200));
        assert_eq!(freshness(&hour, UnixTime(1001), never), Freshness::Fresh);
        assert_eq!(freshness(&hour, UnixTime(2801), never), Freshness::Due);
    }

    #[test]
    fn no_known_end_is_fresh_and_a_clock_set_back_is_no_crash() {
        assert_eq!(freshness(&tokens(None), UnixTime(i64::MAX), MinTtl::Default), Freshness::Fresh);
        assert_eq!(freshness(&tokens(Some(600)), UnixTime(950), MinTtl::Default), Freshness::Fresh);
        for then in [UnixTime(939), UnixTime(i64::MIN)] {
            assert_eq!(freshness(&tokens(Some(600)), then, MinTtl::Default), Freshness::Due, "{then}");
        }
    }
}
