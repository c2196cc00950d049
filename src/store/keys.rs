//! The key that sessions in files are encrypted to: an `age` identity file, created at first use, or a passphrase.

use std::fmt::{self, Write as _};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::StoreError;
use crate::fs::{AtomicFile, create_private_dir, regular_file};
use crate::secret::Secret;

/// Where the key comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A key file that the user provides, such as `AUTHCTL_KEY_FILE`. Never created.
    Path(PathBuf),
    /// authctl's own key file, created at the first write, mode 0600.
    Default(PathBuf),
    /// A passphrase, from which scrypt derives the key: about a third of a second for each read and write.
    Passphrase(Secret),
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
    /// It has no `AGE-SECRET-KEY-1...` line.
    #[error("it contains no age secret key")]
    NotAKey,
    /// It could not be read.
    #[error("{0}")]
    Unreadable(io::ErrorKind),
}

/// The scrypt work factor, as a power of two: 2^17 takes 0.33 s, age's default 2.8 s.
const WORK_FACTOR: u8 = 17;

/// The highest work factor accepted for decryption. A hostile file could demand minutes.
const MAX_WORK: u8 = 18;

/// The maximum size of a key file in bytes.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// A loaded key.
pub(super) enum Key {
    /// The identities of a key file: the first encrypts, any decrypts.
    File(Vec<age::x25519::Identity>),
    /// A passphrase.
    Passphrase(SecretString),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Key {
    /// Encrypts `plain` as an `age` file.
    pub(super) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let sealed = match self {
            Self::File(identities) => match identities.first() {
                Some(first) => age::encrypt(&first.to_public(), plain),
                None => Err(age::EncryptError::MissingRecipients),
            },
            Self::Passphrase(passphrase) => {
                let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK_FACTOR);
                age::encrypt(&recipient, plain)
            }
        };
        sealed.map_err(|e| StoreError::Refused { detail: format!("cannot encrypt: {e}") })
    }

    /// Decrypts the `age` file `sealed`. Returns `None` if that fails.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let decryptor = age::Decryptor::new_buffered(sealed).ok()?;
        let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
        let read = match self {
            Self::File(identities) => {
                let identities = identities.iter().map(|i| i as &dyn age::Identity);
                decryptor.decrypt(identities).ok()?.read_to_end(&mut plain)
            }
            Self::Passphrase(passphrase) => {
                let mut identity = age::scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(MAX_WORK);
                decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).ok()?.read_to_end(&mut plain)
            }
        };
        read.ok()?;
        Some(plain)
    }
}

impl KeySource {
    /// Loads the key for decryption. Creates none.
    pub(super) fn load(&self) -> Result<Key, StoreError> {
        match self {
            Self::Default(path) => load(path),
            Self::Path(path) => load(path).map_err(|error| match error {
                StoreError::KeyFile { path, problem: KeyProblem::Missing } => {
                    StoreError::KeyFile { path, problem: KeyProblem::NamedMissing }
                }
                other => other,
            }),
            Self::Passphrase(passphrase) => Ok(Key::Passphrase(SecretString::from(passphrase.expose().to_owned()))),
        }
    }

    /// Loads the key for encryption, and creates authctl's own if it is missing. Processes that create it at the same
    /// time all load the one of the first.
    pub(super) fn load_or_create(&self) -> Result<Key, StoreError> {
        match (self.load(), self) {
            (Err(StoreError::KeyFile { problem: KeyProblem::Missing, .. }), Self::Default(path)) => {
                create(path)?;
                load(path)
            }
            (loaded, _) => loaded,
        }
    }
}

fn load(path: &Path) -> Result<Key, StoreError> {
    let wrong = |problem| StoreError::KeyFile { path: path.to_owned(), problem };
    let unreadable = |e: io::Error| {
        wrong(match e.kind() {
            io::ErrorKind::NotFound => KeyProblem::Missing,
            io::ErrorKind::InvalidInput => KeyProblem::NotAFile,
            kind => KeyProblem::Unreadable(kind),
        })
    };
    let (file, about) = regular_file::open(path).map_err(unreadable)?;
    let (mode, owner) = (about.mode() & 0o7777, about.uid());
    let us = rustix::process::geteuid().as_raw();
    if owner != us && owner != 0 {
        return Err(wrong(KeyProblem::NotOurs { owner }));
    }
    // systemd provides a credential as a file of root with an access control entry for the service's user, the mask of which
    // shows as the group's read bit.
    let forbidden = if owner == us { 0o077 } else { 0o037 };
    if mode & forbidden != 0 {
        return Err(wrong(KeyProblem::TooOpen { mode }));
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    file.take(MAX_KEY_BYTES).read_to_string(&mut text).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => wrong(KeyProblem::NotAKey),
        _ => unreadable(e),
    })?;
    let mut identities = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        identities.push(line.parse().map_err(|_| wrong(KeyProblem::NotAKey))?);
    }
    if identities.is_empty() {
        return Err(wrong(KeyProblem::NotAKey));
    }
    Ok(Key::File(identities))
}

/// Creates a key at `path` unless another process has created one first. The file appears complete and durable, or not at
/// all.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::io("create", path, e);
    path.parent().map_or(Ok(()), create_private_dir).map_err(failed)?;
    let file = AtomicFile::beside(path).map_err(failed)?;
    // A store has no clock, but the file system has.
    let created = file.created().ok().and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or_default();
    let created = created.round(jiff::Unit::Second).unwrap_or(created);
    let identity = age::x25519::Identity::generate();
    let secret = identity.to_string();
    // With enough capacity from the start: a string that grows leaves copies of its content on the heap.
    let mut text = Zeroizing::new(String::with_capacity(512));
    let _ = write!(text, "# created: {created}\n# public key: {}\n{}\n", identity.to_public(), secret.expose_secret());
    match file.create_new(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use super::*;

    fn problem(source: &KeySource) -> KeyProblem {
        match source.load() {
            Err(StoreError::KeyFile { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn concurrent_first_writers_get_one_key() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("made/authctl.key");
        let barrier = Barrier::new(16);
        std::thread::scope(|scope| {
            let racers: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let key = KeySource::Default(path.clone()).load_or_create().expect("a key");
                        key.seal(b"plain").expect("sealed")
                    })
                })
                .collect();
            let sealed: Vec<_> = racers.into_iter().map(|r| r.join().expect("no panic")).collect();
            let key = KeySource::Default(path.clone()).load().expect("a key");
            assert!(sealed.iter().all(|s| key.open(s).is_some_and(|p| p.as_slice() == b"plain")));
        });
        let left: Vec<_> = path.parent().expect("parent").read_dir().expect("list").collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("readable");
        assert!(text.starts_with("# created: 20"), "{}", text.lines().next().unwrap_or_default());
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn provided_key_file_is_never_created() {
        let dir = tempfile::tempdir().expect("tempdir");
        let source = KeySource::Path(dir.path().join("k"));
        assert!(source.load_or_create().is_err());
        assert_eq!(problem(&source), KeyProblem::NamedMissing);
        assert_eq!(dir.path().read_dir().expect("list").count(), 0);
    }

    #[test]
    fn key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("it's.key");
        let source = KeySource::Default(path.clone());
        source.load_or_create().expect("made");
        for mode in [0o640, 0o604, 0o620, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
            let message = source.load().expect_err("refused").to_string();
            assert!(message.contains(&format!("mode {mode:04o}")), "{message}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("chmod");
        source.load().expect("owner alone");
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(4711), None).is_ok() {
            assert_eq!(problem(&source), KeyProblem::NotOurs { owner: 4711 });
        }
    }

    #[test]
    fn files_without_a_key_are_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("k");
        assert_eq!(problem(&KeySource::Path(dir.path().into())), KeyProblem::NotAFile);
        for text in ["", "# created: x\n", "AGE-SECRET-KEY-1QQQ\n", "age1xyz\n", "\u{0}\u{1}"] {
            std::fs::write(&path, text).expect("write");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
            assert_eq!(problem(&KeySource::Path(path.clone())), KeyProblem::NotAKey, "{text}");
        }
        std::fs::write(&path, [0xff, 0xfe]).expect("write");
        assert_eq!(problem(&KeySource::Path(path)), KeyProblem::NotAKey);
    }

    #[test]
    fn passphrase_decrypts_up_to_a_work_factor() {
        let key = |p: &str| KeySource::Passphrase(Secret::new(p.into())).load().expect("a key");
        let sealed = key("right").seal(b"plain").expect("sealed");
        assert_eq!(key("right").open(&sealed).expect("opens").as_slice(), b"plain");
        assert!(key("wrong").open(&sealed).is_none());
        let head = std::str::from_utf8(&sealed[..60]).expect("ASCII");
        let recipient = head.lines().nth(1).expect("a recipient");
        assert!(recipient.starts_with("-> scrypt ") && recipient.ends_with(&format!(" {WORK_FACTOR}")), "{head}");
        let mut recipient = age::scrypt::Recipient::new(SecretString::from("right".to_owned()));
        recipient.set_work_factor(MAX_WORK + 1);
        let hostile = age::encrypt(&recipient, b"plain").expect("sealed");
        assert!(key("right").open(&hostile).is_none());
    }
}
