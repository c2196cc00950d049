//! Sends one request to one endpoint and reads the response; follows no redirect and uses plain HTTP on loopback only.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::proxy::matcher::Intercept;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, redirect, retry};
use url::Url;

use super::ca_certificates;
use super::error::{Delivery, IssuerError, Phase};
use super::form::shared;
use super::http_response::{HttpResponse, date};
use super::proxy::Proxies;
use super::resolver::{Lookup, NetworkLimit, Resolver, limited, system_lookup};
use super::transport_error::Destination;
use crate::clock::UnixTime;
use crate::model::{InsecureUrl, IssuerUrl, Server, is_loopback, secure_url};
use crate::paths::ProxyVariables;
use crate::secret::SecretBytes;
use crate::text::excerpt;

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";
/// How many hosts' clocks are remembered.
const MAX_SERVER_CLOCKS: usize = 64;

/// The time limits of one request. A connection attempt has to end before the other limits do, or a request that was not sent
/// would be reported as one that may have been.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// To resolve the host, connect to one of its addresses and complete the TLS handshake.
    pub(super) connect: Duration,
    /// From the start to the response's head, and between two parts of its body.
    pub(super) read: Duration,
    /// For everything together.
    pub(super) total: Duration,
}

impl Limits {
    /// The system's resolver asks its second name server after five seconds; TCP sends its first packet four times within
    /// eight.
    const DEFAULT: Self =
        Self { connect: Duration::from_secs(15), read: Duration::from_secs(20), total: Duration::from_secs(30) };
}

/// The destination of a request, which decides which HTTP client it needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Remote,
    LoopbackTls,
    LoopbackPlain,
}

/// An HTTP client for the requests of one issuer.
///
/// Proxy variables are honoured except for loopback. A request may take 30 seconds ([`Limits`]). An address that the issuer
/// names must be in its own network or a public one: its metadata, or a token that has not been verified, must not make
/// authctl send requests to local services.
#[derive(Clone)]
pub struct Http {
    clients: Arc<Clients>,
    /// The issuer, and the server's settings. `None`: every address comes from the user.
    issuer: Option<(IssuerUrl, Arc<Server>)>,
}

/// The clients, each built when it is first needed: building one that trusts the platform's authorities takes
/// milliseconds, and plain http on loopback does not need it.
struct Clients {
    ca_certificates: Vec<Certificate>,
    limits: Limits,
    resolver: Resolver,
    proxies: OnceLock<Proxies>,
    remote: OnceLock<reqwest::Client>,
    loopback_tls: OnceLock<reqwest::Client>,
    loopback_plain: OnceLock<reqwest::Client>,
    /// The `Date` of each host's last response, latest last.
    server_clocks: Mutex<Vec<(String, UnixTime)>>,
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
        let clients = Clients {
            ca_certificates,
            limits,
            resolver: Resolver::new(lookup),
            proxies: OnceLock::new(),
            remote: OnceLock::new(),
            loopback_tls: OnceLock::new(),
            loopback_plain: OnceLock::new(),
            server_clocks: Mutex::default(),
        };
        Self { clients: Arc::new(clients), issuer: None }
    }

    /// Returns the same client for the requests of `issuer`. The user has configured the addresses in `server`.
    #[must_use]
    pub fn for_issuer(&self, issuer: &IssuerUrl, server: &Arc<Server>) -> Self {
        Self { clients: Arc::clone(&self.clients), issuer: Some((issuer.clone(), Arc::clone(server))) }
    }

    /// Returns whether `other` uses the same clients.
    #[cfg(test)]
    pub(crate) fn shares_clients(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.clients, &other.clients)
    }

    /// Parses an address in a response of the issuer.
    ///
    /// # Errors
    /// As [`IssuerUrl::named_url`].
    pub(super) fn named_url(&self, text: &str) -> Result<Url, InsecureUrl> {
        self.issuer.as_ref().map_or_else(|| secure_url(text), |(issuer, _)| issuer.named_url(text))
    }

    /// Returns the network that `url` must be in, if the issuer names it: not if it is at the issuer itself, or configured.
    fn network_limit(&self, url: &Url) -> Result<Option<NetworkLimit>, InsecureUrl> {
        let Some((issuer, server)) = &self.issuer else { return Ok(None) };
        if is_loopback(issuer.url()) || url.host() == issuer.url().host() || server.has_url(url) {
            return Ok(None);
        }
        issuer.named_url(url.as_str())?;
        Ok(NetworkLimit::new(url, issuer.url()))
    }

    /// Returns the issuer's clock as its last response showed it (`Date`; RFC 9110, section 6.6.1).
    #[must_use]
    pub fn server_time(&self, issuer: &IssuerUrl) -> Option<UnixTime> {
        let host = host_of(&Url::parse(issuer.as_str()).ok()?);
        let clocks = self.clients.server_clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.iter().find(|(of, _)| *of == host).map(|(_, time)| *time)
    }

    fn remember_server_time(&self, host: &str, date: SystemTime) {
        let Ok(since_epoch) = date.duration_since(UNIX_EPOCH) else { return };
        let time = UnixTime(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX));
        let mut clocks = self.clients.server_clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.retain(|(of, _)| of != host);
        if clocks.len() >= MAX_SERVER_CLOCKS {
            clocks.remove(0);
        }
        clocks.push((host.to_owned(), time));
    }

    /// Sends a GET to `url` with this `Accept` and, if given, `Authorization`.
    pub(super) async fn get(
        &self,
        url: &Url,
        accept: &'static str,
        authorization: Option<HeaderValue>,
    ) -> Result<HttpResponse, IssuerError> {
        self.send(url, accept, authorization, None).await
    }

    /// Posts the form `body` to `url` and asks for JSON.
    pub(super) async fn post_form(
        &self,
        url: &Url,
        body: Bytes,
        authorization: Option<HeaderValue>,
    ) -> Result<HttpResponse, IssuerError> {
        self.send(url, "application/json", authorization, Some((FORM, body))).await
    }

    /// Posts the JSON `body` to `url` and asks for JSON.
    pub(super) async fn post_json(
        &self,
        url: &Url,
        body: SecretBytes,
        authorization: Option<HeaderValue>,
    ) -> Result<HttpResponse, IssuerError> {
        self.send(url, "application/json", authorization, Some(("application/json", shared(body)))).await
    }

    async fn send(
        &self,
        url: &Url,
        accept: &'static str,
        authorization: Option<HeaderValue>,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<HttpResponse, IssuerError> {
        let url = secure_url(url.as_str())?;
        let host = host_of(&url);
        let proxy = self.proxies().for_url(&url)?;
        let limit = self.network_limit(&url)?;
        if let Some(limit) = &limit {
            let connect = self.clients.limits.connect;
            limit.check(&self.clients.resolver, proxy.is_some(), connect).await?;
        }
        let client = self.client_for(&url)?;
        let method = if body.is_some() { "POST" } else { "GET" };
        let mut request = match body {
            None => client.get(url.clone()),
            Some((content_type, body)) => client.post(url.clone()).header(CONTENT_TYPE, content_type).body(body),
        };
        // Without this header a server may choose any content coding (RFC 9110, section 12.5.3).
        request = request.header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let proxy = proxy.as_ref().map(Intercept::uri).and_then(Uri::authority).map(|authority| authority.as_str());
        let destination = Destination { host: &host, proxy };
        let sent = limited(limit, request.send()).await.map_err(|error| destination.error(&error));
        let mut reply = sent.inspect_err(|error| tracing::debug!("{method} {host}{} -> {error}", url.path()))?;
        let status = reply.status().as_u16();
        tracing::debug!("{method} {host}{} -> {status}", url.path());
        if let Some(date) = date(reply.headers()) {
            self.remember_server_time(&host, date);
        }
        let mut response = HttpResponse::new(&host, &url, status, reply.headers());
        while let Some(chunk) = reply.chunk().await.map_err(|error| destination.error(&error))? {
            response.append(&chunk)?;
        }
        Ok(response)
    }

    fn proxies(&self) -> &Proxies {
        self.clients.proxies.get_or_init(|| Proxies::new(&ProxyVariables::capture()))
    }

    fn client_for(&self, url: &Url) -> Result<&reqwest::Client, IssuerError> {
        let (route, cell) = match (is_loopback(url), url.scheme()) {
            (true, "http") => (Route::LoopbackPlain, &self.clients.loopback_plain),
            (true, _) => (Route::LoopbackTls, &self.clients.loopback_tls),
            (false, _) => (Route::Remote, &self.clients.remote),
        };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        if route != Route::LoopbackPlain {
            ca_certificates::check_ssl_cert_file()?;
        }
        let built = self.build(route).map_err(|error| {
            ca_certificates::ssl_cert_file_error().unwrap_or_else(|| {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                IssuerError::Unreachable {
                    message: excerpt(&format!("cannot set up TLS: {cause}"), 200),
                    proxy: None,
                    phase: Phase::Tls,
                    delivery: Delivery::NotSent,
                }
            })
        })?;
        Ok(cell.get_or_init(|| built))
    }

    fn build(&self, route: Route) -> Result<reqwest::Client, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("authctl/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .http1_only()
            .dns_resolver(self.clients.resolver.clone())
            .connect_timeout(self.clients.limits.connect)
            .read_timeout(self.clients.limits.read)
            .timeout(self.clients.limits.total)
            // Each request has a connection of its own. The server may have closed an idle one, and a request sent on it would
            // count as lost: codes and refresh tokens must not be sent twice.
            .pool_max_idle_per_host(0);
        let builder = match route {
            Route::Remote => match self.proxies().explicit() {
                Some((proxy, no_proxy)) => {
                    let no_proxy = reqwest::NoProxy::from_string(no_proxy);
                    builder.proxy(reqwest::Proxy::https(proxy)?.no_proxy(no_proxy))
                }
                None => builder,
            },
            Route::LoopbackTls | Route::LoopbackPlain => {
                // A hosts file that maps `localhost` to another machine must not receive requests for this one.
                let loopback = [([127, 0, 0, 1], 0).into(), ([0, 0, 0, 0, 0, 0, 0, 1], 0).into()];
                builder.no_proxy().resolve_to_addrs("localhost", &loopback)
            }
        };
        match route {
            Route::LoopbackPlain => builder.tls_certs_only([]),
            Route::Remote | Route::LoopbackTls => builder.tls_certs_merge(self.clients.ca_certificates.iter().cloned()),
        }
        .build()
    }
}

/// Returns the host, with its port unless that is the scheme's default.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::testing::{TestServer, answer, fetch, http, json, unused_address};
    use super::*;

    #[tokio::test]
    async fn unsent_request_is_distinguished_from_one_that_may_have_arrived() {
        let error =
            http().post_form(&unused_address().await, Bytes::from_static(b"a=b"), None).await.err().expect("refused");
        assert!(!error.is_in_doubt(), "{error}");
        assert!(matches!(error, IssuerError::Unreachable { phase: Phase::Connect, .. }), "{error:?}");

        let silent = TestServer::start(vec![String::new()]).await;
        let error = http().post_form(&silent.url, Bytes::from_static(b"a=b"), None).await.err().expect("hung up");
        assert!(error.is_in_doubt(), "{error}");
        assert_eq!(silent.requests().len(), 1, "sent again");

        let broken = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned();
        let error = fetch(broken).await.err().expect("broken off");
        assert!(
            matches!(error, IssuerError::Unreachable { phase: Phase::Exchange, delivery: Delivery::ResponseLost, .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn server_without_tls_receives_no_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}/token", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut seen = vec![0; 4096];
            let length = stream.read(&mut seen).await.expect("a handshake");
            stream.write_all(answer(400, "", "").as_bytes()).await.expect("sent");
            let _ = stream.read_to_end(&mut seen).await;
            seen.truncate(length.max(seen.len()));
            seen
        });
        let url = Url::parse(&url).expect("valid");
        let error =
            http().post_form(&url, Bytes::from_static(b"refresh_token=hunter2"), None).await.err().expect("no TLS");
        assert!(
            matches!(error, IssuerError::Unreachable { phase: Phase::Tls, delivery: Delivery::NotSent, .. }),
            "{error:?}"
        );
        let seen = server.await.expect("served");
        assert!(!seen.windows(7).any(|w| w == b"hunter2"));
    }

    #[tokio::test]
    async fn each_request_has_a_new_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = Url::parse(&format!("http://{}/token", listener.local_addr().expect("bound"))).expect("valid");
        let server = tokio::spawn(async move {
            let mut open = Vec::new();
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.expect("sent");
                // The server leaves the connection open: the client closes it.
                open.push(stream);
            }
        });
        let http = http();
        http.get(&url, "*/*", None).await.expect("a response");
        http.post_form(&url, Bytes::from_static(b"a=1"), None).await.expect("a response");
        http.get(&url, "*/*", None).await.expect("a response");
        tokio::time::timeout(Duration::from_secs(20), server).await.expect("three connections").expect("served");
    }

    #[tokio::test]
    async fn request_on_a_connection_that_closes_is_not_sent_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = Url::parse(&format!("http://{}/token", listener.local_addr().expect("bound"))).expect("valid");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
            drop(stream);
            listener
        });
        let error = http().post_form(&url, Bytes::from_static(b"a=2"), None).await.err().expect("hung up");
        assert!(error.is_in_doubt(), "{error:?}");
        let listener = server.await.expect("served");
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("sent again"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test]
    async fn plain_http_is_rejected_except_on_loopback() {
        let url = Url::parse("http://issuer.example/token").expect("valid");
        let error = http().get(&url, "application/json", None).await.err().expect("refused");
        assert!(matches!(error, IssuerError::Insecure(_)), "{error:?}");
    }

    /// Resolves names like `10-0-0-1.test` and `203-0-113-1.10-0-0-1.test` to the addresses in them.
    fn addresses_in_name(name: &str) -> std::io::Result<Vec<std::net::SocketAddr>> {
        let labels = name.trim_end_matches(".test").split('.');
        Ok(labels.map(|label| (label.replace('-', ".").parse::<std::net::IpAddr>().expect(name), 0).into()).collect())
    }

    /// Requests `url`, which `issuer` names. Connections are given up quickly.
    async fn requested(issuer: &str, url: &str, server: &Arc<Server>) -> IssuerError {
        let limits = Limits { connect: Duration::from_millis(200), ..Limits::DEFAULT };
        let http = Http::with_limits(Vec::new(), limits, addresses_in_name);
        let http = http.for_issuer(&issuer.parse().expect("valid"), server);
        let url = Url::parse(url).expect("valid");
        http.post_form(&url, Bytes::from_static(b"a=b"), None).await.err().expect("no server")
    }

    #[tokio::test]
    async fn issuer_leads_into_no_network_closer_than_its_own() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let targets = ["10-0-0-1.test", "10.0.0.1", "[fd00::1]", "169-254-1-1.test", "169.254.1.1", "127-0-0-1.test"];
        for (issuer, allowed) in [
            ("203-0-113-1.test", [false; 6]),
            ("203.0.113.1", [false; 6]),
            // One public address is enough to be a public issuer.
            ("10-9-9-9.203-0-113-1.test", [false; 6]),
            ("10-9-9-9.test", [true, true, true, false, false, false]),
            ("192.168.1.1", [true, true, true, false, false, false]),
            ("169-254-9-9.test", [true, true, true, true, true, false]),
            ("127-0-0-9.test", [true; 6]),
            ("127.0.0.9", [true; 6]),
        ] {
            for (target, allowed) in targets.into_iter().zip(allowed) {
                let url = format!("https://{target}:{port}/x");
                let error = requested(&format!("https://{issuer}"), &url, &Arc::default()).await;
                let refused = matches!(error, IssuerError::Insecure(InsecureUrl::Internal { .. }));
                assert_eq!(refused, !allowed, "{issuer} names {target}: {error:?}");
                if let (false, Ok(Ok(_))) = (allowed, tokio::time::timeout(Duration::ZERO, listener.accept()).await) {
                    panic!("{issuer} names {target}: connected");
                }
            }
        }
    }

    #[tokio::test]
    async fn host_with_public_and_internal_address_uses_the_public_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let url = format!("https://127-0-0-1.203-0-113-9.test:{port}/x");
        let error = requested("https://203-0-113-1.test", &url, &Arc::default()).await;
        assert!(matches!(error, IssuerError::Unreachable { phase: Phase::Connect, .. }), "{error:?}");
        let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(accepted.is_err(), "connected to the internal address");
    }

    #[tokio::test]
    async fn addresses_of_the_user_and_at_the_issuer_may_be_anywhere() {
        let url = "https://127-0-0-1.test:9/token";
        let mut server = Server::default();
        server.endpoints.token = Some(Url::parse(url).expect("valid"));
        let server = Arc::new(server);
        for (issuer, url, allowed) in [
            ("https://203-0-113-1.test", url, true),
            ("https://203-0-113-1.test", "https://127-0-0-1.test:9/other", false),
            ("https://127-0-0-1.203-0-113-1.test", "https://127-0-0-1.203-0-113-1.test:9/x", true),
            ("https://localhost:1", "https://10-0-0-1.test/x", true),
        ] {
            let error = requested(issuer, url, &server).await;
            assert_eq!(!matches!(error, IssuerError::Insecure(_)), allowed, "{issuer} {url}: {error:?}");
        }
    }

    #[tokio::test]
    async fn localhost_is_this_machine_whatever_the_resolver_returns() {
        let server = TestServer::start(vec![json(200, "{}")]).await;
        let mut url = server.url.clone();
        url.set_host(Some("localhost")).expect("a host");
        // An address of documentation networks (RFC 5737), as a hosts file could name one.
        let http = Http::with_limits(Vec::new(), Limits::DEFAULT, |_| Ok(vec![([192, 0, 2, 1], 0).into()]));
        http.get(&url, "*/*", None).await.expect("a response");
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn redirect_is_not_followed() {
        let other = TestServer::start(vec![json(200, "{}")]).await;
        let reply = fetch(answer(307, &format!("location: {}\r\n", other.url), "")).await.expect("an answer");
        assert_eq!((reply.status, other.requests().len()), (307, 0));
    }
}
