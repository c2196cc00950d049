//! The status of profiles and their sessions, read from the stores without network access, for `authctl status` and the agent.

use serde::{Deserialize, Serialize};

use crate::agent::protocol::AgentStatus;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{Grant, IssuerUrl, Profile, ProfileName, RefreshFailure, Session, StoreKind, Subject, TokenTarget};
use crate::session::refresh_policy::{SessionView, backoff, decide, next_attempt};
use crate::session::{
    Decision, RefusedToken, SessionError, SessionService, TokenFileStatus, TokenRequest, is_unverified,
};

/// The state of a profile's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// The access token is valid.
    Valid,
    /// The access token has expired, and is refreshed when it is next requested.
    Refreshable,
    /// The last refresh failed. A token that has not expired is still served.
    RefreshFailing,
    /// There is no session, or it has ended.
    LoginRequired,
    /// The store cannot be read.
    Unknown,
}

impl SessionState {
    /// Returns the state of a stored session.
    #[must_use]
    pub fn of(session: &Session, now: UnixTime) -> Self {
        let request = TokenRequest::access(TokenTarget::default(), None);
        let counts = |failure: &RefreshFailure| {
            !failure.other_target || failure.refusals > 0 || failure.code != ErrorCode::IssuerRefused
        };
        let failing = session.last_failure.as_ref().is_some_and(counts) && session.can_refresh();
        match decide(Some(&SessionView::new(session, &request)), &request, now, None) {
            Decision::Fail(_) => Self::LoginRequired,
            _ if failing => Self::RefreshFailing,
            Decision::Serve { .. } | Decision::Refresh { wait_at_most: Some(_) } => Self::Valid,
            Decision::Refresh { wait_at_most: None } => Self::Refreshable,
        }
    }

    /// Returns the state in words, as every command shows it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Valid | Self::Refreshable => "signed in",
            Self::RefreshFailing => "refresh failing",
            Self::LoginRequired => "login required",
            Self::Unknown => "store unreadable",
        }
    }
}

/// The status of a profile and its session.
#[derive(Serialize, Deserialize)]
pub struct ProfileStatus {
    /// Its name.
    pub profile: ProfileName,
    /// Whether it is the default profile.
    pub default: bool,
    /// The state of its session.
    pub state: SessionState,
    /// The issuer.
    pub issuer: IssuerUrl,
    /// The machine-wide file that configures the profile, for people.
    #[serde(skip)]
    pub machine_file: Option<String>,
    /// The client ID.
    pub client_id: String,
    /// The grant of the session, or the one that a login will use.
    pub grant: Grant,
    /// The kind of store.
    pub store: StoreKind,
    /// Where in the store the session is, for display.
    pub location: String,
    /// The user.
    pub subject: Option<Subject>,
    /// The granted scope.
    pub scope: Option<String>,
    /// The token type, as the issuer wrote it.
    pub token_type: Option<String>,
    /// Whether the access token is bound to a key of the session (DPoP).
    #[serde(default)]
    pub bound: bool,
    /// When the access token expires.
    pub expires_at: Option<UnixTime>,
    /// The same in seconds from now.
    pub expires_in: Option<u64>,
    /// Whether the token can be refreshed without a login.
    pub can_refresh: bool,
    /// Whether the token was supplied and nothing has verified it.
    pub unverified: bool,
    /// The number of stored tokens for other audiences, scopes or resources.
    pub other_tokens: usize,
    /// When the user logged in.
    pub logged_in_at: Option<UnixTime>,
    /// When the session was last refreshed.
    pub refreshed_at: Option<UnixTime>,
    /// When a refresh started that is still running, or whose reply was lost.
    pub refreshing_since: Option<UnixTime>,
    /// The last failed refresh since the last successful one.
    pub last_failure: Option<RefreshFailure>,
    /// When the issuer's keys were fetched.
    pub keys_fetched_at: Option<UnixTime>,
    /// The token files; left out where the profile has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_files: Vec<TokenFileStatus>,
    /// Why the session cannot be used or read.
    pub problem: Option<StatusProblem>,
    /// The kind of error, if the store cannot be read.
    #[serde(skip)]
    pub store_error: Option<ErrorCode>,
}

/// The state of a session with a supplied token that nothing has verified.
pub const UNVERIFIED: &str = "unverified";

impl ProfileStatus {
    /// Returns when an agent refreshes again after a failure.
    #[must_use]
    pub fn next_attempt(&self) -> Option<UnixTime> {
        let failure = self.last_failure.as_ref()?;
        Some(next_attempt(failure.at, backoff(failure.failures), failure.retry_at))
    }

    /// Returns the account of the session.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        account(self.subject.as_ref(), self.grant, &self.client_id)
    }

    /// Returns the state in words. A token that nothing has verified does not show which user is signed in.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self.state {
            SessionState::Valid | SessionState::Refreshable if self.unverified => UNVERIFIED,
            state => state.label(),
        }
    }

    /// Returns what is known of the session's token if an API refuses it; `None` without a session. Only the agent has the token.
    #[must_use]
    pub fn refused_token(&self) -> Option<RefusedToken> {
        self.logged_in_at.map(|_| RefusedToken {
            stored: None,
            scope: self.scope.clone(),
            replaced_at: self.refreshed_at,
            can_refresh: self.can_refresh,
            has_ended: self.state == SessionState::LoginRequired,
        })
    }

    /// Returns whether a token is available without a login.
    #[must_use]
    pub fn has_token(&self) -> bool {
        match self.state {
            SessionState::Valid | SessionState::Refreshable => true,
            SessionState::RefreshFailing => self.expires_in != Some(0),
            SessionState::LoginRequired | SessionState::Unknown => false,
        }
    }
}

/// Returns the account of a session for display: the user's name, or the client of one that logs in as itself.
#[must_use]
pub fn account<'a>(subject: Option<&'a Subject>, grant: Grant, client_id: &'a str) -> Option<&'a str> {
    match subject {
        Some(Subject { sub, name }) => Some(name.as_ref().unwrap_or(sub)),
        None => grant.is_unattended().then_some(client_id),
    }
}

/// Why a session cannot be used or read.
#[derive(Serialize, Deserialize)]
pub struct StatusProblem {
    /// The error code.
    pub code: ErrorCode,
    /// The error message.
    pub message: String,
    /// The next command; empty if none helps.
    pub hint: String,
    /// Advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl StatusProblem {
    fn new(error: SessionError, profile: &Profile) -> Self {
        let error = Error::from(error).about(&profile.name);
        let (note, command) = error.hint.parts();
        Self { code: error.code, message: error.message(), hint: command.unwrap_or_default(), note }
    }

    /// Returns the hint of the error.
    #[must_use]
    pub fn hint(&self) -> Hint {
        Hint::reported(self.hint.clone(), self.note.clone())
    }

    /// Replaces the hint.
    pub fn set_hint(&mut self, hint: &Hint) {
        let (note, command) = hint.parts();
        (self.hint, self.note) = (command.unwrap_or_default(), note);
    }
}

/// The output of `status --json`, and the reply to `GET /v1/status`.
#[derive(Serialize)]
pub struct StatusReport {
    /// Whether `AUTHCTL_TOKEN` is set.
    pub token_from_environment: bool,
    /// The state of the agent.
    pub agent: AgentStatus,
    /// The profiles.
    pub profiles: Vec<ProfileStatus>,
    /// The profile that commands use if none is named, for the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_profile: Option<EffectiveProfile>,
}

/// The profile that commands use if none is named.
#[derive(Serialize)]
pub struct EffectiveProfile {
    /// Its name.
    pub profile: ProfileName,
    /// Why: the option, the variable or the file that names it, or `default` or `only profile`.
    pub source: String,
}

/// Returns the status of all profiles, or of the named one. Blocks while it reads the stores.
///
/// # Errors
/// [`ConfigError::UnknownProfile`](crate::config::ConfigError::UnknownProfile).
pub fn profile_statuses(
    sessions: &SessionService,
    config: &Config,
    named: Option<&ProfileName>,
) -> Result<Vec<ProfileStatus>, Error> {
    let profiles: Vec<&Profile> = match named {
        Some(name) => vec![config.profile(name)?],
        None => config.profiles.values().collect(),
    };
    let default = config.choose(None).ok().map(|profile| profile.name.clone());
    let status = |profile: &&Profile| ProfileStatus {
        machine_file: config.machine_file(&profile.name).map(|path| path.display().to_string()),
        ..profile_status(sessions, profile, default.as_ref() == Some(&profile.name))
    };
    Ok(profiles.iter().map(status).collect())
}

/// The profiles in the agent's response to `GET /v1/status`.
#[derive(Deserialize)]
pub struct AgentProfiles {
    /// Their status.
    pub profiles: Vec<ProfileStatus>,
}

impl ProfileStatus {
    /// Returns whether only the agent may be able to read the session.
    #[must_use]
    pub fn is_for_agent(&self) -> bool {
        self.store_error.is_some_and(|code| code.general() == ErrorCode::AgentUnavailable)
    }

    /// Takes over what the agent has read of the same profile.
    pub fn replace_with(&mut self, of_agent: Self) {
        let is_unknown = of_agent.state == SessionState::Unknown;
        let store_error = of_agent.problem.as_ref().filter(|_| is_unknown).map(|problem| problem.code);
        *self = Self { machine_file: self.machine_file.take(), default: self.default, store_error, ..of_agent };
    }
}

/// Returns the status of a profile. Blocks while it reads the profile's store.
#[must_use]
pub fn profile_status(sessions: &SessionService, profile: &Profile, default: bool) -> ProfileStatus {
    let mut status = ProfileStatus {
        profile: profile.name.clone(),
        default,
        state: SessionState::Unknown,
        issuer: profile.issuer.clone(),
        machine_file: None,
        client_id: profile.client_id.clone(),
        grant: profile.grant,
        store: profile.store,
        location: sessions.location(profile),
        subject: None,
        scope: None,
        token_type: None,
        bound: false,
        expires_at: None,
        expires_in: None,
        can_refresh: false,
        unverified: false,
        other_tokens: 0,
        logged_in_at: None,
        refreshed_at: None,
        refreshing_since: None,
        last_failure: None,
        keys_fetched_at: None,
        token_files: Vec::new(),
        problem: None,
        store_error: None,
    };
    match sessions.session_blocking(profile) {
        Ok(session) => {
            status.problem = sessions.required_login(profile, &session).map(|error| StatusProblem::new(error, profile));
            status.token_files = sessions.token_files_blocking(profile, Some(&session));
            let in_doubt = sessions.failure_in_doubt(profile, &session);
            fill_in(&mut status, session, sessions.clock().now());
            if let Some(failure) = in_doubt.filter(|_| status.state != SessionState::LoginRequired) {
                status.state = SessionState::RefreshFailing;
                // A failure that was recorded has more details.
                if status.last_failure.as_ref().is_none_or(|recorded| recorded.at < failure.at) {
                    status.last_failure = Some(failure);
                }
            }
            // A damaged record of the keys does not concern the session; `verify` reports it.
            let trust = sessions.trust_blocking(profile).ok();
            status.keys_fetched_at = trust.and_then(|trust| trust.fetched).map(|keys| keys.fetched_at);
        }
        Err(error) => {
            let login_required = matches!(error, SessionError::LoginRequired(_));
            if login_required {
                status.token_files = sessions.token_files_blocking(profile, None);
            }
            let problem = StatusProblem::new(error, profile);
            status.state = if login_required { SessionState::LoginRequired } else { SessionState::Unknown };
            status.store_error = (!login_required).then_some(problem.code);
            status.problem = Some(problem);
        }
    }
    status
}

fn fill_in(status: &mut ProfileStatus, session: Session, now: UnixTime) {
    status.can_refresh = session.can_refresh();
    status.unverified = is_unverified(&session);
    status.state = SessionState::of(&session, now);
    status.bound = session.tokens.is_bound();
    status.expires_at = session.tokens.expires_at;
    status.expires_in = session.tokens.expires_in(now);
    status.other_tokens = session.others.len();
    status.logged_in_at = Some(session.logged_in_at);
    status.refreshed_at = session.refreshed_at;
    status.refreshing_since = session.refreshing_since;
    status.grant = session.grant;
    status.subject = session.subject;
    status.scope = session.tokens.scope;
    status.token_type = Some(session.tokens.token_type);
    status.last_failure = session.last_failure;
}
