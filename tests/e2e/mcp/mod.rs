//! `authctl mcp` with clients, servers and a conformance suite that others wrote.

mod clients;
mod conformance;

pub use clients::server;

use std::path::{Path, PathBuf};

use crate::support::parts;

/// Returns a file of this directory.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/mcp").join(name)
}

/// Returns a program of the Python environment.
fn python() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mcp-python/bin/python");
    if program.is_file() { program } else { parts::not_installed("the MCP clients for Python") }
}

/// Returns a program of the Node packages, with the directory of the Node that runs it first in the search path.
pub fn node(package: &str) -> (PathBuf, std::ffi::OsString) {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mcp/node_modules");
    let program = modules.join(package);
    if !program.is_file() {
        parts::not_installed(package);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(modules.join(".bin")).chain(std::env::split_paths(&path));
    (program, std::env::join_paths(dirs).expect("a search path"))
}
