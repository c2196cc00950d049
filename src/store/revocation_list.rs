//! The file that lists the tokens revoked on this machine. It holds digests, no tokens.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::clock::UnixTime;
use crate::fs::{LockError, LockFile, replace};
use crate::model::{RevokedToken, RevokedTokens, TokenDigest};

/// The first word of the first line. The number of entries follows it, so that a truncated file is noticed.
const FORMAT: &str = "authctl-revoked-1";
/// The maximum size of the file in bytes. [`RevokedTokens::MAX`] entries need less than 1 MiB.
const MAX_BYTES: u64 = 2 << 20;
/// How long to wait for another process that writes the list.
const LOCK_LIMIT: Duration = Duration::from_secs(2);

/// Why the list cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RevocationListError {
    /// The file has another format, or is truncated. It is never treated as an empty list.
    #[error("the list of revoked tokens at {} is damaged", .0.display())]
    Damaged(PathBuf),
    /// Another process writes it, or it cannot be locked.
    #[error("cannot lock the list of revoked tokens: {0}")]
    Lock(#[from] LockError),
    /// It cannot be read or written.
    #[error("cannot read or write the list of revoked tokens at {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Where the list is.
#[derive(Clone, Debug)]
pub struct RevocationFiles {
    /// The file.
    pub file: PathBuf,
    /// The one in the directory for data, if that is another: a process without a message bus, such as a cron job, reads only that.
    pub in_data: Option<PathBuf>,
}

impl From<PathBuf> for RevocationFiles {
    fn from(file: PathBuf) -> Self {
        Self { file, in_data: None }
    }
}

impl RevocationFiles {
    /// Reads the list. A missing file is an empty list.
    ///
    /// # Errors
    /// [`RevocationListError`].
    pub fn open(&self) -> Result<RevocationList, RevocationListError> {
        Ok(RevocationList { files: self.clone(), tokens: self.read()? })
    }

    fn read(&self) -> Result<RevokedTokens, RevocationListError> {
        let mut tokens = read(&self.file)?;
        if let Some(in_data) = &self.in_data {
            read(in_data)?.iter().for_each(|(digest, revoked)| tokens.insert(*digest, *revoked));
        }
        Ok(tokens)
    }

    /// Changes each file as [`RevocationList::update`] does. One of them is enough to go on: the home of a user may be read-only.
    ///
    /// # Errors
    /// [`RevocationListError`] if none can be changed.
    pub fn update(&self, now: UnixTime, add: impl Fn(&mut RevokedTokens)) -> Result<(), RevocationListError> {
        let shared = RevocationList::update(&self.file, now, &add);
        let in_data = self.in_data.as_ref().map(|file| RevocationList::update(file, now, &add));
        match in_data {
            Some(Ok(())) => {
                if let Err(error) = shared {
                    tracing::warn!("the logout is not known to every terminal: {error}");
                }
                Ok(())
            }
            Some(Err(_)) | None => shared,
        }
    }
}

/// The list of revoked tokens, as it was when it was last read.
#[derive(Clone, Debug)]
pub struct RevocationList {
    files: RevocationFiles,
    tokens: RevokedTokens,
}

impl RevocationList {
    /// Reads the list at `path`. A missing file is an empty list.
    ///
    /// # Errors
    /// [`RevocationListError`].
    pub fn open(path: &Path) -> Result<Self, RevocationListError> {
        RevocationFiles::from(path.to_owned()).open()
    }

    /// Reads the list again. If that fails, the list is unchanged.
    ///
    /// # Errors
    /// [`RevocationListError`].
    pub fn reload(&mut self) -> Result<(), RevocationListError> {
        self.tokens = self.files.read()?;
        Ok(())
    }

    /// Returns the revoked tokens.
    #[must_use]
    pub fn tokens(&self) -> &RevokedTokens {
        &self.tokens
    }

    /// Reads the list at `path` again under its lock, lets `add` change it, removes what is expired `now`, and replaces the
    /// file atomically with mode 0600.
    ///
    /// # Errors
    /// [`RevocationListError`]; the file is then unchanged.
    pub fn update(path: &Path, now: UnixTime, add: impl FnOnce(&mut RevokedTokens)) -> Result<(), RevocationListError> {
        let mut lock = path.to_owned().into_os_string();
        lock.push(".lock");
        let _lock = LockFile::open(lock.into())?.lock_blocking(LOCK_LIMIT)?;
        let mut tokens = read(path)?;
        add(&mut tokens);
        tokens.prune(now);
        replace(path, format(&tokens).as_bytes(), 0o600)
            .map_err(|source| RevocationListError::Io { path: path.to_owned(), source })
    }
}

fn read(path: &Path) -> Result<RevokedTokens, RevocationListError> {
    let failed = |source| RevocationListError::Io { path: path.to_owned(), source };
    let damaged = || RevocationListError::Damaged(path.to_owned());
    // Opening a pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(RevokedTokens::default()),
        Err(e) => return Err(failed(e.into())),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(damaged());
    }
    let mut text = String::new();
    // A longer file is truncated, which `parse` notices.
    match file.take(MAX_BYTES).read_to_string(&mut text) {
        Ok(_) => parse(&text).ok_or_else(damaged),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(damaged()),
        Err(e) => Err(failed(e)),
    }
}

fn format(tokens: &RevokedTokens) -> String {
    let mut text = format!("{FORMAT} {}\n", tokens.len());
    for (digest, revoked) in tokens.iter() {
        for byte in digest {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(text, " {}", revoked.expires_at.0);
        if let Some(until) = revoked.issued_until {
            let _ = write!(text, " {}", until.0);
        }
        text.push('\n');
    }
    text
}

fn parse(text: &str) -> Option<RevokedTokens> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let count: usize = lines.next()?.strip_prefix(FORMAT)?.strip_prefix(' ')?.parse().ok()?;
    let mut tokens = RevokedTokens::default();
    for line in lines {
        let (hex, times) = line.split_once(' ')?;
        let hex: &[u8; 64] = hex.as_bytes().try_into().ok()?;
        let mut digest = TokenDigest::default();
        for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| (c as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let time = |text: &str| text.parse().ok().map(UnixTime);
        let (expires_at, issued_until) = match times.split_once(' ') {
            Some((expires_at, until)) => (expires_at, Some(time(until)?)),
            None => (times, None),
        };
        tokens.insert(digest, RevokedToken { expires_at: time(expires_at)?, issued_until });
    }
    (tokens.len() == count).then_some(tokens)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn add(path: &Path, first_byte: u8) -> Result<(), RevocationListError> {
        RevocationList::update(path, UnixTime(0), |tokens| {
            let issued_until = first_byte.is_multiple_of(2).then_some(UnixTime(7));
            tokens.insert(digest(first_byte), RevokedToken { expires_at: UnixTime(1000), issued_until });
        })
    }

    fn digest(first_byte: u8) -> TokenDigest {
        let mut digest = [0xab; 32];
        digest[0] = first_byte;
        digest
    }

    #[test]
    fn update_keeps_what_other_processes_added() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("revoked");
        let mut list = RevocationList::open(&path).expect("a missing file is an empty list");
        assert!(list.tokens().is_empty());
        add(&path, 1).expect("added");
        add(&path, 2).expect("added");
        list.reload().expect("readable");
        assert_eq!(list.tokens().len(), 2);
        let revoked = |byte| list.tokens().get(&digest(byte)).copied();
        assert_eq!(revoked(1), Some(RevokedToken { expires_at: UnixTime(1000), issued_until: None }));
        assert_eq!(revoked(2), Some(RevokedToken { expires_at: UnixTime(1000), issued_until: Some(UnixTime(7)) }));
        assert_eq!(std::fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn both_lists_are_read_and_changed_and_one_is_enough() {
        let dir = tempfile::tempdir().expect("directory");
        let (file, in_data) = (dir.path().join("revoked"), dir.path().join("data"));
        add(&in_data, 1).expect("added");
        let files = RevocationFiles { file: file.clone(), in_data: Some(in_data.clone()) };
        let revoke = |byte| {
            let token = RevokedToken { expires_at: UnixTime(1000), issued_until: None };
            files.update(UnixTime(0), move |tokens| tokens.insert(digest(byte), token))
        };
        let count = |file| RevocationList::open(file).expect("readable").tokens().len();
        let mut list = files.open().expect("readable");
        assert_eq!(list.tokens().len(), 1);
        revoke(2).expect("added");
        list.reload().expect("readable");
        assert_eq!((list.tokens().len(), count(&file), count(&in_data)), (2, 1, 2));
        let make_unusable = |path: &Path| {
            std::fs::remove_file(path).expect("removed");
            std::fs::create_dir(path).expect("made");
        };
        for unusable in [&in_data, &file] {
            make_unusable(unusable);
            revoke(3).expect("added to the other one");
            assert!(files.open().is_err(), "{}: it may have what the other has not", unusable.display());
            std::fs::remove_dir(unusable).expect("removed");
            revoke(4).expect("added to both");
        }
        [&file, &in_data].into_iter().for_each(|path| make_unusable(path));
        revoke(5).expect_err("added to none");
    }

    #[test]
    fn update_removes_tokens_that_expired_a_day_ago() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("revoked");
        add(&path, 1).expect("added");
        let a_day_later = 1000 + 86_400;
        RevocationList::update(&path, UnixTime(a_day_later), |_| ()).expect("updated");
        assert_eq!(RevocationList::open(&path).expect("readable").tokens().len(), 1);
        RevocationList::update(&path, UnixTime(a_day_later + 1), |_| ()).expect("updated");
        assert!(RevocationList::open(&path).expect("readable").tokens().is_empty());
    }

    #[test]
    fn list_that_cannot_be_opened_or_read_is_not_an_empty_one() {
        let dir = tempfile::tempdir().expect("directory");
        let (link, list) = (dir.path().join("link"), dir.path().join("list"));
        std::os::unix::fs::symlink(&link, &link).expect("a link to itself");
        std::fs::create_dir(&list).expect("a directory");
        for path in [link, list] {
            let read = RevocationList::open(&path);
            assert!(read.is_err(), "{read:?}");
            assert!(add(&path, 1).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn update_gives_up_while_another_process_holds_the_lock() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("revoked");
        let _held = LockFile::open(dir.path().join("revoked.lock")).expect("opened").try_lock().expect("supported");
        assert!(matches!(add(&path, 1), Err(RevocationListError::Lock(LockError::TimedOut { .. }))));
        assert!(!path.exists());
    }

    #[test]
    fn damaged_file_is_an_error_and_is_not_overwritten() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("revoked");
        add(&path, 1).expect("added");
        add(&path, 2).expect("added");
        let whole = std::fs::read(&path).expect("bytes");
        let first_line = whole.iter().position(|b| *b == b'\n').expect("lines") + 1;
        let truncated = [0, 1, first_line, whole.len() - 1, first_line + 67, whole.len() / 2];
        let mut damaged: Vec<Vec<u8>> = truncated.iter().map(|length| whole[..*length].to_vec()).collect();
        damaged.push([whole.as_slice(), b"\xff\n"].concat());
        damaged.push(vec![b'a'; 3 << 20]);
        for bytes in damaged {
            std::fs::write(&path, &bytes).expect("written");
            assert!(matches!(RevocationList::open(&path), Err(RevocationListError::Damaged(_))), "{}", bytes.len());
            assert!(matches!(add(&path, 3), Err(RevocationListError::Damaged(_))), "{}", bytes.len());
            assert_eq!(std::fs::read(&path).expect("bytes"), bytes);
        }
    }
}
