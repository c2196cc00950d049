//! Provides the bridge with credentials: tokens of the agent where one runs, else of the session service.

mod sign_in;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use crate::app::{Answering, ApiCredentials, ApiToken, App, answer};
use crate::cli::Mcp;
use crate::error::{Error, ErrorCode, Hint};
use crate::mcp::{CredentialRequest, RequestFailure, ServerRefusal};
use crate::model::{Profile, ProfileName};
use crate::oauth::ApiChallenge;
use crate::secret::Secret;
use crate::session::{Remedy, StepUp};

/// How long a token is used without asking for it again: a logout takes effect after this time.
const MAX_CACHED: Duration = Duration::from_secs(10);

/// A login that the bridge has started.
struct RecentLogin {
    /// The profile; `None` for the first login at the server.
    profile: Option<ProfileName>,
    at: Instant,
    has_failed: bool,
}

/// Provides credentials, for one refusal at a time: no login or refresh is begun while another is in progress.
pub(super) struct McpCredentials<'a> {
    app: &'a App,
    args: &'a Mcp,
    tokens: ApiCredentials<'a>,
    logins: RefCell<Vec<RecentLogin>>,
}

impl<'a> McpCredentials<'a> {
    /// Creates a provider.
    pub(super) fn new(app: &'a App, args: &'a Mcp) -> Self {
        let tokens = ApiCredentials::new(app, args.url.clone(), MAX_CACHED);
        Self { app, args, tokens, logins: RefCell::default() }
    }

    /// Answers the questions of the bridge.
    pub(super) async fn serve(&self, requests: &mut Receiver<CredentialRequest>) {
        let in_turn = |request| Box::pin(self.answer(request)) as Answering<'_>;
        answer(requests, |request| self.at_once(request), in_turn).await;
    }

    /// Answers a question with the cached token, if that is fresh and not the refused one; returns any other question.
    fn at_once(&self, request: CredentialRequest) -> Result<Answering<'_>, CredentialRequest> {
        if request.reply.is_closed() {
            return Ok(Box::pin(async {}));
        }
        let refusal = request.refusal.as_ref().filter(|refusal| !wants_nonce(refusal));
        let is_refused = |held: &ApiToken| refusal.is_some_and(|refusal| was_sent(held, refusal));
        match self.tokens.cached().filter(|held| !is_refused(held)) {
            Some(held) => Ok(Box::pin(self.prove(held, request))),
            None => Err(request),
        }
    }

    async fn prove(&self, held: ApiToken, request: CredentialRequest) {
        let CredentialRequest { method, nonce, reply, .. } = request;
        let headers = self.tokens.headers(&held, method, self.args.url.url(), nonce).await;
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
                Some(held) => self.tokens.headers(&held, method, self.args.url.url(), nonce).await.map(Some),
                // The server may take requests without a token, too.
                None => Ok(Some(Vec::new())),
            }
        };
        let _ = reply.send(answer.await.map_err(|error: Error| self.failure(&error)));
    }

    /// Returns the error as the bridge reports it to the client.
    fn failure(&self, error: &Error) -> RequestFailure {
        let (hint, message) = (self.app.next_command(error.hint.clone()), error.message());
        let (message, hint) = match error.hint.is_command() {
            true => (message, hint),
            false if hint.is_empty() => (message, hint),
            false => (format!("{message}; {hint}"), String::new()),
        };
        RequestFailure { code: error.code.as_str(), message, hint }
    }

    /// Returns a valid token, refreshed first if the policy requires it; `None` if no profile is for the server.
    async fn current(&self) -> Result<Option<ApiToken>, Error> {
        let Some(profile) = profile(self.app, self.args)? else { return Ok(None) };
        self.tokens.of(&profile).await.map(Some)
    }

    /// Returns a token in place of a refused one; `None` if the refusal is not about credentials.
    async fn after(&self, refusal: ServerRefusal) -> Result<Option<ApiToken>, Error> {
        let challenge = ApiChallenge::parse(refusal.challenges.iter().map(String::as_str));
        let is_about_scope = challenge.as_ref().is_some_and(ApiChallenge::wants_scope);
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
        let is_replaced = current.as_ref().is_some_and(|held| !was_sent(held, &refusal));
        if is_replaced && !is_about_scope || wants_nonce(&refusal) {
            return Ok(current);
        }
        match self.tokens.remedy(&profile, &challenge, sent_token(&refusal).as_ref()).await? {
            Remedy::StoredToken => {}
            Remedy::Nothing(reason) => {
                let hint = Hint::advice("ask the operator of the server for access, or log in with another account");
                return Err(Error::msg(ErrorCode::TokenDenied, reason, hint));
            }
            Remedy::Login(step_up) => self.log_in(Some(&profile), &refusal, step_up).await?,
            Remedy::Refresh => match self.tokens.refresh(&profile).await {
                Err(error) if error.code == ErrorCode::LoginRequired => {
                    self.log_in(Some(&profile), &refusal, StepUp::default()).await?;
                }
                refreshed => refreshed?,
            },
        }
        self.tokens.forget();
        self.current().await
    }
}

/// Returns the profile whose tokens are for the server; `None` if there is none. Never the token in AUTHCTL_TOKEN: it is not known
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

/// Returns whether the refused request had this token.
fn was_sent(held: &ApiToken, refusal: &ServerRefusal) -> bool {
    let value = held.authorization();
    refusal.sent.iter().any(|(name, sent)| name == "authorization" && sent.expose() == value.expose())
}

/// Returns the token of a refused request.
fn sent_token(refusal: &ServerRefusal) -> Option<Secret> {
    let (_, value) = refusal.sent.first()?;
    value.expose().split_once(' ').map(|(_, token)| Secret::new(token.to_owned()))
}

/// Returns whether the server refuses a proof only because it has no nonce, or an old one (RFC 9449, section 9).
fn wants_nonce(refusal: &ServerRefusal) -> bool {
    let challenge = ApiChallenge::parse(refusal.challenges.iter().map(String::as_str));
    challenge.is_some_and(|challenge| challenge.wants_nonce())
}
