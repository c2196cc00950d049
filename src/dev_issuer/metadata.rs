//! The metadata documents (RFC 8414, OpenID Connect Discovery 1.0) and the JWK Set.

use hyper::{StatusCode, header};
use serde_json::json;

use super::http::{Reply, json as json_reply, set_header};
use super::issuer::Issuer;
use super::token::offered_grants;

/// Returns the metadata, with a wrong issuer identifier if `mismatch`.
pub(super) fn metadata(issuer: &Issuer, mismatch: bool) -> Reply {
    let at = |path: &str| format!("{}/{path}", issuer.url);
    let identifier = if mismatch { at("another") } else { issuer.url.clone() };
    let methods = ["none", "client_secret_basic", "client_secret_post"];
    let body = json!({
        "issuer": identifier,
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
        "grant_types_supported": offered_grants(issuer).collect::<Vec<_>>(),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "authorization_response_iss_parameter_supported": true,
        "pushed_authorization_request_endpoint": at("par"),
        "require_pushed_authorization_requests": issuer.options.require_par,
        "dpop_signing_alg_values_supported": ["ES256"],
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

/// Returns the JWK Set (RFC 7517, section 5) when the keys of all algorithms are generated.
pub(super) async fn jwks(issuer: &Issuer) -> Reply {
    issuer.keys.complete().await;
    cacheable(json_reply(StatusCode::OK, &issuer.keys.jwks()))
}

/// Allows caching, but requires revalidation because tests rotate keys.
fn cacheable(mut reply: Reply) -> Reply {
    set_header(&mut reply, header::CACHE_CONTROL, "no-cache");
    reply.headers_mut().remove(header::PRAGMA);
    reply
}
