//! Token exchange.

use super::*;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Starts an issuer whose clients may exchange tokens.
fn exchanging() -> TestIssuer {
    let mut options = options();
    options.clients.iter_mut().for_each(|client| client.grants.push(GrantType::TokenExchange));
    start(options)
}

fn request<'a>(subject: &'a Value, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let subject = subject.as_str().expect("a token");
    [&[("grant_type", EXCHANGE), ("subject_token", subject), ("subject_token_type", ACCESS_TOKEN)], more].concat()
}

#[tokio::test]
async fn access_token_is_exchanged_and_revoked_with_its_family() {
    let issuer = exchanging();
    let tokens = issuer.login().await;
    let target = [("audience", "https://api.example"), ("resource", "https://r.example")];
    let (status, exchanged) = issuer.token(&request(&tokens["access_token"], &target)).await;
    assert_eq!((status, &exchanged["issued_token_type"]), (200, &json!(ACCESS_TOKEN)));
    assert_eq!((exchanged.get("refresh_token"), exchanged.get("id_token")), (None, None));
    assert_eq!((&exchanged["token_type"], &exchanged["scope"]), (&json!("Bearer"), &json!("profile")));
    let (own, new) = (claims(&tokens["access_token"]), claims(&exchanged["access_token"]));
    assert_eq!(new["aud"], json!(["https://api.example", "https://r.example"]));
    assert_eq!(own["sub"], new["sub"]);
    issuer.post("revoke", &[("client_id", "authctl"), ("token", tokens["refresh_token"].as_str().unwrap_or(""))]).await;
    assert_error(issuer.token(&request(&exchanged["access_token"], &[])).await, "invalid_request");
}

#[tokio::test]
async fn exchange_is_offered_only_if_a_client_may_use_it() {
    for (issuer, offered, error) in
        [(exchanging(), true, "invalid_request"), (start(options()), false, "unsupported_grant_type")]
    {
        let url = format!("{}/.well-known/openid-configuration", issuer.url());
        let (_, metadata) = json_reply(issuer.http.get(url).send().await.expect("sent")).await;
        let listed = metadata["grant_types_supported"].as_array().expect("a list").contains(&json!(EXCHANGE));
        assert_eq!(listed, offered);
        assert_error(issuer.token(&[("grant_type", EXCHANGE)]).await, error);
    }
}

#[tokio::test]
async fn exchange_of_anything_but_an_own_access_token_is_refused() {
    let mut options = options();
    options.clients[1].grants.push(GrantType::TokenExchange);
    let secret = options.client_secret("authctl-service").expect("a secret");
    let issuer = start(options);
    let tokens = issuer.login().await;
    let own = &tokens["access_token"];
    assert_error(issuer.token(&request(own, &[])).await, "unauthorized_client");
    let service = [("client_id", "authctl-service"), ("client_secret", secret.expose())];
    let other = [&service[..], &request(own, &[])].concat();
    assert_error(issuer.post("token", &other).await, "invalid_request");
    let credentials = [&service[..], &[("grant_type", "client_credentials"), ("scope", "read")]].concat();
    let (_, tokens) = issuer.post("token", &credentials).await;
    for (more, error) in [
        (&[("scope", "read write")][..], "invalid_scope"),
        (&[("resource", "not a uri")], "invalid_target"),
        (&[("actor_token", "x")], "invalid_request"),
        (&[("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")], "invalid_request"),
    ] {
        let form = [&service[..], &request(&tokens["access_token"], more)].concat();
        assert_error(issuer.post("token", &form).await, error);
    }
    for (name, value) in [
        ("subject_token", "unknown"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"),
        ("subject_token_type", ""),
    ] {
        let mut form = [&service[..], &request(&tokens["access_token"], &[])].concat();
        form.iter_mut().filter(|(of, _)| *of == name).for_each(|field| field.1 = value);
        assert_error(issuer.post("token", &form).await, "invalid_request");
    }
}
