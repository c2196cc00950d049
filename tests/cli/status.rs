//! `authctl status`: the state of each profile, without network access.

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::{Sandbox, issuer, quick_issuer};

/// Returns the only profile of `status --json`.
#[track_caller]
fn row(home: &Sandbox, code: i32) -> Value {
    let all = home.run(&["status", "--json"]).exits(code).json();
    assert_eq!(all["profiles"].as_array().unwrap().len(), 1, "{all}");
    all["profiles"][0].clone()
}

#[test]
fn status_without_profiles_suggests_login() {
    let home = Sandbox::new();
    let ran = home.run(&["status"]).exits(0);
    assert!(ran.stdout.contains("run `authctl login`"), "{}", ran.stdout);
    let all = home.run(&["status", "--json"]).exits(0);
    let socket = home.path().join("run/authctl/agent.sock");
    let agent = format!(
        "{{\"running\":false,\"socket\":\"{}\",\"pid\":null,\"version\":null,\"started_at\":null,\"locked\":false,\
         \"locks_after\":null,\"sessions\":0,\"connections\":0}}",
        socket.display()
    );
    assert_eq!(all.stdout, format!("{{\"token_from_environment\":false,\"agent\":{agent},\"profiles\":[]}}\n"));
    home.run(&["status", "--check"]).exits(3);
    home.run(&["status", "unknown"]).exits(2).reports("unknown profile `unknown`");
}

#[test]
fn valid_session_is_shown_with_issuer_down_as_stable_json() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    let session = home.session("work");
    idp.pause();
    let connections = idp.stats().connections;
    let mut row = row(&home, 0);
    let left = row["expires_in"].as_u64().unwrap();
    assert!((1..=300).contains(&left), "{left}");
    row["expires_in"] = json!("some");
    assert_eq!(
        row,
        json!({
            "profile": "work",
            "default": true,
            "state": "valid",
            "issuer": idp.issuer(),
            "client_id": "authctl",
            "grant": "password",
            "store": "file",
            "location": home.session_file("work").to_str().unwrap(),
            "subject": {"sub": session.subject.as_ref().unwrap().sub, "name": "developer"},
            "scope": session.tokens.scope,
            "token_type": session.tokens.token_type, "bound": false,
            "unverified": false,
            "expires_at": session.tokens.expires_at.unwrap().0,
            "expires_in": "some",
            "can_refresh": true,
            "other_tokens": 0,
            "logged_in_at": session.logged_in_at.0,
            "refreshed_at": null,
            "refreshing_since": null,
            "last_failure": null,
            "keys_fetched_at": home.trust(&idp).fetched.unwrap().fetched_at.0,
            "problem": null,
        })
    );
    let text = home.run(&["status", "work"]).exits(0).stdout;
    for word in [
        "work: signed in",
        "developer",
        idp.issuer(),
        "refreshes automatically; not refreshed yet",
        "data/authctl/sessions/work.age",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    home.run(&["status", "--check"]).exits(0);
    assert_eq!(idp.stats().connections, connections, "no connection was opened");
}

#[test]
fn status_opens_no_socket() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.expire("work");
    let ran = home.run_offline(&["status"], "").exits(0);
    assert!(ran.stdout.contains("expired, refreshes automatically"), "{}", ran.stdout);
}

#[test]
fn expired_session_is_refreshable_until_issuer_ends_it() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.expire("work");
    let expired = row(&home, 0);
    assert_eq!((&expired["state"], &expired["expires_in"]), (&json!("refreshable"), &json!(0)));
    home.run(&["status", "--check"]).exits(0);

    idp.revoke_everything();
    home.run(&["token"]).exits(3);
    let ended = row(&home, 0);
    assert_eq!((&ended["state"], &ended["can_refresh"]), (&json!("login_required"), &json!(false)));
    assert_eq!(ended["problem"]["code"], "login_required");
    assert_eq!(ended["problem"]["hint"], "authctl login work");
    assert_eq!(home.run(&["status", "--check"]).exits(3).stdout, "");
    let text = home.run(&["status"]).exits(0).stdout;
    assert!(text.contains("login required") && text.contains("authctl login work"), "{text}");
}

#[test]
fn failed_refresh_is_shown_with_reason() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.log_in("work", &idp);
    home.expire("work");
    idp.pause();
    home.run(&["token"]).exits(6);
    let failed = row(&home, 0);
    assert_eq!(
        (&failed["state"], &failed["last_failure"]["code"]),
        (&json!("refresh_failing"), &json!("issuer_unreachable"))
    );
    home.run(&["status", "--check"]).exits(3);
    let shown = home.run(&["status"]).exits(0).stdout;
    let needs = shown.lines().find(|line| line.starts_with("work: ")).expect("what it needs");
    assert!(shown.contains("* work     refresh failing  developer  expired\n"), "{shown}");
    assert!(needs.contains("refused") && needs.ends_with("; next attempt when a token is requested"), "{shown}");
    assert!(home.run(&["status", "work"]).stdout.contains(" failed "));
    assert_eq!(home.run(&["status", "--short"]).exits(0).stdout, "work (refresh failing)\n");
    assert_eq!(failed["last_failure"]["retry_at"], json!(null), "no agent tries again");
    let agent = Agent::run(&home);
    let failure = row(&home, 0)["last_failure"].clone();
    let [at, retry_at] = ["at", "retry_at"].map(|member| failure[member].as_i64().expect("a time"));
    assert!(at < retry_at && retry_at < at + 60, "{failure}");
    agent.stop();
    // A token that has not expired is served, and the state is the same.
    home.change_session("work", |session| {
        session.tokens.expires_at = session.tokens.expires_at.map(|time| authctl::clock::UnixTime(time.0 + 100_000));
    });
    home.run(&["status", "--check"]).exits(0);
    assert!(home.run(&["status"]).exits(0).stdout.contains("refresh failing"));
}

#[test]
fn logged_out_profile_is_login_required() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.run(&["logout"]).exits(0);
    let row = row(&home, 0);
    assert_eq!(
        (&row["state"], &row["subject"], &row["expires_at"]),
        (&json!("login_required"), &json!(null), &json!(null))
    );
    home.run(&["status", "--check"]).exits(3);
}

#[test]
fn unreadable_store_is_shown_and_fails() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("healthy", &idp);
    home.log_in("unreadable", &idp);
    std::fs::write(home.session_file("unreadable"), "age-encryption.org/v1\nnot that").unwrap();
    let all = home.run(&["status", "--json"]).exits(7).json();
    assert_eq!(all["profiles"][0]["state"], "valid", "the others are still shown");
    assert_eq!(all["profiles"][1]["state"], "unknown");
    assert_eq!(all["profiles"][1]["problem"]["code"], "session_damaged");
    let text = home.run(&["status"]).exits(7).stdout;
    assert!(text.contains("! unreadable  store unreadable  -") && text.contains("unreadable: "), "{text}");
    home.run(&["status", "unreadable", "--check"]).exits(7);
    home.run(&["status", "healthy", "--check"]).exits(0);
    home.unset_default_profile();
    home.run(&["status", "--check"]).exits(2).reports("no profile named").reports(
        "note:  add the profile's name to the command, or set a default\nhint:  authctl profile use healthy\n",
    );
    home.run(&["profile", "use", "healthy"]).exits(0);
    home.run(&["status", "--check"]).exits(0);
}

#[test]
fn session_of_another_issuer_or_client_is_login_required() {
    let home = Sandbox::new();
    let (one, two) = (quick_issuer(), issuer(|_| {}));
    home.log_in("work", &one);
    home.run(&["profile", "set", "work", &format!("issuer={}", two.issuer())]).exits(0);
    assert_eq!(row(&home, 0)["state"], "login_required");
    home.run(&["profile", "set", "work", &format!("issuer={}", one.issuer()), "client_id=other"]).exits(0);
    assert_eq!(row(&home, 0)["state"], "login_required");
    home.run(&["profile", "set", "work", "client_id=authctl"]).exits(0);
    assert_eq!(row(&home, 0)["state"], "valid");
}

#[test]
fn token_from_environment_is_mentioned_and_not_printed() {
    let mut home = Sandbox::new();
    home.register_secret("token-from-env");
    home.set("AUTHCTL_TOKEN", "token-from-env");
    assert_eq!(home.run(&["status", "--json"]).exits(0).json()["token_from_environment"], true);
    assert!(home.run(&["status"]).exits(0).stdout.contains("AUTHCTL_TOKEN is set"));
    home.run(&["status", "--check"]).exits(0);
    // `token` prints it too: only a profile on the command line takes precedence.
    home.set("AUTHCTL_PROFILE", "nosuch");
    home.run(&["token"]).exits(0);
    home.run(&["status", "--check"]).exits(0);
}

#[test]
fn unknown_profile_that_would_be_used_is_shown_and_fails() {
    let mut home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.set("AUTHCTL_PROFILE", "nosuch");
    let shown = home.run(&["status"]).exits(2).stdout;
    assert!(shown.contains("profile: AUTHCTL_PROFILE: unknown profile `nosuch`"), "{shown}");
    home.run(&["status", "--json"]).exits(2).reports("unknown profile `nosuch`");
    home.run(&["status", "work"]).exits(0);
    home.run(&["status", "work", "--json"]).exits(0);
}

#[test]
fn watched_screen_fits_the_terminal_and_ends_its_line() {
    let home = Sandbox::new();
    let profile = |n| format!("[profiles.p{n}]\nissuer = \"https://a.example\"\nclient_id = \"x\"\nstore = \"file\"\n");
    std::fs::create_dir_all(home.config_file().parent().unwrap()).unwrap();
    std::fs::write(home.config_file(), (0..40).map(profile).collect::<String>()).unwrap();
    let watching = home.spawn_in_terminal(&["status", "--watch"]);
    watching.reports("…");
    watching.signal(rustix::process::Signal::INT);
    let ran = watching.wait().exits(130);
    let screen = ran.stderr.split("\u{1b}[H").nth(1).unwrap();
    assert_eq!(screen.matches("\u{1b}[K\r\n").count(), 22, "{screen:?}");
    assert!(ran.stderr.ends_with("\r\n\r\n"), "{screen:?}");
}

#[test]
fn all_profiles_are_shown_with_the_default() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("a", &idp);
    home.log_in_as("b", &idp, "other");
    home.run(&["profile", "use", "b"]).exits(0);
    let all = home.run(&["status", "--json"]).exits(0).json();
    let rows: Vec<_> = all["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (&r["profile"], &r["default"], &r["subject"]["name"]))
        .collect();
    assert_eq!(rows, [(&json!("a"), &json!(false), &json!("developer")), (&json!("b"), &json!(true), &json!("other"))]);
    assert!(!home.run(&["status", "b"]).exits(0).stdout.contains("developer"));
}

#[test]
fn check_prints_the_status_or_the_error_as_json() {
    let (mut home, idp) = (Sandbox::new(), quick_issuer());
    assert_eq!(home.run(&["status", "--check", "--json"]).exits(3).error()["hint"], "authctl login");
    home.log_in("work", &idp);
    let status = home.run(&["status", "--check", "--json"]).exits(0).json();
    assert_eq!(status["profiles"][0]["state"], "valid");
    assert_eq!(home.run(&["status", "--check"]).exits(0).stdout, "");
    idp.revoke_everything();
    home.expire("work");
    home.run(&["token"]).exits(3);
    let ran = home.run(&["status", "--check", "--json"]).exits(3);
    assert_eq!((ran.stdout.as_str(), &ran.error()["hint"]), ("", &"authctl login work".into()));
    home.run(&["logout"]).exits(0);
    assert_eq!(home.run(&["status", "work", "--check", "--json"]).exits(3).error()["code"], "login_required");
    home.set("AUTHCTL_TOKEN", "a-token");
    assert_eq!(home.run(&["status", "--check", "--json"]).exits(0).json()["token_from_environment"], true);
}
