//! The token policy: whether a stored token is served, refreshed first, or refused.
//!
//! [`decide`] is pure: no clock, no store, no network. The command line and the agent call it with what they know and
//! differ only in how they wait for a refresh.

mod background;
mod request;
mod validity;

use std::time::Duration;

pub use request::{Demand, MinTtl, RequestedToken, TokenRequest};
pub use validity::{Freshness, Validity, is_from_the_future};

use crate::clock::{UnixTime, doubled};
use crate::model::{Session, TokenTarget};
use crate::verify::unverified_claims;

/// What the policy needs to know of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionView {
    /// The requested token, if the session has one.
    pub token: Option<Validity>,
    /// The session's own access token.
    pub own: Validity,
    /// Whether the session can be refreshed: it has a refresh token or client credentials.
    pub can_refresh: bool,
    /// Whether the issuer has refused its refresh token for good.
    pub ended: bool,
    /// How many refreshes since the last success the issuer has refused with another error than `invalid_grant`.
    pub refusals: u32,
    /// Whether the requested token is obtained by token exchange (RFC 8693), for which the session's own has to be valid.
    pub is_exchanged: bool,
    /// Whether the login covers the requested resource (RFC 8707).
    pub is_resource_granted: bool,
    /// Whether a refresh can bring the requested token: not all issuers send an ID token again.
    pub refresh_brings_token: bool,
    /// Whether the requested token was replaced after the caller first saw the session.
    pub replaced_while_waiting: bool,
    /// When the refresh began whose reply was lost. Known only while holding the profile lock: without it, the refresh
    /// may still be running in another process.
    pub reply_lost_since: Option<UnixTime>,
}

/// An ID token issued this long before the last refresh was not sent by it.
const ISSUED_BY_REFRESH: Duration = Duration::from_secs(120);

impl SessionView {
    /// Returns the view of `session` for `request`, without the profile lock.
    #[must_use]
    pub fn new(session: &Session, request: &TokenRequest) -> Self {
        let (token, refresh_brings_token) = match &request.token {
            RequestedToken::Access(target) => (session.token_for(target).map(Validity::from), true),
            RequestedToken::Id => {
                let token = id_token_validity(session);
                let sent_by_last_refresh = token.is_some_and(|token| {
                    let is_recent = |at| token.obtained_at.plus(ISSUED_BY_REFRESH) >= at;
                    !session.has_older_id_token && session.refreshed_at.is_none_or(is_recent)
                });
                (token, sent_by_last_refresh)
            }
        };
        Self {
            token,
            own: Validity::from(&session.tokens),
            can_refresh: session.can_refresh(),
            ended: session.ended.is_some(),
            refusals: session.last_failure.as_ref().map_or(0, |failure| failure.refusals),
            is_exchanged: session.is_exchanged(&request.target()),
            is_resource_granted: session.grant.is_unattended() || session.not_granted(&request.target()).is_none(),
            refresh_brings_token,
            replaced_while_waiting: false,
            reply_lost_since: None,
        }
    }

    /// Returns the view under the profile lock, for a caller that has `seen` an earlier state of the session.
    #[must_use]
    pub fn under_lock(session: &Session, request: &TokenRequest, seen: &Session) -> Self {
        let replaced = match &request.token {
            RequestedToken::Access(target) => {
                let token = |session: &Session| session.token_for(target).map(|t| t.access_token.clone());
                token(session).is_some_and(|now| token(seen).is_none_or(|then| then.expose() != now.expose()))
            }
            RequestedToken::Id => {
                let token = |session: &Session| session.tokens.id_token.clone();
                token(session).is_some_and(|now| token(seen).is_none_or(|then| then.expose() != now.expose()))
            }
        };
        Self {
            replaced_while_waiting: replaced,
            // Where refresh tokens do not rotate, sending one twice does no harm.
            reply_lost_since: session.refreshing_since.filter(|_| session.rotates != Some(false)),
            ..Self::new(session, request)
        }
    }

    /// Returns whether the requested token is there and has not expired.
    pub(super) fn has_valid_token(&self, now: UnixTime) -> bool {
        self.token.is_some_and(|token| !token.is_expired(now))
    }
}

/// Returns the validity of the session's ID token by its own claims; `None` if there is none.
fn id_token_validity(session: &Session) -> Option<Validity> {
    let claims = session.tokens.id_token.as_ref().map(|token| unverified_claims(token.expose()))?;
    // An ID token without `exp` is invalid (OpenID Connect Core 1.0, section 2): it counts as expired.
    let unreadable = Validity { obtained_at: session.logged_in_at, expires_at: Some(session.logged_in_at) };
    Some(claims.map_or(unreadable, |claims| {
        let obtained_at = claims.iat.unwrap_or(session.logged_in_at);
        Validity { obtained_at, expires_at: claims.exp.or(Some(obtained_at)) }
    }))
}

/// The last failed refresh, as far as the policy needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastFailure {
    /// When it failed.
    pub at: UnixTime,
    /// How many refreshes in a row have failed.
    pub failures: u32,
    /// When the issuer allows the next attempt (`Retry-After`, RFC 9110, section 10.2.3).
    pub retry_at: Option<UnixTime>,
    /// How the caller knows of it.
    pub source: FailureSource,
}

/// How a caller knows of a failed refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureSource {
    /// It failed while the caller was waiting for it.
    Awaited,
    /// It failed in the caller's process, which may serve many callers at once.
    ThisProcess,
    /// The session records it. Running a command again is meant to retry.
    Stored,
}

impl LastFailure {
    /// Returns the last failure that the session records. `seen` is the session as the caller first saw it.
    #[must_use]
    pub fn of(session: &Session, seen: Option<&Session>) -> Option<Self> {
        session.last_failure.as_ref().map(|failure| {
            let is_new = seen.is_some_and(|seen| seen.last_failure.as_ref() != Some(failure));
            let source = if is_new { FailureSource::Awaited } else { FailureSource::Stored };
            Self { at: failure.at, failures: failure.failures, retry_at: failure.retry_at, source }
        })
    }
}

/// The delay before the second attempt, and the longest: it doubles in between.
const FIRST_BACKOFF: Duration = Duration::from_secs(4);
/// See [`FIRST_BACKOFF`].
pub const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// How long the callers of one process that have no valid token share a failure instead of each sending a request.
const SHARE_FAILURE: Duration = Duration::from_secs(1);

/// How long a caller that has a valid token waits for a refresh: longer than a healthy issuer takes.
pub const MAX_WAIT_WITH_VALID_TOKEN: Duration = Duration::from_secs(2);

/// After how many refusals with another error than `invalid_grant` a login is required. A single one may be a mistake.
const MAX_REFUSALS: u32 = 2;

/// How long a refresh token is not sent again after a lost reply, if the access token's expiry is unknown.
const MAX_HOLD_BACK: Duration = Duration::from_secs(3600);

/// Returns how long no request is sent to the issuer after this many failures in a row.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    doubled(FIRST_BACKOFF, failures.saturating_sub(1), MAX_BACKOFF)
}

/// The decision about a request for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve the stored token.
    Serve {
        /// Why it is not refreshed, although it expires soon.
        not_refreshed: Option<Obstacle>,
    },
    /// Refresh first.
    Refresh {
        /// How long the caller waits before it falls back to the stored token, which is still valid. `None` if only the
        /// refresh can satisfy the request.
        wait_at_most: Option<Duration>,
    },
    /// Fail with this reason: neither a refresh nor the stored token satisfies the request.
    Fail(Obstacle),
}

/// What keeps a token from being refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No session is stored.
    NoSession,
    /// The issuer has ended the session.
    SessionEnded,
    /// The access token has expired, and the issuer has refused the refresh [`MAX_REFUSALS`] times.
    RefreshRefused,
    /// The issuer returned no refresh token.
    NoRefreshToken,
    /// The login does not cover the requested resource.
    ResourceNotGranted,
    /// The session has no ID token.
    NoIdToken,
    /// The issuer sends no new ID token with a refresh.
    NoNewIdToken,
    /// The last refresh failed, and it is too early for another.
    RecentFailure,
    /// The reply to the last refresh was lost. The refresh token may be spent: sending it twice can end the session.
    ReplyLost,
}

/// Decides what to do about `request` at `now`. The rules are listed in the order in which they apply.
#[must_use]
pub fn decide(
    session: Option<&SessionView>,
    request: &TokenRequest,
    now: UnixTime,
    last_failure: Option<&LastFailure>,
) -> Decision {
    let Some(session) = session else { return Decision::Fail(Obstacle::NoSession) };
    // A refusal by the issuer also ends the use of an unexpired token, in every command.
    if session.ended {
        return Decision::Fail(Obstacle::SessionEnded);
    }
    if session.replaced_while_waiting && session.has_valid_token(now) {
        return Decision::Serve { not_refreshed: None };
    }
    let fallback = can_fall_back(session, request, now);
    if let (Demand::ValidFor(min_ttl) | Demand::NewUnless(min_ttl), Some(token)) = (request.demand, session.token)
        && token.freshness(now, min_ttl) == Freshness::Fresh
    {
        return Decision::Serve { not_refreshed: None };
    }
    let unless_valid = |obstacle| match fallback {
        true => Decision::Serve { not_refreshed: Some(obstacle) },
        false => Decision::Fail(obstacle),
    };
    if let Some(obstacle) = permanent_obstacle(session, request, now) {
        return unless_valid(obstacle);
    }
    let was_awaited = last_failure.is_some_and(|failure| failure.source == FailureSource::Awaited);
    // An explicit request for a new token is still sent: the issuer may have been corrected.
    if session.refusals >= MAX_REFUSALS && session.own.is_expired(now) && (!request.demand.is_explicit() || was_awaited)
    {
        return unless_valid(Obstacle::RefreshRefused);
    }
    if last_failure.is_some_and(|failure| failure.is_too_early(now, fallback, request.demand)) {
        return unless_valid(Obstacle::RecentFailure);
    }
    // A token exchange does not send the refresh token.
    if !session.is_exchanged && session.reply_lost_since.is_some_and(|since| is_held_back(session.own, since, now)) {
        return unless_valid(Obstacle::ReplyLost);
    }
    Decision::Refresh { wait_at_most: fallback.then_some(MAX_WAIT_WITH_VALID_TOKEN) }
}

/// Returns whether the stored token is served if the refresh fails: it is valid, and the caller does not require a new one.
#[must_use]
pub fn can_fall_back(session: &SessionView, request: &TokenRequest, now: UnixTime) -> bool {
    !request.demand.is_explicit() && session.has_valid_token(now)
}

/// Returns why the session needs a login, if the issuer has refused its refreshes for good: for every command and every token
/// alike.
#[must_use]
pub fn required_login(session: &Session, now: UnixTime) -> Option<Obstacle> {
    let request = TokenRequest::access(TokenTarget::default(), None);
    match decide(Some(&SessionView::new(session, &request)), &request, now, None) {
        Decision::Fail(obstacle @ (Obstacle::SessionEnded | Obstacle::RefreshRefused)) => Some(obstacle),
        _ => None,
    }
}

/// Returns an obstacle that a later attempt would not overcome.
fn permanent_obstacle(session: &SessionView, request: &TokenRequest, now: UnixTime) -> Option<Obstacle> {
    if session.is_exchanged && !session.own.is_expired(now) {
        return None;
    }
    let is_id_token = request.token == RequestedToken::Id;
    if is_id_token && session.token.is_none() {
        return Some(Obstacle::NoIdToken);
    }
    if !session.can_refresh {
        return Some(if is_id_token { Obstacle::NoNewIdToken } else { Obstacle::NoRefreshToken });
    }
    if !session.is_resource_granted && !session.is_exchanged {
        return Some(Obstacle::ResourceNotGranted);
    }
    (!session.refresh_brings_token).then_some(Obstacle::NoNewIdToken)
}

impl LastFailure {
    fn is_too_early(&self, now: UnixTime, has_fallback: bool, demand: Demand) -> bool {
        if self.source == FailureSource::Awaited {
            return true;
        }
        // A failure in the future was recorded before the clock was set back, so its age is unknown.
        if self.at > now {
            return false;
        }
        let own_delay = match demand {
            Demand::New | Demand::NewUnless(_) => Duration::ZERO,
            Demand::ValidFor(_) if has_fallback => backoff(self.failures),
            Demand::ValidFor(_) if self.source == FailureSource::ThisProcess => SHARE_FAILURE,
            Demand::ValidFor(_) => Duration::ZERO,
        };
        now < next_attempt(self.at, own_delay, self.retry_at)
    }
}

/// Returns when the next attempt is due after a failure `at` this time: after `delay`, or later if the issuer asks for that.
#[must_use]
pub fn next_attempt(at: UnixTime, delay: Duration, retry_at: Option<UnixTime>) -> UnixTime {
    at.plus(delay).max(retry_at.unwrap_or(at))
}

/// Returns whether the refresh token must not be sent again after a reply lost at `since`: until the session's own
/// access token has expired, as far as the clock can be trusted.
fn is_held_back(own: Validity, since: UnixTime, now: UnixTime) -> bool {
    let is_dated = own.expires_at.is_none() || !is_from_the_future(own.obtained_at, now);
    held_back_until(own.expires_at, since) > now && is_dated && !is_from_the_future(since, now)
}

/// Returns until when a refresh token is held back after a reply lost at `since`.
#[must_use]
pub fn held_back_until(own_expiry: Option<UnixTime>, since: UnixTime) -> UnixTime {
    own_expiry.unwrap_or(since.plus(MAX_HOLD_BACK))
}

#[cfg(test)]
mod tests;
