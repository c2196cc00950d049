//! `login --provider`: presets of well-known providers.

use super::login::BY_PASSWORD;
use crate::support::login_pages::LoginPages;
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

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
        .reports("Register the redirect URI http://127.0.0.1/callback");
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
