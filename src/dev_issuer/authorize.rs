//! The authorization endpoint (RFC 6749, section 4.1; OpenID Connect Core 1.0, section 3.1.2).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hyper::StatusCode;
use url::{Host, Url};

use super::client::{self, require_grant};
use super::crypto::{hash, random_token};
use super::http::{OAuthError, Params, Reply, Request, see_other};
use super::issuer::Issuer;
use super::options::GrantType;
use super::state::{AuthorizationCode, AuthorizationRequest, Grant, Login, Purpose};
use super::{browser, interaction, pages};

const CODE_TTL: Duration = Duration::from_secs(60);
const MAX_REDIRECT_URI_LENGTH: usize = 2048;
const MAX_TEXT_LENGTH: usize = 1024;

/// When to show the login page (OpenID Connect Core 1.0, section 3.1.2.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prompt {
    AsNeeded,
    Login,
    None,
}

/// Handles an authorization request: returns a page, or redirects to the client at once.
pub(super) fn authorize(issuer: &Issuer, request: &Request) -> Reply {
    let reference = request.query.one("request_uri").zip(request.query.one("client_id"));
    let pushed = match reference {
        Some((reference, client_id)) => match take_pushed(issuer, client_id, reference) {
            Some(pushed) => Some(pushed),
            None => return pages::error(StatusCode::BAD_REQUEST, "The request_uri is unknown, used or expired."),
        },
        None if issuer.options.require_par => {
            return pages::error(StatusCode::BAD_REQUEST, "This issuer takes only pushed authorization requests.");
        }
        None => None,
    };
    let query = pushed.as_ref().unwrap_or(&request.query);
    // No redirect before client and redirect URI are verified (RFC 6749, section 4.1.2.1).
    let reject = |text: &str| pages::error(StatusCode::BAD_REQUEST, text);
    if query.has_duplicates() {
        return reject("The address of this page has a repeated parameter.");
    }
    let Some(client) = query.one("client_id").and_then(|id| client::find(issuer, id)) else {
        return reject("The program that opened this page is not registered at this issuer (client_id).");
    };
    let Some(redirect_uri) = query.one("redirect_uri").filter(|uri| is_loopback_redirect(uri)) else {
        return reject("The redirect_uri must be an http URL on 127.0.0.1 or [::1].");
    };
    let result = require_grant(client, GrantType::AuthorizationCode)
        .and_then(|()| parse(&client.id, redirect_uri, query))
        .and_then(|parsed| respond(issuer, request, parsed));
    result.unwrap_or_else(|error| send_error(issuer, redirect_uri, query.one("state"), &error))
}

/// Returns whether this is the redirect URI of a native app: an http URL on a loopback IP literal with any port and path
/// (RFC 8252, section 7.3). The text is checked too because the parser accepts other spellings of an address.
pub(super) fn is_loopback_redirect(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let is_literal = match url.host() {
        Some(Host::Ipv4(ip)) => ip == Ipv4Addr::LOCALHOST && text.starts_with("http://127.0.0.1"),
        Some(Host::Ipv6(ip)) => ip == Ipv6Addr::LOCALHOST && text.starts_with("http://[::1]"),
        _ => false,
    };
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    is_literal && is_plain && url.scheme() == "http" && text.len() <= MAX_REDIRECT_URI_LENGTH
}

/// Returns the parameters that the client has pushed, which can be used once.
fn take_pushed(issuer: &Issuer, client_id: &str, reference: &str) -> Option<Params> {
    let pushed = issuer.state().pushed.remove(&hash(reference))?;
    (pushed.client_id == client_id && issuer.now() < pushed.expires_at).then_some(pushed.parameters)
}

/// Checks a request that a client pushes.
pub(super) fn check(client_id: &str, parameters: &Params) -> Result<(), OAuthError> {
    let redirect_uri = parameters.required("redirect_uri")?;
    if !is_loopback_redirect(redirect_uri) {
        return Err(OAuthError::invalid_request("the redirect_uri must be an http URL on 127.0.0.1 or [::1]"));
    }
    parse(client_id, redirect_uri, parameters).map(drop)
}

struct ParsedRequest {
    request: AuthorizationRequest,
    prompt: Prompt,
    /// The maximum age of the login in seconds.
    max_age: Option<u64>,
}

fn parse(client_id: &str, redirect_uri: &str, query: &Params) -> Result<ParsedRequest, OAuthError> {
    if query.one("request").is_some() || query.one("request_uri").is_some() {
        return Err(OAuthError::bad_request("request_not_supported", "request objects are not supported"));
    }
    if query.one("response_type") != Some("code") {
        return Err(OAuthError::bad_request("unsupported_response_type", "only response_type code is supported"));
    }
    if query.one("response_mode").is_some_and(|mode| mode != "query") {
        return Err(OAuthError::invalid_request("only response_mode query is supported"));
    }
    let challenge = query.one("code_challenge").unwrap_or_default();
    let is_digest = challenge.len() == 43 && challenge.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if query.one("code_challenge_method") != Some("S256") || !is_digest {
        return Err(OAuthError::invalid_request("PKCE with code_challenge_method S256 is required"));
    }
    let mut prompt = Prompt::AsNeeded;
    let values: Vec<&str> = query.one("prompt").unwrap_or_default().split(' ').filter(|v| !v.is_empty()).collect();
    for value in &values {
        match *value {
            "none" if values.len() == 1 => prompt = Prompt::None,
            "login" | "select_account" => prompt = Prompt::Login,
            // The consent page is always shown.
            "consent" => {}
            _ => return Err(OAuthError::invalid_request("prompt must be none, or login and consent")),
        }
    }
    let max_age = match query.one("max_age") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| OAuthError::invalid_request("max_age must be seconds"))?),
    };
    let text = |name| query.one(name).filter(|text| text.len() <= MAX_TEXT_LENGTH).map(str::to_owned);
    let request = AuthorizationRequest {
        client_id: client_id.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        state: query.one("state").map(str::to_owned),
        challenge: challenge.to_owned(),
        scopes: query.scopes()?,
        audiences: query.audiences()?,
        nonce: text("nonce"),
        jkt: text("dpop_jkt"),
        login_hint: text("login_hint"),
    };
    Ok(ParsedRequest { request, prompt, max_age })
}

fn respond(issuer: &Issuer, http: &Request, parsed: ParsedRequest) -> Result<Reply, OAuthError> {
    let ParsedRequest { request, prompt, max_age } = parsed;
    let (login, consented) = {
        let state = issuer.state();
        let is_recent = |login: &Login| max_age.is_none_or(|limit| login.at.until(issuer.now()).as_secs() <= limit);
        let login =
            browser::current_login(issuer, &state, http).filter(|login| prompt != Prompt::Login && is_recent(login));
        let consent = (request.client_id.clone(), request.scopes.join(" "));
        let session = browser::session(issuer, &state, http);
        (login, session.is_some_and(|(_, session)| session.consents.contains(&consent)))
    };
    if prompt == Prompt::None {
        return match login {
            None => Err(OAuthError::bad_request("login_required", "no user is logged in")),
            Some(_) if !consented => {
                Err(OAuthError::bad_request("consent_required", "the user has not consented to these scopes"))
            }
            Some(login) => send_code(issuer, &request, login),
        };
    }
    interaction::start(issuer, http, Purpose::Authorize(request), login)
}

/// Redirects the browser to the client with a code.
pub(super) fn send_code(issuer: &Issuer, request: &AuthorizationRequest, login: Login) -> Result<Reply, OAuthError> {
    let code = random_token()?;
    let grant = Grant {
        client_id: request.client_id.clone(),
        login: Some(login),
        scopes: request.scopes.clone(),
        audiences: request.audiences.clone(),
        workload: None,
        nonce: request.nonce.clone(),
        jkt: request.jkt.clone(),
    };
    let stored = AuthorizationCode {
        grant,
        redirect_uri: request.redirect_uri.clone(),
        challenge: request.challenge.clone(),
        expires_at: issuer.now().plus(CODE_TTL),
        family: None,
        used: false,
    };
    issuer.state().codes.insert(hash(code.expose()), stored);
    Ok(redirect(issuer, &request.redirect_uri, request.state.as_deref(), &[("code", code.expose())]))
}

/// Redirects the browser to the client with an error (RFC 6749, section 4.1.2.1).
pub(super) fn send_error(issuer: &Issuer, redirect_uri: &str, state: Option<&str>, error: &OAuthError) -> Reply {
    redirect(issuer, redirect_uri, state, &[("error", error.code), ("error_description", &error.description)])
}

/// Redirects with the client's `state` and with `iss` (RFC 9207).
fn redirect(issuer: &Issuer, redirect_uri: &str, state: Option<&str>, parameters: &[(&str, &str)]) -> Reply {
    let Ok(mut url) = Url::parse(redirect_uri) else {
        return pages::error(StatusCode::BAD_REQUEST, "The redirect_uri is invalid.");
    };
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(parameters);
        if let Some(state) = state {
            query.append_pair("state", state);
        }
        query.append_pair("iss", &issuer.url);
    }
    see_other(url.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_uris_must_be_loopback_literals() {
        for valid in ["http://127.0.0.1/", "http://127.0.0.1:4711/callback?x=1", "http://[::1]:80/cb"] {
            assert!(is_loopback_redirect(valid), "{valid}");
        }
        for invalid in [
            "https://127.0.0.1/",
            "http://localhost/",
            "http://127.0.0.1.attacker.example/",
            "http://127.0.0.1@attacker.example/",
            "http://127.0.0.2/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://user@127.0.0.1/",
            "http://127.0.0.1/#f",
            "javascript:alert(1)",
            "/relative",
        ] {
            assert!(!is_loopback_redirect(invalid), "{invalid}");
        }
    }
}
