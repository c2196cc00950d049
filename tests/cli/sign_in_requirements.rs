//! Options of `login` that require something of the sign-in: `--acr-values`, `--max-age`, `--prompt` and `--login-hint`.

use std::fs;

use authctl::dev_issuer::{Endpoint, Fault, FaultKind, ReplyEdit};

use super::login::{BY_PASSWORD, login};
use crate::support::jwt::{Signer, now};
use crate::support::login_pages::LoginPages;
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

#[test]
fn weaker_acr_than_requested_is_reported() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
    let login = home.spawn(&[&args[..], &["--acr-values", "aal2 aal3"]].concat());
    let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    let ran = login.wait().exits(0).reports("requested acr `aal2 aal3`, the issuer confirms `aal1`");
    // The suggested command is quoted for the shell.
    assert!(ran.stderr.contains("authctl profile set work 'required_acr=aal2 aal3'"), "{}", ran.stderr);
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
        home.run_with(&login(&issuer, &[&BY_PASSWORD[..], &more].concat()), PASSWORD).exits(code);
    }
}
