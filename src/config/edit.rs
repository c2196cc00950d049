//! Changes to the configuration file, which preserve its comments and order and are atomic.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use super::{Config, ConfigError, DEFAULT_PROFILE, PROFILES, SETTINGS, document, read, settings};
use crate::clock::Clock;
use crate::fs::{AtomicFile, FileLock, LockError, LockFile, create_private_dir, directory_of};
use crate::model::{Profile, ProfileName};

/// Waits for the configuration lock in the directory `data` for at most `limit`: one process at a time changes the file.
///
/// # Errors
/// [`LockError`].
pub async fn lock(data: &Path, clock: &dyn Clock, limit: Duration) -> Result<FileLock, LockError> {
    LockFile::lock(data.join("config.lock"), clock, limit).await
}

/// Writes `profile` into the file, creating both if necessary; the first profile becomes the default.
///
/// The caller holds the configuration lock.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn save(path: &Path, profile: &Profile) -> Result<(), ConfigError> {
    change(path, |document, before| {
        let table = profile_table(document, &profile.name);
        before.existing(&profile.name)?;
        fill(table, profile);
        if before.profiles.is_empty() && before.default_profile.is_none() {
            document[DEFAULT_PROFILE] = value(profile.name.as_str());
        }
        Ok(())
    })
}

/// Checks that the file can be written, before a login starts.
///
/// # Errors
/// [`ConfigError::Io`].
pub fn probe(path: &Path) -> Result<(), ConfigError> {
    let target = target(path);
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
pub fn set_default(path: &Path, name: &ProfileName) -> Result<(), ConfigError> {
    change(path, |document, before| {
        before.profile(name)?;
        put(document.as_table_mut(), DEFAULT_PROFILE, name.as_str().into());
        Ok(())
    })
}

/// Removes a profile; if it was the default, there is none afterwards.
///
/// # Errors
/// [`ConfigError`]; the file is then unchanged.
pub fn remove(path: &Path, name: &ProfileName) -> Result<(), ConfigError> {
    change(path, |document, before| {
        match before.profile(name) {
            // An invalid profile can be removed too.
            Ok(_) | Err(ConfigError::Invalid { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(profiles) = document.get_mut(PROFILES).and_then(Item::as_table_like_mut) {
            profiles.remove(name.as_str());
        }
        if before.default_profile.as_ref() == Some(name) {
            document.remove(DEFAULT_PROFILE);
        }
        Ok(())
    })
}

/// Gives a profile another name; the default follows.
///
/// # Errors
/// [`ConfigError::Exists`] if the new name is taken, and other errors; the file is then unchanged.
pub fn rename(path: &Path, from: &ProfileName, to: &ProfileName) -> Result<(), ConfigError> {
    change(path, |document, before| {
        before.profile(from)?;
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
    path: &Path,
    edit: impl FnOnce(&mut DocumentMut, &Config) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let text = read(path)?;
    let before = Config::parse(&text, path)?;
    let mut document = document(&text, path)?;
    edit(&mut document, &before)?;
    let text = document.to_string();
    // Every command would fail if the new text were invalid.
    let after = Config::parse(&text, path)?;
    if let Some(error) = after.errors().nth(before.errors().count()) {
        return Err(error);
    }
    let target = target(path);
    replace(&target, &text).map_err(|source| unwritable(path, &target, source))
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

/// Writes every setting that is set. One that has its default is written only if the file has it already, or if it
/// cannot be removed.
fn fill(table: &mut Table, profile: &Profile) {
    for setting in SETTINGS {
        let value = setting.value(profile);
        let new = match &value {
            _ if value.is_empty() => None,
            settings::Value::List(items) => Some(items.iter().map(String::as_str).collect::<Array>().into()),
            _ => Some(Value::from(value.to_text())),
        };
        let is_default = setting.removable && setting.default == Some(value.to_text().as_str());
        match (new, table.get(setting.key)) {
            // A value that stays the same may be written over several lines, with comments between.
            (Some(new), Some(old)) if is_same(old, &new) => {}
            (Some(_), None) if is_default => {}
            (Some(new), _) => put(table, setting.key, new),
            (None, _) => drop(table.remove(setting.key)),
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

/// How many symbolic links are followed, as by the system.
const MAX_LINKS: usize = 40;

/// Returns the file that `path` leads to. A symbolic link is followed, so that a configuration stored elsewhere stays there,
/// and also if that file does not exist yet.
fn target(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = directory_of(&target).join(next),
            Err(_) => break,
        }
    }
    target
}

/// Refuses a file that is a mount point, as a file that is bind-mounted into a container is: a rename cannot replace it, and
/// writing it in place would show half a file to other processes.
fn refuse_mount_point(target: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        let about = statx(CWD, target, AtFlags::empty(), StatxFlags::empty());
        if about.is_ok_and(|about| about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the file is a mount point"));
        }
    }
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
mod tests {
    use super::*;
    use crate::model::{DecidingToken, Grant, Requirements, StoreKind};

    fn profile(name: &str) -> Profile {
        Profile {
            client_id: "cli".into(),
            grant: Grant::Device,
            scopes: vec!["openid".into(), "offline_access".into()],
            store: StoreKind::File,
            ..Profile::new(name.parse().expect("name"), "https://a.example".parse().expect("issuer"))
        }
    }

    #[test]
    fn saved_profile_reads_back_and_comments_stay() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("deep/config.toml");
        save(&path, &profile("work")).expect("saved");
        let text = fs::read_to_string(&path).expect("there");
        fs::write(&path, format!("# mine\n{text}# the end\n")).expect("written");
        let mut other = profile("home");
        other.audience = Some("api".into());
        other.server_mut().endpoints.token = Some("https://a.example/token".parse().expect("a URL"));
        other.server_mut().authorization_parameters = vec![("access_type".into(), "offline".into())];
        other.requirements = Requirements {
            token: DecidingToken::IdToken,
            max_offline: Some(std::time::Duration::from_secs(90)),
            roles: vec!["admin".into()],
            claims: vec![("tenant".into(), "a b".into())],
            ..Requirements::default()
        };
        save(&path, &other).expect("saved");
        let config = Config::load(&path).expect("valid");
        assert_eq!(config.profiles.get(&other.name), Some(&other));
        assert_eq!(config.profiles.get(&"work".parse().expect("name")), Some(&profile("work")));
        assert_eq!(config.default_profile.as_ref().map(ProfileName::as_str), Some("work"));
        let text = fs::read_to_string(&path).expect("there");
        assert!(text.contains("# mine\n") && text.contains("# the end"), "{text}");
    }

    #[test]
    fn invalid_file_is_not_changed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("config.toml");
        fs::write(&path, "profiles = [").expect("written");
        assert!(save(&path, &profile("work")).is_err());
        assert_eq!(fs::read_to_string(&path).expect("there"), "profiles = [");
    }

    #[test]
    fn symlink_is_followed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("config.toml"));
        fs::write(&real, "").expect("written");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        save(&link, &profile("work")).expect("saved");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert!(fs::read_to_string(&real).expect("there").contains("[profiles.work]"));
    }

    #[test]
    fn symlink_without_target_is_followed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (real, link) = (dir.path().join("dotfiles/authctl/real.toml"), dir.path().join("config.toml"));
        std::os::unix::fs::symlink("dotfiles/link.toml", &link).expect("linked");
        fs::create_dir(dir.path().join("dotfiles")).expect("made");
        std::os::unix::fs::symlink("authctl/real.toml", dir.path().join("dotfiles/link.toml")).expect("linked");
        assert_eq!(Config::load(&link).expect("empty").profiles.len(), 0);
        save(&link, &profile("work")).expect("saved");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert!(fs::read_to_string(&real).expect("there").contains("[profiles.work]"));
    }

    #[test]
    fn invalid_profile_blocks_no_other() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("config.toml");
        save(&path, &profile("work")).expect("saved");
        let newer = "[profiles.newer]\nissuer = \"https://a.example\"\nclient_id = \"a\"\nfuture = \"x\" # kept\n";
        let text = fs::read_to_string(&path).expect("there");
        fs::write(&path, format!("{text}\n{newer}")).expect("written");
        let name = |n: &str| n.parse::<ProfileName>().expect("name");
        save(&path, &profile("home")).expect("saved");
        let unknown = |result: Result<(), ConfigError>| {
            let error = result.expect_err("invalid").to_string();
            assert!(error.contains("profiles.newer") && error.contains("future"), "{error}");
        };
        unknown(save(&path, &profile("newer")));
        unknown(set_default(&path, &name("newer")));
        unknown(rename(&path, &name("work"), &name("newer")));
        unknown(Config::load(&path).and_then(|config| config.choose(Some(&name("newer"))).map(drop)));
        rename(&path, &name("home"), &name("job")).expect("renamed");
        assert!(fs::read_to_string(&path).expect("there").contains("future = \"x\" # kept"));
        remove(&path, &name("newer")).expect("removed");
        let config = Config::load(&path).expect("valid");
        assert_eq!((config.errors().count(), config.profiles.len()), (0, 2));
    }

    #[test]
    fn default_follows_a_rename_and_ends_with_a_removal() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("config.toml");
        save(&path, &profile("work")).expect("saved");
        save(&path, &profile("home")).expect("saved");
        let name = |n: &str| n.parse::<ProfileName>().expect("name");
        assert!(matches!(rename(&path, &name("work"), &name("home")), Err(ConfigError::Exists(_))));
        rename(&path, &name("work"), &name("job")).expect("renamed");
        assert_eq!(Config::load(&path).expect("valid").default_profile, Some(name("job")));
        remove(&path, &name("job")).expect("removed");
        let config = Config::load(&path).expect("valid");
        assert_eq!((config.default_profile, config.profiles.len()), (None, 1));
    }
}
