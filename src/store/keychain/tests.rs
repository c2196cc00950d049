//! Tests of the keychain store without a keychain: of its calls, and of the items that they find.

use std::cell::Cell;

use keyring_core::api::CredentialStoreApi as _;
use keyring_core::mock;

use super::super::tests::session;
use super::*;
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::secret::Secret;

/// Longer than any test takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns a keychain with an empty mock of the platform's.
fn keychain(limit: Duration) -> Keychain {
    Keychain::connecting_by(Box::new(connect), limit)
}

fn connect() -> Result<Arc<CredentialStore>, StoreError> {
    Ok(mock::Store::new().expect("a keychain"))
}

fn call(store: &Keychain) -> KeychainCall {
    KeychainCall { shared: store.shared.clone(), abandoned: AtomicBool::new(false), permit: Mutex::new(None) }
}

#[test]
fn calls_fail_at_once_while_an_abandoned_call_still_runs() {
    let store = keychain(LIMIT);
    let call = self::call(&store);
    call.abandon();
    let (work, record): (ProfileName, _) = ("work".parse().expect("valid"), RecordName::clock());
    for answer in [
        store.read(&work).map(drop),
        store.write(&work, &session("t")),
        store.read_record(&record).map(drop),
        store.write_record(&record, &SecretBytes::default()),
        store.delete(&work).map(drop),
        store.reserve(&work, 1),
    ] {
        assert!(matches!(answer, Err(StoreError::TimedOut { .. })), "{answer:?}");
    }
    store.shared.wrote.store(true, Ordering::Release);
    store.reserve(&work, 1).expect("a write has succeeded, so none is tried");
    call.finish();
    assert_eq!(store.shared.abandoned_calls.load(Ordering::Acquire), 0);
    let quick = self::call(&store);
    quick.finish();
    quick.abandon();
    assert_eq!(store.shared.abandoned_calls.load(Ordering::Acquire), 0, "a call that has finished is not counted");
}

#[test]
fn connection_of_an_abandoned_call_is_dropped_and_the_call_not_repeated() {
    let store = keychain(LIMIT);
    *store.shared.connection() = connect().ok();
    let (call, tries) = (self::call(&store), Cell::new(0));
    let answer = call.with_connection(|_, _| {
        tries.set(1);
        Ok(())
    });
    assert!(answer.is_ok() && store.shared.connection().is_some(), "{answer:?}");
    call.abandon();
    let answer = call.with_connection(|_, abandoned| {
        assert!(abandoned.load(Ordering::Acquire));
        tries.set(tries.get() + 1);
        Err::<(), _>(StoreError::TimedOut { limit: Duration::ZERO })
    });
    assert!(matches!(answer, Err(StoreError::TimedOut { .. })), "{answer:?}");
    assert_eq!((tries.get(), store.shared.connection().is_some()), (2, false));
}

#[test]
fn call_is_repeated_once_when_a_message_timed_out() {
    let timed_out = || StoreError::TimedOut { limit: Duration::ZERO };
    for (times, succeeds) in [(1, true), (2, false)] {
        let (store, tries) = (keychain(LIMIT), Arc::new(AtomicUsize::new(0)));
        let counted = tries.clone();
        let answer = store.run(move |_, _| match counted.fetch_add(1, Ordering::AcqRel) {
            number if number < times => Err(timed_out()),
            _ => Ok(()),
        });
        assert_eq!((answer.is_ok(), tries.load(Ordering::Acquire)), (succeeds, 2));
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a limit in real time")]
fn one_process_connects_at_a_time_and_a_failure_ends_the_wait_of_others() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("queue");
    let join = || QueuePlace::join(path.clone()).expect("joined");
    // While it connects, it has the permit; then the next has it.
    let other = path.clone();
    let is_free = move || {
        let place = QueuePlace::join(other.clone()).expect("joined");
        place.wait(Duration::from_millis(1)).is_ok_and(|permit| permit.is_some())
    };
    let free = is_free.clone();
    let connects_alone = Box::new(move || {
        assert!(!free(), "another connects at the same time");
        connect()
    });
    let store = Keychain::connecting_by(connects_alone, LIMIT).with_queue(path.clone());
    let answer = store.run(move |_, _| if is_free() { Ok(()) } else { Err(StoreError::TimedOut { limit: LIMIT }) });
    answer.expect("the next may connect while this one works");
    // A service that does not reply, and one whose messages time out.
    let waiting = join();
    let (block, blocked) = mpsc::channel::<()>();
    let (blocked, tries) = (Mutex::new(blocked), Arc::new(AtomicUsize::new(0)));
    let counted = tries.clone();
    let hangs = Box::new(move || {
        counted.fetch_add(1, Ordering::AcqRel);
        let _ = blocked.lock().expect("unpoisoned").recv();
        connect()
    });
    let store = Keychain::connecting_by(hangs, Duration::from_millis(50)).with_queue(path.clone());
    assert!(matches!(store.run(|_, _| Ok(())), Err(StoreError::TimedOut { limit }) if limit == store.limit));
    assert!(waiting.wait(LIMIT).is_err());
    assert!(matches!(store.run(|_, _| Ok(())), Err(StoreError::TimedOut { .. })));
    assert_eq!(tries.load(Ordering::Acquire), 1, "the thread still runs, so no other connects");
    drop(block);
    let start = SystemClock.monotonic();
    while store.run(|_, _| Ok(())).is_err() {
        assert!(SystemClock.monotonic() - start < LIMIT, "the thread has ended");
        std::thread::yield_now();
    }
    let waiting = join();
    let late = Box::new(|| Err(StoreError::TimedOut { limit: Duration::ZERO }));
    let store = Keychain::connecting_by(late, LIMIT).with_queue(path.clone());
    assert!(store.run(|_, _| Ok(())).is_err());
    assert!(waiting.wait(LIMIT).is_err());
}

#[test]
fn latest_readable_session_is_used() {
    let work: ProfileName = "work".parse().expect("valid");
    let at = |token: &str, refreshed_at: Option<i64>, number| {
        let mut session = session(token);
        (session.refreshed_at, session.generation.number) = (refreshed_at.map(UnixTime), number);
        Some(session.to_stored(&work).expose().to_vec())
    };
    let (login, refreshed) = (at("login", None, 0), at("refreshed", Some(10), 1));
    let again = at("again", Some(10), 2);
    let (damaged, too_long) = (Some(b"{}".to_vec()), Some(vec![b' '; MAX_BYTES + 1]));
    for (secrets, expected) in [
        (vec![], Ok(None)),
        (vec![None], Ok(None)),
        (vec![login.clone()], Ok(Some("login"))),
        (vec![login.clone(), refreshed.clone()], Ok(Some("refreshed"))),
        (vec![refreshed.clone(), login.clone()], Ok(Some("refreshed"))),
        (vec![again.clone(), refreshed.clone()], Ok(Some("again"))),
        (vec![refreshed, again], Ok(Some("again"))),
        (vec![damaged.clone(), None, login.clone()], Ok(Some("login"))),
        (vec![login, too_long.clone()], Ok(Some("login"))),
        (vec![too_long], Err(true)),
        (vec![None, damaged], Err(false)),
    ] {
        let connection = mock::Store::new().expect("a keychain");
        let item = |(number, secret): (usize, &Option<Vec<u8>>)| {
            let item = connection.build(SERVICE, &number.to_string(), None).expect("an item");
            if let Some(secret) = secret {
                item.set_secret(secret).expect("stored");
            }
            item
        };
        let items: Vec<Entry> = secrets.iter().enumerate().map(item).collect();
        let found = latest_session(&items, &work, "here").map(|found| found.map(|s| s.tokens.access_token.clone()));
        let found = found.as_ref().map(|token| token.as_ref().map(Secret::expose)).map_err(|error| {
            let StoreError::Damaged { location, damage } = error else { panic!("{error:?}") };
            assert_eq!(location, "here");
            matches!(damage, Damage::TooLong)
        });
        assert_eq!(found, expected);
        for item in &items {
            remove(item).expect("removed, or not there");
            assert!(matches!(item.get_secret(), Err(KeyringError::NoEntry)));
        }
    }
    let item = mock::Store::new().and_then(|store| store.build(SERVICE, "1", None)).expect("an item");
    let fail = || {
        let mock: &mock::Cred = item.as_any().downcast_ref().expect("the mock's");
        mock.set_error(KeyringError::NoDefaultStore);
    };
    fail();
    assert!(latest_session(std::slice::from_ref(&item), &work, "here").is_err());
    fail();
    assert!(remove(&item).is_err());
}
