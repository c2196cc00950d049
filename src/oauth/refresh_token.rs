//! The refresh token grant (RFC 6749, section 6).

use super::error::IssuerError;
use super::form::Form;
use super::token_endpoint::{TokenEndpoint, add_target};
use crate::model::{TokenSet, TokenTarget};
use crate::secret::Secret;

/// Refreshes tokens. Sends one request and never repeats it.
///
/// `target` may narrow the scope or name another audience or resource; an empty one requests what was granted first. If the
/// issuer does not rotate, the response has no refresh token and the old one stays valid. An error repeats none of the `known`
/// secrets, which are not sent.
///
/// # Errors
/// After [`IssuerError::is_in_doubt`] the refresh token may be used up; after [`IssuerError::ends_session`] it is invalid.
pub async fn request(
    endpoint: &TokenEndpoint<'_>,
    refresh_token: &Secret,
    target: &TokenTarget,
    known: &[Secret],
) -> Result<TokenSet, IssuerError> {
    let mut form = Form::for_grant("refresh_token");
    form.add_secret("refresh_token", refresh_token);
    known.iter().for_each(|secret| form.track_secret(secret));
    add_target(&mut form, target);
    endpoint.request_tokens(form).await
}
