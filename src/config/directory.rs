//! `.authctl.toml`: the profile for a directory and those below it. The file can name a profile and nothing else, so that
//! a cloned repository cannot send a login to another server.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;

use super::error::ConfigError;
use crate::fs::{directory_of, is_trusted_owner, regular_file};
use crate::model::{InvalidProfileName, ProfileName};
use crate::text::{excerpt, shell_word};

/// The file's name.
const NAME: &str = ".authctl.toml";

/// A larger file is rejected: it was not written for authctl.
const MAX_BYTES: u64 = 4096;

/// Returns the profile that the nearest `.authctl.toml` in `dir` or above names, and the path of that file. A file that
/// cannot be accessed is skipped, and so is another user's file in a directory that every user can write to.
///
/// # Errors
/// [`ConfigError::Directory`] if the file holds anything but `profile = "NAME"`, or belongs to another user.
pub fn directory_profile(dir: &Path) -> Result<Option<(ProfileName, PathBuf)>, ConfigError> {
    for dir in dir.ancestors() {
        let path = dir.join(NAME);
        let unusable = |reason: &str| ConfigError::Directory { path: path.clone(), reason: reason.to_owned() };
        let failed = |error: io::Error| unusable(&error.to_string());
        // The owner of a symbolic link, not of its target: that user chooses the target.
        let owner = match std::fs::symlink_metadata(&path) {
            Ok(entry) => entry.uid(),
            Err(e) if is_inaccessible(e.kind()) => continue,
            Err(e) => return Err(failed(e)),
        };
        if !is_trusted_owner(owner) {
            if is_world_writable(dir) {
                tracing::warn!("ignored {}: it belongs to another user", path.display());
                continue;
            }
            return Err(unusable("it belongs to another user"));
        }
        return read(&path).map(|name| Some((name, path.clone()))).map_err(|reason| unusable(&reason));
    }
    Ok(None)
}

/// Returns whether the file is missing or cannot be accessed.
fn is_inaccessible(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied)
}

/// Returns whether every user can write to the directory, as to `/tmp`.
fn is_world_writable(dir: &Path) -> bool {
    std::fs::metadata(dir).is_ok_and(|about| about.mode() & 0o002 != 0)
}

/// Returns the profile that a file names, or the reason why it is rejected.
fn read(path: &Path) -> Result<ProfileName, String> {
    let (file, about) = regular_file::open(path).map_err(|e| e.to_string())?;
    if about.len() > MAX_BYTES {
        return Err(regular_file::too_large(MAX_BYTES));
    }
    // Root often works in checkouts of CI systems that every user can write to, on machines without other users.
    if !rustix::process::geteuid().is_root() {
        check_writers(path, about.mode())?;
        let dir = directory_of(path);
        check_writers(dir, std::fs::metadata(dir).map_err(|e| e.to_string())?.mode())?;
    }
    if !is_trusted_owner(about.uid()) {
        return Err("it belongs to another user".to_owned());
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(|e| e.to_string())?;
    parse_profile(&text)
}

/// Fails if every user can write to the file or directory. In a directory like `/tmp` they cannot replace a file.
fn check_writers(path: &Path, mode: u32) -> Result<(), String> {
    if mode & 0o1002 != 0o002 {
        return Ok(());
    }
    let word = shell_word(&path.display().to_string());
    Err(format!("other users can write to {} (mode {:04o}); run `chmod o-w {word}`", path.display(), mode & 0o7777))
}

fn parse_profile(text: &str) -> Result<ProfileName, String> {
    // The text is not quoted: the file may be a link to a key or a password, which would end up in a log.
    let invalid = || "expected profile = \"NAME\"".to_owned();
    let document: DocumentMut = text.parse().map_err(|_| invalid())?;
    if let Some((key, _)) = document.iter().find(|(key, _)| *key != "profile") {
        return Err(format!("unexpected key `{}` (only `profile` is allowed)", excerpt(key, 40)));
    }
    match document.get("profile").and_then(toml_edit::Item::as_str) {
        Some(name) => name.parse().map_err(|e: InvalidProfileName| e.to_string()),
        None => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn named_profile(dir: &Path) -> Result<Option<String>, String> {
        directory_profile(dir).map(|name| name.map(|(name, _)| name.to_string())).map_err(|e| e.to_string())
    }

    #[test]
    fn nearest_file_names_the_profile() {
        let dir = tempfile::tempdir().expect("tempdir");
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).expect("made");
        std::fs::write(dir.path().join(NAME), "# ours\nprofile = \"outer\"\n").expect("written");
        assert_eq!(named_profile(&below), Ok(Some("outer".into())));
        std::fs::write(dir.path().join("a").join(NAME), "profile = \"inner\"").expect("written");
        assert_eq!(named_profile(&below), Ok(Some("inner".into())));
        assert_eq!(named_profile(dir.path()), Ok(Some("outer".into())));
    }

    #[test]
    fn anything_but_a_profile_is_rejected() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join(NAME);
        for (text, word) in [
            ("profile = \"a\"\nissuer = \"https://evil.example\"", "issuer"),
            ("[profiles.a]\nissuer = \"https://evil.example\"", "profiles"),
            ("profile = 1", "profile ="),
            ("", "profile ="),
            ("profile = \"../x\"", "../x"),
            ("profile =", "expected profile"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = named_profile(dir.path()).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        std::fs::write(&path, format!("profile = \"a\"\n{}", "#".repeat(5000))).expect("written");
        assert!(named_profile(dir.path()).expect_err("long").contains("larger than 4 KiB"));
    }

    #[test]
    fn another_users_file_is_rejected_or_ignored() {
        // Only root can change the owner of a file.
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join(NAME);
        std::fs::write(&path, "profile = \"a\"").expect("written");
        if std::os::unix::fs::chown(&path, Some(4711), None).is_ok() {
            assert!(named_profile(dir.path()).expect_err("another's").contains("another user"));
            // In a directory like /tmp another user's file neither blocks a command nor chooses its profile.
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).expect("chmod");
            assert_eq!(named_profile(dir.path()), Ok(None));
            std::fs::remove_file(&path).expect("removed");
            let ours = dir.path().join("ours");
            std::fs::write(&ours, "profile = \"ours\"").expect("written");
            std::os::unix::fs::symlink(&ours, &path).expect("linked");
            assert_eq!(named_profile(dir.path()), Ok(Some("ours".into())));
            std::os::unix::fs::lchown(&path, Some(4711), None).expect("given away");
            assert_eq!(named_profile(dir.path()), Ok(None), "another user's link to our file");
        }
    }

    #[test]
    fn contents_of_a_rejected_file_are_not_quoted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let secret = dir.path().join("secret");
        std::os::unix::fs::symlink(&secret, dir.path().join(NAME)).expect("linked");
        for text in ["AGE-SECRET-KEY-1HUNTER2\n", "PASSWORD=hunter2\n", "machine a login b password hunter2\n"] {
            std::fs::write(&secret, text).expect("written");
            let error = named_profile(dir.path()).expect_err(text);
            assert!(error.contains("profile =") && !error.to_lowercase().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn pipe_is_rejected_without_waiting_for_a_writer() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join(NAME);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let (sender, receiver) = std::sync::mpsc::channel();
        let dir = dir.path().to_owned();
        std::thread::spawn(move || sender.send(named_profile(&dir)));
        let error = receiver.recv_timeout(std::time::Duration::from_secs(10)).expect("a result").expect_err("a pipe");
        assert!(error.contains("not a regular file"), "{error}");
    }
}
