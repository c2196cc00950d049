//! Locks and unlocks the agent: on request, and by itself when it is idle.

use std::sync::Arc;
use std::time::Duration;

use super::events::EventKind;
use super::lock_state::{FIRST_DELAY, MAX_DELAY, MAX_LENGTH, Verifier, locked, too_many};
use super::state::Agent;
use super::turns::Turn;
use crate::error::{Error, ErrorCode, Hint};
use crate::secret::Secret;

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
            true => Some(self.agent_lock.turns.next().await.ok_or_else(too_many)?),
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

    /// Locks now, or sets the idle time in seconds after which the agent locks itself; zero turns that off.
    ///
    /// # Errors
    /// If it is already locked, or the passphrase is empty or too long.
    pub(super) async fn lock(self: &Arc<Self>, pid: u32, passphrase: Secret, after: Option<u64>) -> Result<(), Error> {
        if passphrase.is_empty() || passphrase.expose().len() > MAX_LENGTH {
            let message = format!("the passphrase must have 1 to {MAX_LENGTH} bytes");
            return Err(Error::msg(ErrorCode::Usage, message, Hint::command("agent lock")));
        }
        if self.agent_lock.is_locked() {
            return Err(locked());
        }
        let verifier = self.hash_passphrase(pid, false, move |_| Verifier::of(&passphrase)).await??;
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
            self.lock_now();
        }
        Ok(())
    }

    /// Locks the agent: drops all sessions from memory and serves none from now on.
    fn lock_now(&self) {
        self.agent_lock.inner().locked = true;
        self.cache.forget_all();
        self.token_files.notify_one();
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
        let work = move |turn: Option<&Turn>| {
            if passphrase.expose().len() <= MAX_LENGTH && tried.matches(&passphrase) {
                return None;
            }
            turn.into_iter().for_each(Turn::wrong);
            let mut inner = agent.agent_lock.inner();
            let attempts = inner.attempts.entry(pid).or_default();
            let delay = FIRST_DELAY.saturating_mul(1 << attempts.wrong.min(8)).min(MAX_DELAY);
            attempts.wrong = attempts.wrong.saturating_add(1);
            attempts.not_before = Some(agent.clock.monotonic() + delay);
            Some(delay)
        };
        if let Some(delay) = self.hash_passphrase(pid, true, work).await.map_err(|failure| (failure, None))? {
            let failure = Error::msg(ErrorCode::WrongPassphrase, "wrong passphrase", Hint::command("agent unlock"));
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
