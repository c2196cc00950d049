//! Locks and unlocks the agent: on request, and by itself when it is idle.

use std::sync::Arc;
use std::time::Duration;

use super::events::EventKind;
use super::lock_state::{FIRST_DELAY, LockPassphrase, MAX_DELAY, PassphraseHash, locked, too_many};
use super::passphrase_queue::{Source, Turn};
use super::state::Agent;
use crate::clock::doubled;
use crate::error::{Error, ErrorCode, Hint, forgotten_passphrase};
use crate::model::StoreKind;
use crate::secret::Secret;
use crate::session::{SessionError, SessionService};
use crate::store::{InvalidPassphrase, StoreError, UnlockedKey, check_passphrase};

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

/// What the check of a passphrase has found.
enum PassphraseCheck {
    /// It is right, and unlocks the key of the file store if that is sealed.
    Right(Option<UnlockedKey>),
    /// It is wrong, and the response is delayed.
    Wrong(Duration),
    Failed(Error),
}

impl LockPassphrase {
    fn check(&self, passphrase: &Secret, sessions: &SessionService) -> Result<Option<UnlockedKey>, StoreError> {
        if check_passphrase(passphrase).is_err() {
            return Err(StoreError::WrongPassphrase);
        }
        match (self, sessions.file_key()) {
            (Self::Chosen(hash), _) if hash.matches(passphrase) => Ok(None),
            (Self::OfStore, Some(key)) => key.unlock(passphrase),
            (Self::ChangedInStore, Some(key)) => key.unlock_any(passphrase),
            _ => Err(StoreError::WrongPassphrase),
        }
    }
}

impl Agent {
    /// Runs the hashing `work` for the process `pid`, one at a time for all processes, and in turn where it is a `guess`.
    async fn hash_passphrase<T: Send + 'static>(
        self: &Arc<Self>,
        pid: u32,
        guess: bool,
        work: impl FnOnce(Option<&Turn>) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let cut = || Error::msg(ErrorCode::AgentStopping, "the agent is stopping", Hint::command("agent start"));
        self.agent_lock.begin_attempt(pid, self.clock.monotonic())?;
        let attempt = Attempt { agent: Arc::clone(self), pid };
        let turn = match guess {
            true => {
                let waiting = || too_many("too many other passphrases are waiting to be checked");
                Some(self.agent_lock.passphrase_queue.next(Source::of(pid)).await.ok_or_else(waiting)?)
            }
            false => None,
        };
        let permit = Arc::clone(&self.agent_lock.hashing).acquire_owned().await.map_err(|_| cut())?;
        let hashed = tokio::task::spawn_blocking(move || {
            let (_permit, _attempt) = (permit, attempt);
            work(turn.as_ref())
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
            self.lock_now();
        }
    }

    /// Returns whether a profile uses the file store and that is sealed.
    async fn uses_sealed_store(&self) -> bool {
        self.profiles.all().iter().any(|profile| profile.store == StoreKind::File)
            && self.sessions.is_file_sealed().await
    }

    /// Locks the agent if the file store is sealed: its passphrase is needed first.
    pub(super) async fn lock_if_sealed(&self) {
        if self.uses_sealed_store().await {
            self.lock_with_store();
        }
    }

    /// Locks the agent with the passphrase of the file store, whose key it does not hold.
    pub(super) fn lock_with_store(&self) {
        {
            let mut inner = self.agent_lock.inner();
            if inner.locked {
                return;
            }
            inner.passphrase = Some(Arc::new(LockPassphrase::OfStore));
        }
        self.lock_now();
    }

    /// Locks now, or sets the idle time in seconds after which the agent locks itself; zero turns that off. A sealed file store
    /// has a passphrase, and there is no other for the agent then.
    ///
    /// # Errors
    /// If it is already locked, or the passphrase is missing, too long or not needed.
    pub(super) async fn lock(
        self: &Arc<Self>,
        pid: u32,
        passphrase: impl Into<Option<Secret>>,
        after: Option<u64>,
    ) -> Result<(), Error> {
        let passphrase = passphrase.into();
        let usage = |message: &str| Error::msg(ErrorCode::Usage, message, Hint::command("agent lock"));
        if self.agent_lock.is_locked() {
            return Err(locked());
        }
        let lock_passphrase = match (passphrase, self.uses_sealed_store().await) {
            (None, true) => LockPassphrase::OfStore,
            (Some(_), true) => {
                return Err(usage("the passphrase of the file store unlocks the agent; no other is needed"));
            }
            (Some(chosen), false) => {
                check_passphrase(&chosen).map_err(|invalid| usage(&invalid.to_string()))?;
                let hash = move |_: Option<&Turn>| PassphraseHash::of(&chosen);
                LockPassphrase::Chosen(self.hash_passphrase(pid, false, hash).await??)
            }
            (None, false) => return Err(usage(&InvalidPassphrase.to_string())),
        };
        self.lock_if_idle();
        {
            let mut inner = self.agent_lock.inner();
            if inner.locked {
                return Err(locked());
            }
            inner.passphrase = Some(Arc::new(lock_passphrase));
            inner.used_at = Some(self.now());
            match after {
                Some(0) => inner.after = None,
                Some(seconds) => inner.after = Some(Duration::from_secs(seconds)),
                None => {}
            }
        }
        self.agent_lock.changed.notify_one();
        if after.is_none() {
            self.lock_now();
        }
        Ok(())
    }

    /// Locks the agent: drops all sessions and the key of the file store from memory, and serves no token from now on. A refresh
    /// in flight has a copy of the key, stores its session, and drops it.
    fn lock_now(&self) {
        {
            let mut inner = self.agent_lock.inner();
            inner.locked = true;
            self.sessions.forget_file_key();
        }
        self.cache.forget_all();
        self.token_files.notify_one();
        self.events.publish(EventKind::Locked, None, self.now(), None);
    }

    /// Unlocks with the passphrase that locked it, or takes over the passphrase that the file store has since.
    ///
    /// # Errors
    /// [`ErrorCode::WrongPassphrase`], with the time by which the response to this process is to be delayed.
    pub(super) async fn unlock(
        self: &Arc<Self>,
        pid: u32,
        passphrase: Secret,
    ) -> Result<(), (Error, Option<Duration>)> {
        self.lock_if_idle();
        let current = {
            let inner = self.agent_lock.inner();
            inner.passphrase.clone().filter(|_| inner.locked)
        };
        let was_locked = current.is_some();
        let passphrase_of = match current {
            Some(current) => current,
            None if self.sessions.is_file_locked().await => Arc::new(LockPassphrase::ChangedInStore),
            None => return Ok(()),
        };
        let (agent, tried) = (Arc::clone(self), Arc::clone(&passphrase_of));
        let work = move |turn: Option<&Turn>| {
            match tried.check(&passphrase, &agent.sessions) {
                Ok(key) => return PassphraseCheck::Right(key),
                Err(StoreError::WrongPassphrase) => {}
                Err(error) => return PassphraseCheck::Failed(SessionError::from(error).into()),
            }
            turn.into_iter().for_each(Turn::wrong);
            let mut inner = agent.agent_lock.inner();
            let attempts = inner.attempts.entry(pid).or_default();
            let delay = doubled(FIRST_DELAY, attempts.wrong, MAX_DELAY);
            attempts.wrong = attempts.wrong.saturating_add(1);
            attempts.not_before = Some(agent.clock.monotonic() + delay);
            PassphraseCheck::Wrong(delay)
        };
        let key = match self.hash_passphrase(pid, true, work).await.map_err(|failure| (failure, None))? {
            PassphraseCheck::Right(key) => key,
            PassphraseCheck::Wrong(delay) => {
                let hint = match *passphrase_of {
                    LockPassphrase::Chosen(_) => Hint::command("agent unlock"),
                    LockPassphrase::OfStore | LockPassphrase::ChangedInStore => forgotten_passphrase(),
                };
                return Err((Error::msg(ErrorCode::WrongPassphrase, "wrong passphrase", hint), Some(delay)));
            }
            PassphraseCheck::Failed(error) => return Err((error, None)),
        };
        let is_unlocked = {
            let mut inner = self.agent_lock.inner();
            inner.attempts.remove(&pid);
            // Maybe unlocked and locked again in the meantime, with another passphrase.
            let current = inner.passphrase.as_deref();
            let is_same = current.is_some_and(|current| std::ptr::eq(current, &*passphrase_of));
            // The agent locks itself when it finds that the store's passphrase was changed. This request has just supplied the new
            // one.
            let is_of_store = key.is_some() && matches!(current, Some(LockPassphrase::OfStore));
            if (was_locked || inner.locked) && !is_same && !is_of_store {
                return Err((locked(), None));
            }
            self.sessions.hold_file_key(key);
            inner.used_at = Some(self.now());
            std::mem::replace(&mut inner.locked, false)
        };
        self.agent_lock.changed.notify_one();
        if is_unlocked {
            self.events.publish(EventKind::Unlocked, None, self.now(), None);
        }
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
            agent.lock_now();
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
mod tests;
