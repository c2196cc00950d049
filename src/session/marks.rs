//! The marks that changes of sessions leave for processes that cache them: the modification times of lock files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::clock::Clock;
use crate::model::{ProfileName, StoreKind};
use crate::store::ProfileLock;

/// The directories of lock files, one for the sessions of each kind of store. Each change of a session leaves a mark there.
#[derive(Clone, Debug)]
pub struct LockDirectories {
    /// For keychain items, which belong to the user.
    pub keychain: PathBuf,
    /// For files.
    pub file: PathBuf,
}

impl LockDirectories {
    /// Returns the directory for that kind of store.
    #[must_use]
    pub fn of(&self, kind: StoreKind) -> &Path {
        match kind {
            StoreKind::Keychain => &self.keychain,
            StoreKind::File => &self.file,
        }
    }
}

/// The marks of changes that this process made itself.
pub(super) struct Marks {
    clock: Arc<dyn Clock>,
    locks: LockDirectories,
    own: Mutex<HashMap<(PathBuf, ProfileName), SystemTime>>,
}

impl Marks {
    pub(super) fn new(clock: Arc<dyn Clock>, locks: LockDirectories) -> Arc<Self> {
        Arc::new(Self { clock, locks, own: Mutex::default() })
    }

    /// Leaves a mark of a change, or of one that is about to be made: an agent that sees it reads the session again, and
    /// once more when the profile lock is free.
    pub(super) fn leave(&self, kind: StoreKind, name: &ProfileName) {
        // Held until the mark is in the map, or this process could take its own mark for another's.
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.locks.of(kind);
        match ProfileLock::record_change(dir, name, self.clock.now()) {
            Ok(mark) => {
                own.insert((dir.to_owned(), name.clone()), mark);
            }
            Err(error) => tracing::warn!("{name}: a running agent is not notified of the change: {error}"),
        }
    }

    /// Returns whether another process made the last change of the session in the store of that kind.
    pub(super) fn is_changed_elsewhere(&self, kind: StoreKind, name: &ProfileName) -> bool {
        let dir = self.locks.of(kind);
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        ProfileLock::change_time(dir, name).is_some_and(|mark| own.get(&(dir.to_owned(), name.clone())) != Some(&mark))
    }
}
