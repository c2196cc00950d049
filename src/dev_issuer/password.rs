//! The password grant (RFC 6749, section 4.3) and its second step with a one-time code, as Auth0 defines it.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use super::accounts::{Account, CredentialError};
use super::client::require_grant;
use super::crypto::{hash, random_token};
use super::http::{OAuthError, Params, Reply, json};
use super::issuer::Issuer;
use super::options::{Client, GrantType};
use super::state::{Grant, MfaChallenge, increment};
use super::tokens::first_tokens;

const MFA_TOKEN_TTL: Duration = Duration::from_secs(300);
const MAX_OTP_ATTEMPTS: u32 = 5;

/// Handles the password grant: tokens, or `mfa_required` for a user with a second factor.
pub(super) async fn password(issuer: &Issuer, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    #[derive(Serialize)]
    struct MfaRequired<'a> {
        error: &'static str,
        error_description: &'static str,
        mfa_token: &'a str,
    }
    require_grant(client, GrantType::Password)?;
    let user = form.required("username")?;
    let password = form.required("password")?;
    let (scopes, audiences) = (form.scopes()?, form.audiences()?);
    let login = issuer.check_password(user, password).await.map_err(|error| match error {
        CredentialError::Wrong => OAuthError::invalid_grant("wrong user name or password"),
        CredentialError::RateLimited(seconds) => OAuthError::rate_limited(seconds),
    })?;
    let (client_id, jkt) = (client.id.clone(), form.jkt.clone());
    let grant = Grant { client_id, login: Some(login), workload: None, scopes, audiences, nonce: None, jkt };
    if !issuer.state().accounts.find(user).is_some_and(Account::has_second_factor) {
        return first_tokens(issuer, &grant);
    }
    let token = random_token()?;
    let mut state = issuer.state();
    let expires_at = issuer.now().plus(MFA_TOKEN_TTL);
    state.mfa_challenges.insert(hash(token.expose()), MfaChallenge { grant, expires_at, attempts: 0 });
    increment(&mut state.stats.token_errors, "mfa_required");
    let body = MfaRequired {
        error: "mfa_required",
        error_description: "Multifactor authentication required",
        mfa_token: token.expose(),
    };
    Ok(json(StatusCode::FORBIDDEN, &body))
}

/// Completes a password grant with a one-time code.
pub(super) fn mfa_otp(issuer: &Issuer, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    require_grant(client, GrantType::Password)?;
    let digest = hash(form.required("mfa_token")?);
    let otp = form.required("otp")?;
    let grant = {
        let mut state = issuer.state();
        let unknown = || OAuthError::invalid_grant("the mfa_token is unknown, used or expired");
        let challenge = state.mfa_challenges.find_mut(&digest).filter(|c| c.grant.client_id == client.id);
        let challenge = challenge.ok_or_else(unknown)?;
        challenge.attempts += 1;
        if issuer.now() >= challenge.expires_at || challenge.attempts > MAX_OTP_ATTEMPTS {
            state.mfa_challenges.remove(&digest);
            return Err(unknown());
        }
        let user = challenge.grant.login.as_ref().map(|login| login.user.clone()).ok_or_else(unknown)?;
        issuer.check_otp(&mut state, &user, otp).map_err(|error| match error {
            CredentialError::Wrong => OAuthError::invalid_grant("wrong one-time code"),
            CredentialError::RateLimited(seconds) => OAuthError::rate_limited(seconds),
        })?;
        let mut grant = state.mfa_challenges.remove(&digest).ok_or_else(unknown)?.grant;
        if let Some(login) = &mut grant.login {
            login.otp = true;
        }
        grant.jkt.clone_from(&form.jkt);
        grant
    };
    first_tokens(issuer, &grant)
}
