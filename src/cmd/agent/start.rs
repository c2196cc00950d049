//! `authctl agent start` and `stop`: start it in the background and wait until it is ready; stop it and wait until it ended.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use super::run::{READY, agent_process};
use crate::agent::protocol::{AgentStatus, STOP_LIMIT, StopResponse, UnsavedStatus, socket_lock};
use crate::app::App;
use crate::cli::AgentStart;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{is_locked, lock_holder};
use crate::model::StoreKind;
use crate::paths::without_tokens;
use crate::session::SessionError;

/// How long a concurrent start may take.
const CONCURRENT_START_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait before a report of what is waited for.
const REPORT_DELAY: Duration = Duration::from_secs(2);

/// The interval between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The maximum length of a failed start's error output, in bytes.
const MAX_ERROR_BYTES: u64 = 64 * 1024;

/// Starts an agent unless one runs.
pub(super) fn start(app: &App, args: &AgentStart) -> Result<u8, Error> {
    let before = app.agent_status()?;
    if before.running {
        return started(app, "the agent is already running");
    }
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::command("agent run"));
    let mut command = agent_process("--detach", args.notify, args.login).map_err(unexpected)?;
    if app.common.json {
        command.arg("--json");
    }
    // The agent leaves this directory: what is named from here is named by its whole path.
    if let Some(config) = app.common.config.as_ref().or(app.environment.config.as_ref()) {
        command.arg("--config").arg(std::path::absolute(config).map_err(unexpected)?);
    }
    if let Some(key) = &app.environment.key_file {
        command.env(crate::paths::KEY_FILE_VARIABLE, std::path::absolute(key).map_err(unexpected)?);
    }
    without_tokens(&mut command);
    let socket = std::path::absolute(app.agent_socket()?).map_err(unexpected)?;
    command.env(crate::paths::AGENT_SOCKET_VARIABLE, socket);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(unexpected)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut first = String::new();
    if let Some(stdout) = stdout {
        let _ = BufReader::new(stdout.take(64)).read_line(&mut first);
    }
    if first.trim_end() == READY {
        return started(app, "agent started");
    }
    let mut words = String::new();
    if let Some(stderr) = stderr {
        let _ = stderr.take(MAX_ERROR_BYTES).read_to_string(&mut words);
    }
    let status = child.wait().map_err(unexpected)?;
    // A concurrent start may have won.
    if app.run(concurrent_start_succeeds(app))? {
        return started(app, "the agent is already running");
    }
    // The child has printed its error in the requested form.
    eprint!("{words}");
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(ErrorCode::Unexpected.exit_code()))
}

/// Unlocks the agent, which starts locked with a sealed file store, if the user can be asked; then reports `message`.
fn started(app: &App, message: &str) -> Result<u8, Error> {
    let state = app.agent_status()?;
    if !state.locked {
        return output::done(app, message, &state);
    }
    if app.ui().is_interactive() || app.common.passphrase_stdin {
        let unlocked = super::lock::send_passphrase(app)?;
        return output::done(app, &format!("{message}; unlocked"), &unlocked);
    }
    let unlock = app.next_command(Hint::command("agent unlock"));
    output::done(app, &format!("{message}; it is locked: `{unlock}`"), &state)
}

/// Waits for an agent that a concurrent start has begun; returns whether one runs.
async fn concurrent_start_succeeds(app: &App) -> Result<bool, Error> {
    let socket = app.agent_socket()?;
    let begun = app.clock().monotonic();
    while lock_is_held(&socket) {
        if app.agent_status()?.running {
            return Ok(true);
        }
        if app.clock().monotonic().saturating_duration_since(begun) > CONCURRENT_START_LIMIT {
            break;
        }
        app.clock().sleep(POLL_INTERVAL).await;
    }
    Ok(false)
}

/// Asks the agent to stop, or ends it with a signal if it does not respond, and waits until it has. Without an agent there is
/// nothing to do.
pub(super) fn stop(app: &App) -> Result<u8, Error> {
    let socket = app.agent_socket()?;
    // A request may take as long as a refresh, but not this one.
    let state = app.running_agent();
    let at_stop = state.as_ref().ok().and_then(Clone::clone);
    let named = at_stop.as_ref().and_then(|state| state.pid);
    let holder = lock_holder(&socket_lock(&socket), named);
    let process = AgentProcess::open(holder);
    let stopping = match state {
        Err(error) if error.code == ErrorCode::AgentUnavailable => Err(error),
        _ => app.require_agent("POST", "/v1/stop", None),
    };
    match stopping {
        Err(error) if error.code == ErrorCode::AgentAbsent => {
            return output::done(app, "the agent is not running", &app.absent_agent_status()?);
        }
        Err(error) if error.code == ErrorCode::AgentUnavailable => process.terminate().ok_or(error)?,
        reply => {
            reply?.read::<StopResponse>()??;
        }
    }
    let gone = app.run(async {
        let begun = app.clock().monotonic();
        let mut is_reported = false;
        while lock_is_held(&socket) || process.is_running() {
            let waited = app.clock().monotonic().saturating_duration_since(begun);
            if waited > STOP_LIMIT {
                return Ok(false);
            }
            if waited > REPORT_DELAY && !is_reported {
                is_reported = true;
                app.ui().notice(&waits_for(at_stop.as_ref()));
            }
            app.clock().sleep(POLL_INTERVAL).await;
        }
        Ok(true)
    })?;
    if !gone {
        let process = holder.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        let message = format!("the agent{process} has not stopped; it may be finishing a refresh");
        let hint = holder.map_or(Hint::None, |pid| Hint::shell(format!("kill -KILL {pid}")));
        return Err(Error::msg(ErrorCode::AgentStopping, message, hint));
    }
    if let Some(state) = &at_stop {
        report_lost(app, state)?;
    }
    let config = app.config().ok();
    let profiles = config.iter().flat_map(|config| config.profiles.values());
    let held: Vec<&str> =
        profiles.filter(|profile| profile.store == StoreKind::Memory).map(|profile| profile.name.as_str()).collect();
    if !held.is_empty() {
        app.ui().notice(&format!("note: the sessions in its memory are gone: log in again to {}", held.join(", ")));
    }
    output::done(app, "agent stopped", &app.absent_agent_status()?)
}

/// Returns what a stopping agent is waited for.
fn waits_for(state: Option<&AgentStatus>) -> String {
    let limit = STOP_LIMIT.as_secs() / 60;
    match state.and_then(|state| state.unsaved.first()) {
        Some(UnsavedStatus { profile, error, .. }) => format!(
            "Waiting up to {limit} min for the agent, which tries to store the refreshed session of {profile}: {error}"
        ),
        None => format!("Waiting up to {limit} min for the agent, which may be finishing a refresh"),
    }
}

/// Fails if the agent has ended before it stored a session that it had refreshed, or was refreshing, when it was stopped.
///
/// # Errors
/// [`ErrorCode::StoreUnavailable`].
fn report_lost(app: &App, state: &AgentStatus) -> Result<(), Error> {
    let names = state.unsaved.iter().map(|unsaved| &unsaved.profile).chain(&state.refreshing);
    let (Ok(config), Ok(sessions)) = (app.config(), app.sessions()) else { return Ok(()) };
    for name in names {
        let Ok(profile) = config.profile(name) else { continue };
        // What is complete in a file, but not in its place, is put there under the lock.
        let stored = app.run(async {
            drop(sessions.wait_for_lock(profile).await);
            Ok(sessions.session(profile).await)
        })?;
        let is_lost = match stored {
            Ok(session) => sessions.failure_in_doubt(profile, &session).is_some(),
            Err(SessionError::LoginRequired(_)) => false,
            Err(_) => state.unsaved.iter().any(|unsaved| unsaved.profile == *name),
        };
        if is_lost {
            let message =
                format!("the agent has stopped without storing the refreshed session of {name}, which is lost");
            return Err(Error::msg(ErrorCode::StoreUnavailable, message, Hint::login().about(name)));
        }
    }
    Ok(())
}

/// A process that may have ended. On Linux its descriptor refers to it even if its ID is used again, and its parent need not
/// have noticed its end.
struct AgentProcess {
    #[cfg(target_os = "linux")]
    descriptor: Option<std::os::fd::OwnedFd>,
    #[cfg(not(target_os = "linux"))]
    pid: Option<rustix::process::Pid>,
}

impl AgentProcess {
    fn open(pid: Option<u32>) -> Self {
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        #[cfg(target_os = "linux")]
        let flags = rustix::process::PidfdFlags::empty();
        Self {
            #[cfg(target_os = "linux")]
            descriptor: pid.and_then(|pid| rustix::process::pidfd_open(pid, flags).ok()),
            #[cfg(not(target_os = "linux"))]
            pid,
        }
    }

    /// Sends a signal; returns whether the process can have got it.
    #[cfg(target_os = "linux")]
    fn signal(&self, signal: Signal) -> bool {
        self.descriptor.as_ref().is_some_and(|process| rustix::process::pidfd_send_signal(process, signal).is_ok())
    }

    #[cfg(not(target_os = "linux"))]
    fn signal(&self, signal: Signal) -> bool {
        self.pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
    }

    /// Ends an agent as a service manager does: it finishes a refresh first. One that was suspended goes on. Returns `None` if
    /// the process is not known or has ended.
    fn terminate(&self) -> Option<()> {
        let sent = self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        sent.then_some(())
    }

    #[cfg(target_os = "linux")]
    fn is_running(&self) -> bool {
        self.descriptor.as_ref().is_some_and(crate::process::is_running)
    }

    #[cfg(not(target_os = "linux"))]
    fn is_running(&self) -> bool {
        self.pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }
}

/// Returns whether an agent holds the socket lock. Connecting to the socket instead could start an agent if a service
/// manager listens there.
pub(super) fn lock_is_held(socket: &Path) -> bool {
    is_locked(&socket_lock(socket))
}
