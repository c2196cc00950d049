//! Tests of the authorization code grant.

use std::collections::HashMap;

use url::form_urlencoded;

use super::super::testing::{TestClock, TestServer, cli, http, json};
use super::*;

fn metadata(iss_required: bool) -> Metadata {
    let mut metadata = Metadata::new("https://a.example".parse().expect("valid"));
    metadata.authorization_endpoint = "https://a.example/authorize?tenant=1".parse().ok();
    metadata.iss_parameter_supported = iss_required;
    metadata
}

async fn begun(iss_required: bool) -> AuthorizationCodeLogin {
    let mut request = AuthorizationRequest::default();
    request.target.scopes = vec!["openid".into(), "a".into()];
    AuthorizationCodeLogin::start(&metadata(iss_required), &cli(), &request).await.expect("a port")
}

fn parameters(login: &AuthorizationCodeLogin) -> HashMap<String, String> {
    login.authorization_url().query_pairs().into_owned().collect()
}

fn state(login: &AuthorizationCodeLogin) -> String {
    parameters(login)["state"].clone()
}

#[tokio::test]
async fn authorization_url_has_every_parameter() {
    let request = AuthorizationRequest {
        target: TokenTarget {
            audience: Some("api".into()),
            scopes: vec!["openid".into()],
            resources: vec!["https://r1".into(), "https://r2".into()],
        },
        acr_values: Some("phr".into()),
        prompt: Some("login".into()),
        login_hint: Some("developer@a.example".into()),
        max_age: Some(0),
        parameters: vec![
            ("access_type".into(), "offline".into()),
            ("prompt".into(), "consent".into()),
            ("max_age".into(), "99".into()),
        ],
        ..AuthorizationRequest::default()
    };
    let login = AuthorizationCodeLogin::start(&metadata(false), &cli(), &request).await.expect("a port");
    let found = parameters(&login);
    for (name, value) in [
        ("tenant", "1"),
        ("response_type", "code"),
        ("client_id", "cli"),
        ("code_challenge_method", "S256"),
        ("scope", "openid"),
        ("audience", "api"),
        ("acr_values", "phr"),
        ("prompt", "login"),
        ("login_hint", "developer@a.example"),
        ("max_age", "0"),
        ("access_type", "offline"),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(login.authorization_url().query_pairs().filter(|(name, _)| name == "resource").count(), 2);
    assert_eq!(found["redirect_uri"], login.expected.redirect_uri.as_str());
    for name in ["state", "nonce", "code_challenge"] {
        assert_eq!(found[name].len(), 43, "{name}");
    }
    assert!(!login.authorization_url().as_str().contains(login.verifier.expose()));
    let other = AuthorizationCodeLogin::start(&metadata(false), &cli(), &AuthorizationRequest::default())
        .await
        .expect("a port");
    assert_ne!(parameters(&other)["state"], found["state"]);
    assert_eq!(parameters(&other).get("nonce"), None, "no nonce where no ID token is asked for");
}

#[tokio::test]
async fn issuer_without_s256_is_unsupported() {
    let mut without = metadata(false);
    without.code_challenge_methods_supported = Some(vec!["plain".into()]);
    let error = AuthorizationCodeLogin::start(&without, &cli(), &AuthorizationRequest::default())
        .await
        .err()
        .expect("unsupported");
    assert!(matches!(error, IssuerError::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn only_a_response_with_this_logins_state_counts() {
    let login = begun(false).await;
    let state = state(&login);
    let iss = "iss=https%3A%2F%2Fa.example";
    for query in [
        String::new(),
        "code=C".into(),
        "code=C&state=".into(),
        "code=C&state=wrong".into(),
        format!("code=C&state={state}x"),
        format!("code=C&state={}", &state[..42]),
        format!("code=C&state={}", state.to_ascii_uppercase()),
        format!("code=C&state={state}%00"),
        format!("code=C&state=%20{state}"),
        format!("code=C&state={state}&state={state}"),
        format!("code=C&code=D&state={state}"),
        format!("code=C&state={state}&{iss}&{iss}"),
        format!("code=&state={state}"),
        format!("state={state}"),
        "error=access_denied".into(),
        "error=access_denied&state=wrong".into(),
    ] {
        assert!(matches!(login.expected.check(&query, "x"), RedirectRequest::Unrelated), "{query}");
    }
    for query in [
        format!("code=C&state={state}"),
        format!("state={state}&code=C&{iss}&session_state=x"),
        format!("c%6Fde=%43&state={state}"),
    ] {
        let RedirectRequest::AuthorizationResponse(Ok(code)) = login.expected.check(&query, "x") else {
            panic!("{query}")
        };
        assert_eq!(code.expose(), "C");
    }
    let refused = format!("error=access_denied&error_description=no%0A&state={state}&code=C");
    let RedirectRequest::AuthorizationResponse(Err(IssuerError::Refused(error))) = login.expected.check(&refused, "x")
    else {
        panic!("refused")
    };
    assert_eq!((error.to_string().as_str(), error.status), ("access_denied: no", None));
}

#[tokio::test]
async fn response_of_another_issuer_is_a_mismatch() {
    for (required, iss, fits) in [
        (true, "", false),
        (true, "&iss=https%3A%2F%2Fa.example", true),
        (true, "&iss=https%3A%2F%2Fa.example%2F", false),
        (false, "", true),
        (false, "&iss=https%3A%2F%2Fevil.example", false),
        (false, "&iss=", false),
    ] {
        let login = begun(required).await;
        for answer in ["code=C", "error=access_denied"] {
            let outcome = login.expected.check(&format!("{answer}&state={}{iss}", state(&login)), "x");
            let mix_up =
                matches!(outcome, RedirectRequest::AuthorizationResponse(Err(IssuerError::IssuerMismatch { .. })));
            assert_eq!(mix_up, !fits, "{required} {answer} {iss}");
        }
    }
}

#[tokio::test]
async fn pasted_url_passes_the_same_checks() {
    let login = begun(false).await;
    let (state, base) = (state(&login), login.expected.redirect_uri.to_string());
    for good in [
        format!("{base}?code=C&state={state}"),
        format!("  \"{base}?code=C&state={state}#_=_\"\n"),
        format!("?code=C&state={state}"),
        format!("code=C&state={state}"),
        format!("code=C&state={state}#"),
        format!("{}?code=C&state={state}", base.trim_start_matches("http://")),
        format!("//{}?code=C&state={state}", base.trim_start_matches("http://")),
        format!("/callback?code=C&state={state}"),
        format!("code=C&state={state}&session=a://b"),
        format!("\u{feff}`{base}?code=C&state={state}`\r\n"),
        format!("{}?code=C&state={state}", base.replace("127.0.0.1", "localhost")),
        format!("{}?code=C&state={state}", base.replace("http://127.0.0.1", "https://[::1]")),
        format!("{base}?code=C\n&state={state}"),
        format!("{base}?code=C&amp;state={state}"),
        format!("{base}\\?code\\=C\\&state\\={state}"),
        format!("view-source:{base}?code=C&state={state}"),
        format!("{base}?code=C&state={state}."),
        format!("{base}?state={state}&code=C ."),
        format!("{base}?state={state}&code=C&session_state=a,"),
        format!("\u{1b}[200~{base}?code=C&state={state}\u{1b}[201~"),
    ] {
        assert_eq!(login.accept_pasted(&good).expect("ours").0.expose(), "C", "{good}");
    }
    // A full stop may be the end of the code.
    for text in [format!("{base}?state={state}&code=C."), format!("?state={state}&amp;\ncode=C.\n")] {
        assert_eq!(login.accept_pasted(&text).expect("ours").0.expose(), "C.", "{text}");
    }
    for bad in [
        String::new(),
        "C".into(),
        format!("{base}?code=hunter2&state=wrong"),
        format!("https://evil.example/callback?code=hunter2&state={state}"),
        format!("{base}x?code=hunter2&state={state}"),
        format!("evil.example/callback?code=hunter2&state={state}"),
        format!("/other?code=hunter2&state={state}"),
        format!("http://127.0.0.1:1/callback?code=hunter2&state={state}"),
        format!("http://localhost.evil.example/callback?code=hunter2&state={state}"),
    ] {
        let error = login.accept_pasted(&bad).expect_err(&bad).to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let refused = login.accept_pasted(&format!("{base}?error=access_denied&state={state}"));
    assert!(matches!(refused, Err(IssuerError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn code_is_redeemed_with_its_verifier() {
    let tokens = json(200, r#"{"access_token":"AT","token_type":"Bearer","id_token":"a.b.c"}"#);
    let server = TestServer::start(vec![tokens]).await;
    let (http, client, clock) = (http(), cli(), TestClock::new());
    let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
    let login = begun(false).await;
    let sent = parameters(&login);
    let code = login.accept_pasted(&format!("code=C%2B&state={}", sent["state"])).expect("ours");
    let (tokens, nonce) = login.redeem(&endpoint, code).await.expect("tokens");
    assert_eq!(tokens.id_token.expect("an ID token").expose(), "a.b.c");
    assert_eq!(nonce.as_ref(), sent.get("nonce"));
    let form: HashMap<String, String> = form_urlencoded::parse(server.body(0).as_bytes()).into_owned().collect();
    assert_eq!((form["grant_type"].as_str(), form["code"].as_str()), ("authorization_code", "C+"));
    assert_eq!(form["redirect_uri"], sent["redirect_uri"]);
    let verifier = form["code_verifier"].as_bytes();
    assert_eq!(verifier.len(), 43);
    assert_eq!(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier)), sent["code_challenge"]);
}

#[tokio::test]
async fn code_for_one_resource_is_redeemed_for_it() {
    for (resources, sent) in [(&["https://r1"][..], &["https://r1"][..]), (&["https://r1", "https://r2"], &[])] {
        let server = TestServer::start(vec![json(200, r#"{"access_token":"AT","token_type":"Bearer"}"#)]).await;
        let (http, client, clock) = (http(), cli(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let mut request = AuthorizationRequest::default();
        request.target.resources = resources.iter().map(|r| (*r).to_owned()).collect();
        let login = AuthorizationCodeLogin::start(&metadata(false), &cli(), &request).await.expect("a port");
        let code = login.accept_pasted(&format!("code=C&state={}", state(&login))).expect("ours");
        login.redeem(&endpoint, code).await.expect("tokens");
        let form = server.body(0);
        let named = form_urlencoded::parse(form.as_bytes()).filter(|(name, _)| name == "resource");
        assert_eq!(named.map(|(_, value)| value.into_owned()).collect::<Vec<_>>(), sent, "{resources:?}");
    }
}

#[tokio::test]
async fn login_without_response_times_out() {
    let login = begun(false).await;
    let limit = Duration::from_secs(300);
    let error = login.wait(&TestClock::new(), limit).await.expect_err("no response");
    assert_eq!(error.to_string(), "login timed out after 5 min");
}
