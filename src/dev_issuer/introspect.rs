//! The introspection endpoint (RFC 7662).

use hyper::StatusCode;
use serde_json::json;

use super::client;
use super::crypto::hash;
use super::http::{OAuthError, Reply, Request, json as json_reply};
use super::issuer::Issuer;
use super::tokens::audience;

/// Returns the state of a token. A confidential client, such as a resource server, may introspect all tokens, a public
/// one only its own.
pub(super) fn introspect(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    let form = request.form()?;
    let client = client::authenticate(issuer, request, &form)?;
    let digest = hash(form.required("token")?);
    let is_visible = |client_id: &str| client.secret.is_some() || client.id == client_id;
    let state = issuer.state();
    let now = issuer.now();
    if let Some(token) = state.valid_access_token(&digest, now).filter(|token| is_visible(&token.grant.client_id)) {
        let mut body = json!({
            "active": true,
            "token_type": if token.grant.jkt.is_some() { "DPoP" } else { "Bearer" },
            "iss": issuer.url,
            "client_id": token.grant.client_id,
            "aud": audience(issuer, &token.grant),
            "scope": token.grant.scopes.join(" "),
            "iat": token.issued_at,
            "exp": token.expires_at,
            "jti": token.jti,
        });
        if let Some(jkt) = &token.grant.jkt {
            body["cnf"] = json!({"jkt": jkt});
        }
        if let Some(login) = &token.grant.login {
            body["username"] = json!(login.user);
            body["sub"] = json!(state.accounts.find(&login.user).map(|account| &account.sub));
        } else {
            body["sub"] = json!(token.grant.workload.as_ref().unwrap_or(&token.grant.client_id));
        }
        return Ok(json_reply(StatusCode::OK, &body));
    }
    let unused = state.refresh_tokens.find(&digest).filter(|token| token.used_at.is_none());
    let family = unused.and_then(|token| state.families.find(&token.family));
    let family = family.filter(|family| state.is_refreshable(family, now) && is_visible(&family.grant.client_id));
    let body = match family {
        Some(family) => json!({
            "active": true,
            "token_type": "refresh_token",
            "iss": issuer.url,
            "client_id": family.grant.client_id,
            "scope": family.grant.scopes.join(" "),
            "exp": family.expires_at,
        }),
        None => json!({"active": false}),
    };
    Ok(json_reply(StatusCode::OK, &body))
}
