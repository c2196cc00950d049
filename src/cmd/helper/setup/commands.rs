//! The tool's own commands, which show and change its configuration.

use std::process::{Command, Stdio};

use crate::cmd::helper::call::Call;
use crate::error::{Error, ErrorCode, Hint};
use crate::text::{excerpt, shell_line};

/// Returns what a command prints; `None` if it fails.
pub(super) fn printed(words: &[String]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Runs a command of the tool.
pub(super) fn succeed(call: &Call<'_>, words: &[String]) -> Result<(), Error> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|e| {
        let error = anyhow::Error::new(e).context(format!("cannot run `{program}`"));
        Error::new(ErrorCode::Configuration, error, Hint::shell("echo \"$PATH\""))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let line = shell_line(words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reason = stderr.trim().lines().next().unwrap_or_default();
    let reason = reason.trim_start_matches("error: ").trim_start_matches("fatal: ");
    let message = format!("`{line}` failed: {}", excerpt(reason, 300));
    let mut hint = Hint::command("helper").with_argument(call.args.tool.name()).with_flag("--setup");
    for host in &call.args.hosts {
        hint = hint.with_option("--host", host.as_str());
    }
    Err(Error::msg(ErrorCode::Configuration, message, call.for_profile(hint)?))
}
