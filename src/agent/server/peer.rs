//! Who is at the other end of a connection: user and process for certain, executable as far as the system tells.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UnixStream;

/// The peer of a connection, as it was when it connected.
pub(super) struct Peer {
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) identity: Arc<Identity>,
}

/// A process, and what it ran when it was first seen.
#[derive(Default)]
pub(super) struct Identity {
    pub(super) executable: Option<String>,
    pub(super) parent: Option<String>,
}

/// The processes seen last: to look each up anew would cost more than to answer it.
#[derive(Default)]
pub(super) struct Peers {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The descriptor is kept here alone: a connection outlives its place among the processes seen last.
    identities: HashMap<u32, (OwnedFd, Arc<Identity>)>,
    order: VecDeque<u32>,
}

/// How many processes are remembered; each holds a descriptor.
const MAX: usize = 16;

impl Peers {
    /// The peer of `stream`.
    ///
    /// # Errors
    /// Where the system does not tell: the connection is then nobody's.
    pub(super) fn of(&self, stream: &UnixStream) -> std::io::Result<Peer> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let uid = credentials.uid();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((pidfd, known)) = seen.identities.get(&pid)
            && lives(pidfd)
        {
            return Ok(Peer { pid, uid, identity: Arc::clone(known) });
        }
        let (pidfd, identity) = Identity::of(stream, pid);
        let identity = Arc::new(identity);
        if let Some(pidfd) = pidfd {
            if seen.identities.insert(pid, (pidfd, Arc::clone(&identity))).is_none() {
                seen.order.push_back(pid);
            }
            if seen.order.len() > MAX
                && let Some(oldest) = seen.order.pop_front()
            {
                seen.identities.remove(&oldest);
            }
        }
        Ok(Peer { pid, uid, identity })
    }
}

impl Identity {
    /// What tells whether the process lives yet, however its number was given away since, and what it runs.
    #[cfg(target_os = "linux")]
    fn of(stream: &UnixStream, pid: u32) -> (Option<OwnedFd>, Self) {
        let pidfd = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerPidfd).ok();
        let program = |pid: u32| {
            let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            Some(shown(&path))
        };
        let parent = parent_of(pid).filter(|parent| *parent > 0).and_then(program);
        let identity = Self { executable: program(pid), parent };
        // Where it has ended meanwhile, what was read may be another's that got its number.
        match pidfd {
            Some(pidfd) if !lives(&pidfd) => (None, Self::default()),
            pidfd => (pidfd, identity),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_stream: &UnixStream, _pid: u32) -> (Option<OwnedFd>, Self) {
        (None, Self::default())
    }
}

fn lives(pidfd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // The descriptor of a process can be read once it has ended.
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready == 0)
}

/// The fourth field of `/proc/PID/stat`, after the name in parentheses, in which anything may stand.
#[cfg(target_os = "linux")]
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(target_os = "linux")]
fn shown(path: &std::path::Path) -> String {
    crate::ui::sanitize_for_terminal(&path.to_string_lossy(), 300)
}
