//! Requests to a protected API, whose responses are read as they arrive.

use std::str::FromStr as _;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, redirect};
use url::Url;

pub use hyper::body::Bytes;

use super::error::IssuerError;
use super::http::{Http, host_of};
use super::reqwest_clients::{ApiVersion, USER_AGENT};
use super::transport_error::Destination;
use crate::model::{ApiUrl, secure_url};
use crate::secret::Secret;

/// How many redirects one request follows.
const MAX_REDIRECTS: usize = 3;

/// A protected API at one URL.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    url: Url,
    host: String,
    proxy: Option<String>,
}

/// A request to the API.
pub struct ApiRequest<'a> {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// The headers.
    pub headers: Vec<(&'a str, String)>,
    /// The headers with credentials.
    pub credentials: &'a [(String, Secret)],
    /// The body, if it has one.
    pub body: Option<Bytes>,
}

/// The response: the head, and a body that may still be arriving.
pub struct ApiResponse {
    /// The status.
    pub status: u16,
    response: reqwest::Response,
    host: String,
    proxy: Option<String>,
}

impl Http {
    /// Returns a client for the API at `url`, which the user has named.
    ///
    /// # Errors
    /// [`IssuerError`] if the URL is insecure or TLS cannot be set up.
    pub fn api(&self, url: &Url) -> Result<Api, IssuerError> {
        let url = secure_url(url.as_str())?;
        let (client, proxy) = self.api_client(&url, redirect::Policy::none(), ApiVersion::Http1)?;
        Ok(Api { client, host: host_of(&url), url, proxy })
    }
}

/// Returns where a response redirects a request to that keeps its method and body (RFC 9110, sections 15.4.8 and 15.4.9): only
/// to what the API's own URL covers, so that nothing else at the server gets the credentials.
fn redirect_of(api: &Url, requested: &Url, response: &reqwest::Response) -> Option<Url> {
    let keeps_method = matches!(response.status().as_u16(), 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| keeps_method)?;
    let target = requested.join(location.to_str().ok()?).ok()?;
    ApiUrl::from_str(target.as_str()).ok()?.covered_by(api.as_str()).map(|_| target)
}

impl Api {
    /// Returns the host, with its port unless that is the scheme's default.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request; returns the response when its head has arrived.
    ///
    /// # Errors
    /// [`IssuerError`] if there is none.
    pub async fn send(&self, request: ApiRequest<'_>) -> Result<ApiResponse, IssuerError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(reqwest::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        for (name, value) in &request.headers {
            insert(&mut headers, name, value, false);
        }
        for (name, value) in request.credentials {
            insert(&mut headers, name, value.expose(), true);
        }
        let method = Method::from_bytes(request.method.as_bytes()).unwrap_or_default();
        // A proof is for one URL (RFC 9449, section 4.2).
        let is_proven = request.credentials.iter().any(|(name, _)| name.eq_ignore_ascii_case("dpop"));
        let destination = Destination { host: &self.host, proxy: self.proxy.as_deref() };
        let (mut url, mut redirects) = (self.url.clone(), 0);
        let response = loop {
            let mut sending = self.client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(body) = &request.body {
                sending = sending.body(body.clone());
            }
            let path = url.path();
            let sent = sending.send().await.map_err(|error| destination.error(&error));
            let response = sent.inspect_err(|error| tracing::debug!("{method} {}{path} -> {error}", self.host))?;
            tracing::debug!("{method} {}{path} -> {}", self.host, response.status().as_u16());
            match redirect_of(&self.url, &url, &response).filter(|_| !is_proven && redirects < MAX_REDIRECTS) {
                Some(target) => url = target,
                None => break response,
            }
            redirects += 1;
        };
        let status = response.status().as_u16();
        Ok(ApiResponse { status, response, host: self.host.clone(), proxy: self.proxy.clone() })
    }
}

/// Adds a header, unless it has characters that none may have.
fn insert(headers: &mut HeaderMap, name: &str, value: &str, is_sensitive: bool) {
    if let (Ok(name), Ok(mut value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        value.set_sensitive(is_sensitive);
        headers.append(name, value);
    }
}

impl ApiResponse {
    /// Returns whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.response.status().is_success()
    }

    /// Returns the status in words: `HTTP 404`; for a redirect that was not followed, also where it leads, without its query.
    #[must_use]
    pub fn outcome(&self) -> String {
        let location = self.header("location").filter(|_| (300..400).contains(&self.status));
        match location.and_then(|location| self.response.url().join(location).ok()) {
            Some(mut target) => {
                target.set_query(None);
                target.set_fragment(None);
                format!("HTTP {}, a redirect to {target}", self.status)
            }
            None => format!("HTTP {}", self.status),
        }
    }

    /// Returns the first header of this name, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Returns all headers of this name that are text.
    #[must_use]
    pub fn headers(&self, name: &str) -> Vec<String> {
        let values = self.response.headers().get_all(name).into_iter();
        values.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect()
    }

    /// Returns the media type in lower case, without parameters.
    #[must_use]
    pub fn media_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Returns the next part of the body as it arrives; `None` at its end.
    ///
    /// # Errors
    /// [`IssuerError`] if the connection ends before the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, IssuerError> {
        let destination = Destination { host: &self.host, proxy: self.proxy.as_deref() };
        self.response.chunk().await.map_err(|error| destination.error(&error))
    }
}
