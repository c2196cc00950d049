//! Logging in: merges the profile, lets the user sign in, verifies the tokens, and stores session and profile together.
//!
//! # Locks
//! A login takes up to four locks, always in this order, so that no two processes wait for each other:
//!
//! 1. the login lock of the profile (browser and device logins only), held until the login ends;
//! 2. the lock of the configuration, from before the profile is merged for the last time until it is saved;
//! 3. the profile's lock, while the session is replaced;
//! 4. the lock of what is trusted of the issuer, while its keys are stored.
//!
//! The second is only taken once the third is free, since a refresh may hold that one for over a minute, in which other
//! commands should be able to change the configuration.

mod client;
mod commit;
mod concurrent;
mod profile;
mod provider;

use std::path::PathBuf;
use std::sync::Arc;

pub use concurrent::SIGN_IN_LIMIT;
pub use profile::{absolute, names_issuer, needs_authorization_request};
pub use provider::named as provider;

use crate::cli::Login;
use crate::config::{self, Config};
use crate::error::Error;
use crate::model::{Grant, PinnedKeys, Profile, ProfileName, Session, StoreKind, Subject};
use crate::oauth::{Endpoint, Metadata, OAuthClient};
use crate::paths::Paths;
use crate::secret::Secret;
use crate::session::{NewLogin, SessionError, SessionService};
use crate::text::excerpt;
use concurrent::LoginLock;

/// The user's side of a login: the sign-in itself, and the questions that only the user can answer.
pub trait LoginUser {
    /// Returns whether the user can answer questions.
    fn can_answer(&self) -> bool;

    /// Returns the endpoints that the sign-in may need, before the metadata is known.
    fn endpoints(&self, profile: &Profile) -> Vec<Endpoint>;

    /// Chooses the grant by the options, the profile and the metadata.
    fn choose_grant(&mut self, profile: &Profile, metadata: &Metadata) -> Grant;

    /// Signs in, and returns the tokens.
    async fn sign_in(
        &mut self,
        profile: &Profile,
        metadata: &Metadata,
        client: &OAuthClient,
    ) -> Result<NewLogin, Error>;

    /// Asks for the client secret.
    async fn ask_client_secret(&self, profile: &Profile) -> Option<Secret>;

    /// Asks whether to replace a session of another account; `None` if the user cannot answer.
    async fn confirm_replacement(&self) -> Option<bool>;

    /// Shows a notice.
    fn notify(&self, notice: &LoginNotice<'_>);

    /// Awaits `work`, and shows what is waited for if it takes long.
    async fn wait_for<T>(&self, what: &str, work: impl Future<Output = T>) -> T;
}

/// What a user is shown during a login.
pub enum LoginNotice<'a> {
    /// Another login to the profile is running, and this one waits for it.
    OtherLoginRunning(&'a ProfileName),
    /// Other users can read the private key of the client.
    ClientKeyExposed(PathBuf),
    /// The keys that were pinned in the profile's previous store cannot be read.
    PinnedKeysLost(&'a Profile, StoreKind),
    /// The profile has a session of another account.
    OtherAccount {
        /// The profile.
        profile: &'a ProfileName,
        /// The account of the session.
        stored: String,
        /// The account that has just signed in.
        new: String,
    },
    /// The session in the profile's previous store could not be deleted.
    PreviousSessionRemains(StoreKind, SessionError),
    /// The damaged record of the issuer's keys was replaced.
    TrustReset(&'a Profile),
}

/// What a login is for, before the user signs in.
pub struct LoginRequest<'a> {
    /// The options.
    pub args: &'a Login,
    /// The name of the profile, if one is given.
    pub name: Option<ProfileName>,
    /// The store of a new profile without `--store`.
    pub default_store: StoreKind,
}

/// The profile of a login, merged with the options.
pub struct LoginPlan {
    /// The profile. It is saved when the user has signed in.
    pub profile: Profile,
    is_new: bool,
    /// The configuration that it was merged with.
    config: Config,
}

/// What was supplied with the options.
pub struct Supplied {
    /// The client secret.
    pub client_secret: Option<Secret>,
    /// The keys to pin.
    pub pinned: Option<PinnedKeys>,
}

/// A successful login.
pub struct CompletedLogin {
    /// The saved profile.
    pub profile: Profile,
    /// The stored session.
    pub session: Session,
    /// The authentication context class of the sign-in (`acr`).
    pub acr: Option<String>,
    /// Whether another login has stored the session, while this one waited for it.
    pub joined: bool,
}

/// Logs in to profiles.
pub struct LoginService {
    sessions: Arc<SessionService>,
    paths: Paths,
}

impl LoginService {
    /// Creates the service.
    #[must_use]
    pub fn new(sessions: Arc<SessionService>, paths: Paths) -> Self {
        Self { sessions, paths }
    }

    /// Merges the profile from the configuration and the options.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`](crate::error::ErrorCode::Usage) if the configuration or the options are invalid.
    pub fn plan(&self, request: &LoginRequest<'_>) -> Result<LoginPlan, Error> {
        let config = Config::load(&self.paths.config_file)?;
        let (profile, is_new) =
            profile::merged_profile(request.args, request.name.as_ref(), request.default_store, &config)?;
        Ok(LoginPlan { profile, is_new, config })
    }

    /// Logs in. Where it fails, the previous session and profile stay as they were.
    ///
    /// # Errors
    /// Any of the sign-in, the verification of the tokens, the stores and the configuration.
    pub async fn log_in(
        &self,
        request: &LoginRequest<'_>,
        mut plan: LoginPlan,
        supplied: Supplied,
        user: &mut impl LoginUser,
    ) -> Result<CompletedLogin, Error> {
        let args = request.args;
        let grant = args.grant().unwrap_or(plan.profile.grant);
        // Reads the store first: one that is unavailable is reported before the user signs in.
        let mut previous = self.previous_session(&plan.profile).await?;
        client::require_secret(user, &plan.profile, grant, previous.as_ref(), &supplied)?;
        let _login_lock = if matches!(grant, Grant::Browser | Grant::Device) {
            let (lock, waited) = LoginLock::acquire(&self.paths, &self.sessions, &plan.profile.name, user).await?;
            if waited {
                let current = self.plan(request)?;
                if let Some((profile, session)) = self.joinable(args, &plan, &current.config, previous.as_ref()).await?
                {
                    return Ok(CompletedLogin { profile, session, acr: None, joined: true });
                }
                if current.profile.name == plan.profile.name {
                    plan = current;
                    previous = self.previous_session(&plan.profile).await?;
                }
            }
            Some(lock)
        } else {
            None
        };
        self.sessions.reserve(&plan.profile).await?;
        config::probe(&self.paths.config_file)?;
        let pinned = match supplied.pinned {
            None => self.pins_of_previous_store(&plan, user).await?,
            pinned => pinned,
        };
        let issuer = plan.profile.issuer.clone();
        let endpoints = user.endpoints(&plan.profile);
        let metadata = self.sessions.metadata_with(&plan.profile, &endpoints);
        let metadata = user.wait_for(issuer.as_str(), metadata).await?;
        plan.profile.grant = user.choose_grant(&plan.profile, &metadata);
        let has_secret = supplied.client_secret.is_some();
        profile::apply_metadata(args, provider(args)?, &mut plan.profile, plan.is_new, &metadata, has_secret);
        let client = self.client(&plan.profile, &metadata, previous.as_ref(), supplied.client_secret, user).await?;
        let mut tokens = user.sign_in(&plan.profile, &metadata, &client).await?;
        tokens.max_auth_age = args.max_age;
        tokens.pinned = pinned;
        let verified = self.sessions.verify_login(&plan.profile, &metadata, tokens);
        let verified = user.wait_for(issuer.as_str(), verified).await?;
        self.commit(args, plan, verified, user).await
    }

    /// Returns the session that is stored for the profile; `None` also if it is damaged, which a login repairs.
    async fn previous_session(&self, profile: &Profile) -> Result<Option<Session>, SessionError> {
        match self.sessions.stored(profile).await {
            Err(SessionError::Store(error)) if error.session_lost() => Ok(None),
            stored => stored,
        }
    }
}

/// Describes an account for display.
#[must_use]
pub fn account(subject: Option<&Subject>, issuer: &str) -> String {
    match subject {
        Some(Subject { name: Some(name), .. }) => format!("{} at {issuer}", excerpt(name, 80)),
        Some(Subject { sub, name: None }) => format!("{} at {issuer}", excerpt(sub, 80)),
        None => format!("an unknown user at {issuer}"),
    }
}
