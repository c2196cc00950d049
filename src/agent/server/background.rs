//! Refreshes sessions in the background before their tokens expire, spread over time.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};

use super::audit::AuditAction;
use super::cache::{CachedFailure, CachedSession};
use super::events::EventKind;
use super::peer::Peer;
use super::state::Agent;
use crate::agent::protocol::UnsavedStatus;
use crate::clock::UnixTime;
use crate::error::ErrorCode;
use crate::model::{IssuerUrl, Profile, ProfileName, Session, StoreKind, TokenTarget};
use crate::session::refresh_policy::{FailureSource, LastFailure, Validity, backoff};
use crate::session::{HookOutcome, TokenRequest, names_status_list};

/// The number of concurrent background refreshes and loads for the profiles of one issuer.
const MAX_PER_ISSUER: usize = 8;

/// The delay before a session is loaded again after its store failed.
const RELOAD_DELAY: Duration = Duration::from_secs(30);

/// How often to check for status lists that are due. They are fetched again halfway through their lifetime, which is at
/// least a minute for any list meant to be cached.
const STATUS_LIST_INTERVAL: Duration = Duration::from_secs(20);

/// How often the time is recorded.
const RECORD_TIME_INTERVAL: Duration = Duration::from_secs(300);

/// When a session is to be refreshed or loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    At(UnixTime),
    /// Never: the agent cannot refresh or load it.
    Never,
}

/// The work in progress: which profiles, and how many of each issuer.
#[derive(Default)]
struct InProgress {
    profiles: HashSet<ProfileName>,
    issuers: HashMap<IssuerUrl, usize>,
}

impl InProgress {
    /// Begins work for a profile; returns whether it may. An issuer that hangs delays only its own sessions.
    fn begin(&mut self, profile: &Profile) -> bool {
        let count = self.issuers.entry(profile.issuer.clone()).or_default();
        if *count >= MAX_PER_ISSUER || !self.profiles.insert(profile.name.clone()) {
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

/// Loads all sessions and refreshes each before it expires. Never returns.
pub(super) async fn refresh_sessions(agent: Arc<Agent>) {
    let in_progress: Arc<Mutex<InProgress>> = Arc::default();
    let jitter = RandomState::new();
    loop {
        let changed = agent.events.changed.notified();
        let now = agent.now();
        let mut next: Option<UnixTime> = None;
        let profiles = if agent.agent_lock.is_locked() { Vec::new() } else { agent.profiles.all() };
        for profile in profiles {
            let (known, last) = agent.cache.get(&profile.name, &TokenTarget::default());
            // A failure in the future was recorded before the clock was set back.
            let last = last.filter(|last| now >= last.failure.at);
            let due = match &known {
                CachedSession::Unknown => Due::At(last.as_ref().map_or(now, |last| last.next_attempt)),
                CachedSession::NoSession(_) => Due::Never,
                CachedSession::Session(session) if agent.publish_required_login(&profile, session) => Due::Never,
                CachedSession::Session(session) => due(session, last.as_ref(), now, jitter.hash_one(&profile.name)),
            };
            match due {
                Due::At(at) if at <= now => {
                    if in_progress.lock().unwrap_or_else(PoisonError::into_inner).begin(&profile) {
                        tokio::spawn(load_or_refresh(Arc::clone(&agent), profile, known, Arc::clone(&in_progress)));
                    }
                }
                Due::At(at) => next = Some(next.map_or(at, |next| next.min(at))),
                Due::Never => {}
            }
        }
        // Set before the pause, so that setting the clock during the pause ends it too.
        let alarm = next.map(|at| agent.clock.until(at));
        // The work begun above notifies when it ends; all sessions are checked at most once a second.
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

/// Records the time regularly, so that a clock that is set back is noticed. Never returns.
pub(super) async fn record_time(agent: Arc<Agent>) {
    loop {
        let kinds: HashSet<StoreKind> = match agent.agent_lock.is_locked() {
            true => HashSet::new(),
            false => agent.profiles.all().iter().map(|profile| profile.store).collect(),
        };
        for kind in kinds {
            agent.sessions.record_time(kind).await;
        }
        agent.clock.sleep(RECORD_TIME_INTERVAL).await;
    }
}

/// Publishes when a refreshed session cannot be stored, and when it is stored after all. Never returns.
pub(super) async fn report_unsaved(agent: Arc<Agent>) {
    let mut changes = agent.sessions.unsaved();
    let mut before: HashSet<ProfileName> = HashSet::new();
    while changes.changed().await.is_ok() {
        let unsaved = agent.unsaved();
        for UnsavedStatus { profile, error, .. } in &unsaved {
            if !before.remove(profile) {
                agent.events.publish(EventKind::Unsaved, Some(profile), agent.now(), Some(error.clone()));
            }
        }
        for profile in before {
            agent.cache.clear_store_failures(&profile);
            agent.events.publish(EventKind::Saved, Some(&profile), agent.now(), None);
            agent.events.changed.notify_one();
        }
        before = unsaved.into_iter().map(|unsaved| unsaved.profile).collect();
    }
}

/// Publishes and records the failures of hooks, and has the last one in the agent's status. Never returns.
pub(super) async fn report_hooks(agent: Arc<Agent>, mut outcomes: broadcast::Receiver<HookOutcome>) {
    let this = Peer::own();
    loop {
        match outcomes.recv().await {
            Ok(outcome) => {
                agent.note_hook(&outcome);
                let Some(message) = outcome.failure else { continue };
                agent.audit_log.record(&this, AuditAction::HookFailed, Some(&outcome.profile), agent.now());
                agent.events.publish(EventKind::HookFailed, Some(&outcome.profile), agent.now(), Some(message));
            }
            // The oldest were dropped.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Fetches status lists before they expire. Never returns.
pub(super) async fn update_status_lists(agent: Arc<Agent>) {
    let in_progress: Arc<Mutex<InProgress>> = Arc::default();
    loop {
        let profiles = if agent.agent_lock.is_locked() { Vec::new() } else { agent.profiles.all() };
        for profile in profiles {
            let (CachedSession::Session(session), _) = agent.cache.get(&profile.name, &TokenTarget::default()) else {
                continue;
            };
            if !names_status_list(&session)
                || !in_progress.lock().unwrap_or_else(PoisonError::into_inner).begin(&profile)
            {
                continue;
            }
            let (agent, in_progress) = (Arc::clone(&agent), Arc::clone(&in_progress));
            tokio::spawn(async move {
                agent.sessions.update_status_lists(&profile, &session).await;
                in_progress.lock().unwrap_or_else(PoisonError::into_inner).end(&profile);
            });
        }
        agent.clock.sleep(STATUS_LIST_INTERVAL).await;
    }
}

/// Loads or refreshes one session.
async fn load_or_refresh(
    agent: Arc<Agent>,
    profile: Arc<Profile>,
    known: CachedSession,
    in_progress: Arc<Mutex<InProgress>>,
) {
    let mut in_flight = match known {
        CachedSession::Session(session) => {
            agent.join_refresh(&profile, &TokenRequest::own(Validity::from(&session.tokens).background_demand()))
        }
        _ => agent.load(&profile),
    };
    let failed = match in_flight.outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.as_ref().and_then(|outcome| outcome.as_ref().err().cloned()),
        Err(_) => None,
    };
    in_progress.lock().unwrap_or_else(PoisonError::into_inner).end(&profile);
    // A store that has failed is not read again at once.
    let plain = TokenTarget::default();
    if let Some(error) = failed.filter(|error| error.code.general() == ErrorCode::StoreUnavailable)
        && let (CachedSession::Unknown, before) = agent.cache.get(&profile.name, &plain)
    {
        let at = agent.now();
        let failures = before.map_or(0, |before| before.failure.failures).saturating_add(1);
        let failure = LastFailure { at, failures, retry_at: None, source: FailureSource::ThisProcess };
        let failure = CachedFailure { error, failure, next_attempt: at.plus(RELOAD_DELAY) };
        agent.cache.set_failure(&profile.name, &plain, Some(failure));
    }
    agent.events.changed.notify_one();
}

/// Returns when a session is to be refreshed. `jitter` spreads sessions that would be due at the same moment.
fn due(session: &Session, last: Option<&CachedFailure>, now: UnixTime, jitter: u64) -> Due {
    let due_at = Validity::from(&session.tokens).background_due_at(now, jitter);
    let (Some(due_at), true) = (due_at, session.can_refresh()) else { return Due::Never };
    Due::At(last.map_or(due_at, |last| due_at.max(last.next_attempt)))
}

/// Returns the policy's backoff plus up to half of it at random: many agents must not retry at the same moment. Never
/// less, or the policy would refuse the attempt.
pub(super) fn backoff_with_jitter(failures: u32) -> Duration {
    let percent = 100 + u32::try_from(RandomState::new().hash_one(failures) % 51).unwrap_or(0);
    backoff(failures) * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_adds_at_most_half_of_the_backoff() {
        for failures in 1..40 {
            let (plain, jittered) = (backoff(failures), backoff_with_jitter(failures));
            assert!(plain <= jittered && jittered <= plain * 3 / 2, "{failures}: {jittered:?}");
        }
    }
}
