//! Hardens the agent's process: no core dump, no debugger, no inherited descriptors.

use std::os::fd::RawFd;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit, umask};

use crate::fs::raise_descriptors;

/// The maximum number of descriptors that the agent uses.
const MAX_DESCRIPTORS: usize = 4096;

const STDERR: RawFd = 2;

/// Protects the process from debuggers and core dumps, makes its files private to the user, and raises the soft limit of
/// descriptors. Must be called first, however the agent is started.
///
/// # Errors
/// If the system refuses to keep the memory private: the agent then does not run.
pub fn harden() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    umask(Mode::RWXG | Mode::RWXO);
    raise_descriptors(MAX_DESCRIPTORS);
    Ok(())
}

/// Closes all inherited descriptors except the three standard streams and the sockets `given` by a service manager, which follow
/// them: such as a lock file or a pipe of the caller. Must be called before the process opens any of its own. If the system does
/// not list the open descriptors, none is closed.
pub fn close_inherited_descriptors(given: usize) {
    let Ok(listing) = std::fs::read_dir("/dev/fd") else { return };
    let last = STDERR.saturating_add(RawFd::try_from(given).unwrap_or(RawFd::MAX));
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<RawFd>().ok();
    // Collected first: the listing has a descriptor of its own.
    let open: Vec<RawFd> = listing.flatten().filter_map(number).filter(|number| *number > last).collect();
    for number in open {
        let _ = nix::unistd::close(number);
    }
}

/// Returns the number of descriptors that this process may open.
pub(super) fn descriptors() -> usize {
    crate::fs::descriptors().min(MAX_DESCRIPTORS)
}
