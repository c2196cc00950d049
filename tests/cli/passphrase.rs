//! The file store with a passphrase: what locks it, what unlocks it, and what an attacker without the passphrase gets.

use std::fs;

use authctl::dev_issuer::DevIssuer;
use authctl::store::ProfileLock;
use nix::libc;
use serde_json::json;

use crate::support::agent::Agent;
use crate::support::process::wait_until;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER, contains, quick_issuer};

const PASSPHRASE: &str = "a passphrase of the tests";
const PROMPT: &str = "Passphrase of the file store: ";

/// Logs in to `name` with the passphrase on stdin.
#[track_caller]
fn log_in(home: &Sandbox, name: &str, issuer: &DevIssuer, passphrase: &str) -> CommandOutput {
    let login =
        ["login", name, "--issuer", issuer.issuer(), "--client-id", "authctl", "--password", "--username", USER];
    let stdin = ["--password-stdin", "--passphrase", "--passphrase-stdin"];
    home.run_with(&[&login[..], &stdin].concat(), &format!("{passphrase}\n{PASSWORD}\n"))
}

/// Returns a home with the sessions `work` and `other` in a file store with a passphrase.
fn locked() -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.register_secret(PASSPHRASE);
    log_in(&home, "work", &issuer, PASSPHRASE).exits(0);
    log_in(&home, "other", &issuer, PASSPHRASE).exits(0);
    (home, issuer)
}

fn token(home: &Sandbox, name: &str, passphrase: &str) -> CommandOutput {
    home.run_with(&["token", name, "--passphrase-stdin"], &format!("{passphrase}\n"))
}

/// Runs `store passphrase` with these lines on stdin.
fn change(home: &Sandbox, options: &[&str], lines: &str) -> CommandOutput {
    home.run_with(&[&["store", "passphrase", "--passphrase-stdin"], options].concat(), lines)
}

/// The commands that need a session, its keys or its tokens.
const READERS: [&[&str]; 8] = [
    &["token", "work"],
    &["token", "work", "--id-token"],
    &["token", "work", "--min-ttl", "1h"],
    &["refresh", "work"],
    &["exec", "--profile", "work", "--", "true"],
    &["whoami", "work"],
    &["logout", "work"],
    &["profile", "rename", "work", "renamed"],
];

#[test]
fn passphrase_from_a_file_of_windows_is_the_typed_one() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    log_in(&home, "work", &issuer, &format!("\u{feff}{PASSPHRASE}\r")).exits(0);
    token(&home, "work", PASSPHRASE).exits(0);
}

#[test]
fn nothing_is_read_without_the_passphrase() {
    let (home, _issuer) = locked();
    let secret = token(&home, "work", PASSPHRASE).exits(0).line().to_owned();
    home.register_secret(&secret);
    let before = fs::read(home.session_file("work")).unwrap();
    for args in READERS {
        let ran = home.run(&[&["--json"], args].concat()).exits(8);
        let error = ran.error();
        assert_eq!(error["code"], "passphrase_required", "{args:?}: {error}");
        assert_eq!((ran.stdout.as_str(), error["hint"].as_str()), ("", Some("authctl agent start")), "{args:?}");
    }
    for args in &READERS[5..] {
        let ran = home.run_with(&[*args, &["--json", "--passphrase-stdin"]].concat(), "wrong\n").exits(8);
        assert_eq!(ran.error()["code"], "wrong_passphrase", "{args:?}");
    }
    assert_eq!(
        home.run(&["status", "--json"]).exits(8).json()["profiles"][0]["problem"]["code"],
        "passphrase_required"
    );
    assert!(fs::read(home.session_file("work")).unwrap() == before, "no command has changed the session");
    for (file, bytes) in home.files() {
        assert!(!contains(&bytes, b"AGE-SECRET-KEY") && !contains(&bytes, secret.as_bytes()), "{}", file.display());
    }
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn commands_work_with_the_passphrase_on_stdin() {
    let (home, issuer) = locked();
    home.run_with(&["refresh", "work", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0);
    assert_eq!(issuer.stats().refreshes_committed, 1);
    // What follows the passphrase is the program's.
    let script = ["exec", "work", "--passphrase-stdin", "--", "sh", "-c", "read -r line; test \"$line\" = rest"];
    home.run_with(&script, &format!("{PASSPHRASE}\nrest\n")).exits(0);
    home.run_with(&["logout", "work", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0);
    assert!(!home.session_file("work").exists());
    token(&home, "other", PASSPHRASE).exits(0);
    home.run(&["token", "work"]).exits(3);
}

#[test]
fn tool_that_wants_a_token_at_a_terminal_gets_an_error_and_no_prompt() {
    let (home, _issuer) = locked();
    for helper in [&["helper", "kubernetes", "--profile", "work"][..], &["helper", "google", "--profile", "work"]] {
        let shown = home.spawn_in_terminal(helper).wait();
        assert!(!shown.stdout.contains(PROMPT) && !shown.stderr.contains(PROMPT), "{helper:?}: {}", shown.stderr);
    }
}

#[test]
fn terminal_asks_for_the_passphrase_without_echo() {
    let (home, _issuer) = locked();
    let mut asked = home.spawn_in_terminal(&["token", "work"]);
    asked.reports(PROMPT);
    asked.type_text(&format!("{PASSPHRASE}\r"));
    asked.wait().exits(0).reports("ey");
    let mut asked = home.spawn_in_terminal(&["logout", "--all"]);
    asked.reports(PROMPT);
    asked.type_text("not it\r");
    let ran = asked.wait().exits(8).reports("wrong passphrase");
    assert_eq!(ran.stderr.matches(PROMPT).count(), 1, "asked once: {}", ran.stderr);
    for stop in ["\u{3}", "\u{4}"] {
        let before = home.files().len();
        for args in [&["token", "work"][..], &["keys", "show", "work"], &["store", "passphrase"]] {
            let mut asked = home.spawn_in_terminal(args);
            asked.reports(PROMPT);
            asked.type_text(stop);
            // `wait` checks that the echo is on again.
            asked.wait().exits(if stop == "\u{3}" { 130 } else { 8 });
        }
        assert_eq!(home.files().len(), before, "nothing is left");
    }
    home.run(&["token", "work", "--no-input"]).exits(8);
    for args in [&["status"][..], &["doctor", "work"]] {
        let shown = home.spawn_in_terminal(args).wait();
        assert!(!shown.stderr.contains(PROMPT), "it does not ask: {}", shown.stderr);
    }
}

#[test]
fn login_locks_the_sessions_of_all_profiles() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.register_secret(PASSPHRASE);
    home.log_in("work", &issuer);
    let key = fs::read(home.key_file()).unwrap();
    log_in(&home, "other", &issuer, PASSPHRASE).exits(0).reports("all sessions of the file store");
    for name in ["work", "other"] {
        home.run(&["token", name]).exits(8);
        token(&home, name, PASSPHRASE).exits(0);
    }
    // The key that was readable does not decrypt the session any more.
    let old = home.path().join("old.key");
    fs::write(&old, key).unwrap();
    let store = authctl::store::FileStore::new(
        home.path().join("data/authctl/sessions"),
        authctl::store::KeySource::Default(old.clone()),
    );
    fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let error = authctl::store::Store::read(&store, &"work".parse().unwrap()).unwrap_err();
    assert!(matches!(error, authctl::store::StoreError::Damaged { .. }), "{error}");
    log_in(&home, "third", &issuer, "wrong").exits(8).reports("wrong passphrase");
    home.run(&["token", "third"]).exits(2);
}

#[test]
fn login_with_a_passphrase_needs_one_and_the_file_store() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--device", "--passphrase"];
    home.run(&login).exits(8).reports("passphrase is required");
    home.run_with(&[&login[..], &["--passphrase-stdin"]].concat(), "\n").exits(2).reports("no new passphrase on stdin");
    let long = "x".repeat(1025);
    home.run_with(&[&login[..], &["--passphrase-stdin"]].concat(), &long).exits(2).reports("1 to 1024 bytes");
    home.run(&[&login[..], &["--store", "keychain"]].concat()).exits(2).reports("--store file");
    assert!(!home.key_file().exists() && !home.config_file().exists());
    let mut asked = home.spawn_in_terminal(&login);
    asked.reports("New passphrase: ");
    asked.type_text("one\r");
    asked.reports("Repeat passphrase: ");
    asked.type_text("two\r");
    asked.wait().exits(2).reports("differ");
    let mut asked = home.spawn_in_terminal(&login);
    asked.reports("New passphrase: ");
    asked.type_text("one\r");
    asked.reports("Repeat passphrase: ");
    asked.type_text("\x04");
    asked.wait().exits(8).reports("no passphrase was entered");
    assert!(!home.key_file().exists());
    let (mut home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.set("AUTHCTL_KEY_FILE", home.key_file());
    change(&home, &[], "a\n").exits(7).reports("key file that you provide");
}

#[test]
fn changed_passphrase_is_the_only_one_that_unlocks() {
    let (home, issuer) = locked();
    home.register_secret("second");
    let sealed = |name: &str| fs::read(home.session_file(name)).unwrap();
    let before = (sealed("work"), fs::read(home.key_file()).unwrap());
    change(&home, &[], "wrong\nsecond\n").exits(8).reports("wrong passphrase");
    change(&home, &[], &format!("{PASSPHRASE}\n")).exits(2).reports("no new passphrase");
    assert!((sealed("work"), fs::read(home.key_file()).unwrap()) == before, "nothing has changed");
    change(&home, &[], &format!("{PASSPHRASE}\nsecond\n")).exits(0).reports("passphrase changed");
    assert!(sealed("work") != before.0, "encrypted to the new key");
    for name in ["work", "other"] {
        token(&home, name, PASSPHRASE).exits(8);
        token(&home, name, "second").exits(0);
    }
    home.run_with(&["refresh", "work", "--passphrase-stdin"], "second\n").exits(0);
    change(&home, &["--remove"], "second\n").exits(0);
    home.run(&["token", "work"]).exits(0);
    home.run(&["refresh", "other"]).exits(0);
    assert_eq!(issuer.stats().refreshes_committed, 2);
    change(&home, &["--remove"], "").exits(2).reports("has no passphrase");
}

#[test]
fn forgotten_passphrase_is_a_new_login() {
    let (home, issuer) = locked();
    let ran = token(&home, "work", "forgotten").exits(8);
    ran.reports("authctl store passphrase --forgotten");
    change(&home, &["--forgotten"], "second\n").exits(0).reports("log in again");
    assert_eq!(home.sessions(), Vec::<std::path::PathBuf>::new());
    home.run(&["token", "work"]).exits(3);
    log_in(&home, "work", &issuer, "second").exits(0);
    home.run(&["token", "work"]).exits(8);
    token(&home, "work", "second").exits(0);
}

#[test]
fn forgotten_passphrase_reports_what_it_cannot_delete() {
    let (home, _issuer) = locked();
    let other = home.session_file("other");
    fs::remove_file(&other).unwrap();
    fs::create_dir(&other).unwrap();
    let ran = change(&home, &["--forgotten"], "second\n").exits(0);
    let ran = ran.reports("not deleted, and unreadable from now on: other\n").reports("passphrase set; log in again");
    assert!(!ran.stderr.contains("are deleted"), "{}", ran.stderr);
    assert!(!home.session_file("work").exists());
    // What is lost is reported with --quiet too.
    let quiet = change(&home, &["--forgotten", "--quiet"], "third\n").exits(0).stderr;
    assert_eq!(quiet, "warning: not deleted, and unreadable from now on: other\n");
}

#[test]
fn change_waits_for_a_refresh_in_flight() {
    let (home, _issuer) = locked();
    home.register_secret("second");
    let locks = home.path().join("data/authctl/locks");
    let lock = ProfileLock::try_acquire(&locks, &"work".parse().unwrap()).unwrap().expect("free");
    let mut changing = home.spawn(&["store", "passphrase", "--passphrase-stdin"]);
    changing.type_text(&format!("{PASSPHRASE}\nsecond\n"));
    wait_until("the change", || changing.has_lock_file_open("work").then_some(()));
    // The new passphrase holds already, and the refresh still writes its session.
    token(&home, "work", "second").exits(0);
    assert!(changing.is_running());
    drop(lock);
    changing.wait().exits(0);
    token(&home, "work", "second").exits(0);
}

#[test]
fn change_keeps_the_session_of_a_killed_refresh() {
    let (home, issuer) = locked();
    home.register_secret("second");
    // Killed when it has written the new session, and not replaced the earlier one.
    let refresh = ["refresh", "work", "--passphrase-stdin"];
    // The first writes that a refresh has begun.
    let (killed, _) = home.run_killed(&[libc::SYS_rename], 2, &refresh, &format!("{PASSPHRASE}\n"));
    killed.exits(-1);
    assert_eq!(issuer.stats().refreshes_committed, 1);
    let sessions = home.session_file("work").parent().unwrap().to_owned();
    let left =
        || fs::read_dir(&sessions).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().ends_with(".next"));
    assert_eq!(left().count(), 1, "the new session is beside the earlier one");
    change(&home, &[], &format!("{PASSPHRASE}\nsecond\n")).exits(0);
    assert_eq!(left().count(), 0);
    home.run_with(&refresh, "second\n").exits(0);
    assert_eq!(issuer.stats().refreshes_committed, 2, "by the new refresh token");
}

#[test]
fn killed_change_leaves_one_passphrase_for_all_sessions() {
    let (home, _issuer) = locked();
    let mut current = PASSPHRASE.to_owned();
    let mut changed = Vec::new();
    for nth in 2..=7 {
        let next = format!("passphrase {nth}");
        home.register_secret(&next);
        let lines = format!("{current}\n{next}\n");
        let args = ["store", "passphrase", "--passphrase-stdin"];
        // Writing the key file: its content is synced, it is renamed, its directory is synced. Then the sessions.
        home.run_killed(&[libc::SYS_fsync, libc::SYS_rename], nth, &args, &lines).0.exits(-1);
        let opens = |passphrase: &str| ["work", "other"].map(|name| token(&home, name, passphrase).code == 0);
        let is_new = opens(&next) == [true, true];
        assert_eq!(opens(&current), [!is_new, !is_new], "killed before call {nth}");
        changed.push(is_new);
        if is_new {
            current = next;
        }
    }
    assert_eq!(changed, [false, true, true, true, true, true]);
}

/// Runs `age` of the package in a terminal, and types each answer after its prompt.
fn age(home: &Sandbox, args: &[&str], answers: &[(&str, &str)]) -> CommandOutput {
    let mut age = home.spawn_program_in_terminal("age", args, 0);
    for (prompt, answer) in answers {
        age.reports(prompt);
        age.waits_without_echo();
        age.type_text(&format!("{answer}\r"));
    }
    age.wait().exits(0)
}

#[test]
fn age_decrypts_a_session_with_the_passphrase() {
    let (home, _issuer) = locked();
    let (key, session) = (home.key_file(), home.session_file("work"));
    let (key, session, plain) = (key.to_str().unwrap(), session.to_str().unwrap(), home.path().join("plain"));
    age(&home, &["-d", "-o", plain.to_str().unwrap(), "-i", key, session], &[("Enter passphrase", PASSPHRASE)]);
    let session: serde_json::Value = serde_json::from_slice(&fs::read(&plain).unwrap()).unwrap();
    let secret = token(&home, "work", PASSPHRASE).exits(0).line().to_owned();
    assert_eq!(session["tokens"]["access_token"], secret);
}

#[test]
fn key_sealed_by_age_is_unlocked_with_its_passphrase() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let (key, plain) = (home.key_file(), home.path().join("plain.key"));
    fs::rename(&key, &plain).unwrap();
    let prompts = [("Enter passphrase", PASSPHRASE), ("Confirm passphrase", PASSPHRASE)];
    age(&home, &["-p", "-o", key.to_str().unwrap(), plain.to_str().unwrap()], &prompts);
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    home.run(&["token", "work"]).exits(8);
    token(&home, "work", PASSPHRASE).exits(0);
}

#[test]
fn agent_starts_locked_and_holds_the_key_once_unlocked() {
    let (home, issuer) = locked();
    let agent = Agent::run(&home);
    agent.get("/v1/token/work").expect_problem(423, "agent_locked");
    home.run(&["token", "work"]).exits(8).reports("authctl agent unlock");
    let unlock = ["agent", "unlock", "--passphrase-stdin"];
    home.run_with(&unlock, "not it\n").exits(8).reports("store passphrase --forgotten");
    home.run_with(&unlock, &format!("{PASSPHRASE}\n")).exits(0);
    for name in ["work", "other"] {
        home.run(&["token", name]).exits(0);
        home.run(&["refresh", name]).exits(0);
    }
    assert_eq!(issuer.stats().refreshes_committed, 2, "the agent stores what it refreshes");
    agent.stop().expect("a child").exits(0);
    token(&home, "work", PASSPHRASE).exits(0);
}

#[test]
fn hint_for_a_locked_store_follows_the_state_of_the_agent() {
    let (home, _issuer) = locked();
    let rename = ["profile", "rename", "work", "renamed"];
    let hint = || home.run(&[&rename[..], &["--json"]].concat()).exits(8).error()["hint"].clone();
    assert_eq!(hint(), "authctl agent start");
    let _agent = Agent::run(&home);
    assert_eq!(hint(), "authctl agent unlock");
    let doctor = home.run(&["doctor", "--json"]).exits(0).json();
    let store = doctor["checks"].as_array().unwrap().iter().find(|found| found["check"] == "store").unwrap();
    assert_eq!(store["hint"], "authctl agent unlock", "{doctor}");
    // One line for all profiles, with the same command.
    let status = home.run(&["status"]).exits(8).stdout;
    assert_eq!(status.matches("file store:").count(), 1, "{status}");
    assert!(status.matches("authctl agent unlock").count() == 1 && !status.contains("agent start"), "{status}");
    let long = home.run(&["status", "work"]).exits(8).stdout;
    assert_eq!(long.matches("authctl agent unlock").count(), 1, "{long}");
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0);
    assert_eq!(hint(), "authctl --passphrase-stdin profile rename work renamed --json");
    home.run_with(&[&["--passphrase-stdin"], &rename[..]].concat(), &format!("{PASSPHRASE}\n")).exits(0);
}

#[test]
fn status_reads_the_sessions_with_a_passphrase() {
    let (home, _issuer) = locked();
    let status = home.run_with(&["status", "--json", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0).json();
    assert_eq!(status["profiles"][0]["state"], "valid", "{status}");
    home.run(&["status", "--json"]).exits(8);
}

#[test]
fn agent_is_not_unlocked_by_another_key_file() {
    let (home, _issuer) = locked();
    let sealed = fs::read(home.key_file()).unwrap();
    let place = Sandbox::new();
    let issuer = quick_issuer();
    place.log_in("work", &issuer);
    let in_the_clear = fs::read(place.key_file()).unwrap();
    change(&place, &[], "attacker\n").exits(0);
    let unlock = |passphrase: &str| {
        home.run_with(&["agent", "unlock", "--passphrase-stdin", "--json"], &format!("{passphrase}\n"))
    };
    for was_unlocked in [false, true] {
        let agent = Agent::run(&home);
        if was_unlocked {
            unlock(PASSPHRASE).exits(0);
            home.run(&["agent", "lock"]).exits(0);
        }
        fs::write(home.key_file(), &in_the_clear).unwrap();
        assert_eq!(unlock("anything").exits(8).error()["code"], "wrong_passphrase");
        fs::copy(place.key_file(), home.key_file()).unwrap();
        let refused = unlock("attacker").exits(7).error();
        assert_eq!((&refused["code"], &refused["hint"]), (&json!("store_key"), &json!("authctl agent stop")));
        agent.get("/v1/token/work").expect_problem(423, "agent_locked");
        fs::write(home.key_file(), &sealed).unwrap();
        unlock(PASSPHRASE).exits(0);
        home.run(&["token", "work"]).exits(0);
        agent.stop().expect("a child").exits(0);
    }
}

/// Returns the key in the sealed key file, as it is in memory: the data of its line in Bech32 (BIP 173).
fn raw_key(home: &Sandbox) -> Vec<u8> {
    let plain = home.path().join("plain.key");
    let args = ["-d", "-o", plain.to_str().unwrap(), home.key_file().to_str().unwrap()].map(str::to_owned);
    age(home, &args.each_ref().map(String::as_str), &[("Enter passphrase", PASSPHRASE)]);
    let text = fs::read_to_string(&plain).unwrap();
    fs::remove_file(plain).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("AGE-SECRET-KEY-1")).expect("a key");
    let digits = line[..line.len() - 6].chars();
    let value = |digit: char| "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L".find(digit).expect("a digit of Bech32");
    let bits: Vec<u8> = digits.flat_map(|digit| (0..5).rev().map(move |bit| (value(digit) >> bit & 1) as u8)).collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
}

#[test]
fn locked_agent_leaves_no_token_on_the_machine() {
    let (home, _issuer) = locked();
    let key = raw_key(&home);
    assert_eq!(key.len(), 32);
    home.run(&["profile", "set", "work", &format!("token_file={}", home.path().join("token").display())]).exits(0);
    let agent = Agent::run(&home);
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0);
    let access = home.token("work");
    wait_until("the token file", || home.path().join("token").exists().then_some(()));
    let memory_of = |pid: u32| {
        let process = std::path::PathBuf::from(format!("/proc/{pid}"));
        let maps = fs::read_to_string(process.join("maps")).expect("run as root");
        let memory = fs::File::open(process.join("mem")).expect("run as root");
        let range = |line: &str| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
        };
        let mut all = Vec::new();
        for (from, to) in maps.lines().filter(|line| line.contains(" rw")).filter_map(range) {
            let mut part = vec![0; usize::try_from(to - from).unwrap()];
            if std::os::unix::fs::FileExt::read_exact_at(&memory, &mut part, from).is_ok() {
                all.extend(part);
            }
        }
        all
    };
    let memory = memory_of(agent.pid);
    assert!(contains(&memory, access.as_bytes()) && contains(&memory, &key), "the agent has both");
    let locked = home.run_with(&["agent", "lock"], "").exits(0).reports("the store's passphrase");
    assert!(!locked.stderr.contains("can still read the sessions"), "{}", locked.stderr);
    for args in READERS {
        home.run(args).exits(8);
        let ran = home.run_without_agent(args).exits(8);
        assert_eq!(ran.stdout, "", "{args:?}");
    }
    wait_until("the token file to go", || (!home.path().join("token").exists()).then_some(()));
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
    let memory = memory_of(agent.pid);
    assert!(!contains(&memory, &key), "the key is in the agent's memory");
    for secret in [access.as_str(), PASSPHRASE, "AGE-SECRET-KEY-1"] {
        assert!(!contains(&memory, secret.as_bytes()), "{secret} is in the agent's memory");
    }
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0);
    assert_eq!(home.token("work"), access);
}

#[test]
fn agent_has_no_other_passphrase_than_a_locked_store() {
    let (home, issuer) = locked();
    let agent = Agent::run(&home);
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0);
    let body = json!({"passphrase": "another"}).to_string();
    agent.post("/v1/lock", &body).expect_status(400);
    agent.get("/v1/token/work").expect_status(200);
    change(&home, &[], &format!("{PASSPHRASE}\nsecond\n")).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(issuer.stats().refreshes_committed, 1, "the agent has the new passphrase");
    agent.post("/v1/lock", "{}").expect_status(200);
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(8);
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], "second\n").exits(0);
    home.run(&["token", "work"]).exits(0);
}

#[test]
fn session_refreshed_while_the_agent_is_locked_is_not_lost() {
    let (home, issuer) = locked();
    let agent = Agent::run(&home);
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0);
    issuer.fault(authctl::dev_issuer::Fault {
        endpoint: authctl::dev_issuer::Endpoint::Token,
        kind: authctl::dev_issuer::FaultKind::HoldReply,
        times: 1,
    });
    let mut refreshing = agent.start_request("POST", "/v1/refresh/work");
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    home.run(&["agent", "lock"]).exits(0);
    issuer.clear_faults();
    refreshing.response().expect("a response").expect_problem(423, "agent_locked");
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], &format!("{PASSPHRASE}\n")).exits(0);
    // The refresh token of the new session is the only one that the issuer accepts.
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(issuer.stats().refreshes_committed, 2);
}
