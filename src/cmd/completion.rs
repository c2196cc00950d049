//! `authctl completion`: prints a shell's script, and the candidates that the script requests.

use std::ffi::OsString;
use std::path::PathBuf;

use super::output;
use crate::app::App;
use crate::cli::{Completion, CompletionRequest, Shell};
use crate::config::Config;
use crate::error::Error;
use crate::paths::{CompletionVariables, Environment, Paths};

/// Runs the command.
pub fn run(app: &App, args: &Completion) -> Result<u8, Error> {
    output::text(app.common.json, &args.shell.script())
}

/// Prints the candidates for the command line after `--` in `args`. Reads nothing but the configuration, and prints no
/// error: it would appear in the middle of what the user types. Returns false for a shell that has no script.
pub fn complete(variables: &CompletionVariables, args: &[OsString]) -> bool {
    let Some(shell) = Shell::named(&variables.shell) else { return false };
    let words: Vec<OsString> = args.iter().skip_while(|arg| *arg != "--").skip(1).cloned().collect();
    let environment = Environment::capture();
    let file = config_option(&words).or(environment.config);
    let config = Paths::locate(file.as_deref()).ok().and_then(|paths| Config::load(&paths.config).ok());
    let index = variables.index.unwrap_or(words.len().saturating_sub(1)).min(words.len());
    let request = CompletionRequest { words, index, search_path: environment.surroundings.search_path };
    let _ = output::data(&shell.candidates(request, config.unwrap_or_default()));
    true
}

/// Returns the value of `--config` in the command line to complete.
fn config_option(words: &[OsString]) -> Option<PathBuf> {
    let after = words.iter().skip_while(|word| *word != "--config").nth(1);
    let joined = || words.iter().find_map(|word| word.to_str()?.strip_prefix("--config="));
    after.map(PathBuf::from).or_else(|| joined().map(PathBuf::from))
}
