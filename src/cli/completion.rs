//! Completion in the shells: the scripts of `authctl completion`, and the candidates that they request.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use clap::builder::{StyledStr, ValueHint};
use clap::{Arg, Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter, complete};
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use super::command_words::argument_positions;
use super::guess::expand_or_suggest;
use super::{Cli, TOPICS};
use crate::config::{Config, SETTINGS, Setting, Value, ValueForm, setting};
use crate::paths::COMPLETION_VARIABLE;
use crate::text::shell_word;

/// `authctl completion`
#[derive(Debug, Args)]
pub struct Completion {
    /// Shell to print the script for
    pub shell: Shell,
}

/// A shell with completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// Bash
    Bash,
    /// Zsh
    Zsh,
    /// Fish
    Fish,
    /// PowerShell
    #[value(alias = "pwsh")]
    Powershell,
    /// Elvish
    Elvish,
}

/// The command line to complete.
pub struct CompletionRequest {
    /// Its words, the first the program.
    pub words: Vec<OsString>,
    /// The word that is completed.
    pub index: usize,
    /// The directories of programs.
    pub search_path: OsString,
}

impl Shell {
    /// Returns the shell with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::from_str(name, true).ok()
    }

    /// Returns the script that has the shell request candidates from the `authctl` in `PATH`. It prints no errors.
    #[must_use]
    pub fn script(self) -> String {
        let (shell, changes): (&dyn EnvCompleter, &[(&str, &str)]) = match self {
            Self::Bash => (
                &Bash,
                &[
                    ("-- \"${words[@]}\"", "-- \"${words[@]}\" 2> /dev/null"),
                    // After `=` the word is empty here, and the shell's own word is the `=`.
                    ("words[COMP_CWORD]=\"$2\"", "[[ -z \"$2\" ]] || words[COMP_CWORD]=\"$2\""),
                ],
            ),
            Self::Zsh => (
                &Zsh,
                &[
                    ("$(expr $CURRENT - 1)", "$((CURRENT - 1))"),
                    // After the `=` of a setting follows its value, and no space.
                    ("local -a other=()", "local -a other=() keys=()"),
                    (
                        "            else\n                other+=",
                        "            elif [[ \"$value\" == *= ]]; then\n                keys+=(\"$completion\")\n            \
                         else\n                other+=",
                    ),
                    (
                        "_describe -V 'values' other",
                        "_describe -V 'values' other\n        [[ -n $keys ]] && _describe -V 'values' keys -S ''",
                    ),
                    // As a file in `fpath`, the script is run to complete something for the first time.
                    (
                        "\ncompdef _clap_dynamic_completer_authctl authctl",
                        "\nif [[ \"$funcstack[1]\" == _authctl ]]; then\n    _clap_dynamic_completer_authctl\nelse\n    \
                         compdef _clap_dynamic_completer_authctl authctl\nfi",
                    ),
                ],
            ),
            Self::Fish => (
                &Fish,
                &[
                    ("AUTHCTL_COMPLETE=fish", "command -q authctl; and AUTHCTL_COMPLETE=fish"),
                    ("(commandline --current-token))", "(commandline --current-token) 2>/dev/null)"),
                ],
            ),
            Self::Powershell => (&Powershell, &[]),
            Self::Elvish => (&Elvish, &[("-- $@words)", "-- $@words 2>/dev/null)")]),
        };
        let mut script = Vec::new();
        // Writing to memory does not fail.
        let _ = shell.write_registration(COMPLETION_VARIABLE, "authctl", "authctl", "authctl", &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        changes.iter().fold(script, |script, (from, to)| script.replace(from, to)).trim().to_owned()
    }

    /// Returns the candidates in the form that the script reads.
    #[must_use]
    pub fn candidates(self, mut request: CompletionRequest, config: Config) -> String {
        let typed = if self == Self::Bash { join_words(&mut request) } else { 0 };
        let mut lines = Vec::new();
        for candidate in request.candidates(config) {
            let Some(value) = candidate.get_value().to_str() else { continue };
            let help = candidate.get_help().map(StyledStr::to_string).unwrap_or_default();
            let help = help.lines().next().unwrap_or_default();
            // The other shells quote what they insert.
            let is_plain = shell_word(value) == value;
            if value.contains(char::is_control) || self == Self::Powershell && !is_plain {
                continue;
            }
            lines.push(match self {
                Self::Bash => shell_word(value.get(typed..).unwrap_or_default()),
                Self::Elvish => value.to_owned(),
                Self::Zsh if help.is_empty() => value.replace(':', "\\:"),
                Self::Zsh => format!("{}:{help}", value.replace(':', "\\:")),
                Self::Fish | Self::Powershell if help.is_empty() => value.to_owned(),
                Self::Fish | Self::Powershell => format!("{value}\t{help}"),
            });
        }
        lines.join(if self == Self::Bash { "\u{b}" } else { "\n" })
    }
}

/// Joins the words that Bash splits at `=` and `:`. Returns the length of what comes before the part that Bash completes.
fn join_words(request: &mut CompletionRequest) -> usize {
    let is_break = |word: &OsStr| !word.is_empty() && word.as_encoded_bytes().iter().all(|byte| b"=:".contains(byte));
    let (mut joined, mut index, mut typed) = (Vec::<OsString>::new(), 0, 0);
    for (position, word) in request.words.iter().enumerate() {
        let follows = position > 0 && (is_break(word) || is_break(&request.words[position - 1]));
        let before = match joined.last_mut().filter(|_| follows) {
            Some(last) => {
                last.push(word);
                last.len() - if is_break(word) { 0 } else { word.len() }
            }
            None => {
                joined.push(word.clone());
                0
            }
        };
        if position == request.index {
            (index, typed) = (joined.len() - 1, before);
            break;
        }
    }
    (request.words, request.index) = (joined, index);
    typed
}

impl CompletionRequest {
    fn candidates(self, config: Config) -> Vec<CompletionCandidate> {
        let Self { mut words, mut index, search_path } = self;
        // Some shells leave out an empty word at the end.
        words.resize(index + 1, OsString::new());
        let current = words[index].clone();
        let program = Program { search_path };
        // The word itself is completed, not what it stands for.
        let rest = words.split_off(index);
        words = expand_or_suggest(words);
        index = words.len();
        words.extend(rest);
        if let Some(start) = words[..index].iter().position(|word| word == "--") {
            return program.complete_at(index - start - 1, &current);
        }
        if let Some(help) = argument_positions(&words).next().filter(|at| *at < index && words[*at] == "help") {
            return matching(explained(&words[help + 1..index]).into_iter(), &current);
        }
        let mut command = Cli::command();
        // Defines the deferred arguments.
        command.build();
        let mut command = with_completers(command, &Arc::new(config), &program);
        let mut all = complete(&mut command, words, index, std::env::current_dir().ok().as_deref()).unwrap_or_default();
        // An option is offered where nothing else is, or where one was begun.
        let is_option = |candidate: &CompletionCandidate| candidate.get_value().as_encoded_bytes().starts_with(b"-");
        if !current.as_encoded_bytes().starts_with(b"-") && !all.iter().all(is_option) {
            all.retain(|candidate| !is_option(candidate));
        }
        all
    }
}

/// Returns what `authctl help` explains after these words, and the purpose of each.
fn explained(words: &[OsString]) -> Vec<(String, String)> {
    let root = Cli::command();
    let Some(command) = words.iter().try_fold(&root, |command, word| command.find_subcommand(word)) else {
        return Vec::new();
    };
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let about = |command: &Command| command.get_about().map(StyledStr::to_string).unwrap_or_default();
    let topics = TOPICS.iter().filter(|_| words.is_empty()).map(|topic| ((*topic).to_owned(), String::new()));
    commands.map(|command| (command.get_name().to_owned(), about(command))).chain(topics).collect()
}

/// Has every argument of a command and its subcommands completed from the configuration.
fn with_completers(command: Command, config: &Arc<Config>, program: &Program) -> Command {
    command
        .mut_args(|arg| with_completer(arg, config, program))
        .mut_subcommands(|inner| with_completers(inner, config, program))
}

fn with_completer(arg: Arg, config: &Arc<Config>, program: &Program) -> Arg {
    let what = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default();
    let id = arg.get_id().to_string();
    let config = Arc::clone(config);
    let with = |completer: ArgValueCompleter| arg.clone().add(completer);
    match what.as_str() {
        "PROFILE" | "PROFILE|-" => with(ArgValueCompleter::new(move |current: &OsStr| {
            let profiles = config.profiles.values();
            matching(profiles.map(|profile| (profile.name.to_string(), profile.issuer.to_string())), current)
        })),
        "KEY=VALUE" => {
            with(ArgValueCompleter::new(move |current: &OsStr| assignments(&config, current).unwrap_or_default()))
        }
        "CMD" => with(ArgValueCompleter::new(program.clone())),
        _ => match setting(&id).or_else(|_| setting(id.trim_end_matches('s'))) {
            Ok(setting) if setting.form() == ValueForm::Path => arg.value_hint(ValueHint::FilePath),
            Ok(setting) if setting.choices().is_empty() => with(ArgValueCompleter::new(move |current: &OsStr| {
                let values = values(&config, setting).into_iter();
                matching(values.map(|value| (value, String::new())), current)
            })),
            _ => arg,
        },
    }
}

/// Completes `KEY=VALUE`: first the key, then its value.
fn assignments(config: &Config, current: &OsStr) -> Option<Vec<CompletionCandidate>> {
    let Some((key, _)) = current.to_str()?.split_once('=') else {
        let keys = SETTINGS.iter().map(|setting| (format!("{}=", setting.key), setting.help.to_owned()));
        return Some(matching(keys, current));
    };
    let values = values(config, setting(key).ok()?).into_iter();
    Some(matching(values.map(|value| (format!("{key}={value}"), String::new())), current))
}

/// Returns the values that a setting can have, or has in some profile.
fn values(config: &Config, setting: &Setting) -> BTreeSet<String> {
    let choices = setting.choices();
    if !choices.is_empty() {
        return choices.into_iter().map(str::to_owned).collect();
    }
    let in_profile = |profile| match setting.value(profile) {
        Value::List(items) => items,
        value => vec![value.to_text()],
    };
    config.profiles.values().flat_map(in_profile).filter(|value| !value.is_empty()).collect()
}

/// Returns the candidates that begin with what was typed.
fn matching(all: impl Iterator<Item = (String, String)>, current: &OsStr) -> Vec<CompletionCandidate> {
    let begins = |value: &str| value.as_bytes().starts_with(current.as_encoded_bytes());
    all.filter(|(value, _)| begins(value))
        .map(|(value, help)| CompletionCandidate::new(value).help((!help.is_empty()).then(|| help.into())))
        .collect()
}

/// Completes a command of another program: its name, then paths.
#[derive(Clone)]
struct Program {
    search_path: OsString,
}

impl ValueCompleter for Program {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, index: usize, current: &OsStr) -> Vec<CompletionCandidate> {
        if index > 0 || current.as_encoded_bytes().contains(&b'/') {
            return PathCompleter::any().complete(current);
        }
        let entries =
            std::env::split_paths(&self.search_path).filter_map(|dir| dir.read_dir().ok()).flatten().flatten();
        let names: BTreeSet<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        // All programs are too many to choose from.
        let names = names.into_iter().filter(|_| !current.is_empty());
        matching(names.map(|name| (name, String::new())), current)
    }
}

#[cfg(test)]
mod tests;
