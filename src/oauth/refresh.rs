//! New tokens for a refresh token (RFC 6749, section 6).

use super::error::IssuerError;
use super::form::Form;
use super::token_endpoint::{TokenEndpoint, add_asked};
use crate::model::{TokenSet, TokenTarget};
use crate::secret::Secret;

/// Spends `refresh_token`. Sends one request and never repeats it.
///
/// `asked` may narrow the scope or name another audience or resource; a plain one asks for what was first granted.
/// Where the issuer did not rotate, the reply has no refresh token and the old one stays good.
///
/// # Errors
/// [`IssuerError`]. [`IssuerError::never_sent`] tells whether the token is certainly unspent, and
/// [`IssuerError::ends_session`] whether the issuer said that it is worth nothing any more.
pub async fn request(
    endpoint: &TokenEndpoint<'_>,
    refresh_token: &Secret,
    asked: &TokenTarget,
) -> Result<TokenSet, IssuerError> {
    let mut form = Form::grant("refresh_token");
    form.add_secret("refresh_token", refresh_token);
    add_asked(&mut form, asked);
    endpoint.tokens(form).await
}
