//! Refreshes a session: once, however many callers and processes request it.
//!
//! The promises: a refresh token is not sent again while the reply to its first sending may still arrive; a refreshed session
//! is stored before anyone gets its token, unless the store fails and an agent serves it (`unsaved`); only the issuer ends a
//! session: by `invalid_grant` at once, by repeated other refusals once the access token has expired.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::received_tokens::of_same_subject;
use super::refresh_failure::{issuer_failure, lost_reply, refresh_failure};
use super::refresh_policy::{
    self, Decision, LastFailure, MinTtl, Obstacle, RequestedToken, SessionView, TokenRequest, can_fall_back, decide,
};
use super::{HeldProfile, LoginReason, MAX_REFRESH, SessionError, SessionService};
use crate::clock::UnixTime;
use crate::model::{Profile, RefreshFailure, Session, TokenTarget};
use crate::oauth::IssuerError;
use crate::store::ProfileLock;

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

/// What a caller requests, and the session as it has seen it.
pub(super) struct Caller {
    pub(super) profile: Profile,
    pub(super) request: TokenRequest,
    pub(super) seen: Session,
}

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
        // Another process may have stored a token that needs no lock to be served.
        let session = self.session(profile).await?;
        match self.decide(&session, request) {
            Decision::Refresh { .. } => self.refresh(profile, request, &session).await,
            decision => Self::serve_or_fail(profile, session, request, decision),
        }
    }

    /// Returns the token or the error of a decision that needs no refresh, or that allows a fallback if the caller has
    /// stopped waiting for the refresh.
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

    /// Returns the error for a session that needs a login because the issuer has refused its refreshes for good.
    #[must_use]
    pub fn required_login(&self, profile: &Profile, session: &Session) -> Option<SessionError> {
        let request = TokenRequest::access(TokenTarget::default(), None);
        refresh_policy::required_login(session, self.clock.now())
            .map(|obstacle| Self::obstacle_error(profile, session, &request, obstacle))
    }

    /// Returns the failure of a refresh whose reply was lost or was not stored. Without the lock, `None` while a process holds
    /// it, since the refresh may still be running, and if it has ended since `session` was read. Blocks.
    #[must_use]
    pub fn failure_in_doubt(&self, profile: &Profile, session: &Session) -> Option<RefreshFailure> {
        let failure = lost_reply(session).filter(|_| session.rotates != Some(false))?;
        if self.is_locked(profile) {
            return None;
        }
        let is_given_up = || {
            let given_up = ProfileLock::given_up_in(self.locks.of(profile.store), &profile.name);
            given_up == session.refreshing_since
        };
        let refresh = |session: &Session| (session.generation.clone(), session.refreshing_since);
        let is_same = |now: Session| refresh(&now) == refresh(session);
        (self.session_blocking(profile).is_ok_and(is_same) && !is_given_up()).then_some(failure)
    }

    /// Returns the error for `obstacle` to a request for a token of `session`.
    #[must_use]
    pub fn obstacle_error(
        profile: &Profile,
        session: &Session,
        request: &TokenRequest,
        obstacle: Obstacle,
    ) -> SessionError {
        let login = SessionError::LoginRequired;
        let error = match obstacle {
            Obstacle::NoSession => None,
            Obstacle::SessionEnded => session.ended.clone().map(|failure| login(LoginReason::Ended(failure))),
            Obstacle::RefreshRefused => {
                session.last_failure.clone().map(|failure| login(LoginReason::Refused(failure)))
            }
            Obstacle::NoRefreshToken => Some(login(LoginReason::NoRefreshToken)),
            Obstacle::ResourceNotGranted => session.not_granted(&request.target()).map(|resource| {
                let (resource, resources) = (resource.to_owned(), profile.resources.clone());
                login(LoginReason::OtherResource { resource, resources })
            }),
            Obstacle::NoIdToken => Some(login(LoginReason::NoIdToken { scopes: profile.scopes.clone() })),
            Obstacle::NoNewIdToken => Some(login(LoginReason::IdTokenExpired)),
            Obstacle::RecentFailure => session.last_failure.clone().map(SessionError::RecentFailure),
            Obstacle::ReplyLost => lost_reply(session).map(SessionError::RecentFailure),
        };
        // The policy found the obstacle in this session, so only `NoSession` finds nothing there.
        error.unwrap_or_else(|| login(LoginReason::NoSession(profile.name.clone())))
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
        let lock = match self.lock_to_refresh(profile).await {
            Ok(lock) => lock,
            Err(error) => return self.fall_back(seen.clone(), request, error),
        };
        // Another refresh of this process may have left the lock to a login or logout.
        if let Some(error) = self.unsaved_error(&profile.name) {
            lock.release().await;
            return self.fall_back(seen.clone(), request, error);
        }
        let mut held = Some(HeldProfile { lock, _signals: self.hold_off_signals().await });
        let caller = Caller { profile: profile.clone(), request: request.clone(), seen: seen.clone() };
        let sessions = Arc::clone(self);
        let task = tokio::spawn(async move {
            let mut result = match sessions.refresh_subject_token(&caller, &mut held).await {
                Ok(()) => sessions.refresh_while_locked(&caller, &mut held).await,
                Err(error) => sessions.fall_back(caller.seen.clone(), &caller.request, error),
            };
            if matches!(&result, Err(SessionError::Issuer(error)) if error.is_refusal() && !error.is_about_target())
                && !caller.request.target().is_plain()
            {
                result = sessions.refresh_own(&caller.profile, &mut held).await.map_or_else(Err, |()| result);
            }
            let failed = !matches!(&result, Ok(ServedToken { warning: None, .. }));
            sessions.refresh_failed.store(failed, Ordering::Relaxed);
            if let Some(HeldProfile { lock, _signals }) = held {
                lock.release().await;
            }
            result
        });
        task.await.unwrap_or(Err(SessionError::Interrupted))
    }

    /// Refreshes under the profile lock, and under the next one if its file was removed in the meantime.
    pub(super) async fn refresh_while_locked(
        self: &Arc<Self>,
        caller: &Caller,
        held: &mut Option<HeldProfile>,
    ) -> Result<ServedToken, SessionError> {
        let Caller { profile, request, seen } = caller;
        for _ in 0..MAX_LOCKS_LOST {
            match self.refresh_under_lock(caller, held).await {
                Err(SessionError::LockLost) => {}
                result => return result,
            }
            let Some(HeldProfile { lock, _signals }) = held.take() else { break };
            // Released before the next attempt: a lock whose file could not be examined also counts as lost. Its file may still
            // be in place, and this process would wait for itself.
            lock.release().await;
            match self.lock_to_refresh(profile).await {
                Ok(lock) => *held = Some(HeldProfile { lock, _signals }),
                Err(error) => return self.fall_back(seen.clone(), request, error),
            }
        }
        self.fall_back(seen.clone(), request, SessionError::LockLost)
    }

    /// Refreshes the session's own token if it has expired, after the issuer has refused one for another target: that may be
    /// about the target, or about the session, which then ends as it would without the target.
    ///
    /// # Errors
    /// [`SessionError::LoginRequired`].
    async fn refresh_own(
        self: &Arc<Self>,
        profile: &Profile,
        held: &mut Option<HeldProfile>,
    ) -> Result<(), SessionError> {
        let Ok(session) = self.session(profile).await else { return Ok(()) };
        let request = TokenRequest::access(TokenTarget::default(), Some(MinTtl::AtLeast(Duration::ZERO)));
        let own = Caller { profile: profile.clone(), request, seen: session };
        match self.refresh_while_locked(&own, held).await {
            Err(error @ SessionError::LoginRequired(_)) => Err(error),
            _ => Ok(()),
        }
    }

    async fn refresh_under_lock(
        self: &Arc<Self>,
        Caller { profile, request, seen }: &Caller,
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
        if seen.is_exchanged(&request.target()) {
            return self.exchange(profile, request, session, held).await;
        }
        let before = session.clone();
        // Read before the refresh token is spent: nothing but writing the new session comes after that.
        let trust = self.trust(profile).await;
        let reply = self.send_refresh(lock, profile, request, &mut session).await;
        match reply.and_then(|tokens| of_same_subject(&session, request, tokens)) {
            Ok(tokens) => match self.commit(profile, request, session, tokens, trust, held).await {
                Ok(session) => {
                    self.start_refresh_hook(profile, &session).await;
                    self.serve_refreshed(profile, session, request)
                }
                Err(error) => self.fall_back(before, request, error),
            },
            // Another process may refresh at this moment: what it stores is read under its lock.
            Err(SessionError::LockLost) => Err(SessionError::LockLost),
            Err(error) => {
                let error = self.record_failure(profile, request, &mut session, error).await;
                let error = self.required_login(profile, &session).unwrap_or(error);
                self.fall_back(session, request, error)
            }
        }
    }

    /// Serves the result of a refresh: the access token even if it has expired on arrival by this machine's clock, but no
    /// ID token of before that has expired.
    fn serve_refreshed(
        &self,
        profile: &Profile,
        session: Session,
        request: &TokenRequest,
    ) -> Result<ServedToken, SessionError> {
        let view = SessionView::new(&session, request);
        if request.token == RequestedToken::Id && !view.has_valid_token(self.clock.now()) {
            let obstacle = if view.token.is_some() { Obstacle::NoNewIdToken } else { Obstacle::NoIdToken };
            return Err(Self::obstacle_error(profile, &session, request, obstacle));
        }
        Ok(ServedToken { session, refreshed: true, warning: None })
    }

    /// Serves the stored token in spite of `error`, if the policy allows it.
    pub(super) fn fall_back(
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

    /// Reads the session under its lock. If it shows that a refresh began under another lock file, that refresh may
    /// still be running, and its end is awaited for as long as a refresh may take.
    async fn session_under_lock(&self, lock: &ProfileLock, profile: &Profile) -> Result<Session, SessionError> {
        loop {
            let mut session = self.session(profile).await?;
            if session.refreshing_since.is_some() && lock.given_up().await == session.refreshing_since {
                (session.refreshing_since, session.refreshing_lock) = (None, None);
            }
            let (now, own) = (self.clock.now(), lock.inode());
            let runs = |since: UnixTime| since <= now && now < since.plus(MAX_REFRESH);
            if !session.refreshing_since.is_some_and(runs) || session.refreshing_lock.is_none_or(|of| Some(of) == own) {
                return Ok(session);
            }
            self.clock.sleep(OTHER_LOCK_WAIT).await;
        }
    }

    /// Stores the session with its record of a failed refresh.
    async fn write_failure(&self, profile: &Profile, session: &Session) {
        if let Err(unwritten) = self.write(profile, session).await {
            tracing::warn!("cannot record the failed refresh: {unwritten}");
        }
        self.write_token_files(profile, Some(session), None).await;
    }

    /// Records a failed refresh in the session, and returns the error for the caller.
    async fn record_failure(
        &self,
        profile: &Profile,
        request: &TokenRequest,
        session: &mut Session,
        error: SessionError,
    ) -> SessionError {
        let now = self.clock.now();
        let issuer_error = match error {
            SessionError::Issuer(error) => error,
            SessionError::Workload(error) => {
                let failure = refresh_failure(session, error.code(), error.to_string(), error.retry_after(), now);
                session.last_failure = Some(failure);
                self.write_failure(profile, session).await;
                return error.into();
            }
            error => return error,
        };
        let ended = issuer_error.ends_session() && !session.grant.is_unattended();
        let mut failure = issuer_failure(session, &issuer_error, now);
        // Only if the refresh token was sent, and not for another target, which may be what is refused.
        let is_refusal = issuer_error.is_refusal() && session.refreshing_since.is_some();
        failure.other_target = !request.target().is_plain();
        failure.refusals += u32::from(is_refusal && !failure.other_target);
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
        self.write_failure(profile, session).await;
        match issuer_error {
            error @ IssuerError::InvalidResponse { wrong_address: false, .. } => SessionError::RefreshReply(error),
            error => error.into(),
        }
    }
}
