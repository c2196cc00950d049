//! Parses token endpoint responses (RFC 6749, sections 5.1 and 5.2), including common deviations of real issuers.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use url::form_urlencoded;

use super::error::{IssuerError, OAuthError};
use super::form::repeats_secret;
use super::http_response::HttpResponse;
use super::lenient_json::{LenientString, LenientValue, Lifetime, secret};
use crate::clock::UnixTime;
use crate::model::TokenSet;
use crate::secret::Secret;
use crate::text::excerpt;

/// The error codes of the RFCs, which are shown even if a short secret is part of one.
const KNOWN_CODES: [&str; 13] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
    "authorization_pending",
    "slow_down",
    "expired_token",
    "unsupported_token_type",
    "mfa_required",
];

/// A response of the token endpoint.
pub(super) enum TokenEndpointResponse {
    /// A successful response (section 5.1).
    Tokens(TokenSet),
    /// An error response (section 5.2).
    Error(ErrorResponse),
}

/// An error response, with a member that some issuers add.
pub(super) struct ErrorResponse {
    pub(super) error: OAuthError,
    /// Identifies a password grant that needs a one-time code as well.
    pub(super) mfa_token: Option<Secret>,
}

/// Parses the response to a request that carried the secrets `sent` and was sent at `sent_at`.
///
/// # Errors
/// [`IssuerError::Unavailable`] for 408, 425, 429 and 5xx, [`IssuerError::InvalidResponse`] for anything that is neither tokens
/// nor an error response.
pub(super) fn parse_token_response(
    response: &HttpResponse,
    sent: &[Secret],
    sent_at: UnixTime,
) -> Result<TokenEndpointResponse, IssuerError> {
    if let Some(error) = response.unavailable() {
        return Err(error);
    }
    let success = response.is_success();
    let expected = if success { "a token response" } else { "an OAuth error response" };
    let invalid = |what: &str| IssuerError::InvalidResponse {
        from: response.host.clone(),
        what: what.to_owned(),
        wrong_address: false,
    };
    let members = response.object::<Members>();
    // Without tokens nothing was redeemed.
    let has_tokens = members.as_ref().is_none_or(|members| TOKENS.iter().any(|name| members.contains_key(*name)));
    let wire = parse(response).ok_or_else(|| match &members {
        Some(_) if success => invalid("a token response with a duplicate or mistyped member"),
        _ => response.unexpected(expected),
    })?;
    // An `error` beside tokens is ignored: they are redeemed.
    let has_token = success && wire.access_token.as_ref().is_some_and(|token| !token.is_empty() && is_vschar(token));
    if let Some(error) = wire.error_response(response.status, sent).filter(|_| !has_token) {
        return if success || (400..500).contains(&response.status) {
            Ok(TokenEndpointResponse::Error(error))
        } else {
            Err(response.unexpected(expected))
        };
    }
    if !success {
        return Err(response.unexpected(expected));
    }
    if let Some(refusal) = response.own_refusal(expected).filter(|_| !has_tokens) {
        return Err(refusal);
    }
    let refresh_lifetime = wire.refresh_lifetime();
    let access_token =
        wire.access_token.filter(|t| !t.is_empty()).ok_or_else(|| invalid("a token response without access_token"))?;
    if !is_vschar(&access_token) {
        return Err(invalid("a token with invalid characters (RFC 6749, appendix A)"));
    }
    // What was redeemed for these tokens is spent, so any other member that is unusable counts as absent.
    let usable = |token: Option<Secret>| token.filter(|token| !token.is_empty() && is_vschar(token));
    // The type and the scope are shown: neither may repeat a secret.
    let secrets = [&wire.refresh_token, &wire.id_token, &wire.mfa_token].into_iter().flatten().chain([&access_token]);
    let secrets: Vec<Secret> = secrets.cloned().collect();
    let is_echo = |text: &String| repeats_secret(&secrets, text) || repeats_secret(sent, text);
    let is_type =
        |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:/".contains(&b)) && !is_echo(name);
    let token_type = wire.token_type.0.map(|name| name.trim().to_owned()).filter(is_type);
    Ok(TokenEndpointResponse::Tokens(TokenSet {
        access_token,
        token_type: token_type.unwrap_or_else(|| "Bearer".to_owned()),
        refresh_token: usable(wire.refresh_token),
        id_token: usable(wire.id_token),
        obtained_at: sent_at,
        issuer_time: response.date,
        expires_at: wire.expires_in.0.map(|lifetime| sent_at.plus(lifetime)),
        refresh_expires_at: refresh_lifetime.map(|lifetime| sent_at.plus(lifetime)),
        scope: wire.scope.0.filter(|scope| !is_echo(scope)),
    }))
}

/// The members that are tokens. A response without them has redeemed nothing.
const TOKENS: [&str; 3] = ["access_token", "refresh_token", "id_token"];

/// Parses an error response (section 5.2) of any endpoint.
pub(super) fn parse_error_response(response: &HttpResponse, sent: &[Secret]) -> Option<OAuthError> {
    parse(response).and_then(|wire| wire.error_response(response.status, sent)).map(|response| response.error)
}

/// Returns whether it is printable ASCII (appendix A), and so has no line end that would split a header.
pub(super) fn is_vschar(token: &Secret) -> bool {
    token.expose().bytes().all(|b| (0x20..0x7f).contains(&b))
}

fn parse(response: &HttpResponse) -> Option<Wire> {
    if response.content_type.as_deref() == Some("application/x-www-form-urlencoded") {
        return from_form(response.text());
    }
    response.object()
}

/// Any JSON object.
type Members = std::collections::HashMap<String, IgnoredAny>;

/// The members of both kinds of response, since some issuers send errors with status 200. A duplicate member makes the
/// response invalid.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    #[serde(deserialize_with = "secret")]
    access_token: Option<Secret>,
    token_type: LenientString,
    expires_in: Lifetime,
    /// The lifetime of the refresh token, which no RFC defines: as Microsoft, GitHub and others call it, and as Keycloak does.
    refresh_token_expires_in: Lifetime,
    refresh_expires_in: Lifetime,
    #[serde(deserialize_with = "secret")]
    refresh_token: Option<Secret>,
    #[serde(deserialize_with = "secret")]
    id_token: Option<Secret>,
    scope: Scope,
    error: ErrorMember,
    error_description: LenientString,
    #[serde(deserialize_with = "secret")]
    mfa_token: Option<Secret>,
}

impl Wire {
    /// Returns the lifetime of the refresh token.
    fn refresh_lifetime(&self) -> Option<Duration> {
        self.refresh_token_expires_in.0.or(self.refresh_expires_in.0)
    }

    fn error_response(&self, status: u16, sent: &[Secret]) -> Option<ErrorResponse> {
        let code = self.error.code.as_deref()?;
        let description = self.error_description.0.as_deref().or(self.error.message.as_deref());
        let own = [&self.access_token, &self.refresh_token, &self.id_token, &self.mfa_token].into_iter().flatten();
        let secrets: Vec<Secret> = sent.iter().chain(own).cloned().collect();
        // More than is shown: what is shown may end within a secret.
        let description = description.map(|text| excerpt(text.trim(), 4096));
        let description = description.filter(|text| !repeats_secret(&secrets, text));
        let code = if !KNOWN_CODES.contains(&code) && repeats_secret(&secrets, code) { "error" } else { code };
        Some(ErrorResponse {
            error: OAuthError::new(code, description.as_deref(), Some(status)),
            mfa_token: self.mfa_token.clone().filter(|t| !t.is_empty()),
        })
    }
}

/// The members that are read from a response in form encoding.
const MEMBERS: [&str; 10] = [
    "access_token",
    "refresh_token",
    "id_token",
    "token_type",
    "expires_in",
    "refresh_token_expires_in",
    "refresh_expires_in",
    "scope",
    "error",
    "error_description",
];

/// Parses a response in form encoding, which some issuers send.
fn from_form(body: &[u8]) -> Option<Wire> {
    let mut wire = Wire::default();
    let mut seen = [false; MEMBERS.len()];
    for (name, value) in form_urlencoded::parse(body) {
        // Unknown names are not checked for duplicates: comparing each of a mebibyte of them with all others takes minutes.
        let Some(at) = MEMBERS.iter().position(|member| *member == name) else { continue };
        if std::mem::replace(&mut seen[at], true) {
            return None;
        }
        let secret = || Some(Secret::new(value.clone().into_owned()));
        let plain = || LenientString(Some(value.clone().into_owned()).filter(|v| !v.is_empty()));
        match &*name {
            "access_token" => wire.access_token = secret(),
            "refresh_token" => wire.refresh_token = secret(),
            "id_token" => wire.id_token = secret(),
            "token_type" => wire.token_type = plain(),
            "expires_in" => wire.expires_in = Lifetime::parse(&value),
            "refresh_token_expires_in" => wire.refresh_token_expires_in = Lifetime::parse(&value),
            "refresh_expires_in" => wire.refresh_expires_in = Lifetime::parse(&value),
            "scope" => wire.scope = Scope(plain().0),
            "error" => wire.error.code = plain().0,
            "error_description" => wire.error_description = plain(),
            _ => {}
        }
    }
    Some(wire)
}

/// `scope` as a string, or as the array that some issuers send.
#[derive(Default)]
struct Scope(Option<String>);

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match LenientValue::deserialize(deserializer)? {
            LenientValue::Text(text) if !text.is_empty() => Some(text),
            LenientValue::List(scopes) if !scopes.is_empty() => Some(scopes.join(" ")),
            _ => None,
        }))
    }
}

/// `error` as a string, or as the object with `type` or `status` and `message` that some issuers send.
#[derive(Default)]
struct ErrorMember {
    code: Option<String>,
    message: Option<String>,
}

impl<'de> Deserialize<'de> for ErrorMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match LenientValue::deserialize(deserializer)? {
            LenientValue::Text(text) if !text.is_empty() => Self { code: Some(text), message: None },
            LenientValue::Object { code, message } => {
                Self { code: Some(code.unwrap_or_else(|| "error".into())), message }
            }
            _ => Self::default(),
        })
    }
}

#[cfg(test)]
mod tests;
