//! Who is asking: client authentication, and the parameters that many requests share.

use aws_lc_rs::constant_time;

use super::Core;
use super::bounded::hashed;
use super::options::{Client, GrantKind};
use super::wire::{OAuthError, Params, Request};
use crate::secret::Secret;

/// The client that sent a request, authenticated where it is confidential (RFC 6749, section 2.3).
pub(super) fn authenticated<'a>(core: &'a Core, request: &Request, form: &Params) -> Result<&'a Client, OAuthError> {
    let basic = request.basic();
    let posted = form.one("client_secret").map(|secret| Secret::new(secret.to_owned()));
    let (id, secret) = match (basic, posted) {
        (Some(_), Some(_)) => return Err(OAuthError::invalid_request("two ways of client authentication")),
        (Some((id, secret)), None) => {
            if form.one("client_id").is_some_and(|said| said != id) {
                return Err(OAuthError::invalid_client());
            }
            (id, (!secret.is_empty()).then_some(secret))
        }
        (None, posted) => (form.one("client_id").ok_or_else(OAuthError::invalid_client)?.to_owned(), posted),
    };
    let client = find(core, &id).ok_or_else(OAuthError::invalid_client)?;
    let right = match (&client.secret, &secret) {
        (None, None) => true,
        // Hashes have one length, so that comparing tells nothing of the secret's.
        (Some(known), Some(said)) => {
            constant_time::verify_slices_are_equal(&hashed(known.expose()), &hashed(said.expose())).is_ok()
        }
        (None, Some(_)) | (Some(_), None) => false,
    };
    if right { Ok(client) } else { Err(OAuthError::invalid_client()) }
}

/// The client with this identifier.
pub(super) fn find<'a>(core: &'a Core, id: &str) -> Option<&'a Client> {
    core.options.clients.iter().find(|client| client.id == id)
}

/// Refuses a grant that the client may not use.
pub(super) fn may(client: &Client, grant: GrantKind) -> Result<(), OAuthError> {
    if client.grants.contains(&grant) {
        Ok(())
    } else {
        Err(OAuthError::bad("unauthorized_client", "this client may not use this grant"))
    }
}

/// The scopes asked for (RFC 6749, section 3.3), without repetition.
pub(super) fn scopes(form: &Params) -> Result<Vec<String>, OAuthError> {
    let text = form.one("scope").unwrap_or_default();
    let mut scopes: Vec<String> = Vec::new();
    for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
        let good = scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if !good || scope.len() > 256 || scopes.len() >= 64 {
            return Err(OAuthError::bad("invalid_scope", "a scope is malformed, or there are too many"));
        }
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    Ok(scopes)
}

/// The audiences asked for, by `audience` or `resource` (RFC 8707, section 2).
pub(super) fn audiences(form: &Params) -> Result<Vec<String>, OAuthError> {
    let resources = form.all("resource");
    for resource in &resources {
        if url::Url::parse(resource).is_err() || resource.contains('#') {
            return Err(OAuthError::bad("invalid_target", "a resource must be an absolute URI without a fragment"));
        }
    }
    let mut all = form.all("audience");
    all.extend(resources);
    all.dedup();
    if all.len() > 16 || all.iter().any(|audience| audience.len() > 1024) {
        return Err(OAuthError::bad("invalid_target", "too many audiences, or too long"));
    }
    Ok(all)
}
