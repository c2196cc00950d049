//! Text for terminals, JSON, shells and web pages: sanitized, escaped and quoted.

pub mod html;
mod tokens;

pub use tokens::{hide_tokens, resembles_token};

use std::borrow::Cow;
use std::io;

use serde_json::ser::Formatter;

/// Replaces characters that could change a terminal's state or disguise other text: control characters (C0, DEL, C1) and
/// those that reorder text or are invisible. Line breaks stay. Called where text is written, and only there.
#[must_use]
pub fn sanitize_for_terminal(text: &str) -> Cow<'_, str> {
    replace(text, |c| c != '\n' && is_unsafe(c))
}

/// Replaces the same in text that must stay one line.
#[must_use]
pub fn sanitize_line(text: &str) -> Cow<'_, str> {
    replace(text, is_unsafe)
}

fn replace(text: &str, wrong: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.contains(&wrong) { text.replace(wrong, "\u{fffd}").into() } else { text.into() }
}

/// Escapes in JSON what [`sanitize_for_terminal`] replaces. Such characters occur only in JSON strings.
#[must_use]
pub fn escape_json(json: String) -> String {
    if !json.contains(is_unsafe) {
        return json;
    }
    let mut escaped = Vec::with_capacity(json.len() + 64);
    let _ = SafeJson.write_string_fragment(&mut escaped, &json);
    String::from_utf8(escaped).unwrap_or_default()
}

/// Writes JSON with these escapes, for what holds secrets: no copy of it is made.
pub struct SafeJson;

impl Formatter for SafeJson {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, others) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = others.chars();
            for unit in characters.next().into_iter().collect::<String>().encode_utf16() {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Returns whether `c` is a control character, or reorders or hides text on a screen (Unicode Standard Annex 9), which
/// could make one name look like another.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Returns whether it is often pasted along with an address, an ID or a token: white space, a byte order mark, quotes.
#[must_use]
pub fn is_around_pasted(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '\u{feff}' | '\u{200b}' | '\u{2018}'..='\u{201f}')
}

/// Returns a pasted line without what is around it, as are the marks with which a terminal can enclose what is pasted.
#[must_use]
pub fn pasted_line(line: &str) -> String {
    let line = line.replace("\u{1b}[200~", "").replace("\u{1b}[201~", "");
    line.trim_matches(is_around_pasted).to_owned()
}

/// The schemes of an `Authorization` header with a token, in lower case.
const SCHEMES: [&str; 3] = ["bearer", "dpop", "token"];

/// Returns a token without what is often pasted along with it: quotes and the like, a comma or semicolon, the
/// scheme of the `Authorization` header, and its name or that of a variable or member.
#[must_use]
pub fn bare_token(text: &str) -> &str {
    let around = |c: char| is_around_pasted(c) || matches!(c, ',' | ';');
    let mut text = text.trim_matches(around);
    while let Some(rest) = without_label(text) {
        text = rest.trim_matches(around);
    }
    text
}

/// Returns what follows a scheme, or a name with `:` or `=`.
fn without_label(text: &str) -> Option<&str> {
    let (name, rest) = text.split_at(text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?);
    let name = name.to_ascii_lowercase();
    if rest.starts_with(char::is_whitespace) && (SCHEMES.contains(&name.as_str()) || name == "export") {
        return Some(rest);
    }
    let is_name = name == "authorization" || name.ends_with("token");
    let value = rest.trim_start_matches(['"', '\'', ' ']).strip_prefix([':', '=']).filter(|_| is_name)?;
    // A token may end with `=`.
    (!value.trim_matches('=').is_empty()).then_some(value)
}

/// Returns what is wrong with a token that has white space in it, such as one that a mail program broke into lines.
#[must_use]
pub fn white_space_in_token(token: &str) -> Option<String> {
    token.contains(char::is_whitespace).then(|| match token.lines().count() {
        1 => "the token has white space in it".to_owned(),
        lines => format!("the token has {lines} lines; a token is one line"),
    })
}

/// Returns whether a bearer token may look so: the characters of RFC 6750, section 2.1, and `|`, which some APIs use. The words
/// are what an empty secret or member leaves.
#[must_use]
pub fn is_token(text: &str) -> bool {
    let characters = text.trim_end_matches('=');
    !characters.is_empty()
        && characters.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/|".contains(&b))
        && !SCHEMES.iter().chain(&["null", "undefined"]).any(|word| text.eq_ignore_ascii_case(word))
}

/// Returns untrusted text as one line of at most `max` characters, to be quoted in a message.
#[must_use]
pub fn excerpt(text: &str, max: usize) -> String {
    let mut line: String = text.chars().take(max).map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        line.push('…');
    }
    line
}

/// Removes the numbers that the standard library adds to the system's errors, as in `(os error 2)`.
#[must_use]
pub fn without_error_numbers(text: &str) -> String {
    let mut pieces = text.split(" (os error ");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |line, piece| line + piece.split_once(')').map_or(piece, |(_, rest)| rest))
}

/// Returns the text as one word of a shell command.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/%+,@=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Returns the words as a shell command.
#[must_use]
pub fn shell_line(words: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    words.into_iter().map(|word| shell_word(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// Splits a text into words at white space, as a shell does: quotes and backslashes keep white space in a word. `None` if a
/// quote is not closed, or nothing follows a backslash.
#[must_use]
pub fn shell_words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None, '\\') => word.get_or_insert_default().push(rest.next()?),
            (Some('"'), '\\') => {
                let next = rest.next()?;
                let is_escape = "\"\\$`".contains(next);
                word.get_or_insert_default().extend((!is_escape).then_some('\\').into_iter().chain([next]));
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Returns the words as a text that [`shell_words`] splits into them again, with no more quotes than that needs.
#[must_use]
pub fn joined_words(words: &[String]) -> String {
    let is_split = |c: char| c.is_whitespace() || "\"'\\".contains(c);
    let quoted = |word: &String| match word.is_empty() || word.contains(is_split) {
        true => shell_word(word),
        false => word.clone(),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Replaces the path `home` by `~`, at the start of each path in a message or a command. In a word that is quoted for a shell
/// the quote begins after it.
#[must_use]
pub fn abbreviate_home(text: &str, home: &str) -> String {
    let home = home.trim_end_matches('/');
    if home.is_empty() {
        return text.to_owned();
    }
    let is_path = |c: char| c.is_alphanumeric() || "/._-~".contains(c);
    let (mut short, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(home) {
        let (before, after) = (&rest[..at], &rest[at + home.len()..]);
        short.push_str(before);
        if short.ends_with(is_path) || (after.starts_with(is_path) && !after.starts_with('/')) {
            short.push_str(home);
            rest = after;
            continue;
        }
        let is_quoted = short.ends_with('\'');
        rest = match (after.strip_prefix('/'), after.strip_prefix('\'')) {
            (Some(path), _) if is_quoted => {
                short.pop();
                short.push_str("~/'");
                path
            }
            (None, Some(after)) if is_quoted => {
                short.pop();
                short.push('~');
                after
            }
            _ => {
                short.push('~');
                after
            }
        };
    }
    short + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2Jb\nc\u{202e}d\u{9b}e\u{7f}f\u{200b}\u{e0041}\u{ad}";

    #[test]
    fn control_and_bidi_characters_are_replaced() {
        let safe = "a\u{fffd}[2Jb\nc\u{fffd}d\u{fffd}e\u{fffd}f\u{fffd}\u{fffd}\u{fffd}";
        assert_eq!(sanitize_for_terminal(HOSTILE), safe);
        assert_eq!(sanitize_line(HOSTILE), safe.replace('\n', "\u{fffd}"));
        assert!(matches!(sanitize_for_terminal("plain\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_escapes_control_and_bidi_characters_and_reads_back() {
        let json = escape_json(serde_json::to_string(HOSTILE).expect("JSON"));
        assert!(!json.contains(is_unsafe), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), HOSTILE);
    }

    #[test]
    fn token_is_found_in_what_is_pasted() {
        for text in [
            "a.b.c",
            "a.b.c\r",
            "\u{feff}a.b.c\n",
            " \"a.b.c\" ",
            "'Bearer a.b.c'",
            "bearer  a.b.c",
            "Bearer\ta.b.c",
            "Bearer\n a.b.c",
            "\u{201c}Bearer\u{a0}a.b.c\u{201d},",
            "'a.b.c',\n",
            "Authorization: Bearer a.b.c\r\n",
            "\"Authorization: 'Bearer a.b.c'\"",
            "token a.b.c",
            "DPoP a.b.c;",
            "AUTHCTL_TOKEN=a.b.c",
            "export AUTHCTL_TOKEN='Bearer a.b.c';",
            "\"access_token\": \"a.b.c\",\n",
            "access_token: a.b.c",
        ] {
            assert_eq!(bare_token(text), "a.b.c", "{text:?}");
        }
        for text in ["bearer", "bearer.b.c", "a b", "", "mytoken==", "token.a=", "a:b", "name=a", "a.b.c token x"] {
            assert_eq!(bare_token(text), text);
        }
        assert_eq!(bare_token("Bearer \r\n"), "Bearer");
    }

    #[test]
    fn token_has_the_characters_of_rfc_6750_and_is_no_scheme() {
        for text in ["a.b.c", "gh_1-~+/==", "1|abc", "bearer1", "nullable"] {
            assert!(is_token(text), "{text}");
        }
        for text in [
            "",
            "=",
            "a b",
            "a=b",
            "{}",
            "a;b",
            "Bearer",
            "TOKEN",
            "dpop",
            "null",
            "$TOKEN",
            "na\u{ef}ve",
            "a\nb",
            "https://a",
        ] {
            assert!(!is_token(text), "{text}");
        }
    }

    #[test]
    fn excerpt_is_one_short_line() {
        for (text, expected) in [("abcdef", "abc…"), ("abc", "abc"), ("a\nb", "a b"), ("", "")] {
            assert_eq!(excerpt(text, 3), expected, "{text:?}");
        }
    }

    #[test]
    fn shell_words_are_quoted_where_needed() {
        for (text, word) in [
            ("https://a.example/?a=b", "'https://a.example/?a=b'"),
            ("a-b=c", "a-b=c"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn words_are_split_as_in_a_shell_and_joined_again() {
        for (text, words, joined) in [
            ("  a  b\t", &["a", "b"][..], "a b"),
            (r#"sh -c "cat > /tmp/x""#, &["sh", "-c", "cat > /tmp/x"], "sh -c 'cat > /tmp/x'"),
            (r#"sh -c 'echo "$1"'"#, &["sh", "-c", "echo \"$1\""], r#"sh -c 'echo "$1"'"#),
            (r#"a'b c'"d e"\ f '' $x *"#, &["ab cd e f", "", "$x", "*"], "'ab cd e f' '' $x *"),
            (r#""a\"b\c""#, &["a\"b\\c"], r#"'a"b\c'"#),
            ("it\\'s", &["it's"], r"'it'\''s'"),
            ("", &[], ""),
        ] {
            let split = shell_words(text).expect("closed");
            assert_eq!(split, words, "{text}");
            assert_eq!(joined_words(&split), joined);
            assert_eq!(shell_words(joined).as_deref(), Some(&split[..]), "{joined}");
        }
        for open in ["it's", "a \"b", "a\\", "\"a\\"] {
            assert_eq!(shell_words(open), None, "{open}");
        }
    }

    #[test]
    fn home_is_abbreviated_where_a_path_begins() {
        for (text, short) in [
            ("cannot use /home/ann/.config/x: denied", "cannot use ~/.config/x: denied"),
            ("`/home/ann`, /home/ann", "`~`, ~"),
            ("chmod 600 '/home/ann/my file'", "chmod 600 ~/'my file'"),
            ("ls '/home/ann'", "ls ~"),
            ("/var/home/ann/x /home/anna /home/ann.old", "/var/home/ann/x /home/anna /home/ann.old"),
        ] {
            assert_eq!(abbreviate_home(text, "/home/ann/"), short);
        }
        assert_eq!(abbreviate_home("/a /b", "/"), "/a /b");
        assert_eq!(abbreviate_home("chmod 600 '/home/a b/f'", "/home/a b"), "chmod 600 ~/'f'");
    }
}
