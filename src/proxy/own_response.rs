//! The responses that the proxy gives itself, in place of the API's.

use http_body_util::{Either, Full};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::RequestOutcome;
use super::body::ProxyBody;
use crate::error::{Error, ErrorCode};
use crate::model::RuleName;

/// Why the proxy itself answers.
pub(super) struct OwnResponse {
    pub(super) status: StatusCode,
    pub(super) outcome: RequestOutcome,
    pub(super) title: String,
    pub(super) hint: String,
    /// Whether the same request may succeed a moment later.
    pub(super) is_temporary: bool,
}

impl OwnResponse {
    pub(super) fn refused(status: StatusCode, rule: RuleName, title: impl Into<String>) -> Self {
        Self {
            status,
            outcome: RequestOutcome::Refused(rule),
            title: title.into(),
            hint: String::new(),
            is_temporary: false,
        }
    }

    /// Returns the answer to a request without which the session has no token.
    pub(super) fn without_token(error: &Error) -> Self {
        let status = match error.code.general() {
            ErrorCode::IssuerUnreachable => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let (outcome, hint) = (RequestOutcome::Failed(error.code.as_str()), error.hint.to_string());
        Self { status, outcome, title: error.message(), hint, is_temporary: status == StatusCode::BAD_GATEWAY }
    }

    /// Returns the answer to a request whose body is invalid or ends early. The API had no part in that.
    pub(super) fn incomplete_request() -> Self {
        Self::invalid("request", StatusCode::BAD_REQUEST, "the request's body is invalid or ends early")
    }

    /// Returns the answer to a request with a transfer coding that would be lost (RFC 9112, section 6.1).
    pub(super) fn unsupported_coding() -> Self {
        let title = "the request has a transfer coding other than chunked";
        Self::invalid("request", StatusCode::NOT_IMPLEMENTED, title)
    }

    /// Returns the answer where the API's response has one.
    pub(super) fn unsupported_coding_of_api() -> Self {
        Self::invalid("api", StatusCode::BAD_GATEWAY, "the API's response has a transfer coding other than chunked")
    }

    /// Returns the answer where the API changes to a protocol that the request does not name (RFC 9110, section 15.2.2).
    pub(super) fn unexpected_upgrade() -> Self {
        Self::invalid("api", StatusCode::BAD_GATEWAY, "the API changed to a protocol that the request does not name")
    }

    /// Returns the answer to a message of `sender` that is not passed on.
    pub(super) fn invalid(sender: &'static str, status: StatusCode, title: &str) -> Self {
        let outcome = RequestOutcome::Failed(sender);
        Self { status, outcome, title: title.to_owned(), hint: String::new(), is_temporary: false }
    }

    /// Returns a problem document (RFC 9457).
    pub(super) fn response(self) -> Response<ProxyBody> {
        let code = match self.outcome {
            RequestOutcome::PassedOn => "",
            RequestOutcome::Refused(rule) => rule.as_str(),
            RequestOutcome::Failed(code) => code,
        };
        let body = serde_json::json!({
            "status": self.status.as_u16(), "code": code, "title": self.title, "hint": self.hint,
        });
        let mut response = Response::new(Either::Right(Full::from(body.to_string())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"authctl proxy\""));
            }
            // The end of this request, and so the start of the next, is unknown.
            StatusCode::BAD_REQUEST | StatusCode::NOT_IMPLEMENTED
                if matches!(self.outcome, RequestOutcome::Failed(_)) =>
            {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            StatusCode::BAD_GATEWAY if self.is_temporary => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
