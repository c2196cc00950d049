//! git over smart HTTP.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Setup, fails, succeeds};

fn git(setup: &Setup, words: &[&str]) -> Command {
    let mut git = setup.command("git");
    let who = ["-c", "user.name=Test", "-c", "user.email=test@a.example", "-c", "init.defaultBranch=main"];
    git.args(who).args(words).env("GIT_TERMINAL_PROMPT", "0");
    git
}

/// Returns the directories of the gits in `PATH`, one for each version: before 2.46 git gets a password, then a Bearer token.
fn directories_of_git() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").expect("PATH");
    let mut found = BTreeMap::new();
    for dir in std::env::split_paths(&path).filter(|dir| dir.join("git").is_file()) {
        found.entry(succeeds(Command::new(dir.join("git")).arg("--version"))).or_insert(dir);
    }
    println!("{:?}", found.keys());
    found.into_values().collect()
}

#[test]
fn git_clones_and_pushes_while_tokens_expire() {
    for dir in directories_of_git() {
        let mut setup = Setup::new();
        setup.search_first(&dir);
        clone_and_push(&setup);
    }
}

fn clone_and_push(setup: &Setup) {
    let bare = setup.root().join("git/project.git");
    succeeds(&mut git(setup, &["init", "-q", "--bare", bare.to_str().unwrap()]));
    succeeds(git(setup, &["config", "http.receivepack", "true"]).current_dir(&bare));
    let url = format!("http://{}/git/project.git", setup.host);
    fails(&mut git(setup, &["clone", "-q", &url, "project"]));
    setup.set_up("git");
    // A helper for all hosts that is added later, which may not store the token.
    succeeds(&mut git(setup, &["config", "--global", "credential.helper", "store"]));
    setup.set_up("git");
    let first = setup.home.token("work");
    succeeds(&mut git(setup, &["clone", "-q", &url, "project"]));
    let project = setup.home.path().join("project");
    for number in 0..2 {
        fs::write(project.join("file"), number.to_string()).unwrap();
        succeeds(git(setup, &["add", "file"]).current_dir(&project));
        succeeds(git(setup, &["commit", "-q", "-m", "change"]).current_dir(&project));
        succeeds(git(setup, &["push", "-q", "origin", "HEAD"]).current_dir(&project));
        setup.home.expire("work");
    }
    let requests = setup.requests();
    let granted: Vec<_> = requests.iter().filter(|request| request[0] == "200").collect();
    let refused = requests.iter().filter(|request| request[0] == "401" && request[1] != "none").count();
    let mut tokens: Vec<&str> = granted.iter().map(|request| request[2].as_str()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(refused, 0, "{requests:?}");
    assert_eq!(tokens.len(), 2, "the second push has a new token: {requests:?}");
    setup.assert_no_token_in_files(&first);
    assert!(!setup.home.path().join(".git-credentials").exists(), "the other helper has stored a token");

    setup.home.run(&["logout", "work"]).exits(0);
    let error = fails(git(setup, &["fetch"]).current_dir(&project));
    assert!(error.contains("authctl login work"), "{error}");
    assert!(!error.contains("could not read Username"), "git does not prompt: {error}");
    setup.home.run(&["helper", "git", "--remove", "--profile", "work", "--host", &setup.host]).exits(0);
    fails(git(setup, &["fetch"]).current_dir(&project));
}

#[test]
fn git_gets_the_token_of_the_profile_of_each_host() {
    let setup = Setup::new();
    setup.home.log_in_as("other", &setup.idp, "other");
    let bare = setup.root().join("git/project.git");
    succeeds(&mut git(&setup, &["init", "-q", "--bare", bare.to_str().unwrap()]));
    let second = setup.host.replace("127.0.0.1", "localhost");
    setup.set_up("git");
    setup.home.run(&["helper", "git", "--write", "--profile", "other", "--host", &second]).exits(0);
    for (host, profile) in [(&setup.host, "work"), (&second, "other"), (&setup.host, "work")] {
        succeeds(&mut git(&setup, &["ls-remote", &format!("http://{host}/git/project.git")]));
        let sum = "\"$0\" token \"$1\" | tr -d '\\n' | sha256sum";
        let digest = succeeds(setup.command("sh").args(["-c", sum, crate::support::AUTHCTL, profile]));
        let requests = setup.requests();
        let granted = requests.iter().rfind(|request| request[0] == "200").expect("a request");
        assert!(digest.starts_with(&granted[2]), "{host} gets the token of {profile}: {requests:?}");
    }
}
