//! A thousand clients at once: one refresh, the same token for all, and no error.

use authctl::dev_issuer::{Endpoint, FaultKind};
use serde_json::Value;

use crate::support::agent::{Agent, Connection};
use crate::support::process::wait_until;

use super::{LIFE, fault, logged_in};

const MANY: usize = 1000;

/// Has all of them ask before the issuer says a word; gives what they were told, which is the same.
fn one_for_all(method: &str, target: &str, expired: bool) -> Value {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.get("/v1/token").expect_status(200);
    fault(&issuer, Endpoint::Metadata, FaultKind::Hold, 0);
    if expired {
        home.advance_agent_time(&agent, "work", LIFE + 1);
    }
    let mut all: Vec<Connection> = (0..MANY).map(|_| agent.start_request(method, target)).collect();
    wait_until("all of them", || (agent.connections() == MANY as u64).then_some(()));
    wait_until("the first request", || (issuer.stats().faults == 1).then_some(()));
    assert_eq!(issuer.stats().refreshes_committed, 0, "all have asked before the first refresh");
    issuer.clear_faults();
    let mut answers = all.iter_mut().map(|one| {
        let mut answer = one.response().expect("an answer").expect_status(200);
        answer.as_object_mut().unwrap().remove("expires_in");
        answer
    });
    let first = answers.next().unwrap();
    for answer in answers {
        assert_eq!(answer, first);
    }
    let stats = issuer.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 0, 0));
    assert_eq!(stats.token_requests.get("refresh_token"), Some(&1));
    drop(all);
    wait_until("their end", || (agent.connections() == 0).then_some(()));
    first
}

#[test]
fn thousand_clients_share_a_refresh_of_an_expired_token() {
    one_for_all("GET", "/v1/token/work", true);
}

#[test]
fn thousand_forced_refreshes_are_one() {
    assert_eq!(one_for_all("POST", "/v1/refresh/work", false)["refreshed"], true);
}

#[test]
fn thousand_clients_share_a_narrower_token() {
    assert_eq!(one_for_all("GET", "/v1/token/work?scope=profile", false)["scope"], "profile");
}

#[test]
fn thousand_clients_share_a_token_for_another_audience() {
    one_for_all("GET", "/v1/token/work?audience=https%3A%2F%2Fapi.example", false);
}
