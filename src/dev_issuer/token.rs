//! The token endpoint (RFC 6749, section 3.2), with every grant but refresh.

use aws_lc_rs::constant_time;
use hyper::StatusCode;
use serde::Serialize;

use super::bounded::{hashed, sha256};
use super::client::{audiences, authenticated, may, scopes};
use super::keys::{encode, random_text};
use super::mint::{begin_family, tokens_reply};
use super::options::{Client, GrantKind};
use super::state::{DeviceStatus, Granted, Login, Mfa, tally};
use super::users::OtpRefused;
use super::wire::{OAuthError, Params, Reply, Request, json};
use super::{Core, refresh};
use crate::secret::Secret;

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const MFA_OTP: &str = "http://auth0.com/oauth/grant-type/mfa-otp";

/// What the metadata lists.
pub(super) const GRANT_TYPES: [&str; 6] =
    ["authorization_code", "refresh_token", DEVICE_CODE, "password", "client_credentials", MFA_OTP];

/// Answers a token request.
pub(super) async fn token(core: &Core, request: &Request) -> Reply {
    // Waited for before anything is spent, so that a client that leaves meanwhile has lost nothing.
    core.keys.complete().await;
    match answer(core, request).await {
        Ok(reply) => reply,
        Err(error) => {
            tally(&mut core.state().stats.refusals, error.code);
            error.reply()
        }
    }
}

async fn answer(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    let form = request.form()?;
    let grant = form.one("grant_type").ok_or_else(|| OAuthError::invalid_request("grant_type is missing"))?;
    let Some(grant) = GRANT_TYPES.into_iter().find(|known| *known == grant) else {
        return Err(OAuthError::bad("unsupported_grant_type", "no such grant here"));
    };
    tally(&mut core.state().stats.token_requests, grant);
    let client = authenticated(core, request, &form)?;
    let reply = match grant {
        "authorization_code" => authorization_code(core, client, &form),
        "refresh_token" => refresh::refresh(core, client, &form),
        DEVICE_CODE => device_code(core, client, &form),
        "password" => password(core, client, &form).await,
        "client_credentials" => client_credentials(core, client, &form),
        _ => mfa_otp(core, client, &form),
    }?;
    if reply.status() == StatusCode::OK {
        tally(&mut core.state().stats.token_responses, grant);
    }
    Ok(reply)
}

/// A parameter that must be there.
pub(super) fn required<'a>(form: &'a Params, name: &str, missing: &'static str) -> Result<&'a str, OAuthError> {
    form.one(name).ok_or_else(|| OAuthError::invalid_request(missing))
}

fn first_tokens(core: &Core, granted: &Granted) -> Result<Reply, OAuthError> {
    let (family, refresh) = begin_family(core, &mut core.state(), granted, core.now())?;
    tokens_reply(core, granted, Some(family), refresh.as_ref())
}

fn authorization_code(core: &Core, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    may(client, GrantKind::AuthorizationCode)?;
    let hash = hashed(required(form, "code", "code is missing")?);
    let redirect_uri = required(form, "redirect_uri", "redirect_uri is missing")?;
    let verifier = required(form, "code_verifier", "code_verifier is missing")?;
    let audiences = audiences(form)?;
    let refused = OAuthError::invalid_grant("the code is unknown, spent, expired, or for another request");
    let (granted, family, refresh) = {
        let mut state = core.state();
        let now = core.now();
        let Some(code) = state.codes.find_mut(&hash).filter(|code| code.granted.client_id == client.id) else {
            return Err(refused);
        };
        if code.spent {
            if let Some(family) = code.gave {
                state.revoke_family(family);
            }
            return Err(refused);
        }
        code.spent = true;
        let challenge = encode(&sha256(verifier.as_bytes()));
        let proven = (43..=128).contains(&verifier.len())
            && constant_time::verify_slices_are_equal(challenge.as_bytes(), code.challenge.as_bytes()).is_ok();
        if now >= code.ends || code.redirect_uri != redirect_uri || !proven {
            return Err(refused);
        }
        let mut granted = code.granted.clone();
        let (family, refresh) = begin_family(core, &mut state, &granted, now)?;
        if let Some(code) = state.codes.find_mut(&hash) {
            code.gave = Some(family);
        }
        if !audiences.is_empty() {
            granted.audiences = audiences;
        }
        (granted, family, refresh)
    };
    tokens_reply(core, &granted, Some(family), refresh.as_ref())
}

/// A token request may name the audience of this token (RFC 8707, section 2.2).
pub(super) fn narrow_audience(granted: &mut Granted, form: &Params) -> Result<(), OAuthError> {
    let asked = audiences(form)?;
    if !asked.is_empty() {
        granted.audiences = asked;
    }
    Ok(())
}

fn device_code(core: &Core, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    may(client, GrantKind::DeviceCode)?;
    let hash = hashed(required(form, "device_code", "device_code is missing")?);
    let unknown = || OAuthError::invalid_grant("the device code is unknown or spent");
    let granted = {
        let mut state = core.state();
        let (now, moment) = (core.now(), core.options.clock.monotonic());
        let device = state.devices.find_mut(&hash).filter(|d| d.client_id == client.id).ok_or_else(unknown)?;
        if now >= device.ends {
            return Err(OAuthError::bad("expired_token", "the device code has expired"));
        }
        let too_fast = device
            .polled
            .replace(moment)
            .is_some_and(|last| moment.saturating_duration_since(last).as_secs_f64() < device.interval as f64);
        match &device.status {
            DeviceStatus::Pending if too_fast => {
                device.interval += 5;
                return Err(OAuthError::bad("slow_down", "polled too fast"));
            }
            DeviceStatus::Pending => return Err(OAuthError::bad("authorization_pending", "nobody has answered yet")),
            DeviceStatus::Denied => return Err(OAuthError::bad("access_denied", "the user said no")),
            DeviceStatus::Approved(_) => {}
        }
        let device = state.devices.remove(&hash).ok_or_else(unknown)?;
        let DeviceStatus::Approved(login) = device.status else { return Err(unknown()) };
        let (scopes, audiences) = (device.scopes, device.audiences);
        Granted { client_id: device.client_id, login: Some(login), scopes, audiences, nonce: None }
    };
    first_tokens(core, &granted)
}

fn client_credentials(core: &Core, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    may(client, GrantKind::ClientCredentials)?;
    if client.secret.is_none() {
        return Err(OAuthError::bad("unauthorized_client", "this grant is for confidential clients"));
    }
    let mut scopes = scopes(form)?;
    // There is nobody to be told of and nothing to refresh (RFC 6749, section 4.4.3).
    scopes.retain(|scope| scope != "openid" && scope != "offline_access");
    let granted =
        Granted { client_id: client.id.clone(), login: None, scopes, audiences: audiences(form)?, nonce: None };
    tokens_reply(core, &granted, None, None)
}

/// Why a password was not taken.
pub(super) enum PasswordRefused {
    Wrong,
    /// Seconds to wait.
    TooMany(u64),
}

/// Checks a password, off the runtime's thread and few at a time, since it is made to be slow.
pub(super) async fn check_password(core: &Core, name: &str, password: &str) -> Result<Login, PasswordRefused> {
    let (hash, epoch) = {
        let mut state = core.state();
        let epoch = state.accounts.find(name).map(|account| account.epoch);
        let now = core.options.clock.monotonic();
        (state.accounts.start_try(name, now).map_err(PasswordRefused::TooMany)?, epoch)
    };
    let password = Secret::new(password.to_owned());
    let right = {
        let _turn = core.hashing.acquire().await;
        tokio::task::spawn_blocking(move || hash.matches(&password)).await.unwrap_or(false)
    };
    let mut state = core.state();
    let (Some(epoch), true) = (epoch, right) else {
        state.stats.wrong_tries += 1;
        return Err(PasswordRefused::Wrong);
    };
    state.accounts.password_was_right(name);
    let sid = random_text().map_err(|_| PasswordRefused::Wrong)?.expose().to_owned();
    Ok(Login { user: name.to_owned(), epoch, at: core.now(), otp: false, sid })
}

async fn password(core: &Core, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    #[derive(Serialize)]
    struct MfaRequired<'a> {
        error: &'static str,
        error_description: &'static str,
        mfa_token: &'a str,
    }
    may(client, GrantKind::Password)?;
    let name = required(form, "username", "username is missing")?;
    let password = required(form, "password", "password is missing")?;
    let (scopes, audiences) = (scopes(form)?, audiences(form)?);
    let login = check_password(core, name, password).await.map_err(|refused| match refused {
        PasswordRefused::Wrong => OAuthError::invalid_grant("wrong user name or password"),
        PasswordRefused::TooMany(seconds) => OAuthError::too_many_tries(seconds),
    })?;
    let granted = Granted { client_id: client.id.clone(), login: Some(login), scopes, audiences, nonce: None };
    if !core.state().accounts.find(name).is_some_and(super::users::Account::has_second_factor) {
        return first_tokens(core, &granted);
    }
    let token = random_text()?;
    let mut state = core.state();
    let ends = core.now().plus(std::time::Duration::from_secs(300));
    state.mfas.insert(hashed(token.expose()), Mfa { granted, ends, tries: 0 });
    tally(&mut state.stats.refusals, "mfa_required");
    let body = MfaRequired {
        error: "mfa_required",
        error_description: "Multifactor authentication required",
        mfa_token: token.expose(),
    };
    Ok(json(StatusCode::FORBIDDEN, &body))
}

/// The second half of a password grant with a one-time code. An mfa_token is good for five minutes and five tries.
fn mfa_otp(core: &Core, client: &Client, form: &Params) -> Result<Reply, OAuthError> {
    may(client, GrantKind::Password)?;
    let hash = hashed(required(form, "mfa_token", "mfa_token is missing")?);
    let otp = required(form, "otp", "otp is missing")?;
    let granted = {
        let mut state = core.state();
        let now = core.now();
        let unknown = || OAuthError::invalid_grant("the mfa_token is unknown, spent or expired");
        let mfa = state.mfas.find_mut(&hash).filter(|m| m.granted.client_id == client.id).ok_or_else(unknown)?;
        mfa.tries += 1;
        if now >= mfa.ends || mfa.tries > 5 {
            state.mfas.remove(&hash);
            return Err(unknown());
        }
        let name = mfa.granted.login.as_ref().map(|login| login.user.clone()).ok_or_else(unknown)?;
        match state.accounts.check_otp(&name, otp, core.options.clock.monotonic(), now) {
            Ok(()) => {}
            Err(OtpRefused::TooMany(seconds)) => return Err(OAuthError::too_many_tries(seconds)),
            Err(OtpRefused::Wrong) => {
                state.stats.wrong_tries += 1;
                return Err(OAuthError::invalid_grant("wrong one-time code"));
            }
        }
        let mut granted = state.mfas.remove(&hash).ok_or_else(unknown)?.granted;
        if let Some(login) = &mut granted.login {
            login.otp = true;
        }
        granted
    };
    first_tokens(core, &granted)
}
