//! Tools that developers use, with tokens from `authctl helper`.

mod cargo;
mod git;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use authctl::dev_issuer::DevIssuer;

use crate::agent_support::KillOnDrop;
use crate::support::{AUTHCTL, Sandbox, quick_issuer};

/// A logged-in user, and a server that wants the user's token.
struct Setup {
    home: Sandbox,
    _idp: DevIssuer,
    _server: KillOnDrop,
    /// The server's host and port.
    host: String,
}

impl Setup {
    fn new() -> Self {
        let (home, idp) = (Sandbox::new(), quick_issuer());
        home.log_in("work", &idp);
        let root = home.path().join("server");
        fs::create_dir_all(&root).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/tools/server.py");
        let mut command = Self::in_home(&home, "python3");
        command.arg(script).arg(&root).args([AUTHCTL, "verify", "-", "--profile", "work"]);
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("python3");
        let mut port = String::new();
        BufReader::new(server.stdout.take().expect("piped")).read_line(&mut port).expect("a line");
        let host = format!("127.0.0.1:{}", port.trim());
        Self { home, _idp: idp, _server: KillOnDrop(server), host }
    }

    /// Returns a command in the user's environment.
    fn in_home(home: &Sandbox, program: &str) -> Command {
        let environment: Vec<_> =
            home.command(&[]).get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        let mut command = Command::new(program);
        command.env_clear().current_dir(home.path()).stdin(Stdio::null());
        command.envs(environment.into_iter().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    fn command(&self, program: &str) -> Command {
        Self::in_home(&self.home, program)
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("server")
    }

    /// Sets the tool up for the server.
    #[track_caller]
    fn set_up(&self, tool: &str) {
        self.home.run(&["helper", tool, "--write", "--profile", "work", "--host", &self.host]).exits(0);
    }

    /// Returns the words of each request that the server has answered: status, scheme, digest of the token, method, path.
    fn requests(&self) -> Vec<Vec<String>> {
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

/// Returns the command's output, which must have succeeded.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let (succeeded, text) = run(command);
    assert!(succeeded, "{command:?}: {text}");
    text
}

/// Returns the command's output, which must have failed.
#[track_caller]
fn fails(command: &mut Command) -> String {
    let (succeeded, text) = run(command);
    assert!(!succeeded, "{command:?}: {text}");
    text
}

fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().expect("ran");
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}
