//! The number of descriptors that the process may open, and the wait for a free one.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The wait after `accept` failed because no descriptor was free; connections that end release some.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// Raises the soft limit to `wanted`, or to the hard limit if that is lower. If the system refuses, the process has fewer.
pub fn raise_descriptors(wanted: usize) {
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(wanted, |most| most.min(wanted));
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// Returns the number of descriptors that this process may open.
#[must_use]
pub fn descriptors() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}
