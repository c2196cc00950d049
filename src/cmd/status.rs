//! `authctl status`: what is known here of every profile, without asking anybody.

use super::output::{self, ago, span};
use crate::app::App;
use crate::cli::Status;
use crate::error::{Error, ErrorCode};
use crate::model::{Grant, Subject};
use crate::status::{ProfileStatus, SessionState, StatusReport, profile_status, profile_statuses};
use crate::ui::sanitize_for_terminal;

/// Runs the command.
pub fn run(app: &App, args: &Status) -> Result<u8, Error> {
    let config = app.config()?;
    let asked = app.asked_for(args.profile.as_ref())?;
    let handed_in = app.environment.token.is_some();
    if args.check {
        if handed_in && asked.is_none() {
            return Ok(0);
        }
        let profile = config.choose(app.named(args.profile.as_ref())?.as_ref())?;
        let status = profile_status(&*app.sessions()?, profile, false);
        return match (status.state, status.store_error) {
            (SessionState::Valid | SessionState::Refreshable, _) => Ok(0),
            (_, Some(kind)) => Ok(kind.exit_code()),
            (_, None) => Ok(ErrorCode::LoginRequired.exit_code()),
        };
    }
    let rows = profile_statuses(&*app.sessions()?, &config, asked.as_ref())?;
    // That it is another home's is shown; what is known of the sessions here does not depend on it.
    let (agent, agents) = match app.agent_state() {
        Ok(state) => {
            let words = super::agent::in_words(&state, app.clock().now());
            (state, words)
        }
        Err(failure) if failure.code == ErrorCode::AnotherHome => {
            (app.absent_agent()?, format!("agent: not used: {}; {}", failure.message(), failure.hint))
        }
        Err(failure) => return Err(failure),
    };
    // What could not be read is shown, and still is a failure that a script must notice.
    let meant = if asked.is_none() { app.of_directory() } else { Ok(None) };
    let exit = rows.iter().find_map(|row| row.store_error).map_or(0, ErrorCode::exit_code);
    if app.common.json {
        output::json(&StatusReport { token_from_environment: handed_in, agent, profiles: rows })?;
        // Where a profile's store cannot be read, that is what the exit code says.
        return if exit == 0 { meant.map(|_| 0) } else { Ok(exit) };
    }
    if handed_in {
        output::line("AUTHCTL_TOKEN is set: `authctl token` and `authctl exec` hand out that token as it is.")?;
    }
    if rows.is_empty() {
        output::line("No profile yet. Run `authctl login NAME --issuer URL --client-id ID`.")?;
    }
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            output::line("")?;
        }
        show(app, row)?;
    }
    output::line("")?;
    if let Ok(Some(meant)) = &meant {
        let missing = config.profile(meant).err().map(|e| format!(" But {e}")).unwrap_or_default();
        output::line(&format!(
            "In this directory `{meant}` is meant where no profile is named (.authctl.toml).{missing}"
        ))?;
    }
    output::line(&agents)?;
    if exit == 0 { meant.map(|_| 0) } else { Ok(exit) }
}

fn show(app: &App, row: &ProfileStatus) -> Result<(), Error> {
    let now = app.clock().now();
    let word = match row.state {
        SessionState::Valid => app.paint(32, "valid"),
        SessionState::Refreshable => app.paint(32, "refreshes when next asked for"),
        SessionState::LoginRequired => app.paint(31, "login required"),
        SessionState::Unknown => app.paint(31, "cannot be read"),
    };
    let default = if row.default { " (default)" } else { "" };
    output::line(&format!("{}{default}: {word}", app.paint(1, row.profile.as_str())))?;
    let field = |name: &str, value: &str| output::line(&format!("  {name:<10} {value}"));
    field("issuer", row.issuer.as_str())?;
    if let Some(at) = row.logged_in_at {
        let who = match &row.subject {
            Some(Subject { sub, name: Some(name) }) => {
                format!("{} ({})", sanitize_for_terminal(name, 80), sanitize_for_terminal(sub, 80))
            }
            Some(Subject { sub, name: None }) => sanitize_for_terminal(sub, 80),
            None if row.grant == Grant::ClientCredentials => {
                format!("the client {}", sanitize_for_terminal(&row.client_id, 80))
            }
            None => "somebody (the issuer did not say who)".into(),
        };
        field("signed in", &format!("{who}, {}, by {}", ago(at, now), row.grant))?;
        let life = match (row.expires_at, row.state) {
            (None, _) => "does not say when it ends".into(),
            (Some(end), SessionState::Valid) => format!("valid for another {}", span(now.until(end))),
            (Some(end), _) => format!("expired {}", ago(end, now)),
        };
        let scope =
            row.scope.as_deref().map(|s| format!(", scope {}", sanitize_for_terminal(s, 200))).unwrap_or_default();
        let others = match row.other_tokens {
            0 => String::new(),
            n => format!(", and {n} more for other requests"),
        };
        field("token", &format!("{life}{scope}{others}"))?;
        let refresh = match (row.can_refresh, row.refreshed_at) {
            (true, Some(at)) => format!("when needed; last {}", ago(at, now)),
            (true, None) => "when needed; not yet".into(),
            (false, Some(at)) => format!("not possible; last {}", ago(at, now)),
            (false, None) => "not possible".into(),
        };
        field("refresh", &refresh)?;
        if let Some(since) = row.refreshing_since {
            field("", &format!("under way, or its reply was lost, {}", ago(since, now)))?;
        }
        if let Some(failed) = &row.last_failure {
            field("failed", &format!("{}: {}", ago(failed.at, now), sanitize_for_terminal(&failed.message, 300)))?;
        }
    }
    field("kept in", &row.location)?;
    if let Some(problem) = &row.problem {
        field("problem", &sanitize_for_terminal(&problem.message, 400))?;
        field("next", &problem.hint)?;
    }
    Ok(())
}
