//! The `keyring` command as pip and uv call it to get the password of a package index.

use serde_json::json;

use super::call::{Call, USERNAME};
use super::protocol::Protocol;
use super::setup::Change;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ToolHost;

pub(super) struct Keyring;

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
            ["set" | "del", ..] => {
                return Err(Error::msg(ErrorCode::Usage, "authctl stores no passwords of package indexes", Hint::None));
            }
            _ => return Err(call.unknown_words()),
        };
        // pip asks for a host alone too, also where it would send the password over http.
        let host: Option<ToolHost> = service.contains("://").then(|| service.parse().ok()).flatten();
        let profile = host.map(|host| call.profile_for(&host)).transpose()?.flatten();
        if profile.is_none() {
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
