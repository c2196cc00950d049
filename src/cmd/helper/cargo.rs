//! cargo's credential provider protocol, version 1: a line of JSON for each request and each reply.

use std::io::{self, BufRead as _, Read as _};

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, MAX_INPUT, error_and_hint, unreadable};
use super::program::program;
use super::protocol::Protocol;
use super::setup::Change;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ToolHost;
use crate::paths::{self, tool_variable};
use crate::text::shell_word;

pub(super) struct Cargo;

#[derive(Deserialize)]
struct CargoRequest {
    v: u64,
    registry: Registry,
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    index_url: String,
}

impl Protocol for Cargo {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        output::json(&json!({"v": [1]}))?;
        let mut stdin = io::stdin().lock();
        let reply = |reply: Value| output::json(&reply);
        loop {
            let mut line = Vec::new();
            let read = stdin.by_ref().take(MAX_INPUT + 1).read_until(b'\n', &mut line);
            match read.map_err(|e| unreadable(anyhow::Error::new(e).context("reading stdin")))? as u64 {
                0 => return Ok(0),
                // Its rest is no request.
                length if length > MAX_INPUT => {
                    let error = unreadable(anyhow::anyhow!("the request has more than {MAX_INPUT} bytes"));
                    return reply(other(&error_and_hint(&error))).map(|()| error.code.exit_code());
                }
                _ => {}
            }
            match serde_json::from_slice::<CargoRequest>(&line) {
                Err(error) => reply(other(&format!("invalid request: {error}")))?,
                Ok(request) if request.v != 1 => reply(other("unsupported version of the protocol"))?,
                Ok(request) if request.kind != "get" => reply(json!({"Err": {"kind": "operation-not-supported"}}))?,
                Ok(request) => {
                    if let Err(error) = get(call, &request.registry.index_url) {
                        let hint = call.app.with_typed_options(error.hint.clone());
                        reply(other(&error_and_hint(&Error { hint, ..error })))?;
                    }
                }
            }
        }
    }

    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error> {
        let directory = tool_variable("CARGO_HOME")
            .map_or_else(|| paths::home().map(|home| home.join(".cargo")), |dir| Ok(dir.into()))?;
        // cargo starts it with an option of its own and nothing else.
        let program = if call.args.remove { String::new() } else { program(call.app)?.swap_remove(0) };
        if program.contains(char::is_whitespace) {
            let message = format!("cargo cannot start `{program}`: its path has a space");
            return Err(Error::msg(
                ErrorCode::Usage,
                message,
                Hint::shell(format!("sudo ln -s {} /usr/local/bin/authctl", shell_word(&program))),
            ));
        }
        Ok(vec![
            Change::Element {
                // The old name, which cargo reads first.
                file: Some(directory.join("config"))
                    .filter(|old| old.exists())
                    .unwrap_or(directory.join("config.toml")),
                path: ["registry", "global-credential-providers"],
                value: program,
                first: "cargo:token",
            },
            Change::Hosts,
        ])
    }
}

/// Returns the reply that shows the user a message.
fn other(message: &str) -> Value {
    json!({"Err": {"kind": "other", "message": message, "caused-by": []}})
}

fn get(call: &Call<'_>, index_url: &str) -> Result<u8, Error> {
    let address = index_url.strip_prefix("sparse+").unwrap_or(index_url);
    let host: Option<ToolHost> = address.parse().ok();
    let Some(profile) = host.map(|host| call.profile_for(&host)).transpose()?.flatten() else {
        return output::json(&json!({"Err": {"kind": "url-not-supported"}})).map(|()| 0);
    };
    call.with_token(Some(profile), false, &|token| {
        // Sent as the whole value of the `Authorization` header.
        let mut reply =
            json!({"kind": "get", "token": format!("Bearer {}", token.text), "operation_independent": true});
        match token.expires_at {
            Some(at) => {
                reply["cache"] = json!("expires");
                reply["expiration"] = json!(at.0);
            }
            None => reply["cache"] = json!("never"),
        }
        output::json(&json!({"Ok": reply})).map(|()| 0)
    })
}
