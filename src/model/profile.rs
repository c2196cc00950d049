//! A profile: a name for an issuer with a client, scopes, a store and the other settings of a login.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keyword::keywords;
use super::{ApiUrl, Hooks, IssuerUrl, LoginApi, ProxyLimits, Requirements, Server, TokenTarget, ToolHost, Workload};
use crate::text::resembles_token;

/// A profile's name: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit. It is used as a file name, a path
/// segment and a shell word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ProfileName(String);

/// An invalid profile name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProfileName {
    /// A token, which others can see among the arguments of a process. It is not repeated.
    #[error("a token was given in place of a profile name; pass tokens on stdin")]
    Token,
    /// Other text.
    #[error("invalid profile name `{0}` (1 to 64 letters, digits, `.`, `_` or `-`, starting with a letter or digit)")]
    Text(String),
}

impl ProfileName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = InvalidProfileName;

    fn from_str(text: &str) -> Result<Self, InvalidProfileName> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if resembles_token(text) {
            Err(InvalidProfileName::Token)
        } else if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidProfileName::Text(text.chars().filter(|c| !c.is_control()).take(80).collect()))
        }
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ProfileName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

keywords! {
    /// Where a session is stored.
    pub enum StoreKind {
        /// The platform's keychain.
        Keychain = "keychain",
        /// A file encrypted in the `age` format.
        File = "file",
        /// The memory of the agent, and no disk.
        Memory = "memory",
    }
}

impl StoreKind {
    /// Returns what it is called in a sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Keychain => "keychain",
            Self::File => "file store",
            Self::Memory => "memory of the agent",
        }
    }
}

keywords! {
    /// The grant by which a login gets the first tokens.
    pub enum Grant {
        /// Authorization code with PKCE (RFC 6749, section 4.1; RFC 7636) over a loopback redirect (RFC 8252).
        Browser = "browser",
        /// Device authorization (RFC 8628).
        Device = "device",
        /// Resource owner password (RFC 6749, section 4.3).
        Password = "password",
        /// Client credentials (RFC 6749, section 4.4).
        ClientCredentials = "client-credentials",
        /// The identity token of the platform, as an assertion (RFC 7523, section 2.1) or by token exchange (RFC 8693).
        Workload = "workload",
        /// A token obtained elsewhere and supplied on stdin.
        Token = "token",
    }
}

impl Grant {
    /// Returns whether tokens are requested without a user: a new one is requested in the same way.
    #[must_use]
    pub fn is_unattended(self) -> bool {
        match self {
            Self::ClientCredentials | Self::Workload => true,
            Self::Browser | Self::Device | Self::Password | Self::Token => false,
        }
    }
}

keywords! {
    /// How the client authenticates at the token endpoint, by its registered name (RFC 7591, section 2).
    pub enum ClientAuth {
        /// A public client: its ID alone.
        None = "none",
        /// The secret in the `Authorization` header (RFC 6749, section 2.3.1).
        ClientSecretBasic = "client_secret_basic",
        /// The secret in the form.
        ClientSecretPost = "client_secret_post",
        /// An assertion signed with the client's own key (RFC 7523, section 2.2).
        PrivateKeyJwt = "private_key_jwt",
    }
}

impl ClientAuth {
    /// Returns whether the method uses a client secret.
    #[must_use]
    pub fn needs_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

/// A profile as configured. `config::SETTINGS` defines how each field is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The profile's name.
    pub name: ProfileName,
    /// The authorization server.
    pub issuer: IssuerUrl,
    /// The client ID at the issuer.
    pub client_id: String,
    /// How the client authenticates at the token endpoint.
    pub client_auth: ClientAuth,
    /// The grant that `login` uses if no option names one.
    pub grant: Grant,
    /// The scopes to request.
    pub scopes: Vec<String>,
    /// The `audience` parameter to request and to expect in access tokens. No RFC defines it, but several issuers need it.
    pub audience: Option<String>,
    /// The resource indicators to request and to expect in access tokens (RFC 8707).
    pub resources: Vec<String>,
    /// Where the session is stored.
    pub store: StoreKind,
    /// The hosts to which helpers give the profile's tokens.
    pub hosts: Vec<ToolHost>,
    /// What callers of a proxy may do.
    pub proxy: ProxyLimits,
    /// What runs when the session is refreshed or needs a login.
    pub hooks: Hooks,
    /// The file with the access token, for programs that read one.
    pub token_file: Option<PathBuf>,
    /// The file with the ID token.
    pub id_token_file: Option<PathBuf>,
    /// A PEM file of certificate authorities that are trusted in addition to the platform's.
    pub ca_cert: Option<PathBuf>,
    /// Settings of the server beyond its metadata; shared, since most profiles have none.
    pub server: Arc<Server>,
    /// What is required of a token before it is accepted offline.
    pub requirements: Requirements,
}

impl Profile {
    /// Returns the files to be read that the profile names.
    pub fn input_files(&self) -> impl Iterator<Item = &Path> {
        let workload = match &self.server.workload {
            Some(Workload::File(path)) => Some(path),
            _ => None,
        };
        [self.ca_cert.as_ref(), self.server.client_key.file.as_ref(), workload]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// Returns the files to which its tokens are written.
    pub fn token_files(&self) -> impl Iterator<Item = &Path> {
        self.token_file.iter().chain(&self.id_token_file).map(PathBuf::as_path)
    }

    /// Returns a profile with the default of every other setting.
    #[must_use]
    pub fn new(name: ProfileName, issuer: IssuerUrl) -> Self {
        Self {
            name,
            issuer,
            client_id: String::new(),
            client_auth: ClientAuth::default(),
            grant: Grant::default(),
            scopes: Vec::new(),
            audience: None,
            resources: Vec::new(),
            store: StoreKind::default(),
            hosts: Vec::new(),
            proxy: ProxyLimits::default(),
            hooks: Hooks::default(),
            token_file: None,
            id_token_file: None,
            ca_cert: None,
            server: Arc::default(),
            requirements: Requirements::default(),
        }
    }

    /// Returns whether the profile uses this client of this issuer. Sessions and registrations belong to a client, which several
    /// profiles may use.
    #[must_use]
    pub fn has_client(&self, issuer: &IssuerUrl, client_id: &str) -> bool {
        self.issuer == *issuer && self.client_id == client_id
    }

    /// Returns what a login requests.
    #[must_use]
    pub fn own_request(&self) -> TokenTarget {
        TokenTarget { audience: self.audience.clone(), scopes: self.scopes.clone(), resources: self.resources.clone() }
    }

    /// Returns the plain target if `target` requests nothing beyond the profile's own request, else `target`.
    #[must_use]
    pub fn narrowed(&self, target: TokenTarget) -> TokenTarget {
        if target.is_plain() {
            return target;
        }
        let own = TokenTarget::new(self.audience.clone(), &self.scopes, &self.resources);
        let same = target.audience.as_ref().is_none_or(|a| Some(a) == own.audience.as_ref())
            && (target.scopes.is_empty() || target.scopes == own.scopes)
            && (target.resources.is_empty() || target.resources == own.resources);
        if same { TokenTarget::default() } else { target }
    }

    /// Returns how many characters of the API's path the profile covers with a resource, or 0 if it lists the API's host; `None`
    /// if its tokens are not for the API.
    #[must_use]
    pub fn coverage(&self, api: &ApiUrl) -> Option<usize> {
        let of_host = || {
            let host: ToolHost = api.url().as_str().parse().ok()?;
            self.hosts.contains(&host).then_some(0)
        };
        self.resources.iter().filter_map(|resource| api.covered_by(resource)).max().or_else(of_host)
    }

    /// Returns whether the tokens are for no API in particular: where they are sent is up to the user, who names both.
    #[must_use]
    pub fn is_for_any_api(&self) -> bool {
        self.resources.is_empty() && self.hosts.is_empty()
    }

    /// Returns what to request for `api`: of several resources only the one that covers it, so that the API gets no token for
    /// another.
    #[must_use]
    pub fn request_for(&self, api: &ApiUrl) -> TokenTarget {
        let covering = self.resources.iter().filter(|resource| api.covered_by(resource).is_some());
        match covering.max_by_key(|resource| api.covered_by(resource)) {
            Some(resource) if self.resources.len() > 1 => TokenTarget::new(None, &[], std::slice::from_ref(resource)),
            _ => TokenTarget::default(),
        }
    }

    /// Returns whether the client authenticates with a secret.
    #[must_use]
    pub fn has_client_secret(&self) -> bool {
        self.client_auth.needs_secret()
            || self.grant == Grant::ClientCredentials && self.client_auth != ClientAuth::PrivateKeyJwt
    }

    /// Returns the server settings, to be changed for this profile alone.
    pub fn server_mut(&mut self) -> &mut Server {
        Arc::make_mut(&mut self.server)
    }

    /// Returns the login API if it may have issued a session of this grant. Tokens that an authorization server issued
    /// are not sent to it.
    #[must_use]
    pub fn login_api(&self, grant: Grant) -> Option<&LoginApi> {
        let by_api = match grant {
            Grant::Password | Grant::Token => true,
            Grant::Browser | Grant::Device | Grant::ClientCredentials | Grant::Workload => false,
        };
        (by_api && self.server.api.login.is_some()).then_some(&self.server.api)
    }

    /// Returns the audiences that an access token may have: those requested, else the client itself.
    #[must_use]
    pub fn expected_audiences(&self) -> Vec<String> {
        let requested: Vec<String> = self.audience.iter().chain(&self.resources).cloned().collect();
        if requested.is_empty() { vec![self.client_id.clone()] } else { requested }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_names_are_safe_as_file_names_and_shell_words() {
        for valid in ["a", "work", "my-profile_2.x", "0", &"a".repeat(64)] {
            assert!(valid.parse::<ProfileName>().is_ok(), "{valid}");
        }
        for invalid in ["", ".", "..", ".a", "-a", "a/b", "a b", "ä", "a\n", "--json", &"a".repeat(65)] {
            assert!(invalid.parse::<ProfileName>().is_err(), "{invalid}");
        }
    }
}
