//! The `keyring` command as pip and uv call it to get the password of a package index.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::call::{Call, USERNAME};
use super::program::is_authctl;
use super::protocol::Protocol;
use super::setup::Change;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ToolHost;
use crate::paths::without_tokens;

pub(super) struct Keyring;

/// Becomes the user's own `keyring` command, which authctl's link hides, for what authctl does not have; returns if there is none.
fn pass_on(call: &Call<'_>) -> Result<(), Error> {
    let Some(keyring) = hidden_keyring(&call.app.environment.surroundings.search_path) else { return Ok(()) };
    let mut command = Command::new(&keyring);
    let error = without_tokens(&mut command).args(call.words()).exec();
    let error = anyhow::Error::new(error).context(format!("cannot run {}", keyring.display()));
    Err(Error::new(ErrorCode::Unexpected, error, Hint::list(&keyring)))
}

/// Returns the first `keyring` command that is not authctl; after authctl's, if that is there, so that two versions of authctl
/// do not call each other.
fn hidden_keyring(search_path: &OsStr) -> Option<PathBuf> {
    let all = std::env::split_paths(search_path).map(|dir| dir.join("keyring")).filter(|file| file.is_file());
    let mut all: Vec<PathBuf> = all.collect();
    let is_own = |file: &PathBuf| is_authctl(file.canonicalize().as_ref().unwrap_or(file));
    if let Some(own) = all.iter().position(is_own) {
        all.drain(..=own);
    }
    all.into_iter().find(|file| !is_own(file))
}

impl Protocol for Keyring {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        let (mut with_username, mut as_json, mut words) = (false, false, Vec::new());
        let mut remaining = call.words().into_iter();
        while let Some(word) = remaining.next() {
            let (option, value) = word.split_once('=').map_or((word, None), |(option, value)| (option, Some(value)));
            match option {
                "--mode" => with_username = value.or_else(|| remaining.next()) == Some("creds"),
                "--output" => as_json = value.or_else(|| remaining.next()) == Some("json"),
                _ => words.push(word),
            }
        }
        let service = match words[..] {
            ["get", service] => {
                with_username = true;
                service
            }
            ["get", service, _] => service,
            _ => {
                pass_on(call)?;
                return Err(match words.first() {
                    Some(&("set" | "del")) => {
                        Error::msg(ErrorCode::Usage, "authctl stores no passwords of package indexes", Hint::None)
                    }
                    _ => call.unknown_words(),
                });
            }
        };
        // pip asks for a host alone too, also where it would send the password over http.
        let host: Option<ToolHost> = service.contains("://").then(|| service.parse().ok()).flatten();
        let profile = host.map(|host| call.profile_for(&host)).transpose()?.flatten();
        if profile.is_none() {
            pass_on(call)?;
            // As `keyring` does if it has none.
            return Ok(1);
        }
        call.with_token(profile, false, &|token| match (as_json, with_username) {
            (true, true) => output::json(&json!({"username": USERNAME, "password": token.text})).map(|()| 0),
            (true, false) => output::json(&json!({"password": token.text})).map(|()| 0),
            (false, true) => output::data(&format!("{USERNAME}\n{}", token.text)).map(|()| 0),
            (false, false) => output::data(token.text).map(|()| 0),
        })
    }

    fn setup(&self, _: &Call<'_>) -> Result<Vec<Change>, Error> {
        Ok(vec![Change::Link { name: "keyring", used_in: None }, Change::Hosts])
    }
}
