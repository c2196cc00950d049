//! A thousand clients at once: one refresh, the same token for all, and no error.

use authctl::dev_issuer::{DevIssuer, Endpoint, FaultKind};
use serde_json::Value;

use crate::support::agent::{Agent, Connection};
use crate::support::process::wait_until;

use super::super::token_exchange::exchanging_issuer;
use super::{LIFETIME, fault, logged_in};
use crate::support::Sandbox;

const CLIENTS: usize = 1000;

/// Sends all requests before the issuer responds. Checks that one refresh serves them, and returns the common response.
fn assert_one_refresh(method: &str, target: &str, expired: bool) -> Value {
    let (home, issuer) = logged_in(|_| {});
    let first = assert_shared(&home, &issuer, method, target, expired);
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
    assert_eq!(stats.token_requests.get("refresh_token"), Some(&1));
    first
}

/// Sends all requests before the issuer responds. Checks that all get the same response, and returns it.
fn assert_shared(home: &Sandbox, issuer: &DevIssuer, method: &str, target: &str, expired: bool) -> Value {
    let agent = Agent::run(home);
    agent.get("/v1/token").expect_status(200);
    fault(issuer, Endpoint::Metadata, FaultKind::Hold, 0);
    if expired {
        home.advance_agent_time(&agent, "work", LIFETIME + 1);
    }
    let mut all: Vec<Connection> = (0..CLIENTS).map(|_| agent.start_request(method, target)).collect();
    wait_until("all connections", || (agent.connections() == CLIENTS as u64).then_some(()));
    wait_until("the first request", || (issuer.stats().faults == 1).then_some(()));
    assert_eq!(issuer.stats().refreshes_committed, 0, "all requests were sent before the first refresh");
    issuer.clear_faults();
    let mut responses = all.iter_mut().map(|client| {
        let mut response = client.response().expect("a response").expect_status(200);
        response.as_object_mut().unwrap().remove("expires_in");
        response
    });
    let first = responses.next().unwrap();
    for response in responses {
        assert_eq!(response, first);
    }
    drop(all);
    wait_until("the connections to close", || (agent.connections() == 0).then_some(()));
    first
}

#[test]
fn thousand_clients_share_a_refresh_of_an_expired_token() {
    assert_one_refresh("GET", "/v1/token/work", true);
}

#[test]
fn thousand_forced_refreshes_are_one() {
    assert_eq!(assert_one_refresh("POST", "/v1/refresh/work", false)["refreshed"], true);
}

#[test]
fn thousand_clients_share_a_narrower_token() {
    assert_eq!(assert_one_refresh("GET", "/v1/token/work?scope=profile", false)["scope"], "profile");
}

#[test]
fn thousand_clients_share_a_token_for_another_audience() {
    assert_one_refresh("GET", "/v1/token/work?audience=https%3A%2F%2Fapi.example", false);
}

#[test]
fn thousand_clients_share_a_token_exchange() {
    let (home, issuer) = (Sandbox::new(), exchanging_issuer(|_| {}));
    home.log_in("work", &issuer);
    home.session("work");
    assert_shared(&home, &issuer, "GET", "/v1/token/work?audience=https%3A%2F%2Fapi.example", true);
    let requests = issuer.stats().token_requests;
    assert_eq!(requests.get("urn:ietf:params:oauth:grant-type:token-exchange"), Some(&1));
    assert_eq!(requests.get("refresh_token"), Some(&1), "of the session's own token");
}
