//! Workloads: programs that present the identity token (a JWT) of a trusted platform (RFC 7523, section 2.1).

use super::client::require_grant;
use super::http::{OAuthError, Params, Reply};
use super::issuer::Issuer;
use super::options::{Client, GrantType};
use super::state::Grant;
use super::tokens::token_response;

/// Handles the JWT bearer grant. Its tokens are refreshed with a new assertion, so there is no refresh token (RFC 7521,
/// section 4.1).
pub(super) fn jwt_bearer(issuer: &Issuer, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    require_grant(client, GrantType::JwtBearer)?;
    let Some(grant) = workload_grant(issuer, client, form.required("assertion")?, form)? else {
        return Err(OAuthError::invalid_grant("the assertion is not a valid identity token of the trusted platform"));
    };
    token_response(issuer, &grant, None, None)
}

/// Returns the authorization of the workload that presents `token`, for the requested scopes and audiences; `None` if the
/// token is invalid. It must be for this issuer or its token endpoint (RFC 7523, section 3).
pub(super) fn workload_grant(
    issuer: &Issuer,
    client: &Client,
    token: &str,
    form: &Params,
) -> Result<Option<Grant>, OAuthError> {
    let (mut scopes, audiences) = (form.scopes()?, form.audiences()?);
    scopes.retain(|scope| scope != "openid" && scope != "offline_access");
    let own = [issuer.url.clone(), format!("{}/token", issuer.url)];
    let keys = issuer.options.platform_keys.as_ref();
    let workload = keys.and_then(|keys| keys.subject(token, &own, issuer.now()));
    let client_id = client.id.clone();
    Ok(workload.map(|subject| Grant {
        client_id,
        login: None,
        workload: Some(subject),
        scopes,
        audiences,
        nonce: None,
        jkt: form.jkt.clone(),
    }))
}
