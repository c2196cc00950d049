//! Fetches authorization server metadata (OpenID Connect Discovery 1.0; RFC 8414).

use serde::Deserialize;
use url::Url;

use super::error::IssuerError;
use super::http::Http;
use super::http_response::HttpResponse;
use super::lenient_json::{LenientString, boolean, string_list};
use super::metadata::{Endpoint, Metadata};
use crate::model::IssuerUrl;
use crate::text::excerpt;

/// Fetches the issuer's metadata: the first document that there is of [`metadata_urls`].
///
/// # Errors
/// [`IssuerError::IssuerMismatch`] if the document is another issuer's, compared character by character;
/// [`IssuerError::Insecure`] if it has a URL that is not https, or a loopback one of an issuer elsewhere;
/// [`IssuerError::NotAnIssuer`] or [`IssuerError::InvalidResponse`] if there is neither document.
pub async fn discover(http: &Http, issuer: &IssuerUrl) -> Result<Metadata, IssuerError> {
    let mut urls = metadata_urls(issuer).into_iter();
    let mut first = None;
    while let Some(url) = urls.next() {
        let response = http.get(&url, "application/json", None).await?;
        if let Some(document) = document(&response)? {
            return Ok(Metadata { fallback_urls: urls.collect(), ..validate(issuer, document)? });
        }
        first.get_or_insert(response);
    }
    Err(match first {
        None => IssuerError::Unsupported { what: "metadata" },
        Some(response) if matches!(response.status, 404 | 410) => {
            IssuerError::NotAnIssuer { url: issuer.to_string(), status: response.status }
        }
        Some(response) => response.no_document("authorization server metadata"),
    })
}

/// Adds `needed` endpoints that `metadata` does not have from RFC 8414's document, which is fetched only if one is missing.
/// A document that cannot be fetched or is another issuer's adds nothing, which is not an error here: the caller reports an
/// endpoint that is still missing.
pub async fn fetch_missing_endpoints(http: &Http, metadata: &mut Metadata, needed: &[Endpoint]) {
    let missing: Vec<Endpoint> =
        needed.iter().copied().filter(|which| metadata.endpoint_mut(*which).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    for url in std::mem::take(&mut metadata.fallback_urls) {
        let found = match http.get(&url, "application/json", None).await.and_then(|response| document(&response)) {
            Ok(Some(document)) => validate(&metadata.issuer, document),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match found {
            Ok(mut second) => {
                if missing.contains(&Endpoint::Authorization) {
                    // These members describe the responses of the authorization endpoint.
                    metadata.iss_parameter_supported |= second.iss_parameter_supported;
                    if metadata.code_challenge_methods_supported.is_none() {
                        metadata.code_challenge_methods_supported = second.code_challenge_methods_supported.take();
                    }
                }
                for which in missing {
                    *metadata.endpoint_mut(which) = second.endpoint_mut(which).take();
                }
            }
            Err(error) => tracing::info!("cannot use the metadata at {}: {error}", url.path()),
        }
        return;
    }
}

/// Returns where metadata may be: OpenID Connect's document below the issuer (OpenID Connect Discovery 1.0, section 4), RFC
/// 8414's between host and path (section 3.1), and each in the place of the other, where some servers have it (RFC 8414, section
/// 5).
fn metadata_urls(issuer: &IssuerUrl) -> Vec<Url> {
    const OAUTH: &str = "/.well-known/oauth-authorization-server";
    const OPENID: &str = "/.well-known/openid-configuration";
    let path = issuer.url().path().trim_end_matches('/');
    let mut paths = vec![format!("{path}{OPENID}"), format!("{OAUTH}{path}")];
    if !path.is_empty() {
        paths.extend([format!("{path}{OAUTH}"), format!("{OPENID}{path}")]);
    }
    let with_path = |path: String| {
        let mut url = issuer.url().clone();
        url.set_path(&path);
        url
    };
    paths.into_iter().map(with_path).collect()
}

/// The document as sent. Members of the wrong type count as absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    issuer: LenientString,
    authorization_endpoint: LenientString,
    token_endpoint: LenientString,
    jwks_uri: LenientString,
    device_authorization_endpoint: LenientString,
    revocation_endpoint: LenientString,
    end_session_endpoint: LenientString,
    userinfo_endpoint: LenientString,
    registration_endpoint: LenientString,
    pushed_authorization_request_endpoint: LenientString,
    #[serde(deserialize_with = "boolean")]
    require_pushed_authorization_requests: bool,
    #[serde(deserialize_with = "string_list")]
    dpop_signing_alg_values_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "boolean")]
    client_id_metadata_document_supported: bool,
    #[serde(deserialize_with = "string_list")]
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "string_list")]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "string_list")]
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "string_list")]
    grant_types_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "string_list")]
    scopes_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "boolean")]
    authorization_response_iss_parameter_supported: bool,
}

/// Parses the document in `response`; `None` if there is none.
fn document(response: &HttpResponse) -> Result<Option<Document>, IssuerError> {
    if let Some(error) = response.unavailable() {
        return Err(error);
    }
    if !response.is_success() {
        return Ok(None);
    }
    Ok(response.object().filter(|document: &Document| document.issuer.0.is_some()))
}

/// Checks the issuer and the URLs of a document.
fn validate(expected: &IssuerUrl, document: Document) -> Result<Metadata, IssuerError> {
    let found = document.issuer.0.unwrap_or_default();
    if found != expected.as_str() {
        return Err(IssuerError::IssuerMismatch { expected: expected.to_string(), found: excerpt(&found, 200) });
    }
    let url = |member: LenientString| member.0.as_deref().map(|text| expected.named_url(text)).transpose();
    // An empty list counts as absent: it should have been left out (RFC 8414, section 2).
    let nonempty = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty());
    Ok(Metadata {
        issuer: expected.clone(),
        authorization_endpoint: url(document.authorization_endpoint)?,
        token_endpoint: url(document.token_endpoint)?,
        jwks_uri: url(document.jwks_uri)?,
        device_authorization_endpoint: url(document.device_authorization_endpoint)?,
        revocation_endpoint: url(document.revocation_endpoint)?,
        end_session_endpoint: url(document.end_session_endpoint)?,
        userinfo_endpoint: url(document.userinfo_endpoint)?,
        pushed_authorization_request_endpoint: url(document.pushed_authorization_request_endpoint)?,
        require_pushed_authorization_requests: document.require_pushed_authorization_requests,
        supports_dpop: document
            .dpop_signing_alg_values_supported
            .is_some_and(|all| all.iter().any(|alg| alg == "ES256")),
        registration_endpoint: url(document.registration_endpoint)?,
        client_id_metadata_document_supported: document.client_id_metadata_document_supported,
        code_challenge_methods_supported: nonempty(document.code_challenge_methods_supported),
        token_endpoint_auth_methods_supported: nonempty(document.token_endpoint_auth_methods_supported),
        token_endpoint_auth_signing_alg_values_supported: nonempty(
            document.token_endpoint_auth_signing_alg_values_supported,
        ),
        grant_types_supported: nonempty(document.grant_types_supported),
        scopes_supported: nonempty(document.scopes_supported),
        iss_parameter_supported: document.authorization_response_iss_parameter_supported,
        fallback_urls: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestServer, answer, http, json};
    use super::*;

    /// The members of the metadata that are URLs.
    const ENDPOINTS: [&str; 8] = [
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        "device_authorization_endpoint",
        "revocation_endpoint",
        "end_session_endpoint",
        "userinfo_endpoint",
        "registration_endpoint",
    ];

    fn issuer(text: &str) -> IssuerUrl {
        text.parse().expect("valid")
    }

    /// Discovers `path` of a server that gives `answers`, in each of which `ISSUER` is replaced by that issuer.
    async fn discovered(path: &str, answers: &[String]) -> (Result<Metadata, IssuerError>, Vec<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let name = format!("http://{}{path}", listener.local_addr().expect("bound"));
        let answers = answers.iter().map(|a| a.replace("ISSUER", &name)).collect();
        let server = TestServer::on(listener, answers);
        let found = discover(&http(), &issuer(&name)).await;
        let asked = server.requests().iter().map(|r| r.split(' ').nth(1).unwrap_or_default().to_owned()).collect();
        (found, asked)
    }

    fn document(members: &str) -> String {
        answer(200, "content-type: application/json\r\n", "")
            .replace("content-length: 0\r\n", "")
            .replace("\r\n\r\n", &format!("\r\n\r\n{{\"issuer\":\"ISSUER\"{members}}}"))
    }

    #[test]
    fn well_known_urls_of_both_documents() {
        const OIDC: &str = "/.well-known/openid-configuration";
        const OAUTH: &str = "/.well-known/oauth-authorization-server";
        let [below, inserted, below_too, inserted_too] =
            [format!("/t/1{OIDC}"), format!("{OAUTH}/t/1"), format!("/t/1{OAUTH}"), format!("{OIDC}/t/1")];
        for (text, expected) in [
            ("https://a.example", vec![OIDC, OAUTH]),
            ("https://a.example/", vec![OIDC, OAUTH]),
            ("https://a.example/t/1/", vec![&*below, &inserted, &below_too, &inserted_too]),
        ] {
            let urls = metadata_urls(&issuer(text));
            assert_eq!(urls.iter().map(Url::path).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn mistyped_members_count_as_absent() {
        let members = r#","token_endpoint":"https://a.example/t","jwks_uri":null,"revocation_endpoint":"","scopes_supported":["a",1,"b"],"token_endpoint_auth_methods_supported":"x","code_challenge_methods_supported":[],"authorization_response_iss_parameter_supported":[1],"mtls":{"a":[1]}"#;
        let (found, asked) = discovered("", &[document(members)]).await;
        let found = found.expect("metadata");
        assert_eq!(found.token_endpoint.map(|u| u.to_string()).as_deref(), Some("https://a.example/t"));
        assert_eq!((found.jwks_uri, found.revocation_endpoint), (None, None));
        assert_eq!(found.scopes_supported, Some(vec!["a".into(), "b".into()]));
        assert_eq!((found.code_challenge_methods_supported, found.iss_parameter_supported), (None, false));
        assert_eq!(asked.len(), 1);
    }

    #[tokio::test]
    async fn next_document_is_fetched_if_the_first_is_missing() {
        for missing in [json(404, "{}"), answer(200, "", "<html>"), json(200, "[]"), answer(302, "location: /\r\n", "")]
        {
            let (found, asked) = discovered("/t", &[missing, document("")]).await;
            found.expect("metadata");
            assert_eq!(asked, ["/t/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/t"]);
        }
        let (found, asked) = discovered("/t", &[json(404, ""), json(404, ""), document("")]).await;
        found.expect("metadata");
        assert_eq!(asked[2], "/t/.well-known/oauth-authorization-server");
        let (found, _) = discovered("", &[json(404, "hunter2"), json(404, "hunter2")]).await;
        let error = found.expect_err("none").to_string();
        assert!(error.contains("404") && !error.contains("hunter2"), "{error}");
    }

    /// Fetches metadata whose first document has a token endpoint but no keys, and whose other document is `second`.
    /// Returns it with the `needed` endpoints added, and the number of requests.
    async fn completed(second: &str, needed: &[Endpoint]) -> (Metadata, usize) {
        completed_from(r#","token_endpoint":"https://a.example/1""#, second, needed).await
    }

    /// As [`completed`], for a first document with these members.
    async fn completed_from(members: &str, second: &str, needed: &[Endpoint]) -> (Metadata, usize) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let name = format!("http://{}", listener.local_addr().expect("bound"));
        let first = document(members);
        let answers = [first.as_str(), second].map(|a| a.replace("ISSUER", &name)).to_vec();
        let server = TestServer::on(listener, answers);
        let mut found = discover(&http(), &issuer(&name)).await.expect("metadata");
        fetch_missing_endpoints(&http(), &mut found, needed).await;
        (found, server.requests().len())
    }

    #[tokio::test]
    async fn missing_endpoints_are_added_from_the_second_document_if_needed() {
        let members = r#","token_endpoint":"https://a.example/2","jwks_uri":"https://a.example/keys","revocation_endpoint":"https://a.example/r""#;
        let second = document(members);
        let (found, asked) = completed(&second, &[Endpoint::Token]).await;
        assert_eq!((found.jwks_uri, asked), (None, 1), "nothing that was needed was missing");
        let (found, asked) = completed(&second, &[Endpoint::Token, Endpoint::Jwks]).await;
        let urls = [found.token_endpoint, found.jwks_uri].map(|url| url.expect("there").to_string());
        assert_eq!((urls, asked), (["https://a.example/1".into(), "https://a.example/keys".into()], 2));
        assert_eq!(found.revocation_endpoint, None, "it was not requested");
        let members = r#","authorization_endpoint":"https://a.example/a","jwks_uri":"https://a.example/keys","authorization_response_iss_parameter_supported":true,"code_challenge_methods_supported":["plain"]"#;
        let promised = |found: Metadata| (found.iss_parameter_supported, found.code_challenge_methods_supported);
        let (found, _) = completed(&document(members), &[Endpoint::Authorization]).await;
        assert_eq!(promised(found), (true, Some(vec!["plain".into()])), "these go with the endpoint");
        let (found, _) = completed(&document(members), &[Endpoint::Jwks]).await;
        assert_eq!(promised(found), (false, None));
        for second in [members, r#","authorization_endpoint":"https://a.example/a""#] {
            let first = r#","authorization_response_iss_parameter_supported":true"#;
            let (found, _) = completed_from(first, &document(second), &[Endpoint::Authorization]).await;
            assert!(promised(found).0, "what either document promises is required: {second}");
        }
        for useless in [
            second.replace("ISSUER", "ISSUER/another"),
            second.replace("https://a.example/keys", "http://a.example/keys"),
            json(404, "{}"),
            json(503, "{}"),
            answer(200, "", "<html>"),
            String::new(),
        ] {
            let (found, asked) = completed(&useless, &[Endpoint::Jwks]).await;
            assert_eq!((found.jwks_uri, asked), (None, 2), "{useless}");
            assert!(found.token_endpoint.is_some());
        }
    }

    #[tokio::test]
    async fn document_of_an_issuer_that_differs_by_a_slash_is_rejected() {
        let other = document("").replace("ISSUER", "ISSUER/");
        let (found, asked) = discovered("", &[other]).await;
        assert!(matches!(found, Err(IssuerError::IssuerMismatch { .. })), "{found:?}");
        assert_eq!(asked.len(), 1, "a mismatch is final");
    }

    #[tokio::test]
    async fn endpoint_with_plain_http_is_rejected() {
        for name in ENDPOINTS {
            let (found, _) = discovered("", &[document(&format!(r#","{name}":"http://a.example/t""#))]).await;
            assert!(matches!(found, Err(IssuerError::Insecure(_))), "{name}: {found:?}");
        }
    }

    #[test]
    fn remote_issuer_names_no_loopback_endpoint() {
        for member in ENDPOINTS {
            for (name, allowed) in [("https://a.example", false), ("http://127.0.0.1:1", true)] {
                let text = format!(r#"{{"issuer":"{name}","{member}":"http://127.0.0.1:9/x"}}"#);
                let validated = validate(&issuer(name), serde_json::from_str(&text).expect("JSON"));
                assert_eq!(validated.is_ok(), allowed, "{name} {member}");
            }
        }
    }

    #[tokio::test]
    async fn unavailable_issuer_is_not_one_without_metadata() {
        let (found, asked) = discovered("", &[json(503, "{}"), document("")]).await;
        assert!(matches!(found, Err(IssuerError::Unavailable { status: 503, .. })), "{found:?}");
        assert_eq!(asked.len(), 1);
    }
}
