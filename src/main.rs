//! The `authctl` program: arguments in, exit code out.

fn main() {}
