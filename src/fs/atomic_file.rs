//! The atomic replacement of a file: readers see the complete old or new content, even if the writer is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Directory, directory_of};

/// Replaces the file at `path`, or creates it, with `bytes` and `mode`, as [`AtomicFile::replace`] does.
///
/// # Errors
/// If the file cannot be written; nothing has changed then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let next = AtomicFile::beside(path)?;
    // The agent, which needs no other mode, may not change modes.
    if mode != 0o600 {
        next.file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    next.replace(bytes)
}

/// A file beside the one that it is to replace, mode 0600. It is removed when dropped, unless it has no path.
///
/// Its process holds a file lock on it, so that a later one can distinguish it from the leftover of a killed process.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    /// Opened before the change, so that syncing it cannot fail for lack of file descriptors after the change.
    dir: Directory,
    path: PathBuf,
    target: PathBuf,
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The number of attempts to find an unused name for a new file.
const MAX_ATTEMPTS: u32 = 100;

impl AtomicFile {
    /// Creates an empty file in the directory of `target`, and removes those that killed processes left there for the
    /// same target.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn beside(target: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        drop(Self::abandoned(target));
        let (dir, prefix) = (directory_of(target), prefix(target)?);
        for _ in 0..MAX_ATTEMPTS {
            let open = Directory::open(dir)?;
            let mut name = prefix.clone();
            name.push(format!("{}-{}.next", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
            let path = dir.join(name);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => File::from(fd),
                Err(Errno::EXIST) => continue,
                Err(e) => return Err(e.into()),
            };
            let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
            let next = Self { file, dir: open, path, target: target.to_owned() };
            // Another process may have locked and removed it as abandoned before it was locked here.
            if !matches!(locked, Err(Errno::WOULDBLOCK)) && next.file.metadata()?.nlink() > 0 {
                return Ok(next);
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Opens the files that killed processes left in the directory of `target`, which they were to replace.
    pub fn abandoned(target: &Path) -> Vec<Self> {
        let (dir, Ok(prefix)) = (directory_of(target), prefix(target)) else { return Vec::new() };
        let mut found = Vec::new();
        for entry in dir.read_dir().into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.as_bytes();
            if !name.starts_with(prefix.as_bytes()) || !name.ends_with(b".next") {
                continue;
            }
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            if let Ok(fd) = rustix::fs::open(entry.path(), flags, Mode::empty())
                && rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok()
                && let Ok(dir) = Directory::open(dir)
            {
                found.push(Self { file: fd.into(), dir, path: entry.path(), target: target.to_owned() });
            }
        }
        found
    }

    /// Returns the file, such as to read what a killed process wrote to it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Allocates `length` bytes on the disk, so that writing up to as many cannot fail for lack of space. The file keeps its
    /// length where the file system can do that: what is written to it is complete at once.
    ///
    /// # Errors
    /// If there is not enough space.
    pub fn reserve(&mut self, length: u64) -> io::Result<()> {
        // Fails if the process may not write files as long as that, which the allocation does not check.
        self.file.set_len(length)?;
        self.file.set_len(0)?;
        #[cfg(target_os = "linux")]
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            allocated => return Ok(allocated?),
        }
        self.file.seek(SeekFrom::Start(0))?;
        io::copy(&mut io::repeat(0).take(length), &mut self.file)?;
        self.file.sync_all()
    }

    /// Returns when the file was created, by the file system's clock.
    ///
    /// # Errors
    /// If its metadata cannot be read.
    pub fn created(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    /// Replaces the target with `bytes`. The new file is durable when this returns, unless its directory cannot be synced:
    /// the file is in its place then, and the caller must not undo what depends on it.
    ///
    /// # Errors
    /// If the file cannot be written; nothing has changed then.
    pub fn replace(self, bytes: &[u8]) -> io::Result<()> {
        self.replace_unless(bytes, || false)
    }

    /// Does the same, unless `is_abandoned` when everything is written, which can take long.
    ///
    /// # Errors
    /// As [`AtomicFile::replace`].
    pub fn replace_unless(mut self, bytes: &[u8], is_abandoned: impl Fn() -> bool) -> io::Result<()> {
        self.write(bytes)?;
        if is_abandoned() {
            return Ok(());
        }
        self.rename()
    }

    /// Replaces the target with what a killed process wrote to this file. If that fails, the file is left where it is.
    ///
    /// # Errors
    /// As [`AtomicFile::replace`].
    pub fn replace_as_it_is(self) -> io::Result<()> {
        let replaced = self.file.sync_all().and_then(|()| self.rename());
        if replaced.is_err() {
            self.leave();
        }
        replaced
    }

    /// Leaves the file where it is.
    pub fn leave(mut self) {
        self.path = PathBuf::new();
    }

    fn rename(&self) -> io::Result<()> {
        self.unless_made(std::fs::rename(&self.path, &self.target))?;
        self.dir.sync();
        Ok(())
    }

    /// Creates the target with `bytes`, as [`AtomicFile::replace`] replaces it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the target exists, and as [`AtomicFile::replace`].
    pub fn create_new(mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)?;
        match std::fs::hard_link(&self.path, &self.target) {
            // The file system has no hard links.
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
                let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::NOREPLACE);
                rustix::fs::renameat_with(cwd, &self.path, cwd, &self.target, flags)?;
            }
            linked => self.unless_made(linked)?,
        }
        self.dir.sync();
        Ok(())
    }

    /// Returns the result of making this file the target. A network's file system can report an error of a change that it
    /// has made.
    fn unless_made(&self, result: io::Result<()>) -> io::Result<()> {
        let identity = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), std::fs::symlink_metadata(&self.target)) {
            (Ok(own), Ok(there)) if identity(&own) == identity(&there) => Ok(()),
            _ => result,
        }
    }

    /// Makes `bytes` the whole content, durably. Truncates only afterwards, so that reserved blocks are used first.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, 0)?;
        self.file.set_len(bytes.len() as u64)?;
        self.file.sync_all()
    }
}

/// Returns how the names of the files beside `target` begin.
fn prefix(target: &Path) -> io::Result<OsString> {
    let mut prefix = OsString::from(".");
    prefix.push(target.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
    prefix.push(".");
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = dir.read_dir().expect("list");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn replace_sets_content_and_mode_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a");
        for (text, mode) in [("first, and long", 0o600), ("second", 0o644), ("", 0o640)] {
            replace(&path, text.as_bytes(), mode).expect("replaced");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
            assert_eq!(path.metadata().expect("there").mode() & 0o777, mode);
            assert_eq!(names(dir.path()), ["a"]);
        }
        assert!(replace(&dir.path().join("missing/a"), b"x", 0o600).is_err());
    }

    #[test]
    fn change_that_was_made_despite_an_error_counts() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a");
        let next = AtomicFile::beside(&path).expect("created");
        let failed = || Err(io::Error::from(io::ErrorKind::TimedOut));
        assert!(next.unless_made(failed()).is_err());
        std::fs::write(&path, "another").expect("written");
        assert!(next.unless_made(failed()).is_err());
        std::fs::rename(&next.path, &path).expect("renamed");
        next.unless_made(failed()).expect("it is in its place");
    }

    #[test]
    fn create_new_keeps_an_existing_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a");
        let create = |text: &str| AtomicFile::beside(&path).expect("created").create_new(text.as_bytes());
        create("first").expect("new");
        assert_eq!(create("second").expect_err("exists").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "first");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn only_abandoned_files_of_the_same_target_are_removed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let in_use = AtomicFile::beside(&dir.path().join("a")).expect("created");
        for name in [".a.1-0.next", ".ab.1-0.next", ".b.1-0.next"] {
            std::fs::write(dir.path().join(name), "left behind").expect("written");
        }
        replace(&dir.path().join("a"), b"x", 0o600).expect("replaced");
        let left = names(dir.path());
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(in_use.path.exists(), "{left:?}");
        in_use.replace(b"y").expect("replaced");
        assert_eq!(names(dir.path()), [".ab.1-0.next", ".b.1-0.next", "a"]);
    }
}
