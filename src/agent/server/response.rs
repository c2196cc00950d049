//! Builds responses: JSON, problem documents (RFC 9457), and the stream of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::agent::protocol::Problem;
use crate::error::{Error, ErrorCode, Hint};
use crate::secret::SecretBytes;
use crate::text::SafeJson;

/// A response's body: complete, or a stream of events.
pub(super) enum ResponseBody {
    Whole(Option<Bytes>),
    Events(mpsc::Receiver<String>),
}

impl Body for ResponseBody {
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

/// A response.
pub(super) type AgentResponse = Response<ResponseBody>;

/// A body that is wiped from memory after it was sent.
struct WipedBody(SecretBytes);

impl AsRef<[u8]> for WipedBody {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// The initial capacity of a body, enough for most tokens.
const INITIAL_CAPACITY: usize = 4096;

fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> AgentResponse {
    let mut response = Response::new(ResponseBody::Whole(Some(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns 200 with this value as JSON.
pub(super) fn json(value: &impl Serialize) -> AgentResponse {
    match to_json(value) {
        Ok(body) => ok(body),
        Err(error) => problem(&error),
    }
}

/// Serializes a value that may hold a token, into bytes that are wiped when they are dropped.
///
/// # Errors
/// None for the types of this program.
pub(super) fn to_json(value: &impl Serialize) -> Result<Bytes, Error> {
    let mut body = SecretBytes::with_capacity(INITIAL_CAPACITY);
    let mut serializer = serde_json::Serializer::with_formatter(&mut body, SafeJson);
    value.serialize(&mut serializer).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))?;
    Ok(Bytes::from_owner(WipedBody(body)))
}

/// Returns 200 with a body serialized before.
pub(super) fn ok(json: Bytes) -> AgentResponse {
    whole(StatusCode::OK, "application/json", json)
}

/// Returns 200 with static JSON text.
pub(super) fn text(json: &'static str) -> AgentResponse {
    whole(StatusCode::OK, "application/json", Bytes::from_static(json.as_bytes()))
}

/// Returns 200 with a stream of events.
pub(super) fn stream(events: mpsc::Receiver<String>) -> AgentResponse {
    let mut response = Response::new(ResponseBody::Events(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns the HTTP status for an error.
fn status(error: &Error) -> StatusCode {
    match error.code {
        ErrorCode::UnknownProfile | ErrorCode::UnknownPath => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RequestTimedOut => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::AgentLocked => StatusCode::LOCKED,
        ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::AnotherHome => StatusCode::MISDIRECTED_REQUEST,
        ErrorCode::WorkloadUnavailable => StatusCode::SERVICE_UNAVAILABLE,
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

/// Describes an error.
pub(super) fn document(error: &Error) -> Problem {
    let (note, command) = error.hint.parts();
    Problem {
        status: status(error).as_u16(),
        code: error.code,
        title: error.message(),
        hint: command.unwrap_or_default(),
        note,
        exit_code: error.code.exit_code(),
    }
}

/// Returns the response with the problem document for an error.
pub(super) fn problem(error: &Error) -> AgentResponse {
    let status = status(error);
    let body = to_json(&document(error)).unwrap_or_default();
    let mut response = whole(status, "application/problem+json", body);
    match status {
        // A 401 response must have a challenge (RFC 9110, section 11.6.1).
        StatusCode::UNAUTHORIZED => {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("authctl-login"));
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // The unread rest of the body would be taken for the next request.
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

/// Returns the problem document, with `Retry-After` in seconds if that is known.
pub(super) fn problem_with_retry(error: &Error, seconds: Option<u64>) -> AgentResponse {
    let mut response = problem(error);
    if let Some(seconds) = seconds.filter(|_| response.headers().contains_key(RETRY_AFTER)) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

/// Returns the hint for a program whose request is wrong.
pub(super) fn see_openapi() -> Hint {
    Hint::advice("see /v1/openapi.json")
}

/// Returns 405 with the allowed method.
pub(super) fn not_allowed(allowed: &'static str) -> AgentResponse {
    let message = format!("only {allowed} is allowed");
    let error = Error::msg(ErrorCode::MethodNotAllowed, message, see_openapi());
    let mut response = problem(&error);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_no_characters_that_change_a_screen() {
        let hostile = "ann\u{9b}31m\u{202e}\u{7f}\u{1b}[2J";
        let error = Error::msg(ErrorCode::Usage, hostile, Hint::None);
        let documents = [to_json(&hostile).expect("JSON"), to_json(&error.message()).expect("JSON")];
        for document in documents {
            let text = std::str::from_utf8(&document).expect("UTF-8");
            assert!(text.is_ascii() && !text.contains(|c: char| c.is_control()), "{text:?}");
        }
        assert_eq!(serde_json::from_slice::<String>(&to_json(&hostile).expect("JSON")).expect("a string"), hostile);
    }
}
