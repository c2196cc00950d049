//! One request: checked, given its credentials, passed on, and its response passed back.

use std::sync::Arc;

use http_body_util::{Either, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use url::Url;

use super::body::{BodyRecord, ProxyBody, RecordedBody, ResponseBody};
use super::caller::{self, ClientConnection, InvalidCaller};
use super::headers::{DPOP_NONCE, clean_request, clean_response, has_other_coding, other_method, other_path, upgrades};
use super::own_response::OwnResponse;
use super::{Access, ApiProxy, ProxyEvent, RequestOutcome, Wanted};
use crate::error::Error;
use crate::model::{CleanPath, RuleName};
use crate::oauth::{ApiBody, ApiChallenge, ApiRequestBody, Delivery, IssuerError, Phase};

/// How many nonces are tried for one request.
const MAX_NONCES: u8 = 2;

/// A request that may be passed on, if the profile allows it.
struct CheckedRequest {
    method: Method,
    /// As the caller sent it.
    uri: Uri,
    path: CleanPath,
    url: Url,
    headers: HeaderMap,
    /// The header by which some servers take it for one with another method.
    other_method: Option<&'static str>,
    /// Whether it changes the protocol of its connection.
    upgrades: bool,
}

/// Credentials that the API has refused.
struct Refused<'a> {
    access: &'a Access,
    challenge: ApiChallenge,
    /// The nonce of that response.
    nonce: Option<String>,
}

impl CheckedRequest {
    async fn send(&self, access: &Access, body: ApiRequestBody) -> Result<Response<ApiBody>, IssuerError> {
        let mut headers = self.headers.clone();
        for (name, value) in &access.headers {
            headers.insert(name.clone(), value.clone());
        }
        debug_assert!(headers.contains_key(AUTHORIZATION));
        access.api.send(self.method.clone(), self.url.clone(), headers, body, self.upgrades).await
    }

    async fn access(&self, proxy: &ApiProxy, refused: Option<Refused<'_>>) -> Result<Arc<Access>, Error> {
        if refused.is_none()
            && let Some(access) = proxy.credentials.reusable()
        {
            return Ok(access);
        }
        // A nonce may be valid for one request only.
        let nonce = refused.as_ref().and_then(|refused| refused.nonce.clone()).or_else(|| proxy.nonce.get());
        let refused = refused.map(|Refused { access, challenge, .. }| {
            let sent = access.headers.iter().find(|(name, _)| *name == AUTHORIZATION).map(|(_, value)| value.clone());
            (sent.unwrap_or_else(|| HeaderValue::from_static("")), challenge)
        });
        let wanted = Wanted { method: self.method.clone(), url: self.url.clone(), nonce };
        proxy.credentials.access(wanted, refused).await
    }
}

/// Answers one request.
pub(super) async fn exchange(
    proxy: &Arc<ApiProxy>,
    connection: &Arc<ClientConnection>,
    mut request: Request<Incoming>,
) -> Response<ProxyBody> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let result = match check(proxy, connection, &request) {
        Ok((path, url, other_method)) => {
            let upgrade = upgrades(request.headers());
            let upgrade = upgrade.then(|| (hyper::upgrade::on(&mut request), Arc::clone(connection)));
            let (parts, body) = request.into_parts();
            let mut headers = parts.headers;
            clean_request(&mut headers);
            let upgrades = upgrade.is_some();
            send(
                proxy,
                CheckedRequest { method: method.clone(), uri: uri.clone(), path, url, headers, other_method, upgrades },
                body,
                upgrade,
            )
            .await
        }
        Err(answer) => Err(answer),
    };
    let (response, outcome) = match result {
        Ok(response) => (response, RequestOutcome::PassedOn),
        Err(answer) => {
            let outcome = answer.outcome;
            (answer.response(), outcome)
        }
    };
    proxy.report(&ProxyEvent { method: &method, path: uri.path(), status: response.status(), outcome });
    response
}

/// Checks the caller, the path and the proxy's own rules; returns the path, where the request is sent, and the header by which some
/// servers take it for one with another method.
fn check(
    proxy: &ApiProxy,
    connection: &ClientConnection,
    request: &Request<Incoming>,
) -> Result<(CleanPath, Url, Option<&'static str>), OwnResponse> {
    let (uri, headers) = (request.uri(), request.headers());
    caller::check(&proxy.listening, &proxy.key, request.version(), uri, headers).map_err(|error| {
        let (status, rule) = match error {
            InvalidCaller::Key => (StatusCode::UNAUTHORIZED, RuleName::Key),
            InvalidCaller::Host => (StatusCode::MISDIRECTED_REQUEST, RuleName::Host),
            InvalidCaller::Origin => (StatusCode::FORBIDDEN, RuleName::Origin),
        };
        OwnResponse::refused(status, rule, error.to_string())
    })?;
    connection.accept_caller();
    if has_other_coding(headers) {
        return Err(OwnResponse::unsupported_coding());
    }
    let invalid_path = |title| OwnResponse::refused(StatusCode::BAD_REQUEST, RuleName::Path, title);
    if let Some(header) = other_path(headers) {
        return Err(invalid_path(format!("{header} names another path")));
    }
    let path = CleanPath::parse(uri.path()).map_err(|error| invalid_path(error.to_string()))?;
    let refused = |rule, title: String| OwnResponse::refused(StatusCode::FORBIDDEN, rule, title);
    let other_method = other_method(headers);
    proxy
        .rules
        .check(request.method().as_str(), &path, other_method, upgrades(headers))
        .map_err(|refusal| refused(refusal.rule(), refusal.to_string()))?;
    let url = proxy
        .target
        .resolve(&path, uri.query())
        .ok_or_else(|| refused(RuleName::For, format!("{path} is not below {}", proxy.target)))?;
    Ok((path, url, other_method))
}

/// Checks the rules of the profile and the number of requests.
fn admit(proxy: &ApiProxy, request: &CheckedRequest, access: &Access) -> Result<(), OwnResponse> {
    let checked = access.rules.check(request.method.as_str(), &request.path, request.other_method, request.upgrades);
    checked.map_err(|refusal| {
        OwnResponse::refused(
            StatusCode::FORBIDDEN,
            refusal.rule_of_profile(),
            format!("the profile's rules: {refusal}"),
        )
    })?;
    if proxy.count_request() {
        return Ok(());
    }
    let title = "the proxy has passed on as many requests as --max-requests or proxy_max_requests allows";
    Err(OwnResponse::refused(StatusCode::TOO_MANY_REQUESTS, RuleName::MaxRequests, title))
}

/// Sends the request with its credentials, and again with others if the API refuses them.
async fn send(
    proxy: &Arc<ApiProxy>,
    mut request: CheckedRequest,
    body: Incoming,
    upgrade: Option<(hyper::upgrade::OnUpgrade, Arc<ClientConnection>)>,
) -> Result<Response<ProxyBody>, OwnResponse> {
    let access = request.access(proxy, None).await.map_err(|error| OwnResponse::without_token(&error))?;
    admit(proxy, &request, &access)?;
    // Of a request whose body the client can copy, it would make copies to send again, which it never does.
    let (mut first, mut record) = (ApiRequestBody::wrap(Empty::<Bytes>::new()), None);
    if !body.is_end_stream() {
        if body.size_hint().exact().is_none() {
            // Without it, the client for the API would leave out the body of a GET request.
            request.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let (body, copy) = RecordedBody::new(body);
        (first, record) = (ApiRequestBody::wrap(body), Some(copy));
    }
    let mut response = forward(proxy, &access, &request, first, record.as_deref(), None).await?;
    if let Some(again) = resend(proxy, &request, access, &response, record.as_deref()).await {
        response = again;
    }
    if has_other_coding(response.headers()) {
        return Err(OwnResponse::unsupported_coding_of_api());
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let asked = upgrade.filter(|_| upgrades(response.headers()));
        let (client, connection) = asked.ok_or_else(OwnResponse::unexpected_upgrade)?;
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
    let (proxy, status, CheckedRequest { method, uri, .. }) = (Arc::clone(proxy), response.status(), request);
    // The head is sent by then.
    let report_failure = move || {
        let is_of_caller = record.as_ref().is_some_and(|record| record.has_failed());
        let outcome = RequestOutcome::Failed(if is_of_caller { "request" } else { "api" });
        proxy.report(&ProxyEvent { method: &method, path: uri.path(), status, outcome });
    };
    Ok(response.map(|body| Either::Left(ResponseBody::new(body, report_failure))))
}

/// Sends a request whose credentials were refused again: once with another token, and with the nonces that the API wants, of which
/// one may have expired on the way. Returns `None` if neither is possible, if its body is gone, or if no more requests may be
/// passed on.
async fn resend(
    proxy: &Arc<ApiProxy>,
    request: &CheckedRequest,
    mut access: Arc<Access>,
    response: &Response<ApiBody>,
    record: Option<&BodyRecord>,
) -> Option<Response<ApiBody>> {
    let (mut nonces, mut has_token) = (0, false);
    let mut last = None;
    loop {
        let refusing = last.as_ref().unwrap_or(response);
        let Some(challenge) = refusal(refusing) else { break };
        let nonce = nonce(refusing);
        if challenge.wants_nonce() {
            nonces += 1;
        } else if std::mem::replace(&mut has_token, true) {
            break;
        }
        if nonces > MAX_NONCES {
            break;
        }
        let refused = Refused { access: &access, challenge, nonce: nonce.clone() };
        let Ok(fresh) = request.access(proxy, Some(refused)).await else { break };
        let Some(body) = whole(record) else { break };
        if !proxy.count_request() {
            break;
        }
        access = fresh;
        match forward(proxy, &access, request, body.into(), record, nonce).await {
            Ok(response) => last = Some(response),
            Err(_) => break,
        }
    }
    last
}

/// Returns the whole body of a request, of which this is the record; `None` if it is gone.
fn whole(record: Option<&BodyRecord>) -> Option<Bytes> {
    record.map_or_else(|| Some(Bytes::new()), BodyRecord::whole)
}

/// Returns the challenge of a response that refuses the credentials: an empty one if it has none.
fn refusal(response: &Response<ApiBody>) -> Option<ApiChallenge> {
    let values = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let challenge = ApiChallenge::parse(values).unwrap_or_default();
    match response.status() {
        StatusCode::UNAUTHORIZED => Some(challenge),
        StatusCode::FORBIDDEN => Some(challenge).filter(ApiChallenge::wants_scope),
        _ => None,
    }
}

/// Sends the request. `record` is what is recorded of its body, and `asked_nonce` the nonce that the API has asked for.
async fn forward(
    proxy: &ApiProxy,
    access: &Access,
    request: &CheckedRequest,
    body: ApiRequestBody,
    record: Option<&BodyRecord>,
    asked_nonce: Option<String>,
) -> Result<Response<ApiBody>, OwnResponse> {
    let mut sent = request.send(access, body).await;
    let again = match &sent {
        // An API may close an idle connection just when a request arrives on it (RFC 9112, section 9.3.1).
        Err(IssuerError::Unreachable { delivery: Delivery::ResponseLost, phase: Phase::Exchange, .. }) => {
            (request.method.is_safe() && !request.upgrades && record.is_none()).then(Bytes::new)
        }
        // The API has refused it, and not processed it.
        Err(IssuerError::Unreachable { delivery: Delivery::NotSent, phase: Phase::Exchange, .. }) => whole(record),
        _ => None,
    };
    if let Some(body) = again
        && let Ok(fresh) = request.access(proxy, None).await
        && proxy.count_request()
    {
        sent = request.send(&fresh, body.into()).await;
    }
    let response = sent.map_err(|error| {
        if record.is_some_and(BodyRecord::has_failed) {
            return OwnResponse::incomplete_request();
        }
        let is_late = matches!(error, IssuerError::Unreachable { delivery: Delivery::MaybeSent, .. });
        let status = if is_late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
        let is_temporary = matches!(
            error,
            IssuerError::Unreachable { phase: Phase::Dns | Phase::Connect | Phase::Proxy | Phase::Exchange, .. }
        );
        let (outcome, title) = (RequestOutcome::Failed("api"), error.to_string());
        OwnResponse { status, outcome, title, hint: String::new(), is_temporary }
    })?;
    // The nonce of a refusal may be for one proof: that of the same request when it is sent again. Others use it once it has helped.
    if !refusal(&response).is_some_and(|challenge| challenge.wants_nonce()) {
        proxy.nonce.update(nonce(&response).or(asked_nonce).as_deref());
    }
    Ok(response)
}

/// Returns the nonce of a response for the next proof (RFC 9449, section 8.2).
fn nonce(response: &Response<ApiBody>) -> Option<String> {
    response.headers().get(DPOP_NONCE).and_then(|nonce| nonce.to_str().ok()).map(str::to_owned)
}
