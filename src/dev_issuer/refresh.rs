//! The refresh token grant (RFC 6749, section 6) with rotation and reuse detection (RFC 9700, section 4.14.2).

use super::crypto::{hash, random_token};
use super::http::{OAuthError, Params, Reply};
use super::issuer::Issuer;
use super::options::Client;
use super::state::RefreshToken;
use super::tokens::token_response;

/// Refreshes a session. The state's mutex is held from the checks to the change, so that of several simultaneous uses of a
/// token exactly one succeeds.
pub(super) fn refresh(issuer: &Issuer, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    let digest = hash(form.required("refresh_token")?);
    let (scopes, audiences) = (form.scopes()?, form.audiences()?);
    let rejected = || OAuthError::invalid_grant("the refresh token is unknown, used, revoked or expired");
    let (grant, family_id, next) = {
        let mut guard = issuer.state();
        let state = &mut *guard;
        let now = issuer.now();
        let moment = issuer.options.clock.monotonic();
        let token = state.refresh_tokens.find(&digest).ok_or_else(rejected)?;
        let (family_id, used_at) = (token.family, token.used_at);
        let family = state.families.find(&family_id).filter(|family| family.grant.client_id == client.id);
        let family = family.ok_or_else(rejected)?;
        // The refresh token of a public client is bound to its key (RFC 9449, section 5).
        if client.secret.is_none() && family.grant.jkt.is_some() && family.grant.jkt != form.jkt {
            return Err(OAuthError::invalid_grant("the refresh token is bound to another key"));
        }
        if !state.is_refreshable(family, now) {
            if used_at.is_some() {
                state.stats.refresh_reuses += 1;
            }
            return Err(rejected());
        }
        if used_at.is_some_and(|at| moment.saturating_duration_since(at) >= issuer.options.reuse_grace) {
            state.stats.refresh_reuses += 1;
            state.revoke_family(family_id);
            return Err(rejected());
        }
        if issuer.options.refresh_token_uses.is_some_and(|limit| family.refreshes >= limit) {
            return Err(rejected());
        }
        let mut grant = family.grant.clone();
        grant.nonce = None;
        grant.jkt.clone_from(&form.jkt);
        if form.one("scope").is_some() {
            if !scopes.iter().all(|scope| grant.has_scope(scope)) {
                return Err(OAuthError::bad_request("invalid_scope", "a scope was not granted"));
            }
            grant.scopes = scopes;
        }
        if !audiences.is_empty() {
            grant.audiences = audiences;
        }
        let next = if issuer.options.rotate_refresh_tokens { Some(random_token()?) } else { None };
        if let Some(family) = state.families.find_mut(&family_id) {
            family.refreshes = family.refreshes.saturating_add(1);
        }
        if let Some(next) = &next {
            if let Some(token) = state.refresh_tokens.find_mut(&digest) {
                token.used_at.get_or_insert(moment);
            }
            state.refresh_tokens.insert(hash(next.expose()), RefreshToken { family: family_id, used_at: None });
        }
        state.stats.refreshes_committed += 1;
        (grant, family_id, next)
    };
    token_response(issuer, &grant, Some(family_id), next.as_ref())
}
