use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::logged_in;
use crate::hints::paste;
use crate::support::Sandbox;
use crate::support::process::{copy_program, wait_until};

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
fn set_up_refuses_words_that_it_does_not_know() {
    let (home, _idp) = logged_in("");
    for tool in ["git", "docker", "cargo", "keyring", "terraform"] {
        let words = ["helper", tool, "--write", "--host", "git.example", "more"];
        home.run(&words).exits(2).reports("unknown request `more`");
    }
    home.run(&["helper", "kubernetes", "--write", "more"]).exits(2).reports("unknown request `more`");
    assert_eq!(hosts(&home), json!([]));
}

#[test]
fn set_up_by_hand_is_not_reported_as_done() {
    let (home, _idp) = logged_in("");
    let helper = |mode: &str| home.run(&["helper", "google", mode, "--profile", "work"]).exits(0).stderr;
    assert!(helper("--write").starts_with("set `credential_source`"), "{}", helper("--write"));
    let removed = helper("--remove");
    assert!(removed.ends_with("authctl helper google --setup --profile work\n"), "{removed}");
}

#[test]
fn set_up_by_a_removed_download_is_replaced() {
    let (home, _idp) = logged_in("");
    let download = home.path().join("authctl-0.1.0-x86_64");
    copy_program(&download);
    let set_ups = ["git", "keyring"].map(|tool| ["helper", tool, "--write", "--host", "git.example"]);
    for args in &set_ups {
        home.command_for(&download, args).status().expect("started");
    }
    let key = "credential.https://git.example.helper";
    assert!(git_config(&home, key).contains("authctl-0.1.0-x86_64 helper git"), "{}", git_config(&home, key));
    fs::remove_file(&download).expect("removed");
    for args in &set_ups {
        home.run(args).exits(0);
    }
    assert!(!git_config(&home, key).contains("0.1.0"), "{}", git_config(&home, key));
    assert!(home.path().join(".local/bin/keyring").exists(), "a link to a program that is there");
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
    // These start authctl without options.
    for tool in ["docker", "keyring", "cargo", "terraform"] {
        for mode in ["--write", "--setup"] {
            let args = ["--config", config.to_str().unwrap(), "helper", tool, mode, "--host", "git.example"];
            assert_eq!(home.run(&args).exits(2).reports("would not read").stdout, "");
        }
    }
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
    set_up("--write").exits(0).reports(".gitconfig");
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

/// Returns the helpers that git gives a credential for an address to store, in its order.
fn storing_helpers(home: &Sandbox, address: &str) -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["credential", "approve"]).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME").current_dir(home.path());
    git.envs([("GIT_TRACE", "1"), ("GIT_CONFIG_NOSYSTEM", "1")]);
    let request = home.path().join("request");
    fs::write(&request, format!("url={address}\nusername=a\npassword=b\n\n")).expect("written");
    let output = git.stdin(fs::File::open(&request).expect("opened")).output().expect("git");
    let trace = String::from_utf8_lossy(&output.stderr).into_owned();
    let started = trace.lines().filter_map(|line| line.split_once("run_command: "));
    started
        .map(|(_, command)| command.trim_matches('\'').to_owned())
        .filter(|command| command.ends_with(" store"))
        .collect()
}

#[test]
fn git_asks_authctl_alone_wherever_other_helpers_are() {
    let (home, _idp) = logged_in("");
    let file = home.path().join(".gitconfig");
    let set_up = |mode: &str| home.run(&["helper", "git", mode, "--host", "git.example"]).exits(0);
    let generic = "[credential]\n\thelper = !true other\n";
    let own = "[credential \"https://git.example\"]\n\tusername = ann\n";
    for before in [
        String::new(),
        generic.to_owned(),
        format!("{own}{generic}"),
        format!("{generic}{own}"),
        format!("{own}[credential]\n\thelper =\n"),
        format!("{own}[credential \"git.example\"]\n\thelper = !true other\n"),
        format!("{own}[credential \"https://git.example:443\"]\n\thelper = !true other\n"),
        format!("[credential \"https://git.example\"]\n\t# mine\n{generic}"),
        format!("[user]\n\tname = Ann\n{own}[include]\n\tpath = included\n"),
    ] {
        fs::write(home.path().join("included"), generic).expect("written");
        fs::write(&file, &before).expect("written");
        set_up("--write");
        let check = |what: &str| {
            let text = fs::read_to_string(&file).expect("text");
            let storing = storing_helpers(&home, "https://git.example");
            assert!(storing.len() == 1 && storing[0].ends_with(" helper git store"), "{what}: {storing:?}\n{text}");
            assert_eq!(text.contains("username = ann"), before.contains("username = ann"), "{what}: {text}");
            assert_eq!(set_up("--write").stderr, "already set up\n", "{what}");
            assert_eq!(fs::read_to_string(&file).expect("text"), text, "{what}");
        };
        check("after the set-up");
        // Added by hand, after authctl's.
        let text = fs::read_to_string(&file).expect("text");
        fs::write(&file, format!("{text}{generic}")).expect("written");
        let shown = set_up("--setup").stdout;
        assert_eq!(set_up("--setup").stdout, shown);
        set_up("--write");
        check("after another helper was added");
        set_up("--remove");
        assert_eq!(set_up("--remove").stderr, "not set up\n");
        let text = fs::read_to_string(&file).expect("text");
        assert!(!text.contains("helper git") && text.contains("!true other"), "{text}");
        assert_eq!(text.contains("username = ann"), before.contains("username = ann"), "{text}");
        fs::remove_file(&file).expect("removed");
    }
    // What is printed has the same effect.
    fs::write(&file, format!("{own}{generic}")).expect("written");
    let shown = set_up("--setup").stdout;
    for line in shown.lines().filter(|line| line.starts_with("git ")) {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
        assert!(shell.status().expect("sh").success(), "{line}");
    }
    assert_eq!(storing_helpers(&home, "https://git.example").len(), 1, "{shown}");
    assert_eq!(storing_helpers(&home, "https://b.example"), ["true other store"], "another host, as before");
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
fn docker_configuration_keeps_order_and_spelling() {
    let (home, _idp) = logged_in("");
    let file = home.path().join(".docker/config.json");
    fs::create_dir_all(file.parent().expect("a directory")).expect("made");
    let before = "{\n  \"psFormat\": \"\\u0041\",\n  \"auths\": {},\n  \"auths\": {\"a.example\": { }},\n  \"aliases\": {\"n\": 1.0}\n}";
    fs::write(&file, before).expect("written");
    let set_up = |mode: &str| {
        home.run(&["helper", "docker", mode, "--host", "b.example", "--host", "a.example"]).exits(0);
        fs::read_to_string(&file).expect("text")
    };
    let added = ",\n  \"credHelpers\": {\n    \"b.example\": \"authctl\",\n    \"a.example\": \"authctl\"\n  }\n}";
    assert_eq!(set_up("--write"), format!("{}{added}", before.strip_suffix("\n}").expect("its end")));
    assert_eq!(set_up("--remove"), before);
}

#[test]
fn set_up_that_differs_is_changed() {
    let (home, _idp) = logged_in("");
    let key = "credential.https://git.example.helper";
    let set_up = |mode: &str, more: &[&str]| {
        home.run(&[&["helper", "git", mode, "--host", "git.example"][..], more].concat()).exits(0).stderr
    };
    set_up("--write", &[]);
    let first = git_config(&home, key);
    set_up("--write", &["--id-token"]);
    assert_eq!(git_config(&home, key), format!("{} --id-token\n", first.trim_end()));
    assert_eq!(set_up("--write", &["--id-token"]), "already set up\n");
    set_up("--write", &[]);
    assert_eq!(git_config(&home, key), first);
    set_up("--write", &["--id-token"]);
    set_up("--remove", &[]);
    assert_eq!(git_config(&home, key), "");
}

#[test]
fn set_up_by_another_path_is_replaced_and_removed() {
    let (home, _idp) = logged_in("");
    let path = |name: &str| home.path().join(name);
    let (cargo, docker) = (path(".cargo/config.toml"), path(".docker/config.json"));
    let links = [
        ".local/bin/docker-credential-authctl",
        ".local/bin/keyring",
        ".terraform.d/plugins/terraform-credentials-authctl",
    ];
    let links = links.map(path);
    let key = "credential.https://git.example.helper";
    let add = |value: &str| {
        let mut git = Command::new("git");
        git.args(["config", "--global", "--add", key, value]).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
        assert!(git.status().expect("git").success());
    };
    // As an older authctl, in a directory that is gone, set the tools up.
    let old = || {
        add("");
        add("!'/old dir/authctl' --config '/a b/c.toml' helper git --id-token");
        fs::create_dir_all(cargo.parent().expect("a directory")).expect("made");
        fs::write(&cargo, "[registry]\nglobal-credential-providers = [\"cargo:token\", \"/old/authctl\"]\n")
            .expect("written");
        fs::create_dir_all(docker.parent().expect("a directory")).expect("made");
        fs::write(&docker, r#"{"credHelpers":{"git.example":"authctl"}}"#).expect("written");
        for link in &links {
            fs::create_dir_all(link.parent().expect("a directory")).expect("made");
            symlink("/old/authctl", link).expect("linked");
        }
    };
    let set_up = |mode: &str, tool: &str| home.run(&["helper", tool, mode, "--host", "git.example"]).exits(0).stderr;
    let tools = ["git", "cargo", "docker", "keyring", "terraform"];
    old();
    for tool in tools {
        assert_ne!(set_up("--write", tool), "already set up\n", "{tool}");
        assert_eq!(set_up("--write", tool), "already set up\n", "{tool}");
    }
    let helper = git_config(&home, key);
    assert!(helper.starts_with("\n!") && !helper.contains("old") && helper.ends_with(" helper git\n"), "{helper}");
    let text = fs::read_to_string(&cargo).expect("text");
    assert!(
        text.starts_with("[registry]\nglobal-credential-providers = [\"cargo:token\", \"/") && !text.contains("old"),
        "{text}"
    );
    for link in &links {
        assert!(link.exists(), "{link:?}");
    }
    for tool in tools {
        set_up("--remove", tool);
    }
    old();
    for tool in tools {
        assert_ne!(set_up("--remove", tool), "not set up\n", "{tool}");
        assert_eq!(set_up("--remove", tool), "not set up\n", "{tool}");
    }
    assert_eq!(git_config(&home, key), "");
    assert_eq!(fs::read_to_string(&cargo).expect("text"), "");
    assert!(links.iter().all(|link| link.symlink_metadata().is_err()));
}

#[test]
fn helper_that_a_user_added_for_git_stays() {
    let (home, _idp) = logged_in("");
    let key = "credential.https://git.example.helper";
    let set_up = |mode: &str| home.run(&["helper", "git", mode, "--host", "git.example"]).exits(0).stderr;
    let add = |value: &str| {
        let mut git = Command::new("git");
        git.args(["config", "--global", "--add", key, value]).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
        assert!(git.status().expect("git").success());
    };
    for values in [
        &["", "!/old/authctl helper git", "other (a.*)"][..],
        // Beside the current one, twice, and before a reset.
        &["!/old/authctl helper git", "!/old/authctl helper git"],
        &["", "other"],
    ] {
        values.iter().for_each(|value| add(value));
        set_up("--write");
        let helpers = git_config(&home, key);
        assert!(!helpers.contains("/old") && helpers.matches(" helper git\n").count() == 1, "{helpers}");
        assert_eq!(
            storing_helpers(&home, "https://git.example").iter().filter(|one| one.contains("authctl")).count(),
            1
        );
        assert_eq!(set_up("--write"), "already set up\n", "{helpers}");
    }
    add("!/old/authctl helper git");
    add("!/old/authctl helper git");
    set_up("--remove");
    assert_eq!(git_config(&home, key), "\nother (a.*)\n\nother\n");
}

#[test]
fn nothing_is_set_up_if_one_host_cannot_be() {
    let (home, _idp) = logged_in("");
    let mut git = Command::new("git");
    git.args(["config", "--global", "credential.https://b.example.helper", "other"]);
    assert!(git.env("HOME", home.path()).env_remove("XDG_CONFIG_HOME").status().expect("git").success());
    home.run(&["helper", "git", "--write", "--host", "a.example", "--host", "b.example"]).exits(2).reports("other");
    assert_eq!(git_config(&home, "credential.https://a.example.helper"), "");
    assert_eq!(hosts(&home), json!([]));
}

#[test]
fn host_of_another_profile_is_reported() {
    let (home, idp) = logged_in("git.example a.example");
    home.log_in("other", &idp);
    let write = || home.run(&["helper", "git", "--write", "--profile", "other", "--host", "git.example"]).exits(0);
    let warned = write().stderr;
    let (_, next) = warned.split_once("run: authctl ").expect("a command");
    let next = next.lines().next().expect("a line").replace('\'', "");
    assert_eq!(next, "profile set work hosts=a.example");
    home.run(&next.split(' ').collect::<Vec<_>>()).exits(0);
    assert_eq!(write().stderr, "already set up\n");
}

#[test]
fn set_up_that_a_tool_refuses_is_reported_in_one_line() {
    let (mut home, _idp) = logged_in("");
    let write = |home: &Sandbox| home.run(&["helper", "git", "--write", "--host", "git.example"]).exits(2);
    fs::write(home.path().join(".gitconfig"), "[broken\n").expect("written");
    let ran = write(&home).reports("` failed: bad config line 1 in file");
    // git's own command shows the same.
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let command = lines[0].split('`').nth(1).expect("a command");
    assert_eq!((lines.len(), lines[1]), (2, format!("hint:  {command}").as_str()), "{}", ran.stderr);
    let empty = home.path().join("data");
    home.set("PATH", empty);
    write(&home).reports("error: cannot run `git`: ");
    assert_eq!(hosts(&home), json!([]));
}

#[test]
fn host_that_another_tool_uses_stays() {
    let (home, _idp) = logged_in("");
    let set_up = |tool: &str, mode: &str| home.run(&["helper", tool, mode, "--host", "a.example"]).exits(0);
    for (first, second) in [
        ("git", "docker"),
        ("docker", "git"),
        ("docker", "keyring"),
        // These are set up for all hosts at once.
        ("keyring", "git"),
        ("cargo", "git"),
        ("terraform", "git"),
        ("keyring", "docker"),
        ("cargo", "keyring"),
        ("terraform", "cargo"),
    ] {
        set_up(first, "--write");
        set_up(second, "--write");
        set_up(second, "--remove")
            .reports("a.example still gets tokens")
            .reports("run: authctl profile set work hosts=\n");
        assert_eq!(hosts(&home), json!(["a.example"]), "{first}");
        set_up(first, "--remove");
        assert_eq!(hosts(&home), json!([]), "{first}");
        for tool in [first, second] {
            assert_eq!(set_up(tool, "--remove").stderr, "not set up\n");
        }
    }
}

#[test]
fn set_up_of_a_removed_profile_is_undone() {
    let (home, _idp) = logged_in("");
    let key = "credential.https://git.example.helper";
    home.run(&["helper", "git", "--write", "--profile", "work", "--host", "git.example"]).exits(0);
    home.run(&["logout", "work"]).exits(0);
    home.run(&["profile", "remove", "work"]).exits(0);
    home.run(&["helper", "git", "--remove", "--profile", "work", "--host", "git.example"]).exits(0);
    assert_eq!(git_config(&home, key), "");
    home.run(&["helper", "git", "--write", "--profile", "work", "--host", "git.example"]).exits(2);
    assert_eq!(git_config(&home, key), "", "no profile to set it up for");
}

#[test]
fn cargo_configuration_of_the_old_name_is_changed() {
    let (home, _idp) = logged_in("");
    let file = home.path().join(".cargo/config");
    fs::create_dir_all(file.parent().expect("a directory")).expect("made");
    let before = "[net]\noffline = false\n";
    fs::write(&file, before).expect("written");
    let set_up = |mode: &str| home.run(&["helper", "cargo", mode, "--host", "index.example"]).exits(0);
    set_up("--write").reports(".cargo/config");
    assert!(!home.path().join(".cargo/config.toml").exists());
    assert!(fs::read_to_string(&file).expect("text").contains("global-credential-providers"));
    set_up("--remove");
    assert_eq!(fs::read_to_string(&file).expect("text"), before);
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
    let (mut home, _idp) = logged_in("");
    let file = home.path().join(".terraformrc");
    fs::write(&file, "disable_checkpoint = true").expect("written");
    let set_up = |mode: &str| home.run(&["helper", "terraform", mode, "--host", "registry.example"]);
    set_up("--write").exits(0);
    let block = "credentials_helper \"authctl\" {}\n";
    assert_eq!(fs::read_to_string(&file).expect("text"), format!("disable_checkpoint = true\n{block}"));
    assert_eq!(set_up("--write").exits(0).stderr, "already set up\n");
    set_up("--remove").exits(0);
    assert_eq!(fs::read_to_string(&file).expect("text"), "disable_checkpoint = true\n");
    // OpenTofu reads a file of its own, where there is one.
    let tofu = home.path().join(".tofurc");
    fs::write(&tofu, "").expect("written");
    set_up("--write").exits(0);
    assert_eq!(fs::read_to_string(&tofu).expect("text"), block);
    set_up("--remove").exits(0);
    assert_eq!(fs::read_to_string(&tofu).expect("text"), "");
    // Or the same one.
    fs::remove_file(&tofu).expect("removed");
    symlink(&file, &tofu).expect("linked");
    set_up("--write").exits(0);
    assert_eq!(fs::read_to_string(&file).expect("text"), format!("disable_checkpoint = true\n{block}"));
    set_up("--remove").exits(0);
    assert_eq!(fs::read_to_string(&file).expect("text"), "disable_checkpoint = true\n");
    fs::remove_file(&tofu).expect("removed");
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
    // The variable's old name.
    home.set("TERRAFORM_CONFIG", home.path().join("old"));
    home.run(&["helper", "terraform", "--write", "--host", "registry.example"]).exits(0);
    assert_eq!(fs::read_to_string(home.path().join("old")).expect("text"), block);
    assert_eq!(fs::read_to_string(&file).expect("text"), other);
}

#[test]
fn section_in_an_included_file_of_git_stays_as_it_is() {
    let (home, _idp) = logged_in("");
    let (file, included) = (home.path().join(".gitconfig"), home.path().join("included"));
    let set_up = |mode: &str| home.run(&["helper", "git", mode, "--host", "git.example"]);
    let read = || (fs::read_to_string(&file).expect("text"), fs::read_to_string(&included).expect("text"));
    let section = "[credential \"https://git.example\"]\n\tusername = ann ; mine\n";
    let generic = "[credential]\n\thelper = !true other\n";
    let old = "\thelper =\n\thelper = !/old/authctl helper git\n";
    for (main, other) in [
        ("[include]\n\tpath = included\n", section.to_owned()),
        ("[include]\n\tpath = included\n", format!("{section}{generic}")),
        ("[include]\n\tpath = included\n[credential]\n\thelper = !true other\n", section.to_owned()),
        ("[include]\n\tpath = included\n[credential]\n\thelper = !true other\n", format!("{section}{old}")),
        (&format!("{section}{generic}[include]\n\tpath = included\n"), format!("{section}\thelper =\n")),
    ] {
        fs::write(&file, main).expect("written");
        fs::write(&included, &other).expect("written");
        set_up("--write").exits(0);
        let written = read();
        assert!(written.0.starts_with(main) && written.1 == other, "{written:?}");
        let storing = storing_helpers(&home, "https://git.example");
        assert!(storing.len() == 1 && storing[0].ends_with(" helper git store"), "{storing:?} {written:?}");
        assert!(!storing[0].contains("/old/"), "{storing:?}");
        assert_eq!(set_up("--write").exits(0).stderr, "already set up\n", "{main}");
        assert_eq!(read(), written);
        let reason = format!("{}, which git's configuration includes, has credential.", included.display());
        if other.contains("/old/") {
            // The host, which gives git a token, is removed first.
            assert!(!set_up("--remove").exits(2).reports(&reason).stderr.contains("changed"));
            assert_eq!(read(), written);
            assert_eq!(hosts(&home), json!([]));
            // Another tool's removal leaves the host to git.
            for mode in ["--write", "--remove"] {
                home.run(&["helper", "docker", mode, "--host", "git.example"]).exits(0);
                assert_eq!(hosts(&home), json!(["git.example"]));
            }
            fs::write(&included, section).expect("written");
        }
        for removal in ["changed", "not set up\n"] {
            set_up("--remove").exits(0).reports(removal);
            assert_eq!(read().0, main);
        }
        assert_eq!(hosts(&home), json!([]));
    }
}

/// Puts a script first in PATH under the name of a program, whose path it gets.
fn put_in_front(home: &mut Sandbox, program: &str, script: impl Fn(&str) -> String) {
    let programs = home.path().join("programs");
    fs::create_dir_all(&programs).expect("made");
    let found = Command::new("sh").args(["-c", &format!("command -v {program} || true")]).output().expect("sh").stdout;
    let text = script(String::from_utf8(found).expect("text").trim());
    fs::write(programs.join(program), format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(programs.join(program), fs::Permissions::from_mode(0o755)).expect("a mode");
    home.set("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").expect("PATH")));
}

/// Returns the names of files in a directory that start or end so.
fn names(dir: &Path, part: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("listed");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    names.filter(|name| name.starts_with(part) || name.ends_with(part)).collect()
}

#[test]
fn signal_during_a_change_of_git_leaves_neither_lock_nor_copy() {
    let (mut home, _idp) = logged_in("");
    let (file, started) = (home.path().join(".gitconfig"), home.path().join("started"));
    fs::write(&file, "# mine\n").expect("written");
    put_in_front(&mut home, "git", |git| {
        format!("case \"$*\" in *--add*) echo > {}; exec sleep 600;; esac\nexec {git} \"$@\"", started.display())
    });
    let data = home.path().join("data/authctl");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let run = home.spawn(&["helper", "git", "--write", "--host", "git.example"]);
        wait_until("git", || started.exists().then_some(()));
        assert_eq!((names(home.path(), ".lock").len(), names(&data, ".tmp").len()), (1, 1));
        run.signal(signal);
        run.wait().exits(130);
        assert_eq!(fs::read_to_string(&file).expect("text"), "# mine\n");
        assert_eq!((names(home.path(), ".lock"), names(&data, ".tmp")), (Vec::new(), Vec::new()));
        fs::remove_file(&started).expect("removed");
    }
}

#[test]
fn change_of_another_program_to_git_is_not_overwritten() {
    let (mut home, _idp) = logged_in("");
    let file = home.path().join(".gitconfig");
    fs::write(&file, "# mine\n").expect("written");
    let other = "[credential \"https://git.example\"]\n\thelper = other\n";
    let addition = home.path().join("addition");
    fs::write(&addition, other).expect("written");
    // While git changes the copy.
    put_in_front(&mut home, "git", |git| {
        let add = format!("cat {} >> {}; : > {0}", addition.display(), file.display());
        format!("case \"$*\" in *--replace-all*) {add};; esac\nexec {git} \"$@\"")
    });
    let write = || home.run(&["helper", "git", "--write", "--host", "git.example"]).exits(2);
    write().reports("another program has changed");
    assert_eq!(fs::read_to_string(&file).expect("text"), format!("# mine\n{other}"));
    write().reports("has another credential.https://git.example.helper: other");
    assert_eq!(hosts(&home), json!([]));
}

#[test]
fn kubeconfig_is_changed_only_without_the_lock_that_kubectl_takes() {
    let (mut home, _idp) = logged_in("");
    let dir = home.path().join("kube");
    let (link, target) = (dir.join("config"), home.path().join("dotfiles"));
    fs::create_dir(&dir).expect("made");
    fs::write(&target, "{}").expect("written");
    symlink(&target, &link).expect("linked");
    home.set("KUBECONFIG", &link);
    put_in_front(&mut home, "kubectl", |_| {
        "case \"$*\" in *view*) echo '{}';; *) echo changed > \"$2\";; esac".to_owned()
    });
    let write = || home.run(&["helper", "kubernetes", "--write"]);
    // Beside the name, and not beside the file that it leads to.
    fs::write(dir.join("config.lock"), "").expect("written");
    write().exits(2).reports("kube/config.lock exists");
    assert_eq!(fs::read_to_string(&target).expect("text"), "{}");
    fs::remove_file(dir.join("config.lock")).expect("removed");
    write().exits(0);
    assert_eq!(fs::read_to_string(&target).expect("text"), "changed\n");
    assert_eq!((names(&dir, ".lock"), names(home.path(), ".lock")), (Vec::new(), Vec::new()));
}

#[test]
fn failed_change_of_git_leaves_its_file_as_it_was() {
    let (mut home, _idp) = logged_in("");
    let file = home.path().join(".gitconfig");
    let generic = "[credential]\n\thelper = !true other\n";
    let before = format!("# mine\n[credential \"https://git.example\"]\n\tusername = ann\n\tuseHttpPath\n{generic}");
    // git fails at each of its changes.
    let old = format!("[credential \"https://git.example\"]\n\thelper = !/old/authctl helper git\n{generic}");
    let (full, silent) = (("echo 'fatal: full' >&2", "full"), ("true", "exit code 4"));
    for (fails, before, (message, reason)) in [
        ("--add", &before, full),
        ("--rename-section", &before, silent),
        ("--replace-all", &String::new(), full),
        ("--unset-all", &old, full),
    ] {
        fs::write(&file, before).expect("written");
        put_in_front(&mut home, "git", |git| {
            let fail = format!("[ \"$word\" = {fails} ] && {message} && exit 4");
            format!("for word; do {fail}; done\nexec {git} \"$@\"")
        });
        let ran = home.run(&["helper", "git", "--write", "--host", "git.example"]).exits(2);
        ran.reports(&format!("{fails} credential.")).reports(&format!("failed: {reason}"));
        assert_eq!(&fs::read_to_string(&file).expect("text"), before, "{fails}");
    }
    // A list that fails is not an empty one: the other program's helper would be replaced.
    let other = "[credential \"https://git.example\"]\n\thelper = other\n";
    fs::write(&file, other).expect("written");
    put_in_front(&mut home, "git", |git| {
        format!("for word; do [ \"$word\" = --get-regexp ] && exit 128; done\nexec {git} \"$@\"")
    });
    for change in ["--write", "--remove"] {
        home.run(&["helper", "git", change, "--host", "git.example"]).exits(2).reports("--get-regexp");
        assert_eq!(fs::read_to_string(&file).expect("text"), other, "{change}");
    }
    // No leftovers beside it, such as a lock.
    assert_eq!(names(home.path(), ".gitconfig"), [".gitconfig"]);
}

#[test]
fn file_of_git_that_a_variable_names_is_changed() {
    let (mut home, _idp) = logged_in("");
    let file = home.path().join("git/global");
    let target = home.path().join("dotfiles/gitconfig");
    fs::create_dir(target.parent().expect("a directory")).expect("made");
    fs::create_dir(file.parent().expect("a directory")).expect("made");
    fs::write(&target, "# mine\n[user]\n\tname = Ann \u{fc}\n").expect("written");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o444)).expect("a mode");
    symlink(&target, &file).expect("linked");
    home.set("GIT_CONFIG_GLOBAL", &file);
    let write = || home.run(&["helper", "git", "--write", "--host", "git.example"]);
    // While git changes it.
    let lock = home.path().join("dotfiles/gitconfig.lock");
    fs::write(&lock, "").expect("written");
    write().exits(2).reports("gitconfig.lock exists").reports("hint:  ls -l");
    assert_eq!(hosts(&home), json!([]));
    fs::remove_file(&lock).expect("removed");
    write().exits(0);
    let text = fs::read_to_string(&target).expect("text");
    assert!(text.starts_with("# mine\n[user]\n\tname = Ann \u{fc}\n") && text.contains(" helper git\n"), "{text}");
    assert!(file.symlink_metadata().expect("there").is_symlink(), "the link stays");
    assert_eq!(target.metadata().expect("there").permissions().mode() & 0o777, 0o444);
    assert!(!home.path().join(".gitconfig").exists() && !lock.exists());
    assert_eq!(write().exits(0).stderr, "already set up\n");
    home.run(&["helper", "git", "--remove", "--host", "git.example"]).exits(0);
    assert_eq!(fs::read_to_string(&target).expect("text"), "# mine\n[user]\n\tname = Ann \u{fc}\n");
}

#[test]
fn set_ups_at_the_same_time_all_take_effect() {
    let (home, _idp) = logged_in("");
    let names: Vec<String> = (0..2).map(|number| format!("host{number}.example")).collect();
    let tools = ["git", "docker", "cargo"];
    let all = || tools.iter().flat_map(|tool| names.iter().map(move |name| (*tool, name.as_str())));
    for mode in ["--write", "--remove"] {
        let running: Vec<_> = all().map(|(tool, host)| home.spawn(&["helper", tool, mode, "--host", host])).collect();
        for run in running {
            run.wait().exits(0);
        }
        let docker = fs::read_to_string(home.path().join(".docker/config.json")).expect("text");
        let git = fs::read_to_string(home.path().join(".gitconfig")).expect("text");
        for name in &names {
            assert_eq!(docker.contains(name.as_str()), mode == "--write", "{docker}");
            assert_eq!(git.contains(name.as_str()), mode == "--write", "{git}");
        }
        if mode == "--write" {
            let cargo = fs::read_to_string(home.path().join(".cargo/config.toml")).expect("text");
            assert_eq!(cargo.matches("authctl\"").count(), 1, "{cargo}");
            assert_eq!(hosts(&home).as_array().map(Vec::len), Some(names.len()));
        }
    }
}

#[test]
fn full_disk_and_read_only_directory_leave_every_file() {
    let (home, _idp) = logged_in("");
    let before = [
        (".gitconfig", "git", "[user]\n\tname = Ann\n"),
        (".docker/config.json", "docker", "{\"auths\": {}}"),
        (".cargo/config.toml", "cargo", "# mine\n[net]\noffline = false\n"),
        (".terraformrc", "terraform", "disable_checkpoint = true\n"),
        (".aws/config", "aws", "[default]\nregion = a\n"),
    ];
    for (path, tool, text) in before {
        // Each file leads to one on a file system of its own.
        let (file, dir) = (home.path().join(path), home.path().join(format!("place-{tool}")));
        fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        fs::create_dir(&dir).expect("made");
        fs::write(dir.join("file"), text).expect("written");
        symlink(dir.join("file"), &file).expect("linked");
        let words: &[&str] = match tool {
            "aws" => &["--role-arn", "arn:aws:iam::123456789012:role/ci"],
            _ => &["--host", "git.example"],
        };
        let (args, dir) = ([&["helper", tool, "--write"][..], words].concat(), dir.display());
        let full = format!(
            "cp {dir}/file saved && mount -t tmpfs -o size=4k,nr_inodes=3 tmpfs {dir} && cp saved {dir}/file && \
             dd if=/dev/zero of={dir}/more bs=4k count=1 2>/dev/null; \"$0\" \"$@\"; code=$?; cp {dir}/file seen; exit $code"
        );
        let read_only = format!(
            "mount --bind {dir} {dir} && mount -o remount,bind,ro {dir} && \"$0\" \"$@\"; code=$?; cp {dir}/file seen; exit $code"
        );
        for script in [full, read_only] {
            home.mounted(&script, &args, "").exits(2).reports("cannot change");
            assert_eq!(fs::read_to_string(home.path().join("seen")).expect("text"), text, "{tool}");
        }
        home.run(&args).exits(0);
        assert!(fs::read_to_string(&file).expect("text").contains(text.trim_end_matches('}')), "{tool}");
        assert!(file.symlink_metadata().expect("there").is_symlink(), "{tool}");
    }
}

#[test]
fn terraform_configuration_in_json_is_changed_as_json() {
    let (home, _idp) = logged_in("");
    let file = home.path().join(".terraformrc");
    let set_up = |mode: &str| home.run(&["helper", "terraform", mode, "--host", "registry.example"]);
    let before = "{\n  \"disable_checkpoint\": true\n}\n";
    fs::write(&file, before).expect("written");
    let shown = set_up("--setup").exits(0).stdout;
    assert!(shown.contains(".terraformrc: \"credentials_helper\": {\"authctl\": {}}\n"), "{shown}");
    set_up("--write").exits(0);
    let written: Value = serde_json::from_str(&fs::read_to_string(&file).expect("text")).expect("JSON");
    assert_eq!(written, json!({"disable_checkpoint": true, "credentials_helper": {"authctl": {}}}));
    assert_eq!(set_up("--write").exits(0).stderr, "already set up\n");
    set_up("--remove").exits(0);
    assert_eq!(fs::read_to_string(&file).expect("text"), before);
    for (text, mode, reason) in [
        ("{\"credentials_helper\": {\"other\": {}}}", "--write", "another credentials_helper"),
        ("{\"credentials_helper\": {\"authctl\": {\"args\": [\"-v\"]}}}", "--remove", "more in its block"),
        ("{\"credentials_helper\"", "--write", "cannot change"),
    ] {
        fs::write(&file, text).expect("written");
        set_up(mode).exits(2).reports(reason);
        assert_eq!(fs::read_to_string(&file).expect("text"), text);
    }
}

#[test]
fn link_that_leads_to_itself_is_reported_and_stays() {
    let (home, _idp) = logged_in("");
    for (path, tool) in [
        (".docker/config.json", "docker"),
        (".cargo/config.toml", "cargo"),
        (".terraformrc", "terraform"),
        (".aws/config", "aws"),
    ] {
        let file = home.path().join(path);
        fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        symlink(&file, &file).expect("linked");
        let words: &[&str] = match tool {
            "aws" => &["--role-arn", "arn:aws:iam::123456789012:role/ci"],
            _ => &["--host", "git.example"],
        };
        for mode in ["--write", "--remove"] {
            let ran = home.run(&[&["helper", tool, mode][..], words].concat()).exits(2);
            ran.reports(&format!("cannot change {}: its symbolic link leads back to itself", file.display()));
        }
        assert_eq!(fs::read_link(&file).expect("a link"), file);
    }
    assert_eq!(hosts(&home), json!([]));
}

#[test]
fn renamed_or_removed_profile_is_reported_where_it_is_still_named() {
    const ROLE: &str = "arn:aws:iam::123456789012:role/ci";
    let (mut home, _idp) = logged_in("");
    home.run(&["helper", "aws", "--write", "--role-arn", ROLE, "--role-duration", "2h"]).exits(0);
    home.run(&["helper", "aws", "--write", "--role-arn", ROLE, "--aws-profile", "my deploy", "--id-token"]).exits(0);
    let service = home.path().join("config/systemd/user/authctl-proxy-work.service");
    home.run(&["proxy", "install", "work", "--for", "https://api.example"]).exits(0);
    assert!(service.exists());
    let directory = home.path().join(".authctl.toml");
    fs::write(&directory, "profile = \"work\"\n").expect("written");
    home.set("AUTHCTL_PROFILE", "work");
    let commands = |text: &str, name: &str| -> Vec<String> {
        let found =
            text.lines().filter_map(|line| line.split_once(&format!(" still names {name}; to change that, run: ")));
        found.map(|(_, command)| command.to_owned()).collect()
    };
    let renamed = home.run(&["profile", "rename", "work", "job"]).exits(0).stderr;
    assert_eq!(
        commands(&renamed, "work"),
        [
            &format!(
                "authctl helper aws --write --profile job --role-arn {ROLE} --role-duration 2h --aws-profile work"
            ),
            &format!("authctl helper aws --write --profile job --role-arn {ROLE} --id-token --aws-profile 'my deploy'"),
            "authctl proxy uninstall work",
            &format!("${{EDITOR:-vi}} {}", directory.display()),
            "export AUTHCTL_PROFILE=job",
        ]
    );
    home.unset("AUTHCTL_PROFILE");
    fs::remove_file(&directory).expect("removed");
    for command in &commands(&renamed, "work")[..3] {
        paste(&home, command, "").exits(0);
    }
    assert!(!service.exists());
    let config = home.path().join(".aws/config");
    let text = fs::read_to_string(&config).expect("text");
    assert_eq!((text.matches(" --profile job ").count(), text.matches("[profile").count()), (2, 2), "{text}");
    home.run(&["logout", "job"]).exits(0);
    let removed = home.run(&["profile", "remove", "job"]).exits(0).stderr;
    for command in commands(&removed, "job") {
        paste(&home, &command, "").exits(0);
    }
    assert_eq!(fs::read_to_string(&config).expect("text"), "");
}

#[test]
fn set_up_of_a_tool_that_was_uninstalled_is_not_reported_as_undone() {
    let (mut home, _idp) = logged_in("");
    let git = |home: &Sandbox, mode: &str| home.run(&["helper", "git", mode, "--host", "git.example"]);
    git(&home, "--write").exits(0);
    let file = home.path().join(".gitconfig");
    let text = fs::read_to_string(&file).expect("text");
    home.set("PATH", home.path().join("none"));
    let ran = git(&home, "--remove").exits(2);
    ran.reports(&format!("{} names authctl, and `git`, which changes it, is not installed", file.display()));
    assert_eq!(fs::read_to_string(&file).expect("text"), text);
    fs::write(&file, "[user]\n\tname = x\n").expect("written");
    git(&home, "--remove").exits(0);
}

#[test]
fn set_up_of_cargo_can_be_undone_from_a_path_with_spaces() {
    let (home, _idp) = logged_in("");
    home.run(&["helper", "cargo", "--write", "--host", "crates.example"]).exits(0);
    let dir = home.path().join("my programs");
    fs::create_dir(&dir).expect("made");
    copy_program(&dir.join("authctl"));
    let run = |mode: &str| {
        let mut command = home.command_for(dir.join("authctl"), &["helper", "cargo", mode, "--host", "crates.example"]);
        command.output().expect("output").status.code()
    };
    assert_eq!((run("--write"), run("--remove")), (Some(2), Some(0)));
    assert_eq!(fs::read_to_string(home.path().join(".cargo/config.toml")).expect("text"), "");
}

#[test]
fn file_that_cannot_be_changed_has_a_hint_that_shows_it() {
    let (home, _idp) = logged_in("");
    let write = |tool: &str| home.run(&["helper", tool, "--write", "--host", "git.example"]).exits(2).stderr;
    let hint = |text: &str| text.lines().find_map(|line| line.strip_prefix("hint:  ")).expect("a hint").to_owned();
    for (path, tool) in
        [(".docker/config.json", "docker"), (".cargo/config.toml", "cargo"), (".terraformrc", "terraform")]
    {
        let file = home.path().join(path);
        fs::create_dir_all(&file).expect("made");
        assert_eq!(hint(&write(tool)), format!("ls -la {}", file.display()));
        fs::remove_dir(&file).expect("removed");
        fs::write(&file, b"\xff\n").expect("written");
        assert_eq!(hint(&write(tool)), format!("${{EDITOR:-vi}} {}", file.display()));
    }
    let file = home.path().join(".gitconfig");
    fs::create_dir(&file).expect("made");
    assert_eq!(hint(&write("git")), format!("ls -la {}", file.display()));
    let bin = home.path().join(".local/bin");
    fs::create_dir_all(bin.parent().expect("a directory")).expect("made");
    fs::write(&bin, "").expect("written");
    let refused = write("keyring");
    assert!(refused.contains(&format!("{} is not a directory", bin.display())), "{refused}");
    assert_eq!(hint(&refused), format!("ls -la {}", bin.display()));
}
