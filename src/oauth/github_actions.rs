//! The identity token that GitHub Actions issues for a job.

use serde::Deserialize;

use super::error::IssuerError;
use super::http::{Credentials, Http};
use super::lenient_json::secret;
use super::token_endpoint::response_error;
use crate::model::secure_url;
use crate::secret::Secret;

#[derive(Default, Deserialize)]
#[serde(default)]
struct IdTokenReply {
    #[serde(deserialize_with = "secret")]
    value: Option<Secret>,
}

/// Requests the token for `audience` at the address, and with the bearer token, that the platform gives to a job.
///
/// # Errors
/// [`IssuerError::Insecure`] if the address is not https.
pub async fn identity_token(http: &Http, url: &str, bearer: &Secret, audience: &str) -> Result<Secret, IssuerError> {
    let mut url = secure_url(url)?;
    url.query_pairs_mut().append_pair("audience", audience);
    let response = http.get(&url, "application/json", Some(Credentials::of_token("Bearer", bearer)?)).await?;
    if !response.is_success() {
        return Err(response_error(&response, std::slice::from_ref(bearer), "an identity token"));
    }
    let token = response.object::<IdTokenReply>().and_then(|reply| reply.value);
    token.ok_or_else(|| response.unexpected("an identity token"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestServer, answer, http, json};
    use super::*;

    async fn requested(url: &str) -> Result<Secret, IssuerError> {
        identity_token(&http(), url, &Secret::new("bearer-of-the-job".into()), "https://issuer.example/t").await
    }

    #[tokio::test]
    async fn request_names_the_audience_and_authenticates_the_job() {
        let server = TestServer::start(vec![json(200, r#"{"count":1,"value":"a.b.c"}"#)]).await;
        let token = requested(&format!("{}?api-version=2.0", server.url)).await.expect("a token");
        assert_eq!(token.expose(), "a.b.c");
        let request = &server.requests()[0];
        assert!(
            request.starts_with("GET /token?api-version=2.0&audience=https%3A%2F%2Fissuer.example%2Ft "),
            "{request}"
        );
        assert!(request.to_ascii_lowercase().contains("authorization: bearer bearer-of-the-job\r\n"), "{request}");
    }

    #[tokio::test]
    async fn reply_without_a_token_and_plain_http_are_errors() {
        for reply in [
            json(200, "{}"),
            json(200, r#"{"value":1}"#),
            json(403, r#"{"message":"bearer-of-the-job"}"#),
            answer(302, "location: /log-in/bearer-of-the-job\r\n", ""),
        ] {
            let server = TestServer::start(vec![reply.clone()]).await;
            let error = requested(server.url.as_str()).await.expect_err(&reply).to_string();
            assert!(!error.contains("bearer-of-the-job"), "{error}");
        }
        let error = requested("http://pipelines.example/token").await.expect_err("not https");
        assert!(matches!(error, IssuerError::Insecure(_)), "{error}");
    }
}
