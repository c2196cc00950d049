//! The device authorization grant.

use super::*;

#[tokio::test]
async fn device_code_returns_tokens_once_after_consent() {
    let issuer = start(Options { device_interval: Duration::ZERO, ..options() });
    let form = [("client_id", "authctl"), ("scope", ALL_SCOPES)];
    let (_, device) = issuer.post("device_authorization", &form).await;
    let code = device["device_code"].as_str().expect("a code").to_owned();
    let poll = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", code.as_str())];
    assert_error(issuer.token(&poll).await, "authorization_pending");
    let complete = device["verification_uri_complete"].as_str().expect("an address");
    let path = complete.strip_prefix(issuer.url()).expect("its own");
    let mut pages = LoginPages::open(&issuer, path).await;
    let typed = hidden(&pages.html, "user_code").to_lowercase().replace('-', " ");
    assert_eq!(pages.submit("device", &[("user_code", "BBBB-BBBB")]).await, 404);
    assert_eq!(pages.submit("device", &[("user_code", &typed)]).await, 200);
    assert_eq!(pages.log_in().await, 200);
    assert!(pages.html.contains("Only continue if you started this yourself"));
    pages.submit("consent", &[("decision", "allow")]).await;
    assert!(pages.html.contains("Connected"));
    let (status, tokens) = issuer.token(&poll).await;
    assert_eq!((status, &tokens["scope"]), (200, &json!(ALL_SCOPES)));
    assert_error(issuer.token(&poll).await, "invalid_grant");

    let (_, device) = issuer.post("device_authorization", &form).await;
    assert!(issuer.server.deny_device(device["user_code"].as_str().expect("a code")));
    let code = device["device_code"].as_str().expect("a code").to_owned();
    let poll = [poll[0], ("device_code", code.as_str())];
    assert_error(issuer.token(&poll).await, "access_denied");
}

#[tokio::test]
async fn fast_polling_is_slowed_down_and_device_codes_expire() {
    let fast = start(options());
    let (_, device) = fast.post("device_authorization", &[("client_id", "authctl")]).await;
    let code = device["device_code"].as_str().expect("a code");
    let poll = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", code)];
    assert_error(fast.token(&poll).await, "authorization_pending");
    assert_error(fast.token(&poll).await, "slow_down");
    let old = start(Options { device_code_ttl: Duration::ZERO, ..options() });
    let (_, device) = old.post("device_authorization", &[("client_id", "authctl")]).await;
    let code = device["device_code"].as_str().expect("a code");
    assert_error(old.token(&[poll[0], ("device_code", code)]).await, "expired_token");
}
