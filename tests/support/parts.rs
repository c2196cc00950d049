//! Third-party programs and libraries that the tests need. `tests/install` installs them.

use std::path::{Path, PathBuf};

/// Returns the directory into which `tests/install` unpacks servers without installing them.
pub fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-parts")
}

/// Finds a program on the `PATH`, in `/usr/sbin` or among the unpacked servers. Fails the test if it is missing, so that
/// no test is skipped silently.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), unpacked().join("wrappers")]);
    dirs.map(|dir| dir.join(name)).find(|program| program.is_file()).unwrap_or_else(|| not_installed(name))
}

/// Fails the test if one of these programs is missing.
#[track_caller]
pub fn require(programs: &[&str]) {
    for name in programs {
        program(name);
    }
}

/// Finds a system library for `LD_PRELOAD`. Fails the test if it is missing.
#[track_caller]
pub fn library(name: &str) -> PathBuf {
    let library = PathBuf::from(format!("/usr/lib/{}-linux-gnu/{name}", std::env::consts::ARCH));
    if library.is_file() { library } else { not_installed(name) }
}

/// Fails the test because `part` is missing.
#[track_caller]
pub fn not_installed(part: &str) -> ! {
    panic!("not installed: {part}; run tests/install")
}
