//! A command that runs beside this process, which passes signals on to it and then exits as it did.

use std::future::{Future, pending};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;

use crate::app::Signals;
use crate::error::{Error, ErrorCode, Hint};

/// Waits for the command while `beside` runs; returns its exit code, as a shell does.
///
/// # Errors
/// If the system does not report how it ended.
pub(super) async fn attend(
    mut child: Child,
    mut signals: Signals,
    beside: impl Future<Output = ()>,
) -> Result<u8, Error> {
    let pid = Pid::from_child(&child);
    let exited = tokio::task::spawn_blocking(move || child.wait());
    let beside = async {
        beside.await;
        pending::<()>().await;
    };
    tokio::pin!(exited, beside);
    loop {
        tokio::select! {
            status = &mut exited => {
                let status = status.map_err(std::io::Error::other).and_then(|status| status);
                return status.map(exit_code).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None));
            }
            signal = signals.next() => {
                // Ctrl-C reaches the command by itself.
                if signal != Signal::INT || !is_in_foreground() {
                    let _ = kill_process(pid, signal);
                }
            }
            () = &mut beside => {}
        }
    }
}

/// Returns whether the process group, to which the command belongs too, gets the signals of a terminal, wherever its streams
/// lead.
fn is_in_foreground() -> bool {
    std::fs::File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

/// Returns the exit code of a shell for this status.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
