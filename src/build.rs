//! The build script: finds the Git commit for `authctl --version`. Not a module of the program.
#![allow(clippy::disallowed_methods, reason = "Cargo passes everything in the environment")]

use std::env;
use std::path::Path;
use std::process::Command;

/// The number of digits, as most programs show it.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    let commit = commit().unwrap_or_default();
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let shown = if commit.is_empty() { version } else { format!("{version} ({commit})") };
    println!("cargo::rustc-env=AUTHCTL_COMMIT={commit}");
    println!("cargo::rustc-env=AUTHCTL_VERSION={shown}");
}

/// Returns the commit that is checked out; `None` without Git, and in a tarball, also below the checkout of another project.
fn commit() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // What changes when the commit moves. A missing file would run the script at every build: the branch is created in the
    // nearest directory if it is packed.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(&["rev-parse", "--git-path", name])?;
        let is_branch = Some(name) == branch.as_deref();
        let mut existing = Path::new(&path).ancestors().take(if is_branch { usize::MAX } else { 1 });
        if let Some(path) = existing.find(|path| path.exists()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let commit = git(&["rev-parse", "--verify", "HEAD"])?;
    let is_commit = commit.len() >= DIGITS && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| commit[..DIGITS].to_owned())
}

/// Returns what `git` prints about this checkout, independent of the environment.
fn git(args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GIT_")) {
        command.env_remove(name);
    }
    let output = command.args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}
