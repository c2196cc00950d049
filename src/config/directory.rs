//! `.authctl.toml`: which profile is meant in a directory and below it. It names a profile and nothing else, so that a
//! repository that was cloned cannot lead a login anywhere.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;

use super::ConfigError;
use crate::fs::regular_file;
use crate::model::{InvalidProfileName, ProfileName};
use crate::ui::sanitize_for_terminal;

/// The file's name.
const NAME: &str = ".authctl.toml";

/// What is longer was not written for authctl.
const MAX_BYTES: u64 = 4096;

/// The profile that the nearest `.authctl.toml` in `dir` or above names, and that file; `None` where there is none. What may
/// not be looked at, as above a directory that another user has started this in, says nothing; nor does what somebody else
/// has put where anybody may put files.
///
/// # Errors
/// [`ConfigError::Directory`] where the file holds anything but `profile = "NAME"`, or is another user's: what is meant is then not
/// guessed.
pub fn directory_profile(dir: &Path) -> Result<Option<(ProfileName, PathBuf)>, ConfigError> {
    for dir in dir.ancestors() {
        let path = dir.join(NAME);
        let unusable = |what: &str| ConfigError::Directory { path: path.clone(), reason: what.to_owned() };
        let failed = |error: io::Error| unusable(&error.to_string());
        // Of a link this is its own owner, who decides where it leads.
        let owner = match std::fs::symlink_metadata(&path) {
            Ok(entry) => entry.uid(),
            Err(e) if says_nothing(e.kind()) => continue,
            Err(e) => return Err(failed(e)),
        };
        let us = rustix::process::geteuid().as_raw();
        if !believed(owner, us) {
            if anybody_may_write(dir) {
                tracing::warn!("{} is another user's, and passed over", path.display());
                continue;
            }
            return Err(unusable("it is another user's"));
        }
        return read(&path, us).map(|name| Some((name, path.clone()))).map_err(|what| unusable(&what));
    }
    Ok(None)
}

/// Whether there is no file, as far as can be told.
fn says_nothing(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied)
}

/// Whether a directory is like `/tmp`.
fn anybody_may_write(dir: &Path) -> bool {
    std::fs::metadata(dir).is_ok_and(|about| about.mode() & 0o002 != 0)
}

/// The profile that a file names, or what is wrong with it.
fn read(path: &Path, us: u32) -> Result<ProfileName, String> {
    let (file, about) = regular_file::open(path, MAX_BYTES)?;
    if !believed(about.uid(), us) {
        return Err("it is another user's".to_owned());
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(|e| e.to_string())?;
    named_in(&text)
}

/// Whether a file of `owner` is read for `us`: ours is, and the machine's.
fn believed(owner: u32, us: u32) -> bool {
    owner == us || owner == 0
}

fn named_in(text: &str) -> Result<ProfileName, String> {
    // What is wrong with it is not quoted: it may be a link to a key or a password, which a log would then hold.
    let wrong = || "it must say profile = \"NAME\"".to_owned();
    let document: DocumentMut = text.parse().map_err(|_| wrong())?;
    if let Some((key, _)) = document.iter().find(|(key, _)| *key != "profile") {
        return Err(format!("it may say a profile and nothing else, and says `{}`", sanitize_for_terminal(key, 40)));
    }
    match document.get("profile").and_then(toml_edit::Item::as_str) {
        Some(name) => name.parse().map_err(|e: InvalidProfileName| e.to_string()),
        None => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn said(dir: &Path) -> Result<Option<String>, String> {
        directory_profile(dir).map(|name| name.map(|(name, _)| name.to_string())).map_err(|e| e.to_string())
    }

    #[test]
    fn the_nearest_one_counts() {
        let dir = tempfile::tempdir().expect("tempdir");
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).expect("made");
        std::fs::write(dir.path().join(NAME), "# ours\nprofile = \"outer\"\n").expect("written");
        assert_eq!(said(&below), Ok(Some("outer".into())));
        std::fs::write(dir.path().join("a").join(NAME), "profile = \"inner\"").expect("written");
        assert_eq!(said(&below), Ok(Some("inner".into())));
        assert_eq!(said(dir.path()), Ok(Some("outer".into())));
    }

    #[test]
    fn it_says_a_profile_and_nothing_else() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join(NAME);
        for (text, word) in [
            ("profile = \"a\"\nissuer = \"https://evil.example\"", "issuer"),
            ("[profiles.a]\nissuer = \"https://evil.example\"", "profiles"),
            ("profile = 1", "profile ="),
            ("", "profile ="),
            ("profile = \"../x\"", "../x"),
            ("profile =", "must say"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = said(dir.path()).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        std::fs::write(&path, format!("profile = \"a\"\n{}", "#".repeat(5000))).expect("written");
        assert!(said(dir.path()).expect_err("long").contains("larger than 4 KiB"));
    }

    #[test]
    fn another_users_file_is_not_believed() {
        assert!(believed(1000, 1000) && believed(0, 1000) && !believed(1001, 1000) && !believed(1000, 0));
        // Where the tests may give a file away, it is tried.
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join(NAME);
        std::fs::write(&path, "profile = \"a\"").expect("written");
        if std::os::unix::fs::chown(&path, Some(4711), None).is_ok() {
            assert!(said(dir.path()).expect_err("another's").contains("another user's"));
            // Where anybody may put files, as in /tmp, nobody else can stop what is done below, nor lead it anywhere.
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).expect("chmod");
            assert_eq!(said(dir.path()), Ok(None));
            std::fs::remove_file(&path).expect("removed");
            let ours = dir.path().join("ours");
            std::fs::write(&ours, "profile = \"ours\"").expect("written");
            std::os::unix::fs::symlink(&ours, &path).expect("linked");
            assert_eq!(said(dir.path()), Ok(Some("ours".into())));
            std::os::unix::fs::lchown(&path, Some(4711), None).expect("given away");
            assert_eq!(said(dir.path()), Ok(None), "a link of another's to a file of ours");
        }
    }

    #[test]
    fn a_link_to_a_secret_is_not_quoted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let secret = dir.path().join("secret");
        std::os::unix::fs::symlink(&secret, dir.path().join(NAME)).expect("linked");
        for text in ["AGE-SECRET-KEY-1HUNTER2\n", "PASSWORD=hunter2\n", "machine a login b password hunter2\n"] {
            std::fs::write(&secret, text).expect("written");
            let error = said(dir.path()).expect_err(text);
            assert!(error.contains("profile =") && !error.to_lowercase().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join(NAME);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let (tell, told) = std::sync::mpsc::channel();
        let dir = dir.path().to_owned();
        std::thread::spawn(move || tell.send(said(&dir)));
        let error = told.recv_timeout(std::time::Duration::from_secs(10)).expect("an answer").expect_err("a pipe");
        assert!(error.contains("not a regular file"), "{error}");
    }
}
