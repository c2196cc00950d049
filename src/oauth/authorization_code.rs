//! The authorization code grant with PKCE and a loopback redirect (RFC 6749, section 4.1; RFC 7636; RFC 8252).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;

use super::authorization_response::{ExpectedResponse, RedirectRequest};
use super::client_auth::OAuthClient;
use super::dpop::DpopKey;
use super::error::IssuerError;
use super::form::Form;
use super::loopback::{LoopbackListener, WaitingBrowser};
use super::metadata::Metadata;
use super::par;
use super::random::random;
use super::token_endpoint::{TokenEndpoint, add_single_resource};
use crate::clock::{Clock, within};
use crate::model::{RedirectUri, TokenSet, TokenTarget, is_loopback};
use crate::secret::Secret;
use crate::text::pasted_line;

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

/// The authorization response that a browser has sent.
#[derive(Debug)]
pub struct BrowserResponse {
    /// The code, or why there is none.
    pub code: Result<AuthorizationCode, IssuerError>,
    /// The browser, which waits for the page that ends the login.
    pub browser: WaitingBrowser,
}

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
                // The code is then of no use without the key (RFC 9449, section 10).
                ("dpop_jkt", &client.dpop.key().map(DpopKey::thumbprint)),
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

    /// Pushes the request to the issuer if it requires that, or if `always` (RFC 9126). Returns how long the
    /// URL, which then refers to it, can be opened.
    ///
    /// # Errors
    /// [`IssuerError::Unsupported`] if the issuer has no endpoint for it.
    pub async fn push(
        &mut self,
        endpoint: &TokenEndpoint<'_>,
        metadata: &Metadata,
        always: bool,
    ) -> Result<Option<Duration>, IssuerError> {
        if !always && !metadata.require_pushed_authorization_requests {
            return Ok(None);
        }
        let (Some(own), Some(at)) = (&metadata.authorization_endpoint, &metadata.pushed_authorization_request_endpoint)
        else {
            return Err(IssuerError::Unsupported { what: "pushed_authorization_request_endpoint" });
        };
        // Parameters of the endpoint itself stay in its URL.
        let parameters = self.authorization_url.query_pairs().skip(own.query_pairs().count());
        let par::PushedRequest { reference, expires_in } = par::push(endpoint, at, parameters).await?;
        let mut url = own.clone();
        url.query_pairs_mut().append_pair("client_id", &endpoint.client.id).append_pair("request_uri", &reference);
        self.authorization_url = url;
        Ok(Some(expires_in))
    }

    /// Returns the URL to open in the browser. It holds no secret that outlives this login.
    #[must_use]
    pub fn authorization_url(&self) -> &Url {
        &self.authorization_url
    }

    /// Returns a short address on this machine that redirects to that URL, while [`AuthorizationCodeLogin::wait`] runs.
    ///
    /// # Errors
    /// [`IssuerError::Local`].
    pub fn short_url(&mut self) -> Result<Url, IssuerError> {
        self.listener.redirect_to(&self.authorization_url)
    }

    /// Waits at most `limit` for the authorization response. Unrelated requests are rejected and change nothing. The code is
    /// an error if the user or the issuer refused ([`IssuerError::Refused`]), or if another issuer responded
    /// ([`IssuerError::IssuerMismatch`]; RFC 9207).
    ///
    /// # Errors
    /// [`IssuerError::LoginTimedOut`].
    pub async fn wait(&self, clock: &dyn Clock, limit: Duration) -> Result<BrowserResponse, IssuerError> {
        let expected = Arc::clone(&self.expected);
        let classify = Arc::new(move |query: &str| expected.check(query, "the browser"));
        let response = within(clock, limit, self.listener.wait_for_response(classify, clock)).await;
        let (outcome, browser) = response.ok_or(IssuerError::LoginTimedOut { limit })?;
        Ok(BrowserResponse { code: outcome.map(AuthorizationCode), browser })
    }

    /// Accepts the URL that the browser ended at, whole or from its `?` on, with the same checks. Only the parameters decide, so
    /// any name of this machine will do, and what the ways of copying add is removed: line breaks, escapes and a full stop.
    ///
    /// # Errors
    /// As the code of [`AuthorizationCodeLogin::wait`]; [`IssuerError::InvalidResponse`] if it is unrelated to this login.
    pub fn accept_pasted(&self, text: &str) -> Result<AuthorizationCode, IssuerError> {
        let from = "the pasted address";
        let unrelated = |why: &str| {
            let what = format!("not a response to this login: {why}");
            IssuerError::InvalidResponse { from: from.into(), what, wrong_address: false }
        };
        // No URL contains a backslash or white space (RFC 3986).
        let text = pasted_line(text).replace("&amp;", "&").replace('\\', "");
        let without_stop = text.trim_end_matches(['.', ',', ';']);
        // A full stop may also be the end of the code.
        let has_code_last = ends_with_code(without_stop) && !without_stop.ends_with(char::is_whitespace);
        let text = if has_code_last { &text } else { without_stop }.replace(char::is_whitespace, "");
        let text = text.as_str();
        let text = text.strip_prefix("view-source:").unwrap_or(text);
        let redirect_uri = &self.expected.redirect_uri;
        let has_scheme = |scheme: &str| text.get(..scheme.len()).is_some_and(|text| text.eq_ignore_ascii_case(scheme));
        let address = match text.split_once('?') {
            _ if has_scheme("http://") || has_scheme("https://") => Url::parse(text).ok(),
            // Nothing but the query.
            None => redirect_uri.join(&format!("?{text}")).ok(),
            Some(("", _)) => redirect_uri.join(text).ok(),
            // Browsers show and copy addresses without their scheme, or without their host.
            Some((path, _)) if path.starts_with('/') && !path.starts_with("//") => redirect_uri.join(text).ok(),
            Some(_) => Url::parse(&format!("{}://{}", redirect_uri.scheme(), text.trim_start_matches('/'))).ok(),
        };
        let mut target = address.ok_or_else(|| unrelated("it is not an address"))?;
        let query = target.query().unwrap_or_default().to_owned();
        target.set_query(None);
        target.set_fragment(None);
        if is_loopback(&target) {
            let _ = target.set_scheme(redirect_uri.scheme());
            let _ = target.set_host(redirect_uri.host_str());
        }
        if target != *redirect_uri {
            return Err(unrelated("it is not the redirect URI"));
        }
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

/// Returns whether a pasted address ends with the code, of which the rest may be missing.
pub fn ends_with_code(text: &str) -> bool {
    text.rsplit(['?', '&']).next().is_some_and(|last| last.trim_start().starts_with("code="))
}

#[cfg(test)]
mod tests;
