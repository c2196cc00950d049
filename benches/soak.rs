//! An agent under constant load with short-lived tokens: no client may see a failure, and memory must not grow.
//!
//! `cargo bench --bench soak -- --minutes 30`; one minute by default. With `--faults`, everything that authctl depends on fails
//! at random, agents and commands are killed, and the failures are counted that the promises forbid; `--seed N` repeats a run's
//! faults. That needs what `tests/install` installs, and a program that is linked dynamically, whose clock can be set. The exit
//! status is 1 if a target is not met.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "benches")]

#[path = "soak/faulty.rs"]
mod faulty;
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../tests/support/keyring.rs"]
mod keyring;
#[path = "soak/load.rs"]
mod load;
#[path = "soak/parts.rs"]
mod parts;
mod support;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The lifetime of the issuer's tokens.
const LIFETIME: &str = "5s";

/// The pause between two requests of a client.
const PAUSE: Duration = Duration::from_millis(20);

/// Returns the Unix time, as the programs under test have it.
fn now() -> u64 {
    let real = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    real.saturating_add_signed(parts::clock_offset())
}

/// Checks that the token was valid at the time of the request. On a busy machine it may expire before it is checked.
fn check_token(token: &str, requested_at: u64) -> Result<(), String> {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).ok_or("no JWT")?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).map_err(|e| e.to_string())?;
    match claims["exp"].as_u64() {
        Some(end) if end > requested_at => Ok(()),
        end => Err(format!("the token expired at {end:?}, requested at {requested_at}")),
    }
}

/// Returns when a token expires.
fn expiry(token: &str) -> u64 {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&claims).ok().and_then(|claims| claims["exp"].as_u64()).unwrap_or(0)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        Some(args.get(at + 1).and_then(|text| text.parse::<u64>().ok()).unwrap_or_else(|| panic!("{name} NUMBER")))
    };
    let minutes = number("--minutes").unwrap_or(1);
    if !args.iter().any(|arg| arg == "--faults") {
        return load::constant_load(minutes);
    }
    if let Some(code) = parts::enter_namespace(&args) {
        return code;
    }
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    faulty::with_faults(minutes, number("--seed").unwrap_or_else(|| time.into()))
}
