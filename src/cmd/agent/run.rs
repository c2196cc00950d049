//! `authctl agent run`: the agent in the foreground, as a service manager or `agent start` runs it.

use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use crate::agent::protocol::listen;
use crate::agent::server::{Parts, close_inherited_descriptors, harden, serve};
use crate::app::{App, StoreAccess};
use crate::cli::{AgentRun, LoginMode};
use crate::error::{Error, ErrorCode, Hint};

/// What `agent run --detach` writes to stdout once requests are answered.
pub(super) const READY: &str = "ready";

/// Runs the agent until it is stopped.
pub(super) fn run(app: &App, args: &AgentRun) -> Result<u8, Error> {
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::command("agent start"));
    if args.detach {
        close_inherited_descriptors();
    }
    harden().map_err(unexpected)?;
    if args.detach {
        // The leader of a session without a terminal: no Ctrl-C and no hang-up reaches it. Nothing is mounted below `/`.
        let _ = rustix::process::setsid();
        let _ = rustix::process::chdir("/");
    }
    let given = given_socket()?;
    let path = match &given {
        Some(listener) => match listener.local_addr().ok().and_then(|address| address.as_pathname().map(Into::into)) {
            Some(path) => path,
            None => app.agent_socket()?,
        },
        None => app.agent_socket()?,
    };
    let paths = app.paths()?;
    app.use_stores(StoreAccess::Agent);
    let listening = listen(&path, given)?;
    let parts = Parts {
        sessions: app.sessions()?,
        config: paths.config,
        home_id: app.home_id()?,
        notify: args.notify,
        asks_for_login: args.login == LoginMode::Ask,
    };
    app.run_with_signals(|mut signals| async move {
        let ready = || {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            if args.detach {
                let _ = crate::cmd::output::line(READY);
                detach_streams();
            } else {
                app.ui().notice(&format!("the agent listens at {}", path.display()));
            }
        };
        let stop = async {
            signals.next().await;
        };
        let stopping = || {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        };
        serve(parts, listening, ready, stop, stopping).await?;
        Ok(0)
    })
}

/// Suggests the service as authctl writes it, with one Unix stream socket.
fn reinstall() -> Hint {
    Hint::command("agent install")
}

/// Returns the socket on which the service manager already listens (`LISTEN_FDS`, see sd_listen_fds(3)).
fn given_socket() -> Result<Option<UnixListener>, Error> {
    let mut given = ListenFd::from_env();
    if given.len() > 1 {
        let message = format!("the service manager passes {} sockets, and one is expected", given.len());
        return Err(Error::msg(ErrorCode::Usage, message, reinstall()));
    }
    given.take_unix_listener(0).map_err(|e| Error::new(ErrorCode::Usage, e, reinstall()))
}

/// Redirects the standard streams to /dev/null: the process that started the agent may close its ends.
fn detach_streams() {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(null) = rustix::fs::open("/dev/null", flags, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
