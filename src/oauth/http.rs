//! Sends one request to one endpoint and reads the response; follows no redirect and uses plain HTTP on loopback only.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;
use hyper_util::client::proxy::matcher::Intercept;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Method, RequestBuilder, redirect};
use url::Url;
use zeroize::Zeroizing;

use super::ca_certificates;
use super::client_auth::sensitive_header;
use super::dpop::{DpopKey, Proof, ProofServers, ProvenRequest};
use super::error::IssuerError;
use super::form::shared;
use super::http_response::HttpResponse;
use super::reqwest_clients::{ApiVersion, Clients, Limits};
use super::resolver::{Lookup, NetworkLimit, limited, system_lookup};
use super::transport_error::Destination;
use crate::clock::{SystemClock, UnixTime, within};
use crate::model::{ApiUrl, InsecureUrl, IssuerUrl, Server, is_loopback, named_url, secure_url};
use crate::secret::{Secret, SecretBytes};

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";
/// The header with a DPoP proof (RFC 9449, section 4.1).
const DPOP: &str = "dpop";
/// How many hosts' clocks are remembered.
const MAX_SERVER_CLOCKS: usize = 64;

/// An HTTP client for the requests of one issuer, or to one API before its issuer is known.
///
/// Proxy variables are honoured except for loopback. A request may take 30 seconds ([`Limits`]). An address that the issuer
/// or API names must be in its own network or a public one: its metadata, or a token that has not been verified, must not make
/// authctl send requests to local services.
#[derive(Clone)]
pub struct Http {
    shared: Arc<Shared>,
    /// The issuer or API that names the other addresses, and the server's settings. `None`: every address comes from the user.
    named_by: Option<(Url, Arc<Server>)>,
}

/// What the clients of all issuers share.
struct Shared {
    clients: Clients,
    /// The `Date` of each host's last response, latest last.
    server_clocks: Mutex<Vec<(String, UnixTime)>>,
    proof_servers: ProofServers,
}

/// What authenticates a request.
#[derive(Default)]
pub(super) struct Credentials {
    pub(super) authorization: Option<HeaderValue>,
    /// A DPoP proof.
    pub(super) proof: Option<HeaderValue>,
    /// The secrets of the request, in its headers or its body. What repeats one is left out of the response's headers.
    pub(super) secrets: Vec<Secret>,
}

impl Credentials {
    /// Returns an `Authorization` header with a token.
    ///
    /// # Errors
    /// [`IssuerError::Local`] if a header cannot have the token.
    pub(super) fn of_token(scheme: &str, token: &Secret) -> Result<Self, IssuerError> {
        let authorization = sensitive_header(&Zeroizing::new(format!("{scheme} {}", token.expose())))?;
        Ok(Self { authorization: Some(authorization), proof: None, secrets: vec![token.clone()] })
    }

    /// Returns those of a request that has these secrets in its body.
    pub(super) fn in_body(secrets: &[Secret]) -> Self {
        Self { secrets: secrets.to_vec(), ..Self::default() }
    }
}

/// A request that may be sent.
struct PreparedRequest {
    request: RequestBuilder,
    method: Method,
    url: Url,
    host: String,
    /// The host and port of the proxy.
    proxy: Option<String>,
    limit: Option<NetworkLimit>,
}

impl Http {
    /// Returns a client that trusts the platform's certificate authorities and those in the PEM file `ca_cert`.
    ///
    /// # Errors
    /// [`IssuerError::CaCertificates`] if the file cannot be read or holds no certificate.
    pub fn new(ca_cert: Option<&Path>) -> Result<Self, IssuerError> {
        Ok(Self::with_limits(
            ca_cert.map(ca_certificates::read).transpose()?.unwrap_or_default(),
            Limits::DEFAULT,
            system_lookup,
        ))
    }

    pub(super) fn with_limits(ca_certificates: Vec<Certificate>, limits: Limits, lookup: Lookup) -> Self {
        let shared = Shared {
            clients: Clients::new(ca_certificates, limits, lookup),
            server_clocks: Mutex::default(),
            proof_servers: ProofServers::default(),
        };
        Self { shared: Arc::new(shared), named_by: None }
    }

    /// Returns the same client for the requests of `issuer`. The user has configured the addresses in `server`.
    #[must_use]
    pub fn for_issuer(&self, issuer: &IssuerUrl, server: &Arc<Server>) -> Self {
        self.named_by(issuer.url(), server)
    }

    /// Returns the same client for the addresses that `api` names.
    #[must_use]
    pub fn for_api(&self, api: &ApiUrl) -> Self {
        self.named_by(api.url(), &Arc::default())
    }

    fn named_by(&self, url: &Url, server: &Arc<Server>) -> Self {
        Self { shared: Arc::clone(&self.shared), named_by: Some((url.clone(), Arc::clone(server))) }
    }

    /// Returns whether `other` uses the same clients.
    pub(crate) fn shares_clients(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Parses an address in a response of the issuer or API.
    ///
    /// # Errors
    /// As [`IssuerUrl::named_url`].
    pub(super) fn named_url(&self, text: &str) -> Result<Url, InsecureUrl> {
        self.named_by.as_ref().map_or_else(|| secure_url(text), |(by, _)| named_url(by, text))
    }

    /// Returns the network that `url` must be in, if the issuer or API names it: not if it is on the same host, or configured.
    fn network_limit(&self, url: &Url) -> Result<Option<NetworkLimit>, InsecureUrl> {
        let Some((by, server)) = &self.named_by else { return Ok(None) };
        if is_loopback(by) || url.host() == by.host() || server.has_url(url) {
            return Ok(None);
        }
        named_url(by, url.as_str())?;
        Ok(NetworkLimit::new(url, by))
    }

    /// Returns the host and port of the proxy for requests to `issuer`; `None` if they need none.
    ///
    /// # Errors
    /// [`IssuerError::InvalidProxy`].
    pub fn proxy(&self, issuer: &IssuerUrl) -> Result<Option<String>, IssuerError> {
        Ok(self.shared.clients.proxies().for_url(issuer.url())?.as_ref().and_then(authority))
    }

    /// Sends a request to the issuer's own address. Any response is a success.
    ///
    /// # Errors
    /// [`IssuerError`] if there is no response.
    pub async fn reach(&self, issuer: &IssuerUrl) -> Result<(), IssuerError> {
        self.get(issuer.url(), "*/*", None).await.map(drop)
    }

    /// Returns the issuer's clock as its last response showed it (`Date`; RFC 9110, section 6.6.1).
    #[must_use]
    pub fn server_time(&self, issuer: &IssuerUrl) -> Option<UnixTime> {
        let host = host_of(&Url::parse(issuer.as_str()).ok()?);
        let clocks = self.shared.server_clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.iter().find(|(of, _)| *of == host).map(|(_, time)| *time)
    }

    fn remember_server_time(&self, host: &str, time: UnixTime) {
        let mut clocks = self.shared.server_clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.retain(|(of, _)| of != host);
        if clocks.len() >= MAX_SERVER_CLOCKS {
            clocks.remove(0);
        }
        clocks.push((host.to_owned(), time));
    }

    /// Returns a new DPoP proof of `key` for `request` at the time `now` of this machine.
    pub(super) fn proof(
        &self,
        key: &DpopKey,
        request: &ProvenRequest<'_>,
        now: UnixTime,
    ) -> Result<Proof, IssuerError> {
        let issuer = self.named_by.as_ref().map(|(issuer, _)| issuer);
        self.shared.proof_servers.proof(key, request, now, issuer)
    }

    /// Returns a proof for a request that a caller makes. A `nonce` is remembered, as one in a response.
    ///
    /// # Errors
    /// [`IssuerError::Local`] if it cannot be signed.
    pub fn caller_proof(
        &self,
        key: &DpopKey,
        request: &ProvenRequest<'_>,
        nonce: Option<&str>,
        now: UnixTime,
    ) -> Result<Secret, IssuerError> {
        if let Some(nonce) = nonce {
            self.shared.proof_servers.remember_nonce(request.url, nonce);
        }
        Ok(self.proof(key, request, now)?.text)
    }

    /// Compares the server's clock in a response of `url`, which refuses a proof, with this machine's, which shows `now`;
    /// returns whether proofs will be dated in another way than before.
    pub(super) fn compare_clocks(&self, url: &Url, response: &HttpResponse, now: UnixTime) -> bool {
        response.date.is_some_and(|date| self.shared.proof_servers.remember_time(url, date, now))
    }

    /// Sends a GET to `url` with this `Accept` and these credentials.
    pub(super) async fn get(
        &self,
        url: &Url,
        accept: &'static str,
        credentials: Option<Credentials>,
    ) -> Result<HttpResponse, IssuerError> {
        self.send(Method::GET, url, accept, credentials, None).await
    }

    /// Sends a GET without a token to an API, and returns the head of the response: its body may be of any length.
    pub(super) async fn get_head(&self, url: &Url) -> Result<HttpResponse, IssuerError> {
        let request = self.prepare(Method::GET, url, "application/json", Credentials::default(), None).await?;
        Ok(self.open(request).await?.0)
    }

    /// Sends a DELETE to `url` with these credentials.
    pub(super) async fn delete(&self, url: &Url, credentials: Credentials) -> Result<HttpResponse, IssuerError> {
        self.send(Method::DELETE, url, "application/json", Some(credentials), None).await
    }

    /// Posts the form `body` to `url` and asks for JSON.
    pub(super) async fn post_form(
        &self,
        url: &Url,
        body: Bytes,
        credentials: Option<Credentials>,
    ) -> Result<HttpResponse, IssuerError> {
        self.send(Method::POST, url, "application/json", credentials, Some((FORM, body))).await
    }

    /// Posts the JSON `body` to `url` and asks for JSON.
    pub(super) async fn post_json(
        &self,
        url: &Url,
        body: SecretBytes,
        credentials: Option<Credentials>,
    ) -> Result<HttpResponse, IssuerError> {
        let body = Some(("application/json", shared(body)));
        self.send(Method::POST, url, "application/json", credentials, body).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        accept: &'static str,
        credentials: Option<Credentials>,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<HttpResponse, IssuerError> {
        let mut credentials = credentials.unwrap_or_default();
        let secrets = std::mem::take(&mut credentials.secrets);
        #[cfg(test)]
        if let Some(issuer) = super::testing::simulated_issuer() {
            return super::testing::exchange(issuer, &host_of(url), url, body).await;
        }
        let request = self.prepare(method, url, accept, credentials, body).await?;
        let (host, proxy) = (request.host.clone(), request.proxy.clone());
        let destination = Destination { host: &host, proxy: proxy.as_deref() };
        let exchange = async {
            let (mut response, mut reply) = self.open(request).await?;
            while let Some(chunk) = self.receive(destination, reply.chunk()).await? {
                response.append(&chunk)?;
            }
            response.decode();
            response.leave_out(&secrets);
            Ok(response)
        };
        let response = within(&SystemClock, self.shared.clients.limits().total, exchange).await;
        response.unwrap_or_else(|| Err(destination.timed_out()))
    }

    /// Awaits a part of a response.
    async fn receive<T>(
        &self,
        destination: Destination<'_>,
        part: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, IssuerError> {
        let received = within(&SystemClock, self.shared.clients.limits().read, part).await;
        received.ok_or_else(|| destination.timed_out())?.map_err(|error| destination.error(&error))
    }

    /// Builds a request, unless it may not be sent.
    async fn prepare(
        &self,
        method: Method,
        url: &Url,
        accept: &'static str,
        Credentials { authorization, proof, .. }: Credentials,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<PreparedRequest, IssuerError> {
        let url = secure_url(url.as_str())?;
        let clients = &self.shared.clients;
        let proxy = clients.proxies().for_url(&url)?;
        let limit = self.network_limit(&url)?;
        if let Some(limit) = &limit {
            limit.check(clients.resolver(), proxy.is_some(), clients.limits().connect).await?;
        }
        // Without this `Accept-Encoding` a server may choose any content coding (RFC 9110, section 12.5.3).
        let request = clients.for_request(&url)?.request(method.clone(), url.clone());
        let mut request = request.header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
        if let Some((content_type, body)) = body {
            request = request.header(CONTENT_TYPE, content_type).body(body);
        }
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(proof) = proof {
            request = request.header(DPOP, proof);
        }
        let (host, proxy) = (host_of(&url), proxy.as_ref().and_then(authority));
        Ok(PreparedRequest { request, method, url, host, proxy, limit })
    }

    /// Sends a request, and returns the head of the response and the rest of it.
    async fn open(
        &self,
        PreparedRequest { request, method, url, host, proxy, limit }: PreparedRequest,
    ) -> Result<(HttpResponse, reqwest::Response), IssuerError> {
        let destination = Destination { host: &host, proxy: proxy.as_deref() };
        let sent = self.receive(destination, limited(limit, request.send())).await;
        let reply = sent.inspect_err(|error| tracing::debug!("{method} {host}{} -> {error}", url.path()))?;
        let status = reply.status().as_u16();
        tracing::debug!("{method} {host}{} -> {status}", url.path());
        let response = HttpResponse::new(&host, &url, status, reply.headers());
        if let Some(date) = response.date {
            self.remember_server_time(&host, date);
        }
        if let Some(nonce) = &response.dpop_nonce {
            self.shared.proof_servers.remember_nonce(&url, nonce);
        }
        Ok((response, reply))
    }

    /// Returns a client for an API at `url` and how to name it in errors.
    ///
    /// # Errors
    /// As [`Clients::for_api`].
    pub(super) fn api_client(
        &self,
        url: &Url,
        redirects: redirect::Policy,
        version: ApiVersion,
    ) -> Result<(reqwest::Client, Option<String>), IssuerError> {
        let client = self.shared.clients.for_api(url, redirects, version)?;
        Ok((client, self.shared.clients.proxies().for_url(url)?.as_ref().and_then(authority)))
    }
}

/// Returns the host and port of a proxy, without its user name and password.
fn authority(proxy: &Intercept) -> Option<String> {
    proxy.uri().authority().map(ToString::to_string)
}

/// Returns the host, with its port unless that is the scheme's default.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests;
