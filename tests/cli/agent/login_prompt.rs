//! The login that an agent with `--login=ask` starts, with a program in place of the desktop's notifications.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::agent::Agent;
use crate::support::process::{copy_program, wait_until};
use crate::support::{Sandbox, issuer};

fn write_program(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Returns whether a process logs in with the configuration of this home.
fn is_logging_in(home: &Sandbox) -> bool {
    let config = home.config_file();
    let line = |process: fs::DirEntry| fs::read(process.path().join("cmdline")).unwrap_or_default();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.map(line).any(|line| {
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(" login work --browser ") && line.contains(config.to_str().unwrap())
    })
}

#[test]
fn login_that_the_agent_has_started_ends_with_it() {
    let (mut home, idp) = (Sandbox::new(), issuer(|_| {}));
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    write_program(&bin.join("notify-send"), "#!/bin/sh\necho login\n");
    write_program(&bin.join("browser"), "#!/bin/sh\n");
    home.set("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    home.set("BROWSER", bin.join("browser"));
    home.log_in("work", &idp);
    home.run(&["profile", "set", "work", "grant=browser"]).exits(0);
    // The file of the agent's program is replaced later, as by an upgrade.
    let program = home.path().join("authctl");
    copy_program(&program);
    let args = ["agent", "run", "--login=ask"];
    let running = home.spawn_command(home.command_for(&program, &args), &args);
    running.reports("the agent listens at");
    fs::remove_file(&program).unwrap();
    let agent = Agent::running(&home);
    idp.revoke_everything();
    home.expire("work");
    agent.post("/v1/forget/work", "").expect_status(200);
    let _waiting = agent.start_request("GET", "/v1/token/work");
    wait_until("the login", || is_logging_in(&home).then_some(()));
    home.run(&["agent", "stop"]).exits(0);
    wait_until("its end", || (!is_logging_in(&home)).then_some(()));
    running.wait().exits(0);
}

/// Has a program in place of the desktop's notifications, which records its starts; returns a home whose session has ended.
fn ended_session(notifier: &str) -> (Sandbox, authctl::dev_issuer::DevIssuer) {
    let (mut home, idp) = (Sandbox::new(), issuer(|_| {}));
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    write_program(&bin.join("notify-send"), &format!("#!/bin/sh\necho \"$*\" >> \"$HOME/shown\"\n{notifier}\n"));
    home.set("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    log_in_and_end(&home, &idp);
    (home, idp)
}

fn log_in_and_end(home: &Sandbox, idp: &authctl::dev_issuer::DevIssuer) {
    home.log_in("work", idp);
    home.run(&["profile", "set", "work", "grant=browser"]).exits(0);
    idp.revoke_everything();
    home.expire("work");
}

/// Returns the arguments of each start of the notifier.
fn shown(home: &Sandbox) -> String {
    fs::read_to_string(home.path().join("shown")).unwrap_or_default()
}

/// Returns how often the user was asked.
fn asked(home: &Sandbox) -> usize {
    shown(home).lines().filter(|line| line.contains("--action")).count()
}

fn start_agent(home: &Sandbox) -> crate::support::process::RunningCommand<'_> {
    let agent = home.spawn(&["agent", "run", "--login=ask"]);
    agent.reports("the agent listens at");
    agent
}

#[test]
fn declined_login_is_asked_for_again_only_after_a_login() {
    let (home, idp) = ended_session("exit 0");
    let mut expected = 0;
    for login in 0..2 {
        expected += 1;
        for restart in 0..3 {
            let agent = start_agent(&home);
            home.run(&["token", "work"]).exits(3).reports("authctl login work");
            home.run(&["token", "work"]).exits(3);
            assert_eq!(asked(&home), expected, "login {login}, restart {restart}");
            home.run(&["agent", "stop"]).exits(0);
            agent.wait().exits(0);
        }
        log_in_and_end(&home, &idp);
    }
}

#[test]
fn notification_that_an_agent_closes_is_shown_by_the_next_one() {
    let (home, _idp) = ended_session("echo 1; exec sleep 600");
    for expected in 1..3 {
        let agent = start_agent(&home);
        let waiting = home.spawn(&["token", "work"]);
        wait_until("the notification", || (asked(&home) == expected).then_some(()));
        home.run(&["agent", "stop"]).exits(0);
        waiting.wait().exits(3);
        agent.wait().exits(0);
    }
}

#[test]
fn answer_follows_what_the_notifier_prints_first() {
    let (mut home, _idp) = ended_session("echo 17; echo login");
    let browser = home.path().join("browser");
    write_program(&browser, "#!/bin/sh\ntouch \"$HOME/opened\"\n");
    home.set("BROWSER", browser);
    let agent = start_agent(&home);
    let waiting = home.spawn(&["token", "work"]);
    wait_until("the browser", || home.path().join("opened").exists().then_some(()));
    home.run(&["agent", "stop"]).exits(0);
    waiting.wait().exits(3);
    agent.wait().exits(0);
}

#[test]
fn notification_daemon_that_does_not_reply_delays_only_the_first_callers() {
    // Neither the question nor the plain notification is ever shown.
    let (home, idp) = ended_session("exec sleep 600");
    home.log_in("other", &idp);
    let agent = start_agent(&home);
    let waiting: Vec<_> = (0..20).map(|_| home.spawn(&["token", "work"])).collect();
    wait_until("the notification", || (asked(&home) == 1).then_some(()));
    home.run(&["token", "other"]).exits(0);
    for caller in waiting {
        caller.wait().exits(3).reports("authctl login work");
    }
    wait_until("the plain notification", || (shown(&home).lines().count() == 2).then_some(()));
    // It is not tried again for those that come next.
    for _ in 0..3 {
        home.run(&["token", "work"]).exits(3).reports("authctl login work");
    }
    assert_eq!(asked(&home), 1);
    home.run(&["agent", "stop"]).exits(0);
    agent.wait().exits(0);
}
