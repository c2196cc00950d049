//! Credentials for requests to one API: a token of the agent where one runs, else of the session service, and a proof for each
//! request with a bound token.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use url::Url;

use super::App;
use crate::agent::protocol::{ProofRequest, ProofResponse, ReceivedToken, RefreshResponse, refresh_query, token_query};
use crate::clock::{Clock, UnixTime};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Profile, ProfileName, Session, TokenTarget, canonical_type, is_dpop};
use crate::oauth::ApiChallenge;
use crate::secret::{Secret, SecretBytes};
use crate::session::refresh_policy::Validity;
use crate::session::{MinTtl, RefusedToken, Remedy, SessionError, TokenRequest, remedy};
use crate::status::AgentProfiles;
use crate::store::StoreError;

/// How many questions wait for their answer. The others wait in the channel.
const MAX_WAITING: usize = 256;

/// How long a token may be reused without requesting it again.
#[derive(Clone, Copy)]
pub struct ReuseLimit {
    /// When the refresh policy may require a new token.
    due_at: Option<UnixTime>,
    /// When to request the token again, so that a logout takes effect.
    ask_at: Instant,
}

impl ReuseLimit {
    /// Returns whether the token may still be used.
    #[must_use]
    pub fn allows_reuse(&self, clock: &dyn Clock) -> bool {
        self.due_at.is_none_or(|due_at| clock.now() < due_at) && clock.monotonic() < self.ask_at
    }
}

/// A token as it was served.
#[derive(Clone)]
pub struct ApiToken {
    kind: String,
    token: Secret,
    reuse_limit: ReuseLimit,
    /// The profile of the token. AUTHCTL_TOKEN is never used here: it is not known for which API it is.
    profile: ProfileName,
    /// The session that it is from, without an agent.
    session: Option<Box<Session>>,
}

impl ApiToken {
    /// Returns the value of `Authorization`.
    #[must_use]
    pub fn authorization(&self) -> Secret {
        Secret::new(format!("{} {}", self.kind, self.token.expose()))
    }

    /// Returns how long the token may be reused.
    #[must_use]
    pub fn reuse_limit(&self) -> ReuseLimit {
        self.reuse_limit
    }

    /// Returns whether requests with it need a proof.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        is_dpop(&self.kind)
    }
}

/// Where the requests to one API get their credentials from.
pub struct ApiCredentials<'a> {
    app: &'a App,
    api: ApiUrl,
    /// How long a token is used without asking for it again: a logout takes effect after this time.
    max_cached: Duration,
    held: RefCell<Option<ApiToken>>,
}

impl<'a> ApiCredentials<'a> {
    /// Returns the credentials for the requests to `api`.
    #[must_use]
    pub fn new(app: &'a App, api: ApiUrl, max_cached: Duration) -> Self {
        Self { app, api, max_cached, held: RefCell::default() }
    }

    /// Returns the cached token, if it is fresh.
    pub fn cached(&self) -> Option<ApiToken> {
        self.held.borrow().as_ref().filter(|held| held.reuse_limit.allows_reuse(self.app.clock())).cloned()
    }

    /// Forgets the cached token.
    pub fn forget(&self) {
        self.held.borrow_mut().take();
    }

    /// Returns a valid token of the profile, refreshed first if the policy requires it.
    ///
    /// # Errors
    /// If the session has none.
    pub async fn of(&self, profile: &Profile) -> Result<ApiToken, Error> {
        let target = self.target(profile);
        let path = format!("/v1/token/{}{}", profile.name, token_query(&target, None));
        let reply: Option<ReceivedToken> = self.app.try_agent_async("GET", path, None).await?;
        if let Some(ReceivedToken { access_token: Some(token), token_type, expires_at, .. }) = reply {
            return Ok(self.hold(&token_type, &token, expires_at, (profile.name.clone(), None)));
        }
        let session = self.app.token_within_limit(profile, &TokenRequest::access(target, None)).await?.session;
        let tokens = session.token_for(&self.target(profile)).unwrap_or(&session.tokens);
        let (kind, token, expires_at) = (tokens.token_type.clone(), tokens.access_token.clone(), tokens.expires_at);
        let source = (profile.name.clone(), Some(Box::new(session)));
        Ok(self.hold(canonical_type(&kind), &token, expires_at, source))
    }

    /// Refreshes the session's token for the API.
    ///
    /// # Errors
    /// If that fails.
    pub async fn refresh(&self, profile: &Profile) -> Result<(), Error> {
        let app = self.app;
        let seen = self.held.borrow().as_ref().and_then(|held| held.session.clone());
        let target = self.target(profile);
        let path = format!("/v1/refresh/{}{}", profile.name, refresh_query(&target, None));
        if seen.is_none() && app.try_agent_async::<RefreshResponse>("POST", path, None).await?.is_some() {
            return Ok(());
        }
        let sessions = app.sessions()?;
        let about = |error: SessionError| Error::of_token(error, &profile.name);
        let seen = match seen {
            Some(seen) => *seen,
            None => sessions.session(profile).await.map_err(about)?,
        };
        sessions.refresh(profile, &TokenRequest::new_access(target), &seen).await.map_err(about)?;
        Ok(())
    }

    /// Returns what helps against `challenge`, with which the API refused the token `refused`, if the request had one.
    ///
    /// # Errors
    /// If the session cannot be read.
    pub async fn remedy(
        &self,
        profile: &Profile,
        challenge: &ApiChallenge,
        refused: Option<&Secret>,
    ) -> Result<Remedy, Error> {
        self.app.remedy(profile, &self.target(profile), challenge, refused).await
    }

    /// Returns the headers of a request with this token: `authorization`, and `dpop` if the token is bound.
    ///
    /// # Errors
    /// If no proof can be made.
    pub async fn headers(
        &self,
        token: &ApiToken,
        method: &str,
        url: &Url,
        nonce: Option<String>,
    ) -> Result<Vec<(String, Secret)>, Error> {
        let mut headers = vec![("authorization".to_owned(), token.authorization())];
        if token.is_bound() {
            let request = ProofRequest {
                profile: Some(token.profile.clone()),
                method: method.to_owned(),
                url: url.to_string(),
                nonce,
                access_token: Some(token.token.clone()),
            };
            headers.push(("dpop".to_owned(), self.proof(token, &request).await?));
        }
        Ok(headers)
    }

    /// Returns a proof. The agent makes it where one runs: the key stays there.
    async fn proof(&self, token: &ApiToken, request: &ProofRequest) -> Result<Secret, Error> {
        if token.session.is_none() {
            let mut body = SecretBytes::default();
            serde_json::to_writer(&mut body, request).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))?;
            let made = self.app.try_agent_async::<ProofResponse>("POST", "/v1/proof".into(), Some(body)).await?;
            if let Some(made) = made {
                return Ok(made.proof);
            }
        }
        let config = self.app.config()?;
        self.app.own_proof(config.profile(&token.profile)?, token.session.as_deref(), request).await
    }

    /// Returns what the token is for: of several APIs of the profile, this one alone.
    fn target(&self, profile: &Profile) -> TokenTarget {
        profile.narrowed(profile.request_for(&self.api))
    }

    fn hold(
        &self,
        kind: &str,
        token: &Secret,
        expires_at: Option<UnixTime>,
        (profile, session): (ProfileName, Option<Box<Session>>),
    ) -> ApiToken {
        let clock = self.app.clock();
        let due_at = Validity { obtained_at: clock.now(), expires_at }.due_at(MinTtl::Default);
        let reuse_limit = ReuseLimit { due_at, ask_at: clock.monotonic() + self.max_cached };
        let held = ApiToken { kind: kind.to_owned(), token: token.clone(), reuse_limit, profile, session };
        *self.held.borrow_mut() = Some(held.clone());
        held
    }
}

impl App {
    /// Returns what helps against `challenge`, with which an API refused the token `refused` for `target`, if that is known.
    ///
    /// # Errors
    /// If neither the store nor the agent has the session.
    pub async fn remedy(
        &self,
        profile: &Profile,
        target: &TokenTarget,
        challenge: &ApiChallenge,
        refused: Option<&Secret>,
    ) -> Result<Remedy, Error> {
        let known = match self.sessions()?.session(profile).await {
            Ok(session) => Some(RefusedToken::of(&session, target)),
            Err(SessionError::LoginRequired(_)) => None,
            Err(error @ SessionError::Store(StoreError::HeldByAgent | StoreError::Sealed)) => {
                let reply = self.try_agent_async::<AgentProfiles>("GET", "/v1/status".into(), None).await?;
                let mut profiles = reply.into_iter().flat_map(|reply| reply.profiles);
                let status = profiles.find(|status| status.profile == profile.name && !status.is_for_agent());
                let status = status.ok_or_else(|| Error::from(error).about(&profile.name))?;
                status.refused_token()
            }
            Err(error) => return Err(Error::from(error).about(&profile.name)),
        };
        Ok(remedy(profile, known.as_ref(), challenge, refused, self.clock().now()))
    }
}

/// The work for an answer.
pub type Answering<'w> = Pin<Box<dyn Future<Output = ()> + 'w>>;

/// Answers questions for credentials until nothing asks any more. Those that `at_once` can answer, with a cached token, do not
/// wait for a refresh or a login; the others are answered by `in_turn`, one after another.
pub async fn answer<'w, Q>(
    questions: &mut Receiver<Q>,
    at_once: impl Fn(Q) -> Result<Answering<'w>, Q>,
    in_turn: impl Fn(Q) -> Answering<'w>,
) {
    let mut waiting = VecDeque::new();
    let (mut working, mut quick) = (Vec::new(), Vec::new());
    loop {
        while working.is_empty()
            && let Some(question) = waiting.pop_front()
        {
            match at_once(question) {
                Ok(work) => quick.push(work),
                Err(question) => working.push(in_turn(question)),
            }
        }
        tokio::select! {
            question = questions.recv(), if waiting.len() + quick.len() < MAX_WAITING => match question.map(&at_once) {
                None => return,
                Some(Ok(work)) => quick.push(work),
                Some(Err(question)) => waiting.push_back(question),
            },
            () = one_of(&mut working) => {}
            () = one_of(&mut quick) => {}
        }
    }
}

/// Waits until one of them is done, and removes it.
async fn one_of(works: &mut Vec<Answering<'_>>) {
    poll_fn(|context| match works.iter_mut().position(|work| work.as_mut().poll(context).is_ready()) {
        Some(done) => {
            drop(works.swap_remove(done));
            Poll::Ready(())
        }
        None => Poll::Pending,
    })
    .await;
}
