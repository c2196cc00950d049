//! The identity tokens of a platform, which is another embedded issuer here.

use super::*;

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Starts an issuer whose clients may use these grants with the identity tokens of `platform`.
async fn trusting(platform: &TestIssuer, grants: &[GrantType]) -> TestIssuer {
    let keys = platform.http.get(format!("{}/jwks", platform.url())).send().await.expect("sent");
    let keys = PlatformKeys::parse(&keys.text().await.expect("text")).expect("keys");
    let mut options = Options { platform_keys: Some(keys), ..options() };
    options.clients.iter_mut().for_each(|client| client.grants.extend(grants));
    start(options)
}

/// Returns an identity token of the platform for `audience`.
async fn identity_token(platform: &TestIssuer, audience: &str) -> String {
    let form = [("grant_type", "password"), ("username", "developer"), ("password", "right"), ("audience", audience)];
    let (_, tokens) = platform.token(&form).await;
    tokens["access_token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn identity_token_for_the_issuer_brings_an_access_token_alone() {
    let platform = start(options());
    let issuer = trusting(&platform, &[GrantType::JwtBearer, GrantType::TokenExchange]).await;
    for audience in [issuer.url().to_owned(), format!("{}/token", issuer.url())] {
        let token = identity_token(&platform, &audience).await;
        let target = [("scope", "read offline_access"), ("audience", "https://api.example")];
        let assertion = [&[("grant_type", JWT_BEARER), ("assertion", token.as_str())], &target[..]].concat();
        let subject = [("grant_type", EXCHANGE), ("subject_token", token.as_str()), ("subject_token_type", JWT)];
        for form in [assertion, [&subject[..], &target].concat()] {
            let (status, tokens) = issuer.token(&form).await;
            assert_eq!((status, &tokens["scope"]), (200, &json!("read")), "{}", tokens["error"]);
            assert_eq!((tokens.get("refresh_token"), tokens.get("id_token")), (None, None));
            let claims = claims(&tokens["access_token"]);
            assert_eq!((&claims["aud"], &claims["iss"]), (&json!("https://api.example"), &json!(issuer.url())));
            assert!(claims["sub"].as_str().is_some_and(|sub| sub.starts_with(platform.url())), "{claims}");
        }
    }
}

#[tokio::test]
async fn other_identity_tokens_are_refused() {
    let (platform, other) = (start(options()), start(options()));
    let short = start(Options { access_token_ttl: Duration::ZERO, ..options() });
    let issuer = trusting(&platform, &[GrantType::JwtBearer, GrantType::TokenExchange]).await;
    let of_short = trusting(&short, &[GrantType::JwtBearer]).await;
    let elsewhere = identity_token(&platform, "https://elsewhere.example").await;
    let unknown_key = identity_token(&other, issuer.url()).await;
    let mut tampered = identity_token(&platform, issuer.url()).await;
    tampered.replace_range(tampered.len() - 6..tampered.len() - 2, "AAAA");
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", elsewhere.split('.').nth(1).expect("claims"));
    for token in [elsewhere, unknown_key, tampered, unsigned, "x".into()] {
        assert_error(issuer.token(&[("grant_type", JWT_BEARER), ("assertion", &token)]).await, "invalid_grant");
        let subject = [("grant_type", EXCHANGE), ("subject_token", token.as_str()), ("subject_token_type", JWT)];
        assert_error(issuer.token(&subject).await, "invalid_request");
    }
    let expired = identity_token(&short, of_short.url()).await;
    assert_error(of_short.token(&[("grant_type", JWT_BEARER), ("assertion", &expired)]).await, "invalid_grant");
    assert_error(issuer.token(&[("grant_type", JWT_BEARER)]).await, "invalid_request");
    let not_offered = start(options());
    assert_error(not_offered.token(&[("grant_type", JWT_BEARER)]).await, "unsupported_grant_type");
    assert!(PlatformKeys::parse("{\"keys\":[]}").is_none() && PlatformKeys::parse("x").is_none());
}
