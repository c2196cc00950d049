//! Tokens that are bound to a key (DPoP), and challenges that only another sign-in answers.

use std::collections::BTreeSet;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use authctl::dev_issuer::{Algorithm, DevIssuer};
use serde_json::json;

use super::{Proxy, logged_in};
use crate::support::agent::Agent;
use crate::support::jwt::claims;
use crate::support::mcp_server::{McpServer, Received, Reply};
use crate::support::{PASSWORD, Sandbox, USER, issuer};

/// Logs in with tokens that are bound to a key.
fn bound_session(home: &Sandbox) -> DevIssuer {
    let issuer = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.require_dpop = true;
    });
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--username", USER];
    home.run_with(&[&login[..], &["--password-stdin"]].concat(), &format!("{PASSWORD}\n")).exits(0);
    issuer
}

fn ok(reply: Reply, headers: &str) {
    reply.send(200, headers, "text/plain", "ok");
}

fn wants_nonce(reply: Reply, nonce: &str) {
    let headers = format!("www-authenticate: DPoP error=\"use_dpop_nonce\"\r\ndpop-nonce: {nonce}\r\n");
    reply.send(401, &headers, "text/plain", "");
}

#[test]
fn each_request_with_a_bound_token_has_a_proof_with_the_apis_nonce() {
    for with_agent in [false, true] {
        let home = Sandbox::new();
        let issuer = bound_session(&home);
        let _agent = with_agent.then(|| Agent::start(&home));
        let api = McpServer::start(|before, request: &Received, reply| {
            // A response brings the second nonce, and a refusal the third.
            let nonce = if before < 3 { "nonce-1" } else { "nonce-2" };
            match claims(request.header("dpop"))["nonce"] == nonce {
                true => ok(reply, if before == 2 { "dpop-nonce: nonce-2\r\n" } else { "" }),
                false => wants_nonce(reply, nonce),
            }
        });
        let proxy = Proxy::for_api(&home, &api.url);
        for number in 0..4 {
            let path = format!("/mcp/items?number={number}");
            assert_eq!(proxy.request("POST", &path, "the body"), (200, "ok".into()), "with an agent: {with_agent}");
        }
        let received = api.received();
        assert_eq!(received.len(), 5, "only the first request was sent twice");
        let mut seen = BTreeSet::new();
        for request in &received {
            assert!(request.header("authorization").starts_with("DPoP "), "{request:?}");
            assert_eq!(request.body, "the body");
            let proof = claims(request.header("dpop"));
            assert_eq!((&proof["htm"], &proof["htu"]), (&json!("POST"), &json!(format!("{}/items", api.url))));
            assert!(seen.insert(proof["jti"].to_string()), "a proof is used once");
        }
        assert_eq!(issuer.stats().refreshes_committed, 0, "a nonce is no reason to refresh");
    }
}

#[test]
fn api_that_never_takes_a_nonce_is_asked_three_times() {
    let home = Sandbox::new();
    let issuer = bound_session(&home);
    let api = McpServer::start(|before, _: &Received, reply| wants_nonce(reply, &format!("nonce-{before}")));
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/mcp").0, 401);
    assert_eq!((api.received().len(), issuer.stats().refreshes_committed), (3, 0));
}

#[test]
fn nonce_that_expires_on_the_way_is_replaced() {
    let home = Sandbox::new();
    let _issuer = bound_session(&home);
    let api =
        McpServer::start(|before, request: &Received, reply| match claims(request.header("dpop"))["nonce"] == "2" {
            true => ok(reply, ""),
            false => wants_nonce(reply, &(before + 1).to_string()),
        });
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.request("POST", "/mcp", "body"), (200, "ok".into()));
    assert!(api.received().iter().all(|request| request.body == "body"));
}

/// With one-time nonces, the other request would use it up.
#[test]
fn nonce_of_a_refusal_is_for_the_same_request() {
    let home = Sandbox::new();
    let _issuer = bound_session(&home);
    let (arrived, has_arrived) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let api = McpServer::start(move |before, _: &Received, reply| match before {
        0 | 2 | 4 => wants_nonce(reply, &before.to_string()),
        1 => ok(reply, "dpop-nonce: 1\r\n"),
        _ => {
            if before == 3 {
                arrived.send(()).unwrap();
                released.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap();
            }
            ok(reply, "");
        }
    });
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/mcp"), (200, "ok".into()));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| proxy.get("/mcp"));
        has_arrived.recv_timeout(Duration::from_secs(30)).expect("sent again with the nonce");
        assert_eq!(proxy.get("/mcp"), (200, "ok".into()));
        release.send(()).unwrap();
        assert_eq!(first.join().unwrap(), (200, "ok".into()));
    });
    let nonces: Vec<_> = api.received().iter().map(|request| claims(request.header("dpop"))["nonce"].clone()).collect();
    assert_eq!(nonces, [json!(null), json!("0"), json!("1"), json!("2"), json!("1"), json!("4")]);
}

#[test]
fn request_with_a_bearer_token_is_not_repeated_for_a_nonce() {
    let (home, _issuer) = logged_in();
    let api = McpServer::start(|_, _: &Received, reply| wants_nonce(reply, "nonce"));
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.get("/mcp").0, 401);
    assert_eq!(api.received().len(), 1);
}

#[test]
fn nonce_and_refresh_of_one_request_are_each_tried_once() {
    let home = Sandbox::new();
    let issuer = bound_session(&home);
    let refused = home.session("work").tokens.access_token.expose().to_owned();
    let api = McpServer::start(move |_, request: &Received, reply| {
        if claims(request.header("dpop"))["nonce"] != "nonce" {
            return wants_nonce(reply, "nonce");
        }
        match request.header("authorization").ends_with(&refused) {
            true => reply.send(401, "www-authenticate: DPoP error=\"invalid_token\"\r\n", "text/plain", ""),
            false => ok(reply, ""),
        }
    });
    let proxy = Proxy::for_api(&home, &api.url);
    assert_eq!(proxy.request("PUT", "/mcp", "body"), (200, "ok".into()));
    assert_eq!((api.received().len(), issuer.stats().refreshes_committed), (3, 1));
    assert!(api.received().iter().all(|request| request.body == "body"));
}

#[test]
fn caller_cannot_choose_the_proof_and_does_not_see_the_nonce() {
    let (home, _issuer) = logged_in();
    let api = McpServer::start(|_, _: &Received, reply| ok(reply, "dpop-nonce: nonce\r\n"));
    let proxy = Proxy::for_api(&home, &api.url);
    let (host, key) = (proxy.host(), &proxy.key);
    let reply = proxy.send(&format!(
        "GET /mcp HTTP/1.1\r\nHost: {host}\r\nX-Authctl-Key: {key}\r\nDPoP: a.b.c\r\nConnection: close\r\n\r\n"
    ));
    assert!(reply.contains("200") && !reply.contains("nonce"), "{reply}");
    assert_eq!(api.received()[0].header("dpop"), "");
}

/// Only a login helps, so the response passes, and the user gets the command.
#[test]
fn sign_in_that_the_api_wants_is_a_hint_and_an_event() {
    for (status, challenge, expected) in [
        (401, "error=\"insufficient_user_authentication\", acr_values=\"gold\", max_age=60", "--acr-values gold"),
        (403, "error=\"insufficient_scope\", scope=\"admin\"", "--scope admin"),
    ] {
        let (home, issuer) = logged_in();
        let agent = Agent::start(&home);
        let mut events = agent.events();
        let header = format!("www-authenticate: Bearer {challenge}\r\n");
        let api = McpServer::start(move |_, _: &Received, reply| reply.send(status, &header, "text/plain", "no"));
        let proxy = Proxy::for_api(&home, &api.url);
        let before = issuer.stats().requests["token"];
        for _ in 0..2 {
            assert_eq!(proxy.get("/mcp"), (status, "no".into()));
        }
        let (event, _) = events.until("sign_in_required");
        let message = event["message"].as_str().unwrap();
        assert_eq!(event["profile"], "work");
        assert!(message.contains("authctl login") && message.contains(expected), "{message}");
        assert!(!message.contains("--for"), "the profile stays one for any API: {message}");
        assert_eq!((issuer.stats().requests["token"], api.received().len()), (before, 2), "no refresh, no retry");
        let log = proxy.stop();
        assert_eq!(log.matches(expected).count(), 1, "the command is printed once: {log}");
        assert_eq!(log.matches("(from the API)").count(), 2, "{log}");
    }
}
