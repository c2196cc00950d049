//! Commands that users of other tools type: the obvious ones run, and for others the right one is suggested.

use std::ffi::OsString;

use clap::Command;

/// Words that stand for a command.
const SYNONYMS: [(&str, &[&str]); 11] = [
    ("auth", &[]),
    ("list", &["profile", "list"]),
    ("ls", &["profile", "list"]),
    ("use", &["profile", "use"]),
    ("switch", &["profile", "use"]),
    ("renew", &["refresh"]),
    ("log-in", &["login"]),
    ("signin", &["login"]),
    ("sign-in", &["login"]),
    ("signout", &["logout"]),
    ("log-out", &["logout"]),
];

/// Words for which a command is only suggested: it changes or starts something, or they could mean another one.
const SUGGESTIONS: [(&str, &str); 26] = [
    ("remove", "profile remove"),
    ("rm", "profile remove"),
    ("delete", "profile remove"),
    ("rename", "profile rename"),
    ("set", "profile set"),
    ("config", "profile show"),
    ("show", "profile show"),
    ("profiles", "profile list"),
    ("accounts", "profile list"),
    ("add", "login"),
    ("create", "login"),
    ("new", "login"),
    ("init", "login"),
    ("setup", "login"),
    ("configure", "login"),
    ("revoke", "logout"),
    ("run", "exec"),
    ("env", "exec"),
    ("get-token", "token"),
    ("print-token", "token"),
    ("print-access-token", "token"),
    ("access-token", "token"),
    ("me", "whoami"),
    ("user", "whoami"),
    ("start", "agent start"),
    ("stop", "agent stop"),
];

/// The options of every command that take a value.
pub const OPTIONS_WITH_VALUE: [&str; 3] = ["--config", "--color", "--profile"];

/// How similar a mistyped word must be to the name of a command, between 0 and 1.
const MIN_SIMILARITY: f64 = 0.8;

/// Returns the position of the command in the command line, which starts with the program's name.
fn command_position(args: &[OsString]) -> Option<usize> {
    let mut words = args.iter().enumerate().skip(1);
    while let Some((index, word)) = words.next() {
        if OPTIONS_WITH_VALUE.iter().any(|option| word == option) {
            // The next word is its value.
            words.next();
        } else if !word.to_str().is_some_and(|word| word.starts_with('-')) {
            return Some(index);
        }
    }
    None
}

/// Replaces a synonym with the command that it stands for.
pub(super) fn expand(mut args: Vec<OsString>) -> Vec<OsString> {
    let position = command_position(&args);
    let synonym =
        position.and_then(|at| SYNONYMS.iter().find(|(word, _)| args[at] == *word).map(|found| (at, found.1)));
    if let Some((at, command)) = synonym {
        args.splice(at..=at, command.iter().map(OsString::from));
    }
    args
}

/// Returns the command line with the command that was probably meant, without the program's name; `None` if no command is
/// similar.
pub(super) fn suggestion(mut command: &Command, args: &[OsString]) -> Option<Vec<String>> {
    let mut at = command_position(args)?;
    let mut words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    while let Some(inner) = command.find_subcommand(words.get(at)?) {
        command = inner;
        at += 1;
    }
    let typed = words.get(at)?;
    let known =
        SUGGESTIONS.iter().find(|(word, _)| word == typed && command.get_name() == "authctl").map(|(_, known)| *known);
    let similar = || {
        let names = command.get_subcommands().map(Command::get_name);
        let similarity = names.map(|name| (strsim::jaro_winkler(typed, name), name));
        let best = similarity.max_by(|one, other| one.0.total_cmp(&other.0))?;
        (best.0 >= MIN_SIMILARITY).then(|| best.1.to_owned())
    };
    let meant = known.map(str::to_owned).or_else(similar)?;
    words.splice(at..=at, meant.split(' ').map(str::to_owned));
    words.remove(0);
    Some(words)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn line(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn synonyms_run_the_command_they_stand_for() {
        for (typed, meant) in [
            ("authctl auth login work --device", "authctl login work --device"),
            ("authctl auth", "authctl"),
            ("authctl --config c.toml list", "authctl --config c.toml profile list"),
            ("authctl --profile use renew", "authctl --profile use refresh"),
            ("authctl use work", "authctl profile use work"),
            ("authctl exec work ls", "authctl exec work ls"),
            ("authctl token use", "authctl token use"),
        ] {
            assert_eq!(expand(line(typed)), line(meant), "{typed}");
        }
    }

    #[test]
    fn unknown_words_suggest_what_was_meant_or_nothing() {
        for (typed, meant) in [
            ("authctl remove work", Some("profile remove work")),
            ("authctl lgoin work --device", Some("login work --device")),
            ("authctl -q tokne", Some("-q token")),
            ("authctl profile rmeove work", Some("profile remove work")),
            ("authctl agent strat", Some("agent start")),
            ("authctl frobnicate", None),
            ("authctl move", None),
        ] {
            assert_eq!(
                suggestion(&Cli::command(), &line(typed)).map(|words| words.join(" ")).as_deref(),
                meant,
                "{typed}"
            );
        }
    }

    #[test]
    fn every_suggested_command_exists() {
        let commands = SYNONYMS.iter().map(|(_, words)| words.to_vec());
        for words in commands.chain(SUGGESTIONS.iter().map(|(_, words)| words.split(' ').collect())) {
            let root = Cli::command();
            let found = words.iter().try_fold(&root, |command, word| command.find_subcommand(word));
            assert!(found.is_some(), "{words:?}");
        }
    }
}
