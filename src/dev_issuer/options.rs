//! How the embedded issuer is set up: its users, its clients, and how long what it gives lives.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::{Algorithm, random_text};
use crate::clock::{Clock, SystemClock};
use crate::secret::Secret;

/// A person who can log in.
#[derive(Clone, Debug)]
pub struct User {
    /// What they type; the `preferred_username` claim.
    pub name: String,
    /// Their password.
    pub password: Secret,
    /// The base32 secret of their one-time codes (RFC 6238: SHA-1, 6 digits, 30 seconds), where they have a second
    /// factor.
    pub totp: Option<Secret>,
    /// The `name` claim; the user name where there is none.
    pub display_name: Option<String>,
}

impl User {
    /// A user without a second factor.
    #[must_use]
    pub fn new(name: &str, password: Secret) -> Self {
        Self { name: name.to_owned(), password, totp: None, display_name: None }
    }
}

/// A way to get tokens that a client may use. Refresh goes with every grant of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// Authorization code with PKCE (RFC 7636).
    AuthorizationCode,
    /// Device authorization (RFC 8628).
    DeviceCode,
    /// Resource owner password, with a one-time code where the user has one.
    Password,
    /// Client credentials (RFC 6749, section 4.4); needs a secret.
    ClientCredentials,
}

/// A program that is known to the issuer. Its redirect URI may be any on a loopback address (RFC 8252, section 7.3).
#[derive(Clone, Debug)]
pub struct Client {
    /// The client identifier.
    pub id: String,
    /// The secret of a confidential client.
    pub secret: Option<Secret>,
    /// What it may use.
    pub grants: Vec<GrantKind>,
}

/// How the issuer is to be.
#[derive(Clone)]
pub struct Options {
    /// The port on 127.0.0.1, or on ::1; 0 for any that is free.
    pub port: u16,
    /// Whether to listen on ::1.
    pub ipv6: bool,
    /// What others know it by, without a path, such as `https://issuer.example`: for an issuer behind something that
    /// speaks TLS for it. Its own address where `None`.
    pub public_url: Option<String>,
    /// The path of the issuer identifier, empty or as `/tenant`.
    pub path: String,
    /// Life of an access token.
    pub access_token_ttl: Duration,
    /// Life of an ID token.
    pub id_token_ttl: Duration,
    /// Life of everything that came from one login, however often it is refreshed.
    pub refresh_token_ttl: Duration,
    /// How often one login can be refreshed; without end where `None`.
    pub refresh_token_uses: Option<u32>,
    /// How long a spent refresh token is still taken. Zero: at once its use revokes all that came from the same login,
    /// access tokens too (RFC 9700, section 4.14.2).
    pub reuse_grace: Duration,
    /// Whether each refresh gives a new refresh token. Where false, the first stays good and none is sent again.
    pub rotate_refresh_tokens: bool,
    /// What tokens are signed with.
    pub algorithm: Algorithm,
    /// Random access tokens instead of JWTs (RFC 9068).
    pub opaque_access_tokens: bool,
    /// How long a status list may be kept (IETF, Token Status List); JWT access tokens name their place in one. There is
    /// none where `None`.
    pub status_list_ttl: Option<Duration>,
    /// How long a device waits between polls (RFC 8628, section 3.2).
    pub device_interval: Duration,
    /// Life of a device code.
    pub device_code_ttl: Duration,
    /// Who can log in.
    pub users: Vec<User>,
    /// Which programs are known.
    pub clients: Vec<Client>,
    /// The audience of access tokens for which none was asked; the client identifier where `None`.
    pub default_audience: Option<String>,
    /// Whether scripts may steer the issuer through its `/control/` addresses.
    pub control: bool,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    /// A public client `authctl` for every grant of a user, a confidential client `authctl-service` with a random
    /// secret for every grant, and no users.
    fn default() -> Self {
        use GrantKind::{AuthorizationCode, ClientCredentials, DeviceCode, Password};
        let user_grants = vec![AuthorizationCode, DeviceCode, Password];
        let mut clients = vec![Client { id: "authctl".to_owned(), secret: None, grants: user_grants.clone() }];
        if let Ok(secret) = random_text() {
            let grants = [user_grants, vec![ClientCredentials]].concat();
            clients.push(Client { id: "authctl-service".to_owned(), secret: Some(secret), grants });
        }
        Self {
            port: 0,
            ipv6: false,
            public_url: None,
            path: String::new(),
            access_token_ttl: Duration::from_secs(300),
            id_token_ttl: Duration::from_secs(300),
            refresh_token_ttl: Duration::from_secs(30 * 24 * 3600),
            refresh_token_uses: None,
            reuse_grace: Duration::ZERO,
            rotate_refresh_tokens: true,
            algorithm: Algorithm::default(),
            opaque_access_tokens: false,
            status_list_ttl: None,
            device_interval: Duration::from_secs(5),
            device_code_ttl: Duration::from_secs(600),
            users: Vec::new(),
            clients,
            default_audience: None,
            control: true,
            clock: Arc::new(SystemClock),
        }
    }
}

impl Options {
    /// The secret of the confidential client `id`, such as the one that [`Options::default`] drew.
    #[must_use]
    pub fn client_secret(&self, id: &str) -> Option<Secret> {
        self.clients.iter().find(|client| client.id == id).and_then(|client| client.secret.clone())
    }
}
