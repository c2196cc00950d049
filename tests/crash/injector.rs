//! Lets one system call of a program be its last, fail, or transfer only a part; and records how far a refresh got before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;

use crate::support::stepper::{Action, Call, Watch};

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    Error(Errno),
    Short,
}

pub const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::Error(Errno::EIO),
    Fault::Error(Errno::ENOSPC),
    Fault::Error(Errno::EDQUOT),
    Fault::Error(Errno::EROFS),
    Fault::Error(Errno::EINTR),
    Fault::Short,
];

/// Transfer bytes; the third argument is the number of bytes or buffers.
const TRANSFERS: [i64; 8] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
];
const MESSAGES: [i64; 3] = [libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_connect];
const WRITES: [i64; 3] = [libc::SYS_write, libc::SYS_pwrite64, libc::SYS_writev];
/// Change files and directories, other than by writing.
const CHANGES: [i64; 13] = [
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_utimensat,
    libc::SYS_fchmod,
];
const SYNCS: [i64; 2] = [libc::SYS_fsync, libc::SYS_fdatasync];
const READS: [i64; 11] = [
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_access,
    libc::SYS_getdents64,
    libc::SYS_readlink,
    libc::SYS_flock,
    libc::SYS_close,
    libc::SYS_fcntl,
];
const WAITS: [i64; 7] = [
    libc::SYS_flock,
    libc::SYS_close,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_clock_nanosleep,
];
/// Are noticed only by the program itself, besides [`READS`]: a kill at one of them leaves what a kill at the next call leaves.
const INTERNAL: [i64; 51] = [
    libc::SYS_lseek,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_membarrier,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_prctl,
    libc::SYS_arch_prctl,
    libc::SYS_prlimit64,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getcwd,
    libc::SYS_uname,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
];
/// Read bytes, which is noticed where they come from another process.
const RECEIVES: [i64; 4] = [libc::SYS_read, libc::SYS_pread64, libc::SYS_readv, libc::SYS_close];

/// Where programs and libraries are loaded from before the program begins.
const LOADED: [&str; 4] = ["/lib", "/usr/lib", "/etc/ld.so", "/usr/local/lib"];

/// Returns the flags of a call that opens a file.
fn open_flags(call: &Call) -> Option<i32> {
    let flags = match call.number {
        libc::SYS_open => call.args[1],
        libc::SYS_openat => call.args[2],
        _ => return None,
    };
    i32::try_from(flags & 0xffff_ffff).ok()
}

/// Returns whether only the program itself notices the call.
fn is_internal(call: &Call) -> bool {
    let is = |calls: &[i64]| calls.contains(&call.number);
    let is_of = |kind| call.file(0).to_string_lossy().starts_with(kind);
    if is(&RECEIVES) {
        return !is_of("socket:");
    }
    let opens_existing = open_flags(call).is_some_and(|flags| flags & (libc::O_CREAT | libc::O_TRUNC) == 0);
    is(&INTERNAL) || is(&READS) || opens_existing || is(&WRITES) && is_of("anon_inode:")
}

/// Returns whether the call wakes the program's own thread, as its signal handlers do by a byte in a pair of sockets. It does not
/// block, and there is no other end that can fail.
fn is_wakeup(call: &Call) -> bool {
    matches!(call.number, libc::SYS_sendto | libc::SYS_write) && call.args[2] == 1
}

/// Returns whether the call is about a library.
fn is_of_library(call: &Call) -> bool {
    let path = match call.number {
        libc::SYS_open | libc::SYS_stat | libc::SYS_lstat | libc::SYS_access | libc::SYS_readlink => call.path(0),
        libc::SYS_openat | libc::SYS_newfstatat | libc::SYS_statx => call.path(1),
        _ => call.file(0),
    };
    LOADED.iter().any(|above| path.to_string_lossy().starts_with(above))
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Short => "short",
            Self::Error(Errno::EIO) => "EIO",
            Self::Error(Errno::ENOSPC) => "ENOSPC",
            Self::Error(Errno::EDQUOT) => "EDQUOT",
            Self::Error(Errno::EROFS) => "EROFS",
            Self::Error(_) => "EINTR",
        }
    }

    /// Returns whether this can happen to the call, and leads to something else than at the next call: file systems have no
    /// space or are read-only, and sockets are interrupted.
    fn can_hit(self, call: &Call) -> bool {
        let flags = open_flags(call);
        let is = |calls: &[i64]| calls.contains(&call.number);
        if self == Self::Kill {
            return !is_internal(call);
        }
        if is_of_library(call) {
            return false;
        }
        if [&TRANSFERS[..], &MESSAGES, &SYNCS].into_iter().any(is) {
            let file = call.file(0);
            let is_socket = file.to_string_lossy().starts_with("socket:") && !is_wakeup(call);
            let is_on_disk = file.is_absolute();
            match self {
                Self::Error(Errno::ENOSPC | Errno::EDQUOT) if !is_on_disk => return false,
                _ if !is_on_disk && !is_socket => return false,
                _ => {}
            }
        }
        match self {
            Self::Kill => true,
            Self::Short => is(&TRANSFERS),
            Self::Error(Errno::EIO) => {
                flags.is_some() || [&TRANSFERS[..], &MESSAGES, &CHANGES, &SYNCS, &READS].into_iter().any(is)
            }
            Self::Error(Errno::ENOSPC | Errno::EDQUOT) => {
                flags.is_some_and(|flags| flags & libc::O_CREAT != 0) || is(&WRITES) || is(&CHANGES) || is(&SYNCS)
            }
            Self::Error(Errno::EROFS) => {
                flags.is_some_and(|flags| flags & (libc::O_CREAT | libc::O_WRONLY | libc::O_RDWR) != 0) || is(&CHANGES)
            }
            Self::Error(_) => flags.is_some() || [&TRANSFERS[..], &MESSAGES, &SYNCS, &WAITS].into_iter().any(is),
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Kill => Action::Kill,
            Self::Error(error) => Action::fail(error),
            Self::Short => Action::Shorten,
        }
    }
}

/// How far a refresh got.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The file descriptor on which the refresh token was sent.
    connection: Option<u64>,
    reply: Vec<u8>,
    /// Whether the program has read the issuer's whole reply.
    pub has_reply: bool,
    /// Whether it has written the new session after that: to the file that becomes the session's, or to the keychain.
    pub has_written: bool,
    /// The calls after the reply until then.
    pub between: Vec<String>,
}

/// The injector of one fault, or of none to count the calls.
pub struct Injector {
    fault: Option<(Fault, usize)>,
    /// Nothing is counted while it is false.
    armed: Arc<AtomicBool>,
    /// The number of calls that each of [`FAULTS`] can hit.
    pub counts: [usize; FAULTS.len()],
    /// The call that was hit.
    pub hit: Option<String>,
    pub progress: Progress,
}

impl Injector {
    /// Injects the fault into the `nth` call that it can hit, counted from 1 over all threads.
    pub fn new(fault: Option<(Fault, usize)>, armed: Arc<AtomicBool>) -> Self {
        Self { fault, armed, counts: Default::default(), hit: None, progress: Progress::default() }
    }

    fn record_progress(&mut self, call: &Call, result: i64) {
        let length = usize::try_from(result).unwrap_or(0);
        let progress = &mut self.progress;
        let is_sent = matches!(call.number, libc::SYS_write | libc::SYS_writev | libc::SYS_sendto | libc::SYS_sendmsg);
        if is_sent && call.data(length, 11).starts_with(b"POST /token") {
            *progress = Progress { connection: Some(call.args[0]), ..Progress::default() };
        } else if progress.has_reply && !progress.has_written {
            let is_to_keychain = || {
                let data = call.data(length, 1024);
                [&b"SetSecret"[..], b"CreateItem"].iter().any(|name| crate::support::contains(&data, name))
            };
            progress.has_written = match call.number {
                libc::SYS_pwrite64 => {
                    length as u64 == call.args[2] && call.file(0).to_string_lossy().ends_with(".next")
                }
                _ => is_sent && is_to_keychain(),
            };
            if progress.between.len() < 200 {
                progress.between.push(describe(call));
            }
        } else if matches!(call.number, libc::SYS_read | libc::SYS_recvfrom | libc::SYS_readv)
            && progress.connection == Some(call.args[0])
            && !progress.has_reply
        {
            progress.reply.extend(call.data(length, length));
            progress.has_reply = is_whole(&progress.reply);
        }
    }
}

/// Returns whether this is a whole successful HTTP response.
fn is_whole(reply: &[u8]) -> bool {
    let Some(head) = reply.windows(4).position(|end| end == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&reply[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    text.starts_with("http/1.1 200") && length.is_some_and(|length| reply.len() >= head + 4 + length)
}

impl Watch for Injector {
    fn before(&mut self, call: &Call) -> Action {
        if !self.armed.load(Ordering::Acquire) {
            return Action::Make;
        }
        for (fault, count) in FAULTS.iter().zip(&mut self.counts) {
            if !fault.can_hit(call) {
                continue;
            }
            *count += 1;
            if self.fault == Some((*fault, *count)) && self.hit.is_none() {
                self.hit = Some(describe(call));
                return fault.action();
            }
        }
        Action::Make
    }

    fn after(&mut self, call: &Call, result: i64) {
        self.record_progress(call, result);
    }
}

/// Returns the call with the file that it is about.
fn describe(call: &Call) -> String {
    let name = match syscall_names().get(&call.number) {
        Some(name) => (*name).to_owned(),
        None => format!("system call {}", call.number),
    };
    let paths = match call.number {
        libc::SYS_open
        | libc::SYS_stat
        | libc::SYS_lstat
        | libc::SYS_mkdir
        | libc::SYS_unlink
        | libc::SYS_readlink
        | libc::SYS_access => {
            vec![call.path(0)]
        }
        libc::SYS_rename | libc::SYS_link => vec![call.path(0), call.path(1)],
        libc::SYS_openat | libc::SYS_statx | libc::SYS_newfstatat | libc::SYS_unlinkat => vec![call.path(1)],
        _ if [&TRANSFERS[..], &MESSAGES, &SYNCS].into_iter().any(|calls| calls.contains(&call.number))
            || matches!(
                call.number,
                libc::SYS_ftruncate
                    | libc::SYS_fallocate
                    | libc::SYS_flock
                    | libc::SYS_close
                    | libc::SYS_fstat
                    | libc::SYS_utimensat
            ) =>
        {
            vec![call.file(0)]
        }
        _ => Vec::new(),
    };
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("{name}({})", paths.join(", "))
}

fn syscall_names() -> std::collections::BTreeMap<i64, &'static str> {
    macro_rules! names {
        ($($name:ident)*) => { [$((libc::$name, stringify!($name).trim_start_matches("SYS_"))),*].into() };
    }
    names!(
        SYS_read SYS_write SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev SYS_recvfrom SYS_sendto SYS_sendmsg SYS_recvmsg
        SYS_connect SYS_open SYS_openat SYS_close SYS_stat SYS_lstat SYS_fstat SYS_newfstatat SYS_statx SYS_access
        SYS_getdents64 SYS_readlink SYS_flock SYS_fcntl SYS_ftruncate SYS_fallocate SYS_rename SYS_renameat2 SYS_link
        SYS_linkat SYS_unlink SYS_unlinkat SYS_mkdir SYS_utimensat SYS_fchmod SYS_fsync SYS_fdatasync SYS_futex SYS_poll
        SYS_epoll_wait SYS_epoll_ctl SYS_mmap SYS_munmap SYS_mprotect SYS_brk SYS_madvise SYS_clone3 SYS_exit SYS_exit_group
        SYS_getrandom SYS_rt_sigaction SYS_rt_sigprocmask SYS_prctl SYS_socket SYS_setsockopt SYS_getsockopt SYS_shutdown
        SYS_geteuid SYS_sigaltstack SYS_gettid SYS_tgkill SYS_rseq SYS_set_robust_list SYS_sched_getaffinity
    )
}
