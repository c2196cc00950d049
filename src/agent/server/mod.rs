//! The agent's server: accepts connections, authorizes the caller, and issues tokens from its session cache.
//!
//! A request takes one path: `accept` admits the connection and checks its peer, `route` parses the request, `handlers`
//! serves it with `tokens`, which uses the `cache` or waits for a refresh, and `response` writes the response. Besides the
//! requests, `background` refreshes sessions before they expire, `watch` notices changes by other processes, and
//! `lock_requests` locks and unlocks the agent.

mod accept;
mod ask_login;
mod audit;
mod background;
mod broker;
mod cache;
mod confine;
mod events;
mod handlers;
mod handover;
mod harden;
mod limiter;
mod lock_requests;
mod lock_state;
mod login_prompt;
mod notification;
mod passphrase_queue;
mod peer;
mod profiles;
mod response;
mod route;
mod state;
mod token_files;
mod tokens;
mod watch;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

pub use broker::{Broker, BrokerParts};
pub use confine::{Places, confine, confine_command};
pub use harden::{close_inherited_descriptors, harden};

use crate::agent::protocol::{Confinement, Listening, STOP_LIMIT};
use crate::clock::within;
use crate::error::{Error, ErrorCode, Hint};
use crate::paths::ConfigFiles;
use crate::session::SessionService;
use state::Agent;

/// The parts that the agent is made of.
pub struct Parts {
    /// The session service.
    pub sessions: Arc<SessionService>,
    /// The configuration files.
    pub config: ConfigFiles,
    /// Identifies the configuration and data directory; see [`crate::agent::protocol::home_id`].
    pub home_id: String,
    /// What the system refuses this process.
    pub confinement: Confinement,
    /// Whether to show a desktop notification when a session has ended.
    pub notify: bool,
    /// Whether to ask the user to log in when a caller needs it.
    pub asks_for_login: bool,
}

/// How long a stopping agent waits for open requests.
const DRAIN_LIMIT: Duration = Duration::from_secs(70);

/// How long a stopping agent then waits for a refresh that has sent its refresh token, and for a store that does not accept the
/// session. A refresh that has not sent it may be cut off.
const CLOSE_LIMIT: Duration = Duration::from_secs(100);
const _: () = assert!(DRAIN_LIMIT.as_secs() + CLOSE_LIMIT.as_secs() < STOP_LIMIT.as_secs());

/// Serves on the socket until `stop` completes or a client asks the agent to stop. Then it accepts no more connections,
/// serves the open requests, and lets refreshes finish, so that none is interrupted between the issuer's reply and the
/// store. `ready` is called when requests are served, `stopping` when no more are accepted.
///
/// # Errors
/// [`ErrorCode::Configuration`] if the configuration is invalid, [`ErrorCode::Unexpected`] if the system refuses the socket, an
/// error of the store if it has not taken a refreshed session, [`ErrorCode::Unexpected`] if the broker has ended.
pub async fn serve(
    parts: Parts,
    (listener, listening): (UnixListener, Listening),
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
    stopping: impl FnOnce(),
) -> Result<(), Error> {
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::command("agent start"));
    listener.set_nonblocking(true).map_err(unexpected)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(unexpected)?;
    let socket = listening.path.clone();
    let agent =
        Agent::new(parts.sessions, parts.config, parts.home_id, socket, parts.asks_for_login, parts.confinement)?;
    agent.sessions.serve_unsaved();
    agent.lock_if_sealed().await;
    let watching = watch::start(&agent);
    let tasks = [
        tokio::spawn(background::refresh_sessions(Arc::clone(&agent))),
        tokio::spawn(background::record_time(Arc::clone(&agent))),
        tokio::spawn(background::update_status_lists(Arc::clone(&agent))),
        tokio::spawn(token_files::update(Arc::clone(&agent))),
        tokio::spawn(background::report_unsaved(Arc::clone(&agent))),
        tokio::spawn(background::report_hooks(Arc::clone(&agent), agent.sessions.hook_outcomes())),
        tokio::spawn(lock_requests::lock_when_idle(Arc::clone(&agent))),
    ];
    if parts.notify || parts.asks_for_login {
        notification::start(&agent, parts.notify);
    }
    ready();
    let mut stopped = agent.stop.subscribe();
    let has_broker = tokio::select! {
        () = accept::accept(&agent, &listener) => true,
        () = stop => true,
        _ = stopped.wait_for(|stop| *stop) => true,
        // A confined process cannot start another one.
        () = broker_end() => false,
    };
    agent.stop.send_replace(true);
    drop(listener);
    stopping();
    for task in tasks {
        task.abort();
    }
    drop(watching);
    within(&*agent.clock, DRAIN_LIMIT, agent.limiter.emptied()).await;
    within(&*agent.clock, CLOSE_LIMIT, agent.sessions.close()).await;
    // The socket is removed before the socket lock is released: the next agent finds both or neither.
    drop(listening);
    match agent.sessions.unsaved().borrow().iter().next() {
        Some((name, unsaved)) => Err(Error::from(unsaved.given_up()).about(name)),
        None if has_broker => Ok(()),
        None => {
            let message = "the agent's broker process has ended";
            Err(Error::msg(ErrorCode::Unexpected, message, Hint::command("agent start")))
        }
    }
}

/// Waits until the broker has ended. Never returns if there is none.
async fn broker_end() {
    let (sender, ended) = tokio::sync::oneshot::channel::<()>();
    // The thread ends with the process.
    let watch = move || {
        crate::broker::wait_for_end();
        drop(sender);
    };
    if crate::broker::is_connected() && std::thread::Builder::new().spawn(watch).is_ok() {
        drop(ended.await);
    } else {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
