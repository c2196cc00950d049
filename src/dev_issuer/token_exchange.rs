//! Token exchange (RFC 8693): an access token of this issuer for one with another audience or a narrower scope.

use super::client::require_grant;
use super::crypto::hash;
use super::http::{OAuthError, Params, Reply};
use super::issuer::Issuer;
use super::options::{Client, GrantType};
use super::tokens::token_response_as;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Exchanges a valid access token that was issued to the same client. The new one belongs to the same token family and is
/// revoked with it; there is no refresh token.
pub(super) fn exchange(issuer: &Issuer, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    require_grant(client, GrantType::TokenExchange)?;
    let subject_token = hash(form.required("subject_token")?);
    if form.required("subject_token_type")? != ACCESS_TOKEN {
        return Err(OAuthError::invalid_request("only access tokens are exchanged"));
    }
    if form.one("actor_token").is_some() || form.one("actor_token_type").is_some() {
        return Err(OAuthError::invalid_request("there is no delegation: actor_token is not supported"));
    }
    if form.one("requested_token_type").is_some_and(|requested| requested != ACCESS_TOKEN) {
        return Err(OAuthError::invalid_request("only access tokens are issued"));
    }
    let (mut scopes, audiences) = (form.scopes()?, form.audiences()?);
    let (mut grant, family) = {
        let state = issuer.state();
        let token = state.valid_access_token(&subject_token, issuer.now());
        // RFC 8693, section 2.2.2, has `invalid_request` for any subject token that is not accepted.
        let token = token.filter(|token| token.grant.client_id == client.id).ok_or_else(|| {
            OAuthError::invalid_request("the subject token is unknown, expired, revoked, or another client's")
        })?;
        (token.grant.clone(), token.family)
    };
    if !scopes.iter().all(|scope| grant.has_scope(scope)) {
        return Err(OAuthError::bad_request("invalid_scope", "a scope was not granted"));
    }
    if scopes.is_empty() {
        scopes.clone_from(&grant.scopes);
    }
    // The new token is for a service alone: without an ID token or a refresh token.
    scopes.retain(|scope| scope != "openid" && scope != "offline_access");
    grant.scopes = scopes;
    if !audiences.is_empty() {
        grant.audiences = audiences;
    }
    grant.nonce = None;
    token_response_as(issuer, &grant, family, None, Some(ACCESS_TOKEN))
}
