//! The agent itself: accepts connections, looks who asks, and hands out tokens that it keeps cache.
//!
//! A request walks one way: `accept` admits the connection and looks at its peer, `route` makes a request of what was
//! sent, `hand_out` answers from the cache copy or waits for the one refresh that all wait for, `answer` writes it down.
//! Beside the requests `refresh` keeps the sessions alive, `watch` notices what other processes change, and `agent_lock` is
//! the lock with a passphrase.

mod accept;
mod audit;
mod background;
mod cache;
mod events;
mod handlers;
mod harden;
mod limiter;
mod lock;
mod notification;
mod peer;
mod profiles;
mod response;
mod route;
mod tokens;
mod watch;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch as signal};

pub use harden::{harden, leave_descriptors};

use crate::agent::protocol::{AgentState, Listening};
use crate::clock::{Clock, UnixTime};
use crate::error::{Error, ErrorCode};
use crate::session::SessionService;
use audit::AuditLog;
use cache::SessionCache;
use events::Events;
use limiter::ConnectionLimiter;
use lock::AgentLock;
use peer::Peers;
use profiles::Profiles;

/// What the agent is made of.
pub struct Parts {
    /// Makes, refreshes and ends sessions.
    pub sessions: Arc<SessionService>,
    /// The configuration file.
    pub config_file: PathBuf,
    /// Which home this is; see [`crate::agent::protocol::home_mark`].
    pub mark: String,
    /// Whether a session that has ended is told on the desktop.
    pub notify: bool,
}

/// What all parts share.
struct Agent {
    sessions: Arc<SessionService>,
    clock: Arc<dyn Clock>,
    profiles: Profiles,
    cache: Arc<SessionCache>,
    agent_lock: AgentLock,
    events: Events,
    audit_log: AuditLog,
    limiter: Arc<ConnectionLimiter>,
    peers: Peers,
    mark: String,
    socket: PathBuf,
    started_at: UnixTime,
    stop: signal::Sender<bool>,
    /// A report reads every store, which may hang: not all threads are for that.
    reporting: Arc<Semaphore>,
}

/// How long a stopping agent waits for requests under way to be answered.
const DRAIN_LIMIT: Duration = Duration::from_secs(70);

/// How long it then waits for a refresh to come to its end, with all the tries and limits that one has.
const CLOSE_LIMIT: Duration = Duration::from_secs(100);

impl Agent {
    fn now(&self) -> UnixTime {
        self.clock.now()
    }

    fn state(&self) -> AgentState {
        self.lock_if_idle();
        let (locked, locks_after) = self.agent_lock.state();
        AgentState {
            running: true,
            socket: self.socket.display().to_string(),
            pid: Some(std::process::id()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            started_at: Some(self.started_at),
            locked,
            locks_after: locks_after.map(|after| after.as_secs()),
            sessions: self.cache.sessions(),
            connections: self.limiter.open(),
            config_error: self.profiles.error(),
        }
    }
}

/// Serves on the socket until `stop` comes or a client asks for it, then lets what is under way come to its end: no more
/// is accepted, open requests are answered, and no refresh is cut between the issuer's reply and the store. `ready` is
/// called once requests are answered, `stopping` as soon as no more are accepted, whoever wanted it.
///
/// # Errors
/// [`ErrorCode::Usage`] where the configuration cannot be read, [`ErrorCode::Unexpected`] where the system refuses the socket.
pub async fn serve(
    parts: Parts,
    (listener, listening): (UnixListener, Listening),
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
    stopping: impl FnOnce(),
) -> Result<(), Error> {
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, "start the agent again");
    listener.set_nonblocking(true).map_err(unexpected)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(unexpected)?;
    let clock = Arc::clone(parts.sessions.clock());
    let agent = Arc::new(Agent {
        profiles: Profiles::load(&parts.config_file)?,
        cache: Arc::default(),
        agent_lock: AgentLock::default(),
        events: Events::default(),
        audit_log: AuditLog::default(),
        limiter: Arc::new(ConnectionLimiter::within(harden::descriptors())),
        peers: Peers::default(),
        mark: parts.mark,
        socket: listening.path.clone(),
        started_at: clock.now(),
        stop: signal::Sender::new(false),
        reporting: Arc::new(Semaphore::new(2)),
        sessions: parts.sessions,
        clock,
    });
    let watching = watch::start(&agent);
    let tasks = [
        tokio::spawn(background::keep_alive(Arc::clone(&agent))),
        tokio::spawn(background::keep_time(Arc::clone(&agent))),
        tokio::spawn(background::keep_lists(Arc::clone(&agent))),
        tokio::spawn(lock::lock_when_idle(Arc::clone(&agent))),
    ];
    if parts.notify {
        notification::start(&agent);
    }
    ready();
    let mut stopped = agent.stop.subscribe();
    tokio::select! {
        () = accept::accept(&agent, &listener) => {}
        () = stop => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    agent.stop.send_replace(true);
    drop(listener);
    stopping();
    for task in tasks {
        task.abort();
    }
    drop(watching);
    let _ = tokio::time::timeout(DRAIN_LIMIT, agent.limiter.emptied()).await;
    let _ = tokio::time::timeout(CLOSE_LIMIT, agent.sessions.close()).await;
    // The socket's name goes before the lock does: who comes next finds neither or both.
    drop(listening);
    Ok(())
}
