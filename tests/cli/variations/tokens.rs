//! Token responses: types, lifetimes, scopes, and what a refresh may omit.

use authctl::dev_issuer::DevIssuer;
use authctl::model::TokenSet;
use serde_json::{Value, json};

use super::{answers, each, edits, log_in, row};
use crate::support::jwt::{Signer, valid_claims};
use crate::support::signing_keys::changed;
use crate::support::{PASSWORD, Sandbox, USER, issuer, quick_issuer};

/// Starts an issuer that does not rotate refresh tokens.
fn without_rotation() -> DevIssuer {
    issuer(|options| options.rotate_refresh_tokens = false)
}

#[test]
fn only_bearer_tokens_are_accepted_in_any_case() {
    let issuer = quick_issuer();
    let set = |value: Value| json!({"set": {"token_type": value}});
    let (type_section, use_section) = ("RFC 6749, section 5.1", "RFC 6749, section 7.1");
    let dpop: &[&str] = &["of type `DPoP`", "which was not requested", "--dpop always"];
    each(
        &issuer,
        &[
            row(type_section, "token", set(json!("bearer")), 0, &["Logged in"]),
            row(type_section, "token", set(json!("BEARER")), 0, &["Logged in"]),
            row(type_section, "token", set(json!("")), 0, &["Logged in"]),
            row(type_section, "token", set(Value::Null), 0, &["Logged in"]),
            row(type_section, "token", json!({"remove": ["token_type"]}), 0, &["Logged in"]),
            row("beyond section 5.1", "token", set(json!("BearerToken")), 0, &["Logged in"]),
            row("beyond section 5.1", "token", set(json!("bearer_token")), 0, &["Logged in"]),
            row("beyond section 5.1", "token", set(json!("Bearer\r\nX: y")), 0, &["Logged in"]),
            row("beyond section 5.1", "token", set(json!(["Bearer"])), 0, &["Logged in"]),
            row(use_section, "token", set(json!("DPoP")), 5, dpop),
            row(use_section, "token", set(json!("mac")), 5, &["of type `mac`"]),
            row(use_section, "token", set(json!("N_A")), 5, &["of type `N_A`"]),
            row(use_section, "token", set(json!(" DPoP ")), 5, dpop),
        ],
        edits,
    );
    let home = Sandbox::new();
    for name in ["bEARER", "BearerToken"] {
        edits(&issuer, "token", &set(json!(name)), 1);
        log_in(&home, issuer.issuer(), &[]).exits(0);
        let header = home.run(&["token", "work", "--header"]).exits(0);
        assert!(header.stdout.starts_with("Authorization: Bearer ey"), "{}", header.stdout);
        assert_eq!(home.run(&["token", "work", "--json"]).exits(0).json()["token_type"], "Bearer");
    }
}

/// Makes the issuer issue this access token, and an ID token with these claims; none without claims.
fn issue(issuer: &DevIssuer, signer: &Signer, access_token: &str, id_claims: Option<Value>) {
    issuer.clear_faults();
    edits(issuer, "jwks", &json!({"set": signer.jwks()}), 0);
    let id_token = id_claims.map(|claims| signed(issuer, signer, claims));
    let remove = if id_token.is_some() { json!([]) } else { json!(["id_token"]) };
    let set = match id_token {
        Some(id_token) => json!({"access_token": access_token, "id_token": id_token}),
        None => json!({"access_token": access_token}),
    };
    edits(issuer, "token", &json!({"set": set, "remove": remove}), 0);
}

fn signed(issuer: &DevIssuer, signer: &Signer, claims: Value) -> String {
    let claims = changed(valid_claims(json!({"iss": issuer.issuer(), "aud": "authctl"})), claims);
    signer.sign(&json!({"alg": "EdDSA", "kid": "k"}), &claims)
}

#[test]
fn user_name_is_taken_from_userinfo_if_the_id_token_has_none() {
    let issuer = quick_issuer();
    let signer = Signer::new();
    for (userinfo, name) in [
        (json!({"sub": "alice", "preferred_username": "al"}), json!("al")),
        (json!({"sub": "alice", "email": "al@a.example"}), json!("al@a.example")),
        (json!({"sub": "alice", "name": "Alice A."}), json!("Alice A.")),
        (json!({"sub": "alice"}), Value::Null),
        (json!({"sub": "mallory", "name": "Mallory"}), Value::Null),
        (json!({}), Value::Null),
    ] {
        let home = Sandbox::new();
        issue(&issuer, &signer, "opaque", Some(json!({"sub": "alice"})));
        answers(&issuer, "userinfo", &json!({"set": userinfo}), 0);
        log_in(&home, issuer.issuer(), &[]).exits(0);
        assert_eq!(home.status("work")["subject"], json!({"sub": "alice", "name": name}), "{userinfo}");
    }
}

#[test]
fn users_with_the_same_name_are_distinguished_by_subject() {
    let issuer = quick_issuer();
    let signer = Signer::new();
    let home = Sandbox::new();
    issue(&issuer, &signer, "opaque", Some(json!({"sub": "u-1", "name": "Alex"})));
    log_in(&home, issuer.issuer(), &[]).exits(0);
    issue(&issuer, &signer, "opaque", Some(json!({"sub": "u-2", "name": "Alex"})));
    let at = issuer.issuer();
    let ran = log_in(&home, at, &[]).exits(2);
    let (stored, new) = (format!("Alex at {at} (subject u-1)"), format!("Alex at {at} (subject u-2)"));
    assert!(ran.stderr.contains(&format!("work is logged in as {stored}; this login is for {new}")), "{}", ran.stderr);
    log_in(&home, at, &["--replace"]).exits(0).reports(&new);
    issue(&issuer, &signer, "opaque", Some(json!({"sub": "u-1", "name": "Alex"})));
    home.run(&["profile", "show", "work"]).exits(0);
    let config =
        home.run(&["profile", "export", "work"]).exits(0).stdout.replace("[profiles.work]", "[profiles.other]");
    home.run_with(&["profile", "import", "-"], &config).exits(0);
    assert!(!home.run(&["status"]).exits(0).stdout.contains("u-2"), "one name is enough");
    home.run_with(&["login", "other", "--password", "--password-stdin", "--username", USER], PASSWORD).exits(0);
    let status = home.run(&["status"]).exits(0).stdout;
    assert!(status.contains("Alex (u-1)") && status.contains("Alex (u-2)"), "{status}");
}

#[test]
fn refresh_that_brings_another_subject_is_refused_whole() {
    let issuer = without_rotation();
    let signer = Signer::new();
    for (what, in_access_token, in_id_token) in
        [("both tokens", true, true), ("the ID token", false, true), ("the access token", true, false)]
    {
        let home = Sandbox::new();
        let issue_tokens_of = |sub: &str| {
            let claims = json!({"sub": sub, "preferred_username": sub});
            let access_token =
                if in_access_token { signed(&issuer, &signer, claims.clone()) } else { format!("opaque-{sub}") };
            issue(&issuer, &signer, &access_token, in_id_token.then_some(claims));
        };
        issue_tokens_of("alice");
        log_in(&home, issuer.issuer(), &[]).exits(0);
        let (first, stored) = (home.token("work"), home.session("work").tokens);
        issue_tokens_of("mallory");
        let ran = home.run(&["refresh", "work"]).exits(5).reports("tokens of `mallory` for the session of `alice`");
        ran.reports("hint:  authctl login work");
        assert_eq!(home.token("work"), first, "{what}");
        let now = home.session("work").tokens;
        let texts = |tokens: &TokenSet| {
            [&tokens.refresh_token, &tokens.id_token].map(|token| token.as_ref().map(|token| token.expose().to_owned()))
        };
        assert_eq!(texts(&now), texts(&stored), "{what}: nothing of the reply is stored");
        let status = home.status("work");
        assert_eq!(
            (&status["subject"]["sub"], &status["state"]),
            (&json!("alice"), &json!("refresh_failing")),
            "{what}"
        );
        assert!(status["last_failure"]["message"].as_str().expect("a message").contains("mallory"), "{what}: {status}");
        if in_access_token {
            assert!(home.run(&["verify", "work"]).exits(0).stdout.contains("alice"), "{what}");
        }
        // Nor is it served once alice's has expired.
        home.advance_time("work", 301);
        home.run(&["token", "work"]).exits(5).reports("mallory");
        issue_tokens_of("alice");
        home.run(&["token", "work"]).exits(0);
    }
}

#[test]
fn invalid_refreshed_id_token_is_ignored_with_a_warning() {
    let issuer = without_rotation();
    let (signer, other) = (Signer::new(), Signer::new());
    for (claims, why) in [
        (json!({"nonce": "other"}), "`nonce`"),
        (json!({"iss": "https://other.example"}), "issuer"),
        (json!({"aud": "other"}), "audience"),
        (json!({"sub": null}), "`sub`"),
        (Value::Null, "no trusted key verifies its signature"),
    ] {
        let home = Sandbox::new();
        issue(&issuer, &signer, "opaque", Some(json!({"sub": "alice"})));
        log_in(&home, issuer.issuer(), &[]).exits(0);
        let first = home.session("work").tokens.id_token.expect("one").expose().to_owned();
        match &claims {
            Value::Null => {
                let id_token = signed(&issuer, &other, json!({"sub": "alice"}));
                issuer.clear_faults();
                edits(&issuer, "jwks", &json!({"set": signer.jwks()}), 0);
                edits(&issuer, "token", &json!({"set": {"access_token": "opaque", "id_token": id_token}}), 0);
            }
            claims => {
                let mut of_alice = json!({"sub": "alice"});
                of_alice.as_object_mut().expect("an object").extend(claims.as_object().expect("claims").clone());
                issue(&issuer, &signer, "opaque", Some(of_alice));
            }
        }
        let ran = home.run(&["refresh", "work"]).exits(0);
        let warnings: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("refreshed ID token")).collect();
        assert!(warnings.len() == 1 && warnings[0].contains(why), "{claims}: {}", ran.stderr);
        assert_eq!(home.session("work").tokens.id_token.expect("one").expose(), first, "{claims}");
    }
    // Also if its key has to be fetched first.
    let home = Sandbox::new();
    issue(&issuer, &signer, "opaque", Some(json!({"sub": "alice"})));
    log_in(&home, issuer.issuer(), &[]).exits(0);
    let first = home.session("work").tokens.id_token.expect("one").expose().to_owned();
    issue(&issuer, &other, "opaque", Some(json!({"sub": "alice", "nonce": "other"})));
    home.run(&["refresh", "work"]).exits(0).reports("is ignored: claim `nonce` is not that of the login");
    assert_eq!(home.session("work").tokens.id_token.expect("one").expose(), first);
    // The nonce of the login may be repeated, and left out.
    let home = Sandbox::new();
    issue(&issuer, &signer, "opaque", Some(json!({"sub": "alice", "nonce": "n"})));
    log_in(&home, issuer.issuer(), &[]).exits(0);
    for claims in [json!({"nonce": "n"}), json!({}), json!({"nonce": "n"})] {
        let mut of_alice = json!({"sub": "alice"});
        of_alice.as_object_mut().expect("an object").extend(claims.as_object().expect("claims").clone());
        issue(&issuer, &signer, "opaque", Some(of_alice));
        let ran = home.run(&["refresh", "work"]).exits(0);
        assert!(!ran.stderr.contains("ID token"), "{claims}: {}", ran.stderr);
    }
}

#[test]
fn ignored_id_token_is_reported_once_for_each_profile() {
    let issuer = without_rotation();
    let (home, signer) = (Sandbox::new(), Signer::new());
    issue(&issuer, &signer, "opaque", Some(json!({"sub": "alice"})));
    for name in ["first", "second", "third"] {
        let login = ["login", name, "--issuer", issuer.issuer(), "--client-id", "authctl", "--password"];
        let args = [&login[..], &["--password-stdin", "--username", USER]].concat();
        home.run_with(&args, &format!("{PASSWORD}\n")).exits(0);
    }
    issue(&issuer, &signer, "opaque", Some(json!({"sub": "alice", "nonce": "other"})));
    let ran = home.run(&["refresh", "--all"]).exits(0);
    for name in ["first", "second", "third"] {
        let warning = format!("the refreshed ID token of `{name}` is ignored");
        assert_eq!(ran.stderr.matches(&warning).count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn secret_that_the_issuer_repeats_is_not_shown() {
    let issuer = without_rotation();
    let home = Sandbox::new();
    log_in(&home, issuer.issuer(), &[]).exits(0);
    let token = home.session("work").tokens.refresh_token.expect("one").expose().to_owned();
    let part = &token[..token.len() - 2];
    let (upper, spaced) = (token.to_uppercase(), token.chars().map(|c| format!("{c} ")).collect::<String>());
    let percent: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let shown = |ran: &crate::support::CommandOutput, echo: &str| {
        let has = |text: &str| ran.stderr.contains(text) || home.status("work").to_string().contains(text);
        assert!(!has(echo) && !has(&token) && !has(&echo[..echo.len() / 2]), "{echo}: {}", ran.stderr);
    };
    for echo in [token.as_str(), part, &upper, &spaced, &percent] {
        let refusal = json!({"status": 400, "set": {"error": "own_word", "error_description": format!("no {echo}")}});
        answers(&issuer, "token", &refusal, 1);
        shown(&home.run(&["refresh", "work"]).exits(5).reports("own_word"), echo);
        issuer.clear_faults();
    }
    let signer = Signer::new();
    issue(&issuer, &signer, "opaque", Some(json!({"sub": token})));
    shown(&home.run(&["refresh", "work"]).exits(5).reports("tokens of `<redacted>` for the session of"), &token);
}

#[test]
fn first_token_for_another_audience_is_of_the_same_subject() {
    let signer = Signer::new();
    for exchanges in [false, true] {
        let issuer = match exchanges {
            true => crate::token_exchange::exchanging_issuer(|options| options.rotate_refresh_tokens = false),
            false => without_rotation(),
        };
        let home = Sandbox::new();
        let api = "https://api.example";
        let issue_tokens_of = |claims: Value, id_claims: Option<Value>| {
            let access_token = signed(&issuer, &signer, claims);
            let id_token = id_claims.clone().map(|claims| signed(&issuer, &signer, claims));
            issue(&issuer, &signer, &access_token, id_claims);
            if exchanges && home.config_file().exists() {
                // The issuer would not exchange a token that is not its own.
                let mut reply = json!({"access_token": access_token, "token_type": "Bearer", "expires_in": 300});
                reply["issued_token_type"] = json!("urn:ietf:params:oauth:token-type:access_token");
                reply
                    .as_object_mut()
                    .expect("an object")
                    .extend(id_token.map(|token| ("id_token".into(), json!(token))));
                issuer.clear_faults();
                edits(&issuer, "jwks", &json!({"set": signer.jwks()}), 0);
                answers(&issuer, "token", &json!({"set": reply}), 0);
            }
        };
        let alice = json!({"sub": "alice", "preferred_username": "alice"});
        // As far as tokens are not named by the user, the subject of the session's own is one of its names.
        issue_tokens_of(json!({"sub": "pairwise"}), Some(alice.clone()));
        log_in(&home, issuer.issuer(), &[]).exits(0);
        let stored = home.stored("work");
        let token_for = |args: &[&str]| home.run(&[&["token", "work"], args].concat());
        let targets: &[&[&str]] = if exchanges {
            &[&["--audience", api], &["--resource", api]]
        } else {
            &[&["--audience", api], &["--resource", api], &["--scope", "profile"]]
        };
        for target in targets {
            let what = format!("{target:?}, exchanged {exchanges}");
            for (claims, id_claims) in [
                (json!({"sub": "mallory", "aud": api}), None),
                (json!({"sub": "mallory", "aud": api}), Some(alice.clone())),
                (json!({"sub": "alice", "aud": api}), Some(json!({"sub": "mallory"}))),
            ] {
                // An exchange brings no ID token that counts (RFC 8693, section 2.2.1).
                if exchanges && claims["sub"] == "alice" {
                    continue;
                }
                issue_tokens_of(claims, id_claims);
                let ran = token_for(target).exits(5);
                assert!(ran.stdout.is_empty() && ran.stderr.contains("mallory"), "{what}: {}", ran.stderr);
                let now = home.stored("work");
                assert_eq!((&now["tokens"], &now["others"]), (&stored["tokens"], &stored["others"]), "{what}");
            }
            for claims in [
                json!({"sub": "alice", "aud": api}),
                json!({"sub": "pairwise", "aud": api}),
                json!({"sub": null, "aud": api}),
                json!({"sub": "another name", "aud": api, "iss": "https://other.example"}),
            ] {
                let name = format!("{api}/{}", claims["sub"]);
                issue_tokens_of(changed(claims.clone(), json!({"aud": name})), None);
                let ran = token_for(&[target[0], if target[0] == "--scope" { target[1] } else { &name }]);
                assert_eq!(ran.code, 0, "{what}, {claims}: {}", ran.stderr);
                home.change_session("work", |session| session.others.clear());
            }
        }
    }
}

#[test]
fn odd_member_does_not_drop_a_redeemed_reply() {
    let issuer = quick_issuer();
    let odd = [Value::Null, json!(7), json!(true), json!([1, "a"]), json!({"a": 1}), json!(""), json!("a\u{0}")];
    for name in ["refresh_token", "id_token", "token_type", "expires_in", "scope", "error_description"] {
        for value in &odd {
            let home = Sandbox::new();
            edits(&issuer, "token", &json!({"set": {name: value}}), 1);
            let ran = log_in(&home, issuer.issuer(), &[]);
            assert_eq!(ran.code, 0, "login, {name} {value}: {}", ran.stderr);
            let first = home.token("work");
            if name == "refresh_token" {
                continue;
            }
            // What else a refresh has brought is stored: the old refresh token is spent.
            edits(&issuer, "token", &json!({"set": {name: value}}), 1);
            home.run(&["refresh", "work"]).exits(0);
            home.run(&["refresh", "work"]).exits(0);
            assert_ne!(home.token("work"), first, "{name} {value}");
        }
    }
    assert_eq!(issuer.stats().refresh_reuses, 0);
}

#[test]
fn refresh_with_another_token_type_keeps_the_session() {
    let issuer = quick_issuer();
    let home = Sandbox::new();
    log_in(&home, issuer.issuer(), &[]).exits(0);
    let first = home.token("work");
    edits(&issuer, "token", &json!({"set": {"token_type": "DPoP"}}), 2);
    let error = home.run(&["refresh", "work", "--json"]).exits(5).error();
    assert_eq!(error["code"], "token_type", "{error}");
    assert_eq!(home.token("work"), first, "a valid token is still served");
    assert!(home.status("work")["last_failure"]["message"].as_str().expect("a message").contains("DPoP"));
    home.advance_time("work", 301);
    home.run(&["token", "work"]).exits(5).reports("of type `DPoP`");
    assert_ne!(home.token("work"), first, "the refresh token of the unusable reply was stored");
    assert_eq!(issuer.stats().refresh_reuses, 0);
    home.run(&["token", "work", "--audience", "https://api.example"]).exits(0);
    edits(&issuer, "token", &json!({"set": {"token_type": "mac"}}), 1);
    home.run(&["token", "work", "--audience", "https://b.example"]).exits(5).reports("of type `mac`");
}

#[test]
fn expires_in_is_accepted_in_any_form() {
    let issuer = quick_issuer();
    // `exp` of the JWT is in 300 seconds, which counts if the reply has no valid expires_in.
    for (edit, life) in [
        (json!({"set": {"expires_in": 200}}), 200),
        (json!({"set": {"expires_in": "200"}}), 200),
        (json!({"set": {"expires_in": " 200 "}}), 200),
        (json!({"set": {"expires_in": 200.9}}), 200),
        (json!({"set": {"expires_in": "200.9"}}), 200),
        (json!({"set": {"expires_in": 2e2}}), 200),
        (json!({"remove": ["expires_in"]}), 300),
        (json!({"set": {"expires_in": null}}), 300),
        (json!({"set": {"expires_in": "soon"}}), 300),
        (json!({"set": {"expires_in": [200]}}), 300),
        (json!({"set": {"expires_in": {"seconds": 200}}}), 300),
        // Neither 0 nor a negative number is a lifetime, and none is longer than the token's own.
        (json!({"set": {"expires_in": 0}}), 300),
        (json!({"set": {"expires_in": "0"}}), 300),
        (json!({"set": {"expires_in": -200}}), 300),
        (json!({"set": {"expires_in": "-1"}}), 300),
        (json!({"set": {"expires_in": 86400}}), 300),
        (json!({"set": {"expires_in": "1e300"}}), 300),
    ] {
        let home = Sandbox::new();
        edits(&issuer, "token", &edit, 1);
        log_in(&home, issuer.issuer(), &[]).exits(0);
        assert_eq!(home.status("work")["state"], "valid", "{edit}");
        home.run(&["verify", "work"]).exits(0);
        let left = home.run(&["token", "work", "--json"]).exits(0).json()["expires_in"].as_i64().expect("a lifetime");
        assert!((life - 30..=life).contains(&left), "RFC 6749, section 5.1: {edit}: {left}");
        assert_eq!(issuer.stats().refreshes_committed, 0, "{edit}");
    }
}

#[test]
fn jwt_that_expires_before_expires_in_is_refreshed() {
    let issuer = quick_issuer();
    let home = Sandbox::new();
    edits(&issuer, "token", &json!({"set": {"expires_in": 86400}}), 0);
    log_in(&home, issuer.issuer(), &[]).exits(0);
    for (args, refreshes) in [(&["token", "work"][..], 1), (&["exec", "work", "--", "true"], 2)] {
        home.advance_time("work", 301);
        assert_eq!(home.status("work")["state"], "refreshable");
        home.run(args).exits(0);
        assert_eq!(issuer.stats().refreshes_committed, refreshes, "{args:?}");
    }
    home.run(&["token", "work", "--audience", "https://a.example"]).exits(0);
    let tokens = &home.session("work").others[0].tokens;
    assert_eq!(tokens.expires_at.map(|at| tokens.obtained_at.until(at).as_secs() / 10), Some(30));
}

#[test]
fn opaque_token_without_expires_in_is_served_until_refresh() {
    let issuer = issuer(|options| options.opaque_access_tokens = true);
    for edit in
        [json!({"remove": ["expires_in"]}), json!({"set": {"expires_in": 0}}), json!({"set": {"expires_in": "-1"}})]
    {
        let home = Sandbox::new();
        edits(&issuer, "token", &edit, 1);
        log_in(&home, issuer.issuer(), &[]).exits(0);
        let first = home.run(&["token", "work", "--json"]).exits(0).json();
        assert_eq!((&first["expires_at"], &first["expires_in"]), (&Value::Null, &Value::Null), "{edit}");
        let token = home.token("work");
        assert!(!token.contains('.'), "opaque");
        assert_eq!(home.token("work"), token, "{edit}");
        home.run(&["verify", "work"]).exits(4).reports("opaque");
        home.run(&["refresh", "work"]).exits(0);
        assert_ne!(home.token("work"), token, "{edit}");
    }
}

#[test]
fn refresh_reuses_old_refresh_token_when_reply_has_none() {
    let issuer = without_rotation();
    for edit in [
        json!({"remove": ["refresh_token"]}),
        json!({"set": {"refresh_token": ""}}),
        json!({"set": {"refresh_token": null}}),
        json!({"remove": ["id_token", "refresh_token", "scope", "token_type", "expires_in"]}),
    ] {
        let home = Sandbox::new();
        log_in(&home, issuer.issuer(), &[]).exits(0);
        let before = home.session("work");
        let mut seen = vec![home.token("work")];
        for _ in 0..2 {
            edits(&issuer, "token", &edit, 1);
            home.advance_time("work", 301);
            let token = home.token("work");
            assert!(!seen.contains(&token), "RFC 6749, section 6: {edit}");
            seen.push(token);
        }
        let now = home.session("work");
        let texts =
            [&before, &now].map(|session| session.tokens.refresh_token.as_ref().expect("there").expose().to_owned());
        assert_eq!(texts[0], texts[1], "{edit}");
        assert_eq!(now.tokens.scope, before.tokens.scope, "{edit}");
        assert!(now.tokens.id_token.is_some(), "OpenID Connect Core 1.0, section 12.2: {edit}");
    }
}

#[test]
fn lifetime_of_a_refresh_token_is_not_that_of_the_next() {
    let issuer = quick_issuer();
    let home = Sandbox::new();
    edits(&issuer, "token", &json!({"set": {"refresh_expires_in": 5000}}), 1);
    log_in(&home, issuer.issuer(), &[]).exits(0);
    assert!(home.session("work").tokens.refresh_expires_at.is_some());
    let without = json!({"remove": ["refresh_expires_in", "refresh_token_expires_in"]});
    edits(&issuer, "token", &without, 1);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(home.session("work").tokens.refresh_expires_at, None);
}

#[test]
fn login_without_refresh_token_is_reported() {
    let issuer = quick_issuer();
    for edit in [json!({"remove": ["refresh_token"]}), json!({"set": {"refresh_token": ""}})] {
        let home = Sandbox::new();
        edits(&issuer, "token", &edit, 1);
        log_in(&home, issuer.issuer(), &[]).exits(0).reports("log in again when the token expires");
        home.advance_time("work", 301);
        home.run(&["token", "work"]).exits(3).reports("authctl login work");
    }
}

#[test]
fn scope_is_taken_from_the_response_or_unchanged() {
    let issuer = quick_issuer();
    let asked = "openid profile offline_access";
    for (edit, scope) in [
        (json!({"set": {"scope": "openid"}}), "openid"),
        (json!({"set": {"scope": "openid profile offline_access admin"}}), "openid profile offline_access admin"),
        (json!({"set": {"scope": "offline_access openid profile"}}), "offline_access openid profile"),
        (json!({"set": {"scope": ["openid", "profile"]}}), "openid profile"),
        (json!({"set": {"scope": ""}}), asked),
        (json!({"set": {"scope": null}}), asked),
        (json!({"set": {"scope": 7}}), asked),
        (json!({"remove": ["scope"]}), asked),
    ] {
        let home = Sandbox::new();
        log_in(&home, issuer.issuer(), &[]).exits(0);
        edits(&issuer, "token", &edit, 1);
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(home.run(&["token", "work", "--json"]).json()["scope"], scope, "RFC 6749, section 5.1: {edit}");
        // The next refresh requests the originally granted scope again, although this one was narrower.
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(home.run(&["token", "work", "--json"]).json()["scope"], asked, "section 6: {edit}");
    }
}

#[test]
fn login_reports_the_granted_scope() {
    let issuer = quick_issuer();
    for scope in ["openid", "profile openid", "openid profile offline_access admin"] {
        let home = Sandbox::new();
        edits(&issuer, "token", &json!({"set": {"scope": scope}}), 1);
        assert_eq!(log_in(&home, issuer.issuer(), &["--json"]).exits(0).json()["scope"], scope);
        assert_eq!(home.status("work")["scope"], scope);
    }
    let home = Sandbox::new();
    edits(&issuer, "token", &json!({"remove": ["scope"]}), 1);
    log_in(&home, issuer.issuer(), &[]).exits(0);
    assert_eq!(home.run(&["token", "work", "--json"]).exits(0).json()["scope"], "openid profile offline_access");
    // The same for a token with another scope.
    edits(&issuer, "token", &json!({"remove": ["scope"]}), 1);
    let narrowed = home.run(&["token", "work", "--scope", "openid", "--json"]).exits(0).json();
    assert_eq!(narrowed["scope"], "openid");
}
