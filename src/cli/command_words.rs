//! Where the command and its subcommands stand among the words of a command line.

use std::ffi::OsStr;

use clap::Command;

/// The options of every command that take a value.
const OPTIONS_WITH_VALUE: [&str; 3] = ["--config", "--color", "--profile"];

/// The command that a command line names.
pub(super) struct NamedCommand<'a> {
    /// Its definition: that of `authctl` itself if the command line names none.
    pub(super) definition: &'a Command,
    /// The names of the command and its subcommands.
    pub(super) names: Vec<&'a str>,
    /// The position of the first word after them that is neither an option of every command nor the value of one.
    pub(super) next: Option<usize>,
}

/// Returns the positions of the words that are neither options nor values of the options of every command, up to `--`: what
/// follows that belongs to another program. The first is the command. `line` starts with the program's name.
pub fn argument_positions<S: AsRef<OsStr>>(line: &[S]) -> impl Iterator<Item = usize> {
    let mut words = line.iter().map(AsRef::as_ref).enumerate().skip(1).take_while(|(_, word)| *word != "--");
    std::iter::from_fn(move || {
        loop {
            let (index, word) = words.next()?;
            if OPTIONS_WITH_VALUE.iter().any(|option| word == *option) {
                // The next word is its value.
                words.next();
            } else if !word.as_encoded_bytes().starts_with(b"-") {
                return Some(index);
            }
        }
    })
}

/// Finds the command that the command line names among the subcommands of `root`.
pub(super) fn named_command<'a, S: AsRef<OsStr>>(root: &'a Command, line: &[S]) -> NamedCommand<'a> {
    let mut positions = argument_positions(line);
    let mut named = NamedCommand { definition: root, names: Vec::new(), next: None };
    for at in positions.by_ref() {
        let Some(inner) = named.definition.find_subcommand(line[at].as_ref()) else {
            named.next = Some(at);
            break;
        };
        named.names.push(inner.get_name());
        named.definition = inner;
    }
    named
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn options_with_a_value_are_those_of_the_definition() {
        let command = Cli::command();
        let global = command.get_arguments().filter(|arg| arg.is_global_set() && arg.get_action().takes_values());
        let mut names: Vec<String> = global.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
        names.sort();
        let mut listed = OPTIONS_WITH_VALUE.to_vec();
        listed.sort_unstable();
        assert_eq!(listed, names);
    }

    #[test]
    fn command_is_found_among_options_and_their_values() {
        for (typed, expected, next) in [
            ("authctl", "", None),
            ("authctl --json", "", None),
            ("authctl token work", "token", Some("work")),
            ("authctl --config login token", "token", None),
            ("authctl --config=login -q profile --profile login --json show x", "profile show", Some("x")),
            ("authctl profile ls", "profile list", None),
            ("authctl exec work login", "exec", Some("work")),
            ("authctl exec -- login", "exec", None),
            ("authctl frobnicate login", "", Some("frobnicate")),
            ("authctl -- login", "", None),
        ] {
            let words: Vec<&str> = typed.split(' ').collect();
            let root = Cli::command();
            let named = named_command(&root, &words);
            assert_eq!((named.names.join(" ").as_str(), named.next.map(|at| words[at])), (expected, next), "{typed}");
        }
    }
}
