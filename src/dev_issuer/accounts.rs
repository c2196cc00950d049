//! The user accounts: passwords, one-time codes, and the limit on failed attempts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use argon2::{Argon2, Params, Version};
use aws_lc_rs::constant_time;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use totp_rs::{Builder, Totp};

use super::bounded_map::BoundedMap;
use super::crypto::{Digest, base64url, hash};
use super::options::User;
use crate::clock::UnixTime;
use crate::secret::Secret;

/// The limit on failed attempts in [`WINDOW`].
const MAX_ATTEMPTS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// A salted Argon2id hash of a password.
#[derive(Clone)]
pub(super) struct PasswordHash {
    salt: [u8; 16],
    hash: [u8; 32],
}

impl PasswordHash {
    /// Hashes a password, which takes some milliseconds and 8 MiB.
    pub(super) fn new(password: &Secret) -> Result<Self, Unspecified> {
        let mut salt = [0; 16];
        rand::fill(&mut salt)?;
        Ok(Self { salt, hash: argon2id(password, &salt)? })
    }

    /// Compares a password with the hash in constant time.
    pub(super) fn matches(&self, password: &Secret) -> bool {
        argon2id(password, &self.salt)
            .is_ok_and(|hash| constant_time::verify_slices_are_equal(&hash, &self.hash).is_ok())
    }
}

fn argon2id(password: &Secret, salt: &[u8]) -> Result<[u8; 32], Unspecified> {
    // 8 MiB and 2 passes: cheap enough for a test that logs in a hundred times.
    let params = Params::new(8 * 1024, 2, 1, Some(32)).map_err(|_| Unspecified)?;
    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; 32];
    argon2.hash_password_into(password.expose().as_bytes(), salt, &mut hash).map_err(|_| Unspecified)?;
    Ok(hash)
}

/// The failed attempts in a time window.
#[derive(Clone, Copy)]
pub(super) struct Attempts {
    since: Instant,
    count: u32,
}

/// Counts an attempt. After too many it returns the seconds to wait.
fn count_attempt(attempts: &mut Option<Attempts>, now: Instant) -> Result<(), u64> {
    let current = attempts.get_or_insert(Attempts { since: now, count: 0 });
    let elapsed = now.saturating_duration_since(current.since);
    if elapsed >= WINDOW {
        *current = Attempts { since: now, count: 0 };
    } else if current.count >= MAX_ATTEMPTS {
        return Err(WINDOW.saturating_sub(elapsed).as_secs() + 1);
    }
    current.count += 1;
    Ok(())
}

/// A user's account.
pub(super) struct Account {
    pub(super) sub: String,
    pub(super) display_name: String,
    password: PasswordHash,
    totp: Option<Totp>,
    /// The time step of the last accepted code: each code is accepted once (RFC 6238, section 5.2).
    last_step: u64,
    password_attempts: Option<Attempts>,
    otp_attempts: Option<Attempts>,
    /// Incremented when the password changes. Tokens and logins of an earlier version are invalid.
    pub(super) password_version: u64,
}

impl Account {
    pub(super) fn has_second_factor(&self) -> bool {
        self.totp.is_some()
    }
}

/// Why a password or one-time code was rejected.
pub(super) enum CredentialError {
    Wrong,
    /// Too many attempts; seconds to wait.
    RateLimited(u64),
}

/// All accounts.
pub(super) struct Accounts {
    by_name: BTreeMap<String, Account>,
    /// Attempts with unknown user names, which are limited like all others so that they do not reveal which names exist.
    unknown_names: BoundedMap<Digest, Option<Attempts>>,
    /// Compared with the password of an unknown user, so that it takes as long as for a known one.
    dummy_hash: PasswordHash,
}

impl Accounts {
    /// Creates the accounts. `None` if a TOTP secret is not base32 of at least 16 bytes, or no randomness is available.
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
                // Derived from the name so that it stays the same across runs.
                sub: base64url(&hash(&format!("authctl dev issuer subject {}", user.name))[..16]),
                display_name: user.display_name.clone().unwrap_or_else(|| user.name.clone()),
                password: PasswordHash::new(&user.password).ok()?,
                totp,
                last_step: 0,
                password_attempts: None,
                otp_attempts: None,
                password_version: 0,
            };
            by_name.insert(user.name.clone(), account);
        }
        let dummy_hash = PasswordHash::new(&Secret::new("unknown".to_owned())).ok()?;
        Some(Self { by_name, unknown_names: BoundedMap::new(1024), dummy_hash })
    }

    pub(super) fn find(&self, name: &str) -> Option<&Account> {
        self.by_name.get(name)
    }

    /// Counts an attempt before it is made, so that simultaneous ones are limited too. Returns the hash to compare with,
    /// or the seconds to wait.
    pub(super) fn begin_attempt(&mut self, name: &str, now: Instant) -> Result<PasswordHash, u64> {
        if let Some(account) = self.by_name.get_mut(name) {
            count_attempt(&mut account.password_attempts, now)?;
            return Ok(account.password.clone());
        }
        let key = hash(name);
        if self.unknown_names.find(&key).is_none() {
            self.unknown_names.insert(key, None);
        }
        if let Some(attempts) = self.unknown_names.find_mut(&key) {
            count_attempt(attempts, now)?;
        }
        Ok(self.dummy_hash.clone())
    }

    /// Resets the failed attempts after a correct password.
    pub(super) fn reset_attempts(&mut self, name: &str) {
        if let Some(account) = self.by_name.get_mut(name) {
            account.password_attempts = None;
        }
    }

    /// Checks a one-time code. The codes of the previous and next time step are accepted too, each code once.
    pub(super) fn check_otp(
        &mut self,
        name: &str,
        code: &str,
        now: Instant,
        time: UnixTime,
    ) -> Result<(), CredentialError> {
        let account = self.by_name.get_mut(name).ok_or(CredentialError::Wrong)?;
        count_attempt(&mut account.otp_attempts, now).map_err(CredentialError::RateLimited)?;
        let totp = account.totp.as_ref().ok_or(CredentialError::Wrong)?;
        let time = u64::try_from(time.0).map_err(|_| CredentialError::Wrong)?;
        match totp.check(code.trim(), time) {
            Some(step) if step > account.last_step => {
                account.last_step = step;
                account.otp_attempts = None;
                Ok(())
            }
            _ => Err(CredentialError::Wrong),
        }
    }

    /// Changes a password and invalidates everything issued under the old one. False if the user is unknown.
    pub(super) fn change_password(&mut self, name: &str, password: PasswordHash) -> bool {
        let Some(account) = self.by_name.get_mut(name) else { return false };
        account.password = password;
        account.password_version += 1;
        account.password_attempts = None;
        true
    }
}
