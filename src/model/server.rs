//! What a profile says of its server where the server does not say it itself: endpoints, a login API of its own, and how
//! the client signs and where the browser comes back to.

use std::path::PathBuf;

use url::{Url, form_urlencoded};

use super::issuer_url::{InsecureUrl, IssuerUrl, secure_url};
use super::provider::provider;
use super::redirect::{InvalidRedirect, RedirectUri};

/// Endpoints given by hand, each https or on loopback. With a `token_endpoint` no metadata is asked for (RFC 8414 and
/// OpenID Connect Discovery are left out); without one they stand in for what the metadata says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Where a browser signs in.
    pub authorization: Option<Url>,
    /// Where grants become tokens.
    pub token: Option<Url>,
    /// Where a device login starts (RFC 8628).
    pub device_authorization: Option<Url>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation: Option<Url>,
    /// Where a browser signs out.
    pub end_session: Option<Url>,
    /// Where claims about the user are had.
    pub userinfo: Option<Url>,
    /// Where the signing keys are.
    pub jwks: Option<Url>,
}

/// A login API that is none of OAuth's: it takes a user name and a password as JSON and answers with a JWT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonApi {
    /// Takes user name and password.
    pub login: Option<Url>,
    /// Takes the refresh token, where there is one.
    pub refresh: Option<Url>,
    /// Is told of a logout.
    pub logout: Option<Url>,
    /// The member of the request that holds the user name; `username` where nothing is said.
    pub username_field: Option<String>,
    /// The member of the request that holds the password; `password` where nothing is said.
    pub password_field: Option<String>,
    /// The member of the answer that holds the JWT, with dots between the names of nested ones, as `data.token`.
    pub access_token_field: Option<String>,
    /// The member of the answer, and of a refresh's request, that holds the refresh token.
    pub refresh_token_field: Option<String>,
    /// The member of the answer that says how many seconds the JWT lives.
    pub expires_in_field: Option<String>,
}

/// The key that the client signs its assertions with (RFC 7523; `private_key_jwt`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientKey {
    /// The file: a PEM private key, or a JWK.
    pub file: Option<PathBuf>,
    /// The `kid` by which the issuer knows it.
    pub id: Option<String>,
    /// Whom an assertion is for (`aud`).
    pub audience: AssertionAudience,
}

/// The `aud` of a client assertion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AssertionAudience {
    /// The issuer's identifier, which no other server can pass an assertion on to.
    #[default]
    Issuer,
    /// The address of the token endpoint, which some servers insist on.
    TokenEndpoint,
    /// This text.
    Other(String),
}

/// All of it. Each setting has a key, and a text that it is written as in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// The word for the preset that the profile began with (`--provider`).
    pub provider: Option<&'static str>,
    /// Its endpoints.
    pub endpoints: Endpoints,
    /// Its login API.
    pub api: JsonApi,
    /// How the client signs.
    pub client_key: ClientKey,
    /// Where the browser comes back to.
    pub redirect_uri: RedirectUri,
    /// What is added to the authorization request, name and value.
    pub authorization_parameters: Vec<(String, String)>,
}

/// A setting that cannot be what it was set to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    /// An address that nothing is sent to.
    #[error(transparent)]
    Insecure(#[from] InsecureUrl),
    /// Not an address for a browser to come back to.
    #[error(transparent)]
    Redirect(#[from] InvalidRedirect),
    /// A path of members with an empty name in it.
    #[error("`{0}` names no member of an answer")]
    Field(String),
    /// A parameter that is authctl's own to set.
    #[error("`{0}` is authctl's own to set in the authorization request")]
    Reserved(String),
    /// A provider without a preset.
    #[error("there is no provider `{0}`")]
    Provider(String),
}

/// The parameters that authctl sets itself: with them changed a sign-in would be another's.
const RESERVED: [&str; 11] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "response_mode",
];

/// A place for a setting, by its kind.
enum Slot<'a> {
    Provider(&'a mut Option<&'static str>),
    Url(&'a mut Option<Url>),
    Text(&'a mut Option<String>),
    Field(&'a mut Option<String>),
    Path(&'a mut Option<PathBuf>),
    Audience(&'a mut AssertionAudience),
    Redirect(&'a mut RedirectUri),
    Parameters(&'a mut Vec<(String, String)>),
}

impl Server {
    /// The keys in the configuration.
    pub const KEYS: [&'static str; 21] = [
        "provider",
        "authorization_endpoint",
        "token_endpoint",
        "device_authorization_endpoint",
        "revocation_endpoint",
        "end_session_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
        "login_endpoint",
        "refresh_endpoint",
        "logout_endpoint",
        "username_field",
        "password_field",
        "access_token_field",
        "refresh_token_field",
        "expires_in_field",
        "client_key",
        "client_key_id",
        "client_assertion_audience",
        "redirect_uri",
        "authorization_parameters",
    ];

    fn slot(&mut self, key: &str) -> Option<Slot<'_>> {
        let (endpoints, api, client_key) = (&mut self.endpoints, &mut self.api, &mut self.client_key);
        Some(match key {
            "provider" => Slot::Provider(&mut self.provider),
            "authorization_endpoint" => Slot::Url(&mut endpoints.authorization),
            "token_endpoint" => Slot::Url(&mut endpoints.token),
            "device_authorization_endpoint" => Slot::Url(&mut endpoints.device_authorization),
            "revocation_endpoint" => Slot::Url(&mut endpoints.revocation),
            "end_session_endpoint" => Slot::Url(&mut endpoints.end_session),
            "userinfo_endpoint" => Slot::Url(&mut endpoints.userinfo),
            "jwks_uri" => Slot::Url(&mut endpoints.jwks),
            "login_endpoint" => Slot::Url(&mut api.login),
            "refresh_endpoint" => Slot::Url(&mut api.refresh),
            "logout_endpoint" => Slot::Url(&mut api.logout),
            "username_field" => Slot::Text(&mut api.username_field),
            "password_field" => Slot::Text(&mut api.password_field),
            "access_token_field" => Slot::Field(&mut api.access_token_field),
            "refresh_token_field" => Slot::Field(&mut api.refresh_token_field),
            "expires_in_field" => Slot::Field(&mut api.expires_in_field),
            "client_key" => Slot::Path(&mut client_key.file),
            "client_key_id" => Slot::Text(&mut client_key.id),
            "client_assertion_audience" => Slot::Audience(&mut client_key.audience),
            "redirect_uri" => Slot::Redirect(&mut self.redirect_uri),
            "authorization_parameters" => Slot::Parameters(&mut self.authorization_parameters),
            _ => return None,
        })
    }

    /// Sets `key` to what `text` says, or, where that is empty, to nothing; false where there is no such key.
    ///
    /// # Errors
    /// [`InvalidSetting`]; the setting is then as it was.
    pub fn set(&mut self, key: &str, text: &str) -> Result<bool, InvalidSetting> {
        let Some(slot) = self.slot(key) else { return Ok(false) };
        let given = (!text.is_empty()).then_some(text);
        match slot {
            Slot::Provider(place) => {
                let known = |name: &str| provider(name).ok_or_else(|| InvalidSetting::Provider(name.to_owned()));
                *place = given.map(known).transpose()?.map(|preset| preset.name);
            }
            Slot::Url(place) => *place = given.map(secure_url).transpose()?,
            Slot::Text(place) => *place = given.map(str::to_owned),
            Slot::Field(place) => {
                if given.is_some_and(|path| path.split('.').any(str::is_empty)) {
                    return Err(InvalidSetting::Field(text.to_owned()));
                }
                *place = given.map(str::to_owned);
            }
            Slot::Path(place) => *place = given.map(PathBuf::from),
            Slot::Audience(place) => {
                *place = match text {
                    "" | "issuer" => AssertionAudience::Issuer,
                    "token_endpoint" => AssertionAudience::TokenEndpoint,
                    other => AssertionAudience::Other(other.to_owned()),
                }
            }
            Slot::Redirect(place) => *place = given.map(str::parse).transpose()?.unwrap_or_default(),
            Slot::Parameters(place) => {
                let all: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
                if let Some((name, _)) = all.iter().find(|(name, _)| RESERVED.contains(&name.as_str())) {
                    return Err(InvalidSetting::Reserved(name.clone()));
                }
                *place = all;
            }
        }
        Ok(true)
    }

    /// What `key` is set to; `None` where it is set to nothing, or there is no such key.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        match self.clone().slot(key)? {
            Slot::Provider(place) => place.map(str::to_owned),
            Slot::Url(place) => place.as_ref().map(Url::to_string),
            Slot::Text(place) | Slot::Field(place) => place.clone(),
            Slot::Path(place) => place.as_ref().map(|path| path.to_string_lossy().into_owned()),
            Slot::Audience(AssertionAudience::Issuer) => None,
            Slot::Audience(AssertionAudience::TokenEndpoint) => Some("token_endpoint".to_owned()),
            Slot::Audience(AssertionAudience::Other(text)) => Some(text.clone()),
            Slot::Redirect(place) => (*place != RedirectUri::default()).then(|| place.to_string()),
            Slot::Parameters(place) if place.is_empty() => None,
            Slot::Parameters(place) => {
                Some(form_urlencoded::Serializer::new(String::new()).extend_pairs(place.iter()).finish())
            }
        }
    }

    /// Forgets the addresses of `old` where `new` is at another host: passwords and tokens for the new issuer do not go
    /// there, what a client signs is not for it, and a preset for the old one says nothing of it.
    pub fn leave(&mut self, old: &IssuerUrl, new: &IssuerUrl) {
        if old.url().origin() != new.url().origin() {
            self.provider = None;
            self.forget_addresses();
        }
    }

    /// Forgets where tokens and passwords go, and whom assertions are for; how the client signs stays.
    pub fn forget_addresses(&mut self) {
        self.endpoints = Endpoints::default();
        self.api = JsonApi::default();
        self.client_key.audience = AssertionAudience::default();
    }

    /// Every key that is set, and what to.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        Self::KEYS.into_iter().filter_map(|key| Some((key, self.text(key)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_takes_a_text_and_gives_it_back() {
        let mut server = Server::default();
        assert_eq!(server.texts().count(), 0);
        for key in Server::KEYS {
            let text = match key {
                "provider" => "keycloak",
                "redirect_uri" => "http://localhost:8400/back",
                "authorization_parameters" => "access_type=offline&prompt=consent",
                "client_assertion_audience" => "token_endpoint",
                _ if key.ends_with("_endpoint") || key.ends_with("_uri") => "https://a.example/x/",
                _ => "data.token",
            };
            assert_eq!(server.set(key, text), Ok(true), "{key}");
            assert_eq!(server.text(key).as_deref(), Some(text), "{key}");
        }
        assert_eq!(server.texts().count(), Server::KEYS.len());
        for key in Server::KEYS {
            assert_eq!(server.set(key, ""), Ok(true));
        }
        assert_eq!(server, Server::default());
        assert_eq!(server.set("token_endpont", "x"), Ok(false));
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let mut server = Server::default();
        for (key, text) in [
            ("provider", "gogle"),
            ("token_endpoint", "http://a.example/token"),
            ("jwks_uri", "keys"),
            ("access_token_field", "data..token"),
            ("redirect_uri", "https://a.example/callback"),
            ("authorization_parameters", "state=mine"),
            ("authorization_parameters", "request_uri=https://evil.example/request"),
            ("authorization_parameters", "response_mode=form_post"),
            ("authorization_parameters", "x=1&redirect_uri=https://evil.example"),
        ] {
            assert!(server.set(key, text).is_err(), "{key}={text}");
        }
        for name in [
            "response_type",
            "client_id",
            "redirect_uri",
            "scope",
            "state",
            "nonce",
            "code_challenge",
            "code_challenge_method",
            "request",
            "request_uri",
        ] {
            let refused = Err(InvalidSetting::Reserved(name.to_owned()));
            assert_eq!(server.set("authorization_parameters", &format!("x=1&{name}=y")), refused);
        }
        assert_eq!(server, Server::default());
    }
}
