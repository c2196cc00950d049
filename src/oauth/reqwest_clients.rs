//! The HTTP clients: what they trust, which proxies they use, and how long a request may take.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Certificate, redirect, retry};
use url::Url;

use super::ca_certificates;
use super::error::{Delivery, IssuerError, Phase};
use super::proxy::Proxies;
use super::resolver::{Lookup, Resolver};
use crate::model::is_loopback;
use crate::paths::ProxyVariables;
use crate::text::excerpt;

/// How authctl names itself.
pub(super) const USER_AGENT: &str = concat!("authctl/", env!("CARGO_PKG_VERSION"));
/// How long an idle connection to an API is reused.
const API_IDLE_LIMIT: Duration = Duration::from_secs(4);

/// The highest number of fields in the head of an API's response: some send a header for each of their limits.
const API_MAX_HEADERS: usize = 256;

/// The time limits of one request. A connection attempt has to end before the other limits do, or a request that was not sent
/// would be reported as one that may have been.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// To resolve the host, connect to one of its addresses and complete the TLS handshake.
    pub(super) connect: Duration,
    /// From the start to the response's head, and between two parts of its body. Like `total`, it does not count the time for
    /// which the process is stopped ([`crate::clock::TimeLimit`]): a code or a refresh token is not sent again, so a reply that
    /// has arrived must not be lost.
    pub(super) read: Duration,
    /// For everything together.
    pub(super) total: Duration,
}

impl Limits {
    /// The system's resolver asks its second name server after five seconds; TCP sends its first packet four times within
    /// eight.
    pub(super) const DEFAULT: Self =
        Self { connect: Duration::from_secs(15), read: Duration::from_secs(20), total: Duration::from_secs(30) };
}

/// The versions of HTTP that an API is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 where the server offers it over TLS (RFC 9113, section 3.3), else HTTP/1.1.
    Any,
}

/// The destination of a request, which decides which HTTP client it needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Remote,
    LoopbackTls,
    LoopbackPlain,
}

impl Route {
    /// Returns the route of a request to `url`.
    fn to(url: &Url) -> Self {
        match (is_loopback(url), url.scheme()) {
            (true, "http") => Self::LoopbackPlain,
            (true, _) => Self::LoopbackTls,
            (false, _) => Self::Remote,
        }
    }
}

/// The clients, each built when it is first needed: building one that trusts the platform's authorities takes
/// milliseconds, and plain http on loopback does not need it.
pub(super) struct Clients {
    ca_certificates: Vec<Certificate>,
    limits: Limits,
    resolver: Resolver,
    proxies: OnceLock<Proxies>,
    remote: OnceLock<reqwest::Client>,
    loopback_tls: OnceLock<reqwest::Client>,
    loopback_plain: OnceLock<reqwest::Client>,
}

impl Clients {
    pub(super) fn new(ca_certificates: Vec<Certificate>, limits: Limits, lookup: Lookup) -> Self {
        Self {
            ca_certificates,
            limits,
            resolver: Resolver::new(lookup),
            proxies: OnceLock::new(),
            remote: OnceLock::new(),
            loopback_tls: OnceLock::new(),
            loopback_plain: OnceLock::new(),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub(super) fn proxies(&self) -> &Proxies {
        self.proxies.get_or_init(|| Proxies::new(&ProxyVariables::capture()))
    }

    /// Returns the client for one request to `url`.
    pub(super) fn for_request(&self, url: &Url) -> Result<&reqwest::Client, IssuerError> {
        let route = Route::to(url);
        let cell = match route {
            Route::LoopbackPlain => &self.loopback_plain,
            Route::LoopbackTls => &self.loopback_tls,
            Route::Remote => &self.remote,
        };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let built = checked(route, || self.build(route))?;
        Ok(cell.get_or_init(|| built))
    }

    /// Returns a client for an API at `url`. It reuses connections, a response may take any time, and redirects are followed
    /// as `redirects` permits.
    pub(super) fn for_api(
        &self,
        url: &Url,
        redirects: redirect::Policy,
        version: ApiVersion,
    ) -> Result<reqwest::Client, IssuerError> {
        let route = Route::to(url);
        checked(route, || {
            let builder = self.builder(route)?.redirect(redirects);
            let builder = if version == ApiVersion::Http1 { builder.http1_only() } else { builder };
            builder
                // Many servers close a connection that has been idle for five seconds; a request sent at that moment is lost.
                .pool_idle_timeout(API_IDLE_LIMIT)
                .tcp_keepalive(API_IDLE_LIMIT * 8)
                .http1_max_headers(API_MAX_HEADERS)
                .build()
        })
    }

    fn build(&self, route: Route) -> Result<reqwest::Client, reqwest::Error> {
        self.builder(route)?
            .user_agent(USER_AGENT)
            .http1_only()
            // Each request has a connection of its own. The server may have closed an idle one, and a request sent on it would
            // count as lost: codes and refresh tokens must not be sent twice.
            .pool_max_idle_per_host(0)
            .build()
    }

    /// Returns the settings that the clients have in common: one connects to no other server than it is asked to.
    fn builder(&self, route: Route) -> Result<reqwest::ClientBuilder, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .dns_resolver(self.resolver.clone())
            .connect_timeout(self.limits.connect);
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
        Ok(match route {
            Route::LoopbackPlain => builder.tls_certs_only([]),
            Route::Remote | Route::LoopbackTls => builder.tls_certs_merge(self.ca_certificates.iter().cloned()),
        })
    }
}

/// Builds a client after a check of the certificate authorities that it needs.
fn checked(
    route: Route,
    build: impl FnOnce() -> Result<reqwest::Client, reqwest::Error>,
) -> Result<reqwest::Client, IssuerError> {
    if route != Route::LoopbackPlain {
        ca_certificates::check_ssl_cert_file()?;
    }
    build().map_err(|error| {
        ca_certificates::ssl_cert_file_error().unwrap_or_else(|| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            IssuerError::Unreachable {
                message: excerpt(&format!("cannot set up TLS: {cause}"), 200),
                proxy: None,
                phase: Phase::Tls,
                delivery: Delivery::NotSent,
            }
        })
    })
}
