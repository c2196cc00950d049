//! Lines broken at the width of the terminal.

use std::io;

use rustix::termios;

use crate::text::sanitize_line;

/// A terminal narrower than this gets its lines unwrapped.
const MIN_WIDTH: usize = 20;

/// Returns the width of the terminal on stderr; [`usize::MAX`] if it is none.
pub(super) fn stderr_width() -> usize {
    termios::tcgetwinsize(io::stderr()).map_or(usize::MAX, |size| usize::from(size.ws_col))
}

/// Returns one line of text for stderr, broken at the width of the terminal, to follow the label of an error or a hint.
#[must_use]
pub fn wrap_after_label(text: &str) -> String {
    let text = sanitize_line(text);
    let width = stderr_width();
    if width < MIN_WIDTH { text.into_owned() } else { fill_after_label(&text, width) }
}

fn fill_after_label(text: &str, width: usize) -> String {
    let indent = " ".repeat(LABEL_WIDTH);
    let lines = fill(text, width, &indent, &indent);
    lines.join("\n").trim_start().to_owned()
}

/// The width of `error: ` and `hint:  `.
const LABEL_WIDTH: usize = 7;

/// Breaks long lines between words. Indented lines stay whole, so that an address in them can be copied.
pub(super) fn wrap(text: &str, width: usize) -> String {
    let lines = text.split('\n').flat_map(|line| match line.starts_with(' ') || width < MIN_WIDTH {
        true => vec![line.to_owned()],
        false => fill(line, width, "", ""),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Breaks a line between words. It breaks no word, which may be an option or an address to be copied, no command between
/// backticks, and not between a number and its unit.
///
/// A long path or address gets the width of the terminal: the indent is smaller than `indent` where it would not fit.
#[must_use]
pub fn fill(line: &str, width: usize, first_indent: &str, indent: &str) -> Vec<String> {
    let filled = |first_indent, indent| -> Vec<String> {
        let options = textwrap::Options::new(width).initial_indent(first_indent).subsequent_indent(indent);
        let options = options.break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::wrap(&with_hard_spaces(line), options).into_iter().map(|line| line.replace(HARD_SPACE, " ")).collect()
    };
    let lines = filled(first_indent, indent);
    let widest = lines.iter().map(|line| textwrap::core::display_width(line)).max().unwrap_or(0);
    let excess = widest.saturating_sub(width);
    match indent.len().checked_sub(excess) {
        Some(smaller) if excess > 0 => filled(first_indent, &indent[..smaller]),
        _ => lines,
    }
}

/// Replaces a space at which a line is not broken. Nothing that is displayed contains it: it is assigned to no character.
const HARD_SPACE: char = '\u{fdd0}';

/// Keeps a command between backticks, and a number and the unit after it, together.
fn with_hard_spaces(line: &str) -> String {
    let mut whole = String::with_capacity(line.len());
    let (mut after_number, mut in_command) = (false, false);
    let has_commands = line.matches('`').count().is_multiple_of(2);
    for (index, word) in line.split(' ').enumerate() {
        let is_unit = ["s", "min", "h", "d"].contains(&word.trim_end_matches([',', ';', ')', '.']));
        if index > 0 {
            whole.push(if in_command || (after_number && is_unit) { HARD_SPACE } else { ' ' });
        }
        whole.push_str(word);
        in_command ^= has_commands && word.matches('`').count() % 2 == 1;
        after_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wrap_between_words_and_addresses_stay_whole() {
        let address = format!("  https://a.example/{}", "x".repeat(60));
        let text = format!("one two three four five six\n\n{address}\n");
        assert_eq!(wrap(&text, 20), format!("one two three four\nfive six\n\n{address}\n"));
        assert_eq!(wrap(&text, usize::MAX), text);
    }

    #[test]
    fn commands_in_a_sentence_and_numbers_with_units_stay_whole() {
        let text = "wait 12 s, then run `authctl login work --device` again";
        assert_eq!(wrap(text, 20), "wait 12 s, then run\n`authctl login work --device`\nagain");
        assert_eq!(fill_after_label(text, 30), "wait 12 s, then run\n `authctl login work --device`\n again");
        let path = "~/.local/share/authctl/x.age";
        let lines = |width| fill(&format!("ok       store       {path}"), width, "", "               ");
        assert_eq!(lines(43), ["ok       store".to_owned(), format!("               {path}")]);
        assert_eq!(lines(40), ["ok       store".to_owned(), format!("            {path}")]);
        assert_eq!(wrap("1 s ago; expires in 4 min 12 s", 22), "1 s ago; expires in\n4 min 12 s");
    }
}
