//! The device authorization endpoint (RFC 8628, section 3.1) and the page for user codes (section 3.3).

use hyper::StatusCode;
use serde::Serialize;

use super::browser;
use super::client::{self, require_grant};
use super::crypto::{hash, random_token};
use super::http::{OAuthError, Reply, Request, json};
use super::interaction::{advance, expired_page, show, submitted_form};
use super::issuer::Issuer;
use super::options::GrantType;
use super::state::{DeviceAuthorization, DeviceStatus, Purpose};
use super::user_code::{self, UserCodeError, find_pending};

/// Starts a device authorization.
pub(super) fn authorization(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    #[derive(Serialize)]
    struct Body<'a> {
        device_code: &'a str,
        user_code: &'a str,
        verification_uri: String,
        verification_uri_complete: String,
        expires_in: u64,
        interval: u64,
    }
    let form = request.form()?;
    let client = client::authenticate(issuer, request, &form)?;
    require_grant(client, GrantType::DeviceCode)?;
    let device_code = random_token()?;
    let code = user_code::generate()?;
    let user_code = user_code::format(&code);
    let device = DeviceAuthorization {
        client_id: client.id.clone(),
        scopes: form.scopes()?,
        audiences: form.audiences()?,
        user_code: code,
        status: DeviceStatus::Pending,
        interval: issuer.options.device_interval.as_secs(),
        last_poll: None,
        expires_at: issuer.now().plus(issuer.options.device_code_ttl),
    };
    let body = Body {
        device_code: device_code.expose(),
        user_code: &user_code,
        verification_uri: format!("{}/device", issuer.url),
        verification_uri_complete: format!("{}/device?user_code={user_code}", issuer.url),
        expires_in: issuer.options.device_code_ttl.as_secs(),
        interval: device.interval,
    };
    issuer.state().devices.insert(hash(device_code.expose()), device);
    Ok(json(StatusCode::OK, &body))
}

/// Handles the submitted user code.
pub(super) fn submit_user_code(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    let mut state = issuer.state();
    let (form, id) = submitted_form(issuer, &state, request)?;
    let typed = form.one("user_code").unwrap_or_default();
    let login = browser::current_login(issuer, &state, request);
    match find_pending(issuer, &mut state, typed) {
        Ok(device) => {
            let interaction = state.interactions.find_mut(&hash(id.expose())).ok_or_else(expired_page)?;
            interaction.purpose = Purpose::Device(device);
            interaction.login = login;
            Ok(advance(issuer, &id, None))
        }
        Err(error) => {
            let (status, message) = match error {
                UserCodeError::Unknown => (StatusCode::NOT_FOUND, "Unknown code. Compare it with your device."),
                UserCodeError::RateLimited => {
                    (StatusCode::TOO_MANY_REQUESTS, "Too many wrong codes. Try again in a minute.")
                }
            };
            let interaction = state.interactions.find(&hash(id.expose())).ok_or_else(expired_page)?;
            Ok(show(issuer, &state, &id, interaction, typed, status, Some(message)))
        }
    }
}
