//! When a session ends, so that only a login helps: by what the issuer has stated, what refreshes and the session before have
//! shown, and what the profile requires.

use std::time::Duration;

use serde::Serialize;

use super::refresh_policy::{SessionView, TokenRequest};
use crate::clock::UnixTime;
use crate::model::{DecidingToken, Profile, Session, SessionHistory, TokenSet};
use crate::secret::Secret;
use crate::verify::unverified_claims;

/// What ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionLimit {
    /// The access token expires, and the session cannot be refreshed.
    AccessToken,
    /// The ID token, by which the profile verifies, expires, and refreshes bring no new one.
    IdToken,
    /// The refresh token expires, and refreshes do not extend it.
    RefreshToken,
    /// The sign-in is older than `max_auth_age` of the profile.
    MaxAuthAge,
    /// The issuer's last response is older than `max_offline` of the profile, and the session cannot be refreshed.
    MaxOffline,
    /// The issuer ended the session before this one at this age.
    PreviousSession,
    /// The workload's identity token expires, and the platform is not known to issue another.
    IdentityToken,
}

/// What is known of the end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// The first limit that the session reaches, and when. `None` if no limit is known.
    pub limit: Option<(SessionLimit, UnixTime)>,
    /// How long a new session lasts by the same limit.
    pub new_session_lasts: Option<Duration>,
    /// How long a refresh token is valid, if each refresh extends that.
    pub extended_by: Option<Duration>,
    /// From when on a refresh shows whether it extends the refresh token, if that is unknown.
    pub observable_at: Option<UnixTime>,
}

/// The minimum time between two refreshes that shows whether the second one has extended the refresh token: lifetimes are
/// whole seconds.
const OBSERVABLE: Duration = Duration::from_secs(4);

/// The lifetime of an access token whose expiry is unknown.
const USUAL_LIFETIME: Duration = Duration::from_secs(3600);

impl SessionEnd {
    /// Returns what is known of the end of `session`. The issuer's last response was at `contact_at`, and the platform of a
    /// workload gives identity tokens until `identity_end`, if that is known.
    #[must_use]
    pub fn of(
        session: &Session,
        profile: &Profile,
        contact_at: Option<UnixTime>,
        identity_end: Option<UnixTime>,
    ) -> Self {
        let (tokens, required) = (&session.tokens, &profile.requirements);
        let can_refresh = session.can_refresh();
        let mut limits = Vec::new();
        let mut add = |limit, at: Option<UnixTime>| limits.extend(at.map(|at| (limit, at)));
        if !can_refresh {
            add(SessionLimit::AccessToken, tokens.expires_at);
            add(SessionLimit::MaxOffline, required.max_offline.and_then(|max| Some(contact_at?.plus(max))));
        }
        // The last access token that it refreshes may be valid for longer.
        let identity_end = identity_end.map(|end| tokens.expires_at.map_or(end, |token_end| token_end.max(end)));
        add(SessionLimit::IdentityToken, identity_end.filter(|_| can_refresh));
        let refresh_end = refresh_token_end(tokens);
        let extends = session.history.refreshes_extend;
        if extends != Some(true) {
            add(SessionLimit::RefreshToken, refresh_end.filter(|_| can_refresh));
        }
        let deciding = match required.token {
            DecidingToken::AccessToken => Some(&tokens.access_token),
            DecidingToken::IdToken => tokens.id_token.as_ref(),
        };
        let auth_time = deciding.and_then(|token| unverified_claims(token.expose())?.auth_time);
        add(SessionLimit::MaxAuthAge, required.max_auth_age.and_then(|max| Some(auth_time?.plus(max))));
        if required.token == DecidingToken::IdToken {
            let view = SessionView::new(session, &TokenRequest::id_token(None));
            let end = view.token.filter(|_| !can_refresh || !view.refresh_brings_token);
            add(SessionLimit::IdToken, end.and_then(|token| token.expires_at));
        }
        // It lasts longer than the one before if it was refreshed at a greater age.
        let previous = session.history.previous_lasted.filter(|previous| lasted(session) < *previous);
        let previous = previous.map(|seconds| session.logged_in_at.plus(Duration::from_secs(seconds)));
        add(SessionLimit::PreviousSession, previous);
        let limit = limits.into_iter().min_by_key(|(_, at)| *at);
        Self {
            limit,
            new_session_lasts: limit.and_then(|(limit, at)| match limit {
                SessionLimit::MaxAuthAge => required.max_auth_age,
                SessionLimit::MaxOffline => required.max_offline,
                // A login uses the same identity token.
                SessionLimit::IdentityToken => None,
                _ => Some(session.logged_in_at.until(at)),
            }),
            extended_by: refresh_end.filter(|_| extends == Some(true)).map(|end| last_refresh(session).until(end)),
            observable_at: (can_refresh && refresh_end.is_some() && extends.is_none())
                .then(|| last_refresh(session).plus(OBSERVABLE)),
        }
    }

    /// Returns whether this limit is the first.
    #[must_use]
    pub fn is_limited_by(&self, limit: SessionLimit) -> bool {
        self.limit.is_some_and(|(first, _)| first == limit)
    }

    /// Returns whether no known limit is reached before `at`.
    #[must_use]
    pub fn is_after(&self, at: UnixTime) -> bool {
        self.limit.is_none_or(|(_, end)| end >= at)
    }
}

/// Returns when the refresh token expires, if the issuer has stated it, or if the token itself is a JWT that does: that is
/// good enough for an estimate.
fn refresh_token_end(tokens: &TokenSet) -> Option<UnixTime> {
    let own = |token: &Secret| unverified_claims(token.expose())?.exp.filter(|exp| exp.0 > 0);
    tokens.refresh_token.as_ref().and_then(|token| tokens.refresh_expires_at.or_else(|| own(token)))
}

fn last_refresh(session: &Session) -> UnixTime {
    session.refreshed_at.unwrap_or(session.logged_in_at)
}

/// Returns the age of the session at its last refresh, in seconds.
fn lasted(session: &Session) -> u64 {
    session.logged_in_at.until(last_refresh(session)).as_secs()
}

/// Returns whether the refresh at `at`, which made `after` out of `before`, has extended the refresh token: its expiry has moved
/// as the time has. If too little time has passed, that is as unknown as before.
pub(super) fn refreshes_extend(before: &Session, after: &Session, at: UnixTime) -> Option<bool> {
    let passed = last_refresh(before).until(at);
    match (refresh_token_end(&before.tokens), refresh_token_end(&after.tokens)) {
        (Some(old), Some(new)) if passed >= OBSERVABLE => Some(old.until(new) * 2 > passed),
        _ => before.history.refreshes_extend,
    }
}

/// Returns the history of a session that replaces `before`. If the issuer ended that one although it was refreshed regularly, a
/// new one probably lasts no longer. Between two refreshes far apart, it may have ended because it was not used.
pub(super) fn history_after(before: &Session) -> SessionHistory {
    let tokens = &before.tokens;
    let lifetime = tokens.expires_at.map_or(USUAL_LIFETIME, |end| tokens.obtained_at.until(end));
    let was_ended = before.ended.as_ref().is_some_and(|ended| last_refresh(before).until(ended.at) <= 2 * lifetime);
    let age = lasted(before);
    let known = before.history.previous_lasted.filter(|previous| age < *previous);
    SessionHistory { refreshes_extend: None, previous_lasted: if was_ended { Some(age) } else { known } }
}

#[cfg(test)]
mod tests;
