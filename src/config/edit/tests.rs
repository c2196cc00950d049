//! Tests of the changes to the file.

use super::*;
use crate::model::{DecidingToken, Grant, Requirements, StoreKind};

fn files(path: &Path) -> ConfigFiles {
    ConfigFiles { user: path.to_owned(), machine_wide: Vec::new() }
}

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
    save(&files(&path), &profile("work")).expect("saved");
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
    save(&files(&path), &other).expect("saved");
    let config = Config::load(&files(&path)).expect("valid");
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
    assert!(save(&files(&path), &profile("work")).is_err());
    assert_eq!(fs::read_to_string(&path).expect("there"), "profiles = [");
}

#[test]
fn symlink_is_followed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (real, link) = (dir.path().join("real.toml"), dir.path().join("config.toml"));
    fs::write(&real, "").expect("written");
    std::os::unix::fs::symlink(&real, &link).expect("linked");
    save(&files(&link), &profile("work")).expect("saved");
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
    assert_eq!(Config::load(&files(&link)).expect("empty").profiles.len(), 0);
    save(&files(&link), &profile("work")).expect("saved");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert!(fs::read_to_string(&real).expect("there").contains("[profiles.work]"));
}

#[test]
fn invalid_profile_blocks_no_other() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("config.toml");
    save(&files(&path), &profile("work")).expect("saved");
    let newer = "[profiles.newer]\nissuer = \"https://a.example\"\nclient_id = \"a\"\nfuture = \"x\" # a comment\n";
    let text = fs::read_to_string(&path).expect("there");
    fs::write(&path, format!("{text}\n{newer}")).expect("written");
    let name = |n: &str| n.parse::<ProfileName>().expect("name");
    save(&files(&path), &profile("home")).expect("saved");
    let unknown = |result: Result<(), ConfigError>| {
        let error = result.expect_err("invalid").to_string();
        assert!(error.contains("profiles.newer") && error.contains("future"), "{error}");
    };
    unknown(save(&files(&path), &profile("newer")));
    unknown(set_default(&files(&path), &name("newer")));
    unknown(rename(&files(&path), &name("work"), &name("newer")));
    unknown(Config::load(&files(&path)).and_then(|config| config.choose(Some(&name("newer"))).map(drop)));
    rename(&files(&path), &name("home"), &name("job")).expect("renamed");
    assert!(fs::read_to_string(&path).expect("there").contains("future = \"x\" # a comment"));
    remove(&files(&path), &name("newer")).expect("removed");
    let config = Config::load(&files(&path)).expect("valid");
    assert_eq!((config.errors().count(), config.profiles.len()), (0, 2));
}

#[test]
fn default_follows_a_rename_and_ends_with_a_removal() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("config.toml");
    save(&files(&path), &profile("work")).expect("saved");
    save(&files(&path), &profile("home")).expect("saved");
    let name = |n: &str| n.parse::<ProfileName>().expect("name");
    assert!(matches!(rename(&files(&path), &name("work"), &name("home")), Err(ConfigError::Exists(_))));
    rename(&files(&path), &name("work"), &name("job")).expect("renamed");
    assert_eq!(Config::load(&files(&path)).expect("valid").default_profile, Some(name("job")));
    remove(&files(&path), &name("job")).expect("removed");
    let config = Config::load(&files(&path)).expect("valid");
    assert_eq!((config.default_profile, config.profiles.len()), (None, 1));
}
