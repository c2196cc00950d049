//! `authctl login --with-token`: tokens that another program was issued.

use std::sync::Arc;

use serde_json::{Value, json};

use super::login::{assert_nothing_stored, login, plain};
use crate::support::agent::Agent;
use crate::support::jwt::claims;
use crate::support::login_pages::token_response;
use crate::support::time_travel::LaggingClock;
use crate::support::{Sandbox, USER};

#[test]
fn supplied_token_response_is_stored_and_refreshed() {
    let (home, issuer) = (Sandbox::new(), plain());
    let tokens = token_response(&issuer, USER);
    for name in ["access_token", "refresh_token", "id_token"] {
        home.register_secret(tokens[name].as_str().unwrap());
    }
    home.run_with(&login(&issuer, &["--with-token", "-vvv"]), &tokens.to_string()).exits(0);
    assert_eq!(home.token("work"), tokens["access_token"].as_str().unwrap());
    home.advance_time("work", 301);
    assert_ne!(home.token("work"), tokens["access_token"].as_str().unwrap());
}

#[test]
fn supplied_tokens_may_be_pasted_in_a_terminal() {
    let issuer = plain();
    for is_whole_response in [true, false] {
        let home = Sandbox::new();
        let tokens = token_response(&issuer, USER);
        let token = tokens["access_token"].as_str().unwrap().to_owned();
        let text = if is_whole_response { serde_json::to_string_pretty(&tokens).unwrap() } else { token.clone() };
        let mut typing = home.spawn_in_terminal(&login(&issuer, &["--with-token"]));
        typing.reports("Paste the token response or the JWT");
        for name in ["access_token", "refresh_token", "id_token"] {
            // What is pasted is not shown.
            home.register_secret(tokens[name].as_str().unwrap());
        }
        // A second Ctrl-D ends a last line that Enter has not.
        typing.type_text(&format!("{text}\n\u{4}"));
        typing.wait().exits(0);
        assert_eq!(home.token("work"), token);
    }
    let home = Sandbox::new();
    let mut typing = home.spawn_in_terminal(&login(&issuer, &["--with-token"]));
    typing.reports("Paste the token response or the JWT");
    typing.type_text("\u{4}");
    typing.wait().exits(2).reports("no token on stdin");
}

#[test]
fn supplied_jwt_is_stored_and_cannot_be_refreshed() {
    let (home, issuer) = (Sandbox::new(), plain());
    let token = token_response(&issuer, USER)["access_token"].as_str().unwrap().to_owned();
    home.register_secret(&token);
    home.run_with(&login(&issuer, &["--with-token"]), &format!("  {token}\n")).exits(0).reports("log in again");
    assert_eq!(home.token("work"), token);
    assert_eq!(home.status("work")["can_refresh"], false);
    home.run(&["verify", "work"]).exits(0);
    home.advance_time("work", 301);
    home.run(&["token", "work"]).exits(3).reports("authctl login work");
}

#[test]
fn supplied_token_that_nothing_verified_is_reported_as_unverified() {
    let (home, issuer) = (Sandbox::new(), plain());
    let opaque = r#"{"access_token":"0pa9ue-t0ken"}"#;
    home.run_with(&login(&issuer, &["--with-token"]), opaque).exits(0).reports("warning: the token is not verified");
    let unverified = || home.status("work")["unverified"].clone();
    assert_eq!(unverified(), true);
    for args in [&["status"][..], &["status", "work"], &["status", "--long"]] {
        let shown = home.run(args).exits(0).stdout;
        assert!(shown.contains("unverified") && !shown.contains("signed in"), "{args:?}: {shown}");
    }
    assert_eq!(home.run(&["status", "--short"]).exits(0).stdout, "work (unverified)\n");
    let doctor = home.run(&["doctor"]).exits(0).stdout;
    assert!(doctor.contains("the token of work is not verified"), "{doctor}");
    let agent = Agent::run(&home);
    agent.get("/v1/token/work").expect_status(200);
    assert_eq!(home.run(&["status", "--short"]).exits(0).stdout, "work (unverified)\n");
    let status = home.run(&["agent", "status"]).exits(0).stdout;
    assert!(status.contains("1 unverified: work"), "{status}");
    drop(agent);
    let whoami = home.run(&["whoami"]).exits(3).reports("the token of work is not verified");
    whoami.reports("hint:  authctl login work --browser");
    let again = home.run_with(&login(&issuer, &["--with-token", "--replace", "--json"]), opaque).exits(0);
    assert_eq!(again.json()["unverified"], true);
    let jwt = token_response(&issuer, USER)["access_token"].as_str().unwrap().to_owned();
    let verified = home.run_with(&login(&issuer, &["--with-token", "--replace"]), &jwt).exits(0);
    assert!(!verified.stderr.contains("not verified"), "{}", verified.stderr);
    assert_eq!(unverified(), false);
    assert_eq!(home.run(&["whoami"]).exits(0).line(), USER);
}

#[test]
fn invalid_supplied_jwt_is_not_stored() {
    let (issuer, other) = (plain(), plain());
    let past = crate::support::issuer(|o| o.clock = Arc::new(LaggingClock(3600)));
    let text = |response: &Value| response["access_token"].as_str().unwrap().to_owned();
    let valid = text(&token_response(&issuer, USER));
    let parts: Vec<&str> = valid.split('.').collect();
    // The last character of a signature has unused bits, so one in the middle is changed.
    let middle = parts[2].len() / 2;
    let letter = if parts[2].as_bytes()[middle] == b'A' { "B" } else { "A" };
    let signature = format!("{}{letter}{}", &parts[2][..middle], &parts[2][middle + 1..]);
    let signed = format!("{}.{}", parts[0], parts[1]);
    let response = |token: &str| format!("{{\"access_token\":\"{token}\"}}");
    let without_claims = response(&format!("{}.*{}.{}", parts[0], parts[1], parts[2]));
    for (at, token, why) in [
        (&issuer, format!("{signed}.{signature}"), "signature"),
        // Damaged and cut off ones are not taken for opaque tokens.
        (&issuer, response(&format!("{signed}.*{}", parts[2])), "signature"),
        (&issuer, format!("{signed}.{}", &parts[2][..5]), "signature"),
        (&issuer, response(&format!("{signed}.{}", &parts[2][..5])), "signature"),
        (&issuer, response(&signed), "parts"),
        (&issuer, without_claims, "payload"),
        (&issuer, text(&token_response(&other, USER)), ""),
        (&past, text(&token_response(&past, USER)), "expired"),
    ] {
        let home = Sandbox::new();
        home.register_secret(&token);
        home.run_with(&login(at, &["--with-token", "-vvv"]), &token).exits(4).reports(why);
        assert_nothing_stored(&home);
    }
    // Signed with a trusted key, but as another issuer.
    let signer = crate::support::jwt::Signer::new();
    let set_keys = json!({"endpoint": "jwks", "kind": "edited", "times": 0, "set": signer.jwks()});
    other.fault(serde_json::from_value(set_keys).unwrap());
    for (iss, code) in [(other.issuer(), 0), (issuer.issuer(), 4)] {
        let (home, token) = (Sandbox::new(), signer.token(json!({"iss": iss, "aud": "authctl"})));
        home.register_secret(&token);
        assert_eq!(home.run_with(&login(&other, &["--with-token"]), &token).code, code, "{iss}");
    }
    let long = format!("{}{}", token_response(&issuer, USER), " ".repeat(1 << 20));
    for garbage in [
        long.as_str(),
        "",
        "hello\n",
        "<html>a portal</html>",
        "{}",
        r#"{"error":"invalid_grant"}"#,
        "{\"access_token\"",
    ] {
        let home = Sandbox::new();
        home.run_with(&login(&issuer, &["--with-token"]), garbage).exits(2);
        assert_nothing_stored(&home);
    }
}

#[test]
fn supplied_tokens_that_are_not_stored_are_not_revoked() {
    let (home, issuer) = (Sandbox::new(), plain());
    home.log_in("work", &issuer);
    let other_tokens = token_response(&issuer, "other").to_string();
    home.run_with(&["login", "work", "--with-token"], &other_tokens).exits(2);
    assert_eq!(issuer.stats().families_revoked, 0);
}

#[test]
fn logged_out_token_is_denied_until_its_own_expiry() {
    let (home, issuer) = (Sandbox::new(), plain());
    let mut tokens = token_response(&issuer, USER);
    // The list forgets tokens some time after they have expired.
    tokens["expires_in"] = 10.into();
    home.run_with(&login(&issuer, &["--with-token"]), &tokens.to_string()).exits(0);
    home.run(&["logout", "work"]).exits(0);
    let expiry = claims(tokens["access_token"].as_str().unwrap())["exp"].to_string();
    let list = std::fs::read_to_string(home.path().join("data/authctl/revoked")).unwrap();
    let expiries = list.lines().skip(1).map(|line| line.split(' ').nth(1).unwrap());
    assert!(list.lines().count() > 1 && expiries.into_iter().all(|listed| listed == expiry), "{expiry}: {list}");
}
