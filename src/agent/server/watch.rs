//! Watches for changes by other processes: of sessions, by the modification times of their lock files, and of the
//! configuration.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::EventKind;
use notify::{Config, Event, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};

use super::profiles::{EmptyFile, Reload};
use super::state::Agent;
use crate::error::{Error, ErrorCode};
use crate::fs::{create_private_dir, directory_of, unblock};
use crate::model::{Profile, ProfileName};
use crate::session::SessionError;
use crate::store::ProfileLock;

/// Watches until it is dropped.
pub(super) struct FileWatcher {
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// A change.
enum FileChange {
    /// Some events were lost: anything may have changed.
    Unknown,
    Session(ProfileName),
}

/// The polling interval if the system cannot report changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long an empty configuration file is ignored, because an editor may be writing it in place.
const IGNORE_EMPTY: Duration = Duration::from_millis(200);

/// How many changes may be queued. If there are more, everything is checked.
const QUEUE: usize = 1024;

/// How often to look for new directories of the machine-wide configuration. A watch of `/etc` instead would wake the agent at
/// the start of every program, which opens files there.
const DIRECTORY_INTERVAL: Duration = Duration::from_secs(5);

/// What the directories of the machine-wide configuration are called in a message.
const MACHINE_WIDE: &str = "the machine-wide configuration";

/// Starts watching. Changes made by this process are ignored.
pub(super) fn start(agent: &Arc<Agent>) -> FileWatcher {
    let (sender, mut changes) = mpsc::channel(QUEUE);
    let rereads = Arc::new(Notify::new());
    let (changed, config_changed) = (Arc::clone(&rereads), Arc::clone(&rereads));
    let locks = agent.sessions.locks().clone();
    let files = agent.profiles.files();
    let mut dirs = vec![directory_of(&files.user).to_owned(), locks.file, locks.keychain];
    dirs.dedup();
    dirs.retain(|dir| create_private_dir(dir).is_ok());
    // If a configuration file is a symbolic link, its target is watched too.
    let linked: Vec<PathBuf> = files.all().filter_map(|file| file.canonicalize().ok()).collect();
    let names = files.all().chain(linked.iter().map(PathBuf::as_path));
    let names: BTreeSet<OsString> = names.filter_map(|file| Some(file.file_name()?.into())).collect();
    let machine_dirs: Vec<PathBuf> = files.machine_wide.iter().map(|file| directory_of(file).to_owned()).collect();
    let optional = linked.iter().map(|file| directory_of(file));
    let optional: BTreeSet<PathBuf> = optional
        .chain(machine_dirs.iter().map(PathBuf::as_path))
        .filter(|dir| !dirs.iter().any(|watched| watched.canonicalize().is_ok_and(|watched| watched == *dir)))
        .map(Path::to_path_buf)
        .collect();
    let events_lost = Arc::new(AtomicBool::new(false));
    let lost = Arc::clone(&events_lost);
    let on_event = move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        let send = |change| {
            if sender.try_send(change).is_err() {
                lost.store(true, Ordering::SeqCst);
            }
        };
        if event.need_rescan() {
            send(FileChange::Unknown);
        }
        if matches!(event.kind, EventKind::Access(_)) {
            return;
        }
        for path in &event.paths {
            let name = path.file_name();
            if name.is_some_and(|name| names.contains(name)) {
                changed.notify_one();
                continue;
            }
            let profile = name.and_then(|name| name.to_str()).and_then(ProfileLock::profile_of);
            // On Linux a new modification time is reported as modified data.
            if let (Some(profile), EventKind::Modify(_)) = (profile, event.kind) {
                send(FileChange::Session(profile));
            }
        }
    };
    let watcher = Arc::new(Mutex::new(watcher(on_event, &dirs, &optional)));
    let checking = Arc::clone(agent);
    // Nothing here waits for a file: one that does not respond must not delay the changes of others.
    let check_sessions = async move {
        while let Some(change) = changes.recv().await {
            if events_lost.swap(false, Ordering::SeqCst) || matches!(change, FileChange::Unknown) {
                config_changed.notify_one();
                let all = checking.profiles.all();
                all.into_iter().for_each(|profile| checking.check_session(profile.name.clone()));
            }
            if let FileChange::Session(name) = change {
                checking.check_session(name);
            }
        }
    };
    let (agent, mut known) = (Arc::clone(agent), existing(&machine_dirs));
    let reread_configuration = async move {
        loop {
            tokio::select! {
                () = rereads.notified() => {}
                () = agent.clock.sleep(DIRECTORY_INTERVAL) => {
                    let dirs = machine_dirs.clone();
                    match unblock(MACHINE_WIDE, move || existing(&dirs)).await {
                        Ok(now) if now != known => known = now,
                        _ => continue,
                    }
                }
            }
            let (watcher, dirs) = (Arc::clone(&watcher), machine_dirs.clone());
            let watch = unblock(MACHINE_WIDE, move || {
                if let Some(watcher) = &mut *watcher.lock().unwrap_or_else(PoisonError::into_inner) {
                    watch_existing(&mut **watcher, dirs.iter());
                }
            });
            let watched = async { watch.await.map_err(|_| Arc::new(Error::from(SessionError::Interrupted))) };
            let watched = agent.with_file_limit(ErrorCode::Configuration, MACHINE_WIDE, watched).await;
            for error in [watched, agent.reread_configuration().await].into_iter().filter_map(Result::err) {
                tracing::warn!("{}", error.message());
            }
        }
    };
    FileWatcher { tasks: [tokio::spawn(check_sessions), tokio::spawn(reread_configuration)] }
}

/// Returns which of the directories exist: the inode number of each.
fn existing(dirs: &[PathBuf]) -> Vec<Option<u64>> {
    dirs.iter().map(|dir| dir.metadata().ok().map(|about| about.ino())).collect()
}

/// Watches those of the directories that exist and can be watched.
fn watch_existing<'a>(watcher: &mut dyn Watcher, dirs: impl Iterator<Item = &'a PathBuf>) {
    for dir in dirs.filter(|dir| dir.is_dir()) {
        if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
            tracing::warn!("cannot watch {} for changes of the configuration: {error}", dir.display());
        }
    }
}

/// Watches `dirs`, and the `optional` ones if possible.
fn watcher(
    on_event: impl Fn(notify::Result<Event>) + Clone + Send + 'static,
    dirs: &[PathBuf],
    optional: &BTreeSet<PathBuf>,
) -> Option<Box<dyn Watcher + Send>> {
    let watch = |mut watcher: Box<dyn Watcher + Send>| {
        let watched = dirs.iter().try_for_each(|dir| watcher.watch(dir, RecursiveMode::NonRecursive));
        watch_existing(&mut *watcher, optional.iter());
        watched.map(|()| watcher)
    };
    let native =
        RecommendedWatcher::new(on_event.clone(), Config::default()).and_then(|watcher| watch(Box::new(watcher)));
    if let Ok(watcher) = native {
        return Some(watcher);
    }
    let config = Config::default().with_poll_interval(POLL_INTERVAL);
    let polling = PollWatcher::new(on_event, config).and_then(|watcher| watch(Box::new(watcher)));
    polling.inspect_err(|error| tracing::warn!("cannot watch for changes by other processes: {error}")).ok()
}

impl Agent {
    /// Drops the cached session of a profile if another process has changed it: now, and once more when no process changes it
    /// any more. If a check of the profile is running, another one follows.
    fn check_session(self: &Arc<Self>, name: ProfileName) {
        if self.profiles.choose(Some(&name)).is_err() || self.checks().insert(name.clone(), true).is_some() {
            return;
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            while agent.is_check_due(&name) {
                if let Some(profile) = agent.forget_if_changed(&name).await {
                    agent.forget_when_unlocked(profile);
                }
            }
        });
    }

    fn checks(&self) -> MutexGuard<'_, HashMap<ProfileName, bool>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_check_due(&self, name: &ProfileName) -> bool {
        let mut checks = self.checks();
        let is_due = checks.insert(name.clone(), false) == Some(true);
        if !is_due {
            checks.remove(name);
        }
        is_due
    }

    /// Drops the cached session of a profile if another process has changed it, and returns the profile then.
    async fn forget_if_changed(self: &Arc<Self>, name: &ProfileName) -> Option<Arc<Profile>> {
        // A store that the profile no longer uses may have marks of its own.
        if !self.sessions.changed_elsewhere(&*self.profiles.choose(Some(name)).ok()?).await {
            return None;
        }
        // The profile may have changed in the meantime: a login to another issuer stores the session first.
        let profile = self.profiles.choose(Some(name)).ok()?;
        self.forget(&profile);
        Some(profile)
    }

    /// Drops the cached session of a profile once more when no process changes it any more. A process that is killed after
    /// a change and before its second mark has released the lock.
    fn forget_when_unlocked(self: &Arc<Self>, profile: Arc<Profile>) {
        if !self.awaited_locks.lock().unwrap_or_else(PoisonError::into_inner).insert(profile.name.clone()) {
            return;
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            let unlocked = agent.sessions.wait_for_lock(&profile).await;
            agent.awaited_locks.lock().unwrap_or_else(PoisonError::into_inner).remove(&profile.name);
            if unlocked.is_ok() {
                agent.forget_if_changed(&profile.name).await;
            }
        });
    }

    /// Reads the configuration again if it has changed, and drops the cached sessions of changed profiles.
    ///
    /// # Errors
    /// As [`Agent::with_file_limit`].
    pub(super) async fn reread_configuration(self: &Arc<Self>) -> Result<(), Arc<Error>> {
        let file = self.profiles.files().user.display().to_string();
        let reread = async {
            // Once at a time, however many requests name unknown profiles.
            let one = Arc::clone(&self.reloading).lock_owned().await;
            let agent = Arc::clone(self);
            let reload = unblock(&self.profiles.files().user, move || {
                let _until_done = one;
                // Here, because the caller may give up: only one task waits for a half-written file.
                match agent.profiles.reload(None) {
                    Reload::Changed(names) => agent.drop_changed(names),
                    Reload::HalfWritten(seen) => drop(tokio::spawn(agent.wait_for_content(seen))),
                }
            });
            reload.await.map_err(|_| Arc::new(Error::from(SessionError::Interrupted)))
        };
        self.with_file_limit(ErrorCode::Configuration, &file, reread).await
    }

    /// Reads the configuration once no file of it is being written any more.
    async fn wait_for_content(self: Arc<Self>, mut seen: EmptyFile) {
        loop {
            self.clock.sleep(IGNORE_EMPTY).await;
            let _one = self.reloading.lock().await;
            let (agent, last) = (Arc::clone(&self), seen.clone());
            match unblock(&self.profiles.files().user, move || agent.profiles.reload(Some(last))).await {
                Ok(Reload::Changed(names)) => return self.drop_changed(names),
                Ok(Reload::HalfWritten(now)) => seen = now,
                Err(error) => tracing::warn!("cannot read the configuration: {error}"),
            }
        }
    }

    fn drop_changed(self: &Arc<Self>, names: Vec<ProfileName>) {
        self.token_files.notify_one();
        for name in names {
            match self.profiles.choose(Some(&name)) {
                Ok(profile) => {
                    self.forget(&profile);
                }
                Err(_) => {
                    self.cache.forget_removed_profile(&name);
                }
            }
            self.remove_unused_from_memory(name);
        }
    }

    /// Removes the session of a profile from the memory store in the background if the profile no longer uses it: the session is
    /// of another issuer or client, or the profile has another store.
    fn remove_unused_from_memory(self: &Arc<Self>, name: ProfileName) {
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            let profile = async {
                // An invalid configuration was reported when it was read first.
                let _ = agent.reread_configuration().await;
                agent.profiles.choose(Some(&name)).ok()
            };
            match agent.sessions.remove_unused_from_memory(&name, profile).await {
                Ok(false) => {}
                Ok(true) => drop(agent.cache.forget(&name)),
                Err(error) => tracing::warn!("the unused session of {name} stays in memory: {error}"),
            }
        });
    }
}
