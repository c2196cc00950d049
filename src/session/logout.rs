//! Logs out: revokes the tokens at the issuer and on this machine, and deletes the session.

use std::sync::Arc;

use super::marks::mark_subject;
use super::{SessionError, SessionService};
use crate::clock::UnixTime;
use crate::config;
use crate::fs::unblock;
use crate::model::{Profile, Session};
use crate::oauth::revocation::{self, TokenTypeHint};
use crate::oauth::{Endpoint, login_api};
use crate::secret::Secret;
use crate::verify::{mark_revoked, unverified_claims};

/// The outcome of the revocation at the issuer. Unless it succeeded, the tokens stay valid there until they expire.
#[derive(Debug)]
pub enum Revocation {
    /// The issuer revoked the tokens.
    Revoked,
    /// It was not requested.
    Skipped,
    /// The issuer has no revocation endpoint.
    Unsupported,
    /// The issuer revoked the refresh token, and so the session. That of the access token by itself failed.
    Partial(SessionError),
    /// It failed.
    Failed(SessionError),
}

impl Revocation {
    /// Returns the word for it in JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Skipped => "skipped",
            Self::Unsupported => "unsupported",
            Self::Partial(_) => "partial",
            Self::Failed(_) => "failed",
        }
    }
}

/// How long, in seconds, a token without a known expiry stays on the revocation list.
const UNKNOWN_LIFETIME: i64 = 24 * 3600;

impl SessionService {
    /// Revokes the profile's tokens (RFC 7009) if `revoke` is set, and deletes its session, whether or not the issuer revoked
    /// them; returns `None` if there is no session.
    ///
    /// The steps: no token of the session is served any more, and its token files are removed; its tokens are put on the
    /// revocation list; the issuer revokes them; the session is deleted. A logout that fails or is killed can be repeated until
    /// the last step.
    ///
    /// # Errors
    /// [`SessionError::Store`], [`SessionError::Lock`] or [`SessionError::RevocationList`] if that failed on this machine.
    pub async fn logout(self: &Arc<Self>, profile: &Profile, revoke: bool) -> Result<Option<Revocation>, SessionError> {
        self.release_unsaved(profile, revoke).await;
        let lock = self.lock(profile).await?;
        let signals = self.hold_off_signals().await;
        let (sessions, profile) = (Arc::clone(self), profile.clone());
        let task = tokio::spawn(async move {
            let _until_done = (lock, signals);
            let result = sessions.logout_locked(&profile, revoke).await;
            if result.is_ok() {
                sessions.end_unsaved_after_logout(&profile, revoke).await;
            }
            result
        });
        task.await.unwrap_or(Err(SessionError::Interrupted))
    }

    async fn logout_locked(&self, profile: &Profile, revoke: bool) -> Result<Option<Revocation>, SessionError> {
        let mut session = match self.stored(profile).await {
            Ok(Some(session)) => session,
            Ok(None) => {
                self.write_token_files(profile, None, None).await;
                return Ok(None);
            }
            // An unreadable session is deleted, although its tokens cannot be revoked.
            Err(SessionError::Store(error)) if error.is_session_lost() => {
                self.write_token_files(profile, None, None).await;
                self.delete(profile).await?;
                return Ok(Some(Revocation::Failed(error.into())));
            }
            Err(error) => return Err(error),
        };
        session.logged_out = true;
        // Before the change as well: if this process is killed right after it, an agent is not notified again.
        let (marks, kind, name) = (Arc::clone(&self.marks), profile.store, profile.name.clone());
        let marked = unblock(mark_subject(&name), move || marks.leave(kind, &name)).await;
        marked.map_err(|_| SessionError::Interrupted)?;
        self.write(profile, &session).await?;
        self.write_token_files(profile, None, Some(&session)).await;
        // A login to another issuer that was interrupted has left two sessions.
        let interrupted = session.replaces.take();
        let mut revocation = Revocation::Skipped;
        for session in interrupted.iter().map(|old| &**old).chain([&session]) {
            self.mark_revoked(session).await?;
        }
        if revoke {
            for session in interrupted.iter().map(|old| &**old).chain([&session]) {
                let outcome = self.revoke(profile, session).await;
                revocation = match (revocation, outcome) {
                    (worse @ Revocation::Failed(_), _) => worse,
                    (worse @ Revocation::Partial(_), outcome) if !matches!(outcome, Revocation::Failed(_)) => worse,
                    (_, outcome) => outcome,
                };
            }
        }
        self.delete(profile).await?;
        Ok(Some(revocation))
    }

    /// Adds the session's tokens to the revocation list, so that they are denied offline.
    pub(super) async fn mark_revoked(&self, session: &Session) -> Result<(), SessionError> {
        let now = self.clock.now();
        // The later of `expires_in` and the token's own `exp`, by which it would be verified.
        let expiry = |token: &Secret, known: Option<UnixTime>| {
            let own = unverified_claims(token.expose()).and_then(|claims| claims.exp);
            known.max(own).unwrap_or(UnixTime(now.0.saturating_add(UNKNOWN_LIFETIME)))
        };
        let sets = std::iter::once(&session.tokens).chain(session.others.iter().map(|other| &other.tokens));
        let mut tokens: Vec<(Secret, UnixTime)> =
            sets.map(|set| (set.access_token.clone(), expiry(&set.access_token, set.expires_at))).collect();
        tokens.extend(session.tokens.id_token.iter().map(|token| (token.clone(), expiry(token, None))));
        let files = self.revoked.clone();
        let added = unblock(&self.revoked.file, move || {
            files.update(now, |revoked| {
                tokens.iter().for_each(|(token, expiry)| mark_revoked(revoked, token.expose(), *expiry));
            })
        });
        Ok(added.await.map_err(|_| SessionError::Interrupted)??)
    }

    /// Revokes the tokens of a login that failed, or of an unsaved session, unless that session is stored, or may be, and is
    /// therefore in use. One that was to replace the session of another issuer or client is not: the profile was not saved. A
    /// failure is only logged.
    pub async fn discard(&self, profile: &Profile, session: &Session) {
        let is_used =
            |stored: &Session| stored.generation.login == session.generation.login && stored.replaces.is_none();
        match self.stored(profile).await {
            Ok(stored) if !stored.as_ref().is_some_and(is_used) => {}
            _ => return tracing::warn!("the tokens of an ended session may be stored and are not revoked"),
        }
        if let Revocation::Failed(error) | Revocation::Partial(error) = self.revoke(profile, session).await {
            tracing::info!("the tokens of an ended session were not revoked: {error}");
        }
    }

    async fn revoke(&self, profile: &Profile, session: &Session) -> Revocation {
        self.try_revoke(profile, session).await.unwrap_or_else(Revocation::Failed)
    }

    /// Revokes the refresh token first, since most issuers then revoke its access tokens (RFC 7009, section 2.1).
    async fn try_revoke(&self, profile: &Profile, session: &Session) -> Result<Revocation, SessionError> {
        // The profile may have been changed to another issuer or client, to which these tokens must not be sent.
        let (issuer, client_id) = (session.issuer.clone(), session.client_id.clone());
        let mut of_session = Profile { issuer, client_id, ..profile.clone() };
        if profile.issuer != session.issuer {
            config::remove_issuer_bound(&mut of_session);
        }
        let profile = &of_session;
        let http = self.http(profile).await?;
        if let Some(api) = profile.login_api(session.grant) {
            let Some(url) = &api.logout else { return Ok(Revocation::Unsupported) };
            return Ok(login_api::logout(&http, api, url, &session.tokens).await.map(|()| Revocation::Revoked)?);
        }
        let metadata = self.metadata_with(profile, &[Endpoint::Revocation]).await?;
        let Some(endpoint) = &metadata.revocation_endpoint else { return Ok(Revocation::Unsupported) };
        let client = self.client(profile, &metadata, session.client_secret.clone(), None).await?;
        let mut refused = None;
        if let Some(token) = &session.tokens.refresh_token {
            match revocation::revoke(&http, endpoint, &client, token, TokenTypeHint::RefreshToken).await {
                Err(error) if error.is_refusal() => refused = Some(error),
                revoked => revoked?,
            }
        }
        let is_revoked = session.tokens.refresh_token.is_some() && refused.is_none();
        let now = self.clock.now();
        let others = session.others.iter().map(|other| &other.tokens);
        for tokens in std::iter::once(&session.tokens).chain(others) {
            // Then an issuer may refuse to revoke the token once more, or revoke no access tokens at all (RFC 7009, section
            // 2.2.1); they expire soon.
            let is_done = is_revoked || tokens.expires_at.is_some_and(|expires_at| expires_at <= now);
            match revocation::revoke(&http, endpoint, &client, &tokens.access_token, TokenTypeHint::AccessToken).await {
                Ok(()) => {}
                Err(error) if is_done && error.is_refusal() => {
                    tracing::info!("an access token was not revoked by itself: {error}");
                }
                Err(error) if is_revoked => return Ok(Revocation::Partial(error.into())),
                Err(error) => return Err(error.into()),
            }
        }
        refused.map_or(Ok(Revocation::Revoked), |error| Err(error.into()))
    }
}
