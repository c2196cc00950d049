//! Accepts connections, reads requests within bounds, applies faults, and sends each request to its endpoint.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::faults::{Endpoint, FaultKind, HANG, false_reply};
use super::state::tally;
use super::wire::{OAuthError, Params, Reply, Request, bytes_reply, empty, set};
use super::{Core, authorize, control, device, metadata, pages, revoke, status_list, token, userinfo, walk};
use crate::secret::SecretBytes;

const MAX_CONNECTIONS: usize = 2048;
const MAX_BODY: usize = 64 * 1024;
const HEADER_TIME: Duration = Duration::from_secs(10);
const BODY_TIME: Duration = Duration::from_secs(10);

/// Serves until told to stop; then the listener and every connection are dropped at once.
pub(super) async fn accept(core: Arc<Core>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: they come back when connections end.
            core.options.clock.sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        core.state().stats.connections += 1;
        let (core, mut stop) = (Arc::clone(&core), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = connection(core, stream) => {}
            }
        });
    }
}

async fn connection(core: Arc<Core>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let core = Arc::clone(&core);
        async move { handle(&core, request).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(128 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // A connection that broke is the client's business, or a fault that was asked for.
    drop(served);
}

/// That the connection is to be closed without a reply.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

impl From<Infallible> for Closed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Whether the Host header names this server. Any other name that resolves to 127.0.0.1 is a page of another site that
/// tries to be this one (DNS rebinding).
fn is_own_host(host: Option<&str>, address: SocketAddr, public_url: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    if public_url.and_then(|url| url.split_once("://")).is_some_and(|(_, public)| public == host) {
        return true;
    }
    let Some((name, port)) = host.rsplit_once(':') else { return false };
    matches!(name, "127.0.0.1" | "localhost" | "[::1]") && port.parse() == Ok(address.port())
}

async fn handle(core: &Core, incoming: hyper::Request<Incoming>) -> Result<Reply, Closed> {
    let (parts, body) = incoming.into_parts();
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !is_own_host(host, core.address, core.options.public_url.as_deref()) {
        return Ok(empty(StatusCode::MISDIRECTED_REQUEST));
    }
    let read = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await;
    let body = match read {
        Ok(Ok(body)) => SecretBytes::new(body.to_bytes().to_vec()),
        Ok(Err(_)) => return Ok(empty(StatusCode::PAYLOAD_TOO_LARGE)),
        Err(_) => return Ok(empty(StatusCode::REQUEST_TIMEOUT)),
    };
    let query = Params::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let request = Request { method: parts.method, headers: parts.headers, query, body };
    let path = parts.uri.path();
    let Some(place) = place(core, path) else {
        return Ok(pages::error(StatusCode::NOT_FOUND, "There is no such page here."));
    };
    tally(&mut core.state().stats.requests, place.name());
    let (fault, mut clearing) = {
        let mut faults = core.faults();
        let fault = match place {
            Place::Endpoint(endpoint) => faults.next(endpoint),
            Place::StatusList(_) => faults.next(Endpoint::StatusList),
            Place::Page(_) => None,
        };
        (fault, faults.clearing())
    };
    if let Some(kind) = &fault {
        core.state().stats.faults += 1;
        match kind {
            FaultKind::Slow { ms } => core.options.clock.sleep(Duration::from_millis(*ms)).await,
            FaultKind::Reset => return Err(Closed),
            FaultKind::Hold => {
                let _ = tokio::time::timeout(HANG, clearing.changed()).await;
            }
            FaultKind::Hang => {
                core.options.clock.sleep(HANG).await;
                return Err(Closed);
            }
            other => {
                if let Some(reply) = false_reply(other) {
                    return Ok(match other {
                        FaultKind::Replaced(edit) => edit.apply(reply).await,
                        _ => reply,
                    });
                }
            }
        }
    }
    let reply = match place {
        Place::Endpoint(endpoint) => answer(core, endpoint, &request, fault == Some(FaultKind::IssuerMismatch)).await,
        Place::StatusList(number) => {
            let fault = match fault {
                Some(FaultKind::InvalidStatusList { defect }) => Some(defect),
                _ => None,
            };
            status_list::answer(core, number, &request, fault).await
        }
        Place::Page(page) => walk::page(core, page, &request).await,
    };
    match fault {
        Some(FaultKind::LostReply) => Err(Closed),
        Some(FaultKind::Edited(edit)) => Ok(edit.apply(reply).await),
        Some(FaultKind::HoldReply) => {
            let _ = tokio::time::timeout(HANG, clearing.changed()).await;
            Ok(reply)
        }
        _ => Ok(reply),
    }
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Place<'a> {
    Endpoint(Endpoint),
    /// A status list, by its number.
    StatusList(u64),
    /// A page for people, or one for scripts under `control/`; without the issuer's path and its slash.
    Page(&'a str),
}

impl Place<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Endpoint(endpoint) => endpoint.name(),
            Self::StatusList(_) => Endpoint::StatusList.name(),
            Self::Page(page) if page.starts_with("control/") => "control",
            Self::Page(_) => "page",
        }
    }
}

fn place<'a>(core: &Core, path: &'a str) -> Option<Place<'a>> {
    // RFC 8414, section 3.1 puts the well-known part before the issuer's path, OpenID Connect Discovery after it.
    if path.strip_prefix("/.well-known/oauth-authorization-server") == Some(&core.options.path) {
        return Some(Place::Endpoint(Endpoint::AuthorizationServer));
    }
    let under = path.strip_prefix(core.options.path.as_str())?;
    if under.is_empty() {
        return Some(Place::Page(""));
    }
    let under = under.strip_prefix('/')?;
    if let Some(number) = under.strip_prefix("statuslists/") {
        return core.options.status_list_ttl.and(number.parse().ok()).map(Place::StatusList);
    }
    Some(match under {
        ".well-known/openid-configuration" => Place::Endpoint(Endpoint::OpenidConfiguration),
        "jwks" => Place::Endpoint(Endpoint::Jwks),
        "authorize" => Place::Endpoint(Endpoint::Authorize),
        "token" => Place::Endpoint(Endpoint::Token),
        "device_authorization" => Place::Endpoint(Endpoint::Device),
        "revoke" => Place::Endpoint(Endpoint::Revoke),
        "introspect" => Place::Endpoint(Endpoint::Introspect),
        "userinfo" => Place::Endpoint(Endpoint::Userinfo),
        page @ ("" | "device" | "continue" | "login" | "otp" | "consent" | "logout") => Place::Page(page),
        page if page.starts_with("control/") && core.options.control => Place::Page(page),
        _ => return None,
    })
}

async fn answer(core: &Core, endpoint: Endpoint, request: &Request, mismatch: bool) -> Reply {
    let get = request.method == Method::GET || request.method == Method::HEAD;
    let post = request.method == Method::POST;
    match endpoint {
        Endpoint::Metadata | Endpoint::OpenidConfiguration | Endpoint::AuthorizationServer if get => {
            metadata::metadata(core, mismatch)
        }
        Endpoint::Jwks if get => metadata::jwks(core).await,
        Endpoint::Authorize if get => authorize::authorize(core, request),
        Endpoint::Token if post => token::token(core, request).await,
        Endpoint::Device if post => device::authorization(core, request).unwrap_or_else(|e: OAuthError| e.reply()),
        Endpoint::Revoke if post => revoke::revoke(core, request).unwrap_or_else(|e: OAuthError| e.reply()),
        Endpoint::Introspect if post => revoke::introspect(core, request).unwrap_or_else(|e: OAuthError| e.reply()),
        Endpoint::Userinfo if get || post => userinfo::userinfo(core, request),
        Endpoint::Metadata
        | Endpoint::OpenidConfiguration
        | Endpoint::AuthorizationServer
        | Endpoint::Jwks
        | Endpoint::Authorize
        | Endpoint::StatusList => not_allowed("GET"),
        Endpoint::Token | Endpoint::Device | Endpoint::Revoke | Endpoint::Introspect => not_allowed("POST"),
        Endpoint::Userinfo => not_allowed("GET, POST"),
    }
}

/// 405 with the methods that are allowed.
pub(super) fn not_allowed(methods: &str) -> Reply {
    let mut reply = bytes_reply(StatusCode::METHOD_NOT_ALLOWED, "", hyper::body::Bytes::new());
    set(&mut reply, header::ALLOW, methods);
    reply
}

/// Answers `control/` for [`walk::page`].
pub(super) async fn control_page(core: &Core, page: &str, request: &Request) -> Reply {
    control::control(core, page.trim_start_matches("control/"), request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_with_the_own_port_are_hosts() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        for (host, expected) in [
            ("127.0.0.1:8080", true),
            ("localhost:8080", true),
            ("[::1]:8080", true),
            ("127.0.0.1:8081", false),
            ("127.0.0.1", false),
            ("attacker.example:8080", false),
            ("127.0.0.1.attacker.example:8080", false),
        ] {
            assert_eq!(is_own_host(Some(host), address, None), expected, "{host}");
        }
        assert!(!is_own_host(None, address, None));
        let public = Some("https://issuer.example:8443");
        for (host, expected) in [("issuer.example:8443", true), ("issuer.example", false), ("127.0.0.1:8080", true)] {
            assert_eq!(is_own_host(Some(host), address, public), expected, "{host}");
        }
    }
}
