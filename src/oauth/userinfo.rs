//! Asks the issuer whose an access token is (OpenID Connect Core 1.0, section 5.3).

use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::client::sensitive;
use super::error::IssuerError;
use super::http::Http;
use super::reply::Lenient;
use super::token_endpoint::failure;
use crate::model::Subject;
use crate::secret::Secret;
use crate::ui::sanitize_for_terminal;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: Lenient,
    preferred_username: Lenient,
    email: Lenient,
    name: Lenient,
}

/// Asks the `userinfo_endpoint` who the user is. An answer signed as a JWT is not read.
///
/// # Errors
/// [`IssuerError`]; [`IssuerError::Malformed`] where there is no `sub`.
pub async fn fetch(http: &Http, userinfo_endpoint: &Url, access_token: &Secret) -> Result<Subject, IssuerError> {
    let authorization = sensitive(&Zeroizing::new(format!("Bearer {}", access_token.expose())))?;
    let reply = http.get(userinfo_endpoint, "application/json", Some(authorization)).await?;
    if !reply.is_success() {
        return Err(failure(&reply, std::slice::from_ref(access_token), "claims about the user"));
    }
    let claims: Claims = reply.object().unwrap_or_default();
    // Kept exactly, since sessions are told apart by it (OpenID Connect Core 1.0, section 2: at most 255 characters).
    let Some(sub) = claims.sub.0.filter(|sub| sub.len() <= 255) else {
        return Err(reply.malformed("claims about the user with a `sub`"));
    };
    let name = claims.preferred_username.0.or(claims.email.0).or(claims.name.0);
    Ok(Subject { sub, name: name.map(|n| sanitize_for_terminal(&n, 255)) })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Canned, http, json};
    use super::*;

    #[tokio::test]
    async fn a_subject_with_the_best_name_there_is() {
        for (body, name) in [
            (r#"{"sub":"1","name":"n","email":"e","preferred_username":"p"}"#, Some("p")),
            (r#"{"sub":"1","name":"n","email":"e"}"#, Some("e")),
            (r#"{"sub":"1","name":"n\u001b[2J"}"#, Some("n\u{fffd}[2J")),
            (r#"{"sub":"1","name":5}"#, None),
        ] {
            let server = Canned::serving(vec![json(200, body)]).await;
            let subject = fetch(&http(), &server.url, &Secret::new("AT".into())).await.expect(body);
            assert_eq!((subject.sub.as_str(), subject.name.as_deref()), ("1", name), "{body}");
            assert!(server.requests()[0].contains("authorization: Bearer AT\r\n"));
        }
    }

    #[tokio::test]
    async fn nobody_is_made_up() {
        for (status, body) in
            [(200, "{}"), (200, r#"{"sub":""}"#), (200, r#"{"sub":1}"#), (200, "a.b.c"), (401, r#"{"sub":"1"}"#)]
        {
            let server = Canned::serving(vec![json(status, body)]).await;
            let error = fetch(&http(), &server.url, &Secret::new("AT".into())).await.expect_err(body);
            assert!(matches!(error, IssuerError::Malformed { .. }), "{error:?}");
        }
    }
}
