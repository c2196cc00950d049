//! The session cache: each session as last read from its store, and the in-flight loads and refreshes that callers share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use tokio::sync::watch;

use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};
use crate::model::{ProfileName, Session, TokenTarget};
use crate::session::refresh_policy::LastFailure;
use crate::session::{LoginReason, TokenRequest, is_unverified};
use crate::status::SessionState;

/// The sessions of all profiles.
#[derive(Default)]
pub(super) struct SessionCache {
    entries: Mutex<HashMap<ProfileName, Entry>>,
    in_flight: Mutex<HashMap<InFlightKey, InFlight>>,
    /// The latest responses, the newest last.
    responses: Mutex<Vec<CachedResponse>>,
}

/// How many responses are cached: those of the profiles in use at the moment.
const MAX_RESPONSES: usize = 16;

#[derive(Default)]
struct Entry {
    session: CachedSession,
    /// Counts invalidations: a session read before the last one is not cached.
    epoch: u64,
    /// The last failed refresh for each target: what fails for one target is still tried for another.
    failures: Vec<(TokenTarget, CachedFailure)>,
    /// Whether the event that a login is required has been published.
    login_required_published: bool,
}

impl Entry {
    /// Returns whether the last refresh for the profile's own request failed.
    fn has_failed(&self) -> bool {
        self.failures.iter().any(|(target, _)| *target == TokenTarget::default())
    }
}

/// A response body that is the same for all requests within one second.
struct CachedResponse {
    name: ProfileName,
    session: Arc<Session>,
    at: UnixTime,
    body: Bytes,
}

/// The cached state of a profile's session.
#[derive(Clone, Default)]
pub(super) enum CachedSession {
    /// Not cached: the store must be read.
    #[default]
    Unknown,
    /// The store has no session for this profile.
    NoSession(LoginReason),
    /// The session.
    Session(Arc<Session>),
}

/// The last failed refresh of a session for a target.
#[derive(Clone)]
pub(super) struct CachedFailure {
    /// The error for callers that share the failure.
    pub(super) error: Arc<Error>,
    /// What the policy decides by.
    pub(super) failure: LastFailure,
    /// When the background refresh tries again.
    pub(super) next_attempt: UnixTime,
}

/// The profiles whose sessions need attention, each list in order.
#[derive(Default)]
pub(super) struct Attention {
    pub(super) refreshing: Vec<ProfileName>,
    pub(super) failing: Vec<ProfileName>,
    pub(super) login_required: Vec<ProfileName>,
    pub(super) unverified: Vec<ProfileName>,
}

/// How many targets' failures are remembered for a profile.
const MAX_FAILURES: usize = 32;

/// Identifies the work that callers share: one load of a store, or one refresh for the same request.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum InFlightKey {
    /// A load from the store, at this epoch of the cache entry.
    Load(ProfileName, u64),
    /// A refresh.
    Refresh(ProfileName, TokenRequest),
}

/// How a load or refresh ended: the session, and whether it was refreshed.
pub(super) type RefreshOutcome = Result<(Arc<Session>, bool), Arc<Error>>;

/// A running load or refresh.
#[derive(Clone)]
pub(super) struct InFlight {
    pub(super) outcome: watch::Receiver<Option<RefreshOutcome>>,
    started_at: Instant,
}

impl InFlight {
    /// Returns how long it has been running.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started_at)
    }
}

impl SessionCache {
    fn entries(&self) -> MutexGuard<'_, HashMap<ProfileName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<InFlightKey, InFlight>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the responses. If both mutexes are needed, `entries` is locked first.
    fn responses(&self) -> MutexGuard<'_, Vec<CachedResponse>> {
        self.responses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is cached of the profile's session, and the last failed refresh for `target`.
    pub(super) fn get(&self, name: &ProfileName, target: &TokenTarget) -> (CachedSession, Option<CachedFailure>) {
        match self.entries().get(name) {
            Some(entry) => {
                let failure = entry.failures.iter().find(|(of, _)| of == target).map(|(_, failure)| failure.clone());
                (entry.session.clone(), failure)
            }
            None => (CachedSession::Unknown, None),
        }
    }

    /// Returns how many sessions are cached.
    pub(super) fn sessions(&self) -> usize {
        self.entries().values().filter(|entry| matches!(entry.session, CachedSession::Session(_))).count()
    }

    /// Returns the profiles whose sessions need attention.
    pub(super) fn attention(&self, now: UnixTime) -> Attention {
        let mut attention = Attention::default();
        for (name, entry) in &*self.entries() {
            let state = match &entry.session {
                CachedSession::Unknown => continue,
                CachedSession::NoSession(_) => SessionState::LoginRequired,
                CachedSession::Session(session) => match SessionState::of(session, now) {
                    SessionState::Valid | SessionState::Refreshable if entry.has_failed() => {
                        SessionState::RefreshFailing
                    }
                    SessionState::Valid if is_unverified(session) => {
                        attention.unverified.push(name.clone());
                        continue;
                    }
                    state => state,
                },
            };
            match state {
                SessionState::LoginRequired => attention.login_required.push(name.clone()),
                SessionState::RefreshFailing => attention.failing.push(name.clone()),
                SessionState::Valid | SessionState::Refreshable | SessionState::Unknown => {}
            }
        }
        let refreshing = |key: &InFlightKey| match key {
            InFlightKey::Refresh(name, _) => Some(name.clone()),
            InFlightKey::Load(..) => None,
        };
        attention.refreshing = self.in_flight().keys().filter_map(refreshing).collect();
        let Attention { refreshing, failing, login_required, unverified } = &mut attention;
        for names in [refreshing, failing, login_required, unverified] {
            names.sort_unstable();
            names.dedup();
        }
        attention
    }

    /// Returns the entry's epoch, to be passed to [`SessionCache::put`] with what is read from now on.
    pub(super) fn epoch(&self, name: &ProfileName) -> u64 {
        self.entries().get(name).map_or(0, |entry| entry.epoch)
    }

    /// Caches what was read since `epoch`, unless the entry has been invalidated since.
    pub(super) fn put(&self, name: &ProfileName, epoch: u64, session: CachedSession) {
        let mut entries = self.entries();
        let entry = entries.entry(name.clone()).or_default();
        if entry.epoch != epoch {
            return;
        }
        if matches!(&session, CachedSession::Session(session) if session.ended.is_none() && session.last_failure.is_none())
        {
            entry.login_required_published = false;
        }
        entry.session = session;
    }

    /// Returns the response body as it was written within this second for this session.
    pub(super) fn response(&self, name: &ProfileName, session: &Arc<Session>, now: UnixTime) -> Option<Bytes> {
        let responses = self.responses();
        let same = |one: &&CachedResponse| one.at == now && Arc::ptr_eq(&one.session, session) && one.name == *name;
        responses.iter().find(same).map(|one| one.body.clone())
    }

    /// Caches a response body for the rest of the second, if the session is still the cached one.
    pub(super) fn put_response(&self, name: &ProfileName, session: &Arc<Session>, at: UnixTime, body: &Bytes) {
        let entries = self.entries();
        if !matches!(entries.get(name).map(|entry| &entry.session),
            Some(CachedSession::Session(cached)) if Arc::ptr_eq(cached, session))
        {
            return;
        }
        let mut responses = self.responses();
        responses.retain(|one| one.name != *name);
        if responses.len() >= MAX_RESPONSES {
            responses.remove(0);
        }
        responses.push(CachedResponse { name: name.clone(), session: Arc::clone(session), at, body: body.clone() });
    }

    /// Records that the event `login_required` is published; returns whether it was not before, once for each session that ends.
    pub(super) fn mark_login_required_published(&self, name: &ProfileName) -> bool {
        !std::mem::replace(&mut self.entries().entry(name.clone()).or_default().login_required_published, true)
    }

    /// Sets or clears the last failed refresh for `target`.
    pub(super) fn set_failure(&self, name: &ProfileName, target: &TokenTarget, failure: Option<CachedFailure>) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(name) else { return };
        entry.failures.retain(|(of, _)| of != target);
        if let Some(failure) = failure {
            if entry.failures.len() >= MAX_FAILURES {
                entry.failures.remove(0);
            }
            entry.failures.push((target.clone(), failure));
        }
    }

    /// Returns when the issuer of this failure allows the next attempt, if it sent `Retry-After`.
    pub(super) fn retry_at(&self, error: &Arc<Error>) -> Option<UnixTime> {
        let entries = self.entries();
        let mut failures = entries.values().flat_map(|entry| &entry.failures);
        failures.find(|(_, one)| Arc::ptr_eq(&one.error, error)).and_then(|(_, one)| one.failure.retry_at)
    }

    /// Clears the failures of a store that works again.
    pub(super) fn clear_store_failures(&self, name: &ProfileName) {
        if let Some(entry) = self.entries().get_mut(name) {
            entry.failures.retain(|(_, failure)| failure.error.code.general() != ErrorCode::StoreUnavailable);
        }
    }

    /// Drops the cached session of a profile; returns whether there was one.
    pub(super) fn forget(&self, name: &ProfileName) -> bool {
        let mut entries = self.entries();
        let entry = entries.entry(name.clone()).or_default();
        entry.epoch += 1;
        entry.failures.clear();
        self.responses().retain(|one| one.name != *name);
        !matches!(std::mem::take(&mut entry.session), CachedSession::Unknown)
    }

    /// Drops the cached session of a profile that no longer exists; returns whether there was one. Unknown names leave no
    /// entry.
    pub(super) fn forget_removed_profile(&self, name: &ProfileName) -> bool {
        let is_cached = self.entries().contains_key(name);
        is_cached && self.forget(name)
    }

    /// Drops everything.
    pub(super) fn forget_all(&self) {
        let mut entries = self.entries();
        self.responses().clear();
        for entry in entries.values_mut() {
            entry.epoch += 1;
            entry.session = CachedSession::Unknown;
            entry.failures.clear();
        }
    }

    /// Joins the in-flight work under `key`, or starts it. It runs to its end even if all callers stop waiting.
    pub(super) fn join<F>(self: &Arc<Self>, key: InFlightKey, now: Instant, start: impl FnOnce() -> F) -> InFlight
    where
        F: Future<Output = RefreshOutcome> + Send + 'static,
    {
        let mut all = self.in_flight();
        if let Some(in_flight) = all.get(&key) {
            return in_flight.clone();
        }
        let (sender, outcome) = watch::channel(None);
        let in_flight = InFlight { outcome, started_at: now };
        all.insert(key.clone(), in_flight.clone());
        drop(all);
        let (work, entry) = (start(), InFlightEntry { cache: Arc::clone(self), key });
        tokio::spawn(async move {
            let result = work.await;
            // Removed before the result is sent: a caller that arrives now starts a new one.
            drop(entry);
            sender.send_replace(Some(result));
        });
        in_flight
    }
}

/// Removes the entry from the in-flight work, however the work ends.
struct InFlightEntry {
    cache: Arc<SessionCache>,
    key: InFlightKey,
}

impl Drop for InFlightEntry {
    fn drop(&mut self) {
        self.cache.in_flight().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::session::refresh_policy::FailureSource;
    use crate::session::{Demand, MinTtl, RequestedToken};
    use crate::store::tests::session;

    /// Each way in which a session in the cache is replaced or dropped.
    const CHANGES: [fn(&SessionCache, &ProfileName); 4] = [
        |cache, name| assert!(cache.forget(name)),
        |cache, name| assert!(cache.forget_removed_profile(name)),
        |cache, _| cache.forget_all(),
        |cache, name| cache.put(name, cache.epoch(name), CachedSession::Session(Arc::new(session("another")))),
    ];

    fn cached(cache: &SessionCache, name: &ProfileName) -> Option<Arc<Session>> {
        match cache.get(name, &TokenTarget::default()).0 {
            CachedSession::Session(session) => Some(session),
            _ => None,
        }
    }

    #[test]
    fn response_is_served_for_its_own_session_within_its_second() {
        let (cache, now) = (SessionCache::default(), UnixTime(1000));
        let [work, home]: [ProfileName; 2] = ["work", "home"].map(|name| name.parse().expect("valid"));
        let (old, same) = (Arc::new(session("t")), Arc::new(session("t")));
        cache.put(&work, 0, CachedSession::Session(Arc::clone(&old)));
        cache.put_response(&work, &old, now, &Bytes::from_static(b"body"));
        assert_eq!(cache.response(&work, &old, now), Some(Bytes::from_static(b"body")));
        for (name, session, at) in
            [(&home, &old, now), (&work, &same, now), (&work, &old, UnixTime(1001)), (&work, &old, UnixTime(999))]
        {
            assert_eq!(cache.response(name, session, at), None, "{name} {at}");
        }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_cached_after_it() {
        let (name, now): (ProfileName, _) = ("work".parse().expect("valid"), UnixTime(1000));
        for (which, change) in CHANGES.iter().enumerate() {
            let (cache, old) = (SessionCache::default(), Arc::new(session("old")));
            let (epoch, body) = (cache.epoch(&name), Bytes::from_static(b"old"));
            cache.put(&name, epoch, CachedSession::Session(Arc::clone(&old)));
            cache.put_response(&name, &old, now, &body);
            let error = Arc::new(Error::msg(ErrorCode::IssuerUnreachable, "a failure", crate::error::Hint::None));
            let failure = LastFailure { at: now, failures: 1, retry_at: None, source: FailureSource::ThisProcess };
            let failure = CachedFailure { error, failure, next_attempt: now };
            cache.set_failure(&name, &TokenTarget::default(), Some(failure));
            change(&cache, &name);
            if which < 3 {
                assert!(cached(&cache, &name).is_none(), "{which}");
                assert!(cache.get(&name, &TokenTarget::default()).1.is_none(), "{which}: it was another session's");
                assert!(cache.response(&name, &old, now).is_none(), "{which}");
                // Read from the store before the change.
                cache.put(&name, epoch, CachedSession::Session(Arc::clone(&old)));
            }
            assert!(cached(&cache, &name).is_none_or(|now| !Arc::ptr_eq(&now, &old)), "{which}");
            // Written for a caller that began before the change. Its memory must not hold the token of an agent that is locked.
            cache.responses().clear();
            cache.put_response(&name, &old, now, &body);
            assert!(cache.response(&name, &old, now).is_none(), "{which}");
            let new = Arc::new(session("new"));
            cache.put(&name, cache.epoch(&name), CachedSession::Session(Arc::clone(&new)));
            assert!(cached(&cache, &name).is_some_and(|now| Arc::ptr_eq(&now, &new)), "{which}");
        }
    }

    #[tokio::test]
    async fn callers_with_the_same_request_share_one_refresh() {
        let (cache, now) = (Arc::new(SessionCache::default()), SystemClock.monotonic());
        let (finish, finished) = watch::channel(false);
        let started = Cell::new(0);
        let join = |token, demand| {
            let mut finished = finished.clone();
            let request = TokenRequest { token, demand };
            cache.join(InFlightKey::Refresh("work".parse().expect("valid"), request), now, || {
                started.set(started.get() + 1);
                async move {
                    let _ = finished.wait_for(|finished| *finished).await;
                    Err(Arc::new(Error::msg(ErrorCode::StoreUnavailable, "a failure", crate::error::Hint::None)))
                }
            })
        };
        let own = || RequestedToken::Access(TokenTarget::default());
        let all: Vec<InFlight> = (0..1000).map(|_| join(own(), Demand::New)).collect();
        assert_eq!(started.get(), 1);
        join(own(), Demand::ValidFor(MinTtl::Default));
        let api = TokenTarget { audience: Some("https://api.example".into()), ..TokenTarget::default() };
        join(RequestedToken::Access(api), Demand::New);
        assert_eq!(started.get(), 3, "other requests have refreshes of their own");
        finish.send_replace(true);
        for mut in_flight in all {
            let outcome = in_flight.outcome.wait_for(Option::is_some).await.expect("an outcome").clone();
            assert_eq!(outcome.expect("ended").expect_err("the failure").message(), "a failure");
        }
        join(own(), Demand::New);
        assert_eq!(started.get(), 4, "a refresh that has ended is not joined");
    }
}
