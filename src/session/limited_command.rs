//! Runs a command from the user's configuration with a limit of time and output, and kills its process group when it ends.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::clock::{Clock as _, SystemClock};
use crate::paths::without_tokens;
use crate::secret::SecretBytes;

/// How often a command that prints nothing is polled.
const POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status; `None` if it was killed after its time or for printing too much.
    pub status: Option<ExitStatus>,
    /// What it printed, at most one byte more than allowed.
    pub output: SecretBytes,
}

/// The process group of a command that runs. It is killed when this is dropped before the command has ended.
#[derive(Clone, Debug, Default)]
pub struct RunningGroup(Arc<Mutex<GroupState>>);

#[derive(Debug, Default)]
enum GroupState {
    #[default]
    NotStarted,
    Running(Pid),
    Ended,
}

impl RunningGroup {
    /// Starts the command, unless its caller has given up already.
    fn start(&self, command: &mut Command) -> io::Result<Child> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let GroupState::Ended = *state {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let child = command.spawn()?;
        *state = GroupState::Running(Pid::from_child(&child));
        Ok(child)
    }

    /// Kills all processes of the group. Its first process is not reaped so far, so no other group has its number.
    fn kill(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let GroupState::Running(group) = std::mem::replace(&mut *state, GroupState::Ended) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Kills the group when it is dropped.
#[derive(Debug, Default)]
pub struct KillOnDrop(pub RunningGroup);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Runs the command with `input` on stdin, without a token in its environment, for at most `time`. When it has ended, or has
/// printed more than `max_output` bytes, its process group is killed. Without `max_output` its output is discarded. Holds the
/// thread.
///
/// # Errors
/// If it cannot be run.
pub fn run_limited(
    mut command: Command,
    input: &[u8],
    time: Duration,
    max_output: Option<usize>,
    group: &RunningGroup,
) -> io::Result<Ended> {
    without_tokens(&mut command).process_group(0);
    let stdout = if max_output.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::null());
    let mut child = group.start(&mut command)?;
    let (id, max_output) = (Pid::from_child(&child), max_output.unwrap_or(0));
    if let Some(mut stdin) = child.stdin.take() {
        // The command may not read it. The pipe can buffer all of it.
        let _ = stdin.write_all(input);
    }
    let mut output = SecretBytes::with_capacity(max_output + 1);
    let mut stdout = child.stdout.take();
    // A pipe that would block is not read: the command then counts as printing nothing.
    if stdout.as_ref().is_some_and(|stdout| rustix::io::ioctl_fionbio(stdout, true).is_err()) {
        stdout = None;
    }
    let start = SystemClock.monotonic();
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let in_time = loop {
        let has_ended = !matches!(waitid(WaitId::Pid(id), options), Ok(None));
        read_available(&mut stdout, &mut output, max_output);
        if output.expose().len() > max_output {
            break false;
        }
        if has_ended {
            break true;
        }
        if SystemClock.monotonic().saturating_duration_since(start) >= time {
            break false;
        }
        let mut waiting: Vec<PollFd<'_>> = stdout.iter().map(|stdout| PollFd::new(stdout, PollFlags::IN)).collect();
        let _ = poll(&mut waiting, Some(&POLL));
    };
    group.kill();
    let status = child.wait()?;
    Ok(Ended { status: in_time.then_some(status), output })
}

/// Reads what is there, and does not wait for end of file: a process that outlives the command may hold the pipe open.
fn read_available(stdout: &mut Option<ChildStdout>, output: &mut SecretBytes, max: usize) {
    let mut piece = zeroize::Zeroizing::new([0; 4096]);
    while let Some(pipe) = stdout.as_mut().filter(|_| output.expose().len() <= max) {
        let free = piece.len().min(max + 1 - output.expose().len());
        match pipe.read(&mut piece[..free]) {
            Ok(length @ 1..) => output.extend(&piece[..length]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => *stdout = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn run_shell(script: &str, limit: Duration, max_output: usize) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run_limited(command, b"{}\n", limit, Some(max_output), &RunningGroup::default()).expect("started")
    }

    #[test]
    fn command_is_killed_after_its_time_or_output() {
        let ended = run_shell("trap '' TERM; sleep 1000 & wait", Duration::from_millis(50), 10);
        assert_eq!(ended.status, None);
        let ended = run_shell("while :; do echo 12345678; done", LIMIT, 10);
        assert_eq!((ended.status, ended.output.expose().len()), (None, 11));
        let ended = run_shell("read -r event && test \"$event\" = '{}' && printf done", LIMIT, 10);
        assert!(ended.status.is_some_and(|status| status.success()), "it ends in time, with the input on stdin");
        assert_eq!(ended.output.expose(), b"done");
        assert!(run_shell("exit 3", LIMIT, 10).status.is_some_and(|status| status.code() == Some(3)));
    }

    #[test]
    fn what_a_command_has_started_ends_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        // The pipe has no writer any more when the background process has ended.
        let (sender, read) = std::sync::mpsc::channel();
        let reader = pipe.clone();
        std::thread::spawn(move || sender.send(std::fs::read_to_string(reader)));
        let script = format!("exec > '{}'; echo started; sleep 1000 &", pipe.display());
        assert!(run_shell(&script, LIMIT, 10).status.is_some_and(|status| status.success()));
        let text = read.recv_timeout(LIMIT).expect("the writers have ended").expect("read");
        assert_eq!(text, "started\n");
    }

    /// Such as an agent that a command line tool starts for itself.
    #[test]
    fn process_that_outlives_the_command_does_not_delay_its_output() {
        let ended = run_shell("setsid sh -c 'sleep 60 &'; printf token", LIMIT, 10);
        assert!(ended.status.is_some_and(|status| status.success()));
        assert_eq!(ended.output.expose(), b"token");
    }

    #[test]
    fn command_is_killed_when_its_caller_gives_up() {
        let group = RunningGroup::default();
        let (own, caller) = (group.clone(), KillOnDrop(group));
        let (sender, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("1000");
            sender.send(run_limited(command, b"", LIMIT * 10, None, &own).map(|ended| ended.status))
        });
        let start = SystemClock.monotonic();
        while let GroupState::NotStarted = *caller.0.0.lock().expect("unpoisoned") {
            assert!(SystemClock.monotonic() - start < LIMIT, "it starts");
            std::thread::yield_now();
        }
        drop(caller);
        let status = ended.recv_timeout(LIMIT).expect("an end").expect("started").expect("not after its time");
        assert!(!status.success());
        let group = RunningGroup::default();
        drop(KillOnDrop(group.clone()));
        let late = run_limited(Command::new("true"), b"", LIMIT, None, &group);
        assert_eq!(late.expect_err("not started").kind(), io::ErrorKind::Interrupted);
    }
}
