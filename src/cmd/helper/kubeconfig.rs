//! A user in the text of kubeconfig: kubectl's own commands write the whole file again, without its comments.
//!
//! This knows the layout in which people and tools write the file, not all of YAML. kubectl shows whether the result is right.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::Value;

/// The key of the list of users.
const KEY: &str = "users:";

/// Words that are no text without quotes.
const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// Returns the text with this user under the name, or without one; `None` if its layout is unknown.
pub(super) fn with_user(text: &str, name: &str, user: Option<&Value>, line_end: &str) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let Some(key) = lines.iter().position(|line| line.starts_with(KEY)) else {
        lines.push(KEY.to_owned());
        lines.extend(item(name, user?, 0));
        return Some(joined(&lines, line_end));
    };
    let list = List::after(&lines, key)?;
    let found: Vec<&Range<usize>> = list.items.iter().filter(|item| is_named(&lines[(*item).clone()], name)).collect();
    match (&found[..], user) {
        ([], None) => return None,
        ([], Some(user)) => {
            let end = list.items.last().map_or(key + 1, |last| last.end);
            lines.splice(end..end, item(name, user, list.indent));
            lines[key] = with_value(&lines[key], "")?;
        }
        ([found], Some(user)) => drop(lines.splice((*found).clone(), item(name, user, list.indent))),
        ([found], None) => {
            lines.drain((*found).clone());
            if list.items.len() == 1 {
                lines[key] = with_value(&lines[key], " []")?;
            }
        }
        _ => return None,
    }
    Some(joined(&lines, line_end))
}

fn joined(lines: &[String], line_end: &str) -> String {
    lines.iter().flat_map(|line| [line.as_str(), line_end]).collect()
}

/// Returns the line of the key with another value, and its comment.
fn with_value(line: &str, value: &str) -> Option<String> {
    let rest = line.strip_prefix(KEY)?;
    let comment = rest.find('#').map_or("", |at| &rest[at..]);
    let separator = if comment.is_empty() { "" } else { " " };
    Some(format!("{KEY}{value}{separator}{comment}"))
}

/// The items of a list, as ranges of lines.
struct List {
    indent: usize,
    items: Vec<Range<usize>>,
}

impl List {
    /// Finds the list that is the value of the key in this line.
    fn after(lines: &[String], key: usize) -> Option<Self> {
        let value = lines[key].strip_prefix(KEY)?.split('#').next()?.trim();
        if !matches!(value, "" | "[]" | "null" | "~") {
            return None;
        }
        let indent_of = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let is_item = |line: &str| line.trim_start_matches(' ').starts_with("- ");
        let mut list = Self { indent: 0, items: Vec::new() };
        for (at, line) in lines.iter().enumerate().skip(key + 1).filter(|(_, line)| !line.trim().is_empty()) {
            let is_comment = line.trim_start().starts_with('#');
            if list.items.is_empty() && !is_comment {
                list.indent = indent_of(line);
            }
            match list.items.last_mut() {
                Some(last) if indent_of(line) > list.indent => last.end = at + 1,
                _ if is_comment => {}
                _ if indent_of(line) == list.indent && is_item(line) => list.items.push(at..at + 1),
                // The next key.
                _ => break,
            }
        }
        (list.items.is_empty() || value.is_empty()).then_some(list)
    }
}

/// Returns whether an item has this name.
fn is_named(item: &[String], name: &str) -> bool {
    let indent = item[0].len() - item[0].trim_start_matches([' ', '-']).len();
    let own = item.iter().enumerate().filter_map(|(at, line)| match at {
        0 => line.get(indent..),
        _ => line.get(indent..).filter(|_| line[..indent].trim().is_empty()),
    });
    own.filter_map(|line| line.strip_prefix("name:"))
        .any(|value| value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']) == name)
}

/// Returns the lines of an item.
fn item(name: &str, user: &Value, indent: usize) -> Vec<String> {
    let mut text = format!("- name: {}\n", scalar(&name.into()));
    write_member(&mut text, "user", user, 2);
    text.lines().map(|line| format!("{:indent$}{line}", "")).collect()
}

/// Writes a member of an object. What kubectl has not set is left out.
fn write_member(text: &mut String, key: &str, value: &Value, indent: usize) {
    let start = format!("{:indent$}{}:", "", scalar(&key.into()));
    match value {
        Value::Null => {}
        Value::Object(members) if !members.is_empty() => {
            let _ = writeln!(text, "{start}");
            members.iter().for_each(|(key, value)| write_member(text, key, value, indent + 2));
        }
        Value::Array(elements) if !elements.is_empty() => {
            let _ = writeln!(text, "{start}");
            for element in elements {
                let _ = writeln!(text, "{:indent$}- {}", "", scalar(element));
            }
        }
        value => {
            let _ = writeln!(text, "{start} {}", scalar(value));
        }
    }
}

/// Returns a value in one line. JSON is YAML, so only plain words are written in another way.
fn scalar(value: &Value) -> String {
    let is_plain = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
            && !RESERVED.contains(&word.to_ascii_lowercase().as_str())
    };
    match value.as_str() {
        Some(word) if is_plain(word) => word.to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edit(text: &str, add: bool) -> Option<String> {
        let user = json!({"exec": {"command": "/bin/authctl", "args": ["helper", "--profile", "yes"], "env": null}});
        with_user(text, "authctl-a", add.then_some(&user), "\n")
    }

    const ITEM: &str = "- name: authctl-a\n  user:\n    exec:\n      args:\n      - helper\n      - \"--profile\"\n      - \"yes\"\n      command: /bin/authctl\n";

    #[test]
    fn user_is_added_and_removed_and_the_rest_stays() {
        let indented: String = ITEM.lines().map(|line| format!("  {line}\n")).collect();
        for (before, item, after) in [
            (
                "# a\nusers: # mine\n- name: b # me\n  user: {token: x}\n  # in b\n\n# end\nkind: Config\n",
                ITEM,
                "\n# end\n",
            ),
            (
                "users:\n  # first\n  - name: b\n    user:\n      x:\n        - y\nkind: Config # k\n",
                &indented,
                "kind: Config",
            ),
            ("kind: Config\nusers: [] # none\n", ITEM, ""),
            ("users: []\nkind: Config\n# end\n", ITEM, "kind: Config"),
        ] {
            let added = edit(before, true).expect("a usual layout");
            let place = added.find(item).unwrap_or_else(|| panic!("{added}"));
            assert!(added[place + item.len()..].starts_with(after), "{added}");
            assert_eq!(edit(&added, true).as_deref(), Some(added.as_str()), "the same once more");
            assert_eq!(edit(&added, false).as_deref(), Some(before), "{added}");
            assert_eq!(edit(before, false), None, "{before}");
        }
        assert_eq!(edit("# a\nkind: Config", true), Some(format!("# a\nkind: Config\nusers:\n{ITEM}")));
        // However the name is written, and wherever it is in the item.
        for item in ["- user:\n    name: b\n  name: 'authctl-a' # x\n", "-   name: \"authctl-a\"\n    user: {}\n"] {
            let text = format!("users:\n{item}- name: c\n");
            assert_eq!(edit(&text, false).as_deref(), Some("users:\n- name: c\n"));
        }
    }

    #[test]
    fn unusual_layout_is_left_to_kubectl() {
        for text in [
            "users: [{name: authctl-a}]\n",
            "users: &a\n- name: b\n",
            "users: []\n- name: b\n",
            "users:\n- name: authctl-a\n- name: authctl-a\n",
        ] {
            assert_eq!(edit(text, true), None, "{text}");
        }
        assert_eq!(edit("users:\n- user:\n    name: authctl-a\n  name: b\n", false), None);
    }
}
