//! Sessions in the platform's keychain: Secret Service on Linux, Keychain on macOS.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyring_core::api::CredentialStore;
use keyring_core::{Entry, Error as KeyringError};

use super::connect_queue::{ConnectPermit, QueuePlace, ServiceHangs};
use super::{Damage, MAX_BYTES, Store, StoreError};
use crate::model::{ProfileName, RecordName, Session, StoreKind};
use crate::secret::SecretBytes;

/// The service name of every item. Items are found by it and the profile's name, and by nothing of their content.
const SERVICE: &str = "authctl";

/// The user name of an item that only tries whether one can be made. No profile can have this name.
const TRIAL: &str = "(trial)";

/// Keeps the session of a profile as the item with the attributes `service` = `authctl` and `username` = the profile's
/// name. `secret-tool lookup service authctl username PROFILE` shows it.
///
/// Each call ends within the time limit, whatever the bus, the service or a prompt do: the call itself runs on a thread
/// of its own, which is left behind when the limit passes, and which then changes nothing more. As long as one is left
/// behind, each further call fails at once with [`StoreError::TimedOut`]. Any process of the same user can read the
/// items while the keychain is unlocked.
pub struct Keychain {
    shared: Arc<Shared>,
    limit: Duration,
    turns: Option<PathBuf>,
}

/// How long to wait for a turn to connect before going without: a hundred processes at once take two seconds, and one
/// that was stopped in the middle of its turn must not keep the others from theirs for good.
const TURN_LIMIT: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Shared {
    connection: Mutex<Option<Arc<CredentialStore>>>,
    left_behind: AtomicUsize,
    /// A write has succeeded: there is no need to try whether one would.
    wrote: AtomicBool,
}

/// Whether the caller still waits for a call. Asked right before anything is changed.
type Abandoned = AtomicBool;

impl Keychain {
    /// A keychain that is given `time_limit` for each call. Connects at the first one.
    #[must_use]
    pub fn new(time_limit: Duration) -> Self {
        Self { shared: Arc::default(), limit: time_limit, turns: None }
    }

    /// Has the processes that name the same `file`, which is made where it is missing, connect one after the other. The
    /// time limit counts from when a process's turn has come.
    ///
    /// Agreeing on a key for the connection costs the service some ten milliseconds of work, and what a hundred asked
    /// of it at once it answered for many only after they had given up.
    #[must_use]
    pub fn taking_turns(mut self, file: PathBuf) -> Self {
        self.turns = Some(file);
        self
    }

    /// Makes `stored` the secret of the one item called `name`.
    fn write_item(&self, name: &str, stored: SecretBytes) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.run(move |connection, abandoned| {
            let platform::Items { ours, others } = platform::items(connection, &name)?;
            if abandoned.load(Ordering::Acquire) {
                return Err(StoreError::TimedOut { limit: Duration::ZERO });
            }
            // The new one first: an item too many is no harm, none at all is a lost session.
            if let Some((first, more)) = ours.split_first() {
                first.set_secret(stored.expose()).map_err(refusal)?;
                return more.iter().chain(&others).try_for_each(remove);
            }
            // An item with further attributes would be overwritten or block the new one.
            others.iter().try_for_each(remove)?;
            platform::entry(connection, &name)?.set_secret(stored.expose()).map_err(refusal)
        })
    }

    /// Runs `task` on a thread of its own for at most the limit.
    fn run<T: Send + 'static>(
        &self,
        task: impl Fn(&Arc<CredentialStore>, &Abandoned) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let timed_out = || StoreError::TimedOut { limit: self.limit };
        if self.shared.left_behind.load(Ordering::Acquire) > 0 {
            return Err(timed_out());
        }
        // The look is over before the turn is waited for: who has the turn needs the connection's place.
        let connects = self.shared.connection().is_none();
        let turn = match (&self.turns, connects) {
            (Some(file), true) => match QueuePlace::join(file.clone()).map_or(Ok(None), |place| place.wait(TURN_LIMIT))
            {
                Ok(turn) => turn,
                Err(ServiceHangs) => return Err(timed_out()),
            },
            _ => None,
        };
        let call =
            Arc::new(Call { shared: self.shared.clone(), abandoned: AtomicBool::new(false), turn: Mutex::new(turn) });
        let (sender, receiver) = mpsc::sync_channel(1);
        let theirs = call.clone();
        let thread = std::thread::Builder::new().name("keychain".into()).spawn(move || {
            let ending = Finish(theirs);
            // Where nobody waits any more, the answer is dropped, and wiped if it is a secret.
            let _ = sender.send(ending.0.with_connection(&task));
        });
        if let Err(e) = thread {
            return Err(StoreError::Refused { detail: format!("no thread for the keychain: {e}") });
        }
        match receiver.recv_timeout(self.limit) {
            Ok(Err(StoreError::TimedOut { .. })) => {
                call.end_turn(ConnectPermit::fail);
                Err(timed_out())
            }
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                call.abandon();
                call.end_turn(ConnectPermit::fail);
                Err(timed_out())
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(StoreError::Refused { detail: "the keychain's client failed".into() })
            }
        }
    }
}

/// One call. The thread's end and the caller's giving up each set `abandoned`; whoever comes second settles the count.
struct Call {
    shared: Arc<Shared>,
    abandoned: Abandoned,
    /// Until it has connected.
    turn: Mutex<Option<ConnectPermit>>,
}

impl Shared {
    fn connection(&self) -> MutexGuard<'_, Option<Arc<CredentialStore>>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells that the thread of a call is over, also where the platform's client panicked.
struct Finish(Arc<Call>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Call {
    /// Lets the next process have its turn.
    fn end_turn(&self, how: impl FnOnce(ConnectPermit)) {
        if let Some(turn) = self.turn.lock().unwrap_or_else(PoisonError::into_inner).take() {
            how(turn);
        }
    }

    fn abandon(&self) {
        self.shared.left_behind.fetch_add(1, Ordering::AcqRel);
        if self.abandoned.swap(true, Ordering::AcqRel) {
            // It had finished meanwhile.
            self.shared.left_behind.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn finish(&self) {
        if self.abandoned.swap(true, Ordering::AcqRel) {
            self.shared.left_behind.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Runs `task`, once more where it is of use: over a new connection after a failure over one that was kept, since a
    /// service that was started anew knows nothing of it; and where the service let the bus client's own limit of two
    /// seconds a message pass, as one does that a hundred processes ask at once. Each task may be run twice.
    fn with_connection<T>(
        &self,
        task: impl Fn(&Arc<CredentialStore>, &Abandoned) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kept = || self.shared.connection();
        let once = || {
            let old = kept().clone();
            let was_kept = old.is_some();
            let answer = match old.map_or_else(platform::connect, Ok) {
                Ok(connection) => {
                    self.end_turn(drop);
                    let answer = task(&connection, &self.abandoned);
                    *kept() = Some(connection);
                    answer
                }
                Err(e) => Err(e),
            };
            if matches!(
                answer,
                Err(StoreError::Absent { .. } | StoreError::Refused { .. } | StoreError::TimedOut { .. })
            ) {
                *kept() = None;
            }
            (answer, was_kept)
        };
        match once() {
            (Err(StoreError::TimedOut { .. }), _) if !self.abandoned.load(Ordering::Acquire) => once().0,
            (Err(StoreError::Absent { .. } | StoreError::Refused { .. }), true) => once().0,
            (answer, _) => answer,
        }
    }
}

impl Store for Keychain {
    fn kind(&self) -> StoreKind {
        StoreKind::Keychain
    }

    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError> {
        let (location, name) = (self.location(profile), profile.clone());
        self.run(move |connection, _| newest(&platform::items(connection, name.as_str())?.ours, &location))
    }

    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError> {
        let written = self.write_item(profile.as_str(), session.to_stored());
        if written.is_ok() {
            self.shared.wrote.store(true, Ordering::Release);
        }
        written
    }

    fn read_record(&self, record: &RecordName) -> Result<Option<SecretBytes>, StoreError> {
        let name = record.clone();
        self.run(move |connection, _| {
            let items = platform::items(connection, name.as_str())?.ours;
            let Some(item) = items.first() else { return Ok(None) };
            match item.get_secret() {
                Ok(bytes) if bytes.len() > MAX_BYTES => {
                    let location = format!("keychain item `{}`", label(name.as_str()));
                    Err(StoreError::Damaged { location, damage: Damage::TooLong })
                }
                Ok(bytes) => Ok(Some(SecretBytes::new(bytes))),
                Err(KeyringError::NoEntry) => Ok(None),
                Err(e) => Err(refusal(e)),
            }
        })
    }

    fn write_record(&self, record: &RecordName, bytes: &SecretBytes) -> Result<(), StoreError> {
        self.write_item(record.as_str(), bytes.clone())
    }

    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError> {
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

    /// Makes an item and removes it, unless something was written before: a locked keychain may find nothing for a new
    /// profile without a word, and tell only who writes, when a session is in hand that exists nowhere else.
    fn reserve(&self, _: &ProfileName, _: usize) -> Result<(), StoreError> {
        if self.shared.wrote.load(Ordering::Acquire) {
            return Ok(());
        }
        self.run(|connection, _| {
            let trial = platform::entry(connection, TRIAL)?;
            trial.set_secret(b"may be deleted").map_err(refusal)?;
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
        Err(e) => Err(refusal(e)),
    }
}

/// The session written last of those in `items`: usually there is one. Damage is told only where none is readable.
fn newest(items: &[Entry], location: &str) -> Result<Option<Session>, StoreError> {
    let mut best: Option<Session> = None;
    let mut damage = None;
    for item in items {
        let bytes = match item.get_secret() {
            Ok(bytes) => SecretBytes::new(bytes),
            Err(KeyringError::NoEntry) => continue,
            Err(e) => return Err(refusal(e)),
        };
        if bytes.expose().len() > MAX_BYTES {
            damage = Some(Damage::TooLong);
            continue;
        }
        let when = |s: &Session| (s.refreshed_at.unwrap_or(s.logged_in_at), s.generation.number);
        match Session::from_stored(&bytes) {
            Ok(session) if best.as_ref().is_none_or(|b| when(b) < when(&session)) => best = Some(session),
            Ok(_) => {}
            Err(e) => damage = Some(e.into()),
        }
    }
    match (best, damage) {
        (None, Some(damage)) => Err(StoreError::Damaged { location: location.to_owned(), damage }),
        (best, _) => Ok(best),
    }
}

/// What a failure of the keychain means. Its own types hide the D-Bus error's name except in their debug form, which
/// holds no secret.
fn refusal(error: KeyringError) -> StoreError {
    let cause = match &error {
        KeyringError::PlatformFailure(cause) | KeyringError::NoStorageAccess(cause) => cause,
        // Its own words would carry the stored bytes.
        KeyringError::BadEncoding(_) | KeyringError::BadDataFormat(..) => {
            return StoreError::Refused { detail: "the item has a form that is not understood".into() };
        }
        other => return StoreError::Refused { detail: line(&other.to_string()) },
    };
    let named = format!("{cause:?}");
    let any = |words: &[&str]| words.iter().any(|w| named.contains(w));
    if any(&["Error.NoReply", "Error.Timeout", "Error.TimedOut"]) {
        StoreError::TimedOut { limit: Duration::ZERO }
    } else if any(&["Secret.Error.IsLocked"]) || named == "Locked" || named == "Prompt" {
        StoreError::Locked
    } else if any(&ABSENT) || named == "Unavailable" {
        StoreError::Absent { detail: line(&cause.to_string()) }
    } else if named == "NoResult" {
        StoreError::Refused { detail: "the keychain has no default collection".into() }
    } else {
        StoreError::Refused { detail: line(&cause.to_string()) }
    }
}

/// The D-Bus errors that mean that there is no bus or no service.
const ABSENT: [&str; 9] = [
    "Error.ServiceUnknown",
    "Error.NameHasNoOwner",
    "Error.NoServer",
    "Error.NotSupported",
    "Error.FileNotFound",
    "Error.Disconnected",
    "Error.BadAddress",
    "Error.NoNetwork",
    "Error.Spawn.",
];

/// `text` as one line of at most 300 characters.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(not(target_os = "macos"))]
mod platform {
    use std::collections::HashMap;

    use super::{Arc, CredentialStore, Entry, KeyringError, SERVICE, StoreError, label, refusal};

    /// The items found for a profile.
    pub(super) struct Items {
        /// Those with exactly our attributes.
        pub(super) ours: Vec<Entry>,
        /// Those with our attributes and further ones, which somebody else made.
        pub(super) others: Vec<Entry>,
    }

    pub(super) fn connect() -> Result<Arc<CredentialStore>, StoreError> {
        match dbus_secret_service_keyring_store::Store::new() {
            Ok(store) => Ok(store),
            Err(e) => Err(match refusal(e) {
                StoreError::Refused { detail } => StoreError::Absent { detail },
                other => other,
            }),
        }
    }

    pub(super) fn entry(connection: &Arc<CredentialStore>, user_name: &str) -> Result<Entry, StoreError> {
        let label = label(user_name);
        let modifiers = HashMap::from([("label", label.as_str())]);
        connection.build(SERVICE, user_name, Some(&modifiers)).map_err(refusal)
    }

    pub(super) fn items(connection: &Arc<CredentialStore>, name: &str) -> Result<Items, StoreError> {
        let wanted = HashMap::from([("service", SERVICE), ("username", name)]);
        let mut items = Items { ours: Vec::new(), others: Vec::new() };
        for entry in connection.search(&wanted).map_err(refusal)? {
            let attributes = match entry.get_attributes() {
                Ok(attributes) => attributes,
                Err(KeyringError::NoEntry) => continue,
                Err(e) => return Err(refusal(e)),
            };
            // Services and other tools note a schema of their own under `xdg:`.
            let exact = attributes.keys().all(|k| wanted.contains_key(k.as_str()) || k.starts_with("xdg:"));
            if exact { items.ours.push(entry) } else { items.others.push(entry) }
        }
        Ok(items)
    }
}

#[cfg(target_os = "macos")]
mod platform {
    use super::{Arc, CredentialStore, Entry, KeyringError, SERVICE, StoreError, refusal};

    /// The items found for a profile. Keychain keeps at most one for a service and user name.
    pub(super) struct Items {
        pub(super) ours: Vec<Entry>,
        pub(super) others: Vec<Entry>,
    }

    pub(super) fn connect() -> Result<Arc<CredentialStore>, StoreError> {
        Ok(apple_native_keyring_store::keychain::Store::new().map_err(refusal)?)
    }

    pub(super) fn entry(connection: &Arc<CredentialStore>, user_name: &str) -> Result<Entry, StoreError> {
        connection.build(SERVICE, user_name, None).map_err(refusal)
    }

    pub(super) fn items(connection: &Arc<CredentialStore>, name: &str) -> Result<Items, StoreError> {
        let entry = entry(connection, name)?;
        let ours = match entry.get_credential() {
            Ok(found) => vec![found],
            Err(KeyringError::NoEntry) => Vec::new(),
            Err(e) => return Err(refusal(e)),
        };
        Ok(Items { ours, others: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keychain(limit: Duration) -> Keychain {
        Keychain::new(limit)
    }

    fn call(store: &Keychain) -> Call {
        Call { shared: store.shared.clone(), abandoned: AtomicBool::new(false), turn: Mutex::new(None) }
    }

    fn failure(debug: &'static str) -> StoreError {
        #[derive(Debug, thiserror::Error)]
        #[error("said so")]
        struct Said;
        let cause: Box<dyn std::error::Error + Send + Sync> =
            if debug.is_empty() { Box::new(Said) } else { debug.into() };
        refusal(KeyringError::PlatformFailure(cause))
    }

    #[test]
    fn the_bus_names_what_is_wrong() {
        assert!(matches!(failure("x (org.freedesktop.DBus.Error.ServiceUnknown)"), StoreError::Absent { .. }));
        assert!(matches!(failure("x (org.freedesktop.DBus.Error.NoReply)"), StoreError::TimedOut { .. }));
        assert!(matches!(failure("x (org.freedesktop.Secret.Error.IsLocked)"), StoreError::Locked));
        assert!(matches!(failure(""), StoreError::Refused { detail } if detail == "said so"));
    }

    #[test]
    fn stored_bytes_never_reach_a_message() {
        for error in [
            KeyringError::BadEncoding(b"hunter2".to_vec()),
            KeyringError::BadDataFormat(b"hunter2".to_vec(), "hunter2".into()),
        ] {
            let said = format!("{:?}", refusal(error));
            assert!(!said.contains("hunter2") && !said.contains("104"), "{said}");
        }
    }

    #[test]
    fn an_answer_of_the_platform_is_one_short_line() {
        assert_eq!(line("a\nb\u{1b}[0m"), "a b [0m");
        assert_eq!(line(&"x".repeat(1000)).len(), 300);
    }

    #[test]
    fn while_a_call_is_left_behind_the_next_fails_at_once_and_afterwards_works_again() {
        let store = keychain(Duration::from_secs(3600));
        let call = self::call(&store);
        call.abandon();
        let error = store.read(&"work".parse().expect("valid")).expect_err("at once");
        assert!(matches!(error, StoreError::TimedOut { .. }), "{error}");
        call.finish();
        assert_eq!(store.shared.left_behind.load(Ordering::Acquire), 0);
        let quick = self::call(&store);
        quick.finish();
        quick.abandon();
        assert_eq!(store.shared.left_behind.load(Ordering::Acquire), 0, "one that had just finished is not counted");
    }
}
