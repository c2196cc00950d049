//! File operations: the advisory lock, atomic replacement, and reading a file that the user named.

mod atomic_file;
mod lock;
pub mod regular_file;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

pub use atomic_file::{AtomicFile, replace};
pub use lock::{FileLock, LockError, LockFile, is_locked};

/// Creates `dir` and its missing parents with mode 0700. An existing directory keeps its mode.
///
/// # Errors
/// As [`DirBuilder::create`].
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes the creations, renames and removals in `dir` durable.
///
/// # Errors
/// If the directory cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Returns the directory that `path` is in, `.` for a bare file name.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
