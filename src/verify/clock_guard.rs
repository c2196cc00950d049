//! Notices a wall clock that was set back, by the latest moments known to have been.

use std::time::Duration;

use super::reason::{Reason, ReasonCode};
use crate::clock::{UnixTime, Uptime};
use crate::model::ClockMark;

/// How far the clock may be behind the latest moment known: a correction by a time server is smaller.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// The reason for a denial where the clock shows less than it can be: by what it showed before, by how long the machine
/// has been up since, or by what the issuer's clock showed.
#[must_use]
pub fn clock_rollback<'m>(
    marks: impl Iterator<Item = &'m ClockMark>,
    now: UnixTime,
    uptime: Option<&Uptime>,
) -> Option<Reason> {
    let earliest = marks.map(|mark| mark.earliest_now(uptime)).max()?;
    (earliest > now.plus(CLOCK_TOLERANCE)).then(|| {
        let message = format!("the clock shows {now}, and it was {earliest} already: it was set back");
        Reason::new(ReasonCode::ClockRollback, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_further_back_than_a_correction_is_told() {
        let mark = |latest, seconds| ClockMark {
            latest: UnixTime(latest),
            uptime: Some(Uptime { boot: "a".into(), seconds }),
        };
        let up = Uptime { boot: "a".into(), seconds: 1000 };
        // It was 10,000 when the machine had been up for 900 seconds: it is 10,100 at the least.
        for (now, told) in [(9799, true), (9800, false), (10_100, false), (20_000, false), (i64::MIN, true)] {
            let reason = clock_rollback([mark(500, 0), mark(10_000, 900)].iter(), UnixTime(now), Some(&up));
            assert_eq!(reason.map(|reason| reason.code), told.then_some(ReasonCode::ClockRollback), "{now}");
        }
        let after_reboot = Uptime { boot: "b".into(), seconds: 5 };
        for (now, told) in [(9699, true), (9700, false)] {
            let reason = clock_rollback([mark(10_000, 900)].iter(), UnixTime(now), Some(&after_reboot));
            assert_eq!(reason.is_some(), told, "{now}");
        }
        assert_eq!(clock_rollback([].iter(), UnixTime(0), None), None);
    }
}
