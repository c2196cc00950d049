//! The broker process of a confined agent: see [`crate::broker`].

mod programs;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use super::ask_login::notifier;
use super::login_prompt::login_command;
use super::notification::notification;
use crate::broker::{BrokerOutcome, BrokerRequest, accept, is_canceled, read_request, respond};
use crate::config::Config;
use crate::fs::{leads_through, regular_file, token_file};
use crate::model::{Profile, ProfileName, Workload};
use crate::paths::{ConfigFiles, authorities_file};
use crate::process::executables;
use crate::secret::SecretBytes;
use crate::session::{Hook, KUBERNETES_TOKEN, start_hook_process};
use programs::{Done, RunningLogin, ask, ended, interruptible, workload_token};

/// What a broker is for.
pub struct BrokerParts {
    /// The configuration, read again for each request that depends on it.
    pub config: ConfigFiles,
    /// The key file that the environment names.
    pub key_file: Option<PathBuf>,
    /// The directory of the locks of session files.
    pub locks: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
    /// The directories that the agent changes itself.
    pub writable: Vec<PathBuf>,
    /// Whether the user wants notifications of sessions that have ended.
    pub notify: bool,
    /// Whether the user wants to be asked to log in.
    pub asks_for_login: bool,
}

/// The process that serves a confined agent.
pub struct Broker {
    parts: BrokerParts,
    known: Mutex<Known>,
    /// The logins that are running, by profile.
    logins: Mutex<BTreeMap<String, Option<RunningLogin>>>,
}

/// What the configuration allows.
#[derive(Default)]
struct Known {
    /// The last valid one, as the agent has it.
    config: Config,
    /// The files that it has named since the broker was started.
    files: BTreeSet<PathBuf>,
    /// The token files among them. One is removed after its setting.
    token_files: BTreeSet<PathBuf>,
}

impl Broker {
    /// Creates a broker.
    #[must_use]
    pub fn new(parts: BrokerParts) -> Self {
        let broker = Self { parts, known: Mutex::default(), logins: Mutex::default() };
        drop(broker.known());
        broker
    }

    /// Serves the requests on `channel` until the agent has ended. A command that it no longer waits for is killed then.
    ///
    /// # Errors
    /// The system's error.
    pub fn serve(self, channel: &UnixStream) -> io::Result<()> {
        let broker = Arc::new(self);
        let (starts, to_start) = mpsc::channel::<(UnixStream, BrokerRequest, SecretBytes)>();
        // Hooks start in the order of the requests. Reading the configuration for them must not delay what callers wait for.
        let starter = Arc::clone(&broker);
        let starter = spawn(move || {
            for (socket, request, payload) in to_start {
                starter.start(socket, &request, &payload);
            }
        })?;
        let mut running: Vec<JoinHandle<()>> = Vec::new();
        while let Some(socket) = accept(channel)? {
            running.retain(|thread| !thread.is_finished());
            let Ok((request, payload)) = read_request(&socket) else { continue };
            match request {
                // Answered here: the agent waits for it before it serves its caller.
                BrokerRequest::Identify { pid } => {
                    let (executable, parent) = executables(pid);
                    let _ = respond(&socket, &BrokerOutcome::Identified(executable, parent), &[], None);
                }
                BrokerRequest::Hook { .. } | BrokerRequest::LogIn { .. } => {
                    let _ = starts.send((socket, request, payload));
                }
                request => {
                    let broker = Arc::clone(&broker);
                    let perform = move || reply(&socket, broker.perform(&request, &payload, &socket));
                    // Without a thread, the socket is closed, and the request fails.
                    running.extend(spawn(perform));
                }
            }
        }
        drop(starts);
        let _ = starter.join();
        // A login has no caller when the agent has ended.
        broker.logins().values().flatten().for_each(RunningLogin::end);
        for thread in running {
            let _ = thread.join();
        }
        Ok(())
    }

    /// Starts a hook or a login. Its end is awaited only to report a failure.
    fn start(self: &Arc<Self>, socket: UnixStream, request: &BrokerRequest, payload: &SecretBytes) {
        let (started, login) = match request {
            BrokerRequest::Hook { profile, is_end } => (self.start_hook(profile, *is_end, payload), None),
            BrokerRequest::LogIn { profile } => (self.start_login(profile), Some(profile.clone())),
            _ => (Err(refused()), None),
        };
        let Ok(child) = started.map_err(|error| reply(&socket, error.into())) else { return };
        let (broker, ended_login) = (Arc::clone(self), login.clone());
        let waiting = spawn(move || {
            let done = ended(child);
            ended_login.into_iter().for_each(|name| broker.forget_login(&name));
            reply(&socket, done);
        });
        if waiting.is_err() {
            login.into_iter().for_each(|name| self.forget_login(&name));
        }
    }

    /// Does what the request asks for, if the configuration allows it.
    fn perform(&self, request: &BrokerRequest, payload: &SecretBytes, socket: &UnixStream) -> Done {
        match request {
            BrokerRequest::Open { path } => self.open(Path::new(path)),
            BrokerRequest::WriteToken { path } => {
                self.change_token_file(Path::new(path), Some(payload), || is_canceled(socket)).into()
            }
            BrokerRequest::RemoveToken { path } => self.change_token_file(Path::new(path), None, || false).into(),
            BrokerRequest::RemoveSocket => std::fs::remove_file(&self.parts.socket).into(),
            BrokerRequest::Workload { profile } => {
                self.profile(profile).map_or_else(Into::into, |profile| match &profile.server.workload {
                    Some(Workload::Command(words)) => workload_token(words, socket),
                    _ => refused().into(),
                })
            }
            BrokerRequest::Notify { profile } if self.parts.notify || self.parts.asks_for_login => {
                let child = self.profile(profile).and_then(|profile| notification(&profile.name).spawn());
                child.map_or_else(Into::into, |child| interruptible(child, socket, |_| {}))
            }
            BrokerRequest::Ask { profile } if self.parts.asks_for_login => {
                let asked = self.profile(profile).and_then(|profile| ask(notifier(&profile.name), socket));
                asked.unwrap_or_else(Into::into)
            }
            BrokerRequest::Notify { .. } | BrokerRequest::Ask { .. } => refused().into(),
            BrokerRequest::Identify { .. } | BrokerRequest::Hook { .. } | BrokerRequest::LogIn { .. } => {
                refused().into()
            }
        }
    }

    /// Opens a file that the configuration or the environment names. A symbolic link in place of a token file is never followed.
    fn open(&self, path: &Path) -> Done {
        let is_token_file = {
            let known = self.known();
            let is_named = known.files.contains(path)
                || self.parts.config.all().any(|file| file == path)
                || self.parts.key_file.as_deref() == Some(path)
                || authorities_file().as_deref() == Some(path);
            if !is_named || self.is_chosen_by_agent(path) {
                return refused().into();
            }
            known.token_files.contains(path)
        };
        match if is_token_file { regular_file::open_no_follow(path) } else { regular_file::open(path) } {
            Ok((file, _)) => Done { file: Some(file), ..BrokerOutcome::Done.into() },
            Err(error) => error.into(),
        }
    }

    fn change_token_file(
        &self,
        path: &Path,
        token: Option<&SecretBytes>,
        is_abandoned: impl Fn() -> bool,
    ) -> io::Result<()> {
        if !self.known().token_files.contains(path) || self.is_chosen_by_agent(path) {
            return Err(refused());
        }
        let changed = match token {
            Some(token) => token_file::write(path, token.expose(), is_abandoned),
            None => token_file::remove(path),
        };
        changed.map_err(|error| match error {
            token_file::TokenFileError::System(error) => error,
            error => io::Error::other(error.to_string()),
        })
    }

    /// Returns whether the agent may have chosen where the path leads to. It needs no broker for its own files.
    fn is_chosen_by_agent(&self, path: &Path) -> bool {
        leads_through(path, &self.parts.writable)
    }

    fn start_hook(&self, profile: &str, is_end: bool, event: &SecretBytes) -> io::Result<Child> {
        let profile = self.profile(profile)?;
        let hook = if is_end { Hook::LoginRequired } else { Hook::Refresh };
        start_hook_process(&self.parts.locks, Some(&self.parts.config.user), &profile, hook, event.expose())
    }

    /// Starts the login to a profile, unless one is running.
    fn start_login(&self, profile: &str) -> io::Result<Child> {
        if !self.parts.asks_for_login {
            return Err(refused());
        }
        self.profile(profile)?;
        let mut logins = self.logins();
        if logins.contains_key(profile) {
            return Err(rustix::io::Errno::ALREADY.into());
        }
        let child = login_command(&self.parts.config.user, &self.parts.socket, profile)?.spawn()?;
        logins.insert(profile.to_owned(), RunningLogin::of(&child));
        Ok(child)
    }

    fn forget_login(&self, profile: &str) {
        self.logins().remove(profile);
    }

    fn logins(&self) -> MutexGuard<'_, BTreeMap<String, Option<RunningLogin>>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the profile of that name, as it is configured now.
    fn profile(&self, name: &str) -> io::Result<Profile> {
        let name: ProfileName = name.parse().map_err(|_| refused())?;
        self.known().config.profiles.get(&name).cloned().ok_or_else(refused)
    }

    /// Reads the configuration; returns its contents, and the earlier ones if it is invalid now.
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(config) = Config::load(&self.parts.config) {
            known.files.extend(config.profiles.values().flat_map(files_of));
            known.token_files.extend(config.profiles.values().flat_map(Profile::token_files).map(Path::to_path_buf));
            known.config = config;
        }
        known
    }
}

/// Runs `work` on a thread.
fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let started = thread::Builder::new().spawn(work);
    started.inspect_err(|error| tracing::warn!("cannot start a thread: {error}"))
}

/// Returns the files that a profile names.
fn files_of(profile: &Profile) -> impl Iterator<Item = PathBuf> {
    let of_pod = (profile.server.workload == Some(Workload::Kubernetes)).then(|| KUBERNETES_TOKEN.into());
    profile.input_files().chain(profile.token_files()).map(Path::to_path_buf).chain(of_pod)
}

fn refused() -> io::Error {
    rustix::io::Errno::ACCESS.into()
}

fn reply(socket: &UnixStream, done: Done) {
    let _ = respond(socket, &done.outcome, done.output.expose(), done.file.as_ref());
}

#[cfg(test)]
mod tests;
