//! Durations as people write them.

use std::time::Duration;

/// A duration such as `90`, `90s`, `5m`, `1h30m` or `30d`: at most ten years.
///
/// # Errors
/// A sentence for people.
pub fn duration(text: &str) -> Result<Duration, String> {
    const MAX: u64 = 10 * 366 * 24 * 3600;
    let wrong = || format!("`{text}` is no duration; write it like 90s, 5m, 1h30m or 30d");
    let mut total: u64 = 0;
    let mut number = String::new();
    for c in text.trim().chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        total = count.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(wrong)?;
        number.clear();
    }
    if !number.is_empty() {
        let seconds: u64 = number.parse().map_err(|_| wrong())?;
        total = total.checked_add(seconds).ok_or_else(wrong)?;
    } else if text.trim().is_empty() {
        return Err(wrong());
    }
    if total > MAX { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

/// The same in the other direction: what [`duration`] reads back, in the largest unit that fits.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = [(24 * 3600, 'd'), (3600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{seconds}s"), |(unit, letter)| format!("{}{letter}", seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1", "1.5h", "5x", "m5m", "99999999999999999999", "4000d", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for (seconds, text) in [(0, "0s"), (90, "90s"), (300, "5m"), (5400, "90m"), (7200, "2h"), (2_592_000, "30d")] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(duration_text(duration), text);
            assert_eq!(super::duration(text), Ok(duration));
        }
    }
}
