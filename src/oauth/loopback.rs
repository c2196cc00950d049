//! A listener on loopback that waits for one browser to bring one answer, and is not impressed by anything else.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::error::IssuerError;
use crate::clock::Clock;
use crate::model::{RedirectHost, RedirectUri};
use crate::secret::Secret;

/// Connections held at once. The oldest goes when one more comes: a browser opens some ahead and never uses them.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// For a whole connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(20);
/// After a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A request's head is no longer.
const HEAD_SIZE: usize = 32 * 1024;

/// What a request to the redirect address means.
pub(super) enum Verdict {
    /// Somebody else's, or nobody's: turned away, and the wait goes on.
    NotOurs,
    /// The end of the sign-in: a code, or why there is none.
    Answer(Result<Secret, IssuerError>),
}

/// A bound listener and its address.
pub(super) struct Loopback {
    listener: TcpListener,
    /// `localhost` may be looked for at either address: this is the other one's.
    other: Option<TcpListener>,
    redirect_uri: Url,
}

/// How often a port is looked for that is free at both addresses.
const PORT_TRIES: usize = 16;

type Outcome = Result<Secret, IssuerError>;

/// Says what the query of a request to the redirect address means.
pub(super) type TokenVerifier = Arc<dyn Fn(&str) -> Verdict + Send + Sync>;

impl Loopback {
    /// Listens where `wanted` says: at its port, or at any that is free. For `localhost` that is 127.0.0.1, and `[::1]` where
    /// this machine has it.
    pub(super) async fn bind(wanted: &RedirectUri) -> Result<Self, IssuerError> {
        let mut failure = None;
        for _ in 0..PORT_TRIES {
            match Self::try_bind(wanted).await {
                Ok(bound) => return Ok(bound),
                // Another program may have the same port at the other address.
                Err(error) if wanted.port().is_none() => failure = Some(error),
                Err(error) => return Err(local(wanted, &error)),
            }
        }
        Err(failure.map_or_else(|| local(wanted, &"none is free"), |error| local(wanted, &error)))
    }

    async fn try_bind(wanted: &RedirectUri) -> std::io::Result<Self> {
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        let first = if wanted.host() == RedirectHost::V6 { v6 } else { v4 };
        let listener = TcpListener::bind((first, wanted.port().unwrap_or(0))).await?;
        let port = listener.local_addr()?.port();
        let other = match wanted.host() {
            RedirectHost::V4 | RedirectHost::V6 => None,
            RedirectHost::Localhost => match TcpListener::bind((v6, port)).await {
                Ok(listener) => Some(listener),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
                // There is no IPv6 here.
                Err(_) => None,
            },
        };
        let redirect_uri = Url::parse(&wanted.at(port)).map_err(std::io::Error::other)?;
        Ok(Self { listener, other, redirect_uri })
    }

    /// The address that the issuer sends the browser back to (RFC 8252, section 7.3).
    pub(super) fn redirect_uri(&self) -> &Url {
        &self.redirect_uri
    }

    /// Answers requests until one of them ends the sign-in, and that one's page has been sent.
    pub(super) async fn serve(&self, judge: TokenVerifier, clock: &dyn Clock) -> Outcome {
        let host = self.redirect_uri.authority().to_owned();
        let turned_away = Arc::new(TurnedAway::default());
        let path = self.redirect_uri.path().to_owned();
        let page = Arc::new(Page { host, path, judge, turned_away: Arc::clone(&turned_away) });
        let _told = Told(turned_away);
        let (done, mut outcome) = tokio::sync::mpsc::channel::<Outcome>(1);
        // Dropping the set when the wait is over or given up closes every connection.
        let mut connections = tokio::task::JoinSet::new();
        let mut oldest_first = VecDeque::new();
        loop {
            let accepted = tokio::select! {
                biased;
                Some(outcome) = outcome.recv() => return outcome,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.listener.accept() => accepted,
                accepted = accept(self.other.as_ref()) => accepted,
            };
            // A failed accept is one connection's own, or passes when a descriptor comes free; it must not spin.
            let Ok((stream, _)) = accepted else {
                clock.sleep(ACCEPT_PAUSE).await;
                continue;
            };
            oldest_first.retain(|held: &tokio::task::AbortHandle| !held.is_finished());
            if oldest_first.len() >= MAX_CONNECTIONS
                && let Some(oldest) = oldest_first.pop_front()
            {
                oldest.abort();
            }
            oldest_first.push_back(connections.spawn(converse(stream, Arc::clone(&page), done.clone())));
        }
    }
}

/// Accepts at the other address, where there is one.
async fn accept(other: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match other {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

fn local(wanted: &RedirectUri, detail: &dyn std::fmt::Display) -> IssuerError {
    let detail = match wanted.port() {
        Some(port) => format!("{} port {port}: {detail}", wanted.host()),
        None => format!("{}: {detail}", wanted.host()),
    };
    IssuerError::Local { what: "port to listen on", detail }
}

/// Serves one connection's one request. An outcome is handed on only when the browser has its page.
async fn converse(stream: TcpStream, page: Arc<Page>, done: tokio::sync::mpsc::Sender<Outcome>) {
    let found = Arc::new(Mutex::new(None));
    let service = {
        let found = Arc::clone(&found);
        service_fn(move |request: Request<Incoming>| {
            let (answer, outcome) = page.answer(&request);
            if outcome.is_none() {
                page.turned_away.0.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("a request at the redirect address was turned away (status {})", answer.status());
            } else {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
            }
            std::future::ready(Ok::<_, Infallible>(answer))
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_SIZE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
    let outcome = found.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(outcome) = outcome {
        let _ = done.send(outcome).await;
    }
}

/// How many requests were not the answer. Of none of them more is told: some hold a code or a state.
#[derive(Default)]
struct TurnedAway(AtomicU64);

/// Tells their number when the wait is over, however it ends.
struct Told(Arc<TurnedAway>);

impl Drop for Told {
    fn drop(&mut self) {
        let count = self.0.0.load(Ordering::Relaxed);
        if count > 0 {
            tracing::info!("{count} requests at the redirect address were not the answer, and were turned away");
        }
    }
}

/// What the listener knows when a request comes.
struct Page {
    host: String,
    path: String,
    judge: TokenVerifier,
    turned_away: Arc<TurnedAway>,
}

impl Page {
    fn answer(&self, request: &Request<Incoming>) -> (Response<Full<Bytes>>, Option<Outcome>) {
        let uri = request.uri();
        let mut hosts = request.headers().get_all(HOST).iter();
        let host_fits = hosts.next().is_some_and(|h| h.as_bytes() == self.host.as_bytes()) && hosts.next().is_none();
        if !host_fits || uri.authority().is_some() {
            return (page(StatusCode::BAD_REQUEST, NOT_HERE), None);
        }
        if uri.path() != self.path {
            return (page(StatusCode::NOT_FOUND, NOT_HERE), None);
        }
        if request.method() != Method::GET {
            let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, NOT_HERE);
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return (refused, None);
        }
        match (self.judge)(uri.query().unwrap_or_default()) {
            Verdict::NotOurs => (page(StatusCode::BAD_REQUEST, NOT_OURS), None),
            Verdict::Answer(outcome) => {
                let text = if outcome.is_ok() { DONE } else { NOT_DONE };
                (page(StatusCode::OK, text), Some(outcome))
            }
        }
    }
}

type Text = (&'static str, &'static str);

const DONE: Text =
    ("You are signed in", "authctl has what it needs. You can close this window and go back to the terminal.");
const NOT_DONE: Text = ("Not signed in", "The sign-in was refused. The terminal says why. You can close this window.");
const NOT_OURS: Text = (
    "This is not the sign-in that authctl waits for",
    "Nothing has changed. Open the address from the terminal again.",
);
const NOT_HERE: Text = ("Nothing here", "authctl waits here for a browser to finish signing in.");

const STYLE: &str = ":root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center;\
font:1rem/1.5 system-ui,sans-serif;background:Canvas;color:CanvasText}main{max-width:28rem;padding:2rem}\
h1{font-size:1.5rem;font-weight:600;margin:0 0 .5rem}p{margin:0;opacity:.8}";

/// A page of fixed words: nothing that came in with a request is ever in it.
fn page(status: StatusCode, (title, text): Text) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} - authctl</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"icon\" href=\"data:,\">\
         <style>{STYLE}</style><main><h1>{title}</h1><p>{text}</p></main></html>\n"
    );
    let style = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::clock::SystemClock;

    const RIGHT: &str = "GET /callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n";

    /// Takes `right` for the answer, and nothing else.
    fn judge() -> TokenVerifier {
        Arc::new(|query| match query {
            "right" => Verdict::Answer(Ok(Secret::new("C".into()))),
            "refused" => Verdict::Answer(Err(IssuerError::Unsupported { what: "anything" })),
            _ => Verdict::NotOurs,
        })
    }

    struct Browser {
        host: String,
    }

    impl Browser {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(&self.host).await.expect("listening")
        }

        /// Sends `request` and reads the whole answer. `HOST` stands for the listener's own.
        async fn ask(&self, request: &str) -> String {
            let mut stream = self.connect().await;
            let _ = stream.write_all(request.replace("HOST", &self.host).as_bytes()).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).expect("text")
        }
    }

    /// Runs the listener while `visit` does what browsers and others do.
    async fn listening<F: Future<Output = ()>>(visit: impl FnOnce(Browser) -> F) -> Outcome {
        let loopback = Loopback::bind(&RedirectUri::default()).await.expect("a port");
        let browser = Browser { host: loopback.redirect_uri().authority().to_owned() };
        let (outcome, ()) = tokio::join!(loopback.serve(judge(), &SystemClock), visit(browser));
        outcome
    }

    #[tokio::test]
    async fn everything_else_is_turned_away_and_changes_nothing() {
        let outcome = listening(async |browser| {
            for (request, status) in [
                ("GET /favicon.ico HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
                ("GET / HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
                ("GET /callback/?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
                ("GET //callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
                ("GET /Callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
                ("GET /c%61llback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
                ("GET /x/../callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
                ("GET /callback?wrong HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
                ("GET /callback HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
                ("GET /callback?right HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
                ("GET /callback?right HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
                ("GET /callback?right HTTP/1.1\r\nHost: HOST.evil.example\r\n\r\n", 400),
                ("GET /callback?right HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n", 400),
                ("GET /callback?right HTTP/1.1\r\n\r\n", 400),
                ("GET http://HOST/callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
                ("HEAD /callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 405),
                ("POST /callback?right HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n", 405),
                ("OPTIONS /callback?right HTTP/1.1\r\nHost: HOST\r\n\r\n", 405),
                ("\x16\x03\x01 no HTTP\r\n\r\n", 400),
            ] {
                let answer = browser.ask(request).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            }
            let long = format!("GET /callback?{} HTTP/1.1\r\nHost: HOST\r\n\r\n", "x".repeat(2 * HEAD_SIZE));
            assert!(!browser.ask(&long).await.starts_with("HTTP/1.1 200"));
            assert!(browser.ask(RIGHT).await.starts_with("HTTP/1.1 200 "));
        })
        .await;
        assert_eq!(outcome.expect("the right one").expose(), "C");
    }

    #[tokio::test]
    async fn the_browser_has_its_whole_page_before_the_listener_goes() {
        let outcome = listening(async |browser| {
            let answer = browser.ask(RIGHT).await;
            assert!(answer.contains("You are signed in") && answer.ends_with("</html>\n"), "{answer}");
            let head = answer.split_once("\r\n\r\n").expect("a head").0.to_ascii_lowercase();
            for line in [
                "cache-control: no-store",
                "content-security-policy: default-src 'none'",
                "frame-ancestors 'none'",
                "x-content-type-options: nosniff",
                "referrer-policy: no-referrer",
                "connection: close",
            ] {
                assert!(head.contains(line), "{line} in {head}");
            }
            assert!(!head.contains("access-control-"), "no page may read it: {head}");
        })
        .await;
        outcome.expect("the right one");
    }

    #[tokio::test]
    async fn a_refusal_is_shown_as_one() {
        let outcome = listening(async |browser| {
            let answer = browser.ask("GET /callback?refused HTTP/1.1\r\nHost: HOST\r\n\r\n").await;
            assert!(answer.contains("The sign-in was refused"), "{answer}");
        })
        .await;
        assert!(outcome.is_err());
    }

    #[tokio::test]
    async fn silent_and_slow_connections_keep_nobody_out() {
        let outcome = listening(async |browser| {
            let mut held = Vec::new();
            for n in 0..3 * MAX_CONNECTIONS {
                let mut stream = browser.connect().await;
                if n % 2 == 0 {
                    let _ = stream.write_all(b"GET /callback?right HTTP/1.1\r\nHost").await;
                }
                held.push(stream);
            }
            let first = tokio::time::timeout(HEAD_LIMIT / 2, held[0].read(&mut [0; 1])).await;
            assert!(!matches!(first.expect("the first has to go"), Ok(1..)));
            assert!(browser.ask(RIGHT).await.starts_with("HTTP/1.1 200 "));
        })
        .await;
        outcome.expect("the right one");
    }

    #[tokio::test]
    async fn a_connection_opened_ahead_may_bring_the_answer() {
        let outcome = listening(async |browser| {
            let mut ahead = browser.connect().await;
            let mut others = Vec::new();
            for _ in 1..MAX_CONNECTIONS {
                others.push(browser.connect().await);
                tokio::task::yield_now().await;
            }
            ahead.write_all(RIGHT.replace("HOST", &browser.host).as_bytes()).await.expect("sent");
            let mut answer = String::new();
            ahead.read_to_string(&mut answer).await.expect("answered");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        })
        .await;
        outcome.expect("the right one");
    }

    #[tokio::test]
    async fn a_right_request_sent_byte_by_byte_is_taken() {
        let outcome = listening(async |browser| {
            let mut stream = browser.connect().await;
            for byte in RIGHT.replace("HOST", &browser.host).bytes() {
                stream.write_all(&[byte]).await.expect("sent");
                stream.flush().await.expect("sent");
                tokio::task::yield_now().await;
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("answered");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        })
        .await;
        outcome.expect("the right one");
    }

    #[test]
    fn only_this_machine_can_connect() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let loopback = runtime.block_on(Loopback::bind(&RedirectUri::default())).expect("a port");
        assert!(loopback.listener.local_addr().expect("bound").ip().is_loopback());
        assert!(loopback.redirect_uri().as_str().starts_with("http://127.0.0.1:"));
    }

    #[tokio::test]
    async fn the_address_is_the_one_that_was_asked_for() {
        for (text, begins, ends) in [
            ("http://localhost/back/", "http://localhost:", "/back/"),
            ("http://[::1]/cb", "http://[::1]:", "/cb"),
            ("http://127.0.0.1", "http://127.0.0.1:", "/"),
        ] {
            let bound = Loopback::bind(&text.parse().expect("valid")).await.expect("a port");
            let at = bound.redirect_uri().as_str();
            assert!(at.starts_with(begins) && at.ends_with(ends), "{text}: {at}");
            let mut all = std::iter::once(&bound.listener).chain(&bound.other);
            assert!(all.all(|listener| listener.local_addr().expect("bound").ip().is_loopback()));
        }
    }

    #[tokio::test]
    async fn localhost_answers_at_both_addresses() {
        let bound = Loopback::bind(&"http://localhost/callback".parse().expect("valid")).await.expect("a port");
        let port = bound.redirect_uri().port().expect("a port");
        let visit = async {
            for address in ["127.0.0.1", "[::1]"] {
                let browser = Browser { host: format!("{address}:{port}") };
                let request = |host: &str| format!("GET /callback?wrong HTTP/1.1\r\nHost: {host}\r\n\r\n");
                let answer = browser.ask(&request(&format!("localhost:{port}"))).await;
                assert!(answer.contains("not the sign-in"), "{address}: {answer}");
                // By its own name it was not asked for.
                assert!(browser.ask(&request(&browser.host)).await.contains("Nothing here"));
            }
            let browser = Browser { host: format!("localhost:{port}") };
            browser.ask(RIGHT).await
        };
        let (outcome, answer) = tokio::join!(bound.serve(judge(), &SystemClock), visit);
        assert!(answer.contains("You are signed in"), "{answer}");
        outcome.expect("the right one");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = taken.local_addr().expect("bound").port();
        let wanted = format!("http://127.0.0.1:{port}/cb").parse().expect("valid");
        let error = Loopback::bind(&wanted).await.err().expect("taken").to_string();
        assert!(error.contains(&format!("127.0.0.1 port {port}")), "{error}");
    }
}
