//! A home with a session, its store, and the issuers.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use authctl::dev_issuer::DevIssuer;
use serde_json::Value;

use crate::keyring::Keyring;
use crate::support::http::get;
use crate::support::jwt::claims;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER, issuer};

/// Where the sessions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    File,
    Keychain,
}

impl StoreKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Keychain => "keychain",
        }
    }
}

/// Longer than a test: with it, the issuer accepts each refresh token again after it was used.
const GRACE: Duration = Duration::from_secs(5 * 3600);

/// How long tokens are valid: longer than a row takes, so that no copy of a home refreshes the session of another.
const LIFETIME: Duration = Duration::from_secs(3 * 3600);

/// The age in seconds at which each token has expired.
const EXPIRED: i64 = 4 * 3600;

pub struct World {
    // Dropped in this order: the keyring last.
    pub home: Sandbox,
    pub issuer: DevIssuer,
    pub other: DevIssuer,
    pub keyring: Option<Keyring>,
    /// Whether the issuer ends the session if a refresh token is used twice.
    pub strict: bool,
    /// Whether `work` is logged in as [`USER`] at `issuer`.
    pub is_ready: bool,
    /// The configuration after the change of the row, as an undisturbed run leaves it.
    pub changed_config: Option<String>,
}

impl World {
    pub fn new(store: StoreKind, strict: bool) -> Self {
        let start = || {
            issuer(|options| {
                options.algorithm = authctl::dev_issuer::Algorithm::ES256;
                options.access_token_ttl = LIFETIME;
                options.reuse_grace = if strict { Duration::ZERO } else { GRACE };
            })
        };
        let (issuer, other) = (start(), start());
        let mut home = Sandbox::with_store(store.name());
        let keyring = (store == StoreKind::Keychain).then(|| Keyring::start_below(home.path()));
        if let Some(keyring) = &keyring {
            home.set("DBUS_SESSION_BUS_ADDRESS", keyring.address());
        }
        Self { home, issuer, other, keyring, strict, is_ready: false, changed_config: None }
    }

    /// Returns the arguments of a login to `work`.
    pub fn login<'a>(issuer: &'a DevIssuer, user: &'a str) -> Vec<&'a str> {
        Self::login_to("work", issuer, user)
    }

    pub fn login_to<'a>(profile: &'a str, issuer: &'a DevIssuer, user: &'a str) -> Vec<&'a str> {
        let args = ["login", profile, "--issuer", issuer.issuer(), "--client-id", "authctl", "--replace", "--password"];
        [&args[..], &["--username", user, "--password-stdin"]].concat()
    }

    /// Logs in to `work` unless it is ready.
    pub fn get_ready(&mut self) {
        if !self.is_ready {
            self.home.run_with(&Self::login(&self.issuer, USER), PASSWORD).exits(0);
            self.is_ready = true;
        }
    }

    pub fn config(&self) -> String {
        fs::read_to_string(self.home.config_file()).unwrap_or_default()
    }

    /// Returns the token that `authctl token` prints.
    pub fn token(&self, profile: &str) -> Result<String, CommandOutput> {
        let ran = self.home.run(&["token", profile]);
        if ran.code == 0 { Ok(ran.line().to_owned()) } else { Err(ran) }
    }

    /// Returns the list of revoked tokens.
    pub fn revoked_file(&self) -> PathBuf {
        let data = || self.home.path().join("data/authctl");
        self.keyring.as_ref().map_or_else(data, Keyring::shared).join("revoked")
    }

    /// Returns the attributes of a session in the keychain.
    pub fn item(profile: &str) -> [&str; 4] {
        ["service", "authctl", "username", profile]
    }

    /// Replaces a session in the keychain, or removes it.
    pub fn set_item(&self, profile: &str, session: &[u8]) {
        let keyring = self.keyring.as_ref().expect("a keychain");
        let item = Self::item(profile);
        keyring.secret_tool(&[&["clear"], &item[..]].concat(), b"");
        if !session.is_empty() {
            let label = format!("--label=authctl: {profile}");
            let written = keyring.secret_tool(&[&["store", &label], &item[..]].concat(), session);
            assert!(written.status.success(), "{written:?}");
        }
    }

    /// Returns whether the issuer of a token accepts it.
    pub fn is_active(&self, token: &str) -> bool {
        let issuer = claims(token)["iss"].as_str().unwrap_or_default().to_owned();
        get(&format!("{issuer}/userinfo"), &[&format!("Authorization: Bearer {token}")]).0 == 200
    }

    /// Returns whether the session of `profile` can still be refreshed.
    pub fn is_alive(&self, profile: &str) -> Result<bool, String> {
        let mut ran = self.home.run(&["refresh", profile]);
        if ran.code == 6 && (ran.stderr.contains("was lost") || ran.stderr.contains("may have been processed")) {
            // The refresh token is held back until the access token expires.
            self.expire(profile);
            ran = self.home.run(&["token", profile]);
        }
        match ran.code {
            0 => Ok(true),
            3 => Ok(false),
            code => Err(format!("the session is unusable: exit code {code}: {}", ran.stderr.trim())),
        }
    }

    fn expire(&self, profile: &str) {
        let Some(keyring) = &self.keyring else { return self.home.advance_time(profile, EXPIRED) };
        let stored = keyring.secret_tool(&[&["lookup"], &Self::item(profile)[..]].concat(), b"").stdout;
        let mut session: Value = serde_json::from_slice(&stored).expect("the session");
        crate::support::time_travel::subtract_seconds(&mut session, EXPIRED);
        self.set_item(profile, session.to_string().as_bytes());
    }

    /// Returns the file with the issuer's keys.
    pub fn keys(&self) -> PathBuf {
        let file = self.home.path().join("keys.json");
        if !file.exists() {
            let (_, metadata) = get(&format!("{}/.well-known/openid-configuration", self.issuer.issuer()), &[]);
            let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
            let (_, keys) = get(metadata["jwks_uri"].as_str().expect("an address"), &[]);
            fs::write(&file, keys).expect("written");
        }
        file
    }
}
