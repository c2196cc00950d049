//! The agent as its clients and its owner see it: a file a theme.

mod bounds;
mod changes;
mod command_line;
mod failures;
mod install;
mod lifecycle;
mod lock;
mod secrets;
mod stampede;
mod stop;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, Options};

use authctl::secret::Secret;
use serde_json::json;

use crate::support::agent::Agent;
use crate::support::jwt::{Signer, now};
use crate::support::{Sandbox, issuer};

/// What a token lives at the issuers here, in seconds.
const LIFE: i64 = 300;
/// After so long a token is due, and still valid.
const DUE: i64 = LIFE - 40;

/// A home with the session `work` at an issuer.
fn logged_in(change: impl FnOnce(&mut Options)) -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), issuer(change));
    home.log_in("work", &issuer);
    home.session("work");
    (home, issuer)
}

/// From now on, until the faults are cleared or `times` requests have met it.
fn fault(issuer: &DevIssuer, endpoint: Endpoint, kind: FaultKind, times: u32) {
    issuer.fault(Fault { endpoint, kind, times });
}

/// How many requests have come to the token endpoint.
fn asked(issuer: &DevIssuer) -> u64 {
    issuer.stats().requests.get("token").copied().unwrap_or(0)
}

/// Asks for the ID token of [`half_through`] with more life than it has.
const MORE_THAN_HALF: &str = "/v1/id-token/work?min_ttl=400";

/// Gives the session an ID token that has lived five minutes and has five more to live.
fn half_through(home: &Sandbox, agent: &Agent<'_>) -> String {
    let token = Signer::new().token(json!({"iat": now() - 300, "exp": now() + 300}));
    home.change_session("work", |session| session.tokens.id_token = Some(Secret::new(token.clone())));
    agent.post("/v1/forget/work", "").expect_status(200);
    token
}
