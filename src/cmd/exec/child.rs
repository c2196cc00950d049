//! A command that runs beside this process, which passes signals on to it and then exits as it did.

use std::future::{Future, pending};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use crate::app::{ReceivedSignal, Signals, stop_for_shell};
use crate::error::{Error, ErrorCode, Hint};

/// Signals sent to authctl that are passed on to the command. SIGTSTP precedes SIGCONT: if both are pending, the command
/// continues.
pub(super) const PASSED_ON: [Signal; 10] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TERM,
    Signal::WINCH,
    Signal::TSTP,
    Signal::CONT,
];

/// Those that a terminal sends to its foreground process group, to which the command belongs too.
const OF_TERMINAL: [Signal; 4] = [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::WINCH];

/// Listens for the signals that the command gets. Must be called before it is started.
///
/// # Errors
/// If the system refuses.
pub(super) fn listen() -> Result<Signals, Error> {
    Signals::listen(&PASSED_ON).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))
}

/// Returns an error if a signal has requested the end before the command was started. The command would not get it: the terminal
/// had sent it to authctl alone.
///
/// # Errors
/// [`ErrorCode::Interrupted`].
pub(super) fn check_interrupted(signals: &mut Signals) -> Result<(), Error> {
    match signals.has_received(&[Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP]) {
        true => Err(Error::interrupted()),
        false => Ok(()),
    }
}

/// Waits for the command while `beside` runs; returns its exit code, as a shell does.
///
/// # Errors
/// If the system does not report how it ended.
pub(super) async fn attend<T>(mut child: Child, beside: impl Future<Output = T>) -> Result<u8, Error> {
    let exited = tokio::task::spawn_blocking(move || child.wait());
    let beside = async {
        beside.await;
        pending::<Result<u8, Error>>().await
    };
    tokio::select! {
        status = exited => {
            let status = status.map_err(std::io::Error::other).and_then(|status| status);
            status.map(exit_code).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))
        }
        never = beside => never,
    }
}

/// Passes signals on to a command, unless it has them from the terminal. Never returns. A process that sends one to the whole
/// group reaches the command twice: nothing distinguishes that from one that sends it to authctl alone, where the command must
/// get it. In a group of its own, the command would get neither the terminal's keys nor a SIGKILL of the group.
pub(super) async fn pass_on(mut signals: Signals, to: impl Fn(Signal)) {
    loop {
        let ReceivedSignal { signal, is_from_process } = signals.next().await;
        if is_from_process || !OF_TERMINAL.contains(&signal) {
            to(signal);
        }
        // A shell has to see that its job has stopped, unless it has continued it since.
        if signal == Signal::TSTP && !signals.has_received(&[Signal::CONT]) {
            stop_for_shell();
        }
    }
}

/// Returns what sends a signal to the command.
pub(super) fn sender(child: &Child) -> impl Fn(Signal) + use<> {
    let pid = Pid::from_child(child);
    move |signal| {
        let _ = kill_process(pid, signal);
    }
}

/// Returns the exit code of a shell for this status.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
