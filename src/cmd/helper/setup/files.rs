//! Files that the set-up of a tool changes. What belongs to others in them stays as it is.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Table};

use super::json::{self, Added};
use crate::cmd::helper::call::foreign;
use crate::cmd::helper::program::is_authctl;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{regular_file, replace};

/// The largest configuration of a tool that is changed, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

pub(super) fn cannot(what: &Path, error: impl Into<anyhow::Error>) -> Error {
    let error = error.into().context(format!("cannot change {}", what.display()));
    Error::new(ErrorCode::Configuration, error, Hint::command("helper").with_flag("--help"))
}

/// Returns the text of a tool's file, empty if there is none.
pub(super) fn read(file: &Path) -> Result<String, Error> {
    let target = crate::fs::link_target(file);
    if !target.exists() {
        return Ok(String::new());
    }
    let bytes = regular_file::read(&target, MAX_FILE).map_err(|reason| cannot(file, anyhow::anyhow!(reason)))?;
    Ok(std::str::from_utf8(bytes.expose()).map_err(|e| cannot(file, e))?.to_owned())
}

/// Replaces a tool's file as a whole, or the one that it leads to; its mode stays.
pub(super) fn write(file: &Path, text: &str) -> Result<(), Error> {
    let target = crate::fs::link_target(file);
    let mode = target.metadata().map_or(0o600, |about| about.mode() & 0o777);
    let write = || -> io::Result<()> {
        fs::create_dir_all(crate::fs::directory_of(&target))?;
        replace(&target, text.as_bytes(), mode)
    };
    write().map_err(|e| cannot(file, e))
}

/// Makes a symbolic link, also in place of one.
pub(super) fn link(program: &Path, link: &Path) -> Result<(), Error> {
    let make = || -> io::Result<()> {
        fs::create_dir_all(crate::fs::directory_of(link))?;
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
    value: &str,
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
    Ok(Some(document.to_string()))
}

/// Returns the text with, or without, the line; `None` if it stays.
pub(super) fn edit_lines(file: &Path, text: &str, block: &str, add: bool) -> Result<Option<String>, Error> {
    let without_spaces = |line: &str| line.split_whitespace().collect::<String>();
    let is_block = |line: &str| without_spaces(line) == without_spaces(block);
    if text.lines().any(is_block) == add {
        return Ok(None);
    }
    // What stands between the braces is the user's.
    let start = without_spaces(block.split('{').next().unwrap_or(block));
    if add && text.lines().any(|line| without_spaces(line).starts_with(&start)) {
        return Ok(None);
    }
    let keyword = block.split(' ').next().unwrap_or(block);
    if add && text.lines().any(|line| line.trim_start().starts_with(keyword)) {
        return Err(foreign(format!("{} has another {keyword}", file.display()), Hint::edit(file)));
    }
    Ok(Some(match add {
        true if text.is_empty() || text.ends_with('\n') => format!("{text}{block}"),
        true => format!("{text}\n{block}"),
        false => text.split_inclusive('\n').filter(|line| !is_block(line)).collect(),
    }))
}
