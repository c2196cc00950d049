//! Time: what hour it is, how much has passed, and waiting. Nothing else reads a clock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment in whole seconds since 1970-01-01T00:00:00Z, RFC 7519's NumericDate without its fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// This moment and `duration` more, in whole seconds; stops at the end of representable time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }

    /// How long until `later`; zero where it has passed.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, such as `2026-01-31T12:00:00Z`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(moment) => write!(f, "{moment}"),
            Err(_) => write!(f, "{} seconds after 1970", self.0),
        }
    }
}

/// How long this run of the machine has lasted, sleep included, whatever anybody set the wall clock to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// Which run of the machine.
    pub boot: String,
    /// For how many whole seconds.
    pub seconds: u64,
}

impl Uptime {
    /// How much later `later` is, in the same run of the machine.
    #[must_use]
    pub fn since(&self, later: &Self) -> Duration {
        Duration::from_secs(later.seconds.saturating_sub(self.seconds))
    }
}

/// A wait in progress.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock, which a user or an NTP daemon may set back.
    fn now(&self) -> UnixTime;

    /// How long the machine has been up; `None` where the system does not tell.
    fn uptime(&self) -> Option<Uptime> {
        None
    }

    /// A clock that only goes forward, for measuring waits.
    fn monotonic(&self) -> Instant;

    /// Waits without holding a thread. Needs a tokio runtime.
    fn sleep(&self, duration: Duration) -> Sleep;

    /// Waits until the wall clock shows `moment`: also where the machine slept past it. Comes back early when somebody
    /// sets the clock, and may for other reasons: look at the clock again. Needs a tokio runtime.
    fn until(&self, moment: UnixTime) -> Sleep;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[allow(clippy::disallowed_methods, reason = "the room that the ban points to")]
impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
        };
        UnixTime(seconds)
    }

    #[cfg(target_os = "linux")]
    fn uptime(&self) -> Option<Uptime> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Some(Uptime { boot: boot.trim_end().to_owned(), seconds: u64::try_from(up.tv_sec).ok()? })
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }

    fn until(&self, moment: UnixTime) -> Sleep {
        let look = Box::pin(tokio::time::sleep(self.now().until(moment).min(MAX_LOOK)));
        #[cfg(target_os = "linux")]
        if let Some(alarm) = alarm(moment) {
            return Box::pin(async move {
                #[allow(
                    deprecated,
                    reason = "its successor is an unsafe function, and an owned descriptor is what it needs"
                )]
                let alarm = tokio::io::unix::AsyncFd::new(alarm);
                match alarm {
                    Ok(alarm) => drop(alarm.readable().await),
                    Err(_) => look.await,
                }
            });
        }
        // A timer of the runtime stands still while the machine sleeps: look at the clock now and then.
        look
    }
}

/// How long a wait for a moment goes on without a look at the clock, where the system has no alarm for it.
const MAX_LOOK: Duration = Duration::from_secs(10);

/// A descriptor that can be read once the wall clock shows `moment`, or was set.
#[cfg(target_os = "linux")]
fn alarm(moment: UnixTime) -> Option<std::os::fd::OwnedFd> {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let alarm = timerfd_create(TimerfdClockId::Realtime, flags).ok()?;
    let at = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        // A nanosecond more: zero would take the alarm back.
        it_value: Timespec { tv_sec: moment.0.max(0), tv_nsec: 1 },
    };
    timerfd_settime(&alarm, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &at).ok()?;
    Some(alarm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_rfc_3339_and_survives_the_absurd() {
        assert_eq!(UnixTime(1_700_000_000).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(UnixTime(i64::MAX).to_string(), "9223372036854775807 seconds after 1970");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(UnixTime(i64::MAX).plus(Duration::from_secs(5)), UnixTime(i64::MAX));
        assert_eq!(UnixTime(10).until(UnixTime(4)), Duration::ZERO);
        assert_eq!(UnixTime(i64::MIN).until(UnixTime(i64::MAX)), Duration::from_secs(i64::MAX as u64));
    }
}
