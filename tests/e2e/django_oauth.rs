//! Sessions from django-oauth-toolkit, an authorization server that nobody here wrote.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};

use crate::site::{SECRET, Site, Visitor, get_with, post_form};
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER};

/// `login work` at the site's authorization server as one of its clients, and more.
fn login<'a>(issuer: &'a str, client: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["login", "work", "--issuer", issuer, "--client-id", client, "-vvv"], more].concat()
}

/// Logs in by code: the sign-in address is opened elsewhere, and the browser comes back to authctl's own port.
#[track_caller]
fn by_code(home: &Sandbox, site: &Site, args: &[&str]) -> CommandOutput {
    let waiting = home.spawn(&[args, &["--no-browser"]].concat());
    let back = Visitor::allow(&waiting.wait_for_line(&site.at("/o/authorize/")));
    let mut done = Visitor::open(&back);
    assert!(done.led_to.take().is_none() && done.html.contains("You are signed in"), "{} {}", done.status, done.html);
    waiting.wait()
}

/// A home that is logged in as `program`.
fn logged_in(site: &Site) -> Sandbox {
    let home = Sandbox::new();
    by_code(&home, site, &login(&site.at("/o"), "program", &[])).exits(0).reports("Logged in as");
    home.session("work");
    home
}

/// Whether the server takes a token for good.
#[track_caller]
fn active(site: &Site, token: &str) -> bool {
    let (status, answer) = post_form(&site.at("/o/introspect/"), Some(("service", SECRET)), &[("token", token)]);
    assert_eq!(status, 200, "{answer}");
    answer["active"].as_bool().expect("a verdict")
}

fn refresh_token(home: &Sandbox) -> String {
    home.session("work").tokens.refresh_token.expect("a refresh token").expose().to_owned()
}

#[test]
fn by_code_through_its_pages_the_access_token_is_opaque_and_the_id_token_decides() {
    let site = Site::start();
    let home = logged_in(&site);
    let token = home.token("work");
    assert!(active(&site, &token));
    let (status, claims) = get_with(&site.at("/o/userinfo/"), &token);
    assert_eq!((status, &claims["sub"]), (200, &json!("1")));
    let denied = home.run(&["verify", "work", "--json"]).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "opaque_token", "{denied}");
    home.run(&["exec", "work", "--", "true"]).exits(4).reports("verify_token=id_token");
    home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    let granted = home.run_offline(&["verify", "work", "--json"], "").exits(0).json();
    assert_eq!((&granted["claims"]["iss"], &granted["claims"]["aud"]), (&json!(site.at("/o")), &json!("program")));
    home.run(&["exec", "work", "--", "true"]).exits(0);
    // Another's key denies it.
    let key = site.key("api");
    home.run(&["keys", "pin", "work", "--jwks", key.to_str().expect("text")]).exits(0);
    home.run(&["verify", "work"]).exits(4);
    assert!(home.leaks_in_files().is_empty());
    site.no_secret_in_addresses(&home);
}

#[test]
fn without_discovery_its_endpoints_given_by_hand_do_the_same() {
    let (site, home) = (Site::start(), Sandbox::new());
    let (issuer, authorize, token) = (site.at("/o"), site.at("/o/authorize/"), site.at("/o/token/"));
    let (keys, revoke) = (site.at("/o/.well-known/jwks.json"), site.at("/o/revoke_token/"));
    let by_hand = [
        ["--authorization-endpoint", &authorize],
        ["--token-endpoint", &token],
        ["--jwks-uri", &keys],
        ["--revocation-endpoint", &revoke],
        ["--scope", "openid profile"],
    ];
    by_code(&home, &site, &login(&issuer, "program", by_hand.as_flattened())).exits(0);
    home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
    let before = home.token("work");
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), before);
    home.run(&["verify", "work"]).exits(0);
    home.run(&["logout", "work"]).exits(0);
    assert_eq!(site.noted("GET /o/.well-known/openid-configuration 200 -"), 0);
    assert_eq!(site.noted("GET /.well-known/oauth-authorization-server/o 200 -"), 0);
    assert!(site.noted("POST /o/revoke_token/ 200 -") > 0);
}

#[test]
fn without_discovery_a_public_key_from_a_file_is_the_only_one_trusted() {
    let (site, home) = (Site::start(), Sandbox::new());
    let (issuer, authorize, token) = (site.at("/o"), site.at("/o/authorize/"), site.at("/o/token/"));
    let by_hand = [["--authorization-endpoint", &authorize], ["--token-endpoint", &token], ["--scope", "openid"]];
    let (own, strangers) = (site.key("oidc"), site.key("api"));
    let args = login(&issuer, "program", by_hand.as_flattened());
    let pinning = |key: &Path| {
        let key = key.to_str().expect("text");
        by_code(&home, &site, &[&args[..], &["--jwks", key]].concat())
    };
    pinning(&strangers).exits(4).reports("signature");
    home.run(&["token", "work"]).exits(2);
    pinning(&own).exits(0);
    home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
    assert_eq!(site.noted("GET /o/.well-known/jwks.json 200 -"), 0);
}

#[test]
fn on_another_device_with_the_code_shown_here() {
    let (site, home) = (Site::start(), Sandbox::new());
    let device = site.at("/o/device-authorization/");
    let issuer = site.at("/o");
    // Its metadata names no such endpoint.
    home.run(&login(&issuer, "device", &["--device"])).exits(5).reports("--device-authorization-endpoint");
    let args = login(&issuer, "device", &["--device", "--device-authorization-endpoint", &device]);
    let waiting = home.spawn(&args);
    let address = waiting.wait_until("an address", |said| {
        said.contains("Ctrl-C gives up")
            .then(|| said.split_whitespace().find(|word| word.ends_with("/o/device/")))?
            .map(str::to_owned)
    });
    let code = waiting.wait_until("a code", |said| {
        Some(said.lines().skip_while(|line| !line.contains("enter the code")).nth(2)?.trim().to_owned())
    });
    let mut visitor = Visitor::open(&address);
    visitor.sign_in().submit(&[("user_code", &code)]).submit(&[("action", "accept")]);
    assert!(visitor.url.path().contains("device-grant-status"), "{} {}", visitor.url, visitor.html);
    waiting.wait().exits(0);
    assert!(active(&site, &home.token("work")));
    // Who says no is heard.
    let waiting = home.spawn(&args);
    let code = waiting.wait_until("a code", |said| {
        Some(said.lines().skip_while(|line| !line.contains("enter the code")).nth(2)?.trim().to_owned())
    });
    let mut visitor = Visitor::open(&address);
    visitor.sign_in().submit(&[("user_code", &code)]).submit(&[("action", "deny")]);
    waiting.wait().exits(5).reports("access_denied");
    assert!(active(&site, &home.token("work")), "the session before is still there");
}

#[test]
fn a_client_whose_secret_is_changed_by_form_encoding() {
    let (site, home) = (Site::start(), Sandbox::new());
    home.register_secret(SECRET);
    let issuer = site.at("/o");
    for auth in ["client_secret_basic", "client_secret_post"] {
        let args = ["--client-credentials", "--client-secret-stdin", "--client-auth", auth, "--scope", "read"];
        let args = login(&issuer, "service", &args);
        home.run_with(&args, &format!("{SECRET}\n")).exits(0).reports("Logged in as the client service");
        let first = home.token("work");
        assert!(active(&site, &first), "{auth}");
        home.expire("work");
        assert_ne!(home.token("work"), first, "{auth}: refreshed by itself");
        home.register_secret("a wrong secret of the tests");
        home.run_with(&args, "a wrong secret of the tests\n").exits(5).reports("invalid_client");
        home.run(&["token", "work"]).exits(0);
    }
    assert!(home.leaks_in_files().is_empty());
    site.no_secret_in_addresses(&home);
}

#[test]
fn with_user_name_and_password() {
    let (site, home) = (Site::start(), Sandbox::new());
    let issuer = site.at("/o");
    let args = login(&issuer, "typist", &["--password", "--username", USER, "--password-stdin"]);
    home.register_secret("a wrong password of the tests");
    home.run_with(&args, "a wrong password of the tests\n").exits(5).reports("invalid_grant");
    home.run(&["token", "work"]).exits(2);
    home.run_with(&args, &format!("{PASSWORD}\n")).exits(0);
    assert!(active(&site, &home.token("work")));
    assert!(home.leaks_in_files().is_empty());
}

#[test]
fn a_refresh_token_is_rotated_and_used_again_by_another_ends_the_session_once() {
    let site = Site::start();
    let home = logged_in(&site);
    let (first, old) = (home.token("work"), refresh_token(&home));
    home.expire("work");
    let second = home.token("work");
    assert!(first != second && active(&site, &second) && !active(&site, &first));
    let new = refresh_token(&home);
    assert_ne!(new, old, "the new refresh token is the one kept");
    home.run(&["refresh", "work"]).exits(0);
    // A thief of the first one comes late: the server ends the whole family.
    let again = [("grant_type", "refresh_token"), ("client_id", "program"), ("refresh_token", old.as_str())];
    let (status, answer) = post_form(&site.at("/o/token/"), None, &again);
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    let ended = home.run(&["refresh", "work", "--json"]).exits(3).error();
    assert_eq!(ended["code"], "login_required", "{ended}");
    let asked = site.noted("POST /o/token/ 400 refresh_token");
    home.run(&["refresh", "work"]).exits(3);
    home.expire("work");
    home.run(&["token", "work"]).exits(3);
    assert_eq!(site.noted("POST /o/token/ 400 refresh_token"), asked, "a session that is over is not asked for again");
}

#[test]
fn logging_out_ends_both_tokens_at_the_server() {
    let site = Site::start();
    let home = logged_in(&site);
    let (token, refresh) = (home.token("work"), refresh_token(&home));
    assert!(active(&site, &token));
    // The document that names the revocation endpoint is RFC 8414's: OpenID Connect's names none here.
    let said = home.run(&["logout", "work", "-vvv"]).exits(0);
    assert!(said.stderr.contains("revoked") && !said.stderr.contains("no revocation endpoint"), "{}", said.stderr);
    assert!(!active(&site, &token));
    let again = [("grant_type", "refresh_token"), ("client_id", "program"), ("refresh_token", refresh.as_str())];
    assert_eq!(post_form(&site.at("/o/token/"), None, &again).0, 400);
    home.run(&["token", "work"]).exits(3);
    site.no_secret_in_addresses(&home);
}

#[test]
fn an_issuer_with_a_slash_too_many_is_told_by_its_right_name() {
    let (site, home) = (Site::start(), Sandbox::new());
    let ran = home.run(&login(&site.at("/o/"), "program", &["--no-browser", "--json"])).exits(5);
    let error = ran.error();
    let (message, hint) = (error["message"].as_str().expect("text"), error["hint"].as_str().expect("text"));
    assert!(message.contains(&format!("found `{}`", site.at("/o"))), "{error}");
    assert!(hint.contains(&format!("--issuer {}`", site.at("/o"))), "{error}");
    home.run(&["token", "work"]).exits(2);
}

#[test]
fn twenty_at_expiry_are_one_refresh_at_the_server() {
    let site = Site::start();
    let home = logged_in(&site);
    let before = home.token("work");
    home.expire("work");
    let started: Vec<Child> = (0..20).map(|_| home.start(&["token", "work"], "")).collect();
    let got: Vec<String> =
        started.into_iter().map(|child| home.finish(child, &["token"]).exits(0).line().to_owned()).collect();
    assert!(got[0] != before && got.iter().all(|token| *token == got[0]), "twenty times the same new token");
    assert_eq!(site.noted("POST /o/token/ 200 refresh_token"), 1);
    assert_eq!(site.noted("POST /o/token/ 400 refresh_token"), 0);
    assert!(active(&site, &got[0]));
}

/// A port of loopback that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("bound").port()
}

#[track_caller]
fn comes_back_to(redirect: &str, as_sent: &str) {
    let (site, home) = (Site::with(json!({"redirect": redirect})), Sandbox::new());
    let issuer = site.at("/o");
    let args = login(&issuer, "elsewhere", &["--redirect-uri", redirect]);
    let waiting = home.spawn(&[&args[..], &["--no-browser"]].concat());
    let back = Visitor::allow(&waiting.wait_for_line(&site.at("/o/authorize/")));
    assert!(back.starts_with(as_sent), "{back}");
    let done = Visitor::open(&back);
    assert!(done.html.contains("You are signed in"), "{}", done.html);
    waiting.wait().exits(0);
    home.token("work");
    // The next login is as the first.
    by_code(&home, &site, &["login", "work"]).exits(0);
    // With authctl's own address the server knows no such client.
    home.run(&["profile", "set", "work", "redirect_uri="]).exits(0);
    let waiting = home.spawn(&["login", "work", "--no-browser"]);
    let mut refused = Visitor::open(&waiting.wait_for_line(&site.at("/o/authorize/")));
    if refused.html.contains("id_password") {
        refused.sign_in();
    }
    assert_eq!(refused.status, 400, "{}", refused.html);
}

#[test]
fn the_browser_comes_back_to_localhost_at_its_own_port_and_path() {
    let redirect = format!("http://localhost:{}/cb", free_port());
    comes_back_to(&redirect, &format!("{redirect}?"));
}

#[test]
fn the_browser_comes_back_to_ipv6_loopback() {
    comes_back_to("http://[::1]/callback", "http://[::1]:");
}

#[test]
fn a_fixed_port_that_is_taken_is_told_before_anybody_signs_in() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let redirect = format!("http://localhost:{}/cb", taken.local_addr().expect("bound").port());
    let (site, home) = (Site::with(json!({"redirect": redirect})), Sandbox::new());
    let issuer = site.at("/o");
    let args = login(&issuer, "elsewhere", &["--redirect-uri", &redirect, "--no-browser", "--json"]);
    let ran = home.spawn(&args).wait();
    let error: Value = ran.error();
    assert!(ran.code != 0 && error["message"].as_str().expect("text").contains("port"), "{error}");
    assert!(!ran.stderr.contains(&site.at("/o/authorize/")), "{}", ran.stderr);
}
