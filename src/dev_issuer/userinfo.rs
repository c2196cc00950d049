//! The userinfo endpoint (OpenID Connect Core 1.0, section 5.3).

use hyper::{StatusCode, header};
use serde_json::{Map, json};

use super::Core;
use super::bounded::hashed;
use super::mint::profile;
use super::wire::{Reply, Request, empty, json as json_reply, set};

/// Tells who the bearer's token is for. Refusals are RFC 6750, section 3.
pub(super) fn userinfo(core: &Core, request: &Request) -> Reply {
    let refuse = |status, challenge: &str| {
        let mut reply = empty(status);
        set(&mut reply, header::WWW_AUTHENTICATE, challenge);
        reply
    };
    let Some(token) = request.bearer() else { return refuse(StatusCode::UNAUTHORIZED, "Bearer") };
    let granted = core.state().access(&hashed(token), core.now()).map(|access| access.granted.clone());
    let Some(granted) = granted else {
        return refuse(StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\"");
    };
    if granted.login.is_none() || !granted.scopes.iter().any(|scope| scope == "openid") {
        return refuse(StatusCode::FORBIDDEN, "Bearer error=\"insufficient_scope\", scope=\"openid\"");
    }
    let mut claims = Map::new();
    claims.insert("sub".into(), json!(core.subject(&granted)));
    for (name, value) in profile(core, &granted) {
        claims.insert(name.into(), value);
    }
    json_reply(StatusCode::OK, &claims)
}
