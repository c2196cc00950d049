//! The configuration file: named profiles, and which of them is the default. It never holds a secret.

mod directory;
mod edit;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml_edit::{DocumentMut, Item, TableLike};

pub use directory::directory_profile;
pub use edit::{lock, probe, remove, rename, save, set_default};
pub use settings::{
    Form, InvalidSetting, SETTINGS, Section, Setting, UnknownSetting, Value, change_issuer, parse_pair,
    remove_issuer_bound, setting,
};

use crate::fs::regular_file::{self, ReadError, UntrustedFile};
use crate::model::{IssuerUrl, Profile, ProfileName, Server};
use crate::text::excerpt;

/// An error in the configuration, or in the choice of a profile.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("cannot use the configuration {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not TOML, or a key or a value is invalid.
    #[error("invalid configuration {}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        message: String,
    },
    /// Another user may have written the file.
    #[error("cannot use the configuration: {0}")]
    Untrusted(#[from] UntrustedFile),
    /// A directory's `.authctl.toml` does not name a profile, or cannot be read.
    #[error("cannot use {}: {reason}", path.display())]
    Directory {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// No profile has this name.
    #[error("unknown profile `{name}`{}", did_you_mean(nearest.as_ref()))]
    UnknownProfile {
        /// The name.
        name: ProfileName,
        /// The most similar known name.
        nearest: Option<ProfileName>,
        /// Whether there is another profile.
        is_another: bool,
    },
    /// No profile was named, none is the default, and there are several.
    #[error("no profile named and no default set; profiles: {}", names.join(", "))]
    Ambiguous {
        /// All of them.
        names: Vec<String>,
        /// One that is valid.
        first: ProfileName,
    },
    /// There is no profile at all.
    #[error("no profile configured")]
    Empty,
    /// A profile has this name already.
    #[error("profile `{0}` already exists")]
    Exists(ProfileName),
}

/// The profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The profile to use if none is named.
    pub default_profile: Option<ProfileName>,
    /// All valid profiles by name.
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// The others, by their key in the file, each with the reason. Another version of authctl may have written them.
    invalid: BTreeMap<String, String>,
    /// Keys beside them that this version does not know.
    ignored: Vec<String>,
    path: PathBuf,
}

/// The keys of the file itself.
const DEFAULT_PROFILE: &str = "default_profile";
const PROFILES: &str = "profiles";

/// How many letters of a misspelled key may be wrong.
const MAX_TYPOS: usize = 2;

/// A larger file is rejected: it was not written for authctl.
const MAX_BYTES: u64 = 1024 * 1024;

impl Config {
    /// Reads the configuration; a missing file is an empty one.
    ///
    /// # Errors
    /// [`ConfigError::Io`] or [`ConfigError::Invalid`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, path)
    }

    /// Parses the configuration's text; `path` is for the messages.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::from_document(&document(text, path)?, path).map_err(|message| invalid(path, &message))
    }

    fn from_document(document: &DocumentMut, path: &Path) -> Result<Self, String> {
        let mut config = Self { path: path.to_owned(), ..Self::default() };
        let server = Arc::default();
        for (key, item) in document.iter() {
            match key {
                DEFAULT_PROFILE => {
                    let name = item.as_str().ok_or_else(|| format!("{key}: expected a string"))?;
                    config.default_profile = Some(name.parse().map_err(|e| format!("{key}: {e}"))?);
                }
                PROFILES => {
                    for (name, item) in item.as_table_like().ok_or_else(|| expected_a_table(key))?.iter() {
                        let table = item.as_table_like().ok_or_else(|| "expected a table".to_owned());
                        match table.and_then(|table| read_profile(name, table, &server)) {
                            Ok(profile) => drop(config.profiles.insert(profile.name.clone(), profile)),
                            Err(e) => drop(config.invalid.insert(name.to_owned(), format!("{key}.{name}: {e}"))),
                        }
                    }
                }
                _ if is_misspelled(key, [DEFAULT_PROFILE, PROFILES].into_iter()) => {
                    return Err(UnknownSetting::among(key, [DEFAULT_PROFILE, PROFILES].into_iter()).to_string());
                }
                _ => {
                    if let Some(requirement) = requirement_in(key, item) {
                        return Err(format!(
                            "{key}: `{requirement}` is a setting of a profile and would be ignored here"
                        ));
                    }
                    config.ignored.push(key.to_owned());
                }
            }
        }
        Ok(config)
    }

    /// Returns the profile of that name.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`]; [`ConfigError::UnknownProfile`], with the nearest name.
    pub fn profile(&self, name: &ProfileName) -> Result<&Profile, ConfigError> {
        self.existing(name)?.ok_or_else(|| ConfigError::UnknownProfile {
            name: name.clone(),
            nearest: nearest(name.as_str(), self.names()).and_then(|n| n.parse().ok()),
            is_another: self.names().next().is_some(),
        })
    }

    /// Returns the profile of that name, or `None` if there is none.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn existing(&self, name: &ProfileName) -> Result<Option<&Profile>, ConfigError> {
        match self.invalid.get(name.as_str()) {
            Some(reason) => Err(invalid(&self.path, reason)),
            None => Ok(self.profiles.get(name)),
        }
    }

    /// Returns the errors of the invalid profiles.
    pub fn errors(&self) -> impl Iterator<Item = ConfigError> + '_ {
        self.invalid.values().map(|reason| invalid(&self.path, reason))
    }

    /// Returns a warning for each unknown key beside the profiles. Another version of authctl may have written it.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let path = self.path.display();
        self.ignored.iter().map(move |key| format!("unknown setting `{}` in {path} is ignored", excerpt(key, 40)))
    }

    /// Replaces each invalid profile with the valid one in `before`, if there is one.
    pub fn keep_valid(&mut self, before: &Self) {
        for (name, profile) in &before.profiles {
            if self.invalid.remove(name.as_str()).is_some() {
                self.profiles.insert(name.clone(), profile.clone());
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(ProfileName::as_str).chain(self.invalid.keys().map(String::as_str))
    }

    /// Returns the named profile, else the default, else the only one.
    ///
    /// # Errors
    /// [`ConfigError::UnknownProfile`], [`ConfigError::Ambiguous`] or [`ConfigError::Empty`].
    pub fn choose(&self, named: Option<&ProfileName>) -> Result<&Profile, ConfigError> {
        if let Some(name) = named.or(self.default_profile.as_ref()) {
            return self.profile(name);
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

/// Returns whether `key` is almost one of `known`: the user meant that one, and without it another account may be used, or a
/// token accepted that should not be.
fn is_misspelled<'a>(key: &str, mut known: impl Iterator<Item = &'a str>) -> bool {
    known.any(|known| strsim::damerau_levenshtein(key, known) <= MAX_TYPOS)
}

/// Returns the token requirement that an unknown key is or contains: without it, a token would be accepted that should not be.
fn requirement_in(key: &str, item: &Item) -> Option<String> {
    let requirements = SETTINGS.iter().filter(|setting| setting.section == Section::Requirements);
    if is_misspelled(key, requirements.map(|setting| setting.key)) {
        return Some(key.to_owned());
    }
    item.as_table_like()?.iter().find_map(|(key, item)| requirement_in(key, item))
}

fn read_profile(name: &str, table: &dyn TableLike, server: &Arc<Server>) -> Result<Profile, String> {
    let name: ProfileName = name.parse().map_err(|e: crate::model::InvalidProfileName| e.to_string())?;
    let settings = table.iter().map(|(key, item)| Ok((setting(key)?, item)));
    let settings = settings.collect::<Result<Vec<_>, UnknownSetting>>().map_err(|e| e.to_string())?;
    let text = |key: &str| table.get(key).ok_or_else(|| format!("missing setting `{key}`"));
    let issuer = text("issuer")?.as_str().ok_or("issuer: expected a string")?;
    let mut profile = Profile::new(name, IssuerUrl::parse(issuer).map_err(|e| format!("issuer: {e}"))?);
    text("client_id")?;
    profile.server = Arc::clone(server);
    for (setting, item) in settings {
        let items = items_of(setting, item).map_err(|reason| format!("{}: {reason}", setting.key))?;
        setting.set(&mut profile, &items).map_err(|e| format!("{}: {}", e.key, e.reason))?;
    }
    Ok(profile)
}

/// Returns the items of a list, or a text as the one item.
fn items_of(setting: &Setting, item: &Item) -> Result<Vec<String>, String> {
    if setting.is_list() {
        let list = item.as_array().and_then(|list| list.iter().map(|v| v.as_str().map(str::to_owned)).collect());
        list.ok_or_else(|| "expected a list of strings".to_owned())
    } else {
        let text = item.as_str().ok_or_else(|| "expected a string".to_owned())?;
        Ok(if text.is_empty() { Vec::new() } else { vec![text.to_owned()] })
    }
}

fn expected_a_table(key: &str) -> String {
    format!("{key}: expected a table")
}

/// Reads the file; empty where there is none.
fn read(path: &Path) -> Result<String, ConfigError> {
    if path == Path::new("/dev/null") {
        return Ok(String::new());
    }
    let unreadable = |reason: String| ConfigError::Io { path: path.to_owned(), source: io::Error::other(reason) };
    match regular_file::read_trusted(path, MAX_BYTES) {
        Ok(bytes) => String::from_utf8(bytes.expose().to_vec()).map_err(|_| unreadable("it is not UTF-8".to_owned())),
        Err(ReadError::Missing) => Ok(String::new()),
        Err(ReadError::Untrusted(error)) => Err(error.into()),
        Err(ReadError::Unreadable(reason)) => Err(unreadable(reason)),
    }
}

fn document(text: &str, path: &Path) -> Result<DocumentMut, ConfigError> {
    text.parse().map_err(|e: toml_edit::TomlError| {
        // Without the line itself: an error that is copied into a report must not quote what the user wrote there.
        let whole = e.to_string();
        let place = whole.lines().next().unwrap_or_default().trim_start_matches("TOML parse error at ");
        invalid(path, &format!("{place}: {}", e.message()))
    })
}

fn invalid(path: &Path, message: &str) -> ConfigError {
    ConfigError::Invalid { path: path.to_owned(), message: message.to_owned() }
}

/// Returns a "did you mean" for the end of a message; empty if no known word is similar.
fn did_you_mean(nearest: Option<&impl std::fmt::Display>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

/// Returns the known word most similar to `word`, if any is similar.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
