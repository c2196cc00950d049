//! Signing in with a browser: an authorization code with PKCE, sent back over loopback (RFC 6749, section 4.1;
//! RFC 7636; RFC 8252).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::{Url, form_urlencoded};

use super::client::Client;
use super::error::{IssuerError, OAuthError};
use super::form::Form;
use super::loopback::{Loopback, Verdict};
use super::metadata::Metadata;
use super::random::random;
use super::token_endpoint::{TokenEndpoint, add_own_resource};
use crate::clock::Clock;
use crate::model::{RedirectUri, TokenSet, TokenTarget};
use crate::secret::Secret;
use crate::ui::sanitize_for_terminal;

/// What is asked for in the browser.
#[derive(Clone, Debug, Default)]
pub struct CodeRequest {
    /// Scopes, audience and resources.
    pub asked: TokenTarget,
    /// `acr_values`, space-separated (OpenID Connect Core 1.0, section 3.1.2.1, as the rest).
    pub acr_values: Option<String>,
    /// `prompt`, such as `login` or `select_account`.
    pub prompt: Option<String>,
    /// `login_hint`: whom to sign in.
    pub login_hint: Option<String>,
    /// `max_age` in seconds: how long ago the user may have signed in.
    pub max_age: Option<u64>,
    /// Where the browser comes back to.
    pub redirect_uri: RedirectUri,
    /// What some issuers want besides, name and value.
    pub parameters: Vec<(String, String)>,
}

/// An authorization code that passed every check. It still has to be redeemed.
#[derive(Debug)]
pub struct Code(Secret);

/// A sign-in in a browser, from its start until its code is redeemed.
pub struct CodeLogin {
    listener: Loopback,
    authorization_url: Url,
    expected: Arc<Expected>,
    verifier: Secret,
    nonce: Option<String>,
    resources: Vec<String>,
}

/// What an authorization response must bring to be the answer to this sign-in.
struct Expected {
    redirect_uri: Url,
    state: Secret,
    issuer: String,
    iss_required: bool,
}

impl CodeLogin {
    /// Listens on loopback, and only then makes the address to open.
    ///
    /// # Errors
    /// [`IssuerError::Unsupported`] where the issuer has no `authorization_endpoint` or says that it does not know PKCE
    /// S256; [`IssuerError::Local`] where there is no port to listen on.
    pub async fn begin(metadata: &Metadata, client: &Client, request: &CodeRequest) -> Result<Self, IssuerError> {
        let endpoint = metadata.authorization_endpoint.as_ref();
        let mut url = endpoint.cloned().ok_or(IssuerError::Unsupported { what: "authorization_endpoint" })?;
        if metadata.code_challenge_methods_supported.as_ref().is_some_and(|all| !all.iter().any(|m| m == "S256")) {
            return Err(IssuerError::Unsupported { what: "code_challenge_methods_supported with S256" });
        }
        let listener = Loopback::bind(&request.redirect_uri).await?;
        let verifier = Secret::new(random()?);
        let state = random()?;
        let nonce = request.asked.scopes.iter().any(|s| s == "openid").then(random).transpose()?;
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.expose().as_bytes()));
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("response_type", "code").append_pair("client_id", &client.id);
            query.append_pair("redirect_uri", listener.redirect_uri().as_str());
            query.append_pair("code_challenge", &challenge).append_pair("code_challenge_method", "S256");
            query.append_pair("state", &state);
            let max_age = request.max_age.map(|seconds| seconds.to_string());
            let scope = Some(request.asked.scopes.join(" ")).filter(|s| !s.is_empty());
            for (name, value) in [
                ("nonce", &nonce),
                ("scope", &scope),
                ("audience", &request.asked.audience),
                ("acr_values", &request.acr_values),
                ("prompt", &request.prompt),
                ("login_hint", &request.login_hint),
                ("max_age", &max_age),
            ] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            for resource in &request.asked.resources {
                query.append_pair("resource", resource);
            }
            // One of authctl's own options goes before what is always added.
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
        let expected = Arc::new(Expected {
            redirect_uri: listener.redirect_uri().clone(),
            state: Secret::new(state),
            issuer: metadata.issuer.to_string(),
            iss_required: metadata.iss_parameter_supported,
        });
        let resources = request.asked.resources.clone();
        Ok(Self { listener, authorization_url: url, expected, verifier, nonce, resources })
    }

    /// The address to open in the browser. Holds no secret that outlives this sign-in.
    #[must_use]
    pub fn authorization_url(&self) -> &Url {
        &self.authorization_url
    }

    /// Waits for the browser to come back, at most `limit`. Requests that are not the answer to this sign-in are turned
    /// away and change nothing. Returns once the browser has its page.
    ///
    /// # Errors
    /// [`IssuerError::Refused`] where the user or the issuer said no, [`IssuerError::Mismatch`] where another issuer
    /// answered (RFC 9207), [`IssuerError::TimedOut`] where nobody came.
    pub async fn wait(&self, clock: &dyn Clock, limit: Duration) -> Result<Code, IssuerError> {
        let expected = Arc::clone(&self.expected);
        let judge = Arc::new(move |query: &str| expected.judge(query, "the browser"));
        tokio::select! {
            outcome = self.listener.serve(judge, clock) => outcome.map(Code),
            () = clock.sleep(limit) => Err(IssuerError::TimedOut { limit }),
        }
    }

    /// Takes the address that the browser ended at, pasted whole or from its `?` on, with the same checks.
    ///
    /// # Errors
    /// As [`CodeLogin::wait`]; [`IssuerError::Malformed`] where it is not the answer to this sign-in.
    pub fn pasted(&self, text: &str) -> Result<Code, IssuerError> {
        let from = "the pasted address";
        let malformed = |what: &str| IssuerError::Malformed { from: from.into(), what: what.into(), misplaced: false };
        let text = text.trim().trim_matches(['"', '\'', '<', '>']);
        let query = match Url::parse(text) {
            Ok(url) => {
                let mut place = url.clone();
                place.set_query(None);
                place.set_fragment(None);
                if place != self.expected.redirect_uri {
                    return Err(malformed("no answer to this sign-in: it is another address"));
                }
                url.query().unwrap_or_default().to_owned()
            }
            Err(_) => text.strip_prefix('?').unwrap_or(text).to_owned(),
        };
        match self.expected.judge(&query, from) {
            Verdict::Answer(outcome) => outcome.map(Code),
            Verdict::NotOurs => {
                Err(malformed("no answer to this sign-in: its `code` or `state` is missing or another's"))
            }
        }
    }

    /// Redeems the code (RFC 6749, section 4.1.3). The second value is the nonce that an ID token must repeat, where
    /// one was sent.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub async fn redeem(
        self,
        endpoint: &TokenEndpoint<'_>,
        code: Code,
    ) -> Result<(TokenSet, Option<String>), IssuerError> {
        let mut form = Form::grant("authorization_code");
        form.add_secret("code", &code.0);
        form.add("redirect_uri", self.expected.redirect_uri.as_str());
        form.add_secret("code_verifier", &self.verifier);
        add_own_resource(&mut form, &self.resources);
        Ok((endpoint.tokens(form).await?, self.nonce))
    }
}

impl Expected {
    /// Judges an authorization response by its query. One without this sign-in's state, or with a parameter twice, has
    /// no say at all: whoever sent it may not even end the sign-in.
    fn judge(&self, query: &str, from: &str) -> Verdict {
        let (mut code, mut state, mut iss, mut error, mut description) = (None, None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let member = match &*name {
                "code" => &mut code,
                "state" => &mut state,
                "iss" => &mut iss,
                "error" => &mut error,
                "error_description" => &mut description,
                _ => continue,
            };
            if member.replace(Secret::new(value.into_owned())).is_some() {
                return Verdict::NotOurs;
            }
        }
        let ours = state.is_some_and(|s| same(s.expose(), self.state.expose()));
        let code = code.filter(|c| !c.is_empty());
        let error = error.filter(|e| !e.is_empty());
        if !ours || (code.is_none() && error.is_none()) {
            return Verdict::NotOurs;
        }
        let found = iss.as_ref().map(Secret::expose);
        if found.map_or(self.iss_required, |iss| iss != self.issuer) {
            let found = found.map_or_else(|| format!("no `iss` from {from}"), |iss| sanitize_for_terminal(iss, 200));
            return Verdict::Answer(Err(IssuerError::Mismatch { expected: self.issuer.clone(), found }));
        }
        Verdict::Answer(match (error, code) {
            (None, Some(code)) => Ok(code),
            (error, _) => Err(IssuerError::Refused(OAuthError::new(
                error.as_ref().map_or("error", Secret::expose),
                description.as_ref().map(Secret::expose),
                None,
            ))),
        })
    }
}

fn same(a: &str, b: &str) -> bool {
    constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::testing::{Canned, Quick, cli, http, json};
    use super::*;

    fn metadata(iss_required: bool) -> Metadata {
        let mut metadata = Metadata::bare("https://a.example".parse().expect("valid"));
        metadata.authorization_endpoint = "https://a.example/authorize?tenant=1".parse().ok();
        metadata.iss_parameter_supported = iss_required;
        metadata
    }

    async fn begun(iss_required: bool) -> CodeLogin {
        let mut request = CodeRequest::default();
        request.asked.scopes = vec!["openid".into(), "a".into()];
        CodeLogin::begin(&metadata(iss_required), &cli(), &request).await.expect("a port")
    }

    fn parameters(login: &CodeLogin) -> HashMap<String, String> {
        login.authorization_url().query_pairs().into_owned().collect()
    }

    fn state(login: &CodeLogin) -> String {
        parameters(login)["state"].clone()
    }

    #[tokio::test]
    async fn the_address_asks_for_all_that_it_should() {
        let request = CodeRequest {
            asked: TokenTarget {
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
            ..CodeRequest::default()
        };
        let login = CodeLogin::begin(&metadata(false), &cli(), &request).await.expect("a port");
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
        let other = CodeLogin::begin(&metadata(false), &cli(), &CodeRequest::default()).await.expect("a port");
        assert_ne!(parameters(&other)["state"], found["state"]);
        assert_eq!(parameters(&other).get("nonce"), None, "no nonce where no ID token is asked for");
    }

    #[tokio::test]
    async fn an_issuer_without_s256_is_not_asked() {
        let mut without = metadata(false);
        without.code_challenge_methods_supported = Some(vec!["plain".into()]);
        let error = CodeLogin::begin(&without, &cli(), &CodeRequest::default()).await.err().expect("unsupported");
        assert!(matches!(error, IssuerError::Unsupported { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn only_this_sign_ins_answer_is_one() {
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
            assert!(matches!(login.expected.judge(&query, "x"), Verdict::NotOurs), "{query}");
        }
        for query in [
            format!("code=C&state={state}"),
            format!("state={state}&code=C&{iss}&session_state=x"),
            format!("c%6Fde=%43&state={state}"),
        ] {
            let Verdict::Answer(Ok(code)) = login.expected.judge(&query, "x") else { panic!("{query}") };
            assert_eq!(code.expose(), "C");
        }
        let refused = format!("error=access_denied&error_description=no%0A&state={state}&code=C");
        let Verdict::Answer(Err(IssuerError::Refused(error))) = login.expected.judge(&refused, "x") else {
            panic!("refused")
        };
        assert_eq!((error.to_string().as_str(), error.status), ("access_denied: no", None));
    }

    #[tokio::test]
    async fn another_issuers_answer_is_a_mix_up() {
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
                let verdict = login.expected.judge(&format!("{answer}&state={}{iss}", state(&login)), "x");
                let mix_up = matches!(verdict, Verdict::Answer(Err(IssuerError::Mismatch { .. })));
                assert_eq!(mix_up, !fits, "{required} {answer} {iss}");
            }
        }
    }

    #[tokio::test]
    async fn a_pasted_address_is_checked_as_the_browsers_is() {
        let login = begun(false).await;
        let (state, base) = (state(&login), login.expected.redirect_uri.to_string());
        for good in [
            format!("{base}?code=C&state={state}"),
            format!("  \"{base}?code=C&state={state}#_=_\"\n"),
            format!("?code=C&state={state}"),
            format!("code=C&state={state}"),
        ] {
            assert_eq!(login.pasted(&good).expect("ours").0.expose(), "C", "{good}");
        }
        for bad in [
            String::new(),
            "C".into(),
            format!("{base}?code=hunter2&state=wrong"),
            format!("https://evil.example/callback?code=hunter2&state={state}"),
            format!("{base}x?code=hunter2&state={state}"),
            format!("{}?code=hunter2&state={state}", base.replace("127.0.0.1", "localhost")),
        ] {
            let error = login.pasted(&bad).expect_err(&bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let refused = login.pasted(&format!("{base}?error=access_denied&state={state}"));
        assert!(matches!(refused, Err(IssuerError::Refused(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn the_code_is_redeemed_with_the_verifier_of_the_challenge() {
        let tokens = json(200, r#"{"access_token":"AT","token_type":"Bearer","id_token":"a.b.c"}"#);
        let server = Canned::serving(vec![tokens]).await;
        let (http, client, clock) = (http(), cli(), Quick::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let login = begun(false).await;
        let sent = parameters(&login);
        let code = login.pasted(&format!("code=C%2B&state={}", sent["state"])).expect("ours");
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
    async fn a_code_for_one_resource_is_redeemed_for_it() {
        for (resources, sent) in [(&["https://r1"][..], &["https://r1"][..]), (&["https://r1", "https://r2"], &[])] {
            let server = Canned::serving(vec![json(200, r#"{"access_token":"AT","token_type":"Bearer"}"#)]).await;
            let (http, client, clock) = (http(), cli(), Quick::new());
            let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
            let mut request = CodeRequest::default();
            request.asked.resources = resources.iter().map(|r| (*r).to_owned()).collect();
            let login = CodeLogin::begin(&metadata(false), &cli(), &request).await.expect("a port");
            let code = login.pasted(&format!("code=C&state={}", state(&login))).expect("ours");
            login.redeem(&endpoint, code).await.expect("tokens");
            let form = server.body(0);
            let named = form_urlencoded::parse(form.as_bytes()).filter(|(name, _)| name == "resource");
            assert_eq!(named.map(|(_, value)| value.into_owned()).collect::<Vec<_>>(), sent, "{resources:?}");
        }
    }

    #[tokio::test]
    async fn nobody_comes() {
        let login = begun(false).await;
        let limit = Duration::from_secs(300);
        let error = login.wait(&Quick::new(), limit).await.expect_err("nobody");
        assert_eq!(error.to_string(), "nobody signed in within 5 minutes");
    }
}
