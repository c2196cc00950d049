//! Gives the proxy's requests what the session has at that moment.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::{mpsc, oneshot};

use super::report::Reports;
use crate::app::{Answering, ApiCredentials, ApiToken, App, answer};
use crate::cmd::challenge::login_required;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Profile, ProfileName, RequestRules};
use crate::oauth::{ApiChallenge, PassThrough};
use crate::proxy::{Access, Credentials, Pending, Wanted};
use crate::secret::Secret;
use crate::session::{Remedy, StepUp};

/// For how long a token is used without asking for it again: a logout, a lock of the agent, a changed configuration and changed
/// certificates take effect within this time.
const REUSED_FOR: Duration = Duration::from_secs(1);

/// For how long no other refresh is tried after a new token was refused.
const HOPELESS_FOR: Duration = Duration::from_secs(60);

/// How many questions wait at most.
const QUEUE: usize = 256;

/// A question for credentials.
struct Question {
    wanted: Wanted,
    /// What the API has refused.
    refused: Option<(HeaderValue, ApiChallenge)>,
    reply: oneshot::Sender<Result<Access, Error>>,
}

/// What asks.
pub(super) struct Asker(mpsc::Sender<Box<Question>>);

impl Credentials for Asker {
    fn access(&self, wanted: Wanted, refused: Option<(HeaderValue, ApiChallenge)>) -> Pending<'_> {
        Box::pin(async move {
            let gone = || Error::msg(ErrorCode::Interrupted, "the proxy is stopping", Hint::None);
            let (reply, answer) = oneshot::channel();
            self.0.send(Box::new(Question { wanted, refused, reply })).await.map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

/// What requests are sent with and checked by, as the profile was when its token was asked for.
#[derive(Clone)]
struct Route {
    api: PassThrough,
    rules: Arc<RequestRules>,
}

/// What answers.
pub(super) struct Provider<'a> {
    app: &'a App,
    profile: ProfileName,
    api: ApiUrl,
    tokens: ApiCredentials<'a>,
    route: RefCell<Option<Route>>,
    /// A token that was refused although it was new, and until when another refresh would not help.
    hopeless: RefCell<Option<(Secret, Instant)>>,
    reports: Arc<Reports>,
}

impl<'a> Provider<'a> {
    /// Returns what answers.
    pub(super) fn new(app: &'a App, profile: ProfileName, api: ApiUrl, reports: Arc<Reports>) -> Self {
        let tokens = ApiCredentials::new(app, api.clone(), REUSED_FOR);
        Self { app, profile, api, tokens, route: RefCell::default(), hopeless: RefCell::default(), reports }
    }

    /// Returns what asks, and the work that answers until nothing asks any more.
    pub(super) fn start(&self) -> (Asker, impl Future<Output = ()>) {
        let (sender, mut questions) = mpsc::channel(QUEUE);
        let answering = async move {
            let in_turn = |question| Box::pin(self.answer(question)) as Answering<'_>;
            answer(&mut questions, |question| self.at_once(question), in_turn).await;
        };
        (Asker(sender), answering)
    }

    /// Answers a question with the token in hand, if that is fresh and not the refused one; returns any other question.
    fn at_once(&self, question: Box<Question>) -> Result<Answering<'_>, Box<Question>> {
        if question.reply.is_closed() {
            return Ok(Box::pin(async {}));
        }
        let is_usable = |token: &ApiToken| match &question.refused {
            Some((refused, challenge)) => challenge.wants_nonce() || !is_same(token, refused),
            None => true,
        };
        match (self.tokens.in_hand().filter(is_usable), self.route.borrow().clone()) {
            (Some(token), Some(_)) => Ok(Box::pin(self.reply(question, Ok(token)))),
            _ => Err(question),
        }
    }

    async fn answer(&self, mut question: Box<Question>) {
        let token = match question.refused.take() {
            None => self.current().await,
            Some((refused, challenge)) => self.other_than(&refused, &challenge).await,
        };
        self.reply(question, token).await;
    }

    async fn reply(&self, question: Box<Question>, token: Result<ApiToken, Error>) {
        let Question { wanted, reply, .. } = *question;
        let access = match token {
            Ok(token) => self.access(&token, wanted).await,
            Err(error) => Err(error),
        };
        // The caller shows the command as the proxy itself would.
        let _ = reply.send(access.map_err(|error| Error { hint: self.app.with_typed_options(error.hint), ..error }));
    }

    async fn access(&self, token: &ApiToken, wanted: Wanted) -> Result<Access, Error> {
        let invalid = |error: anyhow::Error| Error::new(ErrorCode::TokenDenied, error, Hint::login());
        let route = self.route.borrow().clone();
        let Route { api, rules } = route.ok_or_else(|| invalid(anyhow::Error::msg("no client for the API")))?;
        let made = self.tokens.headers(token, wanted.method.as_str(), &wanted.url, wanted.nonce).await?;
        let mut headers = Vec::with_capacity(made.len());
        for (name, value) in made {
            let name: HeaderName = name.parse().map_err(|e| invalid(anyhow::Error::new(e)))?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|e| invalid(e.into()))?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(Access { headers, api, rules })
    }

    /// Returns the profile as it is now. It has to be for the API still.
    fn profile(&self) -> Result<Profile, Error> {
        self.app.profile_for(&self.api, Some(&self.profile))
    }

    async fn current(&self) -> Result<ApiToken, Error> {
        if let Some(token) = self.tokens.in_hand() {
            return Ok(token);
        }
        let profile = self.profile()?;
        let before = self.route.borrow().as_ref().map(|route| route.api.clone());
        let sessions = self.app.sessions()?;
        let api = sessions.pass_through(profile.ca_cert.clone(), self.api.url(), before.as_ref()).await?;
        *self.route.borrow_mut() = Some(Route { api, rules: Arc::new(profile.proxy.rules.clone()) });
        self.tokens.of(&profile).await
    }

    /// Returns another token than the refused one, after a refresh if that can help.
    async fn other_than(&self, refused: &HeaderValue, challenge: &ApiChallenge) -> Result<ApiToken, Error> {
        let denied = |what: &str| Error::msg(ErrorCode::TokenDenied, what, Hint::login());
        let current = self.current().await?;
        if challenge.wants_nonce() || !is_same(&current, refused) {
            return Ok(current);
        }
        let profile = self.profile()?;
        if challenge.wants_sign_in() {
            let error = self.sign_in_required(&profile, challenge).await;
            self.reports.sign_in_required(self.app, &error);
            return Err(error);
        }
        if challenge.error.as_deref() == Some("invalid_dpop_proof") {
            return Err(denied("the API refuses the proof"));
        }
        let now = || self.app.clock().monotonic();
        let is_hopeless =
            |(token, until): &(Secret, Instant)| refused.as_bytes() == token.expose().as_bytes() && now() < *until;
        if self.hopeless.borrow().as_ref().is_some_and(is_hopeless) {
            return Err(denied("the API refuses the token although it is new"));
        }
        self.tokens.refresh(&profile).await?;
        self.tokens.forget();
        let new = self.current().await?;
        *self.hopeless.borrow_mut() = Some((new.authorization(), now() + HOPELESS_FOR));
        if is_same(&new, refused) { Err(denied("the API refuses the token although it is new")) } else { Ok(new) }
    }

    /// Returns the error that only another sign-in helps, with its command.
    async fn sign_in_required(&self, profile: &Profile, challenge: &ApiChallenge) -> Error {
        let step_up = match self.tokens.remedy(profile, challenge, None).await {
            Ok(Remedy::Login(step_up)) => step_up,
            Ok(Remedy::Nothing(reason)) => return Error::msg(ErrorCode::TokenDenied, reason, Hint::None),
            Ok(Remedy::Refresh | Remedy::StoredToken) | Err(_) => StepUp::default(),
        };
        login_required(profile, &self.api, &step_up)
    }
}

/// Returns whether a request with this `Authorization` had this token.
fn is_same(token: &ApiToken, sent: &HeaderValue) -> bool {
    token.authorization().expose().as_bytes() == sent.as_bytes()
}
