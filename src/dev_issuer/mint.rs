//! Makes tokens: access tokens (RFC 9068 or random), ID tokens, refresh tokens, and the reply that carries them.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::bounded::{hashed, sha256};
use super::keys::{encode, random_text};
use super::state::{Access, Family, Granted, Login, Refresh, State};
use super::wire::{OAuthError, Reply, json as json_reply};
use super::{Core, status_list};
use crate::clock::UnixTime;
use crate::secret::Secret;

/// Notes a new family, with a refresh token where `offline_access` was granted.
pub(super) fn begin_family(
    core: &Core,
    state: &mut State,
    granted: &Granted,
    now: UnixTime,
) -> Result<(u64, Option<Secret>), OAuthError> {
    if granted.login.as_ref().is_some_and(|login| !state.stands(login)) {
        return Err(OAuthError::invalid_grant("the login is over"));
    }
    let id = state.next_family;
    state.next_family += 1;
    let refreshable = granted.scopes.iter().any(|scope| scope == "offline_access");
    let refresh = if refreshable { Some(random_text()?) } else { None };
    let ends = now.plus(core.options.refresh_token_ttl);
    state.families.insert(id, Family { granted: granted.clone(), ends, uses: 0, revoked: false });
    if let Some(token) = &refresh {
        state.refreshes.insert(hashed(token.expose()), Refresh { family: id, spent: None });
    }
    Ok((id, refresh))
}

/// What `acr` and `amr` say of a login.
fn how(login: &Login) -> (&'static str, Value) {
    if login.otp { ("aal2", json!(["pwd", "otp", "mfa"])) } else { ("aal1", json!(["pwd"])) }
}

/// Makes the tokens for `granted` and the reply with them (RFC 6749, section 5.1). [`super::keys::Keys::complete`]
/// comes first.
pub(super) fn tokens_reply(
    core: &Core,
    granted: &Granted,
    family: Option<u64>,
    refresh: Option<&Secret>,
) -> Result<Reply, OAuthError> {
    #[derive(Serialize)]
    struct Body<'a> {
        access_token: &'a str,
        token_type: &'static str,
        expires_in: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        refresh_token: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id_token: Option<&'a str>,
        scope: String,
    }
    let access_token = access_token(core, granted, family)?;
    let id_token = match &granted.login {
        Some(login) if granted.scopes.iter().any(|scope| scope == "openid") => {
            Some(id_token(core, granted, login, &access_token)?)
        }
        _ => None,
    };
    let body = Body {
        access_token: access_token.expose(),
        token_type: "Bearer",
        expires_in: core.options.access_token_ttl.as_secs(),
        refresh_token: refresh.map(Secret::expose),
        id_token: id_token.as_ref().map(Secret::expose),
        scope: granted.scopes.join(" "),
    };
    Ok(json_reply(StatusCode::OK, &body))
}

/// The audience of an access token (RFC 9068, section 2.2): text where it is one, as it nearly always is.
pub(super) fn audience(core: &Core, granted: &Granted) -> Value {
    match granted.audiences.as_slice() {
        [] => json!(core.options.default_audience.as_deref().unwrap_or(&granted.client_id)),
        [one] => json!(one),
        several => json!(several),
    }
}

fn access_token(core: &Core, granted: &Granted, family: Option<u64>) -> Result<Secret, OAuthError> {
    let now = core.now();
    let ends = now.plus(core.options.access_token_ttl);
    let jti = random_text()?.expose().to_owned();
    let serial = status_list::take_serial(core);
    let token = if core.options.opaque_access_tokens {
        random_text()?
    } else {
        let mut claims = Map::new();
        claims.insert("iss".into(), json!(core.issuer));
        claims.insert("sub".into(), json!(core.subject(granted)));
        claims.insert("aud".into(), audience(core, granted));
        claims.insert("client_id".into(), json!(granted.client_id));
        claims.insert("iat".into(), json!(now));
        claims.insert("exp".into(), json!(ends));
        claims.insert("jti".into(), json!(jti));
        if !granted.scopes.is_empty() {
            claims.insert("scope".into(), json!(granted.scopes.join(" ")));
        }
        if let Some(serial) = serial {
            claims.insert("status".into(), status_list::claim(core, serial));
        }
        if let Some(login) = &granted.login {
            let (acr, amr) = how(login);
            claims.insert("auth_time".into(), json!(login.at));
            claims.insert("acr".into(), json!(acr));
            claims.insert("amr".into(), amr);
            claims.insert("sid".into(), json!(login.sid));
        }
        core.keys.sign("at+jwt", &Value::Object(claims))?
    };
    let access =
        Access { family, granted: granted.clone(), issued: now, ends, jti, revoked: false, suspended: false, serial };
    let mut state = core.state();
    state.accesses.insert(hashed(token.expose()), access);
    state.stats.access_tokens += 1;
    Ok(token)
}

fn id_token(core: &Core, granted: &Granted, login: &Login, access_token: &Secret) -> Result<Secret, OAuthError> {
    let now = core.now();
    let (acr, amr) = how(login);
    let mut claims = json!({
        "iss": core.issuer,
        "sub": core.subject(granted),
        "aud": granted.client_id,
        "azp": granted.client_id,
        "iat": now,
        "exp": now.plus(core.options.id_token_ttl),
        "auth_time": login.at,
        "acr": acr,
        "amr": amr,
        "sid": login.sid,
        // The left half of the hash of the algorithm; EdDSA on Ed25519 hashes with SHA-512 (OpenID Connect Core 1.0,
        // section 3.1.3.6).
        "at_hash": at_hash(core, access_token),
    });
    if let Some(nonce) = &granted.nonce {
        claims["nonce"] = json!(nonce);
    }
    for (name, value) in profile(core, granted) {
        claims[name] = value;
    }
    Ok(core.keys.sign("JWT", &claims)?)
}

fn at_hash(core: &Core, access_token: &Secret) -> String {
    let bytes = access_token.expose().as_bytes();
    if core.keys.signs_with_sha512() {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, bytes);
        encode(&hash.as_ref()[..32])
    } else {
        encode(&sha256(bytes)[..16])
    }
}

/// The claims that tell who the user is, as far as the scopes go (OpenID Connect Core 1.0, section 5.4).
pub(super) fn profile(core: &Core, granted: &Granted) -> Vec<(&'static str, Value)> {
    let Some(login) = &granted.login else { return Vec::new() };
    let mut claims = vec![("preferred_username", json!(login.user))];
    if granted.scopes.iter().any(|scope| scope == "profile")
        && let Some(account) = core.state().accounts.find(&login.user)
    {
        claims.push(("name", json!(account.display_name)));
    }
    if granted.scopes.iter().any(|scope| scope == "email") {
        claims.push(("email", json!(format!("{}@localhost.invalid", login.user))));
        claims.push(("email_verified", json!(false)));
    }
    claims
}
