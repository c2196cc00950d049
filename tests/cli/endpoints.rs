//! Configured endpoints and keys, for servers whose metadata is missing or incomplete.

use std::fs;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};

use super::login::BY_PASSWORD;
use crate::support::jwt::Signer;
use crate::support::login_pages::get;
use crate::support::signing_keys::SigningKey;
use crate::support::stub_server::StubServer;
use crate::support::{PASSWORD, Sandbox, quick_issuer};

/// Returns a `login work` with all endpoints as options, and `more`.
fn login(issuer: &DevIssuer, more: &[&str]) -> Vec<String> {
    let at = |path: &str| format!("{}/{path}", issuer.issuer());
    let (token, revocation, authorization) = (at("token"), at("revoke"), at("authorize"));
    let mut args = vec!["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    args.extend(["--token-endpoint", &token, "--revocation-endpoint", &revocation]);
    args.extend(["--authorization-endpoint", &authorization]);
    args.extend(more);
    args.into_iter().map(str::to_owned).collect()
}

fn run(home: &Sandbox, args: &[String], stdin: &str) -> crate::support::CommandOutput {
    home.run_with(&args.iter().map(String::as_str).collect::<Vec<_>>(), stdin)
}

/// Removes the issuer's metadata.
fn hide_metadata(issuer: &DevIssuer) {
    issuer.fault(Fault { endpoint: Endpoint::Metadata, kind: FaultKind::EmptyBody { status: 404 }, times: 1000 });
}

#[test]
fn server_without_metadata_works_with_configured_endpoints() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    hide_metadata(&issuer);
    let jwks = format!("{}/jwks", issuer.issuer());
    let args = login(&issuer, &[&BY_PASSWORD[..], &["--jwks-uri", &jwks]].concat());
    run(&home, &args, &format!("{PASSWORD}\n")).exits(0);
    let first = home.token("work");
    home.run(&["verify", "work"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), first);
    // The endpoints are stored in the profile.
    run(
        &home,
        &[vec!["login".to_owned(), "work".to_owned()], BY_PASSWORD.map(str::to_owned).to_vec()].concat(),
        PASSWORD,
    )
    .exits(0);
    home.run(&["logout", "work"]).exits(0).reports("revoked");
    assert!(issuer.stats().families_revoked > 0);
}

#[test]
fn configured_endpoint_takes_precedence_over_metadata() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let nowhere = format!("{}/nowhere", issuer.issuer());
    home.log_in("work", &issuer);
    home.run(&["profile", "set", "work", &format!("jwks_uri={nowhere}")]).exits(0);
    home.run(&["keys", "update", "work"]).exits(6).reports("404");
    home.run(&["profile", "set", "work", "jwks_uri="]).exits(0);
    home.run(&["keys", "update", "work"]).exits(0);
    for (setting, word) in [
        ("token_endpoint=http://a.example/token", "https"),
        ("redirect_uri=https://a.example/", "127.0.0.1"),
        ("authorization_parameters=state=1", "state"),
        ("access_token_field=a..b", "a..b"),
        ("optional_claims=exp", "iss"),
    ] {
        let ran = home.run(&["profile", "set", "work", setting]).exits(2);
        assert!(ran.stderr.contains(word), "{setting}: {}", ran.stderr);
        assert!(!ran.stderr.contains("config.toml"), "the file is as it should be: {}", ran.stderr);
    }
}

#[test]
fn keys_pinned_at_login_are_the_only_trusted_ones() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    hide_metadata(&issuer);
    let (right, wrong) = (home.path().join("right.json"), home.path().join("wrong.json"));
    fs::write(&right, get(&issuer, "jwks")).unwrap();
    fs::write(&wrong, serde_json::json!({"keys": [SigningKey::ec("P-256").jwk("k")]}).to_string()).unwrap();
    let with = |file: &std::path::Path| {
        login(&issuer, &[&BY_PASSWORD[..], &["--jwks", file.to_str().expect("text")]].concat())
    };
    // With another issuer's keys the ID token does not verify, and nothing is stored.
    run(&home, &with(&wrong), PASSWORD).exits(4).reports("ID token");
    assert!(!home.config_file().exists() && !home.session_file("work").exists());
    run(&home, &with(&home.path().join("none.json")), PASSWORD).exits(2);
    run(&home, &with(&right), PASSWORD).exits(0);
    home.run(&["verify", "work"]).exits(0);
    assert!(home.run(&["keys", "show", "work"]).exits(0).stdout.contains("pinned"));
    let why = home.run(&["verify", "work", "--explain"]).exits(0).stdout;
    assert!(why.contains(&format!("keys pinned from {}", right.display())), "{why}");
    // Pinned keys also take precedence over those that the issuer publishes.
    let jwks = format!("{}/jwks", issuer.issuer());
    let both = |file: &std::path::Path| [with(file), vec!["--jwks-uri".to_owned(), jwks.clone()]].concat();
    run(&Sandbox::new(), &both(&wrong), PASSWORD).exits(4).reports("ID token");
    run(&Sandbox::new(), &both(&right), PASSWORD).exits(0);
    // Without keys the ID token cannot be verified.
    run(&Sandbox::new(), &login(&issuer, &BY_PASSWORD), PASSWORD).exits(4).reports("ID token");
}

#[test]
fn unusable_client_key_is_reported_before_sending() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let key = home.path().join("key.pem");
    fs::write(&key, "no key").unwrap();
    let args = ["login", "ci", "--issuer", issuer.issuer(), "--client-id", "authctl", "--client-credentials"];
    let with = ["--client-key", key.to_str().unwrap()];
    home.run(&[&args[..], &with].concat()).exits(2).reports("no private key");
    let unnamed =
        home.run(&[&args[..], &["--client-auth", "private_key_jwt"]].concat()).exits(2).reports("--client-key");
    assert!(unnamed.stderr.contains("no key file is configured"), "{}", unnamed.stderr);
    assert_eq!(issuer.stats().access_tokens, 0);
}

#[test]
fn change_of_issuer_drops_its_endpoints_and_reports_it() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let (old, same) = (format!("{}/old", issuer.issuer()), format!("issuer={}/", issuer.issuer()));
    home.run(&["profile", "set", "work", &format!("login_endpoint={old}"), &format!("jwks_uri={old}")]).exits(0);
    let shown = || home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    home.run(&["profile", "set", "work", &same]).exits(0);
    assert_eq!(shown()["login_endpoint"], old.as_str(), "the issuer's origin is the same");
    let new = ["profile", "set", "work", "jwks_uri=https://new.example/keys", "issuer=https://new.example"];
    home.run(&new).exits(0).reports("removed the settings of the old issuer: login_endpoint");
    assert_eq!((&shown()["login_endpoint"], &shown()["jwks_uri"]), (&().into(), &"https://new.example/keys".into()));
}

#[test]
fn wrong_address_is_reported_as_such() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let check = "note:  check the issuer's address and those of its endpoints";
    let tenant = format!("{}/tenant", issuer.issuer());
    home.run(&["login", "work", "--issuer", &tenant, "--client-id", "authctl", "--device"])
        .exits(2)
        .reports("is not an issuer: it returned HTTP 404")
        .reports(check);
    let api = StubServer::start(|_, request| (if request.path == "/login" { 301 } else { 404 }, String::new()));
    for path in ["login", "logn"] {
        let endpoint = format!("{}/{path}", api.url);
        let args = ["login", "work", "--issuer", &api.url, "--login-endpoint", &endpoint];
        home.run_with(&[&args[..], &BY_PASSWORD[..]].concat(), PASSWORD).exits(6).reports(check);
    }
    let metadata = format!("{}/.well-known/openid-configuration", issuer.issuer());
    let args = ["login", "work", "--issuer", &metadata, "--client-id", "authctl", "--device"];
    home.run(&args).exits(2).reports("use the issuer URL, which ends before /.well-known/");
}

#[test]
fn login_without_matching_keys_names_the_options() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    run(&home, &login(&issuer, &BY_PASSWORD), PASSWORD).exits(4).reports("--jwks or --jwks-uri");
    let keys = home.path().join("keys.json");
    fs::write(&keys, Signer::new().jwks().to_string()).unwrap();
    let wrong = ["--jwks", keys.to_str().unwrap()];
    run(&home, &login(&issuer, &[&BY_PASSWORD[..], &wrong].concat()), PASSWORD)
        .exits(4)
        .reports("--jwks or --jwks-uri");
}
