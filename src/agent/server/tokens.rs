//! Serves requests for tokens: from the cache, or by joining the one refresh that all callers wait for.
//!
//! Whether a token is served, refreshed or refused is decided by [`crate::session::refresh_policy`]. This file adds what
//! only an agent has: a cache, shared refreshes, and callers that wait for different lengths of time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{CachedFailure, CachedSession, InFlight, InFlightKey, RefreshOutcome};
use super::events::EventKind;
use super::state::Agent;
use crate::agent::protocol::MAX_WAIT;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{Profile, RefreshFailure, Session, TokenSet, TokenTarget};
use crate::session::refresh_policy::{FailureSource, LastFailure, SessionView, can_fall_back, decide, next_attempt};
use crate::session::{
    Decision, LoginReason, Obstacle, RequestedToken, ServedToken, SessionError, SessionService, TokenRequest,
};
use crate::text::without_error_numbers;

/// A token for a caller.
pub(super) struct IssuedToken {
    pub(super) profile: Arc<Profile>,
    pub(super) session: Arc<Session>,
    pub(super) token: RequestedToken,
    /// Whether it comes from a refresh that the caller waited for.
    pub(super) refreshed: bool,
    /// Why it was not refreshed, although it expires soon.
    pub(super) warning: Option<SessionError>,
}

impl IssuedToken {
    /// Returns the access token, with its expiry and scope.
    pub(super) fn tokens(&self) -> &TokenSet {
        match &self.token {
            RequestedToken::Access(target) => self.session.token_for(target).unwrap_or(&self.session.tokens),
            RequestedToken::Id => &self.session.tokens,
        }
    }
}

/// How often a request starts again because the cached session was dropped in the meantime.
const MAX_ATTEMPTS: u32 = 4;

impl Agent {
    /// Returns a token for `request` from the cache, or from a refresh that all callers share. Waits for it at most as long
    /// as `wait`, and no longer than the policy allows a caller that has a valid token.
    pub(super) async fn shared_token(
        self: &Arc<Self>,
        profile: Arc<Profile>,
        request: TokenRequest,
        wait: Option<Duration>,
    ) -> Result<IssuedToken, Arc<Error>> {
        let request = match request.token {
            RequestedToken::Access(target) => {
                TokenRequest { token: RequestedToken::Access(profile.narrowed(target)), ..request }
            }
            RequestedToken::Id => request,
        };
        let with_profile = |error: SessionError| Arc::new(Error::of_token(error, &profile.name));
        let deadline = self.clock.monotonic() + wait.unwrap_or(MAX_WAIT).min(MAX_WAIT);
        let mut attempts = 0..MAX_ATTEMPTS;
        while attempts.next().is_some() {
            let (cached, last) = self.cache.get(&profile.name, &request.target());
            let session = match cached {
                CachedSession::Unknown => {
                    self.outcome_of(self.load(&profile), self.time_left(deadline)).await?;
                    self.agent_lock.check(self.now())?;
                    continue;
                }
                CachedSession::NoSession(reason) => {
                    return Err(with_profile(SessionError::LoginRequired(reason)));
                }
                CachedSession::Session(session) => session,
            };
            let view = SessionView::new(&session, &request);
            let last_failure = last.as_ref().map(|last| &last.failure);
            let served = match decide(Some(&view), &request, self.now(), last_failure) {
                Decision::Serve { not_refreshed } => {
                    let warning = not_refreshed
                        .map(|obstacle| SessionService::obstacle_error(&profile, &session, &request, obstacle));
                    Some((session, false, warning))
                }
                Decision::Fail(obstacle) => {
                    let error = SessionService::obstacle_error(&profile, &session, &request, obstacle);
                    if self.logged_in_again(&profile, &session, &error, deadline).await {
                        self.agent_lock.check(self.now())?;
                        attempts = 0..MAX_ATTEMPTS;
                        continue;
                    }
                    return Err(match (last, obstacle) {
                        (Some(last), Obstacle::RecentFailure) => last.error,
                        _ => with_profile(error),
                    });
                }
                Decision::Refresh { wait_at_most } => {
                    match self.wait_for_refresh(&profile, &request, session, wait_at_most, deadline).await {
                        Ok(served) => served.map(|(session, refreshed)| (session, refreshed, None)),
                        // What the store records now decides whether the user is asked.
                        Err(error) if error.code == ErrorCode::LoginRequired && self.prompts.is_some() => {
                            let session = self.loaded(&profile).await.map_err(|_| Arc::clone(&error))?;
                            let Some(reason) = self.sessions.required_login(&profile, &session) else {
                                return Err(error);
                            };
                            if !self.logged_in_again(&profile, &session, &reason, deadline).await {
                                return Err(error);
                            }
                            self.agent_lock.check(self.now())?;
                            attempts = 0..MAX_ATTEMPTS;
                            None
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
            if let Some((session, refreshed, warning)) = served {
                return Ok(IssuedToken { profile, session, token: request.token, refreshed, warning });
            }
        }
        Err(Arc::new(Error::msg(
            ErrorCode::IssuerUnreachable,
            "the session keeps changing",
            Hint::profile_command("status").about(&profile.name),
        )))
    }

    /// Waits for the refresh of `session` until `deadline`, and at most for `limit` from the start of the refresh. Returns the
    /// session to serve the token of, and whether it was refreshed. `None` if the decision must be made again.
    async fn wait_for_refresh(
        self: &Arc<Self>,
        profile: &Arc<Profile>,
        request: &TokenRequest,
        session: Arc<Session>,
        limit: Option<Duration>,
        deadline: Instant,
    ) -> Result<Option<(Arc<Session>, bool)>, Arc<Error>> {
        let in_flight = self.join_refresh(profile, request);
        let patience = match limit {
            // Only the first callers of a refresh that hangs wait to see whether it does.
            Some(limit) => self.time_left(deadline).min(limit.saturating_sub(in_flight.age(self.clock.monotonic()))),
            None => self.time_left(deadline),
        };
        let outcome = self.outcome_of(in_flight, patience).await;
        self.agent_lock.check(self.now())?;
        let error = match outcome {
            Ok((session, refreshed)) => {
                let has_token = SessionView::new(&session, request).token.is_some();
                return Ok(has_token.then_some((session, refreshed)));
            }
            Err(error) => error,
        };
        let view = SessionView::new(&session, request);
        if can_fall_back(&view, request, self.now()) && error.code != ErrorCode::LoginRequired {
            return Ok(Some((session, false)));
        }
        // Another process may have stored a token in the meantime. A token that was valid before the wait may have expired
        // during it: then the refresh is waited for after all.
        let is_replaced = matches!(self.cache.get(&profile.name, &request.target()).0,
            CachedSession::Session(now) if !Arc::ptr_eq(&now, &session));
        let is_refreshing = limit.is_some() && error.code == ErrorCode::RefreshInProgress;
        if (is_replaced || is_refreshing) && !self.time_left(deadline).is_zero() { Ok(None) } else { Err(error) }
    }

    /// Reports that a session has ended, and waits for a login if the user is asked for one; returns whether there was one.
    async fn logged_in_again(
        self: &Arc<Self>,
        profile: &Arc<Profile>,
        session: &Session,
        error: &SessionError,
        deadline: Instant,
    ) -> bool {
        match error {
            SessionError::LoginRequired(reason) if self.sessions.has_ended(session, reason) => {}
            _ => return false,
        }
        self.publish_login_required(profile, error);
        self.wait_for_login(profile, session, self.time_left(deadline)).await
    }

    /// Publishes, once for each session, that it has ended.
    fn publish_login_required(&self, profile: &Profile, error: &SessionError) {
        let name = &profile.name;
        let SessionError::LoginRequired(reason) = error else { return };
        if self.cache.mark_login_required_published(name) {
            self.events.publish(EventKind::LoginRequired, Some(name), self.now(), Some(error.to_string()));
            tracing::warn!("{name}: login required: {error}");
            let (sessions, profile, reason) = (Arc::clone(&self.sessions), profile.clone(), reason.clone());
            tokio::spawn(async move { sessions.start_login_hook(&profile, &reason).await });
        }
    }

    fn time_left(&self, deadline: Instant) -> Duration {
        deadline.saturating_duration_since(self.clock.monotonic())
    }

    /// Waits for a load or refresh to end.
    async fn outcome_of(&self, mut in_flight: InFlight, patience: Duration) -> RefreshOutcome {
        let cut = || Err(Arc::new(Error::from(SessionError::Interrupted)));
        tokio::select! {
            // An outcome that is there is used even by a caller that does not wait.
            biased;
            outcome = in_flight.outcome.wait_for(Option::is_some) => match outcome {
                Ok(outcome) => outcome.clone().unwrap_or_else(cut),
                Err(_) => cut(),
            },
            () = self.clock.sleep(patience) => Err(Arc::new(Error::msg(
                ErrorCode::RefreshInProgress,
                "the refresh takes longer than the caller waits",
                Hint::profile_command("status"),
            ))),
        }
    }

    /// Reads the profile's session from its store, once for all callers that need it.
    pub(super) fn load(self: &Arc<Self>, profile: &Arc<Profile>) -> InFlight {
        let (agent, profile) = (Arc::clone(self), Arc::clone(profile));
        let epoch = self.cache.epoch(&profile.name);
        // The epoch in the key keeps a caller that arrives after an invalidation from joining an earlier read.
        self.cache.join(InFlightKey::Load(profile.name.clone(), epoch), self.clock.monotonic(), move || async move {
            let name = &profile.name;
            let found = agent.sessions.session(&profile).await;
            let cached = match &found {
                Ok(session) => CachedSession::Session(Arc::new(session.clone())),
                Err(SessionError::LoginRequired(reason)) => CachedSession::NoSession(reason.clone()),
                Err(_) => CachedSession::Unknown,
            };
            if found.as_ref().is_err_and(SessionError::is_sealed_store) {
                agent.lock_with_store();
            }
            if agent.agent_lock.is_locked() {
                return Err(Arc::new(super::lock_state::locked()));
            }
            if !matches!(cached, CachedSession::Unknown) {
                agent.cache.clear_store_failures(name);
            }
            if let CachedSession::Session(session) = &cached {
                agent.publish_required_login(&profile, session);
            }
            agent.cache.put(name, epoch, cached);
            agent.events.changed.notify_one();
            agent.token_files.notify_one();
            match found {
                Ok(session) => Ok((Arc::new(session), false)),
                Err(error) => Err(Arc::new(Error::from(error).about(name))),
            }
        })
    }

    /// Publishes the event that a login is required, if the issuer has refused the session's refreshes for good; returns whether it
    /// has.
    pub(super) fn publish_required_login(&self, profile: &Profile, session: &Session) -> bool {
        let Some(error) = self.sessions.required_login(profile, session) else { return false };
        self.publish_login_required(profile, &error);
        true
    }

    /// Returns the session as it is in the store now.
    pub(super) async fn loaded(self: &Arc<Self>, profile: &Arc<Profile>) -> Result<Arc<Session>, Arc<Error>> {
        self.outcome_of(self.load(profile), MAX_WAIT).await.map(|(session, _)| session)
    }

    /// Joins the refresh for this request, or starts it.
    pub(super) fn join_refresh(self: &Arc<Self>, profile: &Arc<Profile>, request: &TokenRequest) -> InFlight {
        let key = InFlightKey::Refresh(profile.name.clone(), request.clone());
        let (agent, profile, request) = (Arc::clone(self), Arc::clone(profile), request.clone());
        self.cache.join(key, self.clock.monotonic(), move || async move {
            let epoch = agent.cache.epoch(&profile.name);
            let result = agent.sessions.wait_for_token(&profile, &request).await;
            agent.finish_refresh(&profile, &request.target(), epoch, result)
        })
    }

    /// Caches the session or the failure of a refresh, and publishes the event.
    pub(super) fn finish_refresh(
        &self,
        profile: &Profile,
        target: &TokenTarget,
        epoch: u64,
        result: Result<ServedToken, SessionError>,
    ) -> RefreshOutcome {
        let name = &profile.name;
        if result.as_ref().is_err_and(SessionError::is_sealed_store) {
            self.lock_with_store();
            return Err(Arc::new(super::lock_state::locked()));
        }
        if self.agent_lock.is_locked() {
            // It was locked during the refresh, which has written the files again.
            self.token_files.notify_one();
        }
        let (served, error) = match result {
            Ok(ServedToken { session, refreshed, warning }) => {
                // A login is required only once the token that is served has expired.
                let warning = warning.filter(|warning| !matches!(warning, SessionError::LoginRequired(_)));
                (Some((Arc::new(session), refreshed)), warning)
            }
            Err(error) => (None, Some(error)),
        };
        let error = match error {
            Some(error) => Some(self.record_failure(profile, target, error)),
            None => {
                self.cache.set_failure(name, target, None);
                None
            }
        };
        let login_required = error.as_ref().is_some_and(|error| error.code == ErrorCode::LoginRequired);
        if login_required {
            // The store records whether and why the session has ended: read it again.
            self.cache.put(name, epoch, CachedSession::Unknown);
        } else if let Some((session, _)) = &served
            && !self.agent_lock.is_locked()
        {
            self.cache.put(name, epoch, CachedSession::Session(Arc::clone(session)));
        }
        if let Some((_, true)) = &served {
            self.events.publish(EventKind::Refreshed, Some(name), self.now(), None);
        }
        self.events.changed.notify_one();
        match (served, error) {
            (Some((session, true)), _) => Ok((session, true)),
            (_, Some(error)) => Err(error),
            (Some(served), None) => Ok(served),
            (None, None) => Err(Arc::new(Error::from(SessionError::Interrupted))),
        }
    }

    /// Records a failed refresh. Publishes the first failure in a row, and the end of a session.
    fn record_failure(&self, profile: &Profile, target: &TokenTarget, error: SessionError) -> Arc<Error> {
        let name = &profile.name;
        let now = self.now();
        let mut retry_at = match &error {
            SessionError::RecentFailure(RefreshFailure { retry_at, .. }) => *retry_at,
            SessionError::Issuer(error) => error.retry_after().map(|wait| now.plus(wait)),
            _ => None,
        };
        let login_required = matches!(error, SessionError::LoginRequired(_));
        let ended = matches!(&error, SessionError::LoginRequired(reason) if reason.ends_session());
        // The refresh token of a refused session stays stored, and is sent if a new token is requested explicitly.
        let stays_stored = matches!(error, SessionError::LoginRequired(LoginReason::Refused(_)));
        if ended {
            self.publish_login_required(profile, &error);
        }
        // Events and the log name the profile themselves.
        let reason = without_error_numbers(&error.to_string());
        let error = Arc::new(Error::of_token(error, name));
        let (_, before) = self.cache.get(name, target);
        if !login_required && before.is_none() {
            tracing::warn!("{name}: not refreshed: {reason}");
            self.events.publish(EventKind::RefreshFailed, Some(name), now, Some(reason));
        }
        if !login_required || ended {
            let failures = before.map_or(0, |before| before.failure.failures).saturating_add(1);
            let next_attempt = next_attempt(now, super::background::backoff_with_jitter(failures), retry_at);
            if ended && !stays_stored {
                // If the end of the session could not be stored, its refresh token must still not be sent with each request.
                retry_at = Some(next_attempt);
            }
            let failure = LastFailure { at: now, failures, retry_at, source: FailureSource::ThisProcess };
            let failure = CachedFailure { error: Arc::clone(&error), failure, next_attempt };
            self.cache.set_failure(name, target, Some(failure));
        }
        error
    }

    /// Drops the cached session of a profile, which another process has changed, and reads it again.
    pub(super) fn forget(self: &Arc<Self>, profile: &Arc<Profile>) -> bool {
        let was_logged_in =
            matches!(self.cache.get(&profile.name, &TokenTarget::default()).0, CachedSession::Session(_));
        let forgotten = self.cache.forget(&profile.name);
        if let Some(prompts) = &self.prompts {
            prompts.check_again(&profile.name);
        }
        if !self.agent_lock.is_locked() {
            let (agent, profile, in_flight) = (Arc::clone(self), Arc::clone(profile), self.load(profile));
            tokio::spawn(async move {
                let outcome = agent.outcome_of(in_flight, MAX_WAIT).await;
                if was_logged_in && outcome.is_err_and(|error| error.code == ErrorCode::LoginRequired) {
                    agent.events.publish(EventKind::LoggedOut, Some(&profile.name), agent.now(), None);
                }
            });
        }
        forgotten
    }
}
