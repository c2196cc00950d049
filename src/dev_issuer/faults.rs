//! Faults: errors of a broken network or issuer, applied to the next requests to an endpoint.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame};
use hyper::{Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::http::{Reply, bytes_reply, json, set_header};
use super::reply_edit::ReplyEdit;

/// An endpoint that faults can be set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// Both metadata documents.
    Metadata,
    /// The metadata of OpenID Connect Discovery.
    OpenidConfiguration,
    /// The metadata of RFC 8414.
    AuthorizationServer,
    /// The JWK Set.
    Jwks,
    /// The authorization endpoint, without the pages that follow.
    Authorize,
    /// The token endpoint.
    Token,
    /// The device authorization endpoint.
    Device,
    /// The revocation endpoint.
    Revoke,
    /// The introspection endpoint.
    Introspect,
    /// The endpoint for pushed authorization requests.
    Par,
    /// The userinfo endpoint.
    Userinfo,
    /// All status lists.
    StatusList,
}

impl Endpoint {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Metadata | Self::OpenidConfiguration | Self::AuthorizationServer => "metadata",
            Self::Jwks => "jwks",
            Self::Authorize => "authorize",
            Self::Token => "token",
            Self::Device => "device",
            Self::Revoke => "revoke",
            Self::Introspect => "introspect",
            Self::Par => "par",
            Self::Userinfo => "userinfo",
            Self::StatusList => "status_list",
        }
    }

    /// Returns whether a fault for `self` applies to requests to `endpoint`.
    fn includes(self, endpoint: Self) -> bool {
        self == endpoint
            || (self == Self::Metadata && matches!(endpoint, Self::OpenidConfiguration | Self::AuthorizationServer))
    }
}

/// The kind of a fault. A request that is not processed changes no state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// The request is processed after a delay.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// The connection is closed without processing the request.
    Reset,
    /// The request is processed, but the connection is closed without a reply.
    LostReply,
    /// 429 with Retry-After; not processed.
    TooManyRequests {
        /// Seconds.
        retry_after: u32,
    },
    /// 500 with a JSON body that is not an OAuth error; not processed.
    ServerError,
    /// 503 with Retry-After of one second; not processed.
    Unavailable,
    /// 200 with an HTML page, as from a captive portal; not processed.
    Html,
    /// 502 with an HTML page, as from a proxy; not processed.
    HtmlError,
    /// 200 with content type JSON and an invalid body; not processed.
    InvalidJson,
    /// An OAuth error (RFC 6749, section 5.2); not processed.
    OAuthError {
        /// The HTTP status.
        status: u16,
        /// The `error` member.
        code: String,
    },
    /// A status without a body; not processed.
    EmptyBody {
        /// The HTTP status.
        status: u16,
    },
    /// 200 with 64 MiB; not processed.
    HugeBody,
    /// No reply for a minute, then the connection is closed; not processed.
    Hang,
    /// The request is processed only when the faults are cleared, or after a minute.
    Hold,
    /// The request is processed, but the reply is sent only when the faults are cleared, or after a minute.
    HoldReply,
    /// The request is processed and the reply is changed.
    Edited(ReplyEdit),
    /// 200 with an empty JSON object, changed by the edit; not processed.
    Replaced(ReplyEdit),
    /// Metadata with a wrong `issuer`; other endpoints are not affected.
    IssuerMismatch,
    /// An invalid status list; other endpoints are not affected.
    InvalidStatusList {
        /// The defect.
        defect: StatusListDefect,
    },
}

/// A defect of a status list. All but [`StatusListDefect::WrongSignature`] have a valid signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusListDefect {
    /// The compressed list is truncated.
    Truncated,
    /// The signature is of another text.
    WrongSignature,
    /// It expired an hour ago.
    Expired,
    /// It has about 40 KiB and decompresses to 32 MiB.
    DecompressionBomb,
    /// The `sub` is the URI of another list.
    WrongSubject,
    /// The `typ` is `JWT`.
    WrongType,
}

/// A fault for the next requests to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The kind.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// The number of requests that it applies to; 0 for all until the faults are cleared.
    #[serde(default)]
    pub times: u32,
}

/// The pending faults, at most [`MAX_FAULTS`].
#[derive(Default)]
pub(super) struct Faults {
    pending: Vec<Fault>,
    /// The number of times that the faults were cleared. Held requests wait for a change.
    cleared: watch::Sender<u64>,
}

const MAX_FAULTS: usize = 256;

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        if self.pending.len() >= MAX_FAULTS {
            self.pending.remove(0);
        }
        self.pending.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.pending.clear();
        self.cleared.send_modify(|count| *count += 1);
    }

    /// Returns a receiver that changes when the faults are cleared. Call it while the mutex is held for
    /// [`Faults::next`], so that no clearing is missed.
    pub(super) fn cleared(&self) -> watch::Receiver<u64> {
        self.cleared.subscribe()
    }

    /// Returns the oldest fault for this endpoint and counts its use.
    pub(super) fn next(&mut self, endpoint: Endpoint) -> Option<FaultKind> {
        let at = self.pending.iter().position(|fault| fault.endpoint.includes(endpoint))?;
        let fault = self.pending.get_mut(at)?;
        let kind = fault.kind.clone();
        match fault.times {
            0 => {}
            1 => {
                self.pending.remove(at);
            }
            _ => fault.times -= 1,
        }
        Some(kind)
    }
}

/// How long [`FaultKind::Hang`], [`FaultKind::Hold`] and [`FaultKind::HoldReply`] last at most.
pub(super) const MAX_HOLD: Duration = Duration::from_secs(60);

/// Returns the reply of a fault that replaces the endpoint's own.
pub(super) async fn fault_reply(kind: &FaultKind) -> Option<Reply> {
    let page = |status| {
        let html = "<!doctype html><title>Sign in to the network</title><p>Please sign in to use this network.";
        bytes_reply(status, "text/html; charset=utf-8", Bytes::from_static(html.as_bytes()))
    };
    let retry_later = |status, text: &'static str, seconds: &str| {
        let mut reply = bytes_reply(status, "text/plain", Bytes::from_static(text.as_bytes()));
        set_header(&mut reply, header::RETRY_AFTER, seconds);
        reply
    };
    let status = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Some(match kind {
        FaultKind::TooManyRequests { retry_after } => {
            retry_later(StatusCode::TOO_MANY_REQUESTS, "slow down\n", &retry_after.to_string())
        }
        FaultKind::ServerError => {
            json(StatusCode::INTERNAL_SERVER_ERROR, &serde_json::json!({"message": "internal error"}))
        }
        FaultKind::Unavailable => retry_later(StatusCode::SERVICE_UNAVAILABLE, "busy\n", "1"),
        FaultKind::Html => page(StatusCode::OK),
        FaultKind::HtmlError => page(StatusCode::BAD_GATEWAY),
        FaultKind::InvalidJson => {
            bytes_reply(StatusCode::OK, "application/json", Bytes::from_static(b"{\"access_token\": \"\xff"))
        }
        FaultKind::OAuthError { status: code, code: error } => {
            json(status(*code), &serde_json::json!({"error": error, "error_description": "requested fault"}))
        }
        FaultKind::EmptyBody { status: code } => bytes_reply(status(*code), "application/json", Bytes::new()),
        FaultKind::HugeBody => {
            let mut reply = Response::new(HugeBody { remaining_chunks: 1024 }.boxed());
            set_header(&mut reply, header::CONTENT_TYPE, "application/json");
            reply
        }
        FaultKind::Replaced(edit) => {
            let empty = bytes_reply(StatusCode::OK, "application/json", Bytes::from_static(b"{}"));
            edit.apply(empty).await
        }
        FaultKind::Slow { .. }
        | FaultKind::Edited(_)
        | FaultKind::Reset
        | FaultKind::LostReply
        | FaultKind::Hang
        | FaultKind::Hold
        | FaultKind::HoldReply
        | FaultKind::IssuerMismatch
        | FaultKind::InvalidStatusList { .. } => return None,
    })
}

/// A body of chunks of 64 KiB.
struct HugeBody {
    remaining_chunks: u32,
}

// Filled at run time: a constant would be 64 KiB of the program.
static CHUNK: LazyLock<Bytes> = LazyLock::new(|| vec![b' '; 64 * 1024].into());

impl Body for HugeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.remaining_chunks == 0 {
            return Poll::Ready(None);
        }
        self.remaining_chunks -= 1;
        Poll::Ready(Some(Ok(Frame::data(CHUNK.clone()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_apply_as_often_as_their_json_says() {
        let json = r#"{"endpoint":"token","kind":"slow","ms":50,"times":2}"#;
        let fault: Fault = serde_json::from_str(json).expect("a fault");
        assert_eq!(serde_json::to_string(&fault).expect("JSON"), json);
        let json = r#"{"endpoint":"status_list","kind":"invalid_status_list","defect":"wrong_subject","times":1}"#;
        let list: Fault = serde_json::from_str(json).expect("a fault");
        assert_eq!(serde_json::to_string(&list).expect("JSON"), json);
        let json = r#"{"endpoint":"token","kind":"edited","set":{"expires_in":"60"},"status":201,"times":1}"#;
        let edited: Fault = serde_json::from_str(json).expect("a fault");
        assert_eq!(serde_json::to_string(&edited).expect("JSON"), json);
        let mut faults = Faults::default();
        faults.add(fault);
        assert_eq!(faults.next(Endpoint::Jwks), None);
        assert_eq!(faults.next(Endpoint::Token), Some(FaultKind::Slow { ms: 50 }));
        assert_eq!(faults.next(Endpoint::Token), Some(FaultKind::Slow { ms: 50 }));
        assert_eq!(faults.next(Endpoint::Token), None);
    }

    #[test]
    fn metadata_fault_applies_to_both_documents() {
        let mut faults = Faults::default();
        faults.add(Fault { endpoint: Endpoint::AuthorizationServer, kind: FaultKind::Html, times: 1 });
        faults.add(Fault { endpoint: Endpoint::Metadata, kind: FaultKind::HugeBody, times: 2 });
        assert_eq!(faults.next(Endpoint::OpenidConfiguration), Some(FaultKind::HugeBody));
        assert_eq!(faults.next(Endpoint::AuthorizationServer), Some(FaultKind::Html));
        assert_eq!(faults.next(Endpoint::AuthorizationServer), Some(FaultKind::HugeBody));
        assert_eq!(faults.next(Endpoint::OpenidConfiguration), None);
    }
}
