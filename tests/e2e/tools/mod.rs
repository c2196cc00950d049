//! Tools that developers use, with tokens from `authctl helper`.

mod cargo;
mod cloud;
mod docker;
mod git;
mod kubernetes;
mod python;
mod terraform;
mod versions;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use authctl::dev_issuer::DevIssuer;

use crate::agent_support::KillOnDrop;
use crate::support::process::Lines;
use crate::support::{AUTHCTL, Sandbox, parts, quick_issuer};

/// A logged-in user, and a server that wants the user's token.
pub struct Setup {
    pub home: Sandbox,
    idp: DevIssuer,
    _server: KillOnDrop,
    /// The server's host and port for http.
    pub host: String,
    /// The server's host and port for https.
    encrypted: String,
}

impl Setup {
    pub fn new() -> Self {
        let (home, idp) = (Sandbox::new(), quick_issuer());
        home.log_in("work", &idp);
        let root = home.path().join("server");
        fs::create_dir_all(&root).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/tools/server.py");
        let mut command = Self::in_home(&home, "python3");
        command.arg(script).arg(&root).args([AUTHCTL, "verify", "-", "--profile", "work"]);
        let mut server = command.stdout(Stdio::piped()).spawn().expect("python3");
        let ports = Lines::of(server.stdout.take().expect("piped")).next();
        let server = KillOnDrop(server);
        let ports = ports.expect("the server's ports");
        let [host, encrypted] = [0, 1].map(|at| format!("127.0.0.1:{}", ports.split(' ').nth(at).expect("a port")));
        let mut setup = Self { home, idp, _server: server, host, encrypted };
        // Where the tools look for helpers.
        let programs = setup.home.path().join(".local/bin");
        setup.search_first(&programs);
        setup
    }

    /// Puts a directory first in `PATH`.
    fn search_first(&mut self, directory: &Path) {
        let command = self.home.command(&[]);
        let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).expect("PATH");
        let dirs = [directory.to_owned()].into_iter().chain(std::env::split_paths(path));
        self.home.set("PATH", std::env::join_paths(dirs).expect("a path"));
    }

    /// Returns a command in the user's environment.
    fn in_home(home: &Sandbox, program: impl AsRef<OsStr>) -> Command {
        let environment: Vec<_> =
            home.command(&[]).get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        let mut command = Command::new(program);
        command.env_clear().current_dir(home.path()).stdin(Stdio::null());
        command.envs(environment.into_iter().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// Returns a command in the user's environment that is killed after two minutes.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Self::in_home(&self.home, "timeout");
        command.args(["--kill-after=5", "120"]).arg(program);
        command
    }

    pub fn root(&self) -> PathBuf {
        self.home.path().join("server")
    }

    /// Sets the tool up for the server.
    #[track_caller]
    fn set_up(&self, tool: &str) {
        self.set_up_for(tool, &self.host);
    }

    /// Sets the tool up for a host.
    #[track_caller]
    fn set_up_for(&self, tool: &str, host: &str) {
        self.home.run(&["helper", tool, "--write", "--profile", "work", "--host", host]).exits(0);
    }

    /// Returns the words of each request that the server has answered: status, scheme, digest of the token, method, path.
    pub fn requests(&self) -> Vec<Vec<String>> {
        let log = fs::read_to_string(self.root().join("log")).unwrap_or_default();
        log.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    /// Fails the test if a file of the user, other than authctl's, has a token.
    #[track_caller]
    fn assert_no_token_in_files(&self, token: &str) {
        let leaks =
            self.home.files().into_iter().filter(|(_, bytes)| crate::support::contains(bytes, token.as_bytes()));
        let leaks: Vec<PathBuf> = leaks.map(|(path, _)| path).collect();
        assert!(leaks.is_empty(), "{leaks:?}");
    }
}

/// Finds a program in the Python environment of the tools. Fails the test if it is missing.
#[track_caller]
pub fn python(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python-tools/bin").join(name);
    if program.is_file() { program } else { parts::not_installed(name) }
}

/// Returns the command's output, which must have succeeded.
#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let (succeeded, text) = run(command);
    assert!(succeeded, "{command:?}: {text}");
    text
}

/// Returns the command's output, which must have failed.
#[track_caller]
pub fn fails(command: &mut Command) -> String {
    let (succeeded, text) = run(command);
    assert!(!succeeded, "{command:?}: {text}");
    text
}

fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().expect("ran");
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}
