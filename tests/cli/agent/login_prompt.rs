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
