//! Creates many profiles from one login: copies of a session with different tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use serde_json::Value;

use super::{Home, Issuer};

/// Returns the name of a profile by its number.
pub fn name(number: usize) -> String {
    format!("p{number:05}")
}

/// Returns the access token of a profile by its number: as long as the issued one, and unique.
fn token(issued: &str, number: usize) -> String {
    let prefix = &issued[..issued.len() - 8];
    format!("{prefix}{number:08}")
}

/// How far a session is moved into the past, in seconds. Longer than the lifetime of any token of the benches.
const EXPIRED_BY: i64 = 2 * 24 * 3600;

impl Home {
    fn identity(&self) -> age::x25519::Identity {
        let file = fs::read_to_string(self.path().join("config/authctl/authctl.key")).expect("the key");
        let key = file.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).expect("an age key");
        age::x25519::Identity::from_str(key).expect("an age key")
    }

    fn session_file(&self, profile: &str) -> PathBuf {
        self.path().join(format!("data/authctl/sessions/{profile}.age"))
    }

    fn session(&self, profile: &str) -> Value {
        let encrypted = fs::read(self.session_file(profile)).expect("a session");
        serde_json::from_slice(&age::decrypt(&self.identity(), &encrypted).expect("decrypted")).expect("JSON")
    }

    /// Makes the profile's access token expire. No agent may be running.
    pub fn expire(&self, profile: &str) {
        let mut session = self.session(profile);
        for moment in ["obtained_at", "expires_at"] {
            let at = session["tokens"][moment].as_i64().expect("a moment");
            session["tokens"][moment] = (at - EXPIRED_BY).into();
        }
        write_session(&self.identity(), &session, &self.session_file(profile));
    }

    /// Logs in once and copies the profile `count` times. Returns the tokens by number.
    pub fn fill(&self, issuer: &Issuer, count: usize) -> Vec<String> {
        let first = name(0);
        self.log_in(&first, issuer);
        let config = self.path().join("config/authctl/config.toml");
        let text = fs::read_to_string(&config).expect("the configuration");
        let (top, table) = text.split_once(&format!("[profiles.{first}]")).expect("a profile");
        // Only required settings, because 10,000 profiles must fit into the maximum size of a configuration.
        let needed = |line: &&str| ["issuer", "client_id", "store"].iter().any(|name| line.starts_with(name));
        let table: String = table.lines().filter(needed).map(|line| format!("{line}\n")).collect();
        let tables: String = (0..count).map(|number| format!("[profiles.{}]\n{table}", name(number))).collect();
        fs::write(&config, format!("{top}{tables}")).expect("written");

        let (identity, mut session) = (self.identity(), self.session(&first));
        let issued = session["tokens"]["access_token"].as_str().expect("a token").to_owned();
        let write = |number| {
            let token = token(&issued, number);
            session["tokens"]["access_token"] = token.clone().into();
            session["profile"] = name(number).into();
            write_session(&identity, &session, &self.session_file(&name(number)));
            token
        };
        (0..count).map(write).collect()
    }
}

fn write_session(identity: &age::x25519::Identity, session: &Value, file: &Path) {
    let encrypted = age::encrypt(&identity.to_public(), session.to_string().as_bytes()).expect("encrypted");
    fs::write(file, encrypted).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("closed to others");
}
