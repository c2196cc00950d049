//! The running proxies: a file for each, locked while its process exists, without its key.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::clock::UnixTime;
use crate::cmd::output::{self, Style};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{FileLock, LockError, LockFile, create_private_dir, directory_of, is_locked, lock_holder, replace};
use crate::model::ProfileName;

/// A proxy, as `proxy list --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunningProxy {
    pub(super) pid: u32,
    /// Its URL, or `unix:` and the path of its socket.
    pub(super) address: String,
    /// The profile whose tokens it uses.
    pub(super) profile: ProfileName,
    pub(super) api: String,
    pub(super) started_at: UnixTime,
    pub(super) ends_at: Option<UnixTime>,
}

/// The file of a proxy that has ended or is this process's, and its lock: both are removed when this is dropped.
pub(super) struct Registered {
    file: PathBuf,
    lock: FileLock,
}

impl Registered {
    /// Locks `file`, unless another process has it.
    fn lock(file: PathBuf) -> Result<Option<Self>, LockError> {
        let lock = LockFile::open(lock_of(&file)).and_then(LockFile::try_lock)?;
        Ok(lock.map(|lock| Self { file, lock }))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.lock.is_in_place() {
            let _ = std::fs::remove_file(&self.file);
            self.lock.remove_file();
        }
    }
}

/// How many running proxies may have the same PID, each in a container of its own.
const MAX_SAME_PID: usize = 100;

/// Returns the directory, which is beside the agent's socket.
fn directory(app: &App) -> Result<PathBuf, Error> {
    Ok(directory_of(&app.paths()?.agent_socket).join("proxies"))
}

fn lock_of(file: &Path) -> PathBuf {
    file.with_extension("lock")
}

/// Adds a proxy to the list.
///
/// # Errors
/// [`ErrorCode::StoreUnavailable`] if its file cannot be written.
pub(super) fn register(app: &App, entry: &RunningProxy) -> Result<Registered, Error> {
    let directory = directory(app)?;
    let failed = |e: std::io::Error| {
        let error = anyhow::Error::new(e).context(format!("cannot write to {}", directory.display()));
        Error::new(ErrorCode::StoreUnavailable, error, Hint::list(&directory))
    };
    create_private_dir(&directory).map_err(failed)?;
    let text = serde_json::to_vec(entry).map_err(|e| failed(e.into()))?;
    // Proxies in two containers may have the same PID.
    for number in 0..MAX_SAME_PID {
        let file = directory.join(format!("{}-{number}.json", entry.pid));
        if let Some(registered) = Registered::lock(file)? {
            replace(&registered.file, &text, 0o600).map_err(failed)?;
            return Ok(registered);
        }
    }
    Err(failed(std::io::ErrorKind::ResourceBusy.into()))
}

/// Returns the running proxies and their lock files, and removes the files of those that were killed.
fn running(app: &App) -> Result<Vec<(RunningProxy, PathBuf)>, Error> {
    let Ok(files) = std::fs::read_dir(directory(app)?) else { return Ok(Vec::new()) };
    let mut entries: Vec<(RunningProxy, PathBuf)> = Vec::new();
    for file in files.flatten().map(|file| file.path()).filter(|path| path.extension() == Some(OsStr::new("json"))) {
        let lock = lock_of(&file);
        if !is_locked(&lock) {
            drop(Registered::lock(file));
            continue;
        }
        let text = crate::fs::regular_file::read(&file, 64 * 1024).ok();
        let entry = text.and_then(|text| serde_json::from_slice::<RunningProxy>(text.expose()).ok());
        entries.extend(entry.map(|entry| (entry, lock)));
    }
    entries.sort_by_key(|(entry, _)| (entry.started_at, entry.pid));
    Ok(entries)
}

/// Prints the running proxies.
pub(super) fn list(app: &App) -> Result<u8, Error> {
    let entries: Vec<RunningProxy> = running(app)?.into_iter().map(|(entry, _)| entry).collect();
    if app.common.json {
        output::json(&entries)?;
        return Ok(0);
    }
    if entries.is_empty() {
        app.ui().notice("no proxy is running");
        return Ok(0);
    }
    let cell = |text: &str| (Style::Plain, text.to_owned());
    let mut rows = vec![["ADDRESS", "PROFILE", "API", "PID"].map(|title| (Style::Bold, title.to_owned())).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        vec![cell(&entry.address), cell(entry.profile.as_str()), cell(&entry.api), cell(&entry.pid.to_string())]
    }));
    let color = app.has_color(&std::io::stdout());
    output::table(&rows, &[2, 0], output::width(), color).iter().try_for_each(|line| output::line(line))?;
    Ok(0)
}

/// Asks the proxies at `address`, or all, to stop.
pub(super) fn stop(app: &App, address: Option<&str>) -> Result<u8, Error> {
    let is_meant =
        |entry: &RunningProxy| address.is_none_or(|text| entry.address == text || entry.pid.to_string() == text);
    let found: Vec<(RunningProxy, PathBuf)> = running(app)?.into_iter().filter(|(entry, _)| is_meant(entry)).collect();
    if let (true, Some(address)) = (found.is_empty(), address) {
        let message = format!("no proxy runs at {address}");
        return Err(Error::msg(ErrorCode::Usage, message, Hint::command("proxy list")));
    }
    let mut out_of_reach = Vec::new();
    for (entry, lock) in &found {
        let holder = lock_holder(lock, Some(entry.pid)).and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        // Its lock shows that the process is the proxy's, and has not ended.
        let is_stopped = holder.is_some_and(|pid| is_locked(lock) && kill_process(pid, Signal::TERM).is_ok());
        if !is_stopped && is_locked(lock) {
            out_of_reach.push(entry.address.as_str());
            continue;
        }
        app.ui().notice(&format!("stopping the proxy at {}", entry.address));
    }
    if !out_of_reach.is_empty() {
        let addresses = out_of_reach.join(", ");
        let message = format!("cannot find or signal the process, which may be in another container: {addresses}");
        return Err(Error::msg(ErrorCode::Unexpected, message, Hint::None));
    }
    if found.is_empty() {
        app.ui().notice("no proxy is running");
    }
    if app.common.json {
        output::json(&found.iter().map(|(entry, _)| entry).collect::<Vec<_>>())?;
    }
    Ok(0)
}
