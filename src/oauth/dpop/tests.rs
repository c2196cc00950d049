use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use super::super::form::Form;
use super::super::testing::{TestClock, TestServer, answer, cli, http, json as json_answer};
use super::super::{OAuthClient, TokenEndpoint, client_credentials};
use super::*;
use crate::model::{TokenSet, TokenTarget};

const TOKENS: &str = r#"{"access_token":"AT","token_type":"DPoP","expires_in":60}"#;

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

fn part(token: &str, at: usize) -> Value {
    let text = token.split('.').nth(at).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
}

/// Returns the claims of the proof in a request, whose signature must be valid; `None` without one.
fn proof_of(request: &str) -> Option<Value> {
    let line = request.lines().find_map(|line| line.strip_prefix("dpop: "))?;
    let (signed, signature) = line.rsplit_once('.').expect("signed");
    let header = part(line, 0);
    assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!("ES256")));
    let coordinate =
        |name: &str| URL_SAFE_NO_PAD.decode(header["jwk"][name].as_str().expect("text")).expect("base64url");
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).expect("valid");
    Some(part(line, 1))
}

fn client(setting: Dpop) -> OAuthClient {
    OAuthClient { dpop: ClientDpop::new(setting, None).expect("a key"), ..cli() }
}

async fn requested(
    http: &super::super::Http,
    client: &OAuthClient,
    server: &TestServer,
) -> Result<TokenSet, IssuerError> {
    let clock = TestClock::new();
    let endpoint = TokenEndpoint { http, url: &server.url, client, clock: &clock };
    client_credentials::request(&endpoint, &TokenTarget::default()).await
}

fn refusal(status: u16, headers: &str, code: &str) -> String {
    answer(status, &format!("content-type: application/json\r\n{headers}"), &format!(r#"{{"error":"{code}"}}"#))
}

#[test]
fn proof_is_for_one_request_without_query_fragment_and_password() {
    let key = DpopKey::generate().expect("a key");
    let url = Url::parse("https://me:pw@api.example:8443/a%20b/?q=1#f").expect("valid");
    let token = secret("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
    let request = ProvenRequest { method: "GET", url: &url, access_token: Some(&token) };
    let proof = key.proof(&request, Some("n-1"), UnixTime(7)).expect("signed");
    let claims = proof_of(&format!("dpop: {proof}")).expect("a proof");
    assert_eq!((&claims["htm"], &claims["htu"]), (&json!("GET"), &json!("https://api.example:8443/a%20b/")));
    // RFC 9449, section 7.1.
    assert_eq!(claims["ath"], json!("fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"));
    assert_eq!((&claims["nonce"], &claims["iat"]), (&json!("n-1"), &json!(7)));
    assert_eq!(part(&proof, 0)["jwk"].as_object().expect("a key").len(), 4, "nothing private");
    let plain = ProvenRequest { method: "POST", url: &url, access_token: None };
    let other = part(&key.proof(&plain, None, UnixTime(7)).expect("signed"), 1);
    assert!(other.get("ath").is_none() && other.get("nonce").is_none() && other["jti"] != claims["jti"], "{other}");
}

#[test]
fn stored_key_is_the_same_and_is_not_shown() {
    let key = DpopKey::generate().expect("a key");
    let stored = key.to_stored();
    let again = DpopKey::from_stored(&stored).expect("read");
    assert_eq!(again.thumbprint(), key.thumbprint());
    assert_ne!(DpopKey::generate().expect("a key").thumbprint(), key.thumbprint());
    assert!(!format!("{key:?}").contains(&stored.expose()[50..90]));
    for damaged in ["", "AAAA", "%"] {
        let error = DpopKey::from_stored(&secret(damaged)).expect_err(damaged).to_string();
        assert_eq!(error, "cannot use the DPoP key: the stored key is damaged");
    }
}

#[tokio::test]
async fn request_is_repeated_once_with_the_nonce_that_is_then_remembered() {
    for status in [400, 401] {
        let wants = refusal(status, "dpop-nonce: n1\r\n", "use_dpop_nonce");
        let next = answer(200, "content-type: application/json\r\ndpop-nonce: n2\r\n", TOKENS);
        let server = TestServer::start(vec![wants, next, json_answer(200, TOKENS)]).await;
        let (http, client) = (http(), client(Dpop::Always));
        assert!(requested(&http, &client, &server).await.expect("tokens").is_bound());
        requested(&http, &client, &server).await.expect("tokens");
        let claims: Vec<Value> = server.requests().iter().map(|request| proof_of(request).expect("a proof")).collect();
        let nonces: Vec<Option<&str>> = claims.iter().map(|claims| claims["nonce"].as_str()).collect();
        assert_eq!(nonces, [None, Some("n1"), Some("n2")]);
        assert_eq!(claims[0]["htu"], json!(server.url.as_str()));
        assert_ne!(claims[0]["jti"], claims[1]["jti"]);
    }
}

#[tokio::test]
async fn server_that_is_never_content_ends_the_request() {
    let wants = |nonce: &str| refusal(400, nonce, "use_dpop_nonce");
    for (answers, sent) in [
        (vec![wants("dpop-nonce: n1\r\n"), wants("dpop-nonce: n2\r\n"), wants("dpop-nonce: n3\r\n")], 2),
        (vec![wants("")], 1),
        (vec![wants("dpop-nonce: a b\r\n"), wants("dpop-nonce: a b\r\n")], 2),
        (vec![refusal(400, "", "invalid_dpop_proof")], 1),
        (vec![refusal(403, "dpop-nonce: n1\r\n", "use_dpop_nonce")], 1),
    ] {
        let server = TestServer::start(answers).await;
        let error = requested(&http(), &client(Dpop::Always), &server).await.expect_err("refused");
        assert!(matches!(error, IssuerError::Refused(_)), "{error:?}");
        assert_eq!(server.requests().len(), sent);
    }
}

#[tokio::test]
async fn proof_is_sent_on_demand_unless_it_never_may_be() {
    for (code, headers) in [("invalid_dpop_proof", ""), ("use_dpop_nonce", "dpop-nonce: n1\r\n")] {
        let answers = || vec![refusal(400, headers, code), json_answer(200, TOKENS)];
        let (server, client) = (TestServer::start(answers()).await, client(Dpop::Auto));
        requested(&http(), &client, &server).await.expect("tokens");
        let proofs: Vec<bool> = server.requests().iter().map(|request| proof_of(request).is_some()).collect();
        assert_eq!((proofs, client.dpop.key().is_some()), (vec![false, true], true));
        let (server, client) = (TestServer::start(answers()).await, super::tests::client(Dpop::Never));
        requested(&http(), &client, &server).await.expect_err("refused");
        assert_eq!((server.requests().len(), client.dpop.key().is_some()), (1, false));
    }
    let (server, client) = (TestServer::start(vec![json_answer(200, "{}")]).await, client(Dpop::Auto));
    requested(&http(), &client, &server).await.expect_err("no tokens");
    assert!(proof_of(&server.requests()[0]).is_none(), "not demanded");
}

#[tokio::test]
async fn refused_code_is_sent_once_more_with_a_proof() {
    for (name, supported, sent) in [
        ("code", true, 2),
        ("device_code", true, 2),
        ("code", false, 1),
        ("refresh_token", true, 1),
        ("password", true, 1),
    ] {
        let refused = || refusal(400, "", "invalid_grant");
        for (second, is_ok) in [(json_answer(200, TOKENS), sent == 2), (refused(), false)] {
            let server = TestServer::start(vec![refused(), second, refused()]).await;
            let (http, clock) = (http(), TestClock::new());
            let client = OAuthClient { dpop: client(Dpop::Auto).dpop.with_support(supported), ..cli() };
            let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
            let mut form = Form::for_grant("any");
            form.add(name, "x&code=");
            assert_eq!(endpoint.request_tokens(form).await.is_ok(), is_ok, "{name}");
            let proofs: Vec<bool> = server.requests().iter().map(|request| proof_of(request).is_some()).collect();
            assert_eq!(proofs, [false, true][..sent], "{name}");
        }
    }
}

#[tokio::test]
async fn refused_proof_is_dated_by_the_servers_clock() {
    // The test's clock shows 22:13:20.
    for (date, shift) in [("22:23:20", Some(600)), ("22:13:40", None)] {
        let refused = refusal(400, &format!("date: Tue, 14 Nov 2023 {date} GMT\r\n"), "invalid_dpop_proof");
        let server = TestServer::start(vec![refused, json_answer(200, TOKENS), json_answer(200, TOKENS)]).await;
        let (http, client) = (http(), client(Dpop::Always));
        assert_eq!(requested(&http, &client, &server).await.is_ok(), shift.is_some(), "{date}");
        requested(&http, &client, &server).await.expect("tokens");
        let times: Vec<i64> = server
            .requests()
            .iter()
            .map(|request| proof_of(request).expect("a proof")["iat"].as_i64().expect("a time") - 1_700_000_000)
            .collect();
        assert_eq!(times, shift.map_or(vec![0, 0], |shift| vec![0, shift, shift]), "{date}");
    }
}

#[test]
fn only_nonces_that_fit_a_proof_are_sent_back() {
    for (nonce, is_valid) in [
        ("eyJ7S_zG.eyJH0-Z.HX4w-7v", true),
        ("!#[]~", true),
        ("", false),
        ("a b", false),
        ("a\"b", false),
        ("ä", false),
    ] {
        assert_eq!(is_nonce(nonce), is_valid, "{nonce}");
    }
    assert!(is_nonce(&"x".repeat(MAX_NONCE)) && !is_nonce(&"x".repeat(MAX_NONCE + 1)));
    let (servers, url) = (ProofServers::default(), Url::parse("https://a.example/").expect("valid"));
    for (nonce, remembered) in [("a\"b", None), ("n1", Some("n1")), ("", Some("n1"))] {
        servers.remember_nonce(&url, nonce);
        assert_eq!(servers.known(&url).nonce.as_deref(), remembered, "{nonce}");
    }
}

#[test]
fn nonces_of_many_servers_take_limited_memory() {
    let servers = ProofServers::default();
    let url = |n: usize| Url::parse(&format!("https://{n}.example/token")).expect("valid");
    for n in 0..MAX_SERVERS + 5 {
        servers.remember_nonce(&url(n), &format!("n{n}"));
    }
    assert_eq!((servers.known(&url(4)).nonce, servers.known(&url(5)).nonce.as_deref()), (None, Some("n5")));
    assert_eq!(servers.0.lock().expect("unpoisoned").len(), MAX_SERVERS);
}
