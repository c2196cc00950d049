//! The hint of an error: the next command to run, or advice if no command helps.

mod command_line;

use std::fmt;

use crate::cli::argument_positions;
use crate::model::ProfileName;
use crate::text::{hide_tokens, sanitize_line, shell_line, shell_word};
use crate::ui;
pub use command_line::CommandLine;

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    /// There is nothing to suggest.
    #[default]
    None,
    /// A command to run.
    Command(Box<CommandLine>),
    /// A complete command line of other programs.
    Shell(String),
    /// Advice in one sentence, if no command helps.
    Advice(String),
    /// `authctl doctor`, which finds the cause, or advice where that does not help.
    Doctor(String, Box<CommandLine>),
    /// Advice, and a command that follows it.
    AdviceAndCommand(String, Box<CommandLine>),
    /// Advice, and a complete command line that follows it.
    AdviceAndShell(String, String),
    /// The typed command line, with another word in place of one that was typed.
    Correction {
        /// What was typed.
        typed: String,
        /// What was probably meant.
        meant: String,
        /// The command to run if the word was not typed, but comes from a variable or a file.
        otherwise: Box<CommandLine>,
    },
}

/// The scope by which a login requests an ID token (OpenID Connect Core 1.0, section 3.1.2.1).
const OPENID: &str = "openid";

/// The command that shows the settings of a profile.
const SHOW_PROFILE: &str = "profile show";

impl Hint {
    /// Suggests a command that takes no profile.
    #[must_use]
    pub fn command(verbs: &'static str) -> Self {
        Self::Command(Box::new(CommandLine::new(verbs, false)))
    }

    /// Suggests a command for the profile that the error is about.
    #[must_use]
    pub fn profile_command(verbs: &'static str) -> Self {
        Self::Command(Box::new(CommandLine::new(verbs, true)))
    }

    /// Suggests to check the profile's settings. A login shows `advice` and itself again.
    #[must_use]
    pub fn check_settings(advice: &str) -> Self {
        Self::profile_command(SHOW_PROFILE).after_advice(advice)
    }

    /// Suggests to log in to the profile.
    #[must_use]
    pub fn login() -> Self {
        Self::profile_command("login")
    }

    /// Suggests a login that requests an ID token besides `scopes`. Options replace the profile's values, so all scopes are
    /// repeated.
    #[must_use]
    pub fn login_with_openid(scopes: &[String]) -> Self {
        let scopes = scopes.iter().map(String::as_str).filter(|scope| *scope != OPENID).chain([OPENID]);
        scopes.fold(Self::login(), |hint, scope| hint.with_option("--scope", scope))
    }

    /// Suggests a complete command line of other programs.
    #[must_use]
    pub fn shell(line: impl Into<String>) -> Self {
        Self::Shell(line.into())
    }

    /// Gives advice in words, where no command helps. A test lists these with the reasons.
    #[must_use]
    pub fn advice(text: impl Into<String>) -> Self {
        Self::Advice(text.into())
    }

    /// Repeats the command and the advice that the agent, another command or an earlier check has put into words.
    #[must_use]
    pub fn reported(command: String, advice: Option<String>) -> Self {
        match (advice, command.is_empty()) {
            (None, true) => Self::None,
            (None, false) => Self::Shell(command),
            (Some(advice), true) => Self::Advice(advice),
            (Some(advice), false) => Self::AdviceAndShell(advice, command),
        }
    }

    /// Suggests `authctl doctor`. That command itself shows `advice`, and so does a login, whose profile may not exist.
    #[must_use]
    pub fn doctor(advice: impl Into<String>) -> Self {
        match Self::profile_command("doctor") {
            Self::Command(command) => Self::Doctor(advice.into(), command),
            other => other,
        }
    }

    /// Puts advice before the command, which it introduces.
    #[must_use]
    pub fn after_advice(self, advice: impl Into<String>) -> Self {
        match self {
            Self::Command(command) => Self::AdviceAndCommand(advice.into(), command),
            other => other,
        }
    }

    /// Suggests the command to a user who can type the missing value. Without a terminal it would fail again, and the hint names
    /// what to add instead.
    #[must_use]
    pub fn or_add(self, is_interactive: bool, what_to_add: &str) -> Self {
        match is_interactive {
            true => self,
            false => Self::Advice(format!("{what_to_add}, or run this in a terminal")),
        }
    }

    /// Returns whether the whole hint is one command, which is pasted as it is.
    #[must_use]
    pub fn is_command(&self) -> bool {
        matches!(self, Self::Command(_) | Self::Shell(_) | Self::Doctor(..) | Self::Correction { .. })
    }

    /// Suggests the typed command line with `meant` in place of `typed`, or this command if `typed` was not typed.
    #[must_use]
    pub fn or_correction(self, typed: &str, meant: &str) -> Self {
        match self {
            Self::Command(command) => {
                Self::Correction { typed: typed.to_owned(), meant: meant.to_owned(), otherwise: command }
            }
            other => other,
        }
    }

    /// Has the command read this file as its stdin.
    #[must_use]
    pub fn with_stdin(mut self, file: impl Into<String>) -> Self {
        if let Some(command) = self.command_mut() {
            command.stdin = Some(file.into());
        }
        self
    }

    fn command_mut(&mut self) -> Option<&mut CommandLine> {
        match self {
            Self::Command(command)
            | Self::AdviceAndCommand(_, command)
            | Self::Doctor(_, command)
            | Self::Correction { otherwise: command, .. } => Some(command),
            Self::None | Self::Shell(_) | Self::Advice(_) | Self::AdviceAndShell(..) => None,
        }
    }

    /// Returns the advice and the command.
    #[must_use]
    pub fn parts(&self) -> (Option<String>, Option<String>) {
        match self {
            Self::None => (None, None),
            Self::Advice(text) => (Some(super::one_line(text)), None),
            Self::AdviceAndCommand(text, command) => (Some(super::one_line(text)), Some(command.to_string())),
            Self::AdviceAndShell(text, line) => (Some(super::one_line(text)), Some(line.clone())),
            _ => (None, Some(self.to_string())),
        }
    }

    /// Hides tokens in the advice. A command with one would not work without it, and is replaced by advice.
    #[must_use]
    pub(super) fn without_tokens(self) -> Self {
        let (advice, command) = self.parts();
        let hides = |text: &Option<String>| text.as_ref().is_some_and(|text| hide_tokens(text) != *text);
        if !hides(&advice) && !hides(&command) {
            return self;
        }
        let advice = advice.map(|text| hide_tokens(&text).into_owned());
        match command {
            Some(_) if hides(&command) => {
                Self::Advice(advice.unwrap_or_else(|| "do not pass tokens as arguments; pipe them in".to_owned()))
            }
            command => Self::reported(command.unwrap_or_default(), advice),
        }
    }

    /// Returns the lines of the hint for stderr; none if there is nothing to suggest. What follows `hint:` is a command, which
    /// is copied; advice follows `note:` and is broken at the width of the terminal.
    #[must_use]
    pub fn lines(&self, color: bool) -> Vec<String> {
        let (advice, command) = self.parts();
        let line = |label: &str, text: &str| format!("{}  {text}", ui::style("1;36", label, color));
        let advice = advice.map(|text| line("note:", &ui::wrap_after_label(&text)));
        let command = command.map(|command| line("hint:", &sanitize_line(&command)));
        advice.into_iter().chain(command).collect()
    }

    /// Adds an option with a value to the command.
    #[must_use]
    pub fn with_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Some(command) = self.command_mut() {
            command.options.push((name.into(), Some(value.into())));
        }
        self
    }

    /// Adds an option without a value to the command.
    #[must_use]
    pub fn with_flag(mut self, name: impl Into<String>) -> Self {
        if let Some(command) = self.command_mut() {
            command.options.push((name.into(), None));
        }
        self
    }

    /// Adds an argument to the command.
    #[must_use]
    pub fn with_argument(self, argument: impl Into<String>) -> Self {
        self.with_flag(argument)
    }

    /// Leaves out the typed options: the command uses the profile as it is configured.
    #[must_use]
    pub fn without_typed_options(mut self) -> Self {
        if let Some(command) = self.command_mut() {
            command.repeats = false;
        }
        self
    }

    /// Repeats the typed options, if the typed command is the same.
    #[must_use]
    pub fn with_typed_options(mut self) -> Self {
        if let Some(command) = self.command_mut() {
            command.repeats = true;
        }
        self
    }

    /// Names the profile in the command, unless it names one.
    #[must_use]
    pub fn about(mut self, profile: &ProfileName) -> Self {
        if let Some(command) = self.command_mut()
            && command.takes_profile
        {
            command.profile.get_or_insert_with(|| profile.clone());
        }
        self
    }

    /// Repeats what the user typed: all options if the command is the same, else only `--config`. Where that is the line that was
    /// typed, only the advice is left. `args` starts with the program's name.
    #[must_use]
    pub fn repeating(mut self, args: &[String]) -> Self {
        if let Self::Correction { typed, meant, otherwise } = &self
            && let Some(line) = corrected(args, typed, meant)
        {
            return Self::Shell(line + &otherwise.redirection());
        }
        let verb = argument_positions(args).next();
        if let Self::Doctor(advice, command) = self {
            return match verb.map(|at| args[at].as_str()) {
                Some("doctor") => Self::Advice(advice),
                Some("login") => {
                    let mut login = Self::login().after_advice(format!("{advice}; then log in again"));
                    if let Some(line) = login.command_mut() {
                        line.profile = command.profile;
                    }
                    login.repeating(args)
                }
                _ => Self::Command(command).repeating(args),
            };
        }
        if let Self::AdviceAndCommand(_, command) = &mut self
            && command.verbs == SHOW_PROFILE
            && verb.is_some_and(|at| args[at] == "login")
        {
            // The profile may not exist; what is to be checked was typed.
            (command.verbs, command.repeats) = ("login", true);
        }
        let config = args.iter().enumerate().skip(1).find_map(|(index, word)| match word.strip_prefix("--config") {
            Some("") => args.get(index + 1).cloned(),
            Some(value) => value.strip_prefix('=').map(str::to_owned),
            None => None,
        });
        if let (Self::Shell(line) | Self::AdviceAndShell(_, line), Some(config)) = (&mut self, &config) {
            add_config(line, config);
        }
        let Some(command) = self.command_mut() else { return self };
        let verbs: Vec<&str> = command.verbs.split(' ').collect();
        let positions: Vec<usize> = argument_positions(args).take(verbs.len()).collect();
        let is_same = positions.iter().map(|at| args[*at].as_str()).eq(verbs);
        if command.repeats && is_same {
            // Piped input is not available again; the terminal prompts for it.
            let left_out = |word: &str| {
                word == "--json"
                    || word == "--no-input"
                    || word.ends_with("-stdin")
                    || word.ends_with("=-")
                    || word == "-"
            };
            let typed = args.iter().enumerate().skip(1).filter(|(at, _)| !positions.contains(at));
            let typed: Vec<&String> = typed.map(|(_, word)| word).collect();
            let is_read_from_stdin = |at: usize| typed.get(at + 1).is_some_and(|next| *next == "-");
            let repeated = (0..typed.len()).filter(|at| !left_out(typed[*at]) && !is_read_from_stdin(*at));
            command.typed = repeated.map(|at| typed[at].clone()).collect();
        } else if let Some(config) = config {
            command.typed = vec!["--config".to_owned(), config];
        }
        match self {
            Self::AdviceAndCommand(advice, command) if command.is_typed_line(args.get(1..).unwrap_or_default()) => {
                Self::Advice(advice)
            }
            hint => hint,
        }
    }
}

/// Adds the typed configuration to a command line of authctl that the agent or an earlier check has put into words.
fn add_config(line: &mut String, config: &str) {
    let option = format!(" --config {}", shell_word(config));
    if !line.starts_with("authctl ") || line.contains(" --config") {
        return;
    }
    // What follows `--` belongs to another program, and what follows `&&` is another command.
    let end = [" -- ", " && "].iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
    line.insert_str(end, &option);
}

/// Returns the typed command line with `meant` in place of `typed`, if that was typed after the command, once, and the command
/// reads nothing from stdin, which would not be available again.
fn corrected(words: &[String], typed: &str, meant: &str) -> Option<String> {
    let verb = argument_positions(words).next()?;
    // What follows `--` belongs to another program.
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let mut places = (verb + 1..end).filter(|&at| words[at] == typed);
    let wrong = places.next().filter(|_| places.next().is_none())?;
    let is_profile = !words[wrong - 1].starts_with("--") || words[wrong - 1] == "--profile";
    if !is_profile || words[verb..end].iter().any(|word| word == "-" || word.ends_with("-stdin")) {
        return None;
    }
    let words = words.iter().enumerate().skip(1).map(|(at, word)| if at == wrong { meant } else { word });
    Some(shell_line(std::iter::once("authctl").chain(words)))
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Advice(text) | Self::Shell(text) => f.write_str(&super::one_line(text)),
            Self::Command(command) => command.fmt(f),
            Self::Doctor(_, command) => command.fmt(f),
            Self::Correction { otherwise, .. } => otherwise.fmt(f),
            Self::AdviceAndCommand(text, command) => write!(f, "{}: {command}", super::one_line(text)),
            Self::AdviceAndShell(text, line) => write!(f, "{}: {line}", super::one_line(text)),
        }
    }
}

#[cfg(test)]
mod tests;
