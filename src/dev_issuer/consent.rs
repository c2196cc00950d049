//! The consent page, whose decision completes an authorization request or a device authorization.

use super::authorize;
use super::crypto::hash;
use super::http::{OAuthError, Reply, Request};
use super::interaction::{expired_code, expired_page, submitted_form};
use super::issuer::Issuer;
use super::pages;
use super::state::Purpose;
use super::user_code;

/// The limit on consents that a browser session remembers.
const MAX_CONSENTS: usize = 64;

/// Handles the submitted decision.
pub(super) fn submit(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    let (interaction, login, allowed) = {
        let mut state = issuer.state();
        let (form, id) = submitted_form(issuer, &state, request)?;
        let allowed = form.one("decision") == Some("allow");
        let digest = hash(id.expose());
        let ready = state.interactions.find(&digest).is_some_and(|i| i.login.is_some() && !i.needs_otp);
        let interaction = if ready { state.interactions.remove(&digest) } else { None }.ok_or_else(expired_page)?;
        let login = interaction.login.clone().filter(|login| state.is_current(login)).ok_or_else(expired_page)?;
        if allowed
            && let Purpose::Authorize(request) = &interaction.purpose
            && let Some(session) = state.browser_sessions.find_mut(&interaction.browser)
        {
            let consent = (request.client_id.clone(), request.scopes.join(" "));
            if session.consents.len() < MAX_CONSENTS && !session.consents.contains(&consent) {
                session.consents.push(consent);
            }
        }
        (interaction, login, allowed)
    };
    match &interaction.purpose {
        Purpose::Authorize(request) if allowed => authorize::send_code(issuer, request, login),
        Purpose::Authorize(request) => {
            let denied = OAuthError::bad_request("access_denied", "the user denied access");
            Ok(authorize::send_error(issuer, &request.redirect_uri, request.state.as_deref(), &denied))
        }
        Purpose::Device(device) => {
            let decided = user_code::decide(issuer, &mut issuer.state(), device, allowed.then_some(login));
            Ok(match (decided, allowed) {
                (false, _) => expired_code(),
                (true, true) => pages::notice("Connected", "Close this page and return to your device."),
                (true, false) => pages::notice("Denied", "Access was denied. You can close this page."),
            })
        }
        Purpose::EnterUserCode | Purpose::Logout(_) => Err(expired_page()),
    }
}
