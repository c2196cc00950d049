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
use crate::text::shell_word;

/// How long the agent may take to report its state.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// How a command uses the stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreAccess {
    /// It asks for the passphrase of the file store.
    #[default]
    Full,
    /// It does not ask, and shows what is locked.
    NoPrompt,
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

/// How long the agent may take to put a session into its memory, and how often it is asked when it does not respond.
const HANDOVER_LIMIT: Duration = Duration::from_secs(10);
const HANDOVER_ATTEMPTS: usize = 2;

impl AgentStore {
    /// Gives items to the agent. A session that it has already is not replaced by the same, so that it can be asked again.
    fn give(
        &self,
        profile: &ProfileName,
        items: Vec<(String, SecretBytes)>,
        replace: bool,
        holds_profile_lock: bool,
    ) -> Result<(), StoreError> {
        let unusable = || StoreError::RefusedByAgent {
            code: ErrorCode::AgentUnavailable,
            message: "the agent takes no sessions".to_owned(),
            hint: "authctl agent stop".to_owned(),
        };
        let key = self.agent()?.handover_key.ok_or_else(unusable)?;
        let seal = |(name, plain): (String, SecretBytes)| Some(HandoverItem::new(name, &seal_for(&key, &plain)?));
        let items: Option<Vec<HandoverItem>> = items.into_iter().map(seal).collect();
        let request = HandoverRequest {
            profile: profile.clone(),
            items: items.ok_or_else(unusable)?,
            replace,
            holds_profile_lock,
        };
        let mut body = SecretBytes::default();
        serde_json::to_writer(&mut body, &request).map_err(|_| unusable())?;
        for _ in 0..HANDOVER_ATTEMPTS {
            let mut client = match AgentClient::connect(&self.socket, self.home_id.clone()) {
                Ok(Some(client)) => client,
                // With its process, what it had in memory is gone.
                Ok(None) => return Err(StoreError::AgentRequired),
                Err(_) => continue,
            };
            let reply = client.request("POST", "/v1/session", Some(&body), HANDOVER_LIMIT, HANDOVER_LIMIT, || false);
            match reply {
                Ok(reply) if reply.is_success() => return Ok(()),
                Ok(reply) => {
                    let Ok(Err(problem)) = reply.read::<serde::de::IgnoredAny>() else { continue };
                    let (code, message, hint) = (problem.code, problem.title, problem.hint);
                    return Err(StoreError::RefusedByAgent { code, message, hint });
                }
                Err(error) => tracing::info!("the agent has not confirmed that it has the session: {error}"),
            }
        }
        Err(StoreError::AgentSilent)
    }

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

    fn hand_over(&self, profile: &ProfileName, replace: bool) -> Result<(), StoreError> {
        self.give(profile, self.login()?.all(), replace, true)
    }

    fn location(&self, profile: &ProfileName) -> String {
        MemoryStore::default().location(profile)
    }
}

impl App {
    /// Chooses how this command uses the stores; with a passphrase on stdin, it needs no prompt. Call it before [`App::sessions`].
    pub fn use_stores(&self, access: StoreAccess) {
        let asks = access == StoreAccess::NoPrompt && self.common.passphrase_stdin;
        let _ = self.store_access.set(if asks { StoreAccess::Full } else { access });
    }

    pub(super) fn agent_store(&self, access: StoreAccess) -> Result<AgentStore, Error> {
        let login = (access == StoreAccess::Login).then(|| Arc::clone(&self.handover));
        Ok(AgentStore { socket: self.agent_socket()?, home_id: self.home_id()?, login })
    }

    /// Gives the issuer's keys that a login has stored in memory to the agent, which has its session.
    ///
    /// # Errors
    /// As [`Store::hand_over`].
    pub fn hand_over_keys(&self, profile: &ProfileName) -> Result<(), Error> {
        let items = self.handover.all().into_iter().filter(|(name, _)| RecordName::of_name(name).is_some());
        Ok(self.agent_store(StoreAccess::Login)?.give(profile, items.collect(), false, false)?)
    }

    /// Returns the error with the hint that is right for the state of the agent, if the file store is locked.
    #[must_use]
    pub fn with_agent_hint(&self, failure: Error) -> Error {
        if failure.code != ErrorCode::PassphraseRequired || failure.hint != Hint::command("agent start") {
            return failure;
        }
        match self.agent_status() {
            Ok(state) if state.running && state.locked => Error { hint: Hint::command("agent unlock"), ..failure },
            // The agent gives no session to a command that changes one, which asks for the passphrase itself.
            Ok(state) if state.running => {
                let typed = self.typed_args();
                let own =
                    typed.iter().skip(1).filter(|arg| !matches!(arg.as_str(), "--no-input" | "--passphrase-stdin"));
                let words: Vec<String> = own.map(|arg| shell_word(arg)).collect();
                let hint = Hint::shell(format!("authctl --passphrase-stdin {}", words.join(" ")));
                Error { hint, ..failure }
            }
            _ => failure,
        }
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
