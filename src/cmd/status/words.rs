//! What the table and the details of `authctl status` have in common.

use crate::agent::protocol::AgentStatus;
use crate::app::App;
use crate::clock::UnixTime;
use crate::cmd::output::{Style, rough_span};
use crate::error::Hint;
use crate::session::TokenFileStatus;
use crate::status::{ProfileStatus, SessionState};
use crate::text::excerpt;

/// The maximum length of a reason, in characters.
pub(super) const MAX_REASON: usize = 300;

/// Returns how a state is shown: its style, and the mark of a profile that needs something.
pub(super) fn look(state: SessionState) -> (Style, char) {
    match state {
        SessionState::Valid | SessionState::Refreshable => (Style::Good, ' '),
        SessionState::RefreshFailing | SessionState::Unknown => (Style::Warning, '!'),
        SessionState::LoginRequired => (Style::Bad, 'x'),
    }
}

/// Returns the command that logs in to the profile again.
pub(super) fn login_command(app: &App, status: &ProfileStatus) -> String {
    app.next_command(Hint::login().about(&status.profile))
}

/// Returns when the token expires, and what happens then.
pub(super) fn expiry(status: &ProfileStatus, now: UnixTime) -> (String, &'static str) {
    let note = match (status.state, status.can_refresh) {
        (SessionState::Valid | SessionState::Refreshable, true) => "refreshes automatically",
        (SessionState::Valid, false) => "then log in again",
        _ => "",
    };
    match status.expires_at {
        _ if matches!(status.state, SessionState::LoginRequired | SessionState::Unknown) => ("-".to_owned(), ""),
        None => ("unknown".to_owned(), note),
        Some(at) if at > now => (rough_span(now.until(at)), note),
        Some(_) => ("expired".to_owned(), note),
    }
}

/// Describes the last failed refresh and the next.
pub(super) fn failure(status: &ProfileStatus, agent: &AgentStatus, now: UnixTime) -> String {
    let reason = status.last_failure.as_ref().map(|failed| excerpt(&failed.message, MAX_REASON)).unwrap_or_default();
    let next = match status.next_attempt().filter(|_| agent.running && !agent.locked) {
        Some(at) if at > now => format!("in {}", rough_span(now.until(at))),
        Some(_) => "now".to_owned(),
        None => "when a token is requested".to_owned(),
    };
    format!("{reason}; next attempt {next}")
}

/// Returns the path of a token file, and what is wrong with it.
pub(super) fn token_file(file: &TokenFileStatus) -> String {
    let path = file.path.display();
    match (&file.error, file.current) {
        (_, true) => path.to_string(),
        (Some(reason), false) => format!("{path} is not up to date: {}", excerpt(reason, MAX_REASON)),
        (None, false) => format!("{path} is not up to date"),
    }
}
