//! Shows the address of a device login as a QR code.

use std::io::{IsTerminal as _, Write as _};

use qrcode::{Color, EcLevel, QrCode};
use rustix::termios::tcgetwinsize;
use url::Url;

use crate::app::App;
use crate::ui::fill;

/// Shows a QR code on stderr, if that is a terminal that can show it together with the texts that follow.
pub(super) fn show(app: &App, url: &Url, below: &[&str]) {
    let mut stderr = std::io::stderr();
    if app.common.quiet || !stderr.is_terminal() || app.environment.dumb_terminal {
        return;
    }
    let Ok(code) = QrCode::with_error_correction_level(url.as_str(), EcLevel::L) else { return };
    let lines = drawn(&code);
    if !tcgetwinsize(&stderr).is_ok_and(|size| fits(&lines, below, size.ws_col.into(), size.ws_row.into())) {
        return;
    }
    // Scanners expect dark modules on a light background: white on black is drawn if colours are allowed, else the terminal's
    // colours, which are usually light on dark.
    let (on, off) = if app.environment.no_color { ("", "") } else { ("\u{1b}[97;40m", "\u{1b}[0m") };
    for line in lines {
        let _ = writeln!(stderr, "{on}{line}{off}");
    }
}

/// Draws the light modules, two rows of them in a line, with a margin of one module. Scanners accept less than the four of the
/// standard on a dark screen, and a terminal of 24 lines has no space for them.
fn drawn(code: &QrCode) -> Vec<String> {
    let width = code.width();
    let is_light = |x: usize, y: usize| {
        let is_margin = x == 0 || y == 0 || x > width || y > width;
        y <= width + 1 && (is_margin || code[(x - 1, y - 1)] == Color::Light)
    };
    let line = |y: usize| {
        let halves = (0..width + 2).map(|x| match (is_light(x, y), is_light(x, y + 1)) {
            (true, true) => '\u{2588}',
            (true, false) => '\u{2580}',
            (false, true) => '\u{2584}',
            (false, false) => ' ',
        });
        halves.collect()
    };
    (0..width + 2).step_by(2).map(line).collect()
}

/// Returns whether a terminal shows the code, the texts below it and the cursor at the same time. One that does not know its size
/// has 0 rows.
fn fits(code: &[String], below: &[&str], columns: usize, rows: usize) -> bool {
    if columns == 0 || rows == 0 {
        return true;
    }
    // As they are printed: between words, but for addresses.
    let text = below.iter().flat_map(|text| text.lines()).map(|line| match line.starts_with(' ') {
        true => line.chars().count().div_ceil(columns),
        false => fill(line, columns, "", "").len(),
    });
    code.iter().all(|line| line.chars().count() <= columns) && code.len() + text.sum::<usize>() < rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> QrCode {
        QrCode::with_error_correction_level(text, EcLevel::L).expect("short")
    }

    #[test]
    fn code_with_its_margin_is_drawn_two_rows_a_line() {
        let code = code("a");
        let lines = drawn(&code);
        assert_eq!((lines.len(), lines[0].chars().count()), (12, 23));
        let rows: Vec<Vec<char>> = lines.iter().map(|line| line.chars().collect()).collect();
        for y in 0..23 {
            for x in 0..23 {
                let is_margin = [0, 22].contains(&x) || [0, 22].contains(&y);
                let lit = if y % 2 == 0 { "\u{2588}\u{2580}" } else { "\u{2588}\u{2584}" };
                let expected = is_margin || code[(x - 1, y - 1)] == Color::Light;
                assert_eq!(lit.contains(rows[y / 2][x]), expected, "{x} {y}");
            }
        }
    }

    #[test]
    fn code_is_shown_only_with_the_text_below_it() {
        // Version 4, for up to 78 characters.
        let lines = drawn(&code(&format!("https://issuer.example/{}", "x".repeat(50))));
        let below = ["To log in, open\n  https://issuer.example\nand enter the code\n  ABCD-EFGH", "waiting"];
        assert!(fits(&lines, &below, 80, 24));
        assert!(!fits(&lines, &below, 80, 23));
        assert!(!fits(&lines, &below, 34, 100), "too narrow");
        assert!(fits(&lines, &below, 0, 0), "of unknown size");
        assert!(!fits(&lines, &[&format!("{} y", "x".repeat(79)), below[0], below[1]], 80, 25), "a line of two rows");
    }
}
