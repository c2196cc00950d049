//! Refreshed sessions that could not be stored: they are stored as soon as the store accepts them.
//!
//! The refresh token that was sent for such a session is spent, so the session exists nowhere else. Its profile lock is held
//! until it is stored: no other process sends the spent refresh token. It is left to a login or logout, with a note for a
//! process that would refresh.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::stores::current_session;
use super::unsaved_lock::{SharedLock, UnsavedLock};
use super::{HeldProfile, SessionError, SessionService};
use crate::clock::{UnixTime, doubled};
use crate::model::{Generation, Profile, ProfileName, Session};
use crate::store::ProfileLock;

/// A refreshed session that is not stored.
#[derive(Clone, Debug)]
pub struct UnsavedSession {
    pub(super) session: Arc<Session>,
    /// Whether the issuer has replaced the refresh token that is stored. If not, the stored session is still valid.
    pub(super) replaces_refresh_token: bool,
    /// The mark that the stored session has of the refresh (`Session::refreshing_since`).
    pub(super) refreshing_since: Option<UnixTime>,
    /// When storing it failed first.
    pub since: UnixTime,
    /// Why it was not stored at the last attempt.
    pub error: Arc<SessionError>,
}

impl UnsavedSession {
    /// Returns the error of a session that is not stored and that no further attempt is made to store.
    #[must_use]
    pub fn given_up(&self) -> SessionError {
        self.error(self.replaces_refresh_token)
    }

    fn error(&self, is_lost: bool) -> SessionError {
        SessionError::Unsaved { error: Arc::clone(&self.error), is_lost }
    }
}

/// The sessions that are not stored.
pub type UnsavedSessions = HashMap<ProfileName, UnsavedSession>;

/// How often a session is written before it counts as unsaved, unless a store takes longer than this to refuse it, and the first
/// wait in between, which doubles.
const QUICK_ATTEMPTS: u32 = 6;
const QUICK_LIMIT: Duration = Duration::from_secs(2);
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The first wait between two later attempts, and the longest. A locked keychain may ask the user at each of them.
const LATER_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(8);

/// How long a command tries to store a refreshed session, from its first attempt to its last.
pub const UNSAVED_LIMIT: Duration = Duration::from_secs(60);

/// How long the agent leaves the lock of an unsaved session to a login or logout, after the wait for its next attempt.
const RELEASE_TIME: Duration = Duration::from_secs(10);

/// How long a refresh waits for an agent that has left its lock. An agent that has ended has lost its session by then.
const MAX_RELEASE: Duration = Duration::from_secs(MAX_WAIT.as_secs() + RELEASE_TIME.as_secs() + 12);

/// How often a refresh looks whether the agent has taken its lock again.
const RELEASED_WAIT: Duration = Duration::from_millis(100);

/// What has replaced an unsaved session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replacement {
    Login,
    Logout,
}

/// The outcome of storing a refreshed session.
pub(super) enum StoreOutcome {
    Done,
    /// Another process has stored a session in the meantime.
    Replaced(Box<Session>),
    /// Not stored so far. It is served from memory.
    Later,
}

impl SessionService {
    /// Returns the sessions that are not stored, and later changes.
    #[must_use]
    pub fn unsaved(&self) -> watch::Receiver<UnsavedSessions> {
        self.unsaved.subscribe()
    }

    /// Serves unsaved sessions from memory, and tries to store them for as long as this process runs.
    pub fn serve_unsaved(&self) {
        self.serves_unsaved.store(true, Ordering::Relaxed);
    }

    /// Returns the error of a profile whose session is unsaved. It is not refreshed: the new session could not be stored
    /// either.
    pub(super) fn unsaved_error(&self, name: &ProfileName) -> Option<SessionError> {
        self.unsaved.borrow().get(name).map(|unsaved| unsaved.error(false))
    }

    /// Returns the profile's session if it is unsaved.
    pub(super) fn unsaved_session(&self, name: &ProfileName) -> Option<Session> {
        self.unsaved.borrow().get(name).map(|unsaved| Session::clone(&unsaved.session))
    }

    /// Stores a refreshed session over `before`, from which the refresh began, and keeps trying where the store fails: a
    /// command for [`UNSAVED_LIMIT`], the agent until it succeeds. Takes `held` if the attempts continue after this call, as in
    /// the agent.
    pub(super) async fn store_refreshed(
        self: &Arc<Self>,
        profile: &Profile,
        session: &Session,
        before: &Session,
        held: &mut Option<HeldProfile>,
    ) -> Result<StoreOutcome, SessionError> {
        let start = self.clock.monotonic();
        for attempt in 1.. {
            let error = match self.write_over(profile, session, &before.generation).await {
                Ok(None) => return Ok(StoreOutcome::Done),
                Ok(Some(other)) => return Ok(StoreOutcome::Replaced(Box::new(other))),
                Err(error) => error,
            };
            tracing::warn!("cannot store the session, trying again: {error}");
            if attempt == QUICK_ATTEMPTS || self.since(start) >= QUICK_LIMIT {
                self.set_unsaved(profile, session, before, error);
                break;
            }
            self.clock.sleep(doubled(FIRST_WAIT, attempt - 1, MAX_WAIT)).await;
        }
        if !self.serves_unsaved.load(Ordering::Relaxed) {
            return self.store_later(profile, session, before, UNSAVED_LIMIT.saturating_sub(self.since(start))).await;
        }
        let Some(HeldProfile { lock, _signals }) = held.take() else { return Err(SessionError::LockLost) };
        let (service, profile) = (Arc::clone(self), profile.clone());
        let (session, before) = (session.clone(), before.clone());
        let shared = Arc::new(tokio::sync::Mutex::new(UnsavedLock::Held(lock)));
        self.unsaved_locks().insert(profile.name.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let _until_done = _signals;
            service.store_under(&shared, &profile, &session, &before).await;
            service.unsaved_locks().retain(|_, lock| !Arc::ptr_eq(lock, &shared));
            if let UnsavedLock::Held(lock) = std::mem::replace(&mut *shared.lock().await, UnsavedLock::Ended) {
                lock.release().await;
            }
        });
        Ok(StoreOutcome::Later)
    }

    fn unsaved_locks(&self) -> MutexGuard<'_, HashMap<ProfileName, SharedLock>> {
        self.unsaved_locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to store an unsaved session until it succeeds, or a login or logout replaces it.
    async fn store_under(
        self: &Arc<Self>,
        shared: &SharedLock,
        profile: &Profile,
        session: &Session,
        before: &Session,
    ) {
        for attempt in 0.. {
            self.clock.sleep(doubled(LATER_WAIT, attempt, MAX_WAIT)).await;
            let mut lock = shared.lock().await;
            if matches!(*lock, UnsavedLock::Released { .. }) {
                drop(lock);
                self.clock.sleep(RELEASE_TIME).await;
                let Ok(taken) = self.lock(profile).await else { continue };
                taken.set_given_up(None).await;
                lock = shared.lock().await;
                let UnsavedLock::Released { revoke } = *lock else { return taken.release().await };
                *lock = UnsavedLock::Held(taken);
                if let Some(by) = self.replacement(profile, session).await {
                    return self.end_unsaved(profile, session.clone(), by, revoke).await;
                }
            }
            if matches!(*lock, UnsavedLock::Ended) {
                return;
            }
            match self.write_over(profile, session, &before.generation).await {
                Ok(_) => return self.unsaved.send_modify(|unsaved| drop(unsaved.remove(&profile.name))),
                Err(error) => self.set_unsaved(profile, session, before, error),
            }
        }
    }

    /// Releases the lock of an unsaved session for a while, so that a login can store another one, or a logout delete it. Once
    /// one has, the unsaved session is dropped, and revoked after a logout if `revoke` is set; until then it is served and stored
    /// as before.
    pub async fn release_unsaved(self: &Arc<Self>, profile: &Profile, revoke: bool) {
        let Some(shared) = self.unsaved_locks().get(&profile.name).cloned() else { return };
        let mut lock = shared.lock().await;
        let Some(unsaved) = self.unsaved.borrow().get(&profile.name).cloned() else { return };
        if let Some(by) = self.replacement(profile, &unsaved.session).await {
            let before = std::mem::replace(&mut *lock, UnsavedLock::Ended);
            self.end_unsaved(profile, Session::clone(&unsaved.session), by, revoke).await;
            if let UnsavedLock::Held(held) = before {
                held.release().await;
            }
            return;
        }
        match &mut *lock {
            UnsavedLock::Held(held) => {
                // A process that locks it from now on would find the spent refresh token, and send it.
                if unsaved.replaces_refresh_token
                    && let Some(since) = unsaved.refreshing_since
                    && let Err(error) = held.set_spent(since, self.clock.now().plus(MAX_RELEASE)).await
                {
                    return tracing::warn!("{}: the lock is not left to a login or logout: {error}", profile.name);
                }
                if let UnsavedLock::Held(held) = std::mem::replace(&mut *lock, UnsavedLock::Released { revoke }) {
                    held.release().await;
                }
            }
            UnsavedLock::Released { revoke: before } => *before &= revoke,
            UnsavedLock::Ended => {}
        }
    }

    /// Takes the profile lock for a refresh, once no other process has the session that replaces the stored one.
    pub(super) async fn lock_to_refresh(&self, profile: &Profile) -> Result<ProfileLock, SessionError> {
        loop {
            let lock = self.lock(profile).await?;
            let Some((since, until)) = lock.spent().await else { return Ok(lock) };
            let now = self.clock.now();
            if now >= until || until > now.plus(MAX_RELEASE) {
                return Ok(lock);
            }
            let stored = match self.session(profile).await {
                // Read a moment later, it could be the session whose refresh token is spent.
                Err(error @ SessionError::Store(_)) => {
                    lock.release().await;
                    return Err(error);
                }
                stored => stored.ok(),
            };
            if stored.and_then(|stored| stored.refreshing_since) != Some(since) {
                return Ok(lock);
            }
            lock.release().await;
            self.clock.sleep(RELEASED_WAIT).await;
        }
    }

    /// Returns what another process has done if it has stored another session or logged out.
    async fn replacement(&self, profile: &Profile, unsaved: &Session) -> Option<Replacement> {
        let (marks, kind, name) = (Arc::clone(&self.marks), profile.store, profile.name.clone());
        let generation = unsaved.generation.clone();
        let read = self.with_store(kind, profile.name.as_str(), move |store| {
            // A store that is away may seem empty.
            if !marks.is_changed_elsewhere(kind, &name) {
                return Ok(None);
            }
            Ok(match store.read(&name)? {
                Some(stored) if !stored.logged_out => {
                    (stored.generation.next() != generation).then_some(Replacement::Login)
                }
                _ => Some(Replacement::Logout),
            })
        });
        read.await.unwrap_or(None)
    }

    /// Ends the unsaved session of a profile that this process has logged out of, under the profile lock.
    pub(super) async fn end_unsaved_after_logout(self: &Arc<Self>, profile: &Profile, revoke: bool) {
        let Some(shared) = self.unsaved_locks().get(&profile.name).cloned() else { return };
        *shared.lock().await = UnsavedLock::Ended;
        if let Some(unsaved) = self.unsaved_session(&profile.name) {
            self.end_unsaved(profile, unsaved, Replacement::Logout, revoke).await;
        }
    }

    /// Drops an unsaved session that a login or a logout has replaced. After a logout its tokens are denied, and revoked if
    /// `revoke` is set: nothing else knows them. After a login they expire, like those of a stored session that a login replaces:
    /// some issuers end every session of the user with one.
    async fn end_unsaved(self: &Arc<Self>, profile: &Profile, unsaved: Session, by: Replacement, revoke: bool) {
        self.unsaved.send_modify(|unsaved| drop(unsaved.remove(&profile.name)));
        if by == Replacement::Login {
            return;
        }
        if let Err(error) = self.mark_revoked(&unsaved).await {
            tracing::warn!("cannot mark the tokens of the session of {} as revoked: {error}", profile.name);
        }
        if revoke {
            let (sessions, profile) = (Arc::clone(self), profile.clone());
            tokio::spawn(async move { sessions.discard(&profile, &unsaved).await });
        }
    }

    /// Tries to store an unsaved session until it succeeds, for `limit` at most.
    async fn store_later(
        &self,
        profile: &Profile,
        session: &Session,
        before: &Session,
        limit: Duration,
    ) -> Result<StoreOutcome, SessionError> {
        // The time for which the process is stopped between two attempts does not count.
        let (mut passed, mut took, mut attempts) = (Duration::ZERO, Duration::ZERO, 0);
        loop {
            // The last attempt ends in time if it takes as long as the one before.
            let wait = doubled(LATER_WAIT, attempts, MAX_WAIT).min(limit.saturating_sub(passed + took));
            attempts += 1;
            self.clock.sleep(wait).await;
            let attempted = self.clock.monotonic();
            let stored = match self.write_over(profile, session, &before.generation).await {
                Ok(None) => StoreOutcome::Done,
                Ok(Some(other)) => StoreOutcome::Replaced(Box::new(other)),
                Err(error) => {
                    self.set_unsaved(profile, session, before, error);
                    took = self.since(attempted);
                    passed += wait + took;
                    if passed + took < limit {
                        continue;
                    }
                    let unsaved = self.unsaved.borrow();
                    return Err(unsaved.get(&profile.name).map_or(SessionError::Interrupted, UnsavedSession::given_up));
                }
            };
            self.unsaved.send_modify(|unsaved| drop(unsaved.remove(&profile.name)));
            return Ok(stored);
        }
    }

    fn since(&self, start: Instant) -> Duration {
        self.clock.monotonic().saturating_duration_since(start)
    }

    fn set_unsaved(&self, profile: &Profile, session: &Session, before: &Session, error: SessionError) {
        let error = Arc::new(error);
        self.unsaved.send_modify(|all| match all.get_mut(&profile.name) {
            Some(unsaved) => unsaved.error = error,
            None => {
                let unsaved = UnsavedSession {
                    session: Arc::new(session.clone()),
                    replaces_refresh_token: !session.has_refresh_token_of(before),
                    refreshing_since: before.refreshing_since,
                    since: self.clock.now(),
                    error,
                };
                all.insert(profile.name.clone(), unsaved);
            }
        });
    }

    /// Writes `session` over the one of that generation, or returns what another process has stored instead, such as a
    /// login.
    async fn write_over(
        &self,
        profile: &Profile,
        session: &Session,
        before: &Generation,
    ) -> Result<Option<Session>, SessionError> {
        let (profile, session, before) = (profile.clone(), session.clone(), before.clone());
        let marks = Arc::clone(&self.marks);
        let (kind, name) = (profile.store, profile.name.clone());
        self.change(kind, &name, move |store| {
            // Only where another process has left its mark: reading takes time, in which this one may be killed.
            if marks.is_changed_elsewhere(kind, &profile.name)
                && let Ok(Some(stored)) = store.read(&profile.name)
                && current_session(&profile, Some(stored.clone())).map_or(true, |stored| stored.generation != before)
            {
                return Ok(Some(stored));
            }
            store.write(&profile.name, &session).map(|()| None)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::slow_store;
    use super::super::{LockDirectories, Stores};
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::model::StoreKind;
    use crate::oauth::testing::TestClock;
    use crate::secret::Secret;
    use crate::store::tests::session;
    use crate::store::{FileStore, KeySource, Store};

    fn profile() -> Profile {
        let issuer = "https://a.example".parse().expect("valid");
        Profile {
            store: StoreKind::File,
            client_id: "cli".into(),
            ..Profile::new("work".parse().expect("valid"), issuer)
        }
    }

    fn service(dir: &Path, clock: &Arc<impl Clock + 'static>) -> Arc<SessionService> {
        let key = KeySource::Default(dir.join("authctl.key"));
        service_of(Arc::new(FileStore::new(dir.join("sessions"), key)), dir, clock)
    }

    fn service_of(store: Arc<dyn Store>, dir: &Path, clock: &Arc<impl Clock + 'static>) -> Arc<SessionService> {
        let stores = Stores { keychain: Arc::clone(&store), file: Arc::clone(&store), memory: store };
        let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
        let locks = LockDirectories { keychain: dir.join("locks"), file: dir.join("locks") };
        SessionService::new(clock, stores, locks, dir.join("revoked"))
    }

    async fn held(service: &SessionService) -> Option<HeldProfile> {
        let lock = service.lock(&profile()).await.expect("free");
        Some(HeldProfile { lock, _signals: service.hold_off_signals().await })
    }

    /// A session and the one that a refresh made of it, with another refresh token if `rotated`.
    fn refreshed(rotated: bool) -> (Session, Session) {
        let mut read = session("old");
        read.tokens.refresh_token = Some(Secret::new("first".into()));
        let mut new = Session { generation: read.generation.next(), ..session("new") };
        new.tokens.refresh_token = Some(Secret::new(if rotated { "second".into() } else { "first".into() }));
        (read, new)
    }

    #[tokio::test]
    async fn command_gives_up_after_a_minute_and_names_the_loss() {
        for rotated in [true, false] {
            let (dir, clock) = (tempfile::tempdir().expect("tempdir"), Arc::new(TestClock::new()));
            std::fs::write(dir.path().join("sessions"), "").expect("written");
            let service = service(dir.path(), &clock);
            let (read, new) = refreshed(rotated);
            let start = clock.monotonic();
            let stored = service.store_refreshed(&profile(), &new, &read, &mut held(&service).await).await;
            let Err(error) = stored else { panic!("stored") };
            let waited = clock.monotonic() - start;
            assert_eq!(waited, UNSAVED_LIMIT);
            assert_eq!(error.to_string().ends_with("; the session is lost"), rotated, "{error}");
        }
    }

    #[tokio::test]
    async fn time_in_which_the_process_is_stopped_does_not_count() {
        let (dir, clock) = (tempfile::tempdir().expect("tempdir"), Arc::new(TestClock::new()));
        let blocked = dir.path().join("sessions");
        std::fs::write(&blocked, "").expect("written");
        let service = service(dir.path(), &clock);
        let (mut unsaved, stopped) = (service.unsaved(), Arc::clone(&clock));
        tokio::spawn(async move {
            unsaved.wait_for(|unsaved| !unsaved.is_empty()).await.expect("unsaved");
            drop(stopped.sleep(Duration::from_secs(3600)));
            // Another attempt has failed since.
            unsaved.changed().await.expect("unsaved");
            std::fs::remove_file(&blocked).expect("removed");
        });
        let (read, new) = refreshed(true);
        let stored = service.store_refreshed(&profile(), &new, &read, &mut held(&service).await).await;
        assert!(matches!(stored, Ok(StoreOutcome::Done)));
    }

    #[tokio::test]
    async fn limit_includes_what_the_attempts_take() {
        for seconds in [1, 4, 11, 70] {
            let (dir, clock) = (tempfile::tempdir().expect("tempdir"), Arc::new(TestClock::new()));
            let service = service_of(slow_store(&clock, Duration::from_secs(seconds)), dir.path(), &clock);
            let (read, new) = refreshed(true);
            let (start, unsaved) = (clock.monotonic(), service.unsaved());
            let profile = profile();
            let mut held = held(&service).await;
            let stored = service.store_refreshed(&profile, &new, &read, &mut held).await;
            let (waited, attempts) =
                (clock.monotonic() - start, clock.waits().iter().filter(|wait| **wait == seconds).count());
            assert!(stored.is_err() && !unsaved.borrow().is_empty());
            assert!(waited <= UNSAVED_LIMIT.max(Duration::from_secs(2 * seconds + 1)), "{seconds}: {waited:?}");
            assert!(attempts > 1 && waited + Duration::from_secs(2 * seconds) > UNSAVED_LIMIT, "{seconds}: {waited:?}");
        }
    }

    #[tokio::test]
    async fn agent_serves_the_session_under_its_lock_until_it_is_stored() {
        let (dir, clock) = (tempfile::tempdir().expect("tempdir"), Arc::new(TestClock::new()));
        let blocked = dir.path().join("sessions");
        std::fs::write(&blocked, "").expect("written");
        let service = service(dir.path(), &clock);
        service.serve_unsaved();
        let mut unsaved = service.unsaved();
        let (read, new) = refreshed(true);
        let mut held = held(&service).await;
        let stored = service.store_refreshed(&profile(), &new, &read, &mut held).await;
        assert!(matches!(stored, Ok(StoreOutcome::Later)) && held.is_none());
        assert_eq!(service.session_blocking(&profile()).expect("served").tokens.access_token.expose(), "new");
        let lock = || crate::store::ProfileLock::try_acquire(&service.locks().file, &profile().name).expect("opened");
        assert!(lock().is_none(), "no other process refreshes");
        std::fs::remove_file(&blocked).expect("removed");
        let stored = tokio::time::timeout(Duration::from_secs(20), unsaved.wait_for(HashMap::is_empty)).await;
        stored.expect("stored in time").expect("not closed");
        service.close().await;
        assert!(lock().is_some());
        let stored = service.stored(&profile()).await.expect("readable").expect("there");
        assert_eq!(stored.tokens.access_token.expose(), "new");
    }

    /// On the machine's clock: another would end the time for which the lock is left to the logout at once.
    #[tokio::test]
    async fn logout_of_the_agent_ends_an_unsaved_session() {
        let (dir, clock) = (tempfile::tempdir().expect("tempdir"), Arc::new(SystemClock));
        let service = service(dir.path(), &clock);
        service.serve_unsaved();
        let (read, new) = refreshed(true);
        service.write(&profile(), &read).await.expect("written");
        let (sessions, away) = (dir.path().join("sessions"), dir.path().join("away"));
        std::fs::rename(&sessions, &away).expect("moved");
        std::fs::write(&sessions, "").expect("written");
        let mut held = held(&service).await;
        let stored = service.store_refreshed(&profile(), &new, &read, &mut held).await;
        assert!(matches!(stored, Ok(StoreOutcome::Later)));
        // It does not wait for the lock, which the agent has, and nothing is lost while the store is away.
        let refused = service.logout(&profile(), false).await;
        assert!(matches!(refused, Err(SessionError::Store(_))), "{refused:?}");
        assert!(service.unsaved().borrow().contains_key(&profile().name));
        std::fs::remove_file(&sessions).expect("removed");
        std::fs::rename(&away, &sessions).expect("back");
        service.logout(&profile(), false).await.expect("logged out");
        assert!(service.unsaved().borrow().is_empty());
        service.close().await;
        assert!(service.stored(&profile()).await.expect("readable").is_none(), "it is not stored afterwards");
    }

    #[tokio::test]
    async fn store_that_seems_empty_ends_no_unsaved_session() {
        let (dir, clock) = (tempfile::tempdir().expect("tempdir"), Arc::new(TestClock::new()));
        let service = service(dir.path(), &clock);
        service.serve_unsaved();
        let mut unsaved = service.unsaved();
        let (mut read, new) = refreshed(true);
        read.refreshing_since = Some(clock.now());
        service.write(&profile(), &read).await.expect("written");
        // Nothing is found there, and nothing can be written.
        let (sessions, away) = (dir.path().join("sessions"), dir.path().join("away"));
        std::fs::rename(&sessions, &away).expect("moved");
        std::os::unix::fs::symlink("/proc/nowhere", &sessions).expect("linked");
        assert!(matches!(service.stored(&profile()).await, Ok(None)));
        let mut held = held(&service).await;
        let stored = service.store_refreshed(&profile(), &new, &read, &mut held).await;
        assert!(matches!(stored, Ok(StoreOutcome::Later)));
        for _ in 0..2 {
            service.release_unsaved(&profile(), true).await;
            let attempted = async {
                for _ in 0..4 {
                    unsaved.changed().await.expect("open");
                }
            };
            tokio::time::timeout(Duration::from_secs(20), attempted).await.expect("more attempts");
            assert!(unsaved.borrow().contains_key(&profile().name), "the only copy");
        }
        std::fs::remove_file(&sessions).expect("removed");
        std::fs::rename(&away, &sessions).expect("back");
        let stored = tokio::time::timeout(Duration::from_secs(20), unsaved.wait_for(HashMap::is_empty)).await;
        stored.expect("stored in time").expect("not closed");
        service.close().await;
        let stored = service.stored(&profile()).await.expect("readable").expect("there");
        assert_eq!(stored.tokens.access_token.expose(), "new");
    }

    #[tokio::test]
    async fn login_of_another_process_is_not_overwritten() {
        let (dir, clock) = (tempfile::tempdir().expect("tempdir"), Arc::new(TestClock::new()));
        let (ours, theirs) = (service(dir.path(), &clock), service(dir.path(), &clock));
        let (read, new) = refreshed(true);
        ours.write(&profile(), &read).await.expect("written");
        let mut login = session("login");
        login.generation.login = "another".into();
        theirs.write(&profile(), &login).await.expect("written");
        let stored = ours.store_refreshed(&profile(), &new, &read, &mut held(&ours).await).await;
        assert!(matches!(stored, Ok(StoreOutcome::Replaced(stored)) if stored.tokens.access_token.expose() == "login"));
    }
}
