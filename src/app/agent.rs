//! The way to the agent: asks it where it runs, and says when a command has to do without.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{App, PATIENCE};
use crate::agent::protocol::{AgentStatus, Client, ClientError, Reply, home_mark};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ProfileName;
use crate::secret::SecretBytes;

/// The most that is waited for an agent that waits for an issuer; the longest refresh ends before.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// For an answer that no issuer has a part in.
const SOON: Duration = Duration::from_secs(5);

/// The codes of problems with which a command goes on without the agent.
const GO_ON_WITHOUT: [ErrorCode; 3] = [ErrorCode::TooManyRequests, ErrorCode::AnotherHome, ErrorCode::AgentStopping];

impl App {
    /// The agent's socket: `AUTHCTL_SOCK`, else the usual place.
    ///
    /// # Errors
    /// As [`App::paths`].
    pub fn agent_socket(&self) -> Result<PathBuf, Error> {
        match &self.environment.agent_socket {
            Some(path) => Ok(path.clone()),
            None => Ok(self.paths()?.agent_socket),
        }
    }

    /// Which home this process means, for the agent to compare with its own.
    ///
    /// # Errors
    /// As [`App::paths`].
    pub fn home_mark(&self) -> Result<String, Error> {
        let paths = self.paths()?;
        let config = std::path::absolute(&paths.config_file).unwrap_or(paths.config_file);
        Ok(home_mark(&config, &paths.data))
    }

    /// A connection to the agent; `None` where none runs.
    ///
    /// # Errors
    /// Where somebody else listens in its place.
    pub fn agent(&self) -> Result<Option<Client>, Error> {
        match Client::connect(&self.agent_socket()?, self.home_mark()?) {
            Ok(client) => Ok(client),
            Err(ClientError::WrongOwner(owner)) => Err(ClientError::WrongOwner(owner).into()),
            Err(ClientError::NoResponse | ClientError::InvalidResponse) => {
                self.warn_unresponsive();
                Ok(None)
            }
        }
    }

    /// What the agent answers to a request for a token or a refresh; `None` where none runs, or where it cannot serve this
    /// command, which then goes on by itself.
    ///
    /// # Errors
    /// What the agent told.
    pub fn try_agent<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        body: Option<&SecretBytes>,
    ) -> Result<Option<T>, Error> {
        let Some(mut client) = self.agent()? else { return Ok(None) };
        let waiting = || {
            // It may wait for an issuer, or be out of order: another question tells which.
            let lives = matches!(self.query_agent(), Ok(Some(_)));
            if lives && self.ui().is_interactive() {
                self.ui().notice("Waiting for the agent to refresh; press Ctrl-C to abort");
            }
            lives
        };
        let reply = match client.request(method, target, body, PATIENCE, MAX_WAIT, waiting) {
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!("{error}");
                self.warn_unresponsive();
                return Ok(None);
            }
        };
        match reply.read::<T>() {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(problem)) if GO_ON_WITHOUT.contains(&problem.code) => {
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

    /// The same for a request that makes no sense without an agent.
    ///
    /// # Errors
    /// What the agent told, or that there is none.
    pub fn require_agent(&self, method: &str, target: &str, body: Option<&SecretBytes>) -> Result<Reply, Error> {
        let Some(mut client) = Client::connect(&self.agent_socket()?, self.home_mark()?)? else {
            return Err(self.agent_absent()?);
        };
        let reply = client.request(method, target, body, SOON, MAX_WAIT, || true)?;
        match reply.status {
            200..300 => Ok(reply),
            _ => Err(reply
                .read::<serde::de::IgnoredAny>()?
                .err()
                .map_or(ClientError::InvalidResponse.into(), Error::from)),
        }
    }

    /// How the agent is, running or not. Asks nobody but it.
    ///
    /// # Errors
    /// Where somebody else listens in its place, another user or the agent of another home.
    pub fn agent_status(&self) -> Result<AgentStatus, Error> {
        Ok(self.query_agent()?.unwrap_or(self.absent_agent_status()?))
    }

    /// The state of an agent that does not run.
    ///
    /// # Errors
    /// As [`App::paths`].
    pub fn absent_agent_status(&self) -> Result<AgentStatus, Error> {
        Ok(AgentStatus::absent(self.agent_socket()?.display().to_string()))
    }

    fn query_agent(&self) -> Result<Option<AgentStatus>, Error> {
        let Some(mut client) = self.agent()? else { return Ok(None) };
        let Ok(reply) = client.request("GET", "/v1/agent", None, SOON, SOON, || false) else { return Ok(None) };
        match reply.read() {
            Ok(Err(problem)) if problem.code == ErrorCode::AnotherHome => Err(problem.into()),
            read => Ok(read.ok().and_then(Result::ok)),
        }
    }

    /// Tells the agent, if one runs, that a profile or its session has changed. It would notice by itself, a little later.
    pub fn notify_agent(&self, changed: &ProfileName) {
        let Ok(Some(mut client)) = self.agent() else { return };
        let told = client.request("POST", &format!("/v1/forget/{changed}"), None, SOON, SOON, || false);
        if let Err(error) = told {
            tracing::info!("the agent was not told that {changed} has changed: {error}");
        }
    }

    /// That no agent runs here.
    ///
    /// # Errors
    /// As [`App::paths`].
    pub fn agent_absent(&self) -> Result<Error, Error> {
        let message = format!("no agent runs at {}", self.agent_socket()?.display());
        Ok(Error::msg(ErrorCode::AgentAbsent, message, Hint::command("agent start")))
    }

    fn warn_unresponsive(&self) {
        self.ui().notice("warning: the agent does not respond; continuing without it");
    }
}
