//! Time that passes without waiting: a stored session is made older than it is.

use std::path::Path;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use authctl::clock::{Clock, Sleep, SystemClock, UnixTime};
use serde_json::Value;

use super::Sandbox;

/// The machine's clock as it was so many seconds ago: an issuer with it has issued what it issues that long ago.
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

/// The members of what is stored that are moments.
const MOMENTS: [&str; 13] = [
    "obtained_at",
    "expires_at",
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

fn older(value: &mut Value, seconds: i64) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_i64() {
                    Some(moment) if MOMENTS.contains(&name.as_str()) => *member = (moment - seconds).into(),
                    _ => older(member, seconds),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| older(item, seconds)),
        _ => {}
    }
}

impl Sandbox {
    fn identity(&self) -> age::x25519::Identity {
        let file = std::fs::read_to_string(self.key_file()).expect("the key");
        let line = file.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).expect("an age key");
        age::x25519::Identity::from_str(line).expect("an age key")
    }

    /// The stored session in its plain form, opened with the sandbox's own key.
    pub fn stored(&self, profile: &str) -> Value {
        self.opened(&self.session_file(profile))
    }

    fn opened(&self, file: &Path) -> Value {
        let sealed = std::fs::read(file).expect("it is there");
        serde_json::from_slice(&age::decrypt(&self.identity(), &sealed).expect("it opens")).expect("JSON")
    }

    fn make_older(&self, file: &Path, seconds: i64) {
        let mut content = self.opened(file);
        older(&mut content, seconds);
        let plain = serde_json::to_vec(&content).expect("JSON");
        let sealed = age::encrypt(&self.identity().to_public(), &plain).expect("sealed");
        std::fs::write(file, sealed).expect("written");
    }

    /// Makes the profile's session so much older, as if the time had passed, and what is known of the time and of every
    /// issuer with it.
    pub fn advance_time(&self, profile: &str, seconds: i64) {
        let session = self.session_file(profile);
        self.make_older(&session, seconds);
        for entry in session.parent().expect("a directory").read_dir().expect("readable").flatten() {
            if entry.file_name().to_string_lossy().starts_with('@') {
                self.make_older(&entry.path(), seconds);
            }
        }
    }

    /// What `status --json` says of the profile.
    #[track_caller]
    pub fn status(&self, profile: &str) -> Value {
        self.run(&["status", profile, "--json"]).json()["profiles"][0].clone()
    }
}
