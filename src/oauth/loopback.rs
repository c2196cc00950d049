//! Listens on loopback for the authorization response (RFC 8252, section 7.3) and rejects every other request.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, HOST, HeaderValue, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::RecvFlags;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use url::Url;

use super::authorization_response::RedirectRequest;
use super::error::IssuerError;
use super::loopback_page::{ANSWERED, LoginPage, NOT_FOUND, UNRELATED};
use super::random::random;
use crate::clock::Clock;
use crate::model::{RedirectHost, RedirectUri};
use crate::secret::Secret;

/// The maximum number of open connections. One more closes an idle one: browsers open some in advance that they never use.
const MAX_CONNECTIONS: usize = 64;
/// The time limit for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for a whole connection, without the wait for the page that ends the login.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit for the browser to receive that page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The maximum size of a request's head in bytes.
const MAX_HEAD_SIZE: usize = 32 * 1024;

/// A bound listener and its redirect URI.
pub(super) struct LoopbackListener {
    listener: TcpListener,
    /// The listener on `[::1]` beside the one on 127.0.0.1, since `localhost` may resolve to either.
    ipv6: Option<TcpListener>,
    redirect_uri: Url,
    start: Option<Start>,
}

/// A path that redirects to where the login starts.
#[derive(Clone)]
struct Start {
    path: String,
    location: HeaderValue,
}

/// The length of that path: too many possibilities for the few minutes of a login.
const START_LENGTH: usize = 6;

/// The number of attempts to find a port that is free on both addresses.
const MAX_PORT_TRIES: usize = 16;

type Outcome = Result<Secret, IssuerError>;

/// A browser that has sent the authorization response, and shows nothing until the login has ended. Dropping it closes the
/// connection.
#[derive(Debug)]
pub struct WaitingBrowser {
    page: oneshot::Sender<LoginPage>,
    /// Ends when the connection is closed.
    closed: oneshot::Receiver<()>,
    /// Dropping the set closes every connection.
    connections: JoinSet<()>,
}

impl WaitingBrowser {
    /// Sends the page, and waits a short time until the browser has received it.
    pub async fn show(self, page: LoginPage) {
        let _connections = self.connections;
        if self.page.send(page).is_ok() {
            let _ = tokio::time::timeout(PAGE_TIMEOUT, self.closed).await;
        }
    }
}

/// The authorization response of a connection.
struct Arrived {
    outcome: Outcome,
    page: oneshot::Sender<LoginPage>,
    closed: oneshot::Receiver<()>,
}

/// Classifies a request to the redirect URI by its query.
pub(super) type Classify = Arc<dyn Fn(&str) -> RedirectRequest + Send + Sync>;

impl LoopbackListener {
    /// Listens on the port of `wanted`, or on any free one. For `localhost` that is on 127.0.0.1, and on `[::1]` if this
    /// machine has IPv6.
    pub(super) async fn bind(wanted: &RedirectUri) -> Result<Self, IssuerError> {
        let mut failure = None;
        for _ in 0..MAX_PORT_TRIES {
            match Self::try_bind(wanted).await {
                Ok(bound) => return Ok(bound),
                // Another program may use the same port on the other address.
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
        let ipv6 = match wanted.host() {
            RedirectHost::V4 | RedirectHost::V6 => None,
            RedirectHost::Localhost => match TcpListener::bind((v6, port)).await {
                Ok(listener) => Some(listener),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
                // This machine has no IPv6.
                Err(_) => None,
            },
        };
        let redirect_uri = Url::parse(&wanted.at(port)).map_err(std::io::Error::other)?;
        Ok(Self { listener, ipv6, redirect_uri, start: None })
    }

    /// Returns the redirect URI, with the port that is listened on.
    pub(super) fn redirect_uri(&self) -> &Url {
        &self.redirect_uri
    }

    /// Redirects a path to `url`, and returns its address, which is short enough to be copied from a terminal. It cannot be
    /// guessed: other users of this machine must not learn the state of the login.
    pub(super) fn redirect_to(&mut self, url: &Url) -> Result<Url, IssuerError> {
        let path: String = random()?.chars().take(START_LENGTH).collect();
        let invalid = |detail| IssuerError::Local { action: "redirect the browser", detail };
        let location = HeaderValue::from_str(url.as_str()).map_err(|error| invalid(error.to_string()))?;
        let address = self.redirect_uri.join(&format!("/{path}")).map_err(|error| invalid(error.to_string()))?;
        self.start = Some(Start { path: address.path().to_owned(), location });
        Ok(address)
    }

    /// Serves requests until one of them is the authorization response, and returns the browser that waits for its page.
    pub(super) async fn wait_for_response(&self, classify: Classify, clock: &dyn Clock) -> (Outcome, WaitingBrowser) {
        let host = self.redirect_uri.authority().to_owned();
        let rejected = Arc::new(RejectedCount::default());
        let path = self.redirect_uri.path().to_owned();
        let handler =
            Arc::new(Handler { host, path, start: self.start.clone(), classify, rejected: Arc::clone(&rejected) });
        let _log = LogOnDrop(rejected);
        let (done, mut arrived) = mpsc::channel::<Arrived>(1);
        let mut connections = JoinSet::new();
        let mut oldest_first: Vec<Connection> = Vec::new();
        loop {
            oldest_first.retain(|open| !open.task.is_finished());
            let accepted = tokio::select! {
                biased;
                Some(Arrived { outcome, page, closed }) = arrived.recv() => {
                    return (outcome, WaitingBrowser { page, closed, connections });
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.listener.accept() => accepted,
                accepted = accept(self.ipv6.as_ref()) => accepted,
            };
            // A failed accept concerns one connection, or passes when a file descriptor is free again, as that of an idle
            // connection is; it must not spin.
            let accepted = accepted.and_then(|(stream, _)| Ok((stream.as_fd().try_clone_to_owned()?, stream)));
            let (socket, stream) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Not if only that connection has gone.
                    if error.kind() != std::io::ErrorKind::ConnectionAborted {
                        close_one(&mut oldest_first);
                    }
                    clock.sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while oldest_first.len() >= MAX_CONNECTIONS && !close_one(&mut oldest_first) {
                // Data that has arrived on open connections is read before new ones are accepted.
                clock.sleep(ACCEPT_PAUSE).await;
                oldest_first.retain(|open| !open.task.is_finished());
            }
            let progress = Arc::new(Mutex::new(Progress::Idle));
            let serving = serve_connection(stream, Arc::clone(&handler), Arc::clone(&progress), done.clone());
            oldest_first.push(Connection { task: connections.spawn(serving), socket, progress });
        }
    }
}

/// An open connection.
struct Connection {
    task: tokio::task::AbortHandle,
    /// A second descriptor of the connection, to look for data that has not been read.
    socket: OwnedFd,
    progress: Arc<Mutex<Progress>>,
}

/// What has been read from a connection.
enum Progress {
    /// Nothing.
    Idle,
    /// A part of a request.
    Receiving,
    /// The authorization response. Its page follows when the login has ended.
    Complete,
}

/// Closes the oldest idle connection or, if none is idle, the oldest with an incomplete request. A connection with data that
/// has not been read is not closed: it may be the authorization response. Returns whether one was closed.
fn close_one(oldest_first: &mut Vec<Connection>) -> bool {
    let find = |idle: bool| {
        oldest_first.iter().position(|open| {
            let wanted = match *open.progress.lock().unwrap_or_else(PoisonError::into_inner) {
                Progress::Idle => idle,
                Progress::Receiving => !idle,
                Progress::Complete => false,
            };
            wanted && !has_unread_data(&open.socket)
        })
    };
    let Some(position) = find(true).or_else(|| find(false)) else { return false };
    oldest_first.remove(position).task.abort();
    true
}

fn has_unread_data(socket: &OwnedFd) -> bool {
    rustix::net::recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(length, _)| length > 0)
}

/// Accepts from the second listener, if there is one.
async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

fn local(wanted: &RedirectUri, detail: &dyn std::fmt::Display) -> IssuerError {
    let detail = match wanted.port() {
        Some(port) => format!("{} port {port}: {detail}", wanted.host()),
        None => format!("{}: {detail}", wanted.host()),
    };
    IssuerError::Local { action: "listen for the browser", detail }
}

/// Serves the one request of a connection. Passes on the authorization response, and waits for its page.
async fn serve_connection(
    stream: TcpStream,
    handler: Arc<Handler>,
    progress: Arc<Mutex<Progress>>,
    done: mpsc::Sender<Arrived>,
) {
    let progress = || progress.lock().unwrap_or_else(PoisonError::into_inner);
    let (_open, closed) = oneshot::channel::<()>();
    let closed = Mutex::new(Some(closed));
    let respond = async |request: Request<Incoming>| {
        let outcome = match handler.respond(&request) {
            Ok(outcome) => outcome,
            Err(response) if response.status() == StatusCode::FOUND => return Ok::<_, Infallible>(*response),
            Err(response) => {
                handler.rejected.0.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("rejected a request to the redirect URI with HTTP {}", response.status().as_u16());
                return Ok(*response);
            }
        };
        *progress() = Progress::Complete;
        let (page, ended) = oneshot::channel();
        let closed = closed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_first = closed.is_some_and(|closed| done.try_send(Arrived { outcome, page, closed }).is_ok());
        // The first response decides the login.
        let page = if is_first { ended.await.ok() } else { None };
        Ok(page.unwrap_or_else(|| ANSWERED.into()).response(StatusCode::OK))
    };
    let serving = async {
        if matches!(stream.peek(&mut [0; 1]).await, Ok(1..)) {
            *progress() = Progress::Receiving;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD_SIZE)
                .max_header_size(MAX_HEAD_SIZE)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service_fn(respond));
            let _ = connection.await;
        }
    };
    let too_slow = async {
        tokio::time::sleep(CONNECTION_TIMEOUT).await;
        // The rest of the login has limits of its own.
        if matches!(*progress(), Progress::Complete) {
            std::future::pending().await
        }
    };
    tokio::select! {
        // What has arrived while the process was stopped is read first.
        biased;
        () = serving => {}
        () = too_slow => {}
    }
}

/// The number of rejected requests. Their content is not logged: it may hold a code or a state.
#[derive(Default)]
struct RejectedCount(AtomicU64);

/// Logs the number when the listener stops waiting, for whatever reason.
struct LogOnDrop(Arc<RejectedCount>);

impl Drop for LogOnDrop {
    fn drop(&mut self) {
        let count = self.0.0.load(Ordering::Relaxed);
        if count > 0 {
            tracing::info!("rejected {count} unrelated requests to the redirect URI");
        }
    }
}

/// Responds to requests.
struct Handler {
    host: String,
    path: String,
    start: Option<Start>,
    classify: Classify,
    rejected: Arc<RejectedCount>,
}

impl Handler {
    /// Returns the authorization response, or the reply to any other request.
    fn respond(&self, request: &Request<Incoming>) -> Result<Outcome, Box<Response<Full<Bytes>>>> {
        let page = |status, text| Box::new(LoginPage::from(text).response(status));
        let uri = request.uri();
        let mut hosts = request.headers().get_all(HOST).iter();
        let host_fits = hosts.next().is_some_and(|h| h.as_bytes() == self.host.as_bytes()) && hosts.next().is_none();
        if !host_fits || uri.authority().is_some() {
            return Err(page(StatusCode::BAD_REQUEST, NOT_FOUND));
        }
        if let Some(start) = self.start.as_ref().filter(|start| start.path == uri.path()) {
            let mut redirect = page(StatusCode::FOUND, UNRELATED);
            redirect.headers_mut().insert(LOCATION, start.location.clone());
            return Err(redirect);
        }
        if uri.path() != self.path {
            return Err(page(StatusCode::NOT_FOUND, NOT_FOUND));
        }
        if request.method() != Method::GET {
            let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, NOT_FOUND);
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return Err(refused);
        }
        match (self.classify)(uri.query().unwrap_or_default()) {
            RedirectRequest::Unrelated => Err(page(StatusCode::BAD_REQUEST, UNRELATED)),
            RedirectRequest::AuthorizationResponse(outcome) => Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests;
