//! Sessions in a real keychain: stored only there, and exit code 7 within five seconds if the keychain is locked, missing
//! or does not respond.

use std::path::Path;
use std::time::{Duration, Instant};

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};
use nix::libc;
use rustix::process::{Pid, Signal, kill_process};

use crate::keyring::{Keyring, SilentBus};
use crate::support::jwt;
use crate::support::process::wait_until;
use crate::support::stepper::{Action, Call, Watch};
use crate::support::{self, CommandOutput, Sandbox, contains};

/// Within this time authctl reports that the keychain is unavailable: it waits 4 s, and not twice.
const STORE_LIMIT: Duration = Duration::from_secs(8);

fn home_at(address: &str) -> Sandbox {
    let mut home = Sandbox::with_store("keychain");
    home.set("DBUS_SESSION_BUS_ADDRESS", address);
    home
}

/// Returns a home that is logged in as `work`, its session in a keyring.
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

/// Returns every file below `dir`, with what is in it.
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

/// Fails the test if a file of this home contains a secret, or is an encrypted session.
#[track_caller]
fn expect_no_secret_in_files(home: &Sandbox) {
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

/// Fails the test unless each command that needs the session exits with 7 in time, with this error code and hint.
#[track_caller]
fn expect_store_error(home: &Sandbox, issuer: &DevIssuer, code: &str, hint: &str) {
    let started = issuer.stats().requests;
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
        assert!(started.elapsed() < STORE_LIMIT, "{args:?} took {:?}", started.elapsed());
        assert_eq!((ran.error()["code"].as_str(), ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
        assert!(ran.error()["hint"].to_string().contains(hint), "{}", ran.stderr);
    }
    assert_eq!(issuer.stats().requests, started, "no request is sent if its result cannot be stored");
    expect_no_secret_in_files(home);
}

#[test]
fn session_is_stored_only_in_the_keychain() {
    let (home, keyring, issuer) = logged_in();
    let token = home.token("work");
    let all = keyring.secret_tool(&["search", "--all", "service", "authctl"], b"").stdout;
    let all = String::from_utf8_lossy(&all);
    let labels: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("label = authctl: ")).collect();
    let (records, sessions): (Vec<&str>, Vec<&str>) = labels.iter().partition(|label| label.starts_with('@'));
    assert_eq!(sessions, ["work"], "one item for one session");
    assert_eq!(records.len(), 2, "the time, and what is trusted of the issuer: {records:?}");
    let stored = lookup(&keyring, "work").expect("stored");
    assert_eq!(stored["tokens"]["access_token"], token.as_str());
    let refresh_token = stored["tokens"]["refresh_token"].as_str().expect("a refresh token").to_owned();
    home.register_secret(&refresh_token);
    home.run(&["verify", "work"]).exits(0);
    let status = home.run(&["status", "work", "--json"]).exits(0);
    assert!(status.stdout.contains("keychain item `authctl: work`"), "{}", status.stdout);

    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), token);
    let refreshed = lookup(&keyring, "work").expect("stored");
    assert_ne!(refreshed["tokens"]["refresh_token"], refresh_token.as_str());
    home.register_secret(refreshed["tokens"]["refresh_token"].as_str().expect("a refresh token"));
    expect_no_secret_in_files(&home);

    home.run(&["logout", "work"]).exits(0);
    assert_eq!(lookup(&keyring, "work"), None);
    assert_eq!(issuer.stats().families_revoked, 1);
    home.run(&["token", "work"]).exits(3);
    expect_no_secret_in_files(&home);
}

#[test]
fn session_survives_a_daemon_restart() {
    let (home, mut keyring, _issuer) = logged_in();
    let token = home.token("work");
    keyring.kill_daemon();
    keyring.start_daemon(true);
    assert_eq!(home.token("work"), token);
    home.run(&["refresh", "work"]).exits(0);
}

/// The keychain is restarted or hangs after the issuer has replied.
#[test]
fn refreshed_session_is_stored_when_the_keychain_is_available_again() {
    for hangs in [false, true] {
        let (home, mut keyring, issuer) = logged_in();
        issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
        let refreshing = home.spawn(&["refresh", "work"]);
        wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
        keyring.make_unavailable(hangs);
        issuer.clear_faults();
        refreshing.reports("Waiting up to 60 s to store the refreshed session of work: ");
        keyring.make_available(hangs);
        refreshing.wait().exits(0);
        home.run(&["refresh", "work"]).exits(0);
        let stats = issuer.stats();
        assert_eq!((stats.refreshes_committed, stats.refresh_reuses), (2, 0), "hangs: {hangs}");
    }
}

#[test]
fn locked_keychain_exits_7() {
    let (home, keyring, issuer) = logged_in();
    keyring.lock();
    expect_store_error(&home, &issuer, "store_locked", "unlock the keychain");
}

#[test]
fn each_tool_learns_that_the_keychain_is_locked() {
    let (mut home, keyring, _issuer) = logged_in();
    home.set("BROWSER", "touch opened; true");
    home.run(&["profile", "set", "work", "hosts=a.example"]).exits(0);
    keyring.lock();
    let cargo = r#"{"v":1,"registry":{"index-url":"sparse+https://a.example/"},"kind":"get"}"#;
    let role = "arn:aws:iam::123456789012:role/deploy";
    // The last two report errors in their replies.
    let tools: [(&[&str], &str, i32); 10] = [
        (&["git", "get"], "protocol=https\nhost=a.example\n", 7),
        (&["docker", "get"], "a.example", 7),
        (&["kubernetes"], "", 7),
        (&["keyring", "get", "https://a.example", "a"], "", 7),
        (&["terraform", "get", "a.example"], "", 7),
        (&["aws", "--role-arn", role], "", 7),
        (&["file", "--write"], "", 7),
        (&["azure", "--write"], "", 7),
        (&["google"], "", 0),
        (&["cargo"], cargo, 0),
    ];
    for options in [&[][..], &["--id-token"]] {
        for (words, stdin, code) in tools {
            let started = Instant::now();
            let ran = home.run_with(&[&["helper"], options, words].concat(), stdin).exits(code);
            let shown = ran.stdout.clone() + &ran.stderr;
            assert!(
                shown.contains("keychain is locked") && shown.contains("unlock the keychain"),
                "{words:?}: {ran:?}"
            );
            assert!(!ran.stdout.contains("eyJ"), "{words:?}");
            assert!(started.elapsed() < Duration::from_secs(20), "{words:?}");
        }
    }
    assert!(!home.path().join("opened").exists());
}

#[test]
fn locked_keychain_with_an_unanswered_prompt_exits_7() {
    let (home, keyring, issuer) = logged_in();
    keyring.ignore_prompts();
    keyring.lock();
    expect_store_error(&home, &issuer, "store_timed_out", "answer the keychain's prompt");
}

#[test]
fn locked_keychain_with_a_failing_prompter_exits_7() {
    let (home, keyring, issuer) = logged_in();
    keyring.fail_prompts();
    keyring.lock();
    expect_store_error(&home, &issuer, "store_locked", "unlock the keychain");
}

#[test]
fn login_to_a_locked_keychain_fails_before_the_sign_in() {
    for (ignore_prompts, code) in [(false, "store_locked"), (true, "store_timed_out")] {
        let (home, keyring, issuer) = logged_in();
        if ignore_prompts {
            keyring.ignore_prompts();
        }
        keyring.lock();
        let requests = issuer.stats().requests;
        let login = ["login", "new", "--issuer", issuer.issuer(), "--client-id", "authctl", "--password", "--json"];
        let login = [&login[..], &["--username", support::USER, "--password-stdin"]].concat();
        let started = Instant::now();
        let ran = home.run_with(&login, support::PASSWORD).exits(7);
        assert!(started.elapsed() < STORE_LIMIT, "{:?}", started.elapsed());
        assert_eq!(ran.error()["code"], code);
        assert_eq!(issuer.stats().requests, requests, "reported before the user signs in");
        expect_no_secret_in_files(&home);
    }
}

#[test]
fn killed_daemon_or_bus_exits_7() {
    let (home, mut keyring, issuer) = logged_in();
    keyring.kill_daemon();
    expect_store_error(&home, &issuer, "store_absent", "--store file");
    keyring.kill_bus();
    expect_store_error(&home, &issuer, "store_absent", "--store file");
}

#[test]
fn missing_bus_exits_7() {
    let (mut home, _keyring, issuer) = logged_in();
    home.set("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    expect_store_error(&home, &issuer, "store_absent", "--store file");
    home.unset("DBUS_SESSION_BUS_ADDRESS");
    expect_store_error(&home, &issuer, "store_absent", "--store file");
}

#[test]
fn silent_bus_times_out_and_exits_7() {
    let (mut home, _keyring, issuer) = logged_in();
    let bus = SilentBus::start();
    home.set("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let started = Instant::now();
    let ran = home.run(&["token", "work", "--json"]).exits(7);
    assert!(started.elapsed() < STORE_LIMIT, "{:?}", started.elapsed());
    assert_eq!(ran.error()["code"], "store_timed_out");
    // A login checks the keychain before the user signs in.
    let requests = issuer.stats().requests;
    let login = ["login", "new", "--issuer", issuer.issuer(), "--client-id", "authctl", "--device"];
    let started = Instant::now();
    home.run(&login).exits(7);
    assert!(started.elapsed() < STORE_LIMIT, "{:?}", started.elapsed());
    assert_eq!(issuer.stats().requests, requests);
    expect_no_secret_in_files(&home);
}

#[test]
fn processes_at_a_silent_bus_time_out_in_parallel() {
    let (mut home, _keyring, _issuer) = logged_in();
    let bus = SilentBus::start();
    home.set("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let args = ["token", "work", "--json"];
    let started = Instant::now();
    let all: Vec<_> = (0..8).map(|_| home.start(&args, "")).collect();
    for child in all {
        assert_eq!(home.finish(child, &args).exits(7).error()["code"], "store_timed_out");
    }
    // One after another they would wait 32 s.
    assert!(started.elapsed() < 2 * STORE_LIMIT, "{:?}", started.elapsed());
}

#[test]
fn stopped_daemon_times_out_and_exits_7() {
    let (home, keyring, _issuer) = logged_in();
    keyring.stop_daemon();
    let started = Instant::now();
    let ran = home.run(&["token", "work", "--json"]).exits(7);
    assert!(started.elapsed() < STORE_LIMIT, "{:?}", started.elapsed());
    assert_eq!(ran.error()["code"], "store_timed_out");
    expect_no_secret_in_files(&home);
}

#[test]
fn item_of_another_tool_does_not_interfere() {
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
fn token_of_one_megabyte_is_stored() {
    let (keyring, issuer) = (Keyring::start(), support::issuer(|_| {}));
    let home = home_at(keyring.address());
    let token = "x".repeat(1_000_000);
    home.register_secret(&token);
    let response = serde_json::json!({"access_token": token, "token_type": "Bearer", "expires_in": 300});
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--with-token"];
    home.run_with(&login, &response.to_string()).exits(0);
    assert!(home.run(&["token", "work"]).exits(0).line() == token, "it comes back whole");
    expect_no_secret_in_files(&home);
}

#[test]
fn pinned_keys_move_with_the_profile_to_another_store() {
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
    // The keys that were pinned last move along.
    home.run(&["keys", "pin", "work", "--jwks", theirs.to_str().expect("text")]).exits(0);
    home.run_with(&[&login[..], &["file"]].concat(), support::PASSWORD).exits(4).reports("ID token");
}

#[test]
fn damaged_pinned_keys_are_reported_when_the_store_changes() {
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
    home.run_with(&quiet, support::PASSWORD).exits(7).reports("hint:  authctl keys unpin work");
    home.run(&["keys", "unpin", "work"]).exits(0);
    home.run_with(&quiet, support::PASSWORD).exits(0);
    let shown = home.run(&["keys", "show", "work", "--json"]).exits(0).json();
    assert!(shown["pinned"].is_null() && shown["fetched"].is_object(), "{shown}");
}

#[test]
fn pinned_keys_in_a_locked_keychain_block_a_store_change() {
    let (keyring, issuer) = (Keyring::start(), support::quick_issuer());
    let home = home_at(keyring.address());
    home.log_in("work", &issuer);
    let right = home.path().join("right.json");
    std::fs::write(&right, support::login_pages::get(&issuer, "jwks")).expect("written");
    home.run(&["keys", "pin", "work", "--jwks", right.to_str().expect("text")]).exits(0);
    keyring.lock();
    let asked = issuer.stats().requests;
    let login = ["login", "work", "--password", "--password-stdin", "--username", support::USER, "--store", "file"];
    let refused = home.run_with(&login, support::PASSWORD).exits(7).reports("the pinned keys in the keychain store");
    assert!(refused.stderr.contains("unlock the keychain"), "{}", refused.stderr);
    assert_eq!(issuer.stats().requests, asked, "reported before the user signs in");
    assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["store"], "keychain");
}

/// Stops the keychain's daemon after the `nth` message to it or the issuer.
struct StopKeychain {
    daemon: Pid,
    nth: usize,
    sent: usize,
    /// The number of the message that stores the session, 0 before it.
    stores: usize,
}

impl Watch for StopKeychain {
    fn before(&mut self, _: &Call) -> Action {
        Action::Make
    }

    fn after(&mut self, call: &Call, result: i64) {
        if ![libc::SYS_sendmsg, libc::SYS_writev].contains(&call.number) {
            return;
        }
        self.sent += 1;
        let message = call.data(usize::try_from(result).unwrap_or(0), 4096);
        if contains(&message, b"HTTP/1.1") {
            self.stores = 0;
        } else if self.stores == 0 && ["CreateItem", "SetSecret"].iter().any(|name| contains(&message, name.as_bytes()))
        {
            self.stores = self.sent;
        }
        if self.sent == self.nth {
            kill_process(self.daemon, Signal::STOP).expect("stopped");
        }
    }
}

/// Logs in to `work`, and stops the keychain after the `nth` message to it or the issuer, until the login ends. Returns the
/// exit code, and the number of the message that stores the session.
fn login_with_a_stopped_keychain(home: &Sandbox, keyring: &Keyring, nth: usize) -> (i32, usize) {
    let login = ["login", "work", "--password", "--username", support::USER, "--password-stdin"];
    let watch = StopKeychain { daemon: keyring.daemon(), nth, sent: 0, stores: 0 };
    let (watch, ran) = home.step(&login, support::PASSWORD, watch);
    keyring.continue_daemon();
    (ran.code, watch.stores)
}

#[test]
fn keychain_that_stops_during_a_login_has_a_working_session() {
    let (home, keyring, _issuer) = logged_in();
    let (code, stores) = login_with_a_stopped_keychain(&home, &keyring, 0);
    assert!(code == 0 && stores > 0);
    // Before the message that stores the session, which the keychain then gets late, and after it.
    for (nth, codes) in [(stores - 1, [7, 7]), (stores, [0, 7])] {
        let (code, _) = login_with_a_stopped_keychain(&home, &keyring, nth);
        assert!(codes.contains(&code), "{nth}: {code}");
        // The new session or the old one, and not revoked.
        home.run(&["refresh", "work"]).exits(0);
        home.run(&["verify", "work"]).exits(0);
    }
}

/// The token is still valid, and so are the keys that were read before.
#[test]
fn keychain_locked_during_a_refresh_stops_neither_token_nor_exec() {
    let commands = [&["token", "work"][..], &["exec", "work", "--", "echo", "ran"]];
    let logged_in = commands.map(|command| {
        let (keyring, issuer) =
            (Keyring::start(), support::issuer(|options| options.access_token_ttl = Duration::from_secs(40)));
        let home = home_at(keyring.address());
        home.log_in("work", &issuer);
        (command, keyring, issuer, home)
    });
    // Half of its lifetime before its end, a token is due. The keychain need not be asked for that.
    let due_at = jwt::now() + 21;
    wait_until("tokens that are due", || (jwt::now() >= due_at).then_some(()));
    for (command, mut keyring, issuer, home) in logged_in {
        issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
        let running = home.spawn(command);
        wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
        keyring.lock();
        issuer.clear_faults();
        assert!(!running.wait().exits(0).stdout.is_empty(), "{command:?}");
        keyring.kill_daemon();
        keyring.start_daemon(true);
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(issuer.stats().refresh_reuses, 0);
    }
}

#[test]
fn keychain_locked_before_the_refreshed_session_is_stored_loses_nothing() {
    let (home, mut keyring, issuer) = logged_in();
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
    let refreshing = home.spawn(&["refresh", "work"]);
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    keyring.lock();
    issuer.clear_faults();
    refreshing.reports("Waiting up to 60 s to store the refreshed session of work: the keychain is locked");
    // Unlocked as by the user: the daemon starts again with the password.
    keyring.kill_daemon();
    keyring.start_daemon(true);
    refreshing.wait().exits(0);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(issuer.stats().refresh_reuses, 0);
}
