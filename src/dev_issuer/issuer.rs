//! The issuer that all endpoints share: settings, keys, state and faults.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::accounts::{Accounts, CredentialError, PasswordHash};
use super::crypto::{hash, random_token};
use super::faults::Faults;
use super::keys::SigningKeys;
use super::options::Options;
use super::state::{Grant, Login, State};
use crate::clock::UnixTime;
use crate::secret::Secret;

/// Hashing a password takes a core and 8 MiB.
const MAX_CONCURRENT_HASHES: usize = 2;
const MAX_PATH_LENGTH: usize = 256;

/// Why the issuer did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevIssuerError {
    /// Listening failed, usually because the port is taken.
    #[error("cannot listen on loopback port {port}: {source}")]
    Listen {
        /// The requested port.
        port: u16,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The path is neither empty nor a plain path with a leading slash and no trailing one.
    #[error("invalid issuer path `{0}` (example: /tenant)")]
    Path(String),
    /// A TOTP secret is invalid, or a password cannot be hashed.
    #[error("invalid password or TOTP secret of a user (a TOTP secret is base32 of at least 26 characters)")]
    Users,
    /// No randomness is available.
    #[error("cannot generate signing keys")]
    Keys,
    /// No thread or runtime is available.
    #[error("cannot start the issuer's thread: {0}")]
    Thread(std::io::Error),
}

/// The state behind every endpoint.
pub(super) struct Issuer {
    pub(super) options: Options,
    /// The issuer identifier.
    pub(super) url: String,
    pub(super) address: SocketAddr,
    pub(super) keys: SigningKeys,
    hashing: Semaphore,
    state: Mutex<State>,
    faults: Mutex<Faults>,
}

impl Issuer {
    /// Creates an issuer and the listener for it.
    pub(super) fn new(options: Options) -> Result<(Self, TcpListener), DevIssuerError> {
        if !is_issuer_path(&options.path) {
            return Err(DevIssuerError::Path(options.path));
        }
        let keys = SigningKeys::generate(options.algorithm).map_err(|_| DevIssuerError::Keys)?;
        let accounts = Accounts::new(&options.users).ok_or(DevIssuerError::Users)?;
        let host: IpAddr = if options.ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let (listener, address) = listen(SocketAddr::new(host, options.port))?;
        let origin = options.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
        let issuer = Self {
            url: format!("{origin}{}", options.path),
            options,
            address,
            keys,
            hashing: Semaphore::new(MAX_CONCURRENT_HASHES),
            state: Mutex::new(State::new(accounts)),
            faults: Mutex::default(),
        };
        Ok((issuer, listener))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> UnixTime {
        self.options.clock.now()
    }

    /// Returns the `sub` claim: the user's, the workload's, or the client ID if there is neither (RFC 9068, section 2.2).
    pub(super) fn subject(&self, grant: &Grant) -> String {
        let Some(login) = &grant.login else {
            return grant.workload.clone().unwrap_or_else(|| grant.client_id.clone());
        };
        self.state().accounts.find(&login.user).map(|account| account.sub.clone()).unwrap_or_default()
    }

    /// Checks a password outside the runtime's thread because hashing is slow.
    pub(super) async fn check_password(&self, user: &str, password: &str) -> Result<Login, CredentialError> {
        let (hash, password_version) = {
            let mut state = self.state();
            let version = state.accounts.find(user).map(|account| account.password_version);
            let now = self.options.clock.monotonic();
            (state.accounts.begin_attempt(user, now).map_err(CredentialError::RateLimited)?, version)
        };
        let password = Secret::new(password.to_owned());
        let matches = {
            let _permit = self.hashing.acquire().await;
            tokio::task::spawn_blocking(move || hash.matches(&password)).await.unwrap_or(false)
        };
        let mut state = self.state();
        let (Some(password_version), true) = (password_version, matches) else {
            state.stats.failed_attempts += 1;
            return Err(CredentialError::Wrong);
        };
        state.accounts.reset_attempts(user);
        let sid = random_token().map_err(|_| CredentialError::Wrong)?.expose().to_owned();
        Ok(Login { user: user.to_owned(), password_version, at: self.now(), otp: false, sid })
    }

    /// Checks the one-time code of a login.
    pub(super) fn check_otp(&self, state: &mut State, user: &str, code: &str) -> Result<(), CredentialError> {
        let checked = state.accounts.check_otp(user, code, self.options.clock.monotonic(), self.now());
        if matches!(checked, Err(CredentialError::Wrong)) {
            state.stats.failed_attempts += 1;
        }
        checked
    }

    /// Changes a password and revokes everything issued to the user. False if the user is unknown.
    pub(super) fn change_password(&self, user: &str, password: &Secret) -> bool {
        let Ok(hash) = PasswordHash::new(password) else { return false };
        let mut state = self.state();
        let changed = state.accounts.change_password(user, hash);
        if changed {
            state.revoke_user(user);
        }
        changed
    }

    /// Suspends an access token or lifts the suspension. False if the token is unknown.
    pub(super) fn suspend(&self, access_token: &str, suspended: bool) -> bool {
        let mut state = self.state();
        let token = state.access_tokens.find_mut(&hash(access_token));
        token.map(|token| token.suspended = suspended).is_some()
    }
}

/// Listens on a loopback address.
pub(super) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), DevIssuerError> {
    let error = |source| DevIssuerError::Listen { port: address.port(), source };
    let listener = TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok((listener, address))
}

/// Returns whether `path` is empty, or consists of segments of unreserved characters (RFC 3986, section 2.3).
fn is_issuer_path(path: &str) -> bool {
    let is_segment = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    path.is_empty()
        || path.strip_prefix('/').is_some_and(|rest| path.len() <= MAX_PATH_LENGTH && rest.split('/').all(is_segment))
}
