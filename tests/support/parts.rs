//! The programs and libraries that tests use and this project does not build. `tests/install` installs them.

use std::path::{Path, PathBuf};

/// Where `tests/install` unpacks servers, which are not installed on the machine.
pub fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-parts")
}

/// Finds a program on the `PATH`, in `/usr/sbin` or among the unpacked servers. Fails the test where it is missing: a
/// test that passed without it would have tested nothing.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), unpacked().join("wrappers")]);
    dirs.map(|dir| dir.join(name)).find(|program| program.is_file()).unwrap_or_else(|| not_installed(name))
}

/// Fails the test where one of these programs is missing.
#[track_caller]
pub fn require(programs: &[&str]) {
    for name in programs {
        program(name);
    }
}

/// Finds a library of the system, for `LD_PRELOAD`. Fails the test where it is missing.
#[track_caller]
pub fn library(name: &str) -> PathBuf {
    let library = PathBuf::from(format!("/usr/lib/{}-linux-gnu/{name}", std::env::consts::ARCH));
    if library.is_file() { library } else { not_installed(name) }
}

/// Fails the test: the part is missing.
#[track_caller]
pub fn not_installed(part: &str) -> ! {
    panic!("not installed: {part}; run tests/install")
}
