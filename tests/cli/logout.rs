//! `logout`: both halves, each reported, and the local one done whatever the issuer says.

use std::fs;

use authctl::dev_issuer::{Endpoint, Fault, FaultKind};
use serde_json::json;

use crate::support::http::{get, post};
use crate::support::{Sandbox, quick_issuer};

#[test]
fn both_halves_are_done_and_the_token_is_dead_at_the_issuer() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let tokens = home.session("work").tokens;
    let userinfo = format!("{}/userinfo", idp.issuer());
    let bearer = format!("Authorization: Bearer {}", tokens.access_token.expose());
    assert_eq!(get(&userinfo, &[&bearer]).0, 200, "alive before");
    let ran = home.run(&["logout", "work"]).exits(0).reports("logged out of work; tokens revoked");
    assert_eq!(ran.stdout, "");
    assert!(!home.session_file("work").exists());
    assert_eq!(get(&userinfo, &[&bearer]).0, 401);
    let refresh = tokens.refresh_token.unwrap();
    let form = format!("grant_type=refresh_token&client_id=authctl&refresh_token={}", refresh.expose());
    let (status, body) = post(&format!("{}/token", idp.issuer()), &form);
    assert_eq!(status, 400);
    assert!(body.contains("invalid_grant"), "{body}");
    home.run(&["token"]).exits(3);
}

#[test]
fn the_json_is_pinned() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    let ran = home.run(&["logout", "--json"]).exits(0);
    assert_eq!(ran.stdout, "{\"profile\":\"work\",\"deleted\":true,\"revocation\":\"revoked\",\"error\":null}\n");
    assert_eq!(ran.stderr, "");
    let ran = home.run(&["logout", "--json"]).exits(0);
    assert_eq!(ran.stdout, "{\"profile\":\"work\",\"deleted\":false,\"revocation\":null,\"error\":null}\n");
    home.log_in("work", &idp);
    let ran = home.run(&["logout", "--json", "--no-revoke"]).exits(0);
    assert_eq!(ran.stdout, "{\"profile\":\"work\",\"deleted\":true,\"revocation\":\"skipped\",\"error\":null}\n");
    home.log_in("work", &idp);
    idp.pause();
    let answer = home.run(&["logout", "--json"]).exits(6).json();
    assert_eq!((&answer["deleted"], &answer["revocation"]), (&json!(true), &json!("failed")));
    assert!(answer["error"].is_string());
}

#[test]
fn nobody_logged_in_is_no_failure() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.run(&["logout"]).exits(3);
    home.run(&["logout", "--all"]).exits(0);
    home.log_in("work", &idp);
    home.run(&["logout"]).exits(0);
    home.run(&["logout"]).exits(0).reports("not logged in to work");
    home.run(&["logout", "--all"]).exits(0);
    home.run(&["logout", "nobody"]).exits(2);
    home.run(&["logout", "work", "--all"]).exits(2);
}

#[test]
fn with_the_issuer_down_it_is_deleted_here_and_the_tokens_are_denied() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    let token = home.token("work");
    let keys = home.path().join("keys.json");
    fs::write(&keys, home.trust(&idp).fetched.unwrap().jwks).unwrap();
    idp.pause();
    home.run(&["logout"]).exits(6).reports("logged out of work").reports("not revoked").reports(idp.issuer());
    assert!(!home.session_file("work").exists());
    let keys = keys.to_str().unwrap();
    let denied = home.run_with(&["verify", "-", "--profile", "work", "--jwks", keys, "--json"], &token).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "revoked");
}

#[test]
fn a_refusing_issuer_is_told_apart_from_one_that_is_down() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    idp.fault(Fault {
        endpoint: Endpoint::Revoke,
        kind: FaultKind::OAuthError { status: 400, code: "invalid_client".into() },
        times: 0,
    });
    home.run(&["logout"]).exits(5).reports("not revoked").reports("invalid_client");
    assert!(!home.session_file("work").exists());
    home.log_in("work", &idp);
    idp.clear_faults();
    idp.fault(Fault { endpoint: Endpoint::Revoke, kind: FaultKind::Html, times: 0 });
    let asked = idp.stats().families_revoked;
    let ran = home.run(&["logout"]);
    // A page for people with the status 200 is what a captive portal sends: nothing was revoked.
    assert_eq!(idp.stats().families_revoked, asked);
    ran.exits(6).reports("not revoked");
}

#[test]
fn without_revoking_the_issuer_is_not_asked() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    idp.pause();
    home.run(&["logout", "--no-revoke"]).exits(0).reports("stay valid at the issuer");
    assert!(!home.session_file("work").exists());
    assert_eq!(idp.stats().families_revoked, 0);
}

#[test]
fn all_logs_out_of_each_and_tells_each() {
    let home = Sandbox::new();
    let (one, mut two) = (quick_issuer(), quick_issuer());
    home.log_in("a", &one);
    home.log_in("b", &two);
    home.log_in("c", &one);
    two.pause();
    let ran = home.run(&["logout", "--all", "--json"]).exits(6);
    let words: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = words.iter().map(|w| (&w["profile"], &w["revocation"])).collect();
    let [revoked, failed] = [json!("revoked"), json!("failed")];
    assert_eq!(told, [(&json!("a"), &revoked), (&json!("b"), &failed), (&json!("c"), &revoked)]);
    assert!(["a", "b", "c"].iter().all(|name| !home.session_file(name).exists()));
    assert_eq!(one.stats().families_revoked, 2);
}

#[test]
fn a_session_that_cannot_be_read_stays_in_nobodys_way() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    fs::write(home.session_file("work"), "spoilt").unwrap();
    home.run(&["logout"]).exits(7).reports("work");
    home.log_in("work", &idp);
    home.run(&["logout"]).exits(0);
}

#[test]
fn end_session_prints_an_address_without_a_token() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.session("work");
    let ran = home.run(&["logout", "--end-session"]).exits(0);
    let url = ran.stderr.split_whitespace().find(|word| word.starts_with("http")).expect("an address").to_owned();
    assert!(url.starts_with(idp.issuer()) && url.contains("client_id=authctl"), "{url}");
    assert!(!url.contains("id_token_hint"), "{url}");
    assert_eq!(get(&url, &[]).0, 200, "the issuer knows it");
}

#[test]
fn what_was_done_is_told_where_the_browser_cannot_be_signed_out() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    home.session("work");
    idp.pause();
    let ran = home.run(&["logout", "--end-session"]).exits(6);
    assert!(ran.stderr.contains("logged out of work") && ran.stderr.contains("not revoked"), "{}", ran.stderr);
}
