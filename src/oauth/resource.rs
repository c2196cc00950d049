//! Protected resource metadata: which authorization servers issue tokens for an API (RFC 9728).

use serde::Deserialize;
use url::Url;

use super::challenge::{ApiChallenge, scopes};
use super::error::IssuerError;
use super::http::Http;
use super::http_response::HttpResponse;
use super::lenient_json::{LenientString, boolean, string_list};
use crate::model::{ApiUrl, IssuerUrl};
use crate::text::excerpt;

/// Where the metadata of a resource is (RFC 9728, section 3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// The maximum number of authorization servers that are taken from metadata.
const MAX_SERVERS: usize = 10;

/// The metadata of an API. Its addresses passed the checks of [`Http::for_api`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// The resource identifier exactly as published, which covers the URL of the API. Requests repeat it (RFC 8707).
    pub resource: String,
    /// The authorization servers; at least one.
    pub servers: Vec<IssuerUrl>,
    /// The scopes that the API uses; empty if not listed.
    pub scopes: Vec<String>,
    /// Whether the API takes only DPoP tokens (`dpop_bound_access_tokens_required`).
    pub requires_dpop: bool,
}

/// Sends a request without a token to the API, and returns what it asks for; `None` if it does not ask for a token.
///
/// # Errors
/// [`IssuerError::Unreachable`]: any response is a success.
pub async fn challenge_of(http: &Http, api: &ApiUrl) -> Result<Option<ApiChallenge>, IssuerError> {
    let response = http.get_head(api.url()).await?;
    let challenge = ApiChallenge::parse(response.challenges.iter().map(String::as_str));
    // Not all servers send the header with it.
    Ok(if response.status == 401 { Some(challenge.unwrap_or_default()) } else { challenge })
}

/// Fetches the metadata of the API: from the URL in `challenge` if it has one, else from the well-known URL of the API's path,
/// then from that of its host. `http` is [`Http::for_api`]. Returns `None` if there is no such document.
///
/// # Errors
/// [`IssuerError::Insecure`] for an address that the API must not name; [`IssuerError::ResourceMismatch`] if the document is of
/// another resource; [`IssuerError::InvalidResponse`] if it cannot be used, or if there is none at the address in the challenge.
pub async fn fetch(
    http: &Http,
    api: &ApiUrl,
    challenge: Option<&ApiChallenge>,
) -> Result<Option<ProtectedResource>, IssuerError> {
    if let Some(text) = challenge.and_then(|challenge| challenge.resource_metadata.as_deref()) {
        let response = http.get(&http.named_url(text)?, "application/json", None).await?;
        let document = document(&response)?.ok_or_else(|| response.unexpected("protected resource metadata"))?;
        return validate(http, api, &response, document).map(Some);
    }
    for url in metadata_urls(api) {
        let response = http.get(&url, "application/json", None).await?;
        if let Some(document) = document(&response)? {
            return validate(http, api, &response, document).map(Some);
        }
    }
    Ok(None)
}

/// Returns where the metadata may be: between host and path (RFC 9728, section 3.1), and at the host.
fn metadata_urls(api: &ApiUrl) -> Vec<Url> {
    let mut at_host = api.url().clone();
    at_host.set_path(WELL_KNOWN);
    at_host.set_query(None);
    let path = api.url().path();
    if path == "/" && api.url().query().is_none() {
        return vec![at_host];
    }
    let mut inserted = api.url().clone();
    inserted.set_path(&format!("{WELL_KNOWN}{}", path.trim_end_matches('/')));
    vec![inserted, at_host]
}

/// The document as sent. Members of the wrong type count as absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    resource: LenientString,
    #[serde(deserialize_with = "string_list")]
    authorization_servers: Option<Vec<String>>,
    #[serde(deserialize_with = "string_list")]
    scopes_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "string_list")]
    bearer_methods_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "boolean")]
    dpop_bound_access_tokens_required: bool,
}

/// Parses the document in `response`; `None` if there is none.
fn document(response: &HttpResponse) -> Result<Option<Document>, IssuerError> {
    match response.unavailable() {
        Some(error) => Err(error),
        None if !response.is_success() => Ok(None),
        None => Ok(response.object().filter(|document: &Document| document.resource.0.is_some())),
    }
}

/// Checks the resource and the authorization servers of a document.
fn validate(
    http: &Http,
    api: &ApiUrl,
    response: &HttpResponse,
    document: Document,
) -> Result<ProtectedResource, IssuerError> {
    let resource = document.resource.0.unwrap_or_default();
    if api.covered_by(&resource).is_none() {
        return Err(IssuerError::ResourceMismatch { api: api.to_string(), found: excerpt(&resource, 200) });
    }
    let unusable = |what: &str| IssuerError::InvalidResponse {
        from: response.host.clone(),
        what: format!("protected resource metadata {what}"),
        wrong_address: false,
    };
    // An empty list means that tokens cannot be sent at all (RFC 9728, section 2).
    if document.bearer_methods_supported.is_some_and(|methods| !methods.iter().any(|method| method == "header")) {
        return Err(unusable("of an API that takes no token in a header"));
    }
    let listed = document.authorization_servers.unwrap_or_default();
    let mut servers: Vec<IssuerUrl> = Vec::new();
    for text in &listed {
        http.named_url(text)?;
        let server: IssuerUrl = text.parse()?;
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    match servers.len() {
        0 => Err(unusable("without an authorization server")),
        1..=MAX_SERVERS => Ok(ProtectedResource {
            resource,
            servers,
            scopes: scopes(document.scopes_supported.unwrap_or_default().iter().map(String::as_str)),
            requires_dpop: document.dpop_bound_access_tokens_required,
        }),
        _ => Err(unusable("with too many authorization servers")),
    }
}

#[cfg(test)]
mod tests;
