//! From a grant's tokens to a stored session: checked first, stored second, and only then in place of the old one.

use std::sync::Arc;
use std::time::Duration;

use super::trust::keys_of;
use super::{SessionError, SessionService};
use crate::clock::UnixTime;
use crate::model::{
    Generation, Grant, PinnedKeys, Profile, ProfileName, Session, Subject, TokenSet, Trust, TrustedKeys,
};
use crate::oauth::{IssuerError, Metadata, userinfo};
use crate::secret::Secret;
use crate::verify::{
    IdTokenPolicy, KeySet, Policy, Reason, ReasonCode, Verdict, looks_like_jwt, verify, verify_id_token,
};

/// What a grant brought.
#[derive(Debug)]
pub struct NewLogin {
    /// Which grant.
    pub grant: Grant,
    /// The token response.
    pub tokens: TokenSet,
    /// The nonce sent, which the ID token must repeat (OpenID Connect Core 1.0, section 3.1.3.7).
    pub nonce: Option<Secret>,
    /// A confidential client's secret, kept for refreshes.
    pub client_secret: Option<Secret>,
    /// How long ago the user may have signed in, where that was asked for (OpenID Connect Core 1.0, section 3.1.3.7).
    pub max_auth_age: Option<Duration>,
    /// Keys that are trusted from now on, and no others.
    pub pinned: Option<PinnedKeys>,
}

/// A session that is checked but not stored yet.
#[derive(Debug)]
pub struct PreparedLogin {
    session: Session,
    keys: Option<TrustedKeys>,
    /// What was trusted before, and whether it could not be read.
    kept: (Trust, bool),
    /// Keys to pin with it.
    pinned: Option<PinnedKeys>,
    acr: Option<String>,
}

impl PreparedLogin {
    /// The session as it will be stored.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// How strongly the user signed in, where the ID token says so (`acr`).
    #[must_use]
    pub fn acr(&self) -> Option<&str> {
        self.acr.as_deref()
    }

    /// Whether what was kept of the issuer's keys, pinned ones perhaps, could not be read and goes.
    #[must_use]
    pub fn lost_trust(&self) -> bool {
        self.kept.1
    }

    /// Whether it would replace a session that is somebody else's, or may be because only one of them says whose it is.
    #[must_use]
    pub fn replaces_another(&self, stored: &Session) -> bool {
        let sub = |session: &Session| session.subject.as_ref().map(|subject| subject.sub.clone());
        stored.issuer != self.session.issuer || sub(stored) != sub(&self.session)
    }
}

/// What an ID token for the profile must be.
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
    /// Fetches the issuer's keys and checks what a grant brought: the ID token in full, a handed-in JWT access token by
    /// signature, issuer and expiry. Stores nothing.
    ///
    /// # Errors
    /// [`SessionError::NotVerified`] or [`SessionError::Issuer`], which it also is where the tokens are no bearer tokens.
    pub async fn prepare_login(
        &self,
        profile: &Profile,
        metadata: &Metadata,
        login: NewLogin,
    ) -> Result<PreparedLogin, SessionError> {
        let NewLogin { grant, mut tokens, nonce, client_secret, max_auth_age, pinned } = login;
        if let Some(unusable) = IssuerError::of_type(&tokens) {
            return Err(unusable.into());
        }
        let now = self.clock.now();
        Self::fill_expiry(&mut tokens);
        let api = grant == Grant::Password && profile.server.api.login.is_some();
        if grant != Grant::Token && !api {
            Self::fill_scope(&mut tokens, &profile.scopes);
        }
        // Keys given by hand are not set aside by what the issuer sends.
        let (mut kept, lost_trust) = self.trust_at_login(profile).await?;
        if pinned.is_some() {
            kept.pinned.clone_from(&pinned);
        }
        let fetched = self.fetch_keys(profile, metadata).await;
        // Without an ID token nothing here needs the keys: offline `verify` will say that there are none. Where some are
        // pinned, those that are fetched decide nothing.
        let needed = kept.pinned.is_none() && (tokens.id_token.is_some() || grant == Grant::Token);
        let keys = match fetched {
            Ok(keys) => keys,
            Err(error) if !needed => {
                tracing::warn!("the issuer's keys could not be fetched: {error}");
                None
            }
            Err(error) => return Err(error),
        };
        let known = Trust { fetched: keys.clone(), ..kept.clone() };
        let (set, _) = keys_of(&known, now);
        // Where nothing else says whose it is, and the keys are the user's word.
        let by_itself = grant == Grant::Token || (api && pinned.is_some());
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
                let message = "the issuer sent no ID token, and so not when the user signed in";
                let reasons = vec![Reason::new(ReasonCode::MissingClaim, message)];
                return Err(SessionError::NotVerified { what: "sign-in", reasons });
            }
            None => match Self::access_token_subject(profile, by_itself, &tokens, &set, now)? {
                None if grant != Grant::ClientCredentials => self.ask_who(profile, metadata, &tokens).await,
                subject => subject,
            },
        };
        Ok(PreparedLogin {
            keys,
            kept: (kept, lost_trust),
            pinned,
            acr,
            session: Session {
                generation: Generation { login: random_id(), number: 0 },
                issuer: profile.issuer.clone(),
                client_id: profile.client_id.clone(),
                grant,
                subject,
                tokens,
                others: Vec::new(),
                client_secret,
                resources: asked_for(profile, grant),
                logged_in_at: now,
                refreshed_at: None,
                refreshing_since: None,
                last_failure: None,
                ended: None,
            },
        })
    }

    /// Asks the issuer whose an access token is that does not say so itself; nobody is no failure.
    async fn ask_who(&self, profile: &Profile, metadata: &Metadata, tokens: &TokenSet) -> Option<Subject> {
        let http = self.http(profile).ok()?;
        match userinfo::fetch(&http, metadata.userinfo_endpoint.as_ref()?, &tokens.access_token).await {
            Ok(subject) => Some(subject),
            Err(error) => {
                tracing::info!("the issuer does not say who signed in: {error}");
                None
            }
        }
    }

    /// Whose access token it is. One that stands `by_itself` must be the issuer's and valid, if it is a JWT.
    fn access_token_subject(
        profile: &Profile,
        by_itself: bool,
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
                    | ReasonCode::BadSignature
                    | ReasonCode::UnknownKey
                    | ReasonCode::AlgorithmNotAllowed
                    | ReasonCode::UnsupportedHeader
                    | ReasonCode::Expired
                    | ReasonCode::WrongIssuer
            )
        };
        if by_itself && reasons.iter().any(|reason| fatal(reason.code)) {
            return Err(SessionError::NotVerified { what: "access token", reasons });
        }
        Ok(None)
    }

    /// Puts the new session in the old one's place, does `also`, and deletes what is left of the profile in the store that it
    /// `leaves`; nothing of it is cut short, and no refresh comes between. Gives why something is still left there.
    ///
    /// # Errors
    /// [`SessionError::Store`] or [`SessionError::Lock`], and what `also` fails with; the old session is then still there.
    pub async fn commit_login<E: From<SessionError> + Send + 'static>(
        self: &Arc<Self>,
        profile: &Profile,
        login: PreparedLogin,
        leaves: Option<Profile>,
        also: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> Result<Option<SessionError>, E> {
        let lock = self.lock(&profile.name).await?;
        let uncut = Arc::clone(&self.underway).read_owned().await;
        let (sessions, profile) = (Arc::clone(self), profile.clone());
        let task = tokio::spawn(async move {
            let _until_done = (lock, uncut);
            sessions.commit_locked(&profile, login, leaves.as_ref(), also).await
        });
        task.await.unwrap_or_else(|_| Err(SessionError::Cut.into()))
    }

    async fn commit_locked<E: From<SessionError>>(
        &self,
        profile: &Profile,
        login: PreparedLogin,
        leaves: Option<&Profile>,
        also: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<SessionError>, E> {
        let (kept, lost) = &login.kept;
        // Before the session is there: it is never judged by keys that the user did not name.
        if let Some(pinned) = login.pinned {
            if *lost {
                self.trust_nothing(profile).await?;
            }
            self.change_trust(profile, move |trust| trust.pinned = Some(pinned)).await?;
        }
        let before = self.stored(profile).await.ok().flatten();
        self.write(profile, &login.session).await?;
        if let Err(error) = also() {
            match before {
                Some(before) => self.write(profile, &before).await?,
                None => self.delete(profile).await.map(drop)?,
            }
            return Err(error);
        }
        self.learn(profile, login.keys, &login.session, (kept, *lost)).await;
        Ok(match leaves {
            Some(old) => self.delete(old).await.err(),
            None => None,
        })
    }

    /// Waits until nobody refreshes or changes the profile's session.
    ///
    /// # Errors
    /// [`SessionError::Lock`].
    pub async fn await_turn(&self, name: &ProfileName) -> Result<(), SessionError> {
        self.lock(name).await.map(drop)
    }
}

/// The resources that a login named. Tokens got elsewhere were asked for by somebody else.
fn asked_for(profile: &Profile, grant: Grant) -> Vec<String> {
    if grant == Grant::Token { Vec::new() } else { profile.own_request().resources }
}

fn subject_of(claims: &serde_json::Map<String, serde_json::Value>) -> Option<Subject> {
    let text = |name: &str| claims.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let name = text("preferred_username").or_else(|| text("email")).or_else(|| text("name"));
    Some(Subject { sub: text("sub")?, name })
}

/// 128 random bits in hexadecimal.
fn random_id() -> String {
    let mut bytes = [0u8; 16];
    // The id tells two logins apart and guards nothing: a failing system generator leaves it all zeros.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
