//! Prints data on stdout, where a closed pipe is not an error, and formats times.

use std::io::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};

/// Writes one line of data to stdout.
///
/// # Errors
/// [`ErrorCode::Unexpected`] if stdout cannot be written. A closed pipe is not an error.
pub fn line(text: &str) -> Result<(), Error> {
    raw(&[text.as_bytes(), b"\n"])
}

/// Writes a value to stdout as one line of JSON.
///
/// # Errors
/// As [`line()`].
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorCode::Unexpected, e, "report this with the command that you ran"))?;
    line(&text)
}

fn raw(parts: &[&[u8]]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    let written = parts.iter().try_for_each(|part| stdout.write_all(part)).and_then(|()| stdout.flush());
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
            ErrorCode::Unexpected,
            anyhow::Error::new(e).context("writing to stdout"),
            "check where the output goes",
        )),
        _ => Ok(()),
    }
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
