//! Advancing time without waiting: the times in a stored session are moved into the past.

use std::path::Path;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use authctl::clock::{Clock, Sleep, SystemClock, UnixTime};
use serde_json::Value;

use super::Sandbox;

/// A clock that is this many seconds slow, for an issuer whose tokens were issued in the past.
pub struct LaggingClock(pub i64);

impl Clock for LaggingClock {
    fn now(&self) -> UnixTime {
        UnixTime(SystemClock.now().0 - self.0)
    }

    fn monotonic(&self) -> Instant {
        SystemClock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        SystemClock.sleep(duration)
    }

    fn until(&self, moment: UnixTime) -> Sleep {
        SystemClock.until(moment)
    }
}

/// The members of stored JSON that are times.
const TIMES: [&str; 14] = [
    "obtained_at",
    "expires_at",
    "refresh_expires_at",
    "logged_in_at",
    "refreshed_at",
    "refreshing_since",
    "fetched_at",
    "at",
    "retry_at",
    "keys_fetched_at",
    "asked_at",
    "contact_at",
    "pinned_at",
    "latest",
];

/// Moves all times in stored JSON into the past.
pub fn subtract_seconds(value: &mut Value, seconds: i64) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_i64() {
                    Some(moment) if TIMES.contains(&name.as_str()) => *member = (moment - seconds).into(),
                    _ => subtract_seconds(member, seconds),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| subtract_seconds(item, seconds)),
        _ => {}
    }
}

impl Sandbox {
    fn identity(&self) -> age::x25519::Identity {
        let file = std::fs::read_to_string(self.key_file()).expect("the key");
        let line = file.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).expect("an age key");
        age::x25519::Identity::from_str(line).expect("an age key")
    }

    /// Returns the decrypted session file.
    pub fn stored(&self, profile: &str) -> Value {
        self.decrypt(&self.session_file(profile))
    }

    fn decrypt(&self, file: &Path) -> Value {
        let encrypted = std::fs::read(file).expect("readable");
        serde_json::from_slice(&age::decrypt(&self.identity(), &encrypted).expect("decrypted")).expect("JSON")
    }

    fn age_file(&self, file: &Path, seconds: i64) {
        let mut content = self.decrypt(file);
        subtract_seconds(&mut content, seconds);
        let plain = serde_json::to_vec(&content).expect("JSON");
        let encrypted = age::encrypt(&self.identity().to_public(), &plain).expect("encrypted");
        std::fs::write(file, encrypted).expect("written");
    }

    /// Moves all stored times of the profile's session, of all issuers and of the clock record into the past.
    pub fn advance_time(&self, profile: &str, seconds: i64) {
        let session = self.session_file(profile);
        self.age_file(&session, seconds);
        for entry in session.parent().expect("a directory").read_dir().expect("readable").flatten() {
            if entry.file_name().to_string_lossy().starts_with('@') {
                self.age_file(&entry.path(), seconds);
            }
        }
    }

    /// Returns the profile's entry in `status --json`.
    #[track_caller]
    pub fn status(&self, profile: &str) -> Value {
        self.run(&["status", profile, "--json"]).json()["profiles"][0].clone()
    }
}
