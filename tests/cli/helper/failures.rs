//! What each tool gets where there is no token: the reason in the form of the tool, at once and without a browser.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use authctl::secret::Secret;
use serde_json::json;

use super::aws::{CREDENTIALS, ROLE};
use super::logged_in;
use crate::support::jwt::Signer;
use crate::support::stub_server::StubServer;
use crate::support::{AUTHCTL, CommandOutput, Sandbox};

#[test]
fn each_tool_learns_why_there_is_no_token() {
    let (mut home, mut idp) = logged_in("git.example");
    home.set("BROWSER", "touch opened; true");
    let sts = StubServer::start(|_, _| (200, CREDENTIALS.to_owned()));
    home.set("AWS_ENDPOINT_URL_STS", &sts.url);
    let cargo = json!({"v": 1, "registry": {"index-url": "sparse+https://git.example/"}, "kind": "get"}).to_string();
    let git = "protocol=https\nhost=git.example\n\n";
    let index = "https://git.example/simple/";
    // With stdin, whether the exit code is in the reply, and what it gets if the host is of no profile; `None` without a host.
    type Tool<'a> = (&'a [&'a str], &'a str, bool, Option<(i32, &'a str)>);
    let cargo_refuses = "{\"v\":[1]}\n{\"Err\":{\"kind\":\"url-not-supported\"}}\n";
    let tools: [Tool<'_>; 11] = [
        (&["git", "get"], git, false, Some((0, ""))),
        (&["docker", "get"], "git.example", false, Some((1, "credentials not found in native keychain\n"))),
        (&["kubernetes"], "", false, None),
        (&["cargo"], &cargo, true, Some((0, cargo_refuses))),
        (&["keyring", "--", "get", index, "oauth2"], "", false, Some((1, ""))),
        (&["keyring", "--", "--mode", "creds", "--output", "json", "get", index], "", false, Some((1, ""))),
        (&["terraform", "get", "git.example"], "", false, Some((0, "{}\n"))),
        (&["google"], "", true, None),
        (&["aws", "--role-arn", ROLE], "", false, None),
        (&["file", "--write"], "", false, None),
        (&["azure", "--write"], "", false, None),
    ];
    let ask = |home: &Sandbox, options: &[&str], words: &[&str], stdin: &str| {
        home.run_with(&[&["helper"], options, words].concat(), stdin)
    };
    let check_with = |home: &Sandbox, options: &[&str], code: i32, reason: &str| {
        for (words, stdin, has_reply, _) in &tools {
            let started = Instant::now();
            let ran = ask(home, options, words, stdin).exits(if *has_reply { 0 } else { code });
            let shown = if *has_reply { ran.stdout.clone() } else { ran.stderr.clone() + &ran.stdout };
            assert!(shown.contains(reason), "{words:?}, {reason}: {ran:?}");
            assert!(!ran.stdout.contains("eyJ") && !ran.stdout.contains("ASIA"), "{words:?}");
            assert!(started.elapsed() < Duration::from_secs(20), "{words:?}");
        }
    };
    let check = |home: &Sandbox, code: i32, reason: &str| check_with(home, &[], code, reason);
    // A valid token is served while the issuer is away, and an expired one is not.
    let before = fs::read_to_string(home.config_file()).expect("text");
    idp.pause();
    for (words, stdin, ..) in &tools[..9] {
        let ran = ask(&home, &[], words, stdin).exits(0);
        assert!(ran.stdout.contains("eyJ") || ran.stdout.contains("ASIA"), "{words:?}: {ran:?}");
    }
    home.expire("work");
    check(&home, 6, "refused");
    // The store cannot be opened.
    let key = home.key_file();
    fs::rename(&key, key.with_extension("away")).expect("renamed");
    check(&home, 7, "key");
    fs::rename(key.with_extension("away"), &key).expect("renamed");
    // The store is locked.
    home.register_secret("correct horse 42");
    let passphrase = ["store", "passphrase", "--passphrase-stdin"];
    home.run_with(&passphrase, "correct horse 42\n").exits(0);
    check(&home, 8, "the file store is locked with a passphrase");
    home.run_with(&[&passphrase[..], &["--remove"]].concat(), "correct horse 42\n").exits(0);
    // The agent that would have the session is not running.
    home.configure(&before.replace("store = \"file\"", "store = \"memory\""));
    check(&home, 8, "none is running");
    // Two profiles have the host, and kubectl and the others name none.
    home.configure(&format!("{before}\n{}", before.replace("[profiles.work]", "[profiles.other]")));
    home.unset_default_profile();
    check(&home, 2, "other");
    // There is no profile, or none has the host.
    for text in ["", &before.replace("git.example", "b.example")] {
        home.configure(text);
        for (words, stdin, has_reply, without_host) in &tools {
            let ran = ask(&home, &[], words, stdin);
            match without_host {
                Some(expected) => assert_eq!((ran.code, ran.stdout.as_str()), *expected, "{words:?}: {ran:?}"),
                None if text.is_empty() => {
                    assert_eq!(ran.code, if *has_reply { 0 } else { 3 }, "{words:?}: {ran:?}");
                    assert!((ran.stdout + &ran.stderr).contains("no profile configured"), "{words:?}");
                }
                None => {}
            }
        }
    }
    home.configure(&before);
    // An ID token that has expired is refreshed, and the session has ended then.
    idp.resume().expect("the same port");
    home.run(&["refresh", "work"]).exits(0);
    let expired = Signer::new().token(json!({"exp": 1}));
    let expire_both = || {
        home.expire("work");
        home.change_session("work", |session| session.tokens.id_token = Some(Secret::new(expired.clone())));
    };
    for (words, stdin, ..) in &tools[..9] {
        expire_both();
        let ran = ask(&home, &["--id-token"], words, stdin).exits(0);
        assert!(
            ran.stdout.contains("eyJ") && !ran.stdout.contains(&expired) || words[0] == "aws",
            "{words:?}: {ran:?}"
        );
    }
    let sent = sts.requests().pop().expect("a request").body;
    assert!(sent.contains("WebIdentityToken=eyJ") && !sent.contains(&expired), "{sent}");
    idp.revoke_everything();
    expire_both();
    check_with(&home, &["--id-token"], 3, "authctl login work");
    check(&home, 3, "authctl login work");
    assert!(!home.path().join("opened").exists());
}

#[test]
fn closed_stdin_is_an_empty_request() {
    let (mut home, _idp) = logged_in("git.example");
    let sts = StubServer::start(|_, _| (200, CREDENTIALS.to_owned()));
    home.set("AWS_ENDPOINT_URL_STS", &sts.url);
    home.token("work");
    let role = format!("aws --role-arn {ROLE}");
    for (words, code, reply) in [
        ("git get", 0, ""),
        ("git erase", 0, ""),
        ("docker get", 1, "no credentials server URL\n"),
        ("docker store", 2, "invalid request"),
        ("docker erase", 1, "no credentials server URL\n"),
        ("cargo", 0, "{\"v\":[1]}\n"),
        ("kubernetes", 0, "\"token\":\"eyJ"),
        ("keyring get https://git.example a", 0, "eyJ"),
        ("terraform get git.example", 0, "\"token\":\"eyJ"),
        ("google", 0, "\"success\":true"),
        (&role, 0, "ASIA"),
        ("file --write", 0, ""),
        ("azure --write", 0, ""),
    ] {
        let script = format!("exec \"$0\" helper {words} <&-");
        let mut command = home.command_for("sh", &["-c", &script, AUTHCTL]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh");
        let ran = home.finish(child, &["helper"]).exits(code);
        assert!(ran.stdout.contains(reply) && ran.stdout.is_empty() == reply.is_empty(), "{words}: {ran:?}");
    }
}

#[test]
fn many_tools_with_a_dead_session_fail_without_a_browser() {
    let (mut home, idp) = logged_in("git.example");
    home.set("BROWSER", "touch opened; true");
    let sts = StubServer::start(|_, _| (200, CREDENTIALS.to_owned()));
    home.set("AWS_ENDPOINT_URL_STS", &sts.url);
    home.run(&["profile", "set", "work", "grant=browser"]).exits(0);
    // As without a desktop.
    let notifier = home.path().join("notify-send");
    fs::write(&notifier, "#!/bin/sh\nexit 1\n").expect("written");
    fs::set_permissions(&notifier, fs::Permissions::from_mode(0o700)).expect("a mode");
    home.set("PATH", format!("{}:/usr/bin:/bin", home.path().display()));
    let cargo = json!({"v": 1, "registry": {"index-url": "sparse+https://git.example/"}, "kind": "get"});
    // With stdin closed, or a request in it. The last two report errors in their replies.
    let tools = [
        "terraform get git.example <&-".to_owned(),
        "keyring get https://git.example a <&-".to_owned(),
        "kubernetes <&-".to_owned(),
        "file --write <&-".to_owned(),
        "azure --write <&-".to_owned(),
        format!("aws --role-arn {ROLE} <&-"),
        "docker get < docker".to_owned(),
        "git get < git".to_owned(),
        "google <&-".to_owned(),
        "cargo < cargo".to_owned(),
    ];
    for (file, request) in
        [("docker", "git.example"), ("git", "protocol=https\nhost=git.example\n"), ("cargo", &cargo.to_string())]
    {
        fs::write(home.path().join(file), request).expect("written");
    }
    // Without a terminal.
    let at_once = || -> Vec<CommandOutput> {
        let children: Vec<Child> = (0..20)
            .map(|number| {
                let script = format!("exec \"$0\" helper {}", tools[number % tools.len()]);
                let mut command = home.command_for("setsid", &["--wait", "sh", "-c", &script, AUTHCTL]);
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("setsid")
            })
            .collect();
        children.into_iter().map(|child| home.finish(child, &["helper"])).collect()
    };
    let ran = at_once();
    assert!(ran.iter().all(|ran| ran.code == 0 && !ran.stdout.contains("authctl login")), "{ran:?}");
    let check = |what: &str| {
        let ran = at_once();
        for (number, ran) in ran.iter().enumerate() {
            let has_reply = number % tools.len() >= 8;
            assert_eq!(ran.code, if has_reply { 0 } else { 3 }, "{what}: {ran:?}");
            let shown = if has_reply { &ran.stdout } else { &(ran.stderr.clone() + &ran.stdout) };
            assert!(shown.contains("authctl login work"), "{what}: {ran:?}");
            assert!(!ran.stdout.contains("eyJ") && !ran.stdout.contains("ASIA"), "{what}: {ran:?}");
        }
        assert!(!home.path().join("opened").exists(), "{what}");
    };
    home.expire("work");
    idp.revoke_everything();
    check("without an agent");
    for options in [&[][..], &["--login=ask"]] {
        home.run(&[&["agent", "start"][..], options].concat()).exits(0);
        check(&format!("with an agent {options:?}"));
        home.run(&["agent", "stop"]).exits(0);
    }
    assert_eq!(idp.stats().token_requests["refresh_token"], 1, "the session has ended for all");
}
