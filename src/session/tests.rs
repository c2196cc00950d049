//! Tests of refreshes against a store and an issuer that record what happens, and can fail.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::clock::UnixTime;
use crate::model::{ErrorCode, Profile, ProfileName, RecordName, RefreshFailure, Session, StoreKind};
use crate::oauth::testing::TestClock;
use crate::secret::{Secret, SecretBytes};
use crate::store::tests::session;
use crate::store::{FileStore, KeySource, ProfileLock, Store, StoreError};

/// What happened during a refresh, in order.
pub(crate) type Events = Arc<Mutex<Vec<&'static str>>>;

/// A store of one session, whose writes fail while `is_broken`, except the one that marks the beginning of a refresh.
struct TestStore {
    session: Arc<Mutex<Option<Session>>>,
    is_broken: bool,
    events: Events,
    /// A clock, and how long each failed write takes.
    slow: Option<(Arc<TestClock>, Duration)>,
}

/// Returns a store whose writes fail after this time.
pub(crate) fn slow_store(clock: &Arc<TestClock>, takes: Duration) -> Arc<dyn Store> {
    let slow = Some((Arc::clone(clock), takes));
    Arc::new(TestStore { session: Arc::default(), is_broken: true, events: Events::default(), slow })
}

impl Store for TestStore {
    fn read(&self, _: &ProfileName) -> Result<Option<Session>, StoreError> {
        Ok(self.session.lock().expect("unpoisoned").clone())
    }

    fn write(&self, _: &ProfileName, session: &Session) -> Result<(), StoreError> {
        let begins = session.refreshing_since.is_some();
        if begins && self.events.lock().expect("unpoisoned").last() == Some(&"late") {
            // As by a keychain that is stopped: it stores the mark after the caller has given up.
            *self.session.lock().expect("unpoisoned") = Some(session.clone());
            self.events.lock().expect("unpoisoned").push("marked");
            return Err(StoreError::TimedOut { limit: Duration::from_secs(4) });
        }
        if self.is_broken && !begins {
            if let Some((clock, takes)) = &self.slow {
                drop(clock.sleep(*takes));
            }
            return Err(StoreError::Locked);
        }
        self.events.lock().expect("unpoisoned").push(if begins { "marked" } else { "stored" });
        *self.session.lock().expect("unpoisoned") = Some(session.clone());
        Ok(())
    }

    fn delete(&self, _: &ProfileName) -> Result<bool, StoreError> {
        Err(StoreError::Locked)
    }

    fn reserve(&self, _: &ProfileName, _: usize) -> Result<(), StoreError> {
        self.events.lock().expect("unpoisoned").push("reserved");
        Ok(())
    }

    fn read_record(&self, _: &RecordName) -> Result<Option<SecretBytes>, StoreError> {
        Ok(None)
    }

    fn write_record(&self, _: &RecordName, _: &SecretBytes) -> Result<(), StoreError> {
        Ok(())
    }

    fn location(&self, _: &ProfileName) -> String {
        "memory".into()
    }
}

/// Starts an issuer that serves one request with `new` tokens, after calling `then`; returns its address.
fn issuer(events: &Events, then: impl FnOnce() + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let events = Arc::clone(events);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 4096]);
        events.lock().expect("unpoisoned").push("sent");
        then();
        let body = r#"{"access_token":"new","token_type":"Bearer","expires_in":300,"refresh_token":"next"}"#;
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    });
    format!("http://{address}")
}

/// Returns the service of a session that has expired, its profile, and what happens. The writes of the store fail while it
/// `is_broken`.
pub(crate) fn expired_session(dir: &Path, is_broken: bool) -> (Arc<SessionService>, Arc<TestClock>, Profile, Events) {
    expired_session_changed_by(dir, is_broken, |_| {})
}

/// The same, where another process changes the stored session while the issuer has the request.
fn expired_session_changed_by(
    dir: &Path,
    is_broken: bool,
    change: impl FnOnce(&mut Session) + Send + 'static,
) -> (Arc<SessionService>, Arc<TestClock>, Profile, Events) {
    let (clock, events) = (Arc::new(TestClock::new()), Events::default());
    let (locks, stored) = (dir.join("locks"), Arc::<Mutex<Option<Session>>>::default());
    let (theirs, lock_dir) = (Arc::clone(&stored), locks.clone());
    let address = issuer(&events, move || {
        let mut session = theirs.lock().expect("unpoisoned");
        change(session.as_mut().expect("stored"));
        ProfileLock::record_change(&lock_dir, &"work".parse().expect("a name"), UnixTime(1)).expect("recorded");
    });
    let mut profile = Profile::new("work".parse().expect("a name"), address.parse().expect("an issuer"));
    profile.store = StoreKind::File;
    profile.client_id = "cli".into();
    profile.server_mut().endpoints.token = format!("{address}/token").parse().ok();
    let mut session =
        Session { issuer: profile.issuer.clone(), client_id: profile.client_id.clone(), ..session("old") };
    session.tokens.refresh_token = Some(Secret::new("first".into()));
    session.tokens.expires_at = Some(UnixTime(300));
    *stored.lock().expect("unpoisoned") = Some(session);
    let store: Arc<dyn Store> =
        Arc::new(TestStore { session: Arc::clone(&stored), is_broken, events: Arc::clone(&events), slow: None });
    let stores = Stores { keychain: Arc::clone(&store), file: Arc::clone(&store), memory: store };
    let locks = LockDirectories { keychain: locks.clone(), file: locks };
    let sessions = SessionService::new(Arc::<TestClock>::clone(&clock), stores, locks, dir.join("revoked"));
    (sessions, clock, profile, events)
}

/// Requests a token of a session that has expired; returns the result and what happened.
async fn refreshed(is_broken: bool) -> (Result<ServedToken, SessionError>, Vec<&'static str>) {
    let dir = tempfile::tempdir().expect("a directory");
    let (sessions, _, profile, events) = expired_session(dir.path(), is_broken);
    let request = TokenRequest::own(Demand::ValidFor(MinTtl::Default));
    let seen = sessions.session(&profile).await.expect("stored");
    let refresh = sessions.refresh(&profile, &request, &seen);
    let result = tokio::time::timeout(Duration::from_secs(20), refresh).await;
    let result = result.expect("an end");
    let events = events.lock().expect("unpoisoned").clone();
    (result, events)
}

#[tokio::test]
async fn refreshed_session_is_stored_before_its_token_is_served() {
    let (served, events) = refreshed(false).await;
    assert_eq!(served.expect("a token").session.tokens.access_token.expose(), "new");
    let place = |event: &str| events.iter().position(|made| *made == event).unwrap_or_else(|| panic!("{events:?}"));
    assert!(place("marked") < place("sent") && place("reserved") < place("sent"), "{events:?}");
    assert!(place("sent") < place("stored"), "{events:?}");
}

#[tokio::test]
async fn token_is_not_served_while_its_session_cannot_be_stored() {
    let (served, events) = refreshed(true).await;
    assert!(served.is_err(), "{served:?}");
    assert_eq!(events.last(), Some(&"sent"), "the refresh token is spent, and nothing is stored");
}

#[tokio::test]
async fn session_of_a_concurrent_login_is_served_unless_it_has_ended() {
    for ended in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let (sessions, _, profile, events) = expired_session_changed_by(dir.path(), false, move |session| {
            session.generation.login = "another".into();
            session.tokens.access_token = Secret::new("other".into());
            session.tokens.expires_at = Some(UnixTime(1_700_003_600));
            session.ended = ended.then(|| RefreshFailure {
                at: UnixTime(1_700_000_000),
                failures: 1,
                refusals: 1,
                other_target: false,
                code: ErrorCode::IssuerRefused,
                message: "the issuer refused: invalid_grant".into(),
                retry_at: None,
            });
        });
        let request = TokenRequest::own(Demand::ValidFor(MinTtl::Default));
        let seen = sessions.session(&profile).await.expect("stored");
        let refresh = sessions.refresh(&profile, &request, &seen);
        let result = tokio::time::timeout(Duration::from_secs(20), refresh).await.expect("an end");
        match result {
            Ok(served) if !ended => assert_eq!(served.session.tokens.access_token.expose(), "other"),
            Err(SessionError::LoginRequired(LoginReason::Ended(_))) if ended => {}
            other => panic!("ended: {ended}: {other:?}"),
        }
        assert_eq!(events.lock().expect("unpoisoned").last(), Some(&"sent"), "the login's session is not overwritten");
    }
}

#[tokio::test]
async fn refresh_that_could_not_be_marked_is_not_in_doubt() {
    let dir = tempfile::tempdir().expect("a directory");
    let (sessions, clock, profile, events) = expired_session(dir.path(), false);
    let mut seen = sessions.session(&profile).await.expect("stored");
    seen.tokens.expires_at = Some(clock.now().plus(Duration::from_secs(100)));
    sessions.write(&profile, &seen).await.expect("written");
    events.lock().expect("unpoisoned").push("late");
    let request = TokenRequest::own(Demand::New);
    let error = sessions.refresh(&profile, &request, &seen).await.expect_err("not marked");
    assert!(matches!(error, SessionError::Store(StoreError::TimedOut { .. })), "{error}");
    let marked = sessions.session(&profile).await.expect("stored");
    assert!(marked.refreshing_since.is_some(), "the mark is stored after all");
    let refresh = tokio::time::timeout(Duration::from_secs(20), sessions.refresh(&profile, &request, &marked));
    let served = refresh.await.expect("an end").expect("nothing was sent before");
    assert_eq!(served.session.tokens.access_token.expose(), "new");
}

#[tokio::test]
async fn refresh_that_has_ended_in_the_meantime_is_not_in_doubt() {
    let dir = tempfile::tempdir().expect("a directory");
    let (sessions, clock, profile, _) = expired_session(dir.path(), false);
    let is_in_doubt = |session: &Session| sessions.failure_in_doubt(&profile, session).is_some();
    let ended = sessions.session(&profile).await.expect("stored");
    let running = Session { refreshing_since: Some(clock.now()), ..ended.clone() };
    assert!(!is_in_doubt(&running), "it has ended since the session was read");
    sessions.write(&profile, &running).await.expect("written");
    assert!(is_in_doubt(&running));
    let next = Session { generation: running.generation.next(), ..running.clone() };
    sessions.write(&profile, &next).await.expect("written");
    assert!(!is_in_doubt(&running), "another one is running");
    assert!(is_in_doubt(&next));
    let lock = sessions.lock(&profile).await.expect("free");
    assert!(!is_in_doubt(&next), "it may be running");
    lock.set_given_up(next.refreshing_since).await;
    lock.release().await;
    assert!(!is_in_doubt(&next), "nothing was sent");
}

#[tokio::test]
async fn failed_rename_leaves_one_session() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let store: Arc<dyn Store> = Arc::new(FileStore::new(at("sessions"), KeySource::Default(at("key"))));
    let stores = Stores { keychain: Arc::clone(&store), file: Arc::clone(&store), memory: Arc::clone(&store) };
    let locks = LockDirectories { keychain: at("locks"), file: at("locks") };
    let sessions = SessionService::new(Arc::new(TestClock::new()), stores, locks, at("revoked"));
    let issuer = "https://a.example".parse().expect("valid");
    let profile = Profile { store: StoreKind::File, ..Profile::new("work".parse().expect("a name"), issuer) };
    sessions.write(&profile, &session("t")).await.expect("written");
    let home = "home".parse().expect("a name");
    let renamed = sessions.rename(&profile, &home, || Err(SessionError::Interrupted)).await;
    renamed.expect_err("the configuration was not changed");
    assert_eq!(store.items().expect("listed"), ["work"]);
    sessions.rename(&profile, &home, || Ok::<(), SessionError>(())).await.expect("renamed");
    assert_eq!(store.items().expect("listed"), ["home"]);
}
