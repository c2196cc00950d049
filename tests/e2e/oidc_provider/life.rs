//! A session at a certified provider from its login to its logout, by each way to log in that the provider has.

use serde_json::json;

use super::{Provider, SECRET, Somebody, provider};
use crate::driver::{self, Desk, Screen};
use crate::support::{Sandbox, http};

#[test]
fn a_session_from_its_login_to_its_logout() {
    let mut provider = provider();
    let desk = Desk::set();
    let walked = provider.sign_in(&desk, &[]);
    assert_eq!(walked.pages(), ["Sign-in", "Sign-in", "You are signed in"]);
    let home = &desk.home;
    assert_eq!(provider.counts().codes, 1);

    let status = home.run(&["status", "work", "--json"]).exits(0).json();
    let told = status["profiles"][0].clone();
    assert_eq!((&told["subject"]["sub"], &told["can_refresh"]), (&json!("developer"), &json!(true)), "{status}");
    let first = home.token("work");
    assert!(provider.is_active(&first));
    // What a program gets for it that asks the provider who that is.
    let header = format!("Authorization: Bearer {first}");
    let (code, body) = http::get(&format!("{}/me", provider.issuer), &[&header]);
    assert!(code == 200 && body.contains("\"preferred_username\":\"developer\""), "{code} {body}");

    home.run(&["refresh", "work"]).exits(0);
    let second = home.token("work");
    assert!(first != second && provider.is_active(&second));
    let refresh_token = home.session("work").tokens.refresh_token.expect("one").expose().to_owned();
    assert!(provider.is_active(&refresh_token));

    home.run(&["logout", "work"]).exits(0).reports("the issuer has revoked the tokens");
    assert!(!provider.is_active(&second) && !provider.is_active(&refresh_token));
    let form = [("grant_type", "refresh_token"), ("refresh_token", &refresh_token), ("client_id", "native")];
    let (status, answer) = provider.post("token", &form);
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")), "{answer}");
    home.run(&["token", "work"]).exits(3);
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_opaque_token_is_told_as_such_and_the_id_token_decides_where_that_is_wanted() {
    for algorithm in ["ES256", "EdDSA"] {
        let mut provider = provider();
        let desk = Desk::set();
        let client = format!("native-{algorithm}");
        let (ran, _) = provider.tries(&desk, &provider.login(&client, &[]), &Somebody::agreeable());
        ran.exits(0);
        let home = &desk.home;
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
fn a_session_that_cannot_be_refreshed_for_want_of_consent_says_what_to_do() {
    let provider = provider();
    let desk = Desk::set();
    // OpenID Connect Core 1.0, section 11: it ignores `offline_access` where it is not told to ask.
    let (ran, _) = provider.tries(&desk, &provider.login("native", &[]), &Somebody::agreeable());
    let ran = ran.exits(0).reports("nothing to refresh it with");
    assert!(!desk.home.session("work").can_refresh());
    let told = ran.stderr.split('`').find(|part| part.starts_with("authctl login work --")).expect("what to run");
    let again: Vec<&str> = told.split(' ').skip(1).collect();
    let (ran, _) = provider.tries(&desk, &again, &Somebody::agreeable());
    assert!(!ran.exits(0).stderr.contains("nothing to refresh it with"));
    assert!(desk.home.session("work").can_refresh());
    desk.home.run(&["refresh", "work"]).exits(0);
    // The next login needs not be told.
    provider.tries(&desk, &["login", "work"], &Somebody::agreeable()).0.exits(0);
    assert!(desk.home.session("work").can_refresh());
}

#[test]
fn saying_no_at_the_provider() {
    let mut provider = provider();
    let desk = Desk::set();
    let no = Somebody::who(false, None);
    let (ran, walked) = provider.tries(&desk, &provider.login("native", &[]), &no);
    ran.exits(5).reports("access_denied");
    assert!(walked.said.contains("was refused"), "{}", walked.said);
    desk.home.run(&["token", "work"]).exits(2);
    assert_eq!(provider.counts().codes, 0);
}

/// Starts a device login and has somebody type in its code, who allows it or not.
#[track_caller]
fn device(provider: &Provider, home: &Sandbox, allows: bool) -> crate::support::CommandOutput {
    let login = home.spawn(&provider.login("native", &["--device"]));
    let (address, code) = driver::shown(&login);
    let somebody = Somebody::who(allows, Some(code));
    let walked = driver::walk("oidc-provider-device", Screen::Desktop, &address, &somebody);
    let end = if allows { "Sign-in Success" } else { "Sign-in" };
    assert_eq!(
        (walked.pages()[..2].to_vec(), walked.pages().last()),
        (vec!["Sign-in", "Device Login Confirmation"], Some(&end))
    );
    login.wait()
}

#[test]
fn a_device_is_let_in_at_the_providers_pages() {
    let (mut provider, home) = (provider(), Sandbox::new());
    device(&provider, &home, true).exits(0).reports("Logged in as developer");
    let token = home.token("work");
    assert!(provider.is_active(&token));
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), token);
    assert_eq!(provider.counts().refreshes, 1);
}

#[test]
fn a_device_is_turned_away_at_the_providers_pages() {
    let (provider, home) = (provider(), Sandbox::new());
    device(&provider, &home, false).exits(5).reports("access_denied");
    home.run(&["token", "work"]).exits(2);
}

#[test]
fn a_client_by_itself_with_its_secret_in_the_header_or_in_the_form() {
    let mut provider = provider();
    for (id, auth) in [("basic", "client_secret_basic"), ("post", "client_secret_post")] {
        let home = Sandbox::new();
        provider.serves(&home, id, &["--client-auth", auth]).exits(0).reports(&format!("Logged in as the client {id}"));
        let first = home.token("work");
        assert!(provider.is_active(&first), "{id}");
        home.expire("work");
        let second = home.token("work");
        assert!(first != second && provider.is_active(&second), "{id}: refreshed by itself");
        home.run(&["logout", "work"]).exits(0).reports("the issuer has revoked the tokens");
        assert!(!provider.is_active(&second), "{id}");
    }
    let counts = provider.counts();
    assert_eq!((counts.by_header, counts.by_form), (2, 2), "a login and a refresh each");
}

#[test]
fn a_client_with_a_wrong_secret() {
    let provider = provider();
    let home = Sandbox::new();
    let login = provider.login("basic", &["--client-credentials", "--client-secret-stdin"]);
    home.run_with(&login, &format!("{SECRET}x\n")).exits(5).reports("invalid_client");
    home.run(&["token", "work"]).exits(2);
}
