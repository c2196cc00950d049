//! Refreshes a session: once, however many callers and processes request it.
//!
//! The promises: a refresh token is not sent again while the reply to its first sending may still arrive; a refreshed session
//! is stored before anyone gets its token, unless the store fails and an agent serves it (`unsaved`); only the issuer ends a
//! session: by `invalid_grant` at once, by other refusals once the access token has expired.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::refresh_policy::{self, Decision, LastFailure, Obstacle, SessionView, TokenRequest, can_fall_back, decide};
use super::{HeldProfile, LoginReason, MAX_REFRESH, RESERVE, SessionError, SessionService};
use crate::clock::UnixTime;
use crate::model::{ErrorCode, Grant, Profile, RefreshFailure, Session, TokenSet, TokenTarget};
use crate::oauth::{Delivery, Endpoint, IssuerError, TokenEndpoint, client_credentials, login_api, refresh_token};
use crate::secret::Secret;
use crate::store::ProfileLock;
use crate::text::excerpt;
use crate::verify::unverified_claims;

/// A session whose requested token can be served.
#[derive(Debug)]
pub struct ServedToken {
    /// The session that holds the token.
    pub session: Session,
    /// Whether it was refreshed by this call, or by another that this one waited for.
    pub refreshed: bool,
    /// Why it was not refreshed, although its token expires soon.
    pub warning: Option<SessionError>,
}

/// How often a lock file may be removed during one refresh.
const MAX_LOCKS_LOST: u32 = 5;

/// How often the session is read again while a refresh under another lock file may be running.
const OTHER_LOCK_WAIT: Duration = Duration::from_millis(100);

/// The wait before a request is sent once more.
const RESEND_WAIT: Duration = Duration::from_millis(300);

/// How long the first request may have taken. Issuers that accept a spent refresh token do so for seconds only.
const RESEND_LIMIT: Duration = Duration::from_secs(10);

impl SessionService {
    /// Decides about `request` by the session as it was read without the profile lock.
    #[must_use]
    pub fn decide(&self, session: &Session, request: &TokenRequest) -> Decision {
        let view = SessionView::new(session, request);
        decide(Some(&view), request, self.clock.now(), LastFailure::of(session, None).as_ref())
    }

    /// Returns the token for `request`, refreshed first if the policy requires it; waits for the refresh to its end.
    ///
    /// # Errors
    /// [`SessionError`]; never because of a failed refresh while the stored token satisfies the request.
    pub async fn wait_for_token(
        self: &Arc<Self>,
        profile: &Profile,
        request: &TokenRequest,
    ) -> Result<ServedToken, SessionError> {
        let session = self.session(profile).await?;
        match self.decide(&session, request) {
            Decision::Refresh { .. } => self.refresh(profile, request, &session).await,
            decision => Self::serve_or_fail(profile, session, request, decision),
        }
    }

    /// Returns the token or the error of a decision that needs no refresh.
    ///
    /// # Errors
    /// The obstacle, if the decision is to fail.
    pub fn serve_or_fail(
        profile: &Profile,
        session: Session,
        request: &TokenRequest,
        decision: Decision,
    ) -> Result<ServedToken, SessionError> {
        let obstacle = match decision {
            Decision::Fail(obstacle) => return Err(Self::obstacle_error(profile, &session, request, obstacle)),
            Decision::Serve { not_refreshed } => not_refreshed,
            Decision::Refresh { .. } => None,
        };
        let warning = obstacle.map(|obstacle| Self::obstacle_error(profile, &session, request, obstacle));
        Ok(ServedToken { session, refreshed: false, warning })
    }

    /// Returns the error for a session that the issuer's verdict leaves nothing but a login.
    #[must_use]
    pub fn verdict(&self, profile: &Profile, session: &Session) -> Option<SessionError> {
        let request = TokenRequest::access(TokenTarget::default(), None);
        refresh_policy::verdict(session, self.clock.now())
            .map(|obstacle| Self::obstacle_error(profile, session, &request, obstacle))
    }

    /// Returns the error for `obstacle` to a request for a token of `session`.
    #[must_use]
    pub fn obstacle_error(
        profile: &Profile,
        session: &Session,
        request: &TokenRequest,
        obstacle: Obstacle,
    ) -> SessionError {
        let login = |reason| SessionError::LoginRequired(reason);
        match (obstacle, &session.ended, &session.last_failure, session.refreshing_since) {
            (Obstacle::SessionEnded, Some(ended), ..) => login(LoginReason::Ended(ended.clone())),
            (Obstacle::RefreshRefused, _, Some(failure), _) => login(LoginReason::Refused(failure.clone())),
            (Obstacle::RecentFailure, _, Some(failure), _) => SessionError::RecentFailure(failure.clone()),
            (Obstacle::ReplyLost, _, _, Some(since)) => SessionError::RecentFailure(RefreshFailure {
                at: since,
                failures: 1,
                refusals: 0,
                code: ErrorCode::RefreshInDoubt,
                message: format!("the issuer's reply to the refresh at {since} was lost"),
                retry_at: session.tokens.expires_at,
            }),
            (Obstacle::ResourceNotGranted, ..) => {
                let target = request.target();
                let resource = session.not_granted(&target).unwrap_or_default().to_owned();
                login(LoginReason::OtherResource { asked: resource, resources: profile.resources.clone() })
            }
            (Obstacle::NoIdToken, ..) => login(LoginReason::NoIdToken { scopes: profile.scopes.clone() }),
            (Obstacle::NoNewIdToken, ..) => login(LoginReason::IdTokenExpired),
            (Obstacle::NoRefreshToken, ..) => login(LoginReason::NoRefreshToken),
            (
                Obstacle::NoSession
                | Obstacle::SessionEnded
                | Obstacle::RefreshRefused
                | Obstacle::RecentFailure
                | Obstacle::ReplyLost,
                ..,
            ) => login(LoginReason::NoSession),
        }
    }

    /// Refreshes the profile's session for `request`, unless another process has done so since the caller has `seen` it.
    /// Runs in a task of its own under the profile lock: a caller that stops waiting does not cancel it.
    ///
    /// # Errors
    /// [`SessionError`], unless the stored token is still valid and satisfies the request.
    pub async fn refresh(
        self: &Arc<Self>,
        profile: &Profile,
        request: &TokenRequest,
        seen: &Session,
    ) -> Result<ServedToken, SessionError> {
        if let Some(error) = self.unsaved_error(&profile.name) {
            return self.fall_back(seen.clone(), request, error);
        }
        let lock = match self.lock(profile).await {
            Ok(lock) => lock,
            Err(error) => return self.fall_back(seen.clone(), request, error),
        };
        let mut held = Some(HeldProfile { lock, _signals: self.hold_off_signals().await });
        let (sessions, profile, request, seen) = (Arc::clone(self), profile.clone(), request.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let result = sessions.refresh_while_locked(&profile, &request, &seen, &mut held).await;
            let failed = !matches!(&result, Ok(ServedToken { warning: None, .. }));
            sessions.refresh_failed.store(failed, Ordering::Relaxed);
            drop(held);
            result
        });
        task.await.unwrap_or(Err(SessionError::Interrupted))
    }

    /// Refreshes under the profile lock, and under the next one if its file was removed in the meantime.
    async fn refresh_while_locked(
        self: &Arc<Self>,
        profile: &Profile,
        request: &TokenRequest,
        seen: &Session,
        held: &mut Option<HeldProfile>,
    ) -> Result<ServedToken, SessionError> {
        for _ in 0..MAX_LOCKS_LOST {
            match self.refresh_under_lock(profile, request, seen, held).await {
                Err(SessionError::LockLost) => {}
                result => return result,
            }
            match (self.lock(profile).await, held.as_mut()) {
                (Ok(lock), Some(held)) => held.lock = lock,
                (Ok(_), None) => break,
                (Err(error), _) => return self.fall_back(seen.clone(), request, error),
            }
        }
        self.fall_back(seen.clone(), request, SessionError::LockLost)
    }

    async fn refresh_under_lock(
        self: &Arc<Self>,
        profile: &Profile,
        request: &TokenRequest,
        seen: &Session,
        held: &mut Option<HeldProfile>,
    ) -> Result<ServedToken, SessionError> {
        let Some(HeldProfile { lock, .. }) = &held else { return Err(SessionError::LockLost) };
        let mut session = self.session_under_lock(lock, profile).await?;
        let view = SessionView::under_lock(&session, request, seen);
        let last_failure = LastFailure::of(&session, Some(seen));
        let decision = decide(Some(&view), request, self.clock.now(), last_failure.as_ref());
        if !matches!(decision, Decision::Refresh { .. }) {
            let refreshed =
                session.generation != seen.generation && decision == Decision::Serve { not_refreshed: None };
            return Ok(ServedToken { refreshed, ..Self::serve_or_fail(profile, session, request, decision)? });
        }
        let before = session.clone();
        // Read before the refresh token is spent: nothing but writing the new session comes after that.
        let trust = self.trust(profile).await;
        let reply = self.send_refresh(lock, profile, request, &mut session).await;
        match reply.and_then(|tokens| of_same_subject(&session, request, tokens)) {
            Ok(tokens) => match self.commit(profile, request, session, tokens, trust, held).await {
                Ok(session) => self.serve_refreshed(profile, session, request),
                Err(error) => self.fall_back(before, request, error),
            },
            // Another process may refresh at this moment: what it stores is read under its lock.
            Err(SessionError::LockLost) => Err(SessionError::LockLost),
            Err(error) => {
                let error = self.record_failure(profile, request, &mut session, error).await;
                let error = self.verdict(profile, &session).unwrap_or(error);
                self.fall_back(session, request, error)
            }
        }
    }

    /// Serves the result of a refresh, which may have no ID token.
    fn serve_refreshed(
        &self,
        profile: &Profile,
        session: Session,
        request: &TokenRequest,
    ) -> Result<ServedToken, SessionError> {
        let view = SessionView { replaced_while_waiting: true, ..SessionView::new(&session, request) };
        match decide(Some(&view), request, self.clock.now(), None) {
            Decision::Serve { .. } => Ok(ServedToken { session, refreshed: true, warning: None }),
            Decision::Fail(obstacle) => Err(Self::obstacle_error(profile, &session, request, obstacle)),
            Decision::Refresh { .. } => match &request.token {
                // Expired on arrival, by this machine's clock: serving it is the caller's only chance.
                super::RequestedToken::Access(_) => Ok(ServedToken { session, refreshed: true, warning: None }),
                super::RequestedToken::Id => {
                    Err(Self::obstacle_error(profile, &session, request, Obstacle::NoNewIdToken))
                }
            },
        }
    }

    /// Serves the stored token in spite of `error`, if the policy allows it.
    fn fall_back(
        &self,
        session: Session,
        request: &TokenRequest,
        error: SessionError,
    ) -> Result<ServedToken, SessionError> {
        let is_login_required = matches!(error, SessionError::LoginRequired(_));
        if is_login_required || !can_fall_back(&SessionView::new(&session, request), request, self.clock.now()) {
            return Err(error);
        }
        Ok(ServedToken { session, refreshed: false, warning: Some(error) })
    }

    /// Reads the session under its lock. If the session says that a refresh began under another lock file, that refresh may
    /// still be running, and its end is awaited for as long as a refresh may take.
    async fn session_under_lock(&self, lock: &ProfileLock, profile: &Profile) -> Result<Session, SessionError> {
        loop {
            let session = self.session(profile).await?;
            let (now, own) = (self.clock.now(), lock.inode());
            let runs = |since: UnixTime| since <= now && now < since.plus(MAX_REFRESH);
            if !session.refreshing_since.is_some_and(runs) || session.refreshing_lock.is_none_or(|of| Some(of) == own) {
                return Ok(session);
            }
            self.clock.sleep(OTHER_LOCK_WAIT).await;
        }
    }

    /// Checks that `session` is still the stored one, and that its lock still excludes other processes.
    async fn check_lock(&self, lock: &ProfileLock, profile: &Profile, session: &Session) -> Result<(), SessionError> {
        match self.session(profile).await {
            Ok(stored) if stored.generation == session.generation && lock.is_in_place() => Ok(()),
            Ok(_) => Err(SessionError::LockLost),
            Err(error) => Err(error),
        }
    }

    /// Sends the refresh request, after making sure that its reply can be stored.
    async fn send_refresh(
        &self,
        lock: &ProfileLock,
        profile: &Profile,
        request: &TokenRequest,
        session: &mut Session,
    ) -> Result<TokenSet, SessionError> {
        let target = request.target();
        let http = self.http(profile)?;
        let metadata = self.metadata_with(profile, &[Endpoint::Token]).await?;
        let client = self.client(profile, &metadata, session.client_secret.clone())?;
        let api = profile.login_api(session.grant);
        if api.is_some() && !target.is_plain() {
            return Err(IssuerError::Unsupported { what: "another audience, scope or resource" }.into());
        }
        if session.grant == Grant::ClientCredentials {
            let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
            let parameters = if target.is_plain() { profile.own_request() } else { target };
            return self.send(|| client_credentials::request(&endpoint, &parameters)).await;
        }
        let Some(token) = session.tokens.refresh_token.clone() else {
            return Err(SessionError::LoginRequired(LoginReason::NoRefreshToken));
        };
        if api.is_none() {
            // Fails before anything is written if the client cannot authenticate.
            TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        }
        // The requests above took time.
        self.check_lock(lock, profile, session).await?;
        let before = (session.refreshing_since, session.refreshing_lock);
        (session.refreshing_since, session.refreshing_lock) = (Some(self.clock.now()), lock.inode());
        self.write(profile, session).await?;
        let room = session.to_stored(&profile.name).expose().len() + RESERVE;
        let prepared = match self.make_room(profile, room).await {
            // A process that locks another file from now on reads what was written above, and does not send the token too.
            Ok(()) if lock.is_in_place() => Ok(()),
            Ok(()) => Err(SessionError::LockLost),
            Err(error) => Err(error),
        };
        if let Err(error) = prepared {
            // Nothing was sent, so the refresh token is not in doubt.
            (session.refreshing_since, session.refreshing_lock) = before;
            if let Err(unwritten) = self.write(profile, session).await {
                tracing::warn!("cannot record that the refresh was given up: {unwritten}");
            }
            return Err(error);
        }
        if let Some(api) = api {
            return self.send(|| login_api::refresh(&http, api, &token, &*self.clock)).await;
        }
        let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        let parameters = session.request_for(&target);
        self.send(|| refresh_token::request(&endpoint, &token, &parameters)).await
    }

    /// Sends, and at once a second time if the first request certainly did not reach the issuer, or if the response to it is
    /// lost.
    ///
    /// After a lost response the refresh token may be spent. An issuer that accepts it a second time for a while, against
    /// just this, then keeps the session, and so does one that has not received it or does not rotate. One that accepts no
    /// token twice ends the session, which it would do at the next refresh too.
    async fn send<F: Future<Output = Result<TokenSet, IssuerError>>>(
        &self,
        send: impl Fn() -> F,
    ) -> Result<TokenSet, SessionError> {
        let started = self.clock.monotonic();
        let first = match send().await {
            Err(error @ IssuerError::Unreachable { delivery: Delivery::NotSent, .. }) => error,
            Err(error)
                if error.is_response_lost()
                    && self.clock.monotonic().saturating_duration_since(started) < RESEND_LIMIT =>
            {
                error
            }
            result => return Ok(result?),
        };
        self.clock.sleep(RESEND_WAIT).await;
        match send().await {
            // Unless the issuer has refused the second one, the first may have been acted on.
            Err(second) if first.is_response_lost() && !second.is_refusal() => Err(first.into()),
            result => Ok(result?),
        }
    }

    /// Records a failed refresh in the session, and returns the error for the caller.
    async fn record_failure(
        &self,
        profile: &Profile,
        request: &TokenRequest,
        session: &mut Session,
        error: SessionError,
    ) -> SessionError {
        let SessionError::Issuer(issuer_error) = error else { return error };
        let ended = issuer_error.ends_session() && session.grant != Grant::ClientCredentials;
        let mut failure = refresh_failure(session, &issuer_error, self.clock.now());
        // Only if the refresh token was sent, and not for another target, which may be what is refused.
        let is_refusal = issuer_error.is_refusal() && session.refreshing_since.is_some();
        failure.refusals += u32::from(is_refusal && request.target().is_plain());
        if ended {
            session.ended = Some(failure.clone());
            session.tokens.refresh_token = None;
            // The issuer ends a session after a changed password, for example: its tokens are denied offline too.
            if let Err(unwritten) = self.mark_revoked(session).await {
                tracing::warn!("cannot mark the tokens of the ended session as revoked: {unwritten}");
            }
        }
        if ended || !issuer_error.is_in_doubt() {
            session.refreshing_since = None;
        }
        session.last_failure = Some(failure);
        if let Err(unwritten) = self.write(profile, session).await {
            tracing::warn!("cannot record the failed refresh: {unwritten}");
        }
        match issuer_error {
            error @ IssuerError::InvalidResponse { wrong_address: false, .. } => SessionError::RefreshReply(error),
            error => error.into(),
        }
    }
}

/// Returns the tokens of a reply unless they are another subject's than the session's: those of another user must not be used
/// under this one's name (OpenID Connect Core 1.0, section 12.2). Unverified claims are enough for that: they come from the token
/// endpoint, and can only cause a refusal.
fn of_same_subject(session: &Session, request: &TokenRequest, tokens: TokenSet) -> Result<TokenSet, SessionError> {
    let sub = |token: &Secret| unverified_claims(token.expose()).and_then(|claims| claims.sub);
    let user = session.subject.as_ref().map(|subject| subject.sub.clone());
    // The subject of an access token may differ from the ID token's (RFC 9068, section 2.2), but not from the one before.
    let before = session.token_for(&request.target()).and_then(|before| sub(&before.access_token));
    for (expected, found) in [(user, tokens.id_token.as_ref().and_then(sub)), (before, sub(&tokens.access_token))] {
        if let (Some(expected), Some(found)) = (expected, found)
            && expected != found
        {
            let (expected, found) = (excerpt(&expected, 80), excerpt(&found, 80));
            return Err(IssuerError::OtherSubject { expected, found }.into());
        }
    }
    Ok(tokens)
}

/// Returns the record of a refresh of `session` that failed with `error`.
pub(super) fn refresh_failure(session: &Session, error: &IssuerError, at: UnixTime) -> RefreshFailure {
    let retry_at = match error {
        IssuerError::Unavailable { retry_after: Some(wait), .. } => Some(at.plus(*wait)),
        _ => None,
    };
    let (failures, refusals) = session.last_failure.as_ref().map_or((0, 0), |last| (last.failures, last.refusals));
    let failures = failures.saturating_add(1);
    RefreshFailure { at, failures, refusals, code: error.code(), message: error.to_string(), retry_at }
}
