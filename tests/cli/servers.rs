//! Servers without metadata, presets of well-known providers, pinned keys and login APIs.

use std::fs;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, ReplyEdit};

use crate::support::jwt::{Signer, now};
use crate::support::login_pages::{LoginPages, get};
use crate::support::signing_keys::SigningKey;
use crate::support::stub_server::StubServer;
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

const BY_PASSWORD: [&str; 4] = ["--password", "--password-stdin", "--username", USER];

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
fn preset_reports_missing_and_unsupported_options() {
    let home = Sandbox::new();
    home.run(&["login", "--provider", "apple", "--client-id", "x", "--device"]).exits(2).reports("Apple");
    home.run(&["login", "--provider", "keycloak", "--client-id", "x", "--device"])
        .exits(2)
        .reports("--issuer https://");
    let client = home.run(&["login", "--provider", "github", "--device"]).exits(2).reports("--client-id");
    client
        .reports("GitHub: Settings, Developer settings: ")
        .reports("Register the redirect URI http://127.0.0.1/callback.");
    home.run(&["login", "--provider", "generic", "--device"]).exits(2).reports("error: no issuer was given\n");
    home.run(&["login", "--provider", "gogle", "--client-id", "x"]).exits(2).reports("google");
    // A preset rejects another issuer, and a grant that the provider does not support.
    let other = ["login", "--provider", "github", "--issuer", "https://ghe.example", "--client-id", "x", "--device"];
    home.run(&other).exits(2).reports("the issuer of GitHub is https://github.com").reports("omit --provider");
    let by_password = ["login", "--provider", "github", "--client-id", "x", "--password", "--password-stdin"];
    let args = [&by_password[..], &["--username", "a"]].concat();
    home.run_with(&args, PASSWORD).exits(2).reports("GitHub does not support the grant password").reports("--device");
    assert!(!home.config_file().exists());
}

#[test]
fn preset_fills_a_new_profile() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let args =
        [&["login", "--provider", "generic", "--issuer", issuer.issuer(), "--client-id", "authctl"], &BY_PASSWORD[..]];
    home.run_with(&args.concat(), PASSWORD).exits(0);
    // Without a profile name, the profile is named after the provider.
    home.run(&["verify", "generic"]).exits(0);
    let args = ["login", "git", "--provider", "gitlab", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    home.run_with(&[&args[..], &BY_PASSWORD[..]].concat(), PASSWORD).exits(0).reports("Access tokens are opaque");
    let shown = home.run(&["profile", "show", "git", "--json"]).exits(0).json();
    assert_eq!(shown["device_authorization_endpoint"], format!("{}/oauth/authorize_device", issuer.issuer()));
    assert_eq!((&shown["verify_token"], &shown["scopes"][2]), (&"id_token".into(), &"email".into()));
}

#[test]
fn browser_returns_to_the_configured_redirect_uri() {
    for (redirect, begins) in
        [("http://127.0.0.1/signed/in", "http://127.0.0.1:"), ("http://[::1]/cb/", "http://[::1]:")]
    {
        let (home, issuer) = (Sandbox::new(), quick_issuer());
        let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
        let more = ["--redirect-uri", redirect, "--authorization-parameter", "access_type=offline", "--max-age", "5m"];
        let login = home.spawn(&[&args[..], &more[..]].concat());
        let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
        let asked: url::Url = address.parse().expect("an address");
        let sent = |name: &str| asked.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        assert_eq!((sent("access_type").as_deref(), sent("max_age").as_deref()), (Some("offline"), Some("300")));
        let mut person = LoginPages::sign_in_to(&issuer, &address, USER, begins);
        let path = redirect.trim_start_matches("http://").split_once('/').expect("a path").1;
        assert!(person.location.contains(&format!("/{path}?code=")), "{}", person.location);
        assert_eq!(person.follow_redirect(), 200, "{}", person.html);
        login.wait().exits(0);
        home.run(&["token", "work"]).exits(0);
    }
}

#[test]
fn used_redirect_port_is_named_in_the_error() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let redirect = format!("http://127.0.0.1:{port}/callback");
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--browser"];
    home.run(&[&args[..], &["--redirect-uri", &redirect]].concat()).exits(1).reports(&format!("port {port}"));
}

#[test]
fn weaker_acr_than_requested_is_reported() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
    let login = home.spawn(&[&args[..], &["--acr-values", "aal2 aal3"]].concat());
    let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    let ran = login.wait().exits(0).reports("requested acr `aal2 aal3`, the issuer confirms `aal1`");
    // The suggested command is quoted for the shell.
    assert!(ran.stderr.contains("work required_acr='aal2 aal3'"), "{}", ran.stderr);
    // An acr as strong as requested is not reported.
    let login = home.spawn(&[&args[..], &["--acr-values", "aal1 aal2"]].concat());
    let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    assert!(!login.wait().exits(0).stderr.contains("requested acr"));
}

#[test]
fn browser_only_options_are_rejected_for_other_grants() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    for own in [&["--prompt", "login"], &["--login-hint", "me"], &["--acr-values", "aal2"]] {
        let asked = issuer.stats().requests;
        home.run(&[&args[..], &["--device"], own].concat()).exits(2).reports("require a login in the browser");
        home.run_with(&[&args[..], &BY_PASSWORD, own].concat(), PASSWORD)
            .exits(2)
            .reports("require a login in the browser");
        assert_eq!(issuer.stats().requests, asked, "a request was sent to the issuer");
        // Without a grant option, the login uses the browser.
        let login = home.spawn_in_terminal(&[&args[..], own].concat());
        let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
        assert!(address.contains(&format!("{}={}", own[0].trim_start_matches("--").replace('-', "_"), own[1])));
        // The error does not wait for another login either.
        home.run(&[&args[..], &["--device"], own].concat()).exits(2).reports("require a login in the browser");
        login.signal(rustix::process::Signal::INT);
        login.wait().exits(130);
    }
    assert!(!home.config_file().exists());
}

#[test]
fn sign_in_of_unknown_age_is_rejected_with_max_age() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
    let login = home.spawn(&[&args[..], &["--max-age", "5m", "--scope", "offline_access"]].concat());
    let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    login.wait().exits(4).reports("no ID token");
    assert!(!home.session_file("work").exists());
}

#[test]
fn sign_in_older_than_max_age_is_rejected() {
    let (home, issuer, signer) = (Sandbox::new(), quick_issuer(), Signer::new());
    let keys = home.path().join("keys.json");
    fs::write(&keys, signer.jwks().to_string()).unwrap();
    for (age, code) in [(60, 0), (3600, 4)] {
        let at = now() - age;
        let claims = serde_json::json!({
            "iss": issuer.issuer(), "aud": "authctl", "sub": "me", "iat": now(), "exp": now() + 300, "auth_time": at,
        });
        let id_token = signer.sign(&serde_json::json!({"alg": "EdDSA", "kid": "k"}), &claims);
        home.register_secret(&id_token);
        let edit =
            ReplyEdit { set: [("id_token".to_owned(), id_token.into())].into_iter().collect(), ..ReplyEdit::default() };
        issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Edited(edit), times: 1 });
        let more = ["--max-age", "5m", "--replace", "--jwks", keys.to_str().unwrap()];
        run(&home, &login(&issuer, &[&BY_PASSWORD[..], &more].concat()), PASSWORD).exits(code);
    }
}

/// Makes the token endpoint respond as a login API with `reply`, and returns its URL.
fn login_api(issuer: &DevIssuer, reply: serde_json::Value) -> String {
    let edit = ReplyEdit { set: reply.as_object().expect("an object").clone(), ..ReplyEdit::default() };
    issuer.clear_faults();
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Replaced(edit), times: 0 });
    format!("{}/token", issuer.issuer())
}

#[test]
fn login_api_has_no_scopes_and_its_jwt_names_the_user() {
    let (home, issuer, signer) = (Sandbox::new(), quick_issuer(), Signer::new());
    let keys = home.path().join("keys.json");
    fs::write(&keys, signer.jwks().to_string()).unwrap();
    let claims = serde_json::json!({"sub": "me", "iat": now(), "exp": now() + 300});
    let jwt = signer.sign(&serde_json::json!({"alg": "EdDSA", "kid": "k"}), &claims);
    home.register_secret(&jwt);
    let endpoint = login_api(&issuer, serde_json::json!({"data": {"jwt": jwt}}));
    let args = ["login", "api", "--issuer", issuer.issuer(), "--login-endpoint", &endpoint, "--jwks"];
    let args = [&args[..], &[keys.to_str().unwrap(), "--username", USER, "--password-stdin"]].concat();
    let stderr = home.run_with(&args, PASSWORD).exits(6).stderr;
    assert!(stderr.contains("no JWT") && stderr.contains("--access-token-field"), "{stderr}");
    let args = [&args[..], &["--access-token-field", "data.jwt"]].concat();
    // With another server's keys the token does not verify, and nothing is stored.
    fs::write(&keys, Signer::new().jwks().to_string()).unwrap();
    home.run_with(&args, PASSWORD).exits(4).reports("access token");
    assert!(!home.session_file("api").exists());
    fs::write(&keys, signer.jwks().to_string()).unwrap();
    home.run_with(&args, PASSWORD).exits(0);
    assert!(home.status("api")["scope"].is_null(), "none was requested: {}", home.status("api"));
    // A token without `iss` and `aud` is denied unless the profile makes them optional.
    home.run(&["verify", "api"]).exits(4).reports("iss");
    home.run(&["profile", "set", "api", "optional_claims=iss aud"]).exits(0);
    home.run(&["verify", "api"]).exits(0);
    let again = ["login", "api", "--username", USER, "--password-stdin", "--replace"];
    home.run_with(&again, PASSWORD).exits(0).reports("as me at");
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
fn login_with_pinned_keys_does_not_fetch_keys() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let keys = home.path().join("keys.json");
    fs::write(&keys, get(&issuer, "jwks")).unwrap();
    issuer.fault(Fault { endpoint: Endpoint::Jwks, kind: FaultKind::EmptyBody { status: 503 }, times: 1000 });
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    let args = [&args[..], &BY_PASSWORD[..]].concat();
    home.run_with(&args, PASSWORD).exits(6);
    home.run_with(&[&args[..], &["--jwks", keys.to_str().unwrap()]].concat(), PASSWORD).exits(0);
    home.run_with(&args, PASSWORD).exits(0);
    home.run(&["verify", "work"]).exits(0);
}

#[test]
fn preset_takes_the_stored_audience_into_account() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let args = ["login", "work", "--provider", "keycloak", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    let args = [&args[..], &BY_PASSWORD[..]].concat();
    let decides = || home.run(&["profile", "show", "work", "--json"]).exits(0).json()["verify_token"].clone();
    home.run_with(&[&args[..], &["--audience", "https://api.example"]].concat(), PASSWORD).exits(0);
    assert_eq!(decides(), "access_token");
    home.run_with(&args, PASSWORD).exits(0);
    assert_eq!(decides(), "access_token", "the audience is still configured");
}

#[test]
fn repeated_preset_preserves_changed_settings() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let secret = issuer.client_secret("authctl-service").expect("drawn").expose().to_owned();
    home.register_secret(&secret);
    let of = |provider| ["login", "work", "--provider", provider, "--issuer", issuer.issuer()];
    let first = ["--client-id", "authctl-service", "--client-credentials", "--client-secret-stdin", "--scope", "read"];
    home.run_with(&[&of("keycloak")[..], &first].concat(), &secret).exits(0);
    let jwks = format!("jwks_uri={}/jwks", issuer.issuer());
    home.run(&["profile", "set", "work", "verify_token=access_token", "client_auth=client_secret_post", &jwks])
        .exits(0);
    let shown = || home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    let set = shown();
    assert_eq!((&set["provider"], &set["client_auth"]), (&"keycloak".into(), &"client_secret_post".into()));
    home.run(&of("keycloak")).exits(0);
    // Its issuer is stored in the profile.
    home.run(&["login", "work", "--provider", "keycloak"]).exits(0);
    assert_eq!(shown(), set);
    // Another preset replaces its settings.
    let as_user = [&["--client-id", "authctl", "--replace"], &BY_PASSWORD[..]].concat();
    home.run_with(&[&of("gitlab")[..], &as_user].concat(), PASSWORD).exits(0);
    let other = shown();
    assert_eq!((&other["provider"], &other["client_auth"]), (&"gitlab".into(), &"none".into()));
    assert_eq!((&other["scopes"][2], &other["jwks_uri"]), (&"email".into(), &().into()));
    home.run(&["profile", "set", "work", "provider=google"])
        .exits(2)
        .reports("hint:  authctl login work --provider google");
    home.run(&["profile", "set", "work", "provider=gitlob"]).exits(2).reports("unknown provider `gitlob`");
}

#[test]
fn repeated_preset_takes_a_new_audience_into_account() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let args = ["login", "work", "--provider", "keycloak", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    let args = [&args[..], &BY_PASSWORD].concat();
    let decides = || home.run(&["profile", "show", "work", "--json"]).exits(0).json()["verify_token"].clone();
    home.run_with(&args, PASSWORD).exits(0);
    assert_eq!(decides(), "id_token");
    home.run_with(&[&args[..], &["--audience", "https://api.example"]].concat(), PASSWORD).exits(0);
    assert_eq!(decides(), "access_token");
    home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    home.run_with(&[&args[..], &["--audience", "https://other.example"]].concat(), PASSWORD).exits(0);
    assert_eq!(decides(), "id_token", "the user has set it");
}

#[test]
fn preset_is_stored_if_the_profile_changes_during_login() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let args = ["login", "work", "--provider", "gitlab", "--issuer", issuer.issuer(), "--no-browser"];
    let login = home.spawn(&args);
    let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    home.run(&["profile", "set", "work", "required_scopes=openid"]).exits(0);
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    login.wait().exits(0);
    let shown = home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    assert_eq!(shown["required_scopes"][0], "openid", "set during the login");
    assert_eq!((&shown["verify_token"], &shown["scopes"][2]), (&"id_token".into(), &"email".into()));
}

/// Starts a login API that responds to every request with a token.
fn api() -> StubServer {
    StubServer::start(|_, _| {
        (200, r#"{"token":"from-the-api","refresh_token":"refreshes-at-the-api","expires_in":3600}"#.into())
    })
}

fn log_in_to(home: &Sandbox, api: &StubServer) {
    let at = |path: &str| format!("{}/{path}", api.url);
    let (login, refresh, logout) = (at("login"), at("refresh"), at("logout"));
    let args = ["login", "work", "--issuer", &api.url, "--login-endpoint", &login, "--refresh-endpoint", &refresh];
    let args = [&args[..], &["--logout-endpoint", &logout], &BY_PASSWORD[..]].concat();
    home.run_with(&args, PASSWORD).exits(0);
}

#[test]
fn new_issuer_replaces_login_api_endpoints() {
    let (home, issuer, api) = (Sandbox::new(), quick_issuer(), api());
    log_in_to(&home, &api);
    let asked = api.requests().len();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--replace"];
    home.run_with(&[&args[..], &BY_PASSWORD[..]].concat(), PASSWORD).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["logout", "work"]).exits(0).reports("revoked");
    assert_eq!(api.requests().len(), asked, "the old server received requests for the new one");
    assert!(issuer.stats().families_revoked > 0);
}

#[test]
fn preset_drops_endpoints_of_the_previous_server() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let nowhere = format!("{}/nowhere", issuer.issuer());
    for key in ["login_endpoint", "refresh_endpoint", "logout_endpoint", "end_session_endpoint"] {
        home.run(&["profile", "set", "work", &format!("{key}={nowhere}")]).exits(0);
    }
    let args = ["login", "work", "--provider", "generic", "--issuer", issuer.issuer()];
    home.run_with(&[&args[..], &BY_PASSWORD[..]].concat(), PASSWORD).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    let shown = home.run(&["profile", "show", "work"]).exits(0).stdout;
    assert!(!shown.contains("nowhere"), "{shown}");
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
fn tokens_of_an_issuer_are_not_sent_to_a_login_api() {
    let (home, issuer, api) = (Sandbox::new(), quick_issuer(), api());
    let login = home.spawn(&["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"]);
    let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    login.wait().exits(0);
    let at = |key: &str, path: &str| format!("{key}={}/{path}", api.url);
    let settings = [at("login_endpoint", "a"), at("refresh_endpoint", "b"), at("logout_endpoint", "c")];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let token = format!("token_endpoint={}/token", issuer.issuer());
    home.run(&[&["profile", "set", "work", &token], &settings[..]].concat()).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["logout", "work"]);
    assert_eq!(api.requests().len(), 0, "the API saw the issuer's tokens");
}

#[test]
fn failure_to_pin_keys_leaves_no_session() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let keys = home.path().join("keys.json");
    fs::write(&keys, get(&issuer, "jwks")).unwrap();
    let locks = home.path().join("data/authctl/locks");
    fs::create_dir_all(&locks).unwrap();
    fs::write(locks.join("trust"), "in the way").unwrap();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    let ran = home.run_with(&[&args[..], &BY_PASSWORD[..], &["--jwks", keys.to_str().unwrap()]].concat(), PASSWORD);
    assert_ne!(ran.code, 0, "{}", ran.stderr);
    assert!(!home.session_file("work").exists(), "a session was stored without its keys");
}

#[test]
fn wrong_address_is_reported_as_such() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let check = "hint:  check the issuer's address and those of its endpoints";
    let tenant = format!("{}/tenant", issuer.issuer());
    home.run(&["login", "work", "--issuer", &tenant, "--client-id", "authctl", "--device"]).exits(6).reports(check);
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

#[test]
fn refusing_login_api_hints_at_field_names() {
    let home = Sandbox::new();
    let api = StubServer::start(|_, _| (400, r#"{"email":["This field is required."]}"#.into()));
    let endpoint = format!("{}/login", api.url);
    let args = ["login", "work", "--issuer", &api.url, "--login-endpoint", &endpoint];
    home.run_with(&[&args[..], &BY_PASSWORD[..]].concat(), PASSWORD).exits(5).reports("--username-field NAME");
}
