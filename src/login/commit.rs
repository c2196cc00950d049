//! Stores a verified login: the session and the profile together, with what was changed in the meantime.

use std::time::Duration;

use super::profile::with_options;
use super::{CompletedLogin, LoginNotice, LoginPlan, LoginService, LoginUser, account, provider};
use crate::cli::Login;
use crate::config::{self, Config};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{Grant, PinnedKeys, Profile, StoreKind, Subject};
use crate::session::{SessionError, VerifiedLogin};
use crate::store::StoreError;
use crate::text::excerpt;

/// How long a login waits for the configuration lock: longer than other commands, since the user has signed in.
const LOGIN_CONFIG_LOCK_LIMIT: Duration = Duration::from_secs(60);

impl LoginService {
    /// Stores the session and saves the profile. If that fails, or the user declines, the new tokens are revoked.
    pub(super) async fn commit(
        &self,
        args: &Login,
        plan: LoginPlan,
        verified: VerifiedLogin,
        user: &impl LoginUser,
    ) -> Result<CompletedLogin, Error> {
        let session = verified.session().clone();
        let acr = verified.acr().map(str::to_owned);
        match self.try_commit(args, &plan, verified.replacing(args.replace), user).await {
            Ok(()) => Ok(CompletedLogin { profile: plan.profile, session, acr, joined: false }),
            Err(error) => {
                // Supplied tokens are also used elsewhere.
                if session.grant != Grant::Token && !may_be_in_use(&plan, &error) {
                    self.sessions.discard(&plan.profile, &session).await;
                }
                Err(error)
            }
        }
    }

    async fn try_commit(
        &self,
        args: &Login,
        plan: &LoginPlan,
        verified: VerifiedLogin,
        user: &impl LoginUser,
    ) -> Result<(), Error> {
        let profile = &plan.profile;
        // Checked before the question, and once more under the configuration lock.
        self.configured_now(plan)?;
        self.confirm_replacement(args, profile, &verified, user).await?;

        let name = &profile.name;
        self.wait_for_session(profile, user).await?;
        let lock =
            config::lock(&self.paths.config, &self.paths.data, &**self.sessions.clock(), LOGIN_CONFIG_LOCK_LIMIT);
        let lock = user.wait_for("another change of the configuration", lock).await?;
        let configured = self.configured_now(plan)?;
        let before = plan.config.profiles.get(name);
        let merged = match &configured {
            // Changed by another command: its changes are preserved, and the options of this login applied to them.
            Some(configured) if before != Some(configured) => {
                let (grant, client_auth, store) = (profile.grant, profile.client_auth, profile.store);
                Profile { grant, client_auth, store, ..with_options(args, provider(args)?, configured.clone())? }
            }
            _ => profile.clone(),
        };
        let previous = configured.as_ref().or(before).cloned();
        let moved_from = previous.as_ref().map(|previous| previous.store).filter(|store| *store != profile.store);
        let is_changed = configured.as_ref() != Some(&merged) && !plan.keeps_grant;
        let files = self.paths.config.clone();
        let save = move || {
            // Held until the end, so that session and profile change together.
            let _lock = lock;
            if is_changed { config::save(&files, &merged).map_err(Error::from) } else { Ok(()) }
        };
        let trust_damaged = verified.is_trust_damaged();
        let remains = self.sessions.commit_login(profile, verified, previous, save).await?;
        if let (Some(store), Some(error)) = (moved_from, remains) {
            user.notify(&LoginNotice::PreviousSessionRemains(store, error));
        }
        if trust_damaged {
            user.notify(&LoginNotice::TrustReset(profile));
        }
        Ok(())
    }

    /// Waits until no other process holds the profile's session.
    pub(super) async fn wait_for_session(&self, profile: &Profile, user: &impl LoginUser) -> Result<(), Error> {
        if !self.sessions.is_locked(profile) {
            return Ok(());
        }
        user.release_unsaved(&profile.name);
        let waiting = self.sessions.wait_for_lock(profile);
        Ok(user.wait_for(&format!("a refresh of `{}`", profile.name), waiting).await?)
    }

    /// Makes sure, before the user signs in, that the profile can be saved if the login changes it. A configuration that
    /// cannot be written does not stop a login by another grant than the configured one: the session has its own.
    pub(super) fn check_config(&self, plan: &mut LoginPlan) -> Result<(), Error> {
        plan.config.check_locks(&plan.profile)?;
        let Some(configured) = plan.config.profiles.get(&plan.profile.name) else {
            return Ok(config::probe(&self.paths.config.user)?);
        };
        if *configured == plan.profile {
            return Ok(());
        }
        let writable = config::probe(&self.paths.config.user);
        plan.keeps_grant =
            writable.is_err() && Profile { grant: plan.profile.grant, ..configured.clone() } == plan.profile;
        if plan.keeps_grant { Ok(()) } else { Ok(writable?) }
    }

    /// Returns the profile as it is configured now; the user may have taken minutes to sign in.
    ///
    /// # Errors
    /// [`ErrorCode::ProfileChanged`] if it was changed to another issuer or client, to which the new session does not belong.
    fn configured_now(&self, plan: &LoginPlan) -> Result<Option<Profile>, Error> {
        let profile = &plan.profile;
        let configured = Config::load(&self.paths.config)?.profiles.remove(&profile.name);
        let before = plan.config.profiles.get(&profile.name);
        let is_same = |one: &Profile, other: &Profile| one.has_client(&other.issuer, &other.client_id);
        match configured {
            Some(now) if !is_same(&now, profile) && !before.is_some_and(|before| is_same(&now, before)) => {
                Err(profile_changed(&now, profile))
            }
            configured => Ok(configured),
        }
    }

    /// Asks before a session of another account is replaced.
    ///
    /// # Errors
    /// [`ErrorCode::Interrupted`] if the user declines, [`ErrorCode::OtherSubject`] if the user cannot answer.
    async fn confirm_replacement(
        &self,
        args: &Login,
        profile: &Profile,
        verified: &VerifiedLogin,
        user: &impl LoginUser,
    ) -> Result<(), Error> {
        // Read again: a login that needs no user may have stored another session in the meantime.
        let stored = self.previous_session(profile).await?;
        let Some(stored) = stored.filter(|stored| verified.replaces_other_account(stored)) else { return Ok(()) };
        let (old, session) = (&stored, verified.session());
        let mut new = account(session.subject.as_ref(), profile.issuer.as_str());
        let mut stored = account(old.subject.as_ref(), old.issuer.as_str());
        if new == stored {
            // Two users may have the same name.
            let with_sub = |subject: &Option<Subject>, account: &str| match subject {
                Some(subject) => format!("{account} (subject {})", excerpt(&subject.sub, 80)),
                None => account.to_owned(),
            };
            (new, stored) = (with_sub(&session.subject, &new), with_sub(&old.subject, &stored));
        }
        user.notify(&LoginNotice::OtherAccount { profile: &profile.name, stored: stored.clone(), new });
        if args.replace {
            return Ok(());
        }
        let message = format!("`{}` still has the session of {stored}", profile.name);
        match user.confirm_replacement().await {
            Some(true) => Ok(()),
            Some(false) => Err(Error::msg(ErrorCode::Interrupted, message, Hint::None)),
            None => Err(Error::msg(ErrorCode::OtherSubject, message, Hint::login().with_flag("--replace"))),
        }
    }

    /// Stops the login if the issuer's stored keys are damaged: keys may be pinned among them, and published ones must not
    /// replace those unasked. Without a profile of the issuer none are in use, and a lost key has been reported before.
    pub(super) async fn refuse_damaged_trust(&self, plan: &LoginPlan) -> Result<(), Error> {
        let profile = &plan.profile;
        let Err(error @ SessionError::Trust { .. }) = self.sessions.trust(profile).await else { return Ok(()) };
        let uses_it = |known: &&Profile| known.issuer == profile.issuer && known.store == profile.store;
        let own = plan.config.profiles.get(&profile.name);
        match own.into_iter().chain(plan.config.profiles.values()).find(uses_it) {
            Some(known) => Err(Error::from(error).about(&known.name)),
            None => Ok(()),
        }
    }

    /// Returns the keys that were pinned in the store that the profile moves away from; they move with it.
    ///
    /// # Errors
    /// If keys may be pinned there and cannot be read now: published keys must not replace them.
    pub(super) async fn pins_of_previous_store(
        &self,
        plan: &LoginPlan,
        user: &impl LoginUser,
    ) -> Result<Option<PinnedKeys>, Error> {
        let profile = &plan.profile;
        let Some(previous) = plan.config.profiles.get(&profile.name) else { return Ok(None) };
        if previous.store == profile.store || previous.issuer != profile.issuer {
            return Ok(None);
        }
        if previous.store == StoreKind::Memory {
            // Only the agent can read what is in its memory.
            user.notify(&LoginNotice::PinnedKeysLost(profile, previous.store));
            return Ok(None);
        }
        let error = match self.sessions.trust(previous).await {
            Ok(trust) => return Ok(trust.pinned),
            Err(error) => error,
        };
        let is_lost = match &error {
            SessionError::Trust { .. } => return Err(Error::from(error).about(&previous.name)),
            SessionError::Store(error) => error.is_session_lost() || matches!(error, StoreError::Absent { .. }),
            _ => false,
        };
        if is_lost {
            user.notify(&LoginNotice::PinnedKeysLost(profile, previous.store));
            return Ok(None);
        }
        let error = Error::from(error);
        let context = format!("cannot read the pinned keys in the {} store", previous.store);
        Err(Error { error: error.error.context(context), ..error })
    }
}

/// Returns whether the agent may use the session of a failed login: it does not respond, or it has the session and the profile,
/// which could not be saved, was already one of the same issuer and client.
fn may_be_in_use(plan: &LoginPlan, error: &Error) -> bool {
    let store_error = match error.error.downcast_ref() {
        Some(SessionError::Store(error)) => Some(error),
        _ => error.error.downcast_ref::<StoreError>(),
    };
    let before = plan.config.profiles.get(&plan.profile.name);
    let Profile { issuer, client_id, .. } = &plan.profile;
    let is_same = |before: &&Profile| before.store == StoreKind::Memory && before.has_client(issuer, client_id);
    let is_given = plan.profile.store == StoreKind::Memory && error.code == ErrorCode::Configuration;
    matches!(store_error, Some(StoreError::AgentSilent)) || is_given && before.filter(is_same).is_some()
}

fn profile_changed(now: &Profile, profile: &Profile) -> Error {
    let client = |profile: &Profile| format!("client {} at {}", profile.client_id, profile.issuer);
    Error::msg(
        ErrorCode::ProfileChanged,
        format!(
            "the profile `{}` was changed to {} during the login to {}",
            profile.name,
            client(now),
            client(profile)
        ),
        Hint::login().without_typed_options(),
    )
}
