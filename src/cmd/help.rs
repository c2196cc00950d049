//! `authctl help` and `authctl version`.

use std::io;

use serde::Serialize;

use super::output;
use crate::app::App;
use crate::cli::{COMMIT, Cli, ENVIRONMENT, FILES, Help, TOPICS, VERSION};
use crate::error::{EXIT_CODES, Error, ErrorCode, Hint};

/// The topic `json`.
const JSON: &str = "\
With --json a command prints its result as one line of JSON on stdout.
`logout --all` and `refresh --all` print a line for each profile.
Without the option a command prints for people, and its words may change.

An error is one line of JSON on stderr. If all has failed, stdout is empty:

  {\"error\":{\"code\":\"login_required\",\"message\":\"not logged in to work\",\"hint\":\"authctl login work\"}}

`code` is stable; authctl(1) lists the codes of each exit code.
Times are in seconds since 1970. Ignore members that you do not know.";

/// Runs `help`.
pub fn run(app: &App, args: &Help) -> Result<u8, Error> {
    let words = Cli::explained(&args.words);
    let text = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Cli::overview(),
        ["environment"] => ENVIRONMENT.to_owned(),
        ["files"] => FILES.to_owned(),
        ["exit-codes"] => EXIT_CODES.map(|(code, meaning)| format!("{code:>5}  {meaning}")).join("\n"),
        ["json"] => JSON.to_owned(),
        typed => Cli::help_of(&words, app.has_color(&io::stdout()) && !app.common.json).ok_or_else(|| {
            let message = format!("no command or topic `{}`; topics: {}", typed.join(" "), TOPICS.join(", "));
            let meant = Cli::explained_suggestion(&words);
            let hint = meant.into_iter().fold(Hint::command("help"), Hint::with_argument);
            Error::msg(ErrorCode::Usage, message, hint)
        })?,
    };
    match words.first().is_none_or(|word| TOPICS.contains(&word.as_str())) && !app.common.json {
        true => print(&text).map(|()| 0),
        false => output::text(app.common.json, text.trim_end()),
    }
}

/// Prints the screen of `authctl` without arguments.
///
/// # Errors
/// As [`output::data`].
pub fn overview() -> Result<(), Error> {
    print(&Cli::overview())
}

/// Prints text whose lines have a term and its meaning.
fn print(text: &str) -> Result<(), Error> {
    let lines = text.lines().flat_map(|line| output::wrapped(line, meaning_column(line)));
    output::data(&lines.collect::<Vec<_>>().join("\n"))
}

/// Returns the column of what a term in the line means: it follows two spaces.
fn meaning_column(line: &str) -> usize {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    text.find("  ").map_or(indent, |end| line.len() - text[end..].trim_start().len())
}

/// Runs `version`.
///
/// # Errors
/// As [`output::data`].
pub fn version(is_json: bool) -> Result<u8, Error> {
    #[derive(Serialize)]
    struct Version {
        version: &'static str,
        commit: Option<&'static str>,
    }
    match is_json {
        true => output::json(&Version { version: env!("CARGO_PKG_VERSION"), commit: COMMIT })?,
        false => output::line(&format!("authctl {VERSION}"))?,
    }
    Ok(0)
}
