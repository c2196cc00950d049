//! The clocks: wall clock, uptime, monotonic clock and waiting. No other module reads a clock.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A time in whole seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// Adds `duration` in whole seconds. Saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }

    /// Subtracts `duration` in whole seconds. Saturates.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }

    /// Returns how long it is until `later`, or zero if that is earlier.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl UnixTime {
    /// Returns the time in RFC 3339 with the offset of the local time zone, such as `2026-01-31T13:00:00+01:00`.
    #[must_use]
    pub fn to_local(self) -> String {
        let local = |moment: jiff::Timestamp| moment.to_zoned_datetime(jiff::tz::TimeZone::system());
        match jiff::Timestamp::from_second(self.0) {
            Ok(moment) => local(moment).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            Err(_) => self.to_string(),
        }
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

/// How long ago the machine was booted, including suspend. Independent of the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// The ID of the boot.
    pub boot: String,
    /// Whole seconds since then.
    pub seconds: u64,
}

impl Uptime {
    /// Returns how much later `later` is. Both must have the same boot ID.
    #[must_use]
    pub fn until(&self, later: &Self) -> Duration {
        Duration::from_secs(later.seconds.saturating_sub(self.seconds))
    }
}

/// A wait in progress.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of time.
pub trait Clock: Send + Sync {
    /// Returns the wall clock's time, which may be set back.
    fn now(&self) -> UnixTime;

    /// Returns the uptime. `None` if the system does not provide it.
    fn uptime(&self) -> Option<Uptime> {
        None
    }

    /// Returns the monotonic clock's time, to measure durations.
    fn monotonic(&self) -> Instant;

    /// Waits for `duration`. Needs a tokio runtime.
    fn sleep(&self, duration: Duration) -> Sleep;

    /// Waits until the wall clock shows `time`, also across a suspend. May return early, for example when the clock is set, so
    /// the caller checks the clock again. Needs a tokio runtime.
    fn until(&self, time: UnixTime) -> Sleep;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[allow(clippy::disallowed_methods, reason = "the only module that reads clocks")]
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

    fn until(&self, time: UnixTime) -> Sleep {
        let poll = Box::pin(tokio::time::sleep(self.now().until(time).min(MAX_POLL)));
        #[cfg(target_os = "linux")]
        if let Some(alarm) = alarm(time) {
            return Box::pin(async move {
                #[allow(
                    deprecated,
                    reason = "its replacement is an unsafe function; this descriptor is owned, as that requires"
                )]
                let alarm = tokio::io::unix::AsyncFd::new(alarm);
                match alarm {
                    Ok(alarm) => drop(alarm.readable().await),
                    Err(_) => poll.await,
                }
            });
        }
        // The runtime's timers stop during a suspend, so the caller must check the clock from time to time.
        poll
    }
}

/// A time limit that does not count the time for which this process was stopped (`SIGSTOP`, a frozen container, a paused
/// machine): a reply that has arrived in the meantime is read before the limit has passed.
///
/// It is divided into steps. A step that takes much longer than it should is one in which the process was stopped.
#[derive(Debug)]
pub struct TimeLimit {
    left: Duration,
    step: Duration,
    /// When the current step began.
    since: Instant,
    /// How many more stops are recognized. All timers may be late on an overloaded machine, where the limit has to pass too.
    stops: u32,
    is_last_step: bool,
}

impl TimeLimit {
    const STEPS: u32 = 20;
    const MAX_STEP: Duration = Duration::from_secs(1);
    /// The timers of a busy machine are late by less.
    const MIN_STOP: Duration = Duration::from_millis(250);

    /// Returns a limit that begins `now`.
    #[must_use]
    pub fn new(limit: Duration, now: Instant) -> Self {
        let step = (limit / Self::STEPS).clamp(Duration::from_millis(1), Self::MAX_STEP);
        Self { left: limit, step, since: now, stops: Self::STEPS, is_last_step: false }
    }

    /// Returns how long to wait before the next call; `None` if the limit has passed. The last step follows the limit: in it,
    /// what has arrived before is read.
    pub fn next_step(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.since, now));
        let was_stopped = passed > (2 * self.step).max(Self::MIN_STOP) && self.stops > 0;
        if was_stopped {
            self.stops -= 1;
        } else {
            self.left = self.left.saturating_sub(passed);
        }
        match self.left.is_zero() {
            false => Some(self.step.min(self.left)),
            true if self.is_last_step && !was_stopped => None,
            true => {
                self.is_last_step = true;
                Some(self.step)
            }
        }
    }
}

/// Awaits `work` within a [`TimeLimit`]. Returns `None` if it has passed. Needs a tokio runtime.
pub async fn within<T>(clock: &dyn Clock, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut limit = TimeLimit::new(limit, clock.monotonic());
    while let Some(step) = limit.next_step(clock.monotonic()) {
        tokio::select! {
            biased;
            output = &mut work => return Some(output),
            () = clock.sleep(step) => {}
        }
    }
    None
}

/// Receives from another thread within a [`TimeLimit`].
///
/// # Errors
/// As [`Receiver::recv_timeout`].
pub fn receive_within<T>(receiver: &Receiver<T>, limit: Duration) -> Result<T, RecvTimeoutError> {
    let mut limit = TimeLimit::new(limit, SystemClock.monotonic());
    while let Some(step) = limit.next_step(SystemClock.monotonic()) {
        match receiver.recv_timeout(step) {
            Err(RecvTimeoutError::Timeout) => {}
            result => return result,
        }
    }
    Err(RecvTimeoutError::Timeout)
}

/// Returns a wait that begins with `first` and doubles `times` times, to `max` at most.
#[must_use]
pub fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(1 << times.min(31)).min(max)
}

/// How long to wait without checking the clock if the system has no alarm.
const MAX_POLL: Duration = Duration::from_secs(10);

/// Returns a descriptor that becomes readable when the wall clock shows `time` or is set.
#[cfg(target_os = "linux")]
fn alarm(time: UnixTime) -> Option<std::os::fd::OwnedFd> {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let alarm = timerfd_create(TimerfdClockId::Realtime, flags).ok()?;
    let at = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        // One nanosecond more, because zero would disarm the timer.
        it_value: Timespec { tv_sec: time.0.max(0), tv_nsec: 1 },
    };
    timerfd_settime(&alarm, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &at).ok()?;
    Some(alarm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_displayed_as_rfc_3339() {
        assert_eq!(UnixTime(1_700_000_000).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(UnixTime(i64::MAX).to_string(), "9223372036854775807 seconds after 1970");
    }

    #[test]
    fn time_limit_counts_no_time_in_which_the_process_was_stopped() {
        // How long the process is stopped after so much of a limit of 20 s, and how long the rest then takes.
        for (before, stopped, after) in
            [(0.0, 0.0, 21.0), (5.0, 60.0, 17.0), (19.5, 0.8, 1.0), (19.9, 3600.0, 1.5), (20.5, 60.0, 1.0)]
        {
            let start = SystemClock.monotonic();
            let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
            let (mut limit, mut now) = (TimeLimit::new(Duration::from_secs(20), start), 0.0);
            let mut rest = 0.0;
            while let Some(step) = limit.next_step(at(now)) {
                let end = now + step.as_secs_f64();
                let was_stopped = now <= before && before < end && stopped > 0.0;
                now = if was_stopped { end.max(before + stopped) } else { end };
                rest = if was_stopped { 0.0 } else { rest + step.as_secs_f64() };
            }
            assert!((after - 1.0..=after + 1.0).contains(&rest), "{before} {stopped}: {rest}");
            assert!(rest >= 0.99, "{before} {stopped}: time to read what has arrived, not {rest}");
        }
    }

    #[test]
    fn time_limit_passes_though_every_timer_is_late() {
        let (mut now, mut steps) = (SystemClock.monotonic(), 0);
        let mut limit = TimeLimit::new(Duration::from_secs(20), now);
        while let Some(step) = limit.next_step(now) {
            (now, steps) = (now + 10 * step, steps + 1);
            assert!(steps <= 2 * TimeLimit::STEPS, "{steps}");
        }
    }

    #[test]
    fn short_time_limit_counts_steps_that_are_late() {
        let start = SystemClock.monotonic();
        let (mut now, mut limit) = (start, TimeLimit::new(Duration::from_millis(100), start));
        while let Some(step) = limit.next_step(now) {
            now += step + Duration::from_millis(20);
        }
        assert!(now - start <= Duration::from_millis(150), "{:?}", now - start);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(UnixTime(i64::MAX).plus(Duration::from_secs(5)), UnixTime(i64::MAX));
        assert_eq!(UnixTime(10).until(UnixTime(4)), Duration::ZERO);
        assert_eq!(UnixTime(i64::MIN).until(UnixTime(i64::MAX)), Duration::from_secs(i64::MAX as u64));
    }
}
