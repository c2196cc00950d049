//! Tests of refreshes against a store and an issuer that record what happens, and can fail.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::clock::UnixTime;
use crate::model::{Profile, ProfileName, RecordName, Session, StoreKind};
use crate::oauth::testing::TestClock;
use crate::secret::{Secret, SecretBytes};
use crate::store::tests::session;
use crate::store::{Store, StoreError};

/// What happened during a refresh, in order.
pub(crate) type Events = Arc<Mutex<Vec<&'static str>>>;

/// A store of one session, whose writes fail while `is_broken`, except the one that marks the beginning of a refresh.
struct TestStore {
    session: Mutex<Session>,
    is_broken: bool,
    events: Events,
}

impl Store for TestStore {
    fn read(&self, _: &ProfileName) -> Result<Option<Session>, StoreError> {
        Ok(Some(self.session.lock().expect("unpoisoned").clone()))
    }

    fn write(&self, _: &ProfileName, session: &Session) -> Result<(), StoreError> {
        let begins = session.refreshing_since.is_some();
        if self.is_broken && !begins {
            return Err(StoreError::Locked);
        }
        self.events.lock().expect("unpoisoned").push(if begins { "marked" } else { "stored" });
        *self.session.lock().expect("unpoisoned") = session.clone();
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

/// Starts an issuer that serves one request with `new` tokens; returns its address.
fn issuer(events: &Events) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let events = Arc::clone(events);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.read(&mut [0; 4096]);
        events.lock().expect("unpoisoned").push("sent");
        let body = r#"{"access_token":"new","token_type":"Bearer","expires_in":300,"refresh_token":"next"}"#;
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    });
    format!("http://{address}")
}

/// Returns the service of a session that has expired, its profile, and what happens. The writes of the store fail while it
/// `is_broken`.
pub(crate) fn expired_session(dir: &Path, is_broken: bool) -> (Arc<SessionService>, Arc<TestClock>, Profile, Events) {
    let (clock, events) = (Arc::new(TestClock::new()), Events::default());
    let address = issuer(&events);
    let mut profile = Profile::new("work".parse().expect("a name"), address.parse().expect("an issuer"));
    profile.store = StoreKind::File;
    profile.client_id = "cli".into();
    profile.server_mut().endpoints.token = format!("{address}/token").parse().ok();
    let mut session =
        Session { issuer: profile.issuer.clone(), client_id: profile.client_id.clone(), ..session("old") };
    session.tokens.refresh_token = Some(Secret::new("first".into()));
    session.tokens.expires_at = Some(UnixTime(300));
    let store: Arc<dyn Store> =
        Arc::new(TestStore { session: Mutex::new(session), is_broken, events: Arc::clone(&events) });
    let stores = Stores { keychain: Arc::clone(&store), file: store };
    let locks = LockDirectories { keychain: dir.join("locks"), file: dir.join("locks") };
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
