//! The command line with an agent: same output, no access to store or network, and never another home's agent.

use std::fs;

use authctl::dev_issuer::{Endpoint, FaultKind};
use rustix::process::Signal;
use serde_json::json;

use crate::support::agent::Agent;
use crate::support::jwt::claims;
use crate::support::process::wait_until;
use crate::support::{AUTHCTL, CommandOutput, quick_issuer};

use super::{LIFETIME, fault, logged_in, set_half_expired_id_token};

/// Replaces each duration, such as `4 min 12 s`, with `TIME`.
fn without_durations(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in line.split(' ') {
        let unit = word.trim_end_matches([',', ';', '.', ':', ')']);
        let number = words.last().is_some_and(|last| last.parse::<u64>().is_ok());
        if number && ["s", "min", "h", "d"].contains(&unit) {
            words.pop();
            if words.last() == Some(&"TIME") {
                words.pop();
            }
            words.extend(["TIME"].iter().chain(Some(&&word[unit.len()..]).filter(|rest| !rest.is_empty())));
        } else {
            words.push(word);
        }
    }
    words.join(" ")
}

/// Returns the exit code, stdout and stderr without durations, times and the agent's own status.
fn stable_output(ran: &CommandOutput) -> (i32, String, String) {
    let lines = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("agent "));
        // Without an agent, nothing refreshes until a token is requested.
        let lines = lines.map(|line| line.split("; next attempt ").next().unwrap_or_default());
        lines.map(without_durations).collect::<Vec<_>>().join("\n")
    };
    let Ok(mut json) = serde_json::from_str::<serde_json::Value>(&ran.stdout) else {
        return (ran.code, lines(&ran.stdout), lines(&ran.stderr));
    };
    let rows = json.get_mut("profiles").and_then(|rows| rows.as_array_mut()).map(std::mem::take).unwrap_or_default();
    let all = std::iter::once(json).chain(rows).map(|mut part| {
        for name in ["expires_in", "agent", "keys_age"] {
            part.as_object_mut().map(|members| members.remove(name));
        }
        for name in ["/last_failure/at", "/last_failure/failures", "/last_failure/retry_at"] {
            // Without an agent, nothing is retried until a token is requested.
            part.pointer_mut(name).map(serde_json::Value::take);
        }
        part.to_string()
    });
    (ran.code, all.collect::<Vec<_>>().join("\n"), lines(&ran.stderr))
}

#[test]
fn token_that_cannot_be_refreshed_is_served_with_a_warning() {
    let (home, _issuer) = logged_in(|_| {});
    home.change_session("work", |session| session.tokens.refresh_token = None);
    home.advance_time("work", 100);
    let agent = Agent::run(&home);
    let member = |target: &str| agent.get(target).expect_status(200).get("warning").cloned();
    let reason = "the issuer returned no refresh token";
    for (args, warns) in [
        (&["token", "work"][..], false),
        (&["token", "work", "--min-ttl", "250s"], true),
        (&["token", "work", "--min-ttl", "250s", "--json"], true),
        (&["token", "work", "--min-ttl", "250s", "--id-token"], false),
        (&["token", "work"], false),
    ] {
        let (with, without) = (home.run(args).exits(0), home.run_without_agent(args).exits(0));
        assert_eq!(stable_output(&with), stable_output(&without), "{args:?}");
        let line = format!("warning: {reason}; the token is valid until it expires, then run `authctl login work`\n");
        assert_eq!(with.stderr, if warns { line } else { String::new() }, "{args:?}");
        if args.contains(&"--json") {
            assert_eq!(with.json()["warning"], reason);
        }
    }
    // In the same second, the usual request must not get the response of one with a warning.
    assert_eq!(member("/v1/token/work"), None);
    assert_eq!(member("/v1/token/work?min_ttl=250"), Some(json!(reason)));
    assert_eq!(member("/v1/token/work"), None);
    home.advance_agent_time(&agent, "work", LIFETIME - 120);
    assert_eq!(member("/v1/token/work"), Some(json!(reason)));
    let ran = home.run(&["exec", "work", "--", "true"]).exits(0);
    assert_eq!(ran.stderr.matches(reason).count(), 1, "{}", ran.stderr);
}

#[test]
fn agent_and_clients_in_different_containers_reach_each_other() {
    // Processes of the one have no PID in the other, or 0.
    const CONTAINER: [&str; 4] = ["--user", "--map-root-user", "--pid", "--fork"];
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let args = [&CONTAINER[..], &[AUTHCTL, "token", "work"]].concat();
    let traced = [&["-f", "-e", "trace=socket,connect", "-o", "calls", "unshare"], &args[..]].concat();
    let inside = home.command_for("strace", &traced).output().unwrap();
    let token = home.run(&["token", "work"]).exits(0).stdout;
    assert_eq!((inside.status.code(), inside.stdout), (Some(0), token.clone().into_bytes()));
    let calls = fs::read_to_string(home.path().join("calls")).unwrap();
    let connected: Vec<&str> =
        calls.lines().filter(|call| call.contains("connect(") && !call.contains("nscd")).collect();
    assert!(matches!(connected[..], [one] if one.contains("agent.sock")), "the agent alone is asked: {calls}");
    drop(agent);
    let killed = [&CONTAINER[..], &["--kill-child"]].concat();
    let agent = Agent::run_under(&home, "unshare", &killed);
    assert_eq!(home.run(&["token", "work"]).exits(0).stdout, token);
    home.run(&["agent", "status"]).exits(0);
    home.run_with(&["agent", "lock", "--passphrase-stdin"], "right").exits(0);
    home.run(&["token", "work"]).exits(8);
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], "wrong").exits(8);
    home.run_with(&["agent", "unlock", "--passphrase-stdin"], "right").exits(0);
    home.run(&["agent", "stop"]).exits(0);
    agent.wait().unwrap().exits(0);
}

#[test]
fn output_is_the_same_with_and_without_agent() {
    let (home, _issuer) = logged_in(|_| {});
    home.log_in("other", &quick_issuer());
    home.run(&["token", "work", "--scope", "profile"]).exits(0);
    let commands = [
        &["token"][..],
        &["token", "other"],
        &["token", "work", "--json"],
        &["token", "work", "--header"],
        &["token", "work", "--id-token"],
        &["token", "work", "--id-token", "--json"],
        &["token", "work", "--scope", "profile"],
        &["token", "work", "--scope", "profile", "--json"],
        &["token", "work", "--min-ttl", "10s"],
        &["token", "work", "--scope", "more-than-granted"],
        &["token", "unknown"],
        &["token", "unknown", "--json"],
        &["token", "other", "--quiet"],
        &["refresh", "work", "--if-expiring", "10s"],
        &["refresh", "work", "--if-expiring", "10s", "--json"],
        &["refresh", "unknown"],
        &["verify", "work"],
        &["verify", "work", "--json"],
        &["verify", "work", "--audience", "x"],
        &["status"],
        &["status", "--json"],
        &["status", "work"],
        &["status", "--check"],
        &["exec", "work", "--", "printenv", "AUTHCTL_TOKEN", "AUTHCTL_SOCK"],
        &["exec", "work", "--", "sh", "-c", "exit 7"],
        &["exec", "unknown", "--", "true"],
    ];
    let without_agent: Vec<_> = commands.iter().map(|args| stable_output(&home.run(args))).collect();
    let agent = Agent::run(&home);
    for (args, expected) in commands.iter().zip(&without_agent) {
        assert_eq!(&stable_output(&home.run(args)), expected, "{args:?}");
    }
    home.session("work");
    home.session("other");
    agent.stop().expect("a child").exits(0);
}

#[test]
fn refresh_if_expiring_waits_for_a_slow_issuer_with_and_without_agent() {
    let (home, issuer) = logged_in(|_| {});
    let refresh_slowly = || {
        // Longer than the holder of a valid token waits for `token`.
        fault(&issuer, Endpoint::Token, FaultKind::Slow { ms: 2500 }, 1);
        let answer = home.run(&["refresh", "work", "--if-expiring", "145s", "--json"]).exits(0).json();
        assert_eq!(answer["refreshed"], true);
        home.session("work");
        // Due for this request, and not for a refresh in the background.
        home.advance_time("work", 160);
    };
    home.advance_time("work", 160);
    refresh_slowly();
    let agent = Agent::run(&home);
    refresh_slowly();
    assert_eq!(issuer.stats().refreshes_committed, 2);
    agent.stop().expect("a child").exits(0);
}

#[test]
fn ended_session_output_is_the_same_with_and_without_agent() {
    let (home, issuer) = logged_in(|_| {});
    issuer.revoke_everything();
    home.advance_time("work", LIFETIME + 1);
    home.run(&["token"]).exits(3);
    let commands = [&["token"][..], &["token", "--json"], &["refresh", "work"], &["exec", "--", "true"]];
    let without_agent: Vec<_> = commands.iter().map(|args| stable_output(&home.run(args))).collect();
    let agent = Agent::run(&home);
    for (args, expected) in commands.iter().zip(&without_agent) {
        assert_eq!(&stable_output(&home.run(args)), expected, "{args:?}");
    }
    drop(agent);
}

#[test]
fn token_through_the_agent_reads_no_store_or_configuration() {
    let (home, _issuer) = logged_in(|_| {});
    let token = home.token("work");
    let traced = |args: &[&str]| {
        let (ran, calls) = home.trace("open,openat,openat2,socket,connect,clone,clone3,execve", args, "");
        (ran, calls.join("\n"))
    };
    let without_agent = traced(&["token"]);
    assert!(
        without_agent.1.contains("config.toml") && without_agent.1.contains("work.age"),
        "without an agent: {}",
        without_agent.1
    );
    let agent = Agent::start(&home);
    let (ran, calls) = traced(&["token"]);
    assert_eq!(ran.exits(0).stdout, format!("{token}\n"));
    assert!(calls.contains("agent.sock"), "{calls}");
    let opened = |text: &str| calls.lines().any(|call| call.contains("open") && call.contains(text));
    for file in ["config.toml", "/sessions", ".age", "authctl.key", "/locks", "cert", "resolv.conf"] {
        assert!(!opened(file), "{file}: {calls}");
    }
    for call in ["AF_INET", " clone(", " clone3("] {
        assert!(!calls.contains(call), "neither network nor threads, but {call}: {calls}");
    }
    assert_eq!(calls.matches("socket(").count(), 1, "{calls}");
    drop(agent);
}

#[test]
fn options_of_token_reach_the_agent() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let id_token = set_half_expired_id_token(&home, &agent);
    assert_eq!(home.run(&["token", "work", "--id-token", "--min-ttl", "200s"]).exits(0).line(), id_token);
    assert_ne!(home.run(&["token", "work", "--id-token", "--min-ttl", "400s"]).exits(0).line(), id_token);
    let first = home.token("work");
    home.advance_agent_time(&agent, "work", LIFETIME / 2);
    assert_eq!(home.run(&["token", "work", "--min-ttl", "100s"]).exits(0).line(), first);
    assert_ne!(home.run(&["token", "work", "--min-ttl", "200s"]).exits(0).line(), first);
    for (option, value, claim) in [
        ("--audience", "https://api.example", "aud"),
        ("--resource", "https://files.example/", "aud"),
        ("--scope", "profile", "scope"),
    ] {
        let other = home.run(&["token", "work", option, value]).exits(0).line().to_owned();
        assert_eq!(claims(&other)[claim], value, "{option}");
    }
    let log = agent.get("/v1/log").expect_status(200);
    assert!(log["entries"].as_array().unwrap().len() >= 8, "the agent issued all of them: {log}");
}

#[test]
fn agent_of_another_home_is_not_used() {
    let (home, _issuer) = logged_in(|_| {});
    let (mut other, _another) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let (mine, theirs) = (agent.get("/v1/token").token(), other.token("work"));
    assert_ne!(mine, theirs);
    other.set("AUTHCTL_SOCK", home.socket());
    assert_eq!(other.run(&["token", "work"]).exits(0).line(), theirs);
    let ran = other.run(&["exec", "work", "--", "printenv", "AUTHCTL_TOKEN"]).exits(0);
    assert_eq!(ran.line(), theirs);
    other.run(&["refresh", "work"]).exits(0);
    assert_eq!(agent.get("/v1/token").token(), mine, "the agent's session is not refreshed");
    // It is not reported as missing: another agent could not listen at this socket.
    for verb in ["start", "status", "install", "stop"] {
        let refused = other.run(&["agent", verb, "--json"]).exits(8);
        assert_eq!(refused.error()["code"], "another_home", "{verb}: {}", refused.stderr);
        assert!(refused.error()["hint"].as_str().unwrap().contains("AUTHCTL_SOCK"), "{verb}: {}", refused.stderr);
    }
    let status = other.spawn_program_in_terminal(AUTHCTL, &["status"], 80).wait().exits(0).stderr;
    assert!(status.contains("agent not used: "), "{status}");
    let hint = "`export AUTHCTL_SOCK=\"$HOME/.authctl.sock\" && authctl agent start`";
    assert!(status.lines().any(|line| line.contains(hint)), "the command is on one line: {status}");
    assert_eq!(other.run(&["status", "--json"]).exits(0).json()["agent"]["running"], false);
    // Only a request that names another home is refused.
    agent.request("GET", "/v1/token", &["Authctl-Home: /another"], "").expect_problem(421, "another_home");
    // The same home with another configuration file counts as another home.
    let copy = home.path().join("copy.toml");
    fs::copy(home.config_file(), &copy).unwrap();
    let ran = home.run(&["token", "--config", copy.to_str().unwrap(), "-v"]).exits(0);
    assert!(ran.stderr.contains("without the agent"), "{}", ran.stderr);
}

#[test]
fn commands_work_while_the_agent_hangs() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let token = agent.get("/v1/token").token();
    agent.signal(Signal::STOP);
    let stopped = || fs::read_to_string(format!("/proc/{}/stat", agent.pid)).unwrap().contains(") T ");
    wait_until("the stop", || stopped().then_some(()));
    let ran = home.spawn(&["token"]).wait().exits(0).reports("continuing without it");
    assert_eq!(ran.line(), token);
    home.spawn(&["refresh", "work"]).wait().exits(0);
    assert_eq!(issuer.stats().refreshes_committed, 1);
    agent.signal(Signal::CONT);
    // The continued agent handles the notification, or notices the changed file.
    wait_until("the new token", || (agent.get("/v1/token").token() != token).then_some(()));
    agent.stop().expect("a child").exits(0);
    assert_eq!(issuer.stats().refresh_reuses, 0);
}

#[test]
fn status_shows_the_agent() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.get("/v1/token").expect_status(200);
    let report = home.run(&["status", "--json"]).exits(0).json();
    assert_eq!((&report["agent"]["pid"], &report["agent"]["sessions"]), (&json!(agent.pid), &json!(1)));
    let over_socket = agent.get("/v1/status").expect_status(200);
    let profile = |report: &serde_json::Value| {
        let mut row = report["profiles"][0].clone();
        row.as_object_mut().unwrap().remove("expires_in");
        row
    };
    assert_eq!(profile(&over_socket), profile(&report));
    let words = home.run(&["agent", "status"]).exits(0).stdout;
    assert!(
        words.contains(&format!("agent running (pid {})", agent.pid)) && words.contains("1 session cached"),
        "{words}"
    );
}
