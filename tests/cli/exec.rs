//! `authctl exec`: verifies the token, then becomes the command.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use crate::support::process::wait_until;
use crate::support::{AUTHCTL, Sandbox, issuer, quick_issuer};

/// Returns a shell command that prints a variable.
fn show(name: &str) -> String {
    format!("printf '%s' \"${{{name}-unset}}\"")
}

#[test]
fn token_is_only_in_the_named_variable() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let token = home.token("work");
    let ran = home.run(&["exec", "work", "--", "sh", "-c", &show("AUTHCTL_TOKEN")]).exits(0);
    assert_eq!((ran.stdout, ran.stderr), (token.clone(), String::new()));
    let ran = home.run(&["exec", "--env", "MY_TOKEN", "--", "sh", "-c", &show("MY_TOKEN")]).exits(0);
    assert_eq!(ran.stdout, token);
    let ran = home.run(&["exec", "--env", "MY_TOKEN", "--", "sh", "-c", &show("AUTHCTL_TOKEN")]).exits(0);
    assert_eq!(ran.stdout, "unset");
    let argv = home.run(&["exec", "--", "sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline"]).exits(0).stdout;
    assert!(!argv.contains(&token), "{argv}");
    for name in ["", "A=B", "1X", "A B"] {
        home.run(&["exec", "--env", name, "--", "true"]).exits(2);
    }
}

#[test]
fn token_from_environment_is_passed_on_under_the_given_name() {
    let mut home = Sandbox::new();
    home.set("AUTHCTL_TOKEN", "from-env");
    let script = format!("{}; {}", show("AUTHCTL_TOKEN"), show("OTHER"));
    assert_eq!(home.run(&["exec", "--", "sh", "-c", &script]).exits(0).stdout, "from-envunset");
    assert_eq!(home.run(&["exec", "--env", "OTHER", "--", "sh", "-c", &script]).exits(0).stdout, "unsetfrom-env");
}

#[test]
fn command_can_use_another_profile() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("mine", &idp);
    home.log_in_as("other", &idp, "other");
    let other = home.token("other");
    let authctl = crate::support::AUTHCTL;
    assert_eq!(home.run(&["exec", "mine", "--", authctl, "token", "other"]).exits(0).line(), other);
    let nested = ["exec", "mine", "--", authctl, "exec", "other", "--", "sh", "-c", &show("AUTHCTL_TOKEN")];
    assert_eq!(home.run(&nested).exits(0).stdout, other);
}

#[test]
fn exit_status_and_signals_are_passed_through() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    for code in [0, 1, 3, 4, 6, 77, 255] {
        home.run(&["exec", "--", "sh", "-c", &format!("exit {code}")]).exits(code);
    }
    let mut command = home.command(&["exec", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(command.status().unwrap().signal(), Some(15));
}

#[test]
fn exec_replaces_the_process() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let mut command = home.command(&["exec", "--", "sh", "-c", "echo $$; trap 2>/dev/null"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{pid}\n"));
}

#[test]
fn command_inherits_default_signal_handling() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    // The masks of blocked and ignored signals that the command inherits.
    let status = home.run(&["exec", "--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]).exits(0).stdout;
    let masks: Vec<u64> =
        status.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()).collect();
    let terminating = 1 | 1 << 1 | 1 << 14;
    assert_eq!(masks.len(), 2);
    assert!(masks.iter().all(|mask| mask & terminating == 0), "{status}");
    assert_eq!(masks[1] & (1 << 12), 0, "SIGPIPE is not ignored: {status}");
}

#[test]
fn arguments_and_stdin_are_passed_unchanged() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let args = ["", "a b", "$HOME", "--json", "-q", "*", "'", "ü\n", "--"];
    let ran = home.run(&[&["exec", "--", "printf", "<%s>"][..], &args].concat()).exits(0);
    assert_eq!(ran.stdout, args.map(|arg| format!("<{arg}>")).concat());
    assert_eq!(home.run_with(&["exec", "--", "cat"], "line\n\0bytes").exits(0).stdout, "line\n\0bytes");
}

#[test]
fn command_does_not_run_with_denied_token() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let marker = home.path().join("ran");
    let touch = ["exec", "--", "touch", marker.to_str().unwrap()];
    home.run(&["profile", "set", "work", "audience=https://elsewhere.example"]).exits(0);
    home.run(&touch).exits(4).reports("token denied");
    assert_eq!(home.run(&["exec", "--json", "--", "touch", marker.to_str().unwrap()]).exits(4).json()["valid"], false);
    assert!(!marker.exists());
    home.run(&["profile", "set", "work", "audience="]).exits(0);
    home.run(&touch).exits(0);
    assert!(marker.exists());
}

#[test]
fn opaque_token_is_denied_as_by_verify() {
    let home = Sandbox::new();
    let idp = issuer(|options| options.opaque_access_tokens = true);
    home.log_in("work", &idp);
    home.run(&["verify"]).exits(4);
    assert_eq!(home.run(&["exec", "--", "echo", "ran"]).exits(4).stdout, "");
}

#[test]
fn expired_token_is_refreshed_before_command_runs() {
    let home = Sandbox::new();
    let mut idp = quick_issuer();
    home.run(&["exec", "--", "echo", "ran"]).exits(3);
    home.log_in("work", &idp);
    let old = home.token("work");
    home.expire("work");
    let new = home.run(&["exec", "--", "sh", "-c", &show("AUTHCTL_TOKEN")]).exits(0).stdout;
    assert_ne!(new, old);
    assert_eq!(new, home.token("work"));
    home.expire("work");
    idp.pause();
    assert_eq!(home.run(&["exec", "--", "echo", "ran"]).exits(6).stdout, "");
    idp.resume().unwrap();
    home.run(&["logout"]).exits(0);
    assert_eq!(home.run(&["exec", "--", "echo", "ran"]).exits(3).stdout, "");
}

#[test]
fn token_variable_is_used_without_what_is_pasted_with_it() {
    let mut home = Sandbox::new();
    for pasted in [
        "Bearer from-env",
        "\"from-env\"",
        "\u{feff}from-env",
        "from-env\r",
        " bearer 'from-env'\n",
        "DPoP from-env;",
        "AUTHCTL_TOKEN=from-env",
        r#"{"access_token": "from-env", "token_type": "Bearer"}"#,
    ] {
        home.set("AUTHCTL_TOKEN", pasted);
        assert_eq!(home.run(&["token"]).exits(0).stdout, "from-env\n", "{pasted:?}");
        assert_eq!(home.run(&["exec", "--", "sh", "-c", &show("AUTHCTL_TOKEN")]).exits(0).stdout, "from-env");
    }
    home.set("AUTHCTL_TOKEN", " \r\n");
    home.run(&["token"]).exits(3);
    // A line break would add a header to the request of a script. The scheme alone is what an empty secret leaves.
    for invalid in
        ["a\r\nX-Header: b", "a\nb", "a\u{1b}[31mb", "na\u{ef}ve", "hunter2 x", "{\"hunter2\":1}", "Bearer ", "null"]
    {
        home.set("AUTHCTL_TOKEN", invalid);
        for args in [&["token"][..], &["exec", "--", "true"], &["whoami"], &["status", "--check"]] {
            let ran = home.run(args).exits(2).reports("invalid AUTHCTL_TOKEN");
            assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        }
    }
}

#[test]
fn core_dumps_are_prevented_and_the_command_keeps_its_limit() {
    let home = Sandbox::new();
    let soft_limit = |limits: &str| {
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        line.split_whitespace().nth(4).expect("the soft limit").to_owned()
    };
    // The soft limit may be 0 here.
    let raised = |words: &[&str]| {
        home.command_for("sh", &[&["-c", "ulimit -Sc $(ulimit -Hc); exec \"$@\"", "sh"], words].concat())
    };
    let show = ["cat", "/proc/self/limits"];
    let run = |words: &[&str]| String::from_utf8(raised(words).output().unwrap().stdout).unwrap();
    let own = soft_limit(&run(&show));
    let login = ["login", "work", "--with-token", "--issuer", "https://a.example", "--client-id", "a"];
    let waiting = home.spawn_command(raised(&[&[AUTHCTL], &login[..]].concat()), &login);
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", waiting.id())).unwrap();
    wait_until("the limit", || (read("comm") == "authctl\n" && soft_limit(&read("limits")) == "0").then_some(()));
    drop(waiting);
    let exec = run(&[&["env", "AUTHCTL_TOKEN=from-env", AUTHCTL, "exec", "--"], &show[..]].concat());
    assert_eq!(soft_limit(&exec), own);
}

#[test]
fn command_that_cannot_run_exits_as_in_a_shell() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.run(&["exec", "--", "no-such-command-here"]).exits(127).reports("cannot run `no-such-command-here`");
    // A script that exists, with an interpreter that does not.
    let script = home.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    home.run(&["exec", "--", script.to_str().unwrap()]).exits(126).reports("its interpreter does not exist");
    let failed = home.run(&["exec", "--json", "--", "/etc"]).exits(126);
    assert_eq!(failed.error()["code"], "command_not_executable");
    assert_eq!(
        home.run(&["exec", "work", "--json", "--", "none-such"]).exits(127).error()["code"],
        "command_not_found"
    );
    home.run(&["exec"]).exits(2).reports("hint:  authctl exec --help");
    home.run(&["exec", "work"]).exits(2).reports("hint:  authctl exec --help");
    home.run(&["exec", "env"]).exits(2).reports("no command was given").reports("hint:  authctl exec -- env");
}

#[test]
fn command_after_the_profile_needs_no_dashes() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let token = home.token("work");
    for words in [
        &["work", "sh", "-c", "printf %s $AUTHCTL_TOKEN"][..],
        &["work", "--env", "AUTHCTL_TOKEN", "sh", "-c", "printf %s $AUTHCTL_TOKEN"],
        &["--profile", "work", "sh", "-c", "printf %s $AUTHCTL_TOKEN"],
        &["--profile", "work", "--", "sh", "-c", "printf %s $AUTHCTL_TOKEN"],
        &["work", "--profile", "work", "--", "sh", "-c", "printf %s $AUTHCTL_TOKEN"],
    ] {
        assert_eq!(home.run(&[&["exec"][..], words].concat()).exits(0).stdout, token, "{words:?}");
    }
    // Options after the command are the command's own.
    assert_eq!(home.run(&["exec", "work", "echo", "--json", "--", "-q"]).exits(0).stdout, "--json -- -q\n");
    home.run(&["exec", "echo", "a b"]).exits(2).reports("unknown profile `echo`").reports("authctl exec -- echo 'a b'");
    home.run(&["exec", "work", "--hlep"]).exits(2).reports("unknown option `--hlep`").reports("authctl exec --help");
    home.run(&["exec", "--profile", "work", "--hlep"]).exits(2);
    home.run(&["exec", "./run", "x"]).exits(2).reports("authctl exec -- ./run x");
    home.run(&["exec", "other", "--profile", "work", "--", "true"]).exits(2).reports("two profiles");
}

#[test]
fn command_inherits_no_token_and_no_other_variable_of_authctl() {
    let mut home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.set("AUTHCTL_TOKEN", "from-env");
    home.set("AUTHCTL_TOKEN_FILE", "/from/env");
    let names = |words: &[&str]| {
        let ran = home.run(&[&["exec"][..], words, &["--", "env"]].concat()).exits(0).stdout;
        let lines = ran.lines().filter(|line| line.starts_with("AUTHCTL_"));
        let mut names: Vec<String> = lines.filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
        names.sort();
        names
    };
    assert_eq!(names(&["--env", "T"]), ["AUTHCTL_SOCK", "AUTHCTL_STORE"]);
    assert_eq!(names(&["work"]), ["AUTHCTL_SOCK", "AUTHCTL_STORE", "AUTHCTL_TOKEN"]);
    assert_eq!(names(&["work", "--file", "token"]), ["AUTHCTL_SOCK", "AUTHCTL_STORE", "AUTHCTL_TOKEN_FILE"]);
}
