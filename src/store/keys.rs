//! The key of the file store in memory: loaded from its file for each use, or held once a passphrase has unlocked it.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use age::x25519::Identity;
use zeroize::Zeroizing;

use super::key_file::{self, KeyFile, KeySource, SecretKeys};
use super::{KeyProblem, StoreError};
use crate::fs::regular_file;
use crate::secret::Secret;

/// Asks the user for the passphrase, or returns the error for a command that cannot ask.
pub type AskPassphrase = Arc<dyn Fn() -> Result<Secret, StoreError> + Send + Sync>;

/// How many earlier keys a key file has beside the one that encrypts. Sessions that another process encrypted to one of them
/// while the passphrase was changed can still be read.
const MAX_EARLIER_KEYS: usize = 7;

/// The key of the file store.
pub struct StoreKey {
    source: KeySource,
    ask: Option<AskPassphrase>,
    /// The directory of what is encrypted to the key.
    dir: PathBuf,
    state: Mutex<KeyState>,
}

#[derive(Default)]
struct KeyState {
    held: Option<UnlockedKey>,
    /// The key that was held last. It is remembered while this is locked.
    locked: Option<LockedKey>,
    /// The user is asked once: a second store call fails like the first.
    is_asked: bool,
}

/// What a locked process knows of the key: another file must not unlock it.
struct LockedKey {
    /// The file, sealed.
    sealed: Zeroizing<Vec<u8>>,
    proof: KeyFileProof,
}

/// What a file in place of the remembered one has to show.
enum KeyFileProof {
    /// It has the secret key of this public key: a passphrase has unlocked the remembered file.
    Has(String),
    /// It opens one of these, the beginnings of what was encrypted to the key in the remembered file.
    Opens(Vec<Vec<u8>>),
}

/// How many of them are remembered, some of which may be damaged or encrypted to another key.
const MAX_SAMPLES: usize = 16;

/// The length of the beginning of an encrypted file. Its header takes about 200 bytes.
const SAMPLE: u64 = 1024;

/// A key that a passphrase has unlocked.
pub struct UnlockedKey {
    /// The file that was unlocked. In another one, the passphrase has been changed.
    sealed: Zeroizing<Vec<u8>>,
    key: SecretKeys,
    passphrase: Option<Secret>,
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreKey").field("source", &self.source).finish_non_exhaustive()
    }
}

impl StoreKey {
    pub(super) fn new(dir: PathBuf, source: KeySource, ask: Option<AskPassphrase>) -> Self {
        Self { source, ask, dir, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, KeyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the key for decryption. Creates none. Asks for the passphrase if one is needed.
    pub(super) fn load(&self) -> Result<SecretKeys, StoreError> {
        let file = KeyFile::read(&self.source)?;
        if !file.is_sealed() {
            return file.key();
        }
        // Locked during the prompt, so that concurrent calls wait for one answer.
        let mut state = self.state();
        if let Some(held) = state.held.as_ref().filter(|held| held.sealed == file.bytes) {
            return Ok(held.key.clone());
        }
        state.held = None;
        let Some(ask) = self.ask.as_ref().filter(|_| !state.is_asked) else {
            state.remember(&file, &self.dir);
            return Err(StoreError::Sealed);
        };
        state.is_asked = true;
        let passphrase = ask()?;
        let key = file.unseal(&passphrase)?;
        state.hold(UnlockedKey { sealed: file.bytes, key: key.clone(), passphrase: Some(passphrase) });
        Ok(key)
    }

    /// Returns the key for encryption, and creates authctl's own if it is missing. Processes that create it at the same
    /// time all load the one of the first.
    pub(super) fn load_or_create(&self) -> Result<SecretKeys, StoreError> {
        match (self.load(), &self.source) {
            (Err(StoreError::KeyFile { problem: KeyProblem::Missing, .. }), KeySource::Default(path)) => {
                match key_file::write(path, &[Identity::generate()], None, true) {
                    Err(error) if !error.is_existing_file() => Err(error),
                    _ => self.load(),
                }
            }
            (loaded, _) => loaded,
        }
    }

    /// Returns whether the key is sealed with a passphrase. From then on, only a file with the same key unlocks this.
    ///
    /// # Errors
    /// [`StoreError::KeyFile`].
    pub fn is_sealed(&self) -> Result<bool, StoreError> {
        match KeyFile::read(&self.source) {
            Ok(file) => {
                self.state().remember(&file, &self.dir);
                Ok(file.is_sealed())
            }
            Err(StoreError::KeyFile { problem: KeyProblem::Missing | KeyProblem::NamedMissing, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the key is sealed and this process does not hold it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        let Ok(file) = KeyFile::read(&self.source) else { return false };
        file.is_sealed() && self.state().held.as_ref().is_none_or(|held| held.sealed != file.bytes)
    }

    /// Returns the key as `passphrase` unlocks it; nothing if it is no longer sealed. Takes about half a second.
    ///
    /// A program that can replace the key file must not be able to unlock with its own passphrase: a file that was replaced has to
    /// contain the key that was held last, and in place of one in the clear, the file that was sealed last is unlocked. For an
    /// agent that has been locked since it was started, and has held no key, the file has to open what was stored then.
    ///
    /// # Errors
    /// [`StoreError::WrongPassphrase`], or [`StoreError::KeyFile`].
    pub fn unlock(&self, passphrase: &Secret) -> Result<Option<UnlockedKey>, StoreError> {
        let file = KeyFile::read(&self.source)?;
        let replaced = file.wrong(KeyProblem::Replaced);
        if !file.is_sealed() {
            let sealed = self.state().locked.as_ref().map(|locked| locked.sealed.clone());
            let bytes = sealed.ok_or(StoreError::WrongPassphrase)?;
            return KeyFile { bytes, ..file }.unseal(passphrase).map(|_| None);
        }
        let unlocked = UnlockedKey::unseal(file, passphrase)?;
        let is_same = self.state().locked.as_ref().is_none_or(|locked| {
            locked.sealed == unlocked.sealed
                || match &locked.proof {
                    KeyFileProof::Has(public) => unlocked.key.has(public),
                    KeyFileProof::Opens(samples) => samples.iter().any(|sample| unlocked.key.opens(sample)),
                }
        });
        if is_same { Ok(Some(unlocked)) } else { Err(replaced) }
    }

    /// Does the same for a process that is not locked: whatever the key file is now.
    ///
    /// # Errors
    /// As [`StoreKey::unlock`].
    pub fn unlock_any(&self, passphrase: &Secret) -> Result<Option<UnlockedKey>, StoreError> {
        let file = KeyFile::read(&self.source)?;
        if file.is_sealed() { UnlockedKey::unseal(file, passphrase).map(Some) } else { Ok(None) }
    }

    /// Loads the key, and asks for its passphrase if it has one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn check(&self) -> Result<(), StoreError> {
        self.load().map(drop)
    }

    /// Holds an unlocked key until [`StoreKey::lock`].
    pub fn hold(&self, key: UnlockedKey) {
        self.state().hold(key);
    }

    /// Wipes the key. A session that is about to be written is still encrypted with it.
    pub fn lock(&self) {
        self.state().held = None;
    }

    /// Returns the passphrase that the user has entered.
    #[must_use]
    pub fn passphrase(&self) -> Option<Secret> {
        self.state().held.as_ref()?.passphrase.clone()
    }

    /// Makes a new key that `passphrase` seals, or nothing, and replaces the key file with it in one step: from then on only the
    /// new passphrase opens it. The earlier keys stay in it, for the sessions that are encrypted to them, unless the passphrase
    /// `is_forgotten`. One process at a time calls this.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub fn change(&self, passphrase: Option<&Secret>, is_forgotten: bool) -> Result<(), StoreError> {
        let path = match &self.source {
            KeySource::Default(path) => path,
            KeySource::Path(path) => {
                return Err(StoreError::KeyFile { path: path.clone(), problem: KeyProblem::Named });
            }
        };
        let mut identities = vec![Identity::generate()];
        let mut is_new = false;
        if !is_forgotten {
            match self.load() {
                Ok(SecretKeys(earlier)) => identities.extend(earlier.iter().take(MAX_EARLIER_KEYS).cloned()),
                Err(StoreError::KeyFile { problem: KeyProblem::Missing, .. }) => is_new = true,
                Err(error) => return Err(error),
            }
        }
        let sealed = match key_file::write(path, &identities, passphrase, is_new) {
            // Another process has created a key in the meantime, and may have encrypted to it.
            Err(error) if is_new && error.is_existing_file() => return self.change(passphrase, is_forgotten),
            written => written?,
        };
        let key = SecretKeys(Arc::new(identities));
        let mut state = self.state();
        match passphrase {
            Some(passphrase) => state.hold(UnlockedKey { sealed, key, passphrase: Some(passphrase.clone()) }),
            None => state.held = None,
        }
        Ok(())
    }
}

impl UnlockedKey {
    fn unseal(file: KeyFile, passphrase: &Secret) -> Result<Self, StoreError> {
        let key = file.unseal(passphrase)?;
        Ok(Self { sealed: file.bytes, key, passphrase: None })
    }
}

impl KeyState {
    fn hold(&mut self, key: UnlockedKey) {
        let proof = KeyFileProof::Has(key.key.public().unwrap_or_default());
        self.locked = Some(LockedKey { sealed: key.sealed.clone(), proof });
        self.held = Some(key);
    }

    /// Remembers a sealed file and what is encrypted to it in `dir`, unless one is remembered.
    fn remember(&mut self, file: &KeyFile, dir: &Path) {
        if self.locked.is_none() && file.is_sealed() {
            self.locked = Some(LockedKey { sealed: file.bytes.clone(), proof: KeyFileProof::Opens(samples(dir)) });
        }
    }
}

/// Returns the beginnings of encrypted files in `dir`.
fn samples(dir: &Path) -> Vec<Vec<u8>> {
    let paths = std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let sample = |path: PathBuf| {
        let (file, _) = regular_file::open_no_follow(&path).ok()?;
        let mut bytes = Vec::new();
        file.take(SAMPLE).read_to_end(&mut bytes).ok().map(|_| bytes)
    };
    paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "age"))
        .filter_map(sample)
        .take(MAX_SAMPLES)
        .collect()
}

impl StoreError {
    fn is_existing_file(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

#[cfg(test)]
mod tests;
