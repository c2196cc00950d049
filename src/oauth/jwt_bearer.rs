//! The JWT bearer grant (RFC 7523, section 2.1).

use super::error::IssuerError;
use super::form::Form;
use super::token_endpoint::{TokenEndpoint, add_target};
use crate::model::{TokenSet, TokenTarget};
use crate::secret::Secret;

/// The grant type, as metadata lists it.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Requests tokens for the subject of `assertion`. A refresh token in the reply is dropped: a new assertion brings new
/// tokens (RFC 7521, section 4.1).
///
/// # Errors
/// [`IssuerError`].
pub async fn request(
    endpoint: &TokenEndpoint<'_>,
    assertion: &Secret,
    target: &TokenTarget,
) -> Result<TokenSet, IssuerError> {
    let mut form = Form::for_grant(GRANT_TYPE);
    form.add_secret("assertion", assertion);
    add_target(&mut form, target);
    Ok(TokenSet { refresh_token: None, ..endpoint.request_tokens(form).await? })
}
