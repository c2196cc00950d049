//! Detects a wall clock that was set back, by comparing it with the latest known times.

use std::time::Duration;

use super::reason::{Reason, ReasonCode};
use crate::clock::{UnixTime, Uptime};
use crate::model::ClockMark;

/// How far the clock may be behind the latest known time. Corrections by a time server are smaller.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Returns the reason for a denial if the clock is behind the latest known time: its own earlier time, how long the
/// machine has been running since, or the issuer's time.
#[must_use]
pub fn clock_rollback<'m>(
    marks: impl Iterator<Item = &'m ClockMark>,
    now: UnixTime,
    uptime: Option<&Uptime>,
) -> Option<Reason> {
    let earliest = marks.map(|mark| mark.earliest_now(uptime)).max()?;
    (earliest > now.plus(CLOCK_TOLERANCE)).then(|| {
        let message = format!("the clock was set back: it shows {now}, after {earliest}");
        Reason::new(ReasonCode::ClockRollback, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rollbacks_beyond_the_tolerance_are_reported() {
        let mark = |latest, seconds| ClockMark {
            latest: UnixTime(latest),
            uptime: Some(Uptime { boot: "a".into(), seconds }),
        };
        let up = Uptime { boot: "a".into(), seconds: 1000 };
        // It was 10,000 when the machine had been up for 900 seconds, so it is at least 10,100.
        for (now, reported) in [(9799, true), (9800, false), (10_100, false), (20_000, false), (i64::MIN, true)] {
            let reason = clock_rollback([mark(500, 0), mark(10_000, 900)].iter(), UnixTime(now), Some(&up));
            assert_eq!(reason.map(|reason| reason.code), reported.then_some(ReasonCode::ClockRollback), "{now}");
        }
        let after_reboot = Uptime { boot: "b".into(), seconds: 5 };
        for (now, reported) in [(9699, true), (9700, false)] {
            let reason = clock_rollback([mark(10_000, 900)].iter(), UnixTime(now), Some(&after_reboot));
            assert_eq!(reason.is_some(), reported, "{now}");
        }
        assert_eq!(clock_rollback([].iter(), UnixTime(0), None), None);
    }
}
