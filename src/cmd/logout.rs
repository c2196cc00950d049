//! `authctl logout`: revokes the tokens, deletes the session, and reports both.

use serde::Serialize;

use super::output;
use crate::agent::protocol::LogoutResponse;
use crate::app::App;
use crate::cli::Logout;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ClientRegistration, Profile, ProfileName};
use crate::session::Revocation;

/// The output of `logout --json`.
#[derive(Serialize)]
struct LogoutOutput<'a> {
    profile: &'a ProfileName,
    /// Whether there was a session, which is deleted.
    deleted: bool,
    /// `revoked`, `skipped`, `unsupported`, `partial` or `failed`; null if there was no session.
    revocation: Option<&'a str>,
    /// Why the revocation failed.
    error: Option<String>,
}

/// Runs the command.
pub fn run(app: &App, args: &Logout) -> Result<u8, Error> {
    if !args.all {
        let profile = app.profile(args.profile.as_ref())?;
        return app.run(log_out(app, &profile, args));
    }
    app.refuse_profile_with_all("logout")?;
    let config = app.config()?;
    let mut first_failure = app.report_invalid_profiles(&config);
    app.run(async {
        for profile in config.profiles.values() {
            let code = log_out(app, profile, args).await.unwrap_or_else(|error| {
                app.report(&error);
                error.code.exit_code()
            });
            if first_failure == 0 {
                first_failure = code;
            }
        }
        Ok(())
    })?;
    Ok(first_failure)
}

async fn log_out(app: &App, profile: &Profile, args: &Logout) -> Result<u8, Error> {
    let name = &profile.name;
    let result = match app.is_held_by_agent(profile.store)? {
        true => through_agent(app, name, !args.no_revoke),
        false => {
            let sessions = app.sessions()?;
            app.release_unsaved(name, !args.no_revoke);
            let result = app.with_progress(profile.issuer.as_str(), sessions.logout(profile, !args.no_revoke)).await;
            app.notify_agent_of_end(name, !args.no_revoke);
            let result = result.map_err(|error| Error::from(error).about(name));
            result.map(|revocation| revocation.map(|revocation| (revocation.word().to_owned(), failure(revocation))))
        }
    };
    let Some((word, error)) = result? else {
        if app.common.json {
            output::json(&LogoutOutput { profile: name, deleted: false, revocation: None, error: None })?;
        } else {
            app.ui().notice(&format!("not logged in to {name}"));
        }
        return Ok(0);
    };
    let result = match word.as_str() {
        "revoked" => "tokens revoked",
        "skipped" => "tokens stay valid at the issuer until they expire",
        "unsupported" => "the issuer supports no revocation, tokens stay valid there until they expire",
        "partial" => "session revoked, its access token may stay valid until it expires",
        _ => "tokens not revoked, they stay valid at the issuer until they expire",
    };
    if app.common.json {
        let error = error.as_ref().map(Error::message);
        output::json(&LogoutOutput { profile: name, deleted: true, revocation: Some(&word), error })?;
    } else {
        app.ui().notice(&format!("logged out of {name}; {result}"));
    }
    if !args.no_revoke {
        delete_registration(app, profile).await?;
    }
    let tokens = if word == "partial" { "access token" } else { "tokens" };
    let code = error.map_or(0, |error| report_failed_revocation(app, profile, tokens, &error));
    // Last, so that the rest is reported even if this fails.
    if args.end_session
        && let Err(error) = super::login::open_end_session(app, profile).await
    {
        let error = error.about(name);
        app.report(&error);
        return Ok(if code == 0 { error.code.exit_code() } else { code });
    }
    Ok(code)
}

/// Deletes the client that a login has registered for the profile, unless another profile uses it.
pub(super) async fn delete_registration(app: &App, profile: &Profile) -> Result<(), Error> {
    if profile.server.client_registration != ClientRegistration::Dynamic {
        return Ok(());
    }
    let config = app.config()?;
    let (sessions, issuer) = (app.sessions()?, &profile.issuer);
    let deleted = sessions.delete_registration(profile, config.profiles.values());
    let deleted = app.with_progress(issuer.as_str(), deleted).await;
    if let Some(error) = deleted.map_err(|error| Error::from(error).about(&profile.name))? {
        app.ui().warn(&format!("the client `{}` is still registered at {issuer}: {error}", profile.client_id));
    }
    Ok(())
}

fn failure(revocation: Revocation) -> Option<Error> {
    match revocation {
        Revocation::Failed(error) | Revocation::Partial(error) => Some(error.into()),
        Revocation::Revoked | Revocation::Skipped | Revocation::Unsupported => None,
    }
}

/// Has the agent log out, which alone can read the session; returns the outcome of the revocation, if there was a session.
fn through_agent(app: &App, name: &ProfileName, revoke: bool) -> Result<Option<(String, Option<Error>)>, Error> {
    let reply = app.require_agent("POST", &format!("/v1/logout/{name}?revoke={revoke}"), None);
    let done: LogoutResponse = reply.map_err(|error| error.about(name))?.read()??;
    Ok(done.revocation.map(|word| (word, done.error.map(Error::from))))
}

/// Reports that these tokens were not revoked; returns the exit code for it.
fn report_failed_revocation(app: &App, profile: &Profile, tokens: &str, error: &Error) -> u8 {
    if !app.common.json {
        let message = format!("cannot revoke the {tokens} of `{}`: {}", profile.name, error.message());
        let hint = Hint::advice(format!(
            "if others may have the tokens, revoke this client's access in your account at {}",
            profile.issuer
        ));
        app.report(&Error::msg(error.code, message, hint));
    }
    match error.code.general() {
        code @ (ErrorCode::IssuerRefused | ErrorCode::StoreUnavailable) => code.exit_code(),
        _ => ErrorCode::IssuerUnreachable.exit_code(),
    }
}
