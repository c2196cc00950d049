//! The order of storage operations, by their system calls: a file is durable before it gets its name, the directory before
//! anything is printed, and a refreshed session before its token.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

/// The system calls that matter here. Those with `?` do not exist on every platform.
const TRACED: &str = "trace=fsync,?rename,renameat,renameat2,?link,linkat,?unlink,unlinkat,write,writev,sendto,sendmsg";

/// A storage operation, a request or an output.
#[derive(Debug, PartialEq)]
enum Call {
    Written(String),
    Synced(String),
    Named { from: String, to: String },
    Removed(String),
    RefreshTokenSent,
    Printed,
}

/// Returns the calls below `home`, in the order in which they began.
fn parse(home: &Sandbox, lines: &[String]) -> Vec<Call> {
    let home = home.path().to_str().expect("text");
    let relative = |path: &str| path.strip_prefix(home).map(|path| path.trim_start_matches('/').to_owned());
    let call = |line: &String| {
        let (name, arguments) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        let quoted = || arguments.split('"').skip(1).step_by(2).filter_map(relative);
        let descriptor = || relative(arguments.split_once('<')?.1.split_once('>')?.0);
        match name {
            "fsync" => Some(Call::Synced(descriptor()?)),
            "write" | "writev" | "sendto" | "sendmsg" => match arguments.split('<').next() {
                Some("1" | "2") => Some(Call::Printed),
                _ if arguments.contains("refresh_token=") => Some(Call::RefreshTokenSent),
                _ => Some(Call::Written(descriptor()?)),
            },
            _ if name.starts_with("unlink") => Some(Call::Removed(quoted().next()?)),
            _ if name.starts_with("rename") || name.starts_with("link") => {
                let mut paths = quoted();
                Some(Call::Named { from: paths.next()?, to: paths.next()? })
            }
            _ => None,
        }
    };
    lines.iter().filter_map(call).collect()
}

fn directory_of(path: &str) -> String {
    path.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned()
}

/// Runs authctl, and fails the test unless all that it stored was durable before it stored the next, sent a refresh token,
/// printed anything or ended. Returns the calls.
#[track_caller]
fn run(home: &Sandbox, args: &[&str], stdin: &str) -> Vec<Call> {
    let (ran, lines) = home.run_traced(&["-y", "-s", "4096", "-e", TRACED], args, stdin);
    ran.exits(0);
    let calls = parse(home, &lines);
    let (mut files, mut dirs) = (BTreeSet::new(), BTreeSet::new());
    for call in &calls {
        let is_step = match call {
            Call::Written(file) => {
                files.insert(file.clone());
                false
            }
            Call::Synced(path) => {
                files.remove(path);
                dirs.remove(path);
                false
            }
            // A temporary file that is left behind does no harm.
            Call::Removed(file) => !file.ends_with(".next"),
            Call::Named { from, to } => {
                assert!(!files.contains(from), "{args:?}: {to} may be empty after a crash: {calls:#?}");
                true
            }
            Call::RefreshTokenSent | Call::Printed => true,
        };
        if !is_step {
            continue;
        }
        assert_eq!(dirs, BTreeSet::new(), "{args:?}: not durable before {call:?}: {calls:#?}");
        if let Call::Removed(file) | Call::Named { to: file, .. } = call {
            dirs.insert(directory_of(file));
        }
    }
    assert_eq!(dirs, BTreeSet::new(), "{args:?}: {calls:#?}");
    calls
}

/// Returns the places of the calls that give a file this name.
fn named<'a>(calls: &'a [Call], name: &'a str) -> impl Iterator<Item = usize> + 'a {
    calls
        .iter()
        .enumerate()
        .filter(move |(_, call)| matches!(call, Call::Named { to, .. } if to == name))
        .map(|(at, _)| at)
}

#[track_caller]
fn place_of(calls: &[Call], call: &Call) -> usize {
    calls.iter().position(|made| made == call).unwrap_or_else(|| panic!("no {call:?} in {calls:#?}"))
}

const SESSION: &str = "data/authctl/sessions/work.age";
const CONFIG: &str = "config/authctl/config.toml";

#[test]
fn stored_files_are_durable_before_anything_is_printed() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--password", "--username"];
    let calls = run(&home, &[&login[..], &[USER, "--password-stdin"]].concat(), PASSWORD);
    for name in [SESSION, CONFIG, "config/authctl/authctl.key", "data/authctl/sessions/@clock.age"] {
        assert!(named(&calls, name).next().is_some(), "{name}: {calls:#?}");
    }
    let calls = run(&home, &["profile", "set", "work", "max_offline=7d"], "");
    assert_eq!(named(&calls, CONFIG).count(), 1, "{calls:#?}");
    let calls = run(&home, &["logout", "work"], "");
    assert!(named(&calls, "data/authctl/revoked").next().is_some(), "{calls:#?}");
    place_of(&calls, &Call::Removed(SESSION.to_owned()));
}

#[test]
fn refreshed_session_is_durable_before_its_token_is_printed() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.advance_time("work", 301);
    let calls = run(&home, &["token", "work"], "");
    let (sent, printed) = (place_of(&calls, &Call::RefreshTokenSent), place_of(&calls, &Call::Printed));
    let stored: Vec<usize> = named(&calls, SESSION).collect();
    assert!(stored.iter().any(|at| *at < sent), "the start of the refresh is stored first: {calls:#?}");
    assert!(stored.iter().any(|at| (sent..printed).contains(at)), "the new session is stored: {calls:#?}");
    assert_eq!(home.status("work")["refreshing_since"], json!(null));
}

#[test]
fn renamed_profile_has_its_session_under_one_name_at_any_time() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let calls = run(&home, &["profile", "rename", "work", "home"], "");
    let copied = named(&calls, "data/authctl/sessions/home.age").next().expect("a copy");
    let renamed = named(&calls, CONFIG).next().expect("a changed configuration");
    let removed = place_of(&calls, &Call::Removed(SESSION.to_owned()));
    assert!(copied < renamed && renamed < removed, "{calls:#?}");
}
