//! Fetches the keys that an issuer signs with (RFC 7517, section 5).

use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::error::IssuerError;
use super::http::Http;

/// No key set is larger.
const LIMIT: usize = 256 * 1024;

#[derive(Deserialize)]
struct KeySet {
    #[allow(dead_code, reason = "only its shape is checked here; the keys are judged one by one where they are used")]
    keys: Vec<IgnoredAny>,
}

/// Fetches the JWK Set at `jwks_uri` as text: a JSON object with a `keys` array, at most 256 KiB.
///
/// # Errors
/// [`IssuerError`]; [`IssuerError::Malformed`] where it is anything else.
pub async fn fetch(http: &Http, jwks_uri: &Url) -> Result<String, IssuerError> {
    let reply = http.get(jwks_uri, "application/jwk-set+json, application/json", None).await?;
    if let Some(busy) = reply.busy() {
        return Err(busy);
    }
    let found = reply.text();
    if reply.is_success()
        && found.len() <= LIMIT
        && reply.object::<KeySet>().is_some()
        && let Ok(text) = std::str::from_utf8(found)
    {
        return Ok(text.to_owned());
    }
    Err(reply.malformed("JWK Set of at most 256 KiB"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Canned, http, json};
    use super::*;

    #[tokio::test]
    async fn only_a_key_set_of_sane_size_is_taken() {
        let fits = format!(r#"{{"keys":[{{"kty":"{}"}}]}}"#, "x".repeat(LIMIT - 21));
        assert_eq!(fits.len(), LIMIT);
        for (body, taken) in [
            (r#"{"keys":[]}"#.to_owned(), true),
            (r#"{"keys":[1,{"kty":"x"}],"more":{}}"#.to_owned(), true),
            (fits.clone(), true),
            (format!("{fits} "), false),
            (r#"[[]]"#.to_owned(), false),
            (r#"{"keys":{}}"#.to_owned(), false),
            (r#"{"keys":[],"keys":[]}"#.to_owned(), false),
            (r#"{"keys":[]"#.to_owned(), false),
            ("<html>".to_owned(), false),
            (String::new(), false),
        ] {
            let server = Canned::serving(vec![json(200, &body)]).await;
            let found = fetch(&http(), &server.url).await;
            let start: String = body.chars().take(40).collect();
            assert_eq!(found.is_ok(), taken, "{start}");
            assert!(found.map_or(true, |text| text == body), "{start}");
        }
    }
}
