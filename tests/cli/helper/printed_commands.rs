//! What `--setup` prints, and what a set-up leaves to others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::json;

use super::logged_in;
use crate::support::Sandbox;

/// Runs a printed command of authctl.
fn paste(home: &Sandbox, line: &str) {
    let words = shlex(line);
    assert_eq!(words[0], "authctl", "{line}");
    home.run(&words[1..].iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
}

fn shlex(line: &str) -> Vec<String> {
    let output = Command::new("sh").args(["-c", &format!("printf '%s\\n' {line}")]).output().expect("sh");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn printed_commands_are_for_the_same_configuration_and_profile() {
    let (home, idp) = logged_in("a.example");
    home.log_in("other", &idp);
    let config = home.path().join("my config.toml");
    fs::rename(home.config_file(), &config).expect("moved");
    let run = |words: &[&str]| home.run(&[&["--config", config.to_str().unwrap()][..], words].concat());
    let setting = |key: &str| run(&["profile", "show", "other", "--json"]).exits(0).json()[key].clone();
    let other = ["--profile", "other"];
    let shown = run(&[&["helper", "git", "--setup", "--host", "b.example"][..], &other].concat()).exits(0).stdout;
    paste(&home, shown.lines().last().expect("the hosts"));
    assert_eq!(setting("hosts"), json!(["b.example"]));
    let shown = run(&[&["helper", "file", "--setup"][..], &other].concat()).exits(0).stdout;
    paste(&home, shown.lines().next().expect("the setting"));
    assert!(setting("token_file").is_string());
    assert!(shown.lines().nth(1).expect("the agent").contains("--config"), "{shown}");
    run(&["profile", "set", "other", "token_file="]).exits(0);
    // In a note, and after a warning.
    let role = ["--role-arn", "arn:aws:iam::123456789012:role/R"];
    for (tool, options, key) in
        [("google", &[][..], "token_file"), ("google", &["--id-token"], "id_token_file"), ("aws", &role, "token_file")]
    {
        let shown = run(&[&["helper", tool, "--setup"][..], options, &other].concat()).exits(0).stdout;
        paste(&home, shown.split("(`").nth(1).expect("a command").split('`').next().expect("its end"));
        assert!(setting(key).is_string(), "{tool}: {shown}");
        run(&["profile", "set", "other", &format!("{key}=")]).exits(0);
    }
    let warned = run(&["helper", "git", "--write", "--profile", "work", "--host", "b.example"]).exits(0).stderr;
    paste(&home, warned.split("run: ").nth(1).expect("a command").lines().next().expect("a line"));
    assert_eq!(setting("hosts"), json!([]));
    let started = run(&["helper", "file", "--write", "--profile", "other"]).exits(0).stderr;
    assert!(started.contains("run `authctl agent start --config "), "{started}");
}

#[test]
fn keyring_passes_on_what_authctl_does_not_have() {
    let (mut home, _idp) = logged_in("a.example");
    home.run(&["helper", "keyring", "--write", "--profile", "work"]).exits(0);
    let real = home.path().join("real");
    fs::create_dir(&real).expect("made");
    let dirs = [home.path().join(".local/bin"), "/usr/bin".into(), "/bin".into()];
    let path = |more: &[std::path::PathBuf]| std::env::join_paths([&dirs[..1], more, &dirs[1..]].concat()).unwrap();
    let keyring =
        |home: &Sandbox, words: &[&str]| home.run_command(&mut home.command_for(dirs[0].join("keyring"), words));
    home.set("PATH", path(&[]));
    keyring(&home, &["get", "https://b.example", "u"]).exits(1);
    keyring(&home, &["set", "https://b.example", "u"]).exits(2).reports("authctl stores no passwords");
    // Another version of authctl, which would do the same, comes after the link of this one.
    let second = home.path().join("second");
    fs::create_dir(&second).expect("made");
    crate::support::process::copy_program(&second.join("keyring"));
    let program = real.join("keyring");
    fs::write(&program, "#!/bin/sh\necho \"real $* ${AUTHCTL_TOKEN-unset}\"; exit 7\n").expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("a mode");
    home.set("PATH", path(&[second, real]));
    for words in [
        &["get", "https://b.example", "u"][..],
        &["--mode", "creds", "get", "https://b.example"],
        &["set", "https://a.example", "u"],
        &["del", "b", "u"],
        &["--list-backends"],
    ] {
        assert_eq!(keyring(&home, words).exits(7).stdout, format!("real {} unset\n", words.join(" ")));
    }
    assert_eq!(keyring(&home, &["get", "https://a.example", "u"]).exits(0).line(), home.token("work"));
    // Without authctl's link, as `authctl helper keyring`.
    home.set("PATH", std::env::join_paths([home.path().join("real"), "/usr/bin".into()]).unwrap());
    home.run(&["helper", "keyring", "get", "https://b.example", "u"]).exits(7);
}
