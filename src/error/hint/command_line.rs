//! The command line of authctl that a hint suggests.

use std::fmt;

use crate::cli::is_grant_option;
use crate::model::ProfileName;
use crate::text::{shell_line, shell_word};

/// An authctl command line. Without a profile it is for the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The command and its subcommand.
    pub(super) verbs: &'static str,
    pub(super) takes_profile: bool,
    /// Whether to repeat the options that were typed, if the typed command was the same.
    pub(super) repeats: bool,
    pub(super) profile: Option<ProfileName>,
    /// The options, each with its value if it has one.
    pub(super) options: Vec<(String, Option<String>)>,
    /// The typed words to repeat.
    pub(super) typed: Vec<String>,
    /// The file that the command reads as its stdin.
    pub(super) stdin: Option<String>,
}

impl CommandLine {
    /// Creates the command line of a command, which is for the profile of the error if it takes one.
    pub(super) fn new(verbs: &'static str, takes_profile: bool) -> Self {
        Self {
            verbs,
            takes_profile,
            repeats: takes_profile,
            profile: None,
            options: Vec::new(),
            typed: Vec::new(),
            stdin: None,
        }
    }

    /// Returns whether the command is the typed one, which has just failed. Without the name of a profile it is for the same one.
    pub(super) fn is_typed_line(&self, typed: &[String]) -> bool {
        let sorted = |mut words: Vec<String>| {
            words.sort_unstable();
            words
        };
        let typed: Vec<String> = typed.iter().filter(|word| *word != "--json").cloned().collect();
        let mut own = self.clone();
        own.profile.take_if(|name| !typed.iter().any(|word| word == name.as_str()));
        sorted(own.words()) == sorted(typed)
    }

    /// Returns the words after `authctl`.
    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.verbs.split(' ').map(str::to_owned).collect();
        let is_set = |name: &str| {
            // Another grant replaces the one that was typed, and the user name that belongs to it.
            let replaced = is_grant_option(name) || name == "--username";
            let grant = replaced && self.options.iter().any(|(own, _)| is_grant_option(own));
            grant || self.options.iter().any(|(own, _)| *own == name)
        };
        let mut typed = self.typed.iter().peekable();
        let mut remaining = Vec::new();
        while let Some(word) = typed.next() {
            let name = word.split('=').next().unwrap_or(word);
            if !is_set(name) {
                remaining.push(word.clone());
            } else if !word.contains('=')
                && (matches!(name, "--username" | "--workload")
                    || self.options.iter().any(|(own, value)| *own == name && value.is_some()))
            {
                typed.next();
            }
        }
        if let Some(profile) = &self.profile
            && !remaining.iter().any(|word| word == profile.as_str())
        {
            words.push(profile.to_string());
        }
        words.extend(remaining);
        for (name, value) in &self.options {
            match value {
                // It would be taken for an option.
                Some(value) if value.starts_with('-') => words.push(format!("{name}={value}")),
                value => words.extend([name].into_iter().chain(value).cloned()),
            }
        }
        words
    }

    /// Returns how a shell gives the command its stdin.
    pub(super) fn redirection(&self) -> String {
        self.stdin.as_ref().map(|file| format!(" < {}", shell_word(file))).unwrap_or_default()
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "authctl {}{}", shell_line(self.words()), self.redirection())
    }
}
