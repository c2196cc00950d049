//! Every schedule of processes that refresh one session, with a kill between any two steps and each way to lose a response.
//!
//! The processes run the code of the command line and of the agent: the policy, the locks, and the order of their operations.
//! Only the store, the issuer and the clock are a model's. What a step does depends on nothing but what the process has learned
//! so far and what it finds in this step, so it is run once for each pair of them and recorded; schedules are explored over the
//! records. States that were reached before are not explored again.

mod world;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use self::world::{Effect, ModelStore, Scene, Shared, World, content, issuer, locked, refresh_number};
use super::processes::{Delivery, Process, Steps, Wait, hash};
use crate::agent::server::state::Agent;
use crate::clock::Clock;
use crate::fs::LockFile;
use crate::model::{Profile, Session, StoreKind};
use crate::paths::ConfigFiles;
use crate::session::{Demand, LockDirectories, MinTtl, SessionService, Stores, TokenRequest};
use crate::store::Store;

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
    /// How many responses are lost and processes killed in a schedule at most.
    max_faults: u32,
}

/// The access token that a client got, or why it got none.
type Served = Result<String, String>;

/// What a process has come to.
#[derive(Clone)]
struct Point {
    fingerprint: u64,
    /// `None` if the process has ended.
    wait: Option<Wait>,
    holds_lock: bool,
    way: Option<Arc<Way>>,
}

/// The last step of a process, and where it began.
struct Way {
    before: Point,
    scene: Scene,
    delivery: Delivery,
}

/// What a step does.
struct Outcome {
    effects: Vec<Effect>,
    served: Option<Vec<Served>>,
    after: Point,
}

/// What all processes have come to.
#[derive(Clone)]
struct State {
    world: World,
    points: Vec<Point>,
}

/// The next event of a schedule.
#[derive(Clone, Copy, Debug)]
enum Event {
    Step(usize, Delivery),
    Kill(usize),
}

/// The place of a search, and the steps that were run there.
struct Place {
    dir: tempfile::TempDir,
    profile: Profile,
    start: Instant,
    situation: Situation,
    outcomes: HashMap<(u64, u64, Delivery), Arc<Outcome>>,
}

impl Place {
    fn new(situation: Situation) -> Self {
        let mut profile =
            Profile::new("work".parse().expect("a name"), "https://a.example".parse().expect("an issuer"));
        // The limit of calls to the file store depends on the time.
        profile.store = StoreKind::Keychain;
        profile.client_id = "cli".into();
        profile.server_mut().endpoints.token = "https://a.example/token".parse().ok();
        let dir = tempfile::tempdir().expect("a directory");
        crate::config::save(&config(dir.path()), &profile).expect("saved");
        let start = crate::clock::SystemClock.monotonic();
        Self { dir, profile, start, situation, outcomes: HashMap::new() }
    }

    fn lock(&self) -> PathBuf {
        self.dir.path().join("locks/work.lock")
    }

    fn sessions(&self, scene: &Shared, clock: Arc<dyn Clock>, steps: &Arc<Steps>) -> Arc<SessionService> {
        let (scene, steps) = (Arc::clone(scene), Arc::clone(steps));
        let store: Arc<dyn Store> = Arc::new(ModelStore { scene, steps, lock: self.lock() });
        let stores = Stores { keychain: Arc::clone(&store), file: Arc::clone(&store), memory: store };
        let locks = self.dir.path().join("locks");
        let locks = LockDirectories { keychain: locks.clone(), file: locks };
        SessionService::new(clock, stores, locks, self.dir.path().join("revoked"))
    }

    /// Starts a command line, or an agent with two clients.
    fn start(&self, scene: &Shared, is_agent: bool) -> Process<Vec<Served>> {
        let request = TokenRequest::own(Demand::ValidFor(MinTtl::Default));
        let issuer = |steps| issuer(Arc::clone(scene), steps);
        if !is_agent {
            return Process::start(self.start, issuer, |clock, steps| {
                let sessions = self.sessions(scene, clock, &steps);
                let profile = self.profile.clone();
                async move {
                    let served = sessions.wait_for_token(&profile, &request).await;
                    let token = |session: &Session| session.tokens.access_token.expose().to_owned();
                    vec![served.map(|served| token(&served.session)).map_err(|error| error.to_string())]
                }
            });
        }
        Process::start(self.start, issuer, |clock, steps| {
            let sessions = self.sessions(scene, clock, &steps);
            sessions.serve_unsaved();
            let (config, socket) = (config(self.dir.path()), self.dir.path().join("agent.sock"));
            let agent = Agent::new(sessions, config, String::new(), socket, false, Default::default()).expect("valid");
            let profile = Arc::new(self.profile.clone());
            async move {
                let client = || agent.shared_token(Arc::clone(&profile), request.clone(), None);
                let (one, other) = tokio::join!(client(), client());
                let token = |issued: super::tokens::IssuedToken| issued.tokens().access_token.expose().to_owned();
                [one, other].map(|served| served.map(token).map_err(|error| error.message())).into()
            }
        })
    }

    /// Runs a process up to `way`; returns what the last step of it did.
    fn run(&self, is_agent: bool, way: Option<Arc<Way>>) -> Outcome {
        let mut steps = Vec::new();
        let mut next = way.as_ref();
        while let Some(step) = next {
            steps.push(step);
            next = step.before.way.as_ref();
        }
        let scene = Arc::new(Mutex::new(Scene::of(&World::new(self.situation, &self.profile), false)));
        let mut process = self.start(&scene, is_agent);
        let mut served = None;
        for step in steps.into_iter().rev() {
            let fingerprint = hash((process.fingerprint(), is_agent));
            assert_eq!(fingerprint, step.before.fingerprint, "the same steps lead to something else");
            *locked(&scene) = step.scene.clone();
            let other = step.scene.other_holds_lock.then(|| LockFile::open(self.lock()).and_then(LockFile::try_lock));
            assert!(other.as_ref().is_none_or(|other| matches!(other, Ok(Some(_)))), "two processes hold the lock");
            served = process.step(step.delivery);
        }
        let (fingerprint, wait) = (hash((process.fingerprint(), is_agent)), process.wait());
        let mut scene = locked(&scene);
        let holds_lock = !scene.other_holds_lock && crate::fs::is_locked(&self.lock());
        let effects = std::mem::take(&mut scene.effects);
        Outcome { effects, served, after: Point { fingerprint, wait, holds_lock, way } }
    }

    fn outcome(&mut self, state: &State, index: usize, delivery: Delivery) -> Arc<Outcome> {
        let other_holds_lock = state.world.lock_holder.is_some_and(|holder| holder != index);
        let (scene, point) = (Scene::of(&state.world, other_holds_lock), &state.points[index]);
        let key = (point.fingerprint, scene.fingerprint(), delivery);
        if let Some(known) = self.outcomes.get(&key) {
            return Arc::clone(known);
        }
        let way = Way { before: point.clone(), scene, delivery };
        let outcome = Arc::new(self.run(index == self.situation.callers, Some(Arc::new(way))));
        self.outcomes.insert(key, Arc::clone(&outcome));
        outcome
    }

    fn first(&self) -> State {
        let processes = self.situation.callers + usize::from(self.situation.has_agent);
        let point = |index| self.run(index == self.situation.callers, None).after;
        State { world: World::new(self.situation, &self.profile), points: (0..processes).map(point).collect() }
    }

    /// Returns the state after `event`.
    fn after(&mut self, before: &State, event: Event) -> State {
        let mut state = before.clone();
        let world = &mut state.world;
        let (Event::Step(index, _) | Event::Kill(index)) = event;
        match event {
            Event::Step(index, delivery) => {
                let outcome = self.outcome(before, index, delivery);
                outcome.effects.iter().for_each(|effect| world.apply(index, effect));
                world.faults += u32::from(delivery != Delivery::Arrives);
                let is_stuck = outcome.served.is_none() && outcome.after.wait.is_none();
                world.require(!is_stuck, || format!("{index} waits forever"));
                for served in outcome.served.iter().flatten() {
                    world.check_served(index, served);
                }
                state.points[index] = outcome.after.clone();
            }
            Event::Kill(index) => {
                state.points[index] = Point { fingerprint: 0, wait: None, holds_lock: false, way: None };
                world.faults += 1;
                let stored = refresh_number(&world.session).unwrap_or(0);
                let killed = world.sent.keys().filter(|(process, token)| *process == index && *token >= stored);
                let killed: Vec<u32> = killed.map(|(_, token)| *token).collect();
                world.lost += u32::from(!killed.is_empty());
                world.in_doubt.extend(killed);
                world.outstanding.retain(|(process, _)| *process != index);
            }
        }
        let own = state.points[index].holds_lock.then_some(index);
        world.lock_holder = own.or(world.lock_holder.filter(|holder| *holder != index));
        world.check();
        state
    }
}

fn config(dir: &Path) -> ConfigFiles {
    ConfigFiles { user: dir.join("config.toml"), machine_wide: Vec::new() }
}

impl State {
    /// Returns the events that can be next.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut seen = HashSet::new();
        let may_fail = self.world.may_fail();
        for (index, point) in self.points.iter().enumerate() {
            let Some(wait) = point.wait else { continue };
            if !seen.insert(self.fingerprint_of(index)) {
                continue;
            }
            let deliveries: &[Delivery] = match wait {
                Wait::Response if may_fail => &[Delivery::Arrives, Delivery::Lost, Delivery::LostLate],
                Wait::Response | Wait::Operation | Wait::Again => &[Delivery::Arrives],
            };
            events.extend(deliveries.iter().map(|delivery| Event::Step(index, *delivery)));
            // Killing another is as never running it again, which is a part of these schedules too.
            let is_noticed = point.holds_lock || self.world.outstanding.iter().any(|(of, _)| *of == index);
            if may_fail && is_noticed {
                events.push(Event::Kill(index));
            }
        }
        events
    }

    /// Returns what distinguishes a process from another that is at the same point. Callers are interchangeable.
    fn fingerprint_of(&self, index: usize) -> u64 {
        let (world, point) = (&self.world, &self.points[index]);
        // Of a process that has ended, nothing comes any more.
        if point.wait.is_none() {
            return 0;
        }
        let unspent = |token: u32| refresh_number(&world.session).is_none_or(|stored| stored <= token);
        let sent = world.sent.iter().filter(|((of, token), _)| *of == index && unspent(*token));
        let sent: Vec<(u32, u32)> = sent.map(|((_, token), times)| (*token, *times)).collect();
        let waits = world.outstanding.iter().any(|(of, _)| *of == index);
        hash((point.fingerprint, point.holds_lock, sent, waits))
    }

    /// Returns what distinguishes this state from another.
    fn fingerprint(&self) -> u64 {
        let world = &self.world;
        let mut all: Vec<u64> = (0..self.points.len()).map(|index| self.fingerprint_of(index)).collect();
        all[..world.situation.callers].sort_unstable();
        let stored = refresh_number(&world.session).unwrap_or(0);
        let mut in_doubt: Vec<u32> = world.in_doubt.iter().copied().filter(|token| *token >= stored).collect();
        in_doubt.sort_unstable();
        in_doubt.dedup();
        // Where any number may happen, it does not matter how many have.
        let faults = if world.situation.max_faults == ANY { 0 } else { world.faults };
        hash((all, content(&world.session), world.current, world.is_revoked, world.lost > 0, in_doubt, faults))
    }
}

/// The result of a search.
#[derive(Debug, Default)]
struct Explored {
    states: usize,
    schedules: usize,
    /// The steps of which code was run.
    steps: usize,
    refreshes: usize,
}

/// Explores every schedule of `situation`.
///
/// # Errors
/// The broken promise, and the schedule that breaks it.
fn explore(situation: Situation) -> Result<Explored, String> {
    let mut place = Place::new(situation);
    let mut explored = Explored::default();
    let mut seen = HashSet::new();
    let first = place.first();
    // The schedule, with the state at each point of it and what else can happen there.
    let mut path: Vec<(State, Vec<Event>, Option<Event>)> = vec![(first.clone(), first.events(), None)];
    seen.insert(first.fingerprint());
    while let Some((state, events, _)) = path.last_mut() {
        let Some(event) = events.pop() else {
            path.pop();
            continue;
        };
        let mut next = place.after(state, event);
        if let Some(broken) = next.world.violation.take() {
            let schedule = path.iter().filter_map(|(.., event)| *event).chain([event]);
            return Err(format!("{broken}, after {:?}", schedule.collect::<Vec<_>>()));
        }
        let events = if seen.insert(next.fingerprint()) { next.events() } else { Vec::new() };
        if events.is_empty() {
            explored.schedules += 1;
            explored.refreshes += usize::from(next.world.current > 0);
        } else {
            path.push((next, events, Some(event)));
        }
    }
    Ok(Explored { states: seen.len(), steps: place.outcomes.len(), ..explored })
}

/// As many faults as there are requests and processes.
const ANY: u32 = u32::MAX;

/// Explores a situation with both kinds of issuer, and prints how many states there are.
#[track_caller]
fn keeps_every_promise(callers: usize, has_agent: bool, is_expired: bool, max_faults: u32) {
    for has_grace in [false, true] {
        let explored = explore(Situation { callers, has_agent, is_expired, has_grace, max_faults });
        let explored = explored.unwrap_or_else(|broken| panic!("{broken}"));
        let (agents, token) = (u8::from(has_agent), if is_expired { "expired" } else { "due" });
        let Explored { states, schedules, steps, refreshes } = explored;
        print!("{callers} callers, {agents} agents, token {token}, grace {has_grace}: {states} states, ");
        println!("{schedules} schedules, {refreshes} with a refresh; {steps} steps were run");
        assert!(refreshes > 0);
    }
}

#[test]
fn one_caller_keeps_every_promise() {
    keeps_every_promise(1, false, false, ANY);
    keeps_every_promise(1, false, true, ANY);
}

#[test]
fn two_callers_keep_every_promise() {
    keeps_every_promise(2, false, false, ANY);
    keeps_every_promise(2, false, true, ANY);
}

#[test]
fn caller_and_agent_keep_every_promise() {
    keeps_every_promise(1, true, false, ANY);
    keeps_every_promise(1, true, true, ANY);
}

#[test]
fn one_fault_with_three_callers_and_a_due_token_keeps_every_promise() {
    keeps_every_promise(3, true, false, 1);
}

#[test]
fn one_fault_with_three_callers_and_an_expired_token_keeps_promises() {
    keeps_every_promise(3, true, true, 1);
}

#[test]
fn three_callers_and_agent_with_due_token_keep_every_promise() {
    keeps_every_promise(3, true, false, ANY);
}

#[test]
fn three_callers_and_agent_with_expired_token_keep_every_promise() {
    keeps_every_promise(3, true, true, ANY);
}
