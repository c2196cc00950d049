//! The process at the other end of a connection: its user and PID, and its executable if the system shows it.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UnixStream;

#[cfg(target_os = "linux")]
use crate::broker;
use crate::process::is_running;

/// The peer of a connection, at connect time.
pub(super) struct Peer {
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) identity: Arc<Identity>,
}

/// The executables of a process and its parent when it was first seen.
#[derive(Default)]
pub(super) struct Identity {
    pub(super) executable: Option<String>,
    pub(super) parent: Option<String>,
}

/// The latest peers: looking one up costs more than serving its request.
#[derive(Default)]
pub(super) struct Peers {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The process descriptor shows whether the PID still belongs to the same process.
    identities: HashMap<u32, (OwnedFd, Arc<Identity>)>,
    order: VecDeque<u32>,
}

/// The number of remembered processes; each holds a descriptor.
const MAX_PROCESSES: usize = 16;

impl Peer {
    /// Returns the peer of `stream`, without its executables.
    ///
    /// # Errors
    /// If the system does not return the peer's credentials.
    pub(super) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        Ok(Self { pid, uid: credentials.uid(), identity: Arc::default() })
    }

    /// Returns this process, for what it does by itself.
    pub(super) fn own() -> Self {
        let executable = std::env::current_exe().ok().map(|path| path.display().to_string());
        let identity = Arc::new(Identity { executable, parent: None });
        Self { pid: std::process::id(), uid: rustix::process::getuid().as_raw(), identity }
    }
}

impl Peers {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the executables of a process that has been identified before.
    pub(super) fn known(&self, pid: u32) -> Option<Arc<Identity>> {
        let seen = self.seen();
        seen.identities.get(&pid).filter(|(pidfd, _)| is_running(pidfd)).map(|(_, known)| Arc::clone(known))
    }

    /// Returns the peer of `stream` with its executables.
    pub(super) async fn identified(&self, stream: &UnixStream, peer: Peer) -> Peer {
        if let Some(identity) = self.known(peer.pid) {
            return Peer { identity, ..peer };
        }
        let (pidfd, identity) = Identity::of(stream, peer.pid).await;
        let (pid, identity) = (peer.pid, Arc::new(identity));
        if let Some(pidfd) = pidfd {
            let mut seen = self.seen();
            if seen.identities.insert(pid, (pidfd, Arc::clone(&identity))).is_none() {
                seen.order.push_back(pid);
            }
            if seen.order.len() > MAX_PROCESSES
                && let Some(oldest) = seen.order.pop_front()
            {
                seen.identities.remove(&oldest);
            }
        }
        Peer { identity, ..peer }
    }
}

impl Identity {
    /// Returns a descriptor of the process, which stays valid if its PID is reused, and its identity.
    #[cfg(target_os = "linux")]
    async fn of(stream: &UnixStream, pid: u32) -> (Option<OwnedFd>, Self) {
        let pidfd = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerPidfd).ok();
        // A confined process is not shown those of others. The broker may be slow, which must not delay other callers.
        let identified = tokio::task::spawn_blocking(move || broker::identify(pid)).await;
        let (executable, parent) = identified.unwrap_or_default();
        let identity = Self { executable, parent };
        // If it has exited in the meantime, what was read may belong to a process that reuses its PID.
        match pidfd {
            Some(pidfd) if !is_running(&pidfd) => (None, Self::default()),
            pidfd => (pidfd, identity),
        }
    }

    #[cfg(not(target_os = "linux"))]
    async fn of(_stream: &UnixStream, _pid: u32) -> (Option<OwnedFd>, Self) {
        (None, Self::default())
    }
}
