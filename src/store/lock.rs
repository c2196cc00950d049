//! The lock that lets one process at a time read a profile's session, change it and write it back.

use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::clock::{Clock, UnixTime};
use crate::model::ProfileName;

/// Holds a profile's lock until it is dropped, or until its process ends in whatever way.
///
/// Two of one process exclude each other as well. The lock is advisory (`flock`) on `DIR/PROFILE.lock`, a file of its
/// own that is never removed: a lock on a file that is renamed away would be held by two.
#[derive(Debug)]
pub struct ProfileLock {
    _file: File,
}

/// Why a lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another held it all the time.
    #[error("{} was held by another process for {} s", .path.display(), .limit.as_secs_f32())]
    TimedOut {
        /// The lock file.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// The file system knows no locks.
    #[error("the file system of {} has no file locks", .path.display())]
    Unsupported {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file could not be made or opened.
    #[error("cannot open the lock file {}: {source}", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The first wait between two tries, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(2);
const MAX_WAIT: Duration = Duration::from_millis(25);

impl ProfileLock {
    /// Waits for the lock of `profile` in `dir`, which is made where it is missing, for at most `limit`.
    ///
    /// Waits with the clock between tries that never block, so it can be cancelled at any time.
    ///
    /// # Errors
    /// [`LockError`]
    pub async fn acquire(
        dir: &Path,
        profile: &ProfileName,
        clock: &dyn Clock,
        limit: Duration,
    ) -> Result<Self, LockError> {
        let (file, path) = open(dir, profile)?;
        let begun = clock.monotonic();
        let jitter = RandomState::new();
        let mut wait = FIRST_WAIT;
        for turn in 0u64.. {
            if try_lock(&file, &path)? {
                return Ok(Self { _file: file });
            }
            let left = limit.saturating_sub(clock.monotonic().saturating_duration_since(begun));
            if left.is_zero() {
                break;
            }
            // Between half the wait and the whole: a hundred waiters must not try in step.
            let percent = 50 + u32::try_from(jitter.hash_one(turn) % 51).unwrap_or(0);
            clock.sleep((wait * percent / 100).min(left)).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
        Err(LockError::TimedOut { path, limit })
    }

    /// Marks that the session of `profile` was just changed, for those who keep a copy of it, and gives the mark: the
    /// modification time of the lock file, the second of which is `now` and the rest drawn at random, so that two marks
    /// are never taken for one. Needs no space on the disk. Call it under the lock.
    ///
    /// # Errors
    /// [`LockError::Io`]
    pub fn mark_changed(dir: &Path, profile: &ProfileName, now: UnixTime) -> Result<SystemTime, LockError> {
        let (file, path) = open(dir, profile)?;
        let failed = |source: io::Error| LockError::Io { path: path.clone(), source };
        let nanoseconds = i64::try_from(RandomState::new().hash_one(0u8) % 1_000_000_000).unwrap_or(0);
        let omitted = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let changed = Timespec { tv_sec: now.0, tv_nsec: nanoseconds as _ };
        let times = Timestamps { last_access: omitted, last_modification: changed };
        rustix::fs::futimens(&file, &times).map_err(|e| failed(e.into()))?;
        file.metadata().and_then(|about| about.modified()).map_err(failed)
    }

    /// The last mark that [`ProfileLock::mark_changed`] left for `profile` in `dir`, by whatever process.
    #[must_use]
    pub fn mark(dir: &Path, profile: &ProfileName) -> Option<SystemTime> {
        std::fs::metadata(dir.join(format!("{profile}.lock"))).and_then(|about| about.modified()).ok()
    }

    /// The profile whose lock file has this name.
    #[must_use]
    pub fn profile_of(file_name: &str) -> Option<ProfileName> {
        file_name.strip_suffix(".lock")?.parse().ok()
    }

    /// The lock of `profile` in `dir` if nobody holds it, else `None`.
    ///
    /// # Errors
    /// [`LockError`], never [`LockError::TimedOut`]
    pub fn try_acquire(dir: &Path, profile: &ProfileName) -> Result<Option<Self>, LockError> {
        let (file, path) = open(dir, profile)?;
        Ok(try_lock(&file, &path)?.then_some(Self { _file: file }))
    }
}

fn open(dir: &Path, profile: &ProfileName) -> Result<(File, PathBuf), LockError> {
    let path = dir.join(format!("{profile}.lock"));
    let failed = |source: io::Error| LockError::Io { path: path.clone(), source };
    if !dir.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok((File::from(fd), path)),
        Err(e) => Err(failed(e.into())),
    }
}

fn try_lock(file: &File, path: &Path) -> Result<bool, LockError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        // Two of these are one number on Linux and two elsewhere, which a pattern would not allow.
        Err(e) if [Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP].contains(&e) => {
            Err(LockError::Unsupported { path: path.to_owned() })
        }
        Err(e) => Err(LockError::Io { path: path.to_owned(), source: e.into() }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::clock::SystemClock;

    fn work() -> ProfileName {
        "work".parse().expect("valid")
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime")
    }

    #[test]
    fn one_holder_at_a_time_in_one_process() {
        let dir = tempfile::tempdir().expect("tempdir");
        let held = ProfileLock::try_acquire(dir.path(), &work()).expect("works").expect("free");
        assert!(ProfileLock::try_acquire(dir.path(), &work()).expect("works").is_none());
        let other = "other".parse().expect("valid");
        assert!(ProfileLock::try_acquire(dir.path(), &other).expect("works").is_some(), "profiles do not share locks");
        drop(held);
        assert!(ProfileLock::try_acquire(dir.path(), &work()).expect("works").is_some());
        assert!(dir.path().join("work.lock").exists(), "never removed");
    }

    #[test]
    fn waiting_ends_at_the_limit_or_when_the_holder_lets_go() {
        let dir = tempfile::tempdir().expect("tempdir");
        runtime().block_on(async {
            let held = ProfileLock::try_acquire(dir.path(), &work()).expect("works");
            let limit = Duration::from_millis(30);
            let late = ProfileLock::acquire(dir.path(), &work(), &SystemClock, limit).await;
            assert!(matches!(late, Err(LockError::TimedOut { .. })), "{late:?}");
            let name = work();
            let waiter = ProfileLock::acquire(dir.path(), &name, &SystemClock, Duration::from_secs(20));
            let (got, ()) = tokio::join!(waiter, async {
                tokio::task::yield_now().await;
                drop(held);
            });
            got.expect("let go");
        });
    }

    #[test]
    fn a_hundred_waiters_each_get_a_turn() {
        let dir = tempfile::tempdir().expect("tempdir");
        runtime().block_on(tokio::task::LocalSet::new().run_until(async {
            let inside = std::rc::Rc::new(std::cell::Cell::new(0u32));
            let mut tasks = Vec::new();
            for _ in 0..100 {
                let (inside, dir) = (inside.clone(), dir.path().to_owned());
                tasks.push(tokio::task::spawn_local(async move {
                    let lock = ProfileLock::acquire(&dir, &work(), &SystemClock, Duration::from_secs(60)).await;
                    let lock = lock.expect("a turn");
                    assert_eq!(inside.replace(1), 0, "two holders");
                    tokio::task::yield_now().await;
                    inside.set(0);
                    drop(lock);
                }));
            }
            for task in tasks {
                task.await.expect("no panic");
            }
        }));
    }

    #[test]
    fn another_process_excludes_and_its_death_releases() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("work.lock");
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
        assert!(ProfileLock::try_acquire(dir.path(), &work()).expect("works").is_none());
        drop(holder.stdin.take());
        holder.wait().expect("ended");
        assert!(ProfileLock::try_acquire(dir.path(), &work()).expect("works").is_some());
    }

    #[test]
    fn a_child_does_not_inherit_the_lock() {
        let dir = tempfile::tempdir().expect("tempdir");
        let held = ProfileLock::try_acquire(dir.path(), &work()).expect("works").expect("free");
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat");
        drop(held);
        assert!(ProfileLock::try_acquire(dir.path(), &work()).expect("works").is_some());
        drop(child.stdin.take());
        child.wait().expect("ended");
    }

    #[test]
    fn each_change_leaves_a_mark_of_its_own() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(ProfileLock::mark(dir.path(), &work()).is_none());
        let first = ProfileLock::mark_changed(dir.path(), &work(), UnixTime(1000)).expect("marked");
        assert_eq!(ProfileLock::mark(dir.path(), &work()), Some(first));
        let second = ProfileLock::mark_changed(dir.path(), &work(), UnixTime(1000)).expect("marked");
        assert_ne!(first, second, "within the same second");
        assert_eq!(ProfileLock::profile_of("work.lock"), Some(work()));
        assert_eq!(ProfileLock::profile_of("work"), None);
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let target = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&target, dir.path().join("work.lock")).expect("symlink");
        let error = ProfileLock::try_acquire(dir.path(), &work()).expect_err("refused");
        assert!(matches!(error, LockError::Io { .. }), "{error}");
        assert!(!target.exists());
    }
}
