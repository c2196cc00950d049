//! Verifies the tokens of a login, and stores them as the profile's session.

use std::sync::Arc;
use std::time::Duration;

use super::send_refresh::unusable_tokens;
use super::session_end::history_after;
use super::stores::current_session;
use super::trust::trusted_keys;
use super::{SessionError, SessionService};
use crate::clock::UnixTime;
use crate::model::{Generation, Grant, PinnedKeys, Profile, Session, Subject, TokenSet, Trust, TrustedKeys};
use crate::oauth::{DpopKey, Metadata, random, token_exchange, userinfo};
use crate::secret::Secret;
use crate::verify::{
    IdTokenPolicy, KeySet, Policy, Reason, ReasonCode, Verdict, looks_like_jwt, verify, verify_id_token,
};

/// How long a login tries to store its session after the first attempt, and the waits in between, which double.
const STORE_LIMIT: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The tokens of a login, before they are verified.
#[derive(Debug)]
pub struct NewLogin {
    /// The grant that issued them.
    pub grant: Grant,
    /// The token response.
    pub tokens: TokenSet,
    /// The nonce sent, which the ID token must repeat (OpenID Connect Core 1.0, section 3.1.3.7).
    pub nonce: Option<Secret>,
    /// A confidential client's secret, stored for refreshes.
    pub client_secret: Option<Secret>,
    /// The key of which proofs were sent with the requests.
    pub dpop_key: Option<DpopKey>,
    /// The requested `max_age` (OpenID Connect Core 1.0, section 3.1.3.7).
    pub max_auth_age: Option<Duration>,
    /// Keys to pin with the login.
    pub pinned: Option<PinnedKeys>,
}

/// A login whose tokens are verified, and that is not stored.
#[derive(Debug)]
pub struct VerifiedLogin {
    session: Session,
    keys: Option<TrustedKeys>,
    /// The trust record before the login.
    trust: Trust,
    /// Whether the stored trust record is damaged.
    trust_damaged: bool,
    pinned: Option<PinnedKeys>,
    pinned_before: Option<PinnedKeys>,
    acr: Option<String>,
    /// Whether it may replace the session of another account in a store that only another process reads.
    replace: bool,
}

impl VerifiedLogin {
    /// Returns the session to be stored.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the authentication context class of the ID token (`acr`).
    #[must_use]
    pub fn acr(&self) -> Option<&str> {
        self.acr.as_deref()
    }

    /// Returns whether the stored record of the issuer's keys, which may include pinned ones, is damaged. It is replaced.
    #[must_use]
    pub fn is_trust_damaged(&self) -> bool {
        self.trust_damaged
    }

    /// Returns whether `stored` belongs to another account, or may do so because only one of the two has a subject.
    #[must_use]
    pub fn replaces_other_account(&self, stored: &Session) -> bool {
        is_other_account(stored, &self.session)
    }

    /// Sets whether it may replace the session of another account that only the agent can read.
    #[must_use]
    pub fn replacing(self, replace: bool) -> Self {
        Self { replace, ..self }
    }
}

/// Returns whether a session belongs to another account than one that is stored, or may do so because only one of the two has a
/// subject.
pub(super) fn is_other_account(stored: &Session, session: &Session) -> bool {
    let sub = |session: &Session| session.subject.as_ref().map(|subject| subject.sub.clone());
    stored.issuer != session.issuer || sub(stored) != sub(session)
}

/// Returns the policy for the profile's ID tokens.
pub(super) fn id_token_policy<'a>(
    profile: &'a Profile,
    nonce: Option<&'a Secret>,
    access_token: Option<&'a Secret>,
    now: UnixTime,
) -> IdTokenPolicy<'a> {
    IdTokenPolicy {
        nonce: nonce.map(Secret::expose),
        access_token,
        ..IdTokenPolicy::new(profile.issuer.as_str(), &profile.client_id, now)
    }
}

impl SessionService {
    /// Verifies the tokens of a login with the issuer's keys: the ID token in full, a supplied JWT access token by
    /// signature, issuer and expiry. Stores nothing.
    ///
    /// # Errors
    /// [`SessionError::NotVerified`], or [`SessionError::Issuer`], also if the tokens are not bearer tokens.
    pub async fn verify_login(
        &self,
        profile: &Profile,
        metadata: &Metadata,
        login: NewLogin,
    ) -> Result<VerifiedLogin, SessionError> {
        let NewLogin { grant, mut tokens, nonce, client_secret, dpop_key, max_auth_age, pinned } = login;
        let dpop_key_stored = dpop_key.as_ref().map(DpopKey::to_stored);
        if let Some(unusable) = unusable_tokens(profile, &tokens, dpop_key_stored.as_ref()) {
            return Err(unusable.into());
        }
        let now = self.clock.now();
        Self::fill_expiry(&mut tokens);
        let api = grant == Grant::Password && profile.server.api.login.is_some();
        if grant != Grant::Token && !api {
            tokens.fill_scope(&profile.scopes);
        }
        let (mut trust, trust_damaged) = self.trust_at_login(profile).await?;
        let pinned_before = trust.pinned.clone();
        if pinned.is_some() {
            trust.pinned.clone_from(&pinned);
        }
        let fetched = self.fetch_keys(profile, metadata).await;
        // Published keys are not needed if keys are pinned, or if there is nothing to verify now.
        let needed = trust.pinned.is_none() && (tokens.id_token.is_some() || grant == Grant::Token);
        let keys = match fetched {
            Ok(keys) => keys,
            Err(error) if !needed => {
                tracing::warn!("the issuer's keys could not be fetched: {error}");
                None
            }
            Err(error) => return Err(error),
        };
        let (set, _) = trusted_keys(&Trust { fetched: keys.clone(), ..trust.clone() }, now);
        // A supplied access token is the only proof of its issuer; one of a login API is, if the user named its keys.
        let must_verify = grant == Grant::Token || (api && pinned.is_some());
        let mut acr = None;
        let subject = match &tokens.id_token {
            Some(id_token) => {
                let policy = IdTokenPolicy {
                    max_auth_age,
                    ..id_token_policy(profile, nonce.as_ref(), Some(&tokens.access_token), now)
                };
                let claims = verify_id_token(id_token.expose(), &set, &policy)
                    .map_err(|reasons| SessionError::NotVerified { what: "ID token", reasons })?;
                acr = claims.acr;
                Some(Subject { sub: claims.sub, name: claims.name })
            }
            None if max_auth_age.is_some() => {
                let message = "the issuer sent no ID token, so the time of the sign-in is unknown";
                let reasons = vec![Reason::new(ReasonCode::MissingClaim, message)];
                return Err(SessionError::NotVerified { what: "sign-in", reasons });
            }
            None => match access_token_subject(profile, must_verify, &tokens, &set, now)? {
                None if !grant.is_unattended() => {
                    self.fetch_subject(profile, metadata, &tokens, dpop_key.as_ref()).await
                }
                subject => subject,
            },
        };
        let subject = match subject {
            // The name may be known to the userinfo endpoint alone, which must mean the same user (OpenID Connect Core 1.0,
            // section 5.3.2).
            Some(subject) if subject.name.is_none() && !grant.is_unattended() => {
                let found = self.fetch_subject(profile, metadata, &tokens, dpop_key.as_ref()).await;
                Some(found.filter(|found| found.sub == subject.sub).unwrap_or(subject))
            }
            subject => subject,
        };
        Ok(VerifiedLogin {
            keys,
            trust,
            trust_damaged,
            pinned,
            pinned_before,
            acr,
            replace: false,
            session: Session {
                subject,
                client_secret,
                dpop_key: dpop_key_stored,
                offers_exchange: metadata.offers_grant(token_exchange::GRANT_TYPE),
                resources: requested_resources(profile, grant),
                ..Session::new(
                    Generation { login: random()?, number: 0 },
                    profile.issuer.clone(),
                    profile.client_id.clone(),
                    grant,
                    tokens,
                    now,
                )
            },
        })
    }

    /// Fetches the subject of the access token from the userinfo endpoint. A failure is only logged.
    async fn fetch_subject(
        &self,
        profile: &Profile,
        metadata: &Metadata,
        tokens: &TokenSet,
        key: Option<&DpopKey>,
    ) -> Option<Subject> {
        let http = self.http(profile).await.ok()?;
        let bound_to = key.filter(|_| tokens.is_bound()).map(|key| (key, &*self.clock));
        match userinfo::fetch(&http, metadata.userinfo_endpoint.as_ref()?, &tokens.access_token, bound_to).await {
            Ok(subject) => Some(subject),
            Err(error) => {
                tracing::info!("the subject was not fetched from the userinfo endpoint: {error}");
                None
            }
        }
    }

    /// Stores the new session, calls `save_profile`, and deletes the session that the profile has in the store that it moves
    /// away from. No signal interrupts it, and no refresh runs in between. Returns the error if the session in the old store
    /// could not be deleted. `configured` is the profile as it is saved so far.
    ///
    /// The login is complete when the profile is saved. If it is interrupted before, the profile still has the session that
    /// it had, or the new one of the same issuer and client.
    ///
    /// # Errors
    /// The error of `save_profile`, [`SessionError::Store`] or [`SessionError::Lock`]. The old session and the pinned keys
    /// are then what they were, as far as the store could be written.
    pub async fn commit_login<E: From<SessionError> + Send + 'static>(
        self: &Arc<Self>,
        profile: &Profile,
        login: VerifiedLogin,
        configured: Option<Profile>,
        save_profile: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> Result<Option<SessionError>, E> {
        let lock = self.lock(profile).await?;
        let signals = self.hold_off_signals().await;
        let (sessions, profile) = (Arc::clone(self), profile.clone());
        let task = tokio::spawn(async move {
            let _until_done = (lock, signals);
            sessions.commit_login_locked(&profile, login, configured.as_ref(), save_profile).await
        });
        task.await.unwrap_or_else(|_| Err(SessionError::Interrupted.into()))
    }

    async fn commit_login_locked<E: From<SessionError>>(
        &self,
        profile: &Profile,
        login: VerifiedLogin,
        configured: Option<&Profile>,
        save_profile: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<SessionError>, E> {
        let before = match self.replaceable(profile).await {
            Err(SessionError::Store(error)) if error.is_session_lost() => None,
            before => before?,
        };
        let mut session = login.session;
        if let Some(before) = before.as_ref().filter(|before| before.belongs_to(profile)) {
            session.history = history_after(before);
        }
        session.replaces = configured
            .filter(|configured| configured.store == profile.store && !session.belongs_to(configured))
            .and_then(|configured| current_session(configured, before.clone()).ok())
            .map(Box::new);
        let stored = async {
            // Before the session is stored, so that it is never verified with other keys than those to be pinned.
            if let Some(pinned) = login.pinned.clone() {
                if login.trust_damaged {
                    self.reset_damaged_trust(profile).await?;
                }
                self.change_trust(profile, move |trust| trust.pinned = Some(pinned)).await?;
            }
            self.store_login(profile, &session).await?;
            // Before the profile is saved and the session in the store that it moves away from is deleted.
            let (name, replace) = (profile.name.clone(), login.replace);
            self.with_store(profile.store, profile.name.as_str(), move |store| store.hand_over(&name, replace)).await
        };
        if let Err(error) = stored.await.map_err(E::from).and_then(|()| save_profile()) {
            self.undo_login(profile, &session, before).await;
            // A damaged record may have had pinned keys: nothing but the new ones may be trusted in their place.
            if let Some(pinned) = login.pinned.filter(|_| !login.trust_damaged) {
                self.undo_pin(profile, pinned, login.pinned_before).await;
            }
            return Err(error);
        }
        if session.replaces.take().is_some()
            && let Err(error) = self.write(profile, &session).await
        {
            tracing::info!("{}: the replaced session stays stored: {error}", profile.name);
        }
        self.write_token_files(profile, Some(&session)).await;
        self.store_trust_of_login(profile, login.keys, &session, (&login.trust, login.trust_damaged)).await;
        match configured.filter(|configured| configured.store != profile.store) {
            Some(old) => Ok(self.delete_moved(old, profile).await.err()),
            None => Ok(None),
        }
    }

    /// Stores the session of a login, and keeps trying for a while. A store that failed may have stored it all the same, as a
    /// keychain that did not respond in time: then the login has succeeded.
    async fn store_login(&self, profile: &Profile, session: &Session) -> Result<(), SessionError> {
        let (start, mut wait) = (self.clock.monotonic(), FIRST_WAIT);
        loop {
            let Err(error) = self.write(profile, session).await else { return Ok(()) };
            match self.stored(profile).await {
                Ok(Some(stored)) if stored.generation == session.generation => return Ok(()),
                _ if self.clock.monotonic().saturating_duration_since(start) >= STORE_LIMIT => return Err(error),
                _ => tracing::warn!("cannot store the session, trying again: {error}"),
            }
            self.clock.sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
        }
    }

    /// Restores the session that a failed login has replaced. A failure is only logged: the caller reports why the login
    /// failed, and the new session is in use.
    async fn undo_login(&self, profile: &Profile, session: &Session, before: Option<Session>) {
        let restored = match (self.stored(profile).await, before) {
            (Ok(Some(stored)), before) if stored.generation == session.generation => match before {
                Some(before) => self.write(profile, &before).await,
                None => self.delete(profile).await.map(drop),
            },
            (Ok(_), _) => Ok(()),
            // Left alone: a write that the store did not confirm may still follow.
            (Err(error), _) => Err(error),
        };
        if let Err(error) = restored {
            tracing::warn!("{}: the replaced session was not restored: {error}", profile.name);
        }
    }

    /// Restores the keys that were pinned before a failed login. A failure is only logged.
    async fn undo_pin(&self, profile: &Profile, pinned: PinnedKeys, before: Option<PinnedKeys>) {
        let restore = move |trust: &mut Trust| {
            if trust.pinned.as_ref() == Some(&pinned) {
                trust.pinned = before;
            }
        };
        if let Err(error) = self.change_trust(profile, restore).await {
            tracing::warn!("{}: the keys of the failed login stay pinned: {error}", profile.name);
        }
    }

    /// Deletes the session that the profile `old` has in the store that it moves away from.
    async fn delete_moved(&self, old: &Profile, new: &Profile) -> Result<(), SessionError> {
        // The lock of the new one is held, and may be the same.
        let is_same = self.locks.of(old.store) == self.locks.of(new.store);
        let _lock = if is_same { None } else { Some(self.lock(old).await?) };
        self.delete(old).await.map(drop)
    }

    /// Waits until no process refreshes or changes the profile's session.
    ///
    /// # Errors
    /// [`SessionError::Lock`].
    pub async fn wait_for_lock(&self, profile: &Profile) -> Result<(), SessionError> {
        self.lock(profile).await?.release().await;
        Ok(())
    }
}

/// Returns the subject of a JWT access token. With `must_verify`, one that is not the issuer's or not valid is an error.
fn access_token_subject(
    profile: &Profile,
    must_verify: bool,
    tokens: &TokenSet,
    keys: &KeySet,
    now: UnixTime,
) -> Result<Option<Subject>, SessionError> {
    let token = tokens.access_token.expose();
    if !looks_like_jwt(token) {
        return Ok(None);
    }
    let policy = Policy {
        optional_claims: profile.requirements.optional_claims.clone(),
        ..Policy::new(profile.issuer.as_str(), profile.expected_audiences(), now)
    };
    let reasons = match verify(token, keys, &policy) {
        Verdict::Granted(granted) => return Ok(subject_of(&granted.claims)),
        Verdict::Denied(reasons) => reasons,
    };
    let fatal = |code: ReasonCode| {
        matches!(
            code,
            ReasonCode::Malformed
                | ReasonCode::InvalidSignature
                | ReasonCode::UnknownKey
                | ReasonCode::AlgorithmNotAllowed
                | ReasonCode::UnsupportedHeader
                | ReasonCode::Expired
                | ReasonCode::WrongIssuer
        )
    };
    if must_verify && reasons.iter().any(|reason| fatal(reason.code)) {
        return Err(SessionError::NotVerified { what: "access token", reasons });
    }
    Ok(None)
}

/// Returns the resources that the login requested. Supplied tokens were requested elsewhere.
fn requested_resources(profile: &Profile, grant: Grant) -> Vec<String> {
    if grant == Grant::Token { Vec::new() } else { profile.own_request().resources }
}

fn subject_of(claims: &serde_json::Map<String, serde_json::Value>) -> Option<Subject> {
    let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
    Some(Subject { sub: text("sub")?.to_owned(), name: Subject::display_name(text) })
}

#[cfg(test)]
mod tests;
