//! The token endpoint (RFC 6749, section 3.2).

use hyper::StatusCode;

use super::client::{self, require_grant};
use super::crypto::{base64url, hash, secrets_match, sha256};
use super::http::{OAuthError, Params, Reply, Request};
use super::issuer::Issuer;
use super::options::{Client, GrantType};
use super::state::{DeviceStatus, Grant, increment};
use super::tokens::{begin_family, first_tokens, token_response};
use super::{dpop, password, refresh, token_exchange, workload};

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const MFA_OTP: &str = "http://auth0.com/oauth/grant-type/mfa-otp";

/// How much a client that polls too fast must slow down, in seconds (RFC 8628, section 3.5).
const SLOW_DOWN: u64 = 5;

/// The supported grant types. The last two are offered only if a client may use them.
const GRANT_TYPES: [&str; 8] = [
    "authorization_code",
    "refresh_token",
    DEVICE_CODE,
    "password",
    "client_credentials",
    MFA_OTP,
    TOKEN_EXCHANGE,
    JWT_BEARER,
];

/// Returns the grant types that the issuer offers.
pub(super) fn offered_grants(issuer: &Issuer) -> impl Iterator<Item = &'static str> {
    let is_registered = |grant| issuer.options.clients.iter().any(|client| client.grants.contains(&grant));
    GRANT_TYPES.into_iter().filter(move |grant_type| match *grant_type {
        TOKEN_EXCHANGE => is_registered(GrantType::TokenExchange),
        JWT_BEARER => is_registered(GrantType::JwtBearer),
        _ => true,
    })
}

/// Handles a token request.
pub(super) async fn token(issuer: &Issuer, request: &Request) -> Reply {
    // Before anything else, so that a client that disconnects while it waits has not used up its code or token.
    issuer.keys.complete().await;
    let mut reply = grant(issuer, request).await.unwrap_or_else(|error| {
        increment(&mut issuer.state().stats.token_errors, error.code);
        error.reply()
    });
    dpop::add_nonce(issuer, &mut reply);
    reply
}

async fn grant(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    let mut form = request.form()?;
    let requested = form.required("grant_type")?;
    let Some(grant_type) = offered_grants(issuer).find(|known| *known == requested) else {
        return Err(OAuthError::bad_request("unsupported_grant_type", "this grant type is not supported"));
    };
    increment(&mut issuer.state().stats.token_requests, grant_type);
    let client = client::authenticate(issuer, request, &form)?;
    form.jkt = dpop::proven_key(issuer, request, "token", None)?;
    if form.jkt.is_none() && issuer.options.require_dpop {
        return Err(OAuthError::bad_request("invalid_dpop_proof", "a DPoP proof is required"));
    }
    let reply = match grant_type {
        "authorization_code" => authorization_code(issuer, client, &form),
        "refresh_token" => refresh::refresh(issuer, client, &form),
        DEVICE_CODE => device_code(issuer, client, &form),
        "password" => password::password(issuer, client, &form).await,
        "client_credentials" => client_credentials(issuer, client, &form),
        JWT_BEARER => workload::jwt_bearer(issuer, client, &form),
        TOKEN_EXCHANGE => token_exchange::exchange(issuer, client, &form),
        _ => password::mfa_otp(issuer, client, &form),
    }?;
    if reply.status() == StatusCode::OK {
        increment(&mut issuer.state().stats.token_responses, grant_type);
    }
    Ok(reply)
}

fn authorization_code(issuer: &Issuer, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    require_grant(client, GrantType::AuthorizationCode)?;
    let digest = hash(form.required("code")?);
    let redirect_uri = form.required("redirect_uri")?;
    let verifier = form.required("code_verifier")?;
    let audiences = form.audiences()?;
    let rejected = OAuthError::invalid_grant("the code is unknown, used, expired, or was issued for another request");
    let (grant, family, refresh_token) = {
        let mut state = issuer.state();
        let now = issuer.now();
        let Some(code) = state.codes.find_mut(&digest).filter(|code| code.grant.client_id == client.id) else {
            return Err(rejected);
        };
        if code.used {
            if let Some(family) = code.family {
                state.revoke_family(family);
            }
            return Err(rejected);
        }
        code.used = true;
        let verified = (43..=128).contains(&verifier.len())
            && secrets_match(&base64url(&sha256(verifier.as_bytes())), &code.challenge);
        let is_bound_elsewhere = code.grant.jkt.is_some() && code.grant.jkt != form.jkt;
        if now >= code.expires_at || code.redirect_uri != redirect_uri || !verified || is_bound_elsewhere {
            return Err(rejected);
        }
        let mut grant = Grant { jkt: form.jkt.clone(), ..code.grant.clone() };
        let (family, refresh_token) = begin_family(issuer, &mut state, &grant, now)?;
        if let Some(code) = state.codes.find_mut(&digest) {
            code.family = Some(family);
        }
        if !audiences.is_empty() {
            grant.audiences = audiences;
        }
        (grant, family, refresh_token)
    };
    token_response(issuer, &grant, Some(family), refresh_token.as_ref())
}

fn device_code(issuer: &Issuer, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    require_grant(client, GrantType::DeviceCode)?;
    let digest = hash(form.required("device_code")?);
    let unknown = || OAuthError::invalid_grant("the device code is unknown or used");
    let grant = {
        let mut state = issuer.state();
        let (now, moment) = (issuer.now(), issuer.options.clock.monotonic());
        let device = state.devices.find_mut(&digest).filter(|d| d.client_id == client.id).ok_or_else(unknown)?;
        if now >= device.expires_at {
            return Err(OAuthError::bad_request("expired_token", "the device code has expired"));
        }
        let too_fast = device
            .last_poll
            .replace(moment)
            .is_some_and(|last| moment.saturating_duration_since(last).as_secs_f64() < device.interval as f64);
        match &device.status {
            DeviceStatus::Pending if too_fast => {
                device.interval += SLOW_DOWN;
                return Err(OAuthError::bad_request("slow_down", "polling too fast"));
            }
            DeviceStatus::Pending => {
                return Err(OAuthError::bad_request("authorization_pending", "the user has not decided"));
            }
            DeviceStatus::Denied => return Err(OAuthError::bad_request("access_denied", "the user denied access")),
            DeviceStatus::Approved(_) => {}
        }
        let device = state.devices.remove(&digest).ok_or_else(unknown)?;
        let DeviceStatus::Approved(login) = device.status else { return Err(unknown()) };
        let (scopes, audiences) = (device.scopes, device.audiences);
        let (client_id, jkt) = (device.client_id, form.jkt.clone());
        Grant { client_id, login: Some(login), workload: None, scopes, audiences, nonce: None, jkt }
    };
    first_tokens(issuer, &grant)
}

fn client_credentials(issuer: &Issuer, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    require_grant(client, GrantType::ClientCredentials)?;
    if client.secret.is_none() {
        return Err(OAuthError::bad_request("unauthorized_client", "this grant is for confidential clients"));
    }
    let mut scopes = form.scopes()?;
    // Without a user there is no ID token, and a refresh token should not be issued (RFC 6749, section 4.4.3).
    scopes.retain(|scope| scope != "openid" && scope != "offline_access");
    let audiences = form.audiences()?;
    let (client_id, jkt) = (client.id.clone(), form.jkt.clone());
    let grant = Grant { client_id, login: None, workload: None, scopes, audiences, nonce: None, jkt };
    token_response(issuer, &grant, None, None)
}
