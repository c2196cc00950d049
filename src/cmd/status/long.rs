//! The details of a profile: `authctl status NAME` and `--long`.

use super::words::{failure, login_command, look};
use crate::app::App;
use crate::clock::UnixTime;
use crate::cmd::output::{Style, StyledLine, ago, rough_span, wrapped};
use crate::model::Subject;
use crate::paths::without_home;
use crate::status::{ProfileStatus, SessionState, StatusReport};
use crate::text::{excerpt, sanitize_line};

/// Returns the lines about a profile.
pub(super) fn lines(app: &App, status: &ProfileStatus, report: &StatusReport, now: UnixTime) -> Vec<String> {
    let (style, _) = look(status.state);
    let line = StyledLine::new(app).styled(Style::Bold, status.profile.as_str()).text(": ");
    let mut lines = vec![line.styled(style, status.label()).finish()];
    let mut field = |name: &str, value: &str| {
        lines.extend(wrapped(&format!("  {name:<10} {value}"), 13));
    };
    let effective = report.effective_profile.as_ref().filter(|effective| effective.profile == status.profile);
    match effective.map(|effective| effective.source.as_str()) {
        Some("--profile") => field("used", "because of --profile"),
        Some(source) => field("used", &format!("if no profile is named ({source})")),
        None => {}
    }
    field("issuer", status.issuer.as_str());
    if let Some(path) = &status.machine_file {
        field("set in", &without_home(path));
    }
    if let Some(at) = status.logged_in_at {
        field("login", &format!("{}, {}, grant {}", user(status), ago(at, now), status.grant));
        field("token", &token(status, now));
        field("refresh", &refresh(status, now));
        if let Some(since) = status.refreshing_since {
            field("", &format!("in progress, or its reply was lost, {}", ago(since, now)));
        }
        if let Some(failed) = status.last_failure.as_ref().filter(|_| status.state == SessionState::RefreshFailing) {
            field("", &format!("failed {}: {}", ago(failed.at, now), failure(status, &report.agent, now)));
        }
        field("stored in", &without_home(&status.location));
    }
    for file in &status.token_files {
        field("token file", &without_home(&super::words::token_file(file)));
    }
    let mut command = None;
    match &status.problem {
        _ if status.state == SessionState::LoginRequired && status.logged_in_at.is_none() => {
            command = Some(("next", login_command(app, status)));
        }
        Some(problem) => {
            field("error", &excerpt(&problem.message, 400));
            problem.note.iter().for_each(|note| field("note", note));
            command = Some(("hint", problem.hint.clone())).filter(|(_, hint)| !hint.is_empty());
        }
        None if status.state == SessionState::LoginRequired => command = Some(("next", login_command(app, status))),
        None => {}
    }
    // It stays whole, so that it can be copied.
    lines.extend(command.map(|(name, line)| sanitize_line(&format!("  {name:<10} {line}")).into_owned()));
    lines
}

fn user(status: &ProfileStatus) -> String {
    match (&status.subject, status.account()) {
        (Some(Subject { sub, name: Some(name) }), _) => format!("{} ({})", excerpt(name, 80), excerpt(sub, 80)),
        (None, Some(client)) if status.grant.is_unattended() => format!("client {}", excerpt(client, 80)),
        (_, account) => account.map_or_else(|| "unknown user".to_owned(), |account| excerpt(account, 80)),
    }
}

fn token(status: &ProfileStatus, now: UnixTime) -> String {
    let mut line = match status.expires_at {
        None => "no known expiry".to_owned(),
        Some(at) if at > now => format!("expires in {}", rough_span(now.until(at))),
        Some(at) => format!("expired {}", ago(at, now)),
    };
    if status.unverified {
        line.push_str("; supplied, unverified");
    }
    if status.bound {
        line.push_str("; bound to a key (DPoP)");
    }
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

fn refresh(status: &ProfileStatus, now: UnixTime) -> String {
    let ability = if status.can_refresh { "refreshes automatically" } else { "cannot be refreshed" };
    match status.refreshed_at {
        Some(at) => format!("{ability}; refreshed {}", ago(at, now)),
        None if status.can_refresh => format!("{ability}; not refreshed yet"),
        None => ability.to_owned(),
    }
}
