//! Output: data on stdout, messages on stderr, one format for errors, and readers that close the pipe.

use std::fs;
use std::process::Stdio;

use crate::support::login_pages::LoginPages;
use crate::support::{CommandOutput, Sandbox, USER, quick_issuer};

fn logged_in() -> (Sandbox, authctl::dev_issuer::DevIssuer) {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    (home, idp)
}

/// Fails the test unless the command reported `code` as one line of JSON with the documented members, and nothing else.
#[track_caller]
fn assert_json_error(ran: &CommandOutput, code: &str) {
    assert_eq!(ran.stdout, "", "no data");
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    let value: serde_json::Value = serde_json::from_str(&ran.stderr).expect("JSON");
    assert_eq!(value.as_object().unwrap().len(), 1, "{value}");
    let error = value["error"].as_object().unwrap();
    let members: Vec<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(members, ["code", "hint", "message"]);
    assert_eq!(error["code"], code);
    for member in ["message", "hint"] {
        let text = error[member].as_str().unwrap();
        assert!(!text.trim().is_empty() && !text.contains('\n'), "{member}: {text:?}");
    }
}

#[test]
fn closed_stdout_is_not_an_error() {
    let (home, _idp) = logged_in();
    for args in [&["token"][..], &["status"], &["status", "--json"], &["profile", "list"], &["verify"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = home.command(args).stdin(Stdio::null()).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn full_disk_behind_stdout_is_an_error() {
    let (home, _idp) = logged_in();
    for args in [&["token"][..], &["status"], &["status", "--json"], &["profile", "show"], &["verify", "--json"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = home.command(args).stdin(Stdio::null()).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"), "{args:?}");
    }
}

#[test]
fn closed_stderr_does_not_change_the_exit_code() {
    let (home, _idp) = logged_in();
    for (args, code) in [(&["token", "-vvv"][..], 0), (&["verify", "--audience", "x"], 4), (&["token", "x"], 2)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = home.command(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn colour_follows_option_environment_and_terminal() {
    let (mut home, _idp) = logged_in();
    let coloured = |home: &Sandbox, more: &[&str]| {
        let shown = home.run(&[&["status"][..], more].concat()).exits(0).stdout;
        assert!(shown.contains("signed in"), "the state is a word, not only a colour");
        shown.contains('\u{1b}')
    };
    assert!(!coloured(&home, &[]), "a pipe is not a terminal");
    assert!(coloured(&home, &["--color", "always"]));
    home.set("CLICOLOR_FORCE", "1");
    assert!(coloured(&home, &[]));
    assert!(!coloured(&home, &["--color", "never"]));
    home.set("NO_COLOR", "1");
    assert!(!coloured(&home, &[]), "NO_COLOR takes precedence");
    assert!(coloured(&home, &["--color", "always"]), "the option takes precedence over the environment");
    home.unset("NO_COLOR");
    home.set("TERM", "dumb");
    assert!(!coloured(&home, &[]), "a dumb terminal has no colour");
    home.unset("TERM");
    home.set("CLICOLOR_FORCE", "0");
    assert!(!coloured(&home, &[]));
    assert!(!home.run(&["token", "--color", "always"]).exits(0).stdout.contains('\u{1b}'), "data is never coloured");
    assert!(!home.run(&["status", "--json", "--color", "always"]).exits(0).stdout.contains('\u{1b}'));
}

#[test]
fn quiet_prints_only_errors() {
    let (home, _idp) = logged_in();
    for args in [&["refresh", "-q"][..], &["profile", "use", "work", "-q"], &["verify", "-q"], &["logout", "-q"]] {
        let ran = home.run(args).exits(0);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{args:?}");
    }
    home.run(&["token", "-q"]).exits(3).reports("authctl login work");
    home.run(&["token", "-q", "-v"]).exits(2);
}

#[test]
fn quiet_still_shows_where_to_sign_in() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "-q"];
    let device = home.spawn(&[&args[..], &["--device"]].concat());
    device.wait_for_line(&format!("{}/device", issuer.issuer()));
    device.reports("enter the code");
    device.reports("Never enter a code that you were sent");
    device.signal(rustix::process::Signal::INT);
    let printed = device.wait().exits(130).stderr;
    // The user compares this with the issuer's page (RFC 8628, section 5.4), so it is printed; progress is not.
    let asks = format!("Requesting scope openid profile offline_access from {}, as client", issuer.issuer());
    assert!(printed.contains(&asks) && !printed.contains("Ctrl-C"), "{printed}");
    let pasted = home.spawn(&[&args[..], &["--no-browser"]].concat());
    let address = pasted.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    let printed = pasted.wait().exits(0).stderr;
    assert!(!printed.contains("Logged in"), "{printed}");
}

#[test]
fn error_is_one_line_followed_by_a_hint() {
    let (home, _idp) = logged_in();
    let ran = home.run(&["token", "wrok"]).exits(2);
    assert_eq!(ran.stdout, "");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("error: ") && (lines[1].starts_with("hint:  ") || lines[1].starts_with("note:  ")),
        "{lines:?}"
    );
}

#[test]
fn errors_of_each_kind_are_printed_as_json() {
    let home = Sandbox::new();
    assert_json_error(&home.run(&["token", "--json"]).exits(3), "login_required");
    let (home, mut idp) = logged_in();
    assert_json_error(&home.run(&["token", "missing", "--json"]).exits(2), "unknown_profile");
    assert_json_error(
        &home.run_with(&["login", "--password", "--username", "a", "--password-stdin", "--json"], "no\n").exits(5),
        "issuer_refused",
    );
    home.expire("work");
    idp.pause();
    assert_json_error(&home.run(&["token", "--json"]).exits(6), "issuer_unreachable");
    assert_json_error(&home.run(&["exec", "--json", "--", "true"]).exits(6), "issuer_unreachable");
    idp.resume().unwrap();
    idp.revoke_everything();
    assert_json_error(&home.run(&["refresh", "--json"]).exits(3), "login_required");
    fs::write(home.session_file("work"), "spoilt").unwrap();
    assert_json_error(&home.run(&["token", "--json"]).exits(7), "session_damaged");
    fs::write(home.config_file(), "nonsense").unwrap();
    assert_json_error(&home.run(&["token", "--json"]).exits(2), "configuration");
}

#[test]
fn usage_errors_are_printed_as_json() {
    let home = Sandbox::new();
    for args in [
        &["--json", "tokn"][..],
        &["token", "--json", "--nonsense"],
        &["token", "--json", "a", "b"],
        &["exec", "--json"],
        &["profile", "--json"],
        &["--json"],
        &["token", "--json", "../etc"],
        &["verify", "-", "--json", "--leeway", "x"],
        &["login", "--json", "--browser", "--device"],
    ] {
        let ran = home.run(args).exits(2);
        assert_json_error(&ran, "usage");
        let message = ran.error()["message"].as_str().unwrap().to_owned();
        assert!(!message.ends_with(':') && !message.starts_with("Usage"), "states the error: {args:?}: {message}");
    }
    for (args, help) in [
        (&["login", "--json", "--isuer", "x"][..], "authctl login --help"),
        (&["--config", "token", "agent", "start", "--json", "x"], "authctl agent start --help"),
        (&["--json", "tokn"], "authctl --json token"),
        (&["--json", "frobnicate"], "authctl --help"),
    ] {
        assert_eq!(home.run(args).exits(2).error()["hint"], help, "{args:?}");
    }
    let typo = home.run(&["login", "--json", "--isuer", "x"]).exits(2).error()["message"].clone();
    assert_eq!(typo, "unexpected argument '--isuer' found; a similar argument exists: '--issuer'");
    // What follows `--` belongs to the command to run.
    let ran = home.run(&["token", "--nonsense", "--", "--json"]).exits(2);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
}

#[test]
fn help_and_version_go_to_stdout() {
    let home = Sandbox::new();
    let version = home.run(&["--version"]).exits(0);
    assert!(version.stdout.starts_with(concat!("authctl ", env!("CARGO_PKG_VERSION"))), "{}", version.stdout);
    assert_eq!((version.stdout.lines().count(), version.stderr.as_str()), (1, ""));
    for verb in ["login", "status", "token", "verify", "refresh", "logout", "exec", "profile", "demo", "dev-issuer"] {
        let help = home.run(&[verb, "--help"]).exits(0);
        assert!(help.stdout.contains("Usage: authctl"), "{verb}: {}", help.stdout);
        assert_eq!(help.stderr, "");
        assert!(!help.stdout.contains('\u{1b}'), "no colour in a pipe");
    }
    assert!(home.run(&["-h"]).exits(0).stdout.contains("authctl demo"));
    assert!(home.run(&["version"]).exits(0).stdout.starts_with(concat!("authctl ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(home.run(&["version", "--json"]).exits(0).json()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn json_error_has_the_documented_format() {
    let home = Sandbox::new();
    let ran = home.run(&["token", "--json"]).exits(3);
    assert_eq!(ran.stdout, "");
    assert_eq!(
        ran.stderr,
        "{\"error\":{\"code\":\"login_required\",\"message\":\"no profile configured\",\"hint\":\"authctl login\"}}\n"
    );
}

#[test]
fn commands_that_change_something_print_the_result_as_json() {
    let (home, _idp) = logged_in();
    let keys = home.path().join("keys.json");
    let jwk = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    fs::write(&keys, jwk).unwrap();
    let run = |args: &[&str]| home.run(&[args, &["--json"]].concat()).exits(0).json();
    assert_eq!(run(&["keys", "pin", "--jwks", keys.to_str().unwrap()])["pinned"]["source"], keys.to_str().unwrap());
    assert_eq!(run(&["keys", "unpin"])["pinned"], serde_json::Value::Null);
    assert!(!run(&["keys", "update"])["keys"].as_array().unwrap().is_empty());
    assert_eq!(run(&["profile", "set", "work", "audience=api"])["audience"], "api");
    assert_eq!(run(&["profile", "rename", "work", "client-a"])["profile"], "client-a");
    assert_eq!(run(&["profile", "use", "client-a"])["default"], true);
    run(&["logout", "client-a"]);
    assert_eq!(run(&["profile", "remove", "client-a"]), serde_json::json!({"profile": "client-a", "removed": true}));
    let files = run(&["agent", "install", "--print"])["files"].clone();
    assert!(files[0]["path"].as_str().unwrap().starts_with(home.path().to_str().unwrap()), "{files}");
    assert!(files[0]["text"].as_str().unwrap().contains('\n'), "{files}");
}

#[test]
fn agent_commands_print_its_state_as_json() {
    let home = Sandbox::new();
    let run =
        |args: &[&str], input: &str| home.run_with(&[&["agent"], args, &["--json"]].concat(), input).exits(0).json();
    let started = run(&["start"], "");
    assert_eq!(started["running"], true);
    assert_eq!(run(&["start"], "")["pid"], started["pid"], "it runs already");
    assert_eq!(run(&["lock", "--passphrase-stdin"], "secret\n")["locked"], true);
    assert_eq!(run(&["unlock", "--passphrase-stdin"], "secret\n")["locked"], false);
    assert_eq!(run(&["unlock", "--passphrase-stdin"], "secret\n")["locked"], false, "it is unlocked already");
    assert_eq!(run(&["stop"], "")["running"], false);
}

#[test]
fn command_without_a_document_rejects_json() {
    assert_json_error(&Sandbox::new().run(&["demo", "--json"]).exits(2), "usage");
}

#[test]
fn closed_stdout_is_an_error_and_loses_nothing() {
    let (home, _idp) = logged_in();
    let closed = |line: &str| {
        let script = format!("{} {line} >&-", crate::support::AUTHCTL);
        let shell = home.command_for("sh", &["-c", &script]).stdin(Stdio::null()).output().expect("sh");
        (shell.status.code(), String::from_utf8_lossy(&shell.stderr).into_owned())
    };
    let before = home.session("work").tokens.access_token;
    for line in ["token", "status", "whoami", "profile export", "--version", "token --help", "", "refresh --json"] {
        let (code, stderr) = closed(line);
        assert_eq!(code, Some(1), "{line}: {stderr}");
        assert!(stderr.contains("cannot write to stdout: it is closed"), "{line}: {stderr}");
    }
    // The refreshed session is stored, and the next command prints its token.
    let after = home.session("work").tokens.access_token;
    assert_ne!(before.expose(), after.expose());
    assert_eq!(home.token("work"), after.expose());
    // A command that prints nothing there succeeds.
    assert_eq!(closed("refresh").0, Some(0));
}

#[test]
fn verbose_output_names_profile_store_and_agent_with_the_reason() {
    let (mut home, idp) = logged_in();
    let log = |home: &Sandbox, args: &[&str]| home.run(args).exits(0).stderr;
    let shown = log(&home, &["token", "-v"]);
    assert!(shown.contains("profile work (default_profile), store file"), "{shown}");
    assert!(shown.contains(&format!("no agent runs at {}", home.path().join("run/authctl").display())), "{shown}");
    assert!(log(&home, &["token", "work", "-v"]).contains("profile work (the command line)"));
    home.set("AUTHCTL_PROFILE", "work");
    assert!(log(&home, &["token", "-v"]).contains("profile work (AUTHCTL_PROFILE)"));
    home.session("work");
    let requests = |verbose: &str| log(&home, &["refresh", verbose]).contains("POST 127.0.0.1");
    assert!(!requests("-v") && requests("-vv"));
    home.run(&["agent", "start"]).exits(0);
    assert!(log(&home, &["token", "-v"]).contains("using the agent at "));
    home.run(&["agent", "stop"]).exits(0);
    drop(idp);
}

#[test]
fn doctor_wraps_advice_at_the_width_of_the_terminal() {
    let (mut home, idp) = (Sandbox::new(), quick_issuer());
    home.set("NO_COLOR", "1");
    home.log_in("work", &idp);
    drop(idp);
    let advice = home.run(&["doctor", "work", "--json"]).json()["checks"].clone();
    let texts = advice.as_array().expect("checks").iter().flat_map(|check| [&check["message"], &check["hint"]]);
    let texts: Vec<String> = texts.filter_map(|text| text.as_str().map(str::to_owned)).collect();
    assert!(texts.iter().any(|text| text.len() > 60), "one has to be wrapped: {texts:?}");
    for width in [40, 60, 80] {
        let shown = home.spawn_program_in_terminal(crate::support::AUTHCTL, &["doctor", "work"], width).wait().stderr;
        let is_word = |line: &str| !line.trim().contains(' ');
        for line in shown.lines().map(str::trim_end) {
            let fits = line.chars().count() <= usize::from(width);
            assert!(fits || line.contains("authctl ") || is_word(line), "{width}: {line}");
        }
        let words: Vec<&str> = shown.split_whitespace().collect();
        for text in texts.iter().flat_map(|text| text.split_whitespace()) {
            assert!(words.contains(&text), "{width}: {text} is missing in {shown}");
        }
    }
}
