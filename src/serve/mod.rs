//! The agent itself: accepts connections, looks who asks, and hands out tokens that it keeps warm.
//!
//! A request walks one way: `accept` admits the connection and looks at its peer, `route` makes a request of what was
//! sent, `hand_out` answers from the warm copy or waits for the one renewal that all wait for, `answer` writes it down.
//! Beside the requests `renewal` keeps the sessions alive, `watch` notices what other processes change, and `guard` is
//! the lock with a passphrase.

mod accept;
mod answer;
mod events;
mod gate;
mod guard;
mod hand_out;
mod harden;
mod journal;
mod notification;
mod peer;
mod profiles;
mod renewal;
mod respond;
mod route;
mod warm;
mod watch;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch as signal};

pub use harden::{harden, leave_descriptors};

use crate::agent::{AgentState, Listening};
use crate::broker::Broker;
use crate::clock::{Clock, UnixTime};
use crate::failure::{Failure, Kind};
use events::Events;
use gate::Gate;
use guard::Guard;
use journal::Journal;
use peer::Peers;
use profiles::Profiles;
use warm::Warm;

/// What the agent is made of.
pub struct Parts {
    /// Makes, renews and ends sessions.
    pub broker: Arc<Broker>,
    /// The configuration file.
    pub config_file: PathBuf,
    /// Which home this is; see [`crate::agent::home_mark`].
    pub mark: String,
    /// Whether a session that has ended is told on the desktop.
    pub notify: bool,
}

/// What all parts share.
struct Agent {
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
    profiles: Profiles,
    warm: Arc<Warm>,
    guard: Guard,
    events: Events,
    journal: Journal,
    gate: Arc<Gate>,
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

/// How long it then waits for a renewal to come to its end, with all the tries and limits that one has.
const CLOSE_LIMIT: Duration = Duration::from_secs(100);

impl Agent {
    fn now(&self) -> UnixTime {
        self.clock.now()
    }

    fn state(&self) -> AgentState {
        self.lock_if_idle();
        let (locked, locks_after) = self.guard.state();
        AgentState {
            running: true,
            socket: self.socket.display().to_string(),
            pid: Some(std::process::id()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            started_at: Some(self.started_at),
            locked,
            locks_after: locks_after.map(|after| after.as_secs()),
            sessions: self.warm.sessions(),
            connections: self.gate.open(),
            config_error: self.profiles.error(),
        }
    }
}

/// Serves on the socket until `stop` comes or a client asks for it, then lets what is under way come to its end: no more
/// is accepted, open requests are answered, and no renewal is cut between the issuer's reply and the store. `ready` is
/// called once requests are answered, `stopping` as soon as no more are accepted, whoever wanted it.
///
/// # Errors
/// [`Kind::Usage`] where the configuration cannot be read, [`Kind::Unexpected`] where the system refuses the socket.
pub async fn serve(
    parts: Parts,
    (listener, listening): (UnixListener, Listening),
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
    stopping: impl FnOnce(),
) -> Result<(), Failure> {
    let unexpected = |e: std::io::Error| Failure::new(Kind::Unexpected, e, "start the agent again");
    listener.set_nonblocking(true).map_err(unexpected)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(unexpected)?;
    let clock = Arc::clone(parts.broker.clock());
    let agent = Arc::new(Agent {
        profiles: Profiles::load(&parts.config_file)?,
        warm: Arc::default(),
        guard: Guard::default(),
        events: Events::default(),
        journal: Journal::default(),
        gate: Arc::new(Gate::within(harden::descriptors())),
        peers: Peers::default(),
        mark: parts.mark,
        socket: listening.path.clone(),
        started_at: clock.now(),
        stop: signal::Sender::new(false),
        reporting: Arc::new(Semaphore::new(2)),
        broker: parts.broker,
        clock,
    });
    let watching = watch::start(&agent);
    let background = [
        tokio::spawn(renewal::keep_alive(Arc::clone(&agent))),
        tokio::spawn(renewal::keep_time(Arc::clone(&agent))),
        tokio::spawn(renewal::keep_lists(Arc::clone(&agent))),
        tokio::spawn(guard::lock_when_idle(Arc::clone(&agent))),
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
    for task in background {
        task.abort();
    }
    drop(watching);
    let _ = tokio::time::timeout(DRAIN_LIMIT, agent.gate.emptied()).await;
    let _ = tokio::time::timeout(CLOSE_LIMIT, agent.broker.close()).await;
    // The socket's name goes before the lock does: who comes next finds neither or both.
    drop(listening);
    Ok(())
}
