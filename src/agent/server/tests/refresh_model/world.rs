//! The world of the model: the store and the issuer that the processes share, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::processes::{Delivery, NOW, Steps, Wait, hash};
use super::{Served, Situation};
use crate::clock::UnixTime;
use crate::model::{Profile, ProfileName, RecordName, Session};
use crate::oauth;
use crate::oauth::testing::SimulatedIssuer;
use crate::secret::{Secret, SecretBytes};
use crate::store::{Store, StoreError};

/// What the processes share, and what has happened.
#[derive(Clone)]
pub(super) struct World {
    pub(super) situation: Situation,
    pub(super) session: Arc<Session>,
    pub(super) lock_holder: Option<usize>,
    /// The number of the refresh token that the issuer accepts, and whether it has ended the session.
    pub(super) current: u32,
    pub(super) is_revoked: bool,
    /// Who waits for the response to a request with which refresh token.
    pub(super) outstanding: Vec<(usize, u32)>,
    /// How often each process has sent each refresh token.
    pub(super) sent: BTreeMap<(usize, u32), u32>,
    /// The refresh tokens that a response has been lost to, or whose sender was killed.
    pub(super) in_doubt: Vec<u32>,
    /// How many responses were not received.
    pub(super) lost: u32,
    /// How many responses were lost and processes killed.
    pub(super) faults: u32,
    pub(super) stored: BTreeSet<String>,
    pub(super) violation: Option<String>,
}

/// What a process does to the world.
#[derive(Clone)]
pub(super) enum Effect {
    /// It stores a session, with or without the profile lock.
    Write(Arc<Session>, bool),
    /// It sends the refresh token of this number.
    Send(u32),
    /// Its request with this refresh token ends so.
    End(u32, Delivery),
}

/// What one step of a process finds, and what it does.
#[derive(Clone)]
pub(super) struct Scene {
    session: Arc<Session>,
    current: u32,
    is_revoked: bool,
    has_grace: bool,
    pub(super) other_holds_lock: bool,
    pub(super) effects: Vec<Effect>,
}

pub(super) type Shared = Arc<Mutex<Scene>>;

pub(super) fn locked(scene: &Shared) -> MutexGuard<'_, Scene> {
    scene.lock().expect("unpoisoned")
}

impl Scene {
    pub(super) fn of(world: &World, other_holds_lock: bool) -> Self {
        let World { session, current, is_revoked, situation, .. } = world;
        let (current, is_revoked, has_grace) = (*current, *is_revoked, situation.has_grace);
        Self { session: Arc::clone(session), current, is_revoked, has_grace, other_holds_lock, effects: Vec::new() }
    }

    pub(super) fn fingerprint(&self) -> u64 {
        hash((content(&self.session), self.current, self.is_revoked, self.other_holds_lock))
    }
}

/// Has the issuer take a request; returns whether it is answered with tokens.
fn redeem(token: u32, current: &mut u32, is_revoked: &mut bool, has_grace: bool) -> bool {
    if token == *current && !*is_revoked {
        *current += 1;
    } else if !(has_grace && token + 1 == *current) {
        *is_revoked = true;
    }
    !*is_revoked
}

/// Returns the number in the name of a token, such as `refresh-1`.
fn number(token: &str) -> u32 {
    token.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a token of this issuer")
}

pub(super) fn refresh_number(session: &Session) -> Option<u32> {
    session.tokens.refresh_token.as_ref().map(|token| number(token.expose()))
}

/// Returns what a reader learns from a session.
pub(super) fn content(session: &Session) -> u64 {
    let failure = session.last_failure.as_ref().map(|failure| (failure.failures, failure.refusals));
    let marks = (session.refreshing_since, session.refreshing_lock.is_some(), session.ended.is_some(), failure);
    hash((
        session.generation.number,
        session.tokens.access_token.expose(),
        refresh_number(session),
        marks,
        session.rotates,
    ))
}

impl World {
    pub(super) fn new(situation: Situation, issuer: &Profile) -> Self {
        let mut session = Session {
            issuer: issuer.issuer.clone(),
            client_id: issuer.client_id.clone(),
            ..crate::store::tests::session("access-0")
        };
        session.tokens.refresh_token = Some(Secret::new("refresh-0".into()));
        session.tokens.obtained_at = UnixTime(NOW.0 - 300);
        session.tokens.expires_at = Some(UnixTime(if situation.is_expired { NOW.0 - 10 } else { NOW.0 + 10 }));
        Self {
            situation,
            session: Arc::new(session),
            lock_holder: None,
            current: 0,
            is_revoked: false,
            outstanding: Vec::new(),
            sent: BTreeMap::new(),
            in_doubt: Vec::new(),
            lost: 0,
            faults: 0,
            stored: BTreeSet::from(["access-0".to_owned()]),
            violation: None,
        }
    }

    /// Returns whether another fault may happen.
    pub(super) fn may_fail(&self) -> bool {
        self.faults < self.situation.max_faults
    }

    pub(super) fn require(&mut self, holds: bool, promise: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(promise());
        }
    }

    /// Records what `process` does.
    pub(super) fn apply(&mut self, process: usize, effect: &Effect) {
        match effect {
            Effect::Write(session, is_under_lock) => {
                self.require(*is_under_lock, || format!("{process} writes without the lock"));
                self.write(session);
            }
            Effect::Send(token) => self.receive(process, *token),
            Effect::End(token, delivery) => {
                self.outstanding.retain(|request| *request != (process, *token));
                if *delivery != Delivery::Arrives {
                    self.in_doubt.push(*token);
                    self.lost += 1;
                }
            }
        }
    }

    fn write(&mut self, session: &Arc<Session>) {
        let (before, after) = (self.session.generation.number, session.generation.number);
        self.require(before <= after, || {
            format!("generation {after} is stored over {before}: a stored session is lost")
        });
        let (before, after) = (refresh_number(&self.session), refresh_number(session));
        self.require(after.is_none() || before <= after, || format!("{after:?} is stored over {before:?}"));
        self.stored.insert(session.tokens.access_token.expose().to_owned());
        self.session = Arc::clone(session);
    }

    fn receive(&mut self, process: usize, token: u32) {
        let others: Vec<(usize, u32)> = self.outstanding.iter().filter(|(_, sent)| *sent == token).copied().collect();
        self.require(others.is_empty(), || {
            format!("{process} sends token {token}, whose response may arrive: {others:?}")
        });
        let is_held_back = self.in_doubt.contains(&token) && !self.situation.is_expired;
        let by_this = self.sent.get(&(process, token)).copied().unwrap_or(0);
        self.require(by_this > 0 || !is_held_back, || format!("{process} sends token {token}, which is in doubt"));
        self.require(by_this < 2, || format!("{process} sends token {token} for the third time"));
        *self.sent.entry((process, token)).or_default() += 1;
        self.outstanding.push((process, token));
        redeem(token, &mut self.current, &mut self.is_revoked, self.situation.has_grace);
    }

    /// Checks what holds at any time, even if everything is killed then.
    pub(super) fn check(&mut self) {
        let is_spent = refresh_number(&self.session).is_some_and(|number| number < self.current);
        let is_known = self.session.refreshing_since.is_some() || self.session.ended.is_some();
        self.require(!is_spent || is_known, || "the stored refresh token is spent, and no record shows it".into());
    }

    /// Checks what a process has served.
    pub(super) fn check_served(&mut self, process: usize, served: &Served) {
        match served {
            Ok(token) => {
                let is_stored = self.stored.contains(token);
                self.require(is_stored, || format!("{process} got {token}, which was never stored"));
                let is_valid = token != "access-0" || !self.situation.is_expired;
                self.require(is_valid, || format!("{process} got an expired token"));
            }
            Err(error) => {
                let is_excused = if self.situation.is_expired { self.lost > 0 } else { self.is_revoked };
                self.require(is_excused, || format!("{process} got no token: {error}"));
            }
        }
    }
}

/// The store of one process.
pub(super) struct ModelStore {
    pub(super) scene: Shared,
    pub(super) steps: Arc<Steps>,
    /// The file of the profile lock.
    pub(super) lock: PathBuf,
}

impl ModelStore {
    /// Returns whether the process holds the profile lock.
    fn is_under_lock(&self, scene: &Scene) -> bool {
        !scene.other_holds_lock && crate::fs::is_locked(&self.lock)
    }
}

impl Store for ModelStore {
    fn read(&self, _: &ProfileName) -> Result<Option<Session>, StoreError> {
        let scene = locked(&self.scene);
        let session = Session::clone(&scene.session);
        // Under the lock no other process writes (see below), so it does not matter when what is there is read.
        match self.is_under_lock(&scene) {
            true => self.steps.learn(content(&session)),
            false => self.steps.touch(content(&session)),
        }
        Ok(Some(session))
    }

    fn write(&self, _: &ProfileName, session: &Session) -> Result<(), StoreError> {
        let mut scene = locked(&self.scene);
        let is_under_lock = self.is_under_lock(&scene);
        self.steps.touch(());
        scene.session = Arc::new(session.clone());
        let written = Effect::Write(Arc::clone(&scene.session), is_under_lock);
        scene.effects.push(written);
        Ok(())
    }

    fn delete(&self, _: &ProfileName) -> Result<bool, StoreError> {
        Err(StoreError::Locked)
    }

    fn reserve(&self, _: &ProfileName, _: usize) -> Result<(), StoreError> {
        Ok(())
    }

    fn read_record(&self, _: &RecordName) -> Result<Option<SecretBytes>, StoreError> {
        Ok(None)
    }

    fn write_record(&self, _: &RecordName, _: &SecretBytes) -> Result<(), StoreError> {
        Ok(())
    }

    fn location(&self, _: &ProfileName) -> String {
        "memory".into()
    }
}

/// Returns the issuer as the process of `scene` reaches it.
pub(super) fn issuer(scene: Shared, steps: Arc<Steps>) -> SimulatedIssuer {
    Arc::new(move |body: String| {
        let (scene, steps) = (Arc::clone(&scene), Arc::clone(&steps));
        Box::pin(async move {
            steps.pause(Wait::Operation).await;
            let parameter = body.split('&').find_map(|pair| pair.strip_prefix("refresh_token="));
            let token = number(parameter.expect("a refresh token"));
            let is_accepted = {
                let scene = &mut *locked(&scene);
                scene.effects.push(Effect::Send(token));
                redeem(token, &mut scene.current, &mut scene.is_revoked, scene.has_grace)
            };
            steps.touch((token, is_accepted));
            steps.pause(Wait::Response).await;
            let delivery = steps.delivery();
            locked(&scene).effects.push(Effect::End(token, delivery));
            if delivery != Delivery::Arrives {
                return Err(oauth::Delivery::ResponseLost);
            }
            let new = token + 1;
            Ok(match is_accepted {
                true => (
                    200,
                    format!(
                        r#"{{"access_token":"access-{new}","token_type":"Bearer","expires_in":300,"refresh_token":"refresh-{new}"}}"#
                    ),
                ),
                false => (400, r#"{"error":"invalid_grant"}"#.to_owned()),
            })
        })
    })
}
