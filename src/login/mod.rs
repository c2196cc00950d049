//! Logging in: merges the profile, lets the user sign in, verifies the tokens, and stores session and profile together.
//!
//! A login takes the file locks of `fs/lock.rs` in their order. It holds the configuration lock from before the profile is merged
//! for the last time until it is saved. Before that it waits until the profile lock is free: a refresh may hold that for over a
//! minute, and other commands must be able to change the configuration in that time.

mod client;
mod commit;
mod concurrent;
mod profile;
mod provider;
mod service;
mod user;

pub use concurrent::SIGN_IN_LIMIT;
pub use profile::{absolute, names_issuer, needs_authorization_request};
pub use provider::{MissingSetting, named as provider};
pub use service::{CompletedLogin, LoginPlan, LoginRequest, LoginService, Supplied};
pub use user::{LoginNotice, LoginUser, account};

use crate::error::{Error, ErrorCode};
use crate::model::{ClientRegistration, Grant};
use crate::oauth::IssuerError;
use crate::session::{SessionError, usable_redirect};
use concurrent::LoginLock;

/// Converts the error of the first request to an issuer. If there is no metadata, the address is wrong: a configuration error.
/// That of a stored session was right once.
#[must_use]
pub fn first_request_error(error: SessionError) -> Error {
    let is_wrong = matches!(error, SessionError::Issuer(IssuerError::NotAnIssuer { .. }));
    let error = Error::from(error);
    let code = if is_wrong { ErrorCode::Configuration } else { error.code };
    Error { code, ..error }
}

impl LoginService {
    /// Logs in. If that fails, the previous session and profile are unchanged.
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
        // Reads the store first: one that is unavailable is reported before the user signs in.
        let mut previous = self.previous_session(&plan.profile).await?;
        client::require_secret(user, &plan.profile, previous.as_ref(), &supplied)?;
        let _login_lock = if matches!(plan.profile.grant, Grant::Browser | Grant::Device) {
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
        if supplied.pinned.is_none() {
            self.refuse_damaged_trust(&plan).await?;
        }
        self.sessions.reserve(&plan.profile).await?;
        let mut client_secret = supplied.client_secret;
        let pinned = match supplied.pinned {
            None => self.pins_of_previous_store(&plan, user).await?,
            pinned => pinned,
        };
        let issuer = plan.profile.issuer.clone();
        let endpoints = user.endpoints(&plan.profile);
        let metadata = self.sessions.metadata_with(&plan.profile, &endpoints);
        let metadata = user.wait_for(issuer.as_str(), metadata).await.map_err(first_request_error)?;
        plan.profile.grant = user.choose_grant(&plan.profile, &metadata);
        let mut redirect_uri = None;
        if plan.profile.server.client_registration == ClientRegistration::Dynamic
            && plan.profile.grant == Grant::Browser
        {
            let registered = self.sessions.registered_client(&plan.profile, &metadata);
            let registered = user.wait_for(issuer.as_str(), registered).await?;
            redirect_uri = Some(usable_redirect(&plan.profile.server.redirect_uri, &registered.redirect_uri));
            (plan.profile.client_id, plan.profile.client_auth) = (registered.client_id, registered.client_auth);
            client_secret = registered.client_secret;
        }
        let has_secret = client_secret.is_some();
        profile::apply_metadata(args, provider(args)?, &mut plan.profile, plan.is_new, &metadata, has_secret);
        self.check_config(&mut plan)?;
        // Before the user signs in: another process may hold it for minutes.
        self.wait_for_session(&plan.profile, user).await?;
        let client = self.client(&plan.profile, &metadata, previous.as_ref(), client_secret, user).await?;
        let mut signing_in = plan.profile.clone();
        if let Some(redirect_uri) = redirect_uri {
            signing_in.server_mut().redirect_uri = redirect_uri;
        }
        let signed_in = user.sign_in(&signing_in, &metadata, &client).await;
        if let Err(error) = &signed_in
            && plan.profile.server.client_registration == ClientRegistration::Dynamic
            && matches!(error.error.downcast_ref(), Some(IssuerError::Refused(refusal)) if refusal.code == "invalid_client")
        {
            self.sessions.forget_registration(&plan.profile).await?;
        }
        let mut tokens = signed_in?;
        tokens.max_auth_age = args.max_age;
        tokens.pinned = pinned;
        let verified = self.sessions.verify_login(&plan.profile, &metadata, tokens);
        let verified = user.wait_for(issuer.as_str(), verified).await?;
        self.commit(args, plan, verified, user).await
    }
}
