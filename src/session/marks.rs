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
    /// For files, and for what is in memory.
    pub file: PathBuf,
}

impl LockDirectories {
    /// Returns the directory for that kind of store.
    #[must_use]
    pub fn of(&self, kind: StoreKind) -> &Path {
        match kind {
            StoreKind::Keychain => &self.keychain,
            StoreKind::File | StoreKind::Memory => &self.file,
        }
    }
}

/// The marks of changes that this process made itself.
pub(super) struct Marks {
    clock: Arc<dyn Clock>,
    locks: LockDirectories,
    own: Mutex<HashMap<(PathBuf, ProfileName), OwnMark>>,
}

/// The last mark that this process left in a file. Locked while the file is in use: a file that does not respond delays no
/// other.
type OwnMark = Arc<Mutex<Option<SystemTime>>>;

/// Returns the subject of file operations on the marks of a profile, whose store may not respond while its marks do.
pub(super) fn mark_subject(name: &ProfileName) -> String {
    format!("{name}.lock")
}

impl Marks {
    pub(super) fn new(clock: Arc<dyn Clock>, locks: LockDirectories) -> Arc<Self> {
        Arc::new(Self { clock, locks, own: Mutex::default() })
    }

    /// Leaves a mark of a change, or of one that is about to be made: an agent that sees it reads the session again, and
    /// once more when the profile lock is free.
    pub(super) fn leave(&self, kind: StoreKind, name: &ProfileName) {
        let (dir, own) = (self.locks.of(kind), self.own_mark(kind, name));
        // Held until the mark is known, or this process could take its own mark for another's.
        let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
        match ProfileLock::record_change(dir, name, self.clock.now()) {
            Ok(mark) => *own = Some(mark),
            Err(error) => tracing::warn!("{name}: a running agent is not notified of the change: {error}"),
        }
    }

    /// Returns whether another process made the last change of the session in the store of that kind.
    pub(super) fn is_changed_elsewhere(&self, kind: StoreKind, name: &ProfileName) -> bool {
        let (dir, own) = (self.locks.of(kind), self.own_mark(kind, name));
        let own = own.lock().unwrap_or_else(PoisonError::into_inner);
        ProfileLock::change_time(dir, name).is_some_and(|mark| *own != Some(mark))
    }

    fn own_mark(&self, kind: StoreKind, name: &ProfileName) -> OwnMark {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(own.entry((self.locks.of(kind).to_owned(), name.clone())).or_default())
    }
}
