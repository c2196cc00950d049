//! Commands that users of other tools type: the obvious ones run, and for others the right one is suggested.

use std::ffi::OsString;

use clap::Command;
use clap::error::ErrorKind;

use super::command_words::{NamedCommand, argument_positions, named_command};

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

/// Commands that are typed as two words.
const TWO_WORDS: [((&str, &str), &str); 4] =
    [(("log", "in"), "login"), (("log", "out"), "logout"), (("sign", "in"), "login"), (("sign", "out"), "logout")];

/// Words for which a command is only suggested: it changes or starts something, or they could mean another one.
const SUGGESTIONS: [(&str, &str); 66] = [
    ("remove", "profile remove"),
    ("rm", "profile remove"),
    ("delete", "profile remove"),
    ("rename", "profile rename"),
    ("set", "profile set"),
    ("config", "profile"),
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
    ("get-token", "token"),
    ("print-token", "token"),
    ("print-access-token", "token"),
    ("access-token", "token"),
    ("me", "whoami"),
    ("user", "whoami"),
    ("start", "agent start"),
    ("stop", "agent stop"),
    ("lock", "agent lock"),
    ("unlock", "agent unlock"),
    ("log", "agent log"),
    ("logs", "agent log"),
    ("decode", "verify"),
    ("inspect", "verify"),
    ("introspect", "verify"),
    ("check", "verify"),
    ("validate", "verify"),
    ("jwt", "token"),
    ("info", "status"),
    ("current", "whoami"),
    ("connect", "login"),
    ("env", "exec"),
    ("shell", "exec"),
    ("daemon", "agent start"),
    ("serve", "agent start"),
    ("server", "agent start"),
    ("man", "help"),
    ("provider", "login"),
    ("providers", "login"),
    ("export", "profile export"),
    ("import", "profile import"),
    ("context", "profile list"),
    ("contexts", "profile list"),
    ("use-context", "profile use"),
    ("get-contexts", "profile list"),
    ("account", "whoami"),
    ("jwks", "keys show"),
    ("debug", "doctor"),
    ("rotate", "refresh"),
    ("mv", "profile rename"),
    ("profile add", "login"),
    ("profile new", "login"),
    ("profile create", "login"),
    ("profile get", "profile show"),
    ("profile edit", "profile set"),
    ("profile mv", "profile rename"),
    ("keys refresh", "keys update"),
    ("keys fetch", "keys update"),
    ("keys get", "keys show"),
];

/// Commands that do nothing without this number of arguments, the profile of `--profile` included.
const NEED_ARGUMENTS: [(&str, usize); 4] =
    [("profile remove", 1), ("profile rename", 2), ("profile set", 2), ("exec", 1)];

/// How similar a mistyped word must be to the name of a command, between 0 and 1.
const MIN_SIMILARITY: f64 = 0.8;

/// Replaces a synonym with the command that it stands for; `auth` may precede another one.
pub(super) fn expand(mut args: Vec<OsString>) -> Vec<OsString> {
    let synonym = |args: &[OsString]| {
        let at = argument_positions(args).next()?;
        SYNONYMS.iter().find(|(word, _)| args[at] == *word).map(|found| (at, found.1))
    };
    while let Some((at, command)) = synonym(&args) {
        args.splice(at..=at, command.iter().map(OsString::from));
    }
    let first: Vec<usize> = argument_positions(&args).take(2).collect();
    if let [at, next] = first[..]
        && let Some((_, command)) = TWO_WORDS.iter().find(|((one, two), _)| args[at] == *one && args[next] == *two)
    {
        args.remove(next);
        args[at] = command.into();
    }
    args
}

/// Replaces a synonym, or a word for which a command is only suggested, to complete what follows it.
pub(super) fn expand_or_suggest(args: Vec<OsString>) -> Vec<OsString> {
    let mut args = expand(args);
    let command = argument_positions(&args).next();
    if let Some(at) = command
        && let Some((_, command)) = SUGGESTIONS.iter().find(|(word, _)| args[at] == *word)
    {
        args.splice(at..=at, command.split(' ').map(OsString::from));
    }
    args
}

/// Returns the command that is named by words after `authctl help`, and were typed as if they were to run.
pub(super) fn explained(words: &[String]) -> Vec<String> {
    let line = ["authctl"].into_iter().chain(words.iter().map(String::as_str)).map(OsString::from).collect();
    expand(line).into_iter().skip(1).filter_map(|word| word.into_string().ok()).collect()
}

/// Returns the command or topic that was probably meant by words after `authctl help`; no words if none is similar.
pub(super) fn explained_suggestion(command: &Command, words: &[String]) -> Vec<String> {
    if let [word] = words
        && let Some(topic) = similar_name(&super::TOPICS, word)
    {
        return vec![topic.to_owned()];
    }
    let line: Vec<OsString> =
        ["authctl"].into_iter().map(OsString::from).chain(words.iter().map(OsString::from)).collect();
    let mut meant = suggestion(command, &line).unwrap_or_else(|| words.to_vec());
    // Arguments are not explained.
    let is_known =
        |words: &[String]| words.iter().try_fold(command, |inner, word| inner.find_subcommand(word)).is_some();
    while !is_known(&meant) {
        meant.pop();
    }
    meant
}

/// Returns the command line with the command that was probably meant, without the program's name; `None` if no command is
/// similar.
pub(super) fn suggestion(root: &Command, args: &[OsString]) -> Option<Vec<String>> {
    let NamedCommand { definition: command, names, next } = named_command(root, args);
    let mut at = next?;
    let mut words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let typed = names.iter().copied().chain([words[at].as_str()]).collect::<Vec<_>>().join(" ");
    let known = SUGGESTIONS.iter().find(|(word, _)| *word == typed).map(|(_, known)| *known);
    let (meant, names) = match known {
        // It replaces the names before it too.
        Some(known) => {
            let before: Vec<usize> = argument_positions(args).take(names.len()).collect();
            before.iter().rev().for_each(|name| drop(words.remove(*name)));
            at -= before.len();
            (known.to_owned(), Vec::new())
        }
        None => (similar(command, &words[at])?.to_owned(), names),
    };
    words.splice(at..=at, meant.split(' ').map(str::to_owned));
    // A second word that the user of another tool types, such as `config use-context`.
    if meant == "profile" {
        let inner =
            words.get(at + 1).and_then(|typed| similar(command.find_subcommand("profile")?, typed)).unwrap_or("list");
        words.splice(at + 1..words.len().min(at + 2), [inner.to_owned()]);
    }
    let rest = at + meant.split(' ').count();
    let given = words.len() - rest + usize::from(words.iter().any(|word| word == "--profile"));
    let meant = names.into_iter().chain([meant.as_str()]).collect::<Vec<_>>().join(" ");
    if NEED_ARGUMENTS.iter().any(|(command, needed)| meant == *command && given < *needed) {
        words.splice(rest.., ["--help".to_owned()]);
    }
    // A word that was typed twice, such as `profiles list`.
    if !is_valid(root, &words) && words.get(rest) == words.get(rest - 1) {
        words.remove(rest);
    }
    if !is_valid(root, &words) {
        words.splice(rest.., ["--help".to_owned()]);
    }
    words.remove(0);
    Some(words)
}

/// Returns whether the command line could run, or prints help.
fn is_valid(root: &Command, words: &[String]) -> bool {
    let parsed = root.clone().try_get_matches_from(words);
    parsed.map_or_else(|error| error.kind() == ErrorKind::DisplayHelp, |_| true)
}

/// Returns the subcommand that was probably meant: the only one that begins so, else the most similar one.
fn similar<'a>(command: &'a Command, typed: &str) -> Option<&'a str> {
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    similar_name(&names, typed)
}

fn similar_name<'a>(names: &[&'a str], typed: &str) -> Option<&'a str> {
    let names = || names.iter().copied();
    let mut beginning = names().filter(|name| name.starts_with(typed) || typed.starts_with(&format!("{name}-")));
    if let (Some(only), None) = (beginning.next(), beginning.next()) {
        return Some(only);
    }
    let similarity = names().map(|name| (strsim::jaro_winkler(typed, name), name));
    let (similarity, name) = similarity.max_by(|one, other| one.0.total_cmp(&other.0))?;
    // Not what ends like it, such as `restart` for `start`.
    (similarity >= MIN_SIMILARITY && typed.chars().next() == name.chars().next()).then_some(name)
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
            ("authctl auth list", "authctl profile list"),
            ("authctl auth use work", "authctl profile use work"),
            ("authctl --config c.toml list", "authctl --config c.toml profile list"),
            ("authctl --profile use renew", "authctl --profile use refresh"),
            ("authctl use work", "authctl profile use work"),
            ("authctl exec work ls", "authctl exec work ls"),
            ("authctl token use", "authctl token use"),
            ("authctl log in work", "authctl login work"),
            ("authctl -q sign out", "authctl -q logout"),
            ("authctl auth log in", "authctl login"),
            ("authctl log out", "authctl logout"),
            ("authctl agent log in", "authctl agent log in"),
        ] {
            assert_eq!(expand(line(typed)), line(meant), "{typed}");
        }
    }

    #[test]
    fn unknown_words_suggest_what_was_meant_or_nothing() {
        for (typed, meant) in [
            ("authctl remove work", Some("profile remove work")),
            ("authctl rm", Some("profile remove --help")),
            ("authctl --profile work rm", Some("--profile work profile remove")),
            ("authctl profile rmeove", Some("profile remove --help")),
            ("authctl rename work", Some("profile rename --help")),
            ("authctl rename work home", Some("profile rename work home")),
            ("authctl set", Some("profile set --help")),
            ("authctl run", Some("exec --help")),
            ("authctl lgoin work --device", Some("login work --device")),
            ("authctl -q tokne", Some("-q token")),
            ("authctl profile rmeove work", Some("profile remove work")),
            ("authctl agent strat", Some("agent start")),
            ("authctl agent stat", Some("agent status")),
            ("authctl agent restart", None),
            ("authctl config list", Some("profile list")),
            ("authctl config get-contexts", Some("profile list")),
            ("authctl config use-context work", Some("profile use work")),
            ("authctl config", Some("profile list")),
            ("authctl logs --follow", Some("agent log --follow")),
            ("authctl run work -- ls -l", Some("exec work -- ls -l")),
            ("authctl env", Some("exec --help")),
            ("authctl profile -q add work", Some("-q login work")),
            ("authctl profile get", Some("profile show")),
            ("authctl profile mv work home", Some("profile rename work home")),
            ("authctl profile mv", Some("profile rename --help")),
            ("authctl mv work home", Some("profile rename work home")),
            ("authctl providers", Some("login")),
            ("authctl export work", Some("profile export work")),
            ("authctl import p.toml", Some("profile import p.toml")),
            ("authctl import", Some("profile import --help")),
            ("authctl use-context work", Some("profile use work")),
            ("authctl config use-context", Some("profile use")),
            ("authctl get-contexts", Some("profile list")),
            ("authctl man", Some("help")),
            ("authctl man login", Some("help login")),
            ("authctl rotate --all", Some("refresh --all")),
            ("authctl profiles list", Some("profile list")),
            ("authctl daemon", Some("agent start")),
            ("authctl tokne --nonsense", Some("token --help")),
            ("authctl decode -", Some("verify -")),
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
