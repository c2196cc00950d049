//! Client authentication, revocation and introspection.

use super::*;

#[tokio::test]
async fn confidential_clients_must_authenticate() {
    let issuer = start(options());
    let secret = issuer.server.client_secret("authctl-service").expect("drawn");
    let url = format!("{}/token", issuer.url());
    let form = [("grant_type", "client_credentials"), ("scope", "read openid offline_access")];
    let request = |secret: &str| issuer.http.post(&url).basic_auth("authctl-service", Some(secret)).form(&form);
    let (status, tokens) = json_reply(request(secret.expose()).send().await.expect("sent")).await;
    assert_eq!((status, &tokens["scope"]), (200, &json!("read")));
    assert_eq!((tokens.get("refresh_token"), tokens.get("id_token")), (None, None));
    let wrong = request("wrong").send().await.expect("sent");
    assert!(wrong.headers().contains_key("www-authenticate"));
    assert_eq!(json_reply(wrong).await.0, 401);
    let bare = [("grant_type", "client_credentials"), ("client_id", "authctl-service")];
    assert_eq!(issuer.post("token", &bare).await.0, 401);
    assert_error(issuer.token(&[("grant_type", "client_credentials")]).await, "unauthorized_client");
}

#[tokio::test]
async fn revoked_tokens_are_inactive_in_introspection() {
    let issuer = start(Options { opaque_access_tokens: true, ..options() });
    let tokens = issuer.login().await;
    let text = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    let (access, refresh) = (text("access_token"), text("refresh_token"));
    let ask = |token: String| {
        let issuer = &issuer;
        async move { issuer.post("introspect", &[("client_id", "authctl"), ("token", &token)]).await.1 }
    };
    assert_eq!(ask(access.clone()).await["username"], "developer");
    assert_eq!(ask("unknown".into()).await, json!({"active": false}));
    let revoke = |token: &str| vec![("client_id", "authctl".to_owned()), ("token", token.to_owned())];
    let url = format!("{}/revoke", issuer.url());
    let unknown = issuer.http.post(&url).form(&revoke("unknown")).send().await.expect("sent");
    assert_eq!(unknown.status(), 200);
    assert_eq!(issuer.http.post(&url).form(&revoke(&refresh)).send().await.expect("sent").status(), 200);
    assert_eq!(ask(access).await, json!({"active": false}));
    assert_error(issuer.refresh(&tokens["refresh_token"]).await, "invalid_grant");
}
