//! Handing out a valid token, and renewing it once among any number of callers and processes.
//!
//! The promises: one refresh for all who wait; a refresh token is not sent again while its first sending may still be
//! answered; a renewed session is stored before anybody gets its token; only the issuer's parsed `invalid_grant` ends
//! a session; a token that is still valid is handed out through every failure.

use std::sync::Arc;
use std::time::Duration;

use super::{Broker, BrokerError, LoginReason, RESERVE, in_doubt};
use crate::issuer::{IssuerError, Reached, TokenEndpoint, client_credentials, jwks, refresh};
use crate::model::{
    AnotherToken, Failed, Freshness, Grant, MinTtl, Profile, Session, TokenFor, TokenSet, TrustedKeys, freshness,
};
use crate::verify::{KeySet, unverified_claims, verify_id_token};

/// How badly a token is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// One with this much life left; the kept one where it has.
    Life(MinTtl),
    /// A new one. Satisfied by a renewal that ends while the caller waits, whoever asked for it.
    New,
}

/// A token to hand out.
#[derive(Debug)]
pub struct Served {
    /// The token, with its end and scope.
    pub tokens: TokenSet,
    /// The session that it is from.
    pub session: Session,
    /// Whether this call, or one it waited for, renewed it.
    pub renewed: bool,
    /// Why it was not renewed though it was time to: it is still valid, and the failure is nobody's business yet.
    pub trouble: Option<BrokerError>,
}

/// How old kept keys may get before a renewal fetches them again.
const KEYS_DUE: Duration = Duration::from_secs(3600);

/// How long after a failed renewal a still-valid token is handed out without another try.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(15);

/// How often the store is tried for a session that exists nowhere else, and the first wait between; it doubles.
const COMMIT_TRIES: u32 = 6;
const COMMIT_WAIT: Duration = Duration::from_millis(50);

/// The wait before a request that certainly never arrived is sent once more.
const RESEND_WAIT: Duration = Duration::from_millis(300);

impl Broker {
    /// A valid token for what is asked, renewed first if it is needed.
    ///
    /// # Errors
    /// [`BrokerError`]; never one because a renewal is under way, and none while the kept token has life left, unless
    /// [`Need::New`] was asked for.
    pub async fn token(
        self: &Arc<Self>,
        profile: &Profile,
        asked: &TokenFor,
        need: Need,
    ) -> Result<Served, BrokerError> {
        let session = self.session(profile).await?;
        if let Some(served) = self.good_enough(&session, asked, need, false) {
            return Ok(served);
        }
        match self.renew(profile, asked, need, &session).await {
            Ok(served) => Ok(served),
            Err(trouble) => self.still_valid(session, asked, need, trouble),
        }
    }

    /// The kept token, where it has the life that is needed.
    fn good_enough(&self, session: &Session, asked: &TokenFor, need: Need, renewed: bool) -> Option<Served> {
        let Need::Life(min_ttl) = need else { return None };
        let tokens = session.token_for(asked)?;
        (freshness(tokens, self.clock.now(), min_ttl) == Freshness::Fresh).then(|| Served {
            tokens: tokens.clone(),
            session: session.clone(),
            renewed,
            trouble: None,
        })
    }

    /// The kept token in spite of `trouble`, where it is valid yet and will do.
    fn still_valid(
        &self,
        session: Session,
        asked: &TokenFor,
        need: Need,
        trouble: BrokerError,
    ) -> Result<Served, BrokerError> {
        let valid = session.token_for(asked).filter(|tokens| {
            need != Need::New && freshness(tokens, self.clock.now(), MinTtl::Default) != Freshness::Expired
        });
        match valid {
            Some(tokens) => {
                Ok(Served { tokens: tokens.clone(), session: session.clone(), renewed: false, trouble: Some(trouble) })
            }
            None => Err(trouble),
        }
    }

    /// Renews under the profile's lock, in a task of its own: whoever waits for it may leave, it goes on to its end.
    async fn renew(
        self: &Arc<Self>,
        profile: &Profile,
        asked: &TokenFor,
        need: Need,
        seen: &Session,
    ) -> Result<Served, BrokerError> {
        let lock = self.lock(&profile.name).await?;
        let uncut = Arc::clone(&self.underway).read_owned().await;
        let (broker, profile, asked, seen) = (Arc::clone(self), profile.clone(), asked.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let session = broker.session(&profile).await?;
            let changed = session.generation != seen.generation;
            if let Some(served) = broker.good_enough(&session, &asked, need, changed) {
                return Ok(served);
            }
            // Somebody renewed while this caller waited: that is what it wanted, if it brought what was asked for.
            if changed
                && let Some(tokens) = session.token_for(&asked)
                && freshness(tokens, broker.clock.now(), MinTtl::Default) != Freshness::Expired
            {
                return Ok(Served { tokens: tokens.clone(), session: session.clone(), renewed: true, trouble: None });
            }
            let result = broker.renew_locked(&profile, &asked, need, &seen, session).await;
            drop(lock);
            drop(uncut);
            result
        });
        task.await.unwrap_or(Err(BrokerError::Cut))
    }

    async fn renew_locked(
        &self,
        profile: &Profile,
        asked: &TokenFor,
        need: Need,
        seen: &Session,
        mut session: Session,
    ) -> Result<Served, BrokerError> {
        if let Some(ended) = &session.ended {
            return Err(BrokerError::LoginRequired(LoginReason::Ended(ended.clone())));
        }
        if !session.can_renew() {
            return Err(BrokerError::LoginRequired(LoginReason::NoRefreshToken));
        }
        let now = self.clock.now();
        let valid = session
            .token_for(asked)
            .is_some_and(|tokens| freshness(tokens, now, MinTtl::Default) != Freshness::Expired);
        if let Some(failed) = &session.last_failure {
            let told_to_wait = failed.retry_at.is_some_and(|at| at > now);
            // Callers that waited while another's try failed share its outcome instead of each trying in turn.
            let shared = seen.last_failure.as_ref() != Some(failed);
            let pausing = valid && need != Need::New && failed.at.plus(PAUSE_AFTER_FAILURE) > now && failed.at <= now;
            if told_to_wait || shared || pausing {
                return Err(BrokerError::FailedJustNow(failed.clone()));
            }
        }
        // The reply to the last renewal was lost. The issuer may have spent the refresh token, and may end the session
        // when it sees it again: it is sent once more only when nothing else is left.
        if let (Some(since), true) = (session.renewing_since, valid && need != Need::New) {
            return Err(BrokerError::FailedJustNow(Failed {
                at: since,
                code: "renewal_in_doubt".into(),
                message: format!("the issuer's reply to the renewal at {since} was lost"),
                retry_at: None,
            }));
        }
        let attempt = self.ask_issuer(profile, asked, &mut session).await;
        match attempt {
            Ok(tokens) => self.commit(profile, asked, session, tokens).await,
            Err(error) => Err(self.record_failure(profile, session, error).await),
        }
    }

    /// Sends the one request that renews, having made sure that its reply can be stored.
    async fn ask_issuer(
        &self,
        profile: &Profile,
        asked: &TokenFor,
        session: &mut Session,
    ) -> Result<TokenSet, BrokerError> {
        let http = self.http(profile)?;
        let metadata = self.metadata(profile).await?;
        let client = Self::client(profile, session);
        let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        if session.grant == Grant::ClientCredentials {
            let request = if asked.is_plain() { profile.own_request() } else { asked.clone() };
            return self.resend_if_never_sent(|| client_credentials::request(&endpoint, &request)).await;
        }
        let Some(token) = session.tokens.refresh_token.clone() else {
            return Err(BrokerError::LoginRequired(LoginReason::NoRefreshToken));
        };
        session.renewing_since = Some(self.clock.now());
        self.write(profile, session).await?;
        let room = session.to_stored().expose().len() + RESERVE;
        self.make_room(profile, room).await?;
        self.resend_if_never_sent(|| refresh::request(&endpoint, &token, asked)).await
    }

    /// Sends, and once more if the first certainly never reached the issuer.
    async fn resend_if_never_sent<F: Future<Output = Result<TokenSet, IssuerError>>>(
        &self,
        send: impl Fn() -> F,
    ) -> Result<TokenSet, BrokerError> {
        match send().await {
            Err(IssuerError::Unreachable { reached: Reached::No, .. }) => {
                self.clock.sleep(RESEND_WAIT).await;
                Ok(send().await?)
            }
            result => Ok(result?),
        }
    }

    /// Stores what the issuer gave, then hands it out.
    async fn commit(
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

    fn renewed_id_token(&self, profile: &Profile, session: &Session, id_token: &crate::secret::Secret) -> IdTokenCheck {
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
    async fn refresh_keys(&self, profile: &Profile, session: &mut Session, unchecked: Option<crate::secret::Secret>) {
        let now = self.clock.now();
        let old =
            session.keys.as_ref().is_none_or(|keys| keys.fetched_at.plus(KEYS_DUE) <= now || keys.fetched_at > now);
        let lacking = unchecked.is_some() || session.keys.as_ref().is_some_and(|keys| !Self::knows_key(keys, session));
        if !old && !lacking {
            return;
        }
        match self.fetch_keys(profile).await {
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
    pub(super) async fn fetch_keys(&self, profile: &Profile) -> Result<Option<TrustedKeys>, BrokerError> {
        let http = self.http(profile)?;
        let metadata = self.metadata(profile).await?;
        let Some(source) = metadata.jwks_uri.clone() else { return Ok(None) };
        let fetched_at = self.clock.now();
        let jwks = jwks::fetch(&http, &source).await?;
        Ok(Some(TrustedKeys { jwks, source: source.to_string(), fetched_at }))
    }

    /// Keeps what a failed try means for the session, and says what to tell the caller.
    async fn record_failure(&self, profile: &Profile, mut session: Session, error: BrokerError) -> BrokerError {
        let BrokerError::Issuer(issuer_error) = &error else { return error };
        let at = self.clock.now();
        let retry_at = match issuer_error {
            IssuerError::Busy { retry_after: Some(wait), .. } => Some(at.plus(*wait)),
            _ => None,
        };
        let over = issuer_error.ends_session() && session.grant != Grant::ClientCredentials;
        let failed =
            Failed { at, code: word_for(issuer_error).to_owned(), message: issuer_error.to_string(), retry_at };
        if over {
            session.ended = Some(failed.clone());
            session.tokens.refresh_token = None;
        }
        if over || !in_doubt(issuer_error) {
            session.renewing_since = None;
        }
        session.last_failure = Some(failed.clone());
        if let Err(unwritten) = self.write(profile, &session).await {
            tracing::warn!("the failed renewal was not recorded: {unwritten}");
        }
        if over { BrokerError::LoginRequired(LoginReason::Ended(failed)) } else { error }
    }

    pub(super) async fn write(&self, profile: &Profile, session: &Session) -> Result<(), BrokerError> {
        let (name, session) = (profile.name.clone(), session.clone());
        self.with_store(profile.store, move |store| store.write(&name, &session)).await
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

/// The stable word that a failed renewal is remembered by.
fn word_for(error: &IssuerError) -> &'static str {
    match error {
        IssuerError::Refused(_)
        | IssuerError::Insecure(_)
        | IssuerError::Mismatch { .. }
        | IssuerError::Unsupported { .. } => "issuer_refused",
        IssuerError::Unreachable { .. }
        | IssuerError::Busy { .. }
        | IssuerError::Malformed { .. }
        | IssuerError::TimedOut { .. } => "issuer_unreachable",
        IssuerError::CaCert { .. } | IssuerError::Local { .. } => "unexpected",
    }
}

enum IdTokenCheck {
    Good,
    UnknownKey,
    Bad(String),
}
