//! Tells the issuer that a token must not work any more (RFC 7009).

use url::Url;

use super::client::Client;
use super::error::IssuerError;
use super::form::Form;
use super::http::Http;
use super::token_endpoint::{failure, post};
use crate::secret::Secret;

/// What kind of token is revoked; a hint, since issuers look in both places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenTypeHint {
    /// Ends the access token alone, where the issuer can.
    AccessToken,
    /// Ends the grant, and with many issuers the access tokens it gave.
    RefreshToken,
}

/// Revokes `token` at the `revocation_endpoint`. A token that the issuer does not know counts as revoked (section 2.2).
/// The body of a success says nothing (same section), unless it is a page for people: that comes from something in the
/// issuer's place, such as the sign-in page of a network, and nothing was revoked.
///
/// # Errors
/// [`IssuerError`]; `unsupported_token_type` is [`IssuerError::Refused`].
pub async fn request(
    http: &Http,
    revocation_endpoint: &Url,
    client: &Client,
    token: &Secret,
    hint: TokenTypeHint,
) -> Result<(), IssuerError> {
    let mut form = Form::default();
    form.add_secret("token", token);
    form.add(
        "token_type_hint",
        match hint {
            TokenTypeHint::AccessToken => "access_token",
            TokenTypeHint::RefreshToken => "refresh_token",
        },
    );
    let (reply, sent) = post(http, revocation_endpoint, client, form).await?;
    let expected = "answer to a revocation";
    match reply.is_success() {
        true if reply.text().trim_ascii_start().starts_with(b"<") => Err(reply.malformed(expected)),
        true => Ok(()),
        false => Err(failure(&reply, &sent, expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Canned, answer, cli, http, json};
    use super::*;

    async fn revoked(reply: String) -> (Result<(), IssuerError>, String) {
        let server = Canned::serving(vec![reply]).await;
        let token = Secret::new("R+T".into());
        let result = request(&http(), &server.url, &cli(), &token, TokenTypeHint::RefreshToken).await;
        (result, server.body(0))
    }

    #[tokio::test]
    async fn success_needs_no_body_and_a_refusal_is_told() {
        let (result, body) = revoked(answer(200, "", "")).await;
        result.expect("revoked");
        assert_eq!(body, "token=R%2BT&token_type_hint=refresh_token&client_id=cli");
        let (result, _) = revoked(json(400, r#"{"error":"unsupported_token_type"}"#)).await;
        assert_eq!(result.expect_err("refused").to_string(), "the issuer refused: unsupported_token_type");
        let (result, _) = revoked(answer(200, "content-type: text/html\r\n", "")).await;
        result.expect("what an empty body is called does not matter");
        let page = answer(200, "content-type: text/html\r\n", "\n<!doctype html><p>Sign in to the network");
        for reply in [page, answer(302, "location: /login\r\n", ""), answer(404, "", "<html>"), answer(503, "", "")] {
            let (result, _) = revoked(reply.clone()).await;
            assert!(!matches!(result, Ok(()) | Err(IssuerError::Refused(_))), "{reply}: {result:?}");
        }
    }
}
