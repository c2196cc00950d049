//! The stores: reads and changes the session of a profile. Each change leaves a mark for processes that cache the session.

use std::sync::Arc;
use std::time::Duration;

use super::lock_wait::LockWait;
use super::marks::{LockDirectories, mark_subject};
use super::{LoginReason, MAX_REFRESH, SessionError, SessionService};
use crate::fs::{file_permit, unblock};
use crate::model::{Profile, ProfileName, Session, StoreKind};
use crate::store::{ProfileLock, Store, StoreError};

/// The stores, one of each kind.
#[derive(Clone)]
pub struct Stores {
    /// The platform's keychain.
    pub keychain: Arc<dyn Store>,
    /// The encrypted files.
    pub file: Arc<dyn Store>,
    /// The memory of the agent.
    pub memory: Arc<dyn Store>,
}

impl Stores {
    /// Returns the store of that kind.
    #[must_use]
    pub fn of(&self, kind: StoreKind) -> &Arc<dyn Store> {
        match kind {
            StoreKind::Keychain => &self.keychain,
            StoreKind::File => &self.file,
            StoreKind::Memory => &self.memory,
        }
    }
}

/// Bytes reserved for a new session beyond the size of the present one: tokens grow when claims are added.
pub(super) const RESERVE: usize = 64 * 1024;

/// How long a call counts among the concurrent calls to the file store. One that takes longer waits for a file system that does
/// not respond, and other profiles' files may be elsewhere.
const SLOW_FILE_CALL: Duration = Duration::from_secs(1);

impl SessionService {
    /// Returns the directories of lock files.
    #[must_use]
    pub fn locks(&self) -> &LockDirectories {
        &self.locks
    }

    /// Returns whether another process made the last change of the profile's session. Reads the lock files.
    pub async fn changed_elsewhere(&self, profile: &Profile) -> bool {
        let (marks, kind, name) = (Arc::clone(&self.marks), profile.store, profile.name.clone());
        let is_changed = move || marks.is_changed_elsewhere(kind, &name);
        unblock(mark_subject(&profile.name), is_changed).await.unwrap_or(true)
    }

    /// Returns the session stored under the profile's name, also one of another issuer or client, or that a logout has not
    /// deleted so far.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub(super) async fn stored(&self, profile: &Profile) -> Result<Option<Session>, SessionError> {
        if let Some(session) = self.unsaved_session(&profile.name) {
            return Ok(Some(session));
        }
        let name = profile.name.clone();
        self.with_store(profile.store, profile.name.as_str(), move |store| ignore_other_profile(store.read(&name)))
            .await
    }

    /// Returns the session that a login would replace, also one of another issuer or client.
    ///
    /// # Errors
    /// [`SessionError::Store`], also if the session is another profile's.
    pub async fn replaceable(&self, profile: &Profile) -> Result<Option<Session>, SessionError> {
        let name = profile.name.clone();
        let stored = self.with_store(profile.store, profile.name.as_str(), move |store| store.read(&name)).await?;
        Ok(stored.filter(|session| !session.logged_out))
    }

    /// Returns the profile's session.
    ///
    /// # Errors
    /// [`SessionError::LoginRequired`] if there is none of the profile's issuer and client, or [`SessionError::Store`].
    pub async fn session(&self, profile: &Profile) -> Result<Session, SessionError> {
        current_session(profile, self.stored(profile).await?)
    }

    /// Returns the profile's session. Blocks for at most the store's own limit.
    ///
    /// # Errors
    /// As [`SessionService::session`].
    pub fn session_blocking(&self, profile: &Profile) -> Result<Session, SessionError> {
        let stored = match self.unsaved_session(&profile.name) {
            Some(session) => Some(session),
            None => ignore_other_profile(self.stores.of(profile.store).read(&profile.name))?,
        };
        current_session(profile, stored)
    }

    /// Returns where the profile's session is stored, for display.
    #[must_use]
    pub fn location(&self, profile: &Profile) -> String {
        self.stores.of(profile.store).location(&profile.name)
    }

    /// Moves a session to another profile name within its store, under both profile locks: copies it to the new name,
    /// calls `rename`, which changes the configuration, and deletes the old copy. If it is interrupted, the profile still
    /// has its session under the name that the configuration has.
    ///
    /// # Errors
    /// The error of `rename`, [`SessionError::Store`] or [`SessionError::Lock`].
    pub async fn rename<E: From<SessionError>>(
        &self,
        profile: &Profile,
        to: &ProfileName,
        rename: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let _from = self.lock(profile).await?;
        let renamed = Profile { name: to.clone(), ..profile.clone() };
        // If upper and lower case are not distinguished, both names have the same lock and the same session.
        let is_same = profile.name.as_str().eq_ignore_ascii_case(to.as_str());
        let _to = if is_same { None } else { Some(self.lock(&renamed).await?) };
        if !is_same
            && let Err(error @ SessionError::Store(StoreError::OtherProfile { .. })) = self.replaceable(&renamed).await
        {
            return Err(error.into());
        }
        let session = self.stored(profile).await?;
        match &session {
            Some(session) => self.write(&renamed, session).await?,
            None => drop(self.delete(&renamed).await?),
        }
        if let Err(error) = rename() {
            if let Some(session) = session.filter(|_| is_same) {
                self.write(profile, &session).await?;
            }
            self.delete(&renamed).await?;
            return Err(error);
        }
        if let Err(error) = self.delete(profile).await {
            tracing::warn!("the session of {} is stored under its old name too: {error}", profile.name);
        }
        Ok(())
    }

    /// Deletes the session under the name of a profile that is new, if one of `others` has the same: an interrupted
    /// [`SessionService::rename`] left it, and two profiles must not send one refresh token.
    pub async fn delete_copy(&self, new: &Profile, others: impl IntoIterator<Item = &Profile>) {
        let Ok(_lock) = self.lock(new).await else { return };
        let Ok(Some(found)) = self.stored(new).await else { return };
        for other in others {
            let session = self.stored(other).await.ok().flatten();
            if other.name != new.name && session.is_some_and(|own| own.generation.login == found.generation.login) {
                let _ = self.delete(new).await;
            }
        }
    }

    /// Checks that a store can be read, and takes a new session as far as that can be known in advance.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub async fn check_store(&self, kind: StoreKind, name: &ProfileName) -> Result<(), SessionError> {
        let own = name.clone();
        let check = move |store: &dyn Store| {
            store.read(&own)?;
            store.reserve(&own, RESERVE)
        };
        self.with_store(kind, name.as_str(), check).await
    }

    /// Makes sure that the profile's store can take a new session, as far as that can be known in advance.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub async fn reserve(&self, profile: &Profile) -> Result<(), SessionError> {
        self.reserve_bytes(profile, RESERVE).await
    }

    pub(super) async fn reserve_bytes(&self, profile: &Profile, bytes: usize) -> Result<(), SessionError> {
        let name = profile.name.clone();
        self.with_store(profile.store, profile.name.as_str(), move |store| store.reserve(&name, bytes)).await
    }

    /// Calls `then` under the profile lock if the profile has no session; returns whether it was called.
    ///
    /// # Errors
    /// The error of `then`, [`SessionError::Store`] or [`SessionError::Lock`].
    pub async fn without_session<E: From<SessionError>>(
        &self,
        profile: &Profile,
        then: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        let _lock = self.lock(profile).await?;
        if self.stored(profile).await?.is_some() {
            return Ok(false);
        }
        then().map(|()| true)
    }

    /// Deletes the profile's session without revoking it. Call it under the profile lock.
    pub(super) async fn delete(&self, profile: &Profile) -> Result<bool, SessionError> {
        let name = profile.name.clone();
        let delete = move |store: &dyn Store| match store.read(&name) {
            Err(StoreError::OtherProfile { .. }) => Ok(false),
            _ => store.delete(&name),
        };
        self.change(profile.store, &profile.name, delete).await
    }

    /// Runs a call that changes the session of `name`, and marks the change for processes that cache it, also if the call
    /// failed and may have changed something.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        kind: StoreKind,
        name: &ProfileName,
        call: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let (marks, own) = (Arc::clone(&self.marks), name.clone());
        let marked = move |store: &dyn Store| {
            let result = call(store);
            marks.leave(kind, &own);
            result
        };
        self.with_store(kind, name.as_str(), marked).await
    }

    /// Returns the first wait for a profile lock that has taken longer than `delay`.
    #[must_use]
    pub fn long_lock_wait(&self, delay: Duration) -> Option<LockWait> {
        self.lock_waits.longer_than(delay, self.clock.monotonic())
    }

    pub(super) async fn lock(&self, profile: &Profile) -> Result<ProfileLock, SessionError> {
        self.lock_session(profile.store, &profile.name).await
    }

    /// Takes the lock of the session that a store has for a profile, and stores that of an interrupted refresh.
    pub(super) async fn lock_session(&self, kind: StoreKind, name: &ProfileName) -> Result<ProfileLock, SessionError> {
        let dir = self.locks.of(kind);
        let waiting = self.lock_waits.begin(name, ProfileLock::path(dir, name), self.clock.monotonic());
        let lock = ProfileLock::acquire(dir, name, &*self.clock, MAX_REFRESH).await?;
        drop(waiting);
        let (marks, subject, name) = (Arc::clone(&self.marks), name.clone(), name.clone());
        let finish = move |store: &dyn Store| {
            let finished = store.finish_interrupted_refresh(&name);
            if matches!(finished, Ok(true)) {
                marks.leave(kind, &name);
            }
            finished
        };
        // Without it, the session that is stored may have a refresh token that is spent. A keychain has no such files.
        if kind == StoreKind::File {
            self.with_store(kind, subject.as_str(), finish).await?;
        }
        Ok(lock)
    }

    pub(super) async fn write(&self, profile: &Profile, session: &Session) -> Result<(), SessionError> {
        let (name, session) = (profile.name.clone(), session.clone());
        self.change(profile.store, &profile.name, move |store| store.write(&name, &session)).await
    }

    /// Runs a store's blocking call, which concerns `subject`, on a thread for blocking calls.
    pub(super) async fn with_store<T: Send + 'static>(
        &self,
        kind: StoreKind,
        subject: &str,
        call: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let store = Arc::clone(self.stores.of(kind));
        // A call to the keychain ends by itself.
        let (limit, slow) = match kind {
            StoreKind::Keychain => (&self.keychain_calls, Duration::MAX),
            StoreKind::File | StoreKind::Memory => (&self.file_calls, SLOW_FILE_CALL),
        };
        let file_permit = file_permit(subject).await;
        let permit = limit.acquire().await.map_err(|_| SessionError::Interrupted)?;
        let running = file_permit.unblock(move || call(&*store));
        tokio::pin!(running);
        let result = match tokio::time::timeout(slow, &mut running).await {
            Ok(result) => result,
            Err(_) => {
                drop(permit);
                running.await
            }
        };
        Ok(result.map_err(|_| SessionError::Interrupted)??)
    }
}

/// Returns what a store has for a profile; nothing if the session there is another profile's.
pub(super) fn ignore_other_profile(read: Result<Option<Session>, StoreError>) -> Result<Option<Session>, StoreError> {
    match read {
        Err(StoreError::OtherProfile { .. }) => Ok(None),
        read => read,
    }
}

/// Returns the session if it is of the profile's issuer and client and no logout has begun.
///
/// A login to another issuer is complete when the profile is saved: until then, the profile uses the session that the new
/// one replaces, also if the login was interrupted.
pub(super) fn current_session(profile: &Profile, stored: Option<Session>) -> Result<Session, SessionError> {
    let reason = match stored {
        None => LoginReason::NoSession(profile.name.clone()),
        Some(session) if session.logged_out => LoginReason::NoSession(profile.name.clone()),
        Some(session) if session.belongs_to(profile) => return Ok(Session { replaces: None, ..session }),
        Some(Session { replaces: Some(old), .. }) if old.belongs_to(profile) => return Ok(*old),
        Some(session) if session.issuer != profile.issuer => LoginReason::OtherIssuer { found: session.issuer },
        Some(session) => LoginReason::OtherClient { found: session.client_id },
    };
    Err(SessionError::LoginRequired(reason))
}
