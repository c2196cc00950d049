//! The password grant (RFC 6749, section 4.3), with a one-time code if the issuer requires one.

use super::error::IssuerError;
use super::form::Form;
use super::token_endpoint::{TokenEndpoint, add_target};
use super::token_response::TokenEndpointResponse;
use crate::model::{TokenSet, TokenTarget};
use crate::secret::Secret;

/// The grant type for a one-time code. No RFC defines one; issuers that return `mfa_required` accept this one.
const ONE_TIME_CODE: &str = "http://auth0.com/oauth/grant-type/mfa-otp";

/// The response to a correct password.
#[derive(Debug)]
pub enum PasswordResponse {
    /// Tokens.
    Tokens(TokenSet),
    /// The issuer also needs a one-time code, see [`one_time_code`].
    OneTimeCodeRequired {
        /// Identifies the grant in the second request.
        mfa_token: Secret,
    },
}

/// Sends the user's name and password.
///
/// # Errors
/// [`IssuerError`]; a wrong password is [`IssuerError::Refused`] with `invalid_grant`.
pub async fn request(
    endpoint: &TokenEndpoint<'_>,
    user: &str,
    password: &Secret,
    target: &TokenTarget,
) -> Result<PasswordResponse, IssuerError> {
    let mut form = Form::for_grant("password");
    form.add("username", user);
    form.add_secret("password", password);
    add_target(&mut form, target);
    match endpoint.request(form).await? {
        TokenEndpointResponse::Tokens(tokens) => Ok(PasswordResponse::Tokens(tokens)),
        TokenEndpointResponse::Error(response) => match response.mfa_token {
            Some(mfa_token) if response.error.code == "mfa_required" => {
                Ok(PasswordResponse::OneTimeCodeRequired { mfa_token })
            }
            _ => Err(IssuerError::Refused(response.error)),
        },
    }
}

/// Sends the one-time code for [`PasswordResponse::OneTimeCodeRequired`].
///
/// # Errors
/// [`IssuerError`]; a wrong or used code is [`IssuerError::Refused`].
pub async fn one_time_code(
    endpoint: &TokenEndpoint<'_>,
    mfa_token: &Secret,
    code: &Secret,
) -> Result<TokenSet, IssuerError> {
    let mut form = Form::for_grant(ONE_TIME_CODE);
    form.add_secret("mfa_token", mfa_token);
    form.add_secret("otp", code);
    endpoint.request_tokens(form).await
}
