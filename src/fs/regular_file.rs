//! Reads a file that the user named, such as a key: only a regular file, and only up to a size.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::LazyLock;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::PathEntries;
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

/// Reads the regular file at `path`, of at most `max_bytes`, if only this user and root can write to it, and [`check_path`]
/// finds that no other user can make the path lead to another file.
///
/// # Errors
/// [`ReadError`].
pub fn read_trusted(path: &Path, max_bytes: u64) -> Result<SecretBytes, ReadError> {
    let file = match rustix::fs::open(path, FLAGS, Mode::empty()) {
        Err(Errno::ACCESS) if broker::is_connected() => {
            let file = broker::open(path).map_err(|e| Errno::from_io_error(&e).map_or(unreadable(e), Into::into))?;
            let (opened, there) = (rustix::fs::fstat(&file)?, rustix::fs::stat(path)?);
            if (opened.st_dev, opened.st_ino) != (there.st_dev, there.st_ino) {
                return Err(Errno::AGAIN.into());
            }
            file
        }
        opened => File::from(opened?),
    };
    // Before its path, which a pipe in `/proc` does not have.
    let about = regular(&file).map_err(unreadable)?;
    check_path(path)?;
    check_writers(path, &about)?;
    if about.len() > max_bytes {
        return Err(ReadError::Unreadable(too_large(max_bytes)));
    }
    let mut bytes = SecretBytes::default();
    bytes.read_from(file.take(max_bytes)).map_err(unreadable)?;
    Ok(bytes)
}

/// Checks that no user but this one and root can change where `path` leads: in each directory down from the root directory, also
/// on the way to the target of each symbolic link, only they can replace the entry. The file itself may be missing.
///
/// # Errors
/// [`ReadError`].
pub fn check_path(path: &Path) -> Result<(), ReadError> {
    for entry in PathEntries::of(path) {
        let entry = entry.map_err(unreadable)?;
        let Some(dir) = entry.parent() else { continue };
        let about = std::fs::metadata(dir).map_err(|e| Errno::from_io_error(&e).map_or(unreadable(e), Into::into))?;
        check_writers(dir, &about)?;
        // In a directory such as `/tmp`, an entry of another user is replaced by that user.
        if about.mode() & 0o022 != 0 && about.mode() & STICKY != 0 {
            match std::fs::symlink_metadata(&entry) {
                Ok(found) if !is_trusted_owner(found.uid()) => {
                    return Err(UntrustedFile::NotOurs { path: entry, owner: found.uid() }.into());
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Checks that a secret can be written into the directory at `path`: it belongs to this user or root, no other user can write to
/// it, and none can put another one in its place.
///
/// # Errors
/// [`ReadError`].
pub fn check_directory(path: &Path) -> Result<(), ReadError> {
    let about = std::fs::metadata(path).map_err(unreadable)?;
    // Stricter than for reading: root writes no secret where another user could take or replace it.
    if !is_trusted_owner(about.uid()) {
        return Err(UntrustedFile::NotOurs { path: path.to_owned(), owner: about.uid() }.into());
    }
    // Even in a directory such as `/tmp`, another user can create the file after it has been removed.
    if is_writable(&about) {
        return Err(writable(path, &about));
    }
    check_path(path)
}

fn unreadable(error: io::Error) -> ReadError {
    ReadError::Unreadable(error.to_string())
}

/// The bit of a mode that lets only the owner of a file replace it.
const STICKY: u32 = 0o1000;

/// Returns whether users other than the owner and root can write to a file or directory.
fn is_writable(about: &Metadata) -> bool {
    // A group with the number of a user is usually that user's private one, to which a umask of 002 allows writing.
    let is_private_group = || [rustix::process::geteuid().as_raw(), about.uid(), 0].contains(&about.gid());
    about.mode() & 0o002 != 0 || (about.mode() & 0o020 != 0 && !is_private_group())
}

fn writable(path: &Path, about: &Metadata) -> ReadError {
    UntrustedFile::Writable { path: path.to_owned(), mode: about.mode() & 0o7777 }.into()
}

/// Checks that no user but this one and root can write to a file, or replace the files of others in a directory.
fn check_writers(path: &Path, about: &Metadata) -> Result<(), ReadError> {
    let (is_dir, owner) = (about.is_dir(), about.uid());
    // Root uses directories of other users: in containers, the directories that are mounted belong to a user outside.
    let is_usual = || is_dir && (rustix::process::geteuid().is_root() || is_unmapped(owner));
    if !is_trusted_owner(owner) && !is_usual() {
        return Err(UntrustedFile::NotOurs { path: path.to_owned(), owner }.into());
    }
    // In a directory like /tmp, other users cannot replace this user's files. Volumes of Kubernetes are mounted read-only
    // with mode 0777.
    let is_protected = is_dir && about.mode() & STICKY != 0;
    let is_read_only = || rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    if is_writable(about) && !is_protected && !is_read_only() {
        return Err(writable(path, about));
    }
    Ok(())
}

/// Returns whether `owner` stands for the users outside of this process's user namespace: there, root owns the directories above
/// those of this user.
fn is_unmapped(owner: u32) -> bool {
    // Read at the first such directory: a confined agent has read its configuration before.
    static IS_OF_OTHERS: LazyLock<bool> =
        LazyLock::new(|| std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_overflow_of_others(&map)));
    owner == OVERFLOW && *IS_OF_OTHERS
}

/// The number of a user without one in the namespace, see user_namespaces(7).
const OVERFLOW: u32 = 65_534;

/// Returns whether no user of the namespace with this `uid_map` has the number [`OVERFLOW`].
fn is_overflow_of_others(map: &str) -> bool {
    let ranges: Option<Vec<(u64, u64)>> = map
        .lines()
        .map(|line| {
            let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
            Some((numbers.next()??, numbers.nth(1)??))
        })
        .collect();
    let has_overflow =
        |(first, length): &(u64, u64)| (*first..first.saturating_add(*length)).contains(&OVERFLOW.into());
    ranges.is_some_and(|ranges| !ranges.is_empty() && !ranges.iter().any(has_overflow))
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
    use crate::fs::directory_of;

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
    fn overflow_user_is_of_other_namespaces_unless_one_here_has_the_number() {
        for (map, is_of_others) in [
            ("         0          0 4294967295\n", false),
            ("      1000       1000          1\n", true),
            ("         0       1000          1\n         1     100000      65533\n", true),
            ("         0       1000          1\n         1     100000      65534\n", false),
            ("         0     100000      65536\n", false),
            ("     65534      65534          1\n         0          0          1\n", false),
            ("", false),
            ("0 0\n", false),
            ("x y z\n", false),
        ] {
            assert_eq!(is_overflow_of_others(map), is_of_others, "{map}");
        }
    }

    #[test]
    fn path_that_others_can_lead_elsewhere_is_not_trusted() {
        use std::os::unix::fs::{PermissionsExt, lchown, symlink};
        let place = tempfile::tempdir().expect("tempdir");
        let root = place.path().canonicalize().expect("there");
        let at = |name: &str| root.join(name);
        for dir in ["above/dir", "safe", "shared", "links"] {
            std::fs::create_dir_all(at(dir)).expect("made");
        }
        for file in ["above/dir/file", "safe/file"] {
            std::fs::write(at(file), "text").expect("written");
        }
        let link = |target: &str, name: &str| symlink(target, at(name)).expect("linked");
        link("../shared/link", "links/chain");
        link("../safe/file", "shared/link");
        link("../shared/dir/file", "links/by_directory");
        link("../safe", "shared/dir");
        link("../shared/../safe/file", "links/by_parent");
        for (name, dir) in [
            ("above/dir/file", "above"),
            ("links/../above/dir/../dir/file", "above"),
            ("links/chain", "shared"),
            ("links/by_directory", "shared"),
            ("links/by_directory", "safe"),
            ("links/by_parent", "links"),
            ("shared/dir/file", "shared"),
        ] {
            let set = |mode| std::fs::set_permissions(at(dir), PermissionsExt::from_mode(mode)).expect("chmod");
            for mode in [0o755, 0o1777] {
                set(mode);
                read_trusted(&at(name), 100).expect("only this user can change where it leads");
            }
            for mode in [0o777, 0o703] {
                set(mode);
                let refused = UntrustedFile::Writable { path: at(dir), mode };
                assert_eq!(read_trusted(&at(name), 100).err(), Some(refused.into()), "{name} {dir} {mode:o}");
            }
            set(0o755);
        }
        // Only root can give a link or a directory away.
        for (name, given) in
            [("links/chain", "shared/link"), ("shared/dir/file", "shared/dir"), ("above/dir/file", "above/dir")]
        {
            let dir = directory_of(&at(given)).to_owned();
            std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o1777)).expect("chmod");
            if lchown(at(given), Some(4711), None).is_ok() {
                let refused = UntrustedFile::NotOurs { path: at(given), owner: 4711 };
                assert_eq!(read_trusted(&at(name), 100).err(), Some(refused.into()), "{name}");
                std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("chmod");
                read_trusted(&at(name), 100).expect("the directory's owner made the link");
            }
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
