//! The user codes of device authorizations (RFC 8628): generation, lookup, and the user's decision.

use std::time::Duration;

use super::crypto::{Digest, random_token};
use super::http::OAuthError;
use super::issuer::Issuer;
use super::state::{DeviceStatus, Login, State};

/// Consonants that are hard to confuse and spell no words (RFC 8628, section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;

/// The limit on wrong codes in [`WINDOW`], of all clients together (RFC 8628, section 5.1).
const MAX_WRONG_CODES: u32 = 30;
const WINDOW: Duration = Duration::from_secs(60);

/// Returns a random user code without the dash.
pub(super) fn generate() -> Result<String, OAuthError> {
    let mut code = String::with_capacity(LENGTH);
    while code.len() < LENGTH {
        let mut byte = [0];
        aws_lc_rs::rand::fill(&mut byte)?;
        // 240 is the largest multiple of 20 that fits in a byte: larger values would favour some letters.
        if byte[0] < 240 {
            code.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
        }
    }
    Ok(code)
}

/// Returns the code with a dash in the middle.
pub(super) fn format(code: &str) -> String {
    code.split_at_checked(LENGTH / 2).map_or_else(|| code.to_owned(), |(a, b)| format!("{a}-{b}"))
}

/// Why a user code was rejected.
pub(super) enum UserCodeError {
    Unknown,
    RateLimited,
}

/// Returns the pending device with this user code. Case, spaces and dashes are ignored.
pub(super) fn find_pending(issuer: &Issuer, state: &mut State, typed: &str) -> Result<Digest, UserCodeError> {
    let moment = issuer.options.clock.monotonic();
    let (mut since, mut wrong) = state.wrong_user_codes.unwrap_or((moment, 0));
    if moment.saturating_duration_since(since) >= WINDOW {
        (since, wrong) = (moment, 0);
    }
    if wrong >= MAX_WRONG_CODES {
        return Err(UserCodeError::RateLimited);
    }
    let code: String = typed.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
    let now = issuer.now();
    let pending = state.devices.iter().find(|(_, device)| device.user_code == code && device.is_pending(now));
    match pending {
        Some((digest, _)) => Ok(*digest),
        None => {
            state.wrong_user_codes = Some((since, wrong + 1));
            Err(UserCodeError::Unknown)
        }
    }
}

/// Approves a device for a login, or denies it. False if it is no longer pending.
pub(super) fn decide(issuer: &Issuer, state: &mut State, device: &Digest, login: Option<Login>) -> bool {
    let now = issuer.now();
    let Some(device) = state.devices.find_mut(device).filter(|device| device.is_pending(now)) else { return false };
    device.status = login.map_or(DeviceStatus::Denied, DeviceStatus::Approved);
    true
}

/// Approves a device as `user` without the pages, or denies it. False if the code or the user is unknown.
pub(super) fn decide_as(issuer: &Issuer, user_code: &str, user: Option<&str>) -> bool {
    let mut state = issuer.state();
    let login = match user {
        None => None,
        Some(name) => {
            let (Some(account), Ok(sid)) = (state.accounts.find(name), random_token()) else { return false };
            let (password_version, otp) = (account.password_version, account.has_second_factor());
            let sid = sid.expose().to_owned();
            Some(Login { user: name.to_owned(), password_version, at: issuer.now(), otp, sid })
        }
    };
    match find_pending(issuer, &mut state, user_code) {
        Ok(device) => decide(issuer, &mut state, &device, login),
        Err(_) => false,
    }
}
