//! Who can log in: passwords, one-time codes, and the limit on wrong tries.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use argon2::{Argon2, Params, Version};
use aws_lc_rs::constant_time;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use totp_rs::{Builder, Totp};

use super::bounded::{Bounded, Digest, hashed};
use super::keys::encode;
use super::options::User;
use crate::clock::UnixTime;
use crate::secret::Secret;

/// Wrong tries that are allowed in [`WINDOW`].
const MAX_TRIES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// A password as it is kept: salted and stretched.
#[derive(Clone)]
pub(super) struct PasswordHash {
    salt: [u8; 16],
    hash: [u8; 32],
}

impl PasswordHash {
    /// Takes some milliseconds and 8 MiB.
    pub(super) fn of(password: &Secret) -> Result<Self, Unspecified> {
        let mut salt = [0; 16];
        rand::fill(&mut salt)?;
        Ok(Self { salt, hash: stretched(password, &salt)? })
    }

    /// Whether `password` is the one. Takes as long whether it is or not.
    pub(super) fn matches(&self, password: &Secret) -> bool {
        stretched(password, &self.salt)
            .is_ok_and(|hash| constant_time::verify_slices_are_equal(&hash, &self.hash).is_ok())
    }
}

fn stretched(password: &Secret, salt: &[u8]) -> Result<[u8; 32], Unspecified> {
    // 8 MiB and 2 passes: a deliberate cost, but one that a test that logs in a hundred times can bear.
    let params = Params::new(8 * 1024, 2, 1, Some(32)).map_err(|_| Unspecified)?;
    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; 32];
    argon2.hash_password_into(password.expose().as_bytes(), salt, &mut hash).map_err(|_| Unspecified)?;
    Ok(hash)
}

/// Wrong tries so far.
#[derive(Clone, Copy)]
pub(super) struct Tries {
    since: Instant,
    count: u32,
}

/// Counts a try. `Err` with the seconds to wait where there were too many.
fn count(tries: &mut Option<Tries>, now: Instant) -> Result<(), u64> {
    let current = tries.get_or_insert(Tries { since: now, count: 0 });
    let passed = now.saturating_duration_since(current.since);
    if passed >= WINDOW {
        *current = Tries { since: now, count: 0 };
    } else if current.count >= MAX_TRIES {
        return Err(WINDOW.saturating_sub(passed).as_secs() + 1);
    }
    current.count += 1;
    Ok(())
}

/// Someone who can log in.
pub(super) struct Account {
    pub(super) sub: String,
    pub(super) display_name: String,
    password: PasswordHash,
    totp: Option<Totp>,
    /// The last time step whose code was taken: a code is good once (RFC 6238, section 5.2).
    last_step: u64,
    password_tries: Option<Tries>,
    otp_tries: Option<Tries>,
    /// Grows with each change of the password. What was given under a smaller one is over.
    pub(super) epoch: u64,
}

impl Account {
    pub(super) fn has_second_factor(&self) -> bool {
        self.totp.is_some()
    }
}

/// Why a one-time code was refused.
pub(super) enum OtpRefused {
    Wrong,
    /// Seconds to wait.
    TooMany(u64),
}

/// Everybody who can log in.
pub(super) struct Accounts {
    by_name: BTreeMap<String, Account>,
    /// Tries with names that nobody has, so that they are limited in the same way.
    strangers: Bounded<Digest, Option<Tries>>,
    /// What a stranger's password is compared with, so that it takes as long.
    decoy: PasswordHash,
}

impl Accounts {
    /// `None` where a TOTP secret is not base32 of at least 16 bytes, or randomness failed.
    pub(super) fn new(users: &[User]) -> Option<Self> {
        let mut by_name = BTreeMap::new();
        for user in users {
            let totp = match &user.totp {
                None => None,
                Some(base32) => {
                    let secret = totp_rs::Secret::try_from_base32(base32.expose()).ok()?;
                    Some(Builder::new().with_secret(secret).build().ok()?)
                }
            };
            let account = Account {
                // Told from the name, so that it stays the same from run to run, but not the name itself.
                sub: encode(&hashed(&format!("authctl dev issuer subject {}", user.name))[..16]),
                display_name: user.display_name.clone().unwrap_or_else(|| user.name.clone()),
                password: PasswordHash::of(&user.password).ok()?,
                totp,
                last_step: 0,
                password_tries: None,
                otp_tries: None,
                epoch: 0,
            };
            by_name.insert(user.name.clone(), account);
        }
        let decoy = PasswordHash::of(&Secret::new("nobody".to_owned())).ok()?;
        Some(Self { by_name, strangers: Bounded::new(1024), decoy })
    }

    pub(super) fn find(&self, name: &str) -> Option<&Account> {
        self.by_name.get(name)
    }

    /// Counts a try before it is made, so that simultaneous ones are limited too. Gives what to compare with.
    pub(super) fn start_try(&mut self, name: &str, now: Instant) -> Result<PasswordHash, u64> {
        if let Some(account) = self.by_name.get_mut(name) {
            count(&mut account.password_tries, now)?;
            return Ok(account.password.clone());
        }
        let stranger = hashed(name);
        if self.strangers.find(&stranger).is_none() {
            self.strangers.insert(stranger, None);
        }
        if let Some(tries) = self.strangers.find_mut(&stranger) {
            count(tries, now)?;
        }
        Ok(self.decoy.clone())
    }

    /// Forgets the tries of somebody who got it right.
    pub(super) fn password_was_right(&mut self, name: &str) {
        if let Some(account) = self.by_name.get_mut(name) {
            account.password_tries = None;
        }
    }

    /// Checks a one-time code, one step before and after allowed, each once only.
    pub(super) fn check_otp(&mut self, name: &str, code: &str, now: Instant, time: UnixTime) -> Result<(), OtpRefused> {
        let account = self.by_name.get_mut(name).ok_or(OtpRefused::Wrong)?;
        count(&mut account.otp_tries, now).map_err(OtpRefused::TooMany)?;
        let totp = account.totp.as_ref().ok_or(OtpRefused::Wrong)?;
        let time = u64::try_from(time.0).map_err(|_| OtpRefused::Wrong)?;
        match totp.check(code.trim(), time) {
            Some(step) if step > account.last_step => {
                account.last_step = step;
                account.otp_tries = None;
                Ok(())
            }
            _ => Err(OtpRefused::Wrong),
        }
    }

    /// Changes a password, which ends everything given under the old one. False where nobody has that name.
    pub(super) fn change_password(&mut self, name: &str, password: PasswordHash) -> bool {
        let Some(account) = self.by_name.get_mut(name) else { return false };
        account.password = password;
        account.epoch += 1;
        account.password_tries = None;
        true
    }
}
