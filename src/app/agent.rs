//! The command line's access to the agent: requests, and the fallback without one.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::App;
use super::runtime::PROGRESS_DELAY;
use crate::agent::protocol::{AgentClient, AgentStatus, ClientError, MAX_WAIT, Reply, home_id};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::lock_holder;
use crate::model::ProfileName;
use crate::secret::SecretBytes;
use crate::session::LockWait;
use crate::store::ProfileLock;

/// How long to wait for a reply that needs no issuer.
const SHORT_WAIT: Duration = Duration::from_secs(5);

/// How long a shell prompt waits for the agent.
const QUICK_WAIT: Duration = Duration::from_millis(100);

/// How long to wait for an agent that waits for an issuer: its reply comes after its own limit.
const LONG_WAIT: Duration = MAX_WAIT.saturating_add(SHORT_WAIT);

/// Problems after which a command continues without the agent. It may succeed where the agent cannot: the variables of a CI
/// platform may be set only here, and an older agent does not have every path.
const CONTINUE_WITHOUT: [ErrorCode; 5] = [
    ErrorCode::TooManyRequests,
    ErrorCode::AnotherHome,
    ErrorCode::AgentStopping,
    ErrorCode::WorkloadUnavailable,
    ErrorCode::UnknownPath,
];

/// Asks the agent for its state; returns `None` if none is running.
fn state_of_agent(socket: &Path, home_id: &str, limit: Duration) -> Result<Option<Reply>, ClientError> {
    let Some(mut client) = AgentClient::connect(socket, home_id.to_owned())? else { return Ok(None) };
    client.request("GET", "/v1/agent", None, limit, limit, || false).map(Some)
}

impl App {
    /// Returns the path of the agent's socket: `AUTHCTL_SOCK`, else the default.
    ///
    /// # Errors
    /// As [`App::paths`].
    pub fn agent_socket(&self) -> Result<PathBuf, Error> {
        match &self.environment.agent_socket {
            Some(path) => Ok(path.clone()),
            None => Ok(self.paths()?.agent_socket),
        }
    }

    /// Returns the ID of this process's configuration and data directory, which the agent compares with its own.
    ///
    /// # Errors
    /// As [`App::paths`].
    pub fn home_id(&self) -> Result<String, Error> {
        let paths = self.paths()?;
        let config = std::path::absolute(&paths.config.user).unwrap_or(paths.config.user);
        Ok(home_id(&config, &paths.data))
    }

    /// Connects to the agent; returns `None` if none is running.
    ///
    /// # Errors
    /// If another user listens on the socket.
    pub fn agent(&self) -> Result<Option<AgentClient>, Error> {
        let socket = self.agent_socket()?;
        match AgentClient::connect(&socket, self.home_id()?) {
            Ok(client) => {
                let state = if client.is_some() { "using the agent" } else { "no agent runs" };
                tracing::info!("{state} at {}", socket.display());
                Ok(client)
            }
            Err(ClientError::WrongOwner(owner)) => Err(ClientError::WrongOwner(owner).into()),
            Err(ClientError::NoResponse | ClientError::InvalidResponse) => {
                self.warn_unresponsive();
                Ok(None)
            }
        }
    }

    /// Sends a request for a token or a refresh to the agent; returns `None` if none is running, or if it cannot serve this
    /// command, which then continues without it.
    ///
    /// # Errors
    /// The problem that the agent reported.
    pub fn try_agent<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        body: Option<&SecretBytes>,
    ) -> Result<Option<T>, Error> {
        let Some(mut client) = self.agent()? else { return Ok(None) };
        let waiting = || {
            // A second request shows whether it waits for an issuer or hangs.
            let Ok(Some(state)) = self.query_agent() else { return false };
            match self.lock_of_another(target, state.pid) {
                Some(wait) => self.report_lock(&wait),
                None if self.ui().is_interactive() => {
                    self.ui().notice("Waiting for the agent to refresh; press Ctrl-C to abort");
                }
                None => {}
            }
            true
        };
        self.read_reply(client.request(method, target, body, PROGRESS_DELAY, LONG_WAIT, waiting))
    }

    /// Has an agent that cannot store a refreshed session of the profile leave the profile lock to this command, and revoke
    /// that session if `revoke` is set and the command deletes the stored one.
    pub fn release_unsaved(&self, profile: &ProfileName, revoke: bool) {
        if self.agent_status().is_ok_and(|state| state.unsaved.iter().any(|unsaved| unsaved.profile == *profile)) {
            self.notify_agent_of_end(profile, revoke);
        }
    }

    /// Returns the lock that the agent waits for: the lock of the profile in `target`, if another process holds it.
    fn lock_of_another(&self, target: &str, agent: Option<u32>) -> Option<LockWait> {
        let profile: ProfileName = target.split(['/', '?']).nth(3)?.parse().ok()?;
        let paths = self.paths().ok()?;
        let holder = |dir: PathBuf| lock_holder(&ProfileLock::path(&dir, &profile), None);
        let holder = [paths.locks.clone(), paths.shared().join("locks")]
            .into_iter()
            .find_map(holder)
            .filter(|holder| Some(*holder) != agent)?;
        Some(LockWait { profile, holder: Some(holder) })
    }

    /// Does the same as [`App::try_agent`] without blocking the runtime, for a command that goes on: after an agent has not
    /// responded, it asks for its state first, and for a short time, until it responds again.
    ///
    /// # Errors
    /// As [`App::try_agent`].
    pub async fn try_agent_async<T: DeserializeOwned>(
        &self,
        method: &'static str,
        target: String,
        body: Option<SecretBytes>,
    ) -> Result<Option<T>, Error> {
        let (socket, home_id) = (self.agent_socket()?, self.home_id()?);
        let shown = socket.clone();
        let did_hang = self.agent_hangs.load(Ordering::Relaxed);
        let request = move || {
            let responds = |limit| matches!(state_of_agent(&socket, &home_id, limit), Ok(Some(_)));
            let Some(mut client) = AgentClient::connect(&socket, home_id.clone())? else { return Ok(None) };
            if did_hang && !responds(QUICK_WAIT) {
                return Err(ClientError::NoResponse);
            }
            let waiting = || responds(SHORT_WAIT);
            client.request(method, &target, body.as_ref(), PROGRESS_DELAY, LONG_WAIT, waiting).map(Some)
        };
        let reply = match tokio::task::spawn_blocking(request).await {
            Ok(Ok(reply)) => reply,
            Err(_) => return Ok(None),
            Ok(Err(error @ ClientError::WrongOwner(_))) => return Err(error.into()),
            Ok(Err(ClientError::NoResponse | ClientError::InvalidResponse)) => {
                if !self.agent_hangs.swap(true, Ordering::Relaxed) {
                    self.warn_unresponsive();
                }
                return Ok(None);
            }
        };
        self.agent_hangs.store(false, Ordering::Relaxed);
        let state = if reply.is_some() { "using the agent" } else { "no agent runs" };
        tracing::info!("{state} at {}", shown.display());
        reply.map_or(Ok(None), |reply| self.read_reply(Ok(reply)))
    }

    /// Returns what the agent has replied; `None` if the command continues without it.
    fn read_reply<T: DeserializeOwned>(&self, reply: Result<Reply, ClientError>) -> Result<Option<T>, Error> {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!("{error}");
                self.warn_unresponsive();
                return Ok(None);
            }
        };
        match reply.read::<T>() {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(problem)) if CONTINUE_WITHOUT.contains(&problem.code) => {
                tracing::info!("without the agent: {}", problem.title);
                Ok(None)
            }
            Ok(Err(problem)) => Err(problem.into()),
            Err(_) => {
                self.warn_unresponsive();
                Ok(None)
            }
        }
    }

    /// Sends a request that is only possible with an agent.
    ///
    /// # Errors
    /// The problem that the agent reported, or [`ErrorCode::AgentAbsent`].
    pub fn require_agent(&self, method: &str, target: &str, body: Option<&SecretBytes>) -> Result<Reply, Error> {
        let Some(mut client) = AgentClient::connect(&self.agent_socket()?, self.home_id()?)? else {
            return Err(self.agent_absent()?);
        };
        let reply = client.request(method, target, body, SHORT_WAIT, LONG_WAIT, || true)?;
        match reply.is_success() {
            true => Ok(reply),
            false => Err(reply
                .read::<serde::de::IgnoredAny>()?
                .err()
                .map_or(ClientError::InvalidResponse.into(), Error::from)),
        }
    }

    /// Returns the state of the agent, running or not.
    ///
    /// # Errors
    /// If another user or the agent of another home listens on the socket.
    pub fn agent_status(&self) -> Result<AgentStatus, Error> {
        Ok(self.query_agent()?.unwrap_or(self.absent_agent_status()?))
    }

    /// Returns the state of an agent that is not running.
    ///
    /// # Errors
    /// As [`App::paths`].
    pub fn absent_agent_status(&self) -> Result<AgentStatus, Error> {
        Ok(AgentStatus::absent(self.agent_socket()?.display().to_string()))
    }

    fn query_agent(&self) -> Result<Option<AgentStatus>, Error> {
        let Some(mut client) = self.agent()? else { return Ok(None) };
        let Ok(reply) = client.request("GET", "/v1/agent", None, SHORT_WAIT, SHORT_WAIT, || false) else {
            return Ok(None);
        };
        match reply.read() {
            Ok(Err(problem)) if problem.code == ErrorCode::AnotherHome => Err(problem.into()),
            read => Ok(read.ok().and_then(Result::ok)),
        }
    }

    /// Returns the state of a running agent; `None` if none is running. Unlike [`App::agent_status`], it reports an agent that
    /// does not respond.
    ///
    /// # Errors
    /// Why the agent cannot be used.
    pub fn running_agent(&self) -> Result<Option<AgentStatus>, Error> {
        self.agent_within(SHORT_WAIT)
    }

    /// Returns the state of the agent if it responds at once.
    pub fn quick_agent_status(&self) -> Option<AgentStatus> {
        self.agent_within(QUICK_WAIT).ok().flatten()
    }

    fn agent_within(&self, limit: Duration) -> Result<Option<AgentStatus>, Error> {
        let reply = state_of_agent(&self.agent_socket()?, &self.home_id()?, limit)?;
        Ok(reply.map(|reply| reply.read()).transpose()?.transpose()?)
    }

    /// Notifies a running agent that a profile or its session has changed. It would notice by itself a little later.
    pub fn notify_agent(&self, changed: &ProfileName) {
        self.notify_agent_of_end(changed, true);
    }

    /// Does the same after a logout. An agent that has a newer session, which it could not store, revokes it if `revoke` is set.
    pub fn notify_agent_of_end(&self, changed: &ProfileName, revoke: bool) {
        let Ok(Some(mut client)) = self.agent() else { return };
        let target = format!("/v1/forget/{changed}{}", if revoke { "" } else { "?revoke=false" });
        let notified = client.request("POST", &target, None, SHORT_WAIT, SHORT_WAIT, || false);
        if let Err(error) = notified {
            tracing::info!("cannot notify the agent that {changed} has changed: {error}");
        }
    }

    /// Returns the error that no agent is running.
    ///
    /// # Errors
    /// As [`App::paths`].
    pub fn agent_absent(&self) -> Result<Error, Error> {
        let message = format!("no agent runs at {}", self.agent_socket()?.display());
        Ok(Error::msg(ErrorCode::AgentAbsent, message, Hint::command("agent start")))
    }

    fn warn_unresponsive(&self) {
        self.ui().warn("the agent does not respond; continuing without it");
    }
}
