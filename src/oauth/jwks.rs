//! Fetches the issuer's signing keys (RFC 7517, section 5).

use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::error::IssuerError;
use super::http::Http;
use crate::model::MAX_JWKS_LENGTH;

#[derive(Deserialize)]
struct JwksShape {
    #[allow(dead_code, reason = "only its shape is checked here; each key is checked where it is used")]
    keys: Option<Vec<IgnoredAny>>,
    /// A gateway's own reply may be an object without keys as well.
    error: Option<IgnoredAny>,
}

/// Fetches the JWK Set at `jwks_uri` as text: a JSON object of at most [`MAX_JWKS_LENGTH`]. Without `keys` it is an empty set.
///
/// # Errors
/// [`IssuerError`]; [`IssuerError::InvalidResponse`] for any other response.
pub async fn fetch(http: &Http, jwks_uri: &Url) -> Result<String, IssuerError> {
    let response = http.get(jwks_uri, "application/jwk-set+json, application/json", None).await?;
    if let Some(error) = response.unavailable() {
        return Err(error);
    }
    let body = response.text();
    if response.is_success()
        && body.len() <= MAX_JWKS_LENGTH
        && response.object::<JwksShape>().is_some_and(|set| set.keys.is_some() || set.error.is_none())
        && let Ok(text) = std::str::from_utf8(body)
    {
        return Ok(text.to_owned());
    }
    Err(response.no_document(&format!("a JWK Set of at most {} KiB", MAX_JWKS_LENGTH / 1024)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestServer, http, json};
    use super::*;

    #[tokio::test]
    async fn only_a_jwk_set_of_at_most_256_kib_is_accepted() {
        let fits = format!(r#"{{"keys":[{{"kty":"{}"}}]}}"#, "x".repeat(MAX_JWKS_LENGTH - 21));
        assert_eq!(fits.len(), MAX_JWKS_LENGTH);
        for (body, taken) in [
            (r#"{"keys":[]}"#.to_owned(), true),
            (r#"{"keys":[1,{"kty":"x"}],"more":{}}"#.to_owned(), true),
            (fits.clone(), true),
            (format!("{fits} "), false),
            (r#"{"keys":null}"#.to_owned(), true),
            (r#"{"comment":"none"}"#.to_owned(), true),
            (r#"{"error":"try later"}"#.to_owned(), false),
            (r#"[[]]"#.to_owned(), false),
            (r#"{"keys":{}}"#.to_owned(), false),
            (r#"{"keys":[],"keys":[]}"#.to_owned(), false),
            (r#"{"keys":[]"#.to_owned(), false),
            ("<html>".to_owned(), false),
            (String::new(), false),
        ] {
            let server = TestServer::start(vec![json(200, &body)]).await;
            let found = fetch(&http(), &server.url).await;
            let start: String = body.chars().take(40).collect();
            assert_eq!(found.is_ok(), taken, "{start}");
            assert!(found.map_or(true, |text| text == body), "{start}");
        }
    }
}
