//! What an issuer says about itself: its endpoints and abilities (OpenID Connect Discovery 1.0; RFC 8414).

use serde::Deserialize;
use url::Url;

use super::error::IssuerError;
use super::http::{Http, Reply};
use super::reply::{Lenient, flag, texts};
use crate::model::{ClientAuth, Endpoints, IssuerUrl, secure_url};
use crate::ui::sanitize_for_terminal;

/// An issuer's metadata. Each address in it is https, or http on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The issuer, exactly as asked for.
    pub issuer: IssuerUrl,
    /// Where a browser signs in.
    pub authorization_endpoint: Option<Url>,
    /// Where grants become tokens.
    pub token_endpoint: Option<Url>,
    /// Where the signing keys are.
    pub jwks_uri: Option<Url>,
    /// Where a device login starts (RFC 8628, section 4).
    pub device_authorization_endpoint: Option<Url>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// Where a browser signs out (OpenID Connect RP-Initiated Logout 1.0).
    pub end_session_endpoint: Option<Url>,
    /// Where claims about the user are had.
    pub userinfo_endpoint: Option<Url>,
    /// Where tokens are introspected (RFC 7662).
    pub introspection_endpoint: Option<Url>,
    /// The grants; `None` where the issuer did not say, which does not mean that there are none.
    pub grant_types_supported: Option<Vec<String>>,
    /// The PKCE methods (RFC 7636); `None` where the issuer did not say.
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// The ways for a client to prove itself; `None` means `client_secret_basic` (RFC 8414, section 2).
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// The algorithms that a client's assertion may be signed with; `None` where the issuer did not say.
    pub token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    /// The scopes; `None` where the issuer did not say.
    pub scopes_supported: Option<Vec<String>>,
    /// The algorithms that ID tokens are signed with; `None` where the issuer did not say.
    pub id_token_signing_alg_values_supported: Option<Vec<String>>,
    /// Whether each authorization response names its issuer (RFC 9207).
    pub iss_parameter_supported: bool,
    /// Where a second document may be that nobody has read yet.
    unread: Option<Url>,
}

/// An endpoint that some command cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// [`Metadata::authorization_endpoint`].
    Authorization,
    /// [`Metadata::token_endpoint`].
    Token,
    /// [`Metadata::jwks_uri`].
    Jwks,
    /// [`Metadata::device_authorization_endpoint`].
    Device,
    /// [`Metadata::revocation_endpoint`].
    Revocation,
    /// [`Metadata::end_session_endpoint`].
    EndSession,
}

impl Metadata {
    /// What is known of an issuer that describes itself nowhere, or not in full: its endpoints as they were given by
    /// hand, each in place of what was found.
    #[must_use]
    pub fn with(mut self, given: &Endpoints) -> Self {
        let places = [
            (&mut self.authorization_endpoint, &given.authorization),
            (&mut self.token_endpoint, &given.token),
            (&mut self.device_authorization_endpoint, &given.device_authorization),
            (&mut self.revocation_endpoint, &given.revocation),
            (&mut self.end_session_endpoint, &given.end_session),
            (&mut self.userinfo_endpoint, &given.userinfo),
            (&mut self.jwks_uri, &given.jwks),
        ];
        for (place, given) in places {
            if given.is_some() {
                place.clone_from(given);
            }
        }
        self
    }

    /// Metadata with the issuer alone.
    #[must_use]
    pub fn bare(issuer: IssuerUrl) -> Self {
        Self {
            issuer,
            authorization_endpoint: None,
            token_endpoint: None,
            jwks_uri: None,
            device_authorization_endpoint: None,
            revocation_endpoint: None,
            end_session_endpoint: None,
            userinfo_endpoint: None,
            introspection_endpoint: None,
            grant_types_supported: None,
            code_challenge_methods_supported: None,
            token_endpoint_auth_methods_supported: None,
            token_endpoint_auth_signing_alg_values_supported: None,
            scopes_supported: None,
            id_token_signing_alg_values_supported: None,
            iss_parameter_supported: false,
            unread: None,
        }
    }

    fn endpoint(&mut self, which: Endpoint) -> &mut Option<Url> {
        match which {
            Endpoint::Authorization => &mut self.authorization_endpoint,
            Endpoint::Token => &mut self.token_endpoint,
            Endpoint::Jwks => &mut self.jwks_uri,
            Endpoint::Device => &mut self.device_authorization_endpoint,
            Endpoint::Revocation => &mut self.revocation_endpoint,
            Endpoint::EndSession => &mut self.end_session_endpoint,
        }
    }

    /// How a client with a secret should prove itself here: in the header, unless only the form is offered.
    #[must_use]
    pub fn confidential_auth(&self) -> ClientAuth {
        let offers = |method: &str| {
            self.token_endpoint_auth_methods_supported.as_ref().is_some_and(|all| all.iter().any(|m| m == method))
        };
        if offers("client_secret_post") && !offers("client_secret_basic") {
            ClientAuth::ClientSecretPost
        } else {
            ClientAuth::ClientSecretBasic
        }
    }
}

/// Fetches the issuer's metadata: OpenID Connect's document, or, where there is none, RFC 8414's.
///
/// # Errors
/// [`IssuerError::Mismatch`] where the document is another issuer's, compared character by character;
/// [`IssuerError::Insecure`] where it names an address that nothing may be sent to; [`IssuerError::Malformed`] where
/// neither document is there; and whatever a request can fail with.
pub async fn discover(http: &Http, issuer: &IssuerUrl) -> Result<Metadata, IssuerError> {
    let first = http.get(&openid_configuration(issuer), "application/json", None).await?;
    let other = authorization_server(issuer);
    if let Some(document) = document(&first)? {
        return Ok(Metadata { unread: Some(other), ..read(issuer, document)? });
    }
    let second = http.get(&other, "application/json", None).await?;
    match document(&second)? {
        Some(document) => read(issuer, document),
        None => Err(first.malformed("metadata of an authorization server")),
    }
}

/// Takes the `needed` endpoints that `metadata` lacks from the document that was not read, RFC 8414's. Where nothing is
/// lacking, nothing is sent. A second document that cannot be had, or is another issuer's, adds nothing, which is no
/// failure: what is still missing is told by whoever needs it.
pub async fn complete(http: &Http, metadata: &mut Metadata, needed: &[Endpoint]) {
    let lacking: Vec<Endpoint> = needed.iter().copied().filter(|which| metadata.endpoint(*which).is_none()).collect();
    if lacking.is_empty() {
        return;
    }
    let Some(url) = metadata.unread.take() else { return };
    let found = match http.get(&url, "application/json", None).await.and_then(|reply| document(&reply)) {
        Ok(Some(document)) => read(&metadata.issuer, document),
        Ok(None) => return,
        Err(error) => Err(error),
    };
    match found {
        Ok(mut second) => {
            if lacking.contains(&Endpoint::Authorization) {
                // What is promised of its answers goes with the endpoint.
                metadata.iss_parameter_supported |= second.iss_parameter_supported;
                if metadata.code_challenge_methods_supported.is_none() {
                    metadata.code_challenge_methods_supported = second.code_challenge_methods_supported.take();
                }
            }
            for which in lacking {
                *metadata.endpoint(which) = second.endpoint(which).take();
            }
        }
        Err(error) => tracing::info!("{} adds nothing to the issuer's metadata: {error}", url.path()),
    }
}

/// The address made by appending (OpenID Connect Discovery 1.0, section 4).
fn openid_configuration(issuer: &IssuerUrl) -> Url {
    let mut url = issuer.url().clone();
    let path = format!("{}/.well-known/openid-configuration", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// The address made by inserting between host and path (RFC 8414, section 3.1).
fn authorization_server(issuer: &IssuerUrl) -> Url {
    let mut url = issuer.url().clone();
    let path = format!("/.well-known/oauth-authorization-server{}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// The document as sent. Members that authctl has no use for are ignored, and so are those of the wrong type.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    issuer: Lenient,
    authorization_endpoint: Lenient,
    token_endpoint: Lenient,
    jwks_uri: Lenient,
    device_authorization_endpoint: Lenient,
    revocation_endpoint: Lenient,
    end_session_endpoint: Lenient,
    userinfo_endpoint: Lenient,
    introspection_endpoint: Lenient,
    #[serde(deserialize_with = "texts")]
    grant_types_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "texts")]
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "texts")]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "texts")]
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "texts")]
    scopes_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "texts")]
    id_token_signing_alg_values_supported: Option<Vec<String>>,
    #[serde(deserialize_with = "flag")]
    authorization_response_iss_parameter_supported: bool,
}

/// The document in `reply`, `None` where there is none.
fn document(reply: &Reply) -> Result<Option<Document>, IssuerError> {
    if let Some(busy) = reply.busy() {
        return Err(busy);
    }
    if !reply.is_success() {
        return Ok(None);
    }
    Ok(reply.object().filter(|document: &Document| document.issuer.0.is_some()))
}

fn read(expected: &IssuerUrl, document: Document) -> Result<Metadata, IssuerError> {
    let found = document.issuer.0.unwrap_or_default();
    if found != expected.as_str() {
        return Err(IssuerError::Mismatch {
            expected: expected.to_string(),
            found: sanitize_for_terminal(&found, 200),
        });
    }
    let url = |member: Lenient| member.0.as_deref().map(secure_url).transpose();
    // A list with nothing in it should have been left out (RFC 8414, section 2) and says no more than that.
    let said = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty());
    Ok(Metadata {
        issuer: expected.clone(),
        authorization_endpoint: url(document.authorization_endpoint)?,
        token_endpoint: url(document.token_endpoint)?,
        jwks_uri: url(document.jwks_uri)?,
        device_authorization_endpoint: url(document.device_authorization_endpoint)?,
        revocation_endpoint: url(document.revocation_endpoint)?,
        end_session_endpoint: url(document.end_session_endpoint)?,
        userinfo_endpoint: url(document.userinfo_endpoint)?,
        introspection_endpoint: url(document.introspection_endpoint)?,
        grant_types_supported: said(document.grant_types_supported),
        code_challenge_methods_supported: said(document.code_challenge_methods_supported),
        token_endpoint_auth_methods_supported: said(document.token_endpoint_auth_methods_supported),
        token_endpoint_auth_signing_alg_values_supported: said(
            document.token_endpoint_auth_signing_alg_values_supported,
        ),
        scopes_supported: said(document.scopes_supported),
        id_token_signing_alg_values_supported: said(document.id_token_signing_alg_values_supported),
        iss_parameter_supported: document.authorization_response_iss_parameter_supported,
        unread: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Canned, answer, http, json};
    use super::*;

    fn issuer(text: &str) -> IssuerUrl {
        text.parse().expect("valid")
    }

    /// Discovers `path` of a server that gives `answers`, in each of which `ISSUER` stands for that issuer.
    async fn discovered(path: &str, answers: &[String]) -> (Result<Metadata, IssuerError>, Vec<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let name = format!("http://{}{path}", listener.local_addr().expect("bound"));
        let answers = answers.iter().map(|a| a.replace("ISSUER", &name)).collect();
        let server = Canned::on(listener, answers);
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
    fn the_addresses_of_both_documents() {
        for (text, oidc, oauth) in [
            ("https://a.example", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"),
            ("https://a.example/", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"),
            (
                "https://a.example/t/1/",
                "/t/1/.well-known/openid-configuration",
                "/.well-known/oauth-authorization-server/t/1",
            ),
        ] {
            assert_eq!(openid_configuration(&issuer(text)).path(), oidc, "{text}");
            assert_eq!(authorization_server(&issuer(text)).path(), oauth, "{text}");
        }
    }

    #[tokio::test]
    async fn odd_members_count_as_absent() {
        let members = r#","token_endpoint":"https://a.example/t","jwks_uri":null,"revocation_endpoint":"","scopes_supported":["a",1,"b"],"grant_types_supported":"x","code_challenge_methods_supported":[],"authorization_response_iss_parameter_supported":[1],"mtls":{"a":[1]}"#;
        let (found, asked) = discovered("", &[document(members)]).await;
        let found = found.expect("metadata");
        assert_eq!(found.token_endpoint.map(|u| u.to_string()).as_deref(), Some("https://a.example/t"));
        assert_eq!((found.jwks_uri, found.revocation_endpoint, found.grant_types_supported), (None, None, None));
        assert_eq!(found.scopes_supported, Some(vec!["a".into(), "b".into()]));
        assert_eq!((found.code_challenge_methods_supported, found.iss_parameter_supported), (None, false));
        assert_eq!(asked.len(), 1);
    }

    #[tokio::test]
    async fn where_the_first_document_is_missing_the_second_is_asked() {
        for missing in [json(404, "{}"), answer(200, "", "<html>"), json(200, "[]"), answer(302, "location: /\r\n", "")]
        {
            let (found, asked) = discovered("/t", &[missing, document("")]).await;
            found.expect("metadata");
            assert_eq!(asked, ["/t/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/t"]);
        }
        let (found, _) = discovered("", &[json(404, "hunter2"), json(404, "hunter2")]).await;
        let error = found.expect_err("none").to_string();
        assert!(error.contains("404") && !error.contains("hunter2"), "{error}");
    }

    /// The first document has a token endpoint and no keys; what asking for `needed` makes of it where `second` is the
    /// other one, and how many requests that took.
    async fn completed(second: &str, needed: &[Endpoint]) -> (Metadata, usize) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let name = format!("http://{}", listener.local_addr().expect("bound"));
        let first = document(r#","token_endpoint":"https://a.example/1""#);
        let answers = [first.as_str(), second].map(|a| a.replace("ISSUER", &name)).to_vec();
        let server = Canned::on(listener, answers);
        let mut found = discover(&http(), &issuer(&name)).await.expect("metadata");
        complete(&http(), &mut found, needed).await;
        (found, server.requests().len())
    }

    #[tokio::test]
    async fn what_the_first_document_lacks_is_looked_for_in_the_second_where_it_is_needed() {
        let members = r#","token_endpoint":"https://a.example/2","jwks_uri":"https://a.example/keys","revocation_endpoint":"https://a.example/r""#;
        let second = document(members);
        let (found, asked) = completed(&second, &[Endpoint::Token]).await;
        assert_eq!((found.jwks_uri, asked), (None, 1), "nothing that was needed was missing");
        let (found, asked) = completed(&second, &[Endpoint::Token, Endpoint::Jwks]).await;
        let texts = [found.token_endpoint, found.jwks_uri].map(|url| url.expect("there").to_string());
        assert_eq!((texts, asked), (["https://a.example/1".into(), "https://a.example/keys".into()], 2));
        assert_eq!(found.revocation_endpoint, None, "nobody needed it");
        let members = r#","authorization_endpoint":"https://a.example/a","jwks_uri":"https://a.example/keys","authorization_response_iss_parameter_supported":true,"code_challenge_methods_supported":["plain"]"#;
        let promised = |found: Metadata| (found.iss_parameter_supported, found.code_challenge_methods_supported);
        let (found, _) = completed(&document(members), &[Endpoint::Authorization]).await;
        assert_eq!(promised(found), (true, Some(vec!["plain".into()])), "these go with the endpoint");
        let (found, _) = completed(&document(members), &[Endpoint::Jwks]).await;
        assert_eq!(promised(found), (false, None));
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
    async fn another_issuers_document_is_refused_for_one_slash() {
        let other = document("").replace("ISSUER", "ISSUER/");
        let (found, asked) = discovered("", &[other]).await;
        assert!(matches!(found, Err(IssuerError::Mismatch { .. })), "{found:?}");
        assert_eq!(asked.len(), 1, "a mismatch is final");
    }

    #[tokio::test]
    async fn an_endpoint_in_the_clear_is_refused() {
        let (found, _) = discovered("", &[document(r#","token_endpoint":"http://a.example/t""#)]).await;
        assert!(matches!(found, Err(IssuerError::Insecure(_))), "{found:?}");
    }

    #[tokio::test]
    async fn a_busy_issuer_is_not_taken_for_one_without_metadata() {
        let (found, asked) = discovered("", &[json(503, "{}"), document("")]).await;
        assert!(matches!(found, Err(IssuerError::Busy { status: 503, .. })), "{found:?}");
        assert_eq!(asked.len(), 1);
    }

    #[test]
    fn the_header_is_preferred_for_the_clients_proof() {
        let mut metadata = Metadata::bare(issuer("https://a.example"));
        assert_eq!(metadata.confidential_auth(), ClientAuth::ClientSecretBasic);
        metadata.token_endpoint_auth_methods_supported = Some(vec!["none".into(), "client_secret_post".into()]);
        assert_eq!(metadata.confidential_auth(), ClientAuth::ClientSecretPost);
    }
}
