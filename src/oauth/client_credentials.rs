//! Tokens for the client itself, without a user (RFC 6749, section 4.4).

use super::error::IssuerError;
use super::form::Form;
use super::token_endpoint::{TokenEndpoint, add_asked};
use crate::model::{TokenSet, TokenTarget};

/// Gets tokens for `asked` with the client's own credentials.
///
/// # Errors
/// [`IssuerError`].
pub async fn request(endpoint: &TokenEndpoint<'_>, asked: &TokenTarget) -> Result<TokenSet, IssuerError> {
    let mut form = Form::grant("client_credentials");
    add_asked(&mut form, asked);
    endpoint.tokens(form).await
}
