//! Notices what other processes change: sessions by the marks that are left beside their locks, and the configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::EventKind;
use notify::{Config, Event, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::Agent;
use super::profiles::Reloaded;
use crate::model::ProfileName;
use crate::store::ProfileLock;

/// Watches as long as it is kept.
pub(super) struct Watching {
    _watcher: Option<Box<dyn Watcher + Send>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was noticed.
enum Noticed {
    /// More than can be told.
    Much,
    Session(ProfileName),
    Configuration,
}

/// How often the files are looked at where the system cannot tell of changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a configuration that is written over in place has until an empty file counts as what is meant.
const UNTIL_WRITTEN: Duration = Duration::from_millis(200);

/// Changes that wait to be looked at. Where there are more, all that changed is looked for.
const WAITING: usize = 1024;

/// Starts watching. The sessions's own changes are passed over.
pub(super) fn start(agent: &Arc<Agent>) -> Watching {
    let (sender, mut noticed) = mpsc::channel(WAITING);
    let locks = agent.sessions.locks().to_owned();
    let config = agent.profiles.file().to_owned();
    let dir_of =
        |file: &Path| file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let config_dir = dir_of(&config);
    for dir in [&locks, &config_dir] {
        let _ = std::fs::create_dir_all(dir);
    }
    let sessions = Arc::clone(&agent.sessions);
    // Where a link stands in the configuration's place, the file that it leads to is changed elsewhere.
    let linked = config.canonicalize().ok();
    let names: Vec<OsString> = [Some(&config), linked.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|file| Some(file.file_name()?.into()))
        .collect();
    let linked_dir = linked.as_deref().map(dir_of).filter(|dir| config_dir.canonicalize().ok().as_ref() != Some(dir));
    let missed = Arc::new(AtomicBool::new(false));
    let missing = Arc::clone(&missed);
    let look = move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        let tell = |noticed| {
            if sender.try_send(noticed).is_err() {
                missed.store(true, Ordering::SeqCst);
            }
        };
        if event.need_rescan() {
            tell(Noticed::Much);
        }
        if matches!(event.kind, EventKind::Access(_)) {
            return;
        }
        for path in &event.paths {
            let name = path.file_name();
            if name.is_some_and(|name| names.iter().any(|config| config == name)) {
                tell(Noticed::Configuration);
                continue;
            }
            let profile = name.and_then(|name| name.to_str()).and_then(ProfileLock::profile_of);
            // Linux tells of a new modification time alone as of data that was modified.
            if let (Some(profile), EventKind::Modify(_)) = (profile, event.kind)
                && sessions.changed_elsewhere(&profile)
            {
                tell(Noticed::Session(profile));
            }
        }
    };
    let watcher = watcher(look, &[locks, config_dir], linked_dir.as_deref());
    let agent = Arc::clone(agent);
    let task = tokio::spawn(async move {
        while let Some(noticed) = noticed.recv().await {
            if missing.swap(false, Ordering::SeqCst) || matches!(noticed, Noticed::Much) {
                agent.reread_configuration();
                agent.look_for_changes();
            }
            match noticed {
                Noticed::Much => {}
                Noticed::Session(name) => {
                    if let Ok(profile) = agent.profiles.choose(Some(&name)) {
                        agent.forget(&profile);
                    }
                }
                Noticed::Configuration => agent.reread_configuration(),
            }
        }
    });
    Watching { _watcher: watcher, task }
}

/// Watches `dirs`, and `another` one where that can be done.
fn watcher(
    look: impl Fn(notify::Result<Event>) + Clone + Send + 'static,
    dirs: &[PathBuf],
    another: Option<&Path>,
) -> Option<Box<dyn Watcher + Send>> {
    let watch = |mut watcher: Box<dyn Watcher + Send>| {
        let watched = dirs.iter().try_for_each(|dir| watcher.watch(dir, RecursiveMode::NonRecursive));
        if let Some(Err(error)) = another.map(|dir| watcher.watch(dir, RecursiveMode::NonRecursive)) {
            tracing::warn!("changes of the file that the configuration is a link to are not noticed: {error}");
        }
        watched.map(|()| watcher)
    };
    let told = RecommendedWatcher::new(look.clone(), Config::default()).and_then(|watcher| watch(Box::new(watcher)));
    if let Ok(watcher) = told {
        return Some(watcher);
    }
    let config = Config::default().with_poll_interval(LOOK_EVERY);
    let looked = PollWatcher::new(look, config).and_then(|watcher| watch(Box::new(watcher)));
    looked.inspect_err(|error| tracing::warn!("changes by other processes are only told by them: {error}")).ok()
}

impl Agent {
    /// Drops what is kept of each profile whose last change was another's.
    fn look_for_changes(self: &Arc<Self>) {
        for profile in self.profiles.all() {
            if self.sessions.changed_elsewhere(&profile.name) {
                self.forget(&profile);
            }
        }
    }

    /// Reads the configuration again where it has changed, and drops what is kept of profiles that are other ones now.
    pub(super) fn reread_configuration(self: &Arc<Self>) {
        match self.profiles.reload(None) {
            Reloaded::Changed(names) => self.take_over(names),
            Reloaded::HalfWritten(mut seen) => {
                let agent = Arc::clone(self);
                tokio::spawn(async move {
                    loop {
                        agent.clock.sleep(UNTIL_WRITTEN).await;
                        match agent.profiles.reload(Some(seen)) {
                            Reloaded::Changed(names) => return agent.take_over(names),
                            Reloaded::HalfWritten(now) => seen = now,
                        }
                    }
                });
            }
        }
    }

    fn take_over(self: &Arc<Self>, names: Vec<ProfileName>) {
        for name in names {
            match self.profiles.choose(Some(&name)) {
                Ok(profile) => {
                    self.forget(&profile);
                }
                Err(_) => {
                    self.cache.forget_gone(&name);
                }
            }
        }
    }
}
