//! The waits of this process for profile locks, so that the user learns who holds one.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::fs::lock_holder;
use crate::model::ProfileName;

/// The waits that have begun and not ended, by a number.
#[derive(Debug, Default)]
pub(super) struct LockWaits(Mutex<(u64, Vec<(u64, Waiting)>)>);

#[derive(Clone, Debug)]
struct Waiting {
    profile: ProfileName,
    file: PathBuf,
    since: Instant,
}

/// A wait for the lock of a profile's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockWait {
    /// The profile.
    pub profile: ProfileName,
    /// The process that holds the lock, if the system shows it.
    pub holder: Option<u32>,
}

/// Ends a wait when it is dropped.
pub(super) struct WaitGuard<'a>(&'a LockWaits, u64);

impl LockWaits {
    pub(super) fn begin(&self, profile: &ProfileName, file: PathBuf, since: Instant) -> WaitGuard<'_> {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.0 += 1;
        let number = waits.0;
        waits.1.push((number, Waiting { profile: profile.clone(), file, since }));
        WaitGuard(self, number)
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).1.retain(|(number, _)| *number != self.1);
    }
}

impl LockWaits {
    /// Returns the first wait that has taken longer than `delay` at `now`.
    pub(super) fn longer_than(&self, delay: Duration, now: Instant) -> Option<LockWait> {
        let is_long = |wait: &&(u64, Waiting)| now.saturating_duration_since(wait.1.since) >= delay;
        let waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { profile, file, .. } = waits.1.iter().find(is_long)?.1.clone();
        drop(waits);
        Some(LockWait { profile, holder: lock_holder(&file, None) })
    }
}
