//! The advisory file lock (`flock`) that all of authctl's processes use.
//!
//! A process takes locks in this order only, so that no two processes wait for each other:
//!
//! 1. the socket lock of the agent, as long as it runs;
//! 2. the login lock of a profile, during a login in the browser or with a device code;
//! 3. the configuration lock, while the configuration is changed;
//! 4. the profile lock, while a session is read, changed and written back; to rename a profile, that of its old name first;
//! 5. the trust lock of an issuer, while its keys or status lists are changed;
//! 6. the lock of the revocation list, while it is changed, and the place in the queue to the keychain, during a call.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{create_private_dir, directory_of};
use crate::clock::Clock;

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
/// authctl never removes it. Where something else does, a lock counts only on the file that is at the path then.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
}

/// An exclusive lock. It excludes other threads of this process too, and is released when it is dropped or when the
/// process ends.
#[derive(Debug)]
pub struct FileLock(LockFile);

impl Drop for FileLock {
    /// Unlocks explicitly. Closing the file is not enough: a child that another thread has just forked shares the open
    /// file, and thus the lock, until it calls `exec`.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0.file, FlockOperation::Unlock);
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
        let failed = |source| LockError::Io { path: path.clone(), source };
        let dir = directory_of(&path);
        if !dir.is_dir() {
            create_private_dir(dir).map_err(failed)?;
        }
        let opened = rustix::fs::open(&path, FLAGS, Mode::RUSR | Mode::WUSR);
        Self::opened(opened, path)
    }

    /// Opens the lock file `name` in an open directory, as [`LockFile::open`] does. `path` is for messages.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn open_in(dir: impl AsFd, name: &OsStr, path: PathBuf) -> Result<Self, LockError> {
        Self::opened(rustix::fs::openat(dir, name, FLAGS, Mode::RUSR | Mode::WUSR), path)
    }

    fn opened(opened: Result<OwnedFd, Errno>, path: PathBuf) -> Result<Self, LockError> {
        match opened {
            Ok(fd) => Ok(Self { file: fd.into(), path }),
            Err(e) => Err(LockError::Io { path, source: e.into() }),
        }
    }

    /// Locks the file if it is free. Returns `None` if another process or thread holds the lock.
    ///
    /// # Errors
    /// [`LockError`], never [`LockError::TimedOut`].
    pub fn try_lock(mut self) -> Result<Option<FileLock>, LockError> {
        Ok(if self.try_take()? { Some(FileLock(self)) } else { None })
    }

    /// Waits for the lock for at most `limit`. The future can be dropped at any time: no attempt blocks.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn lock(mut self, clock: &dyn Clock, limit: Duration) -> Result<FileLock, LockError> {
        let start = clock.monotonic();
        for wait in waits() {
            if self.try_take()? {
                return Ok(FileLock(self));
            }
            let left = limit.saturating_sub(clock.monotonic().saturating_duration_since(start));
            if left.is_zero() {
                break;
            }
            clock.sleep(wait.min(left)).await;
        }
        Err(LockError::TimedOut { path: self.path, limit })
    }

    /// Waits for the lock for about `limit`, holding the thread.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn lock_blocking(mut self, limit: Duration) -> Result<FileLock, LockError> {
        let mut left = limit;
        for wait in waits() {
            if self.try_take()? {
                return Ok(FileLock(self));
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

    /// Tries to take the lock, and returns whether this file has it now. A file that was removed since it was opened is
    /// opened again: other processes lock the new one.
    fn try_take(&mut self) -> Result<bool, LockError> {
        for _ in 0..MAX_REPLACEMENTS {
            if !self.try_flock()? {
                return Ok(false);
            }
            if self.is_in_place() {
                return Ok(true);
            }
            *self = Self::open(std::mem::take(&mut self.path))?;
        }
        Ok(false)
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
        self.0.is_in_place()
    }

    /// Returns the file's inode number. No other file has it while the lock is held, even if the file is removed.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        self.0.file.metadata().map(|metadata| metadata.ino()).ok()
    }

    /// Returns when the lock file was last modified.
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        self.0.modified()
    }

    /// Sets when the lock file was last modified to the system's time.
    pub fn touch(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let omitted = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let _ = rustix::fs::futimens(&self.0.file, &Timestamps { last_access: omitted, last_modification: now });
    }
}

/// Returns whether a process holds the lock on the file at `path`. Does not create the file.
#[must_use]
pub fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
    let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
    locked == Err(Errno::WOULDBLOCK)
}

/// Returns the waits between two attempts: from 2 ms, doubling up to 25 ms, each between half and all of it at random,
/// so that a hundred waiters do not try in step.
fn waits() -> impl Iterator<Item = Duration> {
    const FIRST: Duration = Duration::from_millis(2);
    const MAX: Duration = Duration::from_millis(25);
    let random = RandomState::new();
    let doubling = std::iter::successors(Some(FIRST), |wait| Some((*wait * 2).min(MAX)));
    doubling.zip(0u64..).map(move |(wait, attempt)| {
        let percent = 50 + u32::try_from(random.hash_one(attempt) % 51).unwrap_or(0);
        wait * percent / 100
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::clock::SystemClock;

    fn try_lock(path: &Path) -> Option<FileLock> {
        LockFile::open(path.to_owned()).expect("opened").try_lock().expect("supported")
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime")
    }

    #[test]
    fn lock_excludes_other_threads_and_keeps_its_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("made/a.lock");
        assert!(!is_locked(&path) && !path.exists());
        let held = try_lock(&path).expect("free");
        assert!(try_lock(&path).is_none() && is_locked(&path));
        assert!(try_lock(&dir.path().join("b.lock")).is_some(), "another file");
        drop(held);
        assert!(!is_locked(&path));
        assert!(try_lock(&path).is_some());
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a directory"))), (0o600, 0o700));
    }

    #[test]
    fn waiting_stops_at_the_limit_or_when_the_lock_is_released() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.lock");
        let open = || LockFile::open(path.clone()).expect("opened");
        runtime().block_on(async {
            let held = try_lock(&path).expect("free");
            let limit = Duration::from_millis(30);
            let timed_out = open().lock(&SystemClock, limit).await;
            assert!(matches!(timed_out, Err(LockError::TimedOut { .. })), "{timed_out:?}");
            let timed_out = open().lock_blocking(limit);
            assert!(matches!(timed_out, Err(LockError::TimedOut { .. })), "{timed_out:?}");
            let (acquired, ()) = tokio::join!(open().lock(&SystemClock, Duration::from_secs(20)), async {
                tokio::task::yield_now().await;
                drop(held);
            });
            acquired.expect("released");
            open().lock_blocking(Duration::ZERO).expect("free");
        });
    }

    #[test]
    fn each_of_a_hundred_waiters_gets_the_lock() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.lock");
        runtime().block_on(tokio::task::LocalSet::new().run_until(async {
            let holders = std::rc::Rc::new(std::cell::Cell::new(0u32));
            let mut tasks = Vec::new();
            for _ in 0..100 {
                let (holders, path) = (holders.clone(), path.clone());
                tasks.push(tokio::task::spawn_local(async move {
                    let file = LockFile::open(path).expect("opened");
                    let lock = file.lock(&SystemClock, Duration::from_secs(60)).await.expect("acquired");
                    assert_eq!(holders.replace(1), 0, "two holders");
                    tokio::task::yield_now().await;
                    holders.set(0);
                    drop(lock);
                }));
            }
            for task in tasks {
                task.await.expect("no panic");
            }
        }));
    }

    #[test]
    fn lock_of_another_process_ends_with_the_process() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.lock");
        let mut holder = Command::new("flock")
            .arg(&path)
            .args(["sh", "-c", "echo held; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).expect("read");
        assert_eq!(line, "held\n");
        assert!(try_lock(&path).is_none());
        drop(holder.stdin.take());
        holder.wait().expect("ended");
        assert!(try_lock(&path).is_some());
    }

    #[test]
    fn child_does_not_inherit_the_lock() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.lock");
        let held = try_lock(&path).expect("free");
        let open = rustix::io::fcntl_getfd(&held.0.file).expect("open");
        assert!(open.contains(rustix::io::FdFlags::CLOEXEC), "a child would keep the file open");
    }

    #[test]
    fn dropping_the_lock_releases_it_while_another_descriptor_is_open() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.lock");
        let held = try_lock(&path).expect("free");
        // What a child has between `fork` and `exec`.
        let shared = held.0.file.try_clone().expect("a second descriptor");
        drop(held);
        assert!(try_lock(&path).is_some());
        drop(shared);
    }

    #[test]
    fn removed_lock_file_lets_one_process_through() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("locks/a.lock");
        let waiting = LockFile::open(path.clone()).expect("opened");
        let held = try_lock(&path).expect("free");
        assert!(held.is_in_place());
        std::fs::remove_dir_all(dir.path().join("locks")).expect("removed");
        assert!(!held.is_in_place(), "its holder notices");
        let second = try_lock(&path).expect("a new file");
        assert_ne!(held.inode(), second.inode());
        drop(held);
        assert!(waiting.try_lock().expect("supported").is_none(), "the lock on the removed file does not count");
        drop(second);
        assert!(try_lock(&path).is_some());
    }

    #[test]
    fn symbolic_link_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (target, path) = (dir.path().join("elsewhere"), dir.path().join("a.lock"));
        std::os::unix::fs::symlink(&target, &path).expect("symlink");
        let error = LockFile::open(path).expect_err("refused");
        assert!(matches!(error, LockError::Io { .. }), "{error}");
        assert!(!target.exists());
    }
}
