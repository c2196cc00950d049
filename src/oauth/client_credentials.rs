//! The client credentials grant (RFC 6749, section 4.4).

use super::error::IssuerError;
use super::form::Form;
use super::token_endpoint::{TokenEndpoint, add_target};
use crate::model::{TokenSet, TokenTarget};

/// Requests tokens for the client itself, without a user.
///
/// # Errors
/// [`IssuerError`].
pub async fn request(endpoint: &TokenEndpoint<'_>, target: &TokenTarget) -> Result<TokenSet, IssuerError> {
    let mut form = Form::for_grant("client_credentials");
    add_target(&mut form, target);
    endpoint.request_tokens(form).await
}
