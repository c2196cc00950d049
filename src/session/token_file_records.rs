//! The records of what authctl has written to token files. Whatever else such a file holds is neither replaced nor removed: the
//! setting may name a file of the user's.
//!
//! A record has digests, no tokens: of the token that is about to be written, and of the one that is there until then. It is
//! written first, so that whichever of them a crash leaves is known. It stays when the file is removed, since another process
//! may be writing the file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use crate::fs::token_file::{self, TokenFileError};
use crate::fs::{create_private_dir, directory_of, regular_file, replace};
use crate::model::{Session, TokenSet};
use crate::secret::{Secret, SecretBytes};

/// The maximum size of a record in bytes: more than two digests.
const MAX_BYTES: u64 = 1024;

/// The records, one file for each token file.
pub(super) struct TokenFileRecords {
    /// The directories that may have them. The first that can be written gets a new one.
    dirs: Vec<PathBuf>,
}

/// Returns the tokens of a session, which authctl may have written before there were records.
pub(super) fn tokens_of(session: &Session) -> impl Iterator<Item = Secret> {
    let TokenSet { access_token, id_token, .. } = &session.tokens;
    [access_token].into_iter().chain(id_token).cloned()
}

impl TokenFileRecords {
    pub(super) fn new(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { dirs: dirs.into_iter().collect() }
    }

    /// Returns whether the file has this token by its content and by its record; without a token, whether it is absent.
    pub(super) fn is_current(&self, path: &Path, token: Option<&Secret>) -> bool {
        let is_recorded = |token: &Secret| self.read(path).contains(&digest_of(token.expose().as_bytes()));
        has_wanted_content(path, token) && token.is_none_or(is_recorded)
    }

    /// Checks that the file is absent or empty, or holds what authctl has written: a token that is recorded or `known`.
    ///
    /// # Errors
    /// [`TokenFileError::Foreign`] and others.
    pub(super) fn check(&self, path: &Path, known: &[Secret]) -> Result<(), TokenFileError> {
        self.own_content(path, known).map(drop)
    }

    /// Writes the token as [`token_file::write`] does, after [`Self::check`].
    pub(super) fn write(
        &self,
        path: &Path,
        token: &Secret,
        known: &[Secret],
        is_abandoned: impl Fn() -> bool,
    ) -> Result<(), TokenFileError> {
        let before = self.own_content(path, known)?;
        let before = before.filter(|before| !before.is_empty()).map(|before| digest_of(before.expose()));
        let digests: BTreeSet<String> = before.into_iter().chain([digest_of(token.expose().as_bytes())]).collect();
        // A digest that is no longer needed may stay. Without a record, the file could not be removed when its token expires.
        if !is_abandoned() && !self.read(path).is_superset(&digests) {
            let saved = self.save(path, &digests);
            saved
                .map_err(|error| std::io::Error::other(format!("what is written to it cannot be recorded: {error}")))?;
        }
        token_file::write(path, token.expose().as_bytes(), is_abandoned)
    }

    /// Removes the file as [`token_file::remove`] does, after [`Self::check`].
    pub(super) fn remove(&self, path: &Path, known: &[Secret]) -> Result<(), TokenFileError> {
        self.check(path, known)?;
        token_file::remove(path)
    }

    fn own_content(&self, path: &Path, known: &[Secret]) -> Result<Option<SecretBytes>, TokenFileError> {
        let Some(found) = token_file::read(path)? else { return Ok(None) };
        let is_known = |token: &Secret| token.expose().as_bytes() == found.expose();
        match found.is_empty() || known.iter().any(is_known) || self.read(path).contains(&digest_of(found.expose())) {
            true => Ok(Some(found)),
            false => Err(TokenFileError::Foreign),
        }
    }

    /// Returns the recorded digests. What is missing or damaged records nothing.
    fn read(&self, path: &Path) -> BTreeSet<String> {
        let mut digests = BTreeSet::new();
        for file in self.files(path) {
            let bytes = regular_file::read(&file, MAX_BYTES).unwrap_or_default();
            let text = std::str::from_utf8(bytes.expose()).unwrap_or_default();
            digests.extend(text.lines().map(str::to_owned));
        }
        digests
    }

    fn save(&self, path: &Path, digests: &BTreeSet<String>) -> std::io::Result<()> {
        let text: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
        let mut saved = Ok(());
        for file in self.files(path) {
            saved = create_private_dir(directory_of(&file)).and_then(|()| replace(&file, text.as_bytes(), 0o600));
            if saved.is_ok() {
                break;
            }
        }
        saved
    }

    /// Returns the files that may have the record, the same ones however the path is written.
    fn files(&self, path: &Path) -> impl Iterator<Item = PathBuf> {
        let dir = directory_of(path);
        let place = dir.canonicalize().unwrap_or_else(|_| dir.to_owned()).join(path.file_name().unwrap_or_default());
        let name = digest_of(place.as_os_str().as_encoded_bytes());
        self.dirs.iter().map(move |dir| dir.join(&name))
    }
}

/// Returns whether the file has this token, or is absent without one.
pub(super) fn has_wanted_content(path: &Path, token: Option<&Secret>) -> bool {
    match token {
        Some(token) => token_file::has(path, token.expose().as_bytes()).unwrap_or(false),
        None => matches!(token_file::read(path), Ok(None)),
    }
}

fn digest_of(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn only_what_is_recorded_or_known_is_replaced_or_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, records) = (dir.path().join("file"), TokenFileRecords::new([dir.path().join("made/records")]));
        let put = |token: &str, known: &[Secret]| records.write(&path, &secret(token), known, || false);
        for (content, known, is_own) in [
            (None, "", true),
            (Some(""), "", true),
            (Some("known"), "known", true),
            (Some("known\n"), "known", false),
            (Some("my-api-key\n"), "known", false),
            (Some("my-api-key"), "", false),
            (Some("\n"), "", false),
        ] {
            let _ = fs::remove_dir_all(&records.dirs[0]);
            let _ = fs::remove_file(&path);
            content.iter().for_each(|content| fs::write(&path, content).expect("written"));
            let known = [secret(known)];
            for result in [records.check(&path, &known), put("next", &known)] {
                assert!(is_own == result.is_ok(), "{content:?}");
                assert!(is_own || matches!(result, Err(TokenFileError::Foreign)), "{content:?}");
            }
            assert_eq!(records.remove(&path, &[]).is_ok(), is_own, "{content:?}");
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), content.filter(|_| !is_own));
        }
    }

    #[test]
    fn every_state_that_a_crash_leaves_is_recorded() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, records) = (dir.path().join("file"), TokenFileRecords::new([dir.path().join("records")]));
        let put = |token: &str| records.write(&path, &secret(token), &[], || false);
        put("first").expect("written");
        // Ended between the record and the file, again and again.
        for token in ["second", "third"] {
            let has_started = std::cell::Cell::new(false);
            records.write(&path, &secret(token), &[], || has_started.replace(true)).expect("abandoned");
            assert_eq!(fs::read_to_string(&path).expect("there"), "first");
        }
        // One that its caller has given up is not recorded.
        let recorded = records.read(&path);
        records.write(&path, &secret("late"), &[], || true).expect("abandoned");
        assert_eq!(records.read(&path), recorded);
        put("fourth").expect("replaced");
        assert!(records.is_current(&path, Some(&secret("fourth"))));
        // By way of a link, and removed without the session.
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).expect("linked");
        records.remove(&dir.path().join("link/file"), &[]).expect("removed");
        assert!(!path.exists());
        // A damaged record, and one that cannot be written.
        put("fifth").expect("written");
        let record = records.files(&path).next().expect("a file");
        fs::write(&record, "\u{0}fifth").expect("written");
        assert!(matches!(put("sixth"), Err(TokenFileError::Foreign)));
        assert!(!records.is_current(&path, Some(&secret("fifth"))), "written again by the next check");
        records.write(&path, &secret("fifth"), &[secret("fifth")], || false).expect("known");
        assert!(records.is_current(&path, Some(&secret("fifth"))));
        fs::remove_file(&record).expect("removed");
        fs::create_dir(&record).expect("made");
        let unrecorded = records.write(&path, &secret("sixth"), &[secret("fifth")], || false);
        assert!(unrecorded.is_err_and(|error| error.to_string().contains("cannot be recorded")));
        assert_eq!(fs::read_to_string(&path).expect("there"), "fifth", "what could never be removed is not written");
        // Another directory has the record then.
        let both = TokenFileRecords::new([dir.path().join("records"), dir.path().join("others")]);
        both.write(&path, &secret("sixth"), &[secret("fifth")], || false).expect("recorded");
        both.remove(&path, &[]).expect("removed");
    }
}
