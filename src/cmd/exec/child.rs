//! A command that runs beside this process, which passes signals on to it and then exits as it did.

use std::future::{Future, pending};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process};
use rustix::termios::tcgetpgrp;

use crate::app::Signals;
use crate::error::{Error, ErrorCode, Hint};

/// The signals that a command gets which is sent to authctl, as if it had become the command. SIGTSTP is before SIGCONT: of both,
/// the command goes on.
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

/// Passes signals on to a command, unless it has them from the terminal. Never returns.
pub(super) async fn pass_on(mut signals: Signals, to: impl Fn(Signal)) {
    loop {
        let signal = signals.next().await;
        if !OF_TERMINAL.contains(&signal) || !is_in_foreground() {
            to(signal);
        }
        // A shell has to see that its job has stopped.
        if signal == Signal::TSTP && std::fs::File::open("/dev/tty").is_ok() {
            let _ = kill_process(getpid(), Signal::STOP);
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

/// Returns whether the process group gets the signals of a terminal, wherever its streams lead.
fn is_in_foreground() -> bool {
    std::fs::File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

/// Returns the exit code of a shell for this status.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
