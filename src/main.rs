//! The `authctl` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(authctl::run(std::env::args_os()))
}
