//! Every hint that is a command works when it is pasted.

mod login;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::json;

use crate::support::{AUTHCTL, CommandOutput, PASSWORD, Sandbox, USER, quick_issuer};

/// Runs the command of a hint as the shell does.
#[track_caller]
pub fn paste(home: &Sandbox, hint: &str, stdin: &str) -> CommandOutput {
    let line = hint;
    assert!(line.starts_with("authctl ") || line.starts_with("chmod "), "no command: {hint}");
    let script = format!("authctl() {{ '{AUTHCTL}' \"$@\"; }}; {line}");
    let mut command = home.command_for("sh", &["-c", &script]);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("sh");
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    home.finish(child, &[line])
}

/// Runs the command of a hint in a terminal, where a password is typed.
#[track_caller]
fn paste_in_terminal(home: &Sandbox, hint: &str) -> CommandOutput {
    let script = format!("authctl() {{ '{AUTHCTL}' \"$@\"; }}; {}", hint);
    let mut command = home.spawn_program_in_terminal("sh", &["-c", &script], 0);
    if !hint.contains("--username") {
        command.reports("User name: ");
        command.type_text(&format!("{USER}\r"));
    }
    command.reports("Password: ");
    command.type_text(&format!("{PASSWORD}\r"));
    command.wait()
}

/// Runs `args`, which must fail with the same hint in both formats, and returns the hint.
#[track_caller]
fn hint_of(home: &Sandbox, args: &[&str]) -> String {
    let stdin = format!("{PASSWORD}\n");
    let ran = home.run_with(args, &stdin);
    let text = ran.stderr.lines().find_map(|line| line.strip_prefix("hint:  ")).map(str::to_owned);
    let text = text.unwrap_or_else(|| panic!("{args:?}: no hint in {:?}", ran.stderr));
    assert_ne!(ran.code, 0, "{args:?}");
    let end = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
    let json = [&args[..end], &["--json"], &args[end..]].concat();
    let ran = home.run_with(&json, &stdin);
    let hint = ran.error()["hint"].as_str().expect("a text").to_owned();
    assert_eq!(hint.replace(" --json", ""), text, "{args:?}");
    text
}

/// Returns the advice of the error with which `args` fails.
#[track_caller]
fn note_of(home: &Sandbox, args: &[&str]) -> String {
    let ran = home.run_with(args, &format!("{PASSWORD}\n"));
    let text = ran.stderr.lines().find_map(|line| line.strip_prefix("note:  ")).map(str::to_owned);
    text.unwrap_or_else(|| panic!("{args:?}: no note in {:?}", ran.stderr))
}

/// Brings the program into a situation, and expects `hint`, which must exit with 0.
#[track_caller]
fn leads_on(home: &Sandbox, args: &[&str], hint: &str) {
    let found = hint_of(home, args);
    assert_eq!(found, hint, "{args:?}");
    assert_eq!(paste(home, &found, &format!("{PASSWORD}\n")).code, 0, "{args:?}: {found}");
}

#[test]
fn hints_without_a_profile_lead_to_a_login() {
    let home = Sandbox::new();
    for (args, hint) in [
        (&["token"][..], "authctl login"),
        (&["verify"], "authctl login"),
        (&["whoami"], "authctl login"),
        (&["token", "work"], "authctl login work"),
        (&["logout", "work"], "authctl login work"),
        (&["status", "work"], "authctl login work"),
        (&["refresh", "work"], "authctl login work"),
        (&["exec", "work", "--", "true"], "authctl login work"),
        (&["profile", "show", "work"], "authctl login work"),
        (&["profile", "use", "work"], "authctl login work"),
        (&["profile", "set", "work", "scopes=openid"], "authctl login work"),
    ] {
        assert_eq!(hint_of(&home, args), hint, "{args:?}");
    }
    // It asks at a terminal. Without one, its options are needed.
    for args in [&["login"][..], &["login", "work"]] {
        leads_on(&home, args, "authctl login --help");
    }
    home.run(&["profile", "list"]).exits(0).reports("run `authctl login`");
}

#[test]
fn hints_for_a_misspelt_profile_correct_the_typed_command() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    for (args, hint) in [
        (&["token", "wrok"][..], "authctl token work"),
        (&["token", "wrok", "--min-ttl", "1m"], "authctl token work --min-ttl 1m"),
        (&["verify", "wrok"], "authctl verify work"),
        (&["status", "wrok"], "authctl status work"),
        (&["--quiet", "refresh", "wrok"], "authctl --quiet refresh work"),
        (&["exec", "wrok", "--", "echo", "wrok two"], "authctl exec work -- echo 'wrok two'"),
        (&["profile", "show", "wrok"], "authctl profile show work"),
        (&["profile", "set", "wrok", "scopes=openid profile"], "authctl profile set work 'scopes=openid profile'"),
        (&["token", "zzz"], "authctl profile list"),
        (&["logout", "wrok"], "authctl logout work"),
    ] {
        leads_on(&home, args, hint);
    }
}

#[test]
fn hints_for_a_profile_from_the_environment_list_the_profiles() {
    let (mut home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    home.set("AUTHCTL_PROFILE", "wrok");
    leads_on(&home, &["token"], "authctl profile list");
}

#[test]
fn hints_of_a_session_lead_to_its_next_command() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    home.log_in("other one".replace(' ', "-").as_str(), &idp);
    leads_on(&home, &["profile", "remove", "work"], "authctl logout work");
    home.unset_default_profile();
    leads_on(&home, &["token"], "authctl profile use other-one");
    leads_on(&home, &["profile", "rename", "other-one", "work"], "authctl profile list");
    leads_on(&home, &["profile", "set", "work", "nonsense=1"], "authctl profile set --help");
    leads_on(&home, &["keys", "pin", "work"], "authctl keys pin --help");
    leads_on(&home, &["tokn"], "authctl token");
    leads_on(&home, &["frobnicate"], "authctl --help");
    leads_on(&home, &["token", "--min-ttl", "soon"], "authctl token --help");
    leads_on(&home, &["agent", "lock", "--passphrase-stdin"], "authctl agent start");
    home.run(&["agent", "stop"]).exits(0);
    home.run(&["agent", "stop"]).exits(0).reports("not running");
}

#[test]
fn hints_for_files_that_are_too_open_correct_their_mode() {
    use std::os::unix::fs::PermissionsExt as _;

    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    for (file, mode) in [(home.config_file(), 0o666), (home.key_file(), 0o644)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let hint = hint_of(&home, &["token"]);
        paste(&home, &hint, "").exits(0);
        home.run(&["token"]).exits(0);
    }
}

#[test]
fn hints_for_an_unreachable_issuer_lead_to_doctor() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.expire("work");
    drop(issuer);
    for args in [&["refresh", "work"][..], &["token"], &["keys", "update"], &["exec", "work", "--", "true"]] {
        let hint = hint_of(&home, args);
        assert_eq!(hint, "authctl doctor work", "{args:?}");
    }
    let found = paste(&home, "authctl doctor work", "").exits(6).stdout;
    assert!(found.contains("refused") && found.contains("check the network"), "{found}");
    assert!(!found.contains("authctl doctor"), "{found}");
}

#[test]
fn hints_for_a_denied_token_show_what_is_required() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let verify = ["verify", "work", "--claim", "role=admin"];
    let hint = "authctl verify work --claim role=admin --explain";
    let ran = home.run(&verify).exits(4).reports(&format!("hint:  {hint}\n"));
    assert!(ran.stderr.contains("token denied"), "{}", ran.stderr);
    paste(&home, hint, "").exits(4).reports("hint:  authctl profile show work\n");
    paste(&home, "authctl profile show work", "").exits(0);
    let token = home.token("work");
    home.run_with(&["verify", "-", "--claim", "role=admin"], &token).exits(4).reports("authctl profile show work");
    home.run(&["profile", "set", "work", "required_roles=admin"]).exits(0);
    home.run(&["exec", "work", "--", "true"]).exits(4).reports("hint:  authctl verify work --explain\n");
}

#[test]
fn hint_for_a_read_only_configuration_copies_it() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let mount = format!("mount --bind {0} {0} && mount -o remount,bind,ro {0}", home.path().join("config").display());
    let set = ["profile", "set", "work", "audience=https://api.example"];
    let ran = home.mounted(&format!("{mount} && exec \"$0\" \"$@\""), &set, "").exits(2);
    let hint = ran.stderr.lines().find_map(|line| line.strip_prefix("hint:  ")).expect("a hint");
    assert!(hint.starts_with("cp ") && hint.ends_with("export AUTHCTL_CONFIG=~/authctl.toml"), "{hint}");
    let pasted = format!("{mount} && {hint} && exec \"$0\" \"$@\"");
    home.mounted(&pasted, &set, "").exits(0);
    home.mounted(&pasted, &["token", "work"], "").exits(0);
}

#[test]
fn hints_of_exec_show_where_the_command_was_looked_for() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    let directory = home.path().display().to_string();
    for (program, code, hint) in [
        ("nonexistent-program".to_owned(), 127, "echo \"$PATH\"".to_owned()),
        (format!("{directory}/bin/program"), 127, format!("ls -la {directory}")),
        (directory.clone(), 126, format!("ls -la {directory}")),
    ] {
        let ran = home.run(&["exec", "work", "--", &program]).exits(code).reports(&format!("hint:  {hint}\n"));
        assert!(ran.stderr.contains(&program), "{}", ran.stderr);
        let shell = home.command_for("sh", &["-c", &hint]).output().expect("sh");
        assert!(shell.status.success() && !shell.stdout.is_empty(), "{hint}");
    }
}

#[test]
fn missing_passphrase_is_piped_in_or_typed_in_a_terminal() {
    let home = Sandbox::new();
    home.run(&["agent", "start"]).exits(0);
    // The same command without a terminal would fail again.
    for (more, note) in [
        (&[][..], "pipe it in with --passphrase-stdin, or run this in a terminal"),
        (&["--passphrase-stdin"], "check the command before the pipe"),
    ] {
        let ran = home.run(&[&["agent", "lock", "--after", "10m"], more].concat());
        assert_ne!(ran.code, 0);
        assert!(!ran.stderr.contains("hint:"), "{}", ran.stderr);
        ran.reports(&format!("note:  {note}\n"));
    }
    let script = format!("authctl() {{ '{AUTHCTL}' \"$@\"; }}; authctl agent lock --after 10m");
    // Either prompt is closed.
    for typed in [&["\x04"][..], &["one\r", "\x04"]] {
        let mut lock = home.spawn_program_in_terminal("sh", &["-c", &script], 0);
        for (prompt, text) in ["Passphrase: ", "Repeat passphrase: "].iter().zip(typed) {
            lock.reports(prompt);
            lock.type_text(text);
        }
        let closed = lock.wait().exits(8).reports("no passphrase was entered");
        closed.reports("authctl agent lock --after 10m");
    }
    let mut lock = home.spawn_program_in_terminal("sh", &["-c", &script], 0);
    for prompt in ["Passphrase: ", "Repeat passphrase: "] {
        lock.reports(prompt);
        lock.type_text("not remembered\r");
    }
    lock.wait().exits(0);
    home.run_with(&["agent", "lock", "--passphrase-stdin"], "not remembered\n").exits(0);
    let lock = home.spawn_program_in_terminal("sh", &["-c", &script], 0).wait().exits(8).stderr;
    assert!(lock.contains("the agent is locked") && !lock.contains("Passphrase"), "{lock}");
    home.run(&["agent", "stop"]).exits(0);
}

#[test]
fn hint_for_two_profiles_keeps_the_argument() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.log_in("home", &issuer);
    leads_on(&home, &["token", "work", "--profile", "home"], "authctl token work --profile work");
    leads_on(&home, &["refresh", "--all", "--profile", "home"], "authctl refresh home");
    leads_on(&home, &["logout", "--all", "--profile", "home"], "authctl logout home");
}

#[test]
fn hint_for_a_used_port_of_the_dev_issuer_takes_a_free_one() {
    let home = Sandbox::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let hint = hint_of(&home, &["dev-issuer", "--port", &port, "--opaque"]);
    assert_eq!(hint, "authctl dev-issuer --opaque --port 0");
    let script = format!("authctl() {{ exec '{AUTHCTL}' \"$@\"; }}; {hint}");
    home.spawn_program_in_terminal("sh", &["-c", &script], 0).reports("Press Ctrl-C to stop it");
}

#[test]
fn hints_for_a_lost_session_lead_to_a_login() {
    let issuer = quick_issuer();
    type Lose = fn(&Sandbox);
    let lose: [(&str, Lose); 4] = [
        ("damaged", |home| fs::write(home.session_file("work"), "damaged").unwrap()),
        ("without its key", |home| fs::remove_file(home.key_file()).unwrap()),
        ("deleted", |home| fs::remove_file(home.session_file("work")).unwrap()),
        ("logged out", |home| drop(home.run(&["logout", "work"]).exits(0))),
    ];
    for (how, lose) in lose {
        let home = Sandbox::new();
        home.log_in("work", &issuer);
        lose(&home);
        for command in ["token", "refresh", "verify", "whoami"] {
            let hint = hint_of(&home, &[command]);
            assert_eq!(hint, "authctl login work", "{how}, {command}");
        }
        paste_in_terminal(&home, "authctl login work").exits(0);
        home.run(&["token", "work"]).exits(0);
    }
}

#[test]
fn hint_for_an_unwritable_store_names_it() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    // Nothing can be written below a file, also by root.
    fs::create_dir_all(home.path().join("data/authctl")).unwrap();
    fs::write(home.path().join("data/authctl/sessions"), "").unwrap();
    let login =
        ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--password", "--username", USER];
    let ran = home.run_with(&[&login[..], &["--password-stdin"]].concat(), &format!("{PASSWORD}\n")).exits(7);
    ran.reports(&format!("hint:  ls -la {}\n", home.path().join("data/authctl/sessions").display()));
}

#[test]
fn min_ttl_longer_than_the_token_is_reported() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    home.run(&["token", "--min-ttl", "240h"]).exits(0).reports("sooner than --min-ttl requires");
    let enough = home.run(&["token", "--min-ttl", "1m"]).exits(0);
    assert_eq!(enough.stderr, "");
    home.run(&["token", "--quiet", "--min-ttl", "240h"]).exits(0);
}

/// Checks that each command of authctl that is printed names the configuration.
#[track_caller]
fn names_configuration(home: &Sandbox, args: &[&str], stdin: &str, config: &str, count: usize) {
    let ran = home.run_with(&[args, &["--config", config]].concat(), stdin);
    let printed = format!("{}{}", ran.stdout, ran.stderr);
    let commands: Vec<&str> = printed.split("authctl ").skip(1).collect();
    assert_eq!(commands.len(), count, "{args:?}: {printed}");
    for command in commands {
        assert!(command.lines().next().is_some_and(|line| line.contains(&format!("--config {config}"))), "{printed}");
    }
}

#[test]
fn printed_commands_repeat_the_typed_configuration() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let config = home.agent_readable("other.toml");
    let config = config.to_str().expect("text");
    for args in [&["status"][..], &["profile", "list"], &["refresh", "--all"]] {
        names_configuration(&home, args, "", config, 1);
    }
    home.log_in("work", &issuer);
    fs::copy(home.config_file(), config).expect("copied");
    names_configuration(&home, &["keys", "show"], "", config, 0);
    home.run(&["agent", "start", "--config", config]).exits(0);
    let (lock, secret) = (["agent", "lock", "--passphrase-stdin"], "the pass phrase\n");
    // How it is unlocked, and how the file store is locked too.
    names_configuration(&home, &lock, secret, config, 2);
    for args in [&["agent", "status"][..], &["status"], &["status", "work"], &["token"], &["agent", "lock"]] {
        names_configuration(&home, args, "", config, 1);
    }
    let ran = home.run(&["exec", "--config", config, "--", "true"]).exits(8);
    ran.reports(&format!("hint:  authctl agent unlock --config {config}\n"));
    home.run_with(&["agent", "unlock", "--passphrase-stdin", "--config", config], secret).exits(0);
    issuer.revoke_everything();
    home.expire("work");
    for args in [&["token"][..], &["refresh"], &["status"], &["status", "work"], &["verify"]] {
        names_configuration(&home, args, "", config, 1);
    }
    home.run(&["agent", "stop", "--config", config]).exits(0);
}

#[test]
fn tools_show_the_typed_configuration_too() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.run(&["profile", "set", "work", "hosts=a.example"]).exits(0);
    home.run(&["logout", "work"]).exits(0);
    let config = home.config_file();
    let config = config.to_str().expect("text");
    let cargo =
        json!({"v": 1, "kind": "get", "operation": "read", "registry": {"index-url": "sparse+https://a.example/"}});
    for (tool, word, request) in
        [("docker", Some("get"), "https://a.example\n"), ("cargo", None, &format!("{cargo}\n"))]
    {
        let args = ["helper", tool, "--config", config].into_iter().chain(word).collect::<Vec<_>>();
        let ran = home.run_with(&args, request);
        assert!(ran.stdout.contains(&format!("authctl login work --config {config}")), "{tool}: {}", ran.stdout);
    }
}
