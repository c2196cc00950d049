//! Sessions from djangorestframework-simplejwt, a login API that does not use OAuth.

use std::process::Child;

use serde_json::{Value, json};

use crate::agent_support::{agent, request_json, socket_of};
use crate::django_site::{Site, get_with, post_json};
use crate::support::jwt::claims;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER};

/// A home and the arguments that log in to the site's API.
struct ApiLogin {
    home: Sandbox,
    site: Site,
    args: Vec<String>,
}

impl ApiLogin {
    fn at(site: Site) -> Self {
        let mut args = vec!["login".to_owned(), "work".into()];
        let (issuer, key) = (site.at("/api"), site.key("api").to_str().expect("text").to_owned());
        for (option, value) in [
            ("--issuer", issuer),
            ("--login-endpoint", site.at("/api/login/")),
            ("--refresh-endpoint", site.at("/api/refresh/")),
            ("--logout-endpoint", site.at("/api/logout/")),
            ("--access-token-field", "access".into()),
            ("--refresh-token-field", "refresh".into()),
            ("--audience", "things".into()),
            ("--jwks", key),
            ("--username", USER.into()),
        ] {
            args.extend([option.to_owned(), value]);
        }
        args.extend(["--password-stdin".to_owned(), "-vvv".into()]);
        Self { home: Sandbox::new(), site, args }
    }

    fn log_in(&self, password: &str) -> CommandOutput {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.home.run_with(&args, &format!("{password}\n"))
    }

    fn logged_in(site: Site) -> Self {
        let login = Self::at(site);
        login.log_in(PASSWORD).exits(0).reports("Logged in to");
        login.home.session("work");
        login
    }

    fn refresh_token(&self) -> String {
        self.home.session("work").tokens.refresh_token.expect("a refresh token").expose().to_owned()
    }

    /// Refreshes at the API directly, as any holder of the refresh token can.
    fn refresh_at_api(&self, refresh: &str) -> (u16, Value) {
        post_json(&self.site.at("/api/refresh/"), &json!({"refresh": refresh}))
    }

    #[track_caller]
    fn expect_accepted(&self, token: &str) {
        assert_eq!(get_with(&self.site.at("/api/me/"), token), (200, json!({"name": USER})));
    }

    /// Fails the test if a secret is in a file outside the store or in a requested URL.
    #[track_caller]
    fn expect_no_leaks(&self) {
        assert_eq!(self.home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
        self.site.expect_no_secret_in_urls(&self.home);
    }
}

#[test]
fn password_login_yields_a_token_that_verifies_offline() {
    let login = ApiLogin::logged_in(Site::start());
    let token = login.home.token("work");
    login.expect_accepted(&token);
    let granted =
        login.home.run_offline(&["verify", "work", "--json", "--claim", "token_type=access"], "").exits(0).json();
    assert_eq!(granted["claims"]["user_id"], "1", "{granted}");
    for (option, value, code) in [
        ("--audience", "others", "wrong_audience"),
        ("--issuer", "http://127.0.0.1:1/api", "wrong_issuer"),
        ("--claim", "token_type=refresh", "claim_mismatch"),
    ] {
        let key = login.site.key("api");
        let issuer = login.site.at("/api");
        let mut args = vec!["verify", "-", "--json", "--jwks", key.to_str().expect("text"), option, value];
        for (usual, right) in [("--audience", "things"), ("--issuer", issuer.as_str())] {
            if usual != option {
                args.extend([usual, right]);
            }
        }
        let denied = login.home.run_with(&args, &token).exits(4).json();
        assert_eq!(denied["reasons"][0]["code"], code, "{denied}");
    }
    login.home.run(&["exec", "work", "--", "true"]).exits(0);
    // The API signs refresh tokens with the same key for the same audience: only `token_type` differs.
    let refresh = login.refresh_token();
    let args = ["verify", "-", "--profile", "work", "--json"];
    login.home.run(&["profile", "set", "work", "required_claims=token_type=access"]).exits(0);
    let denied = login.home.run_with(&args, &refresh).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "claim_mismatch", "{denied}");
    login.home.run_with(&args, &token).exits(0);
    login.expect_no_leaks();
}

#[test]
fn token_without_iss_and_aud_needs_optional_claims() {
    let login = ApiLogin::logged_in(Site::with(json!({"named": false})));
    let token = login.home.token("work");
    assert!(claims(&token).get("iss").is_none() && claims(&token).get("aud").is_none());
    login.expect_accepted(&token);
    let denied = login.home.run(&["verify", "work", "--json"]).exits(4).json();
    let missing =
        denied["reasons"].as_array().expect("reasons").iter().filter(|r| r["code"] == "missing_claim").count();
    assert_eq!(missing, 2, "{denied}");
    login.home.run(&["exec", "work", "--", "true"]).exits(4);
    login.home.run(&["profile", "set", "work", "optional_claims=iss aud"]).exits(0);
    login.home.run(&["verify", "work"]).exits(0);
    login.home.run(&["exec", "work", "--", "true"]).exits(0);
    // A token of another site is denied for its signature.
    let named = Site::start();
    let (_, answer) = post_json(&named.at("/api/login/"), &json!({"username": USER, "password": PASSWORD}));
    let foreign = answer["access"].as_str().expect("a token");
    let denied = login.home.run_with(&["verify", "-", "--profile", "work", "--json"], foreign).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "invalid_signature", "{denied}");
    login.expect_no_leaks();
}

#[test]
fn refresh_stores_the_rotated_refresh_token() {
    let login = ApiLogin::logged_in(Site::start());
    let (first, old) = (login.home.token("work"), login.refresh_token());
    login.home.expire("work");
    let second = login.home.token("work");
    assert_ne!(second, first);
    login.expect_accepted(&second);
    login.home.run(&["verify", "work"]).exits(0);
    let new = login.refresh_token();
    assert_ne!(new, old);
    assert_eq!(login.refresh_at_api(&old), (401, json!({"detail": "Token is blacklisted", "code": "token_not_valid"})));
    // The next refresh sends the new refresh token.
    login.home.run(&["refresh", "work"]).exits(0);
    assert_eq!(login.refresh_at_api(&new).0, 401);
    assert_eq!(login.site.requests("POST /api/refresh/ 200 -"), 2);
    login.expect_no_leaks();
}

#[test]
fn blacklisted_refresh_token_ends_the_session() {
    let login = ApiLogin::logged_in(Site::start());
    let refresh = login.refresh_token();
    assert_eq!(post_json(&login.site.at("/api/logout/"), &json!({"refresh": refresh})).0, 200);
    login.home.expire("work");
    let ended = login.home.run(&["token", "work", "--json"]).exits(3).error();
    assert_eq!(ended["code"], "login_required", "{ended}");
    assert!(ended["message"].as_str().expect("text").contains("blacklisted"), "in the server's words: {ended}");
    login.home.run(&["token", "work"]).exits(3);
    login.home.run(&["refresh", "work"]).exits(3);
    assert_eq!(login.site.requests("POST /api/refresh/ 401 -"), 1, "output once");
    // A new login starts a new session.
    login.log_in(PASSWORD).exits(0);
    login.expect_accepted(&login.home.token("work"));
    login.expect_no_leaks();
}

#[test]
fn wrong_password_is_reported_and_nothing_is_stored() {
    let login = ApiLogin::at(Site::start());
    login.home.register_secret("a wrong password of the tests");
    login
        .log_in("a wrong password of the tests")
        .exits(5)
        .reports("No active account found with the given credentials");
    login.home.run(&["token", "work"]).exits(2);
    assert!(!login.home.config_file().exists() && !login.home.session_file("work").exists());
    login.log_in(PASSWORD).exits(0);
    let token = login.home.token("work");
    // A failed login does not change the session.
    login.log_in("a wrong password of the tests").exits(5);
    assert_eq!(login.home.token("work"), token);
    login.expect_no_leaks();
}

#[test]
fn logout_revokes_the_refresh_token_at_the_api() {
    let login = ApiLogin::logged_in(Site::start());
    let (token, refresh) = (login.home.token("work"), login.refresh_token());
    login.home.run(&["logout", "work", "-vvv"]).exits(0);
    assert_eq!(login.site.requests("POST /api/logout/ 200 -"), 1);
    assert_eq!(login.refresh_at_api(&refresh).0, 401);
    login.home.run(&["token", "work"]).exits(3);
    // The API accepts the access token until it expires. Here it is on the revocation list.
    login.expect_accepted(&token);
    let denied = login.home.run_with(&["verify", "-", "--profile", "work", "--json"], &token).exits(4).json();
    assert!(denied["reasons"].as_array().expect("reasons").iter().any(|r| r["code"] == "revoked"), "{denied}");
    login.expect_no_leaks();
}

#[test]
fn html_page_or_server_error_does_not_end_the_session() {
    let login = ApiLogin::at(Site::start());
    for (path, message) in [("page", "JSON"), ("broken", "HTTP 500"), ("nowhere", "404")] {
        let endpoint = login.site.at(&format!("/api/{path}/"));
        let asked = login.args.iter().map(|arg| if *arg == login.site.at("/api/login/") { &endpoint } else { arg });
        let args: Vec<&str> = asked.map(|arg| if arg == "work" { "other" } else { arg.as_str() }).collect();
        let ran = login.home.run_with(&args, &format!("{PASSWORD}\n")).exits(6).reports(message);
        assert!(!ran.stderr.contains("<title>") && !ran.stderr.contains("Sign in to"), "{}", ran.stderr);
        login.home.run(&["token", "other"]).exits(2);
        // The same for a refresh. It may have used the refresh token, which is not sent again at once.
        login.log_in(PASSWORD).exits(0);
        let (token, refresh) = (login.home.token("work"), login.refresh_token());
        login.home.run(&["profile", "set", "work", &format!("refresh_endpoint={endpoint}")]).exits(0);
        login.home.run(&["refresh", "work"]).exits(6).reports(message);
        assert_eq!((login.home.token("work"), login.refresh_token()), (token, refresh), "the session is unchanged");
        assert_eq!(login.refresh_at_api(&login.refresh_token()).0, 200);
    }
    login.expect_no_leaks();
}

#[test]
fn agent_refreshes_once_for_twenty_callers() {
    let login = ApiLogin::logged_in(Site::start());
    let first = login.home.token("work");
    login.home.expire("work");
    let _agent = agent(&login.home, &[]);
    let started: Vec<Child> = (0..20).map(|_| login.home.start(&["token", "work"], "")).collect();
    let got: Vec<String> =
        started.into_iter().map(|child| login.home.finish(child, &["token"]).exits(0).line().to_owned()).collect();
    assert!(got[0] != first && got.iter().all(|token| *token == got[0]));
    assert_eq!(login.site.requests("POST /api/refresh/ 200 -"), 1);
    let socket = socket_of(&login.home);
    let (status, answer) = request_json(&socket, "GET", "/v1/token/work", "");
    assert_eq!((status, &answer["access_token"]), (200, &json!(got[0])));
    login.expect_accepted(&got[0]);
    let before = login.refresh_token();
    let (status, _) = request_json(&socket, "POST", "/v1/refresh/work", "");
    assert_eq!(status, 200);
    assert!(login.refresh_token() != before && login.refresh_at_api(&before).0 == 401);
    let (status, verdict) =
        request_json(&socket, "POST", "/v1/verify", &json!({"token": got[0], "profile": "work"}).to_string());
    assert_eq!((status, &verdict["valid"]), (200, &json!(true)), "{verdict}");
    login.expect_no_leaks();
}
