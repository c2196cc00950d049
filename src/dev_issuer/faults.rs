//! Misbehaviour on demand: what a bad network or a bad issuer would do, for the next requests to an endpoint.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame};
use hyper::{Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::edit::ReplyEdit;
use super::wire::{Reply, bytes_reply, json, set};

/// Where requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// Either metadata address.
    Metadata,
    /// The metadata of OpenID Connect Discovery alone.
    OpenidConfiguration,
    /// The metadata of RFC 8414 alone.
    AuthorizationServer,
    /// The JWK Set.
    Jwks,
    /// The authorization endpoint; not the pages that follow it.
    Authorize,
    /// The token endpoint.
    Token,
    /// The device authorization endpoint.
    Device,
    /// The revocation endpoint.
    Revoke,
    /// The introspection endpoint.
    Introspect,
    /// The userinfo endpoint.
    Userinfo,
    /// Any of the status lists.
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
            Self::Userinfo => "userinfo",
            Self::StatusList => "status_list",
        }
    }

    /// Whether a fault that was set for `self` happens at `place`.
    fn covers(self, place: Self) -> bool {
        self == place
            || (self == Self::Metadata && matches!(place, Self::OpenidConfiguration | Self::AuthorizationServer))
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// The request is processed after a delay.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// The connection is closed; the request is not processed.
    Reset,
    /// The request is processed and its effects stay, but the connection is closed instead of a reply.
    LostReply,
    /// 429; not processed.
    TooManyRequests {
        /// Seconds, in the Retry-After header.
        retry_after: u32,
    },
    /// 500 with a JSON body of no OAuth form; not processed.
    ServerError,
    /// 503 with a Retry-After of one second; not processed.
    Unavailable,
    /// 200 with a page for people, as a captive portal sends it; not processed.
    Html,
    /// 502 with a page for people, as a proxy sends it; not processed.
    HtmlError,
    /// 200 that says it is JSON and is not; not processed.
    InvalidJson,
    /// An OAuth error (RFC 6749, section 5.2); not processed.
    OAuthError {
        /// The HTTP status.
        status: u16,
        /// The `error` member.
        code: String,
    },
    /// Nothing but a status; not processed.
    EmptyBody {
        /// The HTTP status.
        status: u16,
    },
    /// 200 with 64 MiB; not processed.
    HugeBody,
    /// No answer for a minute, then the connection is closed; not processed.
    Hang,
    /// The request waits, unprocessed, until the faults are cleared, a minute at most.
    Hold,
    /// The request is processed and its effects stay; its reply waits until the faults are cleared, a minute at most.
    HoldReply,
    /// The request is processed and its effects stay; its reply is changed.
    Edited(ReplyEdit),
    /// A reply that is the edit of an empty one, 200 and JSON; not processed.
    Replaced(ReplyEdit),
    /// Metadata with another `issuer` than was asked; elsewhere nothing goes wrong.
    IssuerMismatch,
    /// A status list that is not to be believed; elsewhere nothing goes wrong.
    InvalidStatusList {
        /// What is wrong with it.
        defect: StatusListDefect,
    },
}

/// What is wrong with a status list. All but [`StatusListDefect::WrongSignature`] are signed as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusListDefect {
    /// It is cut short before it is signed.
    Truncated,
    /// Its signature is another text's.
    WrongSignature,
    /// It ended an hour ago.
    Expired,
    /// It is some 40 KiB, and 32 MiB when it is unpacked.
    DecompressionBomb,
    /// Its `sub` is another list's.
    WrongSubject,
    /// Its `typ` is `JWT`.
    WrongType,
}

/// A fault to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where.
    pub endpoint: Endpoint,
    /// What.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// For how many requests; 0 until cleared.
    #[serde(default)]
    pub times: u32,
}

/// The faults to come, at most [`MAX`].
#[derive(Default)]
pub(super) struct Faults {
    to_come: Vec<Fault>,
    /// Counts the times they were cleared; what is held waits for it to change.
    cleared: watch::Sender<u64>,
}

const MAX: usize = 256;

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        if self.to_come.len() >= MAX {
            self.to_come.remove(0);
        }
        self.to_come.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.to_come.clear();
        self.cleared.send_modify(|count| *count += 1);
    }

    /// Tells when the faults are next cleared. Taken together with the fault, so that no clearing falls between.
    pub(super) fn clearing(&self) -> watch::Receiver<u64> {
        self.cleared.subscribe()
    }

    /// The oldest fault for this endpoint, counted.
    pub(super) fn next(&mut self, endpoint: Endpoint) -> Option<FaultKind> {
        let at = self.to_come.iter().position(|fault| fault.endpoint.covers(endpoint))?;
        let fault = self.to_come.get_mut(at)?;
        let kind = fault.kind.clone();
        match fault.times {
            0 => {}
            1 => {
                self.to_come.remove(at);
            }
            _ => fault.times -= 1,
        }
        Some(kind)
    }
}

/// How long [`FaultKind::Hang`], [`FaultKind::Hold`] and [`FaultKind::HoldReply`] keep a connection at most.
pub(super) const HANG: Duration = Duration::from_secs(60);

/// The false reply of a fault that is one.
pub(super) fn false_reply(kind: &FaultKind) -> Option<Reply> {
    let page = |status| {
        let html = "<!doctype html><title>Sign in to the network</title><p>Please sign in to use this network.";
        bytes_reply(status, "text/html; charset=utf-8", Bytes::from_static(html.as_bytes()))
    };
    let status = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Some(match kind {
        FaultKind::TooManyRequests { retry_after } => {
            let mut reply =
                bytes_reply(StatusCode::TOO_MANY_REQUESTS, "text/plain", Bytes::from_static(b"slow down\n"));
            set(&mut reply, header::RETRY_AFTER, &retry_after.to_string());
            reply
        }
        FaultKind::ServerError => {
            json(StatusCode::INTERNAL_SERVER_ERROR, &serde_json::json!({"message": "internal error"}))
        }
        FaultKind::Unavailable => {
            let mut reply = bytes_reply(StatusCode::SERVICE_UNAVAILABLE, "text/plain", Bytes::from_static(b"busy\n"));
            set(&mut reply, header::RETRY_AFTER, "1");
            reply
        }
        FaultKind::Html => page(StatusCode::OK),
        FaultKind::HtmlError => page(StatusCode::BAD_GATEWAY),
        FaultKind::InvalidJson => {
            bytes_reply(StatusCode::OK, "application/json", Bytes::from_static(b"{\"access_token\": \"\xff"))
        }
        FaultKind::OAuthError { status: code, code: error } => {
            json(status(*code), &serde_json::json!({"error": error, "error_description": "a fault that was asked for"}))
        }
        FaultKind::EmptyBody { status: code } => bytes_reply(status(*code), "application/json", Bytes::new()),
        FaultKind::HugeBody => {
            let mut reply = Response::new(Flood { left: 1024 }.boxed());
            set(&mut reply, header::CONTENT_TYPE, "application/json");
            reply
        }
        FaultKind::Replaced(_) => bytes_reply(StatusCode::OK, "application/json", Bytes::from_static(b"{}")),
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

/// A body of many pieces of 64 KiB.
struct Flood {
    left: u32,
}

static PIECE: [u8; 64 * 1024] = [b' '; 64 * 1024];

impl Body for Flood {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_form_is_pinned_and_faults_run_out() {
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
    fn a_fault_of_both_metadata_documents_is_one_of_each() {
        let mut faults = Faults::default();
        faults.add(Fault { endpoint: Endpoint::AuthorizationServer, kind: FaultKind::Html, times: 1 });
        faults.add(Fault { endpoint: Endpoint::Metadata, kind: FaultKind::HugeBody, times: 2 });
        assert_eq!(faults.next(Endpoint::OpenidConfiguration), Some(FaultKind::HugeBody));
        assert_eq!(faults.next(Endpoint::AuthorizationServer), Some(FaultKind::Html));
        assert_eq!(faults.next(Endpoint::AuthorizationServer), Some(FaultKind::HugeBody));
        assert_eq!(faults.next(Endpoint::OpenidConfiguration), None);
    }
}
