//! The token files of a profile, for programs that read a token from a file.
//!
//! They are written under the profile lock wherever a session is stored, so that no file gets an older token after a newer one.
//! A file has a token only while that is valid: it is removed when the token expires or the session ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refresh_policy::{RequestedToken, SessionView, TokenRequest, required_login};
use super::token_file_records::{has_wanted_content, tokens_of};
use super::{SessionError, SessionService};
use crate::clock::UnixTime;
use crate::fs::token_file::{self, TokenFileError};
use crate::fs::unblock;
use crate::model::{Profile, Session, TokenTarget};
use crate::secret::Secret;
use crate::text::without_error_numbers;

/// How long a refresh waits until its token is in a file. A file system that does not respond must not keep the token from
/// other callers.
const FILE_LIMIT: Duration = Duration::from_secs(2);

/// The state of a token file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFileStatus {
    /// Its path.
    pub path: PathBuf,
    /// Whether it has the token of the session; without a valid one, whether it is absent.
    pub current: bool,
    /// Why it cannot be written, as far as that is known.
    pub error: Option<String>,
}

/// Returns the files of a profile, each with the token that it gets.
fn files(profile: &Profile) -> impl Iterator<Item = (&Path, RequestedToken)> {
    let access = profile.token_file.as_deref().map(|path| (path, RequestedToken::Access(TokenTarget::default())));
    access.into_iter().chain(profile.id_token_file.as_deref().map(|path| (path, RequestedToken::Id)))
}

/// Returns the token that a file is to have; `None` if it is to be absent: a token that is bound to a key is of no use to the
/// programs that read the file.
fn wanted(session: Option<&Session>, token: &RequestedToken, now: UnixTime) -> Option<Secret> {
    let session = session.filter(|session| !session.logged_out && required_login(session, now).is_none())?;
    let request = match token {
        RequestedToken::Access(_) => TokenRequest::access(TokenTarget::default(), None),
        RequestedToken::Id => TokenRequest::id_token(None),
    };
    let text = match token {
        RequestedToken::Access(_) if session.tokens.is_bound() => None,
        RequestedToken::Access(_) => Some(&session.tokens.access_token),
        RequestedToken::Id => session.tokens.id_token.as_ref(),
    };
    text.filter(|_| SessionView::new(session, &request).has_valid_token(now)).cloned()
}

impl SessionService {
    /// Writes the tokens of `session` to the profile's token files, and removes files that are to have none. Call it under the
    /// profile lock, unless it only removes. The files may have the tokens of the session `before`.
    pub(super) async fn write_token_files(
        &self,
        profile: &Profile,
        session: Option<&Session>,
        before: Option<&Session>,
    ) {
        let known: Vec<Secret> = session.into_iter().chain(before).flat_map(tokens_of).collect();
        for (path, token) in files(profile) {
            let token = wanted(session, &token, self.clock.now());
            let abandoned = Arc::new(AtomicBool::new(false));
            let (file, is_abandoned) = (path.to_owned(), Arc::clone(&abandoned));
            let (records, known) = (Arc::clone(&self.token_file_records), known.clone());
            let change = unblock(path, move || match token {
                Some(token) => records.write(&file, &token, &known, || is_abandoned.load(Ordering::Relaxed)),
                None => records.remove(&file, &known),
            });
            let result = match tokio::time::timeout(FILE_LIMIT, change).await {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => Err(error.into()),
                Err(_) => {
                    abandoned.store(true, Ordering::Relaxed);
                    Err(std::io::Error::other("the file system does not respond").into())
                }
            };
            self.record_token_file(path, result);
        }
    }

    /// Writes the tokens of the stored session to the profile's token files.
    pub async fn update_token_files(&self, profile: &Profile) {
        if files(profile).next().is_none() {
            return;
        }
        let Ok(lock) = self.lock(profile).await else { return };
        match self.session(profile).await {
            Ok(session) => self.write_token_files(profile, Some(&session), None).await,
            Err(SessionError::LoginRequired(_)) => self.remove_with_session(profile).await,
            Err(error) => tracing::info!("{}: the token files are left as they are: {error}", profile.name),
        }
        lock.release().await;
    }

    /// Does the same for a caller that knows the session: if the files have its tokens, no lock is taken and no store is
    /// read.
    pub async fn check_token_files(&self, profile: &Profile, known: Option<&Session>) {
        let now = self.clock.now();
        let expected: Vec<(PathBuf, Option<Secret>)> =
            files(profile).map(|(path, token)| (path.to_owned(), wanted(known, &token, now))).collect();
        let Some(first) = expected.first().map(|(path, _)| path.clone()) else { return };
        let records = Arc::clone(&self.token_file_records);
        let is_done =
            unblock(&first, move || expected.iter().all(|(path, token)| records.is_current(path, token.as_ref())));
        match tokio::time::timeout(FILE_LIMIT, is_done).await {
            Ok(Ok(true)) => files(profile).for_each(|(path, _)| self.failed_token_files.remove(path)),
            _ => self.update_token_files(profile).await,
        }
    }

    /// Removes the token files of a profile, whatever its session is: at once, and once more after a refresh in progress, which
    /// writes them. Reads no session: a locked agent calls this again and again.
    pub async fn remove_token_files(&self, profile: &Profile) {
        self.write_token_files(profile, None, None).await;
        let Ok(lock) = self.lock(profile).await else { return };
        self.write_token_files(profile, None, None).await;
        lock.release().await;
    }

    /// Removes the token files, which may have the tokens of the stored session without a record. Call it under the profile lock.
    async fn remove_with_session(&self, profile: &Profile) {
        let stored = self.stored(profile).await.ok().flatten();
        self.write_token_files(profile, None, stored.as_ref()).await;
    }

    /// Removes the token files that a profile had `before` a change of its settings and that none has `now`.
    pub async fn remove_former_token_files(&self, before: &Profile, now: &[Arc<Profile>]) {
        let is_used = |path: &PathBuf| now.iter().any(|profile| files(profile).any(|(used, _)| used == path));
        let former = |file: &Option<PathBuf>| file.clone().filter(|path| !is_used(path));
        let (token_file, id_token_file) = (former(&before.token_file), former(&before.id_token_file));
        if token_file.is_some() || id_token_file.is_some() {
            let profile = Profile { token_file, id_token_file, ..before.clone() };
            self.remove_token_files(&profile).await;
            let Ok(lock) = self.lock(&profile).await else { return };
            self.remove_with_session(&profile).await;
            lock.release().await;
        }
    }

    /// Checks that the token files that a profile has `after` a change of its settings, and had not `before`, can be written
    /// and replace nothing that authctl has not written.
    ///
    /// # Errors
    /// The path, and why it cannot become a token file.
    pub async fn check_new_token_files(
        &self,
        before: &Profile,
        after: &Profile,
    ) -> Result<(), (PathBuf, TokenFileError)> {
        let former: Vec<&Path> = files(before).map(|(path, _)| path).collect();
        for (path, _) in files(after).filter(|(path, _)| !former.contains(path)) {
            let session = if path.exists() { self.session(before).await.ok() } else { None };
            let known: Vec<Secret> = session.iter().flat_map(tokens_of).collect();
            let checked = self.token_file_records.check(path, &known).and_then(|()| token_file::check(path));
            checked.map_err(|error| (path.to_owned(), error))?;
        }
        Ok(())
    }

    /// Returns the state of the profile's token files for its session. Blocks while it reads them.
    #[must_use]
    pub fn token_files_blocking(&self, profile: &Profile, session: Option<&Session>) -> Vec<TokenFileStatus> {
        let known: Vec<Secret> = session.into_iter().flat_map(tokens_of).collect();
        let check = |path: &Path| self.token_file_records.check(path, &known).and_then(|()| token_file::check(path));
        let status = |(path, token): (&Path, RequestedToken)| {
            let is_bound =
                matches!(token, RequestedToken::Access(_)) && session.is_some_and(|session| session.tokens.is_bound());
            let token = wanted(session, &token, self.clock.now());
            let current = !is_bound && has_wanted_content(path, token.as_ref());
            let error = match is_bound {
                true => Some(
                    "the access token is bound to a key (DPoP), which programs that read the file do not have".into(),
                ),
                false => check(path).err().filter(|_| !current).map(|error| error.to_string()),
            };
            TokenFileStatus {
                path: path.to_owned(),
                current,
                error: error.map(|error: String| without_error_numbers(&error)),
            }
        };
        files(profile).map(status).collect()
    }

    fn record_token_file(&self, path: &Path, result: Result<(), TokenFileError>) {
        let Err(error) = result else { return self.failed_token_files.remove(path) };
        let reason = without_error_numbers(&error.to_string());
        if self.failed_token_files.add(path.to_owned(), reason.clone()) {
            tracing::warn!("the token file {} is not up to date: {reason}", path.display());
        }
    }

    /// Returns the token files that this process could not write or remove, each with the reason. Each is returned once.
    #[must_use]
    pub fn take_failed_token_files(&self) -> BTreeMap<PathBuf, String> {
        self.failed_token_files.take()
    }
}
