//! The revocation endpoint (RFC 7009).

use hyper::StatusCode;

use super::client;
use super::crypto::hash;
use super::http::{OAuthError, Reply, Request, empty};
use super::issuer::Issuer;

/// Revokes a refresh token with its whole family, or a single access token. An unknown token is not an error (RFC 7009,
/// section 2.2).
pub(super) fn revoke(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    let form = request.form()?;
    let client = client::authenticate(issuer, request, &form)?;
    let digest = hash(form.required("token")?);
    let mut state = issuer.state();
    let other_client = OAuthError::bad_request("unauthorized_client", "the token was issued to another client");
    if let Some(family) = state.refresh_tokens.find(&digest).map(|token| token.family) {
        if state.families.find(&family).is_some_and(|family| family.grant.client_id != client.id) {
            return Err(other_client);
        }
        state.revoke_family(family);
    } else if let Some(token) = state.access_tokens.find_mut(&digest) {
        if token.grant.client_id != client.id {
            return Err(other_client);
        }
        token.revoked = true;
    }
    Ok(empty(StatusCode::OK))
}
