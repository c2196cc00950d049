//! Sessions: logging in, returning and refreshing tokens, logging out, and verifying offline. The only module that changes
//! a store.

mod api;
mod commit_refresh;
mod declined_logins;
mod error;
mod exchange;
mod handover;
mod hooks;
mod http_clients;
mod issuer;
mod limited_command;
mod lock_wait;
mod login;
mod logout;
mod marks;
mod observed_time;
mod problems;
mod proof;
mod received_tokens;
mod refresh;
mod refresh_failure;
pub mod refresh_policy;
mod registration;
mod remedy;
mod send_refresh;
mod session_end;
mod store_key;
mod stores;
mod token_file;
mod token_file_records;
mod token_response;
mod trust;
mod trust_update;
mod unsaved;
mod unsaved_lock;
mod verifier;
mod workload;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, RwLock, Semaphore, broadcast, watch};

pub use api::{DiscoveredApi, DiscoveredServer};
pub use error::{LoginReason, SessionError, WorkloadError, WorkloadProblem};
pub use hooks::{Hook, HookOutcome, start_hook_process};
pub use limited_command::{KillOnDrop, RunningGroup, run_limited};
pub use lock_wait::LockWait;
pub use login::{NewLogin, VerifiedLogin};
pub use logout::Revocation;
pub use marks::LockDirectories;
pub use refresh::ServedToken;
pub use refresh_policy::{Decision, Demand, MinTtl, Obstacle, RequestedToken, TokenRequest};
pub use registration::usable_redirect;
pub use remedy::{RefusedToken, Remedy, StepUp, remedy};
pub use session_end::{SessionEnd, SessionLimit};
pub use stores::Stores;
pub use token_file::TokenFileStatus;
pub use trust::trusted_keys;
pub use trust_update::names_status_list;
pub use unsaved::{UNSAVED_LIMIT, UnsavedSession, UnsavedSessions};
pub use verifier::{TokenVerifier, is_unverified};
pub use workload::{IdentityEnd, KUBERNETES_TOKEN, run_workload_command};

use http_clients::HttpClients;
use lock_wait::LockWaits;
use marks::Marks;
use problems::Problems;
use token_file_records::TokenFileRecords;
use unsaved_lock::SharedLock;

use crate::clock::Clock;
use crate::model::ProfileName;
use crate::store::{ProfileLock, RevocationFiles};

/// Owns the stores and the connections to issuers. A process has one, which everything that deals with sessions shares.
///
/// The profile lock is held while a session is read, changed and written back; `fs/lock.rs` lists all file locks.
pub struct SessionService {
    clock: Arc<dyn Clock>,
    stores: Stores,
    locks: LockDirectories,
    revoked: RevocationFiles,
    http_clients: Arc<HttpClients>,
    /// Held for reading from before a refresh token is sent until the reply is stored, so that a signal waits for it.
    uninterruptible: Arc<RwLock<()>>,
    /// Whether the last refresh has not stored a new session.
    refresh_failed: AtomicBool,
    unsaved: watch::Sender<UnsavedSessions>,
    unsaved_locks: Mutex<HashMap<ProfileName, SharedLock>>,
    lock_waits: LockWaits,
    serves_unsaved: AtomicBool,
    marks: Arc<Marks>,
    /// The token files that could not be written or removed.
    failed_token_files: Problems<PathBuf>,
    /// The profiles whose refreshed ID token is invalid, so that the one before stays in use.
    ignored_id_tokens: Problems<ProfileName>,
    token_file_records: Arc<TokenFileRecords>,
    hook_outcomes: broadcast::Sender<HookOutcome>,
    /// How many hooks run that this process has started itself.
    running_hooks: watch::Sender<usize>,
    /// The configuration that was named, for the programs that are started.
    config: OnceLock<PathBuf>,
    /// Limits for each kind of store, so that one that hangs does not block the other.
    keychain_calls: Semaphore,
    file_calls: Semaphore,
}

/// The number of concurrent calls to the keychain.
const MAX_KEYCHAIN_CALLS: usize = 4;

/// The number of concurrent calls to the file store, which is limited by the disk and by decryption. Each thread costs memory
/// that the C library does not return to the system.
const MAX_FILE_CALLS: usize = 2;

/// How many ends of hooks may be queued for the agent.
const MAX_HOOK_OUTCOMES: usize = 64;

/// How long to wait for the issuer's metadata, which takes up to four requests. Longer than the limit of one request.
const DISCOVERY_LIMIT: Duration = Duration::from_secs(35);

/// How long to wait for the second metadata document if an endpoint is missing in the first.
const SECOND_DOCUMENT_LIMIT: Duration = Duration::from_secs(5);

/// How long the platform may take to return the token: a command, or a request, which has the same limit. As long as that for
/// an identity provider, which exchanges it.
const IDENTITY_LIMIT: Duration = Duration::from_secs(30);

/// The token request and its repetition, in seconds: the first one fails within 15 s if it is not sent, the second may take 30 s
/// (`Limits::DEFAULT` in `oauth/reqwest_clients.rs`).
const MAX_TOKEN_REQUESTS: u64 = 45;

/// The longest request for a token, in seconds: the metadata, the identity token and its exchange, the token request with its
/// repetition, and a store that is not available.
const MAX_REQUEST: u64 = DISCOVERY_LIMIT.as_secs()
    + SECOND_DOCUMENT_LIMIT.as_secs()
    + 2 * IDENTITY_LIMIT.as_secs()
    + MAX_TOKEN_REQUESTS
    + UNSAVED_LIMIT.as_secs();

/// The longest refresh: two requests and the calls of the store. The second request is the token exchange, or the refresh of the
/// session's own token after the issuer has refused one for another target.
pub const MAX_REFRESH: Duration = Duration::from_secs(2 * MAX_REQUEST + 10);

/// How the work ended that a signal waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing was running.
    Idle,
    /// It ended as it was meant to.
    Finished,
    /// A refresh failed.
    Failed,
}

/// What is held while a profile's session is refreshed.
struct HeldProfile {
    lock: ProfileLock,
    _signals: OwnedRwLockReadGuard<()>,
}

impl SessionService {
    /// Creates the service. `revoked` is where the list of revoked tokens is.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        stores: Stores,
        locks: LockDirectories,
        revoked: impl Into<RevocationFiles>,
    ) -> Arc<Self> {
        // The user's first: another terminal, with its own directory of data, may remove the file.
        let records = [&locks.keychain, &locks.file].map(|dir| dir.with_file_name("token-files"));
        Arc::new(Self {
            marks: Marks::new(Arc::clone(&clock), locks.clone()),
            token_file_records: Arc::new(TokenFileRecords::new(records)),
            clock,
            stores,
            locks,
            revoked: revoked.into(),
            http_clients: Arc::default(),
            uninterruptible: Arc::new(RwLock::new(())),
            refresh_failed: AtomicBool::new(false),
            unsaved: watch::Sender::default(),
            unsaved_locks: Mutex::default(),
            lock_waits: LockWaits::default(),
            serves_unsaved: AtomicBool::new(false),
            failed_token_files: Problems::default(),
            ignored_id_tokens: Problems::default(),
            hook_outcomes: broadcast::Sender::new(MAX_HOOK_OUTCOMES),
            running_hooks: watch::Sender::default(),
            config: OnceLock::new(),
            keychain_calls: Semaphore::new(MAX_KEYCHAIN_CALLS),
            file_calls: Semaphore::new(MAX_FILE_CALLS),
        })
    }

    /// Sets the configuration that hooks and what they start are to use.
    pub fn set_config_file(&self, file: PathBuf) {
        let _ = self.config.set(file);
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Waits until nothing runs that a signal must not interrupt, and returns how it ended.
    pub async fn settled(&self) -> Settled {
        let busy = self.uninterruptible.try_write().is_err();
        drop(self.uninterruptible.write().await);
        match (busy, self.refresh_failed.load(Ordering::Relaxed)) {
            (false, _) => Settled::Idle,
            (true, false) => Settled::Finished,
            (true, true) => Settled::Failed,
        }
    }

    /// Waits for work that must not be interrupted, and prevents more from beginning: the process may exit.
    pub async fn close(&self) {
        // Never released.
        std::mem::forget(Arc::clone(&self.uninterruptible).write_owned().await);
    }

    /// Makes signals wait until the guard is dropped.
    async fn hold_off_signals(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.uninterruptible).read_owned().await
    }
}

#[cfg(test)]
pub(crate) mod tests;
