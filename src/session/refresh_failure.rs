//! Describes the failure of a refresh, as the session records it.

use std::time::Duration;

use super::refresh_policy;
use crate::clock::UnixTime;
use crate::model::{ErrorCode, RefreshFailure, Session};
use crate::oauth::IssuerError;

/// Returns the record of a refresh of `session` that failed with `error`.
pub(super) fn issuer_failure(session: &Session, error: &IssuerError, at: UnixTime) -> RefreshFailure {
    refresh_failure(session, error.code(), error.to_string(), error.retry_after(), at)
}

/// Returns the failure of the refresh that the session records as begun.
pub(super) fn lost_reply(session: &Session) -> Option<RefreshFailure> {
    session.refreshing_since.map(|since| RefreshFailure {
        at: since,
        failures: 1,
        refusals: 0,
        other_target: false,
        code: ErrorCode::RefreshInDoubt,
        message: match session.last_failure.as_ref().filter(|failure| failure.at >= since) {
            Some(failure) => format!("the refresh at {since} may have been processed: {}", failure.message),
            None => format!("the issuer's reply to the refresh at {since} was lost"),
        },
        retry_at: Some(refresh_policy::held_back_until(session.tokens.expires_at, since)),
    })
}

pub(super) fn refresh_failure(
    session: &Session,
    code: ErrorCode,
    message: String,
    retry_after: Option<Duration>,
    at: UnixTime,
) -> RefreshFailure {
    let retry_at = retry_after.map(|wait| at.plus(wait));
    let (failures, refusals) = session.last_failure.as_ref().map_or((0, 0), |last| (last.failures, last.refusals));
    let failures = failures.saturating_add(1);
    let other_target = false;
    RefreshFailure { at, failures, refusals, other_target, code, message, retry_at }
}
