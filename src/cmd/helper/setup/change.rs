//! What the set-up of a tool changes, and how it is shown.

use std::path::PathBuf;

use super::commands::{OnCopy, Plan, TextEdit, printed};
use super::files::{is_json, parts_of, read};
use super::hosts::set_hosts;
use super::token_file::TokenFile;
use crate::cmd::helper::call::Call;
use crate::cmd::helper::program::program_path;
use crate::error::Error;
use crate::paths;
use crate::text::shell_line;

/// Something that the set-up of a tool changes.
pub(crate) enum Change {
    /// The hosts of the profile.
    Hosts,
    /// A file that the tool's own commands change; `shown` prints what there is, and `on_copy` returns a command for a copy of
    /// the file. `edit` does the same in the text of the file, where the commands would write the whole file again.
    Commands { file: PathBuf, shown: Vec<String>, plan: Box<Plan>, on_copy: OnCopy, edit: Option<TextEdit> },
    /// Members of an object in a JSON file.
    Members { file: PathBuf, object: &'static str, names: Vec<String>, value: &'static str },
    /// An element of an array in a TOML file; a new array starts with `first`, the tool's default.
    Element { file: PathBuf, path: [&'static str; 2], value: String, first: &'static str },
    /// An empty block in a text file, which may also be JSON.
    Block { file: PathBuf, text: &'static str },
    /// A symbolic link of this name to authctl, in the user's directory of programs. It stays while a host in the JSON file
    /// `used_in` uses it.
    Link { name: &'static str, used_in: Option<PathBuf> },
    /// A symbolic link to authctl.
    LinkAt(PathBuf),
    /// A setting in a section of an INI file.
    Section {
        file: PathBuf,
        header: String,
        key: &'static str,
        value: String,
        /// Whether a value was written by authctl.
        is_ours: fn(&str) -> bool,
        /// The settings that would contradict it.
        others: &'static [&'static str],
    },
    /// The profile's token file.
    TokenFile(Box<TokenFile>),
    /// Something that only the user can do.
    Note(String),
}

impl Change {
    /// Returns what the user would do, in lines.
    pub(super) fn shown(&self, call: &Call<'_>) -> Result<Vec<String>, Error> {
        Ok(match self {
            Self::Hosts => {
                let profile = call.app.profile(None)?;
                let mut hosts = profile.hosts.clone();
                hosts.extend(call.args.hosts.iter().filter(|host| !profile.hosts.contains(host)).cloned());
                vec![call.app.next_command(set_hosts(&profile.name, &hosts))]
            }
            Self::Commands { shown, plan, .. } => {
                let needed =
                    printed(call.app, shown)?.and_then(|text| plan(&text, true).ok()).filter(|all| !all.is_empty());
                needed.map_or_else(|| plan("", true), Ok)?.iter().map(shell_line).collect()
            }
            Self::Members { file, object, names, value } => {
                let member = |name| format!("# in {}: {object} / {name} = \"{value}\"", file.display());
                names.iter().map(member).collect()
            }
            Self::Element { file, path, value, first } => {
                vec![format!("# in {}, [{}]: {} = [\"{first}\", \"{value}\"]", file.display(), path[0], path[1])]
            }
            Self::Block { file, text } => {
                let [keyword, label] = parts_of(text);
                let json = || format!("\"{keyword}\": {{\"{label}\": {{}}}}");
                let line = if is_json(&read(file)?) { json() } else { text.trim_end().to_owned() };
                vec![format!("# in {}: {line}", file.display())]
            }
            Self::Link { .. } | Self::LinkAt(_) => {
                let words = ["ln", "-s"].map(str::to_owned).into_iter();
                let paths = [program_path(call.app)?, self.link()?].map(|path| path.display().to_string());
                vec![shell_line(words.chain(paths))]
            }
            Self::Section { file, header, key, value, .. } => {
                vec![format!("# in {}, {header}:", file.display()), format!("{key} = {value}")]
            }
            Self::TokenFile(file) => file.shown(call.app),
            Self::Note(text) => text.lines().map(|text| format!("# {text}")).collect(),
        })
    }

    /// Returns the place of a link.
    pub(super) fn link(&self) -> Result<PathBuf, Error> {
        match self {
            Self::LinkAt(path) => Ok(path.clone()),
            Self::Link { name, .. } => Ok(paths::home()?.join(".local/bin").join(name)),
            _ => Ok(PathBuf::new()),
        }
    }
}
