//! The tool's own commands, which show and change its configuration.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::files::{cannot, changed_meanwhile, create_directory_of, line_end, read_bytes, write};
use crate::app::App;
use crate::cmd::helper::call::{Call, foreign};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{AtomicFile, create_private_dir, directory_of, link_target, replace, unblock};
use crate::text::{excerpt, shell_line};

/// Returns the commands of a tool that set it up, or undo that, from what the tool shows; none if nothing is to be done.
pub(crate) type Plan = dyn Fn(&str, bool) -> Result<Vec<Vec<String>>, Error>;

/// Returns a command of a tool for the file at this path, in place of its configuration.
pub(crate) type OnCopy = fn(&[String], &str) -> Vec<String>;

/// Changes the text of a tool's file as the tool's commands change a copy of it, but leaves all else in it as it is.
pub(crate) struct TextEdit {
    /// Prints all that the tool reads in the file, as JSON.
    pub(crate) shown: Vec<String>,
    pub(crate) edited: Box<Edited>,
}

/// Returns the changed text, from the text before, what the tool shows for the changed copy, and how lines end; `None` if it
/// cannot be changed.
pub(crate) type Edited = dyn Fn(&str, &Value, &str) -> Option<String>;

/// The maximum number of copies of a file.
const MAX_BACKUPS: usize = 99;

/// How long to wait for another program that changes the file.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(2);

/// The maximum time for a command of a tool.
const MAX_COMMAND: Duration = Duration::from_secs(15);

/// A change of a tool's file by its own commands.
#[derive(Clone, Copy)]
pub(super) struct ToolCommands<'a> {
    pub(super) file: &'a Path,
    pub(super) shown: &'a [String],
    pub(super) plan: &'a Plan,
    pub(super) on_copy: OnCopy,
    pub(super) edit: Option<&'a TextEdit>,
    pub(super) add: bool,
}

/// Returns what a command prints, nothing if it finds nothing (exit code 1 of git); `None` if there is no such program.
///
/// # Errors
/// If it fails in another way: what is planned without its output could delete what is there.
pub(crate) fn printed(app: &App, words: &[String]) -> Result<Option<String>, Error> {
    app.run(text_of(words))
}

async fn text_of(words: &[String]) -> Result<Option<String>, Error> {
    let failed = |reason: &str| {
        let line = shell_line(words);
        Error::msg(ErrorCode::Configuration, format!("`{line}` failed: {reason}"), Hint::shell(line))
    };
    let output = match output_of(words).await {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output.map_err(|e| failed(&e.to_string()))?,
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(Some(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())),
        // A warning, such as one about a file that cannot be read, is no failure.
        Some(1) if stderr.lines().all(|line| line.starts_with("warning: ")) => Ok(Some(String::new())),
        _ => {
            let reason = excerpt(stderr.trim().trim_start_matches("error: ").trim_start_matches("fatal: "), 300);
            Err(failed(if reason.is_empty() { "it printed no reason" } else { &reason }))
        }
    }
}

/// Kills a process group, unless its first process has been reaped.
struct RunningCommand(Option<Pid>);

impl Drop for RunningCommand {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a command for at most [`MAX_COMMAND`].
async fn output_of(words: &[String]) -> io::Result<Output> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn()?;
    let mut running = RunningCommand(Some(Pid::from_child(&child)));
    let output = unblock(Path::new(program), move || child.wait_with_output());
    let output = tokio::time::timeout(MAX_COMMAND, output).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {} s", MAX_COMMAND.as_secs()))
    })?;
    running.0 = None;
    output?
}

/// Changes a tool's file by its own commands. They change a copy, which replaces the file as a whole: a command that fails, a
/// signal or a full disk leaves the file as it was. Returns whether anything changed.
pub(super) fn run_on_copy(call: &Call<'_>, change: ToolCommands<'_>) -> Result<bool, Error> {
    let (app, file) = (call.app, change.file);
    let data = &app.paths()?.data;
    // Run so that a signal leaves neither the copy nor the lock.
    app.run(async {
        let dir = create_private_dir(data).and_then(|()| tempfile::tempdir_in(data)).map_err(|e| cannot(data, e))?;
        let copy = dir.path().join("config");
        let _locks = ToolLock::take_all(call, file).await?;
        let before = read_bytes(file)?;
        // An earlier change of this command, or another program, may have changed the file since the first plan.
        let commands = (change.plan)(&text_of(change.shown).await?.unwrap_or_default(), change.add)?;
        let Some(program) = commands.first().and_then(|words| words.first()) else { return Ok(false) };
        // One that does not exist is created.
        if !before.is_empty() {
            replace(&copy, &before, 0o600).map_err(|e| cannot(file, e))?;
        }
        for command in &commands {
            run_command(call, command, &(change.on_copy)(command, &copy.to_string_lossy()), &copy, file).await?;
        }
        let edited = match change.edit {
            Some(edit) if !before.is_empty() => edited_text(edit, change.on_copy, &before, &copy).await,
            _ => None,
        };
        // What is edited keeps all comments but those in authctl's own entry.
        let may_lose = edited.is_none();
        let after = edited.map_or_else(|| read_bytes(&copy), Ok)?;
        let backup = (may_lose && lost_comments(&before, &after)).then(|| back_up(file, &before)).transpose()?;
        let written = write(file, &before, &after);
        if let (Some(backup), false) = (&backup, matches!(written, Ok(true))) {
            let _ = std::fs::remove_file(backup);
        }
        if !written? {
            return Err(changed_meanwhile(file));
        }
        if let Some(backup) = backup {
            let (file, backup) = (file.display(), backup.display());
            app.ui().warn(&format!("{program} drops comments; the previous {file} is saved as {backup}"));
        }
        Ok(true)
    })
}

/// Returns the text before with the change alone, if the tool shows the same for it as for the copy that it has changed.
async fn edited_text(edit: &TextEdit, on_copy: OnCopy, before: &[u8], copy: &Path) -> Option<Vec<u8>> {
    let shown = async |file: &Path| {
        let text = text_of(&on_copy(&edit.shown, &file.to_string_lossy())).await.ok()??;
        serde_json::from_str(&text).ok().map(without_unset)
    };
    let (before, wanted) = (std::str::from_utf8(before).ok()?, shown(copy).await?);
    let text = (edit.edited)(before, &wanted, line_end(before))?;
    // Beside the copy: the tool may show paths that are relative to the file.
    let file = copy.with_extension("edited");
    replace(&file, text.as_bytes(), 0o600).ok()?;
    (shown(&file).await? == wanted).then(|| text.into_bytes())
}

/// Returns the value without what is null or empty in it, which means the same.
fn without_unset(value: Value) -> Value {
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        _ => true,
    };
    match value {
        Value::Array(all) => all.into_iter().map(without_unset).collect(),
        Value::Object(all) => {
            let all = all.into_iter().map(|(key, value)| (key, without_unset(value)));
            all.filter(|(_, value)| is_set(value)).collect()
        }
        value => value,
    }
}

/// Returns whether the file has lost a comment. What only looks like one, in a quoted text, may count too.
fn lost_comments(before: &[u8], after: &[u8]) -> bool {
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let has = |text: &str, comment: &str| text.lines().filter(|line| line.trim_end().ends_with(comment)).count();
    before.lines().filter_map(comment).any(|comment| has(&before, comment) > has(&after, comment))
}

/// Returns the comment at the end of a line, in YAML or in git's configuration.
fn comment(line: &str) -> Option<&str> {
    let is_start = |at: usize| at == 0 || line[..at].ends_with([' ', '\t']);
    line.match_indices(['#', ';']).find(|(at, _)| is_start(*at)).map(|(at, _)| line[at..].trim_end())
}

/// Copies a tool's file beside it, and returns the path.
fn back_up(file: &Path, content: &[u8]) -> Result<PathBuf, Error> {
    let target = link_target(file);
    for number in 1..=MAX_BACKUPS {
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

/// The lock file of git or kubectl, which they create before they change the file beside it.
struct ToolLock(PathBuf);

impl ToolLock {
    /// Takes the lock of kubectl, which is beside the path as it is named, and that of git, beside the file that it leads to.
    async fn take_all(call: &Call<'_>, file: &Path) -> Result<Vec<Self>, Error> {
        let target = link_target(file);
        let mut locks = Vec::new();
        // Where the directory of a link cannot be written, kubectl cannot take its lock either.
        if target == file || rustix::fs::access(directory_of(file), rustix::fs::Access::WRITE_OK).is_ok() {
            locks.push(Self::take(call, file, file).await?);
        }
        if target != file {
            locks.push(Self::take(call, file, &target).await?);
        }
        Ok(locks)
    }

    async fn take(call: &Call<'_>, file: &Path, place: &Path) -> Result<Self, Error> {
        let mut name = place.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        create_directory_of(&path)?;
        let clock = call.app.clock();
        let start = clock.monotonic();
        loop {
            match File::create_new(&path) {
                Ok(_) => return Ok(Self(path)),
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(cannot(file, e)),
                Err(_) if clock.monotonic().saturating_duration_since(start) >= MAX_LOCK_WAIT => break,
                Err(_) => clock.sleep(MAX_LOCK_WAIT / 20).await,
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
async fn run_command(
    call: &Call<'_>,
    shown: &[String],
    words: &[String],
    copy: &Path,
    file: &Path,
) -> Result<(), Error> {
    let output = output_of(words).await.map_err(|e| {
        let program = words.first().map(String::as_str).unwrap_or_default();
        let hint = match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Hint::shell("echo \"$PATH\""),
            _ => Hint::shell(shell_line(shown)),
        };
        let error = anyhow::Error::new(e).context(format!("cannot run `{program}`"));
        Error::new(ErrorCode::Configuration, error, hint)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let line = shell_line(shown);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stderr = stderr.replace(&*copy.to_string_lossy(), &file.to_string_lossy());
    let reason = stderr.trim().lines().next().unwrap_or_default();
    let reason = reason.trim_start_matches("error: ").trim_start_matches("fatal: ");
    let reason = match (reason, output.status.code()) {
        ("", Some(code)) => format!("exit code {code}"),
        ("", None) => "a signal ended it".to_owned(),
        (reason, _) => excerpt(reason, 300),
    };
    let message = format!("`{line}` failed: {reason}");
    let mut hint = Hint::command("helper").with_argument(call.args.tool.name()).with_flag("--setup");
    for host in &call.args.hosts {
        hint = hint.with_option("--host", host.as_str());
    }
    Err(Error::msg(ErrorCode::Configuration, message, call.for_profile(hint)?))
}
