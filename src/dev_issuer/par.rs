//! Pushed authorization requests (RFC 9126).

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use super::authorize;
use super::client;
use super::crypto::{hash, random_token};
use super::http::{OAuthError, Reply, Request, json};
use super::issuer::Issuer;
use super::state::PushedRequest;

/// What references begin with (section 2.2).
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// How long a reference can be used.
const TTL: Duration = Duration::from_secs(60);

/// Stores a request, and returns the reference to it.
pub(super) fn push(issuer: &Issuer, request: &Request) -> Result<Reply, OAuthError> {
    #[derive(Serialize)]
    struct Body {
        request_uri: String,
        expires_in: u64,
    }
    let form = request.form()?;
    let client_id = client::authenticate(issuer, request, &form)?.id.clone();
    authorize::check(&client_id, &form)?;
    let reference = format!("{PREFIX}{}", random_token()?.expose());
    let expires_at = issuer.now().plus(TTL);
    issuer.state().pushed.insert(hash(&reference), PushedRequest { client_id, parameters: form, expires_at });
    Ok(json(StatusCode::CREATED, &Body { request_uri: reference, expires_in: TTL.as_secs() }))
}
