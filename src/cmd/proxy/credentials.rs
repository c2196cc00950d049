//! Gives the proxy's requests what the session has at that moment.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::{mpsc, oneshot};

use super::report::Reports;
use crate::app::{Answering, ApiCredentials, ApiToken, App, ReuseLimit, answer};
use crate::clock::Clock;
use crate::cmd::challenge::login_required;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Profile, ProfileName, RequestRules};
use crate::oauth::{ApiChallenge, PassThrough};
use crate::proxy::{Access, CredentialSource, Pending, Wanted};
use crate::session::{Remedy, StepUp};

/// For how long a token is used without asking for it again: a logout, a lock of the agent, a changed configuration and changed
/// certificates take effect within this time.
const REUSED_FOR: Duration = Duration::from_secs(1);

/// For how long a refused token is not refreshed again after a refresh: what the API refuses then is not helped by another one.
const NO_REFRESH_AFTER: Duration = Duration::from_secs(60);

/// The same after a refresh that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How many questions wait at most.
const QUEUE: usize = 256;

/// A question for credentials.
struct CredentialQuestion {
    wanted: Wanted,
    /// What the API has refused.
    refused: Option<(HeaderValue, ApiChallenge)>,
    /// When it was first looked at.
    asked_at: Option<Instant>,
    reply: oneshot::Sender<Result<Arc<Access>, Error>>,
}

/// The credentials of the last request, reused while its token is fresh. Not used for bound tokens: each request needs its own
/// proof.
#[derive(Default)]
struct Latest(Mutex<Option<(ReuseLimit, Arc<Access>)>>);

impl Latest {
    fn lock(&self) -> MutexGuard<'_, Option<(ReuseLimit, Arc<Access>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, clock: &dyn Clock) -> Option<Arc<Access>> {
        self.lock()
            .as_ref()
            .filter(|(reuse_limit, _)| reuse_limit.allows_reuse(clock))
            .map(|(_, access)| Arc::clone(access))
    }
}

/// Asks for the credentials of requests. Those that were refused have a queue of their own: their refresh or login may take long,
/// and the others need not wait for it.
pub(super) struct ProxyCredentialClient {
    tokens: mpsc::Sender<Box<CredentialQuestion>>,
    refusals: mpsc::Sender<Box<CredentialQuestion>>,
    latest: Arc<Latest>,
    clock: Arc<dyn Clock>,
}

impl CredentialSource for ProxyCredentialClient {
    fn reusable(&self) -> Option<Arc<Access>> {
        self.latest.get(&*self.clock)
    }

    fn access(&self, wanted: Wanted, refused: Option<(HeaderValue, ApiChallenge)>) -> Pending<'_> {
        Box::pin(async move {
            let gone = || Error::msg(ErrorCode::Interrupted, "the proxy is stopping", Hint::None);
            let (reply, answer) = oneshot::channel();
            let queue = if refused.is_some() { &self.refusals } else { &self.tokens };
            let question = CredentialQuestion { wanted, refused, asked_at: None, reply };
            queue.send(Box::new(question)).await.map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

/// What requests are sent with and checked by, as the profile was when its token was asked for.
#[derive(Clone)]
struct RouteToApi {
    api: PassThrough,
    rules: Arc<RequestRules>,
}

/// What answers.
pub(super) struct ProxyCredentials<'a> {
    app: &'a App,
    profile: ProfileName,
    api: ApiUrl,
    tokens: ApiCredentials<'a>,
    route: RefCell<Option<RouteToApi>>,
    /// Until when a refused token is not refreshed.
    no_refresh_until: RefCell<Option<Instant>>,
    /// The last failure to get a token, for all requests from before it.
    failed: RefCell<Option<(Instant, Error)>>,
    reports: Arc<Reports>,
    latest: Arc<Latest>,
}

impl<'a> ProxyCredentials<'a> {
    /// Returns what answers.
    pub(super) fn new(app: &'a App, profile: ProfileName, api: ApiUrl, reports: Arc<Reports>) -> Self {
        let tokens = ApiCredentials::new(app, api.clone(), REUSED_FOR);
        Self {
            app,
            profile,
            api,
            tokens,
            route: RefCell::default(),
            no_refresh_until: RefCell::default(),
            failed: RefCell::default(),
            reports,
            latest: Arc::default(),
        }
    }

    /// Returns what asks, and the work that answers until nothing asks any more.
    pub(super) fn start(&self) -> (ProxyCredentialClient, impl Future<Output = ()>) {
        let (tokens, token_questions) = mpsc::channel(QUEUE);
        let (refusals, refusal_questions) = mpsc::channel(QUEUE);
        let answering = async move {
            tokio::join!(self.answer_all(token_questions), self.answer_all(refusal_questions));
        };
        let (latest, clock) = (Arc::clone(&self.latest), self.app.shared_clock());
        (ProxyCredentialClient { tokens, refusals, latest, clock }, answering)
    }

    async fn answer_all(&self, mut questions: mpsc::Receiver<Box<CredentialQuestion>>) {
        let in_turn = |question| Box::pin(self.answer(question)) as Answering<'_>;
        answer(&mut questions, |question| self.at_once(question), in_turn).await;
    }

    /// Answers a question with the cached token, if that is fresh and not the refused one, or with the failure of an attempt that
    /// has ended since it was asked; returns any other question.
    fn at_once(&self, mut question: Box<CredentialQuestion>) -> Result<Answering<'_>, Box<CredentialQuestion>> {
        if question.reply.is_closed() {
            return Ok(Box::pin(async {}));
        }
        let asked_at = *question.asked_at.get_or_insert_with(|| self.app.clock().monotonic());
        if question.refused.is_none()
            && let Some((at, Error { code, error, hint })) = &*self.failed.borrow()
            && asked_at <= *at
        {
            let same = Error::msg(*code, format!("{error:#}"), hint.clone());
            return Ok(Box::pin(self.reply(question, Err(same))));
        }
        let is_usable = |token: &ApiToken| {
            question.refused.as_ref().is_none_or(|(refused, challenge)| can_help(token, refused, challenge))
        };
        match (self.tokens.cached().filter(is_usable), self.route.borrow().clone()) {
            (Some(token), Some(_)) => Ok(Box::pin(self.reply(question, Ok(token)))),
            _ => Err(question),
        }
    }

    async fn answer(&self, mut question: Box<CredentialQuestion>) {
        let token = match question.refused.take() {
            None => self.current().await.inspect_err(|error| {
                let same = Error::msg(error.code, error.message(), error.hint.clone());
                *self.failed.borrow_mut() = Some((self.app.clock().monotonic(), same));
            }),
            Some((refused, challenge)) => self.other_than(&refused, &challenge).await,
        };
        self.reply(question, token).await;
    }

    async fn reply(&self, question: Box<CredentialQuestion>, token: Result<ApiToken, Error>) {
        let CredentialQuestion { wanted, reply, .. } = *question;
        let access = match token {
            Ok(token) => self.access(&token, wanted).await,
            Err(error) => Err(error),
        };
        // The caller shows the command as the proxy itself would.
        let _ = reply.send(access.map_err(|error| Error { hint: self.app.with_typed_options(error.hint), ..error }));
    }

    async fn access(&self, token: &ApiToken, wanted: Wanted) -> Result<Arc<Access>, Error> {
        let invalid = |error: anyhow::Error| Error::new(ErrorCode::TokenDenied, error, Hint::login());
        let route = self.route.borrow().clone();
        let RouteToApi { api, rules } = route.ok_or_else(|| invalid(anyhow::Error::msg("no client for the API")))?;
        let made = self.tokens.headers(token, wanted.method.as_str(), &wanted.url, wanted.nonce).await?;
        let mut headers = Vec::with_capacity(made.len());
        for (name, value) in made {
            let name: HeaderName = name.parse().map_err(|e| invalid(anyhow::Error::new(e)))?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|e| invalid(e.into()))?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        let access = Arc::new(Access { headers, api, rules });
        if !token.is_bound() {
            *self.latest.lock() = Some((token.reuse_limit(), Arc::clone(&access)));
        }
        Ok(access)
    }

    /// Forgets the token.
    fn forget(&self) {
        self.tokens.forget();
        *self.latest.lock() = None;
    }

    /// Returns the profile as it is now. It has to be for the API still.
    fn profile(&self) -> Result<Profile, Error> {
        self.app.profile_for(&self.api, Some(&self.profile))
    }

    async fn current(&self) -> Result<ApiToken, Error> {
        if let Some(token) = self.tokens.cached() {
            return Ok(token);
        }
        let profile = self.profile()?;
        let before = self.route.borrow().as_ref().map(|route| route.api.clone());
        let sessions = self.app.sessions()?;
        let api = sessions.pass_through(profile.ca_cert.clone(), self.api.url(), before.as_ref()).await?;
        *self.route.borrow_mut() = Some(RouteToApi { api, rules: Arc::new(profile.proxy.rules.clone()) });
        self.tokens.of(&profile).await
    }

    /// Returns another token than the refused one, after a refresh if that can help.
    async fn other_than(&self, refused: &HeaderValue, challenge: &ApiChallenge) -> Result<ApiToken, Error> {
        let denied = |what: &str| Error::msg(ErrorCode::TokenDenied, what, Hint::login());
        // Another process may have refreshed it since it was cached.
        if self.tokens.cached().is_some_and(|token| !can_help(&token, refused, challenge)) {
            self.forget();
        }
        let current = self.current().await?;
        if can_help(&current, refused, challenge) {
            return Ok(current);
        }
        if challenge.wants_nonce() {
            return Err(denied("the API wants a proof, and the token is not bound to a key"));
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
        let refused_again = || denied("the API refuses the token although it is new");
        let now = || self.app.clock().monotonic();
        if self.no_refresh_until.borrow().is_some_and(|until| now() < until) {
            return Err(refused_again());
        }
        *self.no_refresh_until.borrow_mut() = Some(now() + RETRY_AFTER);
        self.tokens.refresh(&profile).await?;
        *self.no_refresh_until.borrow_mut() = Some(now() + NO_REFRESH_AFTER);
        self.forget();
        let new = self.current().await?;
        if is_same(&new, refused) { Err(refused_again()) } else { Ok(new) }
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

/// Returns whether a request with this token may be accepted after one with `refused` was not. A nonce is for a proof, and only a
/// bound token has one.
fn can_help(token: &ApiToken, refused: &HeaderValue, challenge: &ApiChallenge) -> bool {
    challenge.wants_nonce() && token.is_bound() || !is_same(token, refused)
}

/// Returns whether a request with this `Authorization` had this token.
fn is_same(token: &ApiToken, sent: &HeaderValue) -> bool {
    token.authorization().expose().as_bytes() == sent.as_bytes()
}
