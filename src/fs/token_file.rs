//! A file with one token, for programs that read it: mode 0600, replaced atomically, in a directory that only this user can
//! write to.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use super::permissions::{UntrustedFile, is_private};
use super::regular_file::{self, ReadError};
use super::{AtomicFile, Directory, create_private_dir, directory_of, through_own_links};
use crate::broker::{self, BrokerRequest, PendingRequest};
use crate::secret::SecretBytes;

/// A longer file does not have a token.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a token file cannot be written or removed, to follow its path and a colon.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// Another user may change the file or has chosen its place.
    #[error(transparent)]
    Untrusted(#[from] UntrustedFile),
    /// It is a symbolic link, which may lead to any other file.
    #[error("it is a symbolic link")]
    Link,
    /// It holds something else, which is not replaced.
    #[error("it exists and holds something other than a token")]
    NotAToken,
    /// It holds a token that authctl did not write.
    #[error("it exists and holds a token that authctl did not write")]
    Foreign,
    /// It was there before the command that wants it for itself.
    #[error("it exists already")]
    Exists,
    /// It no longer has the token that this process has written.
    #[error("another program has changed it")]
    Changed,
    /// The token has characters with which a file could mean something else.
    #[error("the token has characters that a token file may not have")]
    Unsafe,
    /// The system's error.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<ReadError> for TokenFileError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Untrusted(untrusted) => untrusted.into(),
            ReadError::Missing => io::Error::from(io::ErrorKind::NotFound).into(),
            ReadError::Unreadable(reason) => io::Error::other(reason).into(),
        }
    }
}

/// Returns whether a file may have it: programs read a token up to white space, and nothing else is replaced or removed.
fn is_token(bytes: &[u8]) -> bool {
    bytes.len() as u64 <= MAX_BYTES && bytes.trim_ascii().iter().all(u8::is_ascii_graphic)
}

/// Returns whether the file has this token. Makes it the user's alone, unless the modes of its file system are fixed, as those of
/// vfat are: another file would have the same one.
///
/// # Errors
/// As [`read`].
pub fn has(path: &Path, token: &[u8]) -> Result<bool, TokenFileError> {
    if read(path)?.is_none_or(|found| found.expose() != token) {
        return Ok(false);
    }
    // `read` has checked that it is no link.
    if !is_private(std::fs::symlink_metadata(path)?.mode()) {
        let changed = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
        // A confined agent may not change modes: then a new file replaces this one.
        return Ok(!changed.is_err_and(|error| error.raw_os_error() == Some(Errno::ACCESS.raw_os_error())));
    }
    Ok(true)
}

/// Returns what the file holds; `None` if there is none. It is checked as it is before a write: nothing that another user
/// controls, and nothing but a token.
///
/// # Errors
/// [`TokenFileError`].
pub fn read(path: &Path) -> Result<Option<SecretBytes>, TokenFileError> {
    let (file, about) = match regular_file::open_no_follow(path) {
        Ok(opened) => opened,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Err(TokenFileError::Link),
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Err(TokenFileError::NotAToken),
        Err(e) => return Err(e.into()),
    };
    let owner = about.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err(UntrustedFile::NotOurs { path: path.to_owned(), owner }.into());
    }
    let mut bytes = SecretBytes::default();
    let length = bytes.read_from(io::Read::take(file, MAX_BYTES + 1))?;
    if length > MAX_BYTES || !is_token(bytes.expose()) {
        return Err(TokenFileError::NotAToken);
    }
    Ok(Some(bytes))
}

/// Checks that the file can be written, as far as that is known without doing it.
///
/// # Errors
/// [`TokenFileError`].
pub fn check(path: &Path) -> Result<(), TokenFileError> {
    read(path)?;
    let dir = through_own_links(directory_of(path));
    let dir = match dir.ancestors().take_while(|dir| !dir.exists()).last() {
        // A write creates the directories that are missing, for this user alone.
        Some(missing) => {
            regular_file::check_path(missing)?;
            directory_of(missing)
        }
        None => {
            regular_file::check_directory(&dir)?;
            &dir
        }
    };
    let access = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, dir, access, AtFlags::EACCESS).map_err(|e| TokenFileError::System(e.into()))
}

/// Replaces the content by `token`, unless `is_abandoned` returns true: the caller has stopped waiting. Creates the directory if it
/// is missing.
///
/// # Errors
/// [`TokenFileError`]; the old content is there then.
pub fn write(path: &Path, token: &[u8], is_abandoned: impl Fn() -> bool) -> Result<(), TokenFileError> {
    if !is_token(token) {
        return Err(TokenFileError::Unsafe);
    }
    match write_here(path, token, &is_abandoned) {
        Err(error) if needs_broker(&error) && !is_abandoned() => {
            ask_broker(path, |path| BrokerRequest::WriteToken { path }, token, is_abandoned)
        }
        written => written,
    }
}

fn write_here(path: &Path, token: &[u8], is_abandoned: impl Fn() -> bool) -> Result<(), TokenFileError> {
    create_private_dir(directory_of(path))?;
    let path = place(path)?;
    if has(&path, token)? {
        return Ok(());
    }
    let next = AtomicFile::beside(&path)?;
    Ok(next.replace_unless(token, is_abandoned)?)
}

/// Writes `token` to a new file. Creates the directory if it is missing.
///
/// # Errors
/// [`TokenFileError::Exists`] if anything is there, and others.
pub fn create(path: &Path, token: &[u8]) -> Result<(), TokenFileError> {
    if !is_token(token) {
        return Err(TokenFileError::Unsafe);
    }
    create_private_dir(directory_of(path))?;
    let path = place(path)?;
    AtomicFile::beside(&path)?.create_new(token).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => TokenFileError::Exists,
        _ => error.into(),
    })
}

/// Replaces the token `before` by `token`. A file that was removed is created again.
///
/// # Errors
/// [`TokenFileError::Changed`] if the file has anything else, and others.
pub fn replace(path: &Path, before: &[u8], token: &[u8]) -> Result<(), TokenFileError> {
    match read_own(path, before)? {
        true => write(path, token, || false),
        false => create(path, token),
    }
}

/// Removes the file if it has this token.
///
/// # Errors
/// [`TokenFileError::Changed`] if it has anything else, and others.
pub fn remove_own(path: &Path, token: &[u8]) -> Result<(), TokenFileError> {
    if read_own(path, token)? { remove(path) } else { Ok(()) }
}

/// Returns whether the file is there, which must have this token then.
fn read_own(path: &Path, token: &[u8]) -> Result<bool, TokenFileError> {
    match read(path) {
        Ok(Some(found)) if found.expose() == token => Ok(true),
        Ok(None) => Ok(false),
        Ok(Some(_)) | Err(TokenFileError::NotAToken | TokenFileError::Link) => Err(TokenFileError::Changed),
        Err(error) => Err(error),
    }
}

/// Removes the file if it holds a token.
///
/// # Errors
/// [`TokenFileError`].
pub fn remove(path: &Path) -> Result<(), TokenFileError> {
    if read(path)?.is_none() {
        return Ok(());
    }
    let removed = Directory::open(directory_of(path)).and_then(|dir| dir.remove(path)).map_err(Into::into);
    match removed {
        Err(error) if needs_broker(&error) => {
            ask_broker(path, |path| BrokerRequest::RemoveToken { path }, &[], || false)
        }
        removed => removed,
    }
}

/// Returns whether the error may be due to the confinement of this process.
fn needs_broker(error: &TokenFileError) -> bool {
    matches!(error, TokenFileError::System(e) if e.kind() == io::ErrorKind::PermissionDenied) && broker::is_connected()
}

fn ask_broker(
    path: &Path,
    request: impl Fn(String) -> BrokerRequest,
    token: &[u8],
    is_abandoned: impl Fn() -> bool,
) -> Result<(), TokenFileError> {
    let path = path.to_str().ok_or(io::Error::from(io::ErrorKind::InvalidFilename))?;
    PendingRequest::start(&request(path.to_owned()), token)?.wait_unless(is_abandoned)?;
    Ok(())
}

/// Returns the path with the links among its directories resolved, after the check that no other user can write to the last
/// one.
fn place(path: &Path) -> Result<PathBuf, TokenFileError> {
    let name = path.file_name().ok_or(io::Error::from(io::ErrorKind::InvalidFilename))?;
    let dir = directory_of(path);
    regular_file::check_directory(dir)?;
    Ok(dir.canonicalize()?.join(name))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn put(path: &Path, token: &str) -> Result<(), TokenFileError> {
        write(path, token.as_bytes(), || false)
    }

    #[test]
    fn token_is_written_for_the_user_alone_and_removed() {
        let place = tempfile::tempdir().expect("tempdir");
        let path = place.path().join("made/token");
        for token in ["first-token", "x", "second"] {
            put(&path, token).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), token);
            assert_eq!(path.metadata().expect("there").mode() & 0o7777, 0o600);
            check(&path).expect("can be written again");
        }
        assert_eq!(directory_of(&path).metadata().expect("there").mode() & 0o7777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        assert!(has(&path, b"second").expect("read"));
        assert_eq!(path.metadata().expect("there").mode() & 0o7777, 0o600);
        for other in ["ssh-ed25519 AAAA x", "a\nb", &"x".repeat(1 << 17)] {
            assert!(matches!(put(&path, other), Err(TokenFileError::Unsafe)));
        }
        write(&path, b"late", || true).expect("nothing to do");
        assert_eq!(fs::read_to_string(&path).expect("there"), "second");
        remove(&path).expect("removed");
        remove(&path).expect("not there");
        assert_eq!(directory_of(&path).read_dir().expect("list").count(), 0);
    }

    #[test]
    fn file_with_anything_else_is_neither_replaced_nor_removed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("file");
        for (content, is_token) in [
            ("", true),
            ("eyJ.a.b\n", true),
            ("export PATH=/bin\n", false),
            ("a\nb", false),
            ("\u{0}", false),
            ("ü", false),
        ] {
            fs::write(&path, content).expect("written");
            assert_eq!(check(&path).is_ok(), is_token, "{content:?}");
            assert_eq!(put(&path, "token").is_ok(), is_token, "{content:?}");
            if !is_token {
                assert!(matches!(remove(&path), Err(TokenFileError::NotAToken)), "{content:?}");
                assert_eq!(fs::read_to_string(&path).expect("there"), content);
            }
        }
        fs::write(&path, "x".repeat(65 * 1024)).expect("written");
        assert!(matches!(put(&path, "token"), Err(TokenFileError::NotAToken)));
        let path = dir.path().join("directory");
        fs::create_dir(&path).expect("made");
        assert!(matches!(put(&path, "token"), Err(TokenFileError::NotAToken)));
    }

    #[test]
    fn place_that_others_control_is_refused() {
        let place = tempfile::tempdir().expect("tempdir");
        let (dir, link) = (place.path().join("dir"), place.path().join("link"));
        fs::create_dir(&dir).expect("made");
        let path = dir.join("token");
        let set = |mode| fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).expect("chmod");
        for (mode, trusted, is_trusted_above) in [
            (0o700, true, true),
            (0o755, true, true),
            (0o1777, false, true),
            (0o777, false, false),
            (0o703, false, false),
        ] {
            set(mode);
            // The directories between are created.
            let dangling = dir.join("dangling");
            symlink(dir.join("target"), &dangling).expect("linked");
            for (path, trusted) in [
                (path.clone(), trusted),
                (dir.join("new/token"), is_trusted_above),
                (dir.join("new/er/token"), is_trusted_above),
                (dangling.join("token"), is_trusted_above),
            ] {
                let checked = check(&path);
                assert_eq!(checked.is_ok(), trusted, "{mode:o} {}: {checked:?}", path.display());
                assert_eq!(put(&path, "token").is_ok(), trusted, "{mode:o} {}", path.display());
                for made in ["new", "target"] {
                    let _ = fs::remove_dir_all(dir.join(made));
                }
            }
            fs::remove_file(&dangling).expect("removed");
        }
        // By way of a link too.
        symlink(&dir, &link).expect("linked");
        assert!(matches!(put(&link.join("token"), "other"), Err(TokenFileError::Untrusted(_))));
        set(0o700);
        put(&link.join("token"), "other").expect("the directory is the user's own");
        assert_eq!(fs::read_to_string(&path).expect("there"), "other");
        fs::remove_file(&path).expect("removed");
        let target = place.path().join("target");
        fs::write(&target, "").expect("written");
        symlink(&target, &path).expect("linked");
        assert!(matches!(put(&path, "token"), Err(TokenFileError::Link)));
        assert!(matches!(remove(&path), Err(TokenFileError::Link)));
        assert_eq!(fs::read_to_string(&target).expect("there"), "");
        fs::remove_file(&path).expect("removed");
        // Only root can give files away.
        if chown(&target, Some(4711), None).is_ok() {
            assert!(matches!(put(&target, "token"), Err(TokenFileError::Untrusted(UntrustedFile::NotOurs { .. }))));
            chown(&dir, Some(4711), None).expect("given away");
            assert!(matches!(put(&path, "token"), Err(TokenFileError::Untrusted(UntrustedFile::NotOurs { .. }))));
            assert!(!path.exists());
        }
    }
}
