//! One sign-in by a person at a time for a profile: who comes second waits, and takes over what the first one got.

use std::time::Duration;

use crate::app::App;
use crate::cli::Login;
use crate::error::Error;
use crate::model::{Grant, Profile, Session};
use crate::session::SessionService;
use crate::store::{LockError, ProfileLock};

use super::grants::SIGN_IN_LIMIT;
use super::readable;

/// What a login may take besides the signing in: its requests, and a question whether to replace another's session.
const BESIDES: Duration = Duration::from_secs(300);

/// The right to sign in to a profile, until it is dropped.
pub(super) struct Turn {
    _lock: Option<ProfileLock>,
    /// What another login has put in place while this one waited.
    joined: Option<(Profile, Session)>,
}

impl Turn {
    /// Takes the turn, and waits for another login to the same profile to end. `before` is the session that was there. A
    /// login that needs no browser opens none, and waits for nobody.
    ///
    /// # Errors
    /// Where another keeps it for longer than anybody may take to sign in, and as reading the store fails.
    pub(super) async fn take(
        app: &App,
        sessions: &SessionService,
        args: &Login,
        profile: &Profile,
        before: Option<&Session>,
    ) -> Result<Self, Error> {
        if !matches!(args.grant().unwrap_or(profile.grant), Grant::Browser | Grant::Device) {
            return Ok(Self { _lock: None, joined: None });
        }
        let dir = app.paths()?.locks.join("logins");
        let acquire = |limit| ProfileLock::acquire(&dir, &profile.name, app.clock(), limit);
        let lock = match acquire(Duration::ZERO).await {
            Err(LockError::TimedOut { .. }) => {
                let name = &profile.name;
                app.ui().tell(&format!(
                    "Another login to `{name}` is under way: finish it there, or end it. Waiting; Ctrl-C gives up."
                ));
                acquire(SIGN_IN_LIMIT + BESIDES).await?
            }
            done => return Ok(Self { _lock: Some(done?), joined: None }),
        };
        let mut joined = None;
        if would_do_the_same(args)
            && let Some(now) = app.config()?.profiles.get(&profile.name)
            && same_login(now, profile)
            && let Some(session) = readable(sessions, now).await?
            && before.map(|before| &before.generation.login) != Some(&session.generation.login)
            && session.ended.is_none()
        {
            joined = Some((now.clone(), session));
        }
        Ok(Self { _lock: Some(lock), joined })
    }

    /// The profile and the session that the other login left, where this one wanted nothing else.
    pub(super) fn joined(&self) -> Option<&(Profile, Session)> {
        self.joined.as_ref()
    }
}

/// Whether it does not matter who signs in: a person in a browser would do it a second time for nothing. What was piped in
/// or asked for in particular is this login's own.
fn would_do_the_same(args: &Login) -> bool {
    let particular = args.acr_values.is_some() || args.max_age.is_some() || args.prompt.is_some() || args.replace;
    let own = args.login_hint.is_some() || args.client_secret_stdin || args.jwks.is_some();
    matches!(args.grant(), None | Some(Grant::Browser | Grant::Device)) && !particular && !own
}

fn same_login(there: &Profile, wanted: &Profile) -> bool {
    let scopes = wanted.scopes.is_empty() || there.scopes == wanted.scopes;
    let asked = there.audience == wanted.audience && there.resources == wanted.resources;
    let who = there.issuer == wanted.issuer && there.client_id == wanted.client_id;
    let trusted = there.ca_cert == wanted.ca_cert && there.requirements == wanted.requirements;
    who && asked && scopes && trusted && there.store == wanted.store && there.server == wanted.server
}
