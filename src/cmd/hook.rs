//! Runs one hook, as `session/hooks.rs` starts it: in its turn, without a token, and for a limited time.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::agent::server::close_inherited_descriptors;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::LockFile;
use crate::paths::TOKEN_VARIABLE;

/// How long a hook may run, and how long it waits for its turn.
const LIMIT: Duration = Duration::from_secs(30);

/// The maximum size of an event.
const MAX_EVENT: u64 = 32 * 1024;

/// Runs the command with the event on stdin, while `slot` is locked. Its process group is killed when it ends or after
/// [`LIMIT`].
///
/// # Errors
/// [`ErrorCode::Unexpected`] if it cannot be run, fails or is killed.
pub(super) fn run(slot: PathBuf, words: &[OsString]) -> Result<u8, Error> {
    close_inherited_descriptors();
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let mut event = Vec::new();
    let unexpected = |e: io::Error| Error::new(ErrorCode::Unexpected, e, Hint::None);
    io::stdin().take(MAX_EVENT).read_to_end(&mut event).map_err(unexpected)?;
    let _slot = LockFile::open(slot)?.lock_blocking(LIMIT)?;
    let name = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let failed = |what: String| Error::msg(ErrorCode::Unexpected, format!("the hook `{name}` {what}"), Hint::None);
    match run_limited(words, &event, LIMIT).map_err(|e| failed(format!("cannot be run: {e}")))? {
        Some(status) if status.success() => Ok(0),
        Some(status) => Err(failed(format!("failed: {status}"))),
        None => Err(failed(format!("was killed after {} s", LIMIT.as_secs()))),
    }
}

/// Runs the command; returns `None` if it was killed after `limit`.
fn run_limited(words: &[OsString], event: &[u8], limit: Duration) -> io::Result<Option<ExitStatus>> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command.args(arguments).env_remove(TOKEN_VARIABLE).process_group(0);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let id = Pid::from_child(&child);
    if let Some(mut stdin) = child.stdin.take() {
        // A hook may not read it. The pipe has room for all of it.
        let _ = stdin.write_all(event);
    }
    let (sender, ended) = mpsc::channel();
    // The ended process is not reaped before its group has been killed, so no other process has its ID.
    std::thread::spawn(move || {
        let ended = waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let _ = sender.send(ended.is_ok());
    });
    let in_time = ended.recv_timeout(limit).is_ok();
    let _ = kill_process_group(id, Signal::KILL);
    let status = child.wait()?;
    Ok(in_time.then_some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_shell(script: &str, limit: Duration) -> Option<ExitStatus> {
        let words: Vec<OsString> = ["sh", "-c", script].map(OsString::from).to_vec();
        run_limited(&words, b"{}\n", limit).expect("started")
    }

    #[test]
    fn hook_is_killed_after_its_time() {
        let status = run_shell("trap '' TERM; sleep 1000 & wait", Duration::from_millis(50));
        assert_eq!(status, None);
        let status = run_shell("read -r event && test \"$event\" = '{}'", LIMIT);
        assert!(status.is_some_and(|status| status.success()), "it ends in time, with the event on stdin");
        assert!(run_shell("exit 3", LIMIT).is_some_and(|status| status.code() == Some(3)));
    }

    #[test]
    fn what_a_hook_has_started_ends_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        // The pipe has no writer any more when the background process has ended.
        let (sender, read) = mpsc::channel();
        let reader = pipe.clone();
        std::thread::spawn(move || sender.send(std::fs::read_to_string(reader)));
        let script = format!("exec > '{}'; echo started; sleep 1000 &", pipe.display());
        assert!(run_shell(&script, LIMIT).is_some_and(|status| status.success()));
        let text = read.recv_timeout(LIMIT).expect("the writers have ended").expect("read");
        assert_eq!(text, "started\n");
    }
}
