//! Device authorization (RFC 8628): the endpoint that a device asks, and the code that a person types.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::Serialize;

use super::Core;
use super::bounded::{Digest, hashed};
use super::client::{audiences, authenticated, may, scopes};
use super::keys::random_text;
use super::options::GrantKind;
use super::state::{Device, DeviceStatus, Login, State};
use super::wire::{OAuthError, Reply, Request, json};

/// Consonants that are not mistaken for each other and spell no words (RFC 8628, section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// Starts a device authorization.
pub(super) fn authorization(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    #[derive(Serialize)]
    struct Body<'a> {
        device_code: &'a str,
        user_code: &'a str,
        verification_uri: String,
        verification_uri_complete: String,
        expires_in: u64,
        interval: u64,
    }
    let form = request.form()?;
    let client = authenticated(core, request, &form)?;
    may(client, GrantKind::DeviceCode)?;
    let device_code = random_text()?;
    let plain = new_user_code()?;
    let user_code = shown(&plain);
    let device = Device {
        client_id: client.id.clone(),
        scopes: scopes(&form)?,
        audiences: audiences(&form)?,
        user_code: plain,
        status: DeviceStatus::Pending,
        interval: core.options.device_interval.as_secs(),
        polled: None,
        ends: core.now().plus(core.options.device_code_ttl),
    };
    let body = Body {
        device_code: device_code.expose(),
        user_code: &user_code,
        verification_uri: format!("{}/device", core.issuer),
        verification_uri_complete: format!("{}/device?user_code={user_code}", core.issuer),
        expires_in: core.options.device_code_ttl.as_secs(),
        interval: device.interval,
    };
    core.state().devices.insert(hashed(device_code.expose()), device);
    Ok(json(StatusCode::OK, &body))
}

fn new_user_code() -> Result<String, OAuthError> {
    let mut code = String::with_capacity(8);
    while code.len() < 8 {
        let mut byte = [0];
        aws_lc_rs::rand::fill(&mut byte)?;
        // 240 is the largest multiple of 20 in a byte: no letter is likelier than another.
        if byte[0] < 240 {
            code.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
        }
    }
    Ok(code)
}

/// With the dash in the middle.
pub(super) fn shown(plain: &str) -> String {
    plain.split_at_checked(4).map_or_else(|| plain.to_owned(), |(a, b)| format!("{a}-{b}"))
}

/// Why a user code leads nowhere.
pub(super) enum CodeRefused {
    Unknown,
    TooManyTries,
}

/// The pending device with this user code, whatever its case and dashes. Wrong codes are limited to thirty a minute,
/// by whomever (RFC 8628, section 5.1).
pub(super) fn find_pending(core: &Core, state: &mut State, typed: &str) -> Result<Digest, CodeRefused> {
    let now: Instant = core.options.clock.monotonic();
    let (since, wrong) = state.wrong_user_codes.unwrap_or((now, 0));
    let (since, wrong) =
        if now.saturating_duration_since(since) >= Duration::from_secs(60) { (now, 0) } else { (since, wrong) };
    if wrong >= 30 {
        return Err(CodeRefused::TooManyTries);
    }
    let plain: String = typed.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
    let today = core.now();
    let found = state.devices.iter().find(|(_, device)| {
        device.user_code == plain && matches!(device.status, DeviceStatus::Pending) && today < device.ends
    });
    match found {
        Some((hash, _)) => Ok(*hash),
        None => {
            state.wrong_user_codes = Some((since, wrong + 1));
            Err(CodeRefused::Unknown)
        }
    }
}

/// Decides a device: approved by whoever logged in, or denied.
pub(super) fn decide(core: &Core, state: &mut State, device: &Digest, login: Option<Login>) -> bool {
    let now = core.now();
    let pending = state.devices.find_mut(device).filter(|d| matches!(d.status, DeviceStatus::Pending) && now < d.ends);
    let Some(device) = pending else { return false };
    device.status = login.map_or(DeviceStatus::Denied, DeviceStatus::Approved);
    true
}

/// Approves in the name of `user` without a page, or denies where `None`. False where code or user is unknown.
pub(super) fn decide_directly(core: &Core, user_code: &str, user: Option<&str>) -> bool {
    let mut state = core.state();
    let login = match user {
        None => None,
        Some(name) => {
            let (Some(account), Ok(sid)) = (state.accounts.find(name), random_text()) else { return false };
            let (epoch, otp) = (account.epoch, account.has_second_factor());
            Some(Login { user: name.to_owned(), epoch, at: core.now(), otp, sid: sid.expose().to_owned() })
        }
    };
    match find_pending(core, &mut state, user_code) {
        Ok(device) => decide(core, &mut state, &device, login),
        Err(_) => false,
    }
}
