//! Ends tokens (RFC 7009) and tells whether they are good (RFC 7662).

use hyper::StatusCode;
use serde_json::json;

use super::Core;
use super::bounded::hashed;
use super::client::authenticated;
use super::mint::audience;
use super::token::required;
use super::wire::{OAuthError, Reply, Request, empty, json as json_reply};

/// Revokes a token: a refresh token with its whole family, an access token by itself. An unknown one is no error
/// (RFC 7009, section 2.2).
pub(super) fn revoke(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    let form = request.form()?;
    let client = authenticated(core, request, &form)?;
    let hash = hashed(required(&form, "token", "token is missing")?);
    let mut state = core.state();
    let foreign = OAuthError::bad("unauthorized_client", "the token was given to another client");
    if let Some(id) = state.refreshes.find(&hash).map(|refresh| refresh.family) {
        if state.families.find(&id).is_some_and(|family| family.granted.client_id != client.id) {
            return Err(foreign);
        }
        state.revoke_family(id);
    } else if let Some(access) = state.accesses.find_mut(&hash) {
        if access.granted.client_id != client.id {
            return Err(foreign);
        }
        access.revoked = true;
    }
    Ok(empty(StatusCode::OK))
}

/// Tells what a token is good for. A public client learns of its own tokens only; a confidential one, as a resource
/// server would be, of all.
pub(super) fn introspect(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    let form = request.form()?;
    let client = authenticated(core, request, &form)?;
    let hash = hashed(required(&form, "token", "token is missing")?);
    let may_see = |client_id: &str| client.secret.is_some() || client.id == client_id;
    let state = core.state();
    let now = core.now();
    let body = if let Some(access) = state.access(&hash, now).filter(|a| may_see(&a.granted.client_id)) {
        let mut body = json!({
            "active": true,
            "token_type": "Bearer",
            "iss": core.issuer,
            "client_id": access.granted.client_id,
            "aud": audience(core, &access.granted),
            "scope": access.granted.scopes.join(" "),
            "iat": access.issued,
            "exp": access.ends,
            "jti": access.jti,
        });
        if let Some(login) = &access.granted.login {
            body["username"] = json!(login.user);
            body["sub"] = json!(state.accounts.find(&login.user).map(|account| &account.sub));
        } else {
            body["sub"] = json!(access.granted.client_id);
        }
        body
    } else {
        let live = state.refreshes.find(&hash).filter(|refresh| refresh.spent.is_none()).and_then(|refresh| {
            let family = state.families.find(&refresh.family)?;
            let stands = family.granted.login.as_ref().is_some_and(|login| state.stands(login));
            (!family.revoked && stands && now < family.ends && may_see(&family.granted.client_id)).then_some(family)
        });
        match live {
            Some(family) => json!({
                "active": true,
                "token_type": "refresh_token",
                "iss": core.issuer,
                "client_id": family.granted.client_id,
                "scope": family.granted.scopes.join(" "),
                "exp": family.ends,
            }),
            None => json!({"active": false}),
        }
    };
    Ok(json_reply(StatusCode::OK, &body))
}
