//! Errors in the configuration, and what a misspelled word was probably meant to be.

use std::io;
use std::path::{Path, PathBuf};

use super::token_files::SharedTokenFile;
use crate::fs::UntrustedFile;
use crate::fs::regular_file::ReadError;
use crate::model::ProfileName;

/// An error in the configuration, or in the choice of a profile.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("cannot use the configuration {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not TOML, or a key or a value is invalid.
    #[error("invalid configuration {}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        message: String,
    },
    /// Another user may have written the file.
    #[error("cannot use the configuration: {0}")]
    Untrusted(#[from] UntrustedFile),
    /// A directory's `.authctl.toml` does not name a profile, or cannot be read.
    #[error("cannot use {}: {reason}; an argument or AUTHCTL_PROFILE overrides it", path.display())]
    Directory {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// No profile has this name.
    #[error("unknown profile `{name}`{}", did_you_mean(nearest.as_ref()))]
    UnknownProfile {
        /// The name.
        name: ProfileName,
        /// The most similar known name.
        nearest: Option<ProfileName>,
        /// Whether there is another profile.
        is_another: bool,
    },
    /// No profile was named, none is the default, and there are several.
    #[error("no profile named and no default set; profiles: {}", names.join(", "))]
    Ambiguous {
        /// All of them.
        names: Vec<String>,
        /// One that is valid.
        first: ProfileName,
    },
    /// There is no profile at all.
    #[error("no profile configured")]
    Empty,
    /// A profile has this name already.
    #[error("profile `{0}` already exists")]
    Exists(ProfileName),
    /// A machine-wide file locks a setting to another value.
    #[error(transparent)]
    Locked(#[from] LockedSetting),
    /// A token file is another one too.
    #[error("cannot change `{}`: {shared}", shared.name)]
    SharedTokenFile {
        /// Which, and of what.
        shared: SharedTokenFile,
    },
    /// The user's file does not have this profile, so it cannot be removed or renamed.
    #[error("cannot {verb} `{name}`: {} configures it for the whole machine", path.display())]
    MachineWide {
        /// What was to be done.
        verb: &'static str,
        /// The name.
        name: ProfileName,
        /// The machine-wide file.
        path: PathBuf,
    },
}

/// A setting that a machine-wide file locks to another value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot set `{key}`: {} locks it to {}", path.display(), quoted(value))]
pub struct LockedSetting {
    /// The setting.
    pub key: &'static str,
    /// Its locked value; empty if it is unset.
    pub value: String,
    /// The file.
    pub path: PathBuf,
}

fn quoted(value: &str) -> String {
    if value.is_empty() { "its default".to_owned() } else { format!("`{value}`") }
}

/// Returns the error of a file that is not valid.
pub(super) fn invalid(path: &Path, message: &str) -> ConfigError {
    ConfigError::Invalid { path: path.to_owned(), message: message.to_owned() }
}

/// Returns the error of a file that cannot be read.
pub(super) fn unreadable(path: &Path, error: ReadError) -> ConfigError {
    let unreadable = |reason| ConfigError::Io { path: path.to_owned(), source: io::Error::other(reason) };
    match error {
        ReadError::Untrusted(error) => error.into(),
        ReadError::Missing => unreadable("the file is missing".to_owned()),
        ReadError::Unreadable(reason) => unreadable(reason),
    }
}

/// How many letters of a misspelled key may be wrong.
const MAX_TYPOS: usize = 2;

/// Returns whether `key` is almost one of `known`: the user meant that one, and without it another account may be used, or a
/// token accepted that should not be.
pub(super) fn is_misspelled<'a>(key: &str, mut known: impl Iterator<Item = &'a str>) -> bool {
    known.any(|known| strsim::damerau_levenshtein(key, known) <= MAX_TYPOS)
}

/// Returns a "did you mean" for the end of a message; empty if no known word is similar.
pub(super) fn did_you_mean(nearest: Option<&impl std::fmt::Display>) -> String {
    nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default()
}

/// Returns the known word most similar to `word`, if any is similar.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
