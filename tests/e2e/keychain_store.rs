//! The keychain store with a real gnome-keyring, and with a bus or keyring that fails.
//!
//! The store finds its bus in the environment. So each script runs in a child process: this test binary with the test
//! `child` only.

#![allow(clippy::disallowed_methods, reason = "tests measure time and talk to their children by variables")]

use std::ffi::OsString;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use authctl::model::{ProfileName, Session};
use authctl::secret::SecretBytes;
use authctl::store::{Keychain, Store, StoreError};
use serde_json::json;

use crate::keyring::{Keyring, SilentBus};

/// No call takes longer than this, whatever fails: it waits 4 s, and not twice.
const STORE_LIMIT: Duration = Duration::from_secs(8);

fn work() -> ProfileName {
    "work".parse().expect("a profile's name")
}

fn session(token: String) -> Session {
    let stored = json!({
        "format": 1,
        "generation": {"login": "a1", "number": 0},
        "issuer": "https://a.example",
        "client_id": "cli",
        "grant": "device",
        "tokens": {"access_token": token, "token_type": "Bearer", "obtained_at": 0},
        "others": [],
        "logged_in_at": 0,
    });
    Session::from_stored(&SecretBytes::new(stored.to_string().into_bytes()), &work()).expect("a session")
}

/// Runs the commands in `AUTHCTL_TEST_SCRIPT`, such as `write work 100; read work`, and prints a line for each. The number
/// is the length of the access token.
#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let script =
        std::env::var("AUTHCTL_TEST_SCRIPT").expect("this is the other tests' child, which they give a script");
    let store = Keychain::new(Duration::from_secs(4));
    for step in script.split("; ") {
        let words: Vec<&str> = step.split(' ').collect();
        let name: ProfileName = words[1].parse().expect("a profile's name");
        let started = Instant::now();
        let answer = match words[0] {
            "write" => {
                store.write(&name, &session("x".repeat(words[2].parse().expect("a length")))).map(|()| "ok".to_owned())
            }
            "read" => store.read(&name).map(|s| match s {
                Some(s) => format!("read {}", s.tokens.access_token.expose().len()),
                None => "none".to_owned(),
            }),
            "delete" => store.delete(&name).map(|was| format!("deleted {was}")),
            "pause" => {
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).expect("a line");
                Ok("went on".to_owned())
            }
            other => panic!("{other}"),
        };
        let took = started.elapsed();
        assert!(words[0] == "pause" || took < STORE_LIMIT, "{step} took {took:?}");
        let answer = answer.unwrap_or_else(|e| match e {
            StoreError::Absent { .. } => format!("absent ({e})"),
            StoreError::Locked => "locked".into(),
            StoreError::TimedOut { .. } => "timed out".into(),
            StoreError::Damaged { .. } => "damaged".into(),
            other => format!("other: {other}"),
        });
        // The test harness has printed the name of the test without a line end.
        println!("\nanswer: {answer}\ntook: {}", took.as_micros());
    }
}

fn spawn(env: Vec<(OsString, OsString)>, script: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "keychain_store::child", "--nocapture"])
        .env_clear()
        .envs(env)
        .env("AUTHCTL_TEST_SCRIPT", script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test again")
}

fn output_lines(child: Child, head: &str) -> Vec<String> {
    let output = child.wait_with_output().expect("ended");
    let text = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("panicked"), "{text}\n{stderr}");
    text.lines().filter_map(|l| l.strip_prefix(head)).map(str::to_owned).collect()
}

fn run(env: Vec<(OsString, OsString)>, script: &str) -> Vec<String> {
    output_lines(spawn(env, script), "answer: ")
}

fn with_bus(address: &str) -> Vec<(OsString, OsString)> {
    vec![("DBUS_SESSION_BUS_ADDRESS".into(), address.into())]
}

#[test]
fn sessions_are_items_that_other_tools_can_read() {
    let keyring = Keyring::start();
    let script = "read work; delete work; write work 10; read work; write work 20; read work; read other";
    let expected = ["none", "deleted false", "ok", "read 10", "ok", "read 20", "none"];
    assert_eq!(run(keyring.env(), script), expected);
    let shown = keyring.secret_tool(&["lookup", "service", "authctl", "username", "work"], b"");
    assert_eq!(shown.stdout, session("x".repeat(20)).to_stored(&work()).expose());
    let found = keyring.secret_tool(&["search", "--all", "service", "authctl"], b"");
    let found = format!("{}{}", String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
    assert!(found.contains("label = authctl: work"), "{found}");
    let mut attributes: Vec<_> = found.lines().filter(|l| l.starts_with("attribute.")).collect();
    attributes.retain(|l| !l.starts_with("attribute.xdg:schema"));
    attributes.sort_unstable();
    assert_eq!(attributes, ["attribute.service = authctl", "attribute.username = work"]);
    assert_eq!(run(keyring.env(), "delete work; read work"), ["deleted true", "none"]);
}

#[test]
fn session_survives_a_daemon_restart() {
    let mut keyring = Keyring::start();
    assert_eq!(run(keyring.env(), "write work 10"), ["ok"]);
    keyring.kill_daemon();
    keyring.start_daemon(true);
    assert_eq!(run(keyring.env(), "read work"), ["read 10"]);
}

#[test]
fn store_reconnects_after_a_daemon_restart() {
    use std::io::Write;

    use crate::support::process::Lines;

    let mut keyring = Keyring::start();
    let mut child = spawn(keyring.env(), "write work 10; pause x; read work; write work 11; read work");
    let mut stdout = Lines::of(child.stdout.take().expect("piped"));
    assert!(stdout.any(|line| line.contains("answer: ok")));
    keyring.kill_daemon();
    keyring.start_daemon(true);
    child.stdin.take().expect("piped").write_all(b"\n").expect("go on");
    let rest: Vec<String> = stdout.collect();
    assert!(child.wait().expect("ended").success(), "{rest:?}");
    let answers: Vec<_> = rest.iter().filter_map(|l| l.strip_prefix("answer: ")).collect();
    assert_eq!(answers, ["went on", "read 10", "ok", "read 11"]);
}

#[test]
fn locked_keychain_is_reported() {
    let keyring = Keyring::start();
    assert_eq!(run(keyring.env(), "write work 10"), ["ok"]);
    keyring.lock();
    assert_eq!(run(keyring.env(), "read work; write work 20; delete work; write new 1"), ["locked"; 4]);
}

#[test]
fn missing_keychain_or_bus_is_reported() {
    let mut keyring = Keyring::start();
    keyring.kill_daemon();
    let absent = |env| {
        for answer in run(env, "read work; write work 1") {
            assert!(answer.starts_with("absent (no keychain service is running"), "{answer}");
        }
    };
    absent(keyring.env());
    keyring.kill_bus();
    absent(keyring.env());
    absent(with_bus("unix:path=/nonexistent/bus"));
    absent(with_bus("nonsense"));
    absent(with_bus(""));
    absent(Vec::new());
}

#[test]
fn silent_bus_times_out_once_and_then_fails_fast() {
    let bus = SilentBus::start();
    let child = spawn(with_bus(&bus.address()), "read work; read other; write work 1");
    let output = output_lines(child, "");
    let answers: Vec<_> = output.iter().filter_map(|l| l.strip_prefix("answer: ")).collect();
    assert_eq!(answers, ["timed out"; 3]);
    let took: Vec<u64> =
        output.iter().filter_map(|l| l.strip_prefix("took: ")).map(|t| t.parse().expect("a number")).collect();
    assert!(took[0] >= 3_900_000 && took[1] < 500_000 && took[2] < 500_000, "{took:?}");
}

#[test]
fn stopped_keychain_times_out() {
    let keyring = Keyring::start();
    keyring.stop_daemon();
    assert_eq!(run(keyring.env(), "read work; write work 1"), ["timed out"; 2]);
}

#[test]
fn items_of_other_tools_do_not_interfere() {
    let keyring = Keyring::start();
    assert_eq!(run(keyring.env(), "write work 10"), ["ok"]);
    let intruder = ["store", "--label=intruder", "service", "authctl", "username", "work", "extra", "attribute"];
    assert!(keyring.secret_tool(&intruder, b"not a session").status.success());
    assert_eq!(run(keyring.env(), "read work; write work 20; read work"), ["read 10", "ok", "read 20"]);
    let found = keyring.secret_tool(&["search", "--all", "service", "authctl"], b"");
    assert_eq!(String::from_utf8_lossy(&found.stdout).matches("label = ").count(), 1, "one is left");
    assert_eq!(run(keyring.env(), "delete work"), ["deleted true"]);
    assert!(keyring.secret_tool(&intruder, b"not a session").status.success());
    assert_eq!(run(keyring.env(), "read work; write work 30; read work"), ["none", "ok", "read 30"]);
}

#[test]
fn invalid_session_is_damaged_and_can_be_replaced() {
    let keyring = Keyring::start();
    let stored = keyring.secret_tool(&["store", "--label=x", "service", "authctl", "username", "work"], b"hunter2");
    assert!(stored.status.success(), "{stored:?}");
    assert_eq!(run(keyring.env(), "read work; write work 5; read work"), ["damaged", "ok", "read 5"]);
}

#[test]
fn sessions_of_one_mebibyte_are_stored() {
    let keyring = Keyring::start();
    let script = "write work 65536; read work; write work 1048576; read work";
    assert_eq!(run(keyring.env(), script), ["ok", "read 65536", "ok", "read 1048576"]);
}

fn run_all(size: usize) {
    let keyring = Keyring::start();
    let started = Instant::now();
    let children: Vec<Child> = (0..size)
        .map(|n| {
            let own = format!("write p{n} {n}; read p{n}; write shared {n}; read p{n}");
            spawn(keyring.env(), &own)
        })
        .collect();
    let mut took = Vec::new();
    for (n, child) in children.into_iter().enumerate() {
        let output = output_lines(child, "");
        let answers: Vec<_> = output.iter().filter_map(|l| l.strip_prefix("answer: ")).collect();
        let read = format!("read {n}");
        assert_eq!(answers, ["ok", &read, "ok", &read]);
        took.extend(output.iter().filter_map(|l| l.strip_prefix("took: ")).filter_map(|t| t.parse::<u64>().ok()));
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!(
        "{size} processes in {:?}; us a call: p50 {}, p99 {}, worst {}",
        started.elapsed(),
        at(50),
        at(99),
        at(100)
    );
    let found = keyring.secret_tool(&["search", "--all", "service", "authctl"], b"");
    let found = String::from_utf8_lossy(&found.stdout).matches("label = ").count();
    assert_eq!(found, size + 1, "one item a profile, however many wrote it at once");
}

#[test]
fn sixteen_processes_write_concurrently() {
    run_all(16);
}

#[test]
#[ignore = "the child of the test below"]
fn threads() {
    let turns = std::env::var_os("AUTHCTL_TEST_TURNS").expect("this is the other test's child, which names a file");
    let store = Keychain::new(Duration::from_secs(4)).with_queue(turns.into());
    let names: Vec<ProfileName> = (0..4).map(|number| format!("p{number}").parse().expect("a name")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let store = &store;
            scope.spawn(move || {
                for round in 1..=50 {
                    store.write(name, &session("x".repeat(round))).expect("written");
                    let found = store.read(name).expect("read").expect("there");
                    assert_eq!(found.tokens.access_token.expose().len(), round);
                }
            });
        }
    });
}

#[test]
fn threads_of_one_process_do_not_block_each_other() {
    let keyring = Keyring::start();
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--ignored", "--exact", "keychain_store::threads", "--nocapture"]).env_clear().envs(keyring.env());
    let child = child.env("AUTHCTL_TEST_TURNS", keyring.turns()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let child = child.spawn().expect("this test again");
    let results = output_lines(child, "test result: ");
    assert!(matches!(&results[..], [one] if one.starts_with("ok. 1 passed")), "the child did not run: {results:?}");
    assert!(started.elapsed() < Duration::from_secs(30), "the threads blocked each other");
}
