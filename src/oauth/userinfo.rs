//! The userinfo endpoint (OpenID Connect Core 1.0, section 5.3).

use serde::Deserialize;
use url::Url;

use super::dpop::{DpopKey, Proof, ProvenRequest};
use super::error::IssuerError;
use super::http::{Credentials, Http};
use super::lenient_json::LenientString;
use super::token_endpoint::response_error;
use crate::clock::Clock;
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

/// Fetches the subject of an access token, with a proof of the key that it is `bound_to`. A response signed as a JWT is not
/// supported.
///
/// # Errors
/// [`IssuerError`]; [`IssuerError::InvalidResponse`] if there is no `sub`.
pub async fn fetch(
    http: &Http,
    userinfo_endpoint: &Url,
    access_token: &Secret,
    bound_to: Option<(&DpopKey, &dyn Clock)>,
) -> Result<Subject, IssuerError> {
    let request = ProvenRequest { method: "GET", url: userinfo_endpoint, access_token: Some(access_token) };
    let scheme = if bound_to.is_some() { "DPoP" } else { "Bearer" };
    let mut is_again = false;
    let response = loop {
        let proof = bound_to.map(|(key, clock)| http.proof(key, &request, clock.now())).transpose()?;
        let (proof, nonce) = proof.map(Proof::into_parts).transpose()?.unzip();
        let credentials = Credentials { proof, ..Credentials::of_token(scheme, access_token)? };
        let response = http.get(userinfo_endpoint, "application/json", Some(credentials)).await?;
        // The server wants a nonce (RFC 9449, section 9).
        let wants_nonce = response.dpop_nonce.is_some() && response.dpop_nonce != nonce.flatten();
        if bound_to.is_none() || response.status != 401 || !wants_nonce || std::mem::replace(&mut is_again, true) {
            break response;
        }
    };
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
    use super::super::testing::{TestClock, TestServer, answer, http, json};
    use super::*;

    async fn fetched(server: &TestServer) -> Result<Subject, IssuerError> {
        fetch(&http(), &server.url, &Secret::new("AT".into()), None).await
    }

    #[tokio::test]
    async fn bound_token_is_sent_with_a_proof_and_once_more_with_the_nonce() {
        let nonce = |status| answer(status, "dpop-nonce: n1\r\n", "");
        let server = TestServer::start(vec![nonce(401), json(200, r#"{"sub":"1"}"#)]).await;
        let (key, clock) = (DpopKey::generate().expect("a key"), TestClock::new());
        let found = fetch(&http(), &server.url, &Secret::new("AT".into()), Some((&key, &clock))).await;
        assert_eq!(found.expect("a subject").sub, "1");
        let requests = server.requests();
        let is_bound = |head: &String| head.contains("authorization: DPoP AT\r\n") && head.contains("dpop: ey");
        assert!(requests.len() == 2 && requests.iter().all(is_bound), "{requests:?}");
        let server = TestServer::start(vec![nonce(401), nonce(401)]).await;
        fetch(&http(), &server.url, &Secret::new("AT".into()), Some((&key, &clock))).await.expect_err("refused");
        assert_eq!(server.requests().len(), 2);
    }

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
            let subject = fetched(&server).await.expect(body);
            assert_eq!((subject.sub.as_str(), subject.name.as_deref()), ("1", name), "{body}");
            assert!(server.requests()[0].contains("authorization: Bearer AT\r\n"));
        }
    }

    #[tokio::test]
    async fn response_without_sub_is_invalid() {
        let long = format!(r#"{{"sub":"{}"}}"#, "s".repeat(256));
        for (status, body) in [
            (200, "{}"),
            (200, r#"{"sub":""}"#),
            (200, r#"{"sub":1}"#),
            (200, &long),
            (200, "a.b.c"),
            (401, r#"{"sub":"1"}"#),
        ] {
            let server = TestServer::start(vec![json(status, body)]).await;
            let error = fetched(&server).await.expect_err(body);
            let is_reported = matches!(error, IssuerError::InvalidResponse { .. } | IssuerError::Rejected { .. });
            assert!(is_reported, "{error:?}");
        }
    }
}
