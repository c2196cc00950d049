//! Whether other users can read a file or replace it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Why a file cannot be relied on: another user may have written it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UntrustedFile {
    /// Other users can write to the file or to its directory.
    #[error("other users can write to {} (mode {mode:04o})", path.display())]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its owner is neither this user nor root.
    #[error("{} is owned by user ID {owner}", path.display())]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
        /// The owner's user ID.
        owner: u32,
    },
}

/// Returns whether a file is relied on by its owner: only this user and root can have written it.
#[must_use]
pub fn is_trusted_owner(owner: u32) -> bool {
    owner == 0 || owner == rustix::process::geteuid().as_raw()
}

/// Returns whether a mode gives other users no access.
#[must_use]
pub fn is_private(mode: u32) -> bool {
    mode & 0o077 == 0
}

/// Checks that other users cannot write to the directory at `path`, which is this program's own.
///
/// # Errors
/// [`UntrustedFile::Writable`].
pub fn check_own_directory(path: &Path, about: &Metadata) -> Result<(), UntrustedFile> {
    let mode = about.mode() & 0o7777;
    match mode & 0o022 {
        0 => Ok(()),
        _ => Err(UntrustedFile::Writable { path: path.to_owned(), mode }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_this_user_and_of_root_are_trusted() {
        let owners = [rustix::process::geteuid().as_raw(), 0, 4711];
        assert_eq!(owners.map(is_trusted_owner), [true, true, false]);
    }
}
