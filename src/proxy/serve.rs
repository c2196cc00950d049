//! Accepts connections on a TCP port or a Unix socket, and serves them until the proxy stops.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};

use super::ApiProxy;
use super::caller::ClientConnection;
use super::exchange::exchange;
use crate::clock::Clock;
use crate::fs::{ACCEPT_RETRY, descriptors, raise_descriptors};

/// The time limit for a request's head, and for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum size of a request's head, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// How long a TCP connection may exist without a request that has the key: programs of other users can connect too.
const CALLER_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of connections; one more waits until another has ended.
const MAX_CONNECTIONS: usize = 4096;

/// How many descriptors are for other things than connections.
const OTHER_DESCRIPTORS: usize = 64;

/// Returns how many connections are served: each needs a descriptor, and one for its connection to the API.
fn max_connections() -> usize {
    (descriptors().saturating_sub(OTHER_DESCRIPTORS) / 2).clamp(1, MAX_CONNECTIONS)
}

/// Allows the process as many descriptors as [`serve`] uses at most.
pub fn raise_limits() {
    raise_descriptors(2 * MAX_CONNECTIONS + OTHER_DESCRIPTORS);
}

/// How long requests may go on after the proxy was asked to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Where clients connect.
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Serves until `stop`, then lets the requests in flight end.
pub async fn serve(proxy: Arc<ApiProxy>, listener: Listener, clock: &dyn Clock, stop: impl Future<Output = ()>) {
    let (stopping, stopped) = watch::channel(false);
    let max = max_connections();
    let slots = Arc::new(Semaphore::new(max));
    let accepting = async {
        let own_uid = rustix::process::geteuid().as_raw();
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let (proxy, mut stopped) = (Arc::clone(&proxy), stopped.clone());
            let client = Arc::new(ClientConnection::new(slot));
            let accepted = match &listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    let _ = stream.set_nodelay(true);
                    // Of this machine, but any user's.
                    let stranger = clock.sleep(CALLER_TIMEOUT);
                    tokio::spawn(async move {
                        tokio::select! {
                            () = connection(proxy, stream, &mut stopped, Arc::clone(&client)) => {}
                            () = client.without_caller(stranger) => {}
                        }
                    });
                }),
                Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                    // The credentials are those at connect time.
                    if stream.peer_cred().is_ok_and(|peer| peer.uid() == own_uid) {
                        tokio::spawn(async move { connection(proxy, stream, &mut stopped, client).await });
                    }
                }),
            };
            if accepted.is_err() {
                clock.sleep(ACCEPT_RETRY).await;
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
    drop(listener);
    stopping.send_replace(true);
    let ended = slots.acquire_many(u32::try_from(max).unwrap_or(u32::MAX));
    tokio::select! {
        _ = ended => {}
        () = clock.sleep(DRAIN_LIMIT) => {}
    }
}

/// Serves one connection until the client closes it, it is idle for too long, or the proxy stops.
async fn connection(
    proxy: Arc<ApiProxy>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    stopped: &mut watch::Receiver<bool>,
    client: Arc<ClientConnection>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (proxy, client) = (Arc::clone(&proxy), Arc::clone(&client));
        // Boxed, so that an idle connection does not reserve memory for a request.
        Box::pin(async move { Ok::<_, Infallible>(exchange(&proxy, &client, request).await) })
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(serving);
    tokio::select! {
        _ = &mut serving => return,
        _ = stopped.wait_for(|stop| *stop) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}
