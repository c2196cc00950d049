//! Gives the proxy's requests what the session has at that moment: one question at a time, so that callers share a refresh.

use std::time::{Duration, Instant};

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use tokio::sync::{mpsc, oneshot};
use url::Url;

use crate::agent::protocol::{ReceivedToken, RefreshResponse, token_query};
use crate::app::App;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ProfileName, canonical_type};
use crate::oauth::{ApiChallenge, PassThrough};
use crate::proxy::{Access, Credentials, Pending};
use crate::secret::Secret;
use crate::session::{Demand, TokenRequest};

/// For how long a token is used without asking for it again: a logout, a lock of the agent, a changed configuration and changed
/// certificates take effect within this time.
const REUSED_FOR: Duration = Duration::from_secs(1);

/// For how long a token that a refresh has brought, and that is refused, is not refreshed again.
const NOT_REFRESHED_FOR: Duration = Duration::from_secs(60);

/// How many questions wait at most.
const QUEUE: usize = 256;

/// A question for credentials.
struct Question {
    /// What the API has refused.
    refused: Option<HeaderValue>,
    reply: oneshot::Sender<Result<Access, Error>>,
}

/// What asks.
pub(super) struct Asker(mpsc::Sender<Question>);

impl Credentials for Asker {
    fn access<'a>(
        &'a self,
        _method: &'a Method,
        _url: &'a Url,
        refused: Option<(&'a Access, &'a HeaderMap)>,
    ) -> Pending<'a> {
        let refused = refused.map(|(access, challenges)| {
            let sent = access.headers.iter().find(|(name, _)| *name == AUTHORIZATION).map(|(_, value)| value.clone());
            (sent.unwrap_or_else(|| HeaderValue::from_static("")), asks_for_another_sign_in(challenges))
        });
        Box::pin(async move {
            let gone = || Error::msg(ErrorCode::Interrupted, "the proxy is stopping", Hint::None);
            let refused = match refused {
                Some((_, true)) => {
                    return Err(Error::msg(
                        ErrorCode::LoginRequired,
                        "the API asks for another sign-in",
                        Hint::login(),
                    ));
                }
                refused => refused.map(|(sent, _)| sent),
            };
            let (reply, answer) = oneshot::channel();
            self.0.send(Question { refused, reply }).await.map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

/// Returns whether a refresh would not help: the sign-in does not suffice (RFC 6750, section 3.1; RFC 9470, section 3).
fn asks_for_another_sign_in(headers: &HeaderMap) -> bool {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    ApiChallenge::parse(values).is_some_and(|challenge| {
        let is_about_sign_in = |error| matches!(error, "insufficient_scope" | "insufficient_user_authentication");
        challenge.error.as_deref().is_some_and(is_about_sign_in) || challenge.acr_values.is_some()
    })
}

/// What answers.
pub(super) struct Provider<'a> {
    app: &'a App,
    profile: Option<ProfileName>,
    api: Url,
    clients: Option<PassThrough>,
    questions: mpsc::Receiver<Question>,
    /// The latest answer, and until when it is used.
    latest: Option<(Access, Instant)>,
    /// The token of the last refresh, and until when another refresh would not help if it is refused.
    hopeless: Option<(HeaderValue, Instant)>,
}

impl<'a> Provider<'a> {
    /// Returns what answers, and what asks. Without a profile, the token is the supplied one.
    pub(super) fn new(app: &'a App, profile: Option<ProfileName>, api: Url) -> (Self, Asker) {
        let (sender, questions) = mpsc::channel(QUEUE);
        (Self { app, profile, api, clients: None, questions, latest: None, hopeless: None }, Asker(sender))
    }

    /// Answers until nothing asks any more.
    pub(super) async fn provide(mut self) {
        while let Some(Question { refused, reply }) = self.questions.recv().await {
            let answer = match refused {
                None => self.current().await,
                Some(refused) => self.other_than(&refused).await,
            };
            let _ = reply.send(answer);
        }
    }

    async fn current(&mut self) -> Result<Access, Error> {
        let now = self.app.clock().monotonic();
        if let Some((access, until)) = &self.latest
            && now < *until
        {
            return Ok(access.clone());
        }
        self.latest = None;
        let token = self.token().await?;
        let access = self.with(&token).await?;
        self.latest = Some((access.clone(), self.app.clock().monotonic() + REUSED_FOR));
        Ok(access)
    }

    /// Returns another token than the refused one, after a refresh if there is none.
    async fn other_than(&mut self, refused: &HeaderValue) -> Result<Access, Error> {
        let is_refused = |access: &Access| access.headers.iter().any(|(_, value)| value == refused);
        let denied =
            || Error::msg(ErrorCode::TokenDenied, "the API refuses the token although it is new", Hint::login());
        let now = self.app.clock().monotonic();
        if self.hopeless.as_ref().is_some_and(|(token, until)| token == refused && now < *until) {
            return Err(denied());
        }
        let access = self.current().await?;
        if !is_refused(&access) {
            return Ok(access);
        }
        self.refresh().await?;
        self.latest = None;
        let access = self.current().await?;
        self.hopeless = access.headers.first().map(|(_, value)| (value.clone(), now + NOT_REFRESHED_FOR));
        if is_refused(&access) { Err(denied()) } else { Ok(access) }
    }

    /// Returns a valid token, through the agent if one runs.
    async fn token(&self) -> Result<Secret, Error> {
        let Some(name) = &self.profile else {
            let supplied = self.app.supplied_token(None)?.cloned();
            return supplied.ok_or_else(|| Error::msg(ErrorCode::LoginRequired, "no token", Hint::login()));
        };
        let profile = self.app.profile(Some(name))?;
        let invalid = |error| Error::new(ErrorCode::Usage, anyhow::Error::new(error), Hint::None);
        // Of several APIs, the token is for this one alone.
        let target = profile.narrowed(profile.request_for(&self.api.as_str().parse().map_err(invalid)?));
        let path = format!("/v1/token/{name}{}", token_query(&target, None));
        let reply: Option<ReceivedToken> = self.app.try_agent_async("GET", path, None).await?;
        if let Some(ReceivedToken { access_token: Some(token), token_type, .. }) = reply {
            return usable(name, &token_type, token);
        }
        let served = self.app.token_within_limit(&profile, &TokenRequest::access(target.clone(), None)).await?;
        let tokens = served.session.token_for(&target).unwrap_or(&served.session.tokens);
        usable(name, &tokens.token_type, tokens.access_token.clone())
    }

    async fn refresh(&self) -> Result<(), Error> {
        let supplied = || Error::msg(ErrorCode::TokenDenied, "the API refuses the supplied token", Hint::login());
        let name = self.profile.as_ref().ok_or_else(supplied)?;
        let reply: Option<RefreshResponse> =
            self.app.try_agent_async("POST", format!("/v1/refresh/{name}"), None).await?;
        if reply.is_none() {
            let profile = self.app.profile(Some(name))?;
            let refreshed = self.app.sessions()?.wait_for_token(&profile, &TokenRequest::own(Demand::New)).await;
            refreshed.map_err(|error| Error::from(error).about(name))?;
        }
        Ok(())
    }

    async fn with(&mut self, token: &Secret) -> Result<Access, Error> {
        let invalid = |e: hyper::header::InvalidHeaderValue| Error::new(ErrorCode::TokenDenied, e, Hint::login());
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(invalid)?;
        value.set_sensitive(true);
        let ca_cert = match &self.profile {
            Some(name) => self.app.profile(Some(name))?.ca_cert,
            None => None,
        };
        let api = self.app.sessions()?.pass_through(ca_cert, &self.api, self.clients.as_ref()).await?;
        self.clients = Some(api.clone());
        Ok(Access { headers: vec![(AUTHORIZATION, value)], api })
    }
}

/// Refuses a token whose requests need a proof (RFC 9449, section 7.1): the proxy makes none.
fn usable(name: &ProfileName, token_type: &str, token: Secret) -> Result<Secret, Error> {
    if canonical_type(token_type) == "Bearer" {
        return Ok(token);
    }
    let message = format!("the tokens of `{name}` are bound to a key, and a proxy makes no proofs");
    Err(Error::msg(ErrorCode::TokenDenied, message, Hint::command("headers").with_flag("--help")))
}
