//! Faults.

use super::*;

#[tokio::test]
async fn each_fault_changes_the_reply_as_documented() {
    let issuer = start(options());
    let tokens = issuer.login().await;
    let fault = |kind| issuer.server.fault(Fault { endpoint: Endpoint::Token, kind, times: 1 });
    let url = format!("{}/token", issuer.url());
    let token = tokens["refresh_token"].as_str().expect("a token");
    let send = || {
        let form = [("client_id", "authctl"), ("grant_type", "refresh_token"), ("refresh_token", token)];
        issuer.http.post(&url).form(&form).send()
    };
    for (kind, status) in [
        (FaultKind::Html, 200),
        (FaultKind::InvalidJson, 200),
        (FaultKind::EmptyBody { status: 204 }, 204),
        (FaultKind::ServerError, 500),
        (FaultKind::TooManyRequests { retry_after: 7 }, 429),
        (FaultKind::OAuthError { status: 400, code: "invalid_grant".into() }, 400),
    ] {
        fault(kind.clone());
        let (seen, body) = json_reply(send().await.expect("a reply")).await;
        assert_eq!((seen, body.get("access_token")), (status, None), "{kind:?}");
    }
    fault(FaultKind::HugeBody);
    assert_eq!(send().await.expect("a reply").bytes().await.expect("a body").len(), 64 << 20);
    fault(FaultKind::Reset);
    assert!(send().await.is_err());
    assert_eq!(issuer.server.stats().refreshes_committed, 0);
    fault(FaultKind::LostReply);
    assert!(send().await.is_err());
    assert_eq!(issuer.server.stats().refreshes_committed, 1);
    // The client that did not see the reply and sends again has lost its session.
    assert_error(issuer.refresh(&tokens["refresh_token"]).await, "invalid_grant");
    let metadata = format!("{}/.well-known/openid-configuration", issuer.url());
    issuer.server.fault(Fault { endpoint: Endpoint::Metadata, kind: FaultKind::IssuerMismatch, times: 1 });
    let (_, body) = json_reply(issuer.http.get(&metadata).send().await.expect("sent")).await;
    assert_ne!(body["issuer"], issuer.url());
    let (_, body) = json_reply(issuer.http.get(&metadata).send().await.expect("sent")).await;
    assert_eq!(body["issuer"], issuer.url());
}

#[tokio::test]
async fn held_requests_continue_when_faults_are_cleared() {
    let issuer = Arc::new(start(options()));
    for (kind, committed_while_held) in [(FaultKind::Hold, 0), (FaultKind::HoldReply, 1)] {
        let tokens = issuer.login().await;
        let before = issuer.server.stats();
        issuer.server.fault(Fault { endpoint: Endpoint::Token, kind, times: 1 });
        let held = {
            let (issuer, token) = (Arc::clone(&issuer), tokens["refresh_token"].clone());
            tokio::spawn(async move { issuer.refresh(&token).await.0 })
        };
        let committed = || issuer.server.stats().refreshes_committed - before.refreshes_committed;
        let is_held = async {
            while issuer.server.stats().faults == before.faults || committed() < committed_while_held {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_held).await.expect("the request is held");
        assert_eq!(committed(), committed_while_held);
        assert!(!held.is_finished());
        issuer.server.clear_faults();
        assert_eq!(held.await.expect("ran"), 200);
    }
}
