//! Token issuance: access tokens (RFC 9068 or opaque), ID tokens, refresh tokens, and the token response.

use aws_lc_rs::digest;
use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::crypto::{base64url, hash, random_token, sha256};
use super::http::{OAuthError, Reply, json as json_reply};
use super::issuer::Issuer;
use super::state::{AccessToken, Grant, Login, RefreshToken, State, TokenFamily};
use super::status_list;
use crate::clock::UnixTime;
use crate::secret::Secret;

/// Creates a token family, with a refresh token if `offline_access` was granted.
pub(super) fn begin_family(
    issuer: &Issuer,
    state: &mut State,
    grant: &Grant,
    now: UnixTime,
) -> Result<(u64, Option<Secret>), OAuthError> {
    if grant.login.as_ref().is_some_and(|login| !state.is_current(login)) {
        return Err(OAuthError::invalid_grant("the password was changed after the login"));
    }
    let id = state.next_family;
    state.next_family += 1;
    let refresh_token = if grant.has_scope("offline_access") { Some(random_token()?) } else { None };
    let expires_at = now.plus(issuer.options.refresh_token_ttl);
    state.families.insert(id, TokenFamily { grant: grant.clone(), expires_at, refreshes: 0, revoked: false });
    if let Some(token) = &refresh_token {
        state.refresh_tokens.insert(hash(token.expose()), RefreshToken { family: id, used_at: None });
    }
    Ok((id, refresh_token))
}

/// Returns the token response for a new token family.
pub(super) fn first_tokens(issuer: &Issuer, grant: &Grant) -> Result<Reply, OAuthError> {
    let (family, refresh_token) = begin_family(issuer, &mut issuer.state(), grant, issuer.now())?;
    token_response(issuer, grant, Some(family), refresh_token.as_ref())
}

/// Issues tokens for `grant` and returns the token response (RFC 6749, section 5.1).
/// [`super::keys::SigningKeys::complete`] must have returned.
pub(super) fn token_response(
    issuer: &Issuer,
    grant: &Grant,
    family: Option<u64>,
    refresh_token: Option<&Secret>,
) -> Result<Reply, OAuthError> {
    token_response_as(issuer, grant, family, refresh_token, None)
}

/// Returns the same with an `issued_token_type` (RFC 8693, section 2.2.1).
pub(super) fn token_response_as(
    issuer: &Issuer,
    grant: &Grant,
    family: Option<u64>,
    refresh_token: Option<&Secret>,
    issued_token_type: Option<&'static str>,
) -> Result<Reply, OAuthError> {
    #[derive(Serialize)]
    struct Body<'a> {
        access_token: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        issued_token_type: Option<&'static str>,
        token_type: &'static str,
        expires_in: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        refresh_token: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id_token: Option<&'a str>,
        scope: String,
    }
    let access_token = access_token(issuer, grant, family)?;
    let id_token = match &grant.login {
        Some(login) if grant.has_scope("openid") => Some(id_token(issuer, grant, login, &access_token)?),
        _ => None,
    };
    let body = Body {
        access_token: access_token.expose(),
        issued_token_type,
        token_type: if grant.jkt.is_some() { "DPoP" } else { "Bearer" },
        expires_in: issuer.options.access_token_ttl.as_secs(),
        refresh_token: refresh_token.map(Secret::expose),
        id_token: id_token.as_ref().map(Secret::expose),
        scope: grant.scopes.join(" "),
    };
    Ok(json_reply(StatusCode::OK, &body))
}

/// Returns the `aud` claim of an access token (RFC 9068, section 2.2): a string if there is one audience.
pub(super) fn audience(issuer: &Issuer, grant: &Grant) -> Value {
    match grant.audiences.as_slice() {
        [] => json!(issuer.options.default_audience.as_deref().unwrap_or(&grant.client_id)),
        [one] => json!(one),
        several => json!(several),
    }
}

/// Returns the `acr` and `amr` claims of a login.
fn authentication_context(login: &Login) -> (&'static str, Value) {
    if login.otp { ("aal2", json!(["pwd", "otp", "mfa"])) } else { ("aal1", json!(["pwd"])) }
}

fn access_token(issuer: &Issuer, grant: &Grant, family: Option<u64>) -> Result<Secret, OAuthError> {
    let now = issuer.now();
    let expires_at = now.plus(issuer.options.access_token_ttl);
    let jti = random_token()?.expose().to_owned();
    let serial = status_list::take_serial(issuer);
    let token = if issuer.options.opaque_access_tokens {
        random_token()?
    } else {
        let mut claims = Map::new();
        claims.insert("iss".into(), json!(issuer.url));
        claims.insert("sub".into(), json!(issuer.subject(grant)));
        claims.insert("aud".into(), audience(issuer, grant));
        claims.insert("client_id".into(), json!(grant.client_id));
        claims.insert("iat".into(), json!(now));
        claims.insert("exp".into(), json!(expires_at));
        claims.insert("jti".into(), json!(jti));
        if !grant.scopes.is_empty() {
            claims.insert("scope".into(), json!(grant.scopes.join(" ")));
        }
        if let Some(jkt) = &grant.jkt {
            claims.insert("cnf".into(), json!({"jkt": jkt}));
        }
        if let Some(serial) = serial {
            claims.insert("status".into(), status_list::claim(issuer, serial));
        }
        if let Some(login) = &grant.login {
            let (acr, amr) = authentication_context(login);
            claims.insert("auth_time".into(), json!(login.at));
            claims.insert("acr".into(), json!(acr));
            claims.insert("amr".into(), amr);
            claims.insert("sid".into(), json!(login.sid));
        }
        issuer.keys.sign("at+jwt", &Value::Object(claims))?
    };
    let stored = AccessToken {
        family,
        grant: grant.clone(),
        issued_at: now,
        expires_at,
        jti,
        revoked: false,
        suspended: false,
        serial,
    };
    let mut state = issuer.state();
    state.access_tokens.insert(hash(token.expose()), stored);
    state.stats.access_tokens += 1;
    Ok(token)
}

fn id_token(issuer: &Issuer, grant: &Grant, login: &Login, access_token: &Secret) -> Result<Secret, OAuthError> {
    let now = issuer.now();
    let (acr, amr) = authentication_context(login);
    let mut claims = json!({
        "iss": issuer.url,
        "sub": issuer.subject(grant),
        "aud": grant.client_id,
        "azp": grant.client_id,
        "iat": now,
        "exp": now.plus(issuer.options.id_token_ttl),
        "auth_time": login.at,
        "acr": acr,
        "amr": amr,
        "sid": login.sid,
        "at_hash": at_hash(issuer, access_token),
    });
    if let Some(nonce) = &grant.nonce {
        claims["nonce"] = json!(nonce);
    }
    for (name, value) in profile_claims(issuer, grant) {
        claims[name] = value;
    }
    Ok(issuer.keys.sign("JWT", &claims)?)
}

/// Returns the left half of the access token's digest, with the hash of the signature algorithm (OpenID Connect Core
/// 1.0, section 3.1.3.6).
fn at_hash(issuer: &Issuer, access_token: &Secret) -> String {
    let bytes = access_token.expose().as_bytes();
    if issuer.keys.signs_with_sha512() {
        base64url(&digest::digest(&digest::SHA512, bytes).as_ref()[..32])
    } else {
        base64url(&sha256(bytes)[..16])
    }
}

/// Returns the user's claims that the scopes allow (OpenID Connect Core 1.0, section 5.4).
pub(super) fn profile_claims(issuer: &Issuer, grant: &Grant) -> Vec<(&'static str, Value)> {
    let Some(login) = &grant.login else { return Vec::new() };
    let mut claims = vec![("preferred_username", json!(login.user))];
    if grant.has_scope("profile")
        && let Some(account) = issuer.state().accounts.find(&login.user)
    {
        claims.push(("name", json!(account.display_name)));
    }
    if grant.has_scope("email") {
        claims.push(("email", json!(format!("{}@localhost.invalid", login.user))));
        claims.push(("email_verified", json!(false)));
    }
    claims
}
