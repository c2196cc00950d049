//! Provides the bridge with credentials: tokens of the agent where one runs, else of the session service.

mod sign_in;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use crate::agent::protocol::{ProofRequest, ProofResponse, ReceivedToken, RefreshResponse, token_query};
use crate::app::App;
use crate::cli::Mcp;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::mcp::{CredentialHeaders, CredentialRequest, Failure, Refusal};
use crate::model::{Profile, ProfileName, Session, TokenTarget, canonical_type};
use crate::oauth::ApiChallenge;
use crate::secret::{Secret, SecretBytes};
use crate::session::refresh_policy::default_min_ttl;
use crate::session::{Demand, Remedy, SessionError, StepUp, TokenRequest, remedy};

/// How long a token is used without asking for it again: a logout takes effect after this time.
const MAX_CACHED: Duration = Duration::from_secs(10);
/// How many requests wait for credentials. The others wait in the bridge.
const MAX_WAITING: usize = 256;

/// The type of tokens whose requests need a proof (RFC 9449, section 7.1).
const DPOP: &str = "DPoP";

/// A token as it was served.
#[derive(Clone)]
struct Held {
    kind: String,
    token: Secret,
    /// Until when it is used: then the policy may want another.
    until: Option<UnixTime>,
    since: Instant,
    /// The profile.
    profile: Option<ProfileName>,
    /// The session that it is from, without an agent.
    session: Option<Box<Session>>,
}

type Work<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A login that the bridge has started.
struct RecentLogin {
    /// The profile; `None` for the first login at the server.
    profile: Option<ProfileName>,
    at: Instant,
    has_failed: bool,
}

/// Provides credentials, for one refusal at a time: no login or refresh is begun while another is in progress.
pub(super) struct Provider<'a> {
    app: &'a App,
    args: &'a Mcp,
    held: RefCell<Option<Held>>,
    logins: RefCell<Vec<RecentLogin>>,
}

/// Waits for work, if there is any.
async fn finish(work: &mut Option<Work<'_>>) {
    match work.as_mut() {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

impl<'a> Provider<'a> {
    /// Creates a provider.
    pub(super) fn new(app: &'a App, args: &'a Mcp) -> Self {
        Self { app, args, held: RefCell::default(), logins: RefCell::default() }
    }

    /// Answers the questions of the bridge. One that a token in hand answers does not wait for a refresh or a login.
    pub(super) async fn serve(&self, requests: &mut Receiver<CredentialRequest>) {
        let (mut waiting, mut proofs) = (VecDeque::new(), VecDeque::new());
        let (mut working, mut proving): (Option<Work<'_>>, Option<Work<'_>>) = (None, None);
        let mut next = None;
        loop {
            match next.take().and_then(|request| self.at_once(request)) {
                None => {}
                Some((Some(held), request)) => proofs.push_back((held, request)),
                Some((None, request)) if working.is_none() => working = Some(Box::pin(self.answer(request))),
                Some((None, request)) => waiting.push_back(request),
            }
            if proving.is_none()
                && let Some((held, request)) = proofs.pop_front()
            {
                proving = Some(Box::pin(self.prove(held, request)));
            }
            if working.is_none()
                && let Some(request) = waiting.pop_front()
            {
                next = Some(request);
                continue;
            }
            tokio::select! {
                request = requests.recv(), if waiting.len() + proofs.len() < MAX_WAITING => match request {
                    None => return,
                    request => next = request,
                },
                () = finish(&mut working) => working = None,
                () = finish(&mut proving) => proving = None,
            }
        }
    }

    /// Answers a question with the token in hand, if that is fresh and not the refused one. Returns the question if it is still
    /// open, with the token if it only needs a proof.
    fn at_once(&self, request: CredentialRequest) -> Option<(Option<Held>, CredentialRequest)> {
        if request.reply.is_closed() {
            return None;
        }
        let clock = self.app.clock();
        let is_fresh = |held: &Held| {
            held.until.is_none_or(|until| clock.now() < until)
                && clock.monotonic().duration_since(held.since) < MAX_CACHED
        };
        let refusal = request.refusal.as_ref().filter(|refusal| !wants_nonce(refusal));
        let is_refused = |held: &Held| refusal.is_some_and(|refusal| held.was_sent(refusal));
        match self.held.borrow().clone().filter(|held| is_fresh(held) && !is_refused(held)) {
            Some(held) if held.is_bound() => Some((Some(held), request)),
            Some(held) => {
                let _ = request.reply.send(Ok(Some(vec![held.header()])));
                None
            }
            None => Some((None, request)),
        }
    }

    async fn prove(&self, held: Held, request: CredentialRequest) {
        let CredentialRequest { method, nonce, reply, .. } = request;
        let headers = self.headers(&held, method, nonce).await;
        let _ = reply.send(headers.map(Some).map_err(|error| self.failure(&error)));
    }

    async fn answer(&self, request: CredentialRequest) {
        let CredentialRequest { method, nonce, refusal, reply } = request;
        let answer = async {
            let held = match refusal {
                None => self.current().await?,
                Some(refusal) => match self.after(refusal).await? {
                    None => return Ok(None),
                    held => held,
                },
            };
            match held {
                Some(held) => self.headers(&held, method, nonce).await.map(Some),
                // The server may take requests without a token, too.
                None => Ok(Some(Vec::new())),
            }
        };
        let _ = reply.send(answer.await.map_err(|error: Error| self.failure(&error)));
    }

    /// Returns the error as the bridge reports it to the client.
    fn failure(&self, error: &Error) -> Failure {
        let (hint, message) = (self.app.next_command(error.hint.clone()), error.message());
        let (message, hint) = match error.hint.is_command() {
            true => (message, hint),
            false if hint.is_empty() => (message, hint),
            false => (format!("{message}; {hint}"), String::new()),
        };
        Failure { code: error.code.as_str(), message, hint }
    }

    /// Returns a valid token, refreshed first if the policy requires it; `None` if no profile is for the server.
    async fn current(&self) -> Result<Option<Held>, Error> {
        let app = self.app;
        let Some(profile) = profile(self.app, self.args)? else { return Ok(None) };
        let target = self.target(&profile);
        let path = format!("/v1/token/{}{}", profile.name, token_query(&target, None));
        let reply: Option<ReceivedToken> = app.try_agent_async("GET", path, None).await?;
        if let Some(ReceivedToken { access_token: Some(token), token_type, expires_at, .. }) = reply {
            return Ok(Some(self.hold(&token_type, &token, expires_at, (Some(profile.name), None))));
        }
        let session = app.token_within_limit(&profile, &TokenRequest::access(target, None)).await?.session;
        Ok(Some(self.hold_session(&profile, session)))
    }

    fn target(&self, profile: &Profile) -> TokenTarget {
        profile.narrowed(profile.request_for(&self.args.url))
    }

    /// Returns a token in place of a refused one; `None` if the refusal is not about credentials.
    async fn after(&self, refusal: Refusal) -> Result<Option<Held>, Error> {
        let challenge = ApiChallenge::parse(refusal.challenges.iter().map(String::as_str));
        let is_about_scope =
            challenge.as_ref().is_some_and(|challenge| challenge.error.as_deref() == Some("insufficient_scope"));
        if refusal.status == 403 && !is_about_scope {
            return Ok(None);
        }
        let challenge = challenge.unwrap_or_default();
        let Some(profile) = profile(self.app, self.args)? else {
            self.log_in(None, &refusal, StepUp::default()).await?;
            return self.current().await;
        };
        // The user may have logged in in the meantime.
        let current = match self.current().await {
            Err(error) if error.code == ErrorCode::LoginRequired => None,
            current => current?,
        };
        let is_replaced = current.as_ref().is_some_and(|held| !held.was_sent(&refusal));
        if is_replaced && !is_about_scope || wants_nonce(&refusal) {
            return Ok(current);
        }
        let session = match self.app.sessions()?.session(&profile).await {
            Ok(session) => Some(session),
            Err(SessionError::LoginRequired(_)) => None,
            Err(error) => return Err(Error::from(error).about(&profile.name)),
        };
        let refused = sent_token(&refusal);
        match remedy(&profile, session.as_ref(), &challenge, refused.as_ref(), self.app.clock().now()) {
            Remedy::StoredToken => {}
            Remedy::Nothing(reason) => {
                let hint = Hint::advice("ask the operator of the server for access, or log in with another account");
                return Err(Error::msg(ErrorCode::TokenDenied, reason, hint));
            }
            Remedy::Login(step_up) => self.log_in(Some(&profile), &refusal, step_up).await?,
            Remedy::Refresh => match self.refresh(&profile).await {
                Err(error) if error.code == ErrorCode::LoginRequired => {
                    self.log_in(Some(&profile), &refusal, StepUp::default()).await?;
                }
                refreshed => refreshed?,
            },
        }
        self.held.borrow_mut().take();
        self.current().await
    }

    /// Refreshes the session.
    async fn refresh(&self, profile: &Profile) -> Result<(), Error> {
        let app = self.app;
        let seen = self.held.borrow().as_ref().and_then(|held| held.session.clone());
        let target = format!("/v1/refresh/{}", profile.name);
        if seen.is_none() && app.try_agent_async::<RefreshResponse>("POST", target, None).await?.is_some() {
            return Ok(());
        }
        let sessions = app.sessions()?;
        let about = |error: SessionError| Error::from(error).about(&profile.name);
        let seen = match seen {
            Some(seen) => *seen,
            None => sessions.session(profile).await.map_err(about)?,
        };
        sessions.refresh(profile, &TokenRequest::own(Demand::New), &seen).await.map_err(about)?;
        Ok(())
    }

    /// Returns the headers for a request with this method and nonce.
    async fn headers(
        &self,
        held: &Held,
        method: &'static str,
        nonce: Option<String>,
    ) -> Result<CredentialHeaders, Error> {
        let mut headers = vec![held.header()];
        if let Some(name) = held.profile.as_ref().filter(|_| held.is_bound()) {
            let request = ProofRequest {
                profile: Some(name.clone()),
                method: method.to_owned(),
                url: self.args.url.to_string(),
                nonce,
                access_token: Some(held.token.clone()),
            };
            headers.push(("dpop".to_owned(), self.proof(name, held, &request).await?));
        }
        Ok(headers)
    }

    /// Returns a proof. The agent makes it where one runs: the key stays there.
    async fn proof(&self, name: &ProfileName, held: &Held, request: &ProofRequest) -> Result<Secret, Error> {
        if held.session.is_none() {
            let mut body = SecretBytes::default();
            serde_json::to_writer(&mut body, request).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))?;
            let made = self.app.try_agent_async::<ProofResponse>("POST", "/v1/proof".into(), Some(body)).await?;
            if let Some(made) = made {
                return Ok(made.proof);
            }
        }
        let (sessions, config) = (self.app.sessions()?, self.app.config()?);
        let (profile, about) = (config.profile(name)?, |error: SessionError| Error::from(error).about(name));
        let session = match &held.session {
            Some(session) => (**session).clone(),
            None => sessions.session(profile).await.map_err(about)?,
        };
        sessions.proof(profile, &session, request).await.map_err(about)
    }

    fn hold_session(&self, profile: &Profile, session: Session) -> Held {
        let tokens = session.token_for(&self.target(profile)).unwrap_or(&session.tokens);
        let (kind, token, expires_at) = (tokens.token_type.clone(), tokens.access_token.clone(), tokens.expires_at);
        let source = (Some(profile.name.clone()), Some(Box::new(session)));
        self.hold(canonical_type(&kind), &token, expires_at, source)
    }

    fn hold(
        &self,
        kind: &str,
        token: &Secret,
        expires_at: Option<UnixTime>,
        (profile, session): (Option<ProfileName>, Option<Box<Session>>),
    ) -> Held {
        let clock = self.app.clock();
        let now = clock.now();
        // The policy wants another when less than this is left.
        let margin = |end| i64::try_from(default_min_ttl(now.until(end)).as_secs()).unwrap_or(0);
        let until = expires_at.map(|end| UnixTime(end.0 - margin(end)));
        let since = clock.monotonic();
        let held = Held { kind: kind.to_owned(), token: token.clone(), until, since, profile, session };
        *self.held.borrow_mut() = Some(held.clone());
        held
    }
}

/// Returns the profile whose tokens are for the server; `None` if there is none. Never the token in AUTHCTL_TOKEN: nothing says
/// which server it is for.
///
/// # Errors
/// [`ErrorCode::LoginRequired`] if the command line names a profile that is for others.
pub(super) fn profile(app: &App, args: &Mcp) -> Result<Option<Profile>, Error> {
    match app.profile_for(&args.url, None) {
        Err(error) if error.code == ErrorCode::LoginRequired && app.typed_profile(None)?.is_none() => Ok(None),
        found => found.map(Some),
    }
}

impl Held {
    fn header(&self) -> (String, Secret) {
        ("authorization".to_owned(), Secret::new(format!("{} {}", self.kind, self.token.expose())))
    }

    /// Returns whether requests with it need a proof.
    fn is_bound(&self) -> bool {
        self.kind.eq_ignore_ascii_case(DPOP)
    }

    /// Returns whether the refused request had this token.
    fn was_sent(&self, refusal: &Refusal) -> bool {
        let (name, value) = self.header();
        refusal.sent.iter().any(|(sent, other)| *sent == name && other.expose() == value.expose())
    }
}

/// Returns the token of a refused request.
fn sent_token(refusal: &Refusal) -> Option<Secret> {
    let (_, value) = refusal.sent.first()?;
    value.expose().split_once(' ').map(|(_, token)| Secret::new(token.to_owned()))
}

/// Returns whether the server refuses a proof only because it has no nonce, or an old one (RFC 9449, section 9).
fn wants_nonce(refusal: &Refusal) -> bool {
    let challenge = ApiChallenge::parse(refusal.challenges.iter().map(String::as_str));
    challenge.is_some_and(|challenge| challenge.error.as_deref() == Some("use_dpop_nonce"))
}
