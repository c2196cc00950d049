//! Concurrent logins to one profile, and profiles that change during a login.

use std::fs;

use authctl::dev_issuer::DevIssuer;

use crate::support::login_pages::LoginPages;
use crate::support::process::wait_until;
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

fn login<'a>(issuer: &'a DevIssuer, more: &[&'a str]) -> Vec<&'a str> {
    [&["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"], more].concat()
}

/// Sets `BROWSER` to a script that appends each address to a file.
fn browser(home: &mut Sandbox, opened: &std::path::Path) {
    let script = home.path().join("browser");
    fs::write(&script, format!("#!/bin/sh\necho \"$1\" >> '{}'\n", opened.display())).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    home.set("BROWSER", &script);
}

#[test]
fn concurrent_browser_logins_join_the_first() {
    let (mut home, issuer) = (Sandbox::new(), quick_issuer());
    let opened = home.path().join("opened");
    browser(&mut home, &opened);
    let args = login(&issuer, &["--browser"]);
    let first = home.spawn(&args);
    let address = first.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    let others: Vec<_> = (0..3).map(|_| home.spawn(&args)).collect();
    for other in &others {
        other.reports("another login to work");
    }
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    first.wait().exits(0);
    for other in others {
        other.wait().exits(0).reports("by the other login");
    }
    assert_eq!(issuer.stats().token_responses["authorization_code"], 1);
    wait_until("the browser", || fs::read_to_string(&opened).ok().filter(|text| !text.is_empty()));
    assert_eq!(fs::read_to_string(&opened).unwrap().lines().count(), 1, "one page for four logins");
    home.run(&["verify", "work"]).exits(0);
}

#[test]
fn twenty_concurrent_logins_open_one_page() {
    let (mut home, issuer) = (Sandbox::new(), quick_issuer());
    let opened = home.path().join("opened");
    browser(&mut home, &opened);
    let all: Vec<_> = (0..20).map(|_| home.spawn(&login(&issuer, &["--browser"]))).collect();
    let pages = || fs::read_to_string(&opened).unwrap_or_default();
    let address =
        wait_until("the browser", || pages().lines().next().map(str::to_owned).filter(|_| pages().ends_with('\n')));
    // One holds the login lock, and all others wait for it before the user signs in.
    for login in &all {
        wait_until("the wait for the login lock", || login.has_lock_file_open("work").then_some(()));
    }
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    let all: Vec<_> = all.into_iter().map(|login| login.wait().exits(0)).collect();
    let joined = all.iter().filter(|ran| ran.stderr.contains("by the other login")).count();
    assert_eq!((joined, pages().lines().count()), (19, 1), "one page for twenty logins: {}", pages());
    assert_eq!(issuer.stats().token_responses["authorization_code"], 1);
    home.run(&["verify", "work"]).exits(0);
}

#[test]
fn second_login_continues_when_the_first_is_canceled() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    // A session from before is not joined.
    home.log_in("work", &issuer);
    let first = home.spawn(&login(&issuer, &["--no-browser"]));
    first.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    let second = home.spawn(&login(&issuer, &["--no-browser"]));
    second.reports("another login to work");
    first.signal(rustix::process::Signal::INT);
    first.wait().exits(130);
    let address = second.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    second.wait().exits(0).reports("Logged in to work as");
}

#[test]
fn login_without_browser_does_not_wait_for_browser_login() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let mut first = home.spawn(&login(&issuer, &["--no-browser"]));
    let address = first.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    let by_password = ["--password", "--password-stdin", "--username"];
    home.run_with(&login(&issuer, &[&by_password[..], &[USER]].concat()), PASSWORD).exits(0);
    assert!(first.is_running());
    home.run(&["token", "work"]).exits(0);
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    first.wait().exits(0);
    assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["grant"], "browser");
    // A session of another account that was stored in the meantime is not replaced.
    let first = home.spawn(&login(&issuer, &["--no-browser"]));
    let address = first.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    home.run_with(&login(&issuer, &[&by_password[..], &["other", "--replace"]].concat()), PASSWORD).exits(0);
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    first.wait().exits(2).reports("--replace");
    assert_eq!(home.status("work")["subject"]["name"], "other");
}

#[test]
fn second_login_does_not_replace_another_account_without_asking() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let first = home.spawn(&login(&issuer, &["--no-browser"]));
    let address = first.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    // A login for a particular user does not join.
    let second = home.spawn(&login(&issuer, &["--no-browser", "--login-hint", "other"]));
    second.reports("another login to work");
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    first.wait().exits(0);
    let address = second.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    LoginPages::sign_in(&issuer, &address, "other").follow_redirect();
    second.wait().exits(2).reports("--replace");
    assert_eq!(home.status("work")["subject"]["name"], USER);
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn login_with_its_own_options_does_not_join() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    for options in [
        &["--max-age", "5m"][..],
        &["--acr-values", "aal1"],
        &["--prompt", "login"],
        &["--login-hint", "other"],
        &["--replace"],
        &["--scope", "openid"],
        &["--audience", "https://api.example"],
    ] {
        let first = home.spawn(&login(&issuer, &["--no-browser"]));
        let address = first.wait_for_line(&format!("{}/authorize", issuer.issuer()));
        let second = home.spawn(&login(&issuer, &[&["--no-browser"], options].concat()));
        second.reports("another login to work");
        LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
        first.wait().exits(0);
        second.wait_for_line(&format!("{}/authorize", issuer.issuer()));
        second.signal(rustix::process::Signal::INT);
        second.wait().exits(130);
    }
}

/// Runs a login during which `change` changes the profile; asserts that it fails and changes nothing.
fn assert_discarded(home: &Sandbox, issuer: &DevIssuer, more: &[&str], change: impl FnOnce(), message: &str) {
    let first = home.spawn(&login(issuer, &[&["--no-browser", "--json"], more].concat()));
    let address = first.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    change();
    let config = fs::read(home.config_file()).unwrap();
    let (session, revoked) = (fs::read(home.session_file("work")).ok(), issuer.stats().families_revoked);
    LoginPages::sign_in(issuer, &address, USER).follow_redirect();
    let ran = first.wait().exits(2);
    let error = ran.error();
    assert_eq!(error["code"], "profile_changed", "{}", ran.stderr);
    assert!(error["message"].as_str().unwrap().contains(message), "{}", ran.stderr);
    assert_eq!(error["hint"], "authctl login work", "{}", ran.stderr);
    assert_eq!(fs::read(home.config_file()).unwrap(), config);
    assert_eq!(fs::read(home.session_file("work")).ok(), session);
    assert_eq!(issuer.stats().families_revoked, revoked + 1, "the new tokens are revoked");
}

#[test]
fn profile_created_during_login_is_not_overwritten() {
    let (issuer, other) = (quick_issuer(), quick_issuer());
    for more in [&[][..], &["--replace"]] {
        let home = Sandbox::new();
        assert_discarded(&home, &issuer, more, || home.log_in("work", &other), other.issuer());
        home.run(&["verify", "work"]).exits(0);
    }
    // A profile for the same client is merged.
    let home = Sandbox::new();
    let first = home.spawn(&login(&issuer, &["--no-browser", "--audience", "https://api.example"]));
    let address = first.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    home.log_in("work", &issuer);
    home.run(&["profile", "set", "work", "required_scopes=openid"]).exits(0);
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    first.wait().exits(0);
    let shown = home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    assert_eq!((&shown["required_scopes"][0], &shown["audience"]), (&"openid".into(), &"https://api.example".into()));
}

#[test]
fn profile_changed_during_login_gets_no_foreign_session() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let set = |setting: &str| drop(home.run(&["profile", "set", "work", setting]).exits(0));
    assert_discarded(&home, &issuer, &[], || set("client_id=another"), "client another");
    set("client_id=authctl");
    assert_discarded(&home, &issuer, &[], || set("issuer=https://other.example"), "https://other.example");
    // A login that changes the issuer itself succeeds.
    let here = login(&issuer, &["--no-browser"]);
    let first = home.spawn(&here);
    let address = first.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    set("required_scopes=openid");
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    first.wait().exits(0);
    let shown = home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    assert_eq!((&shown["issuer"], &shown["required_scopes"][0]), (&issuer.issuer().into(), &"openid".into()));
    home.run(&["verify", "work"]).exits(0);
}

#[test]
fn profile_change_during_confirmation_is_not_reverted() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let mut command = home.spawn_in_terminal(&["login", "work", "--password", "--username", "other"]);
    command.reports("Password: ");
    command.type_text(&format!("{PASSWORD}\n"));
    command.reports("Replace it? [y/N] ");
    home.run(&["profile", "set", "work", "client_id=another"]).exits(0);
    command.type_text("y\n");
    command.wait().exits(2).reports("was changed to");
    assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["client_id"], "another");
    home.run(&["profile", "set", "work", "client_id=authctl"]).exits(0);
    assert_eq!(home.status("work")["subject"]["name"], USER);
    assert_eq!(issuer.stats().families_revoked, 1, "the new tokens are revoked");
}
