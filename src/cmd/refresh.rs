//! `authctl refresh`: refreshes sessions now, or only those about to expire.

use std::time::Duration;

use super::output;
use crate::agent::protocol::{RefreshResponse, refresh_query};
use crate::app::App;
use crate::cli::Refresh;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::Profile;
use crate::session::{Demand, LoginReason, MinTtl, SessionError, TokenRequest};

/// How long to wait for the hook of a refresh, to show whether it fails.
const HOOK_PATIENCE: Duration = Duration::from_secs(2);

/// Runs the command.
pub fn run(app: &App, args: &Refresh) -> Result<u8, Error> {
    let demand = args.if_expiring.map_or(Demand::New, |left| Demand::NewUnless(MinTtl::AtLeast(left)));
    let request = TokenRequest::own(demand);
    if !args.all {
        let profile = app.profile(args.profile.as_ref())?;
        let refreshed = refresh_and_watch_hooks(app, &profile, &request);
        print(app, &refreshed.map_err(|error| error.of_refresh(&profile.name))?)?;
        return Ok(0);
    }
    app.refuse_profile_with_all("refresh")?;
    let config = app.config()?;
    let invalid = app.report_invalid_profiles(&config);
    let mut first_failure: Option<ErrorCode> = None;
    let mut any = false;
    for profile in config.profiles.values() {
        let result = match app.sessions()?.session_blocking(profile) {
            Err(SessionError::LoginRequired(LoginReason::NoSession(_))) => continue,
            Err(error) => Err(Error::from(error).about(&profile.name)),
            Ok(_) => refresh_and_watch_hooks(app, profile, &request),
        };
        any = true;
        match result {
            Ok(refreshed) => print(app, &refreshed)?,
            Err(error) if error.code == ErrorCode::Interrupted => return Err(error),
            Err(error) => {
                first_failure = first_failure.or(Some(error.code));
                app.report(&error.of_refresh(&profile.name));
            }
        }
    }
    if !any {
        app.ui().notice(&format!("no sessions to refresh; run `{}`", app.next_command(Hint::command("login"))));
    }
    Ok(first_failure.map_or(invalid, ErrorCode::exit_code))
}

/// Does the same as [`refresh_one`], and waits for the hooks for [`HOOK_PATIENCE`] at most, to show whether they fail. Those of the
/// agent are in its log and its status.
fn refresh_and_watch_hooks(app: &App, profile: &Profile, request: &TokenRequest) -> Result<RefreshResponse, Error> {
    let sessions = app.sessions()?;
    let mut hooks = sessions.hook_outcomes();
    let refreshed = refresh_one(app, profile, request);
    let waited = app.run(async {
        sessions.wait_for_hooks(HOOK_PATIENCE).await;
        Ok(())
    });
    while let Ok(outcome) = hooks.try_recv() {
        if let Some(message) = outcome.failure {
            app.ui().warn(&format!("{}: {message}", outcome.profile));
        }
    }
    let refreshed = refreshed?;
    waited?;
    Ok(refreshed)
}

/// Refreshes a token of a session.
///
/// # Errors
/// As `authctl refresh`.
pub(super) fn refresh_one(app: &App, profile: &Profile, request: &TokenRequest) -> Result<RefreshResponse, Error> {
    // Outside of the runtime, where Ctrl-C ends the process at once; the agent finishes its refresh.
    match through_agent(app, profile, request)? {
        Some(refreshed) => Ok(refreshed),
        None => app.run(refresh(app, profile, request)),
    }
}

fn print(app: &App, refreshed: &RefreshResponse) -> Result<(), Error> {
    if app.common.json {
        output::json(refreshed)?;
    } else {
        let left = refreshed.expires_in.map(Duration::from_secs);
        let expiry = left.map(|left| format!("; expires in {}", output::span(left))).unwrap_or_default();
        app.ui().notice(&match refreshed.refreshed {
            true => format!("refreshed {}{expiry}", refreshed.profile),
            false => format!("{} does not need a refresh{expiry}", refreshed.profile),
        });
    }
    Ok(())
}

/// Refreshes through the agent, so that the agent has the new token first.
fn through_agent(app: &App, profile: &Profile, request: &TokenRequest) -> Result<Option<RefreshResponse>, Error> {
    let if_expiring = match request.demand {
        Demand::NewUnless(MinTtl::AtLeast(left)) => Some(left.as_secs()),
        _ => None,
    };
    let query = refresh_query(&request.target(), if_expiring);
    app.try_agent("POST", &format!("/v1/refresh/{}{query}", profile.name), None)
}

async fn refresh(app: &App, profile: &Profile, request: &TokenRequest) -> Result<RefreshResponse, Error> {
    let sessions = app.sessions()?;
    let refresh = sessions.wait_for_token(profile, request);
    let served = app.with_progress(profile.issuer.as_str(), refresh).await;
    if let Err(SessionError::LoginRequired(reason)) = &served {
        sessions.start_login_hook(profile, reason).await;
    }
    let served = served.map_err(|e| Error::of_token(e, &profile.name))?;
    let session = &served.session;
    let tokens = session.token_for(&request.target()).unwrap_or(&session.tokens);
    Ok(RefreshResponse {
        profile: profile.name.clone(),
        refreshed: served.refreshed,
        expires_at: tokens.expires_at,
        expires_in: tokens.expires_in(app.clock().now()),
    })
}
