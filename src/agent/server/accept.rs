//! Accepts connections and reads requests within bounds; lets nobody in but this user's processes.

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

use super::Agent;
use super::audit::AuditAction;
use super::handlers::respond;
use super::limiter::ConnectionPermit;
use super::peer::Peer;
use super::response::{Answer, not_allowed, problem};
use super::route::{RouteError, route};
use crate::error::{Error, ErrorCode};
use crate::secret::SecretBytes;

/// To send a request's head, and how long a connection may lie idle before the next.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// To send a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// The wait after the system could give no descriptor: they come back when connections end.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(20);

/// Connections that are being told why they are not served: few enough for the descriptors that are kept for other things.
const MAX_TURNED_AWAY: usize = 8;

/// To read that, and to hang up.
const TURNED_AWAY_TIME: Duration = Duration::from_secs(1);

/// Accepts until the agent stops.
pub(super) async fn accept(agent: &Arc<Agent>, listener: &UnixListener) {
    let us = rustix::process::geteuid().as_raw();
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                agent.clock.sleep(OUT_OF_DESCRIPTORS).await;
                continue;
            }
        };
        // Of who connected, not of who holds the connection since: a process that has changed its user stays out.
        let Ok(peer) = agent.peers.of(&stream) else { continue };
        if peer.uid != us {
            agent.audit_log.note(&peer, AuditAction::Refused, None, agent.now());
            let message = format!("this agent serves the user with id {us}, and you have id {}", peer.uid);
            refuse(stream, &turned_away, 403, ErrorCode::CallerNotPermitted, &message);
            continue;
        }
        match agent.limiter.admit(peer.pid) {
            Some(ticket) => {
                tokio::spawn(connection(Arc::clone(agent), stream, peer, ticket));
            }
            None => {
                refuse(stream, &turned_away, 429, ErrorCode::TooManyRequests, "there are too many connections");
            }
        }
    }
}

/// Answers whatever is asked, and closes. Where too many are being turned away already, it does not wait to be heard.
fn refuse(stream: UnixStream, turned_away: &Arc<Semaphore>, status: u16, code: ErrorCode, message: &str) {
    let (word, exit) = (code.as_str(), code.exit_code());
    let body = format!(r#"{{"status":{status},"code":"{word}","title":"{message}","hint":"","exit_code":{exit}}}"#);
    let reason = if status == 403 { "Forbidden" } else { "Too Many Requests\r\nRetry-After: 1" };
    let answer = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(place) = Arc::clone(turned_away).try_acquire_owned() else {
        // A connection just made takes that much without waiting.
        let _ = stream.try_write(answer.as_bytes());
        return;
    };
    tokio::spawn(async move {
        let _ = tokio::time::timeout(TURNED_AWAY_TIME, turn_away(stream, answer)).await;
        drop(place);
    });
}

/// Closed while the client is still asking, the connection would break off under it, and it would not read why.
async fn turn_away(mut stream: UnixStream, answer: String) {
    if stream.write_all(answer.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        let mut asked = [0; 1024];
        while matches!(stream.read(&mut asked).await, Ok(1..)) {}
    }
}

/// Serves one connection to its end: the client's, the agent's, or that of its idle time.
async fn connection(agent: Arc<Agent>, stream: UnixStream, peer: Peer, ticket: ConnectionPermit) {
    let mut stopped = agent.stop.subscribe();
    let ticket = Arc::new(ticket);
    let service = {
        let (agent, peer, ticket) = (Arc::clone(&agent), Arc::new(peer), Arc::clone(&ticket));
        service_fn(move |request| {
            let (agent, peer, ticket) = (Arc::clone(&agent), Arc::clone(&peer), Arc::clone(&ticket));
            async move {
                ticket.busy(true);
                let answer = handle(&agent, &peer, request).await;
                ticket.busy(false);
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let mut stopping = false;
    loop {
        tokio::select! {
            // However it ended: that is the client's business.
            _ = &mut serving => return,
            () = ticket.evicted() => return,
            _ = stopped.wait_for(|stop| *stop), if !stopping => {
                // On a connection where nothing is asked, nothing is waited for.
                if !ticket.is_busy() {
                    return;
                }
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn handle(agent: &Arc<Agent>, peer: &Peer, request: Request<Incoming>) -> Answer {
    let ask = match route(request.method(), request.uri()) {
        Ok(ask) => ask,
        Err(RouteError::Path) => {
            let hint = "see /v1/openapi.json for what is answered";
            return problem(&Error::msg(ErrorCode::UnknownPath, "there is no such path", hint));
        }
        Err(RouteError::Method(allowed)) => return not_allowed(allowed),
        Err(RouteError::Request(failure)) => return problem(&failure),
    };
    let (head, body) = request.into_parts();
    if let Some(mark) = head.headers.get("authctl-home")
        && mark.as_bytes() != agent.mark.as_bytes()
    {
        let message = "this agent has another configuration or other sessions than the caller";
        let hint = "start an agent of its own for this home with AUTHCTL_SOCK, or unset what points elsewhere";
        return problem(&Error::msg(ErrorCode::AnotherHome, message, hint));
    }
    let most = ask.most_body();
    let declared = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        let message = format!("the body is longer than {most} bytes");
        problem(&Error::msg(ErrorCode::RequestTooLarge, message, "send less"))
    };
    if declared.is_some_and(|length| length > most as u64) {
        return too_large();
    }
    let body = if most == 0 && hyper::body::Body::is_end_stream(&body) {
        SecretBytes::default()
    } else {
        match tokio::time::timeout(BODY_TIME, read(Limited::new(body, most))).await {
            Ok(Some(body)) => body,
            Ok(None) => return too_large(),
            Err(_) => {
                let failure =
                    Error::msg(ErrorCode::RequestTimedOut, "the body did not come in time", "send it at once");
                return problem(&failure);
            }
        }
    };
    let wait = head.headers.get("prefer").and_then(|value| preferred_wait(value.to_str().ok()?));
    respond(agent, peer, ask, &body, wait).await
}

/// The whole body; `None` where it is too long or breaks off.
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

/// How long the caller would wait, from `Prefer: wait=SECONDS` (RFC 7240, section 4.3).
fn preferred_wait(prefer: &str) -> Option<Duration> {
    let mut preferences = prefer.split([',', ';']).map(str::trim);
    let seconds = preferences.find_map(|one| one.strip_prefix("wait="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_wait_is_found_among_other_preferences() {
        for (prefer, seconds) in [("wait=5", Some(5)), ("respond-async, wait=10", Some(10)), ("wait=\"3\"", Some(3))] {
            assert_eq!(preferred_wait(prefer), seconds.map(Duration::from_secs), "{prefer}");
        }
        for prefer in ["", "wait", "wait=x", "wait=-1", "waits=5"] {
            assert_eq!(preferred_wait(prefer), None, "{prefer}");
        }
    }
}
