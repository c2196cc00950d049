//! Refreshes sessions in the background, before their tokens expire and not all at the same moment.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Agent;
use super::cache::{CachedSession, FailedRefresh};
use crate::clock::UnixTime;
use crate::error::ErrorCode;
use crate::model::{IssuerUrl, Profile, ProfileName, Session, StoreKind, TokenSet, TokenTarget};
use crate::session::policy::{CLOCK_SLACK, backoff};
use crate::session::{Demand, MinTtl, TokenRequest, names_status_list};

/// How many refreshes and readings the background does at a time for the profiles of one issuer.
const EACH_ISSUER: usize = 8;

/// A session whose store failed is read again after this.
const READ_AGAIN: Duration = Duration::from_secs(30);

/// It is looked so often whether status lists are due: they are fetched at half of their life, which is a minute at least
/// where anybody means them to be kept.
const LISTS_EVERY: Duration = Duration::from_secs(20);

/// The time is noted so often.
const NOTED_EVERY: Duration = Duration::from_secs(300);

/// A token is not refreshed sooner than this after it came, however short it lives.
const MIN_LIFE: Duration = Duration::from_secs(2);

/// What there is to do for a session, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    At(UnixTime),
    /// Nothing that this agent can do.
    Never,
}

/// What is under way: by profile, and how many by issuer.
#[derive(Default)]
struct Underway {
    profiles: HashSet<ProfileName>,
    issuers: HashMap<IssuerUrl, usize>,
}

impl Underway {
    /// Whether one more may begin: an issuer that hangs keeps only its own sessions waiting.
    fn begin(&mut self, profile: &Profile) -> bool {
        let count = self.issuers.entry(profile.issuer.clone()).or_default();
        if *count >= EACH_ISSUER || !self.profiles.insert(profile.name.clone()) {
            return false;
        }
        *count += 1;
        true
    }

    fn end(&mut self, profile: &Profile) {
        self.profiles.remove(&profile.name);
        if let Some(count) = self.issuers.get_mut(&profile.issuer) {
            *count -= 1;
            if *count == 0 {
                self.issuers.remove(&profile.issuer);
            }
        }
    }
}

/// Looks after all sessions. Never returns.
pub(super) async fn keep_alive(agent: Arc<Agent>) {
    let underway: Arc<Mutex<Underway>> = Arc::default();
    let jitter = RandomState::new();
    loop {
        let changed = agent.events.changed.notified();
        let now = agent.now();
        let mut next: Option<UnixTime> = None;
        let profiles = if agent.agent_lock.is_locked() { Vec::new() } else { agent.profiles.all() };
        for profile in profiles {
            let (known, failed) = agent.cache.look(&profile.name, &TokenTarget::default());
            // A failure in the future was recorded before the clock was set back.
            let failed = failed.filter(|failed| now >= failed.at);
            let due = match &known {
                CachedSession::Unknown => Due::At(failed.as_ref().map_or(now, |failed| failed.next_attempt)),
                CachedSession::LoginRequired(_) => Due::Never,
                CachedSession::Session(session) => due(session, failed.as_ref(), now, jitter.hash_one(&profile.name)),
            };
            match due {
                Due::At(at) if at <= now => {
                    if underway.lock().unwrap_or_else(PoisonError::into_inner).begin(&profile) {
                        tokio::spawn(look_after(Arc::clone(&agent), profile, known, Arc::clone(&underway)));
                    }
                }
                Due::At(at) => next = Some(next.map_or(at, |next| next.min(at))),
                Due::Never => {}
            }
        }
        // Set before the pause: a clock that somebody sets in the pause ends it too.
        let alarm = next.map(|at| agent.clock.until(at));
        // Those begun just now tell when they are done; all are looked at no more than once a second meanwhile.
        agent.clock.sleep(Duration::from_secs(1)).await;
        match alarm {
            Some(alarm) => tokio::select! {
                () = alarm => {}
                () = changed => {}
            },
            None => changed.await,
        }
    }
}

/// Notes the time now and then, so that a clock which is set back is noticed by whoever asks next. Never returns.
pub(super) async fn keep_time(agent: Arc<Agent>) {
    loop {
        let kinds: HashSet<StoreKind> = match agent.agent_lock.is_locked() {
            true => HashSet::new(),
            false => agent.profiles.all().iter().map(|profile| profile.store).collect(),
        };
        for kind in kinds {
            agent.sessions.record_time(kind).await;
        }
        agent.clock.sleep(NOTED_EVERY).await;
    }
}

/// Fetches status lists before they are too old, where tokens live longer than they do. Never returns.
pub(super) async fn keep_lists(agent: Arc<Agent>) {
    let underway: Arc<Mutex<Underway>> = Arc::default();
    loop {
        let profiles = if agent.agent_lock.is_locked() { Vec::new() } else { agent.profiles.all() };
        for profile in profiles {
            let (CachedSession::Session(session), _) = agent.cache.look(&profile.name, &TokenTarget::default()) else {
                continue;
            };
            if !names_status_list(&session) || !underway.lock().unwrap_or_else(PoisonError::into_inner).begin(&profile)
            {
                continue;
            }
            let (agent, underway) = (Arc::clone(&agent), Arc::clone(&underway));
            tokio::spawn(async move {
                agent.sessions.update_status_lists(&profile, &session).await;
                underway.lock().unwrap_or_else(PoisonError::into_inner).end(&profile);
            });
        }
        agent.clock.sleep(LISTS_EVERY).await;
    }
}

/// Reads or refreshes one session.
async fn look_after(agent: Arc<Agent>, profile: Arc<Profile>, known: CachedSession, underway: Arc<Mutex<Underway>>) {
    let mut in_flight = match known {
        CachedSession::Session(session) => agent.join_refresh(&profile, &TokenRequest::own(demand(&session.tokens))),
        _ => agent.load(&profile),
    };
    let failed = match in_flight.outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.as_ref().and_then(|outcome| outcome.as_ref().err().cloned()),
        Err(_) => None,
    };
    underway.lock().unwrap_or_else(PoisonError::into_inner).end(&profile);
    // A store that fails is not asked again at once.
    let plain = TokenTarget::default();
    if let Some(error) = failed.filter(|error| error.code.general() == ErrorCode::StoreUnavailable)
        && let (CachedSession::Unknown, before) = agent.cache.look(&profile.name, &plain)
    {
        let at = agent.now();
        let next_attempt = at.plus(READ_AGAIN);
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let failed = FailedRefresh { error, at, failures, next_attempt, retry_at: None };
        agent.cache.set_failed(&profile.name, &plain, Some(failed));
    }
    agent.events.changed.notify_one();
}

/// When a session is to be refreshed. `draw` spreads those that would fall on the same moment.
fn due(session: &Session, failed: Option<&FailedRefresh>, now: UnixTime, draw: u64) -> Due {
    let (Some(end), true) = (session.tokens.expires_at, session.can_refresh()) else { return Due::Never };
    let not_before = failed.map_or(now, |failed| failed.next_attempt);
    let obtained = session.tokens.obtained_at;
    if obtained > now.plus(CLOCK_SLACK) {
        return Due::At(not_before);
    }
    let lead = lead(obtained.until(end), draw);
    let usual = UnixTime(end.0.saturating_sub(i64::try_from(lead.as_secs()).unwrap_or(i64::MAX)));
    Due::At(usual.max(obtained.plus(MIN_LIFE)).max(failed.map_or(usual, |_| not_before)))
}

/// How long before its end a token is refreshed: before anybody who asks for the usual life would have to wait, and a tenth
/// to a half of that earlier, so that sessions of one moment do not all come at once.
fn lead(life: Duration, draw: u64) -> Duration {
    let due = Duration::from_secs(60).min(life / 2);
    let percent = 110 + u32::try_from(draw % 41).unwrap_or(0);
    let lead = due * percent / 100;
    // Up to a whole second, and never more than leaves a new token some life of its own.
    Duration::from_secs(lead.as_secs() + u64::from(lead.subsec_nanos() > 0)).min(life * 4 / 5)
}

/// What the background asks for: a token that outlives the present one's last stretch, or, of one that never lives so
/// long, a new one.
fn demand(tokens: &TokenSet) -> Demand {
    let Some(end) = tokens.expires_at else { return Demand::New };
    let life = tokens.obtained_at.until(end);
    let wanted = lead(life, 40) + Duration::from_secs(1);
    if wanted >= life { Demand::New } else { Demand::ValidFor(MinTtl::AtLeast(wanted)) }
}

/// The policy's backoff with up to half of it added at random: many agents must not return at the same moment. Never less,
/// or the policy would refuse the attempt.
pub(super) fn backoff_with_jitter(failures: u32) -> Duration {
    let percent = 100 + u32::try_from(RandomState::new().hash_one(failures) % 51).unwrap_or(0);
    backoff(failures) * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refreshed_before_anybody_would_wait_and_not_all_at_once() {
        for draw in 0..100 {
            let hour = lead(Duration::from_secs(3600), draw);
            assert!((66..=90).contains(&hour.as_secs()), "{hour:?}");
            let five = lead(Duration::from_secs(5), draw);
            assert!((3..=4).contains(&five.as_secs()), "{five:?}");
            assert!(lead(Duration::from_secs(2), draw) <= Duration::from_secs(2));
        }
        let spread: std::collections::HashSet<Duration> =
            (0..100).map(|draw| lead(Duration::from_secs(3600), draw)).collect();
        assert!(spread.len() > 20);
    }

    #[test]
    fn jitter_adds_at_most_half_of_the_backoff() {
        for failures in 1..40 {
            let (plain, jittered) = (backoff(failures), backoff_with_jitter(failures));
            assert!(plain <= jittered && jittered <= plain * 3 / 2, "{failures}: {jittered:?}");
        }
    }
}
