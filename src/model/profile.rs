//! A profile: a name for one issuer, client, scopes and store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{IssuerUrl, JsonApi, Requirements, Server, TokenTarget};

/// A profile's name: 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit, so that it can be a file's name, a
/// path segment and a shell word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ProfileName(String);

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no profile name: 1 to 64 letters, digits, `.`, `_` or `-`, the first a letter or digit")]
pub struct InvalidProfileName(String);

impl ProfileName {
    /// The name as text.
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
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidProfileName(text.chars().filter(|c| !c.is_control()).take(80).collect()))
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

/// Where a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// The platform's keychain.
    #[default]
    Keychain,
    /// A file encrypted in the `age` format.
    File,
}

/// How a session is first got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// Authorization code with PKCE (RFC 6749, section 4.1; RFC 7636) over a loopback redirect (RFC 8252).
    #[default]
    Browser,
    /// Device authorization (RFC 8628).
    Device,
    /// Resource owner password (RFC 6749, section 4.3).
    Password,
    /// Client credentials (RFC 6749, section 4.4).
    ClientCredentials,
    /// A token got elsewhere and handed in.
    Token,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Browser => "browser",
            Self::Device => "device",
            Self::Password => "password",
            Self::ClientCredentials => "client-credentials",
            Self::Token => "token",
        })
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keychain => "keychain",
            Self::File => "file",
        })
    }
}

/// How the client proves itself at the token endpoint (OpenID Connect Core 1.0, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// A public client: its id alone.
    #[default]
    None,
    /// The secret in the `Authorization` header (RFC 6749, section 2.3.1).
    ClientSecretBasic,
    /// The secret in the form.
    ClientSecretPost,
    /// An assertion signed with the client's own key (RFC 7523, section 2.2).
    PrivateKeyJwt,
}

impl ClientAuth {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::ClientSecretBasic, Self::ClientSecretPost, Self::PrivateKeyJwt];

    /// The registered name (RFC 7591, section 2).
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Whether a secret goes with it.
    #[must_use]
    pub fn needs_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

/// A profile as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// The authorization server.
    pub issuer: IssuerUrl,
    /// The client's id at the issuer.
    pub client_id: String,
    /// How the client proves itself.
    pub client_auth: ClientAuth,
    /// How `login` gets a session where no option says otherwise.
    pub grant: Grant,
    /// The scopes asked for.
    pub scopes: Vec<String>,
    /// The `audience` parameter asked for and expected in access tokens (not of any RFC, but asked for by several
    /// issuers).
    pub audience: Option<String>,
    /// The resource indicators asked for and expected in access tokens (RFC 8707).
    pub resources: Vec<String>,
    /// Where the session lives.
    pub store: StoreKind,
    /// A PEM file of certificate authorities trusted besides the platform's.
    pub ca_cert: Option<PathBuf>,
    /// What is known of the server beyond its own metadata; shared, since most know nothing.
    pub server: Arc<Server>,
    /// What is demanded of a token before it is granted offline.
    pub requirements: Requirements,
}

impl Profile {
    /// What a login asks for.
    #[must_use]
    pub fn own_request(&self) -> TokenTarget {
        TokenTarget { audience: self.audience.clone(), scopes: self.scopes.clone(), resources: self.resources.clone() }
    }

    /// What is asked for beyond the profile's own request; asking for just that is asking for nothing more.
    #[must_use]
    pub fn narrowed(&self, asked: TokenTarget) -> TokenTarget {
        if asked.is_plain() {
            return asked;
        }
        let own = TokenTarget::new(self.audience.clone(), &self.scopes, &self.resources);
        let same = asked.audience.as_ref().is_none_or(|a| Some(a) == own.audience.as_ref())
            && (asked.scopes.is_empty() || asked.scopes == own.scopes)
            && (asked.resources.is_empty() || asked.resources == own.resources);
        if same { TokenTarget::default() } else { asked }
    }

    /// Makes it a profile of `issuer`; see [`Server::leave`].
    pub fn lead_to(&mut self, issuer: IssuerUrl) {
        Arc::make_mut(&mut self.server).leave(&self.issuer, &issuer);
        self.issuer = issuer;
    }

    /// What is known of the server, to be changed for this profile alone.
    pub fn server_mut(&mut self) -> &mut Server {
        Arc::make_mut(&mut self.server)
    }

    /// The login API, where a session of this grant may be from it: what an authorization server gave is not sent there.
    #[must_use]
    pub fn api_of(&self, grant: Grant) -> Option<&JsonApi> {
        let by_api = match grant {
            Grant::Password | Grant::Token => true,
            Grant::Browser | Grant::Device | Grant::ClientCredentials => false,
        };
        (by_api && self.server.api.login.is_some()).then_some(&self.server.api)
    }

    /// The audiences that an access token may be for: those asked for, else the client itself.
    #[must_use]
    pub fn expected_audiences(&self) -> Vec<String> {
        let asked: Vec<String> = self.audience.iter().chain(&self.resources).cloned().collect();
        if asked.is_empty() { vec![self.client_id.clone()] } else { asked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_file_names_and_shell_words() {
        for good in ["a", "work", "my-profile_2.x", "0", &"a".repeat(64)] {
            assert!(good.parse::<ProfileName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "-a", "a/b", "a b", "ä", "a\n", "--json", &"a".repeat(65)] {
            assert!(bad.parse::<ProfileName>().is_err(), "{bad}");
        }
    }
}
