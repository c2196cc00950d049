//! Sessions from the authorization server django-oauth-toolkit.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};

use crate::django_site::{SECRET, Site, Visitor, get_with, post_form};
use crate::support::free_port;
use crate::support::login_pages::user_code;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER};

/// Returns the arguments of `login work` as a client of the site, followed by `more`.
fn login<'a>(issuer: &'a str, client: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["login", "work", "--issuer", issuer, "--client-id", client, "-vvv"], more].concat()
}

/// Logs in with the authorization code grant: opens the authorization URL and the redirect in a [`Visitor`].
#[track_caller]
fn log_in_by_code(home: &Sandbox, site: &Site, args: &[&str]) -> CommandOutput {
    let waiting = home.spawn(&[args, &["--no-browser"]].concat());
    let back = Visitor::allow(&waiting.wait_for_line(&site.at("/o/authorize/")));
    let mut done = Visitor::open(&back);
    assert!(done.external_redirect.take().is_none(), "{} {}", done.status, done.html);
    let ran = waiting.wait();
    assert_eq!(done.html.contains("You are logged in"), ran.code == 0, "{} {}", done.status, done.html);
    ran
}

/// Returns a home that is logged in as the client `program`.
fn logged_in(site: &Site) -> Sandbox {
    let home = Sandbox::new();
    log_in_by_code(&home, site, &login(&site.at("/o"), "program", &[])).exits(0).reports("Logged in to");
    home.session("work");
    home
}

/// Returns whether the server reports a token as active (RFC 7662).
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
fn code_login_verifies_by_id_token_when_access_token_is_opaque() {
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
    // With a key of another issuer the token is denied.
    let key = site.key("api");
    home.run(&["keys", "pin", "work", "--jwks", key.to_str().expect("text")]).exits(0);
    home.run(&["verify", "work"]).exits(4);
    assert!(home.leaks_in_files().is_empty());
    site.expect_no_secret_in_urls(&home);
}

#[test]
fn login_works_with_configured_endpoints_instead_of_discovery() {
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
    log_in_by_code(&home, &site, &login(&issuer, "program", by_hand.as_flattened())).exits(0);
    home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
    let before = home.token("work");
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), before);
    home.run(&["verify", "work"]).exits(0);
    home.run(&["logout", "work"]).exits(0);
    assert_eq!(site.requests("GET /o/.well-known/openid-configuration 200 -"), 0);
    assert_eq!(site.requests("GET /.well-known/oauth-authorization-server/o 200 -"), 0);
    assert!(site.requests("POST /o/revoke_token/ 200 -") > 0);
}

#[test]
fn key_from_a_file_is_the_only_trusted_key() {
    let (site, home) = (Site::start(), Sandbox::new());
    let (issuer, authorize, token) = (site.at("/o"), site.at("/o/authorize/"), site.at("/o/token/"));
    let by_hand = [["--authorization-endpoint", &authorize], ["--token-endpoint", &token], ["--scope", "openid"]];
    let (own, foreign) = (site.key("oidc"), site.key("api"));
    let args = login(&issuer, "program", by_hand.as_flattened());
    let pinning = |key: &Path| {
        let key = key.to_str().expect("text");
        log_in_by_code(&home, &site, &[&args[..], &["--jwks", key]].concat())
    };
    pinning(&foreign).exits(4).reports("signature");
    home.run(&["token", "work"]).exits(2);
    pinning(&own).exits(0);
    home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
    assert_eq!(site.requests("GET /o/.well-known/jwks.json 200 -"), 0);
}

#[test]
fn device_login_reports_approval_and_denial() {
    let (site, home) = (Site::start(), Sandbox::new());
    let device = site.at("/o/device-authorization/");
    let issuer = site.at("/o");
    // The metadata has no device authorization endpoint.
    home.run(&login(&issuer, "device", &["--device"])).exits(5).reports("--browser");
    let args = login(&issuer, "device", &["--device", "--device-authorization-endpoint", &device]);
    let waiting = home.spawn(&args);
    let address = waiting.wait_until("an address", |output| {
        output
            .contains("Ctrl-C cancels")
            .then(|| output.split_whitespace().find(|word| word.ends_with("/o/device/")))?
            .map(str::to_owned)
    });
    let code = waiting.wait_until("a code", user_code);
    let mut visitor = Visitor::open(&address);
    visitor.sign_in().submit(&[("user_code", &code)]).submit(&[("action", "accept")]);
    assert!(visitor.url.path().contains("device-grant-status"), "{} {}", visitor.url, visitor.html);
    waiting.wait().exits(0);
    assert!(active(&site, &home.token("work")));
    // The user denies the next request.
    let waiting = home.spawn(&args);
    let code = waiting.wait_until("a code", user_code);
    let mut visitor = Visitor::open(&address);
    visitor.sign_in().submit(&[("user_code", &code)]).submit(&[("action", "deny")]);
    waiting.wait().exits(5).reports("access_denied");
    assert!(active(&site, &home.token("work")), "the session before is still there");
}

#[test]
fn client_secret_is_form_encoded() {
    let (site, home) = (Site::start(), Sandbox::new());
    home.register_secret(SECRET);
    let issuer = site.at("/o");
    for auth in ["client_secret_basic", "client_secret_post"] {
        let args = ["--client-credentials", "--client-secret-stdin", "--client-auth", auth, "--scope", "read"];
        let args = login(&issuer, "service", &args);
        home.run_with(&args, &format!("{SECRET}\n")).exits(0).reports("as client service");
        let first = home.token("work");
        assert!(active(&site, &first), "{auth}");
        home.expire("work");
        assert_ne!(home.token("work"), first, "{auth}: refreshed by itself");
        home.register_secret("a wrong secret of the tests");
        home.run_with(&args, "a wrong secret of the tests\n").exits(5).reports("invalid_client");
        home.run(&["token", "work"]).exits(0);
    }
    assert!(home.leaks_in_files().is_empty());
    site.expect_no_secret_in_urls(&home);
}

#[test]
fn password_grant_logs_in() {
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
fn reused_refresh_token_ends_the_session() {
    let site = Site::start();
    let home = logged_in(&site);
    let (first, old) = (home.token("work"), refresh_token(&home));
    home.expire("work");
    let second = home.token("work");
    assert!(first != second && active(&site, &second) && !active(&site, &first));
    let new = refresh_token(&home);
    assert_ne!(new, old, "the new refresh token is stored");
    home.run(&["refresh", "work"]).exits(0);
    // Reuse of the first refresh token: the server revokes the session.
    let again = [("grant_type", "refresh_token"), ("client_id", "program"), ("refresh_token", old.as_str())];
    let (status, answer) = post_form(&site.at("/o/token/"), None, &again);
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    let ended = home.run(&["refresh", "work", "--json"]).exits(3).error();
    assert_eq!(ended["code"], "login_required", "{ended}");
    let asked = site.requests("POST /o/token/ 400 refresh_token");
    home.run(&["refresh", "work"]).exits(3);
    home.expire("work");
    home.run(&["token", "work"]).exits(3);
    assert_eq!(site.requests("POST /o/token/ 400 refresh_token"), asked, "an ended session is not refreshed again");
}

#[test]
fn logout_revokes_both_tokens() {
    let site = Site::start();
    let home = logged_in(&site);
    let (token, refresh) = (home.token("work"), refresh_token(&home));
    assert!(active(&site, &token));
    // Only the metadata of RFC 8414 has a revocation endpoint, not that of OpenID Connect Discovery.
    let output = home.run(&["logout", "work", "-vvv"]).exits(0);
    assert!(
        output.stderr.contains("revoked") && !output.stderr.contains("no revocation endpoint"),
        "{}",
        output.stderr
    );
    assert!(!active(&site, &token));
    let again = [("grant_type", "refresh_token"), ("client_id", "program"), ("refresh_token", refresh.as_str())];
    assert_eq!(post_form(&site.at("/o/token/"), None, &again).0, 400);
    home.run(&["token", "work"]).exits(3);
    site.expect_no_secret_in_urls(&home);
}

#[test]
fn issuer_with_trailing_slash_is_reported_with_the_right_url() {
    let (site, home) = (Site::start(), Sandbox::new());
    let ran = home.run(&login(&site.at("/o/"), "program", &["--no-browser", "--json"])).exits(5);
    let error = ran.error();
    let (message, hint) = (error["message"].as_str().expect("text"), error["hint"].as_str().expect("text"));
    assert!(message.contains(&format!("found `{}`", site.at("/o"))), "{error}");
    assert!(hint.contains(&format!("--issuer {}", site.at("/o"))), "{error}");
    home.run(&["token", "work"]).exits(2);
}

#[test]
fn twenty_token_commands_share_one_refresh() {
    let site = Site::start();
    let home = logged_in(&site);
    let before = home.token("work");
    home.expire("work");
    let started: Vec<Child> = (0..20).map(|_| home.start(&["token", "work"], "")).collect();
    let got: Vec<String> =
        started.into_iter().map(|child| home.finish(child, &["token"]).exits(0).line().to_owned()).collect();
    assert!(got[0] != before && got.iter().all(|token| *token == got[0]), "twenty times the same new token");
    assert_eq!(site.requests("POST /o/token/ 200 refresh_token"), 1);
    assert_eq!(site.requests("POST /o/token/ 400 refresh_token"), 0);
    assert!(active(&site, &got[0]));
}

#[track_caller]
fn expect_redirect_to(redirect: &str, as_sent: &str) {
    let (site, home) = (Site::with(json!({"redirect": redirect})), Sandbox::new());
    let issuer = site.at("/o");
    let args = login(&issuer, "elsewhere", &["--redirect-uri", redirect]);
    let waiting = home.spawn(&[&args[..], &["--no-browser"]].concat());
    let back = Visitor::allow(&waiting.wait_for_line(&site.at("/o/authorize/")));
    assert!(back.starts_with(as_sent), "{back}");
    let done = Visitor::open(&back);
    assert!(done.html.contains("You are logged in"), "{}", done.html);
    waiting.wait().exits(0);
    home.token("work");
    // The next login uses the stored redirect URI.
    log_in_by_code(&home, &site, &["login", "work"]).exits(0);
    // The server refuses the default redirect URI.
    home.run(&["profile", "set", "work", "redirect_uri="]).exits(0);
    let waiting = home.spawn(&["login", "work", "--no-browser"]);
    let mut refused = Visitor::open(&waiting.wait_for_line(&site.at("/o/authorize/")));
    if refused.html.contains("id_password") {
        refused.sign_in();
    }
    assert_eq!(refused.status, 400, "{}", refused.html);
}

#[test]
fn redirect_uri_may_name_localhost_with_port_and_path() {
    let redirect = format!("http://localhost:{}/cb", free_port());
    expect_redirect_to(&redirect, &format!("{redirect}?"));
}

#[test]
fn redirect_uri_may_name_ipv6_loopback() {
    expect_redirect_to("http://[::1]/callback", "http://[::1]:");
}

#[test]
fn redirect_port_in_use_is_reported_before_the_sign_in() {
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
