//! Text in roff, the language of manual pages.

/// Escapes text for a line of a manual page.
pub fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    match escaped.chars().next() {
        Some('.' | '\'') => format!("\\&{escaped}"),
        _ => escaped,
    }
}

/// Escapes prose, with what is between backticks in bold.
pub fn prose(text: &str) -> String {
    let mut rendered = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            rendered.push_str(&format!("\\fB{}\\fR", part.replace('\\', "\\e").replace('-', "\\-")));
        } else {
            rendered.push_str(&part.replace('\\', "\\e"));
        }
    }
    match rendered.chars().next() {
        Some('.' | '\'') => format!("\\&{rendered}"),
        _ => rendered,
    }
}

/// Returns the text of the literal displays in an mdoc page, as a terminal shows it.
pub fn literal_text(page: &str) -> String {
    let mut text = String::new();
    let mut literal = false;
    for line in page.lines() {
        if line.starts_with(".Bd -literal") {
            literal = true;
        } else if line.starts_with(".Ed") {
            literal = false;
        } else if let Some(one) = line.strip_prefix(".Dl ") {
            text.push_str(&format!("{one}\n"));
        } else if literal {
            text.push_str(&format!("{line}\n"));
        }
    }
    let escapes = [("\\-", "-"), ("\\(aq", "'"), ("\\(dq", "\""), ("\\(ga", "`"), ("\\&", ""), ("\\e", "\\")];
    escapes.iter().fold(text, |text, (escape, character)| text.replace(escape, character))
}
