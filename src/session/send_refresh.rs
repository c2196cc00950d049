//! Sends the request of a refresh.
//!
//! Before it, the session is stored with a mark that its refresh token is about to be sent: if the reply is lost, the token
//! may be spent.

use std::time::Duration;

use super::refresh_policy::TokenRequest;
use super::stores::RESERVE;
use super::{LoginReason, SessionError, SessionService};
use crate::model::{Grant, Profile, Session, TokenSet};
use crate::oauth::{
    Delivery, DpopKey, Endpoint, IssuerError, TokenEndpoint, client_credentials, login_api, refresh_token,
    token_exchange,
};
use crate::secret::Secret;
use crate::store::ProfileLock;

/// The shortest wait before a request is sent once more.
const RESEND_WAIT: Duration = Duration::from_millis(300);

/// How long the first request and the wait may take. Issuers that accept a spent refresh token do so for seconds only.
const RESEND_LIMIT: Duration = Duration::from_secs(10);

impl SessionService {
    /// Checks that `session` is still the stored one, and that its lock still excludes other processes.
    async fn check_lock(&self, lock: &ProfileLock, profile: &Profile, session: &Session) -> Result<(), SessionError> {
        match self.session(profile).await {
            Ok(stored) if stored.generation == session.generation && lock.is_in_place().await => Ok(()),
            Ok(_) => Err(SessionError::LockLost),
            Err(error) => Err(error),
        }
    }

    /// Sends the refresh request, after making sure that its reply can be stored.
    pub(super) async fn send_refresh(
        &self,
        lock: &ProfileLock,
        profile: &Profile,
        request: &TokenRequest,
        session: &mut Session,
    ) -> Result<TokenSet, SessionError> {
        let target = request.target();
        let http = self.http(profile).await?;
        let metadata = self.metadata_with(profile, &[Endpoint::Token]).await?;
        session.offers_exchange = metadata.offers_grant(token_exchange::GRANT_TYPE);
        let client = self.client(profile, &metadata, session.client_secret.clone(), session.dpop_key.as_ref()).await?;
        let api = profile.login_api(session.grant);
        if api.is_some() && !target.is_plain() {
            return Err(IssuerError::Unsupported { what: "another audience, scope or resource" }.into());
        }
        if session.grant.is_unattended() {
            let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
            let parameters = if target.is_plain() { profile.own_request() } else { target };
            let tokens = match session.grant {
                Grant::Workload => self.request_as_workload(profile, &metadata, &client, &parameters).await?,
                _ => self.send(|| client_credentials::request(&endpoint, &parameters)).await?,
            };
            session.dpop_key = client.dpop.key().map(DpopKey::to_stored);
            return Ok(tokens);
        }
        let Some(token) = session.tokens.refresh_token.clone() else {
            return Err(SessionError::LoginRequired(LoginReason::NoRefreshToken));
        };
        if api.is_none() {
            // Fails before anything is written if the client cannot authenticate.
            TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        }
        // The requests above took time.
        self.check_lock(lock, profile, session).await?;
        if lock.given_up().await.is_some() {
            lock.set_given_up(None).await;
        }
        let before = (session.refreshing_since, session.refreshing_lock);
        (session.refreshing_since, session.refreshing_lock) = (Some(self.clock.now()), lock.inode());
        if let Err(error) = self.write(profile, session).await {
            // A keychain that does not respond may store the mark later. Nothing was sent.
            lock.set_given_up(session.refreshing_since).await;
            (session.refreshing_since, session.refreshing_lock) = before;
            return Err(error);
        }
        let size = session.to_stored(&profile.name).expose().len() + RESERVE;
        let prepared = match self.reserve_bytes(profile, size).await {
            // A process that locks another file from now on reads what was written above, and does not send the token too.
            Ok(()) if lock.is_in_place().await => Ok(()),
            Ok(()) => Err(SessionError::LockLost),
            Err(error) => Err(error),
        };
        if let Err(error) = prepared {
            // Nothing was sent, so the refresh token is not in doubt.
            let marked_at = std::mem::replace(&mut session.refreshing_since, before.0);
            session.refreshing_lock = before.1;
            if let Err(unwritten) = self.write(profile, session).await {
                lock.set_given_up(marked_at).await;
                tracing::warn!("cannot record that the refresh was given up: {unwritten}");
            }
            return Err(error);
        }
        let TokenSet { access_token, id_token, .. } = &session.tokens;
        let known = [Some(access_token), id_token.as_ref(), session.client_secret.as_ref()];
        let known: Vec<Secret> = known.into_iter().flatten().cloned().collect();
        if let Some(api) = api {
            return self.send(|| login_api::refresh(&http, api, &token, &known, &*self.clock)).await;
        }
        let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        let parameters = session.request_for(&target);
        let tokens = self.send(|| refresh_token::request(&endpoint, &token, &parameters, &known)).await?;
        session.dpop_key = client.dpop.key().map(DpopKey::to_stored);
        Ok(tokens)
    }

    /// Sends the request. Sends it a second time, after a short wait, if the first one did not reach the issuer or its response
    /// was lost. The wait is what the server asks for (`Retry-After`), if that is short.
    ///
    /// After a lost response the refresh token may be spent. The session continues if the issuer has not received the request,
    /// does not rotate refresh tokens, or accepts a spent one for a while for this case. An issuer that accepts no token twice
    /// ends the session, as it would at the next refresh.
    pub(super) async fn send<F: Future<Output = Result<TokenSet, IssuerError>>>(
        &self,
        send: impl Fn() -> F,
    ) -> Result<TokenSet, SessionError> {
        let started = self.clock.monotonic();
        let wait = |error: &IssuerError| error.retry_after().unwrap_or_default().max(RESEND_WAIT);
        let first = match send().await {
            Err(error @ IssuerError::Unreachable { delivery: Delivery::NotSent, .. }) => error,
            Err(error)
                if error.is_response_lost()
                    && self.clock.monotonic().saturating_duration_since(started) + wait(&error) < RESEND_LIMIT =>
            {
                error
            }
            result => return Ok(result?),
        };
        self.clock.sleep(wait(&first)).await;
        match send().await {
            // Unless the issuer has refused the second one, the first may have been acted on.
            Err(second) if first.is_response_lost() && !second.is_refusal() => Err(first.into()),
            result => Ok(result?),
        }
    }
}
