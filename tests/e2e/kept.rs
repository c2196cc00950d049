//! A session's life in a real keychain, by the program: kept there and nowhere else, and exit 7 within five seconds
//! wherever the keychain is locked, gone or silent.

use std::path::Path;
use std::time::{Duration, Instant};

use authctl::dev_issuer::DevIssuer;

use crate::keyring::{Keyring, SilentBus};
use crate::support::{self, CommandOutput, Sandbox};

/// Within this the program says that the keychain is out of order, whatever is wrong with it.
const PROMISE: Duration = Duration::from_secs(5);

fn home_at(address: &str) -> Sandbox {
    let mut home = Sandbox::with_store("keychain");
    home.set("DBUS_SESSION_BUS_ADDRESS", address);
    home
}

/// A home that is logged in as `work`, its session in a keyring.
fn logged_in() -> (Sandbox, Keyring, DevIssuer) {
    let (keyring, issuer) = (Keyring::start(), support::issuer(|_| {}));
    let home = home_at(keyring.address());
    home.log_in("work", &issuer);
    home.token("work");
    (home, keyring, issuer)
}

fn lookup(keyring: &Keyring, profile: &str) -> Option<serde_json::Value> {
    let found = keyring.secret_tool(&["lookup", "service", "authctl", "username", profile], b"");
    found.status.success().then(|| serde_json::from_slice(&found.stdout).expect("a session"))
}

/// Every file below `dir`, with what is in it.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable").flatten() {
        if entry.file_type().expect("a type").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path().display().to_string(), std::fs::read(entry.path()).expect("readable")));
        }
    }
    found
}

/// Fails the test where a file of this home holds a secret, or a session however well sealed.
#[track_caller]
fn nothing_in_files(home: &Sandbox) {
    let secrets = home.secrets();
    for (path, content) in files(home.path()) {
        assert!(!path.contains("/sessions/"), "a session in {path}");
        for extension in [".age", ".key"] {
            assert!(!path.ends_with(extension), "{path}");
        }
        for secret in &secrets {
            let held = content.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!held, "a secret in {path}");
        }
    }
}

/// Each command that needs the session exits 7 within the promise, with this word for it and a hint of what to do.
#[track_caller]
fn refuses(home: &Sandbox, issuer: &DevIssuer, code: &str, hint: &str) {
    let begun = issuer.stats().requests;
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--password", "--json"];
    let login = [&login[..], &["--username", support::USER, "--password-stdin"]].concat();
    let commands: [(&[&str], &str); 5] = [
        (&["token", "work", "--json"], ""),
        (&["refresh", "work", "--json"], ""),
        (&["verify", "work", "--json"], ""),
        (&["exec", "work", "--json", "--", "true"], ""),
        (&login, support::PASSWORD),
    ];
    for (args, stdin) in commands {
        let started = Instant::now();
        let ran: CommandOutput = home.run_with(args, stdin).exits(7);
        assert!(started.elapsed() < PROMISE, "{args:?} took {:?}", started.elapsed());
        assert_eq!((ran.error()["code"].as_str(), ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
        assert!(ran.error()["hint"].to_string().contains(hint), "{}", ran.stderr);
    }
    assert_eq!(issuer.stats().requests, begun, "nobody was asked for what could not be kept");
    nothing_in_files(home);
}

#[test]
fn a_session_lives_in_the_keychain_and_nowhere_else() {
    let (home, keyring, issuer) = logged_in();
    let token = home.token("work");
    let all = keyring.secret_tool(&["search", "--all", "service", "authctl"], b"").stdout;
    let all = String::from_utf8_lossy(&all);
    let labels: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("label = authctl: ")).collect();
    let (records, sessions): (Vec<&str>, Vec<&str>) = labels.iter().partition(|label| label.starts_with('@'));
    assert_eq!(sessions, ["work"], "one item for one session");
    assert_eq!(records.len(), 2, "the time, and what is trusted of the issuer: {records:?}");
    let kept = lookup(&keyring, "work").expect("kept");
    assert_eq!(kept["tokens"]["access_token"], token.as_str());
    let refresh_token = kept["tokens"]["refresh_token"].as_str().expect("a refresh token").to_owned();
    home.register_secret(&refresh_token);
    home.run(&["verify", "work"]).exits(0);
    let status = home.run(&["status", "work", "--json"]).exits(0);
    assert!(status.stdout.contains("keychain item `authctl: work`"), "{}", status.stdout);

    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), token);
    let refreshed = lookup(&keyring, "work").expect("kept");
    assert_ne!(refreshed["tokens"]["refresh_token"], refresh_token.as_str());
    home.register_secret(refreshed["tokens"]["refresh_token"].as_str().expect("a refresh token"));
    nothing_in_files(&home);

    home.run(&["logout", "work"]).exits(0);
    assert_eq!(lookup(&keyring, "work"), None);
    assert_eq!(issuer.stats().families_revoked, 1);
    home.run(&["token", "work"]).exits(3);
    nothing_in_files(&home);
}

#[test]
fn the_daemon_may_be_started_anew() {
    let (home, mut keyring, _issuer) = logged_in();
    let token = home.token("work");
    keyring.kill_daemon();
    keyring.start_daemon(true);
    assert_eq!(home.token("work"), token);
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn a_locked_keychain() {
    let (home, keyring, issuer) = logged_in();
    keyring.lock();
    refuses(&home, &issuer, "store_locked", "unlock the keychain");
}

#[test]
fn a_locked_keychain_whose_prompt_nobody_answers() {
    let (home, keyring, issuer) = logged_in();
    keyring.ignore_prompts();
    keyring.lock();
    refuses(&home, &issuer, "store_locked", "unlock the keychain");
}

#[test]
fn a_locked_keychain_that_has_nothing_of_the_profile_yet() {
    for prompter in [false, true] {
        let (home, keyring, issuer) = logged_in();
        if prompter {
            keyring.ignore_prompts();
        }
        keyring.lock();
        let requests = issuer.stats().requests;
        let login = ["login", "new", "--issuer", issuer.issuer(), "--client-id", "authctl", "--password", "--json"];
        let login = [&login[..], &["--username", support::USER, "--password-stdin"]].concat();
        let started = Instant::now();
        let ran = home.run_with(&login, support::PASSWORD).exits(7);
        assert!(started.elapsed() < PROMISE, "{:?}", started.elapsed());
        assert_eq!(ran.error()["code"], "store_locked");
        assert_eq!(issuer.stats().requests, requests, "told before anybody signs in");
        nothing_in_files(&home);
    }
}

#[test]
fn a_daemon_that_was_killed_and_a_bus_that_was() {
    let (home, mut keyring, issuer) = logged_in();
    keyring.kill_daemon();
    refuses(&home, &issuer, "store_absent", "--store file");
    keyring.kill_bus();
    refuses(&home, &issuer, "store_absent", "--store file");
}

#[test]
fn no_bus_at_all() {
    let (mut home, _keyring, issuer) = logged_in();
    home.set("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    refuses(&home, &issuer, "store_absent", "--store file");
    home.unset("DBUS_SESSION_BUS_ADDRESS");
    refuses(&home, &issuer, "store_absent", "--store file");
}

#[test]
fn a_bus_that_never_answers() {
    let (mut home, _keyring, issuer) = logged_in();
    let bus = SilentBus::start();
    home.set("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let started = Instant::now();
    let ran = home.run(&["token", "work", "--json"]).exits(7);
    assert!(started.elapsed() < PROMISE, "{:?}", started.elapsed());
    assert_eq!(ran.error()["code"], "store_timed_out");
    // A login asks before anybody signs in.
    let requests = issuer.stats().requests;
    let login = ["login", "new", "--issuer", issuer.issuer(), "--client-id", "authctl", "--device"];
    let started = Instant::now();
    home.run(&login).exits(7);
    assert!(started.elapsed() < PROMISE, "{:?}", started.elapsed());
    assert_eq!(issuer.stats().requests, requests);
    nothing_in_files(&home);
}

#[test]
fn many_at_a_bus_that_never_answers_do_not_wait_for_each_other() {
    let (mut home, _keyring, _issuer) = logged_in();
    let bus = SilentBus::start();
    home.set("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let args = ["token", "work", "--json"];
    let started = Instant::now();
    let all: Vec<_> = (0..8).map(|_| home.start(&args, "")).collect();
    for child in all {
        assert_eq!(home.finish(child, &args).exits(7).error()["code"], "store_timed_out");
    }
    assert!(started.elapsed() < PROMISE, "{:?}", started.elapsed());
}

#[test]
fn a_daemon_that_stands_still() {
    let (home, keyring, _issuer) = logged_in();
    keyring.stop_daemon();
    let started = Instant::now();
    let ran = home.run(&["token", "work", "--json"]).exits(7);
    assert!(started.elapsed() < PROMISE, "{:?}", started.elapsed());
    assert_eq!(ran.error()["code"], "store_timed_out");
    nothing_in_files(&home);
}

#[test]
fn an_item_of_another_tool_with_the_same_names_and_one_more() {
    let (home, keyring, _issuer) = logged_in();
    let token = home.token("work");
    let intruder = ["store", "--label=other", "service", "authctl", "username", "work", "application", "other"];
    assert!(keyring.secret_tool(&intruder, b"not a session").status.success());
    assert_eq!(home.token("work"), token);
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), token);
    home.run(&["logout", "work"]).exits(0);
    home.run(&["token", "work"]).exits(3);
}

#[test]
fn a_token_of_almost_a_mebibyte() {
    let (keyring, issuer) = (Keyring::start(), support::issuer(|_| {}));
    let home = home_at(keyring.address());
    let token = "x".repeat(1_000_000);
    home.register_secret(&token);
    let response = serde_json::json!({"access_token": token, "token_type": "Bearer", "expires_in": 300});
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--with-token"];
    home.run_with(&login, &response.to_string()).exits(0);
    assert!(home.run(&["token", "work"]).exits(0).line() == token, "it comes back whole");
    nothing_in_files(&home);
}

#[test]
fn pinned_keys_move_with_their_profile_to_another_store() {
    let (keyring, issuer) = (Keyring::start(), support::quick_issuer());
    let mut home = home_at(keyring.address());
    home.set("AUTHCTL_STORE", "file");
    home.log_in("work", &issuer);
    let (theirs, right) = (home.path().join("theirs.json"), home.path().join("right.json"));
    let other = serde_json::json!({"keys": [support::signing_keys::SigningKey::ed25519().jwk("k")]});
    std::fs::write(&theirs, other.to_string()).expect("written");
    std::fs::write(&right, support::login_pages::get(&issuer, "jwks")).expect("written");
    home.run(&["keys", "pin", "work", "--jwks", right.to_str().expect("text")]).exits(0);
    let login = ["login", "work", "--password", "--password-stdin", "--username", support::USER, "--store"];
    home.run_with(&[&login[..], &["keychain"]].concat(), support::PASSWORD).exits(0);
    let shown = home.run(&["keys", "show", "work", "--json"]).exits(0).json();
    assert_eq!(shown["pinned"]["source"], right.to_str().expect("text"));
    // What was pinned last counts, wherever it goes.
    home.run(&["keys", "pin", "work", "--jwks", theirs.to_str().expect("text")]).exits(0);
    home.run_with(&[&login[..], &["file"]].concat(), support::PASSWORD).exits(4).reports("ID token");
}

#[test]
fn pinned_keys_that_are_damaged_do_not_move_and_that_is_said() {
    let (keyring, issuer) = (Keyring::start(), support::quick_issuer());
    let mut home = home_at(keyring.address());
    home.set("AUTHCTL_STORE", "file");
    home.log_in("work", &issuer);
    let right = home.path().join("right.json");
    std::fs::write(&right, support::login_pages::get(&issuer, "jwks")).expect("written");
    home.run(&["keys", "pin", "work", "--jwks", right.to_str().expect("text")]).exits(0);
    let record = authctl::model::RecordName::of_issuer(&issuer.issuer().parse().expect("an issuer"));
    let file = home.session_file("work").with_file_name(format!("{}.age", record.as_str()));
    std::fs::write(&file, "junk").expect("written");
    let login = ["login", "work", "--password", "--password-stdin", "--username", support::USER, "--store", "keychain"];
    let quiet = [&login[..], &["--quiet"]].concat();
    home.run_with(&quiet, support::PASSWORD).exits(0).reports("pin again what was pinned");
    let shown = home.run(&["keys", "show", "work", "--json"]).exits(0).json();
    assert!(shown["pinned"].is_null() && shown["fetched"].is_object(), "{shown}");
}

#[test]
fn pinned_keys_in_a_keychain_that_is_locked_keep_their_profile_there() {
    let (keyring, issuer) = (Keyring::start(), support::quick_issuer());
    let home = home_at(keyring.address());
    home.log_in("work", &issuer);
    let right = home.path().join("right.json");
    std::fs::write(&right, support::login_pages::get(&issuer, "jwks")).expect("written");
    home.run(&["keys", "pin", "work", "--jwks", right.to_str().expect("text")]).exits(0);
    keyring.lock();
    let asked = issuer.stats().requests;
    let login = ["login", "work", "--password", "--password-stdin", "--username", support::USER, "--store", "file"];
    let refused = home.run_with(&login, support::PASSWORD).exits(7).reports("keys may be pinned in the keychain store");
    assert!(refused.stderr.contains("--jwks FILE"), "{}", refused.stderr);
    assert_eq!(issuer.stats().requests, asked, "told before anybody signs in");
    assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["store"], "keychain");
}
