//! `authctl exec --file`: runs the command with its token in a file, which is kept fresh until the command exits.

use std::future::pending;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::verified::{VerifiedToken, verified};
use crate::app::{App, Signals};
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::token_file::{self, TokenFileError};
use crate::fs::unblock;
use crate::model::Profile;
use crate::secret::{Secret, limit_core_dumps};
use crate::session::refresh_policy::default_min_ttl;
use crate::verify::unverified_claims;

/// The pause after a refresh that brought no new token.
const RETRY: Duration = Duration::from_secs(5);

/// Runs the command with `token` in the file at `path`, which then has the newest token of `profile`. Without a profile, it stays
/// as it is. Returns the exit code of the command, as a shell does.
pub(super) fn run(
    app: &App,
    profile: Option<&Profile>,
    path: &Path,
    token: Secret,
    mut command: Command,
    cannot_run: fn(&Command, std::io::Error) -> Error,
) -> Result<u8, Error> {
    app.run_with_signals(|signals| async move {
        write(path, &token).await.map_err(|e| {
            let error = anyhow::Error::new(e).context(format!("cannot keep a token in {}", path.display()));
            Error::new(ErrorCode::Configuration, error, Hint::list(path))
        })?;
        limit_core_dumps(false);
        let started = command.spawn();
        limit_core_dumps(true);
        let result = match started {
            Ok(child) => attend(app, profile, path, token, child, signals).await,
            Err(error) => Err(cannot_run(&command, error)),
        };
        if let Err(error) = token_file::remove(path) {
            app.ui().notice(&format!("warning: the token file {} is not removed: {error}", path.display()));
        }
        result
    })
}

/// Waits for the command, passes signals on to it, and keeps its token fresh.
async fn attend(
    app: &App,
    profile: Option<&Profile>,
    path: &Path,
    token: Secret,
    mut child: Child,
    mut signals: Signals,
) -> Result<u8, Error> {
    let pid = Pid::from_child(&child);
    // Ctrl-C reaches the command by itself.
    let has_terminal = std::io::stdin().is_terminal();
    let exited = tokio::task::spawn_blocking(move || child.wait());
    let refreshes = async {
        match profile {
            Some(profile) => keep_fresh(app, profile, path, token).await,
            None => pending().await,
        }
    };
    tokio::pin!(exited, refreshes);
    loop {
        tokio::select! {
            status = &mut exited => {
                let status = status.map_err(std::io::Error::other).and_then(|status| status);
                return status.map(exit_code).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None));
            }
            signal = signals.next() => {
                if signal != Signal::INT || !has_terminal {
                    let _ = kill_process(pid, signal);
                }
            }
            () = &mut refreshes => {}
        }
    }
}

/// Replaces the token in the file before it expires. Never returns.
async fn keep_fresh(app: &App, profile: &Profile, path: &Path, mut token: Secret) {
    let (mut has_warned, mut not_before) = (false, app.clock().now());
    loop {
        match refresh_time(&token) {
            Some(at) => app.clock().until(at.max(not_before)).await,
            None => pending().await,
        }
        not_before = app.clock().now().plus(RETRY);
        let error = match fresh_token(app, profile).await {
            Ok(fresh) => match write(path, &fresh).await {
                Ok(()) => {
                    (token, has_warned) = (fresh, false);
                    continue;
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.message(),
        };
        if !std::mem::replace(&mut has_warned, true) {
            app.ui().notice(&format!("warning: the token of the command is not refreshed: {error}"));
        }
        if unverified_claims(token.expose()).and_then(|claims| claims.exp).is_some_and(|end| end <= app.clock().now()) {
            let _ = token_file::remove(path);
        }
    }
}

/// Returns a valid token of the profile, refreshed if it expires soon.
async fn fresh_token(app: &App, profile: &Profile) -> Result<Secret, Error> {
    if app.quick_agent_status().is_some_and(|status| status.locked) {
        return Err(Error::msg(ErrorCode::AgentLocked, "the agent is locked", Hint::command("agent unlock")));
    }
    match verified(app, profile).await?.0 {
        VerifiedToken::Granted(token) => Ok(token),
        VerifiedToken::Denied(reasons, _) => {
            let reason = reasons.first().map(|reason| reason.message.clone()).unwrap_or_default();
            Err(Error::msg(ErrorCode::TokenDenied, format!("token denied: {reason}"), Hint::None))
        }
    }
}

/// Returns when a token is due for a refresh: when the policy no longer takes it for fresh.
fn refresh_time(token: &Secret) -> Option<UnixTime> {
    let claims = unverified_claims(token.expose())?;
    let end = claims.exp?;
    let margin = default_min_ttl(claims.iat.unwrap_or(end).until(end)).as_secs();
    Some(UnixTime(end.0 - i64::try_from(margin).unwrap_or(0) + 1))
}

async fn write(path: &Path, token: &Secret) -> Result<(), TokenFileError> {
    let (file, token) = (path.to_owned(), token.clone());
    let written = unblock(path, move || token_file::write(&file, token.expose().as_bytes(), || false));
    written.await.map_err(TokenFileError::System)?
}

/// Returns the exit code as a shell reports it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
