//! Input that no tool sends: an error in the form of the tool, and no token.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::aws::{CREDENTIALS, ROLE};
use super::logged_in;
use crate::support::stub_server::StubServer;
use crate::support::{AUTHCTL, CommandOutput, Sandbox};

const TOO_LONG: usize = 70_000;

/// Starts the helper with words and stdin that need not be text.
fn start(home: &Sandbox, words: &[OsString], stdin: &[u8], variable: Option<(&str, &OsStr)>) -> Child {
    let mut command = home.command(&["helper"]);
    command.args(words).envs(variable);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawned");
    let (mut pipe, stdin) = (child.stdin.take().expect("piped"), stdin.to_owned());
    // It may end before it has read all.
    std::thread::spawn(move || pipe.write_all(&stdin));
    child
}

fn ask(home: &Sandbox, words: &[&str], stdin: &[u8]) -> CommandOutput {
    let words: Vec<OsString> = words.iter().map(Into::into).collect();
    home.finish(start(home, &words, stdin, None), &["helper"])
}

#[test]
fn malformed_request_fails_in_the_form_of_the_tool() {
    let (home, _idp) = logged_in("git.example");
    home.token("work");
    let long = "a".repeat(TOO_LONG);
    let long_git = format!("protocol=https\nhost=git.example\npath={long}\n");
    let cases: &[(&[&str], &[u8], i32, &str)] = &[
        (&["git", "get"], b"\xff\xfe\0", 2, "quit=1\n\n"),
        (&["git", "get"], b"protocol=https\nhost=git.example\0\n", 2, "quit=1\n\n"),
        (&["git", "get"], b"protocol=https\nhos", 2, "quit=1\n\n"),
        (&["git", "get"], b"protocol=https\nhost=git.exampl", 0, ""),
        (&["git", "get"], b"protocol=https\nhost=git.example\nhost=evil.example\n", 0, ""),
        (&["git", "get"], b"protocol=https\nprotocol=http\nhost=git.example\n", 2, "quit=1\n\n"),
        (&["git", "get"], b"protocol=https\nhost=git%2eexample\n", 2, "quit=1\n\n"),
        (&["git", "get"], b"protocol=https\nhost=git.example\r\n", 2, "quit=1\n\n"),
        (&["git", "get"], b"protocol=https\r\nhost=git.example\n", 0, ""),
        (&["git", "get"], b"host=evil.example\rhost=git.example\nprotocol=https\n", 2, "quit=1\n\n"),
        (&["git", "get"], "protocol=https\nhost=\u{ff47}it.example\n".as_bytes(), 2, "quit=1\n\n"),
        (&["git", "get"], long_git.as_bytes(), 2, "quit=1\n\n"),
        (&["docker", "get"], b"\xff", 2, "stdin is not text; run: authctl helper --help\n"),
        (&["docker", "get"], long.as_bytes(), 2, "stdin has more than 65536 bytes; run: authctl helper --help\n"),
        (&["docker", "get"], b"git.example\nevil.example", 1, "credentials not found in native keychain\n"),
        (&["docker", "get"], b"git.example\0", 1, "credentials not found in native keychain\n"),
        (&["docker", "get"], b"", 1, "no credentials server URL\n"),
        (&["docker", "store"], b"[]", 1, "no credentials server URL\n"),
        (&["docker", "erase"], b"\xff", 2, "stdin is not text; run: authctl helper --help\n"),
        (&["keyring", "get", "https://git.example\\@evil.example", "a"], b"", 1, ""),
        (&["keyring", "get", "https://git.example", "a", "b"], b"", 2, ""),
        (&["keyring", "--mode"], b"", 2, ""),
        (&["terraform", "get", ""], b"", 0, "{}\n"),
        (&["terraform", "get", "git.example/"], b"", 0, "{}\n"),
        (&["terraform", "get", long.as_str()], b"", 0, "{}\n"),
    ];
    for (words, stdin, code, stdout) in cases {
        let ran = ask(&home, words, stdin);
        let shown = String::from_utf8_lossy(stdin).chars().take(80).collect::<String>();
        assert_eq!((ran.code, ran.stdout.as_str()), (*code, *stdout), "{words:?} {shown}: {}", ran.stderr);
        assert_eq!(ran.stderr.contains("error: "), *code == 2 && words[0] != "docker", "{words:?} {shown}");
    }
    // The order of git's lines is free.
    assert!(ask(&home, &["git", "get"], b"host=git.example\nprotocol=https\n").exits(0).stdout.contains("password=ey"));
    let word = OsStr::from_bytes(b"git.example\xff").to_owned();
    let ran = home.finish(start(&home, &["terraform".into(), "get".into(), word], b"", None), &["helper"]);
    assert_eq!(ran.exits(2).stdout, "");
}

#[test]
fn each_line_of_cargo_gets_one_reply_even_if_it_is_invalid() {
    let (home, _idp) = logged_in("index.example");
    let request =
        |host: &str| json!({"v": 1, "registry": {"index-url": format!("sparse+https://{host}/")}, "kind": "get"});
    let good = request("index.example").to_string();
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in ["{", "", "[]", "{\"v\":1}", "null", "\"\\ud800\"", &format!("{good}{good}"), &good[..good.len() - 1]] {
        lines.push(line.as_bytes().to_owned());
    }
    lines.push(b"\xff\0".to_vec());
    lines.push("[".repeat(10_000).into_bytes());
    lines.push(good.clone().into_bytes());
    let ran = ask(&home, &["cargo"], &lines.join(&b'\n')).exits(0);
    let replies: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(replies.len(), 1 + lines.len(), "{}", ran.stdout);
    let (last, errors) = replies[1..].split_last().expect("replies");
    assert!(errors.iter().all(|reply| reply.contains(r#""kind":"other""#)), "{errors:?}");
    assert!(last.contains("Bearer ey"), "{last}");
    // No part of a line that is too long is a request.
    let long = format!("{}{good}\n{good}\n", " ".repeat(64 * 1024));
    let ran = ask(&home, &["cargo"], long.as_bytes()).exits(2);
    let replies: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(replies.len(), 2, "{replies:?}");
    assert!(replies[1].contains("more than 65536 bytes"), "{replies:?}");
}

#[test]
fn malformed_variable_of_a_kubernetes_client_is_an_error() {
    let (home, _idp) = logged_in("");
    let long = format!("{{\"apiVersion\": \"{}\"}}", "a".repeat(TOO_LONG));
    let cluster = |server: &str| format!(r#"{{"spec": {{"cluster": {{"server": {server}}}}}}}"#);
    let texts = ["{", "[]", "7", "\"\"", "{} {}", r#"{"apiVersion": 1}"#, &long, &cluster("7"), &cluster("\"\"")];
    for text in texts {
        let variable = Some(("KUBERNETES_EXEC_INFO", OsStr::new(text)));
        let ran = home.finish(start(&home, &["kubernetes".into()], b"", variable), &["helper"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{text}");
        assert!(ran.stderr.contains("KUBERNETES_EXEC_INFO") || text.contains("server"), "{}", ran.stderr);
    }
}

/// One change to what a tool sends.
#[derive(Clone, Debug)]
enum Change {
    Truncate(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat,
    Reverse,
    Oversize,
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let bytes = prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\n=:/@\\ \0".to_vec())], 1..6);
    prop_oneof![
        at().prop_map(Change::Truncate),
        (at(), bytes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        Just(Change::Repeat),
        Just(Change::Reverse),
        Just(Change::Oversize),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Change::Insert(at, new) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Repeat => bytes = [&bytes[..], &bytes].concat(),
            Change::Reverse => {
                let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').rev().collect();
                bytes = lines.join(&b'\n');
            }
            Change::Oversize => bytes.resize(bytes.len() + TOO_LONG, b'a'),
        }
    }
    bytes
}

#[test]
fn changed_request_for_another_host_gets_no_token() {
    let (home, _idp) = logged_in("git.example");
    home.token("work");
    let host = "git.example.evil.example";
    let cargo = json!({"v": 1, "registry": {"index-url": format!("sparse+https://{host}/")}, "kind": "get"});
    let requests: Vec<(Vec<&str>, String)> = vec![
        (vec!["git", "get"], format!("capability[]=authtype\nprotocol=https\nhost={host}\npath=a\n")),
        (vec!["git", "erase"], format!("protocol=https\nhost={host}\npassword=a\n")),
        (vec!["docker", "get"], format!("https://{host}/v2/")),
        (vec!["docker", "store"], json!({"ServerURL": host, "Username": "oauth2", "Secret": "a"}).to_string()),
        (vec!["cargo"], format!("{cargo}\n")),
        (vec!["keyring", "--mode", "creds", "get"], format!("https://{host}/simple")),
        (vec!["terraform", "get"], host.to_owned()),
    ];
    let strategy = (prop::sample::select(requests), prop::collection::vec(change(), 1..4));
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&strategy, |((words, request), changes)| {
        let bytes = changed(request.into_bytes(), &changes);
        let mut all: Vec<OsString> = words.iter().map(Into::into).collect();
        let is_word = matches!(words[0], "keyring" | "terraform");
        if is_word {
            // A word has no NUL, and a limit.
            let word: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).take(100_000).collect();
            all.extend(["--".into(), OsStr::from_bytes(&word).to_owned()]);
        }
        let ran = home.finish(start(&home, &all, if is_word { b"" } else { &bytes }, None), &["helper"]);
        // A change can cut the host so that the token's remains.
        let is_for_host =
            bytes.split(|byte| !byte.is_ascii_graphic() || b"=/@\"".contains(byte)).any(|part| part == b"git.example");
        prop_assert!(matches!(ran.code, 0..=2), "{:?} {:?} {:?}", words, changes, ran);
        prop_assert!(is_for_host || !ran.stdout.contains("eyJ"), "{:?} {:?} {:?}", words, changes, ran);
        prop_assert!(!ran.stderr.contains("panicked"), "{:?} {:?} {:?}", words, changes, ran);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn many_tools_with_a_dead_session_fail_at_once() {
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
    let at_once = || {
        let started = Instant::now();
        let children: Vec<Child> = (0..20)
            .map(|number| {
                let script = format!("exec \"$0\" helper {}", tools[number % tools.len()]);
                let mut command = home.command_for("setsid", &["--wait", "sh", "-c", &script, AUTHCTL]);
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("setsid")
            })
            .collect();
        let ran: Vec<CommandOutput> = children.into_iter().map(|child| home.finish(child, &["helper"])).collect();
        (ran, started.elapsed())
    };
    let (ran, usual) = at_once();
    assert!(ran.iter().all(|ran| ran.code == 0 && !ran.stdout.contains("authctl login")), "{ran:?}");
    let check = |what: &str| {
        let (ran, taken) = at_once();
        for (number, ran) in ran.iter().enumerate() {
            let has_reply = number % tools.len() >= 6;
            assert_eq!(ran.code, if has_reply { 0 } else { 3 }, "{what}: {ran:?}");
            let shown = if has_reply { &ran.stdout } else { &(ran.stderr.clone() + &ran.stdout) };
            assert!(shown.contains("authctl login work"), "{what}: {ran:?}");
            assert!(!ran.stdout.contains("eyJ") && !ran.stdout.contains("ASIA"), "{what}: {ran:?}");
        }
        assert!(!home.path().join("opened").exists(), "{what}");
        // A second, and several times what they take with a valid token, since the machine may have become busier.
        assert!(taken < Duration::from_secs(1) + 5 * usual, "{what}: {taken:?}, with a token {usual:?}");
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

#[test]
fn malformed_input_of_tools_that_send_none_brings_no_token() {
    let (home, _idp) = logged_in("git.example");
    home.token("work");
    let long = vec![b'a'; TOO_LONG];
    for stdin in [&b"\xff\xfe\0"[..], &long, b"{", b""] {
        for words in [&["file"][..], &["file", "get"], &["azure"], &["azure", "get"], &["kubernetes", "get"]] {
            let ran = ask(&home, words, stdin).exits(2);
            assert_eq!(ran.stdout, "", "{words:?}");
        }
        let ran = ask(&home, &["google", "get"], stdin).exits(0);
        assert_eq!((&ran.json()["success"], &ran.json()["code"]), (&json!(false), &json!("usage")));
        assert_eq!(ask(&home, &["aws", "get", "--role-arn", ROLE], stdin).exits(2).stdout, "");
    }
    for value in [&b"\xff\xfe"[..], &long, b"{", b"", b"urn:ietf:params:oauth:token-type:"] {
        let variable = Some(("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE", OsStr::from_bytes(value)));
        let ran = home.finish(start(&home, &["google".into()], b"", variable), &["helper"]).exits(0);
        assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""));
        // What is not text is as if it were not set.
        let is_error = value.first().is_some_and(u8::is_ascii);
        assert_eq!(ran.json()["success"], json!(!is_error), "{}", ran.stdout);
        assert_eq!(ran.json().get("id_token").is_some(), !is_error);
    }
}

#[test]
fn each_tool_learns_why_there_is_no_token() {
    let (mut home, idp) = logged_in("git.example");
    let sts = StubServer::start(|_, _| (200, CREDENTIALS.to_owned()));
    home.set("AWS_ENDPOINT_URL_STS", &sts.url);
    let cargo = json!({"v": 1, "registry": {"index-url": "sparse+https://git.example/"}, "kind": "get"}).to_string();
    let git = "protocol=https\nhost=git.example\n\n";
    // With the stream that the tool shows, and whether the exit code is in the reply.
    let tools: [(&[&str], &str, bool); 9] = [
        (&["git", "get"], git, false),
        (&["docker", "get"], "git.example", false),
        (&["kubernetes"], "", false),
        (&["cargo"], &cargo, true),
        (&["keyring", "--", "get", "https://git.example/simple/", "oauth2"], "", false),
        (&["keyring", "--", "--mode", "creds", "--output", "json", "get", "https://git.example/simple/"], "", false),
        (&["terraform", "get", "git.example"], "", false),
        (&["google"], "", true),
        (&["aws", "--role-arn", ROLE], "", false),
    ];
    let check = |home: &Sandbox, code: i32, reason: &str| {
        for (words, stdin, has_reply) in &tools {
            let started = Instant::now();
            let ran = ask(home, words, stdin.as_bytes()).exits(if *has_reply { 0 } else { code });
            let shown = if *has_reply { ran.stdout.clone() } else { ran.stderr.clone() + &ran.stdout };
            assert!(shown.contains(reason), "{words:?}, {reason}: {ran:?}");
            assert!(!ran.stdout.contains("eyJ") && !ran.stdout.contains("ASIA"), "{words:?}");
            assert!(started.elapsed() < Duration::from_secs(20), "{words:?}");
        }
    };
    // A valid token is served while the issuer is away, and an expired one is not.
    let before = fs::read_to_string(home.config_file()).expect("text");
    drop(idp);
    for (words, stdin, _) in &tools {
        let ran = ask(&home, words, stdin.as_bytes()).exits(0);
        assert!(ran.stdout.contains("eyJ") || ran.stdout.contains("ASIA"), "{words:?}: {ran:?}");
    }
    home.expire("work");
    check(&home, 6, "refused");
    // The store cannot be opened.
    let key = home.key_file();
    fs::rename(&key, key.with_extension("away")).expect("renamed");
    check(&home, 7, "key");
    fs::rename(key.with_extension("away"), &key).expect("renamed");
    // Two profiles have the host, and kubectl and the others name none.
    home.configure(&format!("{before}\n{}", before.replace("[profiles.work]", "[profiles.other]")));
    home.unset_default_profile();
    check(&home, 2, "other");
}
