//! Registers authctl as a client, and deletes the registration (RFC 7591; RFC 7592).

use serde::Deserialize;
use serde_json::json;

use super::error::IssuerError;
use super::http::{Credentials, Http};
use super::http_response::HttpResponse;
use super::lenient_json::{LenientString, secret};
use super::metadata::Metadata;
use super::token_endpoint::response_error;
use crate::clock::UnixTime;
use crate::model::{ClientAuth, Registration, RegistrationManagement};
use crate::secret::{Secret, SecretBytes};

/// The name that an issuer shows its users.
const CLIENT_NAME: &str = "authctl";

/// The maximum length of a client ID, a secret or a registration access token in bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// The response as sent (RFC 7591, section 3.2.1; RFC 7592, section 3). Members of the wrong type count as absent.
#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    client_id: LenientString,
    #[serde(default, deserialize_with = "secret")]
    client_secret: Option<Secret>,
    #[serde(default)]
    client_secret_expires_at: serde_json::Value,
    #[serde(default)]
    token_endpoint_auth_method: LenientString,
    #[serde(default)]
    registration_client_uri: LenientString,
    #[serde(default, deserialize_with = "secret")]
    registration_access_token: Option<Secret>,
}

/// Registers a native client with this redirect URI at the registration endpoint of `metadata`.
///
/// # Errors
/// [`IssuerError`]; [`IssuerError::Unsupported`] if there is no endpoint.
pub async fn register(http: &Http, metadata: &Metadata, redirect_uri: &str) -> Result<Registration, IssuerError> {
    let endpoint = metadata.registration_endpoint.as_ref();
    let endpoint = endpoint.ok_or(IssuerError::Unsupported { what: "registration_endpoint" })?;
    let requested = preferred_auth(metadata);
    // No scope: the client is used for every API of the issuer.
    let request = json!({
        "client_name": CLIENT_NAME,
        "application_type": "native",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": requested.as_str(),
    });
    let mut body = SecretBytes::default();
    body.extend(request.to_string().as_bytes());
    let response = http.post_json(endpoint, body, None).await?;
    if let Some(error) = response.unavailable() {
        return Err(error);
    }
    if !response.is_success() {
        return Err(response_error(&response, &[], "a client registration"));
    }
    registered(http, metadata, &response, requested, redirect_uri)
}

fn registered(
    http: &Http,
    metadata: &Metadata,
    response: &HttpResponse,
    requested: ClientAuth,
    redirect_uri: &str,
) -> Result<Registration, IssuerError> {
    let found: Response = response.object().ok_or_else(|| response.unexpected("a client registration"))?;
    let invalid = |what: &str| IssuerError::InvalidResponse {
        from: response.host.clone(),
        what: format!("a client registration with {what}"),
        wrong_address: false,
    };
    let is_usable =
        |text: &str| !text.is_empty() && text.len() <= MAX_LENGTH && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    let client_id = found.client_id.0.filter(|id| is_usable(id)).ok_or_else(|| invalid("an invalid client_id"))?;
    let client_secret = found.client_secret.filter(|secret| is_usable(secret.expose()));
    let client_auth = match found.token_endpoint_auth_method.0.as_deref() {
        None => requested,
        Some(method) => method.parse().map_err(|_| invalid("another token_endpoint_auth_method"))?,
    };
    if client_auth == ClientAuth::PrivateKeyJwt || client_auth.needs_secret() && client_secret.is_none() {
        return Err(invalid("an authentication method that it gives no secret for"));
    }
    let management = match (found.registration_client_uri.0, found.registration_access_token) {
        (Some(url), Some(token)) if is_usable(token.expose()) => {
            Some(RegistrationManagement { url: http.named_url(&url)?, token })
        }
        _ => None,
    };
    Ok(Registration {
        issuer: metadata.issuer.clone(),
        client_id,
        client_auth,
        client_secret: client_secret.filter(|_| client_auth.needs_secret()),
        // 0 if it does not expire (RFC 7591, section 3.2.1).
        secret_expires_at: found.client_secret_expires_at.as_i64().filter(|at| *at > 0).map(UnixTime),
        redirect_uri: redirect_uri.to_owned(),
        management,
    })
}

/// Returns the authentication method to register: none where the issuer lists it or lists nothing, since this program can keep
/// no secret from its user.
fn preferred_auth(metadata: &Metadata) -> ClientAuth {
    let listed = metadata.token_endpoint_auth_methods_supported.as_deref().unwrap_or_default();
    let offers = |method: ClientAuth| listed.iter().any(|listed| listed == method.as_str());
    if listed.is_empty() || offers(ClientAuth::None) { ClientAuth::None } else { metadata.confidential_auth() }
}

/// Returns whether the registration still exists, as far as the issuer reports (RFC 7592, section 2.1).
///
/// # Errors
/// [`IssuerError`] if there is no response.
pub async fn exists(http: &Http, management: &RegistrationManagement) -> Result<bool, IssuerError> {
    let credentials = Credentials::of_token("Bearer", &management.token)?;
    let response = http.get(&management.url, "application/json", Some(credentials)).await?;
    Ok(!matches!(response.status, 401 | 403 | 404 | 410))
}

/// Deletes a registration (RFC 7592, section 2.3). One that does not exist any more counts as deleted.
///
/// # Errors
/// [`IssuerError`].
pub async fn delete(http: &Http, management: &RegistrationManagement) -> Result<(), IssuerError> {
    let credentials = Credentials::of_token("Bearer", &management.token)?;
    let response = http.delete(&management.url, credentials).await?;
    match response.status {
        200..300 | 401 | 404 | 410 => Ok(()),
        _ => Err(response.unavailable().unwrap_or_else(|| response.unexpected("a deleted client registration"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestServer, answer, http, json as reply};
    use super::*;

    const REDIRECT: &str = "http://127.0.0.1:7/callback";

    /// Registers at a server with these authentication methods that gives `answer`; returns the request too.
    async fn registering(methods: &[&str], answer: String) -> (Result<Registration, IssuerError>, String) {
        let server = TestServer::start(vec![answer]).await;
        let issuer = server.url.origin().ascii_serialization().parse().expect("an issuer");
        let mut metadata = Metadata::with_default_endpoints(&issuer);
        metadata.token_endpoint_auth_methods_supported =
            (!methods.is_empty()).then(|| methods.iter().map(|method| (*method).to_owned()).collect());
        let found = register(&http().for_issuer(&issuer, &std::sync::Arc::default()), &metadata, REDIRECT).await;
        (found, server.body(0))
    }

    #[tokio::test]
    async fn client_is_registered_as_native_with_the_method_of_the_issuer() {
        for (methods, requested, returned, auth) in [
            (&["none", "client_secret_post"][..], "none", r#""client_secret":"s""#, ClientAuth::None),
            (&[], "none", r#""client_secret":"s""#, ClientAuth::None),
            (&["client_secret_post"], "client_secret_post", r#""client_secret":"s""#, ClientAuth::ClientSecretPost),
            (&["client_secret_basic"], "client_secret_basic", r#""client_secret":"s""#, ClientAuth::ClientSecretBasic),
            (
                &["none"],
                "none",
                r#""client_secret":"s","token_endpoint_auth_method":"client_secret_basic""#,
                ClientAuth::ClientSecretBasic,
            ),
        ] {
            let (found, request) =
                registering(methods, reply(201, &format!(r#"{{"client_id":"c",{returned}}}"#))).await;
            let found = found.expect("registered");
            assert_eq!((found.client_id.as_str(), found.client_auth), ("c", auth), "{methods:?}");
            assert_eq!(found.client_secret.is_some(), auth.needs_secret());
            let request: serde_json::Value = serde_json::from_str(&request).expect("JSON");
            assert_eq!(request["token_endpoint_auth_method"], requested);
            assert_eq!(
                (&request["application_type"], &request["redirect_uris"]),
                (&json!("native"), &json!([REDIRECT]))
            );
            assert_eq!(request["grant_types"], json!(["authorization_code", "refresh_token"]));
        }
    }

    #[tokio::test]
    async fn hostile_registration_is_rejected_without_quoting_it() {
        let long = format!(r#"{{"client_id":"hunter2{}"}}"#, "x".repeat(MAX_LENGTH));
        for body in [
            "hunter2",
            "[]",
            "{}",
            r#"{"client_id":""}"#,
            r#"{"client_id":7}"#,
            r#"{"client_id":"hunter2\u001b[31m"}"#,
            long.as_str(),
            r#"{"client_id":"c","token_endpoint_auth_method":"hunter2"}"#,
            r#"{"client_id":"c","token_endpoint_auth_method":"private_key_jwt"}"#,
            r#"{"client_id":"c","token_endpoint_auth_method":"client_secret_basic"}"#,
            r#"{"client_id":"c","registration_access_token":"t","registration_client_uri":"http://a.example/c"}"#,
        ] {
            let error = registering(&["none"], reply(201, body)).await.0.expect_err(body).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        for status in [400, 401, 403, 500] {
            let error =
                registering(&[], reply(status, r#"{"hunter2":"hunter2"}"#)).await.0.expect_err("refused").to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let refused = registering(&[], reply(400, r#"{"error":"invalid_redirect_uri"}"#)).await.0.expect_err("refused");
        assert!(matches!(refused, IssuerError::Refused(_)), "{refused}");
    }

    #[tokio::test]
    async fn registration_is_looked_up_and_deleted_with_its_token() {
        for (status, there, deleted) in [
            (200, true, true),
            (204, true, true),
            (401, false, true),
            (404, false, true),
            (403, false, false),
            (503, true, false),
        ] {
            let server = TestServer::start(vec![answer(status, "", ""), answer(status, "", "")]).await;
            let management = RegistrationManagement { url: server.url.clone(), token: Secret::new("t".into()) };
            assert_eq!(exists(&http(), &management).await.expect("a response"), there, "{status}");
            assert_eq!(delete(&http(), &management).await.is_ok(), deleted, "{status}");
            let requests = server.requests();
            assert!(requests[0].starts_with("GET ") && requests[1].starts_with("DELETE "));
            assert!(requests.iter().all(|request| request.contains("authorization: Bearer t\r\n")), "{requests:?}");
        }
        let server = TestServer::start(vec![answer(302, "location: /clients/hunter2-token\r\n", "")]).await;
        let management = RegistrationManagement { url: server.url.clone(), token: Secret::new("hunter2-token".into()) };
        let error = delete(&http(), &management).await.expect_err("not deleted").to_string();
        assert!(error.contains("(a redirect)") && !error.contains("hunter2"), "{error}");
    }
}
