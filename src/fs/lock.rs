//! The advisory file lock (`flock`) that all of authctl's processes use.
//!
//! A process takes locks in this order only, so that no two processes wait for each other:
//!
//! 1. the socket lock of the agent, as long as it runs;
//! 2. the login lock of a profile, during a login in the browser or with a device code;
//! 3. the set-up lock, while a tool is set up (`cmd/helper/setup.rs`);
//! 4. the configuration lock, while the configuration or the passphrase of the file store is changed;
//! 5. the profile lock, while a session is read, changed and written back; to rename a profile, that of its old name first;
//! 6. the trust lock of an issuer, while its keys or status lists are changed, or its registration lock, while the registration
//!    of a client is used or changed;
//! 7. the lock of the revocation list, while it is changed, and the place in the queue to the keychain, during a call.
//!
//! The process that runs a hook (`cmd/hook.rs`) holds the lock of its slot and no other.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{create_private_dir, directory_of, unblock};
use crate::clock::{Clock, doubled};

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process held it for the whole time.
    #[error("{} was locked by another process for {} s", .path.display(), .limit.as_secs_f32())]
    TimedOut {
        /// The lock file.
        path: PathBuf,
        /// How long the caller waited.
        limit: Duration,
    },
    /// The file system does not support locks.
    #[error("the file system of {} does not support file locks", .path.display())]
    Unsupported {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file could not be created, opened or locked.
    #[error("cannot open the lock file {}: {source}", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// An open lock file that is not locked.
///
/// Only [`FileLock::remove_file`] removes it. A lock counts only on the file that is at the path then.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

/// An exclusive lock. It excludes other threads of this process too, and is released when it is dropped or when the
/// process ends.
#[derive(Debug)]
pub struct FileLock {
    file: LockFile,
    inode: Option<u64>,
}

impl Drop for FileLock {
    /// Unlocks explicitly. Closing the file is not enough: a child that another thread has just forked shares the open
    /// file, and thus the lock, until it calls `exec`.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.file.file, FlockOperation::Unlock);
    }
}

/// How often a lock file that is replaced again and again is opened before the lock counts as held.
const MAX_REPLACEMENTS: u32 = 10;

const FLAGS: OFlags =
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

impl LockFile {
    /// Opens the lock file at `path`. Creates it with mode 0600, and its directory with mode 0700, if they are
    /// missing. Refuses a symbolic link.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn open(path: PathBuf) -> Result<Self, LockError> {
        let dir = directory_of(&path);
        let open = || {
            if !dir.is_dir() {
                create_private_dir(dir)?;
            }
            Ok(rustix::fs::open(&path, FLAGS, Mode::RUSR | Mode::WUSR)?)
        };
        // The directory may be removed in between.
        let is_removed = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists);
        let mut opened: io::Result<OwnedFd> = open();
        for _ in 1..MAX_REPLACEMENTS {
            if opened.as_ref().err().is_none_or(|error| !is_removed(error)) {
                break;
            }
            opened = open();
        }
        Self::opened(opened, path)
    }

    /// Opens the lock file `name` in an open directory, as [`LockFile::open`] does. `path` is for messages.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn open_in(dir: impl AsFd, name: &OsStr, path: PathBuf) -> Result<Self, LockError> {
        let opened = rustix::fs::openat(dir, name, FLAGS, Mode::RUSR | Mode::WUSR);
        Self::opened(opened.map_err(Into::into), path)
    }

    fn opened(opened: io::Result<OwnedFd>, path: PathBuf) -> Result<Self, LockError> {
        match opened {
            Ok(fd) => Ok(Self { file: fd.into(), path }),
            Err(source) => Err(LockError::Io { path, source }),
        }
    }

    /// Locks the file if it is free. Returns `None` if another process or thread holds the lock.
    ///
    /// # Errors
    /// [`LockError`], never [`LockError::TimedOut`].
    pub fn try_lock(self) -> Result<Option<FileLock>, LockError> {
        self.attempt().map(Result::ok)
    }

    /// Waits for the lock on the file at `path`, opened as by [`LockFile::open`], for at most `limit`. Each attempt runs on a
    /// thread for blocking calls. The future can be dropped at any time: a lock that it has taken is then released.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn lock(path: PathBuf, clock: &dyn Clock, limit: Duration) -> Result<FileLock, LockError> {
        let start = clock.monotonic();
        let mut opened = None;
        for wait in waits() {
            let (file, at) = (opened.take(), path.clone());
            let attempt = unblock(&path, move || file.map_or_else(|| Self::open(at), Ok)?.attempt()).await;
            match attempt.map_err(|source| LockError::Io { path: path.clone(), source })?? {
                Ok(lock) => return Ok(lock),
                Err(file) => opened = Some(file),
            }
            let left = limit.saturating_sub(clock.monotonic().saturating_duration_since(start));
            if left.is_zero() {
                break;
            }
            clock.sleep(wait.min(left)).await;
        }
        Err(LockError::TimedOut { path, limit })
    }

    /// Waits for the lock for about `limit`, holding the thread.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn lock_blocking(mut self, limit: Duration) -> Result<FileLock, LockError> {
        let mut left = limit;
        for wait in waits() {
            match self.attempt()? {
                Ok(lock) => return Ok(lock),
                Err(file) => self = file,
            }
            if left.is_zero() {
                break;
            }
            let wait = wait.min(left);
            #[allow(clippy::disallowed_methods, reason = "a thread without a runtime cannot wait with a Clock")]
            std::thread::sleep(wait);
            left -= wait;
        }
        Err(LockError::TimedOut { path: self.path, limit })
    }

    /// Tries to take the lock, and returns it, or the file if another process or thread holds the lock. A file that was
    /// removed since it was opened is opened again: other processes lock the new one.
    fn attempt(mut self) -> Result<Result<FileLock, Self>, LockError> {
        for _ in 0..MAX_REPLACEMENTS {
            if !self.try_flock()? {
                break;
            }
            if self.is_in_place() {
                let inode = self.file.metadata().map(|metadata| metadata.ino()).ok();
                return Ok(Ok(FileLock { file: self, inode }));
            }
            self = Self::open(self.path)?;
        }
        Ok(Err(self))
    }

    /// Returns whether this file is still the one at its path.
    fn is_in_place(&self) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), std::fs::symlink_metadata(&self.path)) {
            (Ok(own), Ok(there)) => identity(own) == identity(there),
            _ => false,
        }
    }

    fn try_flock(&self) -> Result<bool, LockError> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
            // OPNOTSUPP and NOTSUP are the same number on Linux, so they cannot both be in a pattern.
            Err(e) if [Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP].contains(&e) => {
                Err(LockError::Unsupported { path: self.path.clone() })
            }
            Err(e) => Err(LockError::Io { path: self.path.clone(), source: e.into() }),
        }
    }

    /// Returns when the file was last modified.
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        self.file.metadata().and_then(|metadata| metadata.modified()).ok()
    }

    /// Sets when the file was last modified. Takes no space on the disk.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn set_modified(&self, time: SystemTime) -> Result<(), LockError> {
        self.file.set_modified(time).map_err(|source| LockError::Io { path: self.path.clone(), source })
    }
}

impl FileLock {
    /// Returns whether the lock still excludes other processes: its file was not removed since it was locked.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.file.is_in_place()
    }

    /// Removes the lock file, which excludes no other process from here on.
    pub fn remove_file(&self) {
        if self.is_in_place() {
            let _ = std::fs::remove_file(self.path());
        }
    }

    /// Returns the path of the lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Returns the file's inode number. No other file has it while the lock is held, even if the file is removed.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        self.inode
    }

    /// Returns when the lock file was last modified.
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        self.file.modified()
    }

    /// Returns the note in the lock file, of at most 64 bytes; an empty one if there is none.
    ///
    /// # Errors
    /// As [`std::os::unix::fs::FileExt::read_at`].
    pub fn note(&self) -> io::Result<String> {
        note_in(&self.file.file)
    }

    /// Replaces the note. When the file was last modified stays: that shows other changes than a note.
    ///
    /// # Errors
    /// As [`std::os::unix::fs::FileExt::write_all_at`].
    pub fn set_note(&self, note: &str) -> io::Result<()> {
        let modified = self.modified();
        self.file.file.set_len(0)?;
        let written = self.file.file.write_all_at(note.as_bytes(), 0);
        modified.map_or(Ok(()), |modified| self.file.file.set_modified(modified))?;
        written
    }

    /// Sets when the lock file was last modified to the system's time.
    pub fn touch(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let omitted = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let _ = rustix::fs::futimens(&self.file.file, &Timestamps { last_access: omitted, last_modification: now });
    }
}

fn note_in(file: &File) -> io::Result<String> {
    let mut note = [0; 64];
    let length = file.read_at(&mut note, 0)?;
    Ok(String::from_utf8_lossy(&note[..length]).into_owned())
}

/// Returns the note in the lock file at `path`, as [`FileLock::note`]; `None` if there is no such file.
#[must_use]
pub fn lock_note(path: &Path) -> Option<String> {
    note_in(&open_existing(path)?).ok()
}

fn open_existing(path: &Path) -> Option<File> {
    // Opening a pipe would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from)
}

/// Returns whether a process holds the lock on the file at `path`. Does not create the file.
#[must_use]
pub fn is_locked(path: &Path) -> bool {
    let Some(file) = open_existing(path) else { return false };
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
    let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
    locked == Err(Errno::WOULDBLOCK)
}

/// Returns the process that holds the lock on the file at `path` (proc_locks(5)), by the PID that it has here; a process in another
/// container knows itself by another, or has none here. `named`, by which it knows itself, counts if the system lists no locks or
/// the lock file was removed, and a process of this program has it.
#[cfg(target_os = "linux")]
#[must_use]
pub fn lock_holder(path: &Path, named: Option<u32>) -> Option<u32> {
    // Where /proc is that of the container outside, it lists the PIDs that count there.
    let own = std::fs::read_link("/proc/self").ok()?;
    if own.to_str() != Some(&std::process::id().to_string()) {
        return None;
    }
    let locks = std::fs::read_to_string("/proc/locks").ok().filter(|_| is_locked(path));
    let Some(locks) = locks else {
        let name = |process: &str| std::fs::read_to_string(format!("/proc/{process}/comm")).ok();
        return named.filter(|pid| name("self").is_some_and(|own| name(&pid.to_string()) == Some(own)));
    };
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let about = rustix::fs::fstat(&file).ok()?;
    let device = device_of(&file).unwrap_or((rustix::fs::major(about.st_dev), rustix::fs::minor(about.st_dev)));
    let file = format!("{:02x}:{:02x}:{}", device.0, device.1, about.st_ino);
    locks.lines().find_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 708 08:01:1048 0 EOF`; one that waits for it has `->` after the number.
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "FLOCK", _, _, holder, locked, ..] if locked == file => holder.parse().ok().filter(|pid| *pid > 0),
            _ => None,
        }
    })
}

/// Returns `named`: this system lists no locks.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn lock_holder(_path: &Path, named: Option<u32>) -> Option<u32> {
    named
}

/// Returns the device of the file system of `file` (proc_pid_mountinfo(5)), which stat(2) does not return for a subvolume of btrfs.
#[cfg(target_os = "linux")]
fn device_of(file: &OwnedFd) -> Option<(u32, u32)> {
    use std::os::fd::AsRawFd as _;
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount = about.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[0] == mount)?;
    let (major, minor) = fields.get(2)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Returns the waits between two attempts: from 2 ms, doubling up to 25 ms, each between half and all of it at random,
/// so that a hundred waiters do not try in step.
fn waits() -> impl Iterator<Item = Duration> {
    const FIRST: Duration = Duration::from_millis(2);
    const MAX: Duration = Duration::from_millis(25);
    let random = RandomState::new();
    (0..).map(move |attempt| {
        let percent = 50 + u32::try_from(random.hash_one(attempt) % 51).unwrap_or(0);
        doubled(FIRST, attempt, MAX) * percent / 100
    })
}

#[cfg(test)]
mod tests;
