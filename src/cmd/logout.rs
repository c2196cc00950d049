//! `authctl logout`: ends a session at its issuer and here, and says what became of each half.

use serde::Serialize;

use super::output;
use crate::app::App;
use crate::cli::Logout;
use crate::error::{Error, ErrorCode};
use crate::model::{Profile, ProfileName};
use crate::session::{LogoutOptions, Revocation};

#[derive(Serialize)]
struct Answer<'a> {
    profile: &'a ProfileName,
    /// Whether a session was deleted here.
    deleted: bool,
    /// `revoked`, `not_asked`, `not_offered`, `failed`, or `nothing` where there was no session.
    issuer: &'static str,
    error: Option<String>,
}

/// Runs the command.
pub fn run(app: &App, args: &Logout) -> Result<u8, Error> {
    if !args.all {
        let profile = app.profile(args.profile.as_ref())?;
        return app.run(one(app, &profile, args));
    }
    let config = app.config()?;
    let mut worst = 0;
    app.run(async {
        for profile in config.profiles.values() {
            let code = match one(app, profile, args).await {
                Ok(code) => code,
                Err(failure) => {
                    app.report(&failure);
                    failure.code.exit_code()
                }
            };
            if worst == 0 {
                worst = code;
            }
        }
        Ok(())
    })?;
    Ok(worst)
}

async fn one(app: &App, profile: &Profile, args: &Logout) -> Result<u8, Error> {
    let name = &profile.name;
    let options = LogoutOptions { revoke: !args.no_revoke };
    let sessions = app.sessions()?;
    let ending = sessions.logout(profile, options);
    let ended = app.patiently(profile.issuer.as_str(), ending).await.map_err(|e| Error::from(e).about(name));
    app.tell_agent(name);
    let ended = ended?;
    let Some(revocation) = ended else {
        if app.common.json {
            output::json(&Answer { profile: name, deleted: false, issuer: "nothing", error: None })?;
        } else {
            app.ui().tell(&format!("{name}: nobody was logged in."));
        }
        return Ok(0);
    };
    let (word, sentence, failure) = match revocation {
        Revocation::Revoked => ("revoked", "the issuer has revoked the tokens".to_owned(), None),
        Revocation::Skipped => {
            ("not_asked", "the issuer was not told: the tokens stay valid there until they expire".to_owned(), None)
        }
        Revocation::Unsupported => (
            "not_offered",
            "the issuer offers no revocation: the tokens stay valid there until they expire".to_owned(),
            None,
        ),
        Revocation::Failed(error) => {
            let failure = Error::from(error).about(name);
            (
                "failed",
                "the issuer has NOT revoked the tokens: they stay valid there until they expire".to_owned(),
                Some(failure),
            )
        }
    };
    if app.common.json {
        let error = failure.as_ref().map(Error::message);
        output::json(&Answer { profile: name, deleted: true, issuer: word, error })?;
    } else {
        app.ui().tell(&format!("{name}: the session is deleted here, and {sentence}."));
    }
    let code = failure.map_or(0, |failure| told(app, profile, &failure));
    // Last, since what was done already is to be told whatever comes of this.
    if args.end_session
        && let Err(error) = super::login::open_end_session(app, profile).await
    {
        let error = error.about(name);
        app.report(&error);
        return Ok(if code == 0 { error.code.exit_code() } else { code });
    }
    Ok(code)
}

/// Tells that the issuer's half failed, and gives the exit code for it.
fn told(app: &App, profile: &Profile, failure: &Error) -> u8 {
    if !app.common.json {
        let hint = format!(
            "revoke this client's access on the issuer's own pages ({}) if the tokens may be in other hands",
            profile.issuer
        );
        app.report(&Error { hint, ..Error::msg(failure.code, failure.message(), "") });
    }
    match failure.code.general() {
        code @ (ErrorCode::IssuerRefused | ErrorCode::StoreUnavailable) => code.exit_code(),
        _ => ErrorCode::IssuerUnreachable.exit_code(),
    }
}
