//! What a request to the broker results in, and the programs that the broker runs. It waits for each, and ends it when the agent
//! cancels the request.

use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::broker::{BrokerOutcome, has_input};
use crate::secret::SecretBytes;
use crate::session::{KillOnDrop, run_workload_command};

/// How long a notification daemon may take to show a notification.
const SHOW_LIMIT: Duration = Duration::from_secs(5);

/// What a request results in.
pub(super) struct Done {
    pub(super) outcome: BrokerOutcome,
    pub(super) output: SecretBytes,
    pub(super) file: Option<std::fs::File>,
}

impl From<BrokerOutcome> for Done {
    fn from(outcome: BrokerOutcome) -> Self {
        Self { outcome, output: SecretBytes::default(), file: None }
    }
}

impl From<io::Result<()>> for Done {
    fn from(result: io::Result<()>) -> Self {
        result.map_or_else(Into::into, |()| BrokerOutcome::Done.into())
    }
}

impl From<io::Error> for Done {
    fn from(error: io::Error) -> Self {
        BrokerOutcome::Failed(error.raw_os_error(), error.to_string()).into()
    }
}

/// A running login. Its descriptor, unlike its PID, never means another process.
#[cfg(target_os = "linux")]
pub(super) struct RunningLogin(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl RunningLogin {
    pub(super) fn of(child: &Child) -> Option<Self> {
        use rustix::process::{PidfdFlags, pidfd_open};
        pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok().map(Self)
    }

    pub(super) fn end(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::TERM);
    }
}

/// A running login, which ends by itself on this system.
#[cfg(not(target_os = "linux"))]
pub(super) struct RunningLogin;

#[cfg(not(target_os = "linux"))]
impl RunningLogin {
    pub(super) fn of(_child: &Child) -> Option<Self> {
        None
    }

    pub(super) fn end(&self) {}
}

/// Waits for a program; returns what it printed.
pub(super) fn ended(child: Child) -> Done {
    match child.wait_with_output() {
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let outcome = BrokerOutcome::Ended(Some(output.status.into_raw()), stderr);
            Done { outcome, output: SecretBytes::new(output.stdout), file: None }
        }
        Err(error) => error.into(),
    }
}

/// Starts a notifier that asks the user, and waits for the answer. It is killed if it shows nothing within [`SHOW_LIMIT`]: the
/// callers that need the login must not wait for a notification daemon that does not respond.
pub(super) fn ask(mut notifier: Command, socket: &UnixStream) -> io::Result<Done> {
    // A program prints to a pipe only when it ends, but to a terminal each line at once.
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    rustix::io::fcntl_setfd(&controller, rustix::io::FdFlags::CLOEXEC)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(ptsname(&controller, Vec::new())?, flags, Mode::empty())?;
    let child = notifier.stdout(terminal).spawn()?;
    // The other end of the terminal is closed with it.
    drop(notifier);
    let kill_if_nothing_is_shown = |pid| {
        // The dialog of macOS prints nothing before the answer.
        if !cfg!(target_os = "macos") && !has_input(&controller, SHOW_LIMIT).unwrap_or(false) {
            let _ = kill_process(pid, Signal::KILL);
        }
    };
    let done = interruptible(child, socket, kill_if_nothing_is_shown);
    let (mut output, mut piece) = (Vec::new(), [0; 256]);
    while has_input(&controller, Duration::ZERO).unwrap_or(false) {
        match rustix::io::read(&controller, &mut piece) {
            Ok(length @ 1..) => output.extend_from_slice(&piece[..length]),
            _ => break,
        }
    }
    Ok(Done { output: SecretBytes::new(output), ..done })
}

/// Waits for a program, and interrupts it when the agent cancels the request: `notify-send` then closes its notification. Calls
/// `started` first.
pub(super) fn interruptible(child: Child, socket: &UnixStream, started: impl FnOnce(Pid)) -> Done {
    let pid = Pid::from_child(&child);
    let running = Mutex::new(true);
    let interrupt = || {
        if *running.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill_process(pid, Signal::INT);
        }
    };
    until_canceled(socket, interrupt, || {
        started(pid);
        // It is reaped only afterwards, so no other process has its number before.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        *running.lock().unwrap_or_else(PoisonError::into_inner) = false;
        ended(child)
    })
}

/// Runs the command of a workload, and kills it when the agent cancels the request.
pub(super) fn workload_token(words: &[String], socket: &UnixStream) -> Done {
    let caller = KillOnDrop::default();
    let group = caller.0.clone();
    match until_canceled(socket, move || drop(caller), || run_workload_command(words, &group)) {
        Ok(ended) => {
            let outcome = BrokerOutcome::Ended(ended.status.map(ExitStatus::into_raw), String::new());
            Done { outcome, output: ended.output, file: None }
        }
        Err(error) => error.into(),
    }
}

/// Calls `canceled` when the agent closes the socket while `work` runs, or when that has ended.
fn until_canceled<T>(socket: &UnixStream, canceled: impl FnOnce() + Send, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let watch = move || {
            let _ = (&mut &*socket).read(&mut [0]);
            canceled();
        };
        // Without a thread, it is not cancelled.
        if let Err(error) = thread::Builder::new().spawn_scoped(scope, watch) {
            tracing::warn!("cannot start a thread: {error}");
        }
        let done = work();
        let _ = socket.shutdown(Shutdown::Read);
        done
    })
}
