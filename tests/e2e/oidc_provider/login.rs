//! Sessions from login to logout, with each grant that the provider supports.

use serde_json::json;

use super::{Provider, SECRET, User, provider};
use crate::support::{Sandbox, http};
use crate::webdriver::{self, BrowserSandbox, Screen};

#[test]
fn session_from_login_to_logout() {
    let mut provider = provider();
    let browser = BrowserSandbox::new();
    let result = provider.sign_in(&browser, &[]);
    assert_eq!(result.pages(), ["Sign-in", "Sign-in", "Logged in to work"]);
    let home = &browser.home;
    assert_eq!(provider.counts().codes, 1);

    let status = home.run(&["status", "work", "--json"]).exits(0).json();
    let output = status["profiles"][0].clone();
    assert_eq!((&output["subject"]["sub"], &output["can_refresh"]), (&json!("developer"), &json!(true)), "{status}");
    let first = home.token("work");
    assert!(provider.is_active(&first));
    // The userinfo endpoint accepts the token.
    let header = format!("Authorization: Bearer {first}");
    let (code, body) = http::get(&format!("{}/me", provider.issuer), &[&header]);
    assert!(code == 200 && body.contains("\"preferred_username\":\"developer\""), "{code} {body}");

    home.run(&["refresh", "work"]).exits(0);
    let second = home.token("work");
    assert!(first != second && provider.is_active(&second));
    let refresh_token = home.session("work").tokens.refresh_token.expect("one").expose().to_owned();
    assert!(provider.is_active(&refresh_token));

    home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
    assert!(!provider.is_active(&second) && !provider.is_active(&refresh_token));
    let form = [("grant_type", "refresh_token"), ("refresh_token", &refresh_token), ("client_id", "native")];
    let (status, answer) = provider.post("token", &form);
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")), "{answer}");
    home.run(&["token", "work"]).exits(3);
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn opaque_token_is_denied_unless_the_id_token_is_verified() {
    for algorithm in ["ES256", "EdDSA"] {
        let mut provider = provider();
        let browser = BrowserSandbox::new();
        let client = format!("native-{algorithm}");
        let (ran, _) = provider.try_login(&browser, &provider.login(&client, &[]), &User::allowing());
        ran.exits(0);
        let home = &browser.home;
        let token = home.token("work");
        for (args, stdin) in [(&["verify", "work", "--json"][..], ""), (&["verify", "-", "--json"], &token)] {
            let denied = home.run_with(args, stdin).exits(4).json();
            assert_eq!(denied["reasons"][0]["code"], "opaque_token", "{denied}");
        }
        home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
        let granted = home.run_offline(&["verify", "work", "--json"], "").exits(0).json();
        assert_eq!((&granted["claims"]["sub"], &granted["key"]["alg"]), (&json!("developer"), &json!(algorithm)));
        assert_eq!(provider.counts().keys, 1, "at the login, and never again");
    }
}

#[test]
fn login_without_refresh_token_hints_at_prompt_consent() {
    let provider = provider();
    let browser = BrowserSandbox::new();
    // OpenID Connect Core 1.0, section 11: `offline_access` is ignored without `prompt=consent`.
    let (ran, _) = provider.try_login(&browser, &provider.login("native", &[]), &User::allowing());
    let ran = ran.exits(0).reports("no refresh token");
    assert!(!browser.home.session("work").can_refresh());
    let (_, command) = ran.stderr.split_once("after consent: authctl ").expect("what to run");
    let again: Vec<&str> = command.lines().next().expect("a line").split(' ').collect();
    let (ran, _) = provider.try_login(&browser, &again, &User::allowing());
    assert!(!ran.exits(0).stderr.contains("no refresh token"));
    assert!(browser.home.session("work").can_refresh());
    browser.home.run(&["refresh", "work"]).exits(0);
    // The next login uses the stored prompt.
    provider.try_login(&browser, &["login", "work"], &User::allowing()).0.exits(0);
    assert!(browser.home.session("work").can_refresh());
}

#[test]
fn denied_browser_login_stores_nothing() {
    let mut provider = provider();
    let browser = BrowserSandbox::new();
    let no = User::new(false, None);
    let (ran, result) = provider.try_login(&browser, &provider.login("native", &[]), &no);
    ran.exits(5).reports("access_denied");
    assert!(result.text.contains("access_denied"), "{}", result.text);
    browser.home.run(&["token", "work"]).exits(2);
    assert_eq!(provider.counts().codes, 0);
}

/// Starts a device login, which the user allows or denies.
#[track_caller]
fn device(provider: &Provider, home: &Sandbox, allows: bool) -> crate::support::CommandOutput {
    let login = home.spawn(&provider.login("native", &["--device"]));
    let (address, code) = webdriver::shown(&login);
    let user = User::new(allows, Some(code));
    let result = webdriver::complete("oidc-provider-device", Screen::Desktop, &address, &user);
    let end = if allows { "Sign-in Success" } else { "Sign-in" };
    assert_eq!(
        (result.pages()[..2].to_vec(), result.pages().last()),
        (vec!["Sign-in", "Device Login Confirmation"], Some(&end))
    );
    login.wait()
}

#[test]
fn approved_device_login_stores_a_session() {
    let (mut provider, home) = (provider(), Sandbox::new());
    device(&provider, &home, true).exits(0).reports("Logged in to work as developer");
    let token = home.token("work");
    assert!(provider.is_active(&token));
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), token);
    assert_eq!(provider.counts().refreshes, 1);
}

#[test]
fn denied_device_login_stores_nothing() {
    let (provider, home) = (provider(), Sandbox::new());
    device(&provider, &home, false).exits(5).reports("access_denied");
    home.run(&["token", "work"]).exits(2);
}

#[test]
fn client_credentials_with_secret_in_header_or_form() {
    let mut provider = provider();
    for (id, auth) in [("basic", "client_secret_basic"), ("post", "client_secret_post")] {
        let home = Sandbox::new();
        provider.log_in_client(&home, id, &["--client-auth", auth]).exits(0).reports(&format!("as client {id}"));
        let first = home.token("work");
        assert!(provider.is_active(&first), "{id}");
        home.expire("work");
        let second = home.token("work");
        assert!(first != second && provider.is_active(&second), "{id}: refreshed by itself");
        home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
        assert!(!provider.is_active(&second), "{id}");
    }
    let counts = provider.counts();
    assert_eq!((counts.by_header, counts.by_form), (2, 2), "a login and a refresh each");
}

#[test]
fn wrong_client_secret_is_refused() {
    let provider = provider();
    let home = Sandbox::new();
    let login = provider.login("basic", &["--client-credentials", "--client-secret-stdin"]);
    home.run_with(&login, &format!("{SECRET}x\n")).exits(5).reports("invalid_client");
    home.run(&["token", "work"]).exits(2);
}
