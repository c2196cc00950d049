//! Every schedule of processes that refresh one session, with a kill between any two steps and each way to lose a response.
//!
//! The processes run the code of the command line and of the agent: the policy, the locks, and the order of their operations.
//! Only the store, the issuer and the clock are a model's. A schedule is run from its start; states that were reached before
//! are not explored again.

mod world;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use self::world::{ModelStore, Shared, World, content, issuer, locked, refresh_number};
use super::processes::{Delivery, Process, Steps, Wait, hash};
use crate::agent::server::state::Agent;
use crate::clock::Clock;
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
        let store: Arc<dyn Store> = Arc::new(ModelStore { world, process, steps, lock: self.lock() });
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
            let may_fail = locked(&self.world).may_fail();
            let deliveries: &[Delivery] = match wait {
                Wait::Response if may_fail => &[Delivery::Arrives, Delivery::Lost, Delivery::LostLate],
                Wait::Response | Wait::Operation | Wait::Again => &[Delivery::Arrives],
            };
            events.extend(deliveries.iter().map(|delivery| Event::Step(index, *delivery)));
            // Killing another is as never running it again, which is a part of these schedules too.
            let world = locked(&self.world);
            let is_noticed = world.lock_holder == Some(index) || world.outstanding.iter().any(|(of, _)| *of == index);
            if may_fail && is_noticed {
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
                world.faults += u32::from(delivery != Delivery::Arrives);
                let is_stuck = served.is_none() && self.processes[index].wait().is_none();
                world.require(!is_stuck, || format!("{index} waits forever"));
                for served in served.iter().flatten() {
                    world.check_served(index, served);
                }
            }
            Event::Kill(index) => {
                self.processes[index].kill();
                let mut world = locked(&self.world);
                world.faults += 1;
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
        // Of a process that has ended, nothing comes any more.
        if self.processes[index].wait().is_none() {
            return 0;
        }
        let world = locked(&self.world);
        let unspent = |token: u32| refresh_number(&world.session).is_none_or(|stored| stored <= token);
        let sent = world.sent.iter().filter(|((of, token), _)| *of == index && unspent(*token));
        let sent: Vec<(u32, u32)> = sent.map(|((_, token), times)| (*token, *times)).collect();
        let waits = world.outstanding.iter().any(|(of, _)| *of == index);
        let process = &self.processes[index];
        let is_last_writer = world.last_writer == Some(index);
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
        let faults = world.faults.min(world.situation.max_faults);
        hash((all, content(&world.session), world.current, world.is_revoked, world.lost > 0, in_doubt, faults))
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

/// As many faults as there are requests and processes.
const ANY: u32 = u32::MAX;

/// Explores a situation with both kinds of issuer, and prints how many states there are.
#[track_caller]
fn keeps_every_promise(callers: usize, has_agent: bool, is_expired: bool, max_faults: u32) {
    for has_grace in [false, true] {
        let explored = explore(Situation { callers, has_agent, is_expired, has_grace, max_faults });
        let explored = explored.unwrap_or_else(|broken| panic!("{broken}"));
        let (agents, token) = (u8::from(has_agent), if is_expired { "expired" } else { "due" });
        println!("{callers} callers, {agents} agents, token {token}, grace {has_grace}: {explored:?}");
        assert!(explored.refreshes > 0, "{explored:?}");
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
#[ignore = "takes minutes"]
fn one_fault_with_three_callers_and_a_due_token_keeps_every_promise() {
    keeps_every_promise(3, true, false, 1);
}

#[test]
#[ignore = "takes minutes"]
fn one_fault_with_three_callers_and_an_expired_token_keeps_promises() {
    keeps_every_promise(3, true, true, 1);
}

#[test]
#[ignore = "takes minutes"]
fn three_callers_and_agent_with_due_token_keep_every_promise() {
    keeps_every_promise(3, true, false, ANY);
}

#[test]
#[ignore = "takes minutes"]
fn three_callers_and_agent_with_expired_token_keep_every_promise() {
    keeps_every_promise(3, true, true, ANY);
}
