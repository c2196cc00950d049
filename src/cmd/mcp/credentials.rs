//! Provides the bridge with credentials: tokens of the agent where one runs, else of the session service.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use crate::agent::protocol::{ReceivedToken, RefreshResponse};
use crate::app::App;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::mcp::{CredentialHeaders, CredentialRequest, Failure, Refusal};
use crate::model::{Session, TokenTarget, canonical_type};
use crate::secret::Secret;
use crate::session::refresh_policy::default_min_ttl;
use crate::session::{Demand, TokenRequest};

/// How long a token is used without asking for it again: a logout takes effect after this time.
const MAX_CACHED: Duration = Duration::from_secs(10);
/// How many requests wait for credentials. The others wait in the bridge.
const MAX_WAITING: usize = 256;

/// A token as it was served.
struct Held {
    headers: CredentialHeaders,
    /// Until when it is used: then the policy may want another.
    until: Option<UnixTime>,
    since: Instant,
    /// The session that it is from, without an agent.
    session: Option<Box<Session>>,
}

/// Provides credentials, for one refusal at a time: no login or refresh is begun while another is in progress.
pub(super) struct Provider<'a> {
    app: &'a App,
    held: RefCell<Option<Held>>,
    /// What the last forced refresh has brought.
    refreshed: RefCell<Option<CredentialHeaders>>,
}

impl<'a> Provider<'a> {
    /// Creates a provider.
    pub(super) fn new(app: &'a App) -> Self {
        Self { app, held: RefCell::default(), refreshed: RefCell::default() }
    }

    /// Answers the questions of the bridge. One that a token in hand answers does not wait for a refresh.
    pub(super) async fn serve(&self, requests: &mut Receiver<CredentialRequest>) {
        let mut waiting: VecDeque<CredentialRequest> = VecDeque::new();
        let mut working: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = None;
        loop {
            while working.is_none()
                && let Some(request) = waiting.pop_front()
            {
                if request.reply.is_closed() {
                    continue;
                }
                match self.usable(request.refusal.as_ref()) {
                    Some(headers) => drop(request.reply.send(Ok(Some(headers)))),
                    None => working = Some(Box::pin(self.answer(request))),
                }
            }
            let work = async {
                match working.as_mut() {
                    Some(work) => work.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                request = requests.recv(), if waiting.len() < MAX_WAITING => match request {
                    None => return,
                    Some(request) => match self.usable(request.refusal.as_ref()) {
                        Some(headers) => drop(request.reply.send(Ok(Some(headers)))),
                        None => waiting.push_back(request),
                    },
                },
                () = work => working = None,
            }
        }
    }

    /// Returns the token in hand if it is fresh and not the refused one.
    fn usable(&self, refusal: Option<&Refusal>) -> Option<CredentialHeaders> {
        let held = self.held.borrow();
        let held = held.as_ref()?;
        let clock = self.app.clock();
        let is_fresh = held.until.is_none_or(|until| clock.now() < until)
            && clock.monotonic().duration_since(held.since) < MAX_CACHED;
        let is_other = refusal.is_none_or(|refusal| !is_same(&refusal.sent, &held.headers));
        (is_fresh && is_other).then(|| held.headers.clone())
    }

    async fn answer(&self, request: CredentialRequest) {
        let answer = match request.refusal {
            None => self.current().await.map(Some),
            Some(refusal) => self.after(refusal).await,
        };
        let _ = request.reply.send(answer.map_err(|error| self.failure(&error)));
    }

    /// Returns the error as the bridge reports it to the client.
    fn failure(&self, error: &Error) -> Failure {
        let (hint, message) = (self.app.hint_text(&error.hint), error.message());
        let (message, hint) = match error.hint.is_command() {
            true => (message, hint),
            false if hint.is_empty() => (message, hint),
            false => (format!("{message}; {hint}"), String::new()),
        };
        Failure { code: error.code.as_str(), message, hint }
    }

    /// Returns a valid token, refreshed first if the policy requires it.
    async fn current(&self) -> Result<CredentialHeaders, Error> {
        let app = self.app;
        if let Some(token) = app.supplied_token(None)? {
            return Ok(self.hold("Bearer", token, None, None));
        }
        let named = app.profile_name(None)?;
        let name = named.map(|name| format!("/{name}")).unwrap_or_default();
        let reply: Option<ReceivedToken> = app.try_agent_async("GET", format!("/v1/token{name}")).await?;
        if let Some(ReceivedToken { access_token: Some(token), token_type, expires_at, .. }) = reply {
            return Ok(self.hold(&token_type, &token, expires_at, None));
        }
        let profile = app.profile(None)?;
        let request = TokenRequest::access(TokenTarget::default(), None);
        let session = app.token_within_limit(&profile, &request).await?.session;
        Ok(self.hold_session(session))
    }

    /// Returns credentials in place of refused ones; `None` if the refusal is not about credentials.
    async fn after(&self, refusal: Refusal) -> Result<Option<CredentialHeaders>, Error> {
        if refusal.status == 403 {
            // RFC 6750, section 3.1: the other 403s have nothing to do with the token.
            return match refusal.challenges.iter().any(|challenge| challenge.contains("insufficient_scope")) {
                false => Ok(None),
                true => Err(self.login_required("the server requires a scope that the token does not have")?),
            };
        }
        let current = self.current().await?;
        if !is_same(&current, &refusal.sent) {
            return Ok(Some(current));
        }
        let is_new = self.refreshed.borrow().as_ref().is_some_and(|refreshed| is_same(refreshed, &refusal.sent));
        if !is_new && self.app.supplied_token(None)?.is_none() {
            let refreshed = self.refresh().await?;
            *self.refreshed.borrow_mut() = Some(refreshed.clone());
            if !is_same(&refreshed, &refusal.sent) {
                return Ok(Some(refreshed));
            }
        }
        Err(self.login_required("the server does not accept the token")?)
    }

    /// Returns the error of a token that only a login replaces.
    fn login_required(&self, message: &'static str) -> Result<Error, Error> {
        Ok(match self.app.supplied_token(None)? {
            Some(_) => Error::msg(ErrorCode::TokenDenied, message, Hint::shell("unset AUTHCTL_TOKEN")),
            None => Error::msg(ErrorCode::LoginRequired, message, Hint::login()).about(&self.app.profile(None)?.name),
        })
    }

    /// Returns the token of a forced refresh.
    async fn refresh(&self) -> Result<CredentialHeaders, Error> {
        let (app, profile) = (self.app, self.app.profile(None)?);
        let seen = self.held.borrow().as_ref().and_then(|held| held.session.clone());
        let target = format!("/v1/refresh/{}", profile.name);
        if seen.is_none() && app.try_agent_async::<RefreshResponse>("POST", target).await?.is_some() {
            return self.current().await;
        }
        let sessions = app.sessions()?;
        let about = |error: crate::session::SessionError| Error::from(error).about(&profile.name);
        let seen = match seen {
            Some(seen) => *seen,
            None => sessions.session(&profile).await.map_err(about)?,
        };
        let served = sessions.refresh(&profile, &TokenRequest::own(Demand::New), &seen).await.map_err(about)?;
        Ok(self.hold_session(served.session))
    }

    fn hold_session(&self, session: Session) -> CredentialHeaders {
        let tokens = session.token_for(&TokenTarget::default()).unwrap_or(&session.tokens);
        let (kind, token, expires_at) = (tokens.token_type.clone(), tokens.access_token.clone(), tokens.expires_at);
        self.hold(canonical_type(&kind), &token, expires_at, Some(Box::new(session)))
    }

    fn hold(
        &self,
        kind: &str,
        token: &Secret,
        expires_at: Option<UnixTime>,
        session: Option<Box<Session>>,
    ) -> CredentialHeaders {
        let clock = self.app.clock();
        let now = clock.now();
        // The policy wants another when less than this is left.
        let until = expires_at
            .map(|end| UnixTime(end.0 - i64::try_from(default_min_ttl(now.until(end)).as_secs()).unwrap_or(0)));
        let headers = vec![("authorization".to_owned(), Secret::new(format!("{kind} {}", token.expose())))];
        *self.held.borrow_mut() = Some(Held { headers: headers.clone(), until, since: clock.monotonic(), session });
        headers
    }
}

/// Returns whether two requests have the same credentials.
fn is_same(one: &CredentialHeaders, other: &CredentialHeaders) -> bool {
    let value = |headers: &CredentialHeaders| headers.first().map(|(_, value)| value.expose().to_owned());
    value(one) == value(other)
}
