//! What the configuration files set, each over the ones below it: the machine-wide files first, then the user's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml_edit::{DocumentMut, Item, TableLike};

use super::error::{ConfigError, LockedSetting, invalid, is_misspelled, unreadable};
use super::settings::{SETTINGS, Section, Setting, UnknownSetting, setting};
use crate::fs::regular_file::{self, ReadError};
use crate::model::{InvalidProfileName, IssuerUrl, Profile, ProfileName, Server, client_metadata_url};
use crate::paths::ConfigFiles;

/// The keys of the file itself.
pub(super) const DEFAULT_PROFILE: &str = "default_profile";
pub(super) const PROFILES: &str = "profiles";
const CLIENT_METADATA_URL: &str = "client_metadata_url";
const KEYS: [&str; 3] = [DEFAULT_PROFILE, CLIENT_METADATA_URL, PROFILES];

/// The key of the locked settings of a profile.
const LOCKED: &str = "locked";

/// A larger file is rejected: it was not written for authctl.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// A machine-wide file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrokenFile {
    path: PathBuf,
    defect: Defect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Defect {
    Unreadable(ReadError),
    Invalid { text: String, message: String },
}

impl BrokenFile {
    /// Returns the error of the file.
    pub(super) fn error(&self) -> ConfigError {
        match &self.defect {
            Defect::Unreadable(error) => unreadable(&self.path, error.clone()),
            Defect::Invalid { message, .. } => invalid(&self.path, message),
        }
    }

    /// Returns whether the file may set or lock something in this profile. One that cannot be read, or that another user may
    /// have written, may do so in any.
    pub(super) fn may_concern(&self, name: &str) -> bool {
        match &self.defect {
            Defect::Unreadable(_) => true,
            Defect::Invalid { text, .. } => text.contains(name),
        }
    }
}

/// The settings of one profile, from the files read so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LayeredProfile {
    settings: BTreeMap<&'static str, (Vec<String>, Arc<Path>)>,
    locked: BTreeMap<&'static str, Arc<Path>>,
    /// The last file with a table of this profile.
    file: PathBuf,
}

impl LayeredProfile {
    /// Returns the last file with a table of this profile.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the file that sets or locks this setting, and whether it locks it.
    pub(super) fn source(&self, key: &str) -> Option<(&Path, bool)> {
        let locked = self.locked.get(key).map(|path| (&**path, true));
        locked.or_else(|| self.settings.get(key).map(|(_, path)| (&**path, false)))
    }

    /// Returns the files that set or lock something.
    pub(super) fn files(&self) -> BTreeSet<&Path> {
        self.settings.values().map(|(_, path)| &**path).chain(self.locked.values().map(|path| &**path)).collect()
    }

    /// Returns whether a file sets this setting.
    pub(super) fn sets(&self, key: &str) -> bool {
        self.settings.contains_key(key)
    }

    /// Returns the profile that has only these settings, with another's name, and its issuer unless one is set.
    pub(super) fn alone(&self, other: &Profile) -> Profile {
        let mut profile = Profile::new(other.name.clone(), self.issuer().unwrap_or_else(|| other.issuer.clone()));
        for (setting, items, _) in self.given() {
            // An invalid value is an error of the profile.
            let _ = setting.set(&mut profile, items);
        }
        profile
    }

    /// Checks that a profile has the locked values.
    ///
    /// # Errors
    /// [`LockedSetting`], the first that has another one.
    pub(super) fn check_locks(&self, profile: &Profile) -> Result<(), LockedSetting> {
        if self.locked.is_empty() {
            return Ok(());
        }
        let locked = self.alone(profile);
        for setting in SETTINGS {
            let value = setting.value(&locked);
            if let Some(path) = self.locked.get(setting.key).filter(|_| value != setting.value(profile)) {
                return Err(LockedSetting { key: setting.key, value: value.to_text(), path: path.to_path_buf() });
            }
        }
        Ok(())
    }

    fn given(&self) -> impl Iterator<Item = (&'static Setting, &[String], &Path)> {
        SETTINGS.iter().filter_map(|setting| {
            let (items, path) = self.settings.get(setting.key)?;
            Some((setting, items.as_slice(), &**path))
        })
    }

    fn issuer(&self) -> Option<IssuerUrl> {
        IssuerUrl::parse(self.settings.get("issuer")?.0.first()?).ok()
    }

    /// Adds the settings of a file above those before.
    fn add(&mut self, table: &dyn TableLike, path: &Arc<Path>, is_machine_wide: bool) -> Result<(), String> {
        self.file = path.to_path_buf();
        let (mut given, mut locked) = (Vec::new(), Vec::new());
        for (key, item) in table.iter() {
            if key == LOCKED && is_machine_wide {
                let keys = strings(item).ok_or_else(|| format!("{key}: expected a list of settings"))?;
                for locked_key in keys {
                    locked.push(setting(&locked_key).map_err(|e| format!("{key}: {e}"))?.key);
                }
                continue;
            }
            if key == LOCKED {
                return Err(format!("`{key}` is accepted only in a machine-wide configuration"));
            }
            let setting = setting(key).map_err(|e| e.to_string())?;
            if setting.section == Section::Hooks && is_machine_wide {
                return Err(format!("`{key}` is accepted only in the user's own configuration"));
            }
            given.push((setting, item));
        }
        for (setting, item) in given {
            let items = items_of(setting, item).map_err(|reason| format!("{}: {reason}", setting.key))?;
            self.settings.insert(setting.key, (items, Arc::clone(path)));
        }
        for key in locked {
            self.locked.entry(key).or_insert_with(|| Arc::clone(path));
        }
        Ok(())
    }

    /// Removes what belongs to the issuer of the files below, if this file names one at another origin.
    fn drop_issuer_bound(&mut self, before: Option<IssuerUrl>, path: &Path) {
        let (Some(before), Some(now)) = (before, self.issuer()) else { return };
        if before.url().origin() != now.url().origin() {
            let is_bound = |key: &str| setting(key).is_ok_and(|setting| setting.issuer_bound);
            self.settings.retain(|key, (_, from)| **from == *path || !is_bound(key));
        }
    }

    /// Returns the profile with all settings.
    ///
    /// # Errors
    /// The file with the invalid value, and the reason.
    pub(super) fn profile(&self, name: &ProfileName, server: &Arc<Server>) -> Result<Profile, (PathBuf, String)> {
        let missing = |key: &str| (self.file.clone(), format!("missing setting `{key}`"));
        let (issuer, path) = self.settings.get("issuer").ok_or_else(|| missing("issuer"))?;
        let issuer = IssuerUrl::parse(issuer.first().map_or("", String::as_str));
        let issuer = issuer.map_err(|e| (path.to_path_buf(), format!("issuer: {e}")))?;
        if !self.sets("client_id") {
            return Err(missing("client_id"));
        }
        let mut profile = Profile::new(name.clone(), issuer);
        profile.server = Arc::clone(server);
        for (setting, items, path) in self.given() {
            let set = setting.set(&mut profile, items);
            set.map_err(|e| (path.to_path_buf(), format!("{}: {}", e.key, e.reason)))?;
        }
        Ok(profile)
    }
}

/// The files read so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    pub(super) default_profile: Option<ProfileName>,
    pub(super) client_metadata_url: Option<String>,
    pub(super) profiles: BTreeMap<String, LayeredProfile>,
    /// The invalid profiles, each with the file and the reason.
    pub(super) invalid: BTreeMap<String, (PathBuf, String)>,
    /// Keys beside the profiles that this version does not know, each with its file.
    pub(super) ignored: Vec<(PathBuf, String)>,
    /// The machine-wide files that are used, and those that cannot be.
    pub(super) files: Vec<PathBuf>,
    pub(super) broken: Vec<BrokenFile>,
}

impl Layers {
    /// Reads the machine-wide files, the lowest first. One that cannot be used is left out.
    pub(super) fn machine_wide(files: &ConfigFiles) -> Self {
        let mut layers = Self::default();
        for path in files.machine_wide.iter().rev() {
            let defect = match read_text(path) {
                Err(ReadError::Missing) => continue,
                Err(error) => Defect::Unreadable(error),
                Ok(text) => {
                    let mut with_file = layers.clone();
                    match document(&text).and_then(|document| with_file.add(&document, path, true)) {
                        Ok(()) => {
                            with_file.files.push(path.clone());
                            layers = with_file;
                            continue;
                        }
                        Err(message) => Defect::Invalid { text, message },
                    }
                }
            };
            layers.broken.push(BrokenFile { path: path.clone(), defect });
        }
        layers
    }

    /// Adds a file above those before. What is wrong with one profile concerns no other.
    ///
    /// # Errors
    /// The reason why the whole file is invalid.
    pub(super) fn add(&mut self, document: &DocumentMut, path: &Path, is_machine_wide: bool) -> Result<(), String> {
        let path: Arc<Path> = path.into();
        for (key, item) in document.iter() {
            match key {
                DEFAULT_PROFILE => {
                    let name = item.as_str().ok_or_else(|| format!("{key}: expected a string"))?;
                    self.default_profile = Some(name.parse().map_err(|e| format!("{key}: {e}"))?);
                }
                PROFILES => {
                    for (name, item) in item.as_table_like().ok_or_else(|| expected_a_table(key))?.iter() {
                        if let Err(e) = self.add_profile(name, item, &path, is_machine_wide) {
                            let error = || (path.to_path_buf(), format!("{key}.{name}: {e}"));
                            self.invalid.entry(name.to_owned()).or_insert_with(error);
                        }
                    }
                }
                CLIENT_METADATA_URL => {
                    let url = item.as_str().ok_or_else(|| format!("{key}: expected a string"))?;
                    client_metadata_url(url).map_err(|e| format!("{key}: {e}"))?;
                    self.client_metadata_url = Some(url.to_owned());
                }
                _ if is_misspelled(key, KEYS.into_iter()) => {
                    return Err(UnknownSetting::among(key, KEYS.into_iter()).to_string());
                }
                _ => {
                    if let Some(requirement) = requirement_in(key, item) {
                        let place = if requirement == key { String::new() } else { format!("{key}: ") };
                        return Err(format!(
                            "{place}`{requirement}` is a setting of a profile and would be ignored here"
                        ));
                    }
                    self.ignored.push((path.to_path_buf(), key.to_owned()));
                }
            }
        }
        Ok(())
    }

    fn add_profile(&mut self, name: &str, item: &Item, path: &Arc<Path>, is_machine_wide: bool) -> Result<(), String> {
        let table = item.as_table_like().ok_or_else(|| "expected a table".to_owned())?;
        let valid: ProfileName = name.parse().map_err(|e: InvalidProfileName| e.to_string())?;
        let profile = self.profiles.entry(name.to_owned()).or_default();
        let below = profile.clone();
        profile.add(table, path, is_machine_wide)?;
        profile.drop_issuer_bound(below.issuer(), path);
        // A partial profile without an issuer is compared too.
        if let Some(issuer) = profile.issuer().or_else(|| IssuerUrl::parse("https://localhost").ok()) {
            let merged = profile.alone(&Profile::new(valid, issuer));
            below.check_locks(&merged).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// Returns the token requirement or proxy rule that an unknown key is or contains: without it, a token or a request would be
/// accepted that should not be.
fn requirement_in(key: &str, item: &Item) -> Option<String> {
    let restricts = |setting: &&Setting| matches!(setting.section, Section::Requirements | Section::Proxy);
    let requirements = SETTINGS.iter().filter(restricts);
    if is_misspelled(key, requirements.map(|setting| setting.key)) {
        return Some(key.to_owned());
    }
    item.as_table_like()?.iter().find_map(|(key, item)| requirement_in(key, item))
}

/// Returns the items of a list, or a text as the one item.
fn items_of(setting: &Setting, item: &Item) -> Result<Vec<String>, String> {
    if setting.is_list() {
        strings(item).ok_or_else(|| "expected a list of strings".to_owned())
    } else {
        let text = item.as_str().ok_or_else(|| "expected a string".to_owned())?;
        Ok(if text.is_empty() { Vec::new() } else { vec![text.to_owned()] })
    }
}

fn strings(item: &Item) -> Option<Vec<String>> {
    item.as_array()?.iter().map(|value| value.as_str().map(str::to_owned)).collect()
}

fn expected_a_table(key: &str) -> String {
    format!("{key}: expected a table")
}

/// Reads the text of a file.
pub(super) fn read_text(path: &Path) -> Result<String, ReadError> {
    let bytes = regular_file::read_trusted(path, MAX_BYTES)?;
    String::from_utf8(bytes.expose().to_vec()).map_err(|_| ReadError::Unreadable("it is not UTF-8".to_owned()))
}

/// Parses the text of a file.
///
/// # Errors
/// Where it is not TOML, and what was expected. Without the line itself: an error that is copied into a report must not quote
/// what the user wrote there.
pub(super) fn document(text: &str) -> Result<DocumentMut, String> {
    text.parse().map_err(|e: toml_edit::TomlError| {
        let whole = e.to_string();
        let place = whole.lines().next().unwrap_or_default().trim_start_matches("TOML parse error at ");
        format!("{place}: {}", e.message())
    })
}
