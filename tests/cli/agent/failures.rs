//! Issuer failures: other profiles are not delayed, valid tokens are still issued, and retries are limited.

use std::time::{Duration, Instant};

use authctl::dev_issuer::{Endpoint, FaultKind};
use serde_json::json;

use crate::support::agent::{Agent, Response};
use crate::support::process::wait_until;
use crate::support::quick_issuer;

use super::{DUE, LIFETIME, REFRESHED_ID_TOKEN, fault, logged_in, set_half_expired_id_token, token_requests};

#[test]
fn hung_issuer_delays_only_its_own_profiles() {
    let (home, hanging) = logged_in(|_| {});
    let other = quick_issuer();
    home.log_in("other", &other);
    let agent = Agent::run(&home);
    for endpoint in [Endpoint::Metadata, Endpoint::Token] {
        fault(&hanging, endpoint, FaultKind::Hold, 0);
    }
    home.advance_agent_time(&agent, "work", LIFETIME + 1);
    let mut waiting: Vec<_> = (0..100).map(|_| agent.start_request("GET", "/v1/token/work")).collect();
    wait_until("the request", || (hanging.stats().faults == 1).then_some(()));
    // The minimum of five, because the machine may be busy.
    let token = || {
        let started = Instant::now();
        agent.get("/v1/token/other").token();
        started.elapsed()
    };
    let fastest = (0..5).map(|_| token()).min().unwrap();
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    agent.post("/v1/refresh/other", "").expect_status(200);
    agent.get("/v1/status").expect_status(200);
    assert_eq!(hanging.stats().refreshes_committed, 0, "the issuer still hangs");
    hanging.clear_faults();
    let first = waiting[0].response().expect("a response").token();
    assert!(waiting[1..].iter_mut().all(|client| client.response().expect("a response").token() == first));
}

#[test]
fn valid_token_is_served_although_the_issuer_hangs() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let first = agent.get("/v1/token").token();
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 0);
    home.advance_agent_time(&agent, "work", DUE);
    let started = Instant::now();
    assert_eq!(agent.get("/v1/token").token(), first);
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert_eq!(agent.request("GET", "/v1/token", &["Prefer: wait=0"], "").token(), first);
    issuer.clear_faults();
    wait_until("the new token", || (agent.get("/v1/token").token() != first).then_some(()));
    assert_eq!(issuer.stats().refreshes_committed, 1);
}

#[test]
fn prefer_wait_limits_the_wait_for_a_refresh() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 0);
    home.advance_agent_time(&agent, "work", LIFETIME + 1);
    let started = Instant::now();
    let response = agent.request("GET", "/v1/token/work", &["Prefer: wait=1"], "");
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    response.expect_problem(503, "refresh_in_progress");
    assert!(response.header("retry-after").is_some(), "{response:?}");
    issuer.clear_faults();
    agent.request("GET", "/v1/token/work", &["Prefer: wait=20"], "").token();
}

#[test]
fn unreachable_issuer_is_reported_and_backed_off() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    fault(&issuer, Endpoint::Token, FaultKind::TooManyRequests { retry_after: 90 }, 0);
    home.advance_agent_time(&agent, "work", LIFETIME + 1);
    let before = token_requests(&issuer);
    let responses: Vec<_> = (0..300).map(|_| agent.get("/v1/token/work")).collect();
    for response in &responses {
        assert_eq!(response.expect_problem(503, "issuer_unreachable")["exit_code"], 6);
        let seconds: u64 = response.header("retry-after").expect("a header").parse().expect("seconds");
        assert!((1..=90).contains(&seconds), "{response:?}");
    }
    assert_eq!(token_requests(&issuer) - before, 1, "one request, then none until Retry-After");
    assert_eq!(events.until("refresh_failed").0["profile"], "work");
    home.run(&["token", "work"]).exits(6);
}

#[test]
fn failed_refreshes_are_tried_once_a_second_at_most() {
    let (home, mut issuer) = logged_in(|_| {});
    // The mark that a change of the profile has left in another store, before it moved to this one.
    let run = home.path().join("run");
    std::fs::create_dir_all(run.join("authctl-data/locks")).unwrap();
    std::fs::write(run.join("bus"), "").unwrap();
    std::fs::write(run.join("authctl-data/locks/work.lock"), "").unwrap();
    let agent = Agent::run(&home);
    fault(&issuer, Endpoint::Metadata, FaultKind::ServerError, 0);
    home.advance_agent_time(&agent, "work", LIFETIME + 1);
    let requests = |issuer: &authctl::dev_issuer::DevIssuer| issuer.stats().requests["metadata"];
    let (before, started) = (requests(&issuer), Instant::now());
    for _ in 0..300 {
        let response = agent.get("/v1/token/work");
        response.expect_problem(503, "issuer_unreachable");
        assert!(response.header("retry-after").is_some(), "{response:?}");
    }
    let (sent, seconds) = (requests(&issuer) - before, started.elapsed().as_secs());
    // Both metadata addresses may be tried each time.
    assert!(sent <= 2 * (seconds + 2), "{sent} requests in {seconds} s");
    issuer.clear_faults();
    issuer.pause();
    wait_until("the refusal", || (agent.get("/v1/token/work").status == 503).then_some(()));
    issuer.resume().unwrap();
    wait_until("the token", || (agent.get("/v1/token/work").status == 200).then_some(()));
}

#[test]
fn refresh_token_refused_twice_is_published_once_and_left_alone() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    fault(&issuer, Endpoint::Token, FaultKind::OAuthError { status: 400, code: "invalid_request".into() }, 0);
    home.advance_agent_time(&agent, "work", LIFETIME + 1);
    wait_until("the verdict", || (agent.get("/v1/token/work").status == 401).then_some(()));
    let before = token_requests(&issuer);
    for _ in 0..20 {
        let problem = agent.get("/v1/token/work").expect_problem(401, "login_required");
        assert_eq!(problem["hint"], "authctl login work");
    }
    assert_eq!((token_requests(&issuer), before), (before, 3), "the login and two refreshes");
    assert_eq!(events.until("login_required").0["profile"], json!("work"));
    issuer.clear_faults();
    // The next event is the refresh: the end was published once.
    agent.post("/v1/refresh/work", "").expect_status(200);
    assert_eq!(events.until("refreshed").1, Vec::<String>::new());
    agent.get("/v1/token/work").token();
}

#[test]
fn end_of_a_session_is_published_once() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    issuer.revoke_everything();
    home.advance_agent_time(&agent, "work", LIFETIME + 1);
    let before = token_requests(&issuer);
    for _ in 0..20 {
        let response = agent.get("/v1/token/work");
        let problem = response.expect_problem(401, "login_required");
        assert!(problem["hint"].as_str().unwrap().contains("authctl login work"), "{problem}");
        assert!(response.header("www-authenticate").is_some(), "{response:?}");
    }
    agent.post("/v1/refresh/work", "").expect_problem(401, "login_required");
    home.run(&["token", "work"]).exits(3).reports("authctl login work");
    assert_eq!(token_requests(&issuer) - before, 1, "one request");
    assert_eq!(events.until("login_required").0["profile"], json!("work"));
    // The next event after a login is the refresh: the ended session was published once.
    home.log_in("work", &issuer);
    agent.post("/v1/refresh/work", "").expect_status(200);
    assert_eq!(events.until("refreshed").1, Vec::<String>::new());
    // The end of the new session is published too.
    issuer.revoke_everything();
    agent.post("/v1/refresh/work", "").expect_problem(401, "login_required");
    assert_eq!(events.until("login_required").0["profile"], json!("work"));
}

/// The caller requires a longer lifetime than the token has left, and gets the token after any other failure.
#[test]
fn valid_token_is_withheld_if_its_refresh_shows_the_end() {
    for has_ended in [false, true] {
        let (home, issuer) = logged_in(|_| {});
        let agent = Agent::run(&home);
        home.advance_agent_time(&agent, "work", 60);
        if has_ended {
            issuer.revoke_everything();
        } else {
            fault(&issuer, Endpoint::Token, FaultKind::Unavailable, 0);
        }
        let response = agent.get("/v1/token/work?min_ttl=250");
        match has_ended {
            false => drop(response.token()),
            true => drop(response.expect_problem(401, "login_required")),
        }
        assert!(issuer.stats().requests["token"] > 1, "a refresh was tried");
    }
}

#[test]
fn valid_id_token_is_served_although_the_issuer_hangs() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let first = set_half_expired_id_token(&home, &agent);
    let id_token =
        |response: Response| response.expect_status(200)["id_token"].as_str().expect("an ID token").to_owned();
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 0);
    let started = Instant::now();
    assert_eq!(id_token(agent.get(REFRESHED_ID_TOKEN)), first);
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    // Later callers do not wait for the hung refresh.
    let started = Instant::now();
    for _ in 0..10 {
        assert_eq!(id_token(agent.get(REFRESHED_ID_TOKEN)), first);
        assert_eq!(id_token(agent.request("GET", REFRESHED_ID_TOKEN, &["Prefer: wait=0"], "")), first);
    }
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    issuer.clear_faults();
    wait_until("the new token", || (id_token(agent.get(REFRESHED_ID_TOKEN)) != first).then_some(()));
    assert_eq!(issuer.stats().refreshes_committed, 1);
}

#[test]
fn id_token_requests_respect_the_backoff() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let first = set_half_expired_id_token(&home, &agent);
    fault(&issuer, Endpoint::Token, FaultKind::OAuthError { status: 400, code: "invalid_scope".into() }, 0);
    let (before, started) = (token_requests(&issuer), Instant::now());
    for _ in 0..20 {
        assert_eq!(agent.get(REFRESHED_ID_TOKEN).expect_status(200)["id_token"], first);
    }
    // The first backoff is longer than a second, and the next ones are longer.
    let (sent, seconds) = (token_requests(&issuer) - before, started.elapsed().as_secs());
    assert!(sent <= 1 + seconds, "{sent} requests in {seconds} s");
}
