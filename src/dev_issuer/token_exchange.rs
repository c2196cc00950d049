//! Token exchange (RFC 8693): an access token of this issuer for one with another audience or a narrower scope, or the
//! identity token of a trusted platform for an access token.

use super::client::require_grant;
use super::crypto::hash;
use super::http::{OAuthError, Params, Reply};
use super::issuer::Issuer;
use super::options::{Client, GrantType};
use super::tokens::token_response_as;
use super::workload::workload_grant;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Exchanges a JWT of the trusted platform, or a valid access token that was issued to the same client. The new one belongs to
/// the same token family and is revoked with it; there is no refresh token.
pub(super) fn exchange(issuer: &Issuer, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    require_grant(client, GrantType::TokenExchange)?;
    let subject_token = form.required("subject_token")?;
    let subject_type = form.required("subject_token_type")?;
    if subject_type != ACCESS_TOKEN && subject_type != JWT {
        return Err(OAuthError::invalid_request("only access tokens and JWTs are exchanged"));
    }
    if form.one("actor_token").is_some() || form.one("actor_token_type").is_some() {
        return Err(OAuthError::invalid_request("there is no delegation: actor_token is not supported"));
    }
    if form.one("requested_token_type").is_some_and(|requested| requested != ACCESS_TOKEN) {
        return Err(OAuthError::invalid_request("only access tokens are issued"));
    }
    if subject_type == JWT {
        let Some(grant) = workload_grant(issuer, client, subject_token, form)? else {
            return Err(OAuthError::invalid_request(
                "the subject token is not a valid identity token of the trusted platform",
            ));
        };
        return token_response_as(issuer, &grant, None, None, Some(ACCESS_TOKEN));
    }
    let (mut scopes, audiences) = (form.scopes()?, form.audiences()?);
    let (mut grant, family) = {
        let state = issuer.state();
        let token = state.valid_access_token(&hash(subject_token), issuer.now());
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
    grant.jkt.clone_from(&form.jkt);
    token_response_as(issuer, &grant, family, None, Some(ACCESS_TOKEN))
}
