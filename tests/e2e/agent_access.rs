//! The agent protects its tokens from other users, debuggers and core dumps.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use authctl::dev_issuer::DevIssuer;
use rustix::process::{Pid, Signal};

use crate::agent_service::activated;
use crate::agent_support::{
    KillOnDrop, agent, needs_root, output_of, request, request_json, socket_of, wait_for_agent,
};
use crate::support::parts;
use crate::support::process::{copy_program, wait_until};
use crate::support::{self, AUTHCTL, Sandbox};

/// The user ID of `nobody`.
const NOBODY: u32 = 65534;

fn permit(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// Returns a command that `nobody` runs in the environment of this home.
pub(crate) fn as_nobody(home: &Sandbox, program: impl AsRef<Path>) -> Command {
    parts::require(&["setpriv"]);
    let mut command = home.command(&[]);
    let plain = std::mem::replace(&mut command, Command::new("setpriv"));
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]);
    command.arg(program.as_ref()).current_dir(home.path());
    command
}

/// Returns a home that is logged in as `work` and belongs to `nobody`, with a copy of authctl in it.
pub(crate) fn home_of_nobody() -> (Sandbox, DevIssuer, PathBuf) {
    needs_root();
    let (home, issuer) = (Sandbox::new(), support::quick_issuer());
    home.log_in("work", &issuer);
    home.token("work");
    let program = home.path().join("authctl");
    copy_program(&program);
    let owner = format!("{NOBODY}:{NOBODY}");
    output_of(Command::new("chown").args(["-R", &owner]).arg(home.path())).expect("given away");
    (home, issuer, program)
}

/// Returns the same with a running agent of `nobody`.
fn agent_of_nobody() -> (Sandbox, DevIssuer, KillOnDrop) {
    let (home, issuer, program) = home_of_nobody();
    let mut command = as_nobody(&home, &program);
    command.args(["agent", "run"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let agent = KillOnDrop(command.spawn().expect("it starts"));
    // The agent refuses root too.
    wait_until("an agent that answers", || {
        output_of(as_nobody(&home, &program).args(["agent", "status"])).ok().filter(|output| output.contains("running"))
    });
    (home, issuer, agent)
}

/// Changes to the user argv[2] before or after connecting, according to argv[3]; requests a token and prints the response.
const CHANGES_ITS_USER: &str = r#"
import os, socket, sys
def change():
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
agent = socket.socket(socket.AF_UNIX)
if sys.argv[3] == "before": change()
agent.connect(sys.argv[1])
if sys.argv[3] == "after": change()
try:
    agent.sendall(b"GET /v1/token/work HTTP/1.1\r\nHost: authctl\r\nConnection: close\r\n\r\n")
except BrokenPipeError:
    pass
answer = b""
try:
    while piece := agent.recv(65536): answer += piece
except ConnectionResetError:
    pass
print(answer.decode())
"#;

#[test]
fn another_user_is_refused_despite_open_permissions() {
    needs_root();
    let (home, issuer) = (Sandbox::new(), support::quick_issuer());
    home.log_in("work", &issuer);
    let token = home.token("work");
    let _agent = agent(&home, &[]);
    let socket = socket_of(&home);
    for dir in [home.path(), &home.path().join("run"), &home.path().join("run/authctl")] {
        permit(dir, 0o755);
    }
    permit(&socket, 0o777);
    for _ in 0..20 {
        let mut curl = as_nobody(&home, "curl");
        curl.args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", "--unix-socket"]).arg(&socket);
        let answer = output_of(curl.arg("http://authctl/v1/token/work")).expect("an answer");
        assert!(!answer.contains(&token) && !answer.contains("access_token"), "no token");
        let (body, status) = answer.rsplit_once('\n').expect("two lines");
        let problem: serde_json::Value = serde_json::from_str(body).expect("a problem document");
        assert_eq!((status, &problem["code"]), ("403", &"caller_not_permitted".into()), "{problem}");
    }
    let log = home.run(&["agent", "log", "--json"]).exits(0).json();
    let refused: Vec<_> =
        log["entries"].as_array().expect("entries").iter().filter(|e| e["action"] == "refused").collect();
    assert!(!refused.is_empty() && refused.iter().all(|e| e["uid"] == NOBODY && e["profile"].is_null()), "{log}");
    home.run(&["agent", "log"]).exits(0);
    assert_eq!(request_json(&socket, "GET", "/v1/token/work", "").0, 200, "its own user is served all the while");
}

#[test]
fn caller_is_authorized_by_its_user_at_connect() {
    parts::require(&["python3"]);
    let (home, _issuer, _agent) = agent_of_nobody();
    let asks = |when: &str| {
        let mut python = Command::new("python3");
        python.args(["-c", CHANGES_ITS_USER]).arg(socket_of(&home)).args([&NOBODY.to_string(), when]);
        output_of(&mut python).expect("an answer")
    };
    let answer = asks("after");
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("caller_not_permitted"), "{answer}");
    assert!(!answer.contains("access_token"), "no token");
    assert!(asks("before").starts_with("HTTP/1.1 200 "), "the user himself is served");
}

/// Changes to the user argv[2], listens at argv[1], and responds to each request with a token.
const IMPERSONATES_THE_AGENT: &str = r#"
import json, os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
agent = socket.socket(socket.AF_UNIX)
agent.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
agent.listen(16)
body = json.dumps({"profile": "work", "access_token": "forged", "token_type": "Bearer", "valid": True}).encode()
while True:
    connection, _ = agent.accept()
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    except BrokenPipeError:
        pass
"#;

#[test]
fn agent_of_another_user_is_not_used() {
    needs_root();
    parts::require(&["python3"]);
    let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
    home.log_in("work", &issuer);
    let theirs = home.path().join("theirs");
    std::fs::create_dir(&theirs).expect("made");
    for dir in [home.path(), &theirs] {
        permit(dir, 0o755);
    }
    std::os::unix::fs::chown(&theirs, Some(NOBODY), Some(NOBODY)).expect("given away");
    let socket = theirs.join("agent.sock");
    let mut python = Command::new("python3");
    python.args(["-c", IMPERSONATES_THE_AGENT]).arg(&socket).arg(NOBODY.to_string()).stdin(Stdio::null());
    let _impostor = KillOnDrop(python.spawn().expect("it starts"));
    wait_until("the impostor", || std::os::unix::net::UnixStream::connect(&socket).ok());
    home.set("AUTHCTL_SOCK", &socket);
    for args in [&["token", "work"][..], &["refresh", "work"], &["exec", "work", "--", "printenv", "AUTHCTL_TOKEN"]] {
        let refused = home.run(args).exits(8).reports(&format!("belongs to the user with ID {NOBODY}"));
        assert_eq!(refused.stdout, "", "{args:?}");
    }
}

#[test]
fn agent_cannot_be_debugged_by_its_own_user() {
    parts::require(&["gdb", "strace"]);
    let (home, _issuer, agent) = agent_of_nobody();
    let mut sleep = as_nobody(&home, "sleep");
    let sleep = KillOnDrop(sleep.arg("600").stdin(Stdio::null()).spawn().expect("it starts"));
    let reads = |process: &KillOnDrop, file: &str| {
        let path = format!("/proc/{}/{file}", process.0.id());
        output_of(as_nobody(&home, "head").args(["-c", "1", &path]))
    };
    // `setpriv` runs as root at first.
    wait_until("an ordinary process that can be looked into", || {
        reads(&sleep, "environ").ok().filter(|read| read.len() == 1)
    });
    assert!(reads(&sleep, "maps").is_ok());
    for file in ["environ", "maps", "mem", "auxv"] {
        let refused = reads(&agent, file).expect_err("it cannot be read");
        assert!(refused.contains("Permission denied") || refused.contains("not permitted"), "{file}: {refused}");
    }
    let id = agent.0.id().to_string();
    let text = |output: Result<String, String>| output.unwrap_or_else(|error| error);
    let mut gdb = as_nobody(&home, "sh");
    let gdb = text(output_of(gdb.args(["-c", &format!("gdb -nx -batch -p {id} -ex 'info proc mappings' 2>&1")])));
    assert!(gdb.contains("Operation not permitted") && !gdb.contains("[heap]"), "{gdb}");
    let strace = output_of(as_nobody(&home, "strace").args(["-p", &id])).expect_err("it cannot be traced");
    assert!(strace.contains("Operation not permitted"), "{strace}");
    let alive = output_of(as_nobody(&home, home.path().join("authctl")).args(["agent", "status"]));
    assert!(alive.is_ok_and(|output| output.contains("running")));
}

/// An agent that is not a child of this process; killed when dropped.
struct Daemon(Pid);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, Signal::KILL);
    }
}

/// Returns the agent's process ID, once it responds.
fn process_of(home: &Sandbox) -> Pid {
    wait_for_agent(&socket_of(home));
    let id = request_json(&socket_of(home), "GET", "/v1/agent", "").1["pid"].as_i64().expect("a process id");
    Pid::from_raw(i32::try_from(id).expect("small")).expect("positive")
}

/// Returns a command that runs authctl without a limit for core dumps and with umask 0.
fn unrestricted(home: &Sandbox, args: &str) -> Command {
    let plain = home.command(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -c unlimited && umask 000 && exec '{AUTHCTL}' {args}")]);
    command
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(home.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn cores_in(dir: &Path) -> Vec<String> {
    let names =
        dir.read_dir().expect("readable").flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name == "core" || name.starts_with("core.")).collect()
}

/// Crashes the agent. Fails the test if there is a core dump.
#[track_caller]
fn expect_no_core_dump(home: &Sandbox, process: Pid, signal: Signal, child: Option<&mut KillOnDrop>) {
    let directory = std::fs::read_link(format!("/proc/{process}/cwd")).expect("it lives");
    let before = cores_in(&directory);
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).expect("it lives");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the limit");
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    // Rust's SIGSEGV handler restores the default action on the first signal; the second one kills the process.
    let crash = || {
        let _ = rustix::process::kill_process(process, signal);
    };
    crash();
    match child {
        Some(child) => {
            let status = wait_until("its end", || {
                let ended = child.0.try_wait().expect("waited");
                if ended.is_none() {
                    crash();
                }
                ended
            });
            assert_eq!((status.signal(), status.core_dumped()), (Some(signal.as_raw()), false), "{status}");
        }
        None => wait_until("its end", || {
            crash();
            request(&socket_of(home), "GET", "/v1/agent", "").is_none().then_some(())
        }),
    }
    assert_eq!(cores_in(&directory), before, "in {}", directory.display());
    assert_eq!(cores_in(home.path()), Vec::<String>::new());
}

#[test]
fn crashed_agent_leaves_no_core_dump() {
    let home = Sandbox::new();
    for signal in [Signal::SEGV, Signal::ABORT] {
        let mut run = KillOnDrop(unrestricted(&home, "agent run").spawn().expect("it starts"));
        let process = process_of(&home);
        assert_eq!(process, Pid::from_child(&run.0));
        expect_no_core_dump(&home, process, signal, Some(&mut run));

        assert!(
            unrestricted(&home, "agent start").status().is_ok_and(|status| status.success()),
            "a new agent starts after the crash"
        );
        let started = Daemon(process_of(&home));
        expect_no_core_dump(&home, started.0, signal, None);
    }
}

#[test]
fn socket_activated_agent_leaves_no_core_dump() {
    let home = Sandbox::new();
    let mut manager = activated(&home);
    output_of(Command::new("prlimit").args([&format!("--pid={}", manager.0.id()), "--core=unlimited:unlimited"]))
        .expect("cores are allowed");
    let process = process_of(&home);
    expect_no_core_dump(&home, process, Signal::SEGV, Some(&mut manager));
}

#[test]
fn agent_files_are_private_whatever_the_umask() {
    let home = Sandbox::new();
    let mode = |path: &Path| path.symlink_metadata().expect("there").mode() & 0o7777;
    let dir = home.path().join("run/authctl");
    let run = KillOnDrop(unrestricted(&home, "agent run").spawn().expect("it starts"));
    process_of(&home);
    let looks = || {
        let files: Vec<_> = dir.read_dir().expect("readable").flatten().map(|entry| entry.path()).collect();
        assert!(files.contains(&socket_of(&home)), "{files:?}");
        assert_eq!(mode(&dir), 0o700);
        for file in &files {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
    };
    looks();
    drop(run);
    std::fs::remove_dir_all(&dir).expect("removed");
    assert!(unrestricted(&home, "agent start").status().is_ok_and(|status| status.success()));
    let _started = Daemon(process_of(&home));
    looks();
}

#[test]
fn socket_directory_writable_by_others_is_refused() {
    let home = Sandbox::new();
    let dir = home.path().join("run/authctl");
    std::fs::create_dir(&dir).expect("made");
    permit(&dir, 0o770);
    for command in ["run", "start"] {
        let refused =
            home.spawn(&["agent", command]).wait().exits(8).reports("(mode 0770)").reports("hint:  chmod go-w ");
        assert!(refused.stdout.is_empty(), "{}", refused.stdout);
        assert_eq!(dir.read_dir().expect("readable").count(), 0, "nothing is made in it");
    }
    std::fs::remove_dir(&dir).expect("removed");

    let real = home.path().join("elsewhere");
    std::fs::create_dir(&real).expect("made");
    permit(&real, 0o700);
    symlink(&real, &dir).expect("linked");
    for command in ["run", "start"] {
        home.spawn(&["agent", command])
            .wait()
            .exits(8)
            .reports(&dir.display().to_string())
            .reports("hint:  ")
            .reports("AUTHCTL_SOCK");
        assert_eq!(real.read_dir().expect("readable").count(), 0, "nothing is made behind the link");
    }
}
