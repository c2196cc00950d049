//! Every schedule of processes that refresh one session, with a kill between any two steps and each way to lose a response.
//!
//! The processes run the code of the command line and of the agent: the policy, the locks, and the order of their operations.
//! Only the store, the issuer and the clock are a model's. A schedule is run from its start; states that were reached before
//! are not explored again.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::processes::{Delivery, NOW, Process, Steps, Wait, hash};
use crate::agent::server::state::Agent;
use crate::clock::{Clock, UnixTime};
use crate::model::{Profile, ProfileName, RecordName, Session, StoreKind};
use crate::oauth;
use crate::oauth::testing::SimulatedIssuer;
use crate::paths::ConfigFiles;
use crate::secret::{Secret, SecretBytes};
use crate::session::{Demand, LockDirectories, MinTtl, SessionService, Stores, TokenRequest};
use crate::store::{Store, StoreError};

/// What the schedules of one search have in common.
#[derive(Clone, Copy)]
struct Situation {
    /// Command lines, beside one agent with two clients if `has_agent`.
    callers: usize,
    has_agent: bool,
    /// Whether the access token has expired, or only does so soon.
    is_expired: bool,
    /// Whether the issuer accepts a spent refresh token once more.
    has_grace: bool,
}

/// What the processes share, and what has happened.
struct World {
    situation: Situation,
    session: Session,
    last_writer: Option<usize>,
    lock_holder: Option<usize>,
    /// The number of the refresh token that the issuer accepts, and whether it has ended the session.
    current: u32,
    is_revoked: bool,
    /// Who waits for the response to a request with which refresh token.
    outstanding: Vec<(usize, u32)>,
    /// How often each process has sent each refresh token.
    sent: BTreeMap<(usize, u32), u32>,
    /// The refresh tokens that a response has been lost to, or whose sender was killed.
    in_doubt: Vec<u32>,
    /// How many responses were not received.
    lost: u32,
    stored: HashSet<String>,
    violation: Option<String>,
}

type Shared = Arc<Mutex<World>>;

fn locked(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().expect("unpoisoned")
}

/// Returns the number in the name of a token, such as `refresh-1`.
fn number(token: &str) -> u32 {
    token.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a token of this issuer")
}

fn refresh_number(session: &Session) -> Option<u32> {
    session.tokens.refresh_token.as_ref().map(|token| number(token.expose()))
}

/// Returns what a reader learns from a session.
fn content(session: &Session) -> u64 {
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
    fn new(situation: Situation, issuer: &Profile) -> Self {
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
            session,
            last_writer: None,
            lock_holder: None,
            current: 0,
            is_revoked: false,
            outstanding: Vec::new(),
            sent: BTreeMap::new(),
            in_doubt: Vec::new(),
            lost: 0,
            stored: HashSet::from(["access-0".to_owned()]),
            violation: None,
        }
    }

    fn require(&mut self, holds: bool, promise: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(promise());
        }
    }

    fn write(&mut self, process: usize, session: &Session) {
        let (before, after) = (self.session.generation.number, session.generation.number);
        self.require(before <= after, || {
            format!("generation {after} is stored over {before}: a stored session is lost")
        });
        let (before, after) = (refresh_number(&self.session), refresh_number(session));
        self.require(after.is_none() || before <= after, || format!("{after:?} is stored over {before:?}"));
        self.stored.insert(session.tokens.access_token.expose().to_owned());
        self.session = session.clone();
        self.last_writer = Some(process);
    }

    /// Takes a request with a refresh token; returns whether it is answered with tokens.
    fn receive(&mut self, process: usize, token: u32) -> bool {
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
        if token == self.current && !self.is_revoked {
            self.current += 1;
        } else if !(self.situation.has_grace && token + 1 == self.current) {
            self.is_revoked = true;
        }
        !self.is_revoked
    }

    /// Checks what holds at any time, even if everything is killed then.
    fn check(&mut self) {
        let is_spent = refresh_number(&self.session).is_some_and(|number| number < self.current);
        let is_known = self.session.refreshing_since.is_some() || self.session.ended.is_some();
        self.require(!is_spent || is_known, || "the stored refresh token is spent, and nothing says so".into());
    }

    /// Checks what a process has served.
    fn check_served(&mut self, process: usize, served: &Served) {
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
struct ModelStore {
    world: Shared,
    process: usize,
    steps: Arc<Steps>,
}

impl Store for ModelStore {
    fn read(&self, _: &ProfileName) -> Result<Option<Session>, StoreError> {
        let session = locked(&self.world).session.clone();
        self.steps.touch(content(&session));
        Ok(Some(session))
    }

    fn write(&self, _: &ProfileName, session: &Session) -> Result<(), StoreError> {
        let mut world = locked(&self.world);
        self.steps.touch(world.last_writer == Some(self.process));
        world.write(self.process, session);
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

/// Returns the issuer as `process` reaches it.
fn issuer(world: Shared, process: usize, steps: Arc<Steps>) -> SimulatedIssuer {
    Arc::new(move |body: String| {
        let (world, steps) = (Arc::clone(&world), Arc::clone(&steps));
        Box::pin(async move {
            steps.pause(Wait::Operation).await;
            let parameter = body.split('&').find_map(|pair| pair.strip_prefix("refresh_token="));
            let token = number(parameter.expect("a refresh token"));
            let is_accepted = locked(&world).receive(process, token);
            steps.touch((token, is_accepted));
            steps.pause(Wait::Response).await;
            let mut world = locked(&world);
            world.outstanding.retain(|request| *request != (process, token));
            if steps.delivery() != Delivery::Arrives {
                world.in_doubt.push(token);
                world.lost += 1;
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

/// The access token that a client got, or why it got none.
type Served = Result<String, String>;

/// One run of all processes.
struct Run<'a> {
    place: &'a Place,
    world: Shared,
    processes: Vec<Process<Vec<Served>>>,
}

/// The next event of a schedule.
#[derive(Clone, Copy, Debug)]
enum Event {
    Step(usize, Delivery),
    Kill(usize),
}

/// The place of a search.
struct Place {
    dir: tempfile::TempDir,
    profile: Profile,
    start: Instant,
}

impl Place {
    fn new() -> Self {
        let mut profile =
            Profile::new("work".parse().expect("a name"), "https://a.example".parse().expect("an issuer"));
        // The limit of calls to the file store depends on the time.
        profile.store = StoreKind::Keychain;
        profile.client_id = "cli".into();
        profile.server_mut().endpoints.token = "https://a.example/token".parse().ok();
        let dir = tempfile::tempdir().expect("a directory");
        crate::config::save(&config(dir.path()), &profile).expect("saved");
        Self { dir, profile, start: crate::clock::SystemClock.monotonic() }
    }

    fn lock(&self) -> PathBuf {
        self.dir.path().join("locks/work.lock")
    }

    fn sessions(
        &self,
        world: &Shared,
        process: usize,
        clock: Arc<dyn Clock>,
        steps: &Arc<Steps>,
    ) -> Arc<SessionService> {
        let (world, steps) = (Arc::clone(world), Arc::clone(steps));
        let store: Arc<dyn Store> = Arc::new(ModelStore { world, process, steps });
        let stores = Stores { keychain: Arc::clone(&store), file: Arc::clone(&store), memory: store };
        let locks = self.dir.path().join("locks");
        let locks = LockDirectories { keychain: locks.clone(), file: locks };
        SessionService::new(clock, stores, locks, self.dir.path().join("revoked"))
    }

    /// Starts all processes.
    fn start(&self, situation: Situation) -> Run<'_> {
        // Its time is that of the last change.
        let _ = std::fs::remove_file(self.lock());
        let world = Arc::new(Mutex::new(World::new(situation, &self.profile)));
        let request = TokenRequest::own(Demand::ValidFor(MinTtl::Default));
        let mut processes = Vec::new();
        for process in 0..situation.callers {
            let issuer = |steps| issuer(Arc::clone(&world), process, steps);
            processes.push(Process::start(self.start, issuer, |clock, steps| {
                let sessions = self.sessions(&world, process, clock, &steps);
                let (profile, request) = (self.profile.clone(), request.clone());
                async move {
                    let served = sessions.wait_for_token(&profile, &request).await;
                    let token = |session: &Session| session.tokens.access_token.expose().to_owned();
                    vec![served.map(|served| token(&served.session)).map_err(|error| error.to_string())]
                }
            }));
        }
        if situation.has_agent {
            let process = situation.callers;
            let issuer = |steps| issuer(Arc::clone(&world), process, steps);
            processes.push(Process::start(self.start, issuer, |clock, steps| {
                let sessions = self.sessions(&world, process, clock, &steps);
                sessions.serve_unsaved();
                let (config, socket) = (config(self.dir.path()), self.dir.path().join("agent.sock"));
                let agent =
                    Agent::new(sessions, config, String::new(), socket, false, Default::default()).expect("valid");
                let profile = Arc::new(self.profile.clone());
                async move {
                    let client = || agent.shared_token(Arc::clone(&profile), request.clone(), None);
                    let (one, other) = tokio::join!(client(), client());
                    let token = |issued: super::tokens::IssuedToken| issued.tokens().access_token.expose().to_owned();
                    [one, other].map(|served| served.map(token).map_err(|error| error.message())).into()
                }
            }));
        }
        Run { place: self, world, processes }
    }
}

fn config(dir: &Path) -> ConfigFiles {
    ConfigFiles { user: dir.join("config.toml"), machine_wide: Vec::new() }
}

impl Run<'_> {
    /// Returns the events that can be next.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut seen = HashSet::new();
        for (index, process) in self.processes.iter().enumerate() {
            let Some(wait) = process.wait() else { continue };
            if !seen.insert(self.fingerprint_of(index)) {
                continue;
            }
            let deliveries: &[Delivery] = match wait {
                Wait::Response => &[Delivery::Arrives, Delivery::Lost, Delivery::LostLate],
                Wait::Operation | Wait::Again => &[Delivery::Arrives],
            };
            events.extend(deliveries.iter().map(|delivery| Event::Step(index, *delivery)));
            // Killing another is as never running it again, which is a part of these schedules too.
            let world = locked(&self.world);
            if world.lock_holder == Some(index) || world.outstanding.iter().any(|(of, _)| *of == index) {
                events.push(Event::Kill(index));
            }
        }
        events
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Step(index, delivery) => {
                let served = self.processes[index].step(delivery);
                let mut world = locked(&self.world);
                let is_stuck = served.is_none() && self.processes[index].wait().is_none();
                world.require(!is_stuck, || format!("{index} waits forever"));
                for served in served.iter().flatten() {
                    world.check_served(index, served);
                }
            }
            Event::Kill(index) => {
                self.processes[index].kill();
                let mut world = locked(&self.world);
                let stored = refresh_number(&world.session).unwrap_or(0);
                let killed = world.sent.keys().filter(|(process, token)| *process == index && *token >= stored);
                let killed: Vec<u32> = killed.map(|(_, token)| *token).collect();
                world.lost += u32::from(!killed.is_empty());
                world.in_doubt.extend(killed);
                world.outstanding.retain(|(process, _)| *process != index);
            }
        }
        let (is_locked, mut world) = (crate::fs::is_locked(&self.place.lock()), locked(&self.world));
        let (Event::Step(index, _) | Event::Kill(index)) = event;
        world.lock_holder = world.lock_holder.or(Some(index)).filter(|_| is_locked);
        world.check();
    }

    /// Returns what distinguishes a process from another that is at the same point. Callers are interchangeable.
    fn fingerprint_of(&self, index: usize) -> u64 {
        let world = locked(&self.world);
        let unspent = |token: u32| refresh_number(&world.session).is_none_or(|stored| stored <= token);
        let sent = world.sent.iter().filter(|((of, token), _)| *of == index && unspent(*token));
        let sent: Vec<(u32, u32)> = sent.map(|((_, token), times)| (*token, *times)).collect();
        let waits = world.outstanding.iter().any(|(of, _)| *of == index);
        let process = &self.processes[index];
        let is_last_writer = world.last_writer == Some(index) && process.wait().is_some();
        hash((process.fingerprint(), sent, waits, is_last_writer, index == world.situation.callers))
    }

    /// Returns what distinguishes this state from another.
    fn fingerprint(&self) -> u64 {
        let mut all: Vec<u64> = (0..self.processes.len()).map(|index| self.fingerprint_of(index)).collect();
        let world = locked(&self.world);
        all[..world.situation.callers].sort_unstable();
        let stored = refresh_number(&world.session).unwrap_or(0);
        let mut in_doubt: Vec<u32> = world.in_doubt.iter().copied().filter(|token| *token >= stored).collect();
        in_doubt.sort_unstable();
        in_doubt.dedup();
        hash((all, content(&world.session), world.current, world.is_revoked, world.lost > 0, in_doubt))
    }
}

/// The result of a search.
#[derive(Debug, Default)]
struct Explored {
    states: usize,
    schedules: usize,
    refreshes: usize,
}

/// Runs every schedule of `situation`.
///
/// # Errors
/// The broken promise, and the schedule that breaks it.
fn explore(situation: Situation) -> Result<Explored, String> {
    let place = Place::new();
    let mut explored = Explored::default();
    let mut seen = HashSet::new();
    // The schedule of the run, with what else can happen at each point.
    let mut path: Vec<(Event, Vec<Event>)> = Vec::new();
    let mut run = place.start(situation);
    loop {
        if let Some(broken) = locked(&run.world).violation.take() {
            let schedule: Vec<Event> = path.iter().map(|(event, _)| *event).collect();
            return Err(format!("{broken}, after {schedule:?}"));
        }
        let mut events = if seen.insert(run.fingerprint()) { run.events() } else { Vec::new() };
        explored.states = seen.len();
        if let Some(event) = events.pop() {
            run.happen(event);
            path.push((event, events));
            continue;
        }
        explored.schedules += 1;
        explored.refreshes += usize::from(locked(&run.world).current > 0);
        loop {
            match path.last_mut() {
                None => return Ok(explored),
                Some((event, others)) => match others.pop() {
                    Some(other) => {
                        *event = other;
                        break;
                    }
                    None => drop(path.pop()),
                },
            }
        }
        run = place.start(situation);
        for (event, _) in &path {
            run.happen(*event);
        }
    }
}

/// Explores a situation with both kinds of issuer, and prints how many states there are.
#[track_caller]
fn keeps_every_promise(callers: usize, has_agent: bool, is_expired: bool) {
    for has_grace in [false, true] {
        let explored = explore(Situation { callers, has_agent, is_expired, has_grace });
        let explored = explored.unwrap_or_else(|broken| panic!("{broken}"));
        let (agents, token) = (u8::from(has_agent), if is_expired { "expired" } else { "due" });
        println!("{callers} callers, {agents} agents, token {token}, grace {has_grace}: {explored:?}");
        assert!(explored.refreshes > 0, "{explored:?}");
    }
}

#[test]
fn one_caller_keeps_every_promise() {
    keeps_every_promise(1, false, false);
    keeps_every_promise(1, false, true);
}

#[test]
fn two_callers_keep_every_promise() {
    keeps_every_promise(2, false, false);
    keeps_every_promise(2, false, true);
}

#[test]
fn caller_and_agent_keep_every_promise() {
    keeps_every_promise(1, true, false);
    keeps_every_promise(1, true, true);
}

#[test]
#[ignore = "takes minutes"]
fn three_callers_and_agent_with_due_token_keep_every_promise() {
    keeps_every_promise(3, true, false);
}

#[test]
#[ignore = "takes minutes"]
fn three_callers_and_agent_with_expired_token_keep_every_promise() {
    keeps_every_promise(3, true, true);
}
