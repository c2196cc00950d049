//! What the agent's process asks of the system for itself: no core, no debugger, no open files of others.

use std::os::fd::RawFd;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// How many descriptors the agent uses at most, whatever the system would allow.
const MAX_DESCRIPTORS: u64 = 4096;

/// The last of the three streams.
const STDERR: RawFd = 2;

/// Takes this process out of reach of debuggers and core dumps, makes what it creates its owner's alone, and raises the
/// soft limit of descriptors. Call it first, in every way of running the agent.
///
/// # Errors
/// Where the system refuses to keep the memory private: the agent then does not run.
pub fn harden() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    umask(Mode::RWXG | Mode::RWXO);
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(MAX_DESCRIPTORS, |most| most.min(MAX_DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        // Not granted, fewer connections are served.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
    Ok(())
}

/// Closes every descriptor but the three streams: what the caller had open, a lock or the end of a pipe, is not for the
/// agent to keep. Call it before anything else, while whatever is open was inherited. Where the system does not tell what
/// is open, nothing is closed.
pub fn leave_descriptors() {
    let Ok(listing) = std::fs::read_dir("/dev/fd") else { return };
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<RawFd>().ok();
    // The listing's own is closed with it before the rest is.
    let open: Vec<RawFd> = listing.flatten().filter_map(number).filter(|number| *number > STDERR).collect();
    for number in open {
        let _ = nix::unistd::close(number);
    }
}

/// How many descriptors this process may have open.
pub(super) fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(MAX_DESCRIPTORS).min(MAX_DESCRIPTORS);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
