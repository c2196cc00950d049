//! Desktop notifications, sent with `notify-send`.

use std::os::unix::fs::PermissionsExt as _;

use crate::agent_support::{agent, request_json, socket_of};
use crate::support::process::wait_until;
use crate::support::{self, Sandbox};

/// Appends its arguments to a file, one a line, and an empty line.
const RECORDS: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" '' >> \"$HOME/notified\"\n";

#[test]
fn ended_session_is_notified_once() {
    let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
    let programs = home.path().join("bin");
    std::fs::create_dir(&programs).expect("made");
    let program = programs.join("notify-send");
    std::fs::write(&program, RECORDS).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    home.set("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").expect("PATH")));
    home.log_in("work", &issuer);
    home.log_in("home", &issuer);
    let secrets = (home.session("work"), home.session("home"), home.secrets()).2;

    let mut agent = agent(&home, &["--notify"]);
    let socket = socket_of(&home);
    assert_eq!(request_json(&socket, "POST", "/v1/refresh/work", "").0, 200, "a refresh sends no notification");
    issuer.revoke_everything();
    for _ in 0..3 {
        assert_eq!(request_json(&socket, "POST", "/v1/refresh/work", "").0, 401);
    }
    let notified = || std::fs::read_to_string(home.path().join("notified")).unwrap_or_default();
    wait_until("the notification", || notified().contains("authctl login work").then_some(()));
    assert_eq!(request_json(&socket, "POST", "/v1/refresh/home", "").0, 401);
    wait_until("the other one", || notified().contains("authctl login home").then_some(()));
    // The agent sends pending notifications before it exits.
    assert_eq!(request_json(&socket, "POST", "/v1/stop", "").0, 200);
    wait_until("its end", || agent.0.try_wait().expect("waited"));

    let shown = |name: &str| {
        let text = format!("{name}: login required. Run: authctl login {name}");
        format!("--app-name=authctl\n--urgency=normal\nauthctl: login required\n{text}\n\n")
    };
    assert_eq!(notified(), shown("work") + &shown("home"));
    assert!(secrets.iter().all(|secret| !notified().contains(secret.as_str())));
}
