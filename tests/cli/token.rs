//! `authctl token`: stdout is a valid token and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use authctl::model::{AnotherToken, Session, TokenTarget};
use serde_json::json;

use crate::support::jwt::claims;
use crate::support::{PASSWORD, Sandbox, USER, issuer, quick_issuer};

#[test]
fn stdout_is_the_token_and_a_newline() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let token = home.session("work").tokens.access_token.expose().to_owned();
    let plain = home.run(&["token", "work"]).exits(0);
    assert_eq!((plain.stdout, plain.stderr), (format!("{token}\n"), String::new()));
    assert_eq!(home.run(&["token", "--header"]).exits(0).stdout, format!("Authorization: Bearer {token}\n"));
    assert_eq!(home.run(&["token", "-vvv"]).exits(0).stdout, format!("{token}\n"));
    home.run(&["token", "--header", "--json"]).exits(2);
}

#[test]
fn token_json_is_stable() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let tokens = home.session("work").tokens;
    let mut output = home.run(&["token", "--json"]).exits(0).json();
    assert!((1..=300).contains(&output["expires_in"].as_u64().unwrap()), "{output}");
    output["expires_in"] = json!("some");
    assert_eq!(
        output,
        json!({
            "profile": "work",
            "access_token": tokens.access_token.expose(),
            "token_type": "Bearer",
            "expires_at": tokens.expires_at.unwrap().0,
            "expires_in": "some",
            "scope": tokens.scope,
            "issuer": idp.issuer(),
        })
    );
    let output = home.run(&["token", "--json", "--id-token"]).exits(0).json();
    let members: BTreeSet<&str> = output.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        BTreeSet::from(["profile", "id_token", "token_type", "expires_at", "expires_in", "scope", "issuer"])
    );
}

#[test]
fn expired_id_token_is_refreshed() {
    let home = Sandbox::new();
    // The ID token expires at once, the access token does not.
    let idp = issuer(|options| options.id_token_ttl = Duration::from_secs(1));
    home.log_in("work", &idp);
    let first = home.session("work").tokens.id_token.unwrap();
    let expires_at = claims(first.expose())["exp"].as_i64().unwrap();
    while crate::support::jwt::now() < expires_at {
        std::thread::yield_now();
    }
    let second = home.run(&["token", "--id-token"]);
    assert_eq!(idp.stats().refreshes_committed, 1, "{second:?}");
    if second.code == 0 {
        assert_ne!(second.line(), first.expose());
        assert_eq!(claims(second.line())["iss"], idp.issuer());
    } else {
        // On a busy machine the new ID token may expire before it is printed.
        second.exits(3);
    }
}

#[test]
fn login_without_openid_scope_has_no_id_token() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    let secret = idp.client_secret("authctl-service").unwrap();
    let args = ["login", "ci", "--issuer", idp.issuer(), "--client-id", "authctl-service"];
    let args = [&args[..], &["--client-credentials", "--client-secret-stdin"]].concat();
    home.register_secret(secret.expose());
    home.run_with(&args, &format!("{}\n", secret.expose())).exits(0);
    home.run(&["token", "ci"]).exits(0);
    home.run(&["token", "ci", "--id-token"]).exits(3).reports("hint:  authctl login ci --scope openid\n");
    let login = ["login", "work", "--issuer", idp.issuer(), "--client-id", "authctl", "--password"];
    let login = [&login[..], &["--username", USER, "--password-stdin", "--scope", "profile offline_access"]].concat();
    home.run_with(&login, &format!("{PASSWORD}\n")).exits(0);
    // The option replaces the scopes of the profile, so the hint repeats them.
    let hint = "hint:  authctl login work --scope profile --scope offline_access --scope openid\n";
    home.run(&["token", "work", "--id-token"]).exits(3).reports(hint);
}

#[test]
fn resource_outside_the_login_is_not_requested() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--password"];
    let resources = ["--resource", "https://a.example", "--resource", "https://b.example"];
    let login = [&login[..], &["--username", USER, "--password-stdin"], &resources].concat();
    home.run_with(&login, &format!("{PASSWORD}\n")).exits(0);
    let before = issuer.stats().requests["token"];
    for more in [&[][..], &["--resource", "https://a.example"]] {
        let args = [&["token", "work", "--json", "--resource", "https://c.example"], more].concat();
        let error = home.run(&args).exits(3).error();
        assert_eq!(error["code"], "login_required", "{error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("`https://c.example`")), "{error}");
        assert!(error["hint"].as_str().is_some_and(|text| text.starts_with("authctl login work")), "{error}");
        assert!(error["hint"].as_str().is_some_and(|text| text.contains(&resources.join(" "))), "{error}");
    }
    assert_eq!(issuer.stats().requests["token"], before, "no request, because it could spend the refresh token");
    let other = home.run(&["token", "work", "--resource", "https://b.example"]).exits(0).line().to_owned();
    assert_eq!(claims(&other)["aud"], "https://b.example");
}

#[test]
fn tokens_for_other_targets_are_cached_separately() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let own = home.token("work");
    let audience = home.run(&["token", "--audience", "https://api.example"]).exits(0).line().to_owned();
    let resource = home.run(&["token", "--resource", "https://files.example/"]).exits(0).line().to_owned();
    let scope = home.run(&["token", "--scope", "openid"]).exits(0).line().to_owned();
    let all = BTreeSet::from([&own, &audience, &resource, &scope]);
    assert_eq!(all.len(), 4);
    assert_eq!(claims(&audience)["aud"], "https://api.example");
    assert_eq!(claims(&resource)["aud"], "https://files.example/");
    assert_eq!(claims(&scope)["scope"], "openid");
    // Each is stored, and requested once.
    let before = idp.stats().requests["token"];
    assert_eq!(home.token("work"), own);
    assert_eq!(home.run(&["token", "--audience", "https://api.example"]).exits(0).line(), audience);
    assert_eq!(home.run(&["token", "--scope", "openid"]).exits(0).line(), scope);
    assert_eq!(idp.stats().requests["token"], before);
    assert_eq!(home.run(&["status", "--json"]).exits(0).json()["profiles"][0]["other_tokens"], 3);
}

#[test]
fn token_from_environment_is_printed_unchanged() {
    let mut home = Sandbox::new();
    home.set("AUTHCTL_TOKEN", "opaque-from-env");
    assert_eq!(home.run(&["token"]).exits(0).stdout, "opaque-from-env\n");
    assert_eq!(
        home.run(&["token", "--json"]).exits(0).json(),
        json!({
            "profile": null,
            "access_token": "opaque-from-env",
            "token_type": "Bearer",
            "expires_at": null,
            "expires_in": null,
            "scope": null,
            "issuer": null,
        })
    );
}

#[test]
fn profile_is_argument_then_environment_then_default_then_only_one() {
    let mut home = Sandbox::new();
    let idp = quick_issuer();
    home.run(&["token"]).exits(3).reports("hint:  authctl login\n");
    home.log_in("a", &idp);
    let a = home.token("a");
    assert_eq!(home.run(&["token"]).exits(0).line(), a, "the only profile");
    home.log_in("b", &idp);
    let b = home.token("b");
    assert_eq!(home.run(&["token"]).exits(0).line(), a, "the first is the default");
    home.unset_default_profile();
    home.run(&["token"]).exits(2).reports("a, b");
    home.run(&["profile", "use", "b"]).exits(0);
    assert_eq!(home.run(&["token"]).exits(0).line(), b, "the default");
    home.set("AUTHCTL_PROFILE", "a");
    assert_eq!(home.run(&["token"]).exits(0).line(), a, "from the environment");
    assert_eq!(home.run(&["token", "b"]).exits(0).line(), b, "from the argument");
    home.set("AUTHCTL_PROFILE", "aa");
    home.run(&["token"]).exits(2).reports("did you mean `a`?");
    home.set("AUTHCTL_PROFILE", "../a");
    let error = home.run(&["token", "--json"]).exits(2).error();
    assert_eq!((&error["code"], &error["hint"]), (&"configuration".into(), &"unset AUTHCTL_PROFILE".into()));
    home.set("AUTHCTL_PROFILE", "");
    assert_eq!(home.run(&["token"]).exits(0).line(), b, "an empty variable is ignored");
}

#[test]
fn opaque_token_is_refreshed_by_expires_in() {
    let home = Sandbox::new();
    let idp = issuer(|options| options.opaque_access_tokens = true);
    home.log_in("work", &idp);
    let first = home.token("work");
    assert!(!first.contains('.'), "an opaque token: {first}");
    home.expire("work");
    let second = home.token("work");
    assert_ne!(first, second);
    assert_eq!(idp.stats().refreshes_committed, 1);
}

#[test]
fn min_ttl_refreshes_a_token_that_expires_earlier() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    // 200 of 300 seconds are left.
    home.change_session("work", |session| {
        session.tokens.obtained_at.0 -= 100;
        session.tokens.expires_at.as_mut().unwrap().0 -= 100;
    });
    let first = home.token("work");
    assert_eq!(home.run(&["token", "--min-ttl", "1m"]).exits(0).line(), first);
    assert_eq!(home.run(&["token", "--min-ttl", "1h"]).exits(0).line(), first, "no token has a lifetime of 1 h");
    assert_ne!(home.run(&["token", "--min-ttl", "250s"]).exits(0).line(), first);
    home.run(&["token", "--min-ttl", "soon"]).exits(2);
}

#[test]
fn stdout_is_empty_without_a_token() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    home.expire("work");
    idp.pause();
    assert_eq!(home.run(&["token"]).exits(6).stdout, "");
    assert_eq!(home.run(&["token", "--json"]).exits(6).error()["code"], "issuer_unreachable");
}

#[test]
fn oldest_token_for_another_target_is_dropped_beyond_the_limit() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.change_session("work", |session| {
        let tokens = session.tokens.clone();
        let audience = |number| TokenTarget::new(Some(format!("https://{number}.example")), &[], &[]);
        session.others = (0..Session::MAX_OTHERS)
            .map(|n| AnotherToken { target: audience(n), tokens: tokens.clone(), is_replacement: false })
            .collect();
    });
    home.run(&["token", "work", "--audience", "https://new.example"]).exits(0);
    let audiences: Vec<_> = home.session("work").others.into_iter().filter_map(|other| other.target.audience).collect();
    assert_eq!(audiences.len(), Session::MAX_OTHERS);
    assert_eq!((audiences[0].as_str(), audiences[31].as_str()), ("https://1.example", "https://new.example"));
}
