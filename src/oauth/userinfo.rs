//! The userinfo endpoint (OpenID Connect Core 1.0, section 5.3).

use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::client_auth::sensitive_header;
use super::error::IssuerError;
use super::http::Http;
use super::lenient_json::LenientString;
use super::token_endpoint::response_error;
use crate::model::Subject;
use crate::secret::Secret;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: LenientString,
    preferred_username: LenientString,
    email: LenientString,
    name: LenientString,
}

/// Fetches the subject of an access token. A response signed as a JWT is not supported.
///
/// # Errors
/// [`IssuerError`]; [`IssuerError::InvalidResponse`] if there is no `sub`.
pub async fn fetch(http: &Http, userinfo_endpoint: &Url, access_token: &Secret) -> Result<Subject, IssuerError> {
    let authorization = sensitive_header(&Zeroizing::new(format!("Bearer {}", access_token.expose())))?;
    let response = http.get(userinfo_endpoint, "application/json", Some(authorization)).await?;
    if !response.is_success() {
        return Err(response_error(&response, std::slice::from_ref(access_token), "claims about the user"));
    }
    let claims: Claims = response.object().unwrap_or_default();
    // Stored exactly, since it identifies the account (OpenID Connect Core 1.0, section 2: at most 255 characters).
    let Some(sub) = claims.sub.0.filter(|sub| sub.len() <= 255) else {
        return Err(response.unexpected("claims about the user with a `sub`"));
    };
    let name = Subject::display_name(|claim| match claim {
        "preferred_username" => claims.preferred_username.0.as_deref(),
        "email" => claims.email.0.as_deref(),
        _ => claims.name.0.as_deref(),
    });
    Ok(Subject { sub, name })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestServer, http, json};
    use super::*;

    #[tokio::test]
    async fn name_is_preferred_username_email_or_name() {
        for (body, name) in [
            (r#"{"sub":"1","name":"n","email":"e","preferred_username":"p"}"#, Some("p")),
            (r#"{"sub":"1","name":"n","email":"e"}"#, Some("e")),
            (r#"{"sub":"1","name":"n\nm"}"#, Some("n m")),
            (r#"{"sub":"1","name":"n","email":" ","preferred_username":""}"#, Some("n")),
            (r#"{"sub":"1","name":5}"#, None),
        ] {
            let server = TestServer::start(vec![json(200, body)]).await;
            let subject = fetch(&http(), &server.url, &Secret::new("AT".into())).await.expect(body);
            assert_eq!((subject.sub.as_str(), subject.name.as_deref()), ("1", name), "{body}");
            assert!(server.requests()[0].contains("authorization: Bearer AT\r\n"));
        }
    }

    #[tokio::test]
    async fn response_without_sub_is_invalid() {
        for (status, body) in
            [(200, "{}"), (200, r#"{"sub":""}"#), (200, r#"{"sub":1}"#), (200, "a.b.c"), (401, r#"{"sub":"1"}"#)]
        {
            let server = TestServer::start(vec![json(status, body)]).await;
            let error = fetch(&http(), &server.url, &Secret::new("AT".into())).await.expect_err(body);
            let is_reported = matches!(error, IssuerError::InvalidResponse { .. } | IssuerError::Rejected { .. });
            assert!(is_reported, "{error:?}");
        }
    }
}
