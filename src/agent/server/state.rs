//! The agent's state: what all parts of the server share.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use super::audit::AuditLog;
use super::cache::{Attention, SessionCache};
use super::events::Events;
use super::harden;
use super::limiter::ConnectionLimiter;
use super::lock_state::PassphraseLock;
use super::login_prompt::LoginPrompts;
use super::peer::Peers;
use super::profiles::Profiles;
use crate::agent::protocol::{AgentStatus, Confinement, HookStatus, MAX_WAIT, UnsavedStatus};
use crate::clock::{Clock, UnixTime};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ProfileName;
use crate::paths::ConfigFiles;
use crate::session::{Hook, HookOutcome, SessionService, UnsavedSession};
use crate::store::HandoverKey;
use crate::text::without_error_numbers;

/// The state that all parts share.
pub(super) struct Agent {
    pub(super) sessions: Arc<SessionService>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) profiles: Profiles,
    /// Held while the configuration is read again.
    pub(super) reloading: Arc<tokio::sync::Mutex<()>>,
    pub(super) cache: Arc<SessionCache>,
    pub(super) agent_lock: PassphraseLock,
    pub(super) events: Events,
    /// Asks the user to log in, if that was wanted.
    pub(super) prompts: Option<LoginPrompts>,
    /// Notified when token files may no longer be as their sessions are.
    pub(super) token_files: Notify,
    pub(super) audit_log: AuditLog,
    /// The key to which logins encrypt what they give to this agent.
    pub(super) handover: HandoverKey,
    pub(super) limiter: Arc<ConnectionLimiter>,
    pub(super) peers: Peers,
    pub(super) home_id: String,
    pub(super) socket: PathBuf,
    pub(super) started_at: UnixTime,
    /// What the system refuses this process.
    pub(super) confinement: Confinement,
    pub(super) stop: watch::Sender<bool>,
    /// The profiles whose sessions are being checked for changes by other processes, and whether to check them again.
    pub(super) checks: Mutex<HashMap<ProfileName, bool>>,
    /// The profiles whose lock is awaited, to read their sessions again.
    pub(super) awaited_locks: Mutex<HashSet<ProfileName>>,
    /// The hooks that failed when they last ran.
    failed_hooks: Mutex<HashMap<(ProfileName, Hook), (UnixTime, String)>>,
}

impl Agent {
    /// Creates the state of an agent that serves on `socket`, with the profiles of the configuration.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub(super) fn new(
        sessions: Arc<SessionService>,
        config: ConfigFiles,
        home_id: String,
        socket: PathBuf,
        asks_for_login: bool,
        confinement: Confinement,
    ) -> Result<Arc<Self>, Error> {
        let prompts = asks_for_login.then(LoginPrompts::default);
        let clock = Arc::clone(sessions.clock());
        Ok(Arc::new(Self {
            profiles: Profiles::load(config)?,
            reloading: Arc::default(),
            cache: Arc::default(),
            agent_lock: PassphraseLock::new(&clock),
            events: Events::default(),
            prompts,
            token_files: Notify::new(),
            audit_log: AuditLog::default(),
            handover: HandoverKey::generate(),
            limiter: Arc::new(ConnectionLimiter::new(harden::descriptors())),
            peers: Peers::default(),
            home_id,
            socket,
            started_at: clock.now(),
            confinement,
            stop: watch::Sender::new(false),
            checks: Mutex::default(),
            awaited_locks: Mutex::default(),
            failed_hooks: Mutex::default(),
            sessions,
            clock,
        }))
    }

    /// Returns the time.
    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Waits for `work`, which uses `files`, at most as long as for a refresh.
    ///
    /// # Errors
    /// The error of `work`, or one with `code` if the file system does not respond.
    pub(super) async fn with_file_limit<T>(
        &self,
        code: ErrorCode,
        files: &str,
        work: impl Future<Output = Result<T, Arc<Error>>>,
    ) -> Result<T, Arc<Error>> {
        tokio::select! {
            // A result that is there counts, also after a stop of the process.
            biased;
            result = work => result,
            () = self.clock.sleep(MAX_WAIT) => {
                let message = format!("{files} did not respond within {} s", MAX_WAIT.as_secs());
                Err(Arc::new(Error::msg(code, message, Hint::shell("df -h"))))
            }
        }
    }

    /// Returns the sessions that their store does not take, by name.
    pub(super) fn unsaved(&self) -> Vec<UnsavedStatus> {
        let status = |(profile, unsaved): (&ProfileName, &UnsavedSession)| UnsavedStatus {
            profile: profile.clone(),
            since: unsaved.since,
            error: without_error_numbers(&unsaved.error.to_string()),
        };
        let mut unsaved: Vec<UnsavedStatus> = self.sessions.unsaved().borrow().iter().map(status).collect();
        unsaved.sort_by(|one, other| one.profile.cmp(&other.profile));
        unsaved
    }

    /// Notes how a hook has ended.
    pub(super) fn note_hook(&self, outcome: &HookOutcome) {
        let mut failed = self.failed_hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (outcome.profile.clone(), outcome.hook);
        match &outcome.failure {
            Some(message) => drop(failed.insert(key, (self.now(), message.clone()))),
            None => drop(failed.remove(&key)),
        }
    }

    /// Returns the hooks that failed when they last ran, as far as they are still configured, by name.
    fn failed_hooks(&self) -> Vec<HookStatus> {
        let profiles = self.profiles.all();
        let failed = self.failed_hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_configured = |name: &ProfileName, hook: Hook| {
            profiles.iter().any(|profile| profile.name == *name && hook.is_of(profile))
        };
        let configured = failed.iter().filter(|((name, hook), _)| is_configured(name, *hook));
        let status = |((profile, hook), (at, error)): (&(ProfileName, Hook), &(UnixTime, String))| HookStatus {
            profile: profile.clone(),
            hook: hook.setting().to_owned(),
            at: *at,
            error: error.clone(),
        };
        let mut failed: Vec<HookStatus> = configured.map(status).collect();
        failed.sort_by(|one, other| (&one.profile, &one.hook).cmp(&(&other.profile, &other.hook)));
        failed
    }

    /// Returns the agent's state, for `agent status`.
    pub(super) fn state(&self) -> AgentStatus {
        self.lock_if_idle();
        let (locked, locks_after) = self.agent_lock.state();
        let Attention { refreshing, failing, login_required, unverified } = self.cache.attention(self.now());
        AgentStatus {
            running: true,
            socket: self.socket.display().to_string(),
            pid: Some(std::process::id()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            started_at: Some(self.started_at),
            locked,
            locks_after: locks_after.map(|after| after.as_secs()),
            sessions: self.cache.sessions(),
            connections: self.limiter.open(),
            refreshing,
            failing,
            login_required,
            unverified,
            config_error: self.profiles.error(),
            handover_key: Some(self.handover.public()),
            confinement: Some(self.confinement.clone()),
            unsaved: self.unsaved(),
            failed_hooks: self.failed_hooks(),
        }
    }
}
