//! One request: checked, given its credentials, passed on, and its response passed back.

use std::sync::Arc;

use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use url::Url;

use super::body::{Kept, KeptBody, ResponseBody};
use super::caller::{self, ClientConnection, InvalidCaller};
use super::headers::{clean_request, clean_response, upgrades};
use super::{Access, Event, Proxy};
use crate::error::{Error, ErrorCode};
use crate::model::CleanPath;
use crate::oauth::{ApiBody, ApiRequestBody, Delivery, IssuerError};

/// Why the proxy itself answers.
struct Answer {
    status: StatusCode,
    /// The stable word of the reason.
    code: &'static str,
    title: String,
    hint: String,
}

impl Answer {
    fn new(status: StatusCode, code: &'static str, title: impl Into<String>) -> Self {
        Self { status, code, title: title.into(), hint: String::new() }
    }

    /// Returns the answer to a request without which the session has no token.
    fn without_token(error: &Error) -> Self {
        let status = match error.code.general() {
            ErrorCode::IssuerUnreachable => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, code: error.code.as_str(), title: error.message(), hint: error.hint.to_string() }
    }

    /// Returns a problem document (RFC 9457).
    fn response(self) -> Response<ResponseBody> {
        let body = serde_json::json!({
            "status": self.status.as_u16(), "code": self.code, "title": self.title, "hint": self.hint,
        });
        let mut response = Response::new(Either::Right(Full::from(body.to_string())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/problem+json"));
        headers.insert(hyper::header::CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(
                    WWW_AUTHENTICATE,
                    hyper::header::HeaderValue::from_static("Bearer realm=\"authctl proxy\""),
                );
            }
            StatusCode::BAD_GATEWAY => {
                headers.insert(RETRY_AFTER, hyper::header::HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl Proxy {
    async fn access(&self, method: &Method, url: &Url) -> Result<Access, Answer> {
        let access = self.credentials.access(method, url, None).await;
        access.map_err(|error| Answer::without_token(&error))
    }
}

/// A request that may be passed on.
struct Checked {
    method: Method,
    url: Url,
    headers: HeaderMap,
}

/// Answers one request.
pub(super) async fn exchange(proxy: &Arc<Proxy>, mut request: Request<Incoming>) -> Response<ResponseBody> {
    let method = request.method().clone();
    let shown = request.uri().path().to_owned();
    let result = match check(proxy, &request) {
        Ok(url) => {
            let connection = request.extensions().get::<Arc<ClientConnection>>().cloned();
            let upgrade = upgrades(request.headers()).then(|| (hyper::upgrade::on(&mut request), connection));
            let (parts, body) = request.into_parts();
            let mut headers = parts.headers;
            clean_request(&mut headers);
            send(proxy, Checked { method: method.clone(), url, headers }, body, upgrade).await
        }
        Err(answer) => Err(answer),
    };
    let (response, refused_by) = match result {
        Ok(response) => (response, None),
        Err(answer) => {
            let code = answer.code;
            (answer.response(), Some(code))
        }
    };
    proxy.report(&Event { method: &method, path: &shown, status: response.status(), refused_by });
    response
}

/// Checks the caller, the path and the rules; returns where the request is sent.
fn check(proxy: &Proxy, request: &Request<Incoming>) -> Result<Url, Answer> {
    let (uri, headers) = (request.uri(), request.headers());
    caller::check(&proxy.listening, &proxy.key, request.version(), uri, headers).map_err(|error| {
        let (status, code) = match error {
            InvalidCaller::Key => (StatusCode::UNAUTHORIZED, "key"),
            InvalidCaller::Host => (StatusCode::MISDIRECTED_REQUEST, "host"),
            InvalidCaller::Origin => (StatusCode::FORBIDDEN, "origin"),
        };
        Answer::new(status, code, error.to_string())
    })?;
    if let Some(connection) = request.extensions().get::<Arc<ClientConnection>>() {
        connection.accept_caller();
    }
    let path = CleanPath::parse(uri.path())
        .map_err(|error| Answer::new(StatusCode::BAD_REQUEST, "path", error.to_string()))?;
    let refused = |rule, title: String| Answer::new(StatusCode::FORBIDDEN, rule, title);
    proxy
        .rules
        .check(request.method().as_str(), &path)
        .map_err(|refusal| refused(refusal.rule(), refusal.to_string()))?;
    // Nothing says what is sent after it.
    if proxy.rules.read_only && upgrades(headers) {
        return Err(refused("read-only", "read-only: the connection cannot become a WebSocket".to_owned()));
    }
    let url = proxy
        .target
        .resolve(&path, uri.query())
        .ok_or_else(|| refused("for", format!("{path} is not below {}", proxy.target)))?;
    if !proxy.count_request() {
        return Err(Answer::new(
            StatusCode::TOO_MANY_REQUESTS,
            "max-requests",
            "the proxy has passed on as many requests as --max-requests allows",
        ));
    }
    Ok(url)
}

/// Sends the request with its credentials, once more after a refresh if the API refuses the token.
async fn send(
    proxy: &Arc<Proxy>,
    request: Checked,
    body: Incoming,
    upgrade: Option<(hyper::upgrade::OnUpgrade, Option<Arc<ClientConnection>>)>,
) -> Result<Response<ResponseBody>, Answer> {
    let has_body = !body.is_end_stream();
    let (body, kept) = KeptBody::new(body);
    let access = proxy.access(&request.method, &request.url).await?;
    let mut request = request;
    if has_body && body.size_hint().exact().is_none() {
        // Without it, the client for the API would leave out the body of a GET request.
        request.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let first = if has_body { ApiRequestBody::wrap(body) } else { ApiRequestBody::default() };
    let mut response = forward(&access, &request, first, upgrade.is_some()).await?;
    if response.status() == StatusCode::UNAUTHORIZED
        && let Some(again) = resend(proxy, &request, &access, &response, &kept).await
    {
        response = again;
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some((client, connection)) = upgrade
    {
        let api = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(client), Ok(api)) = (client.await, api.await) {
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(api)).await;
            }
            // It counts as a connection until here.
            drop(connection);
        });
    }
    *response.version_mut() = Version::HTTP_11;
    clean_response(response.headers_mut(), &proxy.target, &proxy.base, &request.url);
    Ok(response.map(Either::Left))
}

/// Sends a request whose token was refused a second time, with another token; returns `None` if there is none, or if its body
/// is gone.
async fn resend(
    proxy: &Arc<Proxy>,
    request: &Checked,
    refused: &Access,
    response: &Response<ApiBody>,
    kept: &Kept,
) -> Option<Response<ApiBody>> {
    let body = kept.whole()?;
    if !proxy.count_request() {
        return None;
    }
    let refused = Some((refused, response.headers()));
    let fresh = proxy.credentials.access(&request.method, &request.url, refused).await.ok()?;
    forward(&fresh, request, ApiRequestBody::from(body), false).await.ok()
}

async fn forward(
    access: &Access,
    request: &Checked,
    body: ApiRequestBody,
    upgrades: bool,
) -> Result<Response<ApiBody>, Answer> {
    let mut headers = request.headers.clone();
    for (name, value) in &access.headers {
        headers.insert(name.clone(), value.clone());
    }
    debug_assert!(headers.contains_key(AUTHORIZATION));
    access.api.send(request.method.clone(), request.url.clone(), headers, body, upgrades).await.map_err(|error| {
        let is_late = matches!(error, IssuerError::Unreachable { delivery: Delivery::MaybeSent, .. });
        let status = if is_late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
        Answer::new(status, "api", error.to_string())
    })
}
