//! The embedded issuer: an OAuth 2.0 authorization server and OpenID provider on loopback for the demo, for trying
//! authctl out, and for its tests. It is independent of the client side.
//!
//! From bottom to top: an `issuer` consists of settings, keys, accounts and `state`; `tokens` issues tokens; `interaction`
//! takes a user through the HTML `pages`; then one file per endpoint, the `router` and the `server`.

mod accounts;
mod authorize;
mod bounded_map;
mod browser;
mod client;
mod consent;
mod control;
mod crypto;
mod device;
mod dpop;
mod end_session;
mod faults;
mod http;
mod interaction;
mod introspect;
mod issuer;
mod keys;
mod login;
mod metadata;
mod options;
mod pages;
mod par;
mod password;
mod platform_keys;
mod refresh;
mod reply_edit;
mod revoke;
mod router;
mod server;
mod state;
mod status_list;
#[cfg(test)]
mod tests;
mod token;
mod token_exchange;
mod tokens;
mod user_code;
mod userinfo;
mod workload;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

pub use faults::{Endpoint, Fault, FaultKind, StatusListDefect};
pub use issuer::DevIssuerError;
pub use keys::Algorithm;
pub use options::{Client, GrantType, Options, User};
pub use platform_keys::PlatformKeys;
pub use reply_edit::ReplyEdit;
pub use state::Stats;

use crate::secret::Secret;
use issuer::Issuer;

/// A running issuer on a thread of its own. When the drop returns, its port is free and its connections are closed.
pub struct DevIssuer {
    issuer: Arc<Issuer>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for DevIssuer {
    fn drop(&mut self) {
        self.pause();
    }
}

fn serve_on_thread(
    issuer: &Arc<Issuer>,
    listener: TcpListener,
) -> Result<(watch::Sender<bool>, JoinHandle<()>), DevIssuerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DevIssuerError::Thread)?;
    let (stop, stopped) = watch::channel(false);
    let issuer = Arc::clone(issuer);
    let run = move || {
        runtime.block_on(async move {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                server::serve(issuer, listener, stopped).await;
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
        let (issuer, listener) = Issuer::new(options)?;
        let issuer = Arc::new(issuer);
        let (stop, thread) = serve_on_thread(&issuer, listener)?;
        Ok(Self { issuer, stop, thread: Some(thread) })
    }

    /// Stops listening and closes all connections until [`DevIssuer::resume`]. The state is preserved.
    pub fn pause(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Listens on the same address again.
    ///
    /// # Errors
    /// [`DevIssuerError::Listen`] if another program has taken the port.
    pub fn resume(&mut self) -> Result<(), DevIssuerError> {
        let (listener, _) = issuer::listen(self.issuer.address)?;
        let (stop, thread) = serve_on_thread(&self.issuer, listener)?;
        (self.stop, self.thread) = (stop, Some(thread));
        Ok(())
    }

    /// Returns the issuer identifier exactly as in metadata and tokens, such as `http://127.0.0.1:8080/tenant`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer.url
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.issuer.address
    }

    /// Returns the secret of a confidential client.
    #[must_use]
    pub fn client_secret(&self, id: &str) -> Option<Secret> {
        self.issuer.options.client_secret(id)
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.issuer.state().stats.clone()
    }

    /// Adds a fault. Faults of one endpoint are applied in the order in which they were added.
    pub fn fault(&self, fault: Fault) {
        self.issuer.faults().add(fault);
    }

    /// Removes all remaining faults and releases the requests and replies that they hold.
    pub fn clear_faults(&self) {
        self.issuer.faults().clear();
    }

    /// Generates a new signing key, of another algorithm if one is given. The old keys stay published. An RSA key takes
    /// about a tenth of a second.
    ///
    /// # Errors
    /// [`DevIssuerError::Keys`].
    pub fn rotate_keys(&self, algorithm: Option<Algorithm>) -> Result<(), DevIssuerError> {
        self.issuer.keys.rotate(algorithm).map_err(|_| DevIssuerError::Keys)
    }

    /// Publishes only the latest key of each algorithm from now on.
    pub fn drop_old_keys(&self) {
        self.issuer.keys.drop_old();
    }

    /// Changes a password and revokes everything issued to the user. False if the user is unknown.
    #[must_use]
    pub fn change_password(&self, user: &str, password: &Secret) -> bool {
        self.issuer.change_password(user, password)
    }

    /// Suspends an access token or lifts the suspension. False if the token is unknown.
    #[must_use]
    pub fn suspend(&self, access_token: &Secret, suspended: bool) -> bool {
        self.issuer.suspend(access_token.expose(), suspended)
    }

    /// Approves a device as `user` without the pages. False if the code or the user is unknown.
    #[must_use]
    pub fn approve_device(&self, user_code: &str, user: &str) -> bool {
        user_code::decide_as(&self.issuer, user_code, Some(user))
    }

    /// Denies a device. False if the code is unknown.
    #[must_use]
    pub fn deny_device(&self, user_code: &str) -> bool {
        user_code::decide_as(&self.issuer, user_code, None)
    }

    /// Revokes all tokens of all logins.
    pub fn revoke_everything(&self) {
        self.issuer.state().revoke_families(|_| true);
    }
}
