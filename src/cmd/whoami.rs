//! `authctl whoami`: prints the account of a session and nothing else.

use serde::Serialize;

use super::output;
use super::status::ask_agent;
use crate::app::App;
use crate::cli::Whoami;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{Profile, ProfileName, Subject, TokenTarget};
use crate::session::refresh_policy::{SessionView, decide};
use crate::session::{Decision, SessionError, SessionService, TokenRequest, is_unverified};
use crate::status::{account, profile_status};
use crate::verify::unverified_claims;

/// The output of `whoami --json`.
#[derive(Serialize)]
struct WhoamiOutput<'a> {
    /// The profile; null for the token in `AUTHCTL_TOKEN`.
    profile: Option<&'a ProfileName>,
    issuer: Option<&'a str>,
    account: &'a str,
    subject: Option<&'a Subject>,
}

/// Runs the command.
pub fn run(app: &App, args: &Whoami) -> Result<u8, Error> {
    if let Some(token) = app.supplied_token(args.profile.as_ref())? {
        let claims = unverified_claims(token.expose());
        let Some(account) = claims.and_then(|claims| claims.sub) else {
            let message = "the token in AUTHCTL_TOKEN names no account";
            return Err(Error::msg(ErrorCode::LoginRequired, message, Hint::shell("unset AUTHCTL_TOKEN")));
        };
        app.ui().warn("the account is read from AUTHCTL_TOKEN and is not verified");
        return print(app, &WhoamiOutput { profile: None, issuer: None, account: &account, subject: None });
    }
    let profile = app.profile(args.profile.as_ref())?;
    let with_profile = |error: SessionError| Error::from(error).about(&profile.name);
    if app.is_held_by_agent(profile.store)? {
        return of_agent(app, &profile);
    }
    let session = app.sessions()?.session_blocking(&profile).map_err(with_profile)?;
    let request = TokenRequest::access(TokenTarget::default(), None);
    let view = SessionView::new(&session, &request);
    if let Decision::Fail(obstacle) = decide(Some(&view), &request, app.clock().now(), None) {
        return Err(with_profile(SessionService::obstacle_error(&profile, &session, &request, obstacle)));
    }
    let account = account(session.subject.as_ref(), session.grant, &profile.client_id).ok_or_else(|| {
        let (message, hint) = match is_unverified(&session) {
            true => ("is not verified, so its account is unknown", Hint::login().with_flag("--browser")),
            false => ("names no account", Hint::login_with_openid(&profile.scopes)),
        };
        let message = format!("the token of {} {message}", profile.name);
        Error::msg(ErrorCode::LoginRequired, message, hint).about(&profile.name)
    })?;
    let issuer = Some(profile.issuer.as_str());
    print(app, &WhoamiOutput { profile: Some(&profile.name), issuer, account, subject: session.subject.as_ref() })
}

/// Prints the account of a session that only the agent can read.
fn of_agent(app: &App, profile: &Profile) -> Result<u8, Error> {
    let mut status = [profile_status(&*app.sessions()?, profile, false)];
    ask_agent(app, &mut status);
    let [status] = status;
    match (status.account(), &status.problem) {
        (Some(account), _) if status.has_token() => {
            let issuer = Some(profile.issuer.as_str());
            print(
                app,
                &WhoamiOutput { profile: Some(&profile.name), issuer, account, subject: status.subject.as_ref() },
            )
        }
        (_, Some(problem)) => Err(Error::msg(problem.code, problem.message.clone(), problem.hint())),
        (_, None) => {
            let message = format!("the token of {} names no account", profile.name);
            Err(Error::msg(ErrorCode::LoginRequired, message, Hint::login()).about(&profile.name))
        }
    }
}

fn print(app: &App, shown: &WhoamiOutput<'_>) -> Result<u8, Error> {
    match app.common.json {
        true => output::json(shown)?,
        false => output::line(shown.account)?,
    }
    Ok(0)
}
