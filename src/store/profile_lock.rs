//! The profile lock: one process at a time reads a profile's session, changes it and writes it back. `fs/lock.rs` lists
//! the other file locks.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::{Clock, UnixTime};
use crate::fs::{FileLock, LockError, LockFile, lock_note, unblock};
use crate::model::ProfileName;

/// A profile lock, on the file `DIR/PROFILE.lock`. Released when dropped.
#[derive(Debug)]
pub struct ProfileLock {
    lock: Arc<FileLock>,
}

impl ProfileLock {
    /// Waits for the lock of `profile` in `dir` for at most `limit`. Creates the directory if it is missing.
    ///
    /// The future can be dropped at any time.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn acquire(
        dir: &Path,
        profile: &ProfileName,
        clock: &dyn Clock,
        limit: Duration,
    ) -> Result<Self, LockError> {
        let lock = LockFile::lock(Self::path(dir, profile), clock, limit).await?;
        Ok(Self { lock: Arc::new(lock) })
    }

    /// Takes the lock of `profile` in `dir` if it is free, else returns `None`.
    ///
    /// # Errors
    /// [`LockError`], never [`LockError::TimedOut`].
    pub fn try_acquire(dir: &Path, profile: &ProfileName) -> Result<Option<Self>, LockError> {
        let lock = LockFile::open(Self::path(dir, profile))?.try_lock()?;
        Ok(lock.map(|lock| Self { lock: Arc::new(lock) }))
    }

    /// Returns whether the lock still excludes other processes, as `FileLock::is_in_place`.
    pub async fn is_in_place(&self) -> bool {
        let lock = Arc::clone(&self.lock);
        unblock(self.lock.path(), move || lock.is_in_place()).await.unwrap_or(false)
    }

    /// Returns the `refreshing_since` of the last refresh that was given up before anything was sent. The stored session may
    /// still have it: it could not be removed, or a slow keychain stores it later.
    pub async fn given_up(&self) -> Option<UnixTime> {
        self.note().await?.parse().ok().map(UnixTime)
    }

    /// Returns the same without the lock of `profile` in `dir`. Blocks.
    #[must_use]
    pub fn given_up_in(dir: &Path, profile: &ProfileName) -> Option<UnixTime> {
        lock_note(&Self::path(dir, profile))?.parse().ok().map(UnixTime)
    }

    /// Records in the lock file what [`ProfileLock::given_up`] returns.
    pub async fn set_given_up(&self, marked_at: Option<UnixTime>) {
        let note = marked_at.map(|at| at.0.to_string()).unwrap_or_default();
        if let Err(error) = self.set_note(note).await {
            tracing::warn!("cannot record that a refresh was given up: {error}");
        }
    }

    /// Returns the `refreshing_since` of a stored session whose refresh token is spent while another process has the session
    /// that replaces it, and until when that is known.
    pub async fn spent(&self) -> Option<(UnixTime, UnixTime)> {
        let note = self.note().await?;
        let (since, until) = note.strip_prefix("spent ")?.split_once(' ')?;
        Some((UnixTime(since.parse().ok()?), UnixTime(until.parse().ok()?)))
    }

    /// Records in the lock file what [`ProfileLock::spent`] returns.
    ///
    /// # Errors
    /// That of the file system.
    pub async fn set_spent(&self, since: UnixTime, until: UnixTime) -> io::Result<()> {
        self.set_note(format!("spent {} {}", since.0, until.0)).await
    }

    async fn note(&self) -> Option<String> {
        let lock = Arc::clone(&self.lock);
        unblock(self.lock.path(), move || lock.note()).await.ok()?.ok()
    }

    async fn set_note(&self, note: String) -> io::Result<()> {
        let lock = Arc::clone(&self.lock);
        unblock(self.lock.path(), move || lock.set_note(&note)).await?
    }

    /// Releases the lock. Dropping it does the same on the caller's thread.
    pub async fn release(self) {
        let path = self.lock.path().to_owned();
        let _ = unblock(path, move || drop(self)).await;
    }

    /// Identifies the lock's file, as `FileLock::inode` does.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        self.lock.inode()
    }

    /// Records that the session of `profile` has changed, for processes that cache it, and returns the change time: the lock
    /// file's modification time, `now` and a random fraction of a second, so that no two are equal. Takes no space on the
    /// disk. The caller holds the lock.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn record_change(dir: &Path, profile: &ProfileName, now: UnixTime) -> Result<SystemTime, LockError> {
        let path = Self::path(dir, profile);
        let fraction = u32::try_from(RandomState::new().hash_one(0u8) % 1_000_000_000).unwrap_or(0);
        let time = UNIX_EPOCH + Duration::new(u64::try_from(now.0).unwrap_or(0), fraction);
        let file = LockFile::open(path)?;
        file.set_modified(time)?;
        // Read back: the file system may round it.
        Ok(file.modified().unwrap_or(time))
    }

    /// Returns the change time that a process has recorded last for `profile` in `dir`.
    #[must_use]
    pub fn change_time(dir: &Path, profile: &ProfileName) -> Option<SystemTime> {
        std::fs::metadata(Self::path(dir, profile)).and_then(|metadata| metadata.modified()).ok()
    }

    /// Returns the path of the lock file of `profile` in `dir`.
    #[must_use]
    pub fn path(dir: &Path, profile: &ProfileName) -> PathBuf {
        dir.join(format!("{profile}.lock"))
    }

    /// Returns the profile whose lock file has this name.
    #[must_use]
    pub fn profile_of(file_name: &str) -> Option<ProfileName> {
        file_name.strip_suffix(".lock")?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> ProfileName {
        "work".parse().expect("valid")
    }

    #[test]
    fn each_profile_has_its_own_lock() {
        let dir = tempfile::tempdir().expect("tempdir");
        let try_acquire = |name: &str| ProfileLock::try_acquire(dir.path(), &name.parse().expect("valid"));
        let held = try_acquire("work").expect("opened").expect("free");
        assert!(try_acquire("work").expect("opened").is_none());
        assert!(try_acquire("other").expect("opened").is_some());
        drop(held);
        assert!(try_acquire("work").expect("opened").is_some());
    }

    #[tokio::test]
    async fn note_is_read_as_what_was_recorded() {
        let dir = tempfile::tempdir().expect("tempdir");
        let lock = ProfileLock::try_acquire(dir.path(), &work()).expect("opened").expect("free");
        assert_eq!((lock.given_up().await, lock.spent().await), (None, None));
        lock.set_spent(UnixTime(1000), UnixTime(1030)).await.expect("recorded");
        assert_eq!((lock.given_up().await, lock.spent().await), (None, Some((UnixTime(1000), UnixTime(1030)))));
        lock.set_given_up(Some(UnixTime(7))).await;
        assert_eq!((lock.given_up().await, lock.spent().await), (Some(UnixTime(7)), None));
        lock.set_given_up(None).await;
        assert_eq!((lock.given_up().await, lock.spent().await), (None, None));
    }

    #[test]
    fn each_change_has_another_change_time() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(ProfileLock::change_time(dir.path(), &work()).is_none());
        let first = ProfileLock::record_change(dir.path(), &work(), UnixTime(1000)).expect("recorded");
        assert_eq!(ProfileLock::change_time(dir.path(), &work()), Some(first));
        let second: std::collections::HashSet<SystemTime> = (0..20)
            .map(|_| ProfileLock::record_change(dir.path(), &work(), UnixTime(1000)).expect("recorded"))
            .inspect(|time| assert_eq!(time.duration_since(UNIX_EPOCH).expect("after").as_secs(), 1000))
            .collect();
        assert_eq!(second.len(), 20, "within the same second");
        ProfileLock::record_change(dir.path(), &work(), UnixTime(i64::MIN)).expect("recorded");
        assert_eq!(ProfileLock::profile_of("work.lock"), Some(work()));
        assert_eq!(ProfileLock::profile_of("work"), None);
    }
}
