//! The memory store: the agent holds the sessions, and nothing is on disk.

use rustix::process::Signal;
use serde_json::json;

use authctl::dev_issuer::DevIssuer;

use crate::support::agent::Agent;
use crate::support::process::{Memory, wait_until};
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER, contains, quick_issuer};

#[track_caller]
fn log_in(home: &Sandbox, issuer: &DevIssuer, user: &str, options: &[&str]) -> CommandOutput {
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--store", "memory"];
    let grant = ["--password", "--username", user, "--password-stdin"];
    home.run_with(&[&login[..], &grant, options].concat(), &format!("{PASSWORD}\n"))
}

/// Fails the test if a file of the home has this text, or is a session.
#[track_caller]
fn assert_nothing_on_disk(home: &Sandbox, text: &str) {
    for (file, bytes) in home.files() {
        assert!(!contains(&bytes, text.as_bytes()) && !contains(&bytes, b"age-encryption"), "{}", file.display());
    }
}

#[test]
fn session_in_memory_is_served_refreshed_and_logged_out() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let agent = Agent::run(&home);
    log_in(&home, &issuer, USER, &[]).exits(0).reports("until it stops");
    let token = home.token("work");
    assert_nothing_on_disk(&home, &token);
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.token("work"), token);
    home.run(&["exec", "work", "--", "true"]).exits(0);
    let status = home.run(&["status", "--json"]).exits(0).json();
    let profile = &status["profiles"][0];
    assert_eq!((&profile["store"], &profile["state"]), (&json!("memory"), &json!("valid")), "{profile}");
    assert_eq!(profile["subject"]["name"], USER);
    home.run(&["status", "--check"]).exits(0);
    assert_eq!(issuer.stats().refreshes_committed, 1);
    home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
    home.run(&["logout", "work"]).exits(0).reports("not logged in");
    home.run(&["token", "work"]).exits(3);
    home.run(&["status", "--check"]).exits(3);
    assert_eq!(issuer.stats().families_revoked, 1);
    let log = agent.get("/v1/log").expect_status(200);
    let entries = log["entries"].as_array().expect("entries");
    assert!(entries.iter().any(|entry| entry["action"] == "logout" && entry["profile"] == "work"), "{log}");
    agent.stop().expect("a child").exits(0);
}

#[test]
fn session_in_memory_is_gone_with_the_agent() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let agent = Agent::run(&home);
    log_in(&home, &issuer, USER, &[]).exits(0);
    let token = home.token("work");
    home.run(&["agent", "stop"]).exits(0).reports("log in again to work");
    agent.wait().expect("a child").exits(0);
    for args in [&["token", "work"][..], &["refresh", "work"], &["logout", "work"], &["status"], &["whoami"]] {
        let ran = home.run(&[args, &["--json"]].concat()).exits(8);
        if args[0] != "status" {
            assert_eq!(ran.error()["hint"], "authctl agent start", "{args:?}");
        }
    }
    assert_nothing_on_disk(&home, &token);
    let agent = Agent::run(&home);
    home.run(&["token", "work"]).exits(3).reports("authctl login work");
    log_in(&home, &issuer, USER, &[]).exits(0);
    home.run(&["token", "work"]).exits(0);
    agent.stop().expect("a child").exits(0);
}

#[test]
fn commands_that_cannot_use_a_session_in_memory_name_one_that_can() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let agent = Agent::run(&home);
    log_in(&home, &issuer, USER, &[]).exits(0);
    let commands = [&["keys", "show", "work"][..], &["verify", "work"], &["ensure", "work", "--for", "1h"]];
    for args in commands {
        home.run(args).exits(8).reports("in the memory of the agent").reports("hint:  authctl refresh work\n");
    }
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["profile", "rename", "work", "home"]).exits(8).reports("hint:  authctl logout work\n");
    home.run(&["logout", "work"]).exits(0);
    home.run(&["profile", "rename", "work", "home"]).exits(0);
    home.run(&["token", "home"]).exits(3).reports("authctl login home");
    agent.stop().expect("a child").exits(0);
    home.run(&["profile", "rename", "home", "work"]).exits(0);
}

#[test]
fn login_to_memory_without_an_agent_fails_before_the_sign_in() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    log_in(&home, &issuer, USER, &[]).exits(8).reports("authctl agent start");
    assert_eq!(issuer.stats().requests.get("token"), None);
    let agent = Agent::run(&home);
    agent.post("/v1/lock", &json!({"passphrase": "a lock"}).to_string()).expect_status(200);
    log_in(&home, &issuer, USER, &[]).exits(8).reports("authctl agent unlock");
    assert_eq!(issuer.stats().requests.get("token"), None);
    assert!(!home.config_file().exists());
}

#[test]
fn session_in_memory_of_another_account_is_replaced_only_on_request() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let _agent = Agent::run(&home);
    log_in(&home, &issuer, USER, &[]).exits(0);
    log_in(&home, &issuer, "other", &[]).exits(2).reports("--replace");
    assert_eq!(home.run(&["status", "--json"]).json()["profiles"][0]["subject"]["name"], USER);
    log_in(&home, &issuer, "other", &["--replace"]).exits(0);
    assert_eq!(home.run(&["status", "--json"]).json()["profiles"][0]["subject"]["name"], "other");
}

#[test]
fn locked_agent_gives_no_token_of_a_session_in_memory() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let agent = Agent::run(&home);
    log_in(&home, &issuer, USER, &[]).exits(0);
    let token = home.token("work");
    home.run_with(&["agent", "lock", "--passphrase-stdin"], "a lock\n").exits(0);
    for args in [&["token", "work"][..], &["refresh", "work"], &["logout", "work"], &["exec", "work", "--", "true"]] {
        home.run(args).exits(8);
        home.run_without_agent(args).exits(8);
    }
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], "a lock\n").exits(0);
    assert_eq!(home.token("work"), token);
    agent.stop().expect("a child").exits(0);
}

#[test]
fn session_in_memory_is_removed_when_its_profile_no_longer_uses_it() {
    let (issuer, other) = (quick_issuer(), quick_issuer());
    let elsewhere = ["login", "work", "--issuer", other.issuer(), "--client-id", "authctl", "--replace"];
    let grant = ["--password", "--username", USER, "--password-stdin"];
    let issuer_setting = format!("issuer={}", other.issuer());
    let changes = [
        vec!["profile", "set", "work", &issuer_setting],
        vec!["profile", "set", "work", "client_id=another"],
        [&elsewhere[..], &grant, &["--store", "memory"]].concat(),
        [&elsewhere[..], &grant, &["--store", "file"]].concat(),
        [&["login", "work", "--store", "file"][..], &grant].concat(),
    ];
    for change in changes {
        let home = Sandbox::new();
        let agent = Agent::run(&home);
        log_in(&home, &issuer, USER, &[]).exits(0);
        let token = home.token("work");
        let is_held = || Memory::of(agent.pid).expect("running").has(&token);
        assert!(is_held(), "before {change:?}");
        home.run_with(&change, &format!("{PASSWORD}\n")).exits(0);
        wait_until(&format!("the session to go after {change:?}"), || (!is_held()).then_some(()));
        assert_ne!(home.run(&["token", "work"]).stdout.trim_end(), token, "{change:?}");
        if change[0] == "profile" {
            // Back at its issuer and client, it stays gone, and its profile can be removed.
            let back = [&format!("issuer={}", issuer.issuer()), "client_id=authctl"];
            home.run(&[&["profile", "set", "work"], &back[..]].concat()).exits(0);
            home.run(&["token", "work"]).exits(3);
            home.run(&["profile", "remove", "work"]).exits(0);
        } else {
            home.run(&["refresh", "work"]).exits(0);
        }
        agent.stop().expect("a child").exits(0);
    }
}

#[test]
fn session_in_memory_survives_other_changes_of_its_profile() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let agent = Agent::run(&home);
    log_in(&home, &issuer, USER, &[]).exits(0);
    let token = home.token("work");
    home.run(&["profile", "set", "work", "audience=https://api.example", "scopes=openid"]).exits(0);
    let config = std::fs::read(home.config_file()).unwrap();
    // An editor, or a tool that replaces the file, may take a while.
    std::fs::remove_file(home.config_file()).unwrap();
    wait_until("the change", || (agent.get("/v1/token/work").status == 404).then_some(()));
    std::fs::write(home.config_file(), config).unwrap();
    wait_until("the profile", || (agent.get("/v1/status").expect_status(200)["profiles"][0].is_object()).then_some(()));
    home.run(&["profile", "set", "work", "audience=", "scopes="]).exits(0);
    assert_eq!(home.token("work"), token);
    agent.stop().expect("a child").exits(0);
}

#[test]
fn profile_whose_session_an_agent_may_hold_keeps_its_name() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let agent = Agent::run(&home);
    log_in(&home, &issuer, USER, &[]).exits(0);
    let token = home.token("work");
    let config = std::fs::read(home.config_file()).unwrap();
    let changes = [&["profile", "rename", "work", "home", "--json"][..], &["profile", "remove", "work", "--json"]];
    home.run_with(&["agent", "lock", "--passphrase-stdin"], "a lock\n").exits(0);
    for args in [changes[0], changes[1], &["logout", "work", "--json"]] {
        let refused = home.run(args).exits(8).error();
        assert_eq!((&refused["code"], &refused["hint"]), (&json!("agent_locked"), &json!("authctl agent unlock")));
    }
    agent.signal(Signal::STOP);
    let stopped = || std::fs::read_to_string(format!("/proc/{}/stat", agent.pid)).unwrap().contains(") T ");
    wait_until("the stop", || stopped().then_some(()));
    for args in changes {
        assert_eq!(home.run(args).exits(8).error()["hint"], "authctl agent stop", "{args:?}");
    }
    agent.signal(Signal::CONT);
    assert_eq!(std::fs::read(home.config_file()).unwrap(), config);
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], "a lock\n").exits(0);
    assert_eq!(home.token("work"), token);
    home.run(&["profile", "remove", "work"]).exits(2).reports("authctl logout work");
    home.run(&["logout", "work"]).exits(0);
    home.run(&["profile", "remove", "work"]).exits(0);
    agent.stop().expect("a child").exits(0);
}

#[test]
fn agent_takes_no_session_that_is_not_encrypted_to_it() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let agent = Agent::run(&home);
    log_in(&home, &issuer, USER, &[]).exits(0);
    let token = home.token("work");
    for sealed in ["bm90IHNlYWxlZA==", "%", ""] {
        let body = json!({"profile": "work", "items": [{"name": "work", "sealed": sealed}], "replace": true});
        agent.post("/v1/session", &body.to_string()).expect_status(403);
    }
    assert_eq!(home.token("work"), token);
    let body = json!({"profile": "work", "items": [], "replace": true});
    agent.post("/v1/session", &body.to_string()).expect_status(400);
    let log = agent.get("/v1/log").expect_status(200);
    let entries = log["entries"].as_array().expect("entries");
    let handovers: Vec<_> = entries.iter().filter(|entry| entry["action"] == "handover").collect();
    assert!(handovers.iter().any(|entry| entry["error"].is_null() && entry["profile"] == "work"), "{log}");
    assert!(handovers.iter().any(|entry| entry["error"] == "invalid_request"), "{log}");
}

#[test]
fn login_that_the_agent_refuses_leaves_the_session_in_its_store() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let config = std::fs::read(home.config_file()).unwrap();
    let agent = Agent::run(&home);
    issuer.fault(authctl::dev_issuer::Fault {
        endpoint: authctl::dev_issuer::Endpoint::Token,
        kind: authctl::dev_issuer::FaultKind::HoldReply,
        times: 1,
    });
    let before = issuer.stats().requests.get("token").copied().unwrap_or_default();
    let login = ["login", "work", "--store", "memory", "--password", "--username", USER, "--password-stdin"];
    let mut logging_in = home.spawn(&login);
    logging_in.type_text(&format!("{PASSWORD}\n"));
    logging_in.close_stdin();
    wait_until("the sign-in", || {
        (issuer.stats().requests.get("token").copied().unwrap_or_default() > before).then_some(())
    });
    agent.post("/v1/lock", &json!({"passphrase": "a lock"}).to_string()).expect_status(200);
    issuer.clear_faults();
    logging_in.wait().exits(8).reports("authctl agent unlock");
    assert_eq!(std::fs::read(home.config_file()).unwrap(), config);
    assert_eq!(issuer.stats().families_revoked, 1, "no program has the tokens of the login");
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], "a lock\n").exits(0);
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn login_moves_a_session_from_a_file_into_memory() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let _agent = Agent::run(&home);
    home.run(&["profile", "set", "work", "store=memory"]).exits(2).reports("authctl login work --store memory");
    let moved = log_in(&home, &issuer, USER, &[]).exits(0);
    assert!(!moved.stderr.contains("keys pin"), "{}", moved.stderr);
    assert!(!home.session_file("work").exists());
    home.run(&["token", "work"]).exits(0);
    let exported = home.run(&["profile", "export", "work"]).exits(0).stdout;
    assert!(exported.contains("store = \"memory\""), "{exported}");
    let back = ["login", "work", "--store", "file", "--password", "--username", USER, "--password-stdin"];
    let moved = home.run_with(&back, &format!("{PASSWORD}\n")).exits(0);
    moved.reports("`authctl keys pin work --jwks FILE`");
    assert!(home.session_file("work").exists());
}
