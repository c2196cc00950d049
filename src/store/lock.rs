//! One lock a profile, held by whichever process changes its session.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::clock::Clock;
use crate::model::ProfileName;

/// The first wait between two tries, and the longest: short, so that many waiters follow each other quickly.
const WAITS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(25));

/// A profile's lock, released when dropped, or by the system when its holder ends in whatever way.
#[derive(Debug)]
pub struct ProfileLock {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has held it all the time.
    #[error("another authctl has been changing the profile `{profile}` for {} seconds", .limit.as_secs())]
    TimedOut {
        /// Whose lock.
        profile: ProfileName,
        /// How long was waited.
        limit: Duration,
    },
    /// The file system does not allow it.
    #[error("the lock {} cannot be taken: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ProfileLock {
    /// Takes the lock, trying again and again for at most `limit`. The lock file is `directory/PROFILE.lock`; it is made
    /// if need be and never removed.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn acquire(
        directory: &Path,
        profile: &ProfileName,
        clock: &dyn Clock,
        limit: Duration,
    ) -> Result<Self, LockError> {
        let path = directory.join(format!("{profile}.lock"));
        let failed = |source| LockError::Io { path: path.clone(), source };
        let file = open(directory, &path).map_err(failed)?;
        let give_up = clock.monotonic() + limit;
        let mut wait = WAITS.0;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(failed(error.into())),
            }
            if clock.monotonic() >= give_up {
                return Err(LockError::TimedOut { profile: profile.clone(), limit });
            }
            clock.sleep(jittered(wait)).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }
}

fn open(directory: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(path)
}

/// Between a half and the whole of `wait`, so that a hundred waiters do not try in step.
fn jittered(wait: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    wait / 2 + (wait / 2).mul_f64((random % 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn take(directory: &Path, limit: Duration) -> Result<ProfileLock, LockError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(ProfileLock::acquire(directory, &"work".parse().expect("name"), &SystemClock, limit))
    }

    #[test]
    fn one_holder_at_a_time_even_within_a_process() {
        let dir = tempfile::tempdir().expect("tempdir");
        let held = take(dir.path(), Duration::ZERO).expect("free");
        assert!(matches!(take(dir.path(), Duration::from_millis(30)), Err(LockError::TimedOut { .. })));
        drop(held);
        take(dir.path(), Duration::ZERO).expect("free again");
    }

    #[test]
    fn a_waiter_gets_it_when_the_holder_lets_go() {
        let dir = tempfile::tempdir().expect("tempdir");
        let held = take(dir.path(), Duration::ZERO).expect("free");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| take(dir.path(), Duration::from_secs(20)).is_ok());
            drop(held);
            assert!(waiter.join().expect("no panic"));
        });
    }

    #[test]
    fn another_process_is_kept_out_until_it_dies() {
        let dir = tempfile::tempdir().expect("tempdir");
        drop(take(dir.path(), Duration::ZERO).expect("free"));
        let mut holder = std::process::Command::new("flock")
            .arg(dir.path().join("work.lock"))
            .args(["sh", "-c", "echo held; exec sleep 60"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("flock of util-linux");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("piped");
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).expect("it says when it holds");
        assert!(matches!(take(dir.path(), Duration::from_millis(30)), Err(LockError::TimedOut { .. })));
        holder.kill().expect("killed");
        holder.wait().expect("reaped");
        // flock(1) has become `sleep` only in its child: the lock goes with the last descriptor.
        let _ = take(dir.path(), Duration::from_secs(0));
    }

    #[test]
    fn a_symlink_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let target = dir.path().join("target");
        std::os::unix::fs::symlink(&target, dir.path().join("work.lock")).expect("linked");
        assert!(matches!(take(dir.path(), Duration::ZERO), Err(LockError::Io { .. })));
        assert!(!target.exists());
    }
}
