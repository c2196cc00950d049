//! The authorization code grant with PKCE and a loopback redirect (RFC 6749, section 4.1; RFC 7636; RFC 8252).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;

use super::authorization_response::{ExpectedResponse, RedirectRequest};
use super::client_auth::OAuthClient;
use super::error::IssuerError;
use super::form::Form;
use super::loopback::LoopbackListener;
use super::metadata::Metadata;
use super::random::random;
use super::token_endpoint::{TokenEndpoint, add_single_resource};
use crate::clock::Clock;
use crate::model::{RedirectUri, TokenSet, TokenTarget};
use crate::secret::Secret;

/// The parameters of an authorization request.
#[derive(Clone, Debug, Default)]
pub struct AuthorizationRequest {
    /// Scopes, audience and resources.
    pub target: TokenTarget,
    /// `acr_values`, space-separated (OpenID Connect Core 1.0, section 3.1.2.1, as are the next three).
    pub acr_values: Option<String>,
    /// `prompt`, such as `login` or `select_account`.
    pub prompt: Option<String>,
    /// `login_hint`: the account to sign in with.
    pub login_hint: Option<String>,
    /// `max_age` in seconds: how long ago the sign-in may have been.
    pub max_age: Option<u64>,
    /// The redirect URI.
    pub redirect_uri: RedirectUri,
    /// Additional parameters for some issuers, name and value.
    pub parameters: Vec<(String, String)>,
}

/// An authorization code whose response passed every check.
#[derive(Debug)]
pub struct AuthorizationCode(Secret);

/// A login in a browser, from its start until the code is redeemed.
pub struct AuthorizationCodeLogin {
    listener: LoopbackListener,
    authorization_url: Url,
    expected: Arc<ExpectedResponse>,
    verifier: Secret,
    nonce: Option<String>,
    resources: Vec<String>,
}

impl AuthorizationCodeLogin {
    /// Starts to listen on loopback, and builds the URL to open.
    ///
    /// # Errors
    /// [`IssuerError::Unsupported`] if the issuer has no `authorization_endpoint` or lists PKCE methods without S256;
    /// [`IssuerError::Local`] if there is no port to listen on.
    pub async fn start(
        metadata: &Metadata,
        client: &OAuthClient,
        request: &AuthorizationRequest,
    ) -> Result<Self, IssuerError> {
        let endpoint = metadata.authorization_endpoint.as_ref();
        let mut url = endpoint.cloned().ok_or(IssuerError::Unsupported { what: "authorization_endpoint" })?;
        if metadata.code_challenge_methods_supported.as_ref().is_some_and(|all| !all.iter().any(|m| m == "S256")) {
            return Err(IssuerError::Unsupported { what: "code_challenge_methods_supported with S256" });
        }
        let listener = LoopbackListener::bind(&request.redirect_uri).await?;
        let verifier = Secret::new(random()?);
        let state = random()?;
        let nonce = request.target.scopes.iter().any(|s| s == "openid").then(random).transpose()?;
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.expose().as_bytes()));
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("response_type", "code").append_pair("client_id", &client.id);
            query.append_pair("redirect_uri", listener.redirect_uri().as_str());
            query.append_pair("code_challenge", &challenge).append_pair("code_challenge_method", "S256");
            query.append_pair("state", &state);
            let max_age = request.max_age.map(|seconds| seconds.to_string());
            let scope = Some(request.target.scopes.join(" ")).filter(|s| !s.is_empty());
            for (name, value) in [
                ("nonce", &nonce),
                ("scope", &scope),
                ("audience", &request.target.audience),
                ("acr_values", &request.acr_values),
                ("prompt", &request.prompt),
                ("login_hint", &request.login_hint),
                ("max_age", &max_age),
            ] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            for resource in &request.target.resources {
                query.append_pair("resource", resource);
            }
            // authctl's own options take precedence over additional parameters.
            let own = [
                ("prompt", &request.prompt),
                ("acr_values", &request.acr_values),
                ("login_hint", &request.login_hint),
                ("max_age", &max_age),
            ];
            for (name, value) in &request.parameters {
                if !own.iter().any(|(own, value)| own == name && value.is_some()) {
                    query.append_pair(name, value);
                }
            }
        }
        let expected = Arc::new(ExpectedResponse {
            redirect_uri: listener.redirect_uri().clone(),
            state: Secret::new(state),
            issuer: metadata.issuer.to_string(),
            iss_required: metadata.iss_parameter_supported,
        });
        let resources = request.target.resources.clone();
        Ok(Self { listener, authorization_url: url, expected, verifier, nonce, resources })
    }

    /// Returns the URL to open in the browser. It holds no secret that outlives this login.
    #[must_use]
    pub fn authorization_url(&self) -> &Url {
        &self.authorization_url
    }

    /// Waits at most `limit` for the authorization response, and until the browser has received its page. Unrelated requests
    /// are rejected and change nothing.
    ///
    /// # Errors
    /// [`IssuerError::Refused`] if the user or the issuer refused, [`IssuerError::IssuerMismatch`] if another issuer responded
    /// (RFC 9207), [`IssuerError::LoginTimedOut`].
    pub async fn wait(&self, clock: &dyn Clock, limit: Duration) -> Result<AuthorizationCode, IssuerError> {
        let expected = Arc::clone(&self.expected);
        let classify = Arc::new(move |query: &str| expected.check(query, "the browser"));
        tokio::select! {
            outcome = self.listener.wait_for_response(classify, clock) => outcome.map(AuthorizationCode),
            () = clock.sleep(limit) => Err(IssuerError::LoginTimedOut { limit }),
        }
    }

    /// Accepts the URL that the browser ended at, whole or from its `?` on, with the same checks.
    ///
    /// # Errors
    /// As [`AuthorizationCodeLogin::wait`]; [`IssuerError::InvalidResponse`] if it is unrelated to this login.
    pub fn accept_pasted(&self, text: &str) -> Result<AuthorizationCode, IssuerError> {
        let from = "the pasted address";
        let unrelated = |why: &str| {
            let what = format!("no response to this login: {why}");
            IssuerError::InvalidResponse { from: from.into(), what, wrong_address: false }
        };
        let text = text.trim().trim_matches(['"', '\'', '<', '>']);
        let query = match Url::parse(text) {
            Ok(url) => {
                let mut target = url.clone();
                target.set_query(None);
                target.set_fragment(None);
                if target != self.expected.redirect_uri {
                    return Err(unrelated("it is not the redirect URI"));
                }
                url.query().unwrap_or_default().to_owned()
            }
            Err(_) => text.strip_prefix('?').unwrap_or(text).to_owned(),
        };
        match self.expected.check(&query, from) {
            RedirectRequest::AuthorizationResponse(outcome) => outcome.map(AuthorizationCode),
            RedirectRequest::Unrelated => Err(unrelated("`code` or `state` is missing or does not match")),
        }
    }

    /// Redeems the code (RFC 6749, section 4.1.3). Also returns the nonce that an ID token must repeat, if one was sent.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn redeem(
        self,
        endpoint: &TokenEndpoint<'_>,
        code: AuthorizationCode,
    ) -> Result<(TokenSet, Option<String>), IssuerError> {
        let mut form = Form::for_grant("authorization_code");
        form.add_secret("code", &code.0);
        form.add("redirect_uri", self.expected.redirect_uri.as_str());
        form.add_secret("code_verifier", &self.verifier);
        add_single_resource(&mut form, &self.resources);
        Ok((endpoint.request_tokens(form).await?, self.nonce))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use url::form_urlencoded;

    use super::super::testing::{TestClock, TestServer, cli, http, json};
    use super::*;

    fn metadata(iss_required: bool) -> Metadata {
        let mut metadata = Metadata::new("https://a.example".parse().expect("valid"));
        metadata.authorization_endpoint = "https://a.example/authorize?tenant=1".parse().ok();
        metadata.iss_parameter_supported = iss_required;
        metadata
    }

    async fn begun(iss_required: bool) -> AuthorizationCodeLogin {
        let mut request = AuthorizationRequest::default();
        request.target.scopes = vec!["openid".into(), "a".into()];
        AuthorizationCodeLogin::start(&metadata(iss_required), &cli(), &request).await.expect("a port")
    }

    fn parameters(login: &AuthorizationCodeLogin) -> HashMap<String, String> {
        login.authorization_url().query_pairs().into_owned().collect()
    }

    fn state(login: &AuthorizationCodeLogin) -> String {
        parameters(login)["state"].clone()
    }

    #[tokio::test]
    async fn authorization_url_has_every_parameter() {
        let request = AuthorizationRequest {
            target: TokenTarget {
                audience: Some("api".into()),
                scopes: vec!["openid".into()],
                resources: vec!["https://r1".into(), "https://r2".into()],
            },
            acr_values: Some("phr".into()),
            prompt: Some("login".into()),
            login_hint: Some("developer@a.example".into()),
            max_age: Some(0),
            parameters: vec![
                ("access_type".into(), "offline".into()),
                ("prompt".into(), "consent".into()),
                ("max_age".into(), "99".into()),
            ],
            ..AuthorizationRequest::default()
        };
        let login = AuthorizationCodeLogin::start(&metadata(false), &cli(), &request).await.expect("a port");
        let found = parameters(&login);
        for (name, value) in [
            ("tenant", "1"),
            ("response_type", "code"),
            ("client_id", "cli"),
            ("code_challenge_method", "S256"),
            ("scope", "openid"),
            ("audience", "api"),
            ("acr_values", "phr"),
            ("prompt", "login"),
            ("login_hint", "developer@a.example"),
            ("max_age", "0"),
            ("access_type", "offline"),
        ] {
            assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(login.authorization_url().query_pairs().filter(|(name, _)| name == "resource").count(), 2);
        assert_eq!(found["redirect_uri"], login.expected.redirect_uri.as_str());
        for name in ["state", "nonce", "code_challenge"] {
            assert_eq!(found[name].len(), 43, "{name}");
        }
        assert!(!login.authorization_url().as_str().contains(login.verifier.expose()));
        let other = AuthorizationCodeLogin::start(&metadata(false), &cli(), &AuthorizationRequest::default())
            .await
            .expect("a port");
        assert_ne!(parameters(&other)["state"], found["state"]);
        assert_eq!(parameters(&other).get("nonce"), None, "no nonce where no ID token is asked for");
    }

    #[tokio::test]
    async fn issuer_without_s256_is_unsupported() {
        let mut without = metadata(false);
        without.code_challenge_methods_supported = Some(vec!["plain".into()]);
        let error = AuthorizationCodeLogin::start(&without, &cli(), &AuthorizationRequest::default())
            .await
            .err()
            .expect("unsupported");
        assert!(matches!(error, IssuerError::Unsupported { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn only_a_response_with_this_logins_state_counts() {
        let login = begun(false).await;
        let state = state(&login);
        let iss = "iss=https%3A%2F%2Fa.example";
        for query in [
            String::new(),
            "code=C".into(),
            "code=C&state=".into(),
            "code=C&state=wrong".into(),
            format!("code=C&state={state}x"),
            format!("code=C&state={}", &state[..42]),
            format!("code=C&state={}", state.to_ascii_uppercase()),
            format!("code=C&state={state}%00"),
            format!("code=C&state=%20{state}"),
            format!("code=C&state={state}&state={state}"),
            format!("code=C&code=D&state={state}"),
            format!("code=C&state={state}&{iss}&{iss}"),
            format!("code=&state={state}"),
            format!("state={state}"),
            "error=access_denied".into(),
            "error=access_denied&state=wrong".into(),
        ] {
            assert!(matches!(login.expected.check(&query, "x"), RedirectRequest::Unrelated), "{query}");
        }
        for query in [
            format!("code=C&state={state}"),
            format!("state={state}&code=C&{iss}&session_state=x"),
            format!("c%6Fde=%43&state={state}"),
        ] {
            let RedirectRequest::AuthorizationResponse(Ok(code)) = login.expected.check(&query, "x") else {
                panic!("{query}")
            };
            assert_eq!(code.expose(), "C");
        }
        let refused = format!("error=access_denied&error_description=no%0A&state={state}&code=C");
        let RedirectRequest::AuthorizationResponse(Err(IssuerError::Refused(error))) =
            login.expected.check(&refused, "x")
        else {
            panic!("refused")
        };
        assert_eq!((error.to_string().as_str(), error.status), ("access_denied: no", None));
    }

    #[tokio::test]
    async fn response_of_another_issuer_is_a_mismatch() {
        for (required, iss, fits) in [
            (true, "", false),
            (true, "&iss=https%3A%2F%2Fa.example", true),
            (true, "&iss=https%3A%2F%2Fa.example%2F", false),
            (false, "", true),
            (false, "&iss=https%3A%2F%2Fevil.example", false),
            (false, "&iss=", false),
        ] {
            let login = begun(required).await;
            for answer in ["code=C", "error=access_denied"] {
                let outcome = login.expected.check(&format!("{answer}&state={}{iss}", state(&login)), "x");
                let mix_up =
                    matches!(outcome, RedirectRequest::AuthorizationResponse(Err(IssuerError::IssuerMismatch { .. })));
                assert_eq!(mix_up, !fits, "{required} {answer} {iss}");
            }
        }
    }

    #[tokio::test]
    async fn pasted_url_passes_the_same_checks() {
        let login = begun(false).await;
        let (state, base) = (state(&login), login.expected.redirect_uri.to_string());
        for good in [
            format!("{base}?code=C&state={state}"),
            format!("  \"{base}?code=C&state={state}#_=_\"\n"),
            format!("?code=C&state={state}"),
            format!("code=C&state={state}"),
        ] {
            assert_eq!(login.accept_pasted(&good).expect("ours").0.expose(), "C", "{good}");
        }
        for bad in [
            String::new(),
            "C".into(),
            format!("{base}?code=hunter2&state=wrong"),
            format!("https://evil.example/callback?code=hunter2&state={state}"),
            format!("{base}x?code=hunter2&state={state}"),
            format!("{}?code=hunter2&state={state}", base.replace("127.0.0.1", "localhost")),
        ] {
            let error = login.accept_pasted(&bad).expect_err(&bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let refused = login.accept_pasted(&format!("{base}?error=access_denied&state={state}"));
        assert!(matches!(refused, Err(IssuerError::Refused(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn code_is_redeemed_with_its_verifier() {
        let tokens = json(200, r#"{"access_token":"AT","token_type":"Bearer","id_token":"a.b.c"}"#);
        let server = TestServer::start(vec![tokens]).await;
        let (http, client, clock) = (http(), cli(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let login = begun(false).await;
        let sent = parameters(&login);
        let code = login.accept_pasted(&format!("code=C%2B&state={}", sent["state"])).expect("ours");
        let (tokens, nonce) = login.redeem(&endpoint, code).await.expect("tokens");
        assert_eq!(tokens.id_token.expect("an ID token").expose(), "a.b.c");
        assert_eq!(nonce.as_ref(), sent.get("nonce"));
        let form: HashMap<String, String> = form_urlencoded::parse(server.body(0).as_bytes()).into_owned().collect();
        assert_eq!((form["grant_type"].as_str(), form["code"].as_str()), ("authorization_code", "C+"));
        assert_eq!(form["redirect_uri"], sent["redirect_uri"]);
        let verifier = form["code_verifier"].as_bytes();
        assert_eq!(verifier.len(), 43);
        assert_eq!(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier)), sent["code_challenge"]);
    }

    #[tokio::test]
    async fn code_for_one_resource_is_redeemed_for_it() {
        for (resources, sent) in [(&["https://r1"][..], &["https://r1"][..]), (&["https://r1", "https://r2"], &[])] {
            let server = TestServer::start(vec![json(200, r#"{"access_token":"AT","token_type":"Bearer"}"#)]).await;
            let (http, client, clock) = (http(), cli(), TestClock::new());
            let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
            let mut request = AuthorizationRequest::default();
            request.target.resources = resources.iter().map(|r| (*r).to_owned()).collect();
            let login = AuthorizationCodeLogin::start(&metadata(false), &cli(), &request).await.expect("a port");
            let code = login.accept_pasted(&format!("code=C&state={}", state(&login))).expect("ours");
            login.redeem(&endpoint, code).await.expect("tokens");
            let form = server.body(0);
            let named = form_urlencoded::parse(form.as_bytes()).filter(|(name, _)| name == "resource");
            assert_eq!(named.map(|(_, value)| value.into_owned()).collect::<Vec<_>>(), sent, "{resources:?}");
        }
    }

    #[tokio::test]
    async fn login_without_response_times_out() {
        let login = begun(false).await;
        let limit = Duration::from_secs(300);
        let error = login.wait(&TestClock::new(), limit).await.expect_err("no response");
        assert_eq!(error.to_string(), "login timed out after 5 minutes");
    }
}
