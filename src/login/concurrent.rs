//! Concurrent logins to a profile: one user at a time signs in, and the others take over the session.

use std::time::Duration;

use super::{LoginNotice, LoginPlan, LoginService, LoginUser};
use crate::cli::Login;
use crate::config::Config;
use crate::error::Error;
use crate::fs::{FileLock, LockFile};
use crate::model::{Grant, Profile, ProfileName, Session};
use crate::paths::Paths;
use crate::session::SessionService;

/// How long a user may take to sign in.
pub const SIGN_IN_LIMIT: Duration = Duration::from_secs(600);

/// How long the rest of a login may take: its requests, and the question whether to replace a session.
const REST_LIMIT: Duration = Duration::from_secs(300);

/// The login lock: only one browser or device login to a profile runs at a time.
pub(super) struct LoginLock {
    _lock: FileLock,
}

impl LoginLock {
    /// Waits for other logins to the profile. Returns the lock, and whether there was another login.
    ///
    /// # Errors
    /// If another login holds the lock for longer than a login can take.
    pub(super) async fn acquire(
        paths: &Paths,
        sessions: &SessionService,
        profile: &ProfileName,
        user: &impl LoginUser,
    ) -> Result<(Self, bool), Error> {
        let path = paths.locks.join("logins").join(format!("{profile}.lock"));
        if let Some(lock) = LockFile::open(path.clone())?.try_lock()? {
            return Ok((Self { _lock: lock }, false));
        }
        user.notify(&LoginNotice::OtherLoginRunning(profile));
        let lock = LockFile::lock(path, &**sessions.clock(), SIGN_IN_LIMIT + REST_LIMIT).await?;
        Ok((Self { _lock: lock }, true))
    }
}

impl LoginService {
    /// Returns the profile and session that another login has stored since `previous` was read, if this login would only
    /// repeat it.
    pub(super) async fn joinable(
        &self,
        args: &Login,
        plan: &LoginPlan,
        config: &Config,
        previous: Option<&Session>,
    ) -> Result<Option<(Profile, Session)>, Error> {
        let configured = config.profiles.get(&plan.profile.name);
        let Some(configured) = configured.filter(|configured| is_same_login(configured, &plan.profile)) else {
            return Ok(None);
        };
        if !can_join(args) {
            return Ok(None);
        }
        let is_new = |session: &Session| {
            session.ended.is_none()
                && previous.map(|previous| &previous.generation.login) != Some(&session.generation.login)
        };
        let session = self.previous_session(configured).await?.filter(is_new);
        Ok(session.map(|session| (configured.clone(), session)))
    }
}

/// Returns whether the options leave open who signs in, and how. An API refuses many callers at once with the same challenge,
/// and the login that another of them has just finished is for all: if it is not enough, the API refuses again.
fn can_join(args: &Login) -> bool {
    let is_stronger = args.acr_values.is_some() || args.max_age.is_some();
    let particular = is_stronger && args.challenge.is_none() || args.prompt.is_some() || args.replace;
    let own = args.login_hint.is_some() || args.client_secret_stdin || args.jwks.is_some();
    matches!(args.grant(), None | Some(Grant::Browser | Grant::Device)) && !particular && !own
}

fn is_same_login(configured: &Profile, wanted: &Profile) -> bool {
    let scopes = wanted.scopes.is_empty() || configured.scopes == wanted.scopes;
    let target = configured.audience == wanted.audience && configured.resources == wanted.resources;
    // One that is still to be registered has no ID.
    let client_id = if wanted.client_id.is_empty() { &configured.client_id } else { &wanted.client_id };
    let client = configured.has_client(&wanted.issuer, client_id);
    let trusted = configured.ca_cert == wanted.ca_cert && configured.requirements == wanted.requirements;
    client && target && scopes && trusted && configured.store == wanted.store && configured.server == wanted.server
}
