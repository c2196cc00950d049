//! The stores of sessions: the platform's keychain or encrypted files, behind one trait. Beside them the profile lock and
//! the list of revoked tokens.

mod connect_queue;
mod file;
mod key_file;
mod keychain;
mod keys;
mod memory;
mod profile_lock;
mod revocation_list;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use file::FileStore;
pub use key_file::{InvalidPassphrase, KeyProblem, KeySource, check_passphrase};
pub use keychain::Keychain;
pub use keys::{AskPassphrase, StoreKey, UnlockedKey};
pub use memory::{HandoverKey, MemoryStore, seal_for};
pub use profile_lock::ProfileLock;
pub use revocation_list::{RevocationFiles, RevocationList, RevocationListError};

pub use crate::fs::LockError;
use crate::fs::UntrustedFile;
use crate::model::{ErrorCode, ProfileName, RecordName, Session, SessionFormatError};
use crate::secret::SecretBytes;

/// Stores one session for each profile, and a few records with the same protection.
///
/// Calls block, each for a limited time, so they must not run on an async runtime's threads. A caller that reads in order to
/// write holds the [`ProfileLock`]; the store itself only makes writes atomic.
pub trait Store: Send + Sync {
    /// Reads the session of `profile`. Returns `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`]. A session that cannot be read is [`StoreError::Damaged`] and is not removed; another profile's is
    /// [`StoreError::OtherProfile`].
    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError>;

    /// Replaces the session of `profile` atomically. The new session is durable when this returns `Ok`.
    ///
    /// # Errors
    /// [`StoreError`]. A keychain that did not respond may still store the session later: only reading it again shows that.
    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError>;

    /// Deletes the session of `profile`, even a damaged one, and returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError`]
    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError>;

    /// Makes sure that this instance's next write of a session of up to `bytes` in its stored form does not fail for lack of
    /// space or because the store is read-only. Called before the user logs in or a refresh token is used.
    ///
    /// # Errors
    /// [`StoreError`]
    fn reserve(&self, profile: &ProfileName, bytes: usize) -> Result<(), StoreError>;

    /// Reads a record. Returns `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`]. A record that cannot be decrypted is [`StoreError::Damaged`] and is not removed.
    fn read_record(&self, record: &RecordName) -> Result<Option<SecretBytes>, StoreError>;

    /// Replaces a record, as [`Store::write`] does a session.
    ///
    /// # Errors
    /// [`StoreError`]
    fn write_record(&self, record: &RecordName, bytes: &SecretBytes) -> Result<(), StoreError>;

    /// Stores the session that a refresh has written and that is not in its place, since its process was killed in between.
    /// Returns whether there was one. Call it under the profile lock.
    ///
    /// # Errors
    /// [`StoreError`]
    fn finish_interrupted_refresh(&self, _profile: &ProfileName) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Gives the session and the records that a login has written to the process that holds them, if that is another one. It may
    /// then replace the session of another account only if `replace` is true. Call it under the profile lock.
    ///
    /// # Errors
    /// [`StoreError`]. The other process has nothing of it then, except after [`StoreError::AgentSilent`].
    fn hand_over(&self, _profile: &ProfileName, _replace: bool) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns where the session of `profile` is, for messages.
    fn location(&self, profile: &ProfileName) -> String;

    /// Returns the store's own key, if it has one.
    fn key(&self) -> Option<&StoreKey> {
        None
    }

    /// Returns the names of all sessions and records that are encrypted to that key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn items(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// Encrypts an item again, with the key as it is now. The caller holds the lock of the profile or the record.
    ///
    /// # Errors
    /// [`StoreError`]; the item is unchanged then.
    fn encrypt_again(&self, _item: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes an item that no key decrypts any more.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove_item(&self, _item: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Why a stored session cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The content is not a session.
    #[error(transparent)]
    Format(#[from] SessionFormatError),
    /// It cannot be decrypted: truncated, changed, or encrypted to another key or passphrase.
    #[error("it is damaged or encrypted to another key")]
    Sealed,
    /// Longer than any session.
    #[error("it is larger than {} MiB", MAX_BYTES >> 20)]
    TooLong,
}

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no keychain: no session bus, or no Secret Service on it.
    #[error("no keychain service is running")]
    Absent {
        /// The platform's error, on one line.
        detail: String,
    },
    /// The keychain is locked.
    #[error("the keychain is locked")]
    Locked,
    /// The keychain did not respond in time, or waits for the user to answer its prompt.
    #[error("the keychain did not respond within {} s", .limit.as_secs_f32())]
    TimedOut {
        /// How long the caller waited.
        limit: Duration,
    },
    /// The agent that holds the sessions has refused one.
    #[error("{message}")]
    RefusedByAgent {
        /// The code of its error.
        code: ErrorCode,
        /// Its message.
        message: String,
        /// Its hint.
        hint: String,
    },
    /// The agent does not respond, and may have the session or not.
    #[error("the agent does not respond, and may have the session of the login")]
    AgentSilent,
    /// The store refused.
    #[error("the store refused: {detail}")]
    Refused {
        /// The store's error, on one line.
        detail: String,
    },
    /// Other users can write to the directory of the sessions, or choose the key file.
    #[error(transparent)]
    Untrusted(#[from] UntrustedFile),
    /// There is a session, but it cannot be read. It is not removed.
    #[error("the session in {location} cannot be read: {damage}")]
    Damaged {
        /// Where it is.
        location: String,
        /// Why it cannot be read.
        damage: Damage,
    },
    /// The name of another profile leads to the same place, as on a file system that does not distinguish upper and lower
    /// case. The session stays that profile's.
    #[error("{location} has the session of the profile `{found}`")]
    OtherProfile {
        /// Where it is.
        location: String,
        /// The profile that the session belongs to.
        found: ProfileName,
    },
    /// Only the agent holds sessions in memory, and none is running.
    #[error("sessions of the store `memory` are in an agent, and none is running")]
    AgentRequired,
    /// The agent gives tokens of the sessions that it holds in memory, and not the sessions.
    #[error("the session is in the memory of the agent, which does not give it to other programs")]
    HeldByAgent,
    /// The agent that is to hold a session is locked.
    #[error("the agent is locked")]
    AgentLocked,
    /// The key of the file store is sealed with a passphrase, and no user can be asked for it.
    #[error("the file store is locked with a passphrase")]
    Sealed,
    /// The passphrase does not unlock the file store.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The user pressed Ctrl-C at the question for the passphrase.
    #[error("interrupted")]
    Interrupted,
    /// The key that sessions in files are encrypted to cannot be used.
    #[error("cannot use the key file {}: {problem}", .path.display())]
    KeyFile {
        /// The key file.
        path: PathBuf,
        /// Why it cannot be used.
        problem: KeyProblem,
    },
    /// The disk or the quota is full. The old session is unchanged.
    #[error("no space left to write {}", .path.display())]
    NoSpace {
        /// The file that did not fit.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The maximum size of a stored session in bytes: far above any real one, so that reading another file does not fill memory.
pub(crate) const MAX_BYTES: usize = 32 << 20;

impl StoreError {
    /// Returns the error of a stored session of `profile` in `location`.
    fn of_session(error: SessionFormatError, location: String) -> Self {
        match error {
            SessionFormatError::OtherProfile(found) => Self::OtherProfile { location, found },
            error => Self::Damaged { location, damage: error.into() },
        }
    }

    /// Returns whether there is a session that can never be read.
    #[must_use]
    pub fn is_session_lost(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::KeyFile { problem: KeyProblem::Missing, .. })
    }

    /// Creates the error of a failed file operation. A full disk, an exhausted quota and a file size limit are all
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::model::{Generation, Grant, TokenSet};
    use crate::secret::Secret;

    /// Returns a session whose access token is `token`.
    pub(crate) fn session(token: &str) -> Session {
        let tokens = TokenSet {
            access_token: Secret::new(token.into()),
            token_type: "Bearer".into(),
            refresh_token: None,
            id_token: None,
            obtained_at: UnixTime(0),
            issuer_time: None,
            expires_at: None,
            refresh_expires_at: None,
            scope: None,
        };
        let (generation, issuer) =
            (Generation { login: "a1".into(), number: 0 }, "https://a.example".parse().expect("valid"));
        Session::new(generation, issuer, "cli".into(), Grant::Device, tokens, UnixTime(0))
    }

    #[test]
    fn errors_have_a_message() {
        let full = StoreError::io("write", Path::new("/x/work.age"), io::Error::from_raw_os_error(28));
        assert_eq!(full.to_string(), "no space left to write /x/work.age");
        let slow = StoreError::TimedOut { limit: Duration::from_secs(4) };
        assert_eq!(slow.to_string(), "the keychain did not respond within 4 s");
    }
}
