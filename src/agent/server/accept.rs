//! Accepts connections of this user's processes, and reads their requests within limits of size and time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::audit::AuditAction;
use super::handlers::respond;
use super::limiter::ConnectionPermit;
use super::peer::Peer;
use super::response::{AgentResponse, not_allowed, problem, see_openapi};
use super::route::{RouteError, route};
use super::state::Agent;
use crate::clock::within;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::ACCEPT_RETRY;
use crate::secret::SecretBytes;

/// The time limit for a request's head, and for an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The time limit for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of a request's head, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// How many refused connections may be open to deliver the reason. They use reserved descriptors.
const MAX_REFUSED: usize = 8;

/// How long a refused client has to read the reason.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts until the agent stops.
pub(super) async fn accept(agent: &Arc<Agent>, listener: &UnixListener) {
    let own_uid = rustix::process::geteuid().as_raw();
    let refused = Arc::new(Semaphore::new(MAX_REFUSED));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                agent.clock.sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        // The credentials are those at connect time: a process that changes its user later gains nothing.
        let Ok(peer) = Peer::of(&stream) else { continue };
        if peer.uid != own_uid {
            let message = format!("this agent serves the user with ID {own_uid}, the caller has ID {}", peer.uid);
            refuse(agent, stream, peer, &refused, 403, ErrorCode::CallerNotPermitted, &message);
            continue;
        }
        match agent.limiter.admit(peer.pid) {
            Some(permit) => {
                tokio::spawn(connection(Arc::clone(agent), stream, peer, permit));
            }
            None if agent.agent_lock.is_locked() => {
                refuse(agent, stream, peer, &refused, 423, ErrorCode::AgentLocked, "the agent is locked");
            }
            None => {
                refuse(agent, stream, peer, &refused, 429, ErrorCode::TooManyRequests, "too many connections");
            }
        }
    }
}

/// Records that a process was refused whatever it requests.
fn denied(agent: &Agent, peer: &Peer, error: ErrorCode) {
    agent.audit_log.record_denied(peer, AuditAction::Refused, error, None, agent.now());
}

/// Responds with an error without reading the request, and closes. With too many refused connections already open, it
/// neither identifies the process nor waits until the client has read the response.
fn refuse(
    agent: &Arc<Agent>,
    stream: UnixStream,
    peer: Peer,
    refused: &Arc<Semaphore>,
    status: u16,
    code: ErrorCode,
    message: &str,
) {
    let (word, exit) = (code.as_str(), code.exit_code());
    let body = format!(r#"{{"status":{status},"code":"{word}","title":"{message}","hint":"","exit_code":{exit}}}"#);
    let reason = match status {
        403 => "Forbidden",
        423 => "Locked",
        _ => "Too Many Requests\r\nRetry-After: 1",
    };
    let response = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(slot) = Arc::clone(refused).try_acquire_owned() else {
        let identity = agent.peers.known(peer.pid).unwrap_or_default();
        denied(agent, &Peer { identity, ..peer }, code);
        // The socket's buffer is empty: the response fits.
        let _ = stream.try_write(response.as_bytes());
        return;
    };
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        let peer = agent.peers.identified(&stream, peer).await;
        denied(&agent, &peer, code);
        let _ = tokio::time::timeout(REFUSED_TIMEOUT, deliver(stream, response)).await;
        drop(slot);
    });
}

/// Sends the response and reads until the client closes: closing first could reset the connection before the client has
/// read the response.
async fn deliver(mut stream: UnixStream, response: String) {
    if stream.write_all(response.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut ignored = [0; 1024];
        while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
    }
}

/// Serves one connection until the client closes it, it is idle for too long, or the agent stops.
async fn connection(agent: Arc<Agent>, stream: UnixStream, peer: Peer, permit: ConnectionPermit) {
    let mut stopped = agent.stop.subscribe();
    let peer = agent.peers.identified(&stream, peer).await;
    let permit = Arc::new(permit);
    let service = {
        let (agent, peer, permit) = (Arc::clone(&agent), Arc::new(peer), Arc::clone(&permit));
        service_fn(move |request| {
            let (agent, peer, permit) = (Arc::clone(&agent), Arc::clone(&peer), Arc::clone(&permit));
            async move {
                permit.set_busy(true);
                let response = handle(&agent, &peer, request).await;
                permit.set_busy(false);
                Ok::<_, Infallible>(response)
            }
        })
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = &mut serving => return,
            () = permit.evicted() => return,
            _ = stopped.wait_for(|stop| *stop), if !stopping => {
                // An idle connection is closed at once.
                if !permit.is_busy() {
                    return;
                }
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn handle(agent: &Arc<Agent>, peer: &Peer, request: Request<Incoming>) -> AgentResponse {
    let request_kind = match route(request.method(), request.uri()) {
        Ok(kind) => kind,
        Err(RouteError::Path) => {
            return problem(&Error::msg(ErrorCode::UnknownPath, "unknown path", see_openapi()));
        }
        Err(RouteError::Method(allowed)) => return not_allowed(allowed),
        Err(RouteError::Request(failure)) => return problem(&failure),
    };
    let (head, body) = request.into_parts();
    if let Some(home_id) = head.headers.get("authctl-home")
        && home_id.as_bytes() != agent.home_id.as_bytes()
    {
        denied(agent, peer, ErrorCode::AnotherHome);
        let message = "the agent serves another configuration or data directory than the caller's";
        let hint = Hint::shell("export AUTHCTL_SOCK=\"$HOME/.authctl.sock\" && authctl agent start");
        return problem(&Error::msg(ErrorCode::AnotherHome, message, hint));
    }
    let max = request_kind.max_body();
    let declared = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        let message = format!("the request body is incomplete or longer than {max} bytes");
        problem(&Error::msg(ErrorCode::RequestTooLarge, message, see_openapi()))
    };
    if declared.is_some_and(|length| length > max as u64) {
        return too_large();
    }
    let body = if max == 0 && hyper::body::Body::is_end_stream(&body) {
        SecretBytes::default()
    } else {
        match within(&*agent.clock, BODY_TIMEOUT, read(Limited::new(body, max))).await {
            Some(Some(body)) => body,
            Some(None) => return too_large(),
            None => {
                let failure =
                    Error::msg(ErrorCode::RequestTimedOut, "the request body did not arrive in time", see_openapi());
                return problem(&failure);
            }
        }
    };
    let wait = head.headers.get("prefer").and_then(|value| preferred_wait(value.to_str().ok()?));
    respond(agent, peer, request_kind, &body, wait).await
}

/// Returns the whole body, or `None` if it is too long or incomplete.
async fn read(body: Limited<Incoming>) -> Option<SecretBytes> {
    let mut body = body;
    let mut bytes = SecretBytes::default();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.ok()?.data_ref() {
            bytes.extend(data);
        }
    }
    Some(bytes)
}

/// Returns how long the caller waits at most, from `Prefer: wait=SECONDS` (RFC 7240, section 4.3).
fn preferred_wait(prefer: &str) -> Option<Duration> {
    let mut preferences = prefer.split([',', ';']).map(str::trim);
    let seconds = preferences.find_map(|one| one.strip_prefix("wait="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_found_among_other_preferences() {
        for (prefer, seconds) in [("wait=5", Some(5)), ("respond-async, wait=10", Some(10)), ("wait=\"3\"", Some(3))] {
            assert_eq!(preferred_wait(prefer), seconds.map(Duration::from_secs), "{prefer}");
        }
        for prefer in ["", "wait", "wait=x", "wait=-1", "waits=5"] {
            assert_eq!(preferred_wait(prefer), None, "{prefer}");
        }
    }
}
