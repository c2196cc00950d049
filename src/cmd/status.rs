//! `authctl status`: shows the profiles, their sessions and the agent, without network access.

use super::output::{self, Style, StyledLine, ago, span};
use crate::app::App;
use crate::cli::Status;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};
use crate::model::{Grant, ProfileName, Subject};
use crate::status::{ProfileStatus, SessionState, StatusReport, profile_status, profile_statuses};
use crate::text::excerpt;

/// Runs the command.
pub fn run(app: &App, args: &Status) -> Result<u8, Error> {
    let config = app.config()?;
    let named = app.requested_profile(args.profile.as_ref())?;
    if args.check {
        return check(app, args, named.as_ref());
    }
    let profiles = profile_statuses(&*app.sessions()?, &config, named.as_ref())?;
    // An agent of another home is shown as unused, and is no error here.
    let (agent, agent_line) = match app.agent_status() {
        Ok(state) => {
            let line = super::agent::status_line(&state, app.clock().now());
            (state, line)
        }
        Err(error) if error.code == ErrorCode::AnotherHome => {
            (app.absent_agent_status()?, format!("agent: not used: {}; {}", error.message(), error.hint))
        }
        Err(error) => return Err(error),
    };
    let in_directory = if named.is_none() { app.directory_profile() } else { Ok(None) };
    let store_error = profiles.iter().find_map(|profile| profile.store_error);
    let token_from_environment = app.environment.token.is_some();
    if app.common.json {
        output::json(&StatusReport { token_from_environment, agent, profiles })?;
    } else {
        if token_from_environment {
            output::line("AUTHCTL_TOKEN is set: `authctl token` and `authctl exec` use that token")?;
        }
        if profiles.is_empty() {
            output::line("no profiles; run `authctl login NAME --issuer URL --client-id ID`")?;
        }
        for profile in &profiles {
            print_profile(app, profile)?;
            output::line("")?;
        }
        if let Ok(Some(name)) = &in_directory {
            let error = config.profile(name).err().map(|error| format!("; but {error}")).unwrap_or_default();
            output::line(&format!("profile of this directory (.authctl.toml): `{name}`{error}"))?;
        }
        output::line(&agent_line)?;
    }
    let invalid = if named.is_none() { app.report_invalid_profiles(&config) } else { 0 };
    // The status was shown, but a script must notice a store that cannot be read.
    match store_error {
        Some(code) => Ok(code.exit_code()),
        None => in_directory.map(|_| invalid),
    }
}

/// Returns the exit code of `--check`: whether a token is available without a login.
fn check(app: &App, args: &Status, named: Option<&ProfileName>) -> Result<u8, Error> {
    if app.environment.token.is_some() && named.is_none() {
        return Ok(0);
    }
    let profile = app.profile(args.profile.as_ref())?;
    let status = profile_status(&*app.sessions()?, &profile, false);
    Ok(match (status.state, status.store_error) {
        (SessionState::Valid | SessionState::Refreshable, _) => 0,
        (_, Some(code)) => code.exit_code(),
        (_, None) => ErrorCode::LoginRequired.exit_code(),
    })
}

fn print_profile(app: &App, status: &ProfileStatus) -> Result<(), Error> {
    let now = app.clock().now();
    let (style, state) = match status.state {
        SessionState::Valid => (Style::Good, "valid"),
        SessionState::Refreshable => (Style::Good, "expired, refreshes automatically"),
        SessionState::LoginRequired => (Style::Bad, "login required"),
        SessionState::Unknown => (Style::Bad, "unknown, the store cannot be read"),
    };
    let default = if status.default { " (default)" } else { "" };
    let line = StyledLine::new(app).styled(Style::Bold, status.profile.as_str());
    line.text(&format!("{default}: ")).styled(style, state).print()?;
    let field = |name: &str, value: &str| output::line(&format!("  {name:<10} {value}"));
    field("issuer", status.issuer.as_str())?;
    if let Some(at) = status.logged_in_at {
        field("login", &format!("{}, {}, grant {}", account(status), ago(at, now), status.grant))?;
        field("token", &token_line(status, now))?;
        field("refresh", &refresh_line(status, now))?;
        if let Some(since) = status.refreshing_since {
            field("", &format!("in progress, or its reply was lost, {}", ago(since, now)))?;
        }
        if let Some(failed) = &status.last_failure {
            field("", &format!("failed {}: {}", ago(failed.at, now), excerpt(&failed.message, 300)))?;
        }
    }
    field("stored in", &status.location)?;
    if let Some(problem) = &status.problem {
        field("error", &excerpt(&problem.message, 400))?;
        field("hint", &problem.hint)?;
    }
    Ok(())
}

fn account(status: &ProfileStatus) -> String {
    match &status.subject {
        Some(Subject { sub, name: Some(name) }) => {
            format!("{} ({})", excerpt(name, 80), excerpt(sub, 80))
        }
        Some(Subject { sub, name: None }) => excerpt(sub, 80),
        None if status.grant == Grant::ClientCredentials => {
            format!("client {}", excerpt(&status.client_id, 80))
        }
        None => "unknown user".to_owned(),
    }
}

fn token_line(status: &ProfileStatus, now: UnixTime) -> String {
    let mut line = match status.expires_at {
        None => "no known expiry".to_owned(),
        Some(at) if at > now => format!("expires in {}", span(now.until(at))),
        Some(at) => format!("expired {}", ago(at, now)),
    };
    if let Some(scope) = &status.scope {
        line.push_str(&format!("; scope {}", excerpt(scope, 200)));
    }
    match status.other_tokens {
        0 => {}
        1 => line.push_str("; 1 token for another audience, scope or resource"),
        others => line.push_str(&format!("; {others} tokens for other audiences, scopes or resources")),
    }
    line
}

fn refresh_line(status: &ProfileStatus, now: UnixTime) -> String {
    let ability = if status.can_refresh { "refreshes automatically" } else { "cannot be refreshed" };
    match status.refreshed_at {
        Some(at) => format!("{ability}; refreshed {}", ago(at, now)),
        None => format!("{ability}; not refreshed yet"),
    }
}
