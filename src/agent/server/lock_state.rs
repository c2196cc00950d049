//! The agent lock: while it is locked, the agent holds no session in memory and issues no token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use tokio::sync::{Notify, Semaphore};
use zeroize::Zeroizing;

use super::passphrase_queue::PassphraseQueue;
use crate::clock::{Clock, UnixTime};
use crate::error::{Error, ErrorCode, Hint};
use crate::secret::Secret;

/// Whether the agent is locked, and the passphrase that unlocks it.
pub(super) struct PassphraseLock {
    inner: Mutex<LockState>,
    /// Allows one hash at a time: hashing a passphrase takes a core and 19 MiB.
    pub(super) hashing: Arc<Semaphore>,
    pub(super) passphrase_queue: PassphraseQueue,
    pub(super) changed: Notify,
}

#[derive(Default)]
pub(super) struct LockState {
    pub(super) locked: bool,
    pub(super) passphrase: Option<Arc<LockPassphrase>>,
    pub(super) after: Option<Duration>,
    pub(super) used_at: Option<UnixTime>,
    pub(super) attempts: HashMap<u32, Attempts>,
}

/// The attempts of one process.
#[derive(Clone, Copy, Default)]
pub(super) struct Attempts {
    pub(super) wrong: u32,
    pub(super) in_progress: bool,
    /// The next attempt is refused before this moment, even if the process did not wait for the response.
    pub(super) not_before: Option<Instant>,
}

/// The passphrase that unlocks the agent.
pub(super) enum LockPassphrase {
    /// The one that the user chose to lock it.
    Chosen(PassphraseHash),
    /// The one of the file store, which also unlocks the store's key.
    OfStore,
    /// The one that the file store has since the agent was unlocked. It only unlocks the store's key.
    ChangedInStore,
}

/// The passphrase's argon2id hash (RFC 9106); the passphrase itself is not stored.
pub(super) struct PassphraseHash {
    salt: [u8; 16],
    hash: Zeroizing<[u8; 32]>,
}

/// The delay of the response to a process's first wrong passphrase, and the maximum; it doubles with each.
pub(super) const FIRST_DELAY: Duration = Duration::from_millis(250);
pub(super) const MAX_DELAY: Duration = Duration::from_secs(8);

/// The number of processes whose attempts are remembered.
const MAX_ATTEMPTS: usize = 1024;

/// Returns the error for requests to a locked agent.
pub(super) fn locked() -> Error {
    Error::msg(ErrorCode::AgentLocked, "the agent is locked", Hint::command("agent unlock"))
}

/// Returns the error for an attempt that is not admitted, and why.
pub(super) fn too_many(message: &'static str) -> Error {
    Error::msg(ErrorCode::TooManyRequests, message, Hint::command("agent unlock"))
}

impl PassphraseHash {
    pub(super) fn of(passphrase: &Secret) -> Result<Self, Error> {
        let mut salt = [0u8; 16];
        let unexpected = || Error::msg(ErrorCode::Unexpected, "cannot hash the passphrase", Hint::None);
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| unexpected())?;
        let hash = hash(passphrase, &salt).ok_or_else(unexpected)?;
        Ok(Self { salt, hash })
    }

    pub(super) fn matches(&self, passphrase: &Secret) -> bool {
        hash(passphrase, &self.salt)
            .is_some_and(|tried| aws_lc_rs::constant_time::verify_slices_are_equal(&*tried, &*self.hash).is_ok())
    }
}

/// Hashes with argon2id, 19 MiB and two passes: a recommended minimum for interactive use.
fn hash(passphrase: &Secret, salt: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut out = Zeroizing::new([0u8; 32]);
    Argon2::default().hash_password_into(passphrase.expose().as_bytes(), salt, &mut *out).ok()?;
    Some(out)
}

impl PassphraseLock {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        let (hashing, passphrase_queue) = (Arc::new(Semaphore::new(1)), PassphraseQueue::new(clock));
        Self { inner: Mutex::default(), hashing, passphrase_queue, changed: Notify::new() }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, LockState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether it is locked, and the idle time after which it locks itself.
    pub(super) fn state(&self) -> (bool, Option<Duration>) {
        let inner = self.inner();
        (inner.locked, inner.after)
    }

    /// Returns whether it is locked.
    pub(super) fn is_locked(&self) -> bool {
        self.inner().locked
    }

    /// Checks that the agent is unlocked for a request for a token, which counts as use.
    ///
    /// # Errors
    /// [`ErrorCode::AgentLocked`].
    pub(super) fn check(&self, now: UnixTime) -> Result<(), Arc<Error>> {
        let mut inner = self.inner();
        if inner.locked || inner.is_idle_for_too_long(now) {
            return Err(Arc::new(locked()));
        }
        if inner.after.is_some() {
            inner.used_at = Some(now);
        }
        Ok(())
    }

    /// Begins an attempt of the process `pid`. A process has one at a time, and none until the delay of its last wrong one
    /// has passed.
    pub(super) fn begin_attempt(&self, pid: u32, now: Instant) -> Result<(), Error> {
        let mut inner = self.inner();
        if inner.attempts.len() >= MAX_ATTEMPTS {
            inner.attempts.retain(|_, attempts| attempts.in_progress || attempts.not_before.is_some_and(|at| at > now));
        }
        let attempts = inner.attempts.entry(pid).or_default();
        if attempts.in_progress {
            return Err(too_many("a passphrase of this process is already being checked"));
        }
        if attempts.not_before.is_some_and(|at| at > now) {
            return Err(too_many("the last passphrase of this process was wrong; wait for the response"));
        }
        attempts.in_progress = true;
        Ok(())
    }
}

impl LockState {
    /// Returns whether the idle time has passed. A last use in the future was recorded before the clock was set back, and
    /// counts as now.
    pub(super) fn is_idle_for_too_long(&mut self, now: UnixTime) -> bool {
        self.used_at = self.used_at.map(|at| at.min(now));
        match (self.after, self.used_at) {
            (Some(after), Some(used_at)) => used_at.until(now) >= after,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn system_clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    #[test]
    fn only_the_passphrase_matches() {
        let hash = PassphraseHash::of(&Secret::new("open sesame".into())).expect("hashed");
        assert!(hash.matches(&Secret::new("open sesame".into())));
        assert!(!hash.matches(&Secret::new("open sesame ".into())));
        let again = PassphraseHash::of(&Secret::new("open sesame".into())).expect("hashed");
        assert_ne!(*hash.hash, *again.hash, "each has its own salt");
    }

    #[test]
    fn request_after_the_idle_time_is_refused_and_one_before_counts_as_use() {
        let lock = PassphraseLock::new(&system_clock());
        lock.check(UnixTime(0)).expect("no idle time is set");
        lock.inner().after = Some(Duration::from_secs(60));
        lock.inner().used_at = Some(UnixTime(1000));
        lock.check(UnixTime(1059)).expect("not idle");
        lock.check(UnixTime(1118)).expect("used 59 seconds ago");
        for _ in 0..2 {
            let refused = lock.check(UnixTime(1178)).expect_err("idle, although no timer has locked it");
            assert_eq!(refused.code, ErrorCode::AgentLocked);
        }
        lock.inner().used_at = Some(UnixTime(1178));
        lock.inner().locked = true;
        lock.check(UnixTime(1178)).expect_err("locked");
    }

    #[test]
    fn process_has_one_attempt_and_the_next_after_its_delay() {
        let clock = SystemClock;
        let lock = PassphraseLock::new(&system_clock());
        let now = clock.monotonic();
        lock.begin_attempt(1, now).expect("the first");
        assert_eq!(lock.begin_attempt(1, now).expect_err("in progress").code, ErrorCode::TooManyRequests);
        lock.begin_attempt(2, now).expect("another process");
        let later = now + Duration::from_secs(8);
        lock.inner().attempts.insert(1, Attempts { wrong: 1, in_progress: false, not_before: Some(later) });
        let refused = lock.begin_attempt(1, later - Duration::from_millis(1)).expect_err("too early");
        assert_eq!(refused.code, ErrorCode::TooManyRequests);
        lock.begin_attempt(1, later).expect("the delay has passed");
    }

    #[test]
    fn many_processes_do_not_fill_memory_or_end_the_delay_of_one() {
        let clock = SystemClock;
        let lock = PassphraseLock::new(&system_clock());
        let now = clock.monotonic();
        let later = now + Duration::from_secs(8);
        let count = u32::try_from(MAX_ATTEMPTS).expect("small");
        lock.inner().attempts.insert(1, Attempts { wrong: 1, in_progress: false, not_before: Some(later) });
        lock.begin_attempt(2, now).expect("the first");
        for pid in 3..=count {
            lock.inner().attempts.insert(pid, Attempts { wrong: 1, in_progress: false, not_before: Some(now) });
        }
        lock.begin_attempt(count + 1, now).expect("another process");
        assert_eq!(lock.inner().attempts.len(), 3, "the ones whose delay has passed are forgotten");
        lock.begin_attempt(1, now).expect_err("delayed");
        lock.begin_attempt(2, now).expect_err("in progress");
    }

    #[test]
    fn idle_time_counts_from_the_last_use() {
        let mut inner =
            LockState { after: Some(Duration::from_secs(60)), used_at: Some(UnixTime(1000)), ..LockState::default() };
        assert!(!inner.is_idle_for_too_long(UnixTime(1059)) && inner.is_idle_for_too_long(UnixTime(1060)));
        assert!(!inner.is_idle_for_too_long(UnixTime(10)), "the clock was set back: not locked");
        assert!(
            !inner.is_idle_for_too_long(UnixTime(69)) && inner.is_idle_for_too_long(UnixTime(70)),
            "and not postponed"
        );
    }
}
