//! Keeps token files as their sessions are, besides the refreshes, which write them: after a start, a login elsewhere or a change
//! of the configuration, when a token expires without a new one, and after a failure.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::cache::CachedSession;
use super::state::Agent;
use crate::clock::UnixTime;
use crate::model::{Profile, ProfileName, TokenTarget};

/// How often the files are checked: one that could not be written, or was removed, is written then.
const INTERVAL: Duration = Duration::from_secs(20);

/// The updates in progress. When this is dropped, they end.
#[derive(Default)]
struct Updates {
    tasks: JoinSet<ProfileName>,
    /// Their profiles, and whether each is to be updated again.
    profiles: BTreeMap<ProfileName, bool>,
    /// Whether they remove the files, since the agent is locked.
    is_locked: bool,
}

impl Updates {
    /// Updates the files of a profile, or does so again after its update in progress.
    fn start(&mut self, name: &ProfileName, update: impl Future<Output = ()> + Send + 'static) {
        if let Some(again) = self.profiles.get_mut(name) {
            *again = true;
            return;
        }
        self.profiles.insert(name.clone(), false);
        let name = name.clone();
        self.tasks.spawn(async move {
            update.await;
            name
        });
    }

    fn is_running(&self, name: &ProfileName) -> bool {
        self.profiles.contains_key(name)
    }

    /// Waits until an update ends after which there is another one to start.
    async fn again(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            let is_needed = match ended {
                Ok(name) => self.profiles.remove(&name),
                // It has panicked.
                Err(_) => return self.profiles.clear(),
            };
            if is_needed == Some(true) {
                return;
            }
        }
        pending().await
    }
}

/// Updates the token files of all profiles. Never returns. A profile whose files or lock do not respond delays no other one.
pub(super) async fn update(agent: Arc<Agent>) {
    let mut before: BTreeMap<ProfileName, Arc<Profile>> = BTreeMap::new();
    // Those whose files are to be removed.
    let mut former: Vec<Arc<Profile>> = Vec::new();
    let mut updates = Updates::default();
    loop {
        let is_locked = agent.agent_lock.is_locked();
        if is_locked != updates.is_locked {
            updates = Updates { is_locked, ..Updates::default() };
        }
        let mut next = agent.now().plus(INTERVAL);
        let with_files = agent.profiles.all().into_iter().filter(|profile| has_files(profile));
        let profiles: BTreeMap<_, _> = with_files.map(|profile| (profile.name.clone(), profile)).collect();
        let is_same = |old: &Arc<Profile>| profiles.get(&old.name).is_some_and(|now| Arc::ptr_eq(now, old));
        former.extend(before.into_values().filter(|old| !is_same(old)));
        // Not during an update of the former settings, which would write a removed file again.
        let (waiting, ready): (Vec<_>, Vec<_>) = former.into_iter().partition(|old| updates.is_running(&old.name));
        former = waiting;
        for old in ready {
            let (sessions, now) = (Arc::clone(&agent.sessions), profiles.values().cloned().collect::<Vec<_>>());
            let name = old.name.clone();
            let removal = tokio::spawn(async move { sessions.remove_former_token_files(&old, &now).await });
            updates.start(&name, async move { drop(removal.await) });
        }
        // The loop runs again when that has ended.
        former.iter().for_each(|old| updates.start(&old.name, pending()));
        for profile in profiles.values() {
            let (cached, _) = agent.cache.get(&profile.name, &TokenTarget::default());
            let session = match cached {
                CachedSession::Session(session) => Some(session),
                CachedSession::NoSession(_) => None,
                CachedSession::Unknown if is_locked => None,
                CachedSession::Unknown => continue,
            };
            let expiry: Option<UnixTime> = session.as_ref().and_then(|session| session.tokens.expires_at);
            next = expiry.filter(|at| *at > agent.now()).map_or(next, |at| at.min(next));
            let (sessions, profile) = (Arc::clone(&agent.sessions), Arc::clone(profile));
            updates.start(&profile.name.clone(), async move {
                match is_locked {
                    true => sessions.remove_token_files(&profile).await,
                    false => sessions.check_token_files(&profile, session.as_deref()).await,
                }
            });
        }
        before = profiles;
        tokio::select! {
            () = agent.clock.until(next) => {}
            () = agent.token_files.notified() => {}
            () = updates.again() => {}
        }
    }
}

fn has_files(profile: &Profile) -> bool {
    profile.token_files().next().is_some()
}
