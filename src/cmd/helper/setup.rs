//! The set-up of a tool: shown with `--setup`, made with `--write`, undone with `--remove`. What is there already is not made
//! twice, and what belongs to others is neither replaced nor removed.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value};
use toml_edit::{Array, DocumentMut, Item, Table};

use super::call::Call;
use crate::app::App;
use crate::cmd::output;
use crate::config;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{regular_file, replace};
use crate::paths;
use crate::text::{excerpt, shell_word};

/// The largest configuration of a tool that is changed, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Something that the set-up of a tool changes.
pub(super) enum Change {
    /// The hosts of the profile.
    Hosts,
    /// The tool's configuration, by its own commands. `shown` prints `expected` once they ran.
    Commands { shown: Vec<String>, expected: String, add: Vec<Vec<String>>, remove: Vec<Vec<String>> },
    /// A member of a JSON file.
    Member { file: PathBuf, path: Vec<String>, value: String },
    /// An element of an array in a TOML file; a new array starts with `first`, the tool's default.
    Element { file: PathBuf, path: [&'static str; 2], value: String, first: &'static str },
    /// A line in a text file.
    Block { file: PathBuf, text: &'static str },
    /// A symbolic link of this name to authctl, in the user's directory of programs. It stays while a host in the JSON file
    /// `used_in` uses it.
    Link { name: &'static str, used_in: Option<PathBuf> },
    /// A symbolic link to authctl.
    LinkAt(PathBuf),
    /// Something that only the user can do.
    Note(String),
}

/// Returns the words with which the tool starts authctl: `authctl` if that is this program, else its path; and the
/// configuration, if this command has another one than usual.
///
/// # Errors
/// [`ErrorCode::Unexpected`] if the program does not exist any more.
pub(super) fn program(app: &App) -> Result<Vec<String>, Error> {
    let path = program_path(app)?;
    let mut dirs = std::env::split_paths(&app.environment.surroundings.search_path);
    let is_first = dirs.find(|dir| dir.join("authctl").exists()).is_some_and(|dir| dir.join("authctl") == path);
    let mut words = vec![if is_first { "authctl".to_owned() } else { path.display().to_string() }];
    if let Some(config) = app.common.config.as_ref().or(app.environment.config.as_ref()) {
        let config = std::path::absolute(config).map_err(|e| cannot(config, e))?;
        words.extend(["--config".to_owned(), config.display().to_string()]);
    }
    Ok(words)
}

fn program_path(app: &App) -> Result<PathBuf, Error> {
    let program = std::env::current_exe().and_then(|program| program.canonicalize());
    let program = program.map_err(|e| Error::new(ErrorCode::Unexpected, e, "check that the program still exists"))?;
    Ok(paths::stable_link(program, &app.environment.surroundings.search_path))
}

/// Shows, makes or undoes the changes.
pub(super) fn run(call: &Call<'_>, changes: &[Change]) -> Result<u8, Error> {
    let (app, args) = (call.app, call.args);
    check_hosts(call, changes)?;
    let takes_no_words =
        |change: &Change| matches!(change, Change::Link { .. } | Change::LinkAt(_) | Change::Element { .. });
    if args.id_token && changes.iter().any(takes_no_words) {
        let message = "this tool starts authctl without options, so it gets the access token";
        return Err(Error::msg(ErrorCode::Usage, message, "leave out --id-token"));
    }
    if args.setup {
        for change in changes {
            for line in change.shown(call)? {
                output::line(&line)?;
            }
        }
        return Ok(0);
    }
    let mut any = false;
    // Undone in reverse: the host, which gives the tool a token, is added last and removed first.
    let order: Vec<&Change> = if args.write { changes.iter().collect() } else { changes.iter().rev().collect() };
    for change in order {
        let done = if args.write { change.make(call)? } else { change.undo(call)? };
        if let Some(done) = done {
            any = true;
            app.ui().notice(&done);
        }
    }
    if !any {
        app.ui().notice(if args.write { "already set up" } else { "not set up" });
    }
    if args.write {
        for change in changes {
            if let Change::Note(text) = change {
                app.ui().notice(text);
            }
        }
    }
    Ok(0)
}

/// Requires a host where the set-up is for one.
fn check_hosts(call: &Call<'_>, changes: &[Change]) -> Result<(), Error> {
    let is_for_hosts = changes.iter().any(|change| matches!(change, Change::Hosts));
    let is_for_each = !changes.iter().any(|change| {
        matches!(change, Change::LinkAt(_) | Change::Element { .. } | Change::Link { used_in: None, .. })
    });
    if !is_for_hosts || !call.args.hosts.is_empty() {
        return Ok(());
    }
    let known = call.app.profile(None).is_ok_and(|profile| !profile.hosts.is_empty());
    if !is_for_each && (known || call.args.remove) {
        return Ok(());
    }
    let message = "the host that gets the token is missing";
    Err(Error::msg(ErrorCode::Usage, message, "add --host with the name of the server, such as --host git.example"))
}

fn cannot(what: &Path, error: impl Into<anyhow::Error>) -> Error {
    let error = error.into().context(format!("cannot change {}", what.display()));
    Error::new(ErrorCode::Configuration, error, Hint::command("helper").with_flag("--help"))
}

fn foreign(message: String) -> Error {
    Error::msg(ErrorCode::Configuration, message, "remove it first if the tool no longer needs it")
}

impl Change {
    /// Returns what the user would do, in lines.
    fn shown(&self, call: &Call<'_>) -> Result<Vec<String>, Error> {
        let line = |words: &[String]| words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
        Ok(match self {
            Self::Hosts => {
                let profile = call.app.profile(None)?;
                let mut hosts = profile.hosts.clone();
                hosts.extend(call.args.hosts.iter().filter(|host| !profile.hosts.contains(host)).cloned());
                let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
                let setting = format!("hosts={}", hosts.join(" "));
                vec![line(&["authctl", "profile", "set", profile.name.as_str(), &setting].map(str::to_owned))]
            }
            Self::Commands { add, .. } => add.iter().map(|command| line(command)).collect(),
            Self::Member { file, path, value } => {
                let value = Value::from(value.as_str());
                vec![format!("# in {}: {} = {value}", file.display(), path.join(" / "))]
            }
            Self::Element { file, path, value, first } => {
                vec![format!("# in {}, [{}]: {} = [\"{first}\", \"{value}\"]", file.display(), path[0], path[1])]
            }
            Self::Block { file, text } => vec![format!("# in {}: {}", file.display(), text.trim_end())],
            Self::Link { .. } | Self::LinkAt(_) => {
                let words = ["ln", "-s"].map(str::to_owned).into_iter();
                let paths = [program_path(call.app)?, self.link()?].map(|path| path.display().to_string());
                vec![line(&words.chain(paths).collect::<Vec<_>>())]
            }
            Self::Note(text) => text.lines().map(|text| format!("# {text}")).collect(),
        })
    }

    /// Returns the place of a link.
    fn link(&self) -> Result<PathBuf, Error> {
        match self {
            Self::LinkAt(path) => Ok(path.clone()),
            Self::Link { name, .. } => Ok(paths::home()?.join(".local/bin").join(name)),
            _ => Ok(PathBuf::new()),
        }
    }

    /// Makes the change; returns what was done, or `None` if nothing was to be done.
    fn make(&self, call: &Call<'_>) -> Result<Option<String>, Error> {
        match self {
            Self::Hosts => change_hosts(call),
            Self::Commands { shown, expected, add, .. } => {
                match printed(shown) {
                    Some(text) if shows(&text, expected) => return Ok(None),
                    Some(text) if !text.is_empty() => {
                        let command = shown.join(" ");
                        return Err(foreign(format!("`{command}` shows another value: {}", excerpt(&text, 200))));
                    }
                    _ => {}
                }
                add.iter().try_for_each(|command| succeed(command))?;
                Ok(add.last().map(|command| format!("ran {}", command.join(" "))))
            }
            Self::Member { file, path, value } => change_json(file, path, value, true),
            Self::Element { file, path, value, first } => change_array(file, path, value, first, true),
            Self::Block { file, text } => change_text(file, text, true),
            Self::Link { .. } | Self::LinkAt(_) => make_link(call.app, &self.link()?),
            Self::Note(_) => Ok(None),
        }
    }

    /// Undoes the change; returns what was done, or `None` if nothing was to be done.
    fn undo(&self, call: &Call<'_>) -> Result<Option<String>, Error> {
        match self {
            Self::Hosts => change_hosts(call),
            Self::Commands { shown, expected, remove, .. } => {
                if !printed(shown).is_some_and(|text| shows(&text, expected)) {
                    return Ok(None);
                }
                remove.iter().try_for_each(|command| succeed(command))?;
                Ok(remove.last().map(|command| format!("ran {}", command.join(" "))))
            }
            Self::Member { file, path, value } => change_json(file, path, value, false),
            // What the hosts share stays for the others.
            Self::Element { .. } | Self::Block { .. } | Self::LinkAt(_) | Self::Link { used_in: None, .. }
                if has_other_hosts(call)? =>
            {
                Ok(None)
            }
            Self::Element { file, path, value, first } => change_array(file, path, value, first, false),
            Self::Block { file, text } => change_text(file, text, false),
            // Other hosts may still use the program.
            Self::Link { used_in: Some(file), .. } if is_used_in(file)? => Ok(None),
            Self::Link { .. } | Self::LinkAt(_) => remove_link(call.app, &self.link()?),
            Self::Note(_) => Ok(None),
        }
    }
}

/// Adds the named hosts to the profile, or removes them from it.
fn change_hosts(call: &Call<'_>) -> Result<Option<String>, Error> {
    let (app, args) = (call.app, call.args);
    if args.hosts.is_empty() {
        return Ok(None);
    }
    app.run(async {
        let _lock = app.lock_config().await?;
        let mut profile = app.profile(None)?;
        let before = profile.hosts.clone();
        if args.write {
            profile.hosts.extend(args.hosts.iter().filter(|host| !before.contains(host)).cloned());
        } else {
            profile.hosts.retain(|host| !args.hosts.contains(host));
        }
        if profile.hosts == before {
            return Ok(None);
        }
        config::save(&app.paths()?.config, &profile)?;
        app.notify_agent(&profile.name);
        let hosts: Vec<&str> = profile.hosts.iter().map(|host| host.as_str()).collect();
        let hosts = if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") };
        Ok(Some(format!("hosts that get tokens of {}: {hosts}", profile.name)))
    })
}

/// Returns whether hosts remain that get tokens, after those that the command names were removed.
fn has_other_hosts(call: &Call<'_>) -> Result<bool, Error> {
    let config = call.app.config()?;
    Ok(!call.args.hosts.is_empty() && config.profiles.values().any(|profile| !profile.hosts.is_empty()))
}

/// Returns whether the expected lines are in what a command printed.
fn shows(text: &str, expected: &str) -> bool {
    format!("\n{text}\n").contains(expected)
}

/// Returns what a command prints; `None` if it fails.
fn printed(words: &[String]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Runs a command of the tool.
fn succeed(words: &[String]) -> Result<(), Error> {
    let line = words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ");
    let failed = |reason: String| {
        Error::msg(ErrorCode::Configuration, format!("`{line}` failed: {reason}"), "check that the tool is installed")
    };
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Returns the text of a tool's file, empty if there is none, and the file that it leads to.
fn read(file: &Path) -> Result<(String, PathBuf), Error> {
    let target = config::link_target(file);
    if !target.exists() {
        return Ok((String::new(), target));
    }
    let bytes = regular_file::read(&target, MAX_FILE).map_err(|reason| cannot(file, anyhow::anyhow!(reason)))?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|e| cannot(file, e))?.to_owned();
    Ok((text, target))
}

/// Replaces a tool's file as a whole; its mode stays.
fn write(file: &Path, target: &Path, text: &str) -> Result<Option<String>, Error> {
    let mode = target.metadata().map_or(0o600, |about| about.mode() & 0o777);
    let write = || -> io::Result<()> {
        if let Some(dir) = target.parent() {
            fs::create_dir_all(dir)?;
        }
        replace(target, text.as_bytes(), mode)
    };
    write().map_err(|e| cannot(file, e))?;
    Ok(Some(format!("changed {}", file.display())))
}

fn change_json(file: &Path, path: &[String], value: &str, add: bool) -> Result<Option<String>, Error> {
    let (text, target) = read(file)?;
    let empty = || Value::Object(Map::new());
    let mut document =
        if text.trim().is_empty() { empty() } else { serde_json::from_str(&text).map_err(|e| cannot(file, e))? };
    let not_object = || cannot(file, anyhow::anyhow!("{} is not an object", path.join(" / ")));
    let Some((name, parents)) = path.split_last() else { return Ok(None) };
    let mut object = document.as_object_mut().ok_or_else(not_object)?;
    for parent in parents {
        object = object.entry(parent).or_insert_with(empty).as_object_mut().ok_or_else(not_object)?;
    }
    match (object.get(name).map(|found| found == value), add) {
        (Some(true), true) | (None | Some(false), false) => return Ok(None),
        (Some(false), true) => {
            return Err(foreign(format!("{} has another value for {}", file.display(), path.join(" / "))));
        }
        (None, true) => object.insert(name.clone(), Value::from(value)),
        (Some(true), false) => object.remove(name),
    };
    let mut text = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut text, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
    serde::Serialize::serialize(&document, &mut serializer).map_err(|e| cannot(file, e))?;
    text.push(b'\n');
    write(file, &target, &String::from_utf8_lossy(&text))
}

fn change_array(file: &Path, path: &[&str; 2], value: &str, first: &str, add: bool) -> Result<Option<String>, Error> {
    let (text, target) = read(file)?;
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| cannot(file, e))?;
    let [table, key] = path;
    let table = document.entry(table).or_insert_with(|| Item::Table(Table::new()));
    let not_array = || cannot(file, anyhow::anyhow!("{} is not an array", path.join(".")));
    let table = table.as_table_like_mut().ok_or_else(not_array)?;
    let is_new = !table.contains_key(key);
    let array = table.entry(key).or_insert_with(|| Item::Value(Array::new().into()));
    let array = array.as_array_mut().ok_or_else(not_array)?;
    let found = array.iter().position(|element| element.as_str() == Some(value));
    match (found, add) {
        (Some(_), true) | (None, false) => return Ok(None),
        (None, true) => {
            if is_new {
                array.push(first);
            }
            array.push(value);
        }
        (Some(index), false) => {
            array.remove(index);
            let is_default = array.len() == 1 && array.get(0).is_some_and(|element| element.as_str() == Some(first));
            if is_default {
                table.remove(key);
            }
        }
    }
    write(file, &target, &document.to_string())
}

fn change_text(file: &Path, block: &str, add: bool) -> Result<Option<String>, Error> {
    let (text, target) = read(file)?;
    let is_block = |line: &str| line.trim() == block.trim_end();
    if text.lines().any(is_block) == add {
        return Ok(None);
    }
    let keyword = block.split(' ').next().unwrap_or(block);
    if add && text.lines().any(|line| line.trim_start().starts_with(keyword)) {
        return Err(foreign(format!("{} has another {keyword}", file.display())));
    }
    let text = match add {
        true if text.is_empty() || text.ends_with('\n') => text + block,
        true => format!("{text}\n{block}"),
        false => text.split_inclusive('\n').filter(|line| !is_block(line)).collect(),
    };
    write(file, &target, &text)
}

fn make_link(app: &App, link: &Path) -> Result<Option<String>, Error> {
    let program = program_path(app)?;
    if fs::read_link(link).is_ok_and(|target| target == program) {
        return Ok(None);
    }
    if link.symlink_metadata().is_ok() {
        return Err(foreign(format!("{} is another program", link.display())));
    }
    let make = || -> io::Result<()> {
        if let Some(dir) = link.parent() {
            fs::create_dir_all(dir)?;
        }
        symlink(&program, link)
    };
    make().map_err(|e| cannot(link, e))?;
    let mut dirs = std::env::split_paths(&app.environment.surroundings.search_path);
    let name = link.file_name().unwrap_or_default();
    let found = dirs.find(|dir| dir.join(name).exists());
    if link.parent().is_some_and(|dir| dir.ends_with(".local/bin")) && found.as_deref() != link.parent() {
        let dir = link.parent().unwrap_or(link).display();
        app.ui().notice(&format!("warning: put {dir} first in PATH, so that the tool finds {}", name.display()));
    }
    Ok(Some(format!("linked {}", link.display())))
}

fn remove_link(app: &App, link: &Path) -> Result<Option<String>, Error> {
    let program = program_path(app)?;
    if !fs::read_link(link).is_ok_and(|target| target == program) {
        return Ok(None);
    }
    fs::remove_file(link).map_err(|e| cannot(link, e))?;
    Ok(Some(format!("removed {}", link.display())))
}

/// Returns whether docker's configuration has a host that uses authctl. Those that no longer do are removed from it before.
fn is_used_in(file: &Path) -> Result<bool, Error> {
    let (text, _) = read(file)?;
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(document["credHelpers"].as_object().into_iter().flatten().any(|(_, helper)| helper == "authctl"))
}
