//! What the system shows of other processes (proc(5)).

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Returns the executables of a process and its parent, if the system shows them.
pub fn executables(pid: u32) -> (Option<String>, Option<String>) {
    let program = |pid: u32| {
        // A process that is protected from debuggers, as authctl's commands are, shows only the name that it has chosen.
        let name = || {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some(format!("[{}]", name.trim_end().replace('/', "?")))
        };
        let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        path.map(|path| path.to_string_lossy().into_owned()).or_else(name)
    };
    let parent = parent_of(pid).filter(|parent| *parent > 0).and_then(program);
    (program(pid), parent)
}

/// Describes a process for a message: its program and subcommand, if the system shows them, and its PID.
#[must_use]
pub fn describe(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into()).collect();
    let program = words[0].rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("process");
    // No other argument: those of other programs may be secret.
    let is_subcommand = |word: &&String| program == "authctl" && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let subcommand = words.get(1).filter(is_subcommand).map(|word| format!(" {word}")).unwrap_or_default();
    match program {
        "process" => format!("process {pid}"),
        _ => format!("{program}{subcommand} (process {pid})"),
    }
}

/// Returns the process that started the process `pid`, if the system shows it.
pub fn parent_of(pid: u32) -> Option<u32> {
    stat_field(pid, 4)
}

/// Returns whether a terminal has the process in the foreground, if the system shows that.
pub fn is_foreground(pid: u32) -> bool {
    let [group, terminal, foreground] = [5, 7, 8].map(|number| stat_field::<i64>(pid, number));
    terminal.is_some_and(|terminal| terminal != 0) && group == foreground
}

/// Returns when the process started, in clock ticks since the boot, if the system shows it.
pub fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)
}

/// Returns a field of `/proc/PID/stat` (proc_pid_stat(5)) after the second, the name in parentheses, which may contain anything.
/// One read is enough: each new process pays for this, and names have 64 bytes at most.
fn stat_field<T: std::str::FromStr>(pid: u32, number: usize) -> Option<T> {
    use std::io::Read as _;
    let mut stat = [0; 512];
    let length = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
    let stat = String::from_utf8_lossy(&stat[..length]);
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)?.parse().ok()
}

/// Returns whether the process of a descriptor (pidfd_open(2)) has not ended. Its parent need not have noticed the end.
#[must_use]
pub fn is_running(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // The descriptor becomes readable when the process exits.
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready == 0)
}
