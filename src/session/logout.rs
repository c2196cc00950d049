//! Ending a session: at the issuer, on this machine, and for the offline check.

use std::sync::Arc;

use super::{SessionError, SessionService};
use crate::clock::UnixTime;
use crate::model::{Profile, Session};
use crate::oauth::revoke::{self, TokenTypeHint};
use crate::oauth::{Endpoint, IssuerError, json_api};
use crate::secret::Secret;
use crate::verify::{RevocationList, unverified_claims};

/// How to log out.
#[derive(Clone, Copy, Debug)]
pub struct LogoutOptions {
    /// Whether the issuer is told (RFC 7009).
    pub revoke: bool,
}

/// What became of the issuer's half.
#[derive(Debug)]
pub enum Revocation {
    /// The issuer revoked the tokens.
    Done,
    /// Nobody asked for it.
    NotAsked,
    /// The issuer has no revocation endpoint.
    NotOffered,
    /// It failed; the tokens stay valid at the issuer until they expire.
    Failed(SessionError),
}

/// What became of each half.
#[derive(Debug)]
pub struct LogoutReport {
    /// The issuer's half.
    pub revocation: Revocation,
}

/// A token issued before this long ago without a known end is taken to be over.
const UNKNOWN_LIFE: i64 = 24 * 3600;

impl SessionService {
    /// Ends the profile's session; `None` where there was none. The local half is done whatever the issuer says, and the
    /// tokens that are over by it are marked as revoked before they are deleted.
    ///
    /// # Errors
    /// [`SessionError::Store`], [`SessionError::Lock`] or [`SessionError::RevocationList`] where the local half failed.
    pub async fn logout(
        self: &Arc<Self>,
        profile: &Profile,
        options: LogoutOptions,
    ) -> Result<Option<LogoutReport>, SessionError> {
        let lock = self.lock(&profile.name).await?;
        let uncut = Arc::clone(&self.underway).read_owned().await;
        let (sessions, profile) = (Arc::clone(self), profile.clone());
        // Cut short between the issuer's half and this machine's, dead tokens would go on being handed out.
        let task = tokio::spawn(async move {
            let result = sessions.logout_locked(&profile, options).await;
            drop((lock, uncut));
            result
        });
        task.await.unwrap_or(Err(SessionError::Cut))
    }

    async fn logout_locked(
        &self,
        profile: &Profile,
        options: LogoutOptions,
    ) -> Result<Option<LogoutReport>, SessionError> {
        let session = match self.stored(profile).await {
            Ok(Some(session)) => session,
            Ok(None) => return Ok(None),
            // It can still be deleted, though nobody can be told its tokens.
            Err(SessionError::Store(error)) if error.session_lost() => {
                self.delete(profile).await?;
                return Ok(Some(LogoutReport { revocation: Revocation::Failed(error.into()) }));
            }
            Err(error) => return Err(error),
        };
        let revocation = if options.revoke { self.revoke(profile, &session).await } else { Revocation::NotAsked };
        let marked = self.mark_revoked(&session).await;
        self.delete(profile).await?;
        marked?;
        Ok(Some(LogoutReport { revocation }))
    }

    /// Names the tokens of a session that is over, so that no offline check grants them again.
    pub(super) async fn mark_revoked(&self, session: &Session) -> Result<(), SessionError> {
        let now = self.clock.now();
        let ends = |token: &Secret, known: Option<UnixTime>| {
            // What the token itself says counts where it is later: that is what a verifier goes by.
            let own = unverified_claims(token.expose()).and_then(|claims| claims.exp);
            known.max(own).unwrap_or(UnixTime(now.0.saturating_add(UNKNOWN_LIFE)))
        };
        let own = std::iter::once(&session.tokens).chain(session.others.iter().map(|other| &other.tokens));
        let mut over: Vec<(Secret, UnixTime)> =
            own.map(|t| (t.access_token.clone(), ends(&t.access_token, t.expires_at))).collect();
        over.extend(session.tokens.id_token.iter().map(|token| (token.clone(), ends(token, None))));
        let file = self.revoked.clone();
        let marked = tokio::task::spawn_blocking(move || {
            let over: Vec<(&str, UnixTime)> = over.iter().map(|(token, end)| (token.expose(), *end)).collect();
            RevocationList::open(&file).and_then(|mut list| list.add(&over, now))
        });
        Ok(marked.await.map_err(|_| SessionError::Cut)??)
    }

    /// Revokes a prepared login that nobody wants to keep; best effort.
    pub async fn discard(&self, profile: &Profile, session: &Session) {
        if let Revocation::Failed(error) = self.revoke(profile, session).await {
            tracing::info!("the unwanted tokens were not revoked: {error}");
        }
    }

    /// The refresh token first: with most issuers it takes its access tokens along (RFC 7009, section 2.1).
    async fn revoke(&self, profile: &Profile, session: &Session) -> Revocation {
        match self.try_revoke(profile, session).await {
            Ok(true) => Revocation::Done,
            Ok(false) => Revocation::NotOffered,
            Err(error) => Revocation::Failed(error),
        }
    }

    async fn try_revoke(&self, profile: &Profile, session: &Session) -> Result<bool, SessionError> {
        // The profile may name another issuer or client by now, which must not be shown this session's tokens.
        let mut server = Arc::clone(&profile.server);
        if profile.issuer != session.issuer {
            Arc::make_mut(&mut server).forget_addresses();
        }
        let (issuer, client_id) = (session.issuer.clone(), session.client_id.clone());
        let profile = &Profile { issuer, client_id, server, ..profile.clone() };
        let http = self.http(profile)?;
        if let Some(api) = profile.api_of(session.grant) {
            let Some(url) = &api.logout else { return Ok(false) };
            return Ok(json_api::logout(&http, api, url, &session.tokens).await.map(|()| true)?);
        }
        let metadata = self.metadata_with(profile, &[Endpoint::Revocation]).await?;
        let Some(endpoint) = &metadata.revocation_endpoint else { return Ok(false) };
        let client = self.client(profile, &metadata, session.client_secret.clone())?;
        if let Some(token) = &session.tokens.refresh_token {
            revoke::request(&http, endpoint, &client, token, TokenTypeHint::RefreshToken).await?;
        }
        let others = session.others.iter().map(|other| &other.tokens.access_token);
        for token in std::iter::once(&session.tokens.access_token).chain(others) {
            match revoke::request(&http, endpoint, &client, token, TokenTypeHint::AccessToken).await {
                Ok(()) => {}
                // An issuer may revoke refresh tokens only (RFC 7009, section 2.2.1); they were the part that lasts.
                Err(IssuerError::Refused(refusal))
                    if refusal.code == "unsupported_token_type" && session.tokens.refresh_token.is_some() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
