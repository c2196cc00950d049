//! Requests as the endpoints read them, and the replies they give.

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

/// A reply on its way out.
pub(super) type Reply = Response<BoxBody<Bytes, Infallible>>;

/// Form or query parameters. All values are treated as secrets, since some are.
pub(super) struct Params(Vec<(String, Secret)>);

impl Params {
    /// Parses `application/x-www-form-urlencoded`. Parameters without a value count as omitted (RFC 6749, section 3.1).
    pub(super) fn parse(encoded: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(encoded);
        Self(
            pairs
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.into_owned(), Secret::new(value.into_owned())))
                .collect(),
        )
    }

    /// The value of `name`.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.expose())
    }

    /// Every value of `name`.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.expose().to_owned()).collect()
    }

    /// Whether a parameter stands there twice that may not (RFC 6749, section 3.2; RFC 8707, section 2 allows
    /// `resource`).
    pub(super) fn repeats(&self) -> bool {
        self.0.iter().enumerate().any(|(at, (name, _))| {
            name != "resource" && name != "audience" && self.0.iter().skip(at + 1).any(|(later, _)| later == name)
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
    /// The body as a form, where it says that it is one.
    pub(super) fn form(&self) -> Result<Params, OAuthError> {
        let kind = self.header(header::CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(OAuthError::invalid_request("the body must be application/x-www-form-urlencoded"));
        }
        let form = Params::parse(self.body.expose());
        if form.repeats() {
            return Err(OAuthError::invalid_request("a parameter is repeated"));
        }
        Ok(form)
    }

    /// A header that is text.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What follows `scheme` in the Authorization header.
    fn credentials(&self, scheme: &str) -> Option<&str> {
        let (said, rest) = self.header(header::AUTHORIZATION)?.split_once(' ')?;
        said.eq_ignore_ascii_case(scheme).then(|| rest.trim())
    }

    /// The bearer token (RFC 6750, section 2.1).
    pub(super) fn bearer(&self) -> Option<&str> {
        self.credentials("Bearer")
    }

    /// Client identifier and secret, each form-encoded before they were joined (RFC 6749, section 2.3.1).
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

/// A refusal in the form of RFC 6749, section 5.2.
#[derive(Debug)]
pub(super) struct OAuthError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) description: &'static str,
    /// Seconds.
    pub(super) retry_after: Option<u64>,
}

impl OAuthError {
    pub(super) fn new(status: StatusCode, code: &'static str, description: &'static str) -> Self {
        Self { status, code, description, retry_after: None }
    }

    pub(super) fn bad(code: &'static str, description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, description)
    }

    pub(super) fn invalid_request(description: &'static str) -> Self {
        Self::bad("invalid_request", description)
    }

    pub(super) fn invalid_grant(description: &'static str) -> Self {
        Self::bad("invalid_grant", description)
    }

    pub(super) fn invalid_client() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", "unknown client, or wrong client authentication")
    }

    pub(super) fn too_many_tries(retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "temporarily_unavailable",
                "too many wrong tries, try again later",
            )
        }
    }

    pub(super) fn reply(&self) -> Reply {
        #[derive(Serialize)]
        struct Body {
            error: &'static str,
            error_description: &'static str,
        }
        let mut reply = json(self.status, &Body { error: self.code, error_description: self.description });
        if self.code == "invalid_client" {
            set(&mut reply, header::WWW_AUTHENTICATE, "Basic realm=\"authctl dev issuer\"");
        }
        if let Some(seconds) = self.retry_after {
            set(&mut reply, header::RETRY_AFTER, &seconds.to_string());
        }
        reply
    }
}

/// Randomness or a signature failed; nothing else in here can.
impl From<aws_lc_rs::error::Unspecified> for OAuthError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "a cryptographic operation failed")
    }
}

/// Bytes that are wiped when the last reference to them goes.
struct Wiped(SecretBytes);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// A JSON reply that is not to be kept by anybody (RFC 6749, section 5.1).
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    let mut bytes = SecretBytes::default();
    // Writing to memory does not fail, and no type here has keys other than strings.
    let _ = serde_json::to_writer(&mut bytes, body);
    let mut reply = bytes_reply(status, "application/json", Bytes::from_owner(Wiped(bytes)));
    set(&mut reply, header::CACHE_CONTROL, "no-store");
    set(&mut reply, header::PRAGMA, "no-cache");
    reply
}

/// A reply of any kind.
pub(super) fn bytes_reply(status: StatusCode, kind: &str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body).boxed());
    *reply.status_mut() = status;
    if !kind.is_empty() {
        set(&mut reply, header::CONTENT_TYPE, kind);
    }
    set(&mut reply, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    reply
}

/// An empty reply.
pub(super) fn empty(status: StatusCode) -> Reply {
    bytes_reply(status, "", Bytes::new())
}

/// Sends the browser on with a GET, whatever it came with.
pub(super) fn see_other(location: &str) -> Reply {
    let mut reply = empty(StatusCode::SEE_OTHER);
    set(&mut reply, header::LOCATION, location);
    set(&mut reply, header::CACHE_CONTROL, "no-store");
    set(&mut reply, header::REFERRER_POLICY, "no-referrer");
    reply
}

/// Sets a header; one that could not be sent is left out.
pub(super) fn set(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}
