//! The agent's confinement: what the system refuses its process, whatever code runs in it.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::Sandbox;
use crate::support::agent::Agent;
use crate::support::process::wait_until;

use super::logged_in;

/// Has a process call functions of the C library, by a debugger; returns each result and the error number after it.
#[track_caller]
fn calls_in(pid: u32, expressions: &[String]) -> Vec<(i64, i32)> {
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-nx",
        "-q",
        "-batch",
        "-ex",
        "set debuginfod enabled off",
        "-ex",
        "set language c",
        "-p",
        &pid.to_string(),
    ]);
    for expression in expressions {
        let errno = "*((int*(*)())__errno_location)()";
        gdb.args(["-ex", &format!("printf \"RESULT %ld %d\\n\", (long)({expression}), {errno}")]);
    }
    let output = gdb.output().expect("gdb");
    let text = String::from_utf8_lossy(&output.stdout);
    let results: Vec<(i64, i32)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("RESULT ")?.split_once(' '))
        .map(|(result, errno)| (result.parse().expect("a number"), errno.parse().expect("a number")))
        .collect();
    assert_eq!(results.len(), expressions.len(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    results
}

/// Returns the expression that calls a function of the C library. The program has functions with the same names.
fn call(name: &str, types: &str, arguments: &str) -> String {
    format!("((long(*)({types}))((void*(*)(long, const char*))dlsym)(0, \"{name}\"))({arguments})")
}

fn open(path: &std::path::Path, flags: rustix::fs::OFlags) -> String {
    let arguments = format!("\"{}\", {}, 0600", path.display(), flags.bits());
    format!("(int){}", call("open", "const char*, int, int", &arguments))
}

fn socket(family: rustix::net::AddressFamily, kind: u32, protocol: u32) -> String {
    format!("(int){}", call("socket", "int, int, int", &format!("{}, {kind}, {protocol}", family.as_raw())))
}

/// Returns the expression that makes a system call: its number and its arguments.
fn system_call(words: &[i64]) -> String {
    let types = vec!["long"; words.len()].join(", ");
    let words: Vec<String> = words.iter().map(|word| format!("{word}L")).collect();
    call("syscall", &types, &words.join(", "))
}

/// Returns the process that serves the agent from outside of its confinement.
fn broker_of(agent: &Agent<'_>) -> u32 {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid)).expect("listed");
    children.split_whitespace().next().expect("a child").parse().expect("a process")
}

#[test]
fn agent_cannot_read_other_files_run_programs_or_open_other_sockets() {
    use rustix::fs::OFlags;
    use rustix::net::AddressFamily;
    const EPERM: i32 = 1;
    const EACCES: i32 = 13;
    const STREAM: u32 = 1;
    const RAW: u32 = 3;
    const X32: i64 = 0x4000_0000;
    let (home, _issuer) = logged_in(|_| {});
    let other = home.path().join("of-the-user");
    fs::write(&other, "not for the agent").unwrap();
    let agent = Agent::run(&home);
    let data = home.path().join("data/authctl/new");
    let kill = format!("(int){}", call("kill", "int, int", &format!("{}, 0", std::process::id())));
    // An Internet address begins with its family.
    let address = format!("$a = (char*){}, $a[0] = 2", call("calloc", "long, long", "1, 16"));
    let arguments = format!("{}, $a, 16", socket(AddressFamily::INET, STREAM, 0));
    let bind = format!("{address}, (int){}", call("bind", "int, char*, int", &arguments));
    let listen =
        format!("(int){}", call("listen", "int, int", &format!("{}, 1", socket(AddressFamily::INET, STREAM, 0))));
    let at = other.display();
    let chmod = format!("(int){}", call("chmod", "const char*, int", &format!("\"{at}\", 0666")));
    let chown = format!("(int){}", call("chown", "const char*, int, int", &format!("\"{at}\", 0, 0")));
    // A process outside listens at it.
    let name = format!("authctl-{}", std::process::id());
    let address = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name);
    let _listening = std::os::unix::net::UnixListener::bind_addr(&address.expect("an address")).expect("bound");
    let filled = format!(
        "$b = (char*){}, $b[0] = 1, (long){}",
        call("calloc", "long, long", "1, 110"),
        call("memcpy", "void*, const char*, long", &format!("$b + 3, \"{name}\", {}", name.len()))
    );
    let arguments = format!("{}, $b, {}", socket(AddressFamily::UNIX, STREAM, 0), 3 + name.len());
    let connect = format!("{filled}, (int){}", call("connect", "int, char*, int", &arguments));
    let execve = format!("(int){}", call("execve", "const char*, long, long", "\"/bin/true\", 0, 0"));
    let expected = [
        ("read another file", open(&other, OFlags::RDONLY), Some(EACCES)),
        ("change another file", open(&other, OFlags::WRONLY), Some(EACCES)),
        ("create another file", open(&home.path().join("made"), OFlags::CREATE | OFlags::WRONLY), Some(EACCES)),
        ("change its configuration", open(&home.config_file(), OFlags::WRONLY), Some(EACCES)),
        ("read its configuration", open(&home.config_file(), OFlags::RDONLY), None),
        ("create a file of its own", open(&data, OFlags::CREATE | OFlags::WRONLY), None),
        ("read a file of the system", open(std::path::Path::new("/etc/hosts"), OFlags::RDONLY), None),
        ("open a Unix socket", socket(AddressFamily::UNIX, STREAM, 0), None),
        ("open a TCP socket", socket(AddressFamily::INET6, STREAM, 0), None),
        ("open a packet socket", socket(AddressFamily::PACKET, RAW, 0), Some(EACCES)),
        ("open a raw socket", socket(AddressFamily::INET, RAW, 1), Some(EACCES)),
        ("open a socket to virtual machines", socket(AddressFamily::from_raw(40), STREAM, 0), Some(EACCES)),
        ("listen to the audit log", socket(AddressFamily::NETLINK, RAW, 9), Some(EACCES)),
        ("accept TCP connections", bind.clone(), Some(EACCES)),
        ("signal another process", kill.clone(), Some(EPERM)),
        ("run a program", execve, Some(EACCES)),
        ("accept connections at a port of the system's choice", listen, Some(EACCES)),
        ("change the mode of a file", chmod.clone(), Some(EACCES)),
        ("change the owner of a file", chown, Some(EACCES)),
        ("type into a terminal", system_call(&[16, 0, 0x5412, 0]), Some(EACCES)),
        ("type into a console", system_call(&[16, 0, 0x541c, 0]), Some(EACCES)),
        ("run a program by another number of the call", system_call(&[X32 | 59, 0, 0, 0]), Some(EACCES)),
        ("run a program by the number of x32", system_call(&[X32 | 520, 0, 0, 0]), Some(EACCES)),
        ("open a packet socket by another number", system_call(&[X32 | 41, 17, 3, 0]), Some(EACCES)),
        ("connect to an abstract socket", connect.clone(), Some(EPERM)),
    ];
    let calls: Vec<String> = expected.iter().map(|(_, call, _)| call.clone()).collect();
    for ((what, _, error), (result, errno)) in expected.iter().zip(calls_in(agent.pid, &calls)) {
        match error {
            Some(error) => assert_eq!((result, errno), (-1, *error), "the agent can {what}"),
            None => assert!(result >= 0, "the agent cannot {what}: {errno}"),
        }
    }
    // It is the confinement that refuses: the same calls work in a process of the same user that is not confined.
    let outside = calls_in(broker_of(&agent), &[open(&other, OFlags::RDONLY), bind, kill, chmod, connect]);
    assert!(outside.iter().all(|(result, _)| *result >= 0), "{outside:?}");
    agent.get("/v1/token").token();
}

#[test]
fn status_shows_what_the_agent_is_refused() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let all = json!({"refused": ["files", "programs", "sockets", "listeners", "signals"], "allowed": []});
    assert_eq!(agent.get("/v1/agent").expect_status(200)["confinement"], all);
    let text = home.run(&["agent", "status"]).exits(0).stdout;
    assert!(text.contains("\nconfined: no other files, programs, sockets, listeners, signals\n"), "{text}");
}

/// As on a kernel without Landlock, or without seccomp.
#[test]
fn agent_serves_where_the_kernel_cannot_confine_it_and_status_shows_that() {
    for (inject, refused) in [
        ("landlock_create_ruleset:error=ENOSYS", &["programs", "sockets", "listeners"][..]),
        ("seccomp:error=EINVAL", &["files", "signals"]),
    ] {
        let (home, _issuer) = logged_in(|_| {});
        let inject = format!("inject={inject}");
        let agent = Agent::run_under(&home, "strace", &["-D", "-f", "-o", "/dev/null", "-e", &inject, "--"]);
        agent.get("/v1/token").token();
        agent.post("/v1/refresh/work", "").expect_status(200);
        let confinement = &agent.get("/v1/agent").expect_status(200)["confinement"];
        assert_eq!(confinement["refused"], json!(refused));
        let text = home.run(&["agent", "status"]).exits(0).stdout;
        let line = text.lines().find(|line| line.starts_with("not confined on this system: ")).expect("a line");
        let allowed: Vec<&str> = line.split(": ").nth(1).expect("words").split(", ").collect();
        assert_eq!(json!(allowed), confinement["allowed"], "{text}");
        assert!(allowed.iter().all(|word| !refused.contains(word)), "{text}");
    }
}

/// Files and commands that the agent may not use itself are those of the configuration, which may change while it runs.
#[test]
fn confined_agent_uses_files_that_the_configuration_names_later() {
    let (home, issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let place = Sandbox::new();
    let (token, authority) = (place.path().join("token"), place.path().join("ca.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=a", "-keyout", "key.pem", "-out", "ca.pem",
    ]);
    assert!(openssl.current_dir(place.path()).output().expect("openssl").status.success());
    let set = |line: &str| home.run(&["profile", "set", "work", line]).exits(0);
    set(&format!("token_file={}", token.display()));
    set(&format!("ca_cert={}", authority.display()));
    wait_until("the token file", || token.exists().then_some(()));
    agent.post("/v1/refresh/work", "").expect_status(200);
    let served = agent.get("/v1/token").token();
    wait_until("the new token", || (fs::read_to_string(&token).ok()? == served).then_some(()));
    set("token_file=");
    wait_until("the removal", || (!token.exists()).then_some(()));
    drop(issuer);
}

/// What the agent may change itself must not decide what its broker opens and runs.
#[test]
fn status_shows_that_the_agent_can_change_its_configuration() {
    let mut home = Sandbox::new();
    let config = home.path().join("data/authctl/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "").unwrap();
    home.set("AUTHCTL_CONFIG", &config);
    let agent = Agent::run(&home);
    let confinement = &agent.get("/v1/agent").expect_status(200)["confinement"];
    assert_eq!(confinement["allowed"], json!(["files"]));
}

#[test]
fn agent_without_its_broker_ends_with_an_error() {
    let (home, _issuer) = logged_in(|_| {});
    let agent = Agent::run(&home);
    let broker = rustix::process::Pid::from_raw(broker_of(&agent).try_into().unwrap()).unwrap();
    rustix::process::kill_process(broker, rustix::process::Signal::KILL).unwrap();
    agent.wait().expect("a child").exits(1).reports("the agent's broker process has ended");
    home.run(&["token", "work"]).exits(0);
}

/// The agent keeps the last valid configuration, and what it asks of its broker has to follow the same.
#[test]
fn confined_agent_runs_hooks_while_the_configuration_is_invalid() {
    let (home, _issuer) = logged_in(|_| {});
    let place = Sandbox::new();
    let made = place.path().join("made");
    home.run(&["profile", "set", "work", &format!("on_refresh=touch {}", made.display())]).exits(0);
    let agent = Agent::run(&home);
    agent.post("/v1/refresh/work", "").expect_status(200);
    wait_until("the hook", || made.exists().then_some(()));
    fs::remove_file(&made).unwrap();
    fs::write(home.config_file(), "[profiles").unwrap();
    agent.post("/v1/refresh/work", "").expect_status(200);
    wait_until("the hook again", || made.exists().then_some(()));
}
