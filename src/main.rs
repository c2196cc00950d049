//! The `authctl` program: arguments in, exit code out.

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory that is given back. Secrets wipe themselves; this is for the copies that libraries make of them when
/// they encrypt, parse and send.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    ExitCode::from(authctl::run(std::env::args_os()))
}
