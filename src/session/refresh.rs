//! Handing out a valid token, and refreshing it once among any number of callers and processes.
//!
//! The promises: one refresh for all who wait; a refresh token is not sent again while its first sending may still be
//! answered; a refreshed session is stored before anybody gets its token; only the issuer's parsed `invalid_grant` ends
//! a session; a token that is still valid is handed out through every failure.

use std::sync::Arc;
use std::time::Duration;

use super::{LoginReason, RESERVE, SessionError, SessionService, in_doubt};
use crate::clock::UnixTime;
use crate::model::{
    ErrorCode, Freshness, Grant, MinTtl, Profile, RefreshFailure, Session, TokenSet, TokenTarget, freshness,
};
use crate::oauth::{Endpoint, IssuerError, Reached, TokenEndpoint, client_credentials, json_api, refresh};

/// How badly a token is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// One with this much life left; the kept one where it has.
    ValidFor(MinTtl),
    /// A new one. Satisfied by a refresh that ends while the caller waits, whoever asked for it.
    New,
}

/// A token to hand out.
#[derive(Debug)]
pub struct ServedToken {
    /// The token, with its end and scope.
    pub tokens: TokenSet,
    /// The session that it is from.
    pub session: Session,
    /// Whether this call, or one it waited for, refreshed it.
    pub refreshed: bool,
    /// Why it was not refreshed though it was time to: it is still valid, and the failure is nobody's business yet.
    pub trouble: Option<SessionError>,
}

/// How long after a failed refresh a still-valid token is handed out without another try.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(15);

/// How long a lost reply keeps a refresh token from being sent again where the access token has no known end.
const DOUBT_LIMIT: Duration = Duration::from_secs(3600);

/// What is further in the future than this was noted before the clock was set back.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// The wait before a request that certainly never arrived is sent once more.
const RESEND_WAIT: Duration = Duration::from_millis(300);

impl SessionService {
    /// A valid token for what is asked, refreshed first if it is needed.
    ///
    /// # Errors
    /// [`SessionError`]; never one because a refresh is under way, and none while the kept token has life left, unless
    /// [`Demand::New`] was asked for.
    pub async fn token(
        self: &Arc<Self>,
        profile: &Profile,
        asked: &TokenTarget,
        need: Demand,
    ) -> Result<ServedToken, SessionError> {
        let session = self.session(profile).await?;
        if let Some(served) = self.good_enough(&session, asked, need, false) {
            return Ok(served);
        }
        match self.refresh(profile, asked, need, &session).await {
            Ok(served) => Ok(served),
            Err(trouble) => self.still_valid(session, asked, need, trouble),
        }
    }

    /// The kept token, where it has the life that is needed.
    fn good_enough(
        &self,
        session: &Session,
        asked: &TokenTarget,
        need: Demand,
        refreshed: bool,
    ) -> Option<ServedToken> {
        let Demand::ValidFor(min_ttl) = need else { return None };
        let tokens = session.token_for(asked)?;
        (freshness(tokens, self.clock.now(), min_ttl) == Freshness::Fresh).then(|| ServedToken {
            tokens: tokens.clone(),
            session: session.clone(),
            refreshed,
            trouble: None,
        })
    }

    /// The kept token in spite of `trouble`, where it is valid yet and will do.
    fn still_valid(
        &self,
        session: Session,
        asked: &TokenTarget,
        need: Demand,
        trouble: SessionError,
    ) -> Result<ServedToken, SessionError> {
        let valid = session.token_for(asked).filter(|tokens| {
            need != Demand::New && freshness(tokens, self.clock.now(), MinTtl::Default) != Freshness::Expired
        });
        match valid {
            Some(tokens) => Ok(ServedToken {
                tokens: tokens.clone(),
                session: session.clone(),
                refreshed: false,
                trouble: Some(trouble),
            }),
            None => Err(trouble),
        }
    }

    /// Refreshes under the profile's lock, in a task of its own: whoever waits for it may leave, it goes on to its end.
    async fn refresh(
        self: &Arc<Self>,
        profile: &Profile,
        asked: &TokenTarget,
        need: Demand,
        seen: &Session,
    ) -> Result<ServedToken, SessionError> {
        let lock = self.lock(&profile.name).await?;
        let uncut = self.hold_off_signals().await;
        let (sessions, profile, asked, seen) = (Arc::clone(self), profile.clone(), asked.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let session = sessions.session(&profile).await?;
            let changed = session.generation != seen.generation;
            if let Some(served) = sessions.good_enough(&session, &asked, need, changed) {
                return Ok(served);
            }
            // Somebody refreshed while this caller waited: that is what it wanted, if it brought what was asked for.
            let same = |old: &TokenSet, new: &TokenSet| old.access_token.expose() == new.access_token.expose();
            if let Some(tokens) = session.token_for(&asked)
                && !seen.token_for(&asked).is_some_and(|old| same(old, tokens))
                && freshness(tokens, sessions.clock.now(), MinTtl::Default) != Freshness::Expired
            {
                return Ok(ServedToken {
                    tokens: tokens.clone(),
                    session: session.clone(),
                    refreshed: true,
                    trouble: None,
                });
            }
            let result = sessions.refresh_locked(&profile, &asked, need, &seen, session).await;
            drop(lock);
            drop(uncut);
            result
        });
        task.await.unwrap_or(Err(SessionError::Cut))
    }

    async fn refresh_locked(
        &self,
        profile: &Profile,
        asked: &TokenTarget,
        need: Demand,
        seen: &Session,
        mut session: Session,
    ) -> Result<ServedToken, SessionError> {
        if let Some(ended) = &session.ended {
            return Err(SessionError::LoginRequired(LoginReason::Ended(ended.clone())));
        }
        if !session.can_refresh() {
            return Err(SessionError::LoginRequired(LoginReason::NoRefreshToken));
        }
        if let Some(resource) = session.not_granted(asked).filter(|_| session.grant != Grant::ClientCredentials) {
            return Err(SessionError::LoginRequired(LoginReason::OtherResource { asked: resource.to_owned() }));
        }
        let now = self.clock.now();
        let kept = session.token_for(asked);
        let valid = kept.is_some_and(|tokens| freshness(tokens, now, MinTtl::Default) != Freshness::Expired);
        if let Some(failed) = &session.last_failure {
            // One from the future was noted before the clock was set back, and says nothing of how long it is.
            let past = failed.at <= now;
            let told_to_wait = past && failed.retry_at.is_some_and(|at| at > now);
            // Callers that waited while another's try failed share its outcome instead of each trying in turn.
            let shared = seen.last_failure.as_ref() != Some(failed);
            let pausing = valid && need != Demand::New && past && failed.at.plus(PAUSE_AFTER_FAILURE) > now;
            if told_to_wait || shared || pausing {
                return Err(SessionError::FailedJustNow(failed.clone()));
            }
        }
        // The reply to the last refresh was lost. The issuer may have spent the refresh token, and may end the session
        // when it sees it again: it is sent once more only when nothing else is left, also where a new one is asked for.
        let main = &session.tokens;
        if let Some(since) = session.refreshing_since
            && in_doubt_yet(main, since, now)
        {
            return Err(SessionError::FailedJustNow(RefreshFailure {
                at: since,
                code: ErrorCode::RefreshInDoubt,
                message: format!("the issuer's reply to the refresh at {since} was lost"),
                retry_at: main.expires_at,
            }));
        }
        let attempt = self.ask_issuer(profile, asked, &mut session).await;
        match attempt {
            Ok(tokens) => self.commit(profile, asked, session, tokens).await,
            Err(error) => Err(self.record_failure(profile, session, error).await),
        }
    }

    /// Sends the one request that refreshes, having made sure that its reply can be stored.
    async fn ask_issuer(
        &self,
        profile: &Profile,
        asked: &TokenTarget,
        session: &mut Session,
    ) -> Result<TokenSet, SessionError> {
        let http = self.http(profile)?;
        let metadata = self.metadata_with(profile, &[Endpoint::Token]).await?;
        let client = self.client(profile, &metadata, session.client_secret.clone())?;
        let api = profile.api_of(session.grant);
        if api.is_some() && !asked.is_plain() {
            return Err(IssuerError::Unsupported { what: "another audience, scope or resource" }.into());
        }
        if session.grant == Grant::ClientCredentials {
            let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
            let request = if asked.is_plain() { profile.own_request() } else { asked.clone() };
            return self.resend_if_never_sent(|| client_credentials::request(&endpoint, &request)).await;
        }
        let Some(token) = session.tokens.refresh_token.clone() else {
            return Err(SessionError::LoginRequired(LoginReason::NoRefreshToken));
        };
        if api.is_none() {
            // Told before anything is written down.
            TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        }
        let in_doubt_before = session.refreshing_since.replace(self.clock.now());
        self.write(profile, session).await?;
        let room = session.to_stored().expose().len() + RESERVE;
        if let Err(error) = self.make_room(profile, room).await {
            // Nothing was sent, so nothing more is in doubt.
            session.refreshing_since = in_doubt_before;
            if let Err(unwritten) = self.write(profile, session).await {
                tracing::warn!("the refresh given up was not recorded: {unwritten}");
            }
            return Err(error);
        }
        if let Some(api) = api {
            return self.resend_if_never_sent(|| json_api::refresh(&http, api, &token, &*self.clock)).await;
        }
        let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        let request = session.request_for(asked);
        self.resend_if_never_sent(|| refresh::request(&endpoint, &token, &request)).await
    }

    /// Sends, and once more if the first certainly never reached the issuer.
    async fn resend_if_never_sent<F: Future<Output = Result<TokenSet, IssuerError>>>(
        &self,
        send: impl Fn() -> F,
    ) -> Result<TokenSet, SessionError> {
        match send().await {
            Err(IssuerError::Unreachable { reached: Reached::No, .. }) => {
                self.clock.sleep(RESEND_WAIT).await;
                Ok(send().await?)
            }
            result => Ok(result?),
        }
    }

    /// Keeps what a failed try means for the session, and says what to tell the caller.
    async fn record_failure(&self, profile: &Profile, mut session: Session, error: SessionError) -> SessionError {
        let SessionError::Issuer(issuer_error) = &error else { return error };
        let over = issuer_error.ends_session() && session.grant != Grant::ClientCredentials;
        let failed = failed(issuer_error, self.clock.now());
        if over {
            session.ended = Some(failed.clone());
            session.tokens.refresh_token = None;
            // What the issuer ends, after a change of the password for one, is not granted offline for its last minutes.
            if let Err(unwritten) = self.mark_revoked(&session).await {
                tracing::warn!("the tokens of the ended session were not marked as revoked: {unwritten}");
            }
        }
        if over || !in_doubt(issuer_error) {
            session.refreshing_since = None;
        }
        session.last_failure = Some(failed.clone());
        if let Err(unwritten) = self.write(profile, &session).await {
            tracing::warn!("the failed refresh was not recorded: {unwritten}");
        }
        if over { SessionError::LoginRequired(LoginReason::Ended(failed)) } else { error }
    }
}

/// Whether a lost reply of then is reason yet to keep the refresh token back: `main` lives, as far as the clock can tell.
/// After it was set back it cannot, and a token that seems to live for days may be long over.
fn in_doubt_yet(main: &TokenSet, since: UnixTime, now: UnixTime) -> bool {
    let soon = now.plus(CLOCK_SLACK);
    let alive = match main.expires_at {
        Some(end) => end > now && main.obtained_at <= soon,
        // Of a token without a known end it is enough to wait a while.
        None => since.plus(DOUBT_LIMIT) > now,
    };
    alive && since <= soon
}

/// What is remembered of a refresh that failed.
pub(super) fn failed(error: &IssuerError, at: UnixTime) -> RefreshFailure {
    let retry_at = match error {
        IssuerError::Busy { retry_after: Some(wait), .. } => Some(at.plus(*wait)),
        _ => None,
    };
    RefreshFailure { at, code: error.code(), message: error.to_string(), retry_at }
}
