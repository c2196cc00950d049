//! Hands out tokens: the warm one where it will do, else what the one renewal brings that all wait for.

use std::sync::Arc;
use std::time::Duration;

use super::Agent;
use super::events::What;
use super::warm::{Flight, FlightKey, Known, Landed, Setback};
use crate::broker::{Broker, BrokerError, LoginReason, Need};
use crate::clock::UnixTime;
use crate::failure::{Failure, Kind};
use crate::model::{Failed, Freshness, MinTtl, Profile, Session, TokenFor, TokenSet, freshness};

/// A token that a caller may have.
pub(super) struct Handed {
    pub(super) profile: Arc<Profile>,
    pub(super) session: Arc<Session>,
    pub(super) asked: TokenFor,
    /// Whether the caller waited for a renewal that brought it.
    pub(super) renewed: bool,
    /// Why it was not renewed though it was time to.
    pub(super) trouble: Option<Arc<Failure>>,
}

impl Handed {
    /// The token itself.
    pub(super) fn tokens(&self) -> &TokenSet {
        self.session.token_for(&self.asked).unwrap_or(&self.session.tokens)
    }
}

/// How long a caller waits for the renewal of a token that is valid yet, before it is handed out as it is: longer than an
/// issuer in good health takes, shorter than anybody minds.
const DUE_PATIENCE: Duration = Duration::from_secs(2);

/// The most a caller waits where it has not said for how long; the longest renewal ends before.
const MOST_PATIENCE: Duration = Duration::from_secs(120);

/// The code of the failure of a caller who waited for a renewal as long as it would.
const UNDER_WAY: &str = "renewal_under_way";

/// How often a request looks again after what it looked at was forgotten meanwhile.
const LOOKS: u32 = 4;

impl Agent {
    /// A valid token of the profile for what is asked. Waits for a renewal that is under way, at most as long as `wait`,
    /// and never fails because of one; a token that is valid yet is handed out through every failure.
    pub(super) async fn hand_out(
        self: &Arc<Self>,
        profile: Arc<Profile>,
        asked: TokenFor,
        need: Need,
        wait: Option<Duration>,
    ) -> Result<Handed, Arc<Failure>> {
        let asked = profile.narrowed(asked);
        let about = |error: BrokerError| Arc::new(Failure::from(error).about(&profile.name));
        let deadline = self.clock.monotonic() + wait.unwrap_or(MOST_PATIENCE).min(MOST_PATIENCE);
        let left = || deadline.saturating_duration_since(self.clock.monotonic());
        for _ in 0..LOOKS {
            let (known, setback) = self.warm.look(&profile.name, &asked);
            let session = match known {
                Known::Unknown => {
                    self.landing(self.load(&profile), left()).await?;
                    self.guard.pass(self.now())?;
                    continue;
                }
                Known::Nobody(reason) => return Err(about(BrokerError::LoginRequired(reason))),
                Known::Session(session) => session,
            };
            let now = self.now();
            let standing = session.token_for(&asked).map(|tokens| match need {
                Need::Life(min_ttl) => freshness(tokens, now, min_ttl),
                Need::New if freshness(tokens, now, MinTtl::Default) == Freshness::Expired => Freshness::Expired,
                Need::New => Freshness::Due,
            });
            let handed = |session, renewed, trouble| Handed {
                profile: Arc::clone(&profile),
                session,
                asked: asked.clone(),
                renewed,
                trouble,
            };
            let valid = need != Need::New && standing == Some(Freshness::Due);
            if standing == Some(Freshness::Fresh) {
                return Ok(handed(session, false, None));
            }
            if !session.can_renew() {
                let failure = about(BrokerError::LoginRequired(why_over(&session)));
                return if valid { Ok(handed(session, false, Some(failure))) } else { Err(failure) };
            }
            if let Some(setback) = setback.filter(|_| need != Need::New) {
                if valid && now < setback.again_at && now >= setback.at {
                    return Ok(handed(session, false, Some(setback.failure)));
                }
                if !valid && setback.rest(now).is_some() {
                    return Err(setback.failure);
                }
            }
            let flight = self.renew(&profile, &asked, need);
            let patience = if valid { left().min(self.patience(&flight)) } else { left() };
            let landed = self.landing(flight, patience).await;
            self.guard.pass(self.now())?;
            let failure = match landed {
                Ok((session, _)) if session.token_for(&asked).is_none() => continue,
                Ok((session, renewed)) => return Ok(handed(session, renewed, None)),
                Err(failure) => failure,
            };
            // It may have ended meanwhile; then what the renewal brings is waited for after all.
            let lives = |tokens: &TokenSet| freshness(tokens, self.now(), MinTtl::Default) != Freshness::Expired;
            if valid && session.token_for(&asked).is_some_and(lives) {
                return Ok(handed(session, false, Some(failure)));
            }
            // Another process may have stored a token that will do.
            let newer = matches!(self.warm.look(&profile.name, &asked).0,
                Known::Session(now) if !Arc::ptr_eq(&now, &session));
            if !(newer || valid && failure.code == UNDER_WAY) || left().is_zero() {
                return Err(failure);
            }
        }
        Err(Arc::new(Failure::said(Kind::Unreachable, "the session is being changed all the time", "try again")))
    }

    /// A newer session in the place of one whose ID token is valid yet: waited for as for a token that is, at most as long
    /// as `wait`. Where the last try failed a short while ago, there is none.
    pub(super) async fn newer(self: &Arc<Self>, profile: &Arc<Profile>, wait: Option<Duration>) -> Landed {
        let (plain, now) = (TokenFor::default(), self.now());
        if let (_, Some(setback)) = self.warm.look(&profile.name, &plain)
            && now < setback.again_at
            && now >= setback.at
        {
            return Err(setback.failure);
        }
        let flight = self.renew(profile, &plain, Need::New);
        let patience = self.patience(&flight);
        self.landing(flight, wait.map_or(patience, |wait| wait.min(patience))).await
    }

    /// How long a caller waits for a flight in the place of whose token another is valid yet. Of a renewal that hangs only
    /// the first callers wait to see whether it does.
    fn patience(&self, flight: &Flight) -> Duration {
        DUE_PATIENCE.saturating_sub(self.clock.monotonic().saturating_duration_since(flight.begun))
    }

    /// Waits for a flight to land.
    async fn landing(&self, mut flight: Flight, patience: Duration) -> Landed {
        let landed = tokio::time::timeout(patience, flight.landed.wait_for(Option::is_some)).await;
        match landed {
            Ok(Ok(landed)) => match &*landed {
                Some(landed) => landed.clone(),
                None => Err(Arc::new(Failure::from(BrokerError::Cut))),
            },
            Ok(Err(_)) => Err(Arc::new(Failure::from(BrokerError::Cut))),
            Err(_) => Err(Arc::new(
                Failure::said(Kind::Unreachable, "the renewal takes longer than the caller waits", "try again")
                    .coded(UNDER_WAY),
            )),
        }
    }

    /// Reads the profile's session from its store, once for all who need it.
    pub(super) fn load(self: &Arc<Self>, profile: &Arc<Profile>) -> Flight {
        let (agent, profile) = (Arc::clone(self), Arc::clone(profile));
        let epoch = self.warm.epoch(&profile.name);
        // Who comes after it was forgotten does not get what was read before.
        self.warm.join(FlightKey::Load(profile.name.clone(), epoch), self.clock.monotonic(), move || async move {
            let name = &profile.name;
            let found = agent.broker.stored(&profile).await.and_then(|found| Broker::owned(&profile, found));
            let known = match &found {
                Ok(session) => Known::Session(Arc::new(session.clone())),
                Err(BrokerError::LoginRequired(reason)) => Known::Nobody(reason.clone()),
                Err(_) => Known::Unknown,
            };
            if agent.guard.is_locked() {
                return Err(Arc::new(super::guard::locked()));
            }
            if !matches!(known, Known::Unknown) {
                agent.warm.store_answers(name);
            }
            if let Known::Session(session) = &known
                && let Some(ended) = &session.ended
                && agent.warm.announce(name)
            {
                agent.events.tell(What::LoginRequired, Some(name), agent.now(), Some(ended.message.clone()));
            }
            agent.warm.put(name, epoch, known);
            agent.events.changed.notify_one();
            match found {
                Ok(session) => Ok((Arc::new(session), false)),
                Err(error) => Err(Arc::new(Failure::from(error).about(name))),
            }
        })
    }

    /// The session as it is in the store now.
    pub(super) async fn loaded(self: &Arc<Self>, profile: &Arc<Profile>) -> Result<Arc<Session>, Arc<Failure>> {
        self.landing(self.load(profile), MOST_PATIENCE).await.map(|(session, _)| session)
    }

    /// Renews, once for all who need it.
    pub(super) fn renew(self: &Arc<Self>, profile: &Arc<Profile>, asked: &TokenFor, need: Need) -> Flight {
        let min_ttl = match need {
            Need::Life(min_ttl) => Some(min_ttl),
            Need::New => None,
        };
        let key = FlightKey::Renew(profile.name.clone(), asked.clone(), min_ttl);
        let (agent, profile, asked) = (Arc::clone(self), Arc::clone(profile), asked.clone());
        self.warm.join(key, self.clock.monotonic(), move || async move {
            let epoch = agent.warm.epoch(&profile.name);
            let result = agent.broker.token(&profile, &asked, need).await;
            agent.landed(&profile, &asked, epoch, result.map(|served| (served.session, served.renewed, served.trouble)))
        })
    }

    /// Keeps what a renewal brought, or that it failed, and tells those who listen.
    fn landed(
        &self,
        profile: &Profile,
        asked: &TokenFor,
        epoch: u64,
        result: Result<(Session, bool, Option<BrokerError>), BrokerError>,
    ) -> Landed {
        let name = &profile.name;
        let (kept, trouble) = match result {
            Ok((session, renewed, trouble)) => (Some((Arc::new(session), renewed)), trouble),
            Err(error) => (None, Some(error)),
        };
        let locked = self.guard.is_locked();
        let failure = match trouble {
            None => {
                self.warm.set_back(name, asked, None);
                None
            }
            Some(error) => Some(self.told(profile, asked, error)),
        };
        let over = failure.as_ref().is_some_and(|failure| failure.kind == Kind::LoginRequired);
        match &kept {
            Some((session, _)) if !over && !locked => {
                self.warm.put(name, epoch, Known::Session(Arc::clone(session)));
            }
            // What has ended says so in the store: look there.
            _ if over => {
                self.warm.put(name, epoch, Known::Unknown);
            }
            _ => {}
        }
        if let Some((_, true)) = &kept {
            self.events.tell(What::Renewed, Some(name), self.now(), None);
        }
        self.events.changed.notify_one();
        match (kept, failure) {
            (Some(kept), None) => Ok(kept),
            (Some((session, renewed)), Some(_)) if renewed => Ok((session, renewed)),
            (_, Some(failure)) => Err(failure),
            (None, None) => Err(Arc::new(Failure::from(BrokerError::Cut))),
        }
    }

    /// Notes a failed renewal, and tells of the first of a row, and of a session's end.
    fn told(&self, profile: &Profile, asked: &TokenFor, error: BrokerError) -> Arc<Failure> {
        let name = &profile.name;
        let now = self.now();
        let asked_to_wait_until = match &error {
            BrokerError::FailedJustNow(Failed { retry_at, .. }) => *retry_at,
            BrokerError::Issuer(error) => error.retry_after().map(|wait| now.plus(wait)),
            _ => None,
        };
        let login = matches!(error, BrokerError::LoginRequired(_));
        // Where somebody logged out meanwhile, that is told as what it is.
        let over = matches!(error, BrokerError::LoginRequired(LoginReason::Ended(_) | LoginReason::NoRefreshToken));
        let failure = Arc::new(Failure::from(error).about(name));
        let (_, before) = self.warm.look(name, asked);
        let new = match over {
            true => self.warm.announce(name),
            false => !login && before.is_none(),
        };
        if new {
            let what = if over { What::LoginRequired } else { What::Failed };
            self.events.tell(what, Some(name), now, Some(failure.message()));
            tracing::warn!("{name}: not renewed: {}", failure.message());
        }
        if !login || over {
            let count = before.map_or(0, |before| before.count).saturating_add(1);
            let again_at = now.plus(super::renewal::pause(count)).max(asked_to_wait_until.unwrap_or(now));
            // Where the end could not be stored, the dead refresh token is not sent again at each call.
            let asked_to_wait_until = if over { Some(again_at) } else { asked_to_wait_until };
            let setback = Setback { failure: Arc::clone(&failure), at: now, count, again_at, asked_to_wait_until };
            self.warm.set_back(name, asked, Some(setback));
        }
        failure
    }

    /// Drops what is kept of a profile, whose session another process has changed, and reads it again.
    pub(super) fn forget(self: &Arc<Self>, profile: &Arc<Profile>) -> bool {
        let was = matches!(self.warm.look(&profile.name, &TokenFor::default()).0, Known::Session(_));
        let forgotten = self.warm.forget(&profile.name);
        if !self.guard.is_locked() {
            let (agent, profile, flight) = (Arc::clone(self), Arc::clone(profile), self.load(profile));
            tokio::spawn(async move {
                let gone = agent.landing(flight, MOST_PATIENCE).await.is_err_and(|e| e.kind == Kind::LoginRequired);
                if was && gone {
                    agent.events.tell(What::LoggedOut, Some(&profile.name), agent.now(), None);
                }
            });
        }
        forgotten
    }
}

/// Why a session that cannot be renewed is over.
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
