//! What the agent's process asks of the system for itself: no core, no debugger, no open files of others.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// How many descriptors the agent uses at most, whatever the system would allow.
const MOST_DESCRIPTORS: u64 = 4096;

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
    let wanted = limit.maximum.map_or(MOST_DESCRIPTORS, |most| most.min(MOST_DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        // Not granted, fewer connections are served.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
    Ok(())
}

/// How many descriptors this process may have open.
pub(super) fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
