//! Where sessions live: the platform's keychain or an encrypted file, behind one trait, and the lock beside them.

mod connect_queue;
mod file;
mod keychain;
mod keys;
mod profile_lock;
mod revocation_list;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use file::FileStore;
pub use keychain::Keychain;
pub use keys::{KeyProblem, KeySource};
pub use profile_lock::ProfileLock;
pub use revocation_list::{RevocationList, RevocationListError};

pub use crate::fs::LockError;
use crate::model::{ProfileName, RecordName, Session, SessionFormatError, StoreKind};
use crate::secret::SecretBytes;

/// A place that keeps one session a profile, and a few records that are as much to be protected.
///
/// Calls block, each for a bounded time: keep them off an async runtime's threads. Whoever reads in order to write
/// holds the profile's [`ProfileLock`] meanwhile; the store itself only sees to it that no reader finds half a session.
pub trait Store: Send + Sync {
    /// Which kind this is.
    fn kind(&self) -> StoreKind;

    /// The session of `profile`, or `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`]; a session that cannot be read is [`StoreError::Damaged`] and stays where it is.
    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError>;

    /// Puts `session` in the place of the one that was there. Afterwards, however it went, either the old or the new
    /// one is there whole; the new one is durable when this returns `Ok`.
    ///
    /// # Errors
    /// [`StoreError`]
    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError>;

    /// Removes the session of `profile`, readable or not, and says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`]
    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError>;

    /// Makes sure that this instance's next write of a session of up to `bytes` in its stored form cannot fail for lack
    /// of space, nor because the store takes nothing. Asked before anybody signs in or a refresh token is spent.
    ///
    /// # Errors
    /// [`StoreError`]
    fn reserve(&self, profile: &ProfileName, bytes: usize) -> Result<(), StoreError>;

    /// What is kept under `record`, or `None` where nothing is: protected as the sessions are.
    ///
    /// # Errors
    /// [`StoreError`]; what cannot be opened is [`StoreError::Damaged`] and stays where it is.
    fn read_record(&self, record: &RecordName) -> Result<Option<SecretBytes>, StoreError>;

    /// Puts `bytes` in the place of what was kept under `record`, as [`Store::write`] does with a session.
    ///
    /// # Errors
    /// [`StoreError`]
    fn write_record(&self, record: &RecordName, bytes: &SecretBytes) -> Result<(), StoreError>;

    /// Where the session of `profile` is, in words for people.
    fn location(&self, profile: &ProfileName) -> String;
}

/// Why a stored session could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It was opened, and what is in it is no session.
    #[error(transparent)]
    Format(#[from] SessionFormatError),
    /// The encryption does not open: cut short, changed, or sealed to another key or passphrase.
    #[error("it is cut short or changed, or was sealed to another key")]
    Sealed,
    /// Longer than any session.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no keychain: no session bus, or no Secret Service on it.
    #[error("there is no keychain service here ({detail})")]
    Absent {
        /// What the platform said, one line.
        detail: String,
    },
    /// The keychain is locked, and was not unlocked.
    #[error("the keychain is locked")]
    Locked,
    /// The keychain did not answer in time, or waits for somebody to answer its prompt.
    #[error("the keychain did not answer within {} s", .limit.as_secs_f32())]
    TimedOut {
        /// How long was waited.
        limit: Duration,
    },
    /// The store answered, and said no.
    #[error("the store refused: {detail}")]
    Refused {
        /// What it said, one line.
        detail: String,
    },
    /// There is a session, and it cannot be read. It was left where it is.
    #[error("the session in {location} cannot be read: {damage}")]
    Damaged {
        /// Where it is.
        location: String,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The key that sessions in files are sealed to cannot be used.
    #[error("the key file {}: {problem}", .path.display())]
    KeyFile {
        /// Where the key is, or should be.
        path: PathBuf,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// The disk or the quota is full. What was stored before is still there.
    #[error("no space is left to write {}", .path.display())]
    NoSpace {
        /// The file that did not fit.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The longest stored session that is read, in bytes: far above any real one, so that a wrong file cannot fill memory.
pub(crate) const MAX_BYTES: usize = 32 << 20;

impl StoreError {
    /// Whether there is a session that no further try will read.
    #[must_use]
    pub fn session_lost(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::KeyFile { problem: KeyProblem::Missing, .. })
    }

    /// The error for a failed file operation; a full disk, a used-up quota and a file size limit are all
    /// [`StoreError::NoSpace`].
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { path: path.to_owned() }
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }
}

/// The store of `kind`. `time_limit` bounds each call to a keychain; `dir` and `key` are for files.
#[must_use]
pub fn open(kind: StoreKind, time_limit: Duration, dir: PathBuf, key: KeySource) -> Box<dyn Store> {
    match kind {
        StoreKind::Keychain => Box::new(Keychain::new(time_limit)),
        StoreKind::File => Box::new(FileStore::new(dir, key)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::model::{Generation, Grant, TokenSet};
    use crate::secret::Secret;

    /// A session whose access token is `token`.
    pub(crate) fn session(token: &str) -> Session {
        Session {
            generation: Generation { login: "a1".into(), number: 0 },
            issuer: "https://a.example".parse().expect("valid"),
            client_id: "cli".into(),
            grant: Grant::Device,
            subject: None,
            tokens: TokenSet {
                access_token: Secret::new(token.into()),
                token_type: "Bearer".into(),
                refresh_token: None,
                id_token: None,
                obtained_at: UnixTime(0),
                expires_at: None,
                scope: None,
            },
            others: Vec::new(),
            client_secret: None,
            resources: Vec::new(),
            logged_in_at: UnixTime(0),
            refreshed_at: None,
            refreshing_since: None,
            last_failure: None,
            ended: None,
        }
    }

    #[test]
    fn messages_say_what_failed() {
        let full = StoreError::io("write", Path::new("/x/work.age"), io::Error::from_raw_os_error(28));
        assert_eq!(full.to_string(), "no space is left to write /x/work.age");
        let slow = StoreError::TimedOut { limit: Duration::from_secs(4) };
        assert_eq!(slow.to_string(), "the keychain did not answer within 4 s");
    }
}
