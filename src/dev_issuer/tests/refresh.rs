//! The refresh token grant.

use super::*;

#[tokio::test]
async fn reuse_of_a_rotated_refresh_token_revokes_the_family() {
    let issuer = start(options());
    let first = issuer.login().await;
    let (status, second) = issuer.refresh(&first["refresh_token"]).await;
    assert_eq!(status, 200);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(claims(&first["id_token"])["sub"], claims(&second["id_token"])["sub"]);
    assert_error(issuer.refresh(&first["refresh_token"]).await, "invalid_grant");
    assert_error(issuer.refresh(&second["refresh_token"]).await, "invalid_grant");
    assert!(!issuer.accepts(&second["access_token"]).await);
    let stats = issuer.server.stats();
    assert_eq!((stats.refreshes_committed, stats.refresh_reuses, stats.families_revoked), (1, 1, 1));
}

#[tokio::test]
async fn one_of_a_hundred_simultaneous_refreshes_succeeds() {
    let issuer = Arc::new(start(options()));
    let tokens = issuer.login().await;
    let all = (0..100).map(|_| {
        let (issuer, token) = (Arc::clone(&issuer), tokens["refresh_token"].clone());
        tokio::spawn(async move { issuer.refresh(&token).await.0 })
    });
    let mut won = 0;
    for one in all.collect::<Vec<_>>() {
        won += usize::from(one.await.expect("ran") == 200);
    }
    let stats = issuer.server.stats();
    assert_eq!((won, stats.refreshes_committed, stats.families_revoked), (1, 1, 1));
}

#[tokio::test]
async fn refresh_narrows_scopes_and_rejection_keeps_the_token() {
    let issuer = start(options());
    let tokens = issuer.login().await;
    let token = tokens["refresh_token"].as_str().expect("a token");
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", token)];
    assert_error(issuer.token(&[&refresh[..], &[("scope", "openid admin")]].concat()).await, "invalid_scope");
    assert_error(issuer.token(&[&refresh[..], &[("resource", "not a uri")]].concat()).await, "invalid_target");
    let narrow = [("scope", "profile"), ("audience", "https://api.example")];
    let (status, tokens) = issuer.token(&[&refresh[..], &narrow].concat()).await;
    assert_eq!((status, &tokens["scope"], tokens.get("id_token")), (200, &json!("profile"), None));
    assert_eq!(claims(&tokens["access_token"])["aud"], "https://api.example");
    let (_, tokens) = issuer.refresh(&tokens["refresh_token"]).await;
    assert_eq!((&tokens["scope"], &claims(&tokens["access_token"])["aud"]), (&json!(ALL_SCOPES), &json!("authctl")));
}

#[tokio::test]
async fn options_limit_refreshes_rotation_and_reuse() {
    let limited = start(Options { refresh_token_uses: Some(1), ..options() });
    let tokens = limited.login().await;
    let (_, tokens) = limited.refresh(&tokens["refresh_token"]).await;
    assert_error(limited.refresh(&tokens["refresh_token"]).await, "invalid_grant");

    let fixed = start(Options { rotate_refresh_tokens: false, ..options() });
    let tokens = fixed.login().await;
    for _ in 0..3 {
        let (status, refreshed) = fixed.refresh(&tokens["refresh_token"]).await;
        assert_eq!((status, refreshed.get("refresh_token")), (200, None));
    }

    let kind = start(Options { reuse_grace: Duration::from_secs(60), ..options() });
    let tokens = kind.login().await;
    assert_eq!(kind.refresh(&tokens["refresh_token"]).await.0, 200);
    assert_eq!(kind.refresh(&tokens["refresh_token"]).await.0, 200);

    let short = start(Options { refresh_token_ttl: Duration::ZERO, ..options() });
    let tokens = short.login().await;
    assert_error(short.refresh(&tokens["refresh_token"]).await, "invalid_grant");
}
