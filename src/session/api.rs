//! From the URL of an API to the authorization servers that issue tokens for it (RFC 9728), before anything is known of either.
//!
//! Every address on the way is named by a server outside: the API's metadata must be in the API's network or a public one, and
//! so must the metadata of the authorization servers that it names.

use super::{SessionError, SessionService};
use crate::model::{ApiUrl, IssuerUrl, Profile};
use crate::oauth::resource::{self, ProtectedResource};
use crate::oauth::{ApiChallenge, Endpoint, IssuerError, Metadata, discover, fetch_missing_endpoints};

/// What an API requires of the tokens that it accepts.
#[derive(Clone, Debug)]
pub struct DiscoveredApi {
    /// The API.
    pub api: ApiUrl,
    /// What it asks for; `None` if it takes requests without a token, as far as a GET shows.
    pub challenge: Option<ApiChallenge>,
    /// Its metadata; `None` if it publishes none.
    pub resource: Option<ProtectedResource>,
}

/// The metadata of an authorization server.
pub struct DiscoveredServer {
    /// The metadata.
    pub metadata: Metadata,
    /// Whether the server publishes none, and has the default endpoints of the Model Context Protocol of 2025-03-26.
    pub has_default_endpoints: bool,
}

impl DiscoveredApi {
    /// Returns the authorization servers: those in the metadata, else the API's own origin (Model Context Protocol, revision
    /// 2025-03-26).
    #[must_use]
    pub fn servers(&self) -> Vec<IssuerUrl> {
        match &self.resource {
            Some(resource) => resource.servers.clone(),
            None => self.api.url().origin().ascii_serialization().parse().into_iter().collect(),
        }
    }

    /// Returns the scopes to request: those of the challenge, else those that the metadata lists, else none.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        let challenged = self.challenge.as_ref().map(|challenge| challenge.scopes.as_slice()).unwrap_or_default();
        let listed = self.resource.as_ref().map(|resource| resource.scopes.as_slice()).unwrap_or_default();
        if challenged.is_empty() { listed } else { challenged }
    }
}

impl SessionService {
    /// Asks an API which authorization servers issue its tokens. Without a `challenge`, which the caller has if the API refused a
    /// request, one request is sent to the API itself. `profile` has the certificate authorities.
    ///
    /// # Errors
    /// [`SessionError::Issuer`].
    pub async fn discover_api(
        &self,
        profile: &Profile,
        api: &ApiUrl,
        challenge: Option<ApiChallenge>,
    ) -> Result<DiscoveredApi, SessionError> {
        let http = self.http_of_user(profile).await?.for_api(api);
        self.within_discovery_limit(api, async {
            let challenge = match challenge {
                None => resource::challenge_of(&http, api).await?,
                known => known,
            };
            let resource = resource::fetch(&http, api, challenge.as_ref()).await?;
            Ok(DiscoveredApi { api: api.clone(), challenge, resource })
        })
        .await
    }

    /// Returns the metadata of an authorization server that the API names. `profile` has the certificate authorities.
    ///
    /// # Errors
    /// [`SessionError::Issuer`].
    pub async fn discover_server(
        &self,
        profile: &Profile,
        api: &DiscoveredApi,
        issuer: &IssuerUrl,
    ) -> Result<DiscoveredServer, SessionError> {
        let http = self.http_of_user(profile).await?.for_api(&api.api);
        self.within_discovery_limit(&api.api, async {
            let mut found = match discover(&http, issuer).await {
                Err(IssuerError::NotAnIssuer { .. }) if api.resource.is_none() && api.challenge.is_some() => {
                    let metadata = Metadata::with_default_endpoints(issuer);
                    return Ok(DiscoveredServer { metadata, has_default_endpoints: true });
                }
                Err(IssuerError::IssuerMismatch { expected, found }) => {
                    // Python's and Java's URL types add the `/` to an origin, or drop it.
                    let spelling =
                        other_spelling(issuer, &found).ok_or(IssuerError::IssuerMismatch { expected, found })?;
                    discover(&http, &spelling).await?
                }
                found => found?,
            };
            fetch_missing_endpoints(&http, &mut found, &[Endpoint::Registration]).await;
            Ok(DiscoveredServer { metadata: found, has_default_endpoints: false })
        })
        .await
    }

    async fn within_discovery_limit<T>(
        &self,
        api: &ApiUrl,
        work: impl Future<Output = Result<T, IssuerError>>,
    ) -> Result<T, SessionError> {
        self.within(super::DISCOVERY_LIMIT, &format!("the issuer of {api} was not found"), work).await
    }
}

/// Returns `found` if it is `issuer` with or without a `/` at the end.
fn other_spelling(issuer: &IssuerUrl, found: &str) -> Option<IssuerUrl> {
    let is_same = found.trim_end_matches('/') == issuer.as_str().trim_end_matches('/');
    found.parse().ok().filter(|_| is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_is_spelled_with_or_without_a_slash_but_not_otherwise() {
        let issuer: IssuerUrl = "https://a.example/t".parse().expect("an issuer");
        for (found, is_same) in [
            ("https://a.example/t/", true),
            ("https://a.example/t", true),
            ("https://a.example/", false),
            ("https://a.example/T", false),
            ("https://evil.example/t", false),
            ("http://a.example/t", false),
            ("", false),
        ] {
            assert_eq!(other_spelling(&issuer, found).is_some(), is_same, "{found}");
        }
    }

    #[test]
    fn scopes_are_those_of_the_challenge_else_of_the_metadata() {
        let scopes = |challenged: &[&str], listed: &[&str]| {
            let list = |scopes: &[&str]| scopes.iter().map(|scope| (*scope).to_owned()).collect();
            let resource = ProtectedResource {
                resource: "https://a.example".into(),
                servers: vec!["https://as.example".parse().expect("an issuer")],
                scopes: list(listed),
                requires_dpop: false,
            };
            let challenge = ApiChallenge { scopes: list(challenged), ..ApiChallenge::default() };
            let api = "https://a.example/mcp".parse().expect("an API");
            let found = DiscoveredApi { api, challenge: Some(challenge), resource: Some(resource) };
            assert_eq!(found.servers()[0].as_str(), "https://as.example");
            let alone = DiscoveredApi { resource: None, ..found.clone() };
            assert_eq!(alone.servers()[0].as_str(), "https://a.example");
            found.scopes().join(" ")
        };
        assert_eq!(scopes(&["a"], &["b", "c"]), "a");
        assert_eq!(scopes(&[], &["b", "c"]), "b c");
        assert_eq!(scopes(&[], &[]), "");
    }
}
