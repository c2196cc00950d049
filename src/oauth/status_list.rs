//! Fetches status lists, in which issuers publish revoked tokens (IETF, "Token Status List").

use url::Url;

use super::error::IssuerError;
use super::http::Http;

/// Fetches the status list token at `uri`: a signed JWT that is not verified here, at most
/// 1 MiB (Token Status List, sections 8.1 and 8.2).
///
/// # Errors
/// [`IssuerError`]; [`IssuerError::InvalidResponse`] for any other response.
pub async fn fetch(http: &Http, uri: &Url) -> Result<String, IssuerError> {
    let response = http.get(uri, "application/statuslist+jwt", None).await?;
    if let Some(error) = response.unavailable() {
        return Err(error);
    }
    let found = response.text().trim_ascii();
    if response.is_success()
        && is_signed_jwt(found)
        && let Ok(text) = std::str::from_utf8(found)
    {
        return Ok(text.to_owned());
    }
    Err(response.no_document("a status list in a JWT"))
}

/// Returns whether it looks like a compact JWS (RFC 7515, section 7.1): three parts of base64url, none of them empty.
fn is_signed_jwt(text: &[u8]) -> bool {
    let base64url =
        |part: &[u8]| !part.is_empty() && part.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b));
    text.split(|byte| *byte == b'.').count() == 3 && text.split(|byte| *byte == b'.').all(base64url)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::content_coding::MAX_BODY_SIZE;
    use super::super::testing::{TestServer, answer, http, unused_address};
    use super::*;

    fn list(status: u16, body: &str) -> String {
        answer(status, "content-type: application/statuslist+jwt\r\n", body)
    }

    async fn got(answer: String) -> Result<String, IssuerError> {
        let server = TestServer::start(vec![answer]).await;
        let found = fetch(&http(), &server.url).await;
        let asked = server.requests();
        assert_eq!(asked.len(), 1);
        assert!(asked[0].starts_with("GET ") && asked[0].contains("accept: application/statuslist+jwt\r\n"));
        found
    }

    #[tokio::test]
    async fn only_a_signed_jwt_of_at_most_1_mib_is_accepted() {
        let fits = format!("a.{}.c", "b".repeat(MAX_BODY_SIZE - 4));
        assert_eq!(fits.len(), MAX_BODY_SIZE);
        for (body, taken) in [
            ("eyJ.e30.c-_2", true),
            ("a.b.c\n", true),
            (fits.as_str(), true),
            (&format!("{fits}c"), false),
            ("a.b", false),
            ("a.b.c.d", false),
            ("a..c", false),
            ("a.b.", false),
            ("a.b.c=", false),
            ("a.b c.d", false),
            ("<html>.a.b", false),
            ("", false),
        ] {
            let found = got(list(200, body)).await;
            let start: String = body.chars().take(40).collect();
            assert_eq!(found.is_ok(), taken, "{start}");
            assert!(found.map_or(true, |text| text == body.trim_ascii()), "{start}");
        }
    }

    #[tokio::test]
    async fn invalid_and_unavailable_responses_are_distinguished() {
        assert!(matches!(got(list(404, "a.b.c")).await, Err(IssuerError::InvalidResponse { .. })));
        assert!(matches!(got(list(503, "a.b.c")).await, Err(IssuerError::Unavailable { status: 503, .. })));
        let error = fetch(&http(), &unused_address().await).await.expect_err("refused");
        assert!(matches!(error, IssuerError::Unreachable { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn redirects_plain_http_and_local_services_are_rejected() {
        let other = TestServer::start(vec![list(200, "a.b.c")]).await;
        let redirect = answer(302, &format!("location: {}\r\n", other.url), "a.b.c");
        assert!(matches!(got(redirect).await, Err(IssuerError::InvalidResponse { .. })));
        assert_eq!(other.requests().len(), 0);
        let plain = Url::parse("http://issuer.example/statuslists/1").expect("valid");
        assert!(matches!(fetch(&http(), &plain).await, Err(IssuerError::Insecure(_))));
        let remote = http().for_issuer(&"https://issuer.example".parse().expect("valid"), &Arc::default());
        assert!(matches!(fetch(&remote, &other.url).await, Err(IssuerError::Insecure(_))), "on loopback");
        assert_eq!(other.requests().len(), 0);
    }
}
