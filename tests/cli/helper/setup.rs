use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};

use super::logged_in;
use crate::support::Sandbox;

/// Returns what git's configuration has for a key.
fn git_config(home: &Sandbox, key: &str) -> String {
    let mut git = Command::new("git");
    git.args(["config", "--global", "--get-all", key]).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
    String::from_utf8(git.output().expect("git").stdout).expect("text")
}

fn hosts(home: &Sandbox) -> Value {
    home.run(&["profile", "show", "--json"]).exits(0).json()["hosts"].clone()
}

#[test]
fn git_on_loopback_is_set_up_for_both_schemes() {
    let (home, _idp) = logged_in("");
    home.run(&["helper", "git", "--write", "--host", "localhost:8443", "--id-token"]).exits(0);
    for scheme in ["http", "https"] {
        let helper = git_config(&home, &format!("credential.{scheme}://localhost:8443.helper"));
        assert!(helper.ends_with(" helper git --id-token\n"), "{helper}");
    }
    home.run(&["helper", "docker", "--write", "--host", "localhost:8443", "--id-token"])
        .exits(2)
        .reports("access token");
}

#[test]
fn part_that_hosts_share_stays_for_the_others() {
    let (home, _idp) = logged_in("");
    let set_up = |mode: &str, host: &str| home.run(&["helper", "keyring", mode, "--host", host]).exits(0);
    let link = home.path().join(".local/bin/keyring");
    set_up("--write", "a.example");
    set_up("--write", "b.example");
    set_up("--remove", "a.example");
    assert!(link.symlink_metadata().is_ok());
    assert_eq!(hosts(&home), json!(["b.example"]));
    set_up("--remove", "b.example");
    assert!(link.symlink_metadata().is_err());
}

#[test]
fn helper_of_another_configuration_reads_the_same() {
    let (home, _idp) = logged_in("");
    let config = home.config_file();
    let ran =
        home.run(&["--config", config.to_str().unwrap(), "helper", "git", "--setup", "--host", "git.example"]).exits(0);
    assert!(ran.stdout.contains(&format!("--config {} helper git", config.display())), "{}", ran.stdout);
}

#[test]
fn git_is_set_up_once_and_undone_once() {
    let (home, _idp) = logged_in("other.example");
    let set_up = |mode: &str| home.run(&["helper", "git", mode, "--host", "git.example"]);
    let shown = set_up("--setup").exits(0).stdout;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[2], "authctl profile set work 'hosts=other.example git.example'");
    assert!(lines[0].ends_with("--replace-all credential.https://git.example.helper ''"), "{shown}");
    let key = "credential.https://git.example.helper";
    assert_eq!(git_config(&home, key), "");
    set_up("--write").exits(0).reports("git config --global");
    let written = git_config(&home, key);
    assert!(written.starts_with("\n!") && written.ends_with(" helper git\n"), "{written:?}");
    assert_eq!(
        home.run(&["profile", "show", "--json"]).exits(0).json()["hosts"],
        json!(["other.example", "git.example"])
    );
    assert_eq!(set_up("--write").exits(0).stderr, "already set up\n");
    assert_eq!(git_config(&home, key), written);
    set_up("--remove").exits(0);
    assert_eq!(git_config(&home, key), "");
    assert_eq!(home.run(&["profile", "show", "--json"]).exits(0).json()["hosts"], json!(["other.example"]));
    assert_eq!(set_up("--remove").exits(0).stderr, "not set up\n");
    home.run(&["helper", "git", "--write"]).exits(2).reports("--host");
}

#[test]
fn another_helper_of_git_is_not_replaced() {
    let (home, _idp) = logged_in("");
    let key = "credential.https://git.example.helper";
    let mut git = Command::new("git");
    git.args(["config", "--global", key, "other"]).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
    assert!(git.status().expect("git").success());
    home.run(&["helper", "git", "--write", "--host", "git.example"]).exits(2).reports("other");
    assert_eq!(hosts(&home), json!([]), "nothing is changed by half");
    assert_eq!(home.run(&["helper", "git", "--remove", "--host", "git.example"]).exits(0).stderr, "not set up\n");
    assert_eq!(git_config(&home, key), "other\n");
}

#[test]
fn docker_configuration_keeps_what_others_wrote() {
    let (home, _idp) = logged_in("");
    let file = home.path().join(".docker/config.json");
    fs::create_dir_all(file.parent().expect("a directory")).expect("made");
    let before = json!({"auths": {"a.example": {"auth": "eHg="}}, "credHelpers": {"b.example": "other"}});
    fs::write(&file, before.to_string()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
    let set_up = |mode: &str, host: &str| home.run(&["helper", "docker", mode, "--host", host]);
    let read = || serde_json::from_str::<Value>(&fs::read_to_string(&file).expect("text")).expect("JSON");
    let link = home.path().join(".local/bin/docker-credential-authctl");
    set_up("--write", "registry.example").exits(0);
    set_up("--write", "localhost:5000").exits(0);
    assert_eq!(set_up("--write", "localhost:5000").exits(0).stderr, "already set up\n");
    let mut expected = before.clone();
    expected["credHelpers"]["registry.example"] = json!("authctl");
    expected["credHelpers"]["localhost:5000"] = json!("authctl");
    assert_eq!(read(), expected);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o640);
    let ran = Command::new(&link).arg("version").env("HOME", home.path()).output().expect("ran");
    assert!(String::from_utf8_lossy(&ran.stdout).starts_with("docker-credential-authctl"), "{ran:?}");
    set_up("--write", "b.example").exits(2).reports("another value");
    set_up("--remove", "b.example").exits(0);
    set_up("--remove", "localhost:5000").exits(0);
    assert!(link.symlink_metadata().is_ok(), "another host still uses it");
    set_up("--remove", "registry.example").exits(0);
    assert_eq!(read(), before);
    assert!(link.symlink_metadata().is_err());
    fs::write(&file, "{\"auths\": ").expect("written");
    set_up("--write", "registry.example").exits(2).reports("config.json");
    assert_eq!(fs::read_to_string(&file).expect("text"), "{\"auths\": ");
}

#[test]
fn cargo_configuration_keeps_comments_and_other_providers() {
    let (home, _idp) = logged_in("");
    let file = home.path().join(".cargo/config.toml");
    let set_up = |mode: &str| home.run(&["helper", "cargo", mode, "--host", "index.example"]);
    set_up("--write").exits(0);
    let text = fs::read_to_string(&file).expect("text");
    assert!(text.contains("global-credential-providers = [\"cargo:token\", "), "{text}");
    assert_eq!(set_up("--write").exits(0).stderr, "already set up\n");
    set_up("--remove").exits(0);
    assert!(!fs::read_to_string(&file).expect("text").contains("providers"));
    let own = "# mine\n[registry]\nglobal-credential-providers = [\"cargo:libsecret\"] # first\n";
    fs::write(&file, own).expect("written");
    set_up("--write").exits(0);
    assert!(
        fs::read_to_string(&file)
            .expect("text")
            .starts_with("# mine\n[registry]\nglobal-credential-providers = [\"cargo:libsecret\", ")
    );
    set_up("--remove").exits(0);
    assert_eq!(fs::read_to_string(&file).expect("text"), own);
}

#[test]
fn link_of_another_program_stays() {
    let (home, _idp) = logged_in("index.example");
    let link = home.path().join(".local/bin/keyring");
    fs::create_dir_all(link.parent().expect("a directory")).expect("made");
    fs::write(&link, "#!/bin/sh\n").expect("written");
    home.run(&["helper", "keyring", "--write"]).exits(2).reports("another program");
    assert_eq!(home.run(&["helper", "keyring", "--remove"]).exits(0).stderr, "not set up\n");
    assert_eq!(fs::read_to_string(&link).expect("text"), "#!/bin/sh\n");
}

#[test]
fn terraform_is_set_up_with_its_block() {
    let (home, _idp) = logged_in("");
    let file = home.path().join(".terraformrc");
    fs::write(&file, "disable_checkpoint = true").expect("written");
    let set_up = |mode: &str| home.run(&["helper", "terraform", mode, "--host", "registry.example"]);
    set_up("--write").exits(0);
    let block = "credentials_helper \"authctl\" {}\n";
    assert_eq!(fs::read_to_string(&file).expect("text"), format!("disable_checkpoint = true\n{block}"));
    assert_eq!(set_up("--write").exits(0).stderr, "already set up\n");
    set_up("--remove").exits(0);
    assert_eq!(fs::read_to_string(&file).expect("text"), "disable_checkpoint = true\n");
    fs::write(&file, "# credentials_helper \"authctl\" {}\n").expect("written");
    set_up("--write").exits(0);
    assert_eq!(fs::read_to_string(&file).expect("text"), format!("# {block}{block}"));
    set_up("--remove").exits(0);
    assert_eq!(fs::read_to_string(&file).expect("text"), format!("# {block}"));
    let other = "credentials_helper \"other\" {}\n";
    fs::write(&file, other).expect("written");
    set_up("--write").exits(2).reports("another credentials_helper");
    set_up("--remove").exits(0);
    assert_eq!(fs::read_to_string(&file).expect("text"), other);
}
