//! Token exchange (RFC 8693).

use serde::Deserialize;

use super::error::IssuerError;
use super::form::Form;
use super::lenient_json::LenientString;
use super::token_endpoint::{TokenEndpoint, add_target};
use super::token_response::{TokenEndpointResponse, parse_token_response};
use crate::model::{TokenSet, TokenTarget};
use crate::secret::Secret;

/// The grant type, as metadata lists it.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The type of an access token of the same issuer, JWT or opaque (RFC 8693, section 3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The type of an ID token.
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// The type of an identity assertion authorization grant (ID-JAG), with which another authorization server issues tokens.
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// The type of any other JWT.
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Issued {
    issued_token_type: LenientString,
}

/// Exchanges `subject` of this type for an access token for `target`. A refresh token and an ID token in the reply are
/// dropped: the token is refreshed by exchanging again.
///
/// # Errors
/// [`IssuerError::InvalidResponse`] if the reply does not declare an access token.
pub async fn request(
    endpoint: &TokenEndpoint<'_>,
    (subject, subject_type): (&Secret, &'static str),
    target: &TokenTarget,
) -> Result<TokenSet, IssuerError> {
    let mut form = Form::for_grant(GRANT_TYPE);
    form.add_secret("subject_token", subject);
    form.add("subject_token_type", subject_type);
    form.add("requested_token_type", ACCESS_TOKEN);
    add_target(&mut form, target);
    exchanged(endpoint, form, &[ACCESS_TOKEN, JWT]).await
}

/// Exchanges an ID token at the identity provider for an assertion for the authorization server `issuer`, which issues tokens for
/// `target` (Identity Assertion Authorization Grant, section 4).
///
/// # Errors
/// As [`request`].
pub async fn identity_assertion(
    endpoint: &TokenEndpoint<'_>,
    id_token: &Secret,
    issuer: &str,
    target: &TokenTarget,
) -> Result<Secret, IssuerError> {
    let mut form = Form::for_grant(GRANT_TYPE);
    form.add("requested_token_type", ID_JAG);
    form.add_secret("subject_token", id_token);
    form.add("subject_token_type", ID_TOKEN);
    add_target(&mut form, &TokenTarget { audience: Some(issuer.to_owned()), ..target.clone() });
    Ok(exchanged(endpoint, form, &[ID_JAG]).await?.access_token)
}

/// Sends `form`, and returns the token of one of these types in the reply.
async fn exchanged(endpoint: &TokenEndpoint<'_>, form: Form, types: &[&'static str]) -> Result<TokenSet, IssuerError> {
    let sent_at = endpoint.clock.now();
    let (response, sent) = endpoint.send(form).await?;
    let tokens = match parse_token_response(&response, &sent, sent_at)? {
        TokenEndpointResponse::Tokens(tokens) => TokenSet { refresh_token: None, id_token: None, ..tokens },
        TokenEndpointResponse::Error(response) => return Err(IssuerError::Refused(response.error)),
    };
    let invalid = |what: &str| IssuerError::InvalidResponse {
        from: response.host.clone(),
        what: what.to_owned(),
        wrong_address: false,
    };
    match response.object::<Issued>().and_then(|issued| issued.issued_token_type.0).as_deref() {
        Some(issued) if types.contains(&issued) => {}
        Some(_) => return Err(invalid("a token of another type than was requested (issued_token_type)")),
        None => return Err(invalid("a token exchange response without issued_token_type")),
    }
    Ok(tokens)
}
