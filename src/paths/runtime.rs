//! The directory of sockets where a program has started authctl without naming it.

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Returns a value for `XDG_RUNTIME_DIR` where it is not set: the user's directory as systemd creates it. MCP clients pass few
/// variables on, and the agent's socket and the message bus are in that directory.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
pub fn missing_runtime_directory() -> Option<PathBuf> {
    if cfg!(target_os = "macos") || env::var_os("XDG_RUNTIME_DIR").is_some() {
        return None;
    }
    let user = nix::unistd::geteuid().as_raw();
    let directory = PathBuf::from(format!("/run/user/{user}"));
    let about = directory.symlink_metadata().ok()?;
    let is_private = about.is_dir() && about.uid() == user && about.mode() & 0o077 == 0;
    is_private.then_some(directory)
}
