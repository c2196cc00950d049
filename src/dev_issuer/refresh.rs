//! Refresh (RFC 6749, section 6): rotation, and what happens when a spent refresh token comes back.

use super::Core;
use super::bounded::hashed;
use super::client::scopes;
use super::keys::random_text;
use super::mint::tokens_reply;
use super::options::Client;
use super::state::Refresh;
use super::token::{narrow_audience, required};
use super::wire::{OAuthError, Params, Reply};

/// Spends a refresh token. Everything is checked and committed under one lock: of simultaneous uses of one token exactly
/// one wins.
pub(super) fn refresh(core: &Core, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    let hash = hashed(required(form, "refresh_token", "refresh_token is missing")?);
    let narrowed = scopes(form)?;
    let over = || OAuthError::invalid_grant("the refresh token is unknown, spent, revoked or expired");
    let (granted, family, next) = {
        let mut state = core.state();
        let state = &mut *state;
        let now = core.now();
        let moment = core.options.clock.monotonic();
        let refresh = state.refreshes.find(&hash).ok_or_else(over)?;
        let id = refresh.family;
        let spent = refresh.spent;
        let family = state.families.find(&id).filter(|f| f.granted.client_id == client.id).ok_or_else(over)?;
        let stands = family.granted.login.as_ref().is_some_and(|login| state.stands(login));
        if family.revoked || !stands || now >= family.ends {
            if spent.is_some() {
                state.stats.refresh_reuses += 1;
            }
            return Err(over());
        }
        let in_grace = |at| moment.saturating_duration_since(at) < core.options.reuse_grace;
        if let Some(at) = spent
            && !in_grace(at)
        {
            state.stats.refresh_reuses += 1;
            state.revoke_family(id);
            return Err(over());
        }
        if core.options.refresh_token_uses.is_some_and(|most| family.uses >= most) {
            return Err(over());
        }
        let mut granted = family.granted.clone();
        granted.nonce = None;
        if form.one("scope").is_some() {
            if !narrowed.iter().all(|scope| granted.scopes.contains(scope)) {
                return Err(OAuthError::bad("invalid_scope", "more than was granted"));
            }
            granted.scopes = narrowed;
        }
        narrow_audience(&mut granted, form)?;
        let next = if core.options.rotate_refresh_tokens { Some(random_text()?) } else { None };
        if let Some(family) = state.families.find_mut(&id) {
            family.uses = family.uses.saturating_add(1);
        }
        if let Some(token) = &next {
            if let Some(refresh) = state.refreshes.find_mut(&hash) {
                refresh.spent.get_or_insert(moment);
            }
            state.refreshes.insert(hashed(token.expose()), Refresh { family: id, spent: None });
        }
        state.stats.refreshes_committed += 1;
        (granted, id, next)
    };
    tokens_reply(core, &granted, Some(family), next.as_ref())
}
