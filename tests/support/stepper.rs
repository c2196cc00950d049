//! Steps through the system calls of a program and all its threads with `ptrace`: each can be counted, fail, be shortened, or
//! be the last.
//!
//! `strace` counts the calls of each thread separately and injects no error into some of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::CommandOutput;

/// The time limit of a program, reached only if it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// The exit code of a program that was killed because it did not exit within [`LIMIT`].
pub const HANGS: i32 = -2;

/// A system call that a thread is about to make, or has made.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub thread: Pid,
    /// Its number, such as `libc::SYS_openat`.
    pub number: i64,
    pub args: [u64; 6],
}

const PR_SET_DUMPABLE: u64 = libc::PR_SET_DUMPABLE.cast_unsigned() as u64;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Make,
    /// The program is killed instead.
    Kill,
    /// It is not made and returns this result, an error as `-errno`.
    Return(i64),
    /// It is made with half of the bytes, or with the first of its buffers.
    Shorten,
}

impl Action {
    pub fn fail(error: Errno) -> Self {
        Self::Return(-i64::from(error as i32))
    }
}

/// What decides about each call. Called for one call at a time.
pub trait Watch: Send {
    /// Decides about a call that a thread is about to make. Other threads run on.
    fn before(&mut self, call: &Call) -> Action;

    /// Sees the result of a call that was made. Not called for one that does not return.
    fn after(&mut self, _call: &Call, _result: i64) {}
}

/// A program that is being stepped through. Killed when dropped.
pub struct Stepping<W> {
    thread: JoinHandle<(W, ExitStatus)>,
    output: [JoinHandle<String>; 2],
    stdin: Option<ChildStdin>,
    pid: Pid,
}

/// The script of a shell that waits to be traced before it becomes the program with the arguments.
pub const WAIT_TO_BE_TRACED: &str = "kill -STOP $$; exec \"$0\" \"$@\"";

/// Starts a shell with the script [`WAIT_TO_BE_TRACED`], and steps through what the program does.
pub fn start<W: Watch + 'static>(mut command: Command, mut watch: W) -> Stepping<W> {
    assert_eq!(command.get_program(), OsStr::new("sh"), "the program is started by a shell");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (send, started) = mpsc::channel();
    // ptrace works on the thread that started the program, and the thread waits for no other child.
    #[allow(clippy::zombie_processes, reason = "`trace` waits for it")]
    let thread = std::thread::spawn(move || {
        let mut child = command.spawn().expect("spawned");
        let pid = Pid::from_raw(child.id().cast_signed());
        send.send((pid, child.stdin.take(), child.stdout.take(), child.stderr.take())).expect("awaited");
        let status = trace(pid, &mut watch);
        (watch, status)
    });
    let (pid, stdin, stdout, stderr) = started.recv().expect("started");
    let output = [read(stdout.expect("piped")), read(stderr.expect("piped"))];
    Stepping { thread, output, stdin, pid }
}

/// Runs a program with `stdin` to its end.
pub fn run<W: Watch + 'static>(command: Command, stdin: &str, watch: W) -> (W, CommandOutput) {
    let mut stepping = start(command, watch);
    let mut pipe = stepping.stdin.take().expect("open");
    // It may exit without reading it.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    stepping.finish()
}

impl<W> Stepping<W> {
    pub fn terminate(&self) {
        let _ = kill(self.pid, Signal::SIGTERM);
    }

    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the program has ended. One that was killed has the exit code -1.
    pub fn finish(self) -> (W, CommandOutput) {
        let (done, ended) = mpsc::channel::<()>();
        let pid = self.pid;
        let guard = std::thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                let _ = kill(pid, Signal::SIGKILL);
                return true;
            }
            false
        });
        drop(self.stdin);
        let (watch, status) = self.thread.join().expect("traced");
        drop(done);
        let hangs = guard.join().expect("joined");
        let [stdout, stderr] = self.output.map(|reader| reader.join().expect("read"));
        (watch, CommandOutput { code: if hangs { HANGS } else { status.code().unwrap_or(-1) }, stdout, stderr })
    }
}

fn read(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Traces the process from its next `exec` to its end.
fn trace(main: Pid, watch: &mut dyn Watch) -> ExitStatus {
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    let stopped = waitpid(main, Some(WaitPidFlag::WUNTRACED)).expect("waited");
    assert!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{stopped:?}");
    ptrace::seize(main, options).expect("traced");
    kill(main, Signal::SIGCONT).expect("continued");
    let (mut is_program, mut calls, mut exit) = (false, HashMap::new(), None);
    loop {
        let (thread, signal) = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Err(Errno::ECHILD) => return exit.expect("it has ended"),
            Err(Errno::EINTR) => continue,
            Err(error) => panic!("waitpid: {error}"),
            Ok(WaitStatus::Exited(pid, code)) => {
                exit = (pid == main).then(|| ExitStatus::from_raw(code << 8)).or(exit);
                continue;
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                exit = (pid == main).then(|| ExitStatus::from_raw(signal as i32)).or(exit);
                continue;
            }
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                if is_program {
                    // Fails if it was killed in the meantime.
                    let _ = system_call(thread, main, watch, &mut calls);
                }
                (thread, None)
            }
            Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                if event == libc::PTRACE_EVENT_EXEC && thread == main {
                    is_program = true;
                }
                (thread, None)
            }
            Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
            Ok(_) => continue,
        };
        let _ = ptrace::syscall(thread, signal);
    }
}

/// Handles the beginning or the end of a call.
fn system_call(
    thread: Pid,
    main: Pid,
    watch: &mut dyn Watch,
    calls: &mut HashMap<Pid, (Call, Action)>,
) -> nix::Result<()> {
    if ptrace::syscall_info(thread)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
        let call = registers::call(thread)?;
        let mut action = watch.before(&call);
        // A process that is not dumpable lets only root read its memory.
        if call.number == libc::SYS_prctl && call.args[0] == PR_SET_DUMPABLE && action == Action::Make {
            action = Action::Return(0);
        }
        match action {
            Action::Make => {}
            Action::Kill => kill(main, Signal::SIGKILL)?,
            Action::Return(_) => registers::skip(thread)?,
            Action::Shorten => registers::shorten(thread)?,
        }
        calls.insert(thread, (call, action));
    } else if let Some((call, action)) = calls.remove(&thread) {
        match action {
            Action::Return(result) => registers::set_result(thread, result)?,
            _ => watch.after(&call, registers::result(thread)?),
        }
    }
    Ok(())
}

impl Call {
    /// Returns `length` bytes of the program's memory, fewer if they are not all there.
    pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let Ok(memory) = File::open(format!("/proc/{}/mem", self.thread)) else { return Vec::new() };
        let mut bytes = vec![0; length];
        let mut read = 0;
        while let Ok(more @ 1..) = memory.read_at(&mut bytes[read..], address + read as u64) {
            read += more;
        }
        bytes.truncate(read);
        bytes
    }

    /// Returns the path that an argument points to.
    pub fn path(&self, arg: usize) -> PathBuf {
        let bytes = self.bytes(self.args[arg], 4096);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
        let path = PathBuf::from(String::from_utf8_lossy(&bytes[..end]).into_owned());
        match std::fs::read_link(format!("/proc/{}/cwd", self.thread)) {
            Ok(directory) => directory.join(path),
            Err(_) => path,
        }
    }

    /// Returns what the file descriptor in an argument is of: a path, or such as `socket:[1]`.
    pub fn file(&self, arg: usize) -> PathBuf {
        std::fs::read_link(format!("/proc/{}/fd/{}", self.thread, self.args[arg])).unwrap_or_default()
    }

    /// Returns the first `limit` bytes that a call sends or writes, or has received or read, of which there are `length`.
    pub fn data(&self, length: usize, limit: usize) -> Vec<u8> {
        let pairs = |address, count: u64| {
            let bytes = self.bytes(address, 16 * usize::try_from(count.min(64)).unwrap_or(0));
            bytes.chunks_exact(16).map(|pair| (word(&pair[..8]), word(&pair[8..]))).collect::<Vec<_>>()
        };
        let buffers = match self.number {
            libc::SYS_writev | libc::SYS_readv => pairs(self.args[1], self.args[2]),
            libc::SYS_sendmsg | libc::SYS_recvmsg => {
                let header = self.bytes(self.args[1] + 16, 16);
                if header.len() < 16 { Vec::new() } else { pairs(word(&header[..8]), word(&header[8..])) }
            }
            _ => vec![(self.args[1], length as u64)],
        };
        let mut data = Vec::new();
        for (address, size) in buffers {
            let size = usize::try_from(size).unwrap_or(0).min(limit - data.len()).min(length - data.len().min(length));
            data.extend(self.bytes(address, size));
        }
        data
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().expect("8 bytes"))
}

#[cfg(target_arch = "x86_64")]
mod registers {
    use nix::libc;
    use nix::sys::ptrace::{getregs, setregs};
    use nix::unistd::Pid;

    use super::Call;

    pub fn call(thread: Pid) -> nix::Result<Call> {
        let r = getregs(thread)?;
        Ok(Call { thread, number: r.orig_rax.cast_signed(), args: [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] })
    }

    /// Replaces the call by one that does not exist.
    pub fn skip(thread: Pid) -> nix::Result<()> {
        let mut registers = getregs(thread)?;
        registers.orig_rax = u64::MAX;
        setregs(thread, registers)
    }

    /// Halves the third argument: the number of bytes or buffers.
    pub fn shorten(thread: Pid) -> nix::Result<()> {
        let mut registers = getregs(thread)?;
        registers.rdx = match registers.orig_rax.cast_signed() {
            libc::SYS_writev | libc::SYS_readv => 1,
            _ => (registers.rdx / 2).max(1),
        };
        setregs(thread, registers)
    }

    pub fn result(thread: Pid) -> nix::Result<i64> {
        Ok(getregs(thread)?.rax.cast_signed())
    }

    pub fn set_result(thread: Pid, result: i64) -> nix::Result<()> {
        let mut registers = getregs(thread)?;
        registers.rax = result.cast_unsigned();
        setregs(thread, registers)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod registers {
    use nix::unistd::Pid;

    use super::Call;

    const UNSUPPORTED: &str = "the stepper reads the registers of x86_64 only";

    pub fn call(_: Pid) -> nix::Result<Call> {
        panic!("{UNSUPPORTED}")
    }

    pub fn skip(_: Pid) -> nix::Result<()> {
        panic!("{UNSUPPORTED}")
    }

    pub fn shorten(_: Pid) -> nix::Result<()> {
        panic!("{UNSUPPORTED}")
    }

    pub fn result(_: Pid) -> nix::Result<i64> {
        panic!("{UNSUPPORTED}")
    }

    pub fn set_result(_: Pid, _: i64) -> nix::Result<()> {
        panic!("{UNSUPPORTED}")
    }
}
