//! What commands print to stdout: data for programs, lines for people, and times in words.

use std::io::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::app::App;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::text::{escape_json, sanitize_line};

/// Writes data and a line break to stdout, as it is. A closed pipe is not an error.
///
/// # Errors
/// [`ErrorCode::Unexpected`] if stdout cannot be written.
pub fn data(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    let written = [text.as_bytes(), b"\n"].iter().try_for_each(|part| stdout.write_all(part));
    match written.and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            let error = anyhow::Error::new(e).context("cannot write to stdout");
            Err(Error::new(ErrorCode::Unexpected, error, "check where the output goes"))
        }
        _ => Ok(()),
    }
}

/// Writes one line for people to stdout.
///
/// # Errors
/// As [`data()`].
pub fn line(text: &str) -> Result<(), Error> {
    data(&sanitize_line(text))
}

/// Writes a value to stdout as one line of JSON, printable on a terminal.
///
/// # Errors
/// As [`data()`].
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))?;
    data(&escape_json(text))
}

/// Reports what was done, and with `--json` prints the state after it. Returns the exit code.
///
/// # Errors
/// As [`data()`].
pub fn done(app: &App, message: &str, state: &impl Serialize) -> Result<u8, Error> {
    app.ui().notice(message);
    if app.common.json {
        json(state)?;
    }
    Ok(0)
}

/// The style of a part of a line.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// A heading or a name.
    Bold,
    /// A normal state.
    Good,
    /// A state that needs attention.
    Bad,
}

/// A line for people with styled parts, if stdout shows styles.
pub struct StyledLine {
    text: String,
    color: bool,
}

impl StyledLine {
    /// Starts a line.
    #[must_use]
    pub fn new(app: &App) -> Self {
        Self { text: String::new(), color: app.has_color(&io::stdout()) }
    }

    /// Adds plain text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.text.push_str(&sanitize_line(text));
        self
    }

    /// Adds styled text.
    #[must_use]
    pub fn styled(mut self, style: Style, text: &str) -> Self {
        let sgr = match style {
            Style::Bold => 1,
            Style::Good => 32,
            Style::Bad => 31,
        };
        let text = sanitize_line(text);
        self.text.push_str(&if self.color { format!("\u{1b}[{sgr}m{text}\u{1b}[0m") } else { text.into_owned() });
        self
    }

    /// Writes the line to stdout.
    ///
    /// # Errors
    /// As [`data()`].
    pub fn print(self) -> Result<(), Error> {
        data(&self.text)
    }
}

/// Returns a number with the noun in its singular or plural.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Formats a duration in at most two units, such as `4 min 12 s`.
#[must_use]
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |big: u64, big_name: &str, small: u64, small_name: &str| match small {
        0 => format!("{big} {big_name}"),
        _ => format!("{big} {big_name} {small} {small_name}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// Formats a past time relative to `now`, such as `3 min 2 s ago`.
#[must_use]
pub fn ago(then: UnixTime, now: UnixTime) -> String {
    format!("{} ago", span(then.until(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_formatted_in_at_most_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (252, "4 min 12 s"),
            (3600, "1 h"),
            (5400, "1 h 30 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
