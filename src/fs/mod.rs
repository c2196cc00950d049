//! File operations: the advisory lock, atomic replacement, and reading a file that the user named.

mod atomic_file;
mod lock;
pub mod regular_file;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

pub use atomic_file::{AtomicFile, replace};
pub use lock::{FileLock, LockError, LockFile, is_locked};

/// Creates `dir` and its missing parents with mode 0700. An existing directory keeps its mode.
///
/// # Errors
/// As [`DirBuilder::create`].
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A directory that is about to be changed, open so that the change can be made durable.
#[derive(Debug)]
pub struct Directory {
    file: File,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: path.to_owned() })
    }

    /// Makes the creations, renames and removals in the directory durable. A failure is only logged: the changes are in
    /// effect for every process, and a caller that took them for undone would act on what is no longer there.
    pub fn sync(&self) {
        if let Err(error) = self.file.sync_all() {
            tracing::warn!("a change in {} may be lost in a power failure: {error}", self.path.display());
        }
    }

    /// Removes the file at `path` in this directory.
    ///
    /// # Errors
    /// As [`std::fs::remove_file`]; the file is still there then.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)?;
        self.sync();
        Ok(())
    }
}

/// Returns the directory that `path` is in, `.` for a bare file name.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
