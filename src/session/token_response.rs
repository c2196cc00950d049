//! What is reported of a token that is served, by the command line and by the agent.

use super::refresh_policy::RequestedToken;
use super::{LoginReason, SessionError, SessionService};
use crate::agent::protocol::TokenResponse;
use crate::clock::UnixTime;
use crate::model::{Profile, Session, canonical_type};
use crate::secret::Secret;
use crate::verify::unverified_claims;

impl SessionService {
    /// Returns what is reported at `now` of the `requested` token of `session`. `warning` is why it was not refreshed: only
    /// one that a login would resolve is reported, and not for an ID token, which issuers rarely send again early.
    ///
    /// # Errors
    /// [`SessionError::LoginRequired`] if the ID token is requested and the session has none.
    pub fn token_response<'a>(
        profile: &'a Profile,
        session: &'a Session,
        requested: &RequestedToken,
        warning: Option<&SessionError>,
        now: UnixTime,
    ) -> Result<TokenResponse<'a>, SessionError> {
        let (id_token, tokens) = match requested {
            RequestedToken::Access(target) => (None, session.token_for(target).unwrap_or(&session.tokens)),
            RequestedToken::Id => match &session.tokens.id_token {
                Some(id_token) => (Some(id_token), &session.tokens),
                None => {
                    return Err(SessionError::LoginRequired(LoginReason::NoIdToken { scopes: profile.scopes.clone() }));
                }
            },
        };
        let expires_at = match id_token {
            Some(id_token) => unverified_claims(id_token.expose()).and_then(|claims| claims.exp),
            None => tokens.expires_at,
        };
        let warning = match warning {
            Some(SessionError::LoginRequired(reason)) if id_token.is_none() => Some(reason.to_string()),
            _ => None,
        };
        Ok(TokenResponse {
            profile: Some(&profile.name),
            access_token: id_token.is_none().then(|| tokens.access_token.expose()),
            id_token: id_token.map(Secret::expose),
            token_type: if id_token.is_some() { "Bearer" } else { canonical_type(&tokens.token_type) },
            expires_at,
            expires_in: expires_at.map(|end| now.until(end).as_secs()),
            scope: tokens.scope.as_deref(),
            issuer: Some(profile.issuer.as_str()),
            warning,
        })
    }
}
