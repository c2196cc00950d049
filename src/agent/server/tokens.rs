//! Hands out tokens: the cache one where it will do, else what the one refresh brings that all wait for.

use std::sync::Arc;
use std::time::Duration;

use super::Agent;
use super::cache::{Backoff, CachedSession, InFlight, InFlightKey, RefreshOutcome};
use super::events::What;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};
use crate::model::{Freshness, MinTtl, Profile, RefreshFailure, Session, TokenSet, TokenTarget, freshness};
use crate::session::{Demand, LoginReason, SessionError};

/// A token that a caller may have.
pub(super) struct IssuedToken {
    pub(super) profile: Arc<Profile>,
    pub(super) session: Arc<Session>,
    pub(super) asked: TokenTarget,
    /// Whether the caller waited for a refresh that brought it.
    pub(super) refreshed: bool,
    /// Why it was not refreshed though it was time to.
    pub(super) trouble: Option<Arc<Error>>,
}

impl IssuedToken {
    /// The token itself.
    pub(super) fn tokens(&self) -> &TokenSet {
        self.session.token_for(&self.asked).unwrap_or(&self.session.tokens)
    }
}

/// How long a caller waits for the refresh of a token that is valid yet, before it is handed out as it is: longer than an
/// issuer in good health takes, shorter than anybody minds.
const DUE_PATIENCE: Duration = Duration::from_secs(2);

/// The most a caller waits where it has not said for how long; the longest refresh ends before.
const MAX_PATIENCE: Duration = Duration::from_secs(120);

/// How often a request looks again after what it looked at was forgotten meanwhile.
const LOOKS: u32 = 4;

impl Agent {
    /// A valid token of the profile for what is asked. Waits for a refresh that is under way, at most as long as `wait`,
    /// and never fails because of one; a token that is valid yet is handed out through every failure.
    pub(super) async fn hand_out(
        self: &Arc<Self>,
        profile: Arc<Profile>,
        asked: TokenTarget,
        need: Demand,
        wait: Option<Duration>,
    ) -> Result<IssuedToken, Arc<Error>> {
        let asked = profile.narrowed(asked);
        let about = |error: SessionError| Arc::new(Error::from(error).about(&profile.name));
        let deadline = self.clock.monotonic() + wait.unwrap_or(MAX_PATIENCE).min(MAX_PATIENCE);
        let left = || deadline.saturating_duration_since(self.clock.monotonic());
        for _ in 0..LOOKS {
            let (known, backoff) = self.cache.look(&profile.name, &asked);
            let session = match known {
                CachedSession::Unknown => {
                    self.landing(self.load(&profile), left()).await?;
                    self.agent_lock.pass(self.now())?;
                    continue;
                }
                CachedSession::LoginRequired(reason) => return Err(about(SessionError::LoginRequired(reason))),
                CachedSession::Session(session) => session,
            };
            let now = self.now();
            let standing = session.token_for(&asked).map(|tokens| match need {
                Demand::ValidFor(min_ttl) => freshness(tokens, now, min_ttl),
                Demand::New if freshness(tokens, now, MinTtl::Default) == Freshness::Expired => Freshness::Expired,
                Demand::New => Freshness::Due,
            });
            let handed = |session, refreshed, trouble| IssuedToken {
                profile: Arc::clone(&profile),
                session,
                asked: asked.clone(),
                refreshed,
                trouble,
            };
            let valid = need != Demand::New && standing == Some(Freshness::Due);
            if standing == Some(Freshness::Fresh) {
                return Ok(handed(session, false, None));
            }
            if !session.can_refresh() {
                let failure = about(SessionError::LoginRequired(why_over(&session)));
                return if valid { Ok(handed(session, false, Some(failure))) } else { Err(failure) };
            }
            if let Some(backoff) = backoff.filter(|_| need != Demand::New) {
                if valid && now < backoff.again_at && now >= backoff.at {
                    return Ok(handed(session, false, Some(backoff.failure)));
                }
                if !valid && backoff.rest(now).is_some() {
                    return Err(backoff.failure);
                }
            }
            let in_flight = self.join_refresh(&profile, &asked, need);
            let patience = if valid { left().min(self.patience(&in_flight)) } else { left() };
            let outcome = self.landing(in_flight, patience).await;
            self.agent_lock.pass(self.now())?;
            let failure = match outcome {
                Ok((session, _)) if session.token_for(&asked).is_none() => continue,
                Ok((session, refreshed)) => return Ok(handed(session, refreshed, None)),
                Err(failure) => failure,
            };
            // It may have ended meanwhile; then what the refresh brings is waited for after all.
            let lives = |tokens: &TokenSet| freshness(tokens, self.now(), MinTtl::Default) != Freshness::Expired;
            if valid && session.token_for(&asked).is_some_and(lives) {
                return Ok(handed(session, false, Some(failure)));
            }
            // Another process may have stored a token that will do.
            let newer = matches!(self.cache.look(&profile.name, &asked).0,
                CachedSession::Session(now) if !Arc::ptr_eq(&now, &session));
            if !(newer || valid && failure.code == ErrorCode::RefreshInProgress) || left().is_zero() {
                return Err(failure);
            }
        }
        Err(Arc::new(Error::msg(
            ErrorCode::IssuerUnreachable,
            "the session is being changed all the time",
            "try again",
        )))
    }

    /// A newer session in the place of one whose ID token is valid yet: waited for as for a token that is, at most as long
    /// as `wait`. Where the last try failed a short while ago, there is none.
    pub(super) async fn newer(self: &Arc<Self>, profile: &Arc<Profile>, wait: Option<Duration>) -> RefreshOutcome {
        let (plain, now) = (TokenTarget::default(), self.now());
        if let (_, Some(backoff)) = self.cache.look(&profile.name, &plain)
            && now < backoff.again_at
            && now >= backoff.at
        {
            return Err(backoff.failure);
        }
        let in_flight = self.join_refresh(profile, &plain, Demand::New);
        let patience = self.patience(&in_flight);
        self.landing(in_flight, wait.map_or(patience, |wait| wait.min(patience))).await
    }

    /// How long a caller waits for a in_flight in the place of whose token another is valid yet. Of a refresh that hangs only
    /// the first callers wait to see whether it does.
    fn patience(&self, in_flight: &InFlight) -> Duration {
        DUE_PATIENCE.saturating_sub(self.clock.monotonic().saturating_duration_since(in_flight.begun))
    }

    /// Waits for a in_flight to land.
    async fn landing(&self, mut in_flight: InFlight, patience: Duration) -> RefreshOutcome {
        let outcome = tokio::time::timeout(patience, in_flight.outcome.wait_for(Option::is_some)).await;
        match outcome {
            Ok(Ok(outcome)) => match &*outcome {
                Some(outcome) => outcome.clone(),
                None => Err(Arc::new(Error::from(SessionError::Cut))),
            },
            Ok(Err(_)) => Err(Arc::new(Error::from(SessionError::Cut))),
            Err(_) => Err(Arc::new(Error::msg(
                ErrorCode::RefreshInProgress,
                "the refresh takes longer than the caller waits",
                "try again",
            ))),
        }
    }

    /// Reads the profile's session from its store, once for all who need it.
    pub(super) fn load(self: &Arc<Self>, profile: &Arc<Profile>) -> InFlight {
        let (agent, profile) = (Arc::clone(self), Arc::clone(profile));
        let epoch = self.cache.epoch(&profile.name);
        // Who comes after it was forgotten does not get what was read before.
        self.cache.join(InFlightKey::Load(profile.name.clone(), epoch), self.clock.monotonic(), move || async move {
            let name = &profile.name;
            let found = agent.sessions.session(&profile).await;
            let known = match &found {
                Ok(session) => CachedSession::Session(Arc::new(session.clone())),
                Err(SessionError::LoginRequired(reason)) => CachedSession::LoginRequired(reason.clone()),
                Err(_) => CachedSession::Unknown,
            };
            if agent.agent_lock.is_locked() {
                return Err(Arc::new(super::lock::locked()));
            }
            if !matches!(known, CachedSession::Unknown) {
                agent.cache.store_answers(name);
            }
            if let CachedSession::Session(session) = &known
                && let Some(ended) = &session.ended
                && agent.cache.announce(name)
            {
                agent.events.tell(What::LoginRequired, Some(name), agent.now(), Some(ended.message.clone()));
            }
            agent.cache.put(name, epoch, known);
            agent.events.changed.notify_one();
            match found {
                Ok(session) => Ok((Arc::new(session), false)),
                Err(error) => Err(Arc::new(Error::from(error).about(name))),
            }
        })
    }

    /// The session as it is in the store now.
    pub(super) async fn loaded(self: &Arc<Self>, profile: &Arc<Profile>) -> Result<Arc<Session>, Arc<Error>> {
        self.landing(self.load(profile), MAX_PATIENCE).await.map(|(session, _)| session)
    }

    /// Refreshes, once for all who need it.
    pub(super) fn join_refresh(
        self: &Arc<Self>,
        profile: &Arc<Profile>,
        asked: &TokenTarget,
        need: Demand,
    ) -> InFlight {
        let min_ttl = match need {
            Demand::ValidFor(min_ttl) => Some(min_ttl),
            Demand::New => None,
        };
        let key = InFlightKey::Refresh(profile.name.clone(), asked.clone(), min_ttl);
        let (agent, profile, asked) = (Arc::clone(self), Arc::clone(profile), asked.clone());
        self.cache.join(key, self.clock.monotonic(), move || async move {
            let epoch = agent.cache.epoch(&profile.name);
            let result = agent.sessions.token(&profile, &asked, need).await;
            agent.outcome(
                &profile,
                &asked,
                epoch,
                result.map(|served| (served.session, served.refreshed, served.trouble)),
            )
        })
    }

    /// Keeps what a refresh brought, or that it failed, and tells those who listen.
    fn outcome(
        &self,
        profile: &Profile,
        asked: &TokenTarget,
        epoch: u64,
        result: Result<(Session, bool, Option<SessionError>), SessionError>,
    ) -> RefreshOutcome {
        let name = &profile.name;
        let (kept, trouble) = match result {
            Ok((session, refreshed, trouble)) => (Some((Arc::new(session), refreshed)), trouble),
            Err(error) => (None, Some(error)),
        };
        let locked = self.agent_lock.is_locked();
        let failure = match trouble {
            None => {
                self.cache.set_back(name, asked, None);
                None
            }
            Some(error) => Some(self.told(profile, asked, error)),
        };
        let over = failure.as_ref().is_some_and(|failure| failure.code == ErrorCode::LoginRequired);
        match &kept {
            Some((session, _)) if !over && !locked => {
                self.cache.put(name, epoch, CachedSession::Session(Arc::clone(session)));
            }
            // What has ended says so in the store: look there.
            _ if over => {
                self.cache.put(name, epoch, CachedSession::Unknown);
            }
            _ => {}
        }
        if let Some((_, true)) = &kept {
            self.events.tell(What::Refreshed, Some(name), self.now(), None);
        }
        self.events.changed.notify_one();
        match (kept, failure) {
            (Some(kept), None) => Ok(kept),
            (Some((session, refreshed)), Some(_)) if refreshed => Ok((session, refreshed)),
            (_, Some(failure)) => Err(failure),
            (None, None) => Err(Arc::new(Error::from(SessionError::Cut))),
        }
    }

    /// Notes a failed refresh, and tells of the first of a row, and of a session's end.
    fn told(&self, profile: &Profile, asked: &TokenTarget, error: SessionError) -> Arc<Error> {
        let name = &profile.name;
        let now = self.now();
        let asked_to_wait_until = match &error {
            SessionError::FailedJustNow(RefreshFailure { retry_at, .. }) => *retry_at,
            SessionError::Issuer(error) => error.retry_after().map(|wait| now.plus(wait)),
            _ => None,
        };
        let login = matches!(error, SessionError::LoginRequired(_));
        // Where somebody logged out meanwhile, that is told as what it is.
        let over = matches!(error, SessionError::LoginRequired(LoginReason::Ended(_) | LoginReason::NoRefreshToken));
        let failure = Arc::new(Error::from(error).about(name));
        let (_, before) = self.cache.look(name, asked);
        let new = match over {
            true => self.cache.announce(name),
            false => !login && before.is_none(),
        };
        if new {
            let what = if over { What::LoginRequired } else { What::Failed };
            self.events.tell(what, Some(name), now, Some(failure.message()));
            tracing::warn!("{name}: not refreshed: {}", failure.message());
        }
        if !login || over {
            let count = before.map_or(0, |before| before.count).saturating_add(1);
            let again_at = now.plus(super::background::pause(count)).max(asked_to_wait_until.unwrap_or(now));
            // Where the end could not be stored, the dead refresh token is not sent again at each call.
            let asked_to_wait_until = if over { Some(again_at) } else { asked_to_wait_until };
            let backoff = Backoff { failure: Arc::clone(&failure), at: now, count, again_at, asked_to_wait_until };
            self.cache.set_back(name, asked, Some(backoff));
        }
        failure
    }

    /// Drops what is kept of a profile, whose session another process has changed, and reads it again.
    pub(super) fn forget(self: &Arc<Self>, profile: &Arc<Profile>) -> bool {
        let was = matches!(self.cache.look(&profile.name, &TokenTarget::default()).0, CachedSession::Session(_));
        let forgotten = self.cache.forget(&profile.name);
        if !self.agent_lock.is_locked() {
            let (agent, profile, in_flight) = (Arc::clone(self), Arc::clone(profile), self.load(profile));
            tokio::spawn(async move {
                let gone =
                    agent.landing(in_flight, MAX_PATIENCE).await.is_err_and(|e| e.code == ErrorCode::LoginRequired);
                if was && gone {
                    agent.events.tell(What::LoggedOut, Some(&profile.name), agent.now(), None);
                }
            });
        }
        forgotten
    }
}

/// Why a session that cannot be refreshed is over.
fn why_over(session: &Session) -> LoginReason {
    match &session.ended {
        Some(ended) => LoginReason::Ended(ended.clone()),
        None => LoginReason::NoRefreshToken,
    }
}

/// How long a token lives yet, in seconds.
pub(super) fn expires_in(tokens: &TokenSet, now: UnixTime) -> Option<u64> {
    tokens.expires_at.map(|end| now.until(end).as_secs())
}
