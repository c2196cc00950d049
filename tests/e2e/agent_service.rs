//! The agent under systemd: socket activation, unit files, and readiness notification (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::agent_support::{KillOnDrop, agent, output_of, request, request_json, socket_of};
use crate::support::parts;
use crate::support::process::{LIMIT, wait_until};
use crate::support::{self, AUTHCTL, Sandbox};

/// Returns the executable of a process.
fn program_of(process: &KillOnDrop) -> PathBuf {
    std::fs::read_link(format!("/proc/{}/exe", process.0.id())).expect("it lives")
}

/// Runs `systemd-socket-activate` on the socket of this home.
pub fn activated(home: &Sandbox) -> KillOnDrop {
    let socket = socket_of(home);
    std::fs::create_dir_all(socket.parent().expect("a parent")).expect("made");
    let plain = home.command(&[]);
    let mut command = Command::new(parts::program("systemd-socket-activate"));
    command.arg(format!("--listen={}", socket.display()));
    for (name, value) in plain.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.arg(format!("--setenv={}={}", name.display(), value.display()));
    }
    command.args([AUTHCTL, "agent", "run"]).current_dir(home.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let manager = KillOnDrop(command.spawn().expect("systemd-socket-activate starts"));
    wait_until("the socket", || is_listening(&socket).then_some(()));
    manager
}

/// Returns whether a process listens on the socket: one that is only bound refuses connections. Does not connect.
fn is_listening(socket: &Path) -> bool {
    /// `__SO_ACCEPTCON` of Linux.
    const LISTENS: &str = "00010000";
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("readable");
    let path = socket.to_str().expect("UTF-8");
    sockets.lines().any(|line| line.ends_with(path) && line.split_whitespace().nth(3) == Some(LISTENS))
}

#[test]
fn socket_activation_starts_the_agent_on_first_connection() {
    let (home, issuer) = (Sandbox::new(), support::quick_issuer());
    home.log_in("work", &issuer);
    let token = home.token("work");
    let mut manager = activated(&home);
    assert!(program_of(&manager).ends_with("systemd-socket-activate"), "no connection so far");

    let (status, answer) = request_json(&socket_of(&home), "GET", "/v1/token/work", "");
    assert!(status == 200 && answer["access_token"] == token.as_str(), "the first request is served: {status}");
    assert!(program_of(&manager).ends_with("authctl"));
    assert_eq!(home.token("work"), token);
    let state = home.run(&["agent", "status", "--json"]).exits(0).json();
    assert_eq!((&state["pid"], &state["locked"]), (&manager.0.id().into(), &false.into()), "{state}");
    assert_eq!(state["socket"], socket_of(&home).display().to_string(), "{state}");
    // An agent that is started by hand finds it.
    home.run(&["agent", "start"]).exits(0).reports("already running");
    home.spawn(&["agent", "run"]).wait().exits(8).reports("already running");

    home.run(&["agent", "stop"]).exits(0);
    assert!(wait_until("its exit", || manager.0.try_wait().expect("waited")).success());
    assert!(socket_of(&home).exists(), "the socket belongs to the service manager");
}

fn units(home: &Sandbox) -> Vec<PathBuf> {
    ["authctl.socket", "authctl.service"].map(|name| home.path().join("config/systemd/user").join(name)).to_vec()
}

#[test]
fn install_writes_units_that_systemd_accepts() {
    let home = Sandbox::new();
    let printed = home.run(&["agent", "install", "--print"]).exits(0).stdout;
    assert!(units(&home).iter().all(|unit| !unit.exists()), "--print only shows");

    home.run(&["agent", "install"]).exits(0);
    let written = |unit: &PathBuf| std::fs::read_to_string(unit).expect("written");
    let shown: String = units(&home).iter().map(|unit| format!("# {}\n{}\n", unit.display(), written(unit))).collect();
    assert_eq!(printed, shown);
    verified(&home, &units(&home)).expect("systemd accepts them");

    let service = written(&units(&home)[1]);
    // Its filter leaves the agent the calls with which it confines itself; `@system-service` has none of them.
    let filter = service.lines().find(|line| line.starts_with("SystemCallFilter=")).expect("a filter");
    for call in ["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"] {
        assert!(filter.split(' ').any(|word| word == call), "{filter}");
    }

    // systemd-analyze does check the units.
    std::fs::write(&units(&home)[1], service.replace("Type=notify", "Type=telepathy")).expect("written");
    let refused = verified(&home, &units(&home)).expect_err("systemd rejects the type");
    assert!(refused.contains("telepathy"), "{refused}");

    home.run(&["agent", "uninstall"]).exits(0);
    assert!(units(&home).iter().all(|unit| !unit.exists()), "uninstalled");
    home.run(&["agent", "uninstall"]).exits(0).reports("no service");
}

/// Returns the errors that systemd finds in unit files.
fn verified(home: &Sandbox, units: &[PathBuf]) -> Result<(), String> {
    let mut command = Command::new(parts::program("systemd-analyze"));
    command.args(["verify", "--user", "--man=no"]).args(units).env("XDG_RUNTIME_DIR", home.path().join("run"));
    command.env_remove("DBUS_SESSION_BUS_ADDRESS");
    let output = command.stdin(Stdio::null()).output().expect("systemd-analyze starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    // It only warns about unknown lines, and then names the unit.
    if output.status.success() && !stderr.contains("authctl") { Ok(()) } else { Err(stderr) }
}

#[test]
fn install_is_refused_while_an_agent_runs() {
    let (home, issuer) = (Sandbox::new(), support::quick_issuer());
    home.log_in("work", &issuer);
    let _agent = agent(&home, &[]);
    let refused = home.run(&["agent", "install", "--json"]).exits(8);
    assert_eq!(refused.error()["code"], "agent_running");
    assert!(refused.error()["hint"].as_str().is_some_and(|hint| hint.contains("agent stop")), "{}", refused.stderr);
    assert!(!home.path().join("config/systemd").exists(), "nothing is written");
}

#[test]
fn install_works_while_systemd_listens_on_the_socket() {
    let home = Sandbox::new();
    home.run(&["agent", "install"]).exits(0);
    let mut manager = activated(&home);
    std::fs::remove_file(&units(&home)[1]).expect("removed");
    home.run(&["agent", "install"]).exits(0);
    assert!(units(&home)[1].exists(), "written again");
    assert!(program_of(&manager).ends_with("systemd-socket-activate"), "checking for an agent does not start one");
    // A running agent has to be stopped first.
    home.run(&["agent", "status"]).exits(0);
    assert_eq!(home.run(&["agent", "install", "--json"]).exits(8).error()["code"], "agent_running");
    home.run(&["agent", "stop"]).exits(0);
    assert!(wait_until("its exit", || manager.0.try_wait().expect("waited")).success());
    home.run(&["agent", "install"]).exits(0);
}

/// The socket that a service manager receives notifications on.
struct NotifySocket(UnixDatagram, PathBuf);

impl NotifySocket {
    fn by(home: &mut Sandbox) -> Self {
        let path = home.path().join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_read_timeout(Some(LIMIT)).expect("set");
        home.set("NOTIFY_SOCKET", &path);
        Self(socket, path)
    }

    /// Returns the next message.
    #[track_caller]
    fn next(&self) -> String {
        let mut message = [0; 1024];
        let length = self.0.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).trim_end().to_owned()
    }

    /// Returns whether all messages have been read.
    fn is_silent(&self) -> bool {
        self.0.set_nonblocking(true).expect("set");
        let silent = self.0.recv(&mut [0; 1024]).is_err();
        self.0.set_nonblocking(false).expect("set");
        silent
    }
}

fn started(home: &Sandbox) -> KillOnDrop {
    let mut command = home.command(&["agent", "run"]);
    KillOnDrop(
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the agent starts"),
    )
}

fn answers_at_once(socket: &Path) -> bool {
    request(socket, "GET", "/v1/agent", "").is_some_and(|(status, _)| status == 200)
}

#[test]
fn agent_notifies_systemd_when_ready_and_stopping() {
    let mut home = Sandbox::new();
    let output = NotifySocket::by(&mut home);
    for by_signal in [true, false] {
        let mut agent = started(&home);
        assert_eq!(output.next(), "READY=1");
        assert!(answers_at_once(&socket_of(&home)), "READY was sent");
        if by_signal {
            rustix::process::kill_process(Pid::from_child(&agent.0), Signal::TERM).expect("signalled");
        } else {
            home.run(&["agent", "stop"]).exits(0);
        }
        assert_eq!(output.next(), "STOPPING=1");
        assert!(wait_until("its exit", || agent.0.try_wait().expect("waited")).success());
        assert!(output.is_silent());
    }
}

#[test]
fn agent_that_fails_to_start_is_never_ready() {
    let mut home = Sandbox::new();
    home.configure("profiles = 5\n");
    let output = NotifySocket::by(&mut home);
    home.spawn(&["agent", "run"]).wait().exits(2);
    assert!(output.is_silent(), "{}", output.1.display());
    // A second agent fails to start.
    std::fs::remove_file(home.config_file()).expect("removed");
    let _agent = started(&home);
    assert_eq!(output.next(), "READY=1");
    home.spawn(&["agent", "run"]).wait().exits(8);
    assert!(output.is_silent());
    output_of(home.command(&["agent", "stop"]).arg("--quiet")).expect("stopped");
}
