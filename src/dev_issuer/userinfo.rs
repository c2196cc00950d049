//! The userinfo endpoint (OpenID Connect Core 1.0, section 5.3).

use hyper::{StatusCode, header};
use serde_json::{Map, json};

use super::crypto::hash;
use super::dpop::{add_nonce, proven_key};
use super::http::{Reply, Request, empty, json as json_reply, set_header};
use super::issuer::Issuer;
use super::tokens::profile_claims;

/// Returns the claims of the token's user. Errors follow RFC 6750, section 3, and RFC 9449, section 7.1.
pub(super) fn userinfo(issuer: &Issuer, request: &Request) -> Reply {
    let mut reply = claims(issuer, request);
    if request.bound_token().is_some() {
        add_nonce(issuer, &mut reply);
    }
    reply
}

fn claims(issuer: &Issuer, request: &Request) -> Reply {
    let reject = |status, challenge: &str| {
        let mut reply = empty(status);
        set_header(&mut reply, header::WWW_AUTHENTICATE, challenge);
        reply
    };
    let (token, jkt) = match (request.bearer(), request.bound_token()) {
        (Some(token), _) => (token, None),
        (None, Some(token)) => match proven_key(issuer, request, "userinfo", Some(token)) {
            Ok(jkt) => (token, jkt),
            Err(error) => return reject(StatusCode::UNAUTHORIZED, &format!("DPoP error=\"{}\"", error.code)),
        },
        (None, None) => return reject(StatusCode::UNAUTHORIZED, "Bearer"),
    };
    let grant = issuer.state().valid_access_token(&hash(token), issuer.now()).map(|token| token.grant.clone());
    let Some(grant) = grant.filter(|grant| grant.jkt == jkt) else {
        return reject(StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\"");
    };
    if grant.login.is_none() || !grant.has_scope("openid") {
        return reject(StatusCode::FORBIDDEN, "Bearer error=\"insufficient_scope\", scope=\"openid\"");
    }
    let mut claims = Map::new();
    claims.insert("sub".into(), json!(issuer.subject(&grant)));
    for (name, value) in profile_claims(issuer, &grant) {
        claims.insert(name.into(), value);
    }
    json_reply(StatusCode::OK, &claims)
}
