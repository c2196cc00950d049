//! Browser sessions: the cookie, and the login that it identifies.

use std::time::Duration;

use hyper::header;

use super::crypto::{Digest, hash, random_token};
use super::http::{OAuthError, Request};
use super::issuer::Issuer;
use super::state::{BrowserSession, Login, State};

/// The lifetime of a browser session.
const SESSION_TTL: Duration = Duration::from_secs(8 * 3600);

/// Returns the name of the cookie. It contains the port because browsers share cookies between ports.
fn cookie_name(issuer: &Issuer) -> String {
    format!("authctl_dev_issuer_{}", issuer.address.port())
}

/// Returns the browser session that sent the request.
pub(super) fn session<'a>(
    issuer: &Issuer,
    state: &'a State,
    request: &Request,
) -> Option<(Digest, &'a BrowserSession)> {
    let name = cookie_name(issuer);
    let cookies = request.header(header::COOKIE)?;
    let value = cookies.split(';').find_map(|pair| pair.trim().strip_prefix(&name)?.strip_prefix('='))?;
    let digest = hash(value);
    let session = state.browser_sessions.find(&digest).filter(|session| issuer.now() < session.expires_at)?;
    Some((digest, session))
}

/// Returns the login of the browser that sent the request.
pub(super) fn current_login(issuer: &Issuer, state: &State, request: &Request) -> Option<Login> {
    let (_, session) = session(issuer, state, request)?;
    session.login.clone().filter(|login| state.is_current(login))
}

/// Creates a browser session and returns its digest and cookie.
pub(super) fn create_session(
    issuer: &Issuer,
    state: &mut State,
    login: Option<Login>,
    consents: Vec<(String, String)>,
) -> Result<(Digest, String), OAuthError> {
    let value = random_token()?;
    let digest = hash(value.expose());
    let expires_at = issuer.now().plus(SESSION_TTL);
    state.browser_sessions.insert(digest, BrowserSession { login, consents, expires_at });
    let path = if issuer.options.path.is_empty() { "/" } else { &issuer.options.path };
    Ok((digest, format!("{}={}; Path={path}; HttpOnly; SameSite=Lax", cookie_name(issuer), value.expose())))
}
