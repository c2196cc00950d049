//! Fetches the list in which an issuer says which of its tokens it has revoked (IETF, "Token Status List").

use url::Url;

use super::error::IssuerError;
use super::http::Http;

/// Fetches the status list token at `uri` as text: the three parts of a signed JWT, which nobody has believed yet, at
/// most 1 MiB (Token Status List, sections 8.1 and 8.2).
///
/// # Errors
/// [`IssuerError`]; [`IssuerError::Malformed`] where it is anything else.
pub async fn fetch(http: &Http, uri: &Url) -> Result<String, IssuerError> {
    let reply = http.get(uri, "application/statuslist+jwt", None).await?;
    if let Some(busy) = reply.busy() {
        return Err(busy);
    }
    let found = reply.text().trim_ascii();
    if reply.is_success()
        && is_signed_jwt(found)
        && let Ok(text) = std::str::from_utf8(found)
    {
        return Ok(text.to_owned());
    }
    Err(reply.malformed("status list in a JWT"))
}

/// Whether it looks like a compact JWS (RFC 7515, section 7.1): three parts of base64url, none of them empty.
fn is_signed_jwt(text: &[u8]) -> bool {
    let base64url =
        |part: &[u8]| !part.is_empty() && part.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b));
    text.split(|byte| *byte == b'.').count() == 3 && text.split(|byte| *byte == b'.').all(base64url)
}

#[cfg(test)]
mod tests {
    use super::super::http::BODY_LIMIT;
    use super::super::testing::{Canned, answer, http, nobody};
    use super::*;

    fn list(status: u16, body: &str) -> String {
        answer(status, "content-type: application/statuslist+jwt\r\n", body)
    }

    async fn got(answer: String) -> Result<String, IssuerError> {
        let server = Canned::serving(vec![answer]).await;
        let found = fetch(&http(), &server.url).await;
        let asked = server.requests();
        assert_eq!(asked.len(), 1);
        assert!(asked[0].starts_with("GET ") && asked[0].contains("accept: application/statuslist+jwt\r\n"));
        found
    }

    #[tokio::test]
    async fn only_the_shape_of_a_jwt_of_sane_size_is_taken() {
        let fits = format!("a.{}.c", "b".repeat(BODY_LIMIT - 4));
        assert_eq!(fits.len(), BODY_LIMIT);
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
    async fn another_answer_is_told_as_what_it_is() {
        assert!(matches!(got(list(404, "a.b.c")).await, Err(IssuerError::Malformed { .. })));
        assert!(matches!(got(list(503, "a.b.c")).await, Err(IssuerError::Busy { status: 503, .. })));
        let error = fetch(&http(), &nobody().await).await.expect_err("refused");
        assert!(matches!(error, IssuerError::Unreachable { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn it_goes_nowhere_else_and_never_in_the_clear() {
        let other = Canned::serving(vec![list(200, "a.b.c")]).await;
        let redirect = answer(302, &format!("location: {}\r\n", other.url), "a.b.c");
        assert!(matches!(got(redirect).await, Err(IssuerError::Malformed { .. })));
        assert_eq!(other.requests().len(), 0);
        let plain = Url::parse("http://issuer.example/statuslists/1").expect("valid");
        assert!(matches!(fetch(&http(), &plain).await, Err(IssuerError::Insecure(_))));
    }
}
