//! The steps of a set-up: what is to be done for each change, found out before anything is done.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::change::Change;
use super::commands::{ToolCommands, printed, run_on_copy};
use super::files::{self, cannot, changed_meanwhile, edit_array, edit_block, edit_members, read};
use super::hosts::{change_hosts, has_other_hosts};
use super::ini;
use super::token_file::TokenFile;
use crate::cmd::helper::call::{Call, foreign};
use crate::cmd::helper::program::{is_authctl, program_path};
use crate::error::{Error, Hint};
use crate::model::ToolHost;

/// One thing to do for a change.
pub(super) enum SetupStep<'a> {
    Hosts,
    Run(ToolCommands<'a>),
    Write { file: PathBuf, before: String, text: String },
    Link(PathBuf),
    Unlink(PathBuf),
    TokenFile { file: Box<TokenFile>, add: bool },
}

impl Change {
    /// Returns what is to be done to make the change, or to undo it; `None` if nothing is. The hosts in
    /// `shared` stay for another tool.
    pub(super) fn step(&self, call: &Call<'_>, add: bool, shared: &[ToolHost]) -> Result<Option<SetupStep<'_>>, Error> {
        let write = |file: &Path, edit: &dyn Fn(&str) -> Result<Option<String>, Error>| {
            let before = read(file)?;
            let text = edit(&before)?;
            Ok::<_, Error>(text.map(|text| SetupStep::Write { file: file.to_owned(), before, text }))
        };
        Ok(match self {
            Self::Note(_) => None,
            Self::Section { file, header, key, value, is_ours, others } => {
                let setting = ini::IniSetting { header, key, value, is_ours: *is_ours, others };
                write(file, &|text| ini::edit(file, text, &setting, add))?
            }
            Self::TokenFile(file) => {
                file.is_change(call, add)?.then(|| SetupStep::TokenFile { file: file.clone(), add })
            }
            Self::Hosts if call.args.hosts.is_empty() => None,
            Self::Hosts => {
                if add {
                    call.app.profile(None)?;
                }
                Some(SetupStep::Hosts)
            }
            Self::Commands { file, shown, plan, on_copy, edit } => match (printed(call.app, shown)?, add) {
                (None, false) => {
                    check_unnamed(file, shown)?;
                    None
                }
                (text, _) => {
                    let is_any = !plan(&text.unwrap_or_default(), add)?.is_empty();
                    let (on_copy, edit) = (*on_copy, edit.as_ref());
                    is_any.then_some(SetupStep::Run(ToolCommands { file, shown, plan, on_copy, edit, add }))
                }
            },
            Self::Members { file, object, names, value } => {
                write(file, &|text| edit_members(file, text, object, names, *value, add))?
            }
            // What the hosts share stays for the others.
            Self::Element { .. } | Self::Block { .. } | Self::LinkAt(_) | Self::Link { used_in: None, .. }
                if !add && has_other_hosts(call, shared)? =>
            {
                None
            }
            Self::Link { used_in: Some(file), .. } if !add && is_used_in(file)? => None,
            Self::Element { file, path, value, first } => {
                write(file, &|text| edit_array(file, text, path, value, first, add))?
            }
            Self::Block { file, text: block } => write(file, &|text| edit_block(file, text, block, add))?,
            Self::Link { .. } | Self::LinkAt(_) => {
                let link = self.link()?;
                let target = fs::read_link(&link).ok();
                let is_ours = target.as_ref().is_some_and(|target| is_authctl(target) || is_authctl(&link));
                match add {
                    false => is_ours.then_some(SetupStep::Unlink(link)),
                    true if target == Some(program_path(call.app)?) => None,
                    true if is_ours || link.symlink_metadata().is_err() => Some(SetupStep::Link(link)),
                    true => return Err(foreign(format!("{} is another program", link.display()), Hint::list(&link))),
                }
            }
        })
    }
}

impl SetupStep<'_> {
    /// Applies the step; returns whether anything changed, and reports what.
    pub(super) fn apply(self, call: &Call<'_>, shared: &[ToolHost]) -> Result<bool, Error> {
        let done = match self {
            Self::Hosts => return change_hosts(call, shared),
            Self::TokenFile { file, add } => return file.set(call, add).map(|()| true),
            Self::Run(change) => {
                if !run_on_copy(call, change)? {
                    return Ok(false);
                }
                format!("changed {}", change.file.display())
            }
            Self::Write { file, before, text } => {
                if !files::write(&file, before.as_bytes(), text.as_bytes())? {
                    return Err(changed_meanwhile(&file));
                }
                format!("changed {}", file.display())
            }
            Self::Link(link) => {
                files::link(&program_path(call.app)?, &link)?;
                warn_if_hidden(call, &link);
                format!("linked {}", link.display())
            }
            Self::Unlink(link) => {
                fs::remove_file(&link).map_err(|e| cannot(&link, e))?;
                format!("removed {}", link.display())
            }
        };
        call.app.ui().notice(&done);
        Ok(true)
    }
}

/// Requires that the file of a tool that is not installed does not name authctl: only the tool removes that.
fn check_unnamed(file: &Path, shown: &[String]) -> Result<(), Error> {
    if !String::from_utf8_lossy(&files::read_bytes(file)?).contains("authctl") {
        return Ok(());
    }
    let tool = shown.first().map(String::as_str).unwrap_or_default();
    Err(foreign(
        format!("{} names authctl, and `{tool}`, which changes it, is not installed", file.display()),
        Hint::edit(file),
    ))
}

/// Warns of a link to a program that is not found by its name.
fn warn_if_hidden(call: &Call<'_>, link: &Path) {
    let app = call.app;
    let mut dirs = std::env::split_paths(&app.environment.surroundings.search_path);
    let name = link.file_name().unwrap_or_default();
    let found = dirs.find(|dir| dir.join(name).exists());
    if link.parent().is_some_and(|dir| dir.ends_with(".local/bin")) && found.as_deref() != link.parent() {
        let dir = link.parent().unwrap_or(link).display();
        app.ui().warn(&format!("put {dir} first in PATH, so that the tool finds {}", name.display()));
    }
}

/// Returns whether docker's configuration uses authctl. The hosts that no longer do are removed from it before.
fn is_used_in(file: &Path) -> Result<bool, Error> {
    let document: Value = serde_json::from_str(&read(file)?).unwrap_or_default();
    let mut helpers = document["credHelpers"].as_object().into_iter().flatten().map(|(_, helper)| helper);
    Ok(document["credsStore"] == "authctl" || helpers.any(|helper| helper == "authctl"))
}
