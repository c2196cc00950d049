//! Sends the request of a refresh, and checks the reply.
//!
//! Before it, the session is stored with a mark that its refresh token is about to be sent: if the reply is lost, the token
//! may be spent.

use std::time::Duration;

use super::refresh_policy::TokenRequest;
use super::stores::RESERVE;
use super::{LoginReason, SessionError, SessionService};
use crate::model::{Grant, Profile, Session, TokenSet, TokenTarget};
use crate::oauth::{
    Delivery, DpopKey, Endpoint, IssuerError, TokenEndpoint, client_credentials, login_api, refresh_token,
    token_exchange,
};
use crate::secret::Secret;
use crate::store::ProfileLock;
use crate::text::excerpt;
use crate::verify::unverified_claims;

/// The shortest wait before a request is sent once more.
const RESEND_WAIT: Duration = Duration::from_millis(300);

/// How long the first request and the wait may take. Issuers that accept a spent refresh token do so for seconds only.
const RESEND_LIMIT: Duration = Duration::from_secs(10);

impl SessionService {
    /// Checks that `session` is still the stored one, and that its lock still excludes other processes.
    async fn check_lock(&self, lock: &ProfileLock, profile: &Profile, session: &Session) -> Result<(), SessionError> {
        match self.session(profile).await {
            Ok(stored) if stored.generation == session.generation && lock.is_in_place().await => Ok(()),
            Ok(_) => Err(SessionError::LockLost),
            Err(error) => Err(error),
        }
    }

    /// Sends the refresh request, after making sure that its reply can be stored.
    pub(super) async fn send_refresh(
        &self,
        lock: &ProfileLock,
        profile: &Profile,
        request: &TokenRequest,
        session: &mut Session,
    ) -> Result<TokenSet, SessionError> {
        let target = request.target();
        let http = self.http(profile).await?;
        let metadata = self.metadata_with(profile, &[Endpoint::Token]).await?;
        session.offers_exchange = metadata.offers_grant(token_exchange::GRANT_TYPE);
        let client = self.client(profile, &metadata, session.client_secret.clone(), session.dpop_key.as_ref()).await?;
        let api = profile.login_api(session.grant);
        if api.is_some() && !target.is_plain() {
            return Err(IssuerError::Unsupported { what: "another audience, scope or resource" }.into());
        }
        if session.grant.is_unattended() {
            let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
            let parameters = if target.is_plain() { profile.own_request() } else { target };
            let tokens = match session.grant {
                Grant::Workload => self.request_as_workload(profile, &metadata, &client, &parameters).await?,
                _ => self.send(|| client_credentials::request(&endpoint, &parameters)).await?,
            };
            session.dpop_key = client.dpop.key().map(DpopKey::to_stored);
            return Ok(tokens);
        }
        let Some(token) = session.tokens.refresh_token.clone() else {
            return Err(SessionError::LoginRequired(LoginReason::NoRefreshToken));
        };
        if api.is_none() {
            // Fails before anything is written if the client cannot authenticate.
            TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        }
        // The requests above took time.
        self.check_lock(lock, profile, session).await?;
        if lock.given_up().await.is_some() {
            lock.set_given_up(None).await;
        }
        let before = (session.refreshing_since, session.refreshing_lock);
        (session.refreshing_since, session.refreshing_lock) = (Some(self.clock.now()), lock.inode());
        if let Err(error) = self.write(profile, session).await {
            // A keychain that does not respond may store the mark later. Nothing was sent.
            lock.set_given_up(session.refreshing_since).await;
            (session.refreshing_since, session.refreshing_lock) = before;
            return Err(error);
        }
        let room = session.to_stored(&profile.name).expose().len() + RESERVE;
        let prepared = match self.reserve_bytes(profile, room).await {
            // A process that locks another file from now on reads what was written above, and does not send the token too.
            Ok(()) if lock.is_in_place().await => Ok(()),
            Ok(()) => Err(SessionError::LockLost),
            Err(error) => Err(error),
        };
        if let Err(error) = prepared {
            // Nothing was sent, so the refresh token is not in doubt.
            let marked_at = std::mem::replace(&mut session.refreshing_since, before.0);
            session.refreshing_lock = before.1;
            if let Err(unwritten) = self.write(profile, session).await {
                lock.set_given_up(marked_at).await;
                tracing::warn!("cannot record that the refresh was given up: {unwritten}");
            }
            return Err(error);
        }
        if let Some(api) = api {
            let tokens = self.send(|| login_api::refresh(&http, api, &token, &*self.clock)).await;
            return tokens.map_err(|error| without_secrets(error, session));
        }
        let endpoint = TokenEndpoint::of(&http, &metadata, &client, &*self.clock)?;
        let parameters = session.request_for(&target);
        let tokens = self.send(|| refresh_token::request(&endpoint, &token, &parameters)).await;
        let tokens = tokens.map_err(|error| without_secrets(error, session))?;
        session.dpop_key = client.dpop.key().map(DpopKey::to_stored);
        Ok(tokens)
    }

    /// Sends, and at once a second time if the first request certainly did not reach the issuer, or if the response to it is
    /// lost.
    ///
    /// A server that asks to wait (`Retry-After`) is given that time, if it is short.
    ///
    /// After a lost response the refresh token may be spent. An issuer that accepts it a second time for a while, against
    /// just this, then keeps the session, and so does one that has not received it or does not rotate. One that accepts no
    /// token twice ends the session, which it would do at the next refresh too.
    pub(super) async fn send<F: Future<Output = Result<TokenSet, IssuerError>>>(
        &self,
        send: impl Fn() -> F,
    ) -> Result<TokenSet, SessionError> {
        let started = self.clock.monotonic();
        let wait = |error: &IssuerError| error.retry_after().unwrap_or_default().max(RESEND_WAIT);
        let first = match send().await {
            Err(error @ IssuerError::Unreachable { delivery: Delivery::NotSent, .. }) => error,
            Err(error)
                if error.is_response_lost()
                    && self.clock.monotonic().saturating_duration_since(started) + wait(&error) < RESEND_LIMIT =>
            {
                error
            }
            result => return Ok(result?),
        };
        self.clock.sleep(wait(&first)).await;
        match send().await {
            // Unless the issuer has refused the second one, the first may have been acted on.
            Err(second) if first.is_response_lost() && !second.is_refusal() => Err(first.into()),
            result => Ok(result?),
        }
    }
}

/// Leaves out the issuer's description of an error if it repeats a secret of the session that was not sent.
fn without_secrets(error: SessionError, session: &Session) -> SessionError {
    let TokenSet { access_token, id_token, .. } = &session.tokens;
    let secrets = [Some(access_token), id_token.as_ref(), session.client_secret.as_ref()];
    let secrets: Vec<Secret> = secrets.into_iter().flatten().cloned().collect();
    match error {
        SessionError::Issuer(IssuerError::Refused(refusal)) => IssuerError::Refused(refusal.without(&secrets)).into(),
        other => other,
    }
}

/// Returns the tokens of a reply unless they are another subject's than the session's: those of another user must not be used
/// under this one's name (OpenID Connect Core 1.0, section 12.2). Unverified claims are enough for that: they come from the token
/// endpoint, and can only cause a refusal.
pub(super) fn of_same_subject(
    session: &Session,
    request: &TokenRequest,
    tokens: TokenSet,
) -> Result<TokenSet, SessionError> {
    let claims = |token: &Secret| unverified_claims(token.expose());
    let sub = |token: &Secret| claims(token).and_then(|claims| claims.sub);
    let user = session.subject.as_ref().map(|subject| subject.sub.clone());
    // The subject of an access token may differ from the ID token's (RFC 9068, section 2.2), but not from the one before. The
    // first token for a target is of the user, or of the subject of the session's own token.
    let before = match session.token_for(&request.target()) {
        Some(before) => [sub(&before.access_token), None],
        None => [sub(&session.tokens.access_token), user.clone()],
    };
    // Another issuer has its own names for the user.
    let is_own = |iss: &String| {
        *iss == session.issuer.as_str()
            || claims(&session.tokens.access_token).and_then(|own| own.iss).as_ref() == Some(iss)
    };
    let found = claims(&tokens.access_token).filter(|found| found.iss.as_ref().is_none_or(is_own));
    let id_token = tokens.id_token.as_ref().and_then(sub);
    for (expected, found) in [([user, None], id_token), (before, found.and_then(|found| found.sub))] {
        let mut expected = expected.into_iter().flatten().peekable();
        if let (Some(first), Some(found)) = (expected.peek().cloned(), found)
            && expected.all(|expected| expected != found)
        {
            let (expected, found) = (excerpt(&first, 80), excerpt(&found, 80));
            return Err(IssuerError::OtherSubject { expected, found }.into());
        }
    }
    Ok(tokens)
}

/// Returns the error for `tokens` that cannot be used: of another type than was requested, or bound to another key than the
/// stored `key`, of which proofs were sent (RFC 9449, section 6). An opaque token does not show its key; only its use does.
pub(super) fn unusable_tokens(profile: &Profile, tokens: &TokenSet, key: Option<&Secret>) -> Option<IssuerError> {
    let unusable = IssuerError::for_token_type(tokens, key.is_some(), profile.server.dpop);
    if unusable.is_some() || !tokens.is_bound() {
        return unusable;
    }
    let bound_to = unverified_claims(tokens.access_token.expose())?.jkt?;
    match DpopKey::from_stored(key?) {
        Ok(key) => (key.thumbprint() != bound_to).then_some(IssuerError::BoundElsewhere),
        Err(error) => Some(error),
    }
}

/// Rejects a JWT that names audiences, but none of the requested ones: an issuer may ignore a parameter, and the token would
/// give the service that receives it access to another. The claims are unverified, and can only cause a refusal.
pub(super) fn check_audience(tokens: &TokenSet, target: &TokenTarget) -> Result<(), IssuerError> {
    let found = unverified_claims(tokens.access_token.expose()).map(|claims| claims.audiences).unwrap_or_default();
    let requested: Vec<&String> = target.audience.iter().chain(&target.resources).collect();
    match found.is_empty() || requested.is_empty() || requested.iter().any(|name| found.contains(name)) {
        true => Ok(()),
        false => Err(IssuerError::OtherAudience { found: quote_names(found.iter()) }),
    }
}

/// Returns names for a message, one line of at most 200 characters.
pub(super) fn quote_names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    excerpt(&quoted.join(", "), 200)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::tests::session;

    fn jwt(claims: &Value) -> String {
        let [header, claims] = [&json!({"alg": "ES256"}), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode("a signature"))
    }

    #[test]
    fn bound_token_is_used_only_with_its_key() {
        let [own, other] = [(); 2].map(|()| DpopKey::generate().expect("a key"));
        let to = |key: &DpopKey| jwt(&json!({"cnf": {"jkt": key.thumbprint()}}));
        let profile = Profile::new("work".parse().expect("a name"), "https://a.example".parse().expect("an issuer"));
        let damaged = Secret::new("AAAA".into());
        for (token, token_type, key, is_usable) in [
            (to(&own), "DPoP", Some(own.to_stored()), true),
            (to(&other), "DPoP", Some(own.to_stored()), false),
            (to(&other), "dpop", Some(own.to_stored()), false),
            (to(&own), "DPoP", None, false),
            (to(&own), "DPoP", Some(damaged), false),
            // What it is bound to does not show.
            ("opaque".to_owned(), "DPoP", Some(own.to_stored()), true),
            (jwt(&json!({})), "DPoP", Some(own.to_stored()), true),
            (jwt(&json!({"cnf": "text"})), "DPoP", Some(own.to_stored()), true),
            (to(&other), "Bearer", None, true),
        ] {
            let mut tokens = session(&token).tokens;
            tokens.token_type = token_type.to_owned();
            let unusable = unusable_tokens(&profile, &tokens, key.as_ref());
            assert_eq!(unusable.is_none(), is_usable, "{token_type} {token}: {unusable:?}");
        }
    }
}
