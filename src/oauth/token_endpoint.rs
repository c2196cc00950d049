//! The token endpoint: one form goes there, tokens or an OAuth error come back (RFC 6749, section 3.2).

use url::Url;

use super::client::Client;
use super::error::{IssuerError, OAuthError};
use super::form::Form;
use super::http::{Http, Reply};
use super::metadata::Metadata;
use super::reply::{Answer, read_refusal, read_tokens};
use crate::clock::Clock;
use crate::model::{TokenSet, TokenTarget};
use crate::secret::Secret;

/// A token endpoint and the client that asks it. Each grant's function takes one.
#[derive(Clone, Copy)]
pub struct TokenEndpoint<'a> {
    /// What sends.
    pub http: &'a Http,
    /// Where to.
    pub url: &'a Url,
    /// Who asks.
    pub client: &'a Client,
    /// What dates the tokens, and waits between polls.
    pub clock: &'a dyn Clock,
}

impl<'a> TokenEndpoint<'a> {
    /// The token endpoint of `metadata`.
    ///
    /// # Errors
    /// [`IssuerError::Unsupported`] where there is none.
    pub fn of(
        http: &'a Http,
        metadata: &'a Metadata,
        client: &'a Client,
        clock: &'a dyn Clock,
    ) -> Result<Self, IssuerError> {
        let url = metadata.token_endpoint.as_ref().ok_or(IssuerError::Unsupported { what: "token_endpoint" })?;
        Ok(Self { http, url, client, clock })
    }

    /// Sends `form` and reads tokens or a refusal. A token's life counts from before the request was sent.
    pub(super) async fn answer(&self, form: Form) -> Result<Answer, IssuerError> {
        let asked_at = self.clock.now();
        let (reply, sent) = post(self.http, self.url, self.client, form).await?;
        read_tokens(&reply, &sent, asked_at)
    }

    /// Sends `form` and reads tokens.
    pub(super) async fn tokens(&self, form: Form) -> Result<TokenSet, IssuerError> {
        match self.answer(form).await? {
            Answer::Tokens(tokens) => Ok(tokens),
            Answer::Refused(refusal) => Err(IssuerError::Refused(refusal.error)),
        }
    }
}

/// Sends `form` with the client's proof to any of the issuer's endpoints; also gives back what secrets were sent.
pub(super) async fn post(
    http: &Http,
    url: &Url,
    client: &Client,
    mut form: Form,
) -> Result<(Reply, Vec<Secret>), IssuerError> {
    let authorization = client.identify(&mut form)?;
    let (body, sent) = form.into_parts();
    Ok((http.post(url, body, authorization).await?, sent))
}

/// The error of an answer that should have been `expected`.
pub(super) fn failure(reply: &Reply, sent: &[Secret], expected: &str) -> IssuerError {
    if let Some(busy) = reply.busy() {
        return busy;
    }
    let refused: Option<OAuthError> = read_refusal(reply, sent).filter(|_| (200..500).contains(&reply.status));
    refused.map_or_else(|| reply.malformed(expected), IssuerError::Refused)
}

/// Adds the scopes, audience and resources that are asked for.
pub(super) fn add_asked(form: &mut Form, asked: &TokenTarget) {
    if !asked.scopes.is_empty() {
        form.add("scope", &asked.scopes.join(" "));
    }
    form.add_if("audience", asked.audience.as_deref());
    for resource in &asked.resources {
        form.add("resource", resource);
    }
}

/// Names the resource of a login once more where its code becomes tokens: some issuers give a token for it only then
/// (RFC 8707, section 2.2). Of several the issuer chooses.
pub(super) fn add_own_resource(form: &mut Form, resources: &[String]) {
    if let [one] = resources {
        form.add("resource", one);
    }
}

#[cfg(test)]
mod tests {
    use super::super::password::{self, PasswordReply};
    use super::super::testing::{Canned, Quick, answer, cli, http, json};
    use super::super::{client_credentials, refresh};
    use super::*;
    use crate::clock::UnixTime;
    use crate::model::ClientAuth;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    const TOKENS: &str = r#"{"access_token":"AT","token_type":"Bearer","expires_in":60}"#;

    #[tokio::test]
    async fn a_refresh_sends_one_form_and_keeps_quiet_about_rotation() {
        let server = Canned::serving(vec![json(200, TOKENS)]).await;
        let (http, client, clock) = (http(), cli(), Quick::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let asked = TokenTarget {
            audience: Some("https://api".into()),
            scopes: vec!["a".into(), "b".into()],
            resources: vec!["https://r1".into(), "https://r2".into()],
        };
        let tokens = refresh::request(&endpoint, &secret("R/T"), &asked).await.expect("tokens");
        assert!(tokens.refresh_token.is_none(), "the caller keeps the old one");
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
    async fn a_confidential_client_proves_itself_in_the_header() {
        let server = Canned::serving(vec![json(200, TOKENS)]).await;
        let client =
            Client { auth: ClientAuth::ClientSecretBasic, secret: Some(secret("hunter2")), ..Client::public("svc") };
        let (http, clock) = (http(), Quick::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        client_credentials::request(&endpoint, &TokenTarget::default()).await.expect("tokens");
        assert_eq!(server.body(0), "grant_type=client_credentials");
        assert!(server.requests()[0].contains("Basic c3ZjOmh1bnRlcjI="));
    }

    #[tokio::test]
    async fn a_secret_that_an_issuer_throws_back_is_not_shown() {
        let client =
            Client { auth: ClientAuth::ClientSecretBasic, secret: Some(secret("hunter2")), ..Client::public("svc") };
        let body = r#"{"error":"invalid_client","error_description":"hunter2 is wrong"}"#;
        let server = Canned::serving(vec![json(401, body)]).await;
        let (http, clock) = (http(), Quick::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let error = client_credentials::request(&endpoint, &TokenTarget::default()).await.expect_err("refused");
        assert_eq!(error.to_string(), "the issuer refused: invalid_client");
    }

    #[tokio::test]
    async fn a_password_may_need_a_one_time_code() {
        for status in [400, 401, 403] {
            let asks = json(status, r#"{"error":"mfa_required","error_description":"x","mfa_token":"MFA"}"#);
            let server = Canned::serving(vec![asks, json(200, TOKENS)]).await;
            let (http, client, clock) = (http(), cli(), Quick::new());
            let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
            let reply = password::request(&endpoint, "developer", &secret("pä ss"), &TokenTarget::default()).await;
            let Ok(PasswordReply::OneTimeCode { mfa_token }) = reply else { panic!("{reply:?}") };
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
    async fn a_wrong_password_is_a_refusal() {
        for body in [r#"{"error":"invalid_grant","mfa_token":"MFA"}"#, r#"{"error":"mfa_required"}"#] {
            let server = Canned::serving(vec![json(400, body)]).await;
            let (http, client, clock) = (http(), cli(), Quick::new());
            let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
            let reply = password::request(&endpoint, "developer", &secret("wrong"), &TokenTarget::default()).await;
            assert!(matches!(reply, Err(IssuerError::Refused(_))), "{reply:?}");
        }
    }

    #[tokio::test]
    async fn a_page_of_a_proxy_ends_nothing() {
        let page = answer(400, "content-type: text/html\r\n", "<p>invalid_grant</p>");
        let server = Canned::serving(vec![page]).await;
        let (http, client, clock) = (http(), cli(), Quick::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let error = refresh::request(&endpoint, &secret("RT"), &TokenTarget::default()).await.expect_err("no answer");
        assert!(!error.ends_session() && !error.never_sent(), "{error}");
    }
}
