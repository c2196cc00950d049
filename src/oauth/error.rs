//! What can go wrong between authctl and an authorization server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{ErrorCode, InsecureUrl, TokenSet};
use crate::ui::sanitize_for_terminal;

/// How far a request came before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The name could not be resolved: the server's, or the proxy's where there is one that is asked for by name.
    Dns,
    /// No connection, to the server or to the proxy in front of it.
    Connect,
    /// A connection to the proxy, which made none to the server.
    Proxy,
    /// A connection, but no trusted TLS session over it.
    Tls,
    /// The request was being sent or its answer was awaited.
    Exchange,
    /// The answer broke off.
    Read,
}

impl Phase {
    fn what(self, proxy: Option<&str>) -> String {
        let plain = match (self, proxy) {
            (Self::Dns, Some(proxy)) => return format!("the name of the proxy {proxy} could not be resolved"),
            (Self::Connect, Some(proxy)) => return format!("no connection to or through the proxy {proxy}"),
            (Self::Proxy, Some(proxy)) => return format!("the proxy {proxy} gives no connection to it"),
            (Self::Dns, None) => "its name could not be resolved",
            (Self::Connect | Self::Proxy, None) => "no connection",
            (Self::Tls, _) => "no trusted TLS connection",
            (Self::Exchange, _) => "no answer",
            (Self::Read, _) => "the answer broke off",
        };
        proxy.map_or_else(|| plain.to_owned(), |proxy| format!("{plain}, by way of the proxy {proxy}"))
    }
}

/// Whether the server may have seen a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Not one byte of the request was sent: it may be sent again.
    No,
    /// Some or all of it may have arrived and been acted on. A refresh token in it may be spent.
    Maybe,
}

/// An error response (RFC 6749, sections 4.1.2.1 and 5.2; RFC 8628, section 3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthError {
    /// The `error` parameter, such as `invalid_grant`; at most 100 printable characters.
    pub code: String,
    /// The `error_description`, at most 300 characters, control characters replaced.
    pub description: Option<String>,
    /// The HTTP status; `None` where the error came through the browser.
    pub status: Option<u16>,
}

impl OAuthError {
    /// Makes both texts fit to be shown.
    pub(super) fn new(code: &str, description: Option<&str>, status: Option<u16>) -> Self {
        let description = description.map(|d| sanitize_for_terminal(d.trim(), 300)).filter(|d| !d.is_empty());
        Self { code: sanitize_for_terminal(code.trim(), 100), description, status }
    }

    /// Whether the grant itself is gone for good: `invalid_grant`, said with a status that goes with it. Nothing else
    /// ends a session.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        self.code == "invalid_grant" && matches!(self.status, Some(400 | 401 | 403))
    }
}

impl std::fmt::Display for OAuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.description {
            Some(description) => write!(f, "{}: {description}", self.code),
            None => f.write_str(&self.code),
        }
    }
}

/// Why a conversation with an authorization server failed. Holds no secret and no body.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// An address that nothing is sent to.
    #[error("{0}")]
    Insecure(#[from] InsecureUrl),
    /// The metadata, or the redirect (RFC 9207), is another issuer's.
    #[error("expected issuer `{expected}`, found `{found}`")]
    Mismatch {
        /// The issuer asked.
        expected: String,
        /// The issuer that answered.
        found: String,
    },
    /// The issuer's metadata has no such endpoint or grant.
    #[error("the issuer does not offer {what}")]
    Unsupported {
        /// What is missing, in the metadata's words.
        what: &'static str,
    },
    /// No complete answer.
    #[error("{host} cannot be reached: {}{}", .phase.what(.proxy.as_deref()), parenthesised(.detail))]
    Unreachable {
        /// The host and, where it is not the scheme's own, the port.
        host: String,
        /// The proxy that the request went to, or was to go to; its host and port alone. `None` too where it was the
        /// server's own name that could not be resolved.
        proxy: Option<String>,
        /// How far it came.
        phase: Phase,
        /// Whether the server may have seen the request.
        reached: Reached,
        /// The cause, most often in the library's words; at most 200 characters.
        detail: String,
    },
    /// The server answered that it cannot answer now: 429 or 5xx.
    #[error("{host} is busy or out of order (status {status})")]
    Busy {
        /// The host.
        host: String,
        /// 429 or 500 to 599.
        status: u16,
        /// The `Retry-After` header, at most an hour.
        retry_after: Option<Duration>,
    },
    /// The server, or the user at it, said no.
    #[error("the issuer refused: {0}")]
    Refused(OAuthError),
    /// Tokens of a type that authctl cannot use (RFC 6749, section 7.1). The issuer has acted on the request.
    #[error("the issuer gave a token of the type `{found}`, and authctl can only use bearer tokens")]
    TokenType {
        /// The `token_type`, at most 40 printable characters.
        found: String,
    },
    /// An answer that is none of what the protocol has.
    #[error("{from} sent {what}")]
    Malformed {
        /// Who sent it: a host, `the browser`, or `the pasted address`.
        from: String,
        /// What it was, without any of its text.
        what: String,
        /// Whether that is what comes where nothing of the kind is served: 404, 405, or a redirect elsewhere.
        misplaced: bool,
    },
    /// An answer of a login API without a JWT where one is looked for.
    #[error("{from} answered without a JWT in `{names}`")]
    NoJwt {
        /// The host.
        from: String,
        /// The members that were looked for.
        names: String,
    },
    /// Nobody finished signing in.
    #[error("nobody signed in within {}", minutes(.limit))]
    TimedOut {
        /// How long was waited.
        limit: Duration,
    },
    /// The file of further certificate authorities cannot be used.
    #[error("`{path}` holds no usable certificate authorities: {detail}")]
    CaCert {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The proxy that the environment names is not understood, and nothing goes around it. Its address may hold a password.
    #[error("the proxy in {variable} cannot be used: its address is not understood")]
    Proxy {
        /// `HTTPS_PROXY`, `ALL_PROXY`, or one of them in small letters.
        variable: &'static str,
    },
    /// The client's private key cannot be used.
    #[error("{}: {detail}", unusable_key(path))]
    ClientKey {
        /// The file; empty where none is named.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// This machine refused what the request needs: a port on loopback, or random bytes.
    #[error("this machine gave no {what}: {detail}")]
    Local {
        /// What is missing.
        what: &'static str,
        /// Why.
        detail: String,
    },
}

impl IssuerError {
    /// Returns the stable code, which decides the exit code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Insecure(_) | Self::Unsupported { .. } | Self::Refused(_) => ErrorCode::IssuerRefused,
            Self::Mismatch { .. } => ErrorCode::IssuerMismatch,
            Self::TokenType { .. } => ErrorCode::TokenType,
            Self::Unreachable { .. } | Self::Busy { .. } | Self::Malformed { .. } | Self::NoJwt { .. } => {
                ErrorCode::IssuerUnreachable
            }
            Self::TimedOut { .. } => ErrorCode::LoginRequired,
            Self::CaCert { .. } | Self::Proxy { .. } | Self::ClientKey { .. } => ErrorCode::Configuration,
            Self::Local { .. } => ErrorCode::Unexpected,
        }
    }

    /// The error for `tokens` that authctl cannot use; `None` where it can.
    #[must_use]
    pub fn of_type(tokens: &TokenSet) -> Option<Self> {
        (!tokens.is_bearer()).then(|| Self::TokenType { found: sanitize_for_terminal(&tokens.token_type, 40) })
    }

    /// How long the server wants to be left alone, where it said so (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it is certain that the request never left this machine, so that sending it again cannot spend anything
    /// twice.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        match self {
            Self::Insecure(_)
            | Self::Unsupported { .. }
            | Self::CaCert { .. }
            | Self::Proxy { .. }
            | Self::ClientKey { .. }
            | Self::Local { .. } => true,
            Self::Unreachable { reached, .. } => *reached == Reached::No,
            Self::Mismatch { .. }
            | Self::Busy { .. }
            | Self::Refused(_)
            | Self::TokenType { .. }
            | Self::Malformed { .. }
            | Self::NoJwt { .. }
            | Self::TimedOut { .. } => false,
        }
    }

    /// Whether the issuer itself said that the grant is gone ([`OAuthError::ends_session`]).
    #[must_use]
    pub fn ends_session(&self) -> bool {
        matches!(self, Self::Refused(error) if error.ends_session())
    }
}

fn unusable_key(path: &Path) -> String {
    match path.to_str() {
        Some("") => "the client is to sign for itself (private_key_jwt)".to_owned(),
        _ => format!("the client's key `{}` cannot be used", path.display()),
    }
}

fn parenthesised(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}

fn minutes(limit: &Duration) -> String {
    match limit.as_secs() {
        seconds if seconds < 120 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_invalid_grant_with_a_fitting_status_ends_a_session() {
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
    fn what_an_issuer_says_cannot_move_the_cursor() {
        let error = OAuthError::new("a\u{1b}[2J", Some(&format!("\r\n\u{202e}x{}", "y".repeat(400))), Some(400));
        assert_eq!(error.code, "a\u{fffd}[2J");
        let description = error.description.expect("some");
        assert!(description.chars().count() <= 301 && description.chars().all(|c| !c.is_control()), "{description}");
        assert!(!description.contains('\u{202e}'));
        assert_eq!(OAuthError::new("x", Some(" \n"), None).description, None);
    }
}
