//! Sends one request to one address and reads a bounded answer; follows no redirect, trusts no plain http but loopback.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::proxy::matcher::Intercept;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{redirect, retry};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::de::{DeserializeOwned, IgnoredAny};
use url::Url;

use super::connect::{Attempt, Limits, Lookup, Resolver, Steps, system, tls};
use super::error::{IssuerError, Phase, Reached};
use super::form::shared;
use super::proxy::Proxies;
use super::unreachable::{Destination, root_cause};
use crate::clock::UnixTime;
use crate::fs::regular_file;
use crate::model::{IssuerUrl, is_loopback, secure_url};
use crate::paths::{ProxyVariables, authorities_file};
use crate::secret::SecretBytes;
use crate::ui::sanitize_for_terminal;

/// How long a connection is kept for the next request. A login's requests follow each other within this; a refresh an
/// hour later starts afresh, since on a connection that the server has meanwhile closed it could be lost unseen.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
/// What a form is sent as.
const FORM: &str = "application/x-www-form-urlencoded";
/// No answer of an issuer is larger.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;
/// The longest file of authorities; those of all public ones have a quarter of a MiB.
const MAX_AUTHORITIES: u64 = 8 * 1024 * 1024;
/// The longest `Retry-After` that is believed.
const RETRY_LIMIT: Duration = Duration::from_secs(3600);

/// Where a request goes, which decides what a client must be able to do.
#[derive(Clone, Copy)]
enum Route {
    Remote,
    LoopbackTls,
    LoopbackPlain,
}

/// The HTTP clients, each built when it is first needed: one that trusts the platform's authorities costs
/// milliseconds, and plain loopback needs none of them.
///
/// Proxy variables are honoured except for loopback. A request may take 30 seconds, and each step of it has a bound of
/// its own ([`Limits`]).
pub struct Http {
    authorities: Vec<CertificateDer<'static>>,
    limits: Limits,
    lookup: Lookup,
    proxies: OnceLock<Proxies>,
    remote: OnceLock<reqwest::Client>,
    loopback_tls: OnceLock<reqwest::Client>,
    loopback_plain: OnceLock<reqwest::Client>,
    /// What the clocks of hosts showed in their last answers; the latest last.
    told: Mutex<Vec<(String, UnixTime)>>,
}

/// The clocks of how many hosts are remembered.
const MAX_TOLD: usize = 64;

/// An answer of any status. Its body may hold secrets.
pub(super) struct Reply {
    pub(super) host: String,
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: SecretBytes,
}

impl Http {
    /// Clients that trust the platform's certificate authorities and those in the PEM file `ca_cert`.
    ///
    /// # Errors
    /// [`IssuerError::CaCert`] where the file cannot be read or holds no certificate.
    pub fn new(ca_cert: Option<&Path>) -> Result<Self, IssuerError> {
        let authorities = match ca_cert {
            None => Vec::new(),
            Some(path) => read_authorities(path).map_err(|detail| unusable(path, &detail))?,
        };
        Ok(Self {
            authorities,
            limits: Limits::USUAL,
            lookup: system,
            proxies: OnceLock::new(),
            remote: OnceLock::new(),
            loopback_tls: OnceLock::new(),
            loopback_plain: OnceLock::new(),
            told: Mutex::default(),
        })
    }

    /// What the issuer's clock showed in its last answer (`Date`, RFC 9110, section 6.6.1).
    #[must_use]
    pub fn told_by(&self, issuer: &IssuerUrl) -> Option<UnixTime> {
        let host = host_of(&Url::parse(issuer.as_str()).ok()?);
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().find(|(of, _)| *of == host).map(|(_, moment)| *moment)
    }

    fn tells(&self, host: &str, headers: &HeaderMap) {
        let Some(moment) = text(headers, DATE).and_then(moment) else { return };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(of, _)| of != host);
        if told.len() >= MAX_TOLD {
            told.remove(0);
        }
        told.push((host.to_owned(), UnixTime(moment)));
    }

    /// GET `url`, asking for `accept`, with an `Authorization` header where given.
    pub(super) async fn get(
        &self,
        url: &Url,
        accept: &'static str,
        authorization: Option<HeaderValue>,
    ) -> Result<Reply, IssuerError> {
        self.send(url, accept, authorization, None).await
    }

    /// POST the form `body` to `url`, asking for JSON.
    pub(super) async fn post(
        &self,
        url: &Url,
        body: Bytes,
        authorization: Option<HeaderValue>,
    ) -> Result<Reply, IssuerError> {
        self.send(url, "application/json", authorization, Some((FORM, body))).await
    }

    /// POST the JSON `body` to `url`, asking for JSON.
    pub(super) async fn post_json(
        &self,
        url: &Url,
        body: SecretBytes,
        authorization: Option<HeaderValue>,
    ) -> Result<Reply, IssuerError> {
        self.send(url, "application/json", authorization, Some(("application/json", shared(body)))).await
    }

    async fn send(
        &self,
        url: &Url,
        accept: &'static str,
        authorization: Option<HeaderValue>,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Reply, IssuerError> {
        let url = secure_url(url.as_str())?;
        let host = host_of(&url);
        let proxy = self.proxies().to(&url)?;
        let client = self.client_for(&url, &host)?;
        let method = if body.is_some() { "POST" } else { "GET" };
        let mut request = match body {
            None => client.get(url.clone()),
            Some((kind, body)) => client.post(url.clone()).header(CONTENT_TYPE, kind).body(body),
        };
        request = request.header(ACCEPT, accept);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let at = proxy.as_ref().map(Intercept::uri);
        let attempt = Attempt::new(url.host_str().unwrap_or_default(), at.and_then(Uri::host));
        let to = Destination {
            host: &host,
            proxy: at.and_then(Uri::authority).map(|authority| authority.as_str()),
            with_password: proxy.as_ref().is_some_and(|to| to.basic_auth().is_some() || to.raw_auth().is_some()),
        };
        let limits = &self.limits;
        let sent = tokio::select! {
            biased;
            sent = attempt.scope(request.send()) => sent.map_err(|error| to.not_answered(&error, attempt.step(), limits)),
            () = attempt.unanswered(limits.answer) => Err(to.late(Phase::Exchange, limits.answer)),
        };
        let mut response = sent.inspect_err(|error| tracing::debug!("{method} {host}{} -> {error}", url.path()))?;
        let status = response.status().as_u16();
        tracing::debug!("{method} {host}{} -> {status}", url.path());
        let headers = response.headers();
        self.tells(&host, headers);
        let content_type = text(headers, CONTENT_TYPE)
            .map(|t| t.split_once(';').map_or(t, |(essence, _)| essence).trim().to_ascii_lowercase());
        let retry_after = retry_after(headers);
        let mut body = SecretBytes::default();
        while let Some(chunk) = match tokio::time::timeout(limits.piece, response.chunk()).await {
            Ok(read) => read.map_err(|error| to.broken_off(&error, limits))?,
            Err(_) => return Err(to.late(Phase::Read, limits.piece)),
        } {
            if body.expose().len() + chunk.len() > BODY_LIMIT {
                return Err(IssuerError::Malformed {
                    from: host,
                    what: "an answer of more than 1 MiB".into(),
                    misplaced: false,
                });
            }
            body.extend(&chunk);
        }
        Ok(Reply { host, status, content_type, retry_after, body })
    }

    fn proxies(&self) -> &Proxies {
        self.proxies.get_or_init(|| Proxies::new(&ProxyVariables::capture()))
    }

    fn client_for(&self, url: &Url, host: &str) -> Result<&reqwest::Client, IssuerError> {
        let route = match (is_loopback(url), url.scheme()) {
            (true, "http") => Route::LoopbackPlain,
            (true, _) => Route::LoopbackTls,
            (false, _) => Route::Remote,
        };
        let cell = match route {
            Route::Remote => &self.remote,
            Route::LoopbackTls => &self.loopback_tls,
            Route::LoopbackPlain => &self.loopback_plain,
        };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let failed = |detail: &str| IssuerError::Unreachable {
            host: host.to_owned(),
            proxy: None,
            phase: Phase::Tls,
            reached: Reached::No,
            detail: sanitize_for_terminal(detail, 200),
        };
        let tls = match route {
            Route::Remote | Route::LoopbackTls => Some(self.tls(failed)?),
            Route::LoopbackPlain => None,
        };
        let built = self.build(route, tls).map_err(|error| failed(&root_cause(&error)))?;
        Ok(cell.get_or_init(|| built))
    }

    /// How TLS is spoken. `SSL_CERT_FILE`, which the platform's part reads, is looked at before: it would wait for a pipe.
    fn tls(&self, failed: impl Fn(&str) -> IssuerError) -> Result<ClientConfig, IssuerError> {
        let named = authorities_file();
        if let Some(path) = named.as_deref().filter(|path| path.exists() && *path != Path::new("/dev/null")) {
            regular_file::read(path, MAX_AUTHORITIES).map_err(|detail| unusable(path, &detail))?;
        }
        tls(&self.authorities).map_err(|error| {
            let found = named.map(|path| read_authorities(&path).map_err(|detail| unusable(&path, &detail)));
            found.and_then(Result::err).unwrap_or_else(|| failed(&error.to_string()))
        })
    }

    /// Without a way to speak TLS, none is spoken.
    fn build(&self, route: Route, tls: Option<ClientConfig>) -> Result<reqwest::Client, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("authctl/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .http1_only()
            .dns_resolver(Resolver::new(self.lookup))
            .connector_layer(Steps(self.limits))
            .connect_timeout(self.limits.connection())
            .timeout(self.limits.exchange)
            .pool_idle_timeout(IDLE_LIMIT);
        // A hosts file that sends `localhost` elsewhere must not get what was meant to stay here.
        let at_home = [([127, 0, 0, 1], 0).into(), ([0, 0, 0, 0, 0, 0, 0, 1], 0).into()];
        let builder = match route {
            Route::Remote => match self.proxies().told() {
                Some((proxy, none_for)) => {
                    let none_for = reqwest::NoProxy::from_string(none_for);
                    builder.proxy(reqwest::Proxy::https(proxy)?.no_proxy(none_for))
                }
                None => builder,
            },
            Route::LoopbackTls | Route::LoopbackPlain => builder.no_proxy().resolve_to_addrs("localhost", &at_home),
        };
        match tls {
            Some(tls) => builder.tls_backend_preconfigured(tls),
            None => builder.tls_certs_only([]),
        }
        .build()
    }
}

impl Reply {
    /// Whether the status is one of success.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The error for a server that cannot answer now, whatever it wrote beside the status.
    pub(super) fn busy(&self) -> Option<IssuerError> {
        let busy = self.status == 429 || self.status >= 500;
        busy.then(|| IssuerError::Busy { host: self.host.clone(), status: self.status, retry_after: self.retry_after })
    }

    /// The error for an answer that is not `expected`.
    pub(super) fn malformed(&self, expected: &str) -> IssuerError {
        let what = match self.status {
            status @ 300..400 => format!("a redirect (status {status}) instead of {expected}"),
            status => format!("no {expected} but {} (status {status})", self.kind()),
        };
        let misplaced = matches!(self.status, 300..400 | 404 | 405);
        IssuerError::Malformed { from: self.host.clone(), what, misplaced }
    }

    /// What the body is, in words of ours alone.
    fn kind(&self) -> &'static str {
        let text = self.text().trim_ascii();
        match text.first() {
            None => "nothing",
            Some(b'<') => "a web page",
            Some(_) if serde_json::from_slice::<IgnoredAny>(text).is_err() => "text that is not JSON",
            Some(b'{') => "other JSON",
            Some(_) => "JSON that is no object",
        }
    }

    /// The body without a byte order mark.
    pub(super) fn text(&self) -> &[u8] {
        let bytes = self.body.expose();
        bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
    }

    /// The body as a JSON object, `None` where it is anything else. What is wrong with it is not said, since serde's
    /// messages quote.
    pub(super) fn object<T: DeserializeOwned>(&self) -> Option<T> {
        let text = self.text().trim_ascii_start();
        // Derived readers take an array for an object; no issuer means that.
        if text.first() != Some(&b'{') {
            return None;
        }
        serde_json::from_slice(text).ok()
    }
}

#[cfg(test)]
impl Http {
    /// With other bounds, and names looked up in another way.
    pub(super) fn bounded(limits: Limits, lookup: Lookup) -> Self {
        let mut http = super::testing::http();
        (http.limits, http.lookup) = (limits, lookup);
        http
    }
}

fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = regular_file::read(path, MAX_AUTHORITIES)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.expose()).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in &found {
        roots.add(certificate.clone()).map_err(|_| "what it holds is no certificate".to_owned())?;
    }
    if found.is_empty() { Err("no PEM certificate in it".into()) } else { Ok(found) }
}

fn unusable(path: &Path, detail: &str) -> IssuerError {
    IssuerError::CaCert { path: path.to_owned(), detail: sanitize_for_terminal(detail, 200) }
}

/// The host, with its port where that is not the scheme's own.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// A date of HTTP in seconds since 1970.
fn moment(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|z| z.timestamp().as_second())
}

/// `Retry-After` in seconds, or as a date (RFC 9110, section 10.2.3) counted from the answer's own `Date`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER)?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let seconds = moment(value)?.saturating_sub(moment(text(headers, DATE)?)?);
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_LIMIT))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::testing::{Canned, answer, http, json, nobody};
    use super::*;

    async fn fetch(answer: String) -> Result<Reply, IssuerError> {
        let server = Canned::serving(vec![answer]).await;
        http().get(&server.url, "application/json", None).await
    }

    #[tokio::test]
    async fn what_was_never_sent_is_told_from_what_may_have_arrived() {
        let error = http().post(&nobody().await, Bytes::from_static(b"a=b"), None).await.err().expect("refused");
        assert!(error.never_sent(), "{error}");
        assert!(matches!(error, IssuerError::Unreachable { phase: Phase::Connect, .. }), "{error:?}");

        let silent = Canned::serving(vec![String::new()]).await;
        let error = http().post(&silent.url, Bytes::from_static(b"a=b"), None).await.err().expect("hung up");
        assert!(!error.never_sent(), "{error}");
        assert_eq!(silent.requests().len(), 1, "sent again without being told to");

        let broken = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned();
        let error = fetch(broken).await.err().expect("broken off");
        assert!(
            matches!(error, IssuerError::Unreachable { phase: Phase::Read, reached: Reached::Maybe, .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_server_without_tls_never_sees_the_request() {
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
        let error = http().post(&url, Bytes::from_static(b"refresh_token=hunter2"), None).await.err().expect("no TLS");
        assert!(matches!(error, IssuerError::Unreachable { phase: Phase::Tls, reached: Reached::No, .. }), "{error:?}");
        let seen = server.await.expect("served");
        assert!(!seen.windows(7).any(|w| w == b"hunter2"));
    }

    #[tokio::test]
    async fn a_kept_connection_that_dies_does_not_get_the_request_sent_twice() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = Url::parse(&format!("http://{}/token", listener.local_addr().expect("bound"))).expect("valid");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut seen = [0; 4096];
            let _ = stream.read(&mut seen).await.expect("the first request");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.expect("sent");
            let length = stream.read(&mut seen).await.expect("the second request, on the same connection");
            assert!(length > 0, "the connection was not kept");
            drop(stream);
            listener
        });
        let http = http();
        http.post(&url, Bytes::from_static(b"a=1"), None).await.expect("an answer");
        let error = http.post(&url, Bytes::from_static(b"a=2"), None).await.err().expect("hung up");
        assert!(!error.never_sent(), "{error:?}");
        let listener = server.await.expect("served");
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("sent again without being told to"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test]
    async fn plain_http_leaves_this_machine_for_nobody() {
        let url = Url::parse("http://issuer.example/token").expect("valid");
        let error = http().get(&url, "application/json", None).await.err().expect("refused");
        assert!(matches!(error, IssuerError::Insecure(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let other = Canned::serving(vec![json(200, "{}")]).await;
        let reply = fetch(answer(307, &format!("location: {}\r\n", other.url), "")).await.expect("an answer");
        assert_eq!((reply.status, other.requests().len()), (307, 0));
    }

    #[tokio::test]
    async fn a_body_without_end_is_cut_off() {
        let reply = fetch(json(200, &"x".repeat(BODY_LIMIT))).await.expect("just fits");
        assert_eq!(reply.body.expose().len(), BODY_LIMIT);
        let error = fetch(json(200, &"x".repeat(BODY_LIMIT + 1))).await.err().expect("too long");
        assert!(matches!(error, IssuerError::Malformed { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn retry_after_is_read_in_both_forms_and_bounded() {
        let date = "date: Tue, 14 Nov 2023 22:13:20 GMT\r\n";
        for (headers, expected) in [
            ("retry-after: 7\r\n".to_owned(), Some(7)),
            ("retry-after: 99999999999\r\n".to_owned(), Some(3600)),
            (format!("{date}retry-after: Tue, 14 Nov 2023 22:13:50 GMT\r\n"), Some(30)),
            (format!("{date}retry-after: Tue, 14 Nov 2023 22:00:00 GMT\r\n"), Some(0)),
            ("retry-after: soon\r\n".to_owned(), None),
            (String::new(), None),
        ] {
            let reply = fetch(answer(503, &headers, "")).await.expect("an answer");
            let Some(IssuerError::Busy { retry_after, .. }) = reply.busy() else { panic!("busy") };
            assert_eq!(retry_after, expected.map(Duration::from_secs), "{headers}");
        }
    }

    #[test]
    fn a_useless_authority_file_is_named() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("ca.pem");
        for content in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n")] {
            if let Some(content) = content {
                std::fs::write(&path, content).expect("written");
            }
            let error = Http::new(Some(&path)).err().expect("refused");
            assert!(error.to_string().contains("ca.pem"), "{error}");
        }
    }
}
