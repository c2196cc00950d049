//! Changes by the command line: the agent uses them at the next request if it was notified, and soon otherwise.

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::process::wait_until;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER, quick_issuer};

use super::logged_in;

#[test]
fn agent_sees_changes_made_by_commands() {
    let (home, issuer) = logged_in(|_| {});
    // inotify watches appear to succeed and report nothing, so the agent learns of changes only by notification.
    let no_inotify = "--inject=inotify_add_watch:retval=1";
    let agent = Agent::run_under(&home, "strace", &["-D", "-f", "--seccomp-bpf", "-o", "/dev/null", no_inotify, "--"]);
    let first = agent.get("/v1/token").token();
    home.log_in("work", &issuer);
    let second = agent.get("/v1/token").token();
    assert_ne!(second, first, "after a login");
    home.register_secret(&second);
    home.log_in("other", &quick_issuer());
    home.run(&["profile", "use", "other"]).exits(0);
    assert_eq!(agent.get("/v1/token").expect_status(200)["profile"], "other", "after `profile use`");
    home.run(&["profile", "rename", "work", "home"]).exits(0);
    agent.get("/v1/token/work").expect_problem(404, "unknown_profile");
    assert_eq!(agent.get("/v1/token/home").token(), second, "after a rename");
    home.run(&["profile", "set", "home", "audience=https://api.example"]).exits(0);
    let verdict = agent.post("/v1/verify", &json!({"profile": "home", "token": second}).to_string()).expect_status(200);
    assert_eq!((&verdict["valid"], &verdict["reasons"][0]["code"]), (&json!(false), &json!("wrong_audience")));
    let mut events = agent.events();
    home.run(&["logout", "home"]).exits(0);
    let problem = agent.get("/v1/token/home").expect_problem(401, "login_required");
    assert_eq!(
        (&problem["exit_code"], problem["hint"].as_str().unwrap().contains("authctl login home")),
        (&json!(3), true)
    );
    assert_eq!(events.until("logged_out").0["profile"], "home");
    home.run(&["profile", "remove", "home"]).exits(0);
    agent.get("/v1/token/home").expect_problem(404, "unknown_profile");
    agent.stop().expect("a child").exits(0);
}

#[test]
fn agent_notices_changes_without_notification() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let first = agent.get("/v1/token").token();
    let log_in = |name: &str, issuer: &str| {
        let args = ["login", name, "--issuer", issuer, "--client-id", "authctl", "--password", "--username", USER];
        let mut command = home.command(&[&args[..], &["--password-stdin"]].concat());
        let file = home.path().join("password");
        std::fs::write(&file, PASSWORD).unwrap();
        command.env("AUTHCTL_SOCK", home.path().join("no-agent.sock"));
        command.stdin(std::fs::File::open(&file).unwrap());
        assert!(command.output().unwrap().status.success());
    };
    log_in("work", issuer.issuer());
    let second = wait_until("the login", || Some(agent.get("/v1/token").token()).filter(|token| *token != first));
    unnotified(&home, &["refresh", "work"]);
    let third = wait_until("the refresh", || Some(agent.get("/v1/token").token()).filter(|token| *token != second));
    assert_eq!(home.stored("work")["tokens"]["access_token"], json!(third));
    let another = quick_issuer();
    log_in("other", another.issuer());
    unnotified(&home, &["profile", "use", "other"]);
    wait_until("the default", || (agent.get("/v1/token").expect_status(200)["profile"] == "other").then_some(()));
    unnotified(&home, &["profile", "rename", "work", "home"]);
    wait_until("the new name", || (agent.get("/v1/token/work").status == 404).then_some(()));
    wait_until("the session under it", || (agent.get("/v1/token/home").status == 200).then_some(()));
    unnotified(&home, &["profile", "set", "home", "audience=https://api.example"]);
    let body = json!({"profile": "home", "token": third}).to_string();
    wait_until("the setting", || {
        (agent.post("/v1/verify", &body).expect_status(200)["valid"] == json!(false)).then_some(())
    });
    let mut events = agent.events();
    unnotified(&home, &["logout", "home"]);
    assert_eq!(events.until("logged_out").0["profile"], "home");
    agent.get("/v1/token/home").expect_problem(401, "login_required");
}

/// Runs authctl without access to the agent, which is then not notified.
#[track_caller]
fn unnotified(home: &Sandbox, args: &[&str]) -> CommandOutput {
    home.run_without_agent(args).exits(0)
}

#[test]
fn invalid_configuration_is_reported_and_the_last_valid_one_used() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let token = agent.get("/v1/token").token();
    let valid = std::fs::read_to_string(home.config_file()).unwrap();
    // Replaces the file atomically, as authctl and most editors do.
    let configure = |text: &str| {
        let new = home.path().join("config.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, home.config_file()).unwrap();
    };
    configure(&format!("{valid}\nno_such_key = 1\n"));
    wait_until("the error", || agent.get("/v1/agent").expect_status(200).get("config_error").cloned());
    assert_eq!(agent.get("/v1/token").token(), token);
    configure(&valid);
    wait_until("the error to be cleared", || {
        agent.get("/v1/agent").expect_status(200).get("config_error").is_none().then_some(())
    });
}

#[test]
fn changes_to_a_symlinked_configuration_are_noticed() {
    let (home, _issuer) = logged_in(|_| {});
    let dotfiles = home.path().join("dotfiles");
    std::fs::create_dir(&dotfiles).unwrap();
    let file = dotfiles.join("authctl.toml");
    std::fs::rename(home.config_file(), &file).unwrap();
    std::os::unix::fs::symlink(&file, home.config_file()).unwrap();
    let agent = Agent::run(&home);
    let token = agent.get("/v1/token").token();
    let valid = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{valid}\nno_such_key = 1\n")).unwrap();
    wait_until("the error", || agent.get("/v1/agent").expect_status(200).get("config_error").cloned());
    assert_eq!(agent.get("/v1/token").token(), token);
    std::fs::write(dotfiles.join("new"), &valid).unwrap();
    std::fs::rename(dotfiles.join("new"), &file).unwrap();
    wait_until("the error to be cleared", || {
        agent.get("/v1/agent").expect_status(200).get("config_error").is_none().then_some(())
    });
}
