//! `authctl ensure`: makes sure that a long job will not need a login, with a login now if it would.

use std::time::Duration;

use serde::Serialize;

use super::login::log_in_again;
use super::output::{self, exact_span, rough_span};
use super::refresh::refresh_one;
use crate::app::App;
use crate::cli::{Ensure, Login};
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{Grant, Profile, ProfileName, Session, format_duration};
use crate::session::{Demand, IdentityEnd, SessionEnd, SessionLimit, TokenRequest};

/// The output of `ensure --json`.
#[derive(Serialize)]
struct EnsureOutput<'a> {
    profile: &'a ProfileName,
    /// The required time in seconds.
    r#for: u64,
    /// When a login will be required, as far as that is known.
    until: Option<UnixTime>,
    /// Why.
    limit: Option<SessionLimit>,
    /// The number of seconds within which the session has to be refreshed again and again.
    refresh_within: Option<u64>,
    /// When the identity token in a workload's file expires, which another program has to replace until then.
    replace_identity_token_by: Option<UnixTime>,
    logged_in: bool,
}

/// What was found.
struct ExaminedSession {
    session: Session,
    end: SessionEnd,
    /// When the token in a workload's file expires, if it is not known whether another program replaces it.
    file_end: Option<UnixTime>,
}

/// Runs the command.
pub fn run(app: &App, args: &Ensure) -> Result<u8, Error> {
    let profile = app.profile(args.profile.as_ref())?;
    let short = match examine(app, &profile, args.duration) {
        Ok(found) => match too_short(app, &profile, &found, args.duration) {
            None => return report(app, &profile, &found, args.duration, false),
            // A login would use the same identity token.
            Some(error) if found.end.is_limited_by(SessionLimit::IdentityToken) => return Err(error),
            Some(error) => error,
        },
        Err(error) if error.code == ErrorCode::LoginRequired => error,
        Err(error) => return Err(error),
    };
    if !app.ui().is_interactive() {
        return Err(short);
    }
    app.ui().instruct(&short.message());
    let name = profile.name.clone();
    log_in_again(app, Login { profile: Some(name), max_age: max_age(&profile, args.duration), ..Login::default() })?;
    let found = examine(app, &profile, args.duration)?;
    match too_short(app, &profile, &found, args.duration) {
        None => report(app, &profile, &found, args.duration, true),
        Some(error) => Err(Error { code: ErrorCode::SessionTooShort, ..error }),
    }
}

/// How long to wait until a refresh shows whether it extends the session.
const MAX_OBSERVATION: Duration = Duration::from_secs(5);

/// Returns how long ago the user may have signed in at the issuer, where the profile limits that.
fn max_age(profile: &Profile, wanted: Duration) -> Option<Duration> {
    profile.requirements.max_auth_age.and_then(|max| max.checked_sub(wanted))
}

/// Refreshes the session unless its token is valid for long enough, and returns what is then known of its end.
fn examine(app: &App, profile: &Profile, wanted: Duration) -> Result<ExaminedSession, Error> {
    let found = read(app, profile)?;
    let is_valid_until = |at: UnixTime| found.session.tokens.expires_at.is_some_and(|end| end >= at);
    let needed = app.clock().now().plus(wanted);
    if !found.session.can_refresh() || is_valid_until(needed) && found.end.is_after(needed) {
        return Ok(found);
    }
    if let Some(at) = found.end.observable_at.filter(|_| !found.end.is_after(needed)) {
        app.run(async {
            // Longer only if the clock was set back.
            app.clock().sleep(app.clock().now().until(at).min(MAX_OBSERVATION)).await;
            Ok(())
        })?;
    }
    refresh_one(app, profile, &TokenRequest::own(Demand::New))?;
    read(app, profile)
}

fn read(app: &App, profile: &Profile) -> Result<ExaminedSession, Error> {
    app.run(async {
        let sessions = app.sessions()?;
        let about = |error| Error::from(error).about(&profile.name);
        let session = sessions.session(profile).await.map_err(about)?;
        if let Some(error) = sessions.required_login(profile, &session) {
            return Err(about(error));
        }
        let contact_at = sessions.trust(profile).await.map_err(about)?.contact_at;
        let (identity_end, file_end) = match sessions.identity_end(profile, &session).await {
            IdentityEnd::Unknown => (None, None),
            IdentityEnd::At(end) => (Some(end), None),
            IdentityEnd::UnlessReplaced(end) => (None, Some(end)),
        };
        Ok(ExaminedSession { end: SessionEnd::of(&session, profile, contact_at, identity_end), session, file_end })
    })
}

/// Returns the error of a session that does not last as long as `wanted`: that a login is required, unless a new session would
/// not last as long either.
fn too_short(app: &App, profile: &Profile, found: &ExaminedSession, wanted: Duration) -> Option<Error> {
    let now = app.clock().now();
    let (limit, end) = found.end.limit.filter(|_| !found.end.is_after(now.plus(wanted)))?;
    let what = described(profile, limit, now, end, wanted);
    let (_, wanted_span) = distinct_spans(now.until(end), wanted);
    let message = format!("the session of `{}` does not last {wanted_span}: {what}", profile.name);
    let error = match found.end.new_session_lasts.filter(|lasts| *lasts <= wanted) {
        Some(lasts) => {
            let (lasts, wanted_span) = distinct_spans(lasts, wanted);
            let message = format!("a session of `{}` lasts {lasts}, not {wanted_span}: {what}", profile.name);
            let hint = Hint::advice("split the job, or ask the issuer's operator for longer sessions");
            Error::msg(ErrorCode::SessionTooShort, message, hint)
        }
        None if limit == SessionLimit::IdentityToken => {
            let hint =
                Hint::advice("split the job, or have the platform give it an identity token that is valid for longer");
            Error::msg(ErrorCode::SessionTooShort, message, hint)
        }
        None => {
            let hint = match max_age(profile, wanted).filter(|_| limit == SessionLimit::MaxAuthAge) {
                Some(age) => Hint::login().with_option("--max-age", format_duration(age)),
                None => Hint::login(),
            };
            Error::msg(ErrorCode::LoginRequired, message, hint)
        }
    };
    Some(error.about(&profile.name))
}

/// Returns two durations in words, exact ones if they would look the same.
fn distinct_spans(one: Duration, other: Duration) -> (String, String) {
    let (rough, exact) = ([one, other].map(rough_span), [one, other].map(exact_span));
    let [one, other] = if rough[0] == rough[1] { exact } else { rough };
    (one, other)
}

/// Returns what is known of the end of a session, in words.
fn described(profile: &Profile, limit: SessionLimit, now: UnixTime, end: UnixTime, wanted: Duration) -> String {
    let (left, _) = distinct_spans(now.until(end), wanted);
    let has_passed = end <= now;
    match limit {
        SessionLimit::AccessToken if has_passed => "the access token has expired and cannot be refreshed".to_owned(),
        SessionLimit::AccessToken => format!("the access token is valid for {left} and cannot be refreshed"),
        SessionLimit::IdToken if has_passed => "the ID token has expired and cannot be refreshed".to_owned(),
        SessionLimit::IdToken => format!("the ID token is valid for {left} and cannot be refreshed"),
        SessionLimit::RefreshToken if has_passed => "the refresh token has expired".to_owned(),
        SessionLimit::RefreshToken => format!("the refresh token is valid for {left}"),
        SessionLimit::MaxAuthAge if has_passed => "the sign-in is older than `max_auth_age`".to_owned(),
        SessionLimit::MaxAuthAge => format!("`max_auth_age` accepts the sign-in for {left}"),
        SessionLimit::MaxOffline if has_passed => "the issuer's last response is older than `max_offline`".to_owned(),
        SessionLimit::MaxOffline => format!("`max_offline` accepts the token for {left}"),
        SessionLimit::IdentityToken => {
            let workload = profile.server.workload.as_ref().map(ToString::to_string).unwrap_or_default();
            match has_passed {
                true => format!("no new identity token is available from {workload}"),
                false => format!("without a new identity token from {workload} it lasts {left}"),
            }
        }
        SessionLimit::PreviousSession if has_passed => "the issuer ended the previous session at this age".to_owned(),
        SessionLimit::PreviousSession => {
            format!("the issuer ended the previous session at the age that this one reaches in {left}")
        }
    }
}

/// Reports a session that lasts long enough, or whose end is not known.
fn report(
    app: &App,
    profile: &Profile,
    found: &ExaminedSession,
    wanted: Duration,
    logged_in: bool,
) -> Result<u8, Error> {
    let ExaminedSession { session, end, file_end } = found;
    let wanted_span = rough_span(wanted);
    let (now, needed) = (app.clock().now(), app.clock().now().plus(wanted));
    // The access token may last longer.
    let file_end = file_end.filter(|at| session.tokens.expires_at.map_or(*at, |end| end.max(*at)) < needed);
    if app.common.json {
        output::json(&EnsureOutput {
            profile: &profile.name,
            r#for: wanted.as_secs(),
            until: end.limit.map(|(_, at)| at),
            limit: end.limit.map(|(limit, _)| limit),
            refresh_within: end.extended_by.map(|within| within.as_secs()),
            replace_identity_token_by: file_end,
            logged_in,
        })?;
    }
    let text = match (end.limit, end.extended_by) {
        (Some((limit, at)), _) => {
            format!("{}; enough for {wanted_span}", described(profile, limit, now, at, wanted))
        }
        (None, _) if session.grant.is_unattended() => {
            let who = if session.grant == Grant::Workload { "workload" } else { "client" };
            let is_enough = if file_end.is_some() { "assumed to last" } else { "enough for" };
            format!("the {who} logs in by itself; {is_enough} {wanted_span}")
        }
        (None, Some(within)) => {
            format!("each refresh extends the session by {}; assumed to last {wanted_span}", rough_span(within))
        }
        (None, None) => format!("the end of the session is not known; assumed to last {wanted_span}"),
    };
    app.ui().notice(&format!("{}: signed in; {text}", profile.name));
    if let Some(expires_at) = file_end {
        let source = profile.server.workload.as_ref().map(ToString::to_string).unwrap_or_default();
        let expiry = match now.until(expires_at) {
            Duration::ZERO => "has expired".to_owned(),
            left => format!("expires in {}", rough_span(left)),
        };
        app.ui().warn(&format!(
            "the session ends unless another program replaces the identity token in {source}, which {expiry}"
        ));
    }
    if let Some(within) = end.extended_by.filter(|within| *within < wanted && app.quick_agent_status().is_none()) {
        let command = app.next_command(Hint::command("agent start"));
        app.ui().warn(&format!(
            "the session ends if it is not refreshed within {}; an agent refreshes it: `{command}`",
            rough_span(within)
        ));
    }
    Ok(0)
}
