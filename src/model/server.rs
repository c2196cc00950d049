//! Settings of a server that are not in its metadata: endpoints, a login API, the key of the client, and the redirect URI.

use std::path::PathBuf;

use url::Url;

use super::keyword::keywords;
use super::redirect::RedirectUri;
use super::{IssuerUrl, Workload};

/// Endpoints from the configuration, each https or on loopback. With a token endpoint no metadata is requested (RFC 8414,
/// OpenID Connect Discovery); without one they override those in the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The authorization endpoint (RFC 6749, section 3.1).
    pub authorization: Option<Url>,
    /// The token endpoint (RFC 6749, section 3.2).
    pub token: Option<Url>,
    /// The device authorization endpoint (RFC 8628, section 3.1).
    pub device_authorization: Option<Url>,
    /// The revocation endpoint (RFC 7009, section 2).
    pub revocation: Option<Url>,
    /// The end session endpoint (OpenID Connect RP-Initiated Logout 1.0, section 2.1).
    pub end_session: Option<Url>,
    /// The userinfo endpoint (OpenID Connect Core 1.0, section 5.3).
    pub userinfo: Option<Url>,
    /// The URL of the signing keys (RFC 7517, section 5).
    pub jwks: Option<Url>,
}

/// A login API outside OAuth: it takes a user name and a password as JSON and responds with a JWT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginApi {
    /// Receives user name and password.
    pub login: Option<Url>,
    /// Receives the refresh token.
    pub refresh: Option<Url>,
    /// Receives the access token at a logout.
    pub logout: Option<Url>,
    /// The request's member for the user name.
    pub username_field: Option<String>,
    /// The request's member for the password.
    pub password_field: Option<String>,
    /// The response's member for the JWT, with dots between the names of nested members, such as `data.token`.
    pub access_token_field: Option<String>,
    /// The member for the refresh token, in the response and in the request of a refresh.
    pub refresh_token_field: Option<String>,
    /// The response's member for the lifetime of the JWT in seconds.
    pub expires_in_field: Option<String>,
}

/// The key that the client signs its assertions with (RFC 7523; `private_key_jwt`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientKey {
    /// The file: a PEM private key, or a JWK.
    pub file: Option<PathBuf>,
    /// The key's ID at the issuer (`kid`).
    pub id: Option<String>,
    /// The audience of an assertion (`aud`).
    pub audience: AssertionAudience,
}

/// The `aud` of a client assertion, and of a workload's identity token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AssertionAudience {
    /// The issuer, so that no other server can use the assertion.
    #[default]
    Issuer,
    /// The URL of the token endpoint, which some servers require.
    TokenEndpoint,
    /// Any other text.
    Other(String),
}

keywords! {
    /// Where the client ID of a profile comes from.
    pub enum ClientRegistration {
        /// The user, or a client ID metadata document.
        Manual = "manual",
        /// Dynamic client registration (RFC 7591). A client that the issuer does not know any more is registered again.
        Dynamic = "dynamic",
    }
}

keywords! {
    /// Whether authorization requests are pushed to the issuer (RFC 9126).
    pub enum Par {
        /// If the issuer requires it.
        Auto = "auto",
        /// Always.
        Always = "always",
    }
}

keywords! {
    /// Whether tokens are bound to a key of the session (DPoP; RFC 9449).
    pub enum Dpop {
        /// If the issuer refuses a request without a proof.
        Auto = "auto",
        /// Always: a token that is not bound is refused.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

/// All settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// The name of the preset that the profile was created from (`--provider`).
    pub provider: Option<&'static str>,
    /// Its endpoints.
    pub endpoints: Endpoints,
    /// Its login API.
    pub api: LoginApi,
    /// Where the client ID comes from.
    pub client_registration: ClientRegistration,
    /// How the client signs.
    pub client_key: ClientKey,
    /// Whether tokens are bound to a key.
    pub dpop: Dpop,
    /// Whether authorization requests are pushed.
    pub par: Par,
    /// The platform whose identity token logs in.
    pub workload: Option<Workload>,
    /// The identity provider that exchanges the identity token for an assertion for the issuer.
    pub identity_provider: Option<IssuerUrl>,
    /// The client ID at the identity provider.
    pub identity_client_id: Option<String>,
    /// Where the browser is redirected to.
    pub redirect_uri: RedirectUri,
    /// Parameters added to the authorization request, as name and value.
    pub authorization_parameters: Vec<(String, String)>,
}

impl Server {
    /// Returns whether `url` is one of the configured addresses.
    pub(crate) fn has_url(&self, url: &Url) -> bool {
        let Endpoints { authorization, token, device_authorization, revocation, end_session, userinfo, jwks } =
            &self.endpoints;
        let LoginApi { login, refresh, logout, .. } = &self.api;
        let oauth = [authorization, token, device_authorization, revocation, end_session, userinfo, jwks];
        oauth.into_iter().chain([login, refresh, logout]).flatten().any(|configured| configured == url)
    }
}
