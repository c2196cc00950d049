use super::*;

#[test]
fn definition_passes_the_checks_of_clap() {
    Cli::command().debug_assert();
}

#[test]
fn shortcut_parses_as_the_full_definition_does() {
    let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    for words in [
        &["authctl", "token"][..],
        &["authctl", "token", "work"],
        &["authctl", "status", "--short"],
        &["authctl", "status", "--short", "work"],
        &["authctl", "status", "work", "--short"],
    ] {
        let parsed = Cli::try_parse_from(words).expect("parsed");
        assert_eq!(format!("{:?}", Cli::parse_shortcut(&args(words)).expect("usual")), format!("{parsed:?}"));
    }
    for words in [
        &["authctl"][..],
        &["authctl", "token", "--json"],
        &["authctl", "token", "-h"],
        &["authctl", "token", "a", "b"],
        &["authctl", "status"],
        &["authctl", "status", "--short", "--json"],
        &["authctl", "status", "--short", "--short"],
        &["authctl", "token", "--"],
    ] {
        assert!(Cli::parse_shortcut(&args(words)).is_none(), "{words:?}");
    }
}

#[test]
fn pasted_white_space_around_words_is_removed() {
    let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    for (typed, expected) in [
        (
            &["authctl", "login", " work\n", "--client-id", "\u{a0}id\r\n"][..],
            &["authctl", "login", "work", "--client-id", "id"][..],
        ),
        (&["authctl", "login", "--issuer= https://a.example "], &["authctl", "login", "--issuer=https://a.example"]),
        (&["authctl", "login", "--client-id", "my id"], &["authctl", "login", "--client-id", "my id"]),
        // The words of other programs.
        (&["authctl", "-q ", "exec", "work", "printf", " x "], &["authctl", "-q", "exec", "work", "printf", " x "]),
        (&["authctl", "helper", "git", " x "], &["authctl", "helper", "git", " x "]),
        (&["authctl", "proxy ", "--", " x "], &["authctl", "proxy", "--", " x "]),
    ] {
        assert_eq!(Cli::expand(args(typed)), args(expected), "{typed:?}");
    }
}

#[test]
fn no_option_takes_a_secret() {
    fn walk(command: &clap::Command) {
        for arg in command.get_arguments() {
            let takes_text = arg.get_action().takes_values();
            let name = arg.get_id().as_str();
            let is_secret = name.contains("secret") || name.contains("password") && name != "password_field";
            assert!(!(takes_text && is_secret), "{name}");
        }
        command.get_subcommands().for_each(walk);
    }
    let mut command = Cli::command();
    // Defines the deferred arguments.
    command.build();
    walk(&command);
}

#[test]
fn every_command_is_in_one_group_of_the_overview() {
    let mut grouped: Vec<&str> = help::GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let command = Cli::command();
    let mut names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    names.retain(|name| !["help", "version"].contains(name));
    grouped.retain(|name| names.contains(name));
    grouped.sort_unstable();
    names.sort_unstable();
    assert_eq!(grouped, names);
}
