//! Commands for files that cannot be used: to change their owner or mode, to edit or to list them.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Hint;
use crate::fs::UntrustedFile;
use crate::fs::directory_of;
use crate::text::shell_word;

impl Hint {
    /// Suggests to change the owner or the mode of a file or directory.
    pub(super) fn untrusted(error: &UntrustedFile) -> Self {
        match error {
            UntrustedFile::Writable { path, .. } => Self::chmod("go-w", path),
            // A link and its target may have different owners.
            UntrustedFile::NotOurs { path, .. } if path.is_symlink() => Self::list(path),
            UntrustedFile::NotOurs { path, .. } => Self::chown(path),
        }
    }

    /// Suggests to make a file the user's, or root's in a directory of root.
    pub(super) fn chown(path: &Path) -> Self {
        let owner = if is_ours(directory_of(path)) { "\"$(id -u)\"" } else { "root" };
        Self::shell(format!("sudo chown {owner} {}", quoted(path)))
    }

    /// Suggests to change the mode of a file.
    #[must_use]
    pub fn chmod(mode: &str, path: &Path) -> Self {
        let sudo = if is_ours(path) { "" } else { "sudo " };
        Self::shell(format!("{sudo}chmod {mode} {}", quoted(path)))
    }

    /// Suggests to edit a file.
    #[must_use]
    pub fn edit(path: &Path) -> Self {
        let editor = if is_ours(path) { "${EDITOR:-vi}" } else { "sudoedit" };
        Self::shell(format!("{editor} {}", quoted(path)))
    }

    /// Suggests a copy of a configuration that cannot be changed where it is.
    pub(super) fn writable_copy(path: &Path) -> Self {
        let copy = if path.exists() { format!("cp {} ~/authctl.toml && ", quoted(path)) } else { String::new() };
        Self::shell(format!("{copy}export AUTHCTL_CONFIG=~/authctl.toml"))
    }

    /// Suggests how to get access to a file that cannot be read or written: its mode is changed if it is the user's, else shown.
    #[must_use]
    pub fn access(path: &Path, kind: ErrorKind) -> Self {
        let nearest = nearest(path);
        let directory = directory_of(nearest);
        match kind {
            // The directory too: a file is replaced by another in it.
            ErrorKind::PermissionDenied if is_ours(nearest) && is_ours(directory) => {
                Self::shell(format!("chmod u+rwX {} {}", quoted(directory), quoted(nearest)))
            }
            ErrorKind::PermissionDenied if is_ours(nearest) => Self::chmod("u+rwX", nearest),
            _ => Self::list(path),
        }
    }

    /// Suggests to look at a file, or at the directory that it should be in.
    #[must_use]
    pub fn list(path: &Path) -> Self {
        Self::on_nearest("ls -la", path)
    }

    /// Suggests a command for the path, or for the nearest directory on the way to it that exists.
    pub(super) fn on_nearest(command: &str, path: &Path) -> Self {
        Self::shell(format!("{command} {}", quoted(nearest(path))))
    }
}

/// Returns the path, or the nearest directory on the way to it that exists.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."))
}

fn quoted(path: &Path) -> String {
    shell_word(&path.display().to_string())
}

/// Returns whether this user may change the mode of the file. One that is missing counts as the user's.
fn is_ours(path: &Path) -> bool {
    let us = rustix::process::geteuid();
    us.is_root() || std::fs::metadata(path).map_or(true, |about| about.uid() == us.as_raw())
}
