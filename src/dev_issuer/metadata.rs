//! What the issuer says of itself: its metadata (RFC 8414, OpenID Connect Discovery 1.0) and its public keys.

use hyper::{StatusCode, header};
use serde_json::json;

use super::Core;
use super::token::GRANT_TYPES;
use super::wire::{Reply, json as json_reply, set};

/// The metadata; with another issuer's name where `mismatch`.
pub(super) fn metadata(core: &Core, mismatch: bool) -> Reply {
    let issuer = &core.issuer;
    let at = |path: &str| format!("{issuer}/{path}");
    let said = if mismatch { format!("{issuer}/another") } else { issuer.clone() };
    let methods = ["none", "client_secret_basic", "client_secret_post"];
    let body = json!({
        "issuer": said,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "jwks_uri": at("jwks"),
        "userinfo_endpoint": at("userinfo"),
        "revocation_endpoint": at("revoke"),
        "introspection_endpoint": at("introspect"),
        "device_authorization_endpoint": at("device_authorization"),
        "end_session_endpoint": at("logout"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": GRANT_TYPES,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "authorization_response_iss_parameter_supported": true,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "at_hash",
            "sid", "preferred_username", "name", "email", "email_verified"],
        "acr_values_supported": ["aal1", "aal2"],
        "prompt_values_supported": ["none", "login", "consent"],
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    });
    cacheable(json_reply(StatusCode::OK, &body))
}

/// The JWK Set (RFC 7517, section 5), once every algorithm has its key.
pub(super) async fn jwks(core: &Core) -> Reply {
    core.keys.complete().await;
    cacheable(json_reply(StatusCode::OK, &core.keys.jwks()))
}

/// What is public may be kept, but the issuer's next word counts at once: tests rotate keys.
fn cacheable(mut reply: Reply) -> Reply {
    set(&mut reply, header::CACHE_CONTROL, "no-cache");
    reply.headers_mut().remove(header::PRAGMA);
    reply
}
