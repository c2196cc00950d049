//! The lock with a passphrase: while it is closed no session is in memory and none is handed out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use tokio::sync::{Notify, Semaphore};
use zeroize::Zeroizing;

use super::Agent;
use super::events::What;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};
use crate::secret::Secret;

/// Locked or not, and what opens it.
pub(super) struct AgentLock {
    inner: Mutex<Inner>,
    /// Stretching a passphrase takes a core and 19 MiB: one at a time.
    stretching: Arc<Semaphore>,
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

/// What one process has tried.
#[derive(Clone, Copy, Default)]
struct Attempts {
    wrong: u32,
    under_way: bool,
    /// Before this moment it may try no more, also where it does not wait for the answer.
    not_before: Option<Instant>,
}

/// What a passphrase is compared with: itself stretched by argon2id (RFC 9106), never the passphrase.
struct Verifier {
    salt: [u8; 16],
    stretched: Zeroizing<[u8; 32]>,
}

/// The answer to the first wrong passphrase of a process waits so long, and twice as long each time, up to the longest.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(8);

/// How many processes' attempts are remembered.
const MAX_ATTEMPTS: usize = 1024;

/// The longest passphrase, in bytes.
const MAX_LENGTH: usize = 1024;

/// The failure of whoever asks a locked agent.
pub(super) fn locked() -> Error {
    Error::msg(ErrorCode::AgentLocked, "the agent is locked", "run `authctl agent unlock`")
}

fn refused(code: ErrorCode, message: &str, hint: &str) -> Error {
    Error::msg(code, message, hint)
}

impl Verifier {
    fn of(passphrase: &Secret) -> Result<Self, Error> {
        let mut salt = [0u8; 16];
        let unexpected = || Error::msg(ErrorCode::Unexpected, "the passphrase cannot be stretched", "try again");
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| unexpected())?;
        let stretched = stretch(passphrase, &salt).ok_or_else(unexpected)?;
        Ok(Self { salt, stretched })
    }

    fn matches(&self, passphrase: &Secret) -> bool {
        stretch(passphrase, &self.salt)
            .is_some_and(|tried| aws_lc_rs::constant_time::verify_slices_are_equal(&*tried, &*self.stretched).is_ok())
    }
}

/// Argon2id with 19 MiB and two passes, one of the choices that RFC 9106 and the password storage guides of today agree on
/// for a machine that does something else besides.
fn stretch(passphrase: &Secret, salt: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut out = Zeroizing::new([0u8; 32]);
    Argon2::default().hash_password_into(passphrase.expose().as_bytes(), salt, &mut *out).ok()?;
    Some(out)
}

impl Default for AgentLock {
    fn default() -> Self {
        Self { inner: Mutex::default(), stretching: Arc::new(Semaphore::new(1)), changed: Notify::new() }
    }
}

impl AgentLock {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is locked, and after what time without use it locks itself.
    pub(super) fn state(&self) -> (bool, Option<Duration>) {
        let inner = self.inner();
        (inner.locked, inner.after)
    }

    /// Whether it is locked.
    pub(super) fn is_locked(&self) -> bool {
        self.inner().locked
    }

    /// Lets a request for a token pass, which counts as use.
    ///
    /// # Errors
    /// `agent_locked`.
    pub(super) fn pass(&self, now: UnixTime) -> Result<(), Arc<Error>> {
        let mut inner = self.inner();
        if inner.locked || inner.idle_for_too_long(now) {
            return Err(Arc::new(locked()));
        }
        if inner.after.is_some() {
            inner.used_at = Some(now);
        }
        Ok(())
    }

    /// The turn of the process `pid` to have a passphrase stretched. It has one at a time, and none before its last wrong
    /// one has been answered.
    fn turn(&self, pid: u32, now: Instant) -> Result<(), Error> {
        let mut inner = self.inner();
        if inner.attempts.len() >= MAX_ATTEMPTS {
            inner.attempts.retain(|_, attempts| attempts.under_way || attempts.not_before.is_some_and(|at| at > now));
        }
        let attempts = inner.attempts.entry(pid).or_default();
        if attempts.under_way || attempts.not_before.is_some_and(|at| at > now) {
            return Err(refused(
                ErrorCode::TooManyRequests,
                "a passphrase is being tried already",
                "wait for its answer",
            ));
        }
        attempts.under_way = true;
        Ok(())
    }
}

/// A process's attempt, over when it is dropped: with the work itself, and not with whoever waits for it.
struct Attempt {
    agent: Arc<Agent>,
    pid: u32,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut inner = self.agent.agent_lock.inner();
        if let Some(attempts) = inner.attempts.get_mut(&self.pid) {
            attempts.under_way = false;
            if attempts.wrong == 0 {
                inner.attempts.remove(&self.pid);
            }
        }
    }
}

impl Inner {
    /// A last use that is yet to come is from before the clock was set back, and is taken to be now: it locks nobody out,
    /// and puts nothing off.
    fn idle_for_too_long(&mut self, now: UnixTime) -> bool {
        self.used_at = self.used_at.map(|at| at.min(now));
        match (self.after, self.used_at) {
            (Some(after), Some(used_at)) => used_at.until(now) >= after,
            _ => false,
        }
    }
}

impl Agent {
    /// Stretches a passphrase for the process `pid`, one at a time of all, to its end even where nobody waits any more.
    async fn stretch<T: Send + 'static>(
        self: &Arc<Self>,
        pid: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let cut = || Error::msg(ErrorCode::AgentStopping, "the agent is stopping", "start it again");
        self.agent_lock.turn(pid, self.clock.monotonic())?;
        let attempt = Attempt { agent: Arc::clone(self), pid };
        let turn = Arc::clone(&self.agent_lock.stretching).acquire_owned().await.map_err(|_| cut())?;
        let stretched = tokio::task::spawn_blocking(move || {
            let (_turn, _attempt) = (turn, attempt);
            work()
        });
        stretched.await.map_err(|_| cut())
    }

    /// Locks where nobody has asked for so long that it should be, whatever the alarm did.
    pub(super) fn lock_if_idle(&self) {
        let idle = {
            let mut inner = self.agent_lock.inner();
            !inner.locked && inner.idle_for_too_long(self.now())
        };
        if idle {
            self.close();
        }
    }

    /// Locks now, or from now on after so long without use; zero seconds takes that back.
    ///
    /// # Errors
    /// Where it is locked already, or the passphrase is none.
    pub(super) async fn lock(self: &Arc<Self>, pid: u32, passphrase: Secret, after: Option<u64>) -> Result<(), Error> {
        if passphrase.is_empty() || passphrase.expose().len() > MAX_LENGTH {
            let message = format!("a passphrase has 1 to {MAX_LENGTH} bytes");
            return Err(Error::msg(ErrorCode::Usage, message, "choose another one"));
        }
        self.lock_if_idle();
        if self.agent_lock.is_locked() {
            return Err(locked());
        }
        let verifier = self.stretch(pid, move || Verifier::of(&passphrase)).await??;
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

    /// Locks: from here on nothing is handed out, and no session is kept.
    fn close(&self) {
        self.agent_lock.inner().locked = true;
        self.cache.forget_all();
        self.events.tell(What::Locked, None, self.now(), None);
    }

    /// Unlocks with the passphrase that it was locked with. The answer to a wrong one is to be late, by the time that is
    /// given with the failure, for the process that gave it and for nobody else; sooner it may not try again.
    ///
    /// # Errors
    /// `wrong_passphrase`.
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
        if let Some(delay) = self.stretch(pid, work).await.map_err(|failure| (failure, None))? {
            let failure =
                refused(ErrorCode::WrongPassphrase, "that is not the passphrase", "try again with the right one");
            return Err((failure, Some(delay)));
        }
        {
            let mut inner = self.agent_lock.inner();
            inner.attempts.remove(&pid);
            // Locked anew meanwhile, with another passphrase.
            if !inner.verifier.as_ref().is_some_and(|now| Arc::ptr_eq(now, &verifier)) {
                return Err((locked(), None));
            }
            inner.locked = false;
            inner.used_at = Some(self.now());
        }
        self.agent_lock.changed.notify_one();
        self.events.tell(What::Unlocked, None, self.now(), None);
        self.events.changed.notify_one();
        Ok(())
    }
}

/// Locks when nobody has asked for a token as long as was set. Never returns.
pub(super) async fn lock_when_idle(agent: Arc<Agent>) {
    loop {
        let (idle, until) = {
            let mut inner = agent.agent_lock.inner();
            let idle = !inner.locked && inner.idle_for_too_long(agent.now());
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
    fn only_the_passphrase_opens_and_it_is_not_kept() {
        let verifier = Verifier::of(&Secret::new("open sesame".into())).expect("stretched");
        assert!(verifier.matches(&Secret::new("open sesame".into())));
        assert!(!verifier.matches(&Secret::new("open sesame ".into())));
        let again = Verifier::of(&Secret::new("open sesame".into())).expect("stretched");
        assert_ne!(*verifier.stretched, *again.stretched, "each has a salt of its own");
    }

    #[test]
    fn idle_is_counted_from_the_last_use() {
        let mut inner =
            Inner { after: Some(Duration::from_secs(60)), used_at: Some(UnixTime(1000)), ..Inner::default() };
        assert!(!inner.idle_for_too_long(UnixTime(1059)) && inner.idle_for_too_long(UnixTime(1060)));
        assert!(!inner.idle_for_too_long(UnixTime(10)), "a clock that was set back locks nobody out");
        assert!(!inner.idle_for_too_long(UnixTime(69)) && inner.idle_for_too_long(UnixTime(70)), "nor puts it off");
    }
}
