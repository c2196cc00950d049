//! What is stored after an error or a crash in the middle of a login or logout: no session is lost, and no dead one is
//! served.

use std::fs;
use std::path::{Path, PathBuf};

use authctl::dev_issuer::DevIssuer;
use authctl::model::PinnedKeys;
use nix::libc;

use crate::support::agent::Agent;
use crate::support::http::get;
use crate::support::process::wait_until;
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

/// The arguments of a login to `work` by password.
fn login<'a>(issuer: &'a DevIssuer, more: &[&'a str]) -> Vec<&'a str> {
    login_as("work", issuer, more)
}

/// The same to any profile.
fn login_as<'a>(profile: &'a str, issuer: &'a DevIssuer, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["login", profile, "--issuer", issuer.issuer(), "--client-id", "authctl", "--password"];
    [&args[..], &["--username", USER, "--password-stdin"], more].concat()
}

/// The options of strace that inject `fault` into each call of `call` that names `path`.
fn on<'a>(path: &'a Path, fault: &'a str) -> [&'a str; 4] {
    ["-P", path.to_str().expect("UTF-8"), "-e", fault]
}

fn is_active(issuer: &DevIssuer, token: &str) -> bool {
    get(&format!("{}/userinfo", issuer.issuer()), &[&format!("Authorization: Bearer {token}")]).0 == 200
}

fn config_directory(home: &Sandbox) -> PathBuf {
    home.config_file().parent().expect("a directory").to_owned()
}

/// Kills a login when it has stored the session and begins to save the profile. It makes the directory of the configuration
/// once before, to see whether it can be written.
const KILL_BEFORE_SAVING: &str = "inject=mkdir:signal=KILL:when=2";

/// Returns a home with the session `work` at the first issuer, and a login to the second one killed before it is saved.
fn home_with_an_interrupted_login(issuer: &DevIssuer, other: &DevIssuer) -> (Sandbox, String) {
    let home = Sandbox::new();
    home.log_in("work", issuer);
    let token = home.token("work");
    let directory = config_directory(&home);
    let kill = on(&directory, KILL_BEFORE_SAVING);
    home.run_traced(&kill, &login(other, &["--replace"]), PASSWORD).0.exits(-1);
    (home, token)
}

/// Verifies a token with the issuer's keys, which `keys` has.
fn verify(home: &Sandbox, keys: &Path, token: &str) -> i32 {
    home.run_with(&["verify", "-", "--profile", "work", "--jwks", keys.to_str().unwrap()], token).code
}

#[test]
fn failed_sync_during_a_login_leaves_a_working_session() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let sessions = home.path().join("data/authctl/sessions");
    for error in ["EIO", "ENOSPC"] {
        // The directory's, after the new session is in its place.
        let fault = format!("inject=fsync:error={error}");
        let (ran, calls) = home.run_traced(&on(&sessions, &fault), &login(&issuer, &[]), PASSWORD);
        ran.exits(0);
        assert!(calls.iter().any(|call| call.contains("(INJECTED)")), "{calls:?}");
        home.run(&["refresh", "work"]).exits(0);
        for nth in 1..=4 {
            let fault = format!("inject=fsync:error={error}:when={nth}");
            home.run_traced(&["-e", &fault], &login(&issuer, &[]), PASSWORD);
            // Either the new session is in use or the old one.
            home.run(&["refresh", "work"]).exits(0);
            home.run(&["verify", "work"]).exits(0);
        }
    }
}

#[test]
fn too_many_open_files_during_a_login_leave_a_working_session() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let sessions = home.path().join("data/authctl/sessions");
    for nth in 1..=6 {
        let fault = format!("inject=openat:error=EMFILE:when={nth}");
        home.run_traced(&on(&sessions, &fault), &login(&issuer, &[]), PASSWORD);
        home.run(&["refresh", "work"]).exits(0);
    }
}

#[test]
fn failed_write_of_the_configuration_restores_session_and_pinned_keys() {
    let (home, issuer, other) = (Sandbox::new(), quick_issuer(), quick_issuer());
    home.log_in("work", &issuer);
    let keys = home.path().join("keys.json");
    fs::write(&keys, home.trust(&issuer).fetched.expect("fetched").jwks).unwrap();
    let pin = ["--scope", "openid offline_access", "--jwks", keys.to_str().unwrap()];
    let directory = config_directory(&home);
    let fault = on(&directory, "inject=mkdir:error=EIO:when=2");
    home.run_traced(&fault, &login(&issuer, &pin), PASSWORD).0.exits(2).reports("config.toml");
    assert_eq!(home.trust(&issuer).pinned, None);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(issuer.stats().families_revoked, 1, "the new tokens are revoked");
    // Keys that were pinned before stay pinned.
    home.run(&["keys", "pin", "work", "--jwks", keys.to_str().unwrap()]).exits(0);
    let pinned = home.trust(&issuer).pinned;
    assert!(matches!(&pinned, Some(PinnedKeys { source, .. }) if source.ends_with("keys.json")), "{pinned:?}");
    let copy = home.path().join("copy.json");
    fs::copy(&keys, &copy).unwrap();
    let pin = ["--scope", "openid", "--jwks", copy.to_str().unwrap()];
    home.run_traced(&fault, &login(&issuer, &pin), PASSWORD).0.exits(2);
    assert_eq!(home.trust(&issuer).pinned, pinned);
    home.run_traced(&fault, &login(&other, &["--replace"]), PASSWORD).0.exits(2);
    home.run(&["verify", "work"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn login_that_saves_nothing_needs_no_writable_configuration() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.run(&["profile", "set", "work", "grant=device"]).exits(0);
    let before = fs::read_to_string(home.config_file()).unwrap();
    let (token, directory) = (home.token("work"), config_directory(&home));
    let read_only = on(&directory, "inject=mkdir:error=EROFS");
    // Another grant than the configured one, which would be saved.
    home.run_traced(&read_only, &login(&issuer, &[]), PASSWORD).0.exits(0);
    assert_ne!(home.token("work"), token);
    let tokens = issuer.stats().token_requests;
    let changed = login(&issuer, &["--scope", "openid"]);
    home.run_traced(&read_only, &changed, PASSWORD).0.exits(2).reports("config.toml");
    assert_eq!(issuer.stats().token_requests, tokens, "refused before the sign-in");
    assert_eq!(fs::read_to_string(home.config_file()).unwrap(), before);
}

#[test]
fn bind_mounted_configuration_is_reported_before_the_sign_in() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let script = format!("mount --bind {0} {0} && exec \"$0\" \"$@\"", home.config_file().display());
    let run = |args: &[&str]| home.mounted(&script, args, PASSWORD);
    run(&login(&issuer, &[])).exits(0);
    let tokens = issuer.stats().token_requests;
    let changed = login(&issuer, &["--scope", "openid"]);
    run(&changed).exits(2).reports("is a mount point").reports("mount the directory");
    assert_eq!(issuer.stats().token_requests, tokens, "refused before the sign-in");
    run(&["profile", "set", "work", "audience=https://api.example"]).exits(2).reports("mount the directory");
    home.run(&["refresh", "work"]).exits(0);
}

/// As a configuration that a package manager generates.
#[test]
fn link_into_a_read_only_directory_is_reported_before_the_sign_in() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let generated = home.path().join("generated");
    fs::create_dir(&generated).unwrap();
    fs::rename(home.config_file(), generated.join("config.toml")).unwrap();
    std::os::unix::fs::symlink(generated.join("config.toml"), home.config_file()).unwrap();
    let before = fs::read_to_string(home.config_file()).unwrap();
    let script =
        format!("mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec \"$0\" \"$@\"", generated.display());
    let run = |args: &[&str]| home.mounted(&script, args, PASSWORD);
    let tokens = || issuer.stats().token_requests;
    // Nothing is saved.
    run(&login(&issuer, &[])).exits(0);
    let sent = tokens();
    let reason = format!("it links to {}/config.toml: ", generated.display());
    for changed in [login(&issuer, &["--scope", "openid"]), login_as("new", &issuer, &[])] {
        run(&changed).exits(2).reports(&reason).reports("AUTHCTL_CONFIG=~/authctl.toml");
    }
    assert_eq!(tokens(), sent, "refused before the sign-in");
    for args in [
        &["profile", "set", "work", "audience=api"][..],
        &["profile", "rename", "work", "home"],
        &["profile", "use", "work"],
    ] {
        run(args).exits(2).reports(&reason);
    }
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(fs::read_to_string(home.config_file()).unwrap(), before);
    assert!(fs::symlink_metadata(home.config_file()).unwrap().is_symlink());
    // Where the directory is writable, the change is made where the link leads.
    home.run(&["profile", "set", "work", "audience=api"]).exits(0);
}

#[test]
fn login_to_another_issuer_killed_before_it_is_saved_keeps_the_session() {
    let (issuer, other) = (quick_issuer(), quick_issuer());
    let (home, before) = home_with_an_interrupted_login(&issuer, &other);
    assert_eq!(home.token("work"), before);
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), before);
    // Killed after it is saved: the new session is used.
    let directory = config_directory(&home);
    let kill = on(&directory, "inject=fsync:signal=KILL");
    home.run_traced(&kill, &login(&other, &["--replace"]), PASSWORD).0.exits(-1);
    assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["issuer"], other.issuer());
    assert!(is_active(&other, &home.token("work")));
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["logout", "work"]).exits(0);
    home.run(&["token", "work"]).exits(3);
}

#[test]
fn logout_after_an_interrupted_login_ends_both_sessions() {
    let (issuer, other) = (quick_issuer(), quick_issuer());
    let (home, token) = home_with_an_interrupted_login(&issuer, &other);
    let keys = home.path().join("keys.json");
    fs::write(&keys, home.trust(&issuer).fetched.expect("fetched").jwks).unwrap();
    assert_eq!(verify(&home, &keys, &token), 0);
    home.run(&["logout", "work"]).exits(0);
    assert!(!is_active(&issuer, &token));
    assert_eq!(verify(&home, &keys, &token), 4);
    assert_eq!((issuer.stats().families_revoked, other.stats().families_revoked), (1, 1));
    assert!(home.sessions().is_empty());
}

/// The calls of a logout that change something here or at the issuer, and the last one.
const STEPS: &[i64] = &[
    libc::SYS_rename,
    libc::SYS_fsync,
    libc::SYS_unlink,
    libc::SYS_utimensat,
    libc::SYS_writev,
    libc::SYS_flock,
    libc::SYS_exit_group,
];

/// Kills a logout before this step. Returns whether it had so many: one that waits for a lock has more.
fn log_out_killed(home: &Sandbox, nth: usize) -> bool {
    let (ran, begun) = home.run_killed(STEPS, nth, &["logout", "work"], "");
    let is_killed = begun >= nth;
    ran.exits(if is_killed { -1 } else { 0 });
    is_killed
}

#[test]
fn killed_logout_serves_no_dead_token_and_can_be_repeated() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let keys = home.path().join("keys.json");
    fs::write(&keys, home.trust(&issuer).fetched.expect("fetched").jwks).unwrap();
    let (ran, steps) = home.run_killed(STEPS, 0, &["logout", "work"], "");
    ran.exits(0);
    let mut dead = 0;
    for nth in 1..=steps {
        home.log_in("work", &issuer);
        let token = home.token("work");
        if !log_out_killed(&home, nth) {
            break;
        }
        if !is_active(&issuer, &token) {
            dead += 1;
            home.run(&["token", "work"]).exits(3);
            home.run(&["exec", "work", "--", "true"]).exits(3);
            home.run(&["verify", "work"]).exits(3);
            assert_eq!(verify(&home, &keys, &token), 4, "{nth}");
        }
        home.run(&["logout", "work"]).exits(0);
        assert!(!is_active(&issuer, &token), "{nth}");
        assert_eq!(verify(&home, &keys, &token), 4, "{nth}");
        assert!(!home.session_file("work").exists(), "{nth}");
    }
    // Both tokens are revoked, and the session is deleted, durably, with a mark.
    assert!(steps >= 12 && dead >= 4, "{steps} steps, {dead} of them after the revocation");
}

#[test]
fn unwritable_revocation_list_leaves_the_logout_repeatable() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let token = home.token("work");
    let keys = home.path().join("keys.json");
    fs::write(&keys, home.trust(&issuer).fetched.expect("fetched").jwks).unwrap();
    let data = home.path().join("data/authctl");
    home.run_traced(&on(&data, "inject=openat:error=EROFS"), &["logout"], "").0.exits(7).reports("revoked tokens");
    assert!(is_active(&issuer, &token), "nothing is revoked before");
    home.run(&["token"]).exits(3);
    home.run(&["logout"]).exits(0).reports("logged out of work; tokens revoked");
    assert!(!is_active(&issuer, &token));
    assert_eq!(verify(&home, &keys, &token), 4);
    home.run(&["logout"]).exits(0).reports("not logged in");
}

#[test]
fn agent_stops_serving_when_a_logout_is_killed() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let agent = Agent::run(&home);
    let (ran, steps) = home.run_killed(STEPS, 0, &["logout", "work"], "");
    ran.exits(0);
    let mut ended = 0;
    for nth in 1..=steps {
        home.log_in("work", &issuer);
        wait_until("the login", || (agent.get("/v1/token").status == 200).then_some(()));
        if !log_out_killed(&home, nth) {
            break;
        }
        if !home.session_file("work").exists() || home.session("work").logged_out {
            ended += 1;
            wait_until("the logout", || (agent.get("/v1/token").status == 401).then_some(()));
        } else {
            agent.get("/v1/token").token();
        }
    }
    assert!(ended + 6 >= steps, "{ended} of {steps} kills after the beginning of the logout");
}
