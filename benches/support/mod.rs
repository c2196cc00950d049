//! Support of the benches: a scratch home, the issuer, reference servers, peers and tables.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub mod constant;
pub mod faults;
pub mod http;
pub mod issuer;
#[path = "../../tests/support/kill_on_drop.rs"]
pub mod kill_on_drop;
pub mod load;
#[path = "../../tests/support/parts.rs"]
pub mod parts;
pub mod peers;
pub mod sessions;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::Value;

pub use issuer::Issuer;
use issuer::{PASSWORD, USER};

/// Returns the program under test: that of this build, or the one in `AUTHCTL_UNDER_TEST`.
pub fn authctl() -> OsString {
    std::env::var_os("AUTHCTL_UNDER_TEST").unwrap_or_else(|| env!("CARGO_BIN_EXE_authctl").into())
}

/// The time limit for everything that is not measured.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long the agent may take to stop.
const STOP: Duration = Duration::from_secs(10);

/// Processes and scratch directories to clean up if the bench is aborted.
static STARTED: Mutex<(BTreeSet<u32>, BTreeSet<PathBuf>)> = Mutex::new((BTreeSet::new(), BTreeSet::new()));

/// Aborts the bench and kills its children if it is still running after `limit`.
pub fn ends_within(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("aborted after {} s", limit.as_secs());
        let left = STARTED.lock().expect("not poisoned");
        for id in &left.0 {
            kill(*id);
        }
        for dir in &left.1 {
            let _ = fs::remove_dir_all(dir);
        }
        std::process::exit(1);
    });
}

fn kill(id: u32) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Raises the limit of open files while `work` runs. Processes started at other times, such as the agent, have the usual
/// limit.
pub fn with_many_files<T>(work: impl FnOnce() -> T) -> T {
    let usual = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: usual.maximum, ..usual });
    let done = work();
    let _ = rustix::process::setrlimit(Resource::Nofile, usual);
    done
}

/// Waits for a child to exit, at most `limit`; returns its exit code.
fn ends(child: &mut Child, limit: Duration) -> Option<i32> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("waited") {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

/// A child of the bench; killed when dropped.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        STARTED.lock().expect("not poisoned").0.insert(child.id());
        Self(child)
    }

    /// Returns the next line of the child's stdout, which must be piped.
    pub fn line(&mut self) -> String {
        let stdout = self.0.stdout.as_mut().expect("piped");
        let (mut line, mut byte) = (Vec::new(), [0]);
        while stdout.read(&mut byte).is_ok_and(|length| length == 1) && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        STARTED.lock().expect("not poisoned").0.remove(&self.0.id());
    }
}

/// The outcome of a command.
pub struct CommandOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command with `stdin`. Its output goes to files, so that a process left behind does not block the bench.
pub fn run(command: &mut Command, stdin: &str) -> CommandOutput {
    let mut files = [(); 3].map(|()| tempfile::tempfile().expect("a file"));
    files[0].write_all(stdin.as_bytes()).expect("written");
    files[0].rewind().expect("rewound");
    let [from, to, errors] = [0, 1, 2].map(|index: usize| Stdio::from(files[index].try_clone().expect("another")));
    let mut running = Running::start(command.stdin(from).stdout(to).stderr(errors));
    let code = ends(&mut running.0, LIMIT).unwrap_or_else(|| panic!("{command:?} did not exit"));
    let mut output = |index: usize| {
        let mut text = Vec::new();
        files[index].rewind().expect("rewound");
        files[index].read_to_end(&mut text).expect("read");
        String::from_utf8_lossy(&text).into_owned()
    };
    CommandOutput { code, stdout: output(1), stderr: output(2) }
}

/// A scratch home with the file store, removed on drop.
pub struct Home {
    dir: tempfile::TempDir,
    env: BTreeMap<OsString, OsString>,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("authctl-bench-").tempdir().expect("a scratch directory");
        STARTED.lock().expect("not poisoned").1.insert(dir.path().to_owned());
        let mut env = BTreeMap::new();
        for (name, below) in
            [("HOME", ""), ("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data"), ("XDG_RUNTIME_DIR", "run")]
        {
            let path = dir.path().join(below);
            fs::create_dir_all(&path).expect("made");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("closed to others");
            env.insert(name.into(), path.into());
        }
        env.insert("PATH".into(), std::env::var_os("PATH").expect("PATH"));
        env.insert("AUTHCTL_STORE".into(), "file".into());
        Self { dir, env }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.env.insert(name.into(), value.as_ref().into());
    }

    /// Returns the path of the agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.path().join("run/authctl/agent.sock")
    }

    /// Returns a command that runs another program in this home.
    pub fn command(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(&self.env).current_dir(self.path());
        command
    }

    pub fn authctl(&self, args: &[&str]) -> Command {
        self.command(authctl(), args)
    }

    /// Runs authctl and returns its stdout without the line end. Fails the bench unless authctl succeeds.
    #[track_caller]
    pub fn must(&self, args: &[&str], stdin: &str) -> String {
        let ran = run(&mut self.authctl(args), stdin);
        assert_eq!(ran.code, 0, "authctl {args:?}: {}", ran.stderr);
        ran.stdout.trim_end().to_owned()
    }

    #[track_caller]
    pub fn log_in(&self, profile: &str, issuer: &Issuer) {
        let account = ["--client-id", "authctl", "--password", "--username", USER, "--password-stdin"];
        let args = [&["login", profile, "--issuer", &issuer.url], &account[..]].concat();
        self.must(&args, &format!("{PASSWORD}\n"));
    }

    /// Returns the profile's token, from the agent if one is running.
    #[track_caller]
    pub fn token(&self, profile: &str) -> String {
        self.must(&["token", profile], "")
    }

    /// Starts the agent and waits until it is ready.
    #[track_caller]
    pub fn agent(&self) -> Agent<'_> {
        self.must(&["agent", "start"], "");
        let reply = http::ask(&self.socket(), "GET", "/v1/agent", "");
        let reported: Value = serde_json::from_slice(&reply.body).expect("JSON");
        let id = reported["pid"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("the PID");
        STARTED.lock().expect("not poisoned").0.insert(id);
        Agent { home: self, id }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        STARTED.lock().expect("not poisoned").1.remove(self.path());
    }
}

/// A running agent; stopped when dropped.
pub struct Agent<'a> {
    home: &'a Home,
    pub id: u32,
}

impl Agent<'_> {
    /// Sends a request on a new connection.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str) -> http::Reply {
        http::ask(&self.home.socket(), method, path, "")
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let mut command = self.home.authctl(&["agent", "stop"]);
        let mut stop = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let stopped = ends(&mut stop.0, STOP) == Some(0);
        let started = Instant::now();
        while stopped && is_running(self.id) && started.elapsed() < STOP {
            std::thread::sleep(Duration::from_millis(5));
        }
        if is_running(self.id) {
            eprintln!("the agent did not stop and was killed");
            kill(self.id);
        }
        STARTED.lock().expect("not poisoned").0.remove(&self.id);
    }
}

fn is_running(id: u32) -> bool {
    // In a container without an init process, an orphan stays a zombie.
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Returns the resident memory and its peak, in bytes.
#[track_caller]
pub fn resident(id: u32) -> (u64, u64) {
    let status = format!("/proc/{id}/status");
    (bytes_in(&status, "VmRSS:").expect("readable"), bytes_in(&status, "VmHWM:").expect("readable"))
}

/// Reads a value in kB from a file in `/proc` and returns bytes.
pub fn bytes_in(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let figure = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(figure.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// Connects to a Unix socket with [`LIMIT`] as the read timeout.
pub fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}
