//! `authctl agent log`: who got which token, who was denied one, as it is and as it grows.

use authctl::dev_issuer::{Endpoint, FaultKind};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{fault, logged_in};
use crate::support::agent::{Agent, Connection};
use crate::support::json_documents::assert_valid;
use crate::support::process::wait_until;

/// Returns the action, profile and error of each entry.
fn entries(log: &Value) -> Vec<Value> {
    let entries = log["entries"].as_array().expect("entries");
    entries.iter().map(|entry| json!([entry["action"], entry["profile"], entry["error"]])).collect()
}

#[test]
fn denied_requests_are_logged_with_their_error() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.get("/v1/token").token();
    agent.get("/v1/token/other").expect_problem(404, "unknown_profile");
    fault(&issuer, Endpoint::Token, FaultKind::OAuthError { status: 401, code: "invalid_client".into() }, 1);
    agent.post("/v1/refresh/work", "");
    agent.request("GET", "/v1/token", &["Authctl-Home: /another"], "").expect_problem(421, "another_home");
    agent.post("/v1/lock", r#"{"passphrase":"p"}"#).expect_status(200);
    for target in ["/v1/token", "/v1/id-token/work"] {
        agent.get(target).expect_problem(423, "agent_locked");
    }
    let log = home.run(&["agent", "log", "--json"]).exits(0).json();
    assert_eq!(
        entries(&log),
        [
            json!(["token", "work", null]),
            json!(["token", null, "unknown_profile"]),
            json!(["refresh", "work", "issuer_refused"]),
            json!(["refused", null, "another_home"]),
            json!(["lock", null, null]),
            json!(["token", "work", "agent_locked"]),
            json!(["id_token", "work", "agent_locked"]),
        ]
    );
    let text = home.run(&["agent", "log"]).exits(0).stdout;
    assert!(text.contains("  denied token work (agent_locked)  "), "{text}");
    assert!(text.contains("  failed refresh work (issuer_refused)  "), "{text}");
}

#[test]
fn log_is_restricted_to_a_profile_and_shows_local_time_or_utc() {
    let (mut home, issuer) = logged_in(|_| {});
    home.log_in("other", &issuer);
    home.set("TZ", "Asia/Tehran");
    let agent = Agent::run(&home);
    for target in ["/v1/token/work", "/v1/token/other"] {
        agent.get(target).token();
    }
    let local = home.run(&["agent", "log", "--profile", "other"]).exits(0).stdout;
    assert!(local.lines().count() == 1 && local.contains("+03:30  token other  "), "{local}");
    let utc = home.run(&["agent", "log", "--utc", "--profile", "work"]).exits(0).stdout;
    assert!(utc.contains("Z  token work  "), "{utc}");
    let json = home.run(&["agent", "log", "--json", "--profile", "work"]).exits(0).json();
    assert_eq!(entries(&json), [json!(["token", "work", null])]);
    for more in [&[][..], &["--json"], &["--follow"]] {
        let ran = home.run(&[&["agent", "log", "--profile", "nosuch"][..], more].concat()).exits(2);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.contains("unknown profile `nosuch`"), "{}", ran.stderr);
    }
    // What a profile did stays when it is removed.
    home.run(&["logout", "other"]).exits(0);
    home.run(&["profile", "remove", "other"]).exits(0);
    assert!(home.run(&["agent", "log", "--profile", "other"]).exits(0).stdout.contains("token other"));
}

#[test]
fn followed_log_shows_each_action_once_and_ends_with_its_reader() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    agent.get("/v1/token/work").token();
    let mut command = home.command(&["agent", "log", "--follow", "--json", "--profile", "work"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = crate::support::process::Lines::of(child.stdout.take().unwrap());
    let mut next = || {
        let line = lines.next().expect("a line");
        assert_valid(&["agent", "log", "--follow", "--json"], &format!("{line}\n"), "");
        serde_json::from_str::<Value>(&line).unwrap()
    };
    assert_eq!(next()["count"], 1);
    agent.get("/v1/token/none");
    agent.get("/v1/token/work").token();
    let second = next();
    assert_eq!((&second["action"], &second["count"], &second["error"]), (&json!("token"), &json!(1), &Value::Null));
    agent.get("/v1/id-token/work").expect_status(200);
    assert_eq!(next()["action"], "id_token");
    home.run(&["agent", "stop"]).exits(0);
    assert_eq!(home.finish(child, &["agent", "log"]).code, 8, "the agent has stopped");
    drop(agent);
    let agent = Agent::run(&home);
    agent.get("/v1/token/work").token();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = home.command(&["agent", "log", "--follow"]).stdout(writer).spawn().unwrap();
    assert_eq!(home.finish(child, &["agent", "log"]).code, 0, "a closed pipe ends it");
}

#[test]
fn unread_log_does_not_stop_the_agent() {
    let (home, _issuer) = logged_in(|_| {});
    let args = ["agent", "run", "-v"];
    let (running, _stderr) = home.spawn_unread(home.command(&args), &args);
    wait_until("the agent", || Connection::to(&home.socket()));
    let token = || home.run(&["token", "work"]).exits(0).line().to_owned();
    let before = token();
    // Each is a warning in the log, and together they are more than a pipe holds.
    let unknown: String = (0..2000).map(|number| format!("unknown_setting_{number} = 1\n")).collect();
    let config = std::fs::read_to_string(home.config_file()).unwrap();
    for name in ["second", "third"] {
        let another = config.replace("profiles.work", &format!("profiles.{name}"));
        let another = &another[another.find("[profiles.").expect("a profile")..];
        std::fs::write(home.config_file(), format!("{unknown}{config}{another}\n")).unwrap();
        assert_eq!(token(), before);
        // The agent has read the configuration, and reported each setting.
        wait_until("the new profile", || {
            let mut connection = Connection::to(&home.socket())?;
            connection.request("GET", &format!("/v1/token/{name}"), &[], "");
            (connection.response()?.status != 404).then_some(())
        });
    }
    running.signal(Signal::TERM);
    running.wait().exits(0);
}
