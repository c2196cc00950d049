//! The authorization code grant and the pages that lead to it.

use super::*;

#[tokio::test]
async fn second_use_of_a_code_revokes_its_tokens() {
    let issuer = start(options());
    let mut pages = LoginPages::open(&issuer, &authorize_path("")).await;
    assert!(pages.html.contains("id=\"username\""));
    assert_eq!(pages.submit("login", &[("username", "developer"), ("password", "wrong")]).await, 403);
    assert!(pages.html.contains("Wrong user name or password"));
    let before = pages.cookie.clone();
    assert_eq!(pages.log_in().await, 200);
    assert_ne!(pages.cookie, before, "a cookie from before the login must be worth nothing");
    assert!(pages.html.contains("offline_access"));
    pages.submit("consent", &[("decision", "allow")]).await;
    assert_eq!(pages.redirect_parameter("state").as_deref(), Some("s1"));
    assert_eq!(pages.redirect_parameter("iss").as_deref(), Some(issuer.url()));
    let code = pages.redirect_parameter("code").expect("a code");
    let (status, tokens) = issuer.exchange(&code, REDIRECT, VERIFIER).await;
    assert_eq!((status, &tokens["token_type"]), (200, &json!("Bearer")));
    let id = claims(&tokens["id_token"]);
    assert_eq!((&id["nonce"], &id["aud"]), (&json!("n1"), &json!("authctl")));
    assert_eq!(id["preferred_username"], "developer");
    assert_ne!(id["sub"], "developer");
    assert!(issuer.accepts(&tokens["access_token"]).await);
    assert_error(issuer.exchange(&code, REDIRECT, VERIFIER).await, "invalid_grant");
    assert!(!issuer.accepts(&tokens["access_token"]).await);
    assert_error(issuer.refresh(&tokens["refresh_token"]).await, "invalid_grant");
}

#[tokio::test]
async fn code_needs_its_verifier_redirect_uri_and_client() {
    let issuer = start(options());
    let wrong = "another-verifier-that-is-long-enough-0123456789";
    assert_error(issuer.exchange(&issuer.code().await, REDIRECT, wrong).await, "invalid_grant");
    let elsewhere = "http://127.0.0.1:4711/other";
    assert_error(issuer.exchange(&issuer.code().await, elsewhere, VERIFIER).await, "invalid_grant");
    let code = issuer.code().await;
    let secret = issuer.server.client_secret("authctl-service").expect("drawn");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", "authctl-service"),
        ("client_secret", secret.expose()),
    ];
    assert_error(issuer.post("token", &form).await, "invalid_grant");
}

#[tokio::test]
async fn errors_redirect_only_to_a_verified_redirect_uri() {
    let issuer = start(options());
    let evil = authorize_path("").replace("127.0.0.1%3A4711", "attacker.example");
    let pages = LoginPages::open(&issuer, &evil).await;
    assert_eq!(pages.location, "");
    let twice = LoginPages::open(&issuer, &authorize_path("&state=s2")).await;
    assert_eq!(twice.location, "");
    let plain = authorize_path("").replace("S256", "plain");
    let pages = LoginPages::open(&issuer, &plain).await;
    assert_eq!(pages.redirect_parameter("error").as_deref(), Some("invalid_request"));
    let mut pages = LoginPages::open(&issuer, &authorize_path("&prompt=none")).await;
    assert_eq!(pages.redirect_parameter("error").as_deref(), Some("login_required"));
    pages.visit(&format!("{}{}", issuer.url(), authorize_path(""))).await;
    pages.log_in().await;
    pages.submit("consent", &[("decision", "deny")]).await;
    assert_eq!(pages.redirect_parameter("error").as_deref(), Some("access_denied"));
    let again = format!("{}{}", issuer.url(), authorize_path("&prompt=none"));
    pages.visit(&again).await;
    assert_eq!(pages.redirect_parameter("error").as_deref(), Some("consent_required"));
}

#[tokio::test]
async fn forms_need_the_cookie_and_the_csrf_token() {
    let issuer = start(options());
    let mut pages = LoginPages::open(&issuer, &authorize_path("")).await;
    let (cookie, csrf) = (pages.cookie.clone(), pages.csrf.clone());
    pages.csrf = "guessed".into();
    assert_eq!(pages.log_in().await, 400);
    pages.csrf = csrf;
    pages.cookie = String::new();
    assert_eq!(pages.log_in().await, 400);
    pages.cookie = cookie;
    // Consent cannot come before the login.
    assert_eq!(pages.submit("consent", &[("decision", "allow")]).await, 400);
    assert_eq!(pages.log_in().await, 200);
}

#[tokio::test]
async fn pages_have_a_strict_policy_and_escape_parameters() {
    let issuer = start(options());
    let url = format!("{}{}", issuer.url(), authorize_path("&login_hint=%22%3E%3Cscript%3E"));
    let reply = issuer.http.get(url).send().await.expect("sent");
    let policy = reply.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'; img-src data:; style-src 'sha256-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!reply.text().await.expect("a page").contains("<script"));
}
