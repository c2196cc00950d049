//! The `authctl` program: arguments in, exit code out.

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Wipes all freed memory. Secrets wipe themselves; this is for the copies that libraries make of them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    ExitCode::from(authctl::run(std::env::args_os()))
}
