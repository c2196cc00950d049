//! Where sessions live between one command and the next: the platform's keychain, or encrypted files.

mod file;
mod key;
mod keychain;
mod lock;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use file::FileStore;
pub use key::KeySource;
pub use keychain::Keychain;
pub use lock::{LockError, ProfileLock};

use crate::model::{ProfileName, Session, SessionFormatError, StoreKind};

/// A place for sessions, one a profile.
///
/// Calls block, the keychain's at most for its time limit: keep them off an async runtime's threads. Whoever writes,
/// reserves or deletes holds the profile's [`ProfileLock`].
pub trait Store: Send + Sync {
    /// Which store this is.
    fn kind(&self) -> StoreKind;

    /// The profile's session; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError>;

    /// Puts a session in the place of the one before. Afterwards the old or the new one is there, whole; when this
    /// returns without an error, the new one, durably.
    ///
    /// # Errors
    /// [`StoreError`].
    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError>;

    /// Deletes the profile's session; whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError>;

    /// Makes sure that a next write of up to `bytes` cannot fail for lack of space, where the store can.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::NoSpace`] above all.
    fn reserve(&self, profile: &ProfileName, bytes: usize) -> Result<(), StoreError>;

    /// Where the profile's session is, for people.
    fn location(&self, profile: &ProfileName) -> String;
}

/// Why a store could not do what it was asked. Holds nothing of what is stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no keychain to talk to.
    #[error("there is no keychain here ({detail})")]
    Absent {
        /// In the platform's words.
        detail: String,
    },
    /// The keychain is locked, and nobody unlocked it.
    #[error("the keychain is locked")]
    Locked,
    /// The keychain did not answer.
    #[error("the keychain did not answer within {} seconds", .limit.as_secs())]
    TimedOut {
        /// How long was waited.
        limit: Duration,
    },
    /// The keychain said no.
    #[error("the keychain refused ({detail})")]
    Refused {
        /// In the platform's words.
        detail: String,
    },
    /// What is stored cannot be read. It is left as it is.
    #[error("the session in {location} cannot be read: {why}")]
    Damaged {
        /// Where it is.
        location: String,
        /// What is wrong with it.
        why: Damage,
    },
    /// The file store's key cannot be used.
    #[error("the key {} cannot be used: {problem}", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The disk or the quota is full; what was stored before is still there.
    #[error("there is no space left for {}", path.display())]
    NoSpace {
        /// What could not be written.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("{} failed: {source}", path.display())]
    Io {
        /// On which file.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}

/// What is wrong with what is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It is not what authctl wrote, or it was sealed to another key.
    #[error("it is damaged, or sealed to another key")]
    NotOpened,
    /// It was opened, but it is no session that this version knows.
    #[error("{0}")]
    Format(#[from] SessionFormatError),
}

/// A file system's error, told apart where there is no space.
fn io_error(path: &std::path::Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::NoSpace { path }
        }
        _ => StoreError::Io { path, source },
    }
}
