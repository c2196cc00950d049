//! The state of the agent on its socket: what it holds, what it waits for, and what the system refuses it.

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::model::ProfileName;

/// The agent's state: the response to `GET /v1/agent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Always true in an agent's response.
    pub running: bool,
    /// The path of its socket.
    pub socket: String,
    /// Its PID.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Its version.
    #[serde(default)]
    pub version: Option<String>,
    /// When it started.
    #[serde(default)]
    pub started_at: Option<UnixTime>,
    /// Whether it is locked.
    #[serde(default)]
    pub locked: bool,
    /// The idle time in seconds after which it locks itself.
    #[serde(default)]
    pub locks_after: Option<u64>,
    /// The number of cached sessions.
    #[serde(default)]
    pub sessions: usize,
    /// The number of open connections.
    #[serde(default)]
    pub connections: usize,
    /// The profiles whose session is being refreshed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refreshing: Vec<ProfileName>,
    /// The profiles whose last refresh failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<ProfileName>,
    /// The profiles that require a login.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub login_required: Vec<ProfileName>,
    /// The profiles with a supplied token that nothing has verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unverified: Vec<ProfileName>,
    /// Why the configuration cannot be read, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_error: Option<String>,
    /// The public key (age) to which a login encrypts a session that it gives to the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover_key: Option<String>,
    /// What the system refuses its process, even if it has been taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Confinement>,
    /// The refreshed sessions that their store does not take, and that are only in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsaved: Vec<UnsavedStatus>,
    /// The hooks that failed when the agent last ran them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_hooks: Vec<HookStatus>,
}

/// What the system refuses a confined process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// Reading and changing other files than its own and the system's.
    Files,
    /// Running a program.
    Programs,
    /// Sockets that are neither Unix nor Internet sockets, and raw ones.
    Sockets,
    /// Accepting TCP connections.
    Listeners,
    /// Sending signals to other processes.
    Signals,
}

impl Restriction {
    /// Every one, in the order in which they are shown.
    const ALL: [Self; 5] = [Self::Files, Self::Programs, Self::Sockets, Self::Listeners, Self::Signals];

    fn word(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Programs => "programs",
            Self::Sockets => "sockets",
            Self::Listeners => "listeners",
            Self::Signals => "signals",
        }
    }
}

/// What the system refuses the agent's process, and what it could refuse but does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// What is refused.
    pub refused: Vec<String>,
    /// What this system cannot refuse.
    pub allowed: Vec<String>,
}

impl Confinement {
    /// Returns the confinement with these restrictions.
    #[must_use]
    pub fn of(refused: &[Restriction]) -> Self {
        let (refused, allowed): (Vec<_>, Vec<_>) =
            Restriction::ALL.iter().partition(|restriction| refused.contains(restriction));
        let words = |restrictions: Vec<&Restriction>| {
            restrictions.into_iter().map(|restriction| restriction.word().to_owned()).collect()
        };
        Self { refused: words(refused), allowed: words(allowed) }
    }
}

/// A refreshed session that is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsavedStatus {
    /// The profile.
    pub profile: ProfileName,
    /// When it could not be stored first.
    pub since: UnixTime,
    /// Why it could not be stored at the last attempt.
    pub error: String,
}

/// A hook that failed when it last ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// The profile.
    pub profile: ProfileName,
    /// The setting that has the hook.
    pub hook: String,
    /// When it failed.
    pub at: UnixTime,
    /// Why, in one line.
    pub error: String,
}

impl AgentStatus {
    /// Returns the state of an agent that is not running at `socket`.
    #[must_use]
    pub fn absent(socket: String) -> Self {
        Self {
            running: false,
            socket,
            pid: None,
            version: None,
            started_at: None,
            locked: false,
            locks_after: None,
            sessions: 0,
            connections: 0,
            refreshing: Vec::new(),
            failing: Vec::new(),
            login_required: Vec::new(),
            unverified: Vec::new(),
            config_error: None,
            handover_key: None,
            confinement: None,
            unsaved: Vec::new(),
            failed_hooks: Vec::new(),
        }
    }
}
