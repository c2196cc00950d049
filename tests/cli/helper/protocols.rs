use std::time::{Duration, Instant};

use serde_json::json;

use super::logged_in;
use crate::support::{CommandOutput, Sandbox};

const GIT: &str = "protocol=https\nhost=git.example\n";

fn git(home: &Sandbox, action: &str, request: &str) -> CommandOutput {
    home.run_with(&["helper", "git", action], request)
}

#[test]
fn git_gets_no_token_for_another_host_or_without_encryption() {
    let (home, _idp) = logged_in("git.example 127.0.0.1:8080");
    for request in [
        "protocol=https\nhost=evil.example\n",
        "protocol=https\nhost=git.example.evil.example\n",
        "protocol=https\nhost=git.example:8443\n",
        "protocol=ssh\nhost=git.example\n",
        "host=git.example\n",
        "",
        "\nprotocol=https\nhost=git.example\n",
    ] {
        let ran = git(&home, "get", request).exits(0);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{request}");
    }
    for host in
        ["git.example\\.evil.example", "git.example/@evil.example", "git.exa\tmple", "git.example#.evil.example", "*"]
    {
        let ran = git(&home, "get", &format!("protocol=https\nhost={host}\n")).exits(2).reports("invalid host");
        assert_eq!(ran.stdout, "quit=1\n\n");
    }
    let ran = git(&home, "get", "protocol=http\nhost=git.example\n").exits(2).reports("sent unencrypted");
    assert_eq!(ran.stdout, "quit=1\n\n");
    assert!(git(&home, "get", "protocol=http\nhost=127.0.0.1:8080\n").exits(0).stdout.contains("password="));
}

#[test]
fn tool_shows_its_user_that_a_login_is_required() {
    let (mut home, _idp) = logged_in("git.example");
    home.set("BROWSER", "touch opened; true");
    home.run(&["logout", "work"]).exits(0);
    let started = Instant::now();
    let next = "run: authctl login work";
    let ran = git(&home, "get", GIT).exits(3).reports("hint:  authctl login work");
    assert_eq!(ran.stdout, "quit=1\n\n");
    assert!(home.run_with(&["helper", "docker", "get"], "git.example").exits(3).stdout.contains(next));
    assert_eq!(home.run(&["helper", "kubernetes"]).exits(3).reports("authctl login work").stdout, "");
    let request = json!({"v": 1, "registry": {"index-url": "sparse+https://git.example/"}, "kind": "get"});
    let ran = home.run_with(&["--cargo-plugin"], &format!("{request}\n")).exits(0);
    assert!(ran.stdout.contains(r#""kind":"other""#) && ran.stdout.contains(next), "{}", ran.stdout);
    assert_eq!(
        home.run(&["helper", "keyring", "get", "https://git.example/simple", "a"])
            .exits(3)
            .reports("authctl login work")
            .stdout,
        ""
    );
    assert_eq!(home.run(&["helper", "terraform", "get", "git.example"]).exits(3).stdout, "");
    let ran = home.run(&["helper", "google"]).exits(0);
    assert_eq!(ran.stderr, "", "google-auth reads it together with the reply");
    let reply = ran.json();
    assert_eq!((&reply["success"], &reply["code"]), (&json!(false), &json!("login_required")));
    assert!(reply["message"].as_str().expect("a message").contains(next));
    assert!(!home.path().join("opened").exists());
    assert!(started.elapsed() < Duration::from_secs(20), "nothing waits for a person");
}

#[test]
fn host_of_several_profiles_needs_a_choice() {
    let (mut home, idp) = logged_in("git.example");
    home.log_in_as("other", &idp, "other");
    home.run(&["profile", "set", "other", "hosts=git.example"]).exits(0);
    home.unset_default_profile();
    git(&home, "get", GIT).exits(2).reports("several profiles are for git.example: other, work");
    let (work, other) = (home.token("work"), home.token("other"));
    assert!(home.run_with(&["helper", "git", "--profile", "other", "get"], GIT).exits(0).stdout.contains(&other));
    home.set("AUTHCTL_PROFILE", "work");
    assert!(git(&home, "get", GIT).exits(0).stdout.contains(&work));
}

#[test]
fn input_that_no_tool_sends_is_refused() {
    let (home, _idp) = logged_in("git.example");
    let long = format!("{GIT}path={}\n", "a".repeat(70_000));
    for (words, stdin) in [
        (&["git", "get"][..], long.as_str()),
        (&["git", "get"], "protocol\n"),
        (&["docker", "get"], &long),
        (&["git"], ""),
        (&["git", "get", "more"], GIT),
        (&["docker", "frobnicate"], ""),
        (&["kubernetes", "get"], ""),
        (&["keyring"], ""),
        (&["keyring", "get"], ""),
        (&["terraform", "get", "a", "b"], ""),
        (&["svn", "get"], ""),
    ] {
        let ran = home.run_with(&[&["helper"][..], words].concat(), stdin).exits(2);
        assert!(!ran.stdout.contains("eyJ"), "{words:?}: {}", ran.stdout);
    }
    // What a newer git asks for is ignored.
    assert_eq!(git(&home, "frobnicate", GIT).exits(0).stdout, "");
    home.run(&["helper", "git", "--json", "get"]).exits(2).reports("no JSON output");
}

#[test]
fn invalid_profile_that_may_have_the_host_is_named() {
    let (home, _idp) = logged_in("");
    let text = std::fs::read_to_string(home.config_file()).unwrap();
    let bad = "[profiles.bad]\nissuer = \"https://a.example\"\nclient_id = \"a\"\nhosts = [\"git.example\"]\nfuture = \"x\"\n";
    home.configure(&format!("{text}\n{bad}"));
    assert_eq!(git(&home, "get", GIT).exits(0).reports("warning: invalid configuration").stdout, "");
    home.run(&["profile", "set", "work", "hosts=u:secret@x.example"]).exits(2).reports("invalid host `x.example`");
}
