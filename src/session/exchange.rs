//! Token exchange (RFC 8693): a token for another service in return for the session's own access token.
//!
//! It is stored beside the session's own, and served, shared and refreshed by the same policy; refreshing it is exchanging
//! again. The session itself stays as it is, also if the issuer refuses.

use std::sync::Arc;

use super::received_tokens::{check_audience, fill_expiry, of_same_subject, quote_names, unusable_tokens};
use super::refresh::Caller;
use super::refresh_failure::issuer_failure;
use super::refresh_policy::TokenRequest;
use super::unsaved::StoreOutcome;
use super::{Demand, HeldProfile, MinTtl, ServedToken, SessionError, SessionService};
use crate::model::{Profile, RefreshFailure, Session, TokenSet, TokenTarget};
use crate::oauth::{Endpoint, IssuerError, TokenEndpoint, token_exchange};

impl SessionService {
    /// Refreshes the session's own access token if the request is satisfied by an exchange of it, and the policy requires
    /// that for the token itself.
    ///
    /// # Errors
    /// As a request for the session's own token.
    pub(super) async fn refresh_subject_token(
        self: &Arc<Self>,
        Caller { profile, request, seen }: &Caller,
        held: &mut Option<HeldProfile>,
    ) -> Result<(), SessionError> {
        if !seen.is_exchanged(&request.target()) {
            return Ok(());
        }
        let request = TokenRequest::own(Demand::ValidFor(MinTtl::Default));
        let own = Caller { profile: profile.clone(), request, seen: seen.clone() };
        self.refresh_while_locked(&own, held).await.map(drop)
    }

    /// Exchanges the own access token of `before` for the requested one, and stores that.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        profile: &Profile,
        request: &TokenRequest,
        before: Session,
        held: &mut Option<HeldProfile>,
    ) -> Result<ServedToken, SessionError> {
        let target = request.target();
        let trust = self.trust(profile).await;
        let reply = self.send_exchange(profile, &before, &target).await;
        let mut tokens = match reply.and_then(|tokens| of_same_subject(&before, request, tokens)) {
            Ok(tokens) => tokens,
            Err(error) => {
                let (session, error) = self.failed_exchange(profile, before, &target, error).await;
                return self.fall_back(session, request, error);
            }
        };
        fill_expiry(&mut tokens);
        // A token of unknown lifetime is not served for longer than the one that it was exchanged for.
        tokens.expires_at = tokens.expires_at.or(before.tokens.expires_at);
        let mut session = Session { generation: before.generation.next(), ..before.clone() };
        // The issuer can be reached again.
        session.last_failure.take_if(|failure| failure.other_target && failure.refusals == 0);
        session.apply_tokens(&target, tokens);
        match self.store_refreshed(profile, &session, &before, held).await {
            Ok(StoreOutcome::Done) => {}
            Ok(StoreOutcome::Replaced(stored)) => session = self.replaced(profile, *stored, &target)?,
            Ok(StoreOutcome::Later) => return Ok(ServedToken { session, refreshed: true, warning: None }),
            Err(error) => return self.fall_back(before, request, error),
        }
        match trust {
            Ok(trust) => self.update_trust_after_refresh(profile, &mut session, trust, None).await,
            Err(error) => tracing::warn!("cannot read the issuer's trusted keys: {error}"),
        }
        Ok(ServedToken { session, refreshed: true, warning: None })
    }

    async fn send_exchange(
        &self,
        profile: &Profile,
        session: &Session,
        target: &TokenTarget,
    ) -> Result<TokenSet, SessionError> {
        let http = self.http(profile).await?;
        let metadata = self.metadata_with(profile, &[Endpoint::Token]).await?;
        let client = self.client(profile, &metadata, session.client_secret.clone(), session.dpop_key.as_ref()).await?;
        let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        let subject = (&session.tokens.access_token, token_exchange::ACCESS_TOKEN);
        let tokens = self.send(|| token_exchange::request(&endpoint, subject, target)).await?;
        // A key that the issuer has demanded for this token alone is not the session's.
        unusable_tokens(profile, &tokens, session.dpop_key.as_ref()).map_or(Ok(()), Err)?;
        check_audience(&tokens, target)?;
        Ok(tokens)
    }

    /// Returns the session and the error after a failed exchange. An error of the exchange does not count
    /// against the session; that it cannot be reached is recorded as after any request.
    async fn failed_exchange(
        &self,
        profile: &Profile,
        mut session: Session,
        target: &TokenTarget,
        error: SessionError,
    ) -> (Session, SessionError) {
        match error {
            SessionError::Issuer(error @ (IssuerError::Unreachable { .. } | IssuerError::Unavailable { .. })) => {
                let failure = issuer_failure(&session, &error, self.clock.now());
                session.last_failure = Some(RefreshFailure { other_target: true, ..failure });
                if let Err(unwritten) = self.write(profile, &session).await {
                    tracing::warn!("cannot record the failed token exchange: {unwritten}");
                }
                (session, error.into())
            }
            SessionError::Issuer(error) => {
                let target = quote_names(target.audience.iter().chain(&target.resources));
                (session, SessionError::Exchange { target, error })
            }
            error => (session, error),
        }
    }
}
