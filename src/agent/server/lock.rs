//! The agent lock: while it is locked, the agent holds no session in memory and issues no token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use tokio::sync::{Notify, Semaphore};
use zeroize::Zeroizing;

use super::Agent;
use super::events::EventKind;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::secret::Secret;

/// Whether the agent is locked, and the passphrase that unlocks it.
pub(super) struct AgentLock {
    inner: Mutex<Inner>,
    /// Hashing a passphrase takes a core and 19 MiB: one at a time.
    hashing: Arc<Semaphore>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    locked: bool,
    verifier: Option<Arc<Verifier>>,
    after: Option<Duration>,
    used_at: Option<UnixTime>,
    attempts: HashMap<u32, Attempts>,
}

/// The attempts of one process.
#[derive(Clone, Copy, Default)]
struct Attempts {
    wrong: u32,
    in_progress: bool,
    /// The next attempt is refused before this moment, even if the process did not wait for the response.
    not_before: Option<Instant>,
}

/// The passphrase's argon2id hash (RFC 9106); the passphrase itself is not stored.
struct Verifier {
    salt: [u8; 16],
    hash: Zeroizing<[u8; 32]>,
}

/// The delay of the response to a process's first wrong passphrase, and the maximum; it doubles with each.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(8);

/// The number of processes whose attempts are remembered.
const MAX_ATTEMPTS: usize = 1024;

/// The maximum length of a passphrase, in bytes.
const MAX_LENGTH: usize = 1024;

/// Returns the error for requests to a locked agent.
pub(super) fn locked() -> Error {
    Error::msg(ErrorCode::AgentLocked, "the agent is locked", Hint::command("agent unlock"))
}

fn refused(code: ErrorCode, message: &str, hint: &str) -> Error {
    Error::msg(code, message, hint)
}

impl Verifier {
    fn of(passphrase: &Secret) -> Result<Self, Error> {
        let mut salt = [0u8; 16];
        let unexpected = || Error::msg(ErrorCode::Unexpected, "cannot hash the passphrase", "try again");
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| unexpected())?;
        let hash = hash(passphrase, &salt).ok_or_else(unexpected)?;
        Ok(Self { salt, hash })
    }

    fn matches(&self, passphrase: &Secret) -> bool {
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

impl Default for AgentLock {
    fn default() -> Self {
        Self { inner: Mutex::default(), hashing: Arc::new(Semaphore::new(1)), changed: Notify::new() }
    }
}

impl AgentLock {
    fn inner(&self) -> MutexGuard<'_, Inner> {
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

    /// Begins an attempt of the process `pid`. It has one at a time, and none before the delay of its last wrong one.
    fn begin_attempt(&self, pid: u32, now: Instant) -> Result<(), Error> {
        let mut inner = self.inner();
        if inner.attempts.len() >= MAX_ATTEMPTS {
            inner.attempts.retain(|_, attempts| attempts.in_progress || attempts.not_before.is_some_and(|at| at > now));
        }
        let attempts = inner.attempts.entry(pid).or_default();
        if attempts.in_progress || attempts.not_before.is_some_and(|at| at > now) {
            return Err(refused(
                ErrorCode::TooManyRequests,
                "a passphrase is already being checked",
                "try again in a few seconds",
            ));
        }
        attempts.in_progress = true;
        Ok(())
    }
}

/// A process's attempt. It ends when the hashing ends, even if the process no longer waits for it.
struct Attempt {
    agent: Arc<Agent>,
    pid: u32,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut inner = self.agent.agent_lock.inner();
        if let Some(attempts) = inner.attempts.get_mut(&self.pid) {
            attempts.in_progress = false;
            if attempts.wrong == 0 {
                inner.attempts.remove(&self.pid);
            }
        }
    }
}

impl Inner {
    /// A last use in the future was recorded before the clock was set back, and counts as now.
    fn is_idle_for_too_long(&mut self, now: UnixTime) -> bool {
        self.used_at = self.used_at.map(|at| at.min(now));
        match (self.after, self.used_at) {
            (Some(after), Some(used_at)) => used_at.until(now) >= after,
            _ => false,
        }
    }
}

impl Agent {
    /// Runs the hashing `work` for the process `pid`, one at a time for all processes.
    async fn hash_passphrase<T: Send + 'static>(
        self: &Arc<Self>,
        pid: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let cut = || Error::msg(ErrorCode::AgentStopping, "the agent is stopping", "start it again");
        self.agent_lock.begin_attempt(pid, self.clock.monotonic())?;
        let attempt = Attempt { agent: Arc::clone(self), pid };
        let permit = Arc::clone(&self.agent_lock.hashing).acquire_owned().await.map_err(|_| cut())?;
        let hashed = tokio::task::spawn_blocking(move || {
            let (_permit, _attempt) = (permit, attempt);
            work()
        });
        hashed.await.map_err(|_| cut())
    }

    /// Locks if the agent has been idle for too long, whatever the timer did.
    pub(super) fn lock_if_idle(&self) {
        let idle = {
            let mut inner = self.agent_lock.inner();
            !inner.locked && inner.is_idle_for_too_long(self.now())
        };
        if idle {
            self.close();
        }
    }

    /// Locks now, or sets the idle time in seconds after which the agent locks itself; zero turns that off.
    ///
    /// # Errors
    /// If it is already locked, or the passphrase is empty or too long.
    pub(super) async fn lock(self: &Arc<Self>, pid: u32, passphrase: Secret, after: Option<u64>) -> Result<(), Error> {
        if passphrase.is_empty() || passphrase.expose().len() > MAX_LENGTH {
            let message = format!("the passphrase must have 1 to {MAX_LENGTH} bytes");
            return Err(Error::msg(ErrorCode::Usage, message, "choose another one"));
        }
        self.lock_if_idle();
        if self.agent_lock.is_locked() {
            return Err(locked());
        }
        let verifier = self.hash_passphrase(pid, move || Verifier::of(&passphrase)).await??;
        self.lock_if_idle();
        {
            let mut inner = self.agent_lock.inner();
            if inner.locked {
                return Err(locked());
            }
            inner.verifier = Some(Arc::new(verifier));
            inner.used_at = Some(self.now());
            match after {
                Some(0) => inner.after = None,
                Some(seconds) => inner.after = Some(Duration::from_secs(seconds)),
                None => {}
            }
        }
        self.agent_lock.changed.notify_one();
        if after.is_none() {
            self.close();
        }
        Ok(())
    }

    /// Locks: drops all sessions from memory and issues nothing from now on.
    fn close(&self) {
        self.agent_lock.inner().locked = true;
        self.cache.forget_all();
        self.events.publish(EventKind::Locked, None, self.now(), None);
    }

    /// Unlocks with the passphrase that locked it.
    ///
    /// # Errors
    /// [`ErrorCode::WrongPassphrase`], with the time by which the response to this process is to be delayed.
    pub(super) async fn unlock(
        self: &Arc<Self>,
        pid: u32,
        passphrase: Secret,
    ) -> Result<(), (Error, Option<Duration>)> {
        self.lock_if_idle();
        let verifier = {
            let inner = self.agent_lock.inner();
            match inner.verifier.clone().filter(|_| inner.locked) {
                Some(verifier) => verifier,
                None => return Ok(()),
            }
        };
        let (agent, tried) = (Arc::clone(self), Arc::clone(&verifier));
        let work = move || {
            if passphrase.expose().len() <= MAX_LENGTH && tried.matches(&passphrase) {
                return None;
            }
            let mut inner = agent.agent_lock.inner();
            let attempts = inner.attempts.entry(pid).or_default();
            let delay = FIRST_DELAY.saturating_mul(1 << attempts.wrong.min(8)).min(MAX_DELAY);
            attempts.wrong = attempts.wrong.saturating_add(1);
            attempts.not_before = Some(agent.clock.monotonic() + delay);
            Some(delay)
        };
        if let Some(delay) = self.hash_passphrase(pid, work).await.map_err(|failure| (failure, None))? {
            let failure = refused(ErrorCode::WrongPassphrase, "wrong passphrase", "authctl agent unlock");
            return Err((failure, Some(delay)));
        }
        {
            let mut inner = self.agent_lock.inner();
            inner.attempts.remove(&pid);
            // Unlocked and locked again in the meantime, with another passphrase.
            if !inner.verifier.as_ref().is_some_and(|now| Arc::ptr_eq(now, &verifier)) {
                return Err((locked(), None));
            }
            inner.locked = false;
            inner.used_at = Some(self.now());
        }
        self.agent_lock.changed.notify_one();
        self.events.publish(EventKind::Unlocked, None, self.now(), None);
        self.events.changed.notify_one();
        Ok(())
    }
}

/// Locks the agent after the idle time that was set. Never returns.
pub(super) async fn lock_when_idle(agent: Arc<Agent>) {
    loop {
        let (idle, until) = {
            let mut inner = agent.agent_lock.inner();
            let idle = !inner.locked && inner.is_idle_for_too_long(agent.now());
            let until = inner.after.zip(inner.used_at).map(|(after, used_at)| used_at.plus(after));
            (idle, until.filter(|_| !inner.locked))
        };
        if idle {
            agent.close();
            continue;
        }
        let changed = agent.agent_lock.changed.notified();
        match until {
            Some(until) => tokio::select! {
                () = agent.clock.until(until) => {}
                () = changed => {}
            },
            None => changed.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_matches() {
        let verifier = Verifier::of(&Secret::new("open sesame".into())).expect("hashed");
        assert!(verifier.matches(&Secret::new("open sesame".into())));
        assert!(!verifier.matches(&Secret::new("open sesame ".into())));
        let again = Verifier::of(&Secret::new("open sesame".into())).expect("hashed");
        assert_ne!(*verifier.hash, *again.hash, "each has its own salt");
    }

    #[test]
    fn idle_time_counts_from_the_last_use() {
        let mut inner =
            Inner { after: Some(Duration::from_secs(60)), used_at: Some(UnixTime(1000)), ..Inner::default() };
        assert!(!inner.is_idle_for_too_long(UnixTime(1059)) && inner.is_idle_for_too_long(UnixTime(1060)));
        assert!(!inner.is_idle_for_too_long(UnixTime(10)), "the clock was set back: not locked");
        assert!(
            !inner.is_idle_for_too_long(UnixTime(69)) && inner.is_idle_for_too_long(UnixTime(70)),
            "and not postponed"
        );
    }
}
