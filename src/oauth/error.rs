//! Errors of requests to an authorization server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::UntrustedFile;
use crate::model::{Dpop, ErrorCode, InsecureUrl, TokenSet, span};
use crate::text::excerpt;

/// How far a request came before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The name of the server, or of the proxy, could not be resolved.
    Dns,
    /// No connection to the server, or to the proxy, was made.
    Connect,
    /// The proxy was connected but did not connect to the server.
    Proxy,
    /// The TLS handshake failed, or the server's certificate is invalid.
    Tls,
    /// The server's certificate is signed by an unknown authority.
    UnknownAuthority,
    /// The server's response to the TLS handshake is not TLS.
    NoTls,
    /// The connection was made, but no complete response arrived.
    Exchange,
    /// The response is not valid HTTP.
    InvalidResponse,
}

/// Whether the server may have received a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// No byte of the request was sent, or the server has refused to process it, so it may be sent again.
    NotSent,
    /// Some or all of the request may have arrived and been processed. A refresh token in it may be spent.
    MaybeSent,
    /// The same, and the connection has ended: no response to it can arrive any more.
    ResponseLost,
}

/// An error response (RFC 6749, sections 4.1.2.1 and 5.2; RFC 8628, section 3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthError {
    /// The `error` parameter, such as `invalid_grant`; one line of at most 100 characters.
    pub code: String,
    /// The `error_description`, one line of at most 300 characters.
    pub description: Option<String>,
    /// The HTTP status; `None` if the error came through the browser.
    pub status: Option<u16>,
}

impl OAuthError {
    /// Shortens both texts to one line.
    pub(super) fn new(code: &str, description: Option<&str>, status: Option<u16>) -> Self {
        let description = description.map(|d| excerpt(d.trim(), 300)).filter(|d| !d.is_empty());
        Self { code: excerpt(code.trim(), 100), description, status }
    }

    /// Returns whether the grant is gone for good: `invalid_grant` with status 400, 401 or 403. Nothing else ends a
    /// session.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        self.code == "invalid_grant" && matches!(self.status, Some(400 | 401 | 403))
    }

    /// Whether it is a refusal, and not a request to try again later.
    fn is_refusal(&self) -> bool {
        !matches!(self.code.as_str(), "temporarily_unavailable" | "server_error" | "slow_down")
            && self.status.is_some_and(|status| status < 300 || is_refusal_status(status))
    }
}

/// Whether a status refuses a request for what it is: 4xx, but for those of a proxy (407), of timing (408, 425) and of rate
/// limits (429).
pub(super) fn is_refusal_status(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 407 | 408 | 425 | 429)
}

impl std::fmt::Display for OAuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.description {
            Some(description) => write!(f, "{}: {description}", self.code),
            None => f.write_str(&self.code),
        }
    }
}

/// Why a request to an authorization server failed. Holds no secret and no part of a body.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A URL that is neither https nor http on loopback.
    #[error("{0}")]
    Insecure(#[from] InsecureUrl),
    /// The metadata, or the authorization response (RFC 9207), is another issuer's.
    #[error("expected issuer `{expected}`, found `{found}`")]
    IssuerMismatch {
        /// The configured issuer.
        expected: String,
        /// The issuer in the response.
        found: String,
    },
    /// The metadata of an API is of another resource (RFC 9728, section 3.3).
    #[error("the metadata of {api} is of another resource, `{found}`")]
    ResourceMismatch {
        /// The URL of the API.
        api: String,
        /// The resource in the metadata.
        found: String,
    },
    /// There is no metadata at the address of the issuer.
    #[error("{url} is not an issuer: it returned HTTP {status} for its metadata")]
    NotAnIssuer {
        /// The configured issuer.
        url: String,
        /// 404 or 410.
        status: u16,
    },
    /// The issuer's metadata has no such endpoint or grant.
    #[error("the issuer does not offer {what}")]
    Unsupported {
        /// The missing member of the metadata.
        what: &'static str,
    },
    /// No complete response.
    #[error("{message}")]
    Unreachable {
        /// What failed, with the host and the proxy.
        message: String,
        /// The host and port of the proxy on the way. `None` too if the server's own name could not be resolved.
        proxy: Option<String>,
        /// How far the request came.
        phase: Phase,
        /// Whether the server may have received it.
        delivery: Delivery,
    },
    /// Keys that cannot be used.
    #[error("the keys at {from} cannot be used: {what}")]
    InvalidKeys {
        /// The URL of the keys.
        from: String,
        /// Why.
        what: String,
    },
    /// The server is unavailable: 408, 425, 429 or 5xx.
    #[error("{host} returned HTTP {status}")]
    Unavailable {
        /// The host.
        host: String,
        /// 408, 425, 429 or 500 to 599.
        status: u16,
        /// The `Retry-After` header, at most an hour.
        retry_after: Option<Duration>,
    },
    /// An OAuth error response: the server, or the user there, refused.
    #[error("the issuer refused: {0}")]
    Refused(OAuthError),
    /// A 4xx in the issuer's own words, but without an OAuth error: an empty body, or other JSON. Also a success with JSON that has
    /// neither tokens nor an error.
    #[error("{message}")]
    Rejected {
        /// The host, the status and what the body is.
        message: String,
        /// The HTTP status. The URL is probably wrong if it is 404 or 405.
        status: u16,
        /// Whether it refuses what was sent. A gateway may be the author of a success without tokens, as during maintenance.
        is_refusal: bool,
    },
    /// The same for a document that is public, so that no client was refused.
    #[error("{message}")]
    NoDocument {
        /// The host, the status and what the body is.
        message: String,
    },
    /// Tokens of a type that authctl cannot use (RFC 6749, section 7.1). The issuer has processed the request.
    #[error("the issuer returned a token of type `{found}`, which was not requested")]
    TokenType {
        /// The `token_type`, one line of at most 40 characters.
        found: String,
    },
    /// Bearer tokens where tokens bound to the client's key are required (RFC 9449, section 5). The issuer has processed the
    /// request.
    #[error("the issuer returned a token that is not bound to the key of the session (DPoP)")]
    NotBound,
    /// A token that is bound to another key than the one whose proof was sent with the request (RFC 9449, section 6). The
    /// issuer has processed the request.
    #[error("the issuer returned a token that is bound to another key than that of the session (DPoP)")]
    BoundElsewhere,
    /// A refresh returned tokens of another subject. The issuer has processed the request.
    #[error("the issuer returned tokens of `{found}` for the session of `{expected}`; none is used")]
    OtherSubject {
        /// The subject of the session, one line of at most 80 characters.
        expected: String,
        /// The subject in the response, one line of at most 80 characters.
        found: String,
    },
    /// A token exchange returned a token for another audience. It is not used.
    #[error("the issuer returned a token for {found}")]
    OtherAudience {
        /// The audiences in the token, one line of at most 200 characters.
        found: String,
    },
    /// A response that does not follow the protocol.
    #[error("{from} returned {what}")]
    InvalidResponse {
        /// The host, `the browser`, or `the pasted address`.
        from: String,
        /// A description that quotes none of its text.
        what: String,
        /// Whether the URL is probably wrong: a web page with status 404 or 405, or a redirect.
        wrong_address: bool,
    },
    /// A response of a login API without a JWT in the expected member.
    #[error("{from} returned no JWT in `{names}`")]
    NoJwt {
        /// The host.
        from: String,
        /// The members that were looked for.
        names: String,
    },
    /// The user did not finish the login in time.
    #[error("login timed out after {}", span(*.limit))]
    LoginTimedOut {
        /// The time limit of the login.
        limit: Duration,
    },
    /// The file of additional certificate authorities cannot be used.
    #[error("cannot read CA certificates from `{path}` (--ca-cert or SSL_CERT_FILE): {detail}")]
    CaCertificates {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// Other users can write to the file of certificate authorities or of the client's key.
    #[error(transparent)]
    UntrustedFile(#[from] UntrustedFile),
    /// The environment names a proxy whose address is invalid. The address may hold a password.
    #[error("invalid proxy address in {variable}")]
    InvalidProxy {
        /// `HTTPS_PROXY` or `ALL_PROXY`, or one of them in lower case.
        variable: &'static str,
    },
    /// The client's private key cannot be used.
    #[error("{}: {detail}", unusable_key(path))]
    ClientKey {
        /// The file; empty if none is configured.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// This machine could not provide what the request needs, such as a port or random bytes.
    #[error("cannot {action}: {detail}")]
    Local {
        /// What failed, as a verb phrase.
        action: &'static str,
        /// Why.
        detail: String,
    },
}

impl IssuerError {
    /// Returns the stable code, which decides the exit code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Rejected { status: 404 | 405, .. } => ErrorCode::IssuerUnreachable,
            Self::Insecure(_)
            | Self::Unsupported { .. }
            | Self::Refused(_)
            | Self::Rejected { .. }
            | Self::NoDocument { .. }
            | Self::InvalidKeys { .. }
            | Self::OtherAudience { .. } => ErrorCode::IssuerRefused,
            Self::IssuerMismatch { .. } | Self::ResourceMismatch { .. } | Self::OtherSubject { .. } => {
                ErrorCode::IssuerMismatch
            }
            Self::TokenType { .. } | Self::NotBound | Self::BoundElsewhere => ErrorCode::TokenType,
            Self::NotAnIssuer { .. }
            | Self::Unreachable { .. }
            | Self::Unavailable { .. }
            | Self::InvalidResponse { .. }
            | Self::NoJwt { .. } => ErrorCode::IssuerUnreachable,
            Self::LoginTimedOut { .. } => ErrorCode::LoginRequired,
            Self::CaCertificates { .. }
            | Self::UntrustedFile(_)
            | Self::InvalidProxy { .. }
            | Self::ClientKey { .. } => ErrorCode::Configuration,
            Self::Local { .. } => ErrorCode::Unexpected,
        }
    }

    /// Returns the error for `tokens` of a type that cannot be used. Bound tokens can if there is a key, of which a proof was
    /// sent with their request, and bearer tokens unless `setting` requires bound ones.
    #[must_use]
    pub fn for_token_type(tokens: &TokenSet, has_key: bool, setting: Dpop) -> Option<Self> {
        match (tokens.is_bound(), has_key) {
            (true, true) => None,
            (false, _) if tokens.is_bearer() => (setting == Dpop::Always).then_some(Self::NotBound),
            _ => Some(Self::TokenType { found: excerpt(&tokens.token_type, 40) }),
        }
    }

    /// Whether the request may have been acted on, and its response is lost: the connection has ended, or a gateway answered
    /// in the issuer's place.
    #[must_use]
    pub fn is_response_lost(&self) -> bool {
        match self {
            Self::Unreachable { delivery, .. } => *delivery == Delivery::ResponseLost,
            // RFC 9110, sections 15.5.9 and 15.6, and those of a large network of gateways.
            Self::Unavailable { status, .. } => matches!(status, 408 | 502..=504 | 520..=527 | 530),
            _ => false,
        }
    }

    /// Returns how long the server asks to wait before the next request (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns whether the issuer may have processed the request, and so used up a refresh token.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Unreachable { delivery, .. } => *delivery != Delivery::NotSent,
            Self::Unavailable { status, .. } => !matches!(status, 425 | 429),
            Self::InvalidResponse { .. } | Self::NoJwt { .. } => true,
            Self::Insecure(_)
            | Self::IssuerMismatch { .. }
            | Self::ResourceMismatch { .. }
            | Self::NotAnIssuer { .. }
            | Self::Unsupported { .. }
            | Self::Refused(_)
            | Self::Rejected { .. }
            | Self::NoDocument { .. }
            | Self::InvalidKeys { .. }
            | Self::OtherSubject { .. }
            | Self::OtherAudience { .. }
            | Self::TokenType { .. }
            | Self::NotBound
            | Self::BoundElsewhere
            | Self::LoginTimedOut { .. }
            | Self::CaCertificates { .. }
            | Self::UntrustedFile(_)
            | Self::InvalidProxy { .. }
            | Self::ClientKey { .. }
            | Self::Local { .. } => false,
        }
    }

    /// Whether the issuer refused in its own words, and not only for now. A web page, which may be a proxy's, is no refusal.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_refusal(),
            Self::Rejected { is_refusal, .. } => *is_refusal,
            _ => false,
        }
    }

    /// Returns whether the issuer refused the requested audience, scope or resource (RFC 6749, section 5.2; RFC 8707, section 2).
    #[must_use]
    pub fn is_about_target(&self) -> bool {
        matches!(self, Self::Refused(error) if matches!(error.code.as_str(), "invalid_scope" | "invalid_target"))
    }

    /// Returns whether the issuer refused the grant for good ([`OAuthError::ends_session`]).
    #[must_use]
    pub fn ends_session(&self) -> bool {
        matches!(self, Self::Refused(error) if error.ends_session())
    }
}

fn unusable_key(path: &Path) -> String {
    match path.to_str() {
        Some("") => "private_key_jwt needs a client key".to_owned(),
        _ => format!("cannot use the client key `{}`", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_invalid_grant_with_status_400_401_or_403_ends_a_session() {
        for (code, status, ends) in [
            ("invalid_grant", Some(400), true),
            ("invalid_grant", Some(401), true),
            ("invalid_grant", Some(403), true),
            ("invalid_grant", Some(200), false),
            ("invalid_grant", Some(500), false),
            ("invalid_grant", None, false),
            ("invalid_client", Some(401), false),
            ("INVALID_GRANT", Some(400), false),
        ] {
            assert_eq!(OAuthError::new(code, None, status).ends_session(), ends, "{code} {status:?}");
        }
    }

    #[test]
    fn refusal_is_distinguished_from_a_request_to_try_later() {
        for (code, status, refuses) in [
            ("invalid_request", Some(400), true),
            ("bad_refresh_token", Some(200), true),
            ("own_word", Some(422), true),
            ("temporarily_unavailable", Some(400), false),
            ("server_error", Some(403), false),
            ("slow_down", Some(400), false),
            ("invalid_grant", Some(429), false),
            ("invalid_grant", Some(408), false),
            ("invalid_grant", Some(302), false),
            ("access_denied", None, false),
        ] {
            let error = IssuerError::Refused(OAuthError::new(code, None, status));
            assert_eq!(error.is_refusal(), refuses, "{code} {status:?}");
        }
    }

    #[test]
    fn refusal_without_error_code_counts_and_retry_after_is_respected() {
        assert!(IssuerError::Rejected { message: String::new(), status: 403, is_refusal: true }.is_refusal());
        let retry_after = Some(Duration::from_secs(9));
        let unavailable = IssuerError::Unavailable { host: String::new(), status: 503, retry_after };
        assert_eq!((unavailable.retry_after(), unavailable.is_refusal()), (retry_after, false));
        assert_eq!(IssuerError::Unsupported { what: "x" }.retry_after(), None);
    }

    #[test]
    fn response_is_lost_with_the_connection_or_in_a_gateway() {
        let unreachable = |delivery| IssuerError::Unreachable {
            message: String::new(),
            proxy: None,
            phase: Phase::Exchange,
            delivery,
        };
        let wait = |seconds| Some(Duration::from_secs(seconds));
        let unavailable = |status, retry_after| IssuerError::Unavailable { host: String::new(), status, retry_after };
        let invalid = IssuerError::InvalidResponse { from: String::new(), what: String::new(), wrong_address: false };
        for (error, is_lost, is_in_doubt) in [
            (unreachable(Delivery::ResponseLost), true, true),
            (unreachable(Delivery::MaybeSent), false, true),
            (unreachable(Delivery::NotSent), false, false),
            (unavailable(502, None), true, true),
            (unavailable(504, None), true, true),
            (unavailable(502, wait(1)), true, true),
            (unavailable(500, None), false, true),
            (unavailable(500, wait(1)), false, true),
            (unavailable(503, None), true, true),
            (unavailable(503, wait(1)), true, true),
            (unavailable(501, None), false, true),
            (unavailable(505, None), false, true),
            (unavailable(519, None), false, true),
            (unavailable(520, None), true, true),
            (unavailable(524, None), true, true),
            (unavailable(527, wait(1)), true, true),
            (unavailable(528, None), false, true),
            (unavailable(530, None), true, true),
            (unavailable(408, None), true, true),
            (unavailable(408, wait(1)), true, true),
            (unavailable(425, None), false, false),
            (unavailable(429, None), false, false),
            (unavailable(429, wait(1)), false, false),
            (invalid, false, true),
            (IssuerError::NoJwt { from: String::new(), names: String::new() }, false, true),
            (IssuerError::Rejected { message: String::new(), status: 400, is_refusal: true }, false, false),
            (IssuerError::TokenType { found: "mac".into() }, false, false),
        ] {
            assert_eq!((error.is_response_lost(), error.is_in_doubt()), (is_lost, is_in_doubt), "{error:?}");
        }
    }

    #[test]
    fn error_response_is_shortened_to_one_line() {
        let error = OAuthError::new("a\nb", Some(&format!("\r\nx{}", "y".repeat(400))), Some(400));
        assert!(!error.code.contains('\n'), "{error}");
        let description = error.description.expect("some");
        assert!(description.chars().count() <= 301 && !description.contains(['\r', '\n']), "{description}");
        assert_eq!(OAuthError::new("x", Some(" \n"), None).description, None);
    }
}
