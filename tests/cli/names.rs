//! The names that users guess, and the options that every command has.

use crate::support::{Sandbox, quick_issuer};

#[test]
fn program_alone_prints_the_grouped_commands() {
    let home = Sandbox::new();
    let shown = home.run(&[]).exits(0);
    assert_eq!(shown.stderr, "");
    assert!(
        shown.stdout.lines().count() <= 20 && shown.stdout.lines().all(|line| line.len() <= 80),
        "{}",
        shown.stdout
    );
    assert!(
        shown.stdout.starts_with("Sign in       login  status  whoami  refresh  ensure  logout\n"),
        "{}",
        shown.stdout
    );
    for args in [&["help"][..], &["auth"], &["--no-input"]] {
        assert_eq!(home.run(args).exits(0).stdout, shown.stdout, "{args:?}");
    }
    home.run(&["agent"]).exits(2).reports("no command was given").reports("hint:  authctl agent --help");
    assert_eq!(home.run(&["--json"]).exits(2).error()["code"], "usage");
}

#[test]
fn help_explains_commands_and_topics() {
    let home = Sandbox::new();
    for (words, expected) in [
        (&["environment"][..], "AUTHCTL_PROFILE"),
        (&["files"], ".authctl.toml"),
        (&["exit-codes"], "  127  "),
        (&["json"], "{\"error\":"),
        (&["token"], "Usage: authctl token"),
        (&["agent", "start"], "Usage: authctl agent start"),
        (&["profile"], "Usage: authctl profile"),
    ] {
        let shown = home.run(&[&["help"][..], words].concat()).exits(0).stdout;
        assert!(shown.contains(expected), "{words:?}: {shown}");
    }
    assert_eq!(home.run(&["help", "token"]).stdout, home.run(&["token", "--help"]).stdout);
    for (typed, meant) in [
        (&["use"][..], &["profile", "use"][..]),
        (&["auth", "login"], &["login"]),
        (&["list"], &["profile", "list"]),
        (&["auth"], &[]),
    ] {
        let shown = home.run(&[&["help"], typed].concat()).exits(0).stdout;
        assert_eq!(shown, home.run(&[&["help"], meant].concat()).exits(0).stdout, "{typed:?}");
    }
    for (typed, hint) in [
        (&["rm"][..], "profile remove"),
        (&["rm", "work"], "profile remove"),
        (&["exec", "ls"], "exec"),
        (&["tokne"], "token"),
        (&["exit-code"], "exit-codes"),
        (&["profile", "rmeove"], "profile remove"),
        (&["config", "use-context"], "profile use"),
    ] {
        let typed = [&["help"], typed].concat();
        let hint = format!("authctl help {hint}");
        home.run(&typed).exits(2).reports(&format!("hint:  {hint}\n"));
        home.run(&hint.split(' ').skip(1).collect::<Vec<_>>()).exits(0);
    }
    let script = home.run(&["completion", "bash"]).exits(0).stdout;
    assert_eq!(home.run(&["completion", "bash", "--json"]).exits(0).json()["text"], script.trim_end());
    assert_eq!(
        home.run(&["help", "json", "--json"]).exits(0).json()["text"].as_str().map(|text| text.len() > 100),
        Some(true)
    );
    home.run(&["help", "nonsense"]).exits(2).reports("no command or topic `nonsense`").reports("hint:  authctl help");
}

#[test]
fn guessed_names_run_or_suggest_the_right_command() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.log_in_as("other", &idp, "other");
    assert_eq!(home.run(&["list"]).exits(0).stdout, home.run(&["profile", "list"]).exits(0).stdout);
    home.run(&["use", "other"]).exits(0).reports("default profile: other");
    assert_eq!(home.run(&["auth", "list"]).exits(0).stdout, home.run(&["profile", "list"]).exits(0).stdout);
    home.run(&["auth", "rm", "work"]).exits(2).reports("hint:  authctl profile remove work");
    home.run(&["renew", "work"]).exits(0).reports("refreshed work");
    assert_eq!(home.run(&["auth", "whoami"]).exits(0).stdout, "other\n");
    home.run(&["auth", "login", "--device", "--nonsense"]).exits(2).reports("hint:  authctl login --help");
    home.run(&["remove", "work"])
        .exits(2)
        .reports("unknown command `remove`")
        .reports("hint:  authctl profile remove work");
    home.run(&["rm"]).exits(2).reports("hint:  authctl profile remove --help");
    home.run(&["tokne", "work", "--header"]).exits(2).reports("hint:  authctl token work --header");
    home.run(&["login", "--web", "--device"]).exits(2).reports("'--browser' cannot be used with '--device'");
    home.run(&["frobnicate"]).exits(2).reports("unknown command `frobnicate`").reports("hint:  authctl --help");
}

#[test]
fn every_command_accepts_the_profile_as_an_option() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.log_in_as("other", &idp, "other");
    home.run(&["use", "work"]).exits(0);
    let other = home.token("other");
    assert_eq!(home.run(&["token", "--profile", "other"]).exits(0).line(), other);
    assert_eq!(home.run(&["--profile=other", "whoami"]).exits(0).line(), "other");
    assert_eq!(home.run(&["whoami", "--profile", "other"]).exits(0).stdout, "other\n");
    assert_eq!(home.run(&["status", "--profile", "other", "--short"]).exits(0).stdout, "other\n");
    for args in [
        &["status"][..],
        &["status", "--check"],
        &["verify"],
        &["refresh"],
        &["keys", "show"],
        &["keys", "update"],
        &["profile", "list"],
        &["profile", "show"],
        &["profile", "set", "audience=x", "scopes=openid offline_access"],
        &["profile", "set", "other", "audience="],
        &["profile", "use"],
        &["profile", "rename", "another"],
        &["version"],
    ] {
        home.run(&[args, &["--profile", "other"]].concat()).exits(0);
    }
    assert!(home.run(&["profile", "list"]).exits(0).stdout.contains("* another"));
    home.run(&["token", "work", "--profile", "another"])
        .exits(2)
        .reports("two profiles are named: `work` and `another`");
    home.run(&["logout", "--all", "--profile", "another"]).exits(2).reports("--all is for every profile");
    home.run(&["logout", "--profile", "another"]).exits(0);
    home.run(&["profile", "remove", "--profile", "another"]).exits(0);
    for args in [&["profile", "remove"][..], &["profile", "use"]] {
        home.run(args).exits(2).reports("the profile is missing");
    }
    assert!(home.run(&["profile", "list"]).exits(0).stdout.contains("work"), "the other one is still there");
}

#[test]
fn whoami_prints_the_account_and_nothing_else() {
    let mut home = Sandbox::new();
    let idp = quick_issuer();
    home.run(&["whoami"]).exits(3);
    home.log_in("work", &idp);
    let ran = home.run(&["whoami"]).exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("developer\n", ""));
    assert_eq!(home.run(&["whoami", "work", "--json"]).exits(0).json()["account"], "developer");
    home.expire("work");
    assert_eq!(home.run(&["whoami"]).exits(0).stdout, "developer\n");
    idp.revoke_everything();
    home.run(&["token"]).exits(3);
    assert_eq!(home.run(&["whoami"]).exits(3).reports("hint:  authctl login work").stdout, "");
    home.run(&["logout"]).exits(0);
    assert_eq!(home.run(&["whoami"]).exits(3).stdout, "");
    home.set("AUTHCTL_TOKEN", "opaque");
    home.run(&["whoami"]).exits(3).reports("names no account");
}
