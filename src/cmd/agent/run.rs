//! `authctl agent run`: the agent in the foreground, as a service manager or `agent start` runs it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use listenfd::ListenFd;

use crate::agent::protocol::listen;
use crate::agent::server::{Broker, BrokerParts, Parts, Places, close_inherited_descriptors, confine, harden, serve};
use crate::app::{App, StoreAccess};
use crate::broker;
use crate::cli::{AgentRun, LoginMode};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{create_private_dir, directory_of, leads_through};
use crate::paths::{
    AGENT_SOCKET_VARIABLE, Paths, TOKEN_VARIABLE, authorities_directories, own_program, uses_abstract_sockets,
};
use crate::ui::Background;

/// What `agent run --detach` writes to stdout once requests are answered.
pub(super) const READY: &str = "ready";

/// Returns the command that runs `authctl agent run` in another process, in this mode.
pub(super) fn agent_process(mode: &str, notify: bool, login: LoginMode) -> std::io::Result<Command> {
    let mut command = Command::new(own_program()?);
    command.args(["agent", "run", mode, "--no-input"]);
    if notify {
        command.arg("--notify");
    }
    if login == LoginMode::Ask {
        command.arg("--login=ask");
    }
    Ok(command)
}

/// Runs the agent until it is stopped.
pub(super) fn run(app: &App, args: &AgentRun) -> Result<u8, Error> {
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::command("agent start"));
    if args.broker {
        return serve_as_broker(app, args);
    }
    let given = given_socket()?;
    close_inherited_descriptors(usize::from(given.is_some()));
    harden().map_err(unexpected)?;
    if args.detach {
        // The leader of a session without a terminal: no Ctrl-C and no hang-up reaches it. Nothing is mounted below `/`.
        let _ = rustix::process::setsid();
        let _ = rustix::process::chdir("/");
    }
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
    let sessions = app.sessions()?;
    start_broker(app, &path, args).map_err(unexpected)?;
    let parts = Parts {
        sessions,
        confinement: confine(&places(&paths)),
        config: paths.config,
        home_id: app.home_id()?,
        notify: args.notify,
        asks_for_login: args.login == LoginMode::Ask,
    };
    app.run_with_signals(|mut signals| async move {
        let _printing = Background::start();
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

/// Starts the process that does for the agent what that may not do itself. It ends with the agent.
fn start_broker(app: &App, socket: &Path, args: &AgentRun) -> std::io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = agent_process("--broker", args.notify, args.login)?;
    if let Some(config) = &app.common.config {
        command.arg("--config").arg(config);
    }
    command.env(AGENT_SOCKET_VARIABLE, socket).env_remove(TOKEN_VARIABLE);
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    if args.detach {
        command.stderr(Stdio::null());
    }
    command.spawn()?;
    broker::connect(ours)
}

/// Serves the agent at the other end of stdin.
fn serve_as_broker(app: &App, args: &AgentRun) -> Result<u8, Error> {
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::None);
    close_inherited_descriptors(0);
    let channel = std::io::stdin().as_fd().try_clone_to_owned().map_err(unexpected)?;
    let paths = app.paths()?;
    let broker = Broker::new(BrokerParts {
        key_file: app.provided_key_file(),
        socket: app.agent_socket()?,
        writable: writable(&paths),
        notify: args.notify,
        asks_for_login: args.login == LoginMode::Ask,
        config: paths.config,
        locks: paths.locks,
    });
    // It ends with the agent, which a signal to both may stop later. The programs that it starts get no handlers.
    app.run_with_signals(|_signals| async move { broker.serve(&UnixStream::from(channel)).map_err(unexpected) })?;
    Ok(0)
}

/// Returns the directories that the agent changes itself.
fn writable(paths: &Paths) -> Vec<PathBuf> {
    vec![paths.data.clone(), paths.shared()]
}

/// Returns what the agent uses itself, and creates the directories that it writes to.
fn places(paths: &Paths) -> Places {
    let writable = writable(paths);
    let config = directory_of(&paths.default_key_file).to_owned();
    for dir in writable.iter().chain([&config]) {
        // What cannot be created is reported when it is needed.
        let _ = create_private_dir(dir);
    }
    let machine_wide = paths.config.machine_wide.iter().map(|file| directory_of(file).to_owned());
    let readable = machine_wide.chain([config]).chain(authorities_directories()).collect();
    // The configuration decides what the broker opens and runs for the agent.
    let is_config_writable = leads_through(&paths.config.user, &writable);
    Places { writable, readable, is_config_writable, has_abstract_sockets: uses_abstract_sockets() }
}

/// Suggests the service as authctl writes it, with one Unix stream socket.
fn reinstall() -> Hint {
    Hint::command("agent install")
}

/// Returns the socket on which the service manager already listens (`LISTEN_FDS`, see sd_listen_fds(3)). The variables are gone
/// afterwards.
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
