//! Power failures: what of an operation's changes may be left on the disk, and whether it is old or new.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use authctl::model::{ProfileName, Session};
use authctl::store::RevocationList;

use crate::disk::{self, Disk, Tree};
use crate::keyring::Keyring;
use crate::operations::passphrase::{self, Unsealed};
use crate::operations::{OPERATIONS, Operation};
use crate::support::{CommandOutput, Sandbox};
use crate::world::{StoreKind, World};
use crate::{Options, Random, spread};

/// How many states are also given to the program in a sample.
const SAMPLE: usize = 10;

/// The same with a keychain, which has the session of before or after.
const KEYCHAIN_SAMPLE: usize = 3;

/// What is stored.
#[derive(Debug, PartialEq)]
struct Stored {
    config: Option<String>,
    /// Those of [`NAMES`]: the login and the number of the refresh, unless a logout has begun.
    sessions: [Option<(String, u64)>; 2],
    revoked: usize,
    /// Whether the refresh token may have been sent.
    is_marked: bool,
    /// The passphrase of the file store.
    passphrase: Option<&'static str>,
}

/// The key files that were opened before, which takes a second each time, and those that the program has opened.
#[derive(Default)]
struct KeyFiles(BTreeMap<Vec<u8>, Unsealed>, BTreeSet<Vec<u8>>);

impl KeyFiles {
    fn unseal(&mut self, file: Vec<u8>) -> Result<Unsealed, String> {
        if let Some(known) = self.0.get(&file) {
            return Ok(known.clone());
        }
        let unsealed = passphrase::unseal(&file)?;
        self.0.insert(file, unsealed.clone());
        Ok(unsealed)
    }
}

/// The names that the profile has.
const NAMES: [&str; 2] = ["work", "home"];

/// The results of an operation.
pub struct PowerResults {
    pub operation: Operation,
    pub store: StoreKind,
    pub changes: usize,
    pub states: usize,
    pub run: usize,
    pub wrong: Vec<String>,
    pub seconds: u64,
}

/// Returns the chosen operations.
pub fn rows(options: &Options) -> Vec<(Operation, StoreKind)> {
    let chosen = |operation: Operation, store: StoreKind| {
        let name = format!("power failure: {}, {}", operation.name(), store.name());
        operation != Operation::AgentRefresh
            && (store == StoreKind::File || operation.passphrases().is_none())
            && options.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    };
    let all =
        OPERATIONS.iter().flat_map(|&operation| [StoreKind::File, StoreKind::Keychain].map(|store| (operation, store)));
    all.filter(|(operation, store)| chosen(*operation, *store)).collect()
}

/// Runs the operation undisturbed, and checks what a power failure after each of its changes may leave. The program is given a
/// sample of that, or all of it as far as the time suffices.
pub fn run(operation: Operation, store: StoreKind, options: &Options, until: Option<Instant>) -> PowerResults {
    let started = Instant::now();
    let mut world = World::new(store, true);
    operation.prepare(&mut world);
    let mut keys = KeyFiles::default();
    let revoked = world.revoked_file().strip_prefix(world.home.path()).expect("below").to_owned();
    let before = read(&copy(&world.home), &revoked, &mut keys).expect("readable");
    let old = items(&world);
    let args = operation.args(&world);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let disk = Disk::new(world.home.path(), options.seed);
    let (disk, ran) = world.home.step(&args, &operation.stdin(), disk);
    ran.exits(0);
    let after = read(&copy(&world.home), &revoked, &mut keys).expect("readable");
    let new = items(&world);
    let (mut random, mut wrong) = (Random(options.seed), Vec::new());
    let last = disk.possible.len() - 1;
    let mut checked: BTreeSet<(bool, bool, &Tree)> = BTreeSet::new();
    for (call, (requests, states)) in disk.possible.iter().enumerate() {
        for state in states {
            if checked.insert((*requests > 0, call == last, state))
                && let Err(why) = check(
                    operation,
                    read(&home_with(state), &revoked, &mut keys),
                    [&before, &after],
                    *requests > 0,
                    call == last,
                )
            {
                wrong.push(format!("after {call} of {last} changes: {why}"));
            }
        }
    }
    let distinct: BTreeSet<&Tree> = checked.iter().map(|(_, _, state)| *state).collect();
    let distinct: Vec<&Tree> = distinct.into_iter().collect();
    let sample = match store {
        _ if options.all => distinct.len(),
        StoreKind::File => SAMPLE,
        StoreKind::Keychain => KEYCHAIN_SAMPLE,
    };
    let mut run = 0;
    for state in spread(distinct.len(), random.below(distinct.len())).take(sample).map(|at| distinct[at]) {
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        run += 1;
        let checked = match store {
            StoreKind::File => check_program(&home_with(state), &mut keys, served(operation), operation),
            StoreKind::Keychain => check_program_with_keychain(state, &world, [&old, &new], operation),
        };
        wrong.extend(checked.err());
    }
    wrong.sort();
    wrong.dedup();
    let (states, seconds) = (distinct.len(), started.elapsed().as_secs());
    PowerResults { operation, store, changes: last, states, run, wrong, seconds }
}

/// Returns a home with what is left on the disk.
fn home_with(state: &Tree) -> Sandbox {
    let home = Sandbox::new();
    disk::write(state, home.path());
    home
}

/// Returns a copy of a home, which may be changed.
fn copy(home: &Sandbox) -> Sandbox {
    let of = |path: &Path| path.strip_prefix(home.path()).expect("below").to_owned();
    let mut tree = Tree::new();
    for (path, bytes) in home.files() {
        tree.extend(path.ancestors().skip(1).take_while(|above| *above != home.path()).map(|above| (of(above), None)));
        tree.insert(of(&path), Some(bytes));
    }
    home_with(&tree)
}

/// Returns the sessions of [`NAMES`] in the keychain, if there is one.
fn items(world: &World) -> [Vec<u8>; 2] {
    let lookup =
        |name, keyring: &Keyring| keyring.secret_tool(&[&["lookup"], &World::item(name)[..]].concat(), b"").stdout;
    NAMES.map(|name| world.keyring.as_ref().map(|keyring| lookup(name, keyring)).unwrap_or_default())
}

/// Checks that the program uses the files that are left, with the sessions of before and of after in the keychain. What its
/// daemon leaves is not authctl's.
fn check_program_with_keychain(
    state: &Tree,
    world: &World,
    items: [&[Vec<u8>; 2]; 2],
    operation: Operation,
) -> Result<(), String> {
    let keyring = world.keyring.as_ref().expect("a keychain");
    let shared = keyring.shared().strip_prefix(world.home.path()).expect("below").to_owned();
    for items in items {
        NAMES.iter().zip(items).for_each(|(name, item)| world.set_item(name, item));
        let mut home = home_with(state);
        home.set("AUTHCTL_STORE", "keychain");
        home.set("DBUS_SESSION_BUS_ADDRESS", keyring.address());
        // The directory beside the bus is found by the bus.
        let _ = fs::remove_dir_all(keyring.shared());
        let beside = state.iter().filter(|(path, _)| path.starts_with(&shared));
        disk::write(&beside.map(|(path, bytes)| (path.clone(), bytes.clone())).collect(), world.home.path());
        // Which of the two goes with these files depends on the daemon.
        check_program(&home, &mut KeyFiles::default(), &[0, 1], operation)?;
    }
    Ok(())
}

/// Reads what is stored. Takes the passphrase off the key file.
fn read(home: &Sandbox, revoked: &Path, keys: &mut KeyFiles) -> Result<Stored, String> {
    let mut passphrase = None;
    if let Ok(file) = fs::read(home.key_file()) {
        let key = keys.unseal(file)?;
        passphrase = key.passphrase;
        fs::write(home.key_file(), key.text).expect("written");
    }
    let config = fs::read_to_string(home.config_file()).ok();
    let mut is_marked = false;
    let mut session = |name: &str| -> Result<Option<(String, u64)>, String> {
        let (store, name): (_, ProfileName) = (home.store(), name.parse().expect("a name"));
        store.finish_interrupted_refresh(&name).map_err(|e| e.to_string())?;
        let session: Option<Session> = match store.read(&name) {
            Err(error) if error.is_session_lost() => None,
            read => read.map_err(|e| e.to_string())?,
        };
        is_marked |= session.as_ref().is_some_and(|session| session.refreshing_since.is_some());
        Ok(session.filter(|s| !s.logged_out).map(|s| (s.generation.login, s.generation.number)))
    };
    let sessions = [session(NAMES[0])?, session(NAMES[1])?];
    let revoked = RevocationList::open(&home.path().join(revoked)).map_err(|e| e.to_string())?;
    Ok(Stored { config, sessions, revoked: revoked.tokens().len(), is_marked, passphrase })
}

/// Checks that what is left is old or new, and new at the end.
fn check(
    operation: Operation,
    stored: Result<Stored, String>,
    [before, after]: [&Stored; 2],
    has_sent: bool,
    is_end: bool,
) -> Result<(), String> {
    let stored = stored?;
    if stored.config != before.config && stored.config != after.config {
        return Err(format!("the configuration is neither old nor new: {:?}", stored.config));
    }
    let sessions = NAMES.iter().zip(&stored.sessions).zip(before.sessions.iter().zip(&after.sessions));
    for ((name, session), (old, new)) in sessions {
        if session != old && session != new {
            return Err(format!("the session of {name} is neither old nor new: {session:?}"));
        }
    }
    if is_end
        && [stored.config != after.config, stored.sessions != after.sessions, stored.passphrase != after.passphrase]
            .contains(&true)
    {
        return Err(format!("the operation ended, and its changes are lost: {stored:?}"));
    }
    if stored.revoked != before.revoked && stored.revoked != after.revoked {
        return Err("the revocation list is neither old nor new".into());
    }
    if stored.passphrase != before.passphrase && stored.passphrase != after.passphrase {
        return Err("the passphrase is neither old nor new".into());
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

/// Returns how many of [`NAMES`] may have a token after a power failure.
fn served(operation: Operation) -> &'static [usize] {
    match operation {
        Operation::FirstLogin | Operation::Logout => &[0, 1],
        Operation::PassphraseForgotten => &[0, 1, 2],
        _ if operation.passphrases().is_some() => &[2],
        _ => &[1],
    }
}

/// Checks that the program uses what is left.
fn check_program(home: &Sandbox, keys: &mut KeyFiles, allowed: &[usize], operation: Operation) -> Result<(), String> {
    let mut passphrase = None;
    if let Ok(file) = fs::read(home.key_file()) {
        let key = keys.unseal(file.clone())?;
        passphrase = key.passphrase;
        // The program opens each file once as it is.
        if !keys.1.insert(file) {
            passphrase::seal_quickly(home, &key.text, passphrase);
        }
    }
    let codes = NAMES.map(|name| (name, passphrase::run_with(home, &["token", name], passphrase)));
    let served = codes.iter().filter(|(_, ran)| ran.code == 0).count();
    let is_left = |(name, ran): &(&str, CommandOutput)| {
        operation == Operation::PassphraseForgotten && passphrase::is_encrypted_to_a_forgotten_key(ran, name)
    };
    match codes.iter().find(|code| ![0, 2, 3].contains(&code.1.code) && !is_left(code)) {
        Some((_, ran)) => Err(format!("token: exit code {}: {}", ran.code, ran.stderr)),
        None if !allowed.contains(&served) => Err(format!("{served} profiles have a token: {codes:?}")),
        None => Ok(()),
    }
}
