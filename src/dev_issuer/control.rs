//! The control endpoint, with which scripts change the state of a running issuer. It exists only with a control key.

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::crypto::secrets_match;
use super::faults::Fault;
use super::http::{OAuthError, Reply, Request, empty, json, not_allowed};
use super::issuer::Issuer;
use super::keys::Algorithm;
use super::user_code;
use crate::secret::Secret;

/// The header with the control key. Other sites cannot send it: a custom header needs a CORS preflight, which fails.
const HEADER: &str = "x-dev-issuer-control";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateKeys {
    #[serde(default)]
    algorithm: Option<Algorithm>,
    /// Publishes only the latest keys instead of rotating.
    #[serde(default)]
    drop_old: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    user: String,
    password: Secret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suspend {
    /// The access token.
    token: Secret,
    suspended: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecideDevice {
    user_code: String,
    /// The user who approves; denied if absent.
    #[serde(default)]
    user: Option<String>,
}

/// Handles `control/NAME`. Returns 204 when done, 400 for an invalid body, 403 for a wrong key, and 404 if the name, user,
/// token or code is unknown, or if the endpoint is disabled.
pub(super) async fn control(issuer: &Issuer, name: &str, request: &Request) -> Reply {
    let Some(key) = &issuer.options.control_key else { return empty(StatusCode::NOT_FOUND) };
    let supplied = request.headers.get(HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !secrets_match(key.expose(), supplied) {
        let description = "the header X-Dev-Issuer-Control must carry the control key";
        return OAuthError::new(StatusCode::FORBIDDEN, "invalid_request", description).reply();
    }
    match (name, &request.method) {
        ("stats", &Method::GET) => json(StatusCode::OK, &issuer.state().stats),
        ("stats", _) => not_allowed("GET"),
        ("fault" | "clear-faults" | "rotate-keys" | "password" | "suspend" | "device", &Method::POST) => {
            run(issuer, name, request).await.unwrap_or_else(|error| error.reply())
        }
        ("fault" | "clear-faults" | "rotate-keys" | "password" | "suspend" | "device", _) => not_allowed("POST"),
        _ => empty(StatusCode::NOT_FOUND),
    }
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, OAuthError> {
    serde_json::from_slice(request.body.expose())
        .map_err(|_| OAuthError::invalid_request("the body is not the JSON that this command takes"))
}

async fn run(issuer: &Issuer, name: &str, request: &Request) -> Result<Reply, OAuthError> {
    let found = match name {
        "fault" => {
            let fault: Fault = body(request)?;
            issuer.faults().add(fault);
            true
        }
        "clear-faults" => {
            issuer.faults().clear();
            true
        }
        "rotate-keys" => {
            let rotate: RotateKeys = body(request)?;
            issuer.keys.complete().await;
            if rotate.drop_old {
                issuer.keys.drop_old();
            } else {
                issuer.keys.rotate(rotate.algorithm)?;
            }
            true
        }
        "password" => {
            let change: ChangePassword = body(request)?;
            issuer.change_password(&change.user, &change.password)
        }
        "suspend" => {
            let suspend: Suspend = body(request)?;
            issuer.suspend(suspend.token.expose(), suspend.suspended)
        }
        _ => {
            let decision: DecideDevice = body(request)?;
            user_code::decide_as(issuer, &decision.user_code, decision.user.as_deref())
        }
    };
    Ok(empty(if found { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }))
}
