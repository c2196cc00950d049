//! The configuration as the agent sees it: read again when it changes, and the last good one kept where it cannot be.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Config, ConfigError};
use crate::error::Error;
use crate::model::{Profile, ProfileName};

/// The profiles.
pub(super) struct Profiles {
    file: PathBuf,
    now: Mutex<Current>,
    /// Whether somebody will look again whether the file is still empty.
    awaited: AtomicBool,
}

struct Current {
    config: Arc<Config>,
    shared: HashMap<ProfileName, Arc<Profile>>,
    stamp: Option<Stamp>,
    error: Option<String>,
}

/// The configuration file as it was when it was empty, or not there.
#[derive(Clone, Copy)]
pub(super) struct Seen(Option<Stamp>);

/// What came of reading the configuration again.
pub(super) enum Reloaded {
    /// It may be in the middle of being written over, and was not read: look in a while whether it is as [`Seen`]. Said to
    /// one at a time.
    HalfWritten(Seen),
    /// These profiles are other ones now, or gone.
    Changed(Vec<ProfileName>),
}

/// What changes when the file does: it is written under another name and moved into place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let about: Metadata = std::fs::metadata(path).ok()?;
        Some(Self { inode: about.ino(), length: about.len(), changed: (about.ctime(), about.ctime_nsec()) })
    }
}

fn shared(config: &Config) -> HashMap<ProfileName, Arc<Profile>> {
    config.profiles.iter().map(|(name, profile)| (name.clone(), Arc::new(profile.clone()))).collect()
}

impl Profiles {
    /// Reads the configuration at `file`.
    ///
    /// # Errors
    /// Where it is not valid.
    pub(super) fn load(file: &Path) -> Result<Self, Error> {
        let stamp = Stamp::of(file);
        let config = Config::load(file)?;
        let now = Current { shared: shared(&config), config: Arc::new(config), stamp, error: None };
        Ok(Self { file: file.to_owned(), now: Mutex::new(now), awaited: AtomicBool::new(false) })
    }

    /// The configuration file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The profile meant: the one named, else the default, else the only one.
    ///
    /// # Errors
    /// As [`Config::choose`].
    pub(super) fn choose(&self, named: Option<&ProfileName>) -> Result<Arc<Profile>, ConfigError> {
        let current = self.current();
        if let Some(profile) =
            named.or(current.config.default_profile.as_ref()).and_then(|name| current.shared.get(name))
        {
            return Ok(Arc::clone(profile));
        }
        current.config.choose(named).map(|profile| Arc::new(profile.clone()))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Profile>> {
        self.current().shared.values().cloned().collect()
    }

    /// The whole configuration.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.current().config)
    }

    /// What is wrong with the file since it was last read whole.
    pub(super) fn error(&self) -> Option<String> {
        self.current().error.clone()
    }

    /// Reads the file again if it has changed. One that is empty, or not there, may be in the middle of being written over
    /// in place, and counts only where it is as it was `seen` before.
    pub(super) fn reload(&self, seen: Option<Seen>) -> Reloaded {
        let stamp = Stamp::of(&self.file);
        let had_any = {
            let current = self.current();
            if current.stamp == stamp {
                // Also where it was away for a moment, as a link is that is made anew.
                self.awaited.store(false, Ordering::SeqCst);
                return Reloaded::Changed(Vec::new());
            }
            !current.config.profiles.is_empty()
        };
        let still = seen.is_some_and(|seen| seen.0 == stamp);
        if had_any && !still && stamp.is_none_or(|stamp| stamp.length == 0) {
            let others = self.awaited.swap(true, Ordering::SeqCst) && seen.is_none();
            return if others { Reloaded::Changed(Vec::new()) } else { Reloaded::HalfWritten(Seen(stamp)) };
        }
        self.awaited.store(false, Ordering::SeqCst);
        let loaded = Config::load(&self.file);
        let mut current = self.current();
        current.stamp = stamp;
        let config = match loaded {
            Ok(config) => config,
            Err(error) => {
                let failure = Error::from(error);
                tracing::warn!("the configuration is not read again: {}", failure.message());
                current.error = Some(failure.message());
                return Reloaded::Changed(Vec::new());
            }
        };
        let other =
            |(name, old): (&ProfileName, &Profile)| (config.profiles.get(name) != Some(old)).then(|| name.clone());
        let mut changed: Vec<ProfileName> = current.config.profiles.iter().filter_map(other).collect();
        changed.extend(config.profiles.keys().filter(|name| !current.config.profiles.contains_key(*name)).cloned());
        *current = Current { shared: shared(&config), config: Arc::new(config), stamp, error: None };
        Reloaded::Changed(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[profiles.work]\nissuer = \"https://issuer.example\"\nclient_id = \"cli\"\n";

    fn names(reloaded: Reloaded) -> Option<Vec<String>> {
        match reloaded {
            Reloaded::HalfWritten(_) => None,
            Reloaded::Changed(names) => Some(names.iter().map(ToString::to_string).collect()),
        }
    }

    fn seen(reloaded: Reloaded) -> Seen {
        match reloaded {
            Reloaded::HalfWritten(seen) => seen,
            Reloaded::Changed(names) => panic!("{names:?} are changed"),
        }
    }

    #[test]
    fn a_link_that_was_away_for_a_moment_is_looked_for_the_next_time_too() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (real, file) = (dir.path().join("real.toml"), dir.path().join("config.toml"));
        std::fs::write(&real, ONE).expect("written");
        let link = || std::os::unix::fs::symlink(&real, &file).expect("linked");
        link();
        let profiles = Profiles::load(&file).expect("valid");
        std::fs::remove_file(&file).expect("removed");
        let away = seen(profiles.reload(None));
        link();
        assert_eq!(names(profiles.reload(Some(away))), Some(Vec::new()), "it is the same file");
        std::fs::remove_file(&file).expect("removed");
        let away = seen(profiles.reload(None));
        assert_eq!(names(profiles.reload(Some(away))), Some(vec!["work".to_owned()]));
    }

    #[test]
    fn a_file_that_is_being_written_over_is_not_read_empty() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, ONE).expect("written");
        let profiles = Profiles::load(&file).expect("valid");
        std::fs::write(&file, "").expect("emptied");
        let emptied = seen(profiles.reload(None));
        assert_eq!(names(profiles.reload(None)), Some(Vec::new()), "one look later is enough");
        assert!(profiles.choose(None).is_ok(), "the last good one counts");
        std::fs::write(&file, ONE.replace("work", "home")).expect("written");
        assert_eq!(names(profiles.reload(None)).map(|names| names.len()), Some(2));
        // What stays empty is meant.
        std::fs::remove_file(&file).expect("removed");
        // Not what was seen before: it may be another that writes.
        let gone = seen(profiles.reload(Some(emptied)));
        assert!(profiles.choose(None).is_ok());
        assert_eq!(names(profiles.reload(Some(gone))), Some(vec!["home".to_owned()]));
        assert!(profiles.choose(None).is_err());
        // From nothing to nothing there is nothing to wait for.
        std::fs::write(&file, "").expect("emptied");
        assert_eq!(names(profiles.reload(None)), Some(Vec::new()));
    }
}
