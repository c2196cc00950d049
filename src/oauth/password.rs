//! Tokens for a user's password, with a one-time code where the issuer asks for one (RFC 6749, section 4.3).

use super::error::IssuerError;
use super::form::Form;
use super::reply::Answer;
use super::token_endpoint::{TokenEndpoint, add_asked};
use crate::model::{TokenSet, TokenTarget};
use crate::secret::Secret;

/// The grant that redeems a one-time code. No RFC has one; this is what issuers that ask for the code in this way take.
const ONE_TIME_CODE: &str = "http://auth0.com/oauth/grant-type/mfa-otp";

/// What a right password brings.
#[derive(Debug)]
pub enum PasswordReply {
    /// Tokens.
    Tokens(TokenSet),
    /// The issuer wants a one-time code as well, to be sent with [`one_time_code`].
    OneTimeCode {
        /// Stands for the password from here on.
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
    asked: &TokenTarget,
) -> Result<PasswordReply, IssuerError> {
    let mut form = Form::grant("password");
    form.add("username", user);
    form.add_secret("password", password);
    add_asked(&mut form, asked);
    match endpoint.answer(form).await? {
        Answer::Tokens(tokens) => Ok(PasswordReply::Tokens(tokens)),
        Answer::Refused(refusal) => match refusal.mfa_token {
            Some(mfa_token) if refusal.error.code == "mfa_required" => Ok(PasswordReply::OneTimeCode { mfa_token }),
            _ => Err(IssuerError::Refused(refusal.error)),
        },
    }
}

/// Sends the one-time code that [`PasswordReply::OneTimeCode`] asked for.
///
/// # Errors
/// [`IssuerError`]; a wrong or used code is [`IssuerError::Refused`].
pub async fn one_time_code(
    endpoint: &TokenEndpoint<'_>,
    mfa_token: &Secret,
    code: &Secret,
) -> Result<TokenSet, IssuerError> {
    let mut form = Form::grant(ONE_TIME_CODE);
    form.add_secret("mfa_token", mfa_token);
    form.add_secret("otp", code);
    endpoint.tokens(form).await
}
