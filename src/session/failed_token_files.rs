//! The token files that could not be written or removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::fs::token_file::TokenFileError;
use crate::text::without_error_numbers;

/// The files, each with the reason.
#[derive(Default)]
pub(super) struct FailedTokenFiles(Mutex<BTreeMap<PathBuf, String>>);

impl FailedTokenFiles {
    /// Records the outcome for a file.
    pub(super) fn record(&self, path: &Path, result: Result<(), TokenFileError>) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = result else {
            failed.remove(path);
            return;
        };
        let reason = without_error_numbers(&error.to_string());
        if failed.insert(path.to_owned(), reason.clone()).as_ref() != Some(&reason) {
            tracing::warn!("the token file {} is not up to date: {reason}", path.display());
        }
    }

    /// Returns all.
    pub(super) fn all(&self) -> Vec<(PathBuf, String)> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.iter().map(|(path, reason)| (path.clone(), reason.clone())).collect()
    }
}
