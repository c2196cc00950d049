//! Input that no tool sends: an error in the form of the tool, and no token.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Stdio};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::aws::ROLE;
use super::logged_in;
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
fn request_that_is_cut_anywhere_gets_a_reply_in_the_form_of_the_tool() {
    let (home, _idp) = logged_in("git.example");
    home.token("work");
    let cargo = json!({"v": 1, "registry": {"index-url": "sparse+https://git.example/"}, "kind": "get"}).to_string();
    let stored = json!({"ServerURL": "git.example", "Username": "oauth2", "Secret": "a"}).to_string();
    let git = "capability[]=authtype\nprotocol=https\nhost=git.example\n\n";
    for (words, request) in [
        (&["git", "get"][..], git),
        (&["git", "erase"], &format!("{git}password=a\n")),
        (&["docker", "get"], "https://git.example/v2/"),
        (&["docker", "store"], &stored),
        (&["cargo"], &cargo),
    ] {
        let all: Vec<OsString> = words.iter().map(Into::into).collect();
        let lengths: Vec<usize> = (0..=request.len()).collect();
        for some in lengths.chunks(8) {
            // At the same time, since most of it is waiting.
            let started = some.iter().map(|length| (*length, start(&home, &all, &request.as_bytes()[..*length], None)));
            for (length, child) in started.collect::<Vec<_>>() {
                let (ran, cut) = (home.finish(child, &["helper"]), &request[..length]);
                let has_host = cut.contains("git.example");
                assert!(!ran.stdout.contains("eyJ") || has_host, "{words:?} {cut:?}: {ran:?}");
                let is_in_form = match (words[0], ran.code) {
                    ("git", 0) => ran.stdout.is_empty() || ran.stdout.contains("credential=eyJ"),
                    ("git", 2) => ran.stdout == "quit=1\n\n" && ran.stderr.starts_with("error: "),
                    ("docker", 0) => ran.stdout.is_empty() || ran.stdout.contains("\"Secret\":\"eyJ"),
                    ("docker", 1 | 2) => ran.stdout.lines().count() == 1 && ran.stderr.is_empty(),
                    ("cargo", 0) => ran.stdout.lines().count() == 1 + usize::from(length > 0),
                    _ => false,
                };
                assert!(is_in_form, "{words:?} {cut:?}: {ran:?}");
            }
        }
    }
}

#[test]
fn endless_input_is_an_error_and_takes_no_memory() {
    let (home, _idp) = logged_in("git.example");
    for (words, reply) in [
        ("git get", "quit=1\n\n"),
        ("git erase", "quit=1\n\n"),
        ("docker get", "stdin has more than 65536 bytes; run: authctl helper --help\n"),
        ("docker store", "stdin has more than 65536 bytes; run: authctl helper --help\n"),
        ("cargo", "more than 65536 bytes"),
    ] {
        // Without line ends.
        let script = format!("ulimit -v 600000; tr '\\0' a < /dev/zero | \"$0\" helper {words}");
        let ran = home.run_command(&mut home.command_for("sh", &["-c", &script, AUTHCTL])).exits(2);
        assert!(ran.stdout.contains(reply), "{words}: {ran:?}");
    }
}
