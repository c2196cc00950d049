//! The sessions kept in memory, each as it was last seen in its store, and the in_flight that refresh them once for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use tokio::sync::watch;

use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};
use crate::model::{MinTtl, ProfileName, Session, TokenTarget};
use crate::session::LoginReason;

/// The cache copies.
#[derive(Default)]
pub(super) struct SessionCache {
    kept: Mutex<HashMap<ProfileName, Kept>>,
    in_flight: Mutex<HashMap<InFlightKey, InFlight>>,
    /// The answers written last, the latest at the end.
    answers: Mutex<Vec<Written>>,
}

/// How many answers are kept: those of the profiles that are in use just now.
const MAX_ANSWERS: usize = 16;

#[derive(Default)]
struct Kept {
    known: CachedSession,
    /// Counts the times it was forgotten: what was read before the last of them is not kept.
    epoch: u64,
    /// The last failure for each request; what one caller asks in vain keeps nobody from what another asks.
    backoffs: Vec<(TokenTarget, Backoff)>,
    /// It was told that somebody must log in.
    announced: bool,
}

/// An answer that is the same for all who ask within a second.
struct Written {
    name: ProfileName,
    session: Arc<Session>,
    at: UnixTime,
    body: Bytes,
}

/// What is known of a profile's session.
#[derive(Clone, Default)]
pub(super) enum CachedSession {
    /// The store has to be asked.
    #[default]
    Unknown,
    /// Somebody must log in.
    LoginRequired(LoginReason),
    /// This.
    Session(Arc<Session>),
}

/// A refresh that failed.
#[derive(Clone)]
pub(super) struct Backoff {
    pub(super) failure: Arc<Error>,
    pub(super) at: UnixTime,
    /// How many in a row.
    pub(super) count: u32,
    /// When the background tries again.
    pub(super) again_at: UnixTime,
    /// When the issuer wants to be asked again, where it said so.
    pub(super) asked_to_wait_until: Option<UnixTime>,
}

/// How many requests' failures are remembered for a profile.
const MAX_SETBACKS: usize = 32;

impl Backoff {
    /// How long a caller without a valid token is told the failure again instead of asking the issuer once more.
    pub(super) fn rest(&self, now: UnixTime) -> Option<Duration> {
        // A clock that was set back says nothing of how long it is.
        if now < self.at {
            return None;
        }
        let until = self.asked_to_wait_until.unwrap_or(self.at).max(self.at.plus(Duration::from_secs(1)));
        (now < until).then(|| now.until(until))
    }
}

/// Who flies together: the same profile and request, and the same need.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum InFlightKey {
    /// Asks the store, after it was forgotten so often.
    Load(ProfileName, u64),
    /// Refreshes if less life is left, or in any case where `None`.
    Refresh(ProfileName, TokenTarget, Option<MinTtl>),
}

/// How a in_flight ended: the session, and whether it was refreshed.
pub(super) type RefreshOutcome = Result<(Arc<Session>, bool), Arc<Error>>;

/// A in_flight that can be waited for.
#[derive(Clone)]
pub(super) struct InFlight {
    pub(super) outcome: watch::Receiver<Option<RefreshOutcome>>,
    /// When it began.
    pub(super) begun: Instant,
}

impl SessionCache {
    fn kept(&self) -> MutexGuard<'_, HashMap<ProfileName, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_in_flight(&self) -> MutexGuard<'_, HashMap<InFlightKey, InFlight>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taken after the copies, where both are.
    fn answers(&self) -> MutexGuard<'_, Vec<Written>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the profile's session, and the last refresh that failed for what is asked.
    pub(super) fn look(&self, name: &ProfileName, asked: &TokenTarget) -> (CachedSession, Option<Backoff>) {
        match self.kept().get(name) {
            Some(kept) => {
                let backoff = kept.backoffs.iter().find(|(of, _)| of == asked).map(|(_, backoff)| backoff.clone());
                (kept.known.clone(), backoff)
            }
            None => (CachedSession::Unknown, None),
        }
    }

    /// How many sessions are cache.
    pub(super) fn sessions(&self) -> usize {
        self.kept().values().filter(|kept| matches!(kept.known, CachedSession::Session(_))).count()
    }

    /// To be given back with what is read from now on.
    pub(super) fn epoch(&self, name: &ProfileName) -> u64 {
        self.kept().get(name).map_or(0, |kept| kept.epoch)
    }

    /// Keeps what was read since `epoch`, unless the profile was forgotten meanwhile; gives what was kept before.
    pub(super) fn put(&self, name: &ProfileName, epoch: u64, known: CachedSession) -> Option<CachedSession> {
        let mut all = self.kept();
        let kept = all.entry(name.clone()).or_default();
        if kept.epoch != epoch {
            return None;
        }
        if matches!(&known, CachedSession::Session(session) if session.ended.is_none()) {
            kept.announced = false;
        }
        Some(std::mem::replace(&mut kept.known, known))
    }

    /// The answer as it was written within this second for this session.
    pub(super) fn written(&self, name: &ProfileName, session: &Arc<Session>, now: UnixTime) -> Option<Bytes> {
        let answers = self.answers();
        let same = |one: &&Written| one.at == now && Arc::ptr_eq(&one.session, session) && one.name == *name;
        answers.iter().find(same).map(|one| one.body.clone())
    }

    /// Keeps an answer for the rest of the second, if the session is the cache one still.
    pub(super) fn keep_written(&self, name: &ProfileName, session: &Arc<Session>, at: UnixTime, body: &Bytes) {
        let all = self.kept();
        if !matches!(all.get(name).map(|kept| &kept.known), Some(CachedSession::Session(cache)) if Arc::ptr_eq(cache, session))
        {
            return;
        }
        let mut answers = self.answers();
        answers.retain(|one| one.name != *name);
        if answers.len() >= MAX_ANSWERS {
            answers.remove(0);
        }
        answers.push(Written { name: name.clone(), session: Arc::clone(session), at, body: body.clone() });
    }

    /// Whether it is still to be told that somebody must log in: once for each session that ends.
    pub(super) fn announce(&self, name: &ProfileName) -> bool {
        !std::mem::replace(&mut self.kept().entry(name.clone()).or_default().announced, true)
    }

    /// Sets or clears the last failure for what is asked.
    pub(super) fn set_back(&self, name: &ProfileName, asked: &TokenTarget, backoff: Option<Backoff>) {
        let mut all = self.kept();
        let Some(kept) = all.get_mut(name) else { return };
        kept.backoffs.retain(|(of, _)| of != asked);
        if let Some(backoff) = backoff {
            if kept.backoffs.len() >= MAX_SETBACKS {
                kept.backoffs.remove(0);
            }
            kept.backoffs.push((asked.clone(), backoff));
        }
    }

    /// How long an issuer wants to be left alone, or a failure is told again, whose failure this was.
    pub(super) fn rest_after(&self, failure: &Arc<Error>, now: UnixTime) -> Option<Duration> {
        let all = self.kept();
        let mut backoffs = all.values().flat_map(|kept| &kept.backoffs);
        backoffs.find(|(_, backoff)| Arc::ptr_eq(&backoff.failure, failure)).and_then(|(_, backoff)| backoff.rest(now))
    }

    /// Clears the failures of a store that answers again; that a session has ended is still to be remembered.
    pub(super) fn store_answers(&self, name: &ProfileName) {
        if let Some(kept) = self.kept().get_mut(name) {
            kept.backoffs.retain(|(_, backoff)| backoff.failure.code.general() != ErrorCode::StoreUnavailable);
        }
    }

    /// Drops the copy; whether there was one.
    pub(super) fn forget(&self, name: &ProfileName) -> bool {
        let mut all = self.kept();
        let kept = all.entry(name.clone()).or_default();
        kept.epoch += 1;
        kept.backoffs.clear();
        self.answers().retain(|one| one.name != *name);
        !matches!(std::mem::take(&mut kept.known), CachedSession::Unknown)
    }

    /// Drops the copy of a profile that there is no longer; whether there was one. Names that never were leave nothing.
    pub(super) fn forget_gone(&self, name: &ProfileName) -> bool {
        let kept = self.kept().contains_key(name);
        kept && self.forget(name)
    }

    /// Drops all copies.
    pub(super) fn forget_all(&self) {
        let mut all = self.kept();
        self.answers().clear();
        for kept in all.values_mut() {
            kept.epoch += 1;
            kept.known = CachedSession::Unknown;
            kept.backoffs.clear();
        }
    }

    /// Joins the in_flight of that key, which `fly` starts where there is none. It flies on when all who wait have left.
    pub(super) fn join<F>(self: &Arc<Self>, key: InFlightKey, now: Instant, fly: impl FnOnce() -> F) -> InFlight
    where
        F: Future<Output = RefreshOutcome> + Send + 'static,
    {
        let mut all = self.all_in_flight();
        if let Some(in_flight) = all.get(&key) {
            return in_flight.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let in_flight = InFlight { outcome, begun: now };
        all.insert(key.clone(), in_flight.clone());
        drop(all);
        let (flying, over) = (fly(), Over { cache: Arc::clone(self), key });
        tokio::spawn(async move {
            let result = flying.await;
            // First out of the list, then told: who comes now begins anew and does not get what is over.
            drop(over);
            tell.send_replace(Some(result));
        });
        in_flight
    }
}

/// Takes a in_flight out of the list, however it ends.
struct Over {
    cache: Arc<SessionCache>,
    key: InFlightKey,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.cache.all_in_flight().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[tokio::test]
    async fn all_who_want_the_same_share_one_flight() {
        let (cache, now) = (Arc::new(SessionCache::default()), SystemClock.monotonic());
        let (land, landing) = watch::channel(false);
        let begun = Cell::new(0);
        let join = |asked: TokenTarget, min_ttl| {
            let mut landing = landing.clone();
            cache.join(InFlightKey::Refresh("work".parse().expect("valid"), asked, min_ttl), now, || {
                begun.set(begun.get() + 1);
                async move {
                    let _ = landing.wait_for(|land| *land).await;
                    Err(Arc::new(Error::msg(ErrorCode::StoreUnavailable, "a failure", "none")))
                }
            })
        };
        let plain = TokenTarget::default;
        let all: Vec<InFlight> = (0..1000).map(|_| join(plain(), None)).collect();
        assert_eq!(begun.get(), 1);
        join(plain(), Some(MinTtl::Default));
        join(TokenTarget { audience: Some("https://api.example".into()), ..plain() }, None);
        assert_eq!(begun.get(), 3, "who wants something else flies apart");
        land.send_replace(true);
        for mut in_flight in all {
            let outcome = in_flight.outcome.wait_for(Option::is_some).await.expect("it lands").clone();
            assert_eq!(outcome.expect("outcome").expect_err("the failure").message(), "a failure");
        }
        join(plain(), None);
        assert_eq!(begun.get(), 4, "what is over is joined by nobody");
    }
}
