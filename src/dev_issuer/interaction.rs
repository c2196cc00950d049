//! Interactions: the pages that a user goes through from login to consent, bound to one browser.

use std::time::Duration;

use hyper::{StatusCode, header};
use url::{Host, Url};

use super::browser;
use super::crypto::{hash, random_token, secrets_match};
use super::http::{OAuthError, Params, Reply, Request, see_other, set_header};
use super::issuer::Issuer;
use super::pages;
use super::state::{Interaction, Login, Purpose, State};
use super::user_code;
use crate::secret::Secret;

/// The time that a user has for all pages.
const INTERACTION_TTL: Duration = Duration::from_secs(600);

/// Starts an interaction and returns its first page.
pub(super) fn start(
    issuer: &Issuer,
    request: &Request,
    purpose: Purpose,
    login: Option<Login>,
) -> Result<Reply, OAuthError> {
    let mut state = issuer.state();
    let (browser, cookie) = match browser::session(issuer, &state, request) {
        Some((digest, _)) => (digest, None),
        None => {
            let (digest, cookie) = browser::create_session(issuer, &mut state, None, Vec::new())?;
            (digest, Some(cookie))
        }
    };
    let id = random_token()?;
    let expires_at = issuer.now().plus(INTERACTION_TTL);
    let interaction = Interaction { browser, csrf: random_token()?, purpose, login, needs_otp: false, expires_at };
    let prefill = request.query.one("user_code").unwrap_or_default();
    let mut reply = show(issuer, &state, &id, &interaction, prefill, StatusCode::OK, None);
    state.interactions.insert(hash(id.expose()), interaction);
    if let Some(cookie) = cookie {
        set_header(&mut reply, header::SET_COOKIE, &cookie);
    }
    Ok(reply)
}

/// Returns the current page of the interaction that the query names.
pub(super) fn resume(issuer: &Issuer, request: &Request) -> Reply {
    let state = issuer.state();
    let id = Secret::new(request.query.one("interaction").unwrap_or_default().to_owned());
    match find(issuer, &state, request, id.expose()) {
        Some(interaction) => show(issuer, &state, &id, interaction, "", StatusCode::OK, None),
        None => pages::error(StatusCode::BAD_REQUEST, &expired_page().description),
    }
}

/// Returns the current page of an interaction. `prefill` is the initial value of its text field.
pub(super) fn show(
    issuer: &Issuer,
    state: &State,
    id: &Secret,
    interaction: &Interaction,
    prefill: &str,
    status: StatusCode,
    message: Option<&str>,
) -> Reply {
    let form = pages::Form { base: &issuer.options.path, interaction: id.expose(), csrf: interaction.csrf.expose() };
    let (request, prefill) = match &interaction.purpose {
        Purpose::EnterUserCode => return pages::user_code(status, &form, prefill, message),
        Purpose::Logout(redirect) => {
            return pages::logout(&form, redirect.as_deref().and_then(form_target).as_deref());
        }
        Purpose::Authorize(request) => {
            let consent = pages::Consent {
                client: &request.client_id,
                scopes: &request.scopes,
                audiences: &request.audiences,
                user_code: None,
                target: form_target(&request.redirect_uri),
            };
            let hint = request.login_hint.as_deref().unwrap_or_default();
            (consent, if prefill.is_empty() { hint } else { prefill })
        }
        Purpose::Device(device) => {
            let Some(device) = state.devices.find(device) else { return expired_code() };
            let consent = pages::Consent {
                client: &device.client_id,
                scopes: &device.scopes,
                audiences: &device.audiences,
                user_code: Some(user_code::format(&device.user_code)),
                target: None,
            };
            (consent, prefill)
        }
    };
    match &interaction.login {
        None => pages::login(status, &form, prefill, request.client, message),
        Some(login) if interaction.needs_otp => pages::otp(status, &form, &login.user, message),
        Some(login) => pages::consent(&form, &login.user, &request),
    }
}

/// Returns the page for a device whose code has expired.
pub(super) fn expired_code() -> Reply {
    pages::error(StatusCode::GONE, "The code has expired. Start again on your device.")
}

/// Returns the source expression that lets the browser follow a redirect to `uri` after a form. Content Security Policy
/// cannot express IPv6 addresses, so that an IPv6 address becomes the whole scheme.
fn form_target(uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    Some(match url.host()? {
        Host::Ipv4(ip) => format!("http://{ip}:{}", url.port_or_known_default()?),
        _ => "http:".to_owned(),
    })
}

/// Returns the error for a form of an unknown, expired or foreign interaction.
pub(super) fn expired_page() -> OAuthError {
    OAuthError::invalid_request("This page has expired. Start again from your program.")
}

/// Redirects to the next page of an interaction with a GET, so that reloading it submits nothing twice.
pub(super) fn advance(issuer: &Issuer, id: &Secret, cookie: Option<String>) -> Reply {
    let mut reply = see_other(&format!("{}/continue?interaction={}", issuer.options.path, id.expose()));
    if let Some(cookie) = cookie {
        set_header(&mut reply, header::SET_COOKIE, &cookie);
    }
    reply
}

/// Returns the interaction with this ID if it belongs to the browser that sent the request.
fn find<'a>(issuer: &Issuer, state: &'a State, request: &Request, id: &str) -> Option<&'a Interaction> {
    let (browser, _) = browser::session(issuer, state, request)?;
    let interaction = state.interactions.find(&hash(id))?;
    (interaction.browser == browser && issuer.now() < interaction.expires_at).then_some(interaction)
}

/// Returns a submitted form and the ID of its interaction if browser and CSRF token match.
pub(super) fn submitted_form(
    issuer: &Issuer,
    state: &State,
    request: &Request,
) -> Result<(Params, Secret), OAuthError> {
    let form = request.form()?;
    let id = Secret::new(form.one("interaction").ok_or_else(expired_page)?.to_owned());
    let csrf = form.one("csrf").ok_or_else(expired_page)?;
    let interaction = find(issuer, state, request, id.expose()).ok_or_else(expired_page)?;
    if !secrets_match(interaction.csrf.expose(), csrf) {
        return Err(expired_page());
    }
    Ok((form, id))
}
