//! Files that the set-up of a tool changes. What belongs to others in them stays as it is.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use toml_edit::{Array, DocumentMut, Item, Table};

use super::json::{self, Added};
use crate::cmd::helper::call::foreign;
use crate::cmd::helper::program::is_authctl;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{regular_file, replace};

/// The largest configuration of a tool that is changed, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What editors of Windows write at the beginning of a text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

pub(super) fn cannot(what: &Path, error: impl Into<anyhow::Error>) -> Error {
    let error = error.into();
    let hint = match error.downcast_ref::<io::Error>() {
        Some(error) => Hint::access(what, error.kind()),
        // What is in it is invalid.
        None if what.is_file() => Hint::edit(what),
        None => Hint::list(what),
    };
    Error::new(ErrorCode::Configuration, error.context(format!("cannot change {}", what.display())), hint)
}

/// Creates the directory of a tool's file, if there is none.
pub(super) fn create_directory_of(file: &Path) -> Result<(), Error> {
    let dir = crate::fs::directory_of(file);
    fs::create_dir_all(dir).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let message = format!("cannot change {}: {} is not a directory", file.display(), dir.display());
            foreign(message, Hint::list(dir))
        }
        _ => cannot(file, error),
    })
}

pub(super) fn changed_meanwhile(file: &Path) -> Error {
    foreign(format!("another program has changed {} at the same time", file.display()), Hint::list(file))
}

/// Returns the text of a tool's file, empty if there is none.
pub(crate) fn read(file: &Path) -> Result<String, Error> {
    String::from_utf8(read_bytes(file)?).map_err(|e| cannot(file, e.utf8_error()))
}

/// Returns the content of a tool's file, empty if there is none.
pub(super) fn read_bytes(file: &Path) -> Result<Vec<u8>, Error> {
    let target = crate::fs::link_target(file);
    match target.symlink_metadata() {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Ok(about) if about.is_symlink() => {
            let message = format!("cannot change {}: its symbolic link leads back to itself", file.display());
            return Err(foreign(message, Hint::list(file)));
        }
        about => about.map_err(|error| cannot(file, error))?,
    };
    let bytes = regular_file::read(&target, MAX_FILE).map_err(|reason| cannot(file, anyhow::anyhow!(reason)))?;
    Ok(bytes.expose().to_vec())
}

/// Replaces a tool's file as a whole, or the one that it leads to, if it still has the content `before`; its mode stays.
/// Returns whether it had. It may have the new content already: two names of a tool may lead to one file.
pub(super) fn write(file: &Path, before: &[u8], content: &[u8]) -> Result<bool, Error> {
    let current = read_bytes(file)?;
    if current == content || current != before {
        return Ok(current == content);
    }
    let target = crate::fs::link_target(file);
    let mode = target.metadata().map_or(0o600, |about| about.mode() & 0o777);
    create_directory_of(&target)?;
    replace(&target, content, mode).map(|()| true).map_err(|e| cannot(file, e))
}

/// Makes a symbolic link, also in place of one.
pub(super) fn link(program: &Path, link: &Path) -> Result<(), Error> {
    create_directory_of(link)?;
    let make = || -> io::Result<()> {
        let temporary = link.with_extension(format!("authctl-{}", std::process::id()));
        symlink(program, &temporary)?;
        fs::rename(&temporary, link)
    };
    make().map_err(|e| cannot(link, e))
}

/// Returns the JSON text with, or without, members of an object that all have one value; `None` if it stays.
pub(super) fn edit_members(
    file: &Path,
    text: &str,
    object: &str,
    names: &[String],
    value: impl Serialize + Copy,
    add: bool,
) -> Result<Option<String>, Error> {
    let mut changed: Option<String> = None;
    for name in names {
        let current = changed.as_deref().unwrap_or(text);
        let edited = match add {
            true => match json::add(current, object, name, value).map_err(|e| cannot(file, e))? {
                Added::Already => None,
                Added::Other => {
                    let message = format!("{} has another value for {object} / {name}", file.display());
                    return Err(foreign(message, Hint::edit(file)));
                }
                Added::Text(text) => Some(text),
            },
            false => json::remove(current, object, name, value).map_err(|e| cannot(file, e))?,
        };
        changed = edited.or(changed);
    }
    Ok(changed)
}

/// Returns the TOML text with, or without, authctl in an array, whose elements are commands; `None` if it stays.
pub(super) fn edit_array(
    file: &Path,
    text: &str,
    path: &[&str; 2],
    value: &str,
    first: &str,
    add: bool,
) -> Result<Option<String>, Error> {
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| cannot(file, e))?;
    let [table_name, key] = path;
    let not_array = || cannot(file, anyhow::anyhow!("{} is not an array", path.join(".")));
    let table = document.entry(table_name).or_insert_with(|| Item::Table(Table::new()));
    let table = table.as_table_like_mut().ok_or_else(not_array)?;
    let is_new = !table.contains_key(key);
    let array = table.entry(key).or_insert_with(|| Item::Value(Array::new().into()));
    let array = array.as_array_mut().ok_or_else(not_array)?;
    let is_ours = |element: &str| element.split_whitespace().next().is_some_and(is_authctl);
    let found: Vec<usize> =
        (0..array.len()).filter(|at| array.get(*at).and_then(|v| v.as_str()).is_some_and(is_ours)).collect();
    match (&found[..], add) {
        ([], false) => return Ok(None),
        ([at], true) if array.get(*at).and_then(|v| v.as_str()) == Some(value) => return Ok(None),
        ([], true) => {
            if is_new {
                array.push(first);
            }
            array.push(value);
        }
        ([at, others @ ..], true) => {
            array.replace(*at, value);
            others.iter().rev().for_each(|at| drop(array.remove(*at)));
        }
        (found, false) => {
            found.iter().rev().for_each(|at| drop(array.remove(*at)));
            let is_default = array.len() == 1 && array.get(0).is_some_and(|element| element.as_str() == Some(first));
            if is_default {
                table.remove(key);
                let table = document.get(table_name).and_then(Item::as_table);
                let is_bare = |table: &Table| {
                    let comment = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
                    table.is_empty() && comment.trim().is_empty()
                };
                if table.is_some_and(is_bare) {
                    document.remove(table_name);
                }
            }
        }
    }
    // The parser drops the carriage returns, and a byte order mark.
    let edited = document.to_string();
    let edited = if line_end(text) == "\n" { edited } else { edited.replace("\r\n", "\n").replace('\n', "\r\n") };
    let mark = text.strip_prefix(BYTE_ORDER_MARK).map_or("", |_| BYTE_ORDER_MARK);
    Ok(Some(format!("{mark}{edited}")))
}

/// Returns how the lines of a text end.
pub(super) fn line_end(text: &str) -> &'static str {
    if text.split_inclusive('\n').next().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" }
}

/// Returns whether a text in the language of blocks is written as JSON, which is such a text as well.
pub(super) fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// Returns the keyword and the label of a block.
pub(super) fn parts_of(block: &str) -> [&str; 2] {
    ["", "\""]
        .map(|before| block.split_once(before).and_then(|(_, rest)| rest.split([' ', '"']).next()).unwrap_or(block))
}

/// Returns the text with, or without, an empty block; `None` if it stays. What is between its braces is the user's.
pub(super) fn edit_block(file: &Path, text: &str, block: &str, add: bool) -> Result<Option<String>, Error> {
    if is_json(text) { edit_json_block(file, text, block, add) } else { edit_lines(file, text, block, add) }
}

fn edit_json_block(file: &Path, text: &str, block: &str, add: bool) -> Result<Option<String>, Error> {
    let [keyword, label] = parts_of(block);
    let document: Value = serde_json::from_str(text).map_err(|e| cannot(file, e))?;
    let is_there = document[keyword].get(label).is_some();
    if is_there == add {
        return Ok(None);
    }
    if add && document[keyword].as_object().is_some_and(|blocks| !blocks.is_empty()) {
        return Err(another(file, keyword));
    }
    match edit_members(file, text, keyword, &[label.to_owned()], &json!({}), add)? {
        None if is_there => Err(has_more(file)),
        edited => Ok(edited),
    }
}

fn another(file: &Path, keyword: &str) -> Error {
    foreign(format!("{} has another {keyword}", file.display()), Hint::edit(file))
}

fn has_more(file: &Path) -> Error {
    foreign(format!("{} has more in its block for authctl", file.display()), Hint::edit(file))
}

fn edit_lines(file: &Path, text: &str, block: &str, add: bool) -> Result<Option<String>, Error> {
    let without_spaces = |line: &str| line.split_whitespace().collect::<String>();
    let start = without_spaces(block.split_inclusive('{').next().unwrap_or(block));
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let code = code_lines(&lines);
    let found = code.iter().copied().find(|at| without_spaces(lines[*at]).starts_with(&start));
    if found.is_some() == add {
        return Ok(None);
    }
    let Some(first) = found else {
        let [keyword, _] = parts_of(block);
        if code.iter().any(|at| lines[*at].trim_start().starts_with(keyword)) {
            return Err(another(file, keyword));
        }
        let end = line_end(text);
        let separator = if text.is_empty() || text.ends_with('\n') { "" } else { end };
        return Ok(Some(format!("{text}{separator}{}{end}", block.trim_end())));
    };
    let Some(length) = lines[first..].iter().position(|line| line.contains('}')) else {
        return Err(cannot(file, anyhow::anyhow!("a brace is not closed")));
    };
    let (block, after) = lines[first..].split_at(length + 1);
    if without_spaces(&block.concat()).strip_prefix(&start).is_none_or(|rest| rest != "}") {
        return Err(has_more(file));
    }
    Ok(Some(lines[..first].iter().chain(after).copied().collect()))
}

/// Returns the lines that do not begin in a comment of the form `/* */`.
fn code_lines(lines: &[&str]) -> Vec<usize> {
    let mut is_comment = false;
    let begins_in_code = |line: &str| {
        let begins_in_comment = is_comment || line.trim_start().starts_with("/*");
        is_comment = begins_in_comment && !line.contains("*/");
        !begins_in_comment
    };
    let begin: Vec<bool> = lines.iter().copied().map(begins_in_code).collect();
    (0..lines.len()).filter(|at| begin[*at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_is_added_and_removed_and_the_rest_stays() {
        let block = "credentials_helper \"authctl\" {}\n";
        let edit = |text: &str, add| edit_lines(Path::new("rc"), text, block, add).map_err(|error| error.message());
        for before in [
            "",
            "# x\n",
            "# credentials_helper\r\nplugin_cache_dir = \"x\"\r\n",
            "/* credentials_helper \"other\" {} */\n/*\ncredentials_helper \"authctl\" {}\n */\na = \"/*\"\n",
        ] {
            let added = edit(before, true).expect("valid").expect("a change");
            assert_eq!(added.contains("\r\n"), before.contains("\r\n"));
            assert_eq!(added.lines().count(), added.split("\r\n").flat_map(str::lines).count());
            assert_eq!(edit(&added, true), Ok(None));
            assert_eq!(edit(&added, false), Ok(Some(before.to_owned())));
            assert_eq!(edit(before, false), Ok(None));
        }
        for (own, is_removed) in [(" {\n\n}", true), ("{ }", true), ("{\n  args = []\n}", false), ("{ # x\n}", false)] {
            let own = format!("a = 1\ncredentials_helper  \"authctl\"{own}\nb = 2\n");
            assert_eq!(edit(&own, true), Ok(None));
            let removed = edit(&own, false);
            assert_eq!(removed.is_ok(), is_removed, "{own}");
            assert!(!is_removed || removed == Ok(Some("a = 1\nb = 2\n".to_owned())), "{own}");
        }
        assert!(edit("credentials_helper \"other\" {}\n", true).is_err());
        assert!(edit("credentials_helper \"authctl\" {\n", false).is_err());
    }

    #[test]
    fn block_in_json_is_added_and_removed_and_the_rest_stays() {
        let block = "credentials_helper \"authctl\" {}\n";
        let edit = |text: &str, add| edit_block(Path::new("rc"), text, block, add).map_err(|error| error.message());
        for (before, after) in [
            ("{\"a\": {}}\n", "{\"a\": {},\"credentials_helper\":{\"authctl\":{}}}\n"),
            (
                "\r\n{\r\n  \"a\": 1\r\n}",
                "\r\n{\r\n  \"a\": 1,\r\n  \"credentials_helper\": {\r\n    \"authctl\": {}\r\n  }\r\n}",
            ),
        ] {
            assert_eq!(edit(before, true), Ok(Some(after.to_owned())));
            assert_eq!((edit(after, true), edit(before, false)), (Ok(None), Ok(None)));
            assert_eq!(edit(after, false), Ok(Some(before.to_owned())));
        }
        let own = r#"{"credentials_helper": {"authctl": {"args": ["-v"]}}}"#;
        assert_eq!(edit(own, true), Ok(None));
        for (text, add) in [(own, false), (r#"{"credentials_helper": {"other": {}}}"#, true), ("{", true), ("{", false)]
        {
            assert!(edit(text, add).is_err(), "{text}");
        }
    }

    #[test]
    fn array_keeps_the_line_ends_of_its_file() {
        let edit = |text: &str, add| {
            edit_array(Path::new("config.toml"), text, &["registry", "providers"], "authctl", "cargo:token", add)
                .map_err(|error| error.message())
        };
        for before in ["", "\u{feff}# x\r\n[a]\r\nb = 1 # y\r\n", "[registry]\r\nproviders = [\"other\"]\r\n"] {
            let added = edit(before, true).expect("valid").expect("a change");
            assert_eq!(
                added.matches('\n').count(),
                added.matches("\r\n").count().max(usize::from(before.is_empty()) * 2),
                "{added:?}"
            );
            assert_eq!(edit(&added, false), Ok(Some(before.to_owned())), "{added:?}");
        }
    }
}
