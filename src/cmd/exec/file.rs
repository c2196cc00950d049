//! `authctl exec --file`: runs the command with its token in a file of its own, which is refreshed until the command exits.

use std::future::pending;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::verified::{TokenCheck, verified};
use crate::app::App;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::token_file::{self, TokenFileError};
use crate::fs::unblock;
use crate::model::Profile;
use crate::secret::{Secret, limit_core_dumps};
use crate::session::MinTtl;
use crate::session::refresh_policy::Validity;
use crate::ui::Background;
use crate::verify::unverified_claims;

/// The pause after a refresh that brought no new token.
const RETRY: Duration = Duration::from_secs(5);

/// The file of the command.
struct CommandFile<'a> {
    path: &'a Path,
    /// The token in it, locked while the file is changed; `None` when it is to have none any more.
    token: Arc<Mutex<Option<Secret>>>,
}

/// Runs the command with `token` in a new file at `path`, which then has the newest token of the profile. Without a profile, it
/// stays as it is. Returns the exit code of the command, as a shell does.
pub(super) fn run(
    app: &App,
    source: Option<(&Profile, Validity)>,
    path: &Path,
    token: Secret,
    mut command: Command,
    cannot_run: fn(&Command, std::io::Error) -> Error,
) -> Result<u8, Error> {
    if let Some((name, key)) = app.config()?.token_file_owner(path) {
        let message = format!("cannot write a token to {}: it is the `{key}` of `{name}`", path.display());
        let hint = Hint::command("profile show").with_argument(name.as_str());
        return Err(Error::msg(ErrorCode::Configuration, message, hint));
    }
    app.run_with_signals(|_| async move {
        let mut signals = super::child::listen()?;
        let _printing = Background::start();
        let file = CommandFile { path, token: Arc::new(Mutex::new(Some(token.clone()))) };
        file.create(&token).await.map_err(|e| {
            let error = anyhow::Error::new(e).context(format!("cannot write a token to {}", path.display()));
            Error::new(ErrorCode::Configuration, error, Hint::list(path))
        })?;
        let started = super::child::check_interrupted(&mut signals).and_then(|()| {
            limit_core_dumps(false);
            let started = command.spawn();
            limit_core_dumps(true);
            started.map_err(|error| cannot_run(&command, error))
        });
        let result = match started {
            Ok(child) => {
                let passing_on = super::child::pass_on(signals, super::child::sender(&child));
                let fresh = async {
                    if let Some((profile, validity)) = source {
                        keep_fresh(app, profile, (token, validity), &file).await;
                    }
                };
                super::child::attend(child, async { tokio::join!(passing_on, fresh) }).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = file.end() {
            app.ui().warn(&format!("the token file {} is not removed: {error}", path.display()));
        }
        result
    })
}

/// Replaces the token in the file before it expires. Never returns.
async fn keep_fresh(
    app: &App,
    profile: &Profile,
    (mut token, mut validity): (Secret, Validity),
    file: &CommandFile<'_>,
) {
    let (mut has_warned, mut not_before) = (false, app.clock().now());
    loop {
        match refresh_time(validity, &token) {
            Some(at) => app.clock().until(at.max(not_before)).await,
            None => pending().await,
        }
        not_before = app.clock().now().plus(RETRY);
        let error = match fresh_token(app, profile).await {
            Ok((fresh, until)) => match file.replace(fresh.clone()).await {
                Ok(()) => {
                    (token, validity, has_warned) = (fresh, until, false);
                    continue;
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.message(),
        };
        if !std::mem::replace(&mut has_warned, true) {
            app.ui().warn(&format!("the token of the command is not refreshed: {error}"));
        }
        if expiry(validity, &token).is_some_and(|end| end <= app.clock().now()) {
            let _ = file.remove();
        }
    }
}

/// Returns a valid token of the profile, refreshed if it expires soon.
async fn fresh_token(app: &App, profile: &Profile) -> Result<(Secret, Validity), Error> {
    if app.quick_agent_status().is_some_and(|status| status.locked) {
        return Err(Error::msg(ErrorCode::AgentLocked, "the agent is locked", Hint::command("agent unlock")));
    }
    match verified(app, profile).await?.0 {
        TokenCheck::Granted(token, validity) => Ok((token, validity)),
        TokenCheck::Denied(reasons, _) => {
            let reason = reasons.first().map(|reason| reason.message.clone()).unwrap_or_default();
            Err(Error::msg(ErrorCode::TokenDenied, format!("token denied: {reason}"), Hint::None))
        }
    }
}

/// Returns when a token is due for a refresh: when the policy no longer takes it for fresh.
fn refresh_time(validity: Validity, token: &Secret) -> Option<UnixTime> {
    let issued_at = unverified_claims(token.expose()).and_then(|claims| claims.iat).unwrap_or(validity.obtained_at);
    Validity { obtained_at: issued_at, expires_at: expiry(validity, token) }.due_at(MinTtl::Default)
}

/// Returns when a token expires: as the session has it, by this machine's clock, or by the token's claims.
fn expiry(validity: Validity, token: &Secret) -> Option<UnixTime> {
    validity.expires_at.or_else(|| unverified_claims(token.expose()).and_then(|claims| claims.exp))
}

impl CommandFile<'_> {
    async fn create(&self, token: &Secret) -> Result<(), TokenFileError> {
        let (file, token) = (self.path.to_owned(), token.clone());
        let created = unblock(self.path, move || token_file::create(&file, token.expose().as_bytes()));
        created.await.map_err(TokenFileError::System)?
    }

    async fn replace(&self, next: Secret) -> Result<(), TokenFileError> {
        let (file, token) = (self.path.to_owned(), Arc::clone(&self.token));
        let replaced = unblock(self.path, move || {
            let mut token = token.lock().unwrap_or_else(PoisonError::into_inner);
            // The command may have exited.
            let Some(before) = token.as_ref() else { return Ok(()) };
            token_file::replace(&file, before.expose().as_bytes(), next.expose().as_bytes())?;
            *token = Some(next);
            Ok(())
        });
        replaced.await.map_err(TokenFileError::System)?
    }

    fn remove(&self) -> Result<(), TokenFileError> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().map_or(Ok(()), |token| token_file::remove_own(self.path, token.expose().as_bytes()))
    }

    /// Removes the file for good, after a change of it that is in progress.
    fn end(&self) -> Result<(), TokenFileError> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).take();
        token.map_or(Ok(()), |token| token_file::remove_own(self.path, token.expose().as_bytes()))
    }
}
