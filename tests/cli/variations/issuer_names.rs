//! Issuer identifiers, with a path and with or without a trailing slash: compared character by character.

use serde_json::json;

use super::{edits, log_in};
use crate::support::login_pages::token_response;
use crate::support::stub_server::StubServer;
use crate::support::{Sandbox, USER, issuer};

#[test]
fn issuer_that_differs_by_a_slash_is_rejected_with_a_hint() {
    for path in ["", "/tenant", "/tenant/a"] {
        let issuer = issuer(|options| options.path = path.into());
        let (right, wrong) = (issuer.issuer().to_owned(), format!("{}/", issuer.issuer()));
        let home = Sandbox::new();
        let error = log_in(&home, &wrong, &["--json"]).exits(5).error();
        assert_eq!(error["code"], "issuer_mismatch", "{error}");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(&format!("expected issuer `{wrong}`, found `{right}`")), "{message}");
        let hint = error["hint"].as_str().expect("a hint");
        assert!(hint.contains(&format!("--issuer {right}")), "{hint}");
        assert_eq!(issuer.stats().token_requests.len(), 0, "no password went there");
        assert!(!home.config_file().exists());
        // The command of the hint works.
        log_in(&home, &right, &[]).exits(0);
        home.run(&["verify", "work"]).exits(0);
        home.run(&["refresh", "work"]).exits(0);
    }
}

#[test]
fn hint_includes_the_trailing_slash_of_the_issuer() {
    let issuer = issuer(|_| {});
    let (typed, own) = (issuer.issuer().to_owned(), format!("{}/", issuer.issuer()));
    // ID tokens are removed: those of the embedded issuer have `iss` without the slash.
    edits(&issuer, "metadata", &json!({"set": {"issuer": own}}), 0);
    edits(&issuer, "token", &json!({"remove": ["id_token"]}), 0);
    let home = Sandbox::new();
    let hint = log_in(&home, &typed, &["--json"]).exits(5).error()["hint"].as_str().expect("a hint").to_owned();
    assert!(hint.contains(&format!("--issuer {own}")), "{hint}");
    log_in(&home, &own, &[]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    let shown = home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    assert_eq!(shown["issuer"], own, "stored as typed");
}

#[test]
fn foreign_issuer_name_is_not_suggested_as_an_option() {
    let issuer = issuer(|_| {});
    for name in [
        "https://evil.example".to_owned(),
        format!("{}.evil.example", issuer.issuer()),
        format!("{}/$(touch pwned)", issuer.issuer()),
        format!("{}/`touch pwned`", issuer.issuer()),
        format!("{}/\u{1b}[2J", issuer.issuer()),
    ] {
        let home = Sandbox::new();
        edits(&issuer, "metadata", &json!({"set": {"issuer": name}}), 1);
        let ran = log_in(&home, issuer.issuer(), &[]).exits(5).reports("do not sign in there");
        assert!(!ran.stderr.contains("--issuer") && !ran.stderr.contains('\u{1b}'), "{name}: {}", ran.stderr);
    }
}

#[test]
fn endpoint_url_is_used_unchanged() {
    // A trailing slash, a query (RFC 6749, section 3.2), and characters that a URL parser might normalize.
    for endpoint in ["/token/", "/token?tenant=1&a=b%20c", "/To%6ben//x/", "/t/../token"] {
        let real = issuer(|options| options.opaque_access_tokens = true);
        let mut tokens = token_response(&real, USER);
        tokens.as_object_mut().expect("an object").remove("id_token");
        let sent = url::Url::parse("http://127.0.0.1/").and_then(|base| base.join(endpoint)).expect("an address");
        let sent = sent[url::Position::BeforePath..].to_owned();
        let expected = sent.clone();
        let server = StubServer::start(move |own, request| match request.path.as_str() {
            "/.well-known/openid-configuration" => {
                (200, json!({"issuer": own, "token_endpoint": format!("{own}{endpoint}")}).to_string())
            }
            path if path == expected => (200, tokens.to_string()),
            _ => (404, "{}".into()),
        });
        let home = Sandbox::new();
        log_in(&home, &server.url, &["--scope", "offline_access"]).exits(0);
        let asked: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
        assert!(asked.contains(&sent), "{endpoint}: {asked:?}");
    }
}
