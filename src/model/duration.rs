//! Durations as they are written in options and in the configuration.

use std::time::Duration;

/// The longest duration that is accepted: ten years.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The text is not a duration of whole seconds, or it is longer than ten years.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration `{0}` (examples: 90s, 15m, 2h)")]
pub struct InvalidDuration(String);

/// Parses a duration such as `90s`, `15m`, `1h30m` or `7d`; a bare number is one of seconds.
///
/// # Errors
/// [`InvalidDuration`].
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let with_unit = if text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() };
    match humantime::parse_duration(&with_unit) {
        Ok(duration) if duration <= MAX_DURATION && duration.subsec_nanos() == 0 => Ok(duration),
        _ => Err(InvalidDuration(text.chars().filter(|c| !c.is_control()).take(80).collect())),
    }
}

/// Parses a duration that is longer than nothing.
///
/// # Errors
/// [`InvalidDuration`].
pub fn parse_positive_duration(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text)
        .and_then(|duration| if duration.is_zero() { Err(InvalidDuration(text.to_owned())) } else { Ok(duration) })
}

/// Writes a duration as [`parse_duration`] reads it, in the largest unit that divides it.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = [(24 * 3600, 'd'), (3600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, letter)| format!("{}{letter}", seconds / unit))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_seconds_up_to_ten_years() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("90s", 90),
            ("5m", 300),
            ("1h30m", 5400),
            ("1.5h", 5400),
            ("2h", 7200),
            ("30d", 2_592_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1", "90ms", "5x", "m5m", "99999999999999999999", "4000d", "18446744073709551615h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        let error = parse_duration("soon").expect_err("invalid").to_string();
        assert_eq!(error, "invalid duration `soon` (examples: 90s, 15m, 2h)");
    }

    #[test]
    fn formatted_duration_parses_to_the_same() {
        for (seconds, text) in [(0, "0s"), (90, "90s"), (300, "5m"), (5400, "90m"), (7200, "2h"), (2_592_000, "30d")] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
    }

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
