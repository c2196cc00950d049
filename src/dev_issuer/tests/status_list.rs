//! Status lists, as a verifier sees them.

use super::*;
use crate::verify::{
    KeySet, Reason, ReasonCode, StatusClaim, StatusList, StatusListError, StatusListPolicy, TokenStatus, check_status,
};

const TTL: Duration = Duration::from_secs(120);

fn issuer_with_status_list(options: Options) -> TestIssuer {
    start(Options { status_list_ttl: Some(TTL), ..options })
}

fn status_claim(access_token: &Value) -> StatusClaim {
    let claims = claims(access_token);
    StatusClaim::read(claims.as_object().expect("object")).expect("well-formed").expect("present")
}

impl TestIssuer {
    fn now(&self) -> UnixTime {
        self.server.issuer.now()
    }

    /// Returns the list as a verifier reads it.
    async fn list(&self) -> Result<StatusList, StatusListError> {
        let issuer = self.url();
        let text = async |path: &str| {
            let reply = self.http.get(format!("{issuer}/{path}")).send().await.expect("sent");
            assert_eq!(reply.status(), 200);
            reply.text().await.expect("text")
        };
        let keys = KeySet::from_jwks(&text("jwks").await).expect("keys");
        let uri = format!("{issuer}/statuslists/1");
        StatusList::read(&text("statuslists/1").await, &keys, &StatusListPolicy::new(&uri, issuer, self.now()))
    }

    async fn status(&self, tokens: &Value) -> TokenStatus {
        self.list().await.expect("valid").status(status_claim(&tokens["access_token"]).index)
    }

    async fn revoke(&self, token: &Value) {
        let form = [("client_id", "authctl"), ("token", token.as_str().expect("a token"))];
        assert_eq!(self.post("revoke", &form).await.0, 200);
    }
}

#[tokio::test]
async fn status_list_marks_only_the_revoked_token() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let issuer = issuer_with_status_list(Options { algorithm, path: "/tenant".into(), ..options() });
        let (one, two) = (issuer.login().await, issuer.login().await);
        let (first, second) = (status_claim(&one["access_token"]), status_claim(&two["access_token"]));
        assert_eq!(first.uri, format!("{}/statuslists/1", issuer.url()));
        assert_eq!((&first.uri, first.index), (&second.uri, second.index - 1), "each its own");
        let list = issuer.list().await.expect("valid");
        assert_eq!(check_status(&first, Some(&list), issuer.now()), None);
        let left = issuer.now().until(list.fresh_until());
        assert!(left <= TTL && left + Duration::from_secs(60) > TTL, "{left:?}");
        issuer.revoke(&one["access_token"]).await;
        let list = issuer.list().await.expect("valid");
        let code =
            |status_claim| check_status(status_claim, Some(&list), issuer.now()).map(|reason: Reason| reason.code);
        assert_eq!((code(&first), code(&second)), (Some(ReasonCode::Revoked), None));
    }
}

#[tokio::test]
async fn every_kind_of_revocation_marks_all_access_tokens() {
    let issuer = issuer_with_status_list(options());
    let other = issuer.login().await;
    let one = issuer.login().await;
    let (_, two) = issuer.refresh(&one["refresh_token"]).await;
    assert_eq!((issuer.status(&one).await, issuer.status(&two).await), (TokenStatus::Valid, TokenStatus::Valid));
    issuer.revoke(&two["refresh_token"]).await;
    assert_eq!((issuer.status(&one).await, issuer.status(&two).await), (TokenStatus::Invalid, TokenStatus::Invalid));

    let one = issuer.login().await;
    let (_, two) = issuer.refresh(&one["refresh_token"]).await;
    assert_error(issuer.refresh(&one["refresh_token"]).await, "invalid_grant");
    assert_eq!(
        (issuer.status(&one).await, issuer.status(&two).await),
        (TokenStatus::Invalid, TokenStatus::Invalid),
        "reuse"
    );

    assert_eq!(issuer.status(&other).await, TokenStatus::Valid);
    issuer.server.revoke_everything();
    assert_eq!(issuer.status(&other).await, TokenStatus::Invalid);

    let last = issuer.login().await;
    assert!(issuer.server.change_password("developer", &Secret::new("new".into())));
    assert_eq!(issuer.status(&last).await, TokenStatus::Invalid);
}

#[tokio::test]
async fn suspension_of_an_access_token_can_be_lifted() {
    let mut options = options();
    let _ = options.enable_control();
    let issuer = issuer_with_status_list(options);
    let tokens = issuer.login().await;
    let token = tokens["access_token"].as_str().expect("a token");
    let control = async |suspended: bool, token: &str| {
        let body = json!({"token": token, "suspended": suspended}).to_string();
        issuer.control("suspend", &body).await
    };
    assert_eq!(control(true, token).await, 204);
    assert_eq!(issuer.status(&tokens).await, TokenStatus::Suspended);
    assert!(!issuer.accepts(&tokens["access_token"]).await, "and everywhere else");
    assert!(issuer.server.suspend(&Secret::new(token.to_owned()), false));
    assert_eq!(issuer.status(&tokens).await, TokenStatus::Valid);
    assert!(issuer.accepts(&tokens["access_token"]).await);
    assert_eq!(control(true, "unknown").await, 404);
    assert!(!issuer.server.suspend(&Secret::new("unknown".into()), true));
}

#[tokio::test]
async fn invalid_list_fails_for_the_requested_defect() {
    let issuer = issuer_with_status_list(options());
    issuer.login().await;
    for (defect, error) in [
        (StatusListDefect::Truncated, StatusListError::Damaged),
        (StatusListDefect::WrongSignature, StatusListError::InvalidToken(vec![ReasonCode::InvalidSignature])),
        (StatusListDefect::Expired, StatusListError::InvalidToken(vec![ReasonCode::Expired])),
        (StatusListDefect::DecompressionBomb, StatusListError::TooLong),
        (StatusListDefect::WrongSubject, StatusListError::OtherList),
        (StatusListDefect::WrongType, StatusListError::InvalidToken(vec![ReasonCode::WrongType])),
    ] {
        let kind = FaultKind::InvalidStatusList { defect };
        issuer.server.fault(Fault { endpoint: Endpoint::StatusList, kind, times: 1 });
        assert_eq!(issuer.list().await, Err(error), "{defect:?}");
        assert!(issuer.list().await.is_ok(), "{defect:?}");
    }
    assert_eq!(issuer.server.stats().requests["status_list"], 12);
}

#[tokio::test]
async fn status_lists_exist_only_if_enabled() {
    let serving = issuer_with_status_list(options());
    let ask = async |issuer: &TestIssuer, path: &str| {
        issuer.http.get(format!("{}/{path}", issuer.url())).send().await.expect("sent")
    };
    let reply = ask(&serving, "statuslists/1").await;
    assert_eq!(reply.headers()["content-type"], "application/statuslist+jwt");
    for path in ["statuslists/0", "statuslists/2", "statuslists/x", "statuslists/", "statuslists"] {
        assert_eq!(ask(&serving, path).await.status(), 404, "{path}");
    }
    assert_eq!(serving.post("statuslists/1", &[]).await.0, 405);
    let without = start(options());
    assert_eq!(claims(&without.login().await["access_token"]).get("status"), None);
    assert_eq!(ask(&without, "statuslists/1").await.status(), 404);
    let opaque = issuer_with_status_list(Options { opaque_access_tokens: true, ..options() });
    assert_eq!(opaque.login().await["access_token"].as_str().map(str::len), Some(43));
    assert_eq!(opaque.server.issuer.state().next_serial, 0);
}
