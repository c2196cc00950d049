//! What a renewal brought, stored before anybody gets it: tokens first, then what may need the network again.

use std::time::Duration;

use super::{Broker, BrokerError, LoginReason, Served};
use crate::issuer::{Metadata, jwks};
use crate::model::{AnotherToken, Profile, Session, TokenFor, TokenSet, TrustedKeys};
use crate::secret::Secret;
use crate::verify::{KeySet, unverified_claims, verify_id_token};

/// How old kept keys may get before a renewal fetches them again.
const KEYS_DUE: Duration = Duration::from_secs(3600);

/// How often the store is tried for a session that exists nowhere else, and the first wait between; it doubles.
const COMMIT_TRIES: u32 = 6;
const COMMIT_WAIT: Duration = Duration::from_millis(50);

impl Broker {
    /// Stores what the issuer gave, then hands it out.
    pub(super) async fn commit(
        &self,
        profile: &Profile,
        asked: &TokenFor,
        mut session: Session,
        mut new: TokenSet,
    ) -> Result<Served, BrokerError> {
        let read = session.generation.clone();
        session.generation = read.next();
        session.renewed_at = Some(new.obtained_at);
        session.renewing_since = None;
        session.last_failure = None;
        Self::fill_expiry(&mut new);
        if let Some(rotated) = new.refresh_token.take() {
            session.tokens.refresh_token = Some(rotated);
        }
        let id_token = new.id_token.take();
        let mut unchecked = None;
        if let Some(id_token) = id_token {
            match self.renewed_id_token(profile, &session, &id_token) {
                IdTokenCheck::Good => session.tokens.id_token = Some(id_token),
                IdTokenCheck::UnknownKey => unchecked = Some(id_token),
                IdTokenCheck::Bad(why) => tracing::warn!("the renewed ID token is ignored: {why}"),
            }
        }
        if asked.is_plain() {
            new.scope = new.scope.or_else(|| session.tokens.scope.clone());
            session.tokens.access_token = new.access_token.clone();
            session.tokens.token_type = new.token_type.clone();
            session.tokens.obtained_at = new.obtained_at;
            session.tokens.expires_at = new.expires_at;
            session.tokens.scope = new.scope.clone();
        } else {
            session.others.retain(|other| other.asked != *asked);
            let excess = (session.others.len() + 1).saturating_sub(Session::MOST_OTHERS);
            session.others.drain(..excess);
            session.others.push(AnotherToken { asked: asked.clone(), tokens: new.clone() });
        }
        // Only over the generation that was read: a login that slipped in is never overwritten.
        if let Some(stored) = self.stored(profile).await.ok().flatten()
            && stored.generation != read
        {
            return match stored.token_for(asked) {
                Some(tokens) => {
                    Ok(Served { tokens: tokens.clone(), session: stored.clone(), renewed: true, trouble: None })
                }
                None => Err(BrokerError::LoginRequired(LoginReason::NoSession)),
            };
        }
        self.write_surely(profile, &session).await?;
        self.refresh_keys(profile, &mut session, unchecked).await;
        let tokens = session.token_for(asked).cloned().unwrap_or(new);
        Ok(Served { tokens, session, renewed: true, trouble: None })
    }

    fn renewed_id_token(&self, profile: &Profile, session: &Session, id_token: &Secret) -> IdTokenCheck {
        let Some(keys) = session.keys.as_ref().and_then(|keys| KeySet::from_jwks(&keys.jwks).ok()) else {
            return IdTokenCheck::UnknownKey;
        };
        let mut expected = super::login::id_token_policy(profile, None, None, self.clock.now());
        // The subject of a renewal is the login's (OpenID Connect Core 1.0, section 12.2).
        expected.subject = session.subject.as_ref().map(|subject| subject.sub.as_str());
        match verify_id_token(id_token.expose(), &keys, &expected) {
            Ok(_) => IdTokenCheck::Good,
            Err(reasons) if reasons.iter().any(super::verdict::is_unknown_key) => IdTokenCheck::UnknownKey,
            Err(reasons) => IdTokenCheck::Bad(reasons.first().map(|r| r.message.clone()).unwrap_or_default()),
        }
    }

    /// Fetches the issuer's keys again if they are old or lack one; failing is no failure of the renewal.
    async fn refresh_keys(&self, profile: &Profile, session: &mut Session, unchecked: Option<Secret>) {
        let now = self.clock.now();
        let old =
            session.keys.as_ref().is_none_or(|keys| keys.fetched_at.plus(KEYS_DUE) <= now || keys.fetched_at > now);
        let lacking = unchecked.is_some() || session.keys.as_ref().is_some_and(|keys| !Self::knows_key(keys, session));
        if !old && !lacking {
            return;
        }
        let fetched = match self.metadata(profile).await {
            Ok(metadata) => self.fetch_keys(profile, &metadata).await,
            Err(error) => Err(error),
        };
        match fetched {
            Ok(Some(keys)) => session.keys = Some(keys),
            Ok(None) => return,
            Err(error) => {
                tracing::info!("the issuer's keys were not fetched again: {error}");
                return;
            }
        }
        if let Some(id_token) = unchecked
            && matches!(self.renewed_id_token(profile, session, &id_token), IdTokenCheck::Good)
        {
            session.tokens.id_token = Some(id_token);
        }
        if let Err(error) = self.write(profile, session).await {
            tracing::info!("the issuer's new keys were not stored: {error}");
        }
    }

    /// Whether the key that signed the session's access token is among `keys`; opaque tokens need none.
    fn knows_key(keys: &TrustedKeys, session: &Session) -> bool {
        let Some(kid) = unverified_claims(session.tokens.access_token.expose()).and_then(|claims| claims.kid) else {
            return true;
        };
        KeySet::from_jwks(&keys.jwks).is_ok_and(|set| set.has_kid(&kid))
    }

    /// The issuer's keys as they are now; `None` where it publishes none.
    pub(super) async fn fetch_keys(
        &self,
        profile: &Profile,
        metadata: &Metadata,
    ) -> Result<Option<TrustedKeys>, BrokerError> {
        let Some(source) = &metadata.jwks_uri else { return Ok(None) };
        let fetched_at = self.clock.now();
        let jwks = jwks::fetch(&*self.http(profile)?, source).await?;
        Ok(Some(TrustedKeys { jwks, source: source.to_string(), fetched_at }))
    }

    pub(super) async fn write(&self, profile: &Profile, session: &Session) -> Result<(), BrokerError> {
        let (name, session) = (profile.name.clone(), session.clone());
        self.change(profile.store, &profile.name, move |store| store.write(&name, &session)).await
    }

    /// Stores a session that exists nowhere else, trying again for a while where the store fails.
    pub(super) async fn write_surely(&self, profile: &Profile, session: &Session) -> Result<(), BrokerError> {
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
