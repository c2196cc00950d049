//! Sessions in the platform's keychain: Secret Service on Linux, Keychain on macOS.

#[cfg(target_os = "macos")]
#[path = "keychain/apple.rs"]
mod platform;
#[cfg(not(target_os = "macos"))]
#[path = "keychain/secret_service.rs"]
mod platform;

mod error;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyring_core::api::CredentialStore;
use keyring_core::{Entry, Error as KeyringError};

use super::connect_queue::{ConnectPermit, QueuePlace, ServiceHangs};
use super::{Damage, MAX_BYTES, Store, StoreError};
use crate::clock::receive_within;
use crate::model::{ProfileName, RecordName, Session};
use crate::secret::SecretBytes;
use error::store_error;

/// The service name of all items, which are found by it and the profile's name.
const SERVICE: &str = "authctl";

/// The user name of the item that tests whether items can be written. No profile can have this name.
const TRIAL: &str = "(trial)";

/// Stores the session of a profile as the item with the attributes `service` = `authctl` and `username` = the profile's
/// name. `secret-tool lookup service authctl username PROFILE` prints it.
///
/// Each call returns within the time limit, even if the bus, the service or a prompt hangs: it runs on a thread of its own,
/// which is abandoned after the limit and then changes nothing. While an abandoned thread still runs, further calls fail at
/// once with [`StoreError::TimedOut`]. Any process of the same user can read the items while the keychain is unlocked.
pub struct Keychain {
    shared: Arc<Shared>,
    limit: Duration,
    /// The file of the queue in which processes connect.
    queue: Option<PathBuf>,
}

/// How long to wait for the permit to connect before connecting without it. A hundred processes need two seconds. A stopped
/// process that holds the permit must not block the others forever.
const QUEUE_LIMIT: Duration = Duration::from_secs(20);

type Connect = Box<dyn Fn() -> Result<Arc<CredentialStore>, StoreError> + Send + Sync>;

struct Shared {
    connect: Connect,
    connection: Mutex<Option<Arc<CredentialStore>>>,
    /// The number of abandoned calls whose thread still runs.
    abandoned_calls: AtomicUsize,
    /// Whether a write has succeeded, so that no test is needed.
    wrote: AtomicBool,
    /// The items that the next writes replace, so that nothing is looked up for them: a process that is killed in between
    /// loses what it was to store. Forgotten at the next read: later, an item may be another program's.
    reserved: Mutex<HashMap<ProfileName, Entry>>,
}

impl Keychain {
    /// Creates a keychain with `time_limit` for each call. It connects at the first one.
    #[must_use]
    pub fn new(time_limit: Duration) -> Self {
        Self::connecting_by(Box::new(platform::connect), time_limit)
    }

    fn connecting_by(connect: Connect, limit: Duration) -> Self {
        let (connection, abandoned_calls, wrote) = (Mutex::default(), AtomicUsize::new(0), AtomicBool::new(false));
        let reserved = Mutex::default();
        Self { shared: Arc::new(Shared { connect, connection, abandoned_calls, wrote, reserved }), limit, queue: None }
    }

    /// Lets the processes with the same queue `file` connect one at a time. The time limit starts when a process has the
    /// permit.
    ///
    /// The service needs some ten milliseconds for the key agreement of a connection. Without the queue, many of a hundred
    /// simultaneous connections time out.
    #[must_use]
    pub fn with_queue(mut self, file: PathBuf) -> Self {
        self.queue = Some(file);
        self
    }

    /// Makes `stored` the secret of the only item called `name`.
    fn write_item(&self, name: &str, stored: SecretBytes) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.run(move |connection, abandoned| {
            let platform::Items { ours, others } = platform::items(connection, &name)?;
            if abandoned.load(Ordering::Acquire) {
                return Err(StoreError::TimedOut { limit: Duration::ZERO });
            }
            // The new item is written first: an extra item is harmless, a missing one is a lost session.
            if let Some((first, more)) = ours.split_first() {
                first.set_secret(stored.expose()).map_err(store_error)?;
                if let Err(error) = more.iter().chain(&others).try_for_each(remove) {
                    tracing::info!("a spare keychain item was not removed: {error}");
                }
                return Ok(());
            }
            // An item with more attributes would be overwritten or block the new one.
            others.iter().try_for_each(remove)?;
            platform::entry(connection, &name)?.set_secret(stored.expose()).map_err(store_error)
        })
    }

    /// Runs `task` on a thread of its own for at most the limit.
    fn run<T: Send + 'static>(
        &self,
        task: impl Fn(&Arc<CredentialStore>, &AtomicBool) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let timed_out = || StoreError::TimedOut { limit: self.limit };
        if self.shared.abandoned_calls.load(Ordering::Acquire) > 0 {
            return Err(timed_out());
        }
        // The mutex is not held while waiting for the permit: the thread that has the permit needs it.
        let connects = self.shared.connection().is_none();
        let permit = match (&self.queue, connects) {
            (Some(file), true) => {
                match QueuePlace::join(file.clone()).map_or(Ok(None), |place| place.wait(QUEUE_LIMIT)) {
                    Ok(permit) => permit,
                    Err(ServiceHangs) => return Err(timed_out()),
                }
            }
            _ => None,
        };
        let call = Arc::new(KeychainCall {
            shared: self.shared.clone(),
            abandoned: AtomicBool::new(false),
            permit: Mutex::new(permit),
        });
        let (sender, receiver) = mpsc::sync_channel(1);
        let theirs = call.clone();
        let thread = std::thread::Builder::new().name("keychain".into()).spawn(move || {
            let finish = FinishOnDrop(theirs);
            // The result of an abandoned call is dropped, and wiped if it is a secret.
            let _ = sender.send(finish.0.with_connection(&task));
        });
        if let Err(e) = thread {
            return Err(StoreError::Refused { detail: format!("cannot start a thread for the keychain: {e}") });
        }
        match receive_within(&receiver, self.limit) {
            Ok(Err(StoreError::TimedOut { .. })) => {
                call.release_permit(ConnectPermit::fail);
                Err(timed_out())
            }
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                call.abandon();
                call.release_permit(ConnectPermit::fail);
                Err(timed_out())
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(StoreError::Refused { detail: "the keychain's client library panicked".into() })
            }
        }
    }
}

/// One call. The thread sets `abandoned` when it ends, and the caller when it times out; the second of them corrects the
/// count.
struct KeychainCall {
    shared: Arc<Shared>,
    abandoned: AtomicBool,
    /// Held until it has connected.
    permit: Mutex<Option<ConnectPermit>>,
}

impl Shared {
    fn reserved(&self) -> MutexGuard<'_, HashMap<ProfileName, Entry>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> MutexGuard<'_, Option<Arc<CredentialStore>>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finishes a call when its thread ends, even by a panic of the platform's client library.
struct FinishOnDrop(Arc<KeychainCall>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl KeychainCall {
    /// Lets the next process connect.
    fn release_permit(&self, how: impl FnOnce(ConnectPermit)) {
        if let Some(permit) = self.permit.lock().unwrap_or_else(PoisonError::into_inner).take() {
            how(permit);
        }
    }

    fn abandon(&self) {
        self.shared.abandoned_calls.fetch_add(1, Ordering::AcqRel);
        if self.abandoned.swap(true, Ordering::AcqRel) {
            // It has finished.
            self.shared.abandoned_calls.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn finish(&self) {
        if self.abandoned.swap(true, Ordering::AcqRel) {
            self.shared.abandoned_calls.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Runs `task`, and again in two cases: with a new connection if the cached one failed, since the service may have been
    /// restarted; and if the bus client's own limit of two seconds a message was exceeded, as under load.
    fn with_connection<T>(
        &self,
        task: impl Fn(&Arc<CredentialStore>, &AtomicBool) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let cached = || self.shared.connection();
        let once = || {
            let old = cached().clone();
            let was_cached = old.is_some();
            let answer = match old.map_or_else(&self.shared.connect, Ok) {
                Ok(connection) => {
                    self.release_permit(drop);
                    let answer = task(&connection, &self.abandoned);
                    *cached() = Some(connection);
                    answer
                }
                Err(e) => Err(e),
            };
            if matches!(
                answer,
                Err(StoreError::Absent { .. } | StoreError::Refused { .. } | StoreError::TimedOut { .. })
            ) {
                *cached() = None;
            }
            (answer, was_cached)
        };
        match once() {
            (Err(StoreError::TimedOut { .. }), _) if !self.abandoned.load(Ordering::Acquire) => once().0,
            (Err(StoreError::Absent { .. } | StoreError::Refused { .. }), true) => once().0,
            (answer, _) => answer,
        }
    }
}

impl Store for Keychain {
    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError> {
        self.shared.reserved().remove(profile);
        let (location, name) = (self.location(profile), profile.clone());
        self.run(move |connection, _| {
            latest_session(&platform::items(connection, name.as_str())?.ours, &name, &location)
        })
    }

    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError> {
        // A statement of its own: the mutex must not be locked during the call.
        let reserved = self.shared.reserved().remove(profile);
        if let Some(item) = reserved {
            let stored = session.to_stored(profile);
            let replace =
                move |_: &Arc<CredentialStore>, abandoned: &AtomicBool| match abandoned.load(Ordering::Acquire) {
                    true => Err(StoreError::TimedOut { limit: Duration::ZERO }),
                    false => item.set_secret(stored.expose()).map_err(store_error),
                };
            match self.run(replace) {
                Ok(()) => return Ok(()),
                Err(error) => tracing::info!("the keychain item of {profile} is looked up again: {error}"),
            }
        }
        let written = self.write_item(profile.as_str(), session.to_stored(profile));
        if written.is_ok() {
            self.shared.wrote.store(true, Ordering::Release);
        }
        written
    }

    fn read_record(&self, record: &RecordName) -> Result<Option<SecretBytes>, StoreError> {
        let name = record.clone();
        self.run(move |connection, _| match platform::items(connection, name.as_str())?.ours.first() {
            Some(item) => secret_of(item, &format!("keychain item `{}`", label(name.as_str()))),
            None => Ok(None),
        })
    }

    fn write_record(&self, record: &RecordName, bytes: &SecretBytes) -> Result<(), StoreError> {
        self.write_item(record.as_str(), bytes.clone())
    }

    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError> {
        self.shared.reserved().remove(profile);
        let name = profile.clone();
        self.run(move |connection, abandoned| {
            let platform::Items { ours, others } = platform::items(connection, name.as_str())?;
            if abandoned.load(Ordering::Acquire) {
                return Err(StoreError::TimedOut { limit: Duration::ZERO });
            }
            ours.iter().chain(&others).try_for_each(remove)?;
            Ok(!ours.is_empty())
        })
    }

    /// Writes an item and removes it, unless a write has succeeded before. A locked keychain may report no error for reads of
    /// a new profile, but only for the write, when the session would be lost. After a write, finds its item for the next one.
    fn reserve(&self, profile: &ProfileName, _: usize) -> Result<(), StoreError> {
        if self.shared.wrote.load(Ordering::Acquire) {
            let name = profile.clone();
            let items = self.run(move |connection, _| platform::items(connection, name.as_str()));
            if let Some(item) = items.ok().and_then(|items| items.ours.into_iter().next()) {
                self.shared.reserved().insert(profile.clone(), item);
            }
            return Ok(());
        }
        self.run(|connection, _| {
            let trial = platform::entry(connection, TRIAL)?;
            trial.set_secret(b"may be deleted").map_err(store_error)?;
            remove(&trial)
        })
    }

    fn location(&self, profile: &ProfileName) -> String {
        format!("keychain item `{}`", label(profile))
    }
}

fn label(profile: impl std::fmt::Display) -> String {
    format!("{SERVICE}: {profile}")
}

fn remove(entry: &Entry) -> Result<(), StoreError> {
    match entry.delete_credential() {
        Ok(()) | Err(KeyringError::NoEntry) => Ok(()),
        Err(e) => Err(store_error(e)),
    }
}

/// Returns the secret of an item; `None` if the item no longer exists.
fn secret_of(item: &Entry, location: &str) -> Result<Option<SecretBytes>, StoreError> {
    match item.get_secret().map(SecretBytes::new) {
        Ok(bytes) if bytes.expose().len() > MAX_BYTES => {
            Err(StoreError::Damaged { location: location.to_owned(), damage: Damage::TooLong })
        }
        Ok(bytes) => Ok(Some(bytes)),
        Err(KeyringError::NoEntry) => Ok(None),
        Err(e) => Err(store_error(e)),
    }
}

/// Returns the latest session of `items`, usually the only one. Damage is an error only if no session is readable.
fn latest_session(items: &[Entry], profile: &ProfileName, location: &str) -> Result<Option<Session>, StoreError> {
    let mut latest: Option<Session> = None;
    let mut damage = None;
    for item in items {
        let bytes = match secret_of(item, location) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(e @ StoreError::Damaged { .. }) => {
                damage = Some(e);
                continue;
            }
            Err(e) => return Err(e),
        };
        let when = |s: &Session| (s.refreshed_at.unwrap_or(s.logged_in_at), s.generation.number);
        match Session::from_stored(&bytes, profile) {
            Ok(session) if latest.as_ref().is_none_or(|l| when(l) < when(&session)) => latest = Some(session),
            Ok(_) => {}
            Err(e) => damage = Some(StoreError::of_session(e, location.to_owned())),
        }
    }
    match (latest, damage) {
        (None, Some(damage)) => Err(damage),
        (latest, _) => Ok(latest),
    }
}

#[cfg(test)]
mod tests;
