//! What a refresh brought, stored before anybody gets it: tokens first, then what may need the network again.

use std::time::Duration;

use super::refresh::failed;
use super::trust::trusted_keys;
use super::{LoginReason, ServedToken, SessionError, SessionService};
use crate::model::{AnotherToken, Profile, Session, TokenSet, TokenTarget, Trust};
use crate::oauth::IssuerError;
use crate::secret::Secret;
use crate::verify::{unverified_claims, verify_id_token};

/// How often the store is tried for a session that exists nowhere else, and the first wait between; it doubles.
const COMMIT_TRIES: u32 = 6;
const COMMIT_WAIT: Duration = Duration::from_millis(50);

impl SessionService {
    /// Stores what the issuer gave, then hands it out.
    pub(super) async fn commit(
        &self,
        profile: &Profile,
        asked: &TokenTarget,
        mut session: Session,
        mut new: TokenSet,
    ) -> Result<ServedToken, SessionError> {
        let read = session.generation.clone();
        session.generation = read.next();
        session.refreshing_since = None;
        // Of tokens that nobody here can use, the refresh token still is the one to go on with: the old one may be spent.
        let unusable = IssuerError::of_type(&new);
        match &unusable {
            None => {
                session.refreshed_at = Some(new.obtained_at);
                session.last_failure = None;
            }
            Some(error) => session.last_failure = Some(failed(error, self.clock.now())),
        }
        Self::fill_expiry(&mut new);
        if let Some(rotated) = new.refresh_token.take() {
            session.tokens.refresh_token = Some(rotated);
        }
        let id_token = new.id_token.take();
        let trust = self.trust(profile).await;
        let mut unchecked = None;
        if let Some(id_token) = id_token {
            match self.refreshed_id_token(profile, &session, trust.as_ref().ok(), &id_token) {
                IdTokenCheck::Good => session.tokens.id_token = Some(id_token),
                IdTokenCheck::UnknownKey => unchecked = Some(id_token),
                IdTokenCheck::Bad(why) => tracing::warn!("the refreshed ID token is ignored: {why}"),
            }
        }
        if unusable.is_some() {
            tracing::info!("{}: the refreshed token is not kept", profile.name);
        } else if asked.is_plain() {
            new.scope = new.scope.or_else(|| session.tokens.scope.clone());
            session.tokens.access_token = new.access_token.clone();
            session.tokens.token_type = new.token_type.clone();
            session.tokens.obtained_at = new.obtained_at;
            session.tokens.expires_at = new.expires_at;
            session.tokens.scope = new.scope.clone();
        } else {
            Self::fill_scope(&mut new, &asked.scopes);
            session.others.retain(|other| other.asked != *asked);
            let excess = (session.others.len() + 1).saturating_sub(Session::MAX_OTHERS);
            session.others.drain(..excess);
            session.others.push(AnotherToken { asked: asked.clone(), tokens: new.clone() });
        }
        // Only over the generation that was read: a login that slipped in is never overwritten.
        if let Some(stored) = self.stored(profile).await.ok().flatten()
            && stored.generation != read
        {
            return match stored.token_for(asked) {
                Some(tokens) => {
                    Ok(ServedToken { tokens: tokens.clone(), session: stored.clone(), refreshed: true, trouble: None })
                }
                None => Err(SessionError::LoginRequired(LoginReason::NoSession)),
            };
        }
        self.write_surely(profile, &session).await?;
        if let Some(error) = unusable {
            return Err(error.into());
        }
        match trust {
            Ok(trust) => self.keep_up_with(profile, &mut session, trust, unchecked).await,
            Err(error) => tracing::warn!("what is trusted of the issuer cannot be read: {error}"),
        }
        let tokens = session.token_for(asked).cloned().unwrap_or(new);
        Ok(ServedToken { tokens, session, refreshed: true, trouble: None })
    }

    /// Fetches what is due of the issuer's keys, and keeps an ID token that only newer keys tell to be good.
    async fn keep_up_with(&self, profile: &Profile, session: &mut Session, trust: Trust, unchecked: Option<Secret>) {
        let kept = session.tokens.id_token.iter().chain([&session.tokens.access_token]);
        let others = session.others.last().map(|other| &other.tokens.access_token);
        let tokens: Vec<&Secret> = unchecked.iter().chain(kept).chain(others).collect();
        let Some(trust) = self.update_trust(profile, &trust, &tokens).await else { return };
        if let Some(id_token) = unchecked
            && matches!(self.refreshed_id_token(profile, session, Some(&trust), &id_token), IdTokenCheck::Good)
        {
            session.tokens.id_token = Some(id_token);
            if let Err(error) = self.write(profile, session).await {
                tracing::info!("the refreshed ID token was not stored: {error}");
            }
        }
    }

    fn refreshed_id_token(
        &self,
        profile: &Profile,
        session: &Session,
        trust: Option<&Trust>,
        id_token: &Secret,
    ) -> IdTokenCheck {
        let now = self.clock.now();
        let keys = trust.map(|trust| trusted_keys(trust, now).0).unwrap_or_default();
        let mut expected = super::login::id_token_policy(profile, None, None, now);
        // The subject of a refresh is the login's (OpenID Connect Core 1.0, section 12.2).
        expected.subject = session.subject.as_ref().map(|subject| subject.sub.as_str());
        match verify_id_token(id_token.expose(), &keys, &expected) {
            Ok(_) => IdTokenCheck::Good,
            Err(reasons) if reasons.iter().any(super::verifier::is_unknown_key) => IdTokenCheck::UnknownKey,
            Err(reasons) => IdTokenCheck::Bad(reasons.first().map(|r| r.message.clone()).unwrap_or_default()),
        }
    }

    pub(super) async fn write(&self, profile: &Profile, session: &Session) -> Result<(), SessionError> {
        let (name, session) = (profile.name.clone(), session.clone());
        self.change(profile.store, &profile.name, move |store| store.write(&name, &session)).await
    }

    /// Stores a session that exists nowhere else, trying again for a while where the store fails.
    pub(super) async fn write_surely(&self, profile: &Profile, session: &Session) -> Result<(), SessionError> {
        let mut wait = COMMIT_WAIT;
        for _ in 1..COMMIT_TRIES {
            match self.write(profile, session).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!("storing the session failed and is tried again: {error}"),
            }
            self.clock.sleep(wait).await;
            wait *= 2;
        }
        self.write(profile, session).await
    }

    /// A reply that says nothing of the scope grants what was asked for (RFC 6749, section 5.1).
    pub(super) fn fill_scope(tokens: &mut TokenSet, asked: &[String]) {
        if tokens.scope.is_none() && !asked.is_empty() {
            tokens.scope = Some(asked.join(" "));
        }
    }

    /// Takes the end of a JWT whose issuer did not say how long it lives from the token itself.
    pub(super) fn fill_expiry(tokens: &mut TokenSet) {
        if tokens.expires_at.is_none() {
            tokens.expires_at = unverified_claims(tokens.access_token.expose()).and_then(|claims| claims.exp);
        }
    }
}

enum IdTokenCheck {
    Good,
    UnknownKey,
    Bad(String),
}
