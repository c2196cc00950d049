//! The agent, tested through its socket and the command line.

mod changes;
mod command_line;
mod confinement;
mod failures;
mod install;
mod lifecycle;
mod limits;
mod lock;
mod log;
mod login_prompt;
mod secrets;
mod slow_files;
mod stampede;
mod stop;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, Options};
use authctl::secret::Secret;
use serde_json::json;

use crate::support::agent::Agent;
use crate::support::jwt::{Signer, now};
use crate::support::{Sandbox, issuer};

/// The lifetime of access tokens, in seconds.
const LIFETIME: i64 = 300;
/// The age in seconds at which a token is still valid and due for a refresh.
const DUE: i64 = LIFETIME - 40;

/// Returns a home with the session `work` at an issuer.
fn logged_in(change: impl FnOnce(&mut Options)) -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), issuer(change));
    home.log_in("work", &issuer);
    home.session("work");
    (home, issuer)
}

/// Applies a fault to the next `times` requests, or until it is cleared if `times` is 0.
fn fault(issuer: &DevIssuer, endpoint: Endpoint, kind: FaultKind, times: u32) {
    issuer.fault(Fault { endpoint, kind, times });
}

/// Returns the number of requests to the token endpoint.
fn token_requests(issuer: &DevIssuer) -> u64 {
    issuer.stats().requests.get("token").copied().unwrap_or(0)
}

/// Requests an ID token with more lifetime left than that of [`set_half_expired_id_token`], so that it is refreshed.
const REFRESHED_ID_TOKEN: &str = "/v1/id-token/work?min_ttl=400";

/// Replaces the session's ID token with one that was issued five minutes ago and expires in five.
fn set_half_expired_id_token(home: &Sandbox, agent: &Agent<'_>) -> String {
    let token = Signer::new().token(json!({"iat": now() - 300, "exp": now() + 300}));
    home.change_session("work", |session| session.tokens.id_token = Some(Secret::new(token.clone())));
    agent.post("/v1/forget/work", "").expect_status(200);
    token
}
