//! The error of a command: its stable code, its message, and the hint that follows it.
//!
//! A new error gets its code in `model/error_code.rs`, and its hint where the layer's error is converted (`conversions.rs`,
//! `session.rs`).

mod conversions;
mod file_hints;
mod hint;
mod session;

use std::io::{self, Write as _};

use serde::Serialize;

pub use crate::model::ErrorCode;
use crate::model::ProfileName;
use crate::text::{escape_json, hide_tokens, without_error_numbers};
use crate::ui;
pub use conversions::{SET_CLOCK, forgotten_passphrase};
pub use hint::Hint;

/// Every exit code with its meaning; the documentation is checked against this table.
pub const EXIT_CODES: [(u8, &str); 12] = [
    (0, "Done, or granted"),
    (1, "Unexpected error"),
    (2, "Wrong usage or configuration"),
    (3, "Login required"),
    (4, "Token denied"),
    (5, "The issuer refused the request"),
    (6, "The issuer is unreachable; try again"),
    (7, "The store is locked, missing or refuses access"),
    (8, "The agent is locked, is required but not running, or does not permit the caller"),
    (126, "The command of `authctl exec` cannot be run"),
    (127, "The command of `authctl exec` was not found"),
    (130, "Interrupted"),
];

/// Why a command failed, and what to do next.
#[derive(Debug)]
pub struct Error {
    /// The stable code, which decides the exit code.
    pub code: ErrorCode,
    /// What failed.
    pub error: anyhow::Error,
    /// What to do next.
    pub hint: Hint,
}

/// How an error is printed on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text {
        /// Whether the stream shows colours.
        color: bool,
    },
    /// One line of JSON.
    Json,
}

impl Error {
    /// Creates an error with this code.
    #[must_use]
    pub fn new(code: ErrorCode, error: impl Into<anyhow::Error>, hint: Hint) -> Self {
        Self { code, error: error.into(), hint }
    }

    /// Creates an error from a message.
    #[must_use]
    pub fn msg(code: ErrorCode, message: impl Into<String>, hint: Hint) -> Self {
        Self::new(code, anyhow::Error::msg(message.into()), hint)
    }

    /// Names the profile in the hint.
    #[must_use]
    pub fn about(mut self, profile: &ProfileName) -> Self {
        self.hint = self.hint.about(profile);
        self
    }

    /// Creates the error of a command that a signal ended while nothing ran that is finished first.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::msg(ErrorCode::Interrupted, "interrupted", Hint::None)
    }

    /// Creates the error of a command that a signal ended after its refresh, login or logout.
    #[must_use]
    pub fn interrupted_after_change() -> Self {
        Self::msg(ErrorCode::Interrupted, "interrupted; what had begun was finished first", Hint::command("status"))
    }

    /// Creates the error of a command that a second signal ended during its refresh, or whose refresh failed.
    #[must_use]
    pub fn interrupted_during_refresh() -> Self {
        Self::msg(ErrorCode::Interrupted, "interrupted during the refresh", Hint::profile_command("status"))
    }

    /// Prints the error on stderr. `args` is the command line; its hint repeats what was typed. Tokens in both are hidden: one may
    /// have been typed by mistake. A closed stderr is not an error.
    pub fn report(&self, format: Format, args: &[String]) {
        #[derive(Serialize)]
        struct Report<'a> {
            error: ReportedError<'a>,
        }
        #[derive(Serialize)]
        struct ReportedError<'a> {
            code: &'a str,
            message: String,
            hint: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            note: Option<String>,
        }
        let message = hide_tokens(&self.message()).into_owned();
        let hint = self.hint.clone().repeating(args).without_tokens();
        let text = match format {
            Format::Json => {
                let (hint, note) = match hint.parts() {
                    (note, Some(command)) => (command, note),
                    (advice, None) => (advice.unwrap_or_default(), None),
                };
                let report = Report { error: ReportedError { code: self.code.as_str(), message, hint, note } };
                escape_json(serde_json::to_string(&report).unwrap_or_default())
            }
            Format::Text { color } => {
                let error = ui::style("1;31", "error:", color);
                let message = format!("{error} {}", ui::wrap_after_label(&message));
                std::iter::once(message).chain(hint.lines(color)).collect::<Vec<_>>().join("\n")
            }
        };
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Returns what failed, in one line. A cause is not repeated: the message above it may name it.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if !message.contains(&cause) {
                let separator = if message.is_empty() { "" } else { ": " };
                message.extend([separator, &cause]);
            }
        }
        one_line(&without_error_numbers(&message))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_table_has_every_exit_code() {
        let mut codes: Vec<u8> = ErrorCode::ALL.iter().map(|code| code.exit_code()).collect();
        codes.dedup();
        let table: Vec<u8> = EXIT_CODES[1..].iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, table);
    }

    #[test]
    fn message_names_each_cause_once_without_its_number() {
        let cause = || io::Error::from_raw_os_error(13);
        let store = crate::store::StoreError::Io { doing: "read", path: "/x".into(), source: cause() };
        assert_eq!(Error::from(store).message(), "cannot read /x: Permission denied");
        let error = anyhow::Error::new(cause()).context("cannot start");
        assert_eq!(Error::new(ErrorCode::Unexpected, error, Hint::None).message(), "cannot start: Permission denied");
    }

    #[test]
    fn message_and_hint_are_one_line() {
        let error = Error::msg(ErrorCode::LoginRequired, "a\nb\r\n c", Hint::advice("d\ne"));
        assert_eq!((error.message().as_str(), error.hint.to_string().as_str()), ("a b c", "d e"));
    }
}
