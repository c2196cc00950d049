//! The `authctl` program: arguments in, exit code out.

use std::alloc::System;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use zeroizing_alloc::ZeroAlloc;

/// Wipes all freed memory. Secrets wipe themselves; this is for the copies that libraries make of them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Runs before the standard library opens `/dev/null` in place of a closed stdout.
#[allow(unsafe_code, reason = "only the linker can call a function before `main`; this one makes one system call")]
#[used]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static BEFORE_MAIN: extern "C" fn() = note_closed_stdout;

extern "C" fn note_closed_stdout() {
    let is_closed = rustix::io::fcntl_getfd(std::io::stdout()).is_err();
    authctl::STDOUT_WAS_CLOSED.store(is_closed, Ordering::Relaxed);
}

/// Sets `XDG_RUNTIME_DIR` if it is missing: libraries read it too.
#[allow(unsafe_code, reason = "no other thread runs at the start that could read the environment")]
fn set_runtime_directory() {
    if let Some(directory) = authctl::missing_runtime_directory() {
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", directory) };
    }
}

fn main() -> ExitCode {
    set_runtime_directory();
    ExitCode::from(authctl::run(std::env::args_os()))
}
