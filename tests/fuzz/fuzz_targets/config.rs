//! The configuration file: profiles survive being written and read again.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use authctl::fuzzing::{Config, ConfigFiles, save, set_default};
use libfuzzer_sys::fuzz_target;

/// A directory in memory, if available: each change to the file is synced to the disk.
static DIRECTORY: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let at: PathBuf = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("authctl-fuzz-").tempdir_in(at).expect("a directory")
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = DIRECTORY.path().join("config.toml");
    let files = ConfigFiles { user: path.clone(), machine_wide: Vec::new() };
    let config = match Config::parse(text, &path) {
        Ok(config) => config,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(config, Config::parse(text, &path).expect("as before"), "the same again");
    for name in config.profiles.keys() {
        assert_eq!(&config.choose(Some(name)).expect("there").name, name);
    }
    // Into the file that it was read from, and into an empty one.
    for before in [text, ""] {
        fs::write(&path, before).expect("written");
        for profile in config.profiles.values() {
            save(&files, profile).expect("saved");
        }
        if let Some(name) = config.default_profile.as_ref().filter(|name| config.profiles.contains_key(*name)) {
            set_default(&files, name).expect("set");
        }
        let again = Config::load(&files).expect("readable");
        assert_eq!(again.profiles, config.profiles);
        let settled = fs::read_to_string(&path).expect("there");
        for profile in config.profiles.values() {
            save(&files, profile).expect("saved");
        }
        assert_eq!(fs::read_to_string(&path).expect("there"), settled, "a second time changes nothing");
    }
    let _ = fs::remove_file(&path);
});
