//! The settings of the embedded issuer: users, clients, lifetimes, and what it issues.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::crypto::random_token;
use super::keys::Algorithm;
use super::platform_keys::PlatformKeys;
use crate::clock::{Clock, SystemClock};
use crate::secret::Secret;

/// A user who can log in.
#[derive(Clone, Debug)]
pub struct User {
    /// The user name; the `preferred_username` claim.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// The base32 secret of the one-time codes (RFC 6238: SHA-1, 6 digits, 30 seconds) of a user with a second factor.
    pub totp: Option<Secret>,
    /// The `name` claim; the user name if `None`.
    pub display_name: Option<String>,
}

impl User {
    /// Returns a user without a second factor.
    #[must_use]
    pub fn new(name: &str, password: Secret) -> Self {
        Self { name: name.to_owned(), password, totp: None, display_name: None }
    }
}

/// A grant that a client may use. Refreshing is allowed after every grant of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// Authorization code with PKCE (RFC 7636).
    AuthorizationCode,
    /// Device authorization (RFC 8628).
    DeviceCode,
    /// Resource owner password, with a one-time code if the user has one.
    Password,
    /// Client credentials (RFC 6749, section 4.4); needs a secret.
    ClientCredentials,
    /// Token exchange (RFC 8693).
    TokenExchange,
    /// JWT bearer (RFC 7523, section 2.1), with an identity token of the trusted platform.
    JwtBearer,
}

/// A registered client. Any redirect URI on a loopback address is accepted (RFC 8252, section 7.3).
#[derive(Clone, Debug)]
pub struct Client {
    /// The client ID.
    pub id: String,
    /// The secret of a confidential client.
    pub secret: Option<Secret>,
    /// The grants that it may use.
    pub grants: Vec<GrantType>,
}

/// The settings of an issuer.
#[derive(Clone)]
pub struct Options {
    /// The port on 127.0.0.1 or ::1; 0 picks a free one.
    pub port: u16,
    /// Whether to listen on ::1 instead of 127.0.0.1.
    pub ipv6: bool,
    /// The public URL without a path, such as `https://issuer.example`, of an issuer behind a TLS proxy. Its own address
    /// if `None`.
    pub public_url: Option<String>,
    /// The path of the issuer identifier: empty, or such as `/tenant`.
    pub path: String,
    /// The lifetime of an access token.
    pub access_token_ttl: Duration,
    /// The lifetime of an ID token.
    pub id_token_ttl: Duration,
    /// The lifetime of a token family: refreshing does not extend it.
    pub refresh_token_ttl: Duration,
    /// The limit on refreshes of a token family; no limit if `None`.
    pub refresh_token_uses: Option<u32>,
    /// How long a rotated refresh token is still accepted. After that its use revokes the whole token family (RFC 9700,
    /// section 4.14.2).
    pub reuse_grace: Duration,
    /// Whether each refresh returns a new refresh token. If false, the first one stays valid and no other is returned.
    pub rotate_refresh_tokens: bool,
    /// What tokens are signed with.
    pub algorithm: Algorithm,
    /// Random access tokens instead of JWTs (RFC 9068).
    pub opaque_access_tokens: bool,
    /// How long a status list may be cached (IETF, Token Status List). JWT access tokens reference their entry in a
    /// list. No status lists if `None`.
    pub status_list_ttl: Option<Duration>,
    /// The polling interval of devices (RFC 8628, section 3.2).
    pub device_interval: Duration,
    /// The lifetime of a device code.
    pub device_code_ttl: Duration,
    /// Whether authorization requests must be pushed (RFC 9126).
    pub require_par: bool,
    /// Whether requests for tokens need a DPoP proof (RFC 9449). Without, tokens are bound where there is one.
    pub require_dpop: bool,
    /// Whether DPoP proofs need a nonce of the issuer.
    pub dpop_nonces: bool,
    /// The users.
    pub users: Vec<User>,
    /// The registered clients.
    pub clients: Vec<Client>,
    /// The keys of the platform whose identity tokens are accepted. None are if `None`.
    pub platform_keys: Option<PlatformKeys>,
    /// The audience of access tokens when none was requested; the client ID if `None`.
    pub default_audience: Option<String>,
    /// The key that requests to `/control/` must carry. There is no control endpoint if `None`.
    pub control_key: Option<Secret>,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    /// Returns settings with a public client `authctl` for every grant of a user, a confidential client
    /// `authctl-service` with a random secret for every grant, and no users.
    fn default() -> Self {
        use GrantType::{AuthorizationCode, ClientCredentials, DeviceCode, Password};
        let user_grants = vec![AuthorizationCode, DeviceCode, Password];
        let mut clients = vec![Client { id: "authctl".to_owned(), secret: None, grants: user_grants.clone() }];
        if let Ok(secret) = random_token() {
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
            require_par: false,
            require_dpop: false,
            dpop_nonces: false,
            users: Vec::new(),
            clients,
            platform_keys: None,
            default_audience: None,
            control_key: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl Options {
    /// Returns the secret of the confidential client `id`.
    #[must_use]
    pub fn client_secret(&self, id: &str) -> Option<Secret> {
        self.clients.iter().find(|client| client.id == id).and_then(|client| client.secret.clone())
    }

    /// Enables the control endpoint with a new random key, and returns the key. `None` if the system has no randomness.
    #[must_use]
    pub fn enable_control(&mut self) -> Option<Secret> {
        self.control_key = random_token().ok();
        self.control_key.clone()
    }
}
