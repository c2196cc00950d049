//! The login service, and what a login starts from and results in.

use std::sync::Arc;

use super::profile::{merged_profile, target};
use crate::cli::Login;
use crate::config::Config;
use crate::error::Error;
use crate::model::{PinnedKeys, Profile, ProfileName, Session, StoreKind};
use crate::paths::Paths;
use crate::secret::Secret;
use crate::session::{SessionError, SessionService};

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
    /// The profile, with the grant of this login. It is saved when the user has signed in.
    pub profile: Profile,
    /// Whether the configuration has no such profile.
    pub(super) is_new: bool,
    /// The configuration that it was merged with.
    pub(super) config: Config,
    /// Whether the grant is not saved, because the configuration cannot be written and nothing else would change.
    pub(super) keeps_grant: bool,
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
    pub(super) sessions: Arc<SessionService>,
    pub(super) paths: Paths,
}

impl LoginService {
    /// Creates the service.
    #[must_use]
    pub fn new(sessions: Arc<SessionService>, paths: Paths) -> Self {
        Self { sessions, paths }
    }

    /// Returns the name of the profile that a login is for, which may not exist.
    ///
    /// # Errors
    /// As [`LoginService::plan`].
    pub fn profile_name(&self, request: &LoginRequest<'_>) -> Result<ProfileName, Error> {
        target(request.args, request.name.as_ref(), &Config::load(&self.paths.config)?)
    }

    /// Checks the store of the profile before the user is asked for what the profile needs. One that gets a passphrase at this
    /// login is not touched before.
    ///
    /// # Errors
    /// As [`LoginService::plan`], or that the store cannot be used.
    pub async fn check_store(&self, request: &LoginRequest<'_>) -> Result<(), Error> {
        if request.args.passphrase {
            return Ok(());
        }
        let name = self.profile_name(request)?;
        let known = Config::load(&self.paths.config)?.profiles.remove(&name).map(|profile| profile.store);
        let given = request.args.settings.get("store").and_then(|items| items.first()?.parse().ok());
        let kind = given.or(known).unwrap_or(request.default_store);
        let checked = self.sessions.check_store(kind, &name).await.map_err(Error::from);
        // The name may be that of the provider, which is chosen later.
        checked.map_err(|error| match &request.name {
            Some(name) => error.about(name),
            None => error,
        })
    }

    /// Merges the profile from the configuration and the options.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`](crate::error::ErrorCode::Usage) if the configuration or the options are invalid.
    pub fn plan(&self, request: &LoginRequest<'_>) -> Result<LoginPlan, Error> {
        let config = Config::load(&self.paths.config)?;
        let (profile, is_new) = merged_profile(request.args, request.name.as_ref(), request.default_store, &config)?;
        Ok(LoginPlan { profile, is_new, config, keeps_grant: false })
    }

    /// Returns the session that is stored for the profile; `None` also if it is damaged, which a login repairs.
    pub(super) async fn previous_session(&self, profile: &Profile) -> Result<Option<Session>, SessionError> {
        match self.sessions.replaceable(profile).await {
            Err(SessionError::Store(error)) if error.is_session_lost() => Ok(None),
            stored => stored,
        }
    }
}
