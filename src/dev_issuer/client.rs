//! The registered clients: lookup, authentication, and the grants that each may use.

use super::crypto::secrets_match;
use super::http::{OAuthError, Params, Request};
use super::issuer::Issuer;
use super::options::{Client, GrantType};
use crate::secret::Secret;

/// Returns the client that sent a request. A confidential client must authenticate (RFC 6749, section 2.3).
pub(super) fn authenticate<'a>(issuer: &'a Issuer, request: &Request, form: &Params) -> Result<&'a Client, OAuthError> {
    let basic = request.basic();
    let posted = form.one("client_secret").map(|secret| Secret::new(secret.to_owned()));
    let (id, secret) = match (basic, posted) {
        (Some(_), Some(_)) => {
            return Err(OAuthError::invalid_request("more than one method of client authentication"));
        }
        (Some((id, secret)), None) => {
            if form.one("client_id").is_some_and(|client_id| client_id != id) {
                return Err(OAuthError::invalid_client());
            }
            (id, (!secret.is_empty()).then_some(secret))
        }
        (None, posted) => (form.one("client_id").ok_or_else(OAuthError::invalid_client)?.to_owned(), posted),
    };
    let client = find(issuer, &id).ok_or_else(OAuthError::invalid_client)?;
    let authenticated = match (&client.secret, &secret) {
        (None, None) => true,
        (Some(expected), Some(supplied)) => secrets_match(expected.expose(), supplied.expose()),
        (None, Some(_)) | (Some(_), None) => false,
    };
    if authenticated { Ok(client) } else { Err(OAuthError::invalid_client()) }
}

/// Returns the client with this ID.
pub(super) fn find<'a>(issuer: &'a Issuer, id: &str) -> Option<&'a Client> {
    issuer.options.clients.iter().find(|client| client.id == id)
}

/// Rejects a grant that the client may not use.
pub(super) fn require_grant(client: &Client, grant: GrantType) -> Result<(), OAuthError> {
    if client.grants.contains(&grant) {
        Ok(())
    } else {
        Err(OAuthError::bad_request("unauthorized_client", "this client may not use this grant"))
    }
}
