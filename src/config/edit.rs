//! Changes to the configuration file that keep its comments and order, and never leave half a file.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use super::{Config, ConfigError, read, syntax};
use crate::fs::{AtomicFile, create_private_dir};
use crate::model::{ClientAuth, DecidingToken, Profile, ProfileName, Server, duration_text};

/// Writes `profile` into the file, creating both if need be; the first profile becomes the default.
///
/// The caller holds the configuration's lock.
///
/// # Errors
/// [`ConfigError`]; the file is then as it was.
pub fn save(path: &Path, profile: &Profile) -> Result<(), ConfigError> {
    change(path, |document, before| {
        let table = profile_table(document, &profile.name);
        fill(table, profile);
        if before.profiles.is_empty() && before.default_profile.is_none() {
            document["default_profile"] = value(profile.name.as_str());
        }
        Ok(())
    })
}

/// Makes sure that the file can be written, as far as that can be known beforehand.
///
/// # Errors
/// [`ConfigError::Io`].
pub fn probe(path: &Path) -> Result<(), ConfigError> {
    let target = target(path);
    make_directory_of(&target)
        .and_then(|()| AtomicFile::beside(&target).map(drop))
        .map_err(|source| ConfigError::Io { path: path.to_owned(), source })
}

/// Makes `name` the default.
///
/// # Errors
/// [`ConfigError`]; the file is then as it was.
pub fn set_default(path: &Path, name: &ProfileName) -> Result<(), ConfigError> {
    change(path, |document, before| {
        before.profile(name)?;
        put(document.as_table_mut(), "default_profile", name.as_str().into());
        Ok(())
    })
}

/// Removes a profile; if it was the default, there is none afterwards.
///
/// # Errors
/// [`ConfigError`]; the file is then as it was.
pub fn remove(path: &Path, name: &ProfileName) -> Result<(), ConfigError> {
    change(path, |document, before| {
        before.profile(name)?;
        if let Some(profiles) = document.get_mut("profiles").and_then(Item::as_table_like_mut) {
            profiles.remove(name.as_str());
        }
        if before.default_profile.as_ref() == Some(name) {
            document.remove("default_profile");
        }
        Ok(())
    })
}

/// Gives a profile another name; the default follows.
///
/// # Errors
/// [`ConfigError::Exists`] where the new name is taken, and the others; the file is then as it was.
pub fn rename(path: &Path, from: &ProfileName, to: &ProfileName) -> Result<(), ConfigError> {
    change(path, |document, before| {
        before.profile(from)?;
        if before.profiles.contains_key(to) {
            return Err(ConfigError::Exists(to.clone()));
        }
        if let Some(profiles) = document.get_mut("profiles").and_then(Item::as_table_like_mut)
            && let Some(item) = profiles.remove(from.as_str())
        {
            profiles.insert(to.as_str(), item);
        }
        if before.default_profile.as_ref() == Some(from) {
            put(document.as_table_mut(), "default_profile", to.as_str().into());
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
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| syntax(path, &e.to_string()))?;
    edit(&mut document, &before)?;
    let text = document.to_string();
    // What was written must be readable: a file that authctl refuses afterwards would lock its user out.
    Config::parse(&text, path)?;
    replace(path, &text).map_err(|source| ConfigError::Io { path: path.to_owned(), source })
}

fn profile_table<'a>(document: &'a mut DocumentMut, name: &ProfileName) -> &'a mut Table {
    let profiles = document.entry("profiles").or_insert_with(|| {
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

/// Sets a value, and leaves the comments around the one that was there.
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

fn fill(table: &mut Table, profile: &Profile) {
    let list = |items: &[String]| Value::from(items.iter().map(String::as_str).collect::<Array>());
    let mut set = |key: &str, new: Option<Value>| match new {
        // One that stays the same may be written over several lines, with comments between.
        Some(new) if table.get(key).is_some_and(|old| says(old, &new)) => {}
        Some(new) => put(table, key, new),
        None => {
            table.remove(key);
        }
    };
    set("issuer", Some(profile.issuer.as_str().into()));
    set("client_id", Some(profile.client_id.as_str().into()));
    let client_auth = (profile.client_auth != ClientAuth::None).then(|| profile.client_auth.word());
    set("client_auth", client_auth.map(Value::from));
    set("grant", Some(profile.grant.to_string().into()));
    set("scopes", (!profile.scopes.is_empty()).then(|| list(&profile.scopes)));
    set("audience", profile.audience.as_deref().map(Value::from));
    set("resources", (!profile.resources.is_empty()).then(|| list(&profile.resources)));
    set("store", Some(profile.store.to_string().into()));
    set("ca_cert", profile.ca_cert.as_ref().map(|p| p.to_string_lossy().as_ref().into()));
    for key in Server::KEYS {
        set(key, profile.server.text(key).map(Value::from));
    }
    let wants = &profile.requirements;
    let named = (wants.token != DecidingToken::default()).then(|| wants.token.word().into());
    set("verify_token", named);
    for (key, age) in
        [("max_offline", wants.max_offline), ("keys_max_age", wants.keys_max_age), ("max_auth_age", wants.max_auth_age)]
    {
        set(key, age.map(|age| duration_text(age).into()));
    }
    for (key, items) in [
        ("optional_claims", &wants.optional_claims),
        ("required_scopes", &wants.scopes),
        ("required_roles", &wants.roles),
        ("required_claims", &wants.claims),
        ("required_acr", &wants.acr),
        ("required_amr", &wants.amr),
    ] {
        set(key, (!items.is_empty()).then(|| list(items)));
    }
}

/// Whether `old`, however it is written, is the same text or the same list of texts as `new`.
fn says(old: &Item, new: &Value) -> bool {
    let texts = |list: &Array| list.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>();
    match (old.as_array(), new.as_array()) {
        (Some(old), Some(new)) => texts(old) == texts(new),
        (None, None) => old.as_str().is_some() && old.as_str() == new.as_str(),
        _ => false,
    }
}

/// Returns the file that `path` leads to. A symbolic link is followed, so that a configuration stored elsewhere stays there.
fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn make_directory_of(target: &Path) -> io::Result<()> {
    target.parent().map_or(Ok(()), create_private_dir)
}

/// Replaces the file atomically, and keeps its mode.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let target = target(path);
    make_directory_of(&target)?;
    let mode = fs::metadata(&target).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    crate::fs::replace(&target, text.as_bytes(), mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Grant, Requirements, StoreKind};

    fn profile(name: &str) -> Profile {
        Profile {
            name: name.parse().expect("name"),
            issuer: "https://a.example".parse().expect("issuer"),
            client_id: "cli".into(),
            client_auth: ClientAuth::None,
            grant: Grant::Device,
            scopes: vec!["openid".into(), "offline_access".into()],
            audience: None,
            resources: vec![],
            store: StoreKind::File,
            ca_cert: None,
            server: std::sync::Arc::default(),
            requirements: Requirements::default(),
        }
    }

    #[test]
    fn what_is_saved_comes_back_and_comments_stay() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("deep/config.toml");
        save(&path, &profile("work")).expect("saved");
        let text = fs::read_to_string(&path).expect("there");
        fs::write(&path, format!("# mine\n{text}# the end\n")).expect("written");
        let mut other = profile("home");
        other.audience = Some("api".into());
        other.server_mut().set("token_endpoint", "https://a.example/token").expect("valid");
        other.server_mut().set("authorization_parameters", "access_type=offline").expect("valid");
        other.requirements = Requirements {
            token: DecidingToken::IdToken,
            max_offline: Some(std::time::Duration::from_secs(90)),
            roles: vec!["admin".into()],
            claims: vec!["tenant=a".into()],
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
    fn a_broken_file_is_left_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("config.toml");
        fs::write(&path, "profiles = [").expect("written");
        assert!(save(&path, &profile("work")).is_err());
        assert_eq!(fs::read_to_string(&path).expect("there"), "profiles = [");
    }

    #[test]
    fn a_symlink_is_followed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("config.toml"));
        fs::write(&real, "").expect("written");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        save(&link, &profile("work")).expect("saved");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert!(fs::read_to_string(&real).expect("there").contains("[profiles.work]"));
    }

    #[test]
    fn renaming_and_removing_carry_the_default_along() {
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
