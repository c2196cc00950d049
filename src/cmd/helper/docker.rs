//! The protocol of Docker's credential helpers (`docker-credential-*`), which Podman, Skopeo and others use too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::call::{Call, USERNAME, one_line};
use super::protocol::{Failure, Protocol};
use super::setup::Change;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ToolHost;
use crate::paths::{self, tool_variable};

pub(super) struct Docker;

/// What Docker takes for "there is none", and then goes on without a credential.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The reply to `get`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'static str,
    secret: &'a str,
}

impl Protocol for Docker {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        match call.words()[..] {
            ["get"] => get(call),
            ["list"] => list(call),
            ["version"] => {
                output::data(concat!("docker-credential-authctl (authctl) ", env!("CARGO_PKG_VERSION"))).map(|()| 0)
            }
            // `docker logout`: the session stays, since other tools use it.
            ["erase"] => call.stdin().map(|_| 0),
            ["store"] => {
                call.stdin()?;
                Err(Error::msg(ErrorCode::Usage, "authctl stores no passwords of docker", Hint::None))
            }
            _ => Err(call.unknown_words()),
        }
    }

    /// Docker shows what is on stdout.
    fn failure(&self, error: &Error) -> Failure {
        Failure { stdout: Some(one_line(error)), code: error.code.exit_code(), on_stderr: false }
    }

    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error> {
        let file = config_file()?;
        let member = |host: &ToolHost| Change::Member {
            file: file.clone(),
            path: vec!["credHelpers".to_owned(), host.to_string()],
            value: "authctl".to_owned(),
        };
        // Undone in reverse: the link goes only if no member needs it any more.
        let link = Change::Link { name: "docker-credential-authctl", used_in: Some(file.clone()) };
        let members = call.args.hosts.iter().map(member);
        Ok([link].into_iter().chain(members).chain([Change::Hosts]).collect())
    }
}

/// Returns docker's configuration file.
///
/// # Errors
/// [`ErrorCode::Configuration`] without a home directory.
fn config_file() -> Result<PathBuf, Error> {
    let dir = tool_variable("DOCKER_CONFIG")
        .map_or_else(|| paths::home().map(|home| home.join(".docker")), |dir| Ok(dir.into()))?;
    Ok(dir.join("config.json"))
}

fn get(call: &Call<'_>) -> Result<u8, Error> {
    let text = call.stdin()?;
    let server_url = text.trim();
    let host: Option<ToolHost> = server_url.parse().ok();
    let profile = host.map(|host| call.profile_for(&host)).transpose()?.flatten();
    if profile.is_none() {
        return output::data(NOT_FOUND).map(|()| 1);
    }
    call.with_token(profile, false, &|token| {
        output::json(&Credentials { server_url, username: USERNAME, secret: token.text }).map(|()| 0)
    })
}

/// Lists the hosts that get tokens.
fn list(call: &Call<'_>) -> Result<u8, Error> {
    let config = call.app.config()?;
    let hosts = config.profiles.values().flat_map(|profile| &profile.hosts);
    let hosts: BTreeMap<&str, &str> = hosts.map(|host| (host.as_str(), USERNAME)).collect();
    output::json(&hosts).map(|()| 0)
}
