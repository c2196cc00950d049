//! The login pages: password, then one-time code.

use hyper::StatusCode;

use super::accounts::{Account, CredentialError};
use super::browser;
use super::crypto::hash;
use super::http::{OAuthError, Reply, Request};
use super::interaction::{advance, expired_page, show, submitted_form};
use super::issuer::Issuer;
use super::state::{BrowserSession, State};
use crate::secret::Secret;

/// Handles the submitted user name and password.
pub(super) async fn submit_password(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    let (form, id) = submitted_form(issuer, &issuer.state(), request)?;
    let user = form.one("username").unwrap_or_default().trim().to_owned();
    let checked = issuer.check_password(&user, form.one("password").unwrap_or_default()).await;
    let mut guard = issuer.state();
    let state = &mut *guard;
    match checked {
        Ok(login) => {
            let interaction = state.interactions.find_mut(&hash(id.expose())).ok_or_else(expired_page)?;
            interaction.needs_otp = state.accounts.find(&user).is_some_and(Account::has_second_factor);
            interaction.login = Some(login);
            let cookie = if interaction.needs_otp { None } else { Some(complete_login(issuer, state, &id)?) };
            Ok(advance(issuer, &id, cookie))
        }
        Err(error) => retry(issuer, state, &id, &user, &error, "Wrong user name or password."),
    }
}

/// Handles the submitted one-time code.
pub(super) fn submit_otp(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    let mut guard = issuer.state();
    let state = &mut *guard;
    let (form, id) = submitted_form(issuer, state, request)?;
    let digest = hash(id.expose());
    let pending = state.interactions.find(&digest).filter(|interaction| interaction.needs_otp);
    let user = pending.and_then(|interaction| interaction.login.as_ref()).map(|login| login.user.clone());
    let user = user.ok_or_else(expired_page)?;
    let code: String = form.one("otp").unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    if let Err(error) = issuer.check_otp(state, &user, &code) {
        return retry(issuer, state, &id, "", &error, "Wrong code. Each code works once.");
    }
    if let Some(interaction) = state.interactions.find_mut(&digest) {
        interaction.needs_otp = false;
        interaction.login.iter_mut().for_each(|login| login.otp = true);
    }
    let cookie = complete_login(issuer, state, &id)?;
    Ok(advance(issuer, &id, Some(cookie)))
}

/// Returns the same page with an error message.
fn retry(
    issuer: &Issuer,
    state: &State,
    id: &Secret,
    prefill: &str,
    error: &CredentialError,
    wrong: &str,
) -> Result<Reply, OAuthError> {
    let (status, message) = match error {
        CredentialError::Wrong => (StatusCode::FORBIDDEN, wrong.to_owned()),
        CredentialError::RateLimited(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, format!("Too many failed attempts. Try again in {seconds} seconds."))
        }
    };
    let interaction = state.interactions.find(&hash(id.expose())).ok_or_else(expired_page)?;
    Ok(show(issuer, state, id, interaction, prefill, status, Some(&message)))
}

/// Replaces the browser session, so that a cookie from before the login is worthless, and returns the new cookie.
fn complete_login(issuer: &Issuer, state: &mut State, id: &Secret) -> Result<String, OAuthError> {
    let interaction = state.interactions.find(&hash(id.expose())).ok_or_else(expired_page)?;
    let (old, login) = (interaction.browser, interaction.login.clone());
    let user = login.as_ref().map(|login| login.user.clone());
    let is_same_user = |session: &BrowserSession| session.login.as_ref().map(|login| &login.user) == user.as_ref();
    let replaced = state.browser_sessions.remove(&old).filter(is_same_user);
    let consents = replaced.map(|session| session.consents).unwrap_or_default();
    let (new, cookie) = browser::create_session(issuer, state, login, consents)?;
    // Interactions in other tabs of the same browser stay valid.
    for interaction in state.interactions.values_mut().filter(|interaction| interaction.browser == old) {
        interaction.browser = new;
    }
    state.stats.logins += 1;
    Ok(cookie)
}
