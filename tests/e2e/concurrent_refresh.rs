//! A hundred processes that refresh one session in a real keychain at once. The issuer revokes the session if a refresh
//! token is used twice.

use std::fs::{File, read_dir, read_link};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};

use crate::keyring::Keyring;
use crate::support::{self, Sandbox};

const PROCESSES: usize = 100;

/// A home with an expired session `work` in a keyring, at an issuer that accepts no refresh token twice.
struct Setup {
    // Fields are dropped in this order: the keyring last.
    home: Sandbox,
    issuer: DevIssuer,
    keyring: Keyring,
}

impl Setup {
    fn new() -> Self {
        let keyring = Keyring::start();
        let issuer = support::issuer(|options| {
            assert!(options.reuse_grace.is_zero() && options.rotate_refresh_tokens, "the issuer revokes on reuse");
        });
        let mut home = Sandbox::with_store("keychain");
        home.set("DBUS_SESSION_BUS_ADDRESS", keyring.address());
        home.log_in("first", &issuer);
        let stored = keyring.secret_tool(&["lookup", "service", "authctl", "username", "first"], b"").stdout;
        let stored: serde_json::Value = serde_json::from_slice(&stored).expect("the session");
        let token = |name: &str| stored["tokens"][name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
        // The same tokens again as `work`, with an expired access token.
        let response = serde_json::json!({
            "access_token": token("access_token"), "refresh_token": token("refresh_token"),
            "token_type": "Bearer", "expires_in": 0.5,
        });
        home.run(&["logout", "first", "--no-revoke"]).exits(0);
        let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--with-token"];
        home.run_with(&login, &response.to_string()).exits(0);
        home.register_secret(&token("refresh_token"));
        Self { home, issuer, keyring }
    }

    /// Returns the lock file of the profile.
    fn lock_file(&self) -> PathBuf {
        self.keyring.locks().join("work.lock")
    }

    /// Runs `args` in all processes, holds the lock until all wait for it, and returns what they printed.
    fn run_all(&self, args: &[&str]) -> Vec<String> {
        /// One test at a time: a keychain has to respond within its limit beside a hundred processes, not two hundred.
        static CROWD: Mutex<()> = Mutex::new(());
        let _alone = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = File::options().create(true).truncate(false).write(true).open(self.lock_file()).expect("the lock");
        lock.lock().expect("locked");
        let children: Vec<Child> = (0..PROCESSES).map(|_| self.home.start(args, "")).collect();
        let end = Instant::now() + Duration::from_secs(60);
        let mut outside: Vec<u32> = children.iter().map(Child::id).collect();
        while !outside.is_empty() {
            assert!(Instant::now() < end, "{} never came to the lock", outside.len());
            outside.retain(|id| !self.waits(*id));
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(lock);
        children.into_iter().map(|child| self.home.finish(child, args).exits(0).stdout).collect()
    }

    /// Returns whether a process has the lock file open or has exited, in which case its exit code is checked later.
    fn waits(&self, id: u32) -> bool {
        let Ok(open) = read_dir(format!("/proc/{id}/fd")) else { return true };
        let ended = std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| stat.contains(") Z "));
        ended || open.flatten().any(|fd| read_link(fd.path()).is_ok_and(|to| to == self.lock_file()))
    }

    #[track_caller]
    fn expect_one_refresh(&self) {
        let stats = self.issuer.stats();
        assert_eq!(stats.token_requests["refresh_token"], 1, "{stats:?}");
        assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0), "{stats:?}");
    }
}

#[test]
fn hundred_token_commands_share_one_refresh() {
    let setup = Setup::new();
    let tokens = setup.run_all(&["token", "work"]);
    assert_eq!(tokens.len(), PROCESSES);
    assert!(tokens[0].len() > 100 && tokens.iter().all(|token| *token == tokens[0]), "all the same");
    setup.expect_one_refresh();
    // The next refresh uses the refresh token of the first one.
    setup.home.run(&["refresh", "work"]).exits(0);
    assert_eq!(setup.issuer.stats().refreshes_committed, 2);
}

#[test]
fn hundred_refresh_commands_share_one_refresh() {
    let setup = Setup::new();
    setup.run_all(&["refresh", "work"]);
    setup.expect_one_refresh();
}

#[test]
fn terminals_with_other_data_directories_share_one_refresh() {
    let setup = Setup::new();
    setup.issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Slow { ms: 1000 }, times: 0 });
    // What a snap or Flatpak terminal sets.
    let children: Vec<Child> = ["data", "snap/code/data", ".var/app/org.example.Terminal/data"]
        .iter()
        .map(|data| {
            let mut command = setup.home.command(&["refresh", "work"]);
            command.env("XDG_DATA_HOME", setup.home.path().join(data));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
        })
        .collect();
    for child in children {
        setup.home.finish(child, &["refresh", "work"]).exits(0);
    }
    setup.expect_one_refresh();
}
