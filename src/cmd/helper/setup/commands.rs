//! The tool's own commands, which show and change its configuration.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::files::{cannot, changed_meanwhile, read_bytes, write};
use crate::cmd::helper::call::{Call, foreign};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{AtomicFile, create_private_dir, directory_of, link_target, replace};
use crate::text::{excerpt, shell_line};

/// Returns a command of a tool for the file at this path, in place of its configuration.
pub(crate) type OnCopy = fn(&[String], &str) -> Vec<String>;

/// Returns what a command prints; `None` if it fails.
pub(crate) fn printed(words: &[String]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// How often a change starts again because another program has changed the file.
const MAX_ATTEMPTS: usize = 5;

/// How many copies of a file are made.
const MAX_BACKUPS: usize = 100;

/// How long to wait for another program that changes the file.
const LOCK_WAITS: usize = 20;
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// Changes a tool's file by its own commands. They change a copy, which replaces the file as a whole: a command that fails,
/// or a full disk, leaves the file as it was.
pub(super) fn run_on_copy(
    call: &Call<'_>,
    file: &Path,
    commands: &[Vec<String>],
    on_copy: OnCopy,
) -> Result<(), Error> {
    let data = &call.app.paths()?.data;
    let dir = create_private_dir(data).and_then(|()| tempfile::tempdir_in(data)).map_err(|e| cannot(data, e))?;
    let copy = dir.path().join("config");
    for _ in 0..MAX_ATTEMPTS {
        let before = read_bytes(file)?;
        // One that does not exist is created.
        if !before.is_empty() {
            replace(&copy, &before, 0o600).map_err(|e| cannot(file, e))?;
        }
        for command in commands {
            succeed(call, command, &on_copy(command, &copy.to_string_lossy()), &copy, file)?;
        }
        let after = read_bytes(&copy)?;
        let _lock = ToolLock::take(call, file)?;
        let backup = lost_comments(&before, &after).then(|| back_up(file, &before)).transpose()?;
        if write(file, &before, &after)? {
            if let (Some(backup), Some(program)) = (backup, commands.first().and_then(|words| words.first())) {
                let (file, backup) = (file.display(), backup.display());
                call.app.ui().notice(&format!("warning: {program} keeps no comments: {file} as it was is in {backup}"));
            }
            return Ok(());
        }
    }
    Err(changed_meanwhile(file))
}

/// Returns whether a tool's command has removed comments, as kubectl does.
fn lost_comments(before: &[u8], after: &[u8]) -> bool {
    let after = String::from_utf8_lossy(after);
    let before = String::from_utf8_lossy(before);
    let mut comments = before.lines().map(str::trim).filter(|line| line.starts_with('#'));
    comments.any(|comment| !after.contains(comment))
}

/// Copies a tool's file beside it, and returns the path.
fn back_up(file: &Path, content: &[u8]) -> Result<PathBuf, Error> {
    let target = link_target(file);
    for number in 1..MAX_BACKUPS {
        let mut name = target.clone().into_os_string();
        name.push(format!(".before-authctl-{number}"));
        let path = PathBuf::from(name);
        match AtomicFile::beside(&path).and_then(|next| next.create_new(content)) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(cannot(&path, e)),
        }
    }
    let mut name = target.into_os_string();
    name.push(".before-authctl-1");
    Err(foreign(format!("there are too many copies of {}", file.display()), Hint::list(Path::new(&name))))
}

/// The lock file of git and kubectl, which they create before they change the file beside it.
struct ToolLock(PathBuf);

impl ToolLock {
    fn take(call: &Call<'_>, file: &Path) -> Result<Self, Error> {
        let mut name = link_target(file).into_os_string();
        name.push(".lock");
        let path = PathBuf::from(name);
        std::fs::create_dir_all(directory_of(&path)).map_err(|e| cannot(file, e))?;
        for _ in 0..LOCK_WAITS {
            match File::create_new(&path) {
                Ok(_) => return Ok(Self(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    call.app.run(async {
                        call.app.clock().sleep(LOCK_WAIT).await;
                        Ok(())
                    })?;
                }
                Err(e) => return Err(cannot(file, e)),
            }
        }
        let message = format!("another program changes {}: {} exists", file.display(), path.display());
        Err(foreign(message, Hint::list(&path)))
    }
}

impl Drop for ToolLock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs the command `words` of the tool, which is reported as `shown`.
fn succeed(call: &Call<'_>, shown: &[String], words: &[String], copy: &Path, file: &Path) -> Result<(), Error> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|e| {
        let error = anyhow::Error::new(e).context(format!("cannot run `{program}`"));
        Error::new(ErrorCode::Configuration, error, Hint::shell("echo \"$PATH\""))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let line = shell_line(shown);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stderr = stderr.replace(&*copy.to_string_lossy(), &file.to_string_lossy());
    let reason = stderr.trim().lines().next().unwrap_or_default();
    let reason = reason.trim_start_matches("error: ").trim_start_matches("fatal: ");
    let message = format!("`{line}` failed: {}", excerpt(reason, 300));
    let mut hint = Hint::command("helper").with_argument(call.args.tool.name()).with_flag("--setup");
    for host in &call.args.hosts {
        hint = hint.with_option("--host", host.as_str());
    }
    Err(Error::msg(ErrorCode::Configuration, message, call.for_profile(hint)?))
}
