//! Several accounts, and the profile that a directory's `.authctl.toml` selects.

use std::fs;

use crate::support::agent::Agent;
use crate::support::{Sandbox, quick_issuer};

/// Logs in as two users of one issuer, one of them with two profiles.
fn accounts(issuer: &authctl::dev_issuer::DevIssuer) -> Sandbox {
    let home = Sandbox::new();
    home.log_in_as("work", issuer, "developer");
    home.log_in_as("play", issuer, "other");
    home.log_in_as("work-too", issuer, "developer");
    home
}

/// Runs `authctl ARGS` in a directory below home.
fn run_in(home: &Sandbox, dir: &str, args: &[&str]) -> crate::support::CommandOutput {
    let mut command = home.command(args);
    command.current_dir(home.path().join(dir));
    home.spawn_command(command, args).wait()
}

#[test]
fn sessions_at_one_issuer_are_independent() {
    let issuer = quick_issuer();
    let home = accounts(&issuer);
    let subject = |profile: &str| home.status(profile)["subject"]["sub"].clone();
    assert_eq!(subject("work"), subject("work-too"));
    assert_ne!(subject("work"), subject("play"));
    let (work, too) = (home.token("work"), home.token("work-too"));
    assert_ne!(work, too, "two sessions of one account");
    home.run(&["logout", "work"]).exits(0);
    home.run(&["token", "work"]).exits(3);
    home.run(&["verify", "work-too"]).exits(0);
    home.run(&["refresh", "work-too"]).exits(0);
    home.run(&["refresh", "play"]).exits(0);
}

#[test]
fn directory_file_selects_a_profile_for_all_below_it() {
    let issuer = quick_issuer();
    let home = accounts(&issuer);
    home.run(&["profile", "use", "work"]).exits(0);
    fs::create_dir_all(home.path().join("repo/deep/er")).unwrap();
    fs::write(home.path().join("repo/.authctl.toml"), "profile = \"play\"\n").unwrap();
    let (work, play) = (home.token("work"), home.token("play"));
    assert_eq!(run_in(&home, "repo/deep/er", &["token"]).exits(0).line(), play);
    assert_eq!(run_in(&home, ".", &["token"]).exits(0).line(), work);
    // A profile named on the command line takes precedence.
    assert_eq!(run_in(&home, "repo", &["token", "work"]).exits(0).line(), work);
    let mut elsewhere = home.command(&["token"]);
    elsewhere.current_dir(home.path().join("repo")).env("AUTHCTL_PROFILE", "work");
    assert_eq!(home.spawn_command(elsewhere, &["token"]).wait().exits(0).line(), work);
    // `status` shows all profiles and the one that is selected.
    let shown = run_in(&home, "repo", &["status"]).exits(0).stdout;
    assert!(shown.contains("\n  work-too ") && shown.contains("\n* play "), "{shown}");
    assert!(run_in(&home, ".", &["status"]).exits(0).stdout.contains("\n* work "));
    let used = |dir: &str| run_in(&home, dir, &["status", "--json"]).exits(0).json()["effective_profile"].clone();
    assert_eq!((&used("repo")["profile"], &used(".")["source"]), (&"play".into(), &"default".into()));
    let long = run_in(&home, "repo", &["status", "--long"]).exits(0).stdout;
    assert!(long.contains("used       if no profile is named (") && long.contains("repo/.authctl.toml)"), "{long}");
    let is_used =
        |name: &str| run_in(&home, "repo", &["status", name]).exits(0).stdout.contains("if no profile is named");
    assert!(is_used("play") && !is_used("work"), "the default is not used here");
    run_in(&home, "repo", &["status", "--check"]).exits(0);
    // With an agent, the same profile is selected.
    let agent = Agent::start(&home);
    assert_eq!(run_in(&home, "repo/deep", &["token"]).exits(0).line(), play);
    let decided = run_in(&home, "repo", &["verify", "--json"]).exits(0).json();
    assert_eq!(decided["claims"]["sub"], home.status("play")["subject"]["sub"], "by the token of the same profile");
    drop(agent);
}

#[test]
fn directory_file_may_only_name_a_profile() {
    let issuer = quick_issuer();
    let home = accounts(&issuer);
    let file = home.path().join(".authctl.toml");
    for (text, word, next) in [
        ("profile = \"play\"\nissuer = \"https://evil.example\"\n", "unexpected key `issuer`", "AUTHCTL_PROFILE"),
        ("[profiles.work]\nissuer = \"https://evil.example\"\n", "profiles", "AUTHCTL_PROFILE"),
        ("profile = \"two words\"\n", "two words", "AUTHCTL_PROFILE"),
        ("profile = \"missing\"\n", "unknown profile `missing`", "authctl profile list"),
        ("profile = [", "expected profile", "AUTHCTL_PROFILE"),
    ] {
        fs::write(&file, text).unwrap();
        for args in [&["token"][..], &["verify"], &["profile", "show"], &["logout"], &["login", "--device"]] {
            let ran = home.run(args).exits(2);
            for expected in [word, next, file.to_str().unwrap()] {
                assert!(ran.stderr.contains(expected), "{args:?} {text}: {}", ran.stderr);
            }
            assert_eq!(ran.stdout, "");
        }
    }
    // The error for a profile named on the command line does not mention the file.
    assert!(!home.run(&["token", "missing"]).exits(2).stderr.contains(".authctl.toml"));
    home.run(&["token", "work"]).exits(0);
}

#[test]
fn directory_file_does_not_select_the_profile_to_replace() {
    let (issuer, elsewhere) = (quick_issuer(), quick_issuer());
    let home = accounts(&issuer);
    home.run(&["profile", "use", "work"]).exits(0);
    fs::write(home.path().join(".authctl.toml"), "profile = \"play\"\n").unwrap();
    let login = ["login", "--issuer", elsewhere.issuer(), "--client-id", "authctl", "--password", "--password-stdin"];
    let args = [&login[..], &["--username", "developer", "--replace"]].concat();
    let printed = home.run_with(&args, crate::support::PASSWORD).exits(0).stderr;
    let file = home.path().join(".authctl.toml");
    let line = format!("this login is for the profile `work`; {} names `play`", file.display());
    assert!(printed.contains(&line), "{printed}");
    // No notice if the profile is named on the command line, or if the file names the same one.
    let named = [&["login", "work"], &args[1..]].concat();
    assert!(!home.run_with(&named, crate::support::PASSWORD).exits(0).stderr.contains("names `play`"));
    fs::write(&file, "profile = \"work\"\n").unwrap();
    assert!(!home.run_with(&args, crate::support::PASSWORD).exits(0).stderr.contains("names `"));
    let issuer_of = |profile: &str| home.run(&["profile", "show", profile, "--json"]).exits(0).json()["issuer"].clone();
    assert_eq!((issuer_of("play"), issuer_of("work")), (issuer.issuer().into(), elsewhere.issuer().into()));
}

#[test]
fn broken_directory_file_fails_only_commands_that_need_it() {
    let issuer = quick_issuer();
    let home = accounts(&issuer);
    let file = home.path().join(".authctl.toml");
    fs::write(&file, "profile = [").unwrap();
    let one = home.run(&["status", "work"]).exits(0).stdout;
    assert!(one.contains("work: signed in"), "{one}");
    home.run(&["status", "work", "--check"]).exits(0);
    // Where the file would select the profile, its error is reported after the state of all profiles.
    for args in [&["status"][..], &["status", "--json"]] {
        let shown = home.run(args).exits(2);
        assert!(shown.stdout.contains("play") && shown.stdout.contains("agent"), "{}", shown.stdout);
        assert!(
            shown.stderr.contains(file.to_str().unwrap()) && shown.stderr.contains("AUTHCTL_PROFILE"),
            "{}",
            shown.stderr
        );
    }
    home.run(&["status", "--check"]).exits(2);
}

#[test]
fn unknown_profile_error_names_where_the_name_comes_from() {
    let issuer = quick_issuer();
    let home = accounts(&issuer);
    let missing = "unknown profile `wrok`; did you mean `work`?";
    let mut by_variable = home.command(&["token"]);
    by_variable.env("AUTHCTL_PROFILE", "wrok");
    let expected = format!("error: AUTHCTL_PROFILE: {missing}");
    home.spawn_command(by_variable, &["token"]).wait().exits(2).reports(&expected);
    // A name from the command line needs no origin.
    let mut typed = home.command(&["token", "wrok"]);
    typed.env("AUTHCTL_PROFILE", "work");
    home.spawn_command(typed, &["token", "wrok"]).wait().exits(2).reports(&format!("error: {missing}"));
    let file = home.path().join(".authctl.toml");
    fs::write(&file, "profile = \"wrok\"\n").unwrap();
    home.run(&["token"]).exits(2).reports(&format!("error: {}: {missing}", file.display()));
    let shown = home.run(&["status"]).exits(2).stdout;
    assert!(shown.contains(&format!("{}: {missing}", file.display())), "{shown}");
}
