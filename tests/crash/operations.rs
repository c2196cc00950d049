//! The operations that are interrupted, and what must hold afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use authctl::store::RevocationList;
use serde_json::Value;

use crate::injector::{Fault, Injector, Progress};
use crate::support::agent::Connection;
use crate::support::jwt::claims;
use crate::support::process::wait_until;
use crate::support::stepper;
use crate::support::{CommandOutput, PASSWORD, USER};
use crate::world::World;

/// What is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Refresh,
    AgentRefresh,
    FirstLogin,
    Login,
    LoginOtherIssuer,
    LoginOtherAccount,
    Logout,
    ProfileSet,
    ProfileRemove,
    ProfileRename,
    ProfileImport,
    PassphraseSet,
    PassphraseChange,
    PassphraseRemove,
    PassphraseForgotten,
}

pub const OPERATIONS: [Operation; 15] = [
    Operation::Refresh,
    Operation::AgentRefresh,
    Operation::FirstLogin,
    Operation::Login,
    Operation::LoginOtherIssuer,
    Operation::LoginOtherAccount,
    Operation::Logout,
    Operation::ProfileSet,
    Operation::ProfileRemove,
    Operation::ProfileRename,
    Operation::ProfileImport,
    Operation::PassphraseSet,
    Operation::PassphraseChange,
    Operation::PassphraseRemove,
    Operation::PassphraseForgotten,
];

/// What an interruption led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What is stored is old or new, and usable.
    Intact,
    /// The session is lost, which no program can prevent: the issuer has replaced the refresh token, and the program had not
    /// read the reply.
    NotReceived,
    /// The same, and the program had read the reply and not written it.
    NotWritten,
    /// What must not happen.
    Wrong(String),
}

/// One interrupted run.
#[derive(Debug)]
pub struct Trial {
    /// The call that was hit; `None` if the operation ended before.
    pub hit: Option<String>,
    pub counts: [usize; crate::injector::FAULTS.len()],
    pub outcome: Outcome,
    pub between: Vec<String>,
}

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

// After the macro that it uses.
pub mod passphrase;

/// What was there before.
pub struct Before {
    token: String,
    config: String,
    reuses: u64,
}

/// What the operation did.
pub struct Ran {
    /// Whether it reported success.
    reported_success: bool,
    /// Whether it reported an error, unlike a killed one.
    reported_failure: bool,
    progress: Progress,
    stderr: String,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::AgentRefresh => "refresh by the agent",
            Self::FirstLogin => "first login",
            Self::Login => "login again",
            Self::LoginOtherIssuer => "login to another issuer",
            Self::LoginOtherAccount => "login to another account",
            Self::Logout => "logout",
            Self::ProfileSet => "profile set",
            Self::ProfileRemove => "profile remove",
            Self::ProfileRename => "profile rename",
            Self::ProfileImport => "profile import",
            Self::PassphraseSet => "store passphrase",
            Self::PassphraseChange => "change of the store passphrase",
            Self::PassphraseRemove => "removal of the store passphrase",
            Self::PassphraseForgotten => "forgotten store passphrase",
        }
    }

    /// Returns the passphrases of the file store before and after the operation, if it is about them.
    pub fn passphrases(self) -> Option<[Option<&'static str>; 2]> {
        match self {
            Self::PassphraseSet => Some([None, Some(PASSPHRASE)]),
            Self::PassphraseChange | Self::PassphraseForgotten => Some([Some(PASSPHRASE), Some(OTHER_PASSPHRASE)]),
            Self::PassphraseRemove => Some([Some(PASSPHRASE), None]),
            _ => None,
        }
    }

    /// Returns the input of the command: passphrases, each on a line, or a password.
    pub fn stdin(self) -> String {
        match self.passphrases() {
            Some([_, Some(new)]) if self == Self::PassphraseForgotten => new.to_owned(),
            Some(passphrases) => passphrases.into_iter().flatten().collect::<Vec<_>>().join("\n"),
            None => PASSWORD.to_owned(),
        }
    }

    /// Returns whether the issuer's treatment of a refresh token that is used twice matters.
    pub fn refreshes(self) -> bool {
        matches!(self, Self::Refresh | Self::AgentRefresh)
    }

    /// Runs the operation in a world that is ready for it, with the fault at its `nth` call, and checks what it leaves.
    pub fn run(self, world: &mut World, fault: Option<(Fault, usize)>) -> Trial {
        let before = self.prepare(world);
        let armed = Arc::new(AtomicBool::new(self != Self::AgentRefresh));
        let injector = Injector::new(fault, Arc::clone(&armed));
        let (injector, ran) = match self {
            Self::AgentRefresh => refresh_by_agent(world, injector, &armed),
            _ => {
                let args = self.args(world);
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let (injector, stepped) = world.home.step(&args, &self.stdin(), injector);
                let (ok, failed) = (stepped.code == 0, stepped.code > 0);
                (injector, (ok, failed, stepped))
            }
        };
        let (reported_success, reported_failure, stepped) = ran;
        let (progress, stderr) = (injector.progress.clone(), stepped.stderr.clone());
        let ran = Ran { reported_success, reported_failure, progress, stderr };
        let checked = match fault {
            _ if stepped.code == stepper::HANGS => Err("it does not exit".into()),
            None if !reported_success => Err(format!("it failed by itself: {}", stepped.stderr.trim())),
            _ => self.check(world, &before, &ran, fault.is_none()),
        };
        let outcome = checked.unwrap_or_else(Outcome::Wrong);
        Trial { hit: injector.hit, counts: injector.counts, outcome, between: injector.progress.between }
    }

    /// Makes the world ready for the operation.
    pub fn prepare(self, world: &mut World) -> Before {
        let spare = world.home.path().join("spare.toml");
        if !spare.exists() {
            let store = if world.keyring.is_some() { "keychain" } else { "file" };
            std::fs::write(&spare, format!("{SPARE}store = \"{store}\"\n")).expect("written");
        }
        match self {
            Self::FirstLogin if world.config().contains("[profiles.work]") => {
                world.home.run(&["logout", "work"]).exits(0);
                for directory in ["config/authctl", "data/authctl", "run/authctl"] {
                    let _ = std::fs::remove_dir_all(world.home.path().join(directory));
                }
            }
            Self::FirstLogin => {}
            _ => world.get_ready(),
        }
        let has_spare = world.config().contains("[profiles.spare]");
        match self {
            Self::ProfileSet => {
                world.home.run(&["profile", "set", "work", "audience="]).exits(0);
            }
            Self::ProfileRemove if !has_spare => {
                world.home.run(&["profile", "import", "spare.toml"]).exits(0);
            }
            Self::ProfileImport if has_spare => {
                world.home.run(&["profile", "remove", "spare"]).exits(0);
            }
            _ => {}
        }
        let token = if self == Self::FirstLogin { String::new() } else { world.token("work").expect("a token") };
        if let Some([old, _]) = self.passphrases() {
            passphrase::prepare(world, old);
        }
        Before { token, config: world.config(), reuses: world.issuer.stats().refresh_reuses }
    }

    /// Returns the arguments of the command.
    pub fn args(self, world: &World) -> Vec<String> {
        let args = match self {
            Self::Refresh => vec!["refresh", "work"],
            Self::AgentRefresh => vec!["agent", "run"],
            Self::FirstLogin | Self::Login => World::login(&world.issuer, USER),
            Self::LoginOtherIssuer => World::login(&world.other, USER),
            Self::LoginOtherAccount => World::login(&world.issuer, "other"),
            Self::Logout => vec!["logout", "work"],
            Self::ProfileSet => vec!["profile", "set", "work", "audience=https://api.example"],
            Self::ProfileRemove => vec!["profile", "remove", "spare"],
            Self::ProfileRename => vec!["profile", "rename", "work", "home"],
            Self::ProfileImport => vec!["profile", "import", "spare.toml"],
            Self::PassphraseSet | Self::PassphraseChange => vec!["store", "passphrase", "--passphrase-stdin"],
            Self::PassphraseRemove => vec!["store", "passphrase", "--remove", "--passphrase-stdin"],
            Self::PassphraseForgotten => vec!["store", "passphrase", "--forgotten", "--passphrase-stdin"],
        };
        args.into_iter().map(str::to_owned).collect()
    }

    fn check(self, world: &mut World, before: &Before, ran: &Ran, is_undisturbed: bool) -> Result<Outcome, String> {
        ensure!(RevocationList::open(&world.revoked_file()).is_ok(), "the revocation list is damaged");
        match self {
            Self::Refresh | Self::AgentRefresh => check_refresh(world, before, ran),
            Self::FirstLogin => check_first_login(world, ran),
            Self::Login | Self::LoginOtherAccount | Self::LoginOtherIssuer => self.check_login(world, before, ran),
            Self::Logout => check_logout(world, before, ran),
            Self::ProfileRename => check_rename(world, ran),
            Self::PassphraseSet | Self::PassphraseChange | Self::PassphraseRemove | Self::PassphraseForgotten => {
                passphrase::check(self, world, &before.token, ran)
            }
            Self::ProfileSet | Self::ProfileRemove | Self::ProfileImport => {
                let config = world.config();
                if is_undisturbed {
                    world.changed_config = Some(config.clone());
                }
                let is_new = world.changed_config.as_ref() == Some(&config);
                ensure!(is_new || config == before.config, "the configuration is neither old nor new: {config}");
                ensure!(is_new || !ran.reported_success, "success was reported, and the configuration is the old one");
                let token = world.token("work").map_err(|ran| format!("no token: {}", ran.stderr))?;
                ensure!(token == before.token, "another token");
                Ok(Outcome::Intact)
            }
        }
    }

    /// After a login over an existing session: one of them is usable, the new one if it was reported.
    fn check_login(self, world: &mut World, before: &Before, ran: &Ran) -> Result<Outcome, String> {
        let token = world.token("work").map_err(|ran| format!("no token: {}", ran.stderr))?;
        ensure!(world.is_active(&token), "the token is not active");
        let is_new = token != before.token;
        ensure!(is_new || !ran.reported_success, "success was reported, and the session is the old one");
        let shown = world.home.run(&["profile", "show", "work", "--json"]).exits(0).json();
        ensure!(shown["issuer"] == claims(&token)["iss"], "the profile is of another issuer than the token");
        ensure!(world.is_alive("work")?, "the session cannot be refreshed");
        world.is_ready = self == Self::Login || !is_new;
        Ok(Outcome::Intact)
    }
}

/// The passphrases of the file store: the first, and the one that replaces it.
const PASSPHRASE: &str = "a passphrase of the tests";
const OTHER_PASSPHRASE: &str = "another passphrase of the tests";

/// A profile without a session.
const SPARE: &str = "[profiles.spare]\nissuer = \"https://issuer.example\"\nclient_id = \"spare\"\n";

/// Starts an agent, lets it refresh the session, and stops it. Counts from the request to the end.
fn refresh_by_agent(world: &World, injector: Injector, armed: &AtomicBool) -> (Injector, (bool, bool, CommandOutput)) {
    let agent = stepper::start(world.home.stepped(&["agent", "run"]), injector);
    let socket = world.home.socket();
    let is_listening = || {
        let mut connection = Connection::to(&socket)?;
        connection.request("GET", "/v1/agent", &[], "");
        connection.response().filter(|response| response.status == 200)
    };
    wait_until("the agent", is_listening);
    let mut connection = Connection::to(&socket).expect("it listens");
    armed.store(true, Ordering::Release);
    let sent = connection.send("POST /v1/refresh/work HTTP/1.1\r\nHost: authctl\r\n\r\n");
    let status = if sent { connection.response().map(|response| response.status) } else { None };
    agent.terminate();
    let (injector, stepped) = agent.finish();
    (injector, (status == Some(200), status.is_some_and(|status| status != 200), stepped))
}

fn check_refresh(world: &mut World, before: &Before, ran: &Ran) -> Result<Outcome, String> {
    match world.token("work") {
        Ok(token) => {
            let is_new = token != before.token;
            ensure!(is_new || !ran.reported_success, "success was reported, and the session is the old one");
        }
        // A program that has not received the reply sends its request again, and the issuer ends the session.
        Err(failed) => ensure!(failed.code == 3, "the valid token is not served: {}", failed.stderr),
    }
    if world.is_alive("work")? {
        return Ok(Outcome::Intact);
    }
    world.is_ready = false;
    ensure!(world.strict, "the session is lost, although the issuer accepts the old refresh token");
    let was_replaced = world.issuer.stats().refresh_reuses > before.reuses;
    ensure!(was_replaced, "the session is lost, although its refresh token was not used");
    if !ran.progress.has_reply {
        return Ok(Outcome::NotReceived);
    }
    ensure!(!ran.progress.has_written, "the session is lost, although it was written");
    Ok(Outcome::NotWritten)
}

/// After a login to a new profile: it is usable, or the login can be repeated.
fn check_first_login(world: &mut World, ran: &Ran) -> Result<Outcome, String> {
    match world.token("work") {
        Ok(token) => ensure!(world.is_active(&token), "the token is not active"),
        Err(failed) => {
            ensure!(!ran.reported_success, "success was reported, and there is no token: {}", failed.stderr);
            ensure!([2, 3].contains(&failed.code), "exit code {}: {}", failed.code, failed.stderr);
        }
    }
    let status = world.home.run(&["status"]);
    ensure!([0, 2, 3].contains(&status.code), "status: exit code {}: {}", status.code, status.stderr);
    let again = world.home.run_with(&World::login(&world.issuer, USER), PASSWORD);
    ensure!(again.code == 0, "a login afterwards fails: {}", again.stderr);
    ensure!(world.is_alive("work")?, "the session cannot be refreshed");
    Ok(Outcome::Intact)
}

/// After a logout: no dead token is served or verified, and it can be repeated.
fn check_logout(world: &mut World, before: &Before, ran: &Ran) -> Result<Outcome, String> {
    world.is_ready = false;
    let keys = world.keys();
    let verify = || {
        let args = ["verify", "-", "--profile", "work", "--jwks", keys.to_str().expect("UTF-8")];
        let ran = world.home.run_with(&args, &before.token);
        match ran.code {
            4 => Ok(()),
            code => Err(format!("exit code {code} instead of a denial: {}{}", ran.stdout, ran.stderr)),
        }
    };
    let token = world.home.run(&["token", "work"]);
    if !world.is_active(&before.token) {
        ensure!(token.code == 3, "a dead token is served: exit code {}", token.code);
        ensure!(world.home.run(&["verify", "work"]).code == 3, "a dead session is verified");
        verify().map_err(|why| format!("a dead token is verified: {why}"))?;
    }
    ensure!([0, 3].contains(&token.code), "token: exit code {}: {}", token.code, token.stderr);
    ensure!(token.code == 3 || !ran.reported_success, "the token is served after a logout");
    let again = world.home.run(&["logout", "work"]);
    ensure!(again.code == 0, "the logout cannot be repeated: {}", again.stderr);
    ensure!(!world.is_active(&before.token) || ran.reported_failure, "the token is still active");
    verify().map_err(|why| format!("a token of a session that has ended is verified: {why}"))?;
    ensure!(world.home.run(&["token", "work"]).code == 3, "the session is still there");
    Ok(Outcome::Intact)
}

/// After a change of the name: the session is under the name that the configuration has.
fn check_rename(world: &mut World, ran: &Ran) -> Result<Outcome, String> {
    let listed = world.home.run(&["profile", "list", "--json"]).exits(0).json();
    let names: Vec<&str> =
        listed.as_array().into_iter().flatten().filter_map(|profile| profile["profile"].as_str()).collect();
    let (old, new) = (names.contains(&"work"), names.contains(&"home"));
    ensure!(old != new, "the profiles are {names:?}: {}", Value::from(names.clone()));
    ensure!(new || !ran.reported_success, "success was reported, and the name is the old one");
    let name = if new { "home" } else { "work" };
    let token = world.token(name).map_err(|ran| format!("no token: {}", ran.stderr))?;
    ensure!(world.is_active(&token), "the token is not active");
    ensure!(world.is_alive(name)?, "the session cannot be refreshed");
    if old {
        let again = world.home.run(&["profile", "rename", "work", "home"]);
        ensure!(again.code == 0, "it cannot be repeated: {}", again.stderr);
    }
    ensure!(world.is_alive("home")?, "the renamed session cannot be refreshed");
    let back = world.home.run(&["profile", "rename", "home", "work"]);
    ensure!(back.code == 0, "it cannot be renamed again: {}", back.stderr);
    Ok(Outcome::Intact)
}
