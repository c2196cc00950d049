//! The control addresses, by which scripts steer an issuer that runs as a program of its own.

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::faults::Fault;
use super::keys::Algorithm;
use super::serve::not_allowed;
use super::wire::{OAuthError, Reply, Request, empty, json};
use super::{Core, device};
use crate::secret::Secret;

/// A page of another site cannot send this header without asking first, and asking is never granted.
const HEADER: &str = "x-dev-issuer-control";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    #[serde(default)]
    algorithm: Option<Algorithm>,
    /// Replaced of rotating: stop publishing all but the latest keys.
    #[serde(default)]
    drop_old: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Password {
    user: String,
    password: Secret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suspend {
    /// An access token.
    token: Secret,
    /// False lifts it.
    suspended: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceAnswer {
    user_code: String,
    /// Who approves; denied where absent.
    #[serde(default)]
    user: Option<String>,
}

/// Answers `control/NAME`: 204 done, 400 not understood, 403 without the header, 404 no such name or nobody by it.
pub(super) async fn control(core: &Core, name: &str, request: &Request) -> Reply {
    if request.headers.get(HEADER).is_none_or(|value| value.as_bytes() != b"1") {
        return OAuthError::new(
            StatusCode::FORBIDDEN,
            "invalid_request",
            "the header X-Dev-Issuer-Control: 1 is missing",
        )
        .reply();
    }
    match (name, &request.method) {
        ("stats", &Method::GET) => json(StatusCode::OK, &core.state().stats),
        ("stats", _) => not_allowed("GET"),
        ("fault" | "clear-faults" | "rotate-keys" | "password" | "suspend" | "device", &Method::POST) => {
            act(core, name, request).await.unwrap_or_else(|error| error.reply())
        }
        ("fault" | "clear-faults" | "rotate-keys" | "password" | "suspend" | "device", _) => not_allowed("POST"),
        _ => empty(StatusCode::NOT_FOUND),
    }
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, OAuthError> {
    serde_json::from_slice(request.body.expose())
        .map_err(|_| OAuthError::invalid_request("the body is not the JSON that is asked for"))
}

async fn act(core: &Core, name: &str, request: &Request) -> Result<Reply, OAuthError> {
    let done = match name {
        "fault" => {
            let fault: Fault = body(request)?;
            core.faults().add(fault);
            true
        }
        "clear-faults" => {
            core.faults().clear();
            true
        }
        "rotate-keys" => {
            let rotate: Rotate = body(request)?;
            core.keys.complete().await;
            if rotate.drop_old {
                core.keys.drop_old();
            } else {
                core.keys.rotate(rotate.algorithm)?;
            }
            true
        }
        "password" => {
            let change: Password = body(request)?;
            core.change_password(&change.user, &change.password)
        }
        "suspend" => {
            let suspend: Suspend = body(request)?;
            core.suspend(suspend.token.expose(), suspend.suspended)
        }
        _ => {
            let answer: DeviceAnswer = body(request)?;
            device::decide_directly(core, &answer.user_code, answer.user.as_deref())
        }
    };
    Ok(empty(if done { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }))
}
