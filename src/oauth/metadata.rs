//! Metadata of an authorization server: its endpoints and what it supports.

use url::Url;

use crate::model::{ClientAuth, Endpoints, IssuerUrl};

/// An authorization server's metadata (RFC 8414, section 2). Each URL in it is https, or http on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The issuer, exactly as configured.
    pub issuer: IssuerUrl,
    /// The authorization endpoint (RFC 6749, section 3.1).
    pub authorization_endpoint: Option<Url>,
    /// The token endpoint (RFC 6749, section 3.2).
    pub token_endpoint: Option<Url>,
    /// The URL of the JWK Set.
    pub jwks_uri: Option<Url>,
    /// The device authorization endpoint (RFC 8628, section 4).
    pub device_authorization_endpoint: Option<Url>,
    /// The revocation endpoint (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// The end session endpoint (OpenID Connect RP-Initiated Logout 1.0).
    pub end_session_endpoint: Option<Url>,
    /// The endpoint for pushed authorization requests (RFC 9126).
    pub pushed_authorization_request_endpoint: Option<Url>,
    /// Whether the authorization endpoint takes only pushed requests (RFC 9126, section 5).
    pub require_pushed_authorization_requests: bool,
    /// Whether it lists ES256 for proofs of possession (DPoP; RFC 9449, section 5.1).
    pub supports_dpop: bool,
    /// The userinfo endpoint (OpenID Connect Core 1.0, section 5.3).
    pub userinfo_endpoint: Option<Url>,
    /// The client registration endpoint (RFC 7591, section 3).
    pub registration_endpoint: Option<Url>,
    /// Whether a client may use the URL of its metadata document as its client ID (OAuth Client ID Metadata Document, section 5).
    pub client_id_metadata_document_supported: bool,
    /// The PKCE methods (RFC 7636); `None` if not listed.
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// The client authentication methods; `None` means `client_secret_basic` (RFC 8414, section 2).
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// The signature algorithms of client assertions; `None` if not listed.
    pub token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    /// The grant types; `None` if not listed.
    pub grant_types_supported: Option<Vec<String>>,
    /// The scopes; `None` if not listed.
    pub scopes_supported: Option<Vec<String>>,
    /// Whether each authorization response has the `iss` parameter (RFC 9207).
    pub iss_parameter_supported: bool,
    /// The URLs of the documents that were not fetched.
    pub(super) fallback_urls: Vec<Url>,
}

/// An endpoint that some command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// [`Metadata::authorization_endpoint`].
    Authorization,
    /// [`Metadata::token_endpoint`].
    Token,
    /// [`Metadata::jwks_uri`].
    Jwks,
    /// [`Metadata::device_authorization_endpoint`].
    Device,
    /// [`Metadata::revocation_endpoint`].
    Revocation,
    /// [`Metadata::end_session_endpoint`].
    EndSession,
    /// [`Metadata::registration_endpoint`].
    Registration,
}

impl Metadata {
    /// Replaces endpoints with those that the user configured, for issuers whose metadata is missing or incomplete.
    #[must_use]
    pub fn with_endpoints(mut self, configured: &Endpoints) -> Self {
        let places = [
            (&mut self.authorization_endpoint, &configured.authorization),
            (&mut self.token_endpoint, &configured.token),
            (&mut self.device_authorization_endpoint, &configured.device_authorization),
            (&mut self.revocation_endpoint, &configured.revocation),
            (&mut self.end_session_endpoint, &configured.end_session),
            (&mut self.userinfo_endpoint, &configured.userinfo),
            (&mut self.jwks_uri, &configured.jwks),
        ];
        for (place, configured) in places {
            if configured.is_some() {
                place.clone_from(configured);
            }
        }
        self
    }

    /// Returns metadata with the issuer alone.
    #[must_use]
    pub fn new(issuer: IssuerUrl) -> Self {
        Self {
            issuer,
            authorization_endpoint: None,
            token_endpoint: None,
            jwks_uri: None,
            device_authorization_endpoint: None,
            revocation_endpoint: None,
            end_session_endpoint: None,
            pushed_authorization_request_endpoint: None,
            require_pushed_authorization_requests: false,
            supports_dpop: false,
            userinfo_endpoint: None,
            registration_endpoint: None,
            client_id_metadata_document_supported: false,
            code_challenge_methods_supported: None,
            token_endpoint_auth_methods_supported: None,
            token_endpoint_auth_signing_alg_values_supported: None,
            grant_types_supported: None,
            scopes_supported: None,
            iss_parameter_supported: false,
            fallback_urls: Vec::new(),
        }
    }

    /// Returns the metadata of a server that publishes none: the endpoints that the Model Context Protocol assumed in its revision
    /// 2025-03-26.
    #[must_use]
    pub fn with_default_endpoints(issuer: &IssuerUrl) -> Self {
        let at = |path| issuer.url().join(path).ok();
        Self {
            authorization_endpoint: at("/authorize"),
            token_endpoint: at("/token"),
            registration_endpoint: at("/register"),
            ..Self::new(issuer.clone())
        }
    }

    pub(super) fn endpoint_mut(&mut self, which: Endpoint) -> &mut Option<Url> {
        match which {
            Endpoint::Authorization => &mut self.authorization_endpoint,
            Endpoint::Token => &mut self.token_endpoint,
            Endpoint::Jwks => &mut self.jwks_uri,
            Endpoint::Device => &mut self.device_authorization_endpoint,
            Endpoint::Revocation => &mut self.revocation_endpoint,
            Endpoint::EndSession => &mut self.end_session_endpoint,
            Endpoint::Registration => &mut self.registration_endpoint,
        }
    }

    /// Returns whether the metadata lists a grant type. Without a list an extension grant is not offered (RFC 8414, section
    /// 2).
    #[must_use]
    pub fn offers_grant(&self, grant_type: &str) -> bool {
        self.grant_types_supported.as_ref().is_some_and(|all| all.iter().any(|listed| listed == grant_type))
    }

    /// Returns the authentication method for a client with a secret: `client_secret_basic`, unless only
    /// `client_secret_post` is listed.
    #[must_use]
    pub fn confidential_auth(&self) -> ClientAuth {
        let offers = |method: &str| {
            self.token_endpoint_auth_methods_supported.as_ref().is_some_and(|all| all.iter().any(|m| m == method))
        };
        if offers("client_secret_post") && !offers("client_secret_basic") {
            ClientAuth::ClientSecretPost
        } else {
            ClientAuth::ClientSecretBasic
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_secret_basic_is_preferred_over_post() {
        let mut metadata = Metadata::new("https://a.example".parse().expect("valid"));
        assert_eq!(metadata.confidential_auth(), ClientAuth::ClientSecretBasic);
        metadata.token_endpoint_auth_methods_supported = Some(vec!["none".into(), "client_secret_post".into()]);
        assert_eq!(metadata.confidential_auth(), ClientAuth::ClientSecretPost);
    }
}
