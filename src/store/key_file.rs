//! The key file of the file store: an `age` identity file, created at first use, in the clear or sealed with a passphrase.
//! `age -d -i FILE` takes both.

use std::fmt::{self, Write as _};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::secrecy::{ExposeSecret, SecretString};
use age::x25519::Identity;
use zeroize::Zeroizing;

use super::StoreError;
use crate::fs::regular_file::ReadError;
use crate::fs::{AtomicFile, create_private_dir, is_trusted_owner, link_target, regular_file};
use crate::secret::Secret;

/// Where the key file is.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A key file that the user provides, such as `AUTHCTL_KEY_FILE`. Never created or changed.
    Path(PathBuf),
    /// authctl's own key file, created at the first write, mode 0600.
    Default(PathBuf),
}

/// Why a key file cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// authctl's own does not exist.
    #[error("it does not exist")]
    Missing,
    /// The one that the user named does not exist.
    #[error("it does not exist")]
    NamedMissing,
    /// The passphrase of a file that the user named is to be changed.
    #[error("authctl sets no passphrase for a key file that you provide")]
    Named,
    /// Other users can read or change it.
    #[error("other users can access it (mode {mode:04o})")]
    TooOpen {
        /// Its permission bits.
        mode: u32,
    },
    /// Its owner is neither this user nor root.
    #[error("it is owned by user ID {owner}")]
    NotOurs {
        /// The owner's user id.
        owner: u32,
    },
    /// A directory, pipe or device.
    #[error("not a regular file")]
    NotAFile,
    /// It is larger than any key file.
    #[error("{}", regular_file::too_large(MAX_BYTES))]
    TooLarge,
    /// It has no `AGE-SECRET-KEY-1...` line, or is encrypted, but not with a passphrase.
    #[error("it contains no age secret key")]
    NotAKey,
    /// Its passphrase takes longer to check than authctl accepts.
    #[error("its scrypt work factor is {factor}, and at most {MAX_WORK_FACTOR} is accepted")]
    WorkFactor {
        /// The work factor that the file asks for.
        factor: u8,
    },
    /// It is sealed, and does not have the key that was held before this process was locked.
    #[error("it was replaced by one without the key of the sessions")]
    Replaced,
    /// It could not be read.
    #[error("{reason}")]
    Unreadable {
        /// The kind of the system's error.
        kind: io::ErrorKind,
        /// Its text.
        reason: String,
    },
}

/// The maximum length of a passphrase, in bytes.
const MAX_PASSPHRASE: usize = 1024;

/// A passphrase that is empty or too long.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the passphrase must have 1 to {MAX_PASSPHRASE} bytes")]
pub struct InvalidPassphrase;

/// Checks the length of a passphrase, of the store or of an agent.
///
/// # Errors
/// [`InvalidPassphrase`].
pub fn check_passphrase(passphrase: &Secret) -> Result<(), InvalidPassphrase> {
    match passphrase.expose().len() {
        1..=MAX_PASSPHRASE => Ok(()),
        _ => Err(InvalidPassphrase),
    }
}

/// The scrypt work factor, as a power of two: 2^17 takes 0.33 s and 128 MiB, age's default of 2^18 twice as much.
pub(super) const WORK_FACTOR: u8 = 17;

/// The highest work factor accepted for decryption. A hostile file could demand minutes.
pub(super) const MAX_WORK_FACTOR: u8 = 18;

/// The maximum size of a key file in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// How an encrypted `age` file begins (<https://age-encryption.org/v1>).
const SEALED: &[u8] = b"age-encryption.org/";

/// The keys of a key file: the first encrypts, any decrypts. Wiped when the last copy is dropped.
#[derive(Clone)]
pub(super) struct SecretKeys(pub(super) Arc<Vec<Identity>>);

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl SecretKeys {
    /// Encrypts `plain` as an `age` file.
    pub(super) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let sealed = then_wipe_stack(|| match self.0.first() {
            Some(first) => age::encrypt(&first.to_public(), plain),
            None => Err(age::EncryptError::MissingRecipients),
        });
        sealed.map_err(cannot_encrypt)
    }

    /// Returns the public key to which [`SecretKeys::seal`] encrypts.
    pub(super) fn public(&self) -> Option<String> {
        self.0.first().map(|identity| identity.to_public().to_string())
    }

    /// Returns whether the secret key of `public` is among the keys.
    pub(super) fn has(&self, public: &str) -> bool {
        self.0.iter().any(|identity| identity.to_public().to_string() == public)
    }

    /// Returns whether one of the keys decrypts the `age` file that begins with `start`.
    pub(super) fn opens(&self, start: &[u8]) -> bool {
        let identities = || self.0.iter().map(|identity| identity as &dyn age::Identity);
        then_wipe_stack(|| age::Decryptor::new_buffered(start).is_ok_and(|file| file.decrypt(identities()).is_ok()))
    }

    /// Decrypts the `age` file `sealed`. Returns `None` if that fails.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        then_wipe_stack(|| decrypt(sealed, self.0.iter().map(|identity| identity as &dyn age::Identity)).ok())
    }
}

/// The size of the stack that is wiped, in bytes: more than encryption uses.
const STACK: usize = 64 << 10;

/// Calls `work`, and overwrites the stack that it has used: a key that is moved leaves copies there.
fn then_wipe_stack<T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn call<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    #[inline(never)]
    fn wipe() {
        // In words, which takes an eighth of the time that bytes take.
        let mut used = [1u64; STACK / 8];
        zeroize::Zeroize::zeroize(&mut used);
        std::hint::black_box(&used);
    }
    let result = call(work);
    wipe();
    result
}

fn cannot_encrypt(error: age::EncryptError) -> StoreError {
    StoreError::Refused { detail: format!("cannot encrypt: {error}") }
}

fn decrypt<'a>(
    sealed: &[u8],
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<Zeroizing<Vec<u8>>, age::DecryptError> {
    let decryptor = age::Decryptor::new_buffered(sealed)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    decryptor.decrypt(identities)?.read_to_end(&mut plain)?;
    Ok(plain)
}

/// The content of a key file.
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl KeyFile {
    /// Reads the file, after checking its owner and mode.
    pub(super) fn read(source: &KeySource) -> Result<Self, StoreError> {
        let (KeySource::Path(path) | KeySource::Default(path)) = source;
        let wrong = |problem| StoreError::KeyFile { path: path.clone(), problem };
        let unreadable = |e: io::Error| {
            wrong(match (e.kind(), source) {
                (io::ErrorKind::NotFound, KeySource::Default(_)) => KeyProblem::Missing,
                (io::ErrorKind::NotFound, KeySource::Path(_)) => KeyProblem::NamedMissing,
                (io::ErrorKind::InvalidInput, _) => KeyProblem::NotAFile,
                (kind, _) => KeyProblem::Unreadable { kind, reason: e.to_string() },
            })
        };
        let (file, about) = regular_file::open(path).map_err(unreadable)?;
        let (mode, owner) = (about.mode() & 0o7777, about.uid());
        if !is_trusted_owner(owner) {
            return Err(wrong(KeyProblem::NotOurs { owner }));
        }
        // systemd provides a credential as a file of root with an access control entry for the service's user, the mask of
        // which shows as the group's read bit.
        let forbidden = if owner == rustix::process::geteuid().as_raw() { 0o077 } else { 0o037 };
        if mode & forbidden != 0 {
            return Err(wrong(KeyProblem::TooOpen { mode }));
        }
        check_path(path)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(wrong(KeyProblem::TooLarge));
        }
        Ok(Self { path: path.clone(), bytes })
    }

    /// Returns the error that the file cannot be used.
    pub(super) fn wrong(&self, problem: KeyProblem) -> StoreError {
        StoreError::KeyFile { path: self.path.clone(), problem }
    }

    /// Returns whether the file is sealed with a passphrase.
    pub(super) fn is_sealed(&self) -> bool {
        self.bytes.starts_with(SEALED)
    }

    /// Returns the key in a file in the clear.
    pub(super) fn key(&self) -> Result<SecretKeys, StoreError> {
        then_wipe_stack(|| self.parse(&self.bytes))
    }

    /// Returns the key in a sealed file.
    ///
    /// # Errors
    /// [`StoreError::WrongPassphrase`].
    pub(super) fn unseal(&self, passphrase: &Secret) -> Result<SecretKeys, StoreError> {
        then_wipe_stack(|| self.unseal_on_stack(passphrase))
    }

    fn unseal_on_stack(&self, passphrase: &Secret) -> Result<SecretKeys, StoreError> {
        let mut identity = age::scrypt::Identity::new(secret_string(passphrase));
        identity.set_max_work_factor(MAX_WORK_FACTOR);
        let plain = decrypt(&self.bytes, std::iter::once(&identity as &dyn age::Identity));
        let plain = plain.map_err(|error| match error {
            age::DecryptError::ExcessiveWork { required, .. } => {
                self.wrong(KeyProblem::WorkFactor { factor: required })
            }
            age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed => StoreError::WrongPassphrase,
            _ => self.wrong(KeyProblem::NotAKey),
        })?;
        self.parse(&plain)
    }

    fn parse(&self, text: &[u8]) -> Result<SecretKeys, StoreError> {
        let not_a_key = || self.wrong(KeyProblem::NotAKey);
        let text = std::str::from_utf8(text).map_err(|_| not_a_key())?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let identities: Vec<Identity> =
            lines.map(|line| line.parse().map_err(|_| not_a_key())).collect::<Result<_, _>>()?;
        if identities.is_empty() { Err(not_a_key()) } else { Ok(SecretKeys(Arc::new(identities))) }
    }
}

/// Checks that no other user can make the path lead to a key that they know.
fn check_path(path: &Path) -> Result<(), StoreError> {
    regular_file::check_path(path).map_err(|error| match error {
        ReadError::Untrusted(error) => error.into(),
        error => StoreError::io("check", path, io::Error::other(error)),
    })
}

/// Writes `identities` to the key file at `path`, sealed with `passphrase` if there is one: in place of the one that is there, or
/// as a new file if `is_new`. It appears complete and durable, or not at all. Returns the content.
///
/// # Errors
/// [`StoreError::Io`] with [`io::ErrorKind::AlreadyExists`] if it is no new file.
pub(super) fn write(
    path: &Path,
    identities: &[Identity],
    passphrase: Option<&Secret>,
    is_new: bool,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let failed = |e: io::Error| StoreError::io(if is_new { "create" } else { "write" }, path, e);
    // Follow a symbolic link, as for the configuration file.
    let (named, path) = (path, &*link_target(path));
    path.parent().map_or(Ok(()), create_private_dir).map_err(failed)?;
    check_path(named)?;
    let file = AtomicFile::beside(path).map_err(failed)?;
    // A store has no clock, but the file system has.
    let created = file.created().ok().and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_default();
    let created = created.round(jiff::Unit::Second).unwrap_or(created);
    // With enough capacity from the start: a string that grows leaves copies of its content on the heap.
    let mut text = Zeroizing::new(String::with_capacity(64 + 256 * identities.len()));
    let _ = writeln!(text, "# created: {created}");
    for identity in identities {
        let secret = identity.to_string();
        let _ = write!(text, "# public key: {}\n{}\n", identity.to_public(), secret.expose_secret());
    }
    let bytes = match passphrase {
        None => Zeroizing::new(text.as_bytes().to_vec()),
        Some(passphrase) => {
            let mut recipient = age::scrypt::Recipient::new(secret_string(passphrase));
            recipient.set_work_factor(WORK_FACTOR);
            Zeroizing::new(age::encrypt(&recipient, text.as_bytes()).map_err(cannot_encrypt)?)
        }
    };
    if is_new { file.create_new(&bytes) } else { file.replace(&bytes) }.map_err(failed)?;
    Ok(bytes)
}

pub(super) fn secret_string(passphrase: &Secret) -> SecretString {
    SecretString::from(passphrase.expose().to_owned())
}
