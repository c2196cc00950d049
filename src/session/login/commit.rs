//! Stores a verified login as the profile's session, or leaves what was there before.

use std::sync::Arc;
use std::time::Duration;

use super::super::session_end::history_after;
use super::super::stores::current_session;
use super::super::{SessionError, SessionService};
use super::VerifiedLogin;
use crate::clock::doubled;
use crate::fs::is_locked;
use crate::model::{PinnedKeys, Profile, Session, Trust};
use crate::store::ProfileLock;

/// How long a login tries to store its session after the first attempt, and the waits in between, which double.
const STORE_LIMIT: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const MAX_WAIT: Duration = Duration::from_secs(1);

impl SessionService {
    /// Stores the new session, calls `save_profile`, and deletes the session that the profile has in the store that it moves
    /// away from. No signal interrupts it, and no refresh runs in between. Returns the error if the session in the old store
    /// could not be deleted. `configured` is the profile as it is saved so far.
    ///
    /// The login is complete when the profile is saved. If it is interrupted before, the profile still has the session that
    /// it had, or the new one of the same issuer and client.
    ///
    /// # Errors
    /// The error of `save_profile`, [`SessionError::Store`] or [`SessionError::Lock`]. The old session and the pinned keys
    /// are then what they were, as far as the store could be written.
    pub async fn commit_login<E: From<SessionError> + Send + 'static>(
        self: &Arc<Self>,
        profile: &Profile,
        login: VerifiedLogin,
        configured: Option<Profile>,
        save_profile: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> Result<Option<SessionError>, E> {
        let lock = self.lock(profile).await?;
        let signals = self.hold_off_signals().await;
        let (sessions, profile) = (Arc::clone(self), profile.clone());
        let task = tokio::spawn(async move {
            let _until_done = (lock, signals);
            sessions.commit_login_locked(&profile, login, configured.as_ref(), save_profile).await
        });
        task.await.unwrap_or_else(|_| Err(SessionError::Interrupted.into()))
    }

    async fn commit_login_locked<E: From<SessionError>>(
        &self,
        profile: &Profile,
        login: VerifiedLogin,
        configured: Option<&Profile>,
        save_profile: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<SessionError>, E> {
        let before = match self.replaceable(profile).await {
            Err(SessionError::Store(error)) if error.is_session_lost() => None,
            before => before?,
        };
        let mut session = login.session;
        if let Some(before) = before.as_ref().filter(|before| before.belongs_to(profile)) {
            session.history = history_after(before);
        }
        session.replaces = configured
            .filter(|configured| configured.store == profile.store && !session.belongs_to(configured))
            .and_then(|configured| current_session(configured, before.clone()).ok())
            .map(Box::new);
        let stored = async {
            // Before the session is stored, so that it is never verified with other keys than those to be pinned.
            if let Some(pinned) = login.pinned.clone() {
                if login.trust_damaged {
                    self.reset_damaged_trust(profile).await?;
                }
                self.change_trust(profile, move |trust| trust.pinned = Some(pinned)).await?;
            }
            self.store_login(profile, &session).await?;
            // Before the profile is saved and the session in the store that it moves away from is deleted.
            let (name, replace) = (profile.name.clone(), login.replace);
            self.with_store(profile.store, profile.name.as_str(), move |store| store.hand_over(&name, replace)).await
        };
        if let Err(error) = stored.await.map_err(E::from).and_then(|()| save_profile()) {
            self.undo_login(profile, &session, before).await;
            // A damaged record may have had pinned keys: nothing but the new ones may be trusted in their place.
            if let Some(pinned) = login.pinned.filter(|_| !login.trust_damaged) {
                self.undo_pin(profile, pinned, login.pinned_before).await;
            }
            return Err(error);
        }
        if session.replaces.take().is_some()
            && let Err(error) = self.write(profile, &session).await
        {
            tracing::info!("{}: the replaced session stays stored: {error}", profile.name);
        }
        self.write_token_files(profile, Some(&session), before.as_ref()).await;
        self.store_trust_of_login(profile, login.keys, &session, (&login.trust, login.trust_damaged)).await;
        match configured.filter(|configured| configured.store != profile.store) {
            Some(old) => Ok(self.delete_moved(old, profile).await.err()),
            None => Ok(None),
        }
    }

    /// Stores the session of a login, and keeps trying for a while. A store that failed may have stored it all the same, as a
    /// keychain that did not respond in time: then the login has succeeded.
    async fn store_login(&self, profile: &Profile, session: &Session) -> Result<(), SessionError> {
        let (start, mut attempts) = (self.clock.monotonic(), 0);
        loop {
            let Err(error) = self.write(profile, session).await else { return Ok(()) };
            match self.stored(profile).await {
                Ok(Some(stored)) if stored.generation == session.generation => return Ok(()),
                _ if self.clock.monotonic().saturating_duration_since(start) >= STORE_LIMIT => return Err(error),
                _ => tracing::warn!("cannot store the session, trying again: {error}"),
            }
            self.clock.sleep(doubled(FIRST_WAIT, attempts, MAX_WAIT)).await;
            attempts += 1;
        }
    }

    /// Restores the session that a failed login has replaced. A failure is only logged: the caller reports why the login
    /// failed, and the new session is in use.
    async fn undo_login(&self, profile: &Profile, session: &Session, before: Option<Session>) {
        let (start, mut attempts) = (self.clock.monotonic(), 0);
        loop {
            let restored = match (self.stored(profile).await, &before) {
                (Ok(Some(stored)), before) if stored.generation == session.generation => match before {
                    Some(before) => self.write(profile, before).await,
                    None => self.delete(profile).await.map(drop),
                },
                (Ok(_), _) => Ok(()),
                // Left alone: a write that the store did not confirm may still follow.
                (Err(error), _) => Err(error),
            };
            let Err(error) = restored else { return };
            if self.clock.monotonic().saturating_duration_since(start) >= STORE_LIMIT {
                return tracing::warn!("{}: the replaced session was not restored: {error}", profile.name);
            }
            self.clock.sleep(doubled(FIRST_WAIT, attempts, MAX_WAIT)).await;
            attempts += 1;
        }
    }

    /// Restores the keys that were pinned before a failed login. A failure is only logged.
    async fn undo_pin(&self, profile: &Profile, pinned: PinnedKeys, before: Option<PinnedKeys>) {
        let restore = move |trust: &mut Trust| {
            if trust.pinned.as_ref() == Some(&pinned) {
                trust.pinned = before;
            }
        };
        if let Err(error) = self.change_trust(profile, restore).await {
            tracing::warn!("{}: the keys of the failed login stay pinned: {error}", profile.name);
        }
    }

    /// Deletes the session that the profile `old` has in the store that it moves away from.
    async fn delete_moved(&self, old: &Profile, new: &Profile) -> Result<(), SessionError> {
        // The lock of the new one is held, and may be the same.
        let is_same = self.locks.of(old.store) == self.locks.of(new.store);
        let _lock = if is_same { None } else { Some(self.lock(old).await?) };
        self.delete(old).await.map(drop)
    }

    /// Returns whether a process holds the lock of the profile's session.
    #[must_use]
    pub fn is_locked(&self, profile: &Profile) -> bool {
        is_locked(&ProfileLock::path(self.locks.of(profile.store), &profile.name))
    }

    /// Waits until no process refreshes or changes the profile's session.
    ///
    /// # Errors
    /// [`SessionError::Lock`].
    pub async fn wait_for_lock(&self, profile: &Profile) -> Result<(), SessionError> {
        self.lock(profile).await?.release().await;
        Ok(())
    }
}
