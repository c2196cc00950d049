use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::{ProfileName, RecordName, StoreKind};
use crate::oauth::testing::TestClock;
use crate::secret::SecretBytes;
use crate::session::{LockDirectories, LoginReason, Stores};
use crate::store::tests::session;
use crate::store::{FileStore, KeySource, Store, StoreError};

/// Writes to files, and fails like a keychain that does not respond in time: whether or not it has stored the session.
struct Failing {
    files: FileStore,
    /// Whether each of the next writes succeeds. All others fail.
    writes: Mutex<VecDeque<bool>>,
    /// Whether a write that fails has stored the session.
    stores: bool,
}

impl Store for Failing {
    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError> {
        self.files.read(profile)
    }

    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError> {
        let is_good = self.writes.lock().expect("unpoisoned").pop_front().unwrap_or(false);
        if is_good || self.stores {
            self.files.write(profile, session)?;
        }
        if is_good { Ok(()) } else { Err(StoreError::TimedOut { limit: Duration::from_secs(4) }) }
    }

    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError> {
        self.files.delete(profile)
    }

    fn reserve(&self, profile: &ProfileName, bytes: usize) -> Result<(), StoreError> {
        self.files.reserve(profile, bytes)
    }

    fn read_record(&self, record: &RecordName) -> Result<Option<SecretBytes>, StoreError> {
        self.files.read_record(record)
    }

    fn write_record(&self, record: &RecordName, bytes: &SecretBytes) -> Result<(), StoreError> {
        self.files.write_record(record, bytes)
    }

    fn location(&self, profile: &ProfileName) -> String {
        self.files.location(profile)
    }
}

fn profile(issuer: &str) -> Profile {
    let profile = Profile::new("work".parse().expect("a name"), issuer.parse().expect("an issuer"));
    Profile { client_id: "cli".into(), store: StoreKind::File, ..profile }
}

fn files(dir: &Path) -> FileStore {
    FileStore::new(dir.join("sessions"), KeySource::Default(dir.join("key")))
}

fn service(dir: &Path, writes: &[bool], stores: bool) -> Arc<SessionService> {
    let writes = Mutex::new(writes.iter().copied().collect());
    let store: Arc<dyn Store> = Arc::new(Failing { files: files(dir), writes, stores });
    let stores = Stores { keychain: Arc::clone(&store), file: Arc::clone(&store), memory: store };
    let locks = LockDirectories { keychain: dir.join("locks"), file: dir.join("locks") };
    SessionService::new(Arc::new(TestClock::new()), stores, locks, dir.join("revoked"))
}

/// A login of the profile, whose access token is `token`.
fn login(profile: &Profile, token: &str) -> VerifiedLogin {
    let generation = Generation { login: token.to_owned(), number: 0 };
    VerifiedLogin {
        replace: false,
        session: Session { generation, issuer: profile.issuer.clone(), ..session(token) },
        keys: None,
        trust: Trust::none(profile.issuer.clone()),
        trust_damaged: false,
        pinned: None,
        pinned_before: None,
        acr: None,
    }
}

fn token(session: &Session) -> &str {
    session.tokens.access_token.expose()
}

#[tokio::test]
async fn login_succeeds_if_a_write_that_failed_has_stored_the_session() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (sessions, profile) = (service(dir.path(), &[], true), profile("https://a.example"));
    let saved = sessions.commit_login(&profile, login(&profile, "new"), None, || Ok::<(), SessionError>(())).await;
    assert!(saved.expect("logged in").is_none());
    assert_eq!(token(&sessions.session(&profile).await.expect("stored")), "new");
}

#[tokio::test]
async fn login_succeeds_when_the_store_is_available_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (sessions, profile) = (service(dir.path(), &[false, false, true], false), profile("https://a.example"));
    let saved = sessions.commit_login(&profile, login(&profile, "new"), None, || Ok::<(), SessionError>(())).await;
    assert!(saved.expect("logged in").is_none());
    assert_eq!(token(&sessions.session(&profile).await.expect("stored")), "new");
}

#[tokio::test]
async fn login_that_is_not_stored_keeps_the_old_session() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (sessions, profile) = (service(dir.path(), &[], false), profile("https://a.example"));
    files(dir.path()).write(&profile.name, &session("old")).expect("written");
    let saved = sessions.commit_login(&profile, login(&profile, "new"), None, || Ok::<(), SessionError>(())).await;
    assert!(matches!(saved, Err(SessionError::Store(StoreError::TimedOut { .. }))), "{saved:?}");
    assert_eq!(token(&sessions.session(&profile).await.expect("stored")), "old");
}

#[tokio::test]
async fn failed_login_restores_the_session_when_the_store_is_available_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (sessions, profile) = (service(dir.path(), &[true, false, false, true], false), profile("https://a.example"));
    files(dir.path()).write(&profile.name, &session("old")).expect("written");
    let reason = || Err(SessionError::Interrupted);
    let saved = sessions.commit_login(&profile, login(&profile, "new"), Some(profile.clone()), reason).await;
    assert!(matches!(saved, Err(SessionError::Interrupted)), "{saved:?}");
    assert_eq!(token(&sessions.session(&profile).await.expect("stored")), "old");
}

#[tokio::test]
async fn failed_restore_does_not_hide_why_the_login_failed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (sessions, old, new) =
        (service(dir.path(), &[true], false), profile("https://a.example"), profile("https://b.example"));
    files(dir.path()).write(&old.name, &session("old")).expect("written");
    let name = new.name.clone();
    let reason = || Err(SessionError::LoginRequired(LoginReason::NoSession(name)));
    let saved = sessions.commit_login(&new, login(&new, "new"), Some(old.clone()), reason).await;
    assert!(matches!(saved, Err(SessionError::LoginRequired(LoginReason::NoSession(_)))), "{saved:?}");
    // The profile is not saved, so it still has the old issuer, and its session with it.
    assert_eq!(token(&sessions.session(&old).await.expect("stored")), "old");
    assert!(matches!(sessions.stored(&new).await, Ok(Some(stored)) if token(&stored) == "new"));
}

/// Starts a server that gives every request this response; returns its address and the number of requests.
fn server(body: &'static str) -> (String, Arc<AtomicUsize>) {
    let (listener, requests) = (TcpListener::bind("127.0.0.1:0").expect("a port"), Arc::<AtomicUsize>::default());
    let (address, counted) = (listener.local_addr().expect("bound"), Arc::clone(&requests));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
            let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    (format!("http://{address}"), requests)
}

#[tokio::test]
async fn tokens_of_a_failed_login_are_revoked_if_the_session_was_restored() {
    for restored in [true, false] {
        let (dir, (address, requests)) = (tempfile::tempdir().expect("tempdir"), server("{}"));
        let (sessions, mut profile) = (service(dir.path(), &[true, restored], false), profile(&address));
        let endpoints = &mut profile.server_mut().endpoints;
        endpoints.token = format!("{address}/token").parse().ok();
        endpoints.revocation = format!("{address}/revoke").parse().ok();
        files(dir.path()).write(&profile.name, &session("old")).expect("written");
        let (new, failed) = (login(&profile, "new"), || Err(SessionError::Interrupted));
        let discarded = new.session.clone();
        let saved = sessions.commit_login(&profile, new, Some(profile.clone()), failed).await;
        assert!(saved.is_err(), "{saved:?}");
        sessions.discard(&profile, &discarded).await;
        assert_eq!(requests.load(Ordering::Relaxed) > 0, restored, "a session that is in use is not revoked");
    }
}

#[tokio::test]
async fn name_that_repeats_a_secret_is_not_shown() {
    for (body, shown) in [
        (r#"{"sub":"1","preferred_username":"alice"}"#, Some("alice")),
        (r#"{"sub":"1","preferred_username":"the refresh token is hunter2-refresh"}"#, None),
        (r#"{"sub":"1","email":"hunter2-access@a.example"}"#, None),
        (r#"{"sub":"1","name":"hunter2-client"}"#, None),
    ] {
        let (dir, (address, _)) = (tempfile::tempdir().expect("tempdir"), server(body));
        let (sessions, profile) = (service(dir.path(), &[], false), profile(&address));
        let mut metadata = Metadata::new(profile.issuer.clone());
        metadata.userinfo_endpoint = format!("{address}/userinfo").parse().ok();
        let mut tokens = session("hunter2-access").tokens;
        tokens.refresh_token = Some(Secret::new("hunter2-refresh".into()));
        let new = NewLogin {
            grant: Grant::Browser,
            tokens,
            nonce: None,
            client_secret: Some(Secret::new("hunter2-client".into())),
            dpop_key: None,
            max_auth_age: None,
            pinned: None,
        };
        let verified = sessions.verify_login(&profile, &metadata, new).await.expect("verified");
        let subject = verified.session.subject.expect("fetched");
        assert_eq!((subject.sub.as_str(), subject.name.as_deref()), ("1", shown), "{body}");
    }
}

#[tokio::test]
async fn issuer_that_does_not_send_its_metadata_is_unreachable() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let dir = tempfile::tempdir().expect("tempdir");
    let profile = profile(&format!("http://{}", silent.local_addr().expect("bound")));
    let sessions = service(dir.path(), &[], false);
    let metadata = tokio::time::timeout(Duration::from_secs(10), sessions.metadata_with(&profile, &[]));
    let error = metadata.await.expect("limited").expect_err("silent");
    assert_eq!(error.to_string(), format!("no metadata of {} within 35 s", profile.issuer));
}

#[tokio::test]
async fn login_to_another_store_deletes_the_session_in_the_old_one() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = |name: &str| -> Arc<dyn Store> {
        Arc::new(FileStore::new(dir.path().join(name), KeySource::Default(dir.path().join("key"))))
    };
    let (keychain, file) = (store("keychain"), store("file"));
    let stores = Stores { keychain: Arc::clone(&keychain), file: Arc::clone(&file), memory: Arc::clone(&file) };
    for keychain_locks in ["locks", "other-locks"] {
        let locks = LockDirectories { keychain: dir.path().join(keychain_locks), file: dir.path().join("locks") };
        let revoked = dir.path().join("revoked");
        let sessions = SessionService::new(Arc::new(TestClock::new()), stores.clone(), locks, revoked);
        let new = profile("https://a.example");
        let old = Profile { store: StoreKind::Keychain, ..new.clone() };
        keychain.write(&old.name, &session("old")).expect("written");
        let saved = sessions.commit_login(&new, login(&new, "new"), Some(old), || Ok::<(), SessionError>(()));
        assert!(saved.await.expect("logged in").is_none());
        assert!(keychain.read(&new.name).expect("readable").is_none());
        assert!(file.read(&new.name).expect("readable").is_some_and(|stored| token(&stored) == "new"));
    }
}
