//! Support of the black-box tests: a sandboxed home, authctl run in it, and a check for leaked secrets.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(missing_docs, reason = "tests")]

pub mod agent;
pub mod kill_on_drop;
pub mod login_pages;
pub mod mcp_server;
mod output;
pub mod process;
pub mod protected_api;
pub mod stepper;
pub mod stub_server;
pub mod time_travel;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use authctl::dev_issuer::{Algorithm, DevIssuer, Options, User};
use authctl::model::{ProfileName, RecordName, Session, Trust};
use authctl::secret::Secret;
use authctl::store::{FileStore, KeySource, Store};
use rustix::process::{Pid, Signal, kill_process};

pub mod golden;
pub mod http;
pub mod json_documents;
pub mod jwt;
pub mod parts;
pub mod signing_keys;

pub use output::CommandOutput;

/// The program under test.
pub const AUTHCTL: &str = env!("CARGO_BIN_EXE_authctl");

/// The embedded issuer's user.
pub const USER: &str = "developer";
pub const PASSWORD: &str = "correct-horse-battery-staple";
/// The TOTP secret of the user `second`, in base32.
pub const TOTP: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

/// The time limit for one command, reached only if it hangs.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// Starts an embedded issuer with the users of the tests.
pub fn issuer(change: impl FnOnce(&mut Options)) -> DevIssuer {
    let user = |name: &str, totp: Option<&str>| User {
        totp: totp.map(|text| Secret::new(text.into())),
        ..User::new(name, Secret::new(PASSWORD.into()))
    };
    let mut options = Options {
        users: vec![user(USER, None), user("other", None), user("second", Some(TOTP))],
        ..Options::default()
    };
    change(&mut options);
    DevIssuer::spawn(options).expect("the embedded issuer starts")
}

/// Starts an embedded issuer with an ES256 key, which is generated faster than an RSA key.
pub fn quick_issuer() -> DevIssuer {
    issuer(|options| options.algorithm = Algorithm::ES256)
}

/// A home directory of one test, with the file store.
pub struct Sandbox {
    dir: tempfile::TempDir,
    env: BTreeMap<OsString, OsString>,
    /// Texts that must not occur in any output or file but the store.
    secrets: Mutex<Vec<String>>,
}

impl Sandbox {
    /// Creates an empty home whose default store is `file`.
    pub fn new() -> Self {
        Self::with_store("file")
    }

    pub fn with_store(store: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("authctl-test-").tempdir().expect("a temporary directory");
        let mut env = BTreeMap::new();
        for (name, below) in
            [("HOME", ""), ("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data"), ("XDG_RUNTIME_DIR", "run")]
        {
            let path = dir.path().join(below);
            fs::create_dir_all(&path).expect("made");
            env.insert(name.into(), path.into());
        }
        env.insert("PATH".into(), std::env::var_os("PATH").expect("PATH"));
        env.insert("AUTHCTL_STORE".into(), store.into());
        Self { dir, env, secrets: Mutex::new(vec![PASSWORD.into(), TOTP.into()]) }
    }

    pub fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.env.insert(name.into(), value.as_ref().into());
    }

    pub fn unset(&mut self, name: &str) {
        self.env.remove(OsStr::new(name));
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.path().join("config/authctl/config.toml")
    }

    pub fn session_file(&self, profile: &str) -> PathBuf {
        self.path().join(format!("data/authctl/sessions/{profile}.age"))
    }

    /// Returns the path of a file that the agent, which confines itself, can read as well.
    pub fn agent_readable(&self, name: &str) -> PathBuf {
        let directory = self.path().join("data/authctl");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).expect("made");
        directory.join(name)
    }

    pub fn key_file(&self) -> PathBuf {
        self.path().join("config/authctl/authctl.key")
    }

    /// Returns a command that runs authctl in this home.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(AUTHCTL);
        command.args(args).env_clear().envs(&self.env).current_dir(self.path());
        command
    }

    /// Runs authctl with empty stdin.
    pub fn run(&self, args: &[&str]) -> CommandOutput {
        self.run_with(args, "")
    }

    /// Runs authctl with `stdin` on a pipe. Fails the test if its output contains a secret.
    #[track_caller]
    pub fn run_with(&self, args: &[&str], stdin: &str) -> CommandOutput {
        self.finish(self.start(args, stdin), args)
    }

    /// Starts authctl with `stdin` on a pipe.
    pub fn start(&self, args: &[&str], stdin: &str) -> Child {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawned");
        let mut pipe = child.stdin.take().expect("piped");
        let text = stdin.to_owned();
        // On its own thread, because the command's output may fill a pipe before it has read all input. A command may exit
        // without reading stdin, so errors are ignored.
        std::thread::spawn(move || pipe.write_all(text.as_bytes()));
        child
    }

    /// Runs authctl after `script` has changed the mounts of its own namespace.
    #[track_caller]
    pub fn mounted(&self, script: &str, args: &[&str], stdin: &str) -> CommandOutput {
        let command = self.command(args);
        let mut mounted = Command::new("unshare");
        mounted.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        mounted.arg(command.get_program()).args(args).env_clear().current_dir(self.path());
        mounted.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child =
            mounted.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("unshare");
        let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
        self.finish(child, args)
    }

    /// Waits until a command exits, and checks its output. Kills a command that hangs.
    #[track_caller]
    pub fn finish(&self, child: Child, args: &[&str]) -> CommandOutput {
        self.finish_within(RUN_LIMIT, child, args)
    }

    /// Does what [`Self::finish`] does, with another limit.
    #[track_caller]
    pub fn finish_within(&self, limit: Duration, child: Child, args: &[&str]) -> CommandOutput {
        let id = Pid::from_child(&child);
        let (sender, finished) = mpsc::channel();
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        let output = finished.recv_timeout(limit).unwrap_or_else(|_| {
            let _ = kill_process(id, Signal::KILL);
            panic!("{args:?} did not exit within {limit:?}")
        });
        let output = output.expect("its output");
        let ran = CommandOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        self.check(&ran, args);
        ran
    }

    /// Fails the test if output contains a secret, or a JSON document that its schema does not allow.
    #[track_caller]
    fn check(&self, ran: &CommandOutput, args: &[&str]) {
        self.assert_no_leak(ran, args);
        json_documents::assert_valid(args, &ran.stdout, &ran.stderr);
    }

    /// Fails the test if output contains a secret that it may not contain.
    #[track_caller]
    fn assert_no_leak(&self, ran: &CommandOutput, args: &[&str]) {
        let prints_tokens =
            matches!(args.first(), Some(&"token" | &"headers" | &"exec" | &"helper" | &"--cargo-plugin"));
        for secret in self.secrets.lock().expect("not poisoned").iter() {
            assert!(!ran.stderr.contains(secret.as_str()), "a secret on stderr of {args:?}: {}", ran.stderr);
            assert!(
                prints_tokens || !ran.stdout.contains(secret.as_str()),
                "a secret on stdout of {args:?}: {}",
                ran.stdout
            );
        }
    }

    /// Registers a text that must not occur in any output or file but the store.
    pub fn register_secret(&self, secret: &str) {
        self.secrets.lock().expect("not poisoned").push(secret.to_owned());
    }

    /// Returns the registered secrets.
    pub fn secrets(&self) -> Vec<String> {
        self.secrets.lock().expect("not poisoned").clone()
    }

    /// Logs in as [`USER`] with a password under the profile `name`.
    #[track_caller]
    pub fn log_in(&self, name: &str, issuer: &DevIssuer) {
        self.log_in_as(name, issuer, USER);
    }

    #[track_caller]
    pub fn log_in_as(&self, name: &str, issuer: &DevIssuer, user: &str) {
        let args = [
            "login",
            name,
            "--issuer",
            issuer.issuer(),
            "--client-id",
            "authctl",
            "--password",
            "--username",
            user,
            "--password-stdin",
            "-vvv",
        ];
        self.run_with(&args, &format!("{PASSWORD}\n")).exits(0);
    }

    /// Returns the profile's access token as `token` prints it, and registers it as a secret.
    #[track_caller]
    pub fn token(&self, name: &str) -> String {
        let token = self.run(&["token", name]).exits(0).line().to_owned();
        self.register_secret(&token);
        token
    }

    /// Opens the `file` store of this home with its key.
    pub fn store(&self) -> Box<dyn Store> {
        let dir = self.path().join("data/authctl/sessions");
        Box::new(FileStore::new(dir, KeySource::Path(self.key_file())))
    }

    /// Reads the profile's session from the store and registers its secrets.
    #[track_caller]
    pub fn session(&self, name: &str) -> Session {
        let name: ProfileName = name.parse().expect("a name");
        let session = self.store().read(&name).expect("readable").expect("there");
        let others = session.others.iter().map(|other| &other.tokens);
        for tokens in std::iter::once(&session.tokens).chain(others) {
            let optional = tokens.refresh_token.iter().chain(&tokens.id_token);
            for secret in std::iter::once(&tokens.access_token).chain(optional) {
                self.register_secret(secret.expose());
            }
        }
        for secret in session.client_secret.iter().chain(&session.dpop_key) {
            self.register_secret(secret.expose());
        }
        session
    }

    /// Changes the profile's session in the store.
    #[track_caller]
    pub fn change_session(&self, name: &str, change: impl FnOnce(&mut Session)) {
        let mut session = self.session(name);
        change(&mut session);
        self.store().write(&name.parse().expect("a name"), &session).expect("written");
    }

    /// Reads the stored trust in the issuer.
    #[track_caller]
    pub fn trust(&self, issuer: &DevIssuer) -> Trust {
        let bytes = self.store().read_record(&record_of(issuer)).expect("readable").expect("there");
        Trust::from_stored(&bytes).expect("a trust record")
    }

    /// Changes the stored trust in the issuer.
    #[track_caller]
    pub fn change_trust(&self, issuer: &DevIssuer, change: impl FnOnce(&mut Trust)) {
        let mut trust = self.trust(issuer);
        change(&mut trust);
        self.store().write_record(&record_of(issuer), &trust.to_stored()).expect("written");
    }

    /// Moves the stored expiry of the access token into the past. The token's claims stay the same.
    #[track_caller]
    pub fn expire(&self, name: &str) {
        self.change_session(name, |session| {
            session.tokens.expires_at =
                session.tokens.expires_at.map(|time| authctl::clock::UnixTime(time.0 - 100_000));
        });
    }

    /// Returns the session files without the records of the clock and of issuers.
    pub fn sessions(&self) -> Vec<PathBuf> {
        let dir = self.path().join("data/authctl/sessions");
        let all = fs::read_dir(dir).expect("readable").flatten().map(|entry| entry.path());
        all.filter(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('@'))).collect()
    }

    /// Returns every file below this home with its content.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut dirs = vec![self.path().to_path_buf()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).expect("readable") {
                let path = entry.expect("readable").path();
                let read = fs::symlink_metadata(&path).and_then(|about| match about.file_type() {
                    kind if kind.is_file() => Ok((kind, fs::read(&path)?)),
                    kind => Ok((kind, Vec::new())),
                });
                match read {
                    Ok((kind, _)) if kind.is_dir() => dirs.push(path),
                    Ok((kind, bytes)) if kind.is_file() => found.push((path, bytes)),
                    Ok(_) => {}
                    // An agent may remove one in between.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{path:?}: {error}"),
                }
            }
        }
        found
    }

    /// Returns the files that contain a secret in plain text, which should be none: the store is encrypted.
    pub fn leaks_in_files(&self) -> Vec<PathBuf> {
        let secrets = self.secrets();
        let has_secret = |bytes: &[u8]| secrets.iter().any(|secret| contains(bytes, secret.as_bytes()));
        self.files().into_iter().filter(|(_, bytes)| has_secret(bytes)).map(|(path, _)| path).collect()
    }

    /// Removes the default profile from the configuration.
    #[track_caller]
    pub fn unset_default_profile(&self) {
        let text = fs::read_to_string(self.config_file()).expect("there");
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("default_profile")).collect();
        assert!(lines.len() < text.lines().count(), "a default profile was set");
        fs::write(self.config_file(), lines.join("\n")).expect("written");
    }

    /// Writes the configuration file.
    pub fn configure(&self, text: &str) {
        fs::create_dir_all(self.config_file().parent().expect("a parent")).expect("made");
        fs::write(self.config_file(), text).expect("written");
    }
}

fn record_of(issuer: &DevIssuer) -> RecordName {
    RecordName::of_issuer(&issuer.issuer().parse().expect("an issuer"))
}

/// Returns a free port for a server that cannot choose one itself. It is below the ports that systems use for connections and
/// for servers that ask for any port (49152 and above in RFC 6335 section 6, 32768 and above on Linux): nothing but another
/// test takes it in between, and the tests of a process take different ones.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(number % 20_000).expect("below 20,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Returns whether `bytes` contains `needle`.
pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

impl Sandbox {
    /// Runs authctl under `strace`. Fails the test if authctl or a child opens an Internet socket.
    #[track_caller]
    pub fn run_offline(&self, args: &[&str], stdin: &str) -> CommandOutput {
        let (ran, calls) = self.trace("socket,connect,sendto,sendmsg", args, stdin);
        let inet = calls.iter().find(|call| call.contains("AF_INET"));
        assert_eq!(inet, None, "{args:?} used the network");
        ran
    }

    /// Runs authctl under `strace`, and returns these system calls of it and its children.
    #[track_caller]
    pub fn trace(&self, names: &str, args: &[&str], stdin: &str) -> (CommandOutput, Vec<String>) {
        self.run_traced(&["-s", "64", "-e", &format!("trace={names}")], args, stdin)
    }

    /// Runs authctl under `strace` with these options, such as an injected error or signal, and returns what strace
    /// recorded. A command that was killed has the exit code -1.
    #[track_caller]
    pub fn run_traced(&self, options: &[&str], args: &[&str], stdin: &str) -> (CommandOutput, Vec<String>) {
        let log = self.path().join("strace.log");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(&log).args(options).arg(AUTHCTL).args(args);
        let mut child = command
            .env_clear()
            .envs(&self.env)
            .current_dir(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace");
        let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
        let ran = self.finish(child, args);
        let calls = fs::read_to_string(&log).expect("strace wrote its log");
        fs::remove_file(&log).expect("removed");
        (ran, calls.lines().map(str::to_owned).collect())
    }
}
