//! `authctl exec --proxy`: what the command gets in place of a token, its exit code and its signals.

use super::{api, logged_in};
use crate::support::process::assert_signals_arrive;

#[test]
fn command_gets_an_address_and_a_key_instead_of_a_token() {
    let (mut home, _idp) = logged_in();
    home.set("AUTHCTL_SOCK", "/nowhere/agent.sock");
    let token = home.token("work");
    let api = api();
    let target = format!("{}/v1", api.url);
    let program = "import os, sys, urllib.request as r\n\
        q = r.Request(sys.argv[1] + '/by-command', headers={'X-Authctl-Key': os.environ['API_KEY']})\n\
        print(r.urlopen(q).read().decode()); print(dict(os.environ)); sys.exit(7)";
    let ran = home.run(&[
        "exec",
        "--proxy",
        "work",
        "--for",
        &target,
        "--env",
        "API_KEY={key}",
        "--env",
        "API_BASE={url}",
        "--",
        "python3",
        "-c",
        program,
        "{url}",
    ]);
    let ran = ran.exits(7);
    assert!(ran.stdout.contains("/v1/by-command"), "{}", ran.stdout);
    assert!(!ran.stdout.contains(&token) && !ran.stdout.contains("AUTHCTL_SOCK"), "{}", ran.stdout);
    assert!(ran.stdout.contains("'API_BASE': 'http://127.0.0.1:"), "{}", ran.stdout);
    home.run(&["proxy", "list"]).exits(0).reports("no proxy is running");
    home.run(&["exec", "--proxy", "work", "--", "true"]).exits(2).reports("--for");
    home.run(&["exec", "--proxy", "work", "--for", &target, "--env", "X", "--", "true"]).exits(2).reports("{key}");
}

#[test]
fn socket_of_a_command_needs_the_sandbox() {
    let (home, _idp) = logged_in();
    let exec = ["exec", "--proxy", "work", "--for", "https://api.example"];
    for words in [
        &["--", "curl", "--unix-socket", "{socket}", "{url}"][..],
        &["--", "sh", "-c", "curl --unix-socket={socket} {url}"],
        &["--env", "SOCKET={socket}", "--", "true"],
        &["--env", "ADDRESS=unix:{socket}", "--", "true"],
    ] {
        home.run(&[&exec[..], words].concat()).exits(2).reports("`{socket}` needs --sandbox");
    }
}

#[test]
fn command_has_its_own_exit_code_and_gets_signals() {
    let (home, _idp) = logged_in();
    let api = api();
    let exec = ["exec", "--proxy", "work", "--for", &api.url, "--"];
    let with = |words: &[&str]| home.run(&[&exec[..], words].concat());
    for code in [0, 1, 77, 255] {
        with(&["sh", "-c", &format!("exit {code}")]).exits(code);
    }
    with(&["sh", "-c", "kill -TERM $$"]).exits(143);
    with(&["sh", "-c", "kill -KILL $$"]).exits(137);
    with(&["no-such-command-here"]).exits(127);
    with(&["/etc"]).exits(126);
    assert_signals_arrive(&home, &exec);
}
