//! Keeps token files as their sessions are, besides the refreshes, which write them: after a start, a login elsewhere or a change
//! of the configuration, when a token expires without a new one, and after a failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::cache::CachedSession;
use super::state::Agent;
use crate::clock::UnixTime;
use crate::model::{Profile, ProfileName, TokenTarget};

/// How often the files are checked: one that could not be written, or was removed, is written then.
const INTERVAL: Duration = Duration::from_secs(20);

/// Updates the token files of all profiles. Never returns.
pub(super) async fn update(agent: Arc<Agent>) {
    let mut before: BTreeMap<ProfileName, Arc<Profile>> = BTreeMap::new();
    loop {
        let is_locked = agent.agent_lock.is_locked();
        let mut next = agent.now().plus(INTERVAL);
        let mut updates = JoinSet::new();
        let with_files = agent.profiles.all().into_iter().filter(|profile| has_files(profile));
        let profiles: BTreeMap<_, _> = with_files.map(|profile| (profile.name.clone(), profile)).collect();
        for profile in profiles.values() {
            let (cached, _) = agent.cache.get(&profile.name, &TokenTarget::default());
            let session = match cached {
                CachedSession::Session(session) => Some(session),
                CachedSession::LoginRequired(_) => None,
                CachedSession::Unknown if is_locked => None,
                CachedSession::Unknown => continue,
            };
            let expiry: Option<UnixTime> = session.as_ref().and_then(|session| session.tokens.expires_at);
            next = expiry.filter(|at| *at > agent.now()).map_or(next, |at| at.min(next));
            let (sessions, profile) = (Arc::clone(&agent.sessions), Arc::clone(profile));
            updates.spawn(async move {
                match is_locked {
                    true => sessions.remove_token_files(&profile).await,
                    false => sessions.check_token_files(&profile, session.as_deref()).await,
                }
            });
        }
        let is_same = |old: &Arc<Profile>| profiles.get(&old.name).is_some_and(|now| Arc::ptr_eq(now, old));
        for old in before.into_values().filter(|old| !is_same(old)) {
            let (sessions, now) = (Arc::clone(&agent.sessions), profiles.values().cloned().collect::<Vec<_>>());
            updates.spawn(async move { sessions.remove_former_token_files(&old, &now).await });
        }
        updates.join_all().await;
        before = profiles;
        tokio::select! {
            () = agent.clock.until(next) => {}
            () = agent.token_files.notified() => {}
        }
    }
}

fn has_files(profile: &Profile) -> bool {
    profile.token_file.is_some() || profile.id_token_file.is_some()
}
