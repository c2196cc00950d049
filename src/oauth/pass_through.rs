//! Passes requests of other programs on to an API as they are, with bodies that stream both ways.

use reqwest::header::HeaderMap;
use reqwest::{Method, Request, redirect};
use url::Url;

use super::error::IssuerError;
use super::http::{Http, host_of};
use super::reqwest_clients::ApiVersion;
use super::transport_error::Destination;

/// The body of a request.
pub type ApiRequestBody = reqwest::Body;

/// The body of a response.
pub type ApiBody = reqwest::Body;

/// Clients for one API, which follow no redirect and add nothing but `Accept: */*`, which means the same as no such header
/// (RFC 9110, section 12.5.1).
#[derive(Clone)]
pub struct PassThrough {
    /// What they were made from.
    http: Http,
    requests: reqwest::Client,
    /// A change of the protocol, such as to WebSocket, needs HTTP/1.1 (RFC 9110, section 7.8).
    upgrades: reqwest::Client,
    host: String,
    proxy: Option<String>,
}

impl Http {
    /// Returns clients for the API at `url`, which the user has named; `before` if that trusts the same authorities.
    ///
    /// # Errors
    /// [`IssuerError`] if the URL is insecure or TLS cannot be set up.
    pub fn pass_through(&self, url: &Url, before: Option<&PassThrough>) -> Result<PassThrough, IssuerError> {
        if let Some(before) = before.filter(|before| before.http.shares_clients(self)) {
            return Ok(before.clone());
        }
        let client = |version| self.api_client(url, redirect::Policy::none(), version);
        let (requests, proxy) = client(ApiVersion::Any)?;
        let (upgrades, _) = client(ApiVersion::Http1)?;
        Ok(PassThrough { http: self.clone(), requests, upgrades, host: host_of(url), proxy })
    }
}

impl PassThrough {
    /// Sends a request to the API, and returns the response as soon as its head has arrived. With `upgrades`, the response may
    /// change the protocol of its connection (`hyper::upgrade`).
    ///
    /// # Errors
    /// [`IssuerError`] if there is no response.
    pub async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: ApiRequestBody,
        upgrades: bool,
    ) -> Result<hyper::Response<ApiBody>, IssuerError> {
        let client = if upgrades { &self.upgrades } else { &self.requests };
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body);
        let sent = client.execute(request).await;
        let destination = Destination { host: &self.host, proxy: self.proxy.as_deref() };
        sent.map(Into::into).map_err(|error| destination.error(&error))
    }
}
