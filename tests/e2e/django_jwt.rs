//! Sessions from djangorestframework-simplejwt: a login API that is none of OAuth's, and that nobody here wrote.

use std::process::Child;

use serde_json::{Value, json};

use crate::agent_support::{agent, asked, socket_of};
use crate::site::{Site, get_with, post_json};
use crate::support::jwt::claims;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER};

/// A home and the arguments that log in to the site's API.
struct Desk {
    home: Sandbox,
    site: Site,
    args: Vec<String>,
}

impl Desk {
    fn at(site: Site) -> Self {
        let mut args = vec!["login".to_owned(), "work".into()];
        let (issuer, key) = (site.at("/api"), site.key("api").to_str().expect("text").to_owned());
        for (option, value) in [
            ("--issuer", issuer),
            ("--login-endpoint", site.at("/api/login/")),
            ("--refresh-endpoint", site.at("/api/refresh/")),
            ("--logout-endpoint", site.at("/api/logout/")),
            ("--field", "access_token=access".into()),
            ("--field", "refresh_token=refresh".into()),
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
        let desk = Self::at(site);
        desk.log_in(PASSWORD).exits(0).reports("Logged in");
        desk.home.session("work");
        desk
    }

    fn refresh_token(&self) -> String {
        self.home.session("work").tokens.refresh_token.expect("a refresh token").expose().to_owned()
    }

    /// Asks the API for a new token as anybody could who has the refresh token.
    fn refreshes_elsewhere(&self, refresh: &str) -> (u16, Value) {
        post_json(&self.site.at("/api/refresh/"), &json!({"refresh": refresh}))
    }

    #[track_caller]
    fn serves(&self, token: &str) {
        assert_eq!(get_with(&self.site.at("/api/me/"), token), (200, json!({"name": USER})));
    }

    /// No secret is in any file but the store, nor in an address that the site was asked at.
    #[track_caller]
    fn leaked_nothing(&self) {
        assert_eq!(self.home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
        self.site.no_secret_in_addresses(&self.home);
    }
}

#[test]
fn user_name_and_password_become_a_token_that_the_api_takes_and_that_is_verified_offline() {
    let desk = Desk::logged_in(Site::start());
    let token = desk.home.token("work");
    desk.serves(&token);
    let granted =
        desk.home.run_offline(&["verify", "work", "--json", "--claim", "token_type=access"], "").exits(0).json();
    assert_eq!(granted["claims"]["user_id"], "1", "{granted}");
    for (option, value, code) in [
        ("--audience", "others", "wrong_audience"),
        ("--issuer", "http://127.0.0.1:1/api", "wrong_issuer"),
        ("--claim", "token_type=refresh", "claim_mismatch"),
    ] {
        let key = desk.site.key("api");
        let issuer = desk.site.at("/api");
        let mut args = vec!["verify", "-", "--json", "--jwks", key.to_str().expect("text"), option, value];
        for (usual, right) in [("--audience", "things"), ("--issuer", issuer.as_str())] {
            if usual != option {
                args.extend([usual, right]);
            }
        }
        let denied = desk.home.run_with(&args, &token).exits(4).json();
        assert_eq!(denied["reasons"][0]["code"], code, "{denied}");
    }
    desk.home.run(&["exec", "work", "--", "true"]).exits(0);
    // The API signs its refresh tokens with the same key, for the same audience: only one claim tells them apart.
    let refresh = desk.refresh_token();
    let args = ["verify", "-", "--profile", "work", "--json"];
    desk.home.run(&["profile", "set", "work", "required_claims=token_type=access"]).exits(0);
    let denied = desk.home.run_with(&args, &refresh).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "claim_mismatch", "{denied}");
    desk.home.run_with(&args, &token).exits(0);
    desk.leaked_nothing();
}

#[test]
fn a_token_without_issuer_and_audience_is_denied_until_the_profile_says_that_they_may_be_missing() {
    let desk = Desk::logged_in(Site::with(json!({"named": false})));
    let token = desk.home.token("work");
    assert!(claims(&token).get("iss").is_none() && claims(&token).get("aud").is_none());
    desk.serves(&token);
    let denied = desk.home.run(&["verify", "work", "--json"]).exits(4).json();
    let missing =
        denied["reasons"].as_array().expect("reasons").iter().filter(|r| r["code"] == "missing_claim").count();
    assert_eq!(missing, 2, "{denied}");
    desk.home.run(&["exec", "work", "--", "true"]).exits(4);
    desk.home.run(&["profile", "set", "work", "optional_claims=iss aud"]).exits(0);
    desk.home.run(&["verify", "work"]).exits(0);
    desk.home.run(&["exec", "work", "--", "true"]).exits(0);
    // One that is there must still be right, and one of another's key is still another's.
    let named = Site::start();
    let (_, answer) = post_json(&named.at("/api/login/"), &json!({"username": USER, "password": PASSWORD}));
    let stranger = answer["access"].as_str().expect("a token");
    let denied = desk.home.run_with(&["verify", "-", "--profile", "work", "--json"], stranger).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "bad_signature", "{denied}");
    desk.leaked_nothing();
}

#[test]
fn a_refresh_keeps_the_new_refresh_token_and_the_old_one_is_blacklisted() {
    let desk = Desk::logged_in(Site::start());
    let (first, old) = (desk.home.token("work"), desk.refresh_token());
    desk.home.expire("work");
    let second = desk.home.token("work");
    assert_ne!(second, first);
    desk.serves(&second);
    desk.home.run(&["verify", "work"]).exits(0);
    let new = desk.refresh_token();
    assert_ne!(new, old);
    assert_eq!(
        desk.refreshes_elsewhere(&old),
        (401, json!({"detail": "Token is blacklisted", "code": "token_not_valid"}))
    );
    // The new one is the one that is sent.
    desk.home.run(&["refresh", "work"]).exits(0);
    assert_eq!(desk.refreshes_elsewhere(&new).0, 401);
    assert_eq!(desk.site.noted("POST /api/refresh/ 200 -"), 2);
    desk.leaked_nothing();
}

#[test]
fn a_refresh_token_that_is_blacklisted_ends_the_session_and_is_not_sent_again() {
    let desk = Desk::logged_in(Site::start());
    let refresh = desk.refresh_token();
    assert_eq!(post_json(&desk.site.at("/api/logout/"), &json!({"refresh": refresh})).0, 200);
    desk.home.expire("work");
    let ended = desk.home.run(&["token", "work", "--json"]).exits(3).error();
    assert_eq!(ended["code"], "login_required", "{ended}");
    assert!(ended["message"].as_str().expect("text").contains("blacklisted"), "in the server's words: {ended}");
    desk.home.run(&["token", "work"]).exits(3);
    desk.home.run(&["refresh", "work"]).exits(3);
    assert_eq!(desk.site.noted("POST /api/refresh/ 401 -"), 1, "told once");
    // Logging in again is all that it takes.
    desk.log_in(PASSWORD).exits(0);
    desk.serves(&desk.home.token("work"));
    desk.leaked_nothing();
}

#[test]
fn a_wrong_password_is_told_in_the_servers_words_and_keeps_nothing() {
    let desk = Desk::at(Site::start());
    desk.home.register_secret("a wrong password of the tests");
    desk.log_in("a wrong password of the tests").exits(5).reports("No active account found with the given credentials");
    desk.home.run(&["token", "work"]).exits(2);
    assert!(!desk.home.config_file().exists() && !desk.home.session_file("work").exists());
    desk.log_in(PASSWORD).exits(0);
    let token = desk.home.token("work");
    // A later mistake leaves the session as it is.
    desk.log_in("a wrong password of the tests").exits(5);
    assert_eq!(desk.home.token("work"), token);
    desk.leaked_nothing();
}

#[test]
fn logging_out_tells_the_api_and_the_refresh_token_is_over() {
    let desk = Desk::logged_in(Site::start());
    let (token, refresh) = (desk.home.token("work"), desk.refresh_token());
    desk.home.run(&["logout", "work", "-vvv"]).exits(0);
    assert_eq!(desk.site.noted("POST /api/logout/ 200 -"), 1);
    assert_eq!(desk.refreshes_elsewhere(&refresh).0, 401);
    desk.home.run(&["token", "work"]).exits(3);
    // The access token lives on at the API, as all JWTs do; here it is over.
    desk.serves(&token);
    let denied = desk.home.run_with(&["verify", "-", "--profile", "work", "--json"], &token).exits(4).json();
    assert!(denied["reasons"].as_array().expect("reasons").iter().any(|r| r["code"] == "revoked"), "{denied}");
    desk.leaked_nothing();
}

#[test]
fn a_page_or_a_fault_in_place_of_an_answer_is_told_and_ends_no_session() {
    let desk = Desk::at(Site::start());
    for (path, says) in [("page", "JSON"), ("broken", "status 500"), ("nowhere", "404")] {
        let endpoint = desk.site.at(&format!("/api/{path}/"));
        let asked = desk.args.iter().map(|arg| if *arg == desk.site.at("/api/login/") { &endpoint } else { arg });
        let args: Vec<&str> = asked.map(|arg| if arg == "work" { "other" } else { arg.as_str() }).collect();
        let ran = desk.home.run_with(&args, &format!("{PASSWORD}\n")).exits(6).reports(says);
        assert!(!ran.stderr.contains("<title>") && !ran.stderr.contains("Sign in to"), "{}", ran.stderr);
        desk.home.run(&["token", "other"]).exits(2);
        // The same of a refresh, which may have spent the refresh token: it is not sent again at once.
        desk.log_in(PASSWORD).exits(0);
        let (token, refresh) = (desk.home.token("work"), desk.refresh_token());
        desk.home.run(&["profile", "set", "work", &format!("refresh_endpoint={endpoint}")]).exits(0);
        desk.home.run(&["refresh", "work"]).exits(6).reports(says);
        assert_eq!((desk.home.token("work"), desk.refresh_token()), (token, refresh), "kept and served all the while");
        assert_eq!(desk.refreshes_elsewhere(&desk.refresh_token()).0, 200);
    }
    desk.leaked_nothing();
}

#[test]
fn the_agent_refreshes_it_too_once_for_twenty() {
    let desk = Desk::logged_in(Site::start());
    let first = desk.home.token("work");
    desk.home.expire("work");
    let _agent = agent(&desk.home, &[]);
    let started: Vec<Child> = (0..20).map(|_| desk.home.start(&["token", "work"], "")).collect();
    let got: Vec<String> =
        started.into_iter().map(|child| desk.home.finish(child, &["token"]).exits(0).line().to_owned()).collect();
    assert!(got[0] != first && got.iter().all(|token| *token == got[0]));
    assert_eq!(desk.site.noted("POST /api/refresh/ 200 -"), 1);
    let socket = socket_of(&desk.home);
    let (status, answer) = asked(&socket, "GET", "/v1/token/work", "");
    assert_eq!((status, &answer["access_token"]), (200, &json!(got[0])));
    desk.serves(&got[0]);
    let before = desk.refresh_token();
    let (status, _) = asked(&socket, "POST", "/v1/refresh/work", "");
    assert_eq!(status, 200);
    assert!(desk.refresh_token() != before && desk.refreshes_elsewhere(&before).0 == 401);
    let (status, verdict) =
        asked(&socket, "POST", "/v1/verify", &json!({"token": got[0], "profile": "work"}).to_string());
    assert_eq!((status, &verdict["valid"]), (200, &json!(true)), "{verdict}");
    desk.leaked_nothing();
}
