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

/// The longest line of text in the source of a page, in bytes, that mandoc does not object to.
const MAX_LINE: usize = 80;

/// Breaks long lines of text between words. Requests, macros and literal text stay as they are.
pub fn folded(page: &str) -> String {
    let (mut folded, mut literal) = (String::with_capacity(page.len()), false);
    for line in page.lines() {
        literal = match line {
            ".nf" => true,
            ".fi" | ".Ed" => false,
            line => literal || line.starts_with(".Bd -literal"),
        };
        let mut length = 0;
        for (at, word) in line.split(' ').enumerate() {
            let breaks = at > 0 && !literal && !line.starts_with(['.', '\'']) && length + 1 + word.len() > MAX_LINE;
            match (breaks, at) {
                (true, _) if word.starts_with(['.', '\'']) => folded.push_str("\n\\&"),
                (true, _) => folded.push('\n'),
                (false, 0) => {}
                (false, _) => folded.push(' '),
            }
            length = if breaks { word.len() } else { length + usize::from(at > 0) + word.len() };
            folded.push_str(word);
        }
        folded.push('\n');
    }
    folded
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
