//! Tokens that are bound to a key: each request has a proof of its own, with the nonce that the server wants.

use std::collections::BTreeSet;

use authctl::dev_issuer::Algorithm;
use serde_json::json;

use super::Client;
use crate::support::agent::Agent;
use crate::support::jwt::claims;
use crate::support::mcp_server::{McpServer, answer};
use crate::support::{PASSWORD, Sandbox, USER, issuer};

#[test]
fn each_request_with_a_bound_token_has_a_proof_with_the_servers_nonce() {
    for with_agent in [false, true] {
        let home = Sandbox::new();
        let issuer = issuer(|options| {
            options.algorithm = Algorithm::ES256;
            options.require_dpop = true;
        });
        let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--username", USER];
        home.run_with(&[&login[..], &["--password-stdin"]].concat(), &format!("{PASSWORD}\n")).exits(0);
        let _agent = with_agent.then(|| Agent::start(&home));
        let server = McpServer::start(|before, request, reply| {
            // The nonce changes once.
            let nonce = if before < 4 { "nonce-1" } else { "nonce-2" };
            if claims(request.header("dpop"))["nonce"] == nonce {
                return answer(request, reply);
            }
            let header = format!("www-authenticate: DPoP error=\"use_dpop_nonce\"\r\ndpop-nonce: {nonce}\r\n");
            reply.send(401, &header, "text/plain", "");
        });
        let mut client = Client::connect(&home, &server);
        for id in 1..=4 {
            assert_eq!(client.request(id, "ping", &json!({}))["result"], json!({}), "with an agent: {with_agent}");
        }
        client.close();
        let received = server.received();
        let refused = received.iter().filter(|request| claims(request.header("dpop"))["nonce"].is_null()).count();
        assert_eq!(refused, 1, "only the first request has no nonce");
        let mut seen = BTreeSet::new();
        for request in &received {
            assert!(request.header("authorization").starts_with("DPoP "), "{request:?}");
            let proof = claims(request.header("dpop"));
            assert_eq!((&proof["htm"], &proof["htu"]), (&json!(request.method), &json!(server.url)));
            assert!(seen.insert(proof["jti"].to_string()), "a proof is used once");
        }
        assert_eq!(issuer.stats().refreshes_committed, 0, "a nonce is no reason to refresh");
    }
}
