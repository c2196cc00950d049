//! Many profiles without as many logins: one session is written again and again, each with a token of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use serde_json::Value;

use super::{Home, Issuer};

/// The name of a profile by its number.
pub fn name(number: usize) -> String {
    format!("p{number:05}")
}

/// The access token of a profile by its number: as long as the one that the issuer gave, and no other profile's.
fn token(given: &str, number: usize) -> String {
    let reused = &given[..given.len() - 8];
    format!("{reused}{number:08}")
}

/// How far a session is moved into the past, in seconds: more than any token of the benches lives.
const LONG: i64 = 2 * 24 * 3600;

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
        let sealed = fs::read(self.session_file(profile)).expect("a session");
        serde_json::from_slice(&age::decrypt(&self.identity(), &sealed).expect("it opens")).expect("JSON")
    }

    /// Makes the profile's access token expire. No agent may be running.
    pub fn expire(&self, profile: &str) {
        let mut session = self.session(profile);
        for moment in ["obtained_at", "expires_at"] {
            let at = session["tokens"][moment].as_i64().expect("a moment");
            session["tokens"][moment] = (at - LONG).into();
        }
        seal(&self.identity(), &session, &self.session_file(profile));
    }

    /// Logs in once and makes `count` profiles of it. Gives their tokens, by number.
    pub fn fill(&self, issuer: &Issuer, count: usize) -> Vec<String> {
        let first = name(0);
        self.log_in(&first, issuer);
        let config = self.path().join("config/authctl/config.toml");
        let text = fs::read_to_string(&config).expect("the configuration");
        let (top, table) = text.split_once(&format!("[profiles.{first}]")).expect("a profile");
        // No more than is needed: ten thousand of them must fit into the size that a configuration may have.
        let needed = |line: &&str| ["issuer", "client_id", "store"].iter().any(|name| line.starts_with(name));
        let table: String = table.lines().filter(needed).map(|line| format!("{line}\n")).collect();
        let tables: String = (0..count).map(|number| format!("[profiles.{}]\n{table}", name(number))).collect();
        fs::write(&config, format!("{top}{tables}")).expect("written");

        let (identity, mut session) = (self.identity(), self.session(&first));
        let given = session["tokens"]["access_token"].as_str().expect("a token").to_owned();
        let write = |number| {
            let token = token(&given, number);
            session["tokens"]["access_token"] = token.clone().into();
            seal(&identity, &session, &self.session_file(&name(number)));
            token
        };
        (0..count).map(write).collect()
    }
}

fn seal(identity: &age::x25519::Identity, session: &Value, file: &Path) {
    let sealed = age::encrypt(&identity.to_public(), session.to_string().as_bytes()).expect("sealed");
    fs::write(file, sealed).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("closed to others");
}
