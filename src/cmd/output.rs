//! What commands print to stdout: data for programs, lines for people, and times in words.

use std::io::{self, Write as _};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::app::App;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
pub use crate::model::span;
use crate::text::{escape_json, sanitize_line};
use crate::ui::{STDOUT_WAS_CLOSED, fill, style};

/// What to add where a passphrase is missing and there is no terminal to type it in.
pub(super) const PIPE_PASSPHRASE: &str = "pipe it in with --passphrase-stdin";

/// Returns the hint where an option reads stdin, and nothing was piped in.
pub(super) fn check_pipe() -> Hint {
    Hint::advice("check the command before the pipe")
}

/// Writes data and a line break to stdout, as it is. A closed pipe is not an error.
///
/// # Errors
/// [`ErrorCode::Unexpected`] if stdout cannot be written.
pub fn data(text: &str) -> Result<(), Error> {
    write(text).map(drop)
}

/// Does the same; returns whether the pipe is still open.
///
/// # Errors
/// As [`data()`].
pub fn write(text: &str) -> Result<bool, Error> {
    let cannot = |error: io::Error| {
        let error = anyhow::Error::new(error).context("cannot write to stdout");
        Error::new(ErrorCode::Unexpected, error, Hint::advice("check where the output goes"))
    };
    if STDOUT_WAS_CLOSED.load(Ordering::Relaxed) {
        return Err(cannot(io::Error::other("it is closed")));
    }
    let mut stdout = io::stdout().lock();
    let written = [text.as_bytes(), b"\n"].iter().try_for_each(|part| stdout.write_all(part));
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(cannot(error)),
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

/// Writes text for people or another program to stdout, and with `--json` as a member of an object. Returns the exit code.
///
/// # Errors
/// As [`data()`].
pub fn text(is_json: bool, text: &str) -> Result<u8, Error> {
    #[derive(Serialize)]
    struct Text<'a> {
        text: &'a str,
    }
    match is_json {
        true => json(&Text { text })?,
        false => data(text)?,
    }
    Ok(0)
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
    /// As it is.
    Plain,
    /// A heading or a name.
    Bold,
    /// A normal state.
    Good,
    /// A state that needs attention.
    Warning,
    /// A state that needs a login, or a denial.
    Bad,
}

impl Style {
    /// Returns the text for a terminal, styled if `color`.
    #[must_use]
    pub fn paint(self, text: &str, color: bool) -> String {
        let text = sanitize_line(text);
        let sgr = match self {
            Self::Plain => return text.into_owned(),
            Self::Bold => "1",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        };
        style(sgr, &text, color)
    }
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
    pub fn text(self, text: &str) -> Self {
        self.styled(Style::Plain, text)
    }

    /// Adds styled text.
    #[must_use]
    pub fn styled(mut self, style: Style, text: &str) -> Self {
        self.text.push_str(&style.paint(text, self.color));
        self
    }

    /// Returns the line.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
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

/// Returns the width of the terminal on stdout; [`usize::MAX`] if it is none.
#[must_use]
pub fn width() -> usize {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col).max(MIN_WIDTH),
        _ => usize::MAX,
    }
}

/// Returns the rows of the terminal on stdout; [`usize::MAX`] if it is none.
#[must_use]
pub fn height() -> usize {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 => usize::from(size.ws_row),
        _ => usize::MAX,
    }
}

/// Output for a terminal that is narrower is as wide as for this one.
const MIN_WIDTH: usize = 40;

/// The space between two columns.
const GAP: &str = "  ";

/// A column that is cut is at least this wide.
const MIN_COLUMN: usize = 4;

/// Returns the width of each column of a table.
fn column_widths(rows: &[Vec<(Style, String)>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| display_width(&cell.1)).max();
    (0..columns).map(|column| widest(column).unwrap_or(0)).collect()
}

/// Returns the width of a table with these columns.
fn total_width(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

/// Returns the width of a table that is not cut.
#[must_use]
pub fn table_width(rows: &[Vec<(Style, String)>]) -> usize {
    total_width(&column_widths(rows))
}

/// Returns the lines of a table. If it is wider than `width`, the columns in `cut` are cut, in this order.
#[must_use]
pub fn table(rows: &[Vec<(Style, String)>], cut: &[usize], width: usize, color: bool) -> Vec<String> {
    let mut widths = column_widths(rows);
    for &column in cut {
        let excess = total_width(&widths).saturating_sub(width);
        let least = widths[column].min(MIN_COLUMN);
        widths[column] = widths[column].saturating_sub(excess).max(least);
    }
    let line = |row: &Vec<(Style, String)>| {
        let mut line = String::new();
        for (column, (style, text)) in row.iter().enumerate() {
            let text = shortened(text, widths[column]);
            line.push_str(&style.paint(&text, color));
            if column + 1 < row.len() {
                line.push_str(&" ".repeat(widths[column] - display_width(&text)));
                line.push_str(GAP);
            }
        }
        line
    };
    rows.iter().map(line).collect()
}

/// Returns how many columns of a terminal the text takes.
fn display_width(text: &str) -> usize {
    // Two that `textwrap` takes for wide ones.
    let narrow = text.matches(['…', '\u{fffd}']).count();
    textwrap::core::display_width(text) - narrow
}

/// Cuts text to a width, with an ellipsis for what is missing.
fn shortened(text: &str, width: usize) -> String {
    let mut text = text.to_owned();
    if display_width(&text) > width {
        while display_width(&text) + 1 > width && text.pop().is_some() {}
        text.push('…');
    }
    text
}

/// Formats a duration for a table: like [`span`], without seconds after minutes.
#[must_use]
pub fn rough_span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    span(Duration::from_secs(if seconds < 60 { seconds } else { seconds - seconds % 60 }))
}

/// Formats a duration in all units that it has, such as `9 h 59 min 58 s`.
#[must_use]
pub fn exact_span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts =
        [(seconds / 86_400, "d"), (seconds % 86_400 / 3600, "h"), (seconds % 3600 / 60, "min"), (seconds % 60, "s")];
    let used: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    if used.is_empty() { "0 s".to_owned() } else { used.join(" ") }
}

/// Breaks a line for the terminal on stdout, between words; what follows the first line is indented.
#[must_use]
pub fn wrapped(line: &str, indent: usize) -> Vec<String> {
    let line = sanitize_line(line);
    match width() {
        usize::MAX => vec![line.into_owned()],
        width => fill(&line, width, "", &" ".repeat(indent.min(width * 3 / 8))),
    }
}

/// Breaks a text for the terminal on stdout, between words; all lines are indented, by less on a narrow terminal.
#[must_use]
pub fn indented(text: &str, indent: usize) -> Vec<String> {
    let text = sanitize_line(text);
    match width() {
        usize::MAX => vec![format!("{:indent$}{text}", "")],
        width => {
            let indent = " ".repeat(indent.min(width * 3 / 8));
            fill(&text, width, &indent, &indent)
        }
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
    fn table_is_cut_to_the_width_column_by_column() {
        let rows: Vec<Vec<(Style, String)>> = [["NAME", "STATE", "WHO"], ["work", "valid", "developer"]]
            .map(|row| row.map(|text| (Style::Plain, text.to_owned())).to_vec())
            .to_vec();
        let lines = |width| table(&rows, &[2, 0], width, false);
        assert_eq!(lines(usize::MAX), ["NAME  STATE  WHO", "work  valid  developer"]);
        assert_eq!(lines(22), lines(usize::MAX));
        assert_eq!(lines(19), ["NAME  STATE  WHO", "work  valid  devel…"]);
        assert_eq!(lines(1), ["NAME  STATE  WHO", "work  valid  dev…"]);
        let wide = vec![vec![(Style::Bad, "日本語".to_owned()), (Style::Plain, "x".to_owned())]];
        assert_eq!(table(&wide, &[], 40, true), ["\u{1b}[31m日本語\u{1b}[0m  x"]);
        assert_eq!(table(&wide, &[0], 6, false), ["日…   x".to_owned()]);
    }
}
