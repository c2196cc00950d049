//! `.authctl.toml`: which profile is meant in a directory and below it. It names a profile and nothing else, so that a
//! repository that was cloned cannot lead a login anywhere.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use toml_edit::DocumentMut;

use super::{ConfigError, syntax};
use crate::model::ProfileName;

/// The file's name.
const NAME: &str = ".authctl.toml";

/// What is longer was not written for authctl.
const MOST_BYTES: u64 = 4096;

/// The profile that the nearest `.authctl.toml` in `dir` or above names; `None` where there is none.
///
/// # Errors
/// [`ConfigError`] where the file holds anything but `profile = "NAME"`, or is another user's: what is meant is then not
/// guessed.
pub fn directory_profile(dir: &Path) -> Result<Option<ProfileName>, ConfigError> {
    for dir in dir.ancestors() {
        let path = dir.join(NAME);
        let failed = |source| ConfigError::Io { path: path.clone(), source };
        let mut file = match open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(failed(e)),
        };
        let about = file.metadata().map_err(failed)?;
        let us = rustix::process::geteuid().as_raw();
        if about.uid() != us && about.uid() != 0 {
            return Err(failed(io::Error::other("it is another user's; name the profile, or set AUTHCTL_PROFILE")));
        }
        if !about.is_file() || about.len() > MOST_BYTES {
            return Err(failed(io::Error::other("it is no small file")));
        }
        let mut text = String::new();
        file.by_ref().take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
        return named_in(&text, &path).map(Some);
    }
    Ok(None)
}

/// Opens a file that anybody may have put there: a pipe that nobody writes to is not waited for.
fn open(path: &Path) -> io::Result<File> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?.into())
}

fn named_in(text: &str, path: &Path) -> Result<ProfileName, ConfigError> {
    // What is wrong with it is not quoted: it may be a link to a key or a password, which a log would then hold.
    let wrong = || syntax(path, "it must say profile = \"NAME\"");
    let document: DocumentMut = text.parse().map_err(|_| wrong())?;
    if let Some((key, _)) = document.iter().find(|(key, _)| *key != "profile") {
        return Err(ConfigError::UnknownKey {
            path: path.to_owned(),
            key: key.to_owned(),
            nearest: Some("profile".into()),
        });
    }
    match document.get("profile").and_then(toml_edit::Item::as_str) {
        Some(name) => Ok(name.parse()?),
        None => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(dir: &Path) -> Result<Option<String>, String> {
        directory_profile(dir).map(|name| name.map(|name| name.to_string())).map_err(|e| e.to_string())
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
            ("profile =", "not valid"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = said(dir.path()).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        std::fs::write(&path, " ".repeat(5000)).expect("written");
        assert!(said(dir.path()).is_err());
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
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RWXU).expect("a pipe");
        let (tell, told) = std::sync::mpsc::channel();
        let dir = dir.path().to_owned();
        std::thread::spawn(move || tell.send(said(&dir)));
        let error = told.recv_timeout(std::time::Duration::from_secs(10)).expect("an answer").expect_err("a pipe");
        assert!(error.contains("no small file"), "{error}");
    }
}
