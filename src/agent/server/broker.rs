//! The broker process of a confined agent: see [`crate::broker`].

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::ask_login::notifier;
use super::login_prompt::login_command;
use super::notification::notification;
use super::peer::executables;
use crate::broker::{Outcome, Request, accept, read_request, respond};
use crate::config::Config;
use crate::fs::{regular_file, token_file};
use crate::model::{Profile, ProfileName, Workload};
use crate::paths::{ConfigFiles, authorities_file};
use crate::secret::SecretBytes;
use crate::session::{Hook, KUBERNETES_TOKEN, KillOnDrop, run_workload_command, start_hook_process};

/// What the broker serves.
pub struct Broker {
    /// The configuration, read again for each request that depends on it.
    config: ConfigFiles,
    /// The key file that the environment names.
    key_file: Option<PathBuf>,
    /// The directory of the locks of session files.
    locks: PathBuf,
    /// The agent's socket.
    socket: PathBuf,
    /// The files that the configuration has named since the broker was started: a token file is removed after its setting.
    named: Mutex<BTreeSet<PathBuf>>,
}

/// What a request results in.
struct Done {
    outcome: Outcome,
    output: SecretBytes,
    file: Option<std::fs::File>,
}

impl From<Outcome> for Done {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, output: SecretBytes::default(), file: None }
    }
}

impl From<io::Result<()>> for Done {
    fn from(result: io::Result<()>) -> Self {
        result.map_or_else(Into::into, |()| Outcome::Done.into())
    }
}

impl From<io::Error> for Done {
    fn from(error: io::Error) -> Self {
        Outcome::Failed(error.raw_os_error(), error.to_string()).into()
    }
}

/// A running login. Its descriptor, unlike its PID, never means another process.
#[cfg(target_os = "linux")]
struct Login(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Login {
    fn of(child: &Child) -> Option<Self> {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok().map(Self)
    }

    fn end(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::TERM);
    }
}

/// A running login, which ends by itself on this system.
#[cfg(not(target_os = "linux"))]
struct Login;

#[cfg(not(target_os = "linux"))]
impl Login {
    fn of(_child: &Child) -> Option<Self> {
        None
    }

    fn end(&self) {}
}

impl Broker {
    /// Creates a broker for an agent with this configuration and socket.
    #[must_use]
    pub fn new(config: ConfigFiles, key_file: Option<PathBuf>, locks: PathBuf, socket: PathBuf) -> Self {
        let broker = Self { config, key_file, locks, socket, named: Mutex::default() };
        broker.is_named(Path::new(""));
        broker
    }

    /// Serves the requests on `channel` until the agent has ended. A command that it no longer waits for is killed then.
    ///
    /// # Errors
    /// Of the system.
    pub fn serve(self, channel: &UnixStream) -> io::Result<()> {
        let broker = Arc::new(self);
        let mut running: Vec<std::thread::JoinHandle<()>> = Vec::new();
        // A login has no caller when the agent has ended.
        let mut logins: Vec<Login> = Vec::new();
        while let Some(socket) = accept(channel)? {
            running.retain(|thread| !thread.is_finished());
            let Ok((request, payload)) = read_request(&socket) else { continue };
            match request {
                // Answered here: the agent waits for it before it serves its caller.
                Request::Identify { pid } => {
                    let (executable, parent) = executables(pid);
                    let _ = respond(&socket, &Outcome::Identified(executable, parent), &[], None);
                }
                // Started here, in the order of the requests; its end is awaited only to log a failure.
                Request::Hook { profile, is_end } => {
                    let started = broker.start_hook(&profile, is_end, &payload);
                    std::thread::spawn(move || reply(&socket, started.map_or_else(Into::into, ended)));
                }
                Request::LogIn { profile } => {
                    let started = broker
                        .profile(&profile)
                        .and_then(|_| login_command(&broker.config.user, &broker.socket, &profile)?.spawn());
                    logins.extend(started.as_ref().ok().and_then(Login::of));
                    std::thread::spawn(move || reply(&socket, started.map_or_else(Into::into, ended)));
                }
                request => {
                    let broker = Arc::clone(&broker);
                    running
                        .push(std::thread::spawn(move || reply(&socket, broker.perform(&request, &payload, &socket))));
                }
            }
        }
        logins.iter().for_each(Login::end);
        for thread in running {
            let _ = thread.join();
        }
        Ok(())
    }

    /// Does what the request asks for, if the configuration says so.
    fn perform(&self, request: &Request, payload: &SecretBytes, socket: &UnixStream) -> Done {
        match request {
            Request::Open { path, no_follow } => self.open(Path::new(path), *no_follow),
            Request::WriteToken { path } => self.change_token_file(Path::new(path), Some(payload)).into(),
            Request::RemoveToken { path } => self.change_token_file(Path::new(path), None).into(),
            Request::RemoveSocket => std::fs::remove_file(&self.socket).into(),
            Request::Workload { profile } => {
                self.profile(profile).map_or_else(Into::into, |profile| match &profile.server.workload {
                    Some(Workload::Command(words)) => workload_token(words, socket),
                    _ => refused().into(),
                })
            }
            Request::Notify { profile } => {
                let child = self.profile(profile).and_then(|profile| notification(&profile.name).spawn());
                child.map_or_else(Into::into, ended)
            }
            Request::Ask { profile } => {
                let child = self.profile(profile).and_then(|profile| notifier(&profile.name).spawn());
                child.map_or_else(Into::into, |child| interruptible(child, socket))
            }
            Request::Identify { .. } | Request::Hook { .. } | Request::LogIn { .. } => refused().into(),
        }
    }

    fn open(&self, path: &Path, no_follow: bool) -> Done {
        if !self.is_named(path) {
            return refused().into();
        }
        match if no_follow { regular_file::open_no_follow(path) } else { regular_file::open(path) } {
            Ok((file, _)) => Done { file: Some(file), ..Outcome::Done.into() },
            Err(error) => error.into(),
        }
    }

    fn change_token_file(&self, path: &Path, token: Option<&SecretBytes>) -> io::Result<()> {
        if !self.is_named(path) {
            return Err(refused());
        }
        let changed = match token {
            Some(token) => token_file::write(path, token.expose(), || false),
            None => token_file::remove(path),
        };
        changed.map_err(|error| match error {
            token_file::TokenFileError::System(error) => error,
            error => io::Error::other(error.to_string()),
        })
    }

    fn start_hook(&self, profile: &str, is_end: bool, event: &SecretBytes) -> io::Result<Child> {
        let profile = self.profile(profile)?;
        let hook = if is_end { Hook::LoginRequired } else { Hook::Refresh };
        start_hook_process(&self.locks, Some(&self.config.user), &profile, hook, event.expose())
    }

    /// Returns the profile of that name, as it is configured now.
    fn profile(&self, name: &str) -> io::Result<Profile> {
        let name: ProfileName = name.parse().map_err(|_| refused())?;
        let mut config = Config::load(&self.config).map_err(|_| refused())?;
        config.profiles.remove(&name).ok_or_else(refused)
    }

    /// Returns whether the configuration or the environment names the file.
    fn is_named(&self, path: &Path) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(config) = Config::load(&self.config) {
            named.extend(config.profiles.values().flat_map(files_of));
        }
        named.contains(path)
            || self.config.all().any(|file| file == path)
            || self.key_file.as_deref() == Some(path)
            || authorities_file().as_deref() == Some(path)
    }
}

/// Returns the files that a profile names.
fn files_of(profile: &Profile) -> impl Iterator<Item = PathBuf> {
    let workload = match &profile.server.workload {
        Some(Workload::File(path)) => Some(path.clone()),
        Some(Workload::Kubernetes) => Some(KUBERNETES_TOKEN.into()),
        _ => None,
    };
    let named = [&profile.token_file, &profile.id_token_file, &profile.ca_cert, &profile.server.client_key.file];
    named.map(Clone::clone).into_iter().chain([workload]).flatten()
}

fn refused() -> io::Error {
    rustix::io::Errno::ACCESS.into()
}

fn reply(socket: &UnixStream, done: Done) {
    let _ = respond(socket, &done.outcome, done.output.expose(), done.file.as_ref());
}

/// Waits for a program; returns what it printed.
fn ended(child: Child) -> Done {
    match child.wait_with_output() {
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let outcome = Outcome::Ended(Some(output.status.into_raw()), stderr);
            Done { outcome, output: SecretBytes::new(output.stdout), file: None }
        }
        Err(error) => error.into(),
    }
}

/// Does the same, and interrupts the program when the agent cancels the request: `notify-send` then closes its notification.
fn interruptible(child: Child, socket: &UnixStream) -> Done {
    let pid = Pid::from_child(&child);
    let running = Mutex::new(true);
    let interrupt = || {
        if *running.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill_process(pid, Signal::INT);
        }
    };
    until_canceled(socket, interrupt, || {
        // It is reaped only afterwards, so no other process has its number before.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        *running.lock().unwrap_or_else(PoisonError::into_inner) = false;
        ended(child)
    })
}

/// Runs the command of a workload, and kills it when the agent cancels the request.
fn workload_token(words: &[String], socket: &UnixStream) -> Done {
    let caller = KillOnDrop::default();
    let group = caller.0.clone();
    match until_canceled(socket, move || drop(caller), || run_workload_command(words, &group)) {
        Ok(ended) => {
            let outcome = Outcome::Ended(ended.status.map(ExitStatus::into_raw), String::new());
            Done { outcome, output: ended.output, file: None }
        }
        Err(error) => error.into(),
    }
}

/// Calls `canceled` when the agent closes the socket while `work` runs, or when that has ended.
fn until_canceled<T>(socket: &UnixStream, canceled: impl FnOnce() + Send, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = (&mut &*socket).read(&mut [0]);
            canceled();
        });
        let done = work();
        let _ = socket.shutdown(Shutdown::Read);
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_opens_and_changes_only_files_that_are_configured() {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        let config = ConfigFiles { user: at("config.toml"), machine_wide: Vec::new() };
        let configure = |lines: &str| {
            let profile = "[profiles.work]\nissuer = \"https://a.example\"\nclient_id = \"cli\"\n";
            std::fs::write(&config.user, format!("{profile}{lines}")).expect("written");
        };
        for name in ["key", "ca", "token", "other"] {
            std::fs::write(at(name), name).expect("written");
        }
        configure("");
        let broker = Broker::new(config.clone(), Some(at("key")), at("locks"), at("socket"));
        let opens = |name: &str| broker.open(&at(name), false).file.is_some();
        let writes = |name: &str| broker.change_token_file(&at(name), Some(&SecretBytes::new(b"new".to_vec())));
        assert_eq!(["key", "config.toml", "ca", "token", "other"].map(opens), [true, true, false, false, false]);
        assert_eq!(writes("token").expect_err("not configured").kind(), io::ErrorKind::PermissionDenied);
        configure(&format!("ca_cert = {:?}\ntoken_file = {:?}\n", at("ca"), at("token")));
        assert_eq!(["key", "ca", "token", "other"].map(opens), [true, true, true, false]);
        writes("token").expect("configured");
        assert_eq!(std::fs::read(at("token")).expect("there"), b"new");
        // A token file is removed after its setting.
        configure("");
        broker.change_token_file(&at("token"), None).expect("it was configured");
        assert!(!at("token").exists());
        writes("other").expect_err("not configured");
        broker.change_token_file(&at("other"), None).expect_err("not configured");
        assert_eq!(std::fs::read(at("other")).expect("there"), b"other");
    }

    #[test]
    fn broker_runs_only_what_is_configured() {
        let place = tempfile::tempdir().expect("a directory");
        let config = ConfigFiles { user: place.path().join("config.toml"), machine_wide: Vec::new() };
        let profile = "[profiles.work]\nissuer = \"https://a.example\"\nclient_id = \"cli\"\n";
        std::fs::write(&config.user, profile).expect("written");
        let broker = Broker::new(config, None, place.path().join("locks"), place.path().join("socket"));
        let (socket, _other) = UnixStream::pair().expect("sockets");
        for name in ["work", "other", "../work", "--help"] {
            let profile = name.to_owned();
            let done = broker.perform(&Request::Workload { profile }, &SecretBytes::default(), &socket);
            assert!(matches!(done.outcome, Outcome::Failed(Some(_), _)), "{name}: {:?}", done.outcome);
        }
        for request in [Request::Notify { profile: "--help".into() }, Request::Ask { profile: "other".into() }] {
            let done = broker.perform(&request, &SecretBytes::default(), &socket);
            assert!(matches!(done.outcome, Outcome::Failed(Some(_), _)), "{:?}", done.outcome);
        }
    }
}
