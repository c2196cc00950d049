//! Stores the result of a refresh: the tokens first, then the rest, which may need the network again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::received_tokens::{fill_expiry, unusable_tokens};
use super::refresh_failure::issuer_failure;
use super::refresh_policy::TokenRequest;
use super::session_end::refreshes_extend;
use super::stores::current_session;
use super::trust::trusted_keys;
use super::unsaved::StoreOutcome;
use super::{HeldProfile, LoginReason, SessionError, SessionService};
use crate::model::{Profile, ProfileName, Session, TokenSet, TokenTarget, Trust};
use crate::oauth::repeats_secret;
use crate::secret::Secret;
use crate::verify::{unverified_claims, verify_id_token};

impl SessionService {
    /// Stores the issuer's reply to a refresh for `request` of the session `before`, and returns the session as stored.
    ///
    /// Until it is stored, nothing is read or sent and no other file is opened: a process that is killed in between loses it.
    pub(super) async fn commit(
        self: &Arc<Self>,
        profile: &Profile,
        request: &TokenRequest,
        before: Session,
        mut new: TokenSet,
        trust: Result<Trust, SessionError>,
        held: &mut Option<HeldProfile>,
    ) -> Result<Session, SessionError> {
        let target = request.target();
        let mut session = Session {
            generation: before.generation.next(),
            refreshing_since: None,
            refreshing_lock: None,
            ..before.clone()
        };
        // The new refresh token is stored even if the access token is unusable: the old one may be spent.
        if let Some(rotated) = new.refresh_token.take() {
            session.tokens.refresh_token = Some(rotated);
            session.tokens.refresh_expires_at = None;
        }
        if let Some(at) = new.refresh_expires_at.take() {
            session.tokens.refresh_expires_at = Some(at);
        }
        session.history.refreshes_extend = refreshes_extend(&before, &session, new.obtained_at);
        // An issuer may rotate at some refreshes only.
        session.rotates = Some(before.rotates == Some(true) || !session.has_refresh_token_of(&before));
        session.has_older_id_token |= target.is_plain();
        let mut unchecked = None;
        if let Some(id_token) = new.id_token.take() {
            let check = match has_other_nonce(&before, &id_token) {
                true => IdTokenCheck::Invalid("claim `nonce` is not that of the login".to_owned()),
                false => self.refreshed_id_token(profile, &session, trust.as_ref().ok(), &id_token),
            };
            match check {
                IdTokenCheck::Valid => self.use_id_token(profile, &mut session, id_token),
                IdTokenCheck::UnknownKey => unchecked = Some(id_token),
                IdTokenCheck::Invalid(why) => self.ignore_id_token(profile, &session, &id_token, &why),
            }
        }
        let unusable = unusable_tokens(profile, &new, before.dpop_key.as_ref());
        if let Some(error) = &unusable {
            tracing::info!("{}: the refreshed token is not stored", profile.name);
            session.last_failure = Some(issuer_failure(&session, error, self.clock.now()));
        } else {
            session.refreshed_at = Some(new.obtained_at);
            session.last_failure = None;
            fill_expiry(&mut new);
            session.apply_tokens(&target, new);
        }
        match self.store_refreshed(profile, &session, &before, held).await? {
            StoreOutcome::Done => self.write_token_files(profile, Some(&session), Some(&before)).await,
            // A login in the meantime is never overwritten.
            StoreOutcome::Replaced(stored) => return self.replaced(profile, *stored, &target),
            StoreOutcome::Later => {
                self.write_token_files(profile, Some(&session), Some(&before)).await;
                return unusable.map_or(Ok(session), |error| Err(error.into()));
            }
        }
        if let Some(error) = unusable {
            return Err(error.into());
        }
        match trust {
            Ok(trust) => self.update_trust_after_refresh(profile, &mut session, trust, unchecked).await,
            Err(error) => tracing::warn!("cannot read the issuer's trusted keys: {error}"),
        }
        Ok(session)
    }

    /// Returns the session that another process has stored in the meantime, such as that of a login, if it has a token for
    /// `target`.
    pub(super) fn replaced(
        &self,
        profile: &Profile,
        stored: Session,
        target: &TokenTarget,
    ) -> Result<Session, SessionError> {
        let stored = current_session(profile, Some(stored))?;
        match (self.required_login(profile, &stored), stored.token_for(target)) {
            (Some(error), _) => Err(error),
            (None, Some(_)) => Ok(stored),
            (None, None) => Err(SessionError::LoginRequired(LoginReason::NoSession(profile.name.clone()))),
        }
    }

    /// Returns the profiles whose refreshed ID token is ignored, each with the reason. Each is returned once.
    #[must_use]
    pub fn take_ignored_id_tokens(&self) -> BTreeMap<ProfileName, String> {
        self.ignored_id_tokens.take()
    }

    fn use_id_token(&self, profile: &Profile, session: &mut Session, id_token: Secret) {
        session.tokens.id_token = Some(id_token);
        session.has_older_id_token = false;
        self.ignored_id_tokens.remove(&profile.name);
    }

    /// Reports why the new ID token of `session` is ignored. A reason quotes claims, which may repeat a token.
    fn ignore_id_token(&self, profile: &Profile, session: &Session, id_token: &Secret, why: &str) {
        let tokens = &session.tokens;
        let secrets = [Some(&tokens.access_token), tokens.refresh_token.as_ref(), Some(id_token)];
        let secrets: Vec<Secret> = secrets.into_iter().flatten().cloned().collect();
        let why = if repeats_secret(&secrets, why) { "a claim is invalid" } else { why };
        if self.ignored_id_tokens.add(profile.name.clone(), why.to_owned()) {
            tracing::warn!("{}: the refreshed ID token is ignored: {why}", profile.name);
        }
    }

    /// Fetches the issuer's keys if they are due, and stores an ID token that only the newer keys verify.
    pub(super) async fn update_trust_after_refresh(
        &self,
        profile: &Profile,
        session: &mut Session,
        trust: Trust,
        unchecked: Option<Secret>,
    ) {
        let stored = session.tokens.id_token.iter().chain([&session.tokens.access_token]);
        let others = session.others.last().map(|other| &other.tokens.access_token);
        let tokens: Vec<&Secret> = unchecked.iter().chain(stored).chain(others).collect();
        let Some(trust) = self.update_trust(profile, &trust, &tokens).await else { return };
        let Some(id_token) = unchecked else { return };
        let why = match self.refreshed_id_token(profile, session, Some(&trust), &id_token) {
            IdTokenCheck::Valid => {
                self.use_id_token(profile, session, id_token);
                if let Err(error) = self.write(profile, session).await {
                    tracing::info!("the refreshed ID token was not stored: {error}");
                }
                return self.write_token_files(profile, Some(session), None).await;
            }
            IdTokenCheck::UnknownKey => "no trusted key verifies its signature".to_owned(),
            IdTokenCheck::Invalid(why) => why,
        };
        self.ignore_id_token(profile, session, &id_token, &why);
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
            Ok(_) => IdTokenCheck::Valid,
            Err(_) if !keys.verifies(id_token.expose()) => IdTokenCheck::UnknownKey,
            Err(reasons) => IdTokenCheck::Invalid(reasons.first().map(|r| r.message.clone()).unwrap_or_default()),
        }
    }
}

/// Returns whether a refreshed ID token has another nonce than the login's (OpenID Connect Core 1.0, section 12.2). The refreshed
/// ID tokens between may have none.
fn has_other_nonce(before: &Session, id_token: &Secret) -> bool {
    let nonce = |token: &Secret| unverified_claims(token.expose()).and_then(|claims| claims.nonce);
    match (before.tokens.id_token.as_ref().map(nonce), nonce(id_token)) {
        (Some(Some(own)), Some(found)) => own != found,
        (Some(None), Some(_)) => before.refreshed_at.is_none(),
        _ => false,
    }
}

enum IdTokenCheck {
    Valid,
    UnknownKey,
    Invalid(String),
}
