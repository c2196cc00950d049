//! Turns at a service that works for one caller at a time: a file that one process after the other locks.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

/// A place in the queue.
pub(super) struct Place {
    file: File,
    /// When the last turn that went wrong ended, as seen on coming.
    seen: Option<SystemTime>,
}

/// A turn; over when dropped, or when the process ends.
pub(super) struct Turn(File);

/// The turn of one whose predecessor in the queue was not answered: neither will this one be.
pub(super) struct Hopeless;

impl Place {
    /// Joins the queue at `path`. `None` where no such file can be made: then everybody goes at once.
    pub(super) fn join(path: &Path) -> Option<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).or_else(|e| {
            DirBuilder::new().recursive(true).mode(0o700).create(path.parent().ok_or(e)?)?;
            options.open(path)
        });
        let file = file.ok()?;
        Some(Self { seen: changed(&file), file })
    }

    /// Waits until it is this one's turn, for at most `limit`; then, and where the file system knows no locks, `Ok(None)`.
    ///
    /// # Errors
    /// [`Hopeless`].
    pub(super) fn wait(self, limit: Duration) -> Result<Option<Turn>, Hopeless> {
        match self.file.try_lock() {
            Ok(()) => return self.come(),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        // Where the limit passes, the thread is left behind, and ends its turn as soon as it comes.
        let waiting = std::thread::Builder::new().name("turn".into()).spawn(move || {
            let _ = sender.send(self.file.lock().map_or(Ok(None), |()| self.come()));
        });
        waiting.map_or(Ok(None), |_| receiver.recv_timeout(limit).unwrap_or(Ok(None)))
    }

    fn come(self) -> Result<Option<Turn>, Hopeless> {
        // Else a hundred who wait would each find out for themselves, one after the other.
        if changed(&self.file) == self.seen { Ok(Some(Turn(self.file))) } else { Err(Hopeless) }
    }
}

impl Turn {
    /// Ends the turn, and tells those who wait already that it went without an answer.
    pub(super) fn fail(mut self) {
        let _ = self.0.write_all(b".");
    }
}

fn changed(file: &File) -> Option<SystemTime> {
    file.metadata().and_then(|about| about.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn who_waits_learns_of_a_failure_and_who_comes_later_does_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("made/turn");
        let join = || Place::join(&path).expect("a place");
        let first = join().wait(LIMIT).ok().flatten().expect("a turn");
        let (waiting, also) = (join(), join());
        drop(first);
        let second = waiting.wait(LIMIT).ok().flatten().expect("the predecessor was served");
        second.fail();
        assert!(also.wait(LIMIT).is_err());
        assert!(join().wait(LIMIT).is_ok_and(|turn| turn.is_some()));
    }

    #[test]
    fn who_has_waited_long_enough_goes_without() {
        let dir = tempfile::tempdir().expect("tempdir");
        let join = || Place::join(&dir.path().join("turn")).expect("a place");
        let stuck = join().wait(LIMIT).ok().flatten().expect("a turn");
        assert!(join().wait(Duration::from_millis(10)).is_ok_and(|turn| turn.is_none()));
        drop(stuck);
        assert!(join().wait(LIMIT).is_ok_and(|turn| turn.is_some()), "who went away is not in the way");
    }

    #[test]
    fn without_a_place_for_the_file_there_is_no_queue() {
        assert!(Place::join(Path::new("/proc/no/such")).is_none());
    }
}
