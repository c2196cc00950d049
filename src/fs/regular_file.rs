//! Reads a file that the user named, such as a key: only a regular file, and only up to a size.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::directory_of;
use super::permissions::{UntrustedFile, is_trusted_owner};
use crate::broker;
use crate::secret::SecretBytes;

/// Opens nothing that blocks, and makes no terminal the controlling one.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Why [`read_trusted`] returns nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such file.
    #[error("No such file or directory")]
    Missing,
    /// Another user may have written it.
    #[error(transparent)]
    Untrusted(#[from] UntrustedFile),
    /// Any other reason, to follow the path and a colon.
    #[error("{0}")]
    Unreadable(String),
}

impl From<Errno> for ReadError {
    fn from(error: Errno) -> Self {
        match error {
            // A directory on the way to it may be a file.
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            other => Self::Unreadable(io::Error::from(other).to_string()),
        }
    }
}

/// Reads the regular file at `path`, of at most `max_bytes`, if only this user and root can write to it and to its directory.
/// A symbolic link is followed, and the directory of its target is checked too.
///
/// # Errors
/// [`ReadError`].
pub fn read_trusted(path: &Path, max_bytes: u64) -> Result<SecretBytes, ReadError> {
    let unreadable = |e: io::Error| ReadError::Unreadable(e.to_string());
    let dir_path = directory_of(path);
    let dir = open_dir(dir_path)?;
    let name = path.file_name().ok_or(Errno::ISDIR)?;
    let file = match rustix::fs::openat(&dir, name, FLAGS, Mode::empty()) {
        Err(Errno::ACCESS) if broker::is_connected() => {
            let file = broker::open(path).map_err(|e| Errno::from_io_error(&e).map_or(unreadable(e), Into::into))?;
            let (opened, there) = (rustix::fs::fstat(&file)?, rustix::fs::statat(&dir, name, AtFlags::empty())?);
            if (opened.st_dev, opened.st_ino) != (there.st_dev, there.st_ino) {
                return Err(Errno::AGAIN.into());
            }
            file
        }
        opened => File::from(opened?),
    };
    check_writers(dir_path, &dir)?;
    let entry = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(entry.st_mode) == FileType::Symlink {
        let real = std::fs::canonicalize(path).map_err(unreadable)?;
        check_writers(directory_of(&real), &open_dir(directory_of(&real))?)?;
    }
    let length = regular(&file).map_err(unreadable)?.len();
    check_writers(path, &file)?;
    if length > max_bytes {
        return Err(ReadError::Unreadable(too_large(max_bytes)));
    }
    let mut bytes = SecretBytes::default();
    bytes.read_from(file.take(max_bytes)).map_err(unreadable)?;
    Ok(bytes)
}

/// Checks that a secret can be written into the directory at `path`: it belongs to this user or root, and no other user can
/// write to it.
///
/// # Errors
/// [`ReadError`].
pub fn check_directory(path: &Path) -> Result<(), ReadError> {
    let dir = open_dir(path)?;
    let owner = dir.metadata().map_err(|e| ReadError::Unreadable(e.to_string()))?.uid();
    // Stricter than for reading: root writes no secret where another user could take or replace it.
    if !is_trusted_owner(owner) {
        return Err(UntrustedFile::NotOurs { path: path.to_owned(), owner }.into());
    }
    check_writers(path, &dir)
}

fn open_dir(path: &Path) -> Result<File, Errno> {
    // A directory that this user may search but not list is enough.
    #[cfg(target_os = "linux")]
    let access = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let access = OFlags::RDONLY;
    Ok(rustix::fs::open(path, access | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Checks that no user but this one and root can write to an open file or directory.
fn check_writers(path: &Path, open: &File) -> Result<(), ReadError> {
    let about = open.metadata().map_err(|e| ReadError::Unreadable(e.to_string()))?;
    let us = rustix::process::geteuid().as_raw();
    let (is_dir, owner) = (about.is_dir(), about.uid());
    // Root uses directories of other users: in containers, the directories that are mounted belong to a user outside.
    if !is_trusted_owner(owner) && !(is_dir && us == 0) {
        return Err(UntrustedFile::NotOurs { path: path.to_owned(), owner }.into());
    }
    let mode = about.mode() & 0o7777;
    // A group with the user's own number is usually the user's private one, to which a umask of 002 allows writing.
    let is_own_group = about.gid() == us || about.gid() == 0;
    let writable = mode & 0o002 != 0 || (mode & 0o020 != 0 && !is_own_group);
    // In a directory like /tmp, other users cannot replace this user's files. Volumes of Kubernetes are mounted read-only
    // with mode 0777.
    let is_protected = is_dir && mode & 0o1000 != 0;
    let is_read_only = || rustix::fs::fstatvfs(open).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    if writable && !is_protected && !is_read_only() {
        return Err(UntrustedFile::Writable { path: path.to_owned(), mode }.into());
    }
    Ok(())
}

/// Opens the file at `path` for reading. Never waits for a writer, as opening a pipe would.
///
/// # Errors
/// Of the system, or [`io::ErrorKind::InvalidInput`] if it is not a regular file.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    open_with(path, OFlags::empty())
}

/// Opens the file at `path` as [`open`] does, but refuses a symbolic link in its place.
///
/// # Errors
/// As [`open`].
pub fn open_no_follow(path: &Path) -> io::Result<(File, Metadata)> {
    open_with(path, OFlags::NOFOLLOW)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<(File, Metadata)> {
    let file = match rustix::fs::open(path, FLAGS | flags, Mode::empty()) {
        Err(Errno::ACCESS) if broker::is_connected() => broker::open(path)?,
        opened => File::from(opened?),
    };
    let metadata = regular(&file)?;
    Ok((file, metadata))
}

fn regular(file: &File) -> io::Result<Metadata> {
    let metadata = file.metadata()?;
    let not_regular = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    if metadata.is_file() { Ok(metadata) } else { Err(not_regular()) }
}

/// Reads the regular file at `path`, of at most `max_bytes`.
///
/// # Errors
/// The reason, to follow the path and a colon.
pub fn read(path: &Path, max_bytes: u64) -> Result<SecretBytes, String> {
    let (file, _) = open(path).map_err(|e| e.to_string())?;
    let mut bytes = SecretBytes::default();
    let length = bytes.read_from(file.take(max_bytes + 1)).map_err(|e| e.to_string())?;
    if length > max_bytes { Err(too_large(max_bytes)) } else { Ok(bytes) }
}

/// Returns the reason why a file of more than `max_bytes` is not read.
pub fn too_large(max_bytes: u64) -> String {
    format!("larger than {} KiB", max_bytes / 1024)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn file_that_others_can_write_is_not_trusted() {
        use std::os::unix::fs::{PermissionsExt, chown, symlink};
        let place = tempfile::tempdir().expect("tempdir");
        let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
        let (dir, links) = (place.path().join("dir"), place.path().join("links"));
        let (file, link) = (dir.join("file"), links.join("link"));
        std::fs::create_dir(&dir).expect("made");
        std::fs::create_dir(&links).expect("made");
        std::fs::write(&file, "text").expect("written");
        symlink(&file, &link).expect("linked");
        let own_group = rustix::process::getegid().as_raw() == rustix::process::geteuid().as_raw();
        for (file_mode, dir_mode, links_mode, trusted) in [
            (0o600, 0o700, 0o700, true),
            (0o444, 0o755, 0o755, true),
            (0o664, 0o775, 0o775, own_group),
            (0o644, 0o1777, 0o1777, true),
            (0o602, 0o700, 0o700, false),
            (0o666, 0o700, 0o700, false),
            (0o1666, 0o700, 0o700, false),
            (0o600, 0o777, 0o700, false),
            (0o600, 0o703, 0o700, false),
            (0o600, 0o700, 0o777, false),
        ] {
            set(&file, file_mode);
            set(&dir, dir_mode);
            set(&links, links_mode);
            let modes = format!("{file_mode:o} {dir_mode:o} {links_mode:o}");
            match read_trusted(&link, 100) {
                Ok(bytes) => assert!(trusted && bytes.expose() == b"text", "{modes}"),
                Err(ReadError::Untrusted(UntrustedFile::Writable { .. })) => assert!(!trusted, "{modes}"),
                Err(other) => panic!("{modes}: {other:?}"),
            }
            assert_eq!(read_trusted(&file, 100).is_ok(), trusted || links_mode == 0o777, "{modes}");
        }
        set(&links, 0o700);
        assert!(matches!(read_trusted(&dir.join("other"), 100), Err(ReadError::Missing)));
        assert!(matches!(read_trusted(&file, 3), Err(ReadError::Unreadable(_))));
        // Only root can change the owner and the group of a file.
        set(&file, 0o664);
        if chown(&file, None, Some(4711)).is_ok() {
            assert!(read_trusted(&file, 100).is_err(), "another group's");
            set(&file, 0o644);
            read_trusted(&file, 100).expect("only readable");
            chown(&dir, Some(4711), None).expect("given away");
            read_trusted(&file, 100).expect("root's file in a directory of another user");
            chown(&file, Some(4711), None).expect("given away");
            let refused = read_trusted(&file, 100);
            assert!(
                matches!(&refused, Err(ReadError::Untrusted(UntrustedFile::NotOurs { owner: 4711, .. }))),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn only_regular_files_within_the_limit_are_read_and_pipes_do_not_block() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (pipe, file) = (dir.path().join("pipe"), dir.path().join("file"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        std::fs::write(&file, "x".repeat(1024)).expect("written");
        for (path, max_bytes, error) in [
            (pipe.as_path(), 1024, Some("not a regular file")),
            (dir.path(), 1024, Some("not a regular file")),
            (Path::new("/dev/zero"), 1024, Some("not a regular file")),
            (file.as_path(), 1023, Some("larger than 0 KiB")),
            (file.as_path(), 1024, None),
        ] {
            let (sender, receiver) = channel();
            let tried = path.to_owned();
            std::thread::spawn(move || {
                let trusted = read_trusted(&tried, max_bytes).map(|bytes| bytes.expose().len());
                sender.send((read(&tried, max_bytes).map(|bytes| bytes.expose().len()), trusted))
            });
            let (read, trusted) = receiver.recv_timeout(Duration::from_secs(10)).expect("does not block");
            assert_eq!(read, error.map_or(Ok(1024), |error| Err(error.to_owned())), "{}", path.display());
            assert_eq!(trusted.is_ok(), error.is_none(), "{}: {trusted:?}", path.display());
        }
    }
}
