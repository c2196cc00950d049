//! `authctl exec --file`: what the file has while the command runs, and which signals the command gets.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use authctl::dev_issuer::Algorithm;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::agent::Agent;
use crate::support::process::{PRINT_SIGNALS, assert_signals_arrive, wait_until};
use crate::support::{AUTHCTL, Sandbox, issuer, quick_issuer};

/// Waits until the file has another token, three times.
const WATCH: &str = r#"
    umask 077; echo "${AUTHCTL_TOKEN-unset} $(stat -c %a "$AUTHCTL_TOKEN_FILE")"
    for round in 1 2 3; do
        cp "$AUTHCTL_TOKEN_FILE" before
        while cmp -s "$AUTHCTL_TOKEN_FILE" before; do :; done
        cat "$AUTHCTL_TOKEN_FILE"; echo
    done
    exit 7
"#;

#[test]
fn file_has_a_fresh_token_while_the_command_runs() {
    let idp = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.access_token_ttl = std::time::Duration::from_secs(4);
    });
    let home = Sandbox::new();
    home.log_in("work", &idp);
    let file = home.path().join("token");
    let exec = || home.run(&["exec", "work", "--file", "token", "--", "sh", "-c", WATCH]).exits(7);
    let check = |ran: crate::support::CommandOutput| {
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines[0], "unset 600");
        let expiry = |token: &str| crate::support::jwt::claims(token)["exp"].as_i64().unwrap();
        assert!(lines[1..].is_sorted_by_key(|token| expiry(token)) && lines.len() == 4, "{}", ran.stdout);
        assert_eq!(ran.stderr, "");
        assert!(!file.exists());
    };
    check(exec());
    let _agent = Agent::run(&home);
    check(exec());
}

#[test]
fn file_goes_when_the_command_is_terminated_or_cannot_run() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let file = home.path().join("token");
    let path = file.to_str().unwrap();
    let script = "trap 'exit 9' TERM; cat \"$T\" > seen; while :; do read -r line || :; done";
    let running = home.spawn(&["exec", "work", "--file", path, "--env", "T", "--", "sh", "-c", script]);
    wait_until("the command", || home.path().join("seen").exists().then_some(()));
    running.signal(Signal::TERM);
    running.wait().exits(9);
    assert!(!file.exists());
    home.run(&["exec", "work", "--file", path, "--", "sh", "-c", "kill -KILL $$"]).exits(137);
    home.run(&["exec", "work", "--file", path, "--", "no-such-command-here"]).exits(127);
    home.run(&["exec", "work", "--file", path, "--", "/etc"]).exits(126);
    assert!(!file.exists());
    std::fs::write(&file, "not a token\n").unwrap();
    let ran = home.run(&["exec", "work", "--file", path, "--", "echo", "ran"]).exits(2).reports("it exists already");
    assert_eq!(ran.stdout, "");
    assert!(file.exists());
}

#[test]
fn file_that_was_there_before_is_left_alone() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let file = home.path().join("file");
    let exec = || home.run(&["exec", "work", "--file", "file", "--", "echo", "ran"]).exits(2);
    for content in ["hello", "", "eyJ.a.b", "hello\n", "two words\n"] {
        fs::write(&file, content).unwrap();
        let ran = exec().reports("cannot write a token to").reports("it exists already");
        assert_eq!((ran.stdout, fs::read_to_string(&file).unwrap().as_str()), (String::new(), content));
    }
    // Its own token too, of a command that was killed.
    fs::write(&file, home.token("work")).unwrap();
    exec().reports("it exists already");
    fs::remove_file(&file).unwrap();
    symlink("elsewhere", &file).unwrap();
    exec();
    assert!(file.is_symlink() && !home.path().join("elsewhere").exists());
    fs::remove_file(&file).unwrap();
    home.run(&["profile", "set", "work", &format!("token_file={}", file.display())]).exits(0);
    let dotted = home.path().join("run/../file");
    home.run(&["exec", "work", "--file", dotted.to_str().unwrap(), "--", "echo", "ran"])
        .exits(2)
        .reports("it is the `token_file` of `work`");
    assert_eq!(fs::read_to_string(&file).unwrap(), home.token("work"));
}

#[test]
fn file_that_another_program_has_changed_is_left_alone() {
    let idp = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.access_token_ttl = Duration::from_secs(4);
    });
    let home = Sandbox::new();
    home.log_in("work", &idp);
    let script = "printf other > token; read -r _; exit 0";
    let mut running = home.spawn(&["exec", "work", "--file", "token", "--", "sh", "-c", script]);
    // When the token is due for a refresh.
    running.reports("not refreshed: another program has changed it");
    running.type_text("\n");
    running.wait().exits(0).reports("is not removed: another program has changed it");
    assert_eq!(fs::read_to_string(home.path().join("token")).unwrap(), "other");
    fs::remove_file(home.path().join("token")).unwrap();
    // One that was removed is written again.
    let script = "rm token; while ! test -s token; do :; done; cat token";
    let ran = home.run(&["exec", "work", "--file", "token", "--", "sh", "-c", script]).exits(0);
    assert_eq!(ran.stdout, home.session("work").tokens.access_token.expose());
}

#[test]
fn opaque_token_in_the_file_is_refreshed_before_it_expires() {
    let idp = issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.access_token_ttl = Duration::from_secs(4);
        options.opaque_access_tokens = true;
    });
    let home = Sandbox::new();
    home.log_in("work", &idp);
    home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    let exec = || home.run(&["exec", "work", "--file", "token", "--", "sh", "-c", WATCH]).exits(7);
    let check = |ran: crate::support::CommandOutput| {
        let tokens: Vec<&str> = ran.stdout.lines().skip(1).collect();
        assert!(tokens.len() == 3 && tokens.iter().all(|token| !token.contains('.')), "{}", ran.stdout);
        assert_eq!(ran.stderr, "");
    };
    check(exec());
    let _agent = Agent::run(&home);
    check(exec());
}

#[test]
fn command_inherits_signals_that_are_ignored() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let ignored = |trap: &str, words: &[&str]| {
        let script = format!("{trap}; exec \"$0\" \"$@\"");
        let exec = [&["-c", &script, AUTHCTL, "exec", "work"][..], words, &["--", "cat", "/proc/self/status"]].concat();
        let output = home.command_for("sh", &exec).output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask").trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap() & (1 | 1 << 1 | 1 << 14)
    };
    for words in [&[][..], &["--file", "token"]] {
        assert_eq!(ignored(":", words), 0, "{words:?}");
        assert_eq!(ignored("trap '' INT", words), 1 << 1, "{words:?}");
        assert_eq!(ignored("trap '' HUP", words), 1, "nohup: {words:?}");
        assert_eq!(ignored("trap '' INT HUP TERM", words), 1 | 1 << 1 | 1 << 14, "{words:?}");
    }
}

#[test]
fn ignored_signal_ends_no_command() {
    let (home, idp) = (Sandbox::new(), issuer(|_| {}));
    let login = "login work --client-id authctl --scope openid --device --issuer";
    let script = format!("trap '' INT HUP; exec \"$0\" {login} {}", idp.issuer());
    let running = home.spawn_command(home.command_for("sh", &["-c", &script, AUTHCTL]), &[]);
    running.reports("Ctrl-C cancels");
    running.signal(Signal::HUP);
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    // A signal that is not ignored.
    running.wait().exits(130);
    let ended_by = |signals: &str| {
        let script = format!("trap '' {signals}; exec \"$0\" agent run");
        let agent = home.spawn_command(home.command_for("sh", &["-c", &script, AUTHCTL]), &[]);
        agent.reports("the agent listens at");
        agent.signal(Signal::HUP);
        agent
    };
    ended_by("INT").wait().exits(0);
    let agent = ended_by("HUP");
    home.run(&["agent", "status"]).exits(0).reports("");
    agent.signal(Signal::TERM);
    agent.wait().exits(0);
}

/// Counts its signals until the second TERM, so that all that were sent before the first have arrived.
const TRAPS: &str = "terms=0; trap 'echo interrupted' INT; \
    trap 'terms=$((terms + 1)); echo terminated $terms' TERM; \
    echo \"started by $PPID\"; while test $terms -lt 2 -a -d $HOME; do sleep 0.01; done";

#[test]
fn ctrl_c_reaches_the_command_once_wherever_its_streams_lead() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    for streams in ["", "< /dev/null"] {
        let trace = "strace -f -qq -o calls -e trace=kill";
        let script = format!("exec {trace} '{AUTHCTL}' exec work --file token -- sh -c \"$0\" {streams}");
        let mut running = home.spawn_program_in_terminal("sh", &["-c", &script, TRAPS], 0);
        let started = running.wait_for_line("started by ");
        let authctl = Pid::from_raw(started.rsplit(' ').next().unwrap().parse().unwrap()).unwrap();
        running.type_text("\u{3}");
        running.reports("interrupted");
        for count in 1..=2 {
            kill_process(authctl, Signal::TERM).unwrap();
            running.wait_for_line(&format!("terminated {count}"));
        }
        running.wait().exits(0);
        let calls = fs::read_to_string(home.path().join("calls")).unwrap();
        let sent = |signal: &str| calls.lines().filter(|call| call.contains(" kill(") && call.contains(signal)).count();
        assert_eq!((sent("SIGTERM"), sent("SIGINT")), (2, 0), "{streams}: {calls}");
    }
    // Of another program, only if authctl passes it on.
    assert_signals_arrive(&home, &["exec", "work", "--file", "token", "--"]);
}

#[test]
fn signal_of_a_process_arrives_in_the_foreground_too() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let mut running = home.spawn_in_terminal(&["exec", "--file", "held", "work", "--", "sh", "-c", PRINT_SIGNALS]);
    running.reports("ready");
    for (name, signal) in
        [("INT", Signal::INT), ("QUIT", Signal::QUIT), ("TSTP", Signal::TSTP), ("WINCH", Signal::WINCH)]
    {
        running.signal(signal);
        running.reports(&format!("got {name}\r\n"));
    }
    // The command has this one from the terminal.
    running.type_text("\u{3}");
    running.wait_until("Ctrl-C", |text| (text.matches("got INT").count() == 2).then_some(()));
    for name in ["TERM 1", "TERM 2"] {
        running.signal(Signal::TERM);
        running.reports(&format!("got {name}"));
    }
    let text = running.wait().exits(9).stderr;
    assert_eq!(text.matches("got").count(), 7, "{text}");
}

#[test]
fn terminal_without_a_shell_stops_no_command() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let path = home.path().join("held");
    let exec = format!(
        "'{AUTHCTL}' exec --file '{}' work -- sh -c 'echo ready; read line; echo got $line'; exit $?",
        path.display()
    );
    let alone = vec!["-c", &exec];
    // In a container, its session and its group have no number if they began outside.
    let container = [&["--user", "--map-root-user", "--pid", "--fork", "sh"], &alone[..]].concat();
    for (program, args) in [("sh", &alone), ("unshare", &container)] {
        // Nothing would continue it: the terminal has no shell, and the kernel does not stop the command either.
        let mut running = home.spawn_program_in_terminal(program, args, 0);
        running.reports("ready");
        running.type_text("\u{1a}");
        running.type_text("x\n");
        running.reports("got x");
        running.wait().exits(0);
        assert!(!path.exists());
    }
}
