//! The embedded issuer: an OAuth 2.0 authorization server and OpenID provider on loopback, for the demo, for trying
//! authctl out, and for its tests. It knows nothing of the client side.

mod authorize;
mod bounded;
mod client;
mod control;
mod device;
mod edit;
mod faults;
mod keys;
mod metadata;
mod mint;
mod options;
mod pages;
mod refresh;
mod revoke;
mod serve;
mod state;
mod status_list;
#[cfg(test)]
mod tests;
mod token;
mod userinfo;
mod users;
mod walk;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, watch};

pub use edit::ReplyEdit;
pub use faults::{Endpoint, Fault, FaultKind, StatusListDefect};
pub use keys::Algorithm;
pub use options::{Client, GrantKind, Options, User};
pub use state::Stats;

use crate::clock::UnixTime;
use crate::secret::Secret;
use keys::Keys;
use state::{Granted, State};
use users::{Accounts, PasswordHash};

/// Why the issuer did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevIssuerError {
    /// The port is taken, most likely.
    #[error("cannot listen on loopback port {port}: {source}")]
    Listen {
        /// The port asked for.
        port: u16,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not empty, and not a plain path with a slash in front and none behind.
    #[error("`{0}` is not a path for an issuer: it must look like /tenant")]
    Path(String),
    /// A second factor's secret cannot be read, or a password cannot be stretched.
    #[error("a user's password or one-time code secret (base32, at least 26 characters) cannot be used")]
    Users,
    /// No randomness, or no key.
    #[error("cannot make signing keys")]
    Keys,
    /// No thread or runtime.
    #[error("cannot start the issuer's thread: {0}")]
    Thread(std::io::Error),
}

/// What all parts share.
struct Core {
    options: Options,
    issuer: String,
    address: SocketAddr,
    keys: Keys,
    /// Stretching a password takes a core and 8 MiB: two at a time.
    hashing: Semaphore,
    state: Mutex<State>,
    faults: Mutex<faults::Faults>,
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, faults::Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> UnixTime {
        self.options.clock.now()
    }

    /// The `sub` claim: the user's, or the client's own identifier (RFC 9068, section 2.2).
    fn subject(&self, granted: &Granted) -> String {
        let Some(login) = &granted.login else { return granted.client_id.clone() };
        self.state().accounts.find(&login.user).map(|account| account.sub.clone()).unwrap_or_default()
    }

    fn suspend(&self, access_token: &str, suspended: bool) -> bool {
        let mut state = self.state();
        let access = state.accesses.find_mut(&bounded::hashed(access_token));
        access.map(|access| access.suspended = suspended).is_some()
    }

    fn change_password(&self, user: &str, password: &Secret) -> bool {
        let Ok(hash) = PasswordHash::of(password) else { return false };
        let mut state = self.state();
        let changed = state.accounts.change_password(user, hash);
        if changed {
            state.revoke_user(user);
        }
        changed
    }
}

/// A running issuer on a thread of its own. When a drop returns, the port is free and every connection closed.
pub struct DevIssuer {
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for DevIssuer {
    fn drop(&mut self) {
        self.pause();
    }
}

/// Whether `path` is empty or made of unreserved characters, with a slash in front of each segment and none behind.
fn is_issuer_path(path: &str) -> bool {
    let plain = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    path.is_empty() || path.strip_prefix('/').is_some_and(|rest| path.len() <= 256 && rest.split('/').all(plain))
}

fn prepare(options: Options) -> Result<(Arc<Core>, TcpListener), DevIssuerError> {
    if !is_issuer_path(&options.path) {
        return Err(DevIssuerError::Path(options.path));
    }
    let keys = Keys::generate(options.algorithm).map_err(|_| DevIssuerError::Keys)?;
    let accounts = Accounts::new(&options.users).ok_or(DevIssuerError::Users)?;
    let port = options.port;
    let listen = |source| DevIssuerError::Listen { port, source };
    let host: IpAddr = if options.ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let listener = TcpListener::bind((host, port)).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let url = options.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
    let issuer = format!("{url}{}", options.path);
    let core = Core {
        options,
        issuer,
        address,
        keys,
        hashing: Semaphore::new(2),
        state: Mutex::new(State::new(accounts)),
        faults: Mutex::default(),
    };
    Ok((Arc::new(core), listener))
}

fn serve_on_thread(
    core: &Arc<Core>,
    listener: TcpListener,
) -> Result<(watch::Sender<bool>, JoinHandle<()>), DevIssuerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DevIssuerError::Thread)?;
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::clone(core);
    let run = move || {
        runtime.block_on(async move {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                serve::accept(shared, listener, stopped).await;
            }
        });
    };
    let thread =
        std::thread::Builder::new().name("dev-issuer".to_owned()).spawn(run).map_err(DevIssuerError::Thread)?;
    Ok((stop, thread))
}

impl DevIssuer {
    /// Starts the issuer. It accepts connections when this returns.
    ///
    /// # Errors
    /// [`DevIssuerError`].
    pub fn spawn(options: Options) -> Result<Self, DevIssuerError> {
        let (core, listener) = prepare(options)?;
        let (stop, thread) = serve_on_thread(&core, listener)?;
        Ok(Self { core, stop, thread: Some(thread) })
    }

    /// Stops accepting connections and closes the open ones until [`DevIssuer::resume`]. The state is preserved.
    pub fn pause(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Listens at the same address again.
    ///
    /// # Errors
    /// [`DevIssuerError::Listen`] when another program has taken the port in the meantime.
    pub fn resume(&mut self) -> Result<(), DevIssuerError> {
        let address = self.core.address;
        let listen = |source| DevIssuerError::Listen { port: address.port(), source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let (stop, thread) = serve_on_thread(&self.core, listener)?;
        (self.stop, self.thread) = (stop, Some(thread));
        Ok(())
    }

    /// The issuer identifier, exactly as in metadata and tokens, such as `http://127.0.0.1:8080/tenant`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.core.issuer
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.core.address
    }

    /// The secret of a confidential client.
    #[must_use]
    pub fn client_secret(&self, id: &str) -> Option<Secret> {
        self.core.options.client_secret(id)
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.state().stats.clone()
    }

    /// Lets something go wrong. Faults for one endpoint happen in the order they were set.
    pub fn fault(&self, fault: Fault) {
        self.core.faults().add(fault);
    }

    /// Takes back the faults that have not happened yet, and lets go of what they hold.
    pub fn clear_faults(&self) {
        self.core.faults().clear();
    }

    /// Makes a new signing key, of another algorithm where one is given. The old ones stay published. For RSA this
    /// takes a tenth of a second or some.
    ///
    /// # Errors
    /// [`DevIssuerError::Keys`].
    pub fn rotate_keys(&self, algorithm: Option<Algorithm>) -> Result<(), DevIssuerError> {
        self.core.keys.rotate(algorithm).map_err(|_| DevIssuerError::Keys)
    }

    /// Publishes from now on only the latest key of each algorithm.
    pub fn drop_old_keys(&self) {
        self.core.keys.drop_old();
    }

    /// Changes a password and ends everything that the user was given. False where there is no such user.
    #[must_use]
    pub fn change_password(&self, user: &str, password: &Secret) -> bool {
        self.core.change_password(user, password)
    }

    /// Suspends an access token, or lifts that. False where it is unknown.
    #[must_use]
    pub fn suspend(&self, access_token: &Secret, suspended: bool) -> bool {
        self.core.suspend(access_token.expose(), suspended)
    }

    /// Approves a device in the name of `user`, as the pages would. False where code or user is unknown.
    #[must_use]
    pub fn approve_device(&self, user_code: &str, user: &str) -> bool {
        device::decide_directly(&self.core, user_code, Some(user))
    }

    /// Denies a device. False where the code is unknown.
    #[must_use]
    pub fn deny_device(&self, user_code: &str) -> bool {
        device::decide_directly(&self.core, user_code, None)
    }

    /// Revokes all that came from any login, as an administrator would.
    pub fn revoke_everything(&self) {
        let mut state = self.core.state();
        let revoked = state.families.values_mut().filter(|family| !family.revoked).fold(0, |count, family| {
            family.revoked = true;
            count + 1
        });
        state.stats.families_revoked += revoked;
    }
}
