//! The configuration: named profiles, and which of them is the default. It never holds a secret.

mod directory;
mod edit;
mod error;
mod layers;
mod settings;
#[cfg(test)]
mod tests;
mod token_files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml_edit::DocumentMut;

pub use directory::directory_profile;
pub use edit::{exported, imported, lock, probe, remove, rename, repair, save, save_all, set_default};
pub use error::{ConfigError, LockedSetting};
pub use settings::{
    InvalidSetting, SETTINGS, Section, Setting, UnknownSetting, Value, ValueForm, change_issuer, parse_pair,
    remove_issuer_bound, setting,
};

use crate::fs::regular_file::ReadError;
use crate::model::{ApiUrl, Profile, ProfileName};
use crate::paths::ConfigFiles;
use crate::text::excerpt;
use error::{invalid, nearest, unreadable};
pub use layers::MAX_BYTES;
use layers::{BrokenFile, LayeredProfile, Layers, PROFILES, document, read_text};
pub use token_files::SharedTokenFile;

/// The profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The profile to use if none is named.
    pub default_profile: Option<ProfileName>,
    /// The URL of the client ID metadata document for logins to new APIs.
    pub client_metadata_url: Option<String>,
    /// All valid profiles by name.
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// The others, by their key in the file, each with its file and the reason. Another version of authctl may have written
    /// them.
    invalid: BTreeMap<String, (PathBuf, String)>,
    /// Keys beside them that this version does not know, each with its file.
    ignored: Vec<(PathBuf, String)>,
    /// What the machine-wide files set.
    machine: BTreeMap<String, LayeredProfile>,
    /// Those of their profiles that the user's file changes.
    overridden: BTreeSet<String>,
    /// The machine-wide files that are used, and those that cannot be.
    machine_files: Vec<PathBuf>,
    broken: Vec<BrokenFile>,
}

/// Where the value of a setting comes from, if a machine-wide file sets or locks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineSource<'a> {
    /// The file.
    pub path: &'a Path,
    /// Whether it locks the setting.
    pub is_locked: bool,
}

impl Config {
    /// Reads the configuration; a missing file is an empty one. A machine-wide file that cannot be used is left out, and
    /// [`Config::errors`] has the reason.
    ///
    /// # Errors
    /// [`ConfigError::Io`] or [`ConfigError::Invalid`], if the user's file cannot be used.
    pub fn load(files: &ConfigFiles) -> Result<Self, ConfigError> {
        let text = read(&files.user)?;
        Self::above(Layers::machine_wide(files), &text, &files.user)
    }

    /// Parses the text of a user's file; `path` is for the messages.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::above(Layers::default(), text, path)
    }

    /// Parses the text of the user's file above the machine-wide ones.
    fn above(machine: Layers, text: &str, path: &Path) -> Result<Self, ConfigError> {
        let document = parse_document(text, path)?;
        let mut all = machine.clone();
        all.add(&document, path, false).map_err(|message| invalid(path, &message))?;
        let is_overridden = |name: &&String| all.profiles.get(*name).is_some_and(|profile| profile.file() == path);
        let mut config = Self {
            default_profile: all.default_profile,
            client_metadata_url: all.client_metadata_url,
            invalid: all.invalid,
            ignored: all.ignored,
            overridden: machine.profiles.keys().filter(is_overridden).cloned().collect(),
            machine: machine.profiles,
            machine_files: all.files,
            broken: all.broken,
            ..Self::default()
        };
        let server = Arc::default();
        for (name, layered) in &all.profiles {
            let Ok(valid) = name.parse() else { continue };
            if config.invalid.contains_key(name) {
                continue;
            }
            match layered.profile(&valid, &server) {
                Ok(profile) => drop(config.profiles.insert(valid, profile)),
                Err((path, reason)) => {
                    config.invalid.insert(name.clone(), (path, format!("{PROFILES}.{name}: {reason}")));
                }
            }
        }
        // Which of the two is meant is not known.
        for shared in token_files::shared(&config.profiles) {
            config.profiles.remove(&shared.name);
            let name = shared.name.to_string();
            let source = all.profiles.get(&name).and_then(|layered| layered.source(shared.key));
            let file = source.map_or(path, |(file, _)| file).to_owned();
            config.invalid.entry(name).or_insert((file, format!("{PROFILES}.{}: {shared}", shared.name)));
        }
        Ok(config)
    }

    /// Returns the profile and the setting of the token file at `path`, if there is one.
    #[must_use]
    pub fn token_file_owner(&self, path: &Path) -> Option<(ProfileName, &'static str)> {
        token_files::owner(&self.profiles, path)
    }

    /// Returns the profile of that name.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`]; [`ConfigError::UnknownProfile`], with the nearest name; the error of a machine-wide file that
    /// may have the profile.
    pub fn profile(&self, name: &ProfileName) -> Result<&Profile, ConfigError> {
        self.existing(name)?.ok_or_else(|| match self.broken.first() {
            Some(broken) => broken.error(),
            None => ConfigError::UnknownProfile {
                name: name.clone(),
                nearest: nearest(name.as_str(), self.names()).and_then(|n| n.parse().ok()),
                is_another: self.names().next().is_some(),
            },
        })
    }

    /// Returns the profile of that name, or `None` if there is none.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`]; the error of a machine-wide file that cannot be used and may set or lock something in the
    /// profile.
    pub fn existing(&self, name: &ProfileName) -> Result<Option<&Profile>, ConfigError> {
        if let Some((path, reason)) = self.invalid.get(name.as_str()) {
            return Err(invalid(path, reason));
        }
        match self.broken.iter().find(|file| file.may_concern(name.as_str())) {
            Some(broken) => Err(broken.error()),
            None => Ok(self.profiles.get(name)),
        }
    }

    /// Returns the errors of the invalid profiles, and of the machine-wide files that cannot be used.
    pub fn errors(&self) -> impl Iterator<Item = ConfigError> + '_ {
        let invalid = self.invalid.values().map(|(path, reason)| invalid(path, reason));
        self.machine_errors().chain(invalid)
    }

    /// Returns the errors of the machine-wide files that cannot be used.
    pub fn machine_errors(&self) -> impl Iterator<Item = ConfigError> + '_ {
        self.broken.iter().map(BrokenFile::error)
    }

    /// Returns a warning for each unknown key beside the profiles. Another version of authctl may have written it.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let unknown = |(path, key): &(PathBuf, String)| {
            format!("unknown setting `{}` in {} is ignored", excerpt(key, 40), path.display())
        };
        self.ignored.iter().map(unknown)
    }

    /// Returns the machine-wide files that are used, each with the number of profiles that it configures.
    pub fn machine_files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.machine_files.iter().map(|path| {
            let is_of = |profile: &&LayeredProfile| profile.files().contains(path.as_path());
            (path.as_path(), self.machine.values().filter(is_of).count())
        })
    }

    /// Returns the machine-wide file that gives a setting of the profile its value.
    #[must_use]
    pub fn machine_source(&self, profile: &Profile, setting: &Setting) -> Option<MachineSource<'_>> {
        let machine = self.machine.get(profile.name.as_str())?;
        let (path, is_locked) = machine.source(setting.key)?;
        let is_same = setting.value(&machine.alone(profile)) == setting.value(profile);
        is_same.then_some(MachineSource { path, is_locked })
    }

    /// Returns the machine-wide file that configures the profile.
    #[must_use]
    pub fn machine_file(&self, name: &ProfileName) -> Option<&Path> {
        self.machine.get(name.as_str()).map(LayeredProfile::file)
    }

    /// Returns whether the user's file has a table of the profile.
    #[must_use]
    pub fn is_own(&self, name: &ProfileName) -> bool {
        self.machine_file(name).is_none() || self.overridden.contains(name.as_str())
    }

    /// Checks that the profile has the values that machine-wide files lock.
    ///
    /// # Errors
    /// [`ConfigError::Locked`].
    pub fn check_locks(&self, profile: &Profile) -> Result<(), ConfigError> {
        match self.machine.get(profile.name.as_str()) {
            Some(machine) => Ok(machine.check_locks(profile)?),
            None => Ok(()),
        }
    }

    /// Checks that no token file of the profile is another one too.
    ///
    /// # Errors
    /// [`ConfigError::SharedTokenFile`].
    pub fn check_token_files(&self, profile: &Profile) -> Result<(), ConfigError> {
        let mut all = self.profiles.clone();
        all.insert(profile.name.clone(), profile.clone());
        let own = token_files::shared(&all).into_iter().find(|shared| shared.name == profile.name);
        own.map_or(Ok(()), |shared| Err(ConfigError::SharedTokenFile { shared }))
    }

    /// Checks that the profile can be removed: only one that the user's file has.
    ///
    /// # Errors
    /// [`ConfigError::MachineWide`], and as [`Config::profile`].
    pub fn check_removable(&self, name: &ProfileName) -> Result<(), ConfigError> {
        self.profile(name)?;
        if self.is_own(name) { Ok(()) } else { Err(self.machine_wide("remove", name)) }
    }

    /// Checks that the profile can be renamed: only one that no machine-wide file has.
    ///
    /// # Errors
    /// As [`Config::check_removable`].
    pub fn check_renamable(&self, name: &ProfileName) -> Result<(), ConfigError> {
        self.profile(name)?;
        if self.machine_file(name).is_none() { Ok(()) } else { Err(self.machine_wide("rename", name)) }
    }

    fn machine_wide(&self, verb: &'static str, name: &ProfileName) -> ConfigError {
        let path = self.machine_file(name).unwrap_or(Path::new("")).to_owned();
        ConfigError::MachineWide { verb, name: name.clone(), path }
    }

    /// Replaces each profile that is invalid, or whose machine-wide file cannot be used, with the valid one in `before`, if
    /// there is one.
    pub fn keep_valid(&mut self, before: &Self) {
        let is_broken = !self.broken.is_empty();
        for (name, profile) in &before.profiles {
            let machine = before.machine.get(name.as_str());
            if self.invalid.remove(name.as_str()).is_some() || (is_broken && machine.is_some()) {
                self.profiles.insert(name.clone(), profile.clone());
                if let Some(machine) = machine {
                    self.machine.insert(name.to_string(), machine.clone());
                }
            }
        }
        if is_broken && self.default_profile.is_none() {
            self.default_profile.clone_from(&before.default_profile);
        }
    }

    /// Returns the profiles whose tokens are for `api`: those that cover the most of its URL.
    #[must_use]
    pub fn serving(&self, api: &ApiUrl) -> Vec<&Profile> {
        let coverage = |profile: &Profile| profile.coverage(api);
        let Some(most) = self.profiles.values().filter_map(coverage).max() else { return Vec::new() };
        self.profiles.values().filter(|profile| coverage(profile) == Some(most)).collect()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(ProfileName::as_str).chain(self.invalid.keys().map(String::as_str))
    }

    /// Returns the named profile, else the default, else the only one.
    ///
    /// # Errors
    /// [`ConfigError::UnknownProfile`], [`ConfigError::Ambiguous`], [`ConfigError::Empty`], or the error of a machine-wide file.
    pub fn choose(&self, named: Option<&ProfileName>) -> Result<&Profile, ConfigError> {
        if let Some(name) = named.or(self.default_profile.as_ref()) {
            return self.profile(name);
        }
        // One that cannot be used may name the default.
        if let Some(error) = self.machine_errors().next() {
            return Err(error);
        }
        let mut all = self.profiles.values();
        match (all.next(), all.next(), self.errors().next()) {
            (Some(only), None, None) => Ok(only),
            (None, _, Some(error)) => Err(error),
            (None, _, None) => Err(ConfigError::Empty),
            (Some(first), ..) => Err(ConfigError::Ambiguous {
                names: self.names().map(str::to_owned).collect(),
                first: first.name.clone(),
            }),
        }
    }
}

/// Reads the user's file; empty where there is none.
fn read(path: &Path) -> Result<String, ConfigError> {
    if path == Path::new("/dev/null") {
        return Ok(String::new());
    }
    match read_text(path) {
        Ok(text) => Ok(text),
        Err(ReadError::Missing) => Ok(String::new()),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn parse_document(text: &str, path: &Path) -> Result<DocumentMut, ConfigError> {
    document(text).map_err(|message| invalid(path, &message))
}
