//! Power failures: what of an operation's changes may be left on the disk, and whether it is old or new.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use authctl::model::{ProfileName, Session};
use authctl::store::RevocationList;

use crate::disk::{self, Disk, Tree};
use crate::operations::{OPERATIONS, Operation};
use crate::support::{PASSWORD, Sandbox};
use crate::world::{StoreKind, World};
use crate::{Options, Random};

/// How many states of a sample are also given to the program.
const SAMPLE: usize = 10;

/// What is stored.
#[derive(Debug, PartialEq)]
struct Stored {
    config: Option<String>,
    /// Those of [`NAMES`]: the login and the number of the refresh, unless a logout has begun.
    sessions: [Option<(String, u64)>; 2],
    revoked: usize,
    /// Whether the refresh token may have been sent.
    is_marked: bool,
}

/// The names that the profile has.
const NAMES: [&str; 2] = ["work", "home"];

/// The results of an operation.
pub struct PowerResults {
    pub operation: Operation,
    pub calls: usize,
    pub states: usize,
    pub run: usize,
    pub wrong: Vec<String>,
    pub seconds: u64,
}

/// Runs each chosen operation undisturbed, and checks what a power failure after each of its changes may leave.
pub fn run(options: &Options) -> Vec<PowerResults> {
    let name = |operation: &Operation| format!("power failure: {}", operation.name());
    let chosen = |operation: &&Operation| {
        !matches!(**operation, Operation::AgentRefresh | Operation::Passphrase)
            && options.only.as_ref().is_none_or(|only| name(operation).contains(only.as_str()))
    };
    OPERATIONS.iter().filter(chosen).map(|operation| run_operation(*operation, options)).collect()
}

fn run_operation(operation: Operation, options: &Options) -> PowerResults {
    let started = Instant::now();
    let mut world = World::new(StoreKind::File, true);
    operation.prepare(&mut world);
    let before = read(&world.home).expect("readable");
    let args = operation.args(&world);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let disk = Disk::new(world.home.path(), options.seed);
    let (disk, ran) = world.home.step(&args, PASSWORD, disk);
    ran.exits(0);
    let after = read(&world.home).expect("readable");
    let (mut random, mut wrong) = (Random(options.seed), Vec::new());
    let last = disk.possible.len() - 1;
    let mut checked: BTreeSet<(bool, bool, &Tree)> = BTreeSet::new();
    for (call, (requests, states)) in disk.possible.iter().enumerate() {
        for state in states {
            if checked.insert((*requests > 0, call == last, state))
                && let Err(why) = check(operation, state, &before, &after, *requests > 0, call == last)
            {
                wrong.push(format!("after {call} of {last} changes: {why}"));
            }
        }
    }
    let distinct: BTreeSet<&Tree> = checked.iter().map(|(_, _, state)| *state).collect();
    let mut run = 0;
    for state in &distinct {
        if options.all || random.below(distinct.len()) < SAMPLE {
            run += 1;
            if let Err(why) = check_program(operation, state) {
                wrong.push(why);
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    let (states, seconds) = (distinct.len(), started.elapsed().as_secs());
    PowerResults { operation, calls: last, states, run, wrong, seconds }
}

/// Returns a home with what is left on the disk.
fn home_with(state: &Tree) -> Sandbox {
    let home = Sandbox::new();
    disk::write(state, home.path());
    home
}

fn read(home: &Sandbox) -> Result<Stored, String> {
    let config = fs::read_to_string(home.config_file()).ok();
    let mut is_marked = false;
    let mut session = |name: &str| -> Result<Option<(String, u64)>, String> {
        let (store, name): (_, ProfileName) = (home.store(), name.parse().expect("a name"));
        store.finish_interrupted_refresh(&name).map_err(|e| e.to_string())?;
        let session: Option<Session> = store.read(&name).map_err(|e| e.to_string())?;
        is_marked |= session.as_ref().is_some_and(|session| session.refreshing_since.is_some());
        Ok(session.filter(|s| !s.logged_out).map(|s| (s.generation.login, s.generation.number)))
    };
    let sessions = [session(NAMES[0])?, session(NAMES[1])?];
    let revoked = RevocationList::open(&home.path().join("data/authctl/revoked")).map_err(|e| e.to_string())?;
    Ok(Stored { config, sessions, revoked: revoked.tokens().len(), is_marked })
}

/// Checks that what is left is old or new, and new at the end.
fn check(
    operation: Operation,
    state: &Tree,
    before: &Stored,
    after: &Stored,
    has_sent: bool,
    is_end: bool,
) -> Result<(), String> {
    let stored = read(&home_with(state))?;
    if stored.config != before.config && stored.config != after.config {
        return Err(format!("the configuration is neither old nor new: {:?}", stored.config));
    }
    let sessions = NAMES.iter().zip(&stored.sessions).zip(before.sessions.iter().zip(&after.sessions));
    for ((name, session), (old, new)) in sessions {
        if session != old && session != new {
            return Err(format!("the session of {name} is neither old nor new: {session:?}"));
        }
    }
    if is_end && (&stored.config, &stored.sessions) != (&after.config, &after.sessions) {
        return Err(format!("the operation ended, and its changes are lost: {stored:?}"));
    }
    if stored.revoked != before.revoked && stored.revoked != after.revoked {
        return Err("the revocation list is neither old nor new".into());
    }
    let is_new = stored.sessions == after.sessions;
    match operation {
        Operation::Refresh if has_sent && !is_new && !stored.is_marked => {
            Err("the refresh token was sent, and the session does not show it".into())
        }
        Operation::Logout if has_sent && (!is_new || stored.revoked != after.revoked) => {
            Err("the tokens were revoked, and the session or the revocation list does not show it".into())
        }
        _ => Ok(()),
    }
}

/// Checks that the program uses what is left.
fn check_program(operation: Operation, state: &Tree) -> Result<(), String> {
    let home = home_with(state);
    let codes = NAMES.map(|name| home.run(&["token", name]));
    let served = codes.iter().filter(|ran| ran.code == 0).count();
    let allowed: &[usize] = match operation {
        Operation::FirstLogin | Operation::Logout => &[0, 1],
        _ => &[1],
    };
    match codes.iter().find(|ran| ![0, 2, 3].contains(&ran.code)) {
        Some(ran) => Err(format!("token: exit code {}: {}", ran.code, ran.stderr)),
        None if !allowed.contains(&served) => Err(format!("{served} profiles have a token: {codes:?}")),
        None => Ok(()),
    }
}
