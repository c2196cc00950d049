//! Lets the processes that share a keychain service connect to it one at a time.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::fs::{FileLock, LockFile};

/// A process's place in the queue.
pub(super) struct QueuePlace {
    file: LockFile,
    /// The last failure to connect that was recorded when the process joined.
    last_failure: Option<SystemTime>,
}

/// The permit to connect. Passes to the next process when dropped, or when this process ends.
pub(super) struct ConnectPermit(FileLock);

/// A process ahead in the queue got no reply from the service, so this one would not get one either.
pub(super) struct ServiceHangs;

impl QueuePlace {
    /// Joins the queue at `path`. Returns `None` if no file can be created there: the processes then connect at once.
    pub(super) fn join(path: PathBuf) -> Option<Self> {
        let file = LockFile::open(path).ok()?;
        Some(Self { last_failure: file.modified(), file })
    }

    /// Waits for the permit to connect. Returns `Ok(None)` after `limit`, or if the file system does not support file
    /// locks: the process then connects without it.
    ///
    /// # Errors
    /// [`ServiceHangs`] if a process ahead in the queue has failed in the meantime. Otherwise a hundred waiting processes
    /// would each wait for the service's timeout, one after the other.
    pub(super) fn wait(self, limit: Duration) -> Result<Option<ConnectPermit>, ServiceHangs> {
        match self.file.lock_blocking(limit) {
            Ok(lock) if lock.modified() == self.last_failure => Ok(Some(ConnectPermit(lock))),
            Ok(_) => Err(ServiceHangs),
            Err(_) => Ok(None),
        }
    }
}

impl ConnectPermit {
    /// Records for the waiting processes that the service did not reply.
    pub(super) fn fail(self) {
        self.0.touch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn failure_is_reported_to_waiting_processes_only() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("made/queue");
        let join = || QueuePlace::join(path.clone()).expect("joined");
        let first = join().wait(LIMIT).ok().flatten().expect("a permit");
        let (waiting, also) = (join(), join());
        drop(first);
        let second = waiting.wait(LIMIT).ok().flatten().expect("no process ahead has failed");
        second.fail();
        assert!(also.wait(LIMIT).is_err());
        assert!(join().wait(LIMIT).is_ok_and(|permit| permit.is_some()));
    }

    #[test]
    fn process_connects_without_permit_after_the_limit() {
        let dir = tempfile::tempdir().expect("tempdir");
        let join = || QueuePlace::join(dir.path().join("queue")).expect("joined");
        let stuck = join().wait(LIMIT).ok().flatten().expect("a permit");
        assert!(join().wait(Duration::from_millis(10)).is_ok_and(|permit| permit.is_none()));
        drop(stuck);
        assert!(join().wait(LIMIT).is_ok_and(|permit| permit.is_some()));
    }

    #[test]
    fn processes_connect_without_a_queue_file() {
        assert!(QueuePlace::join("/proc/no/such".into()).is_none());
    }
}
