//! Changes to the configuration file, which preserve its comments and order and are atomic.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use super::error::{ConfigError, invalid};
use super::layers::{DEFAULT_PROFILE, LayeredProfile, Layers, PROFILES};
use super::settings::{self, SETTINGS, Section, Setting};
use super::{Config, parse_document, read};
use crate::clock::Clock;
use crate::fs::{AtomicFile, FileLock, LockError, LockFile, create_private_dir, link_target};
use crate::model::{Hooks, Profile, ProfileName};
use crate::paths::ConfigFiles;
use crate::text::excerpt;

/// Waits for the configuration lock for at most `limit`: one process at a time changes the user's file.
///
/// The lock file is beside that file, since the directory `data` can be another one for another process. It is in `data` if
/// none can be created or locked there.
///
/// # Errors
/// [`LockError`].
pub async fn lock(files: &ConfigFiles, data: &Path, clock: &dyn Clock, limit: Duration) -> Result<FileLock, LockError> {
    match LockFile::lock(link_target(&files.user).with_file_name("authctl-config.lock"), clock, limit).await {
        Err(LockError::Io { .. } | LockError::Unsupported { .. }) => {
            LockFile::lock(data.join("config.lock"), clock, limit).await
        }
        locked => locked,
    }
}

/// Writes into the user's file what `profile` has other than the machine-wide files, creating both if necessary; the first
/// profile becomes the default.
///
/// The caller holds the configuration lock.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn save(files: &ConfigFiles, profile: &Profile) -> Result<(), ConfigError> {
    save_all(files, std::slice::from_ref(profile))
}

/// Does the same with several profiles at once, of which none becomes the default.
///
/// # Errors
/// As [`save`].
pub fn save_all(files: &ConfigFiles, profiles: &[Profile]) -> Result<(), ConfigError> {
    change(files, |document, before| {
        for profile in profiles {
            before.existing(&profile.name)?;
            before.check_locks(profile)?;
            before.check_token_files(profile)?;
            let machine = before.machine.get(profile.name.as_str());
            let table = profile_table(document, &profile.name);
            fill(table, profile, machine);
            if machine.is_some() && table.is_empty() {
                remove_profile(document, &profile.name);
            }
        }
        if let [profile] = profiles
            && before.profiles.is_empty()
            && before.default_profile.is_none()
        {
            document[DEFAULT_PROFILE] = value(profile.name.as_str());
        }
        Ok(())
    })
}

/// Gives settings of an invalid profile of the user's file the values that these texts are, which makes it valid.
///
/// The caller holds the configuration lock.
///
/// # Errors
/// [`ConfigError`] if the profile is still invalid, or has no table in the file; the file is then unchanged.
pub fn repair(
    files: &ConfigFiles,
    name: &ProfileName,
    settings: &[(&Setting, Vec<String>)],
) -> Result<(), ConfigError> {
    let path = files.user.as_path();
    let (text, machine) = (read(path)?, Layers::machine_wide(files));
    let mut document = parse_document(&text, path)?;
    let profiles = document.get(PROFILES).and_then(Item::as_table_like);
    if !profiles.is_some_and(|profiles| profiles.get(name.as_str()).is_some_and(Item::is_table_like)) {
        Config::above(machine, &text, path)?.existing(name)?;
        return Ok(());
    }
    let table = profile_table(&mut document, name);
    for (setting, items) in settings {
        match (setting.is_list(), items.as_slice()) {
            (_, []) if setting.removable => drop(table.remove(setting.key)),
            (true, items) => put(table, setting.key, items.iter().map(String::as_str).collect::<Array>().into()),
            (false, items) => put(table, setting.key, items.join(" ").into()),
        }
    }
    let changed = document.to_string();
    Config::above(machine, &changed, path)?.profile(name)?;
    let target = link_target(path);
    replace(&target, &changed).map_err(|source| unwritable(path, &target, source))
}

/// Returns the text of a configuration that has this profile, without its hooks and token files, and nothing else.
#[must_use]
pub fn exported(profile: &Profile) -> String {
    let mut document = DocumentMut::new();
    let profile = Profile { hooks: Hooks::default(), token_file: None, id_token_file: None, ..profile.clone() };
    fill(profile_table(&mut document, &profile.name), &profile, None);
    document.to_string()
}

/// Returns the profiles in a text like that of [`exported`].
///
/// # Errors
/// [`ConfigError::Invalid`] if anything in it is invalid, is not a profile, or is a hook or a token file, which would run a
/// command or write a file.
pub fn imported(text: &str, path: &Path) -> Result<Vec<Profile>, ConfigError> {
    let config = Config::parse(text, path)?;
    let other = config.default_profile.is_some().then_some(DEFAULT_PROFILE);
    let unknown = config.ignored.first().map(|(_, key)| key.as_str());
    let error = config.errors().next();
    let stays_here = |setting: &&Setting| setting.section == Section::Hooks || setting.key.ends_with("token_file");
    let mut hooks =
        SETTINGS.iter().filter(stays_here).flat_map(|setting| config.profiles.values().map(move |p| (setting, p)));
    let hook = hooks.find(|(setting, profile)| !setting.value(profile).is_empty());
    match (error, other.or(unknown)) {
        (Some(error), _) => Err(error),
        (None, None) if let Some((setting, Profile { name, .. })) = hook => {
            let message = format!(
                "{PROFILES}.{name}: `{}` would run a command or write a file and is not imported; remove it, and set it with `authctl profile set`",
                setting.key
            );
            Err(invalid(path, &message))
        }
        (None, Some(key)) => Err(invalid(path, &format!("expected only profiles, not `{}`", excerpt(key, 40)))),
        (None, None) if config.profiles.is_empty() => Err(invalid(path, "it has no profile")),
        (None, None) => Ok(config.profiles.into_values().collect()),
    }
}

/// Checks that the file can be written, before a login starts.
///
/// # Errors
/// [`ConfigError::Io`].
pub fn probe(path: &Path) -> Result<(), ConfigError> {
    let target = link_target(path);
    make_directory_of(&target)
        .and_then(|()| refuse_mount_point(&target))
        .and_then(|()| AtomicFile::beside(&target).map(drop))
        .map_err(|source| unwritable(path, &target, source))
}

/// Returns the error of a file that cannot be written, which names the target of a symbolic link.
fn unwritable(path: &Path, target: &Path, source: io::Error) -> ConfigError {
    let source = match target == path {
        true => source,
        false => io::Error::new(source.kind(), format!("it links to {}: {source}", target.display())),
    };
    ConfigError::Io { path: path.to_owned(), source }
}

/// Makes `name` the default.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn set_default(files: &ConfigFiles, name: &ProfileName) -> Result<(), ConfigError> {
    change(files, |document, before| {
        before.profile(name)?;
        put(document.as_table_mut(), DEFAULT_PROFILE, name.as_str().into());
        Ok(())
    })
}

/// Removes a profile from the user's file; if it was the default, there is none afterwards. One that a machine-wide file
/// configures too has that file's settings then.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn remove(files: &ConfigFiles, name: &ProfileName) -> Result<(), ConfigError> {
    change(files, |document, before| {
        let profiles = document.get(PROFILES).and_then(Item::as_table_like);
        let is_own = profiles.is_some_and(|profiles| profiles.contains_key(name.as_str()));
        match before.check_removable(name) {
            Ok(()) => {}
            // An invalid profile can be removed too.
            Err(ConfigError::Invalid { .. }) if is_own => {}
            Err(error) => return Err(error),
        }
        remove_profile(document, name);
        if before.default_profile.as_ref() == Some(name) && before.machine_file(name).is_none() {
            document.remove(DEFAULT_PROFILE);
        }
        Ok(())
    })
}

fn remove_profile(document: &mut DocumentMut, name: &ProfileName) {
    if let Some(profiles) = document.get_mut(PROFILES).and_then(Item::as_table_like_mut) {
        profiles.remove(name.as_str());
    }
}

/// Gives a profile another name; the default follows.
///
/// # Errors
/// [`ConfigError::Exists`] if the new name is taken, and other errors; the file is then unchanged.
pub fn rename(files: &ConfigFiles, from: &ProfileName, to: &ProfileName) -> Result<(), ConfigError> {
    change(files, |document, before| {
        before.check_renamable(from)?;
        if before.existing(to)?.is_some() {
            return Err(ConfigError::Exists(to.clone()));
        }
        if let Some(profiles) = document.get_mut(PROFILES).and_then(Item::as_table_like_mut)
            && let Some(item) = profiles.remove(from.as_str())
        {
            profiles.insert(to.as_str(), item);
        }
        if before.default_profile.as_ref() == Some(from) {
            put(document.as_table_mut(), DEFAULT_PROFILE, to.as_str().into());
        }
        Ok(())
    })
}

fn change(
    files: &ConfigFiles,
    edit: impl FnOnce(&mut DocumentMut, &Config) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let path = files.user.as_path();
    let text = read(path)?;
    let machine = Layers::machine_wide(files);
    let before = Config::above(machine.clone(), &text, path)?;
    let mut document = parse_document(&text, path)?;
    edit(&mut document, &before)?;
    let changed = document.to_string();
    // Every command would fail if the new text were invalid.
    let after = Config::above(machine, &changed, path)?;
    if let Some((_, (file, reason))) = after.invalid.iter().find(|(name, now)| before.invalid.get(*name) != Some(now)) {
        return Err(invalid(file, reason));
    }
    let target = link_target(path);
    replace(&target, &changed).map_err(|source| unwritable(path, &target, source))
}

fn profile_table<'a>(document: &'a mut DocumentMut, name: &ProfileName) -> &'a mut Table {
    let profiles = document.entry(PROFILES).or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    if let Item::Value(inline) = profiles.clone()
        && let Ok(table) = Item::Value(inline).into_table()
    {
        *profiles = Item::Table(table);
    }
    let entry = &mut profiles[name.as_str()];
    if !entry.is_table() {
        *entry = Item::Table(entry.clone().into_table().unwrap_or_default());
    }
    #[allow(clippy::expect_used, reason = "made a table in the line before if it was none")]
    entry.as_table_mut().expect("a table")
}

/// Sets a value, and preserves the comments around the previous one.
fn put(table: &mut Table, key: &str, new: Value) {
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            let around = old.decor().clone();
            *old = new;
            *old.decor_mut() = around;
        }
        _ => {
            table.insert(key, Item::Value(new));
        }
    }
}

/// Writes every setting that has another value than without it: than in the machine-wide files, else than its default. One
/// that cannot be removed is always written, unless a machine-wide file has it.
fn fill(table: &mut Table, profile: &Profile, machine: Option<&LayeredProfile>) {
    let plain = Profile::new(profile.name.clone(), profile.issuer.clone());
    let below = machine.map(|machine| (machine, machine.alone(profile)));
    // What is bound to the issuer of the machine-wide files does not count at another one.
    let at_another =
        below.as_ref().is_some_and(|(_, below)| below.issuer.url().origin() != profile.issuer.url().origin());
    for setting in SETTINGS {
        let value = setting.value(profile);
        let new: Value = match &value {
            settings::Value::List(items) => items.iter().map(String::as_str).collect::<Array>().into(),
            _ if setting.is_list() => Array::new().into(),
            _ => value.to_text().into(),
        };
        let is_needless = match below
            .as_ref()
            .filter(|(machine, _)| machine.sets(setting.key) && !(at_another && setting.issuer_bound))
        {
            Some((_, below)) => value == setting.value(below),
            None => setting.removable && value == setting.value(&plain),
        };
        match table.get(setting.key) {
            // A value that stays the same may be written over several lines, with comments between.
            Some(old) if is_same(old, &new) => {}
            _ if is_needless => drop(table.remove(setting.key)),
            _ => put(table, setting.key, new),
        }
    }
}

/// Returns whether `old`, however it is written, is the same text or the same list of texts as `new`.
fn is_same(old: &Item, new: &Value) -> bool {
    let texts = |list: &Array| list.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>();
    match (old.as_array(), new.as_array()) {
        (Some(old), Some(new)) => texts(old) == texts(new),
        (None, None) => old.as_str().is_some() && old.as_str() == new.as_str(),
        _ => false,
    }
}

/// Refuses a file that is a mount point, as a file that is bind-mounted into a container is: a rename cannot replace it, and
/// writing it in place would show half a file to other processes.
#[cfg(target_os = "linux")]
fn refuse_mount_point(target: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let about = statx(CWD, target, AtFlags::empty(), StatxFlags::empty());
    if about.is_ok_and(|about| about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)) {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the file is a mount point"));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn refuse_mount_point(_target: &Path) -> io::Result<()> {
    Ok(())
}

fn make_directory_of(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), create_private_dir)
}

/// Replaces the file atomically, and keeps its mode.
fn replace(target: &Path, text: &str) -> io::Result<()> {
    make_directory_of(target)?;
    refuse_mount_point(target)?;
    let mode = fs::metadata(target).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    crate::fs::replace(target, text.as_bytes(), mode)
}

#[cfg(test)]
mod tests;
