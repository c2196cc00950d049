//! Token revocation (RFC 7009).

use url::Url;

use super::client_auth::OAuthClient;
use super::error::IssuerError;
use super::form::Form;
use super::http::Http;
use super::token_endpoint::{post, response_error};
use super::token_response::parse_error_response;
use crate::secret::Secret;

/// `token_type_hint`: the kind of token that is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenTypeHint {
    /// Revokes the access token alone, if the issuer can.
    AccessToken,
    /// Revokes the grant, and with many issuers its access tokens.
    RefreshToken,
}

/// Revokes `token` at the `revocation_endpoint`. A token that the issuer does not know counts as revoked (section 2.2), also at
/// an issuer that refuses it as invalid.
/// The body of a success is ignored (same section), unless it is an error response, or HTML: that comes from something in between,
/// such as a captive portal, and nothing was revoked.
///
/// # Errors
/// [`IssuerError`]; `unsupported_token_type` is [`IssuerError::Refused`].
pub async fn revoke(
    http: &Http,
    revocation_endpoint: &Url,
    client: &OAuthClient,
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
    let (response, sent) = post(http, revocation_endpoint, client, form, None).await?;
    let expected = "a revocation response";
    let is_page = response.text().trim_ascii_start().starts_with(b"<");
    if response.is_success() && !is_page && parse_error_response(&response, &sent).is_none() {
        return Ok(());
    }
    match response_error(&response, &sent, expected) {
        IssuerError::Refused(error) if matches!(error.code.as_str(), "invalid_token" | "invalid_grant") => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestServer, answer, cli, http, json};
    use super::*;

    async fn revoked(response: String) -> (Result<(), IssuerError>, String) {
        let server = TestServer::start(vec![response]).await;
        let token = Secret::new("R+T".into());
        let result = revoke(&http(), &server.url, &cli(), &token, TokenTypeHint::RefreshToken).await;
        (result, server.body(0))
    }

    #[tokio::test]
    async fn success_needs_no_body_and_html_is_not_success() {
        let (result, body) = revoked(answer(200, "", "")).await;
        result.expect("revoked");
        assert_eq!(body, "token=R%2BT&token_type_hint=refresh_token&client_id=cli");
        let (result, _) = revoked(json(400, r#"{"error":"unsupported_token_type"}"#)).await;
        assert_eq!(result.expect_err("refused").to_string(), "the issuer refused: unsupported_token_type");
        let (result, _) = revoked(json(200, r#"{"error":"invalid_client"}"#)).await;
        assert_eq!(result.expect_err("refused").to_string(), "the issuer refused: invalid_client");
        for body in [r#"{"error":null}"#, r#"{"revoked":true}"#, "{}", "OK"] {
            revoked(json(200, body)).await.0.expect(body);
        }
        for code in ["invalid_token", "invalid_grant"] {
            let (result, _) = revoked(json(400, &format!(r#"{{"error":"{code}"}}"#))).await;
            result.expect("a token that is not valid");
        }
        let (result, _) = revoked(answer(200, "content-type: text/html\r\n", "")).await;
        result.expect("what an empty body is called does not matter");
        let page = answer(200, "content-type: text/html\r\n", "\n<!doctype html><p>Sign in to the network");
        for response in [page, answer(302, "location: /login\r\n", ""), answer(404, "", "<html>"), answer(503, "", "")]
        {
            let (result, _) = revoked(response.clone()).await;
            assert!(!matches!(result, Ok(()) | Err(IssuerError::Refused(_))), "{response}: {result:?}");
        }
    }
}
