//! The requests that endpoints read, and the replies they return.

use std::borrow::Cow;
use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

use crate::secret::{Secret, SecretBytes};

/// An HTTP response.
pub(super) type Reply = Response<BoxBody<Bytes, Infallible>>;

const MAX_SCOPES: usize = 64;
const MAX_SCOPE_LENGTH: usize = 256;
const MAX_AUDIENCES: usize = 16;
const MAX_AUDIENCE_LENGTH: usize = 1024;

/// Form or query parameters. All values are treated as secrets because some are.
pub(super) struct Params {
    pairs: Vec<(String, Secret)>,
    /// The thumbprint of the key of which a proof came with the form (DPoP).
    pub(super) jkt: Option<String>,
}

impl Params {
    /// Parses `application/x-www-form-urlencoded`. Parameters without a value count as omitted (RFC 6749, section 3.1).
    pub(super) fn parse(encoded: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(encoded);
        let pairs = pairs.filter(|(_, value)| !value.is_empty());
        let pairs = pairs.map(|(name, value)| (name.into_owned(), Secret::new(value.into_owned()))).collect();
        Self { pairs, jkt: None }
    }

    /// Returns the first value of `name`.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.expose())
    }

    /// Returns all values of `name`.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(n, _)| n == name).map(|(_, value)| value.expose().to_owned()).collect()
    }

    /// Returns the value of `name`, or the error that it is missing.
    pub(super) fn required(&self, name: &str) -> Result<&str, OAuthError> {
        self.one(name).ok_or_else(|| OAuthError::invalid_request(format!("{name} is missing")))
    }

    /// Returns the requested scopes without duplicates (RFC 6749, section 3.3).
    pub(super) fn scopes(&self) -> Result<Vec<String>, OAuthError> {
        let text = self.one("scope").unwrap_or_default();
        let mut scopes: Vec<String> = Vec::new();
        for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
            let valid = scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
            if !valid || scope.len() > MAX_SCOPE_LENGTH || scopes.len() >= MAX_SCOPES {
                return Err(OAuthError::bad_request("invalid_scope", "a scope is invalid, or there are too many"));
            }
            if !scopes.iter().any(|known| known == scope) {
                scopes.push(scope.to_owned());
            }
        }
        Ok(scopes)
    }

    /// Returns the requested audiences: `audience` and `resource` (RFC 8707, section 2).
    pub(super) fn audiences(&self) -> Result<Vec<String>, OAuthError> {
        let resources = self.all("resource");
        for resource in &resources {
            if url::Url::parse(resource).is_err() || resource.contains('#') {
                let rule = "a resource must be an absolute URI without a fragment";
                return Err(OAuthError::bad_request("invalid_target", rule));
            }
        }
        let mut audiences = self.all("audience");
        audiences.extend(resources);
        audiences.dedup();
        if audiences.len() > MAX_AUDIENCES || audiences.iter().any(|audience| audience.len() > MAX_AUDIENCE_LENGTH) {
            return Err(OAuthError::bad_request("invalid_target", "too many audiences, or one is too long"));
        }
        Ok(audiences)
    }

    /// Returns whether a parameter is repeated (RFC 6749, section 3.2), other than `resource` (RFC 8707, section 2) and
    /// `audience`.
    pub(super) fn has_duplicates(&self) -> bool {
        self.pairs.iter().enumerate().any(|(at, (name, _))| {
            name != "resource" && name != "audience" && self.pairs.iter().skip(at + 1).any(|(later, _)| later == name)
        })
    }
}

/// A request whose body has been read.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Params,
    pub(super) body: SecretBytes,
}

impl Request {
    /// Returns the body as a form if it has that content type.
    pub(super) fn form(&self) -> Result<Params, OAuthError> {
        let kind = self.header(header::CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(OAuthError::invalid_request("the body must be application/x-www-form-urlencoded"));
        }
        let form = Params::parse(self.body.expose());
        if form.has_duplicates() {
            return Err(OAuthError::invalid_request("a parameter is repeated"));
        }
        Ok(form)
    }

    /// Returns the value of a header if it is text.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the credentials of the Authorization header if it has this scheme.
    fn credentials(&self, scheme: &str) -> Option<&str> {
        let (name, rest) = self.header(header::AUTHORIZATION)?.split_once(' ')?;
        name.eq_ignore_ascii_case(scheme).then(|| rest.trim())
    }

    /// Returns the token that is bound to a key (RFC 9449, section 7.1).
    pub(super) fn bound_token(&self) -> Option<&str> {
        self.credentials("DPoP")
    }

    /// Returns the bearer token (RFC 6750, section 2.1).
    pub(super) fn bearer(&self) -> Option<&str> {
        self.credentials("Bearer")
    }

    /// Returns client ID and secret, which were form-encoded before they were joined (RFC 6749, section 2.3.1).
    pub(super) fn basic(&self) -> Option<(String, Secret)> {
        let joined = SecretBytes::new(STANDARD.decode(self.credentials("Basic")?).ok()?);
        let (id, secret) = std::str::from_utf8(joined.expose()).ok()?.split_once(':')?;
        let decoded = |text: &str| -> Option<String> {
            let line = Secret::new(format!("v={text}"));
            url::form_urlencoded::parse(line.expose().as_bytes()).next().map(|(_, value)| value.into_owned())
        };
        Some((decoded(id)?, Secret::new(decoded(secret)?)))
    }
}

/// An error response (RFC 6749, section 5.2).
#[derive(Debug)]
pub(super) struct OAuthError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) description: Cow<'static, str>,
    /// Seconds.
    pub(super) retry_after: Option<u64>,
}

impl OAuthError {
    pub(super) fn new(status: StatusCode, code: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, description: description.into(), retry_after: None }
    }

    pub(super) fn bad_request(code: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, description)
    }

    pub(super) fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::bad_request("invalid_request", description)
    }

    pub(super) fn invalid_grant(description: &'static str) -> Self {
        Self::bad_request("invalid_grant", description)
    }

    pub(super) fn invalid_client() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", "unknown client or wrong client authentication")
    }

    pub(super) fn rate_limited(retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", "too many failed attempts")
        }
    }

    pub(super) fn reply(&self) -> Reply {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            error_description: &'a str,
        }
        let mut reply = json(self.status, &Body { error: self.code, error_description: &self.description });
        if self.code == "invalid_client" {
            set_header(&mut reply, header::WWW_AUTHENTICATE, "Basic realm=\"authctl dev issuer\"");
        }
        if let Some(seconds) = self.retry_after {
            set_header(&mut reply, header::RETRY_AFTER, &seconds.to_string());
        }
        reply
    }
}

/// Random generation and signing are the only cryptographic operations that can fail here.
impl From<aws_lc_rs::error::Unspecified> for OAuthError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "a cryptographic operation failed")
    }
}

/// Bytes that are zeroed when dropped.
struct Zeroizing(SecretBytes);

impl AsRef<[u8]> for Zeroizing {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// Returns a JSON reply that must not be cached (RFC 6749, section 5.1).
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let mut bytes = SecretBytes::default();
    // Writing to memory cannot fail, and all map keys are strings.
    let _ = serde_json::to_writer(&mut bytes, body);
    let mut reply = bytes_reply(status, "application/json", Bytes::from_owner(Zeroizing(bytes)));
    set_header(&mut reply, header::CACHE_CONTROL, "no-store");
    set_header(&mut reply, header::PRAGMA, "no-cache");
    reply
}

/// Returns a reply with this body.
pub(super) fn bytes_reply(status: StatusCode, content_type: &str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body).boxed());
    *reply.status_mut() = status;
    if !content_type.is_empty() {
        set_header(&mut reply, header::CONTENT_TYPE, content_type);
    }
    set_header(&mut reply, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    reply
}

/// Returns a reply without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    bytes_reply(status, "", Bytes::new())
}

/// Returns 405 with the methods that are allowed.
pub(super) fn not_allowed(methods: &str) -> Reply {
    let mut reply = empty(StatusCode::METHOD_NOT_ALLOWED);
    set_header(&mut reply, header::ALLOW, methods);
    reply
}

/// Redirects the browser with a GET.
pub(super) fn see_other(location: &str) -> Reply {
    let mut reply = empty(StatusCode::SEE_OTHER);
    set_header(&mut reply, header::LOCATION, location);
    set_header(&mut reply, header::CACHE_CONTROL, "no-store");
    set_header(&mut reply, header::REFERRER_POLICY, "no-referrer");
    reply
}

/// Sets a header. A value with characters that a header cannot carry is left out.
pub(super) fn set_header(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}
