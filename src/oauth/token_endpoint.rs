//! Requests to the token endpoint (RFC 6749, section 3.2).

use reqwest::header::HeaderValue;
use url::Url;

use super::client_auth::OAuthClient;
use super::dpop::{Proof, ProvenRequest};
use super::error::{IssuerError, OAuthError};
use super::form::Form;
use super::http::{Credentials, Http};
use super::http_response::HttpResponse;
use super::metadata::Metadata;
use super::token_response::{TokenEndpointResponse, parse_error_response, parse_token_response};
use crate::clock::Clock;
use crate::model::{TokenSet, TokenTarget};
use crate::secret::Secret;

/// A token endpoint and the client that uses it. Each grant's function takes one.
#[derive(Clone, Copy)]
pub struct TokenEndpoint<'a> {
    /// The HTTP client.
    pub http: &'a Http,
    /// The URL of the endpoint.
    pub url: &'a Url,
    /// The OAuth client.
    pub client: &'a OAuthClient,
    /// Dates the tokens, and waits between polls.
    pub clock: &'a dyn Clock,
}

impl<'a> TokenEndpoint<'a> {
    /// Returns the token endpoint of `metadata`.
    ///
    /// # Errors
    /// [`IssuerError::Unsupported`] if there is none.
    pub fn of(
        http: &'a Http,
        metadata: &'a Metadata,
        client: &'a OAuthClient,
        clock: &'a dyn Clock,
    ) -> Result<Self, IssuerError> {
        let url = metadata.token_endpoint.as_ref().ok_or(IssuerError::Unsupported { what: "token_endpoint" })?;
        Ok(Self { http, url, client, clock })
    }

    /// Sends `form`. The lifetime of the tokens counts from before the request was sent.
    pub(super) async fn request(&self, form: Form) -> Result<TokenEndpointResponse, IssuerError> {
        let sent_at = self.clock.now();
        let (response, sent) = self.send(form).await?;
        parse_token_response(&response, &sent, sent_at)
    }

    /// Sends `form`, with a DPoP proof if the client has a key (RFC 9449, section 5). Also returns the secrets that were sent.
    ///
    /// It is sent once more if the server has refused it for what is missing in the proof: a nonce (section 8), the right
    /// time, or the proof itself where the client leaves that to the server. Nothing was redeemed then; a code that was refused
    /// for another reason is refused again.
    pub(super) async fn send(&self, form: Form) -> Result<(HttpResponse, Vec<Secret>), IssuerError> {
        let mut given = Given::default();
        loop {
            let proof = self.proof()?;
            let (header, nonce) = proof.map(Proof::into_parts).transpose()?.unzip();
            let (response, sent) = post(self.http, self.url, self.client, form.clone(), header).await?;
            let dpop = &self.client.dpop;
            let refusal = parse_error_response(&response, &sent).filter(|_| matches!(response.status, 400 | 401));
            let is_again = match refusal.as_ref().map(|refusal| refusal.code.as_str()) {
                Some("use_dpop_nonce" | "invalid_dpop_proof") if dpop.generate_on_demand()? => true,
                // oidc-provider reports nothing else to a client that is registered for bound tokens.
                Some("invalid_grant") if dpop.is_supported() && form.has_code() && dpop.generate_on_demand()? => true,
                Some("use_dpop_nonce") if response.dpop_nonce.is_some() && response.dpop_nonce != nonce.flatten() => {
                    dpop.key().is_some() && !std::mem::replace(&mut given.nonce, true)
                }
                Some("invalid_dpop_proof") if self.http.compare_clocks(self.url, &response, self.clock.now()) => {
                    !std::mem::replace(&mut given.time, true)
                }
                _ => false,
            };
            if !is_again {
                return Ok((response, sent));
            }
        }
    }

    /// Returns a proof for the next request.
    fn proof(&self) -> Result<Option<Proof>, IssuerError> {
        let request = ProvenRequest { method: "POST", url: self.url, access_token: None };
        let proof = |key| self.http.proof(key, &request, self.clock.now());
        self.client.dpop.key().map(proof).transpose()
    }

    /// Sends `form` and returns tokens, or the error response as an error.
    pub(super) async fn request_tokens(&self, form: Form) -> Result<TokenSet, IssuerError> {
        match self.request(form).await? {
            TokenEndpointResponse::Tokens(tokens) => Ok(tokens),
            TokenEndpointResponse::Error(response) => Err(IssuerError::Refused(response.error)),
        }
    }
}

/// What has been given to a server that refused a proof without it.
#[derive(Default)]
struct Given {
    nonce: bool,
    time: bool,
}

/// Sends `form` with client authentication to an endpoint of the issuer. Also returns the secrets that were sent.
pub(super) async fn post(
    http: &Http,
    url: &Url,
    client: &OAuthClient,
    mut form: Form,
    proof: Option<HeaderValue>,
) -> Result<(HttpResponse, Vec<Secret>), IssuerError> {
    let authorization = client.authenticate(&mut form)?;
    let (body, sent) = form.into_parts();
    let credentials = Credentials { authorization, proof, secrets: sent.clone() };
    let response = http.post_form(url, body, Some(credentials)).await?;
    Ok((response, sent))
}

/// Returns the error for a response that is not `expected`.
pub(super) fn response_error(response: &HttpResponse, sent: &[Secret], expected: &str) -> IssuerError {
    if let Some(error) = response.unavailable() {
        return error;
    }
    let refused: Option<OAuthError> =
        parse_error_response(response, sent).filter(|_| (200..500).contains(&response.status));
    refused.map_or_else(|| response.unexpected(expected), IssuerError::Refused)
}

/// Adds the requested scopes, audience and resources.
pub(super) fn add_target(form: &mut Form, target: &TokenTarget) {
    if !target.scopes.is_empty() {
        form.add("scope", &target.scopes.join(" "));
    }
    form.add_if("audience", target.audience.as_deref());
    for resource in &target.resources {
        form.add("resource", resource);
    }
}

/// Repeats the resource of a login when its code is redeemed: some issuers return a token for it only then (RFC 8707,
/// section 2.2). Among several resources the issuer chooses.
pub(super) fn add_single_resource(form: &mut Form, resources: &[String]) {
    if let [one] = resources {
        form.add("resource", one);
    }
}

#[cfg(test)]
mod tests {
    use super::super::password::{self, PasswordResponse};
    use super::super::testing::{TestClock, TestServer, answer, cli, http, json};
    use super::super::{client_credentials, refresh_token};
    use super::*;
    use crate::clock::UnixTime;
    use crate::model::ClientAuth;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    const TOKENS: &str = r#"{"access_token":"AT","token_type":"Bearer","expires_in":60}"#;

    fn target() -> TokenTarget {
        TokenTarget {
            audience: Some("https://api".into()),
            scopes: vec!["a".into(), "b".into()],
            resources: vec!["https://r1".into(), "https://r2".into()],
        }
    }

    #[tokio::test]
    async fn grants_without_a_browser_request_the_target_too() {
        let server = TestServer::start(vec![json(200, TOKENS), json(200, TOKENS)]).await;
        let (http, client, clock) = (http(), cli(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        client_credentials::request(&endpoint, &target()).await.expect("tokens");
        password::request(&endpoint, "developer", &secret("right"), &target()).await.expect("tokens");
        let expected =
            "&scope=a+b&audience=https%3A%2F%2Fapi&resource=https%3A%2F%2Fr1&resource=https%3A%2F%2Fr2&client_id=cli";
        for (request, grant) in [(0, "client_credentials"), (1, "password&username=developer&password=right")] {
            assert_eq!(server.body(request), format!("grant_type={grant}{expected}"));
        }
    }

    #[tokio::test]
    async fn refresh_request_has_token_scope_audience_and_resources() {
        let server = TestServer::start(vec![json(200, TOKENS)]).await;
        let (http, client, clock) = (http(), cli(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let tokens = refresh_token::request(&endpoint, &secret("R/T"), &target(), &[]).await.expect("tokens");
        assert!(tokens.refresh_token.is_none(), "the caller reuses the old one");
        assert_eq!((tokens.obtained_at, tokens.expires_at), (clock.now(), Some(UnixTime(1_700_000_060))));
        assert_eq!(
            server.body(0),
            "grant_type=refresh_token&refresh_token=R%2FT&scope=a+b&audience=https%3A%2F%2Fapi\
             &resource=https%3A%2F%2Fr1&resource=https%3A%2F%2Fr2&client_id=cli"
        );
        let head = server.requests()[0].to_ascii_lowercase();
        assert!(head.starts_with("post /token http/1.1\r\n") && !head.contains("referer"), "{head}");
        for line in
            ["accept: application/json", "content-type: application/x-www-form-urlencoded", "user-agent: authctl/"]
        {
            assert!(head.contains(line), "{line} in {head}");
        }
    }

    #[tokio::test]
    async fn client_secret_basic_is_sent_in_the_header() {
        let server = TestServer::start(vec![json(200, TOKENS)]).await;
        let client = OAuthClient {
            auth: ClientAuth::ClientSecretBasic,
            secret: Some(secret("hunter2")),
            ..OAuthClient::public("svc")
        };
        let (http, clock) = (http(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        client_credentials::request(&endpoint, &TokenTarget::default()).await.expect("tokens");
        assert_eq!(server.body(0), "grant_type=client_credentials");
        assert!(server.requests()[0].contains("Basic c3ZjOmh1bnRlcjI="));
    }

    #[tokio::test]
    async fn secret_in_an_error_response_is_not_shown() {
        let client = OAuthClient {
            auth: ClientAuth::ClientSecretBasic,
            secret: Some(secret("hunter2")),
            ..OAuthClient::public("svc")
        };
        let body = r#"{"error":"invalid_client","error_description":"hunter2 is wrong"}"#;
        let server = TestServer::start(vec![json(401, body)]).await;
        let (http, clock) = (http(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let error = client_credentials::request(&endpoint, &TokenTarget::default()).await.expect_err("refused");
        assert_eq!(error.to_string(), "the issuer refused: invalid_client");
    }

    #[tokio::test]
    async fn password_grant_continues_with_a_one_time_code() {
        for status in [400, 401, 403] {
            let asks = json(status, r#"{"error":"mfa_required","error_description":"x","mfa_token":"MFA"}"#);
            let server = TestServer::start(vec![asks, json(200, TOKENS)]).await;
            let (http, client, clock) = (http(), cli(), TestClock::new());
            let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
            let response = password::request(&endpoint, "developer", &secret("pä ss"), &TokenTarget::default()).await;
            let Ok(PasswordResponse::OneTimeCodeRequired { mfa_token }) = response else { panic!("{response:?}") };
            password::one_time_code(&endpoint, &mfa_token, &secret("123456")).await.expect("tokens");
            assert_eq!(server.body(0), "grant_type=password&username=developer&password=p%C3%A4+ss&client_id=cli");
            assert_eq!(
                server.body(1),
                "grant_type=http%3A%2F%2Fauth0.com%2Foauth%2Fgrant-type%2Fmfa-otp&mfa_token=MFA&otp=123456\
                 &client_id=cli"
            );
        }
    }

    #[tokio::test]
    async fn wrong_password_is_refused() {
        for body in [r#"{"error":"invalid_grant","mfa_token":"MFA"}"#, r#"{"error":"mfa_required"}"#] {
            let server = TestServer::start(vec![json(400, body)]).await;
            let (http, client, clock) = (http(), cli(), TestClock::new());
            let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
            let response = password::request(&endpoint, "developer", &secret("wrong"), &TokenTarget::default()).await;
            assert!(matches!(response, Err(IssuerError::Refused(_))), "{response:?}");
        }
    }

    #[tokio::test]
    async fn html_page_does_not_end_the_session() {
        let page = answer(400, "content-type: text/html\r\n", "<p>invalid_grant</p>");
        let server = TestServer::start(vec![page]).await;
        let (http, client, clock) = (http(), cli(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let error = refresh_token::request(&endpoint, &secret("RT"), &TokenTarget::default(), &[])
            .await
            .expect_err("no answer");
        assert!(!error.ends_session() && error.is_in_doubt(), "{error}");
    }
}
