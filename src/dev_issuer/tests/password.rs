//! The password grant, one-time codes, and limits on guessing.

use super::*;

#[tokio::test]
async fn password_change_revokes_the_tokens_of_that_user() {
    let issuer = start(options());
    let tokens = issuer.login().await;
    assert!(!issuer.server.change_password("stranger", &Secret::new("new".into())));
    assert!(issuer.accepts(&tokens["access_token"]).await);
    assert!(issuer.server.change_password("developer", &Secret::new("new".into())));
    assert!(!issuer.accepts(&tokens["access_token"]).await);
    assert_error(issuer.refresh(&tokens["refresh_token"]).await, "invalid_grant");
    assert_error(issuer.password("developer", "right", "openid").await, "invalid_grant");
    assert_eq!(issuer.password("developer", "new", "openid").await.0, 200);
}

#[tokio::test]
async fn each_one_time_code_is_accepted_once() {
    let issuer = start(options());
    let (status, body) = issuer.password("otp-user", "right", ALL_SCOPES).await;
    assert_eq!((status, &body["error"], body.get("access_token")), (403, &json!("mfa_required"), None));
    let mfa_token = body["mfa_token"].as_str().expect("an mfa_token").to_owned();
    let grant = [("grant_type", "http://auth0.com/oauth/grant-type/mfa-otp"), ("mfa_token", &mfa_token)];
    assert_error(issuer.token(&[&grant[..], &[("otp", "abcdef")]].concat()).await, "invalid_grant");
    let otp = otp_now();
    let (status, tokens) = issuer.token(&[&grant[..], &[("otp", &otp)]].concat()).await;
    assert_eq!(status, 200);
    assert_eq!(claims(&tokens["id_token"])["amr"], json!(["pwd", "otp", "mfa"]));
    assert_error(issuer.token(&[&grant[..], &[("otp", &otp)]].concat()).await, "invalid_grant");
    // The same code in a new login, through the pages.
    let mut pages = LoginPages::open(&issuer, &authorize_path("")).await;
    pages.submit("login", &[("username", "otp-user"), ("password", "right")]).await;
    assert!(pages.html.contains("id=\"otp\""));
    assert_eq!(pages.submit("consent", &[("decision", "allow")]).await, 400);
    assert_eq!(pages.submit("otp", &[("otp", &otp)]).await, 403);
}

#[tokio::test]
async fn password_guessing_is_limited_for_unknown_names_too() {
    let issuer = start(options());
    for name in ["developer", "stranger"] {
        for _ in 0..5 {
            assert_error(issuer.password(name, "wrong", "").await, "invalid_grant");
        }
        assert_eq!(issuer.password(name, "right", "").await.0, 429, "{name}");
    }
    let mut pages = LoginPages::open(&issuer, &authorize_path("")).await;
    assert_eq!(pages.log_in().await, 429);
}
