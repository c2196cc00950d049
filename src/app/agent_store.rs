//! The memory store as other programs than the agent have it: only a login writes to it, and gives its session to the agent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::agent::protocol::{AgentClient, AgentStatus, HandoverItem, HandoverRequest};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ProfileName, RecordName, Session, StoreKind};
use crate::secret::SecretBytes;
use crate::store::{MemoryStore, Store, StoreError, seal_for};

/// How long the agent may take to report its state.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// How a command uses the stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreAccess {
    /// It asks for the passphrase of the file store.
    #[default]
    Full,
    /// It does not ask, and shows what is locked.
    Glance,
    /// It may also give a session to the agent.
    Login,
    /// It is the agent.
    Agent,
}

/// The memory store of a program that is not the agent.
pub(super) struct AgentStore {
    socket: PathBuf,
    home_id: String,
    /// What a login has written so far.
    login: Option<Arc<MemoryStore>>,
}

impl AgentStore {
    fn agent(&self) -> Result<AgentStatus, StoreError> {
        let connected = AgentClient::connect(&self.socket, self.home_id.clone()).ok().flatten();
        let mut client = connected.ok_or(StoreError::AgentRequired)?;
        let reply = client.request("GET", "/v1/agent", None, STATUS_LIMIT, STATUS_LIMIT, || false);
        let state: Option<AgentStatus> = reply.ok().and_then(|reply| reply.read().ok()?.ok());
        match state {
            Some(state) if state.locked => Err(StoreError::AgentLocked),
            Some(state) => Ok(state),
            None => Err(StoreError::AgentRequired),
        }
    }

    /// Returns what the login has written, or why another command has no access.
    fn login(&self) -> Result<&MemoryStore, StoreError> {
        match &self.login {
            Some(login) => Ok(login),
            None => Err(self.agent().map_or_else(|error| error, |_| StoreError::HeldByAgent)),
        }
    }
}

impl Store for AgentStore {
    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError> {
        self.login()?.read(profile)
    }

    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError> {
        self.login()?.write(profile, session)
    }

    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError> {
        self.login()?.delete(profile)
    }

    /// Makes sure that there is an agent to give the session to.
    fn reserve(&self, _profile: &ProfileName, _bytes: usize) -> Result<(), StoreError> {
        self.agent().map(drop)
    }

    fn read_record(&self, record: &RecordName) -> Result<Option<SecretBytes>, StoreError> {
        self.login()?.read_record(record)
    }

    fn write_record(&self, record: &RecordName, bytes: &SecretBytes) -> Result<(), StoreError> {
        self.login()?.write_record(record, bytes)
    }

    fn location(&self, profile: &ProfileName) -> String {
        MemoryStore::default().location(profile)
    }
}

impl App {
    /// Chooses how this command uses the stores. Call it before [`App::sessions`].
    pub fn use_stores(&self, access: StoreAccess) {
        let _ = self.store_access.set(access);
    }

    pub(super) fn agent_store(&self, access: StoreAccess) -> Result<AgentStore, Error> {
        let login = (access == StoreAccess::Login).then(|| Arc::clone(&self.handover));
        Ok(AgentStore { socket: self.agent_socket()?, home_id: self.home_id()?, login })
    }

    /// Gives the session that a login has stored in memory to the agent, with the issuer's keys.
    ///
    /// # Errors
    /// [`ErrorCode::AgentAbsent`], or why the agent does not take it.
    pub fn hand_over(&self, profile: &ProfileName, replace: bool) -> Result<(), Error> {
        let unusable =
            || Error::msg(ErrorCode::AgentUnavailable, "the agent takes no sessions", Hint::command("agent stop"));
        let key = self.running_agent()?.ok_or(StoreError::AgentRequired)?.handover_key.ok_or_else(unusable)?;
        let seal = |(name, plain): (String, SecretBytes)| Some(HandoverItem::new(name, &seal_for(&key, &plain)?));
        let items: Option<Vec<HandoverItem>> = self.handover.take().into_iter().map(seal).collect();
        let request = HandoverRequest { profile: profile.clone(), items: items.ok_or_else(unusable)?, replace };
        let mut body = SecretBytes::default();
        serde_json::to_writer(&mut body, &request).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))?;
        self.require_agent("POST", "/v1/session", Some(&body)).map(drop)
    }

    /// Returns whether only the agent can read the profile's session now: it is in memory, or in the locked file store of which
    /// the agent has the key.
    ///
    /// # Errors
    /// As [`App::sessions`].
    pub fn is_held_by_agent(&self, store: StoreKind) -> Result<bool, Error> {
        Ok(match store {
            StoreKind::Keychain => false,
            StoreKind::Memory => true,
            StoreKind::File => {
                let is_locked = self.sessions()?.file_key().is_some_and(crate::store::StoreKey::is_locked);
                is_locked && self.agent_status().is_ok_and(|state| state.running && !state.locked)
            }
        })
    }
}
