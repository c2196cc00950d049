//! The agent's configuration: read again when a file changes; the last valid one stays in effect while it is invalid.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Config, ConfigError};
use crate::error::Error;
use crate::fs::FileStamp;
use crate::model::{Profile, ProfileName};
use crate::paths::ConfigFiles;

/// The profiles.
pub(super) struct Profiles {
    files: ConfigFiles,
    current: Mutex<Current>,
    /// Whether a task is waiting to see whether a file is still empty.
    empty_file_pending: AtomicBool,
}

struct Current {
    config: Arc<Config>,
    shared: HashMap<ProfileName, Arc<Profile>>,
    stamps: Stamps,
    error: Option<String>,
}

/// The state of each file, `None` of a missing one.
type Stamps = Vec<Option<FileStamp>>;

fn stamps(files: &ConfigFiles) -> Stamps {
    files.all().map(FileStamp::of).collect()
}

/// The state of the files when one was empty or missing.
#[derive(Clone)]
pub(super) struct EmptyFile(Stamps);

/// The result of a reload.
pub(super) enum Reload {
    /// An editor may be writing the file, so it was not read. Try again shortly with this state. Returned to one caller at
    /// a time.
    HalfWritten(EmptyFile),
    /// These profiles were changed, added or removed.
    Changed(Vec<ProfileName>),
}

fn shared(config: &Config) -> HashMap<ProfileName, Arc<Profile>> {
    config.profiles.iter().map(|(name, profile)| (name.clone(), Arc::new(profile.clone()))).collect()
}

impl Profiles {
    /// Reads the configuration.
    ///
    /// # Errors
    /// If the user's file is invalid.
    pub(super) fn load(files: ConfigFiles) -> Result<Self, Error> {
        let stamps = stamps(&files);
        let config = Config::load(&files)?;
        config.warnings().for_each(|warning| tracing::warn!("{warning}"));
        let error = config.errors().next().map(|error| Error::from(error).message());
        let current = Current { shared: shared(&config), config: Arc::new(config), stamps, error };
        Ok(Self { files, current: Mutex::new(current), empty_file_pending: AtomicBool::new(false) })
    }

    /// Returns the paths of the configuration files.
    pub(super) fn files(&self) -> &ConfigFiles {
        &self.files
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the named profile, else the default one, else the only one.
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

    /// Returns all profiles.
    pub(super) fn all(&self) -> Vec<Arc<Profile>> {
        self.current().shared.values().cloned().collect()
    }

    /// Returns the configuration.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.current().config)
    }

    /// Returns why a file cannot be read, if so.
    pub(super) fn error(&self) -> Option<String> {
        self.current().error.clone()
    }

    /// Reads the files again if one has changed. A file that is now empty or missing may be in the middle of being written in
    /// place: this takes effect only if it is still in the state that was `seen` before.
    pub(super) fn reload(&self, seen: Option<EmptyFile>) -> Reload {
        let stamps = stamps(&self.files);
        let is_emptied = {
            let current = self.current();
            if current.stamps == stamps {
                // Also if it was missing for a moment, as a symbolic link is while it is replaced.
                self.empty_file_pending.store(false, Ordering::SeqCst);
                return Reload::Changed(Vec::new());
            }
            let is_empty = |stamp: &Option<FileStamp>| stamp.is_none_or(|stamp| stamp.is_empty());
            current.stamps.iter().zip(&stamps).any(|(before, now)| !is_empty(before) && is_empty(now))
        };
        let still = seen.as_ref().is_some_and(|seen| seen.0 == stamps);
        if is_emptied && !still {
            let others = self.empty_file_pending.swap(true, Ordering::SeqCst) && seen.is_none();
            return if others { Reload::Changed(Vec::new()) } else { Reload::HalfWritten(EmptyFile(stamps)) };
        }
        self.empty_file_pending.store(false, Ordering::SeqCst);
        let loaded = Config::load(&self.files);
        let mut current = self.current();
        current.stamps = stamps;
        let (mut config, error) = match loaded {
            Ok(config) => {
                config.warnings().for_each(|warning| tracing::warn!("{warning}"));
                let error = config.errors().next().map(|error| Error::from(error).message());
                (config, error)
            }
            Err(error) => {
                let failure = Error::from(error);
                tracing::warn!(
                    "the configuration is invalid, the last valid one stays in effect: {}",
                    failure.message()
                );
                current.error = Some(failure.message());
                return Reload::Changed(Vec::new());
            }
        };
        // The last valid version of a profile stays in effect too.
        config.keep_valid(&current.config);
        let other =
            |(name, old): (&ProfileName, &Profile)| (config.profiles.get(name) != Some(old)).then(|| name.clone());
        let mut changed: Vec<ProfileName> = current.config.profiles.iter().filter_map(other).collect();
        changed.extend(config.profiles.keys().filter(|name| !current.config.profiles.contains_key(*name)).cloned());
        let stamps = std::mem::take(&mut current.stamps);
        *current = Current { shared: shared(&config), config: Arc::new(config), stamps, error };
        Reload::Changed(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[profiles.work]\nissuer = \"https://issuer.example\"\nclient_id = \"cli\"\n";

    fn load(file: &std::path::Path) -> Profiles {
        Profiles::load(ConfigFiles { user: file.to_owned(), machine_wide: Vec::new() }).expect("valid")
    }

    fn names(reload: Reload) -> Option<Vec<String>> {
        match reload {
            Reload::HalfWritten(_) => None,
            Reload::Changed(names) => Some(names.iter().map(ToString::to_string).collect()),
        }
    }

    fn seen(reload: Reload) -> EmptyFile {
        match reload {
            Reload::HalfWritten(seen) => seen,
            Reload::Changed(names) => panic!("{names:?} are changed"),
        }
    }

    #[test]
    fn link_that_is_replaced_twice_is_found_each_time() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (real, file) = (dir.path().join("real.toml"), dir.path().join("config.toml"));
        std::fs::write(&real, ONE).expect("written");
        let link = || std::os::unix::fs::symlink(&real, &file).expect("linked");
        link();
        let profiles = load(&file);
        std::fs::remove_file(&file).expect("removed");
        let away = seen(profiles.reload(None));
        link();
        assert_eq!(names(profiles.reload(Some(away))), Some(Vec::new()), "it is the same file");
        std::fs::remove_file(&file).expect("removed");
        let away = seen(profiles.reload(None));
        assert_eq!(names(profiles.reload(Some(away))), Some(vec!["work".to_owned()]));
    }

    #[test]
    fn file_that_is_being_written_in_place_is_not_read_empty() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, ONE).expect("written");
        let profiles = load(&file);
        std::fs::write(&file, "").expect("emptied");
        let emptied = seen(profiles.reload(None));
        assert_eq!(names(profiles.reload(None)), Some(Vec::new()), "one task waits");
        assert!(profiles.choose(None).is_ok(), "the last valid one is in effect");
        std::fs::write(&file, ONE.replace("work", "home")).expect("written");
        assert_eq!(names(profiles.reload(None)).map(|names| names.len()), Some(2));
        // A file that stays empty takes effect.
        std::fs::remove_file(&file).expect("removed");
        // Not the state seen before: another editor may be writing.
        let gone = seen(profiles.reload(Some(emptied)));
        assert!(profiles.choose(None).is_ok());
        assert_eq!(names(profiles.reload(Some(gone))), Some(vec!["home".to_owned()]));
        assert!(profiles.choose(None).is_err());
        // Without profiles before, there is nothing to wait for.
        std::fs::write(&file, "").expect("emptied");
        assert_eq!(names(profiles.reload(None)), Some(Vec::new()));
    }
}
