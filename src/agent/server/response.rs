//! Writes answers: JSON, problem documents with the failure's own words, and the stream of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::agent::protocol::Problem;
use crate::error::{Error, ErrorCode};
use crate::secret::SecretBytes;

/// An answer's body: whole, or events as they come.
pub(super) enum Content {
    Whole(Option<Bytes>),
    Events(mpsc::Receiver<String>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(events) => {
                events.poll_recv(context).map(|event| event.map(|text| Ok(Frame::data(Bytes::from(text)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// An answer.
pub(super) type Answer = Response<Content>;

/// Bytes on their way out that are wiped once they have gone.
struct Wiped(SecretBytes);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// Longer than most tokens with what is said about them: a body seldom has to grow.
const USUAL: usize = 4096;

fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Content::Whole(Some(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// 200 with this value.
pub(super) fn json(value: &impl Serialize) -> Answer {
    match written(value) {
        Ok(body) => ready(body),
        Err(failure) => problem(&failure),
    }
}

/// This value, which may hold a token, in bytes that are wiped when the last who holds them lets go.
///
/// # Errors
/// None that a value of this program has.
pub(super) fn written(value: &impl Serialize) -> Result<Bytes, Error> {
    let mut body = SecretBytes::with_capacity(USUAL);
    serde_json::to_writer(&mut body, value).map_err(|e| Error::new(ErrorCode::Unexpected, e, "report this"))?;
    Ok(Bytes::from_owner(Wiped(body)))
}

/// 200 with what was written before.
pub(super) fn ready(json: Bytes) -> Answer {
    whole(StatusCode::OK, "application/json", json)
}

/// 200 with text that is JSON already.
pub(super) fn text(json: &'static str) -> Answer {
    whole(StatusCode::OK, "application/json", Bytes::from_static(json.as_bytes()))
}

/// 200 with events as they come.
pub(super) fn stream(events: mpsc::Receiver<String>) -> Answer {
    let mut answer = Response::new(Content::Events(events));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The HTTP status for a failure.
fn status(failure: &Error) -> StatusCode {
    match failure.code {
        ErrorCode::UnknownProfile | ErrorCode::UnknownPath => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RequestTimedOut => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::AgentLocked => StatusCode::LOCKED,
        ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::AnotherHome => StatusCode::MISDIRECTED_REQUEST,
        code => match code.general() {
            ErrorCode::Usage => StatusCode::BAD_REQUEST,
            ErrorCode::LoginRequired => StatusCode::UNAUTHORIZED,
            ErrorCode::TokenDenied | ErrorCode::AgentUnavailable => StatusCode::FORBIDDEN,
            ErrorCode::IssuerRefused => StatusCode::BAD_GATEWAY,
            ErrorCode::IssuerUnreachable | ErrorCode::StoreUnavailable | ErrorCode::Interrupted => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

/// The problem document for a failure.
pub(super) fn problem(failure: &Error) -> Answer {
    let status = status(failure);
    let document = Problem {
        status: status.as_u16(),
        code: failure.code,
        title: failure.message(),
        hint: failure.next(),
        exit_code: failure.code.exit_code(),
    };
    let body = serde_json::to_vec(&document).unwrap_or_default();
    let mut answer = whole(status, "application/problem+json", Bytes::from(body));
    match status {
        // RFC 9110, section 11.6.1 wants to be told how; the document says it in words.
        StatusCode::UNAUTHORIZED => {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("authctl-login"));
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // What was not read would be taken for the next request.
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    answer
}

/// The same, with the seconds after which another try is of use.
pub(super) fn problem_for(failure: &Error, seconds: Option<u64>) -> Answer {
    let mut answer = problem(failure);
    if let Some(seconds) = seconds.filter(|_| answer.headers().contains_key(RETRY_AFTER)) {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    answer
}

/// 405 with the method that is allowed.
pub(super) fn not_allowed(allowed: &'static str) -> Answer {
    let message = format!("only {allowed} is answered here");
    let failure = Error::msg(ErrorCode::MethodNotAllowed, message, "see /v1/openapi.json");
    let mut answer = problem(&failure);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}
