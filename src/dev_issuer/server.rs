//! The HTTP server: connections, limits, the host check, and the faults.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::faults::{FaultKind, MAX_HOLD, fault_reply};
use super::http::{Params, Reply, Request, empty};
use super::issuer::Issuer;
use super::pages;
use super::router::Route;
use super::state::increment;
use crate::secret::SecretBytes;

const MAX_CONNECTIONS: usize = 2048;
const MAX_BODY: usize = 64 * 1024;
const MAX_HEADERS: usize = 128 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `stop` is true, then drops the listener and every connection.
pub(super) async fn serve(issuer: Arc<Issuer>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Usually out of file descriptors, which are free again when connections close.
            issuer.options.clock.sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        issuer.state().stats.connections += 1;
        let (issuer, mut stop) = (Arc::clone(&issuer), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = serve_connection(issuer, stream) => {}
            }
        });
    }
}

async fn serve_connection(issuer: Arc<Issuer>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let issuer = Arc::clone(&issuer);
        async move { handle(&issuer, request).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS)
        .max_header_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // An error is a client that disconnected, or a fault.
    drop(served);
}

/// An error that makes hyper close the connection without a reply.
#[derive(Debug)]
struct ConnectionClosed;

impl fmt::Display for ConnectionClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection closed by a fault")
    }
}

impl std::error::Error for ConnectionClosed {}

impl From<Infallible> for ConnectionClosed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Returns whether the Host header names this server. With DNS rebinding, a page of another site could otherwise use
/// a name of its own that resolves to 127.0.0.1.
fn is_own_host(host: Option<&str>, address: SocketAddr, public_url: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    if public_url.and_then(|url| url.split_once("://")).is_some_and(|(_, public)| public == host) {
        return true;
    }
    let Some((name, port)) = host.rsplit_once(':') else { return false };
    matches!(name, "127.0.0.1" | "localhost" | "[::1]") && port.parse() == Ok(address.port())
}

async fn handle(issuer: &Issuer, incoming: hyper::Request<Incoming>) -> Result<Reply, ConnectionClosed> {
    let (parts, body) = incoming.into_parts();
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !is_own_host(host, issuer.address, issuer.options.public_url.as_deref()) {
        return Ok(empty(StatusCode::MISDIRECTED_REQUEST));
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let body = match read {
        Ok(Ok(body)) => SecretBytes::new(body.to_bytes().to_vec()),
        Ok(Err(_)) => return Ok(empty(StatusCode::PAYLOAD_TOO_LARGE)),
        Err(_) => return Ok(empty(StatusCode::REQUEST_TIMEOUT)),
    };
    let query = Params::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let request = Request { method: parts.method, headers: parts.headers, query, body };
    let Some(route) = Route::find(issuer, parts.uri.path()) else {
        return Ok(pages::error(StatusCode::NOT_FOUND, "There is no page at this address."));
    };
    increment(&mut issuer.state().stats.requests, route.name());
    with_faults(issuer, route, &request).await
}

/// Handles a request and applies the next fault of its endpoint.
async fn with_faults(issuer: &Issuer, route: Route<'_>, request: &Request) -> Result<Reply, ConnectionClosed> {
    let (fault, mut cleared) = {
        let mut faults = issuer.faults();
        (route.fault_target().and_then(|endpoint| faults.next(endpoint)), faults.cleared())
    };
    let Some(fault) = fault else { return Ok(route.handle(issuer, request, None).await) };
    issuer.state().stats.faults += 1;
    let hold = tokio::time::timeout(MAX_HOLD, cleared.changed());
    match &fault {
        FaultKind::Slow { ms } => issuer.options.clock.sleep(Duration::from_millis(*ms)).await,
        FaultKind::Reset => return Err(ConnectionClosed),
        FaultKind::Hang => {
            issuer.options.clock.sleep(MAX_HOLD).await;
            return Err(ConnectionClosed);
        }
        FaultKind::Hold => {
            let _ = hold.await;
            return Ok(route.handle(issuer, request, None).await);
        }
        _ => {
            if let Some(reply) = fault_reply(&fault).await {
                return Ok(reply);
            }
        }
    }
    let reply = route.handle(issuer, request, Some(&fault)).await;
    match fault {
        FaultKind::LostReply => Err(ConnectionClosed),
        FaultKind::Edited(edit) => Ok(edit.apply(reply).await),
        FaultKind::HoldReply => {
            let _ = hold.await;
            Ok(reply)
        }
        _ => Ok(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_must_be_a_loopback_name_with_the_own_port() {
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
