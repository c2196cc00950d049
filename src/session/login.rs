//! Verifies the tokens of a login.

mod commit;

use std::time::Duration;

use super::received_tokens::{fill_expiry, unusable_tokens};
use super::trust::trusted_keys;
use super::{SessionError, SessionService};
use crate::clock::UnixTime;
use crate::model::{Generation, Grant, PinnedKeys, Profile, Session, Subject, TokenSet, Trust, TrustedKeys};
use crate::oauth::{DpopKey, Metadata, random, repeats_secret, token_exchange, userinfo};
use crate::secret::Secret;
use crate::verify::{
    IdTokenPolicy, KeySet, Policy, Reason, ReasonCode, Verdict, looks_like_jwt, verify, verify_id_token,
};

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
        fill_expiry(&mut tokens);
        let api = grant == Grant::Password && profile.server.api.login.is_some();
        if grant != Grant::Token && !api {
            tokens.fill_scope(&profile.scopes);
        }
        let (mut trust, trust_damaged) = self.trust_at_login(profile).await?;
        let pinned_before = trust.pinned.clone();
        if pinned.is_some() {
            trust.pinned.clone_from(&pinned);
        }
        let fetched = self.fetch_keys(profile, metadata, trust.fetched.as_ref()).await;
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
        // The name is shown. Without it, the subject is.
        let secrets = [Some(&tokens.access_token), tokens.refresh_token.as_ref(), client_secret.as_ref()];
        let secrets: Vec<Secret> = secrets.into_iter().flatten().cloned().collect();
        let is_shown = |name: &String| !repeats_secret(&secrets, name);
        let subject = subject.map(|Subject { sub, name }| Subject { sub, name: name.filter(is_shown) });
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
