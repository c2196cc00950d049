//! The protocol of Docker's credential helpers (`docker-credential-*`), which Podman, Skopeo and others use too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::call::{Call, USERNAME, error_and_hint, unreadable};
use super::protocol::{Failure, Protocol};
use super::setup::Change;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ProfileName, ToolHost};
use crate::paths::{self, tool_variable};

pub(super) struct Docker;

/// What Docker takes for "there is none", and then goes on without a credential.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// What Docker takes for a request that names no server.
const NO_SERVER: &str = "no credentials server URL";

/// What Docker takes for credentials to store that have no user.
const NO_USERNAME: &str = "no credentials username";

/// The reply to `get`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetReply<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'static str,
    secret: &'a str,
}

/// The request of `store`. The secret is not read.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StoreRequest {
    #[serde(rename = "ServerURL")]
    server_url: String,
    username: String,
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
            ["erase"] if call.stdin()?.trim().is_empty() => refuse(NO_SERVER),
            ["erase"] => Ok(0),
            ["store"] => store(call),
            _ => Err(call.unknown_words()),
        }
    }

    /// Docker shows what is on stdout.
    fn failure(&self, error: &Error) -> Failure {
        Failure { stdout: Some(error_and_hint(error)), code: error.code.exit_code(), on_stderr: false }
    }

    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error> {
        let file = config_file()?;
        Ok(vec![
            // Undone in reverse: the link goes only if no host needs it any more.
            Change::Link { name: "docker-credential-authctl", used_in: Some(file.clone()) },
            Change::Members {
                file,
                object: "credHelpers",
                names: call.args.hosts.iter().map(ToString::to_string).collect(),
                value: "authctl",
            },
            Change::Hosts,
        ])
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

/// Answers as Docker's own helpers do where there is no credential.
fn refuse(reason: &str) -> Result<u8, Error> {
    output::data(reason).map(|()| 1)
}

/// Returns the profile whose tokens are for the server.
fn profile_for(call: &Call<'_>, server_url: &str) -> Result<Option<ProfileName>, Error> {
    let host: Option<ToolHost> = server_url.parse().ok();
    Ok(host.map(|host| call.profile_for(&host)).transpose()?.flatten())
}

fn get(call: &Call<'_>) -> Result<u8, Error> {
    let text = call.stdin()?;
    let server_url = text.trim();
    if server_url.is_empty() {
        return refuse(NO_SERVER);
    }
    let profile = profile_for(call, server_url)?;
    if profile.is_none() {
        return refuse(NOT_FOUND);
    }
    call.with_token(profile, false, &|token| {
        output::json(&GetReply { server_url, username: USERNAME, secret: token.text }).map(|()| 0)
    })
}

/// Accepts what `get` returned, which `docker login` stores again, and stores nothing.
fn store(call: &Call<'_>) -> Result<u8, Error> {
    let request = serde_json::from_str(&call.stdin()?);
    let StoreRequest { server_url, username } =
        request.map_err(|e| unreadable(anyhow::Error::new(e).context("invalid request")))?;
    match (server_url.trim(), &username[..]) {
        ("", _) => refuse(NO_SERVER),
        (_, "") => refuse(NO_USERNAME),
        (server_url, USERNAME) if profile_for(call, server_url)?.is_some() => Ok(0),
        _ => Err(Error::msg(ErrorCode::Usage, "authctl stores no passwords of docker", Hint::None)),
    }
}

/// Lists the hosts that get tokens.
fn list(call: &Call<'_>) -> Result<u8, Error> {
    let config = call.app.config()?;
    let hosts = config.profiles.values().flat_map(|profile| &profile.hosts);
    let hosts: BTreeMap<&str, &str> = hosts.map(|host| (host.as_str(), USERNAME)).collect();
    output::json(&hosts).map(|()| 0)
}
