//! Logout in the browser (OpenID Connect RP-Initiated Logout 1.0). The user always has to confirm it.

use url::Url;

use super::authorize::is_loopback_redirect;
use super::crypto::hash;
use super::http::{OAuthError, Reply, Request, see_other};
use super::interaction::{self, expired_page, submitted_form};
use super::issuer::Issuer;
use super::pages;
use super::state::Purpose;

/// Returns the page that asks whether to log out.
pub(super) fn confirm(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    let redirect = match request.query.one("post_logout_redirect_uri") {
        None => None,
        Some(uri) => {
            let valid = Some(uri).filter(|uri| is_loopback_redirect(uri)).and_then(|uri| Url::parse(uri).ok());
            let mut url = valid.ok_or_else(|| {
                OAuthError::invalid_request("post_logout_redirect_uri must be an http URL on 127.0.0.1 or [::1].")
            })?;
            if let Some(state) = request.query.one("state") {
                url.query_pairs_mut().append_pair("state", state);
            }
            Some(url.to_string())
        }
    };
    interaction::start(issuer, request, Purpose::Logout(redirect), None)
}

/// Ends the browser session.
pub(super) fn submit(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    let mut state = issuer.state();
    let (_, id) = submitted_form(issuer, &state, request)?;
    let interaction = state.interactions.remove(&hash(id.expose())).ok_or_else(expired_page)?;
    let Purpose::Logout(redirect) = interaction.purpose else { return Err(expired_page()) };
    state.browser_sessions.remove(&interaction.browser);
    Ok(match redirect {
        Some(uri) => see_other(&uri),
        None => pages::notice("Logged out", "You are logged out in this browser."),
    })
}
