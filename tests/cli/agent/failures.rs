//! An issuer in trouble: nobody else waits for it, a valid token is handed out in time, and it is not stormed.

use std::time::{Duration, Instant};

use authctl::dev_issuer::{Endpoint, FaultKind};
use serde_json::json;

use crate::support::agent::{Agent, Response};
use crate::support::process::wait_until;
use crate::support::quick_issuer;

use super::{DUE, LIFE, MORE_THAN_HALF, asked, fault, half_through, logged_in};

#[test]
fn hung_issuer_delays_only_its_own_profiles() {
    let (home, hanging) = logged_in(|_| {});
    let other = quick_issuer();
    home.log_in("other", &other);
    let agent = Agent::run(&home);
    for endpoint in [Endpoint::Metadata, Endpoint::Token] {
        fault(&hanging, endpoint, FaultKind::Hold, 0);
    }
    home.advance_agent_time(&agent, "work", LIFE + 1);
    let mut waiting: Vec<_> = (0..100).map(|_| agent.start_request("GET", "/v1/token/work")).collect();
    wait_until("the request", || (hanging.stats().faults == 1).then_some(()));
    // The best of some: this machine has other things to do.
    let token = || {
        let begun = Instant::now();
        agent.get("/v1/token/other").token();
        begun.elapsed()
    };
    let quickest = (0..5).map(|_| token()).min().unwrap();
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
    agent.post("/v1/refresh/other", "").expect_status(200);
    agent.get("/v1/status").expect_status(200);
    assert_eq!(hanging.stats().refreshes_committed, 0, "it hangs all the time");
    hanging.clear_faults();
    let first = waiting[0].response().expect("an answer").token();
    assert!(waiting[1..].iter_mut().all(|one| one.response().expect("an answer").token() == first));
}

#[test]
fn valid_token_is_served_although_the_issuer_hangs() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let first = agent.get("/v1/token").token();
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 0);
    home.advance_agent_time(&agent, "work", DUE);
    let begun = Instant::now();
    assert_eq!(agent.get("/v1/token").token(), first);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(agent.request("GET", "/v1/token", &["Prefer: wait=0"], "").token(), first);
    issuer.clear_faults();
    wait_until("the new one", || (agent.get("/v1/token").token() != first).then_some(()));
    assert_eq!(issuer.stats().refreshes_committed, 1);
}

#[test]
fn caller_waits_no_longer_than_it_prefers() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 0);
    home.advance_agent_time(&agent, "work", LIFE + 1);
    let begun = Instant::now();
    let answer = agent.request("GET", "/v1/token/work", &["Prefer: wait=1"], "");
    let waited = begun.elapsed();
    answer.expect_problem(503, "refresh_in_progress");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
    issuer.clear_faults();
    agent.request("GET", "/v1/token/work", &["Prefer: wait=20"], "").token();
}

#[test]
fn unreachable_issuer_is_reported_and_backed_off() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    fault(&issuer, Endpoint::Token, FaultKind::TooManyRequests { retry_after: 90 }, 0);
    home.advance_agent_time(&agent, "work", LIFE + 1);
    let before = asked(&issuer);
    let answers: Vec<_> = (0..300).map(|_| agent.get("/v1/token/work")).collect();
    for answer in &answers {
        assert_eq!(answer.expect_problem(503, "issuer_unreachable")["exit_code"], 6);
        let seconds: u64 = answer.header("retry-after").expect("when").parse().expect("seconds");
        assert!((1..=90).contains(&seconds), "{answer:?}");
    }
    assert_eq!(asked(&issuer) - before, 1, "it is asked once, and left alone as it wanted");
    assert_eq!(events.until("refresh_failed").0["profile"], "work");
    home.run(&["token", "work"]).exits(6);
}

#[test]
fn failed_refreshes_are_tried_once_a_second_at_most() {
    let (home, mut issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    fault(&issuer, Endpoint::Metadata, FaultKind::ServerError, 0);
    home.advance_agent_time(&agent, "work", LIFE + 1);
    let requests = |issuer: &authctl::dev_issuer::DevIssuer| issuer.stats().requests["metadata"];
    let (before, begun) = (requests(&issuer), Instant::now());
    for _ in 0..300 {
        let answer = agent.get("/v1/token/work");
        answer.expect_problem(503, "issuer_unreachable");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    let (came, seconds) = (requests(&issuer) - before, begun.elapsed().as_secs());
    // Both metadata addresses may be tried each time.
    assert!(came <= 2 * (seconds + 2), "{came} requests in {seconds} s");
    issuer.clear_faults();
    issuer.pause();
    wait_until("the refusal", || (agent.get("/v1/token/work").status == 503).then_some(()));
    issuer.resume().unwrap();
    wait_until("the token", || (agent.get("/v1/token/work").status == 200).then_some(()));
}

#[test]
fn end_of_a_session_is_published_once() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let mut events = agent.events();
    issuer.revoke_everything();
    home.advance_agent_time(&agent, "work", LIFE + 1);
    let before = asked(&issuer);
    for _ in 0..20 {
        let answer = agent.get("/v1/token/work");
        let problem = answer.expect_problem(401, "login_required");
        assert!(problem["hint"].as_str().unwrap().contains("authctl login work"), "{problem}");
        assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
    }
    agent.post("/v1/refresh/work", "").expect_problem(401, "login_required");
    home.run(&["token", "work"]).exits(3).reports("authctl login work");
    assert_eq!(asked(&issuer) - before, 1, "one request, and no more");
    assert_eq!(events.until("login_required").0["profile"], json!("work"));
    // A login mends it, and nothing more was told meanwhile.
    home.log_in("work", &issuer);
    agent.post("/v1/refresh/work", "").expect_status(200);
    assert_eq!(events.until("refreshed").1, Vec::<String>::new());
    // That one's end is told as well.
    issuer.revoke_everything();
    agent.post("/v1/refresh/work", "").expect_problem(401, "login_required");
    assert_eq!(events.until("login_required").0["profile"], json!("work"));
}

#[test]
fn valid_id_token_is_served_although_the_issuer_hangs() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let first = half_through(&home, &agent);
    let id_token = |answer: Response| answer.expect_status(200)["id_token"].as_str().expect("an ID token").to_owned();
    fault(&issuer, Endpoint::Token, FaultKind::Hold, 0);
    let begun = Instant::now();
    assert_eq!(id_token(agent.get(MORE_THAN_HALF)), first);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    // Whoever comes then finds that the refresh hangs, and does not wait to see it.
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(id_token(agent.get(MORE_THAN_HALF)), first);
        assert_eq!(id_token(agent.request("GET", MORE_THAN_HALF, &["Prefer: wait=0"], "")), first);
    }
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    issuer.clear_faults();
    wait_until("the new one", || (id_token(agent.get(MORE_THAN_HALF)) != first).then_some(()));
    assert_eq!(issuer.stats().refreshes_committed, 1);
}

#[test]
fn id_token_requests_respect_the_backoff() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let first = half_through(&home, &agent);
    fault(&issuer, Endpoint::Token, FaultKind::OAuthError { status: 400, code: "invalid_scope".into() }, 0);
    let (before, begun) = (asked(&issuer), Instant::now());
    for _ in 0..20 {
        assert_eq!(agent.get(MORE_THAN_HALF).expect_status(200)["id_token"], first);
    }
    // The first pause is longer than a second, the next ones longer yet.
    let (came, seconds) = (asked(&issuer) - before, begun.elapsed().as_secs());
    assert!(came <= 1 + seconds, "{came} requests in {seconds} s");
}
