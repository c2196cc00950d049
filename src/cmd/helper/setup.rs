//! The set-up of a tool: shown with `--setup`, made with `--write`, undone with `--remove`. What is there already is not made
//! twice, and what belongs to others is neither replaced nor removed.

mod files;
mod ini;
mod json;
mod token_file;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::call::{Call, foreign};
use super::program::{is_authctl, program_path};
use crate::cli::{Helper, Tool};
use crate::cmd::output;
use crate::config;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ProfileName, ToolHost};
use crate::paths;
use crate::text::{excerpt, shell_line};
use files::{cannot, edit_array, edit_lines, edit_members, read};
pub(super) use token_file::TokenFile;

/// Returns the commands of a tool that set it up, or undo that, from what the tool shows; none if nothing is to be done.
pub(super) type Plan = dyn Fn(&str, bool) -> Result<Vec<Vec<String>>, Error>;

/// Returns what the set-up of a call's tool changes.
pub(super) type SetupOf = dyn Fn(&Call<'_>) -> Result<Vec<Change>, Error>;

/// Something that the set-up of a tool changes.
pub(super) enum Change {
    /// The hosts of the profile.
    Hosts,
    /// The tool's configuration, by its own commands; `shown` prints what there is.
    Commands { shown: Vec<String>, plan: Box<Plan> },
    /// Members of an object in a JSON file.
    Members { file: PathBuf, object: &'static str, names: Vec<String>, value: &'static str },
    /// An element of an array in a TOML file; a new array starts with `first`, the tool's default.
    Element { file: PathBuf, path: [&'static str; 2], value: String, first: &'static str },
    /// A line in a text file.
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

/// One thing to do for a change.
enum Step {
    Hosts,
    Run(Vec<Vec<String>>),
    Write { file: PathBuf, text: String },
    Link(PathBuf),
    Unlink(PathBuf),
    TokenFile { file: Box<TokenFile>, add: bool },
}

/// Shows, makes or undoes the changes; `setup_of` returns those of another call.
pub(super) fn run(call: &Call<'_>, changes: &[Change], setup_of: &SetupOf) -> Result<u8, Error> {
    let (app, args) = (call.app, call.args);
    check_hosts(call, changes)?;
    let takes_no_words =
        |change: &Change| matches!(change, Change::Link { .. } | Change::LinkAt(_) | Change::Element { .. });
    if args.id_token && changes.iter().any(takes_no_words) {
        let message = "this tool starts authctl without options, so it gets the access token";
        return Err(Error::msg(ErrorCode::Usage, message, Hint::command("helper").with_flag("--help")));
    }
    if let Some(config) = app.common.config.as_ref().filter(|_| !args.remove && changes.iter().any(takes_no_words)) {
        let message = format!("this tool starts authctl without options, so it would not read {}", config.display());
        let hint = Hint::advice("set AUTHCTL_CONFIG for this command and for the tool, in place of --config");
        return Err(Error::msg(ErrorCode::Usage, message, hint));
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
    let kept = if args.remove { hosts_of_other_tools(call, setup_of) } else { Vec::new() };
    if args.write {
        // All are known before the first, so that nothing is changed by half.
        let steps: Vec<Option<Step>> =
            changes.iter().map(|change| change.step(call, true, &kept)).collect::<Result<_, _>>()?;
        for step in steps.into_iter().flatten() {
            any |= step.take(call, &kept)?;
        }
    } else {
        // In reverse: the host, which gives the tool a token, is added last and removed first.
        for change in changes.iter().rev() {
            if let Some(step) = change.step(call, false, &kept)? {
                any |= step.take(call, &kept)?;
            }
        }
        if stays_for_other_hosts(call, changes)? {
            let command =
                app.next_command(Hint::command("helper").with_argument(args.tool.name()).with_flag("--remove"));
            let tool = args.tool.name();
            app.ui().notice(&format!("{tool} still uses authctl for other hosts; for no host at all, run: {command}"));
            any = true;
        }
    }
    let keeps = |host| app.profile(None).is_ok_and(|profile| profile.hosts.contains(host));
    let files = changes.iter().filter_map(|change| match change {
        Change::TokenFile(file) if args.write => Some(file),
        _ => None,
    });
    let filled = files.clone().try_for_each(|file| file.fill(call));
    if any && filled.is_ok() {
        files.for_each(|file| app.ui().notice(&file.done()));
    }
    if !any && filled.is_ok() && !kept.iter().any(keeps) {
        app.ui().notice(if args.write { "already set up" } else { "not set up" });
    }
    for change in changes {
        if let (Change::Note(text), true) = (change, args.write) {
            app.ui().notice(text);
        }
    }
    filled.map(|()| 0)
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
    let message = "the host that gets the token is missing (--host HOST)";
    Err(Error::msg(ErrorCode::Usage, message, Hint::command("helper").with_flag("--help")))
}

impl Change {
    /// Returns what the user would do, in lines.
    fn shown(&self, call: &Call<'_>) -> Result<Vec<String>, Error> {
        Ok(match self {
            Self::Hosts => {
                let profile = call.app.profile(None)?;
                let mut hosts = profile.hosts.clone();
                hosts.extend(call.args.hosts.iter().filter(|host| !profile.hosts.contains(host)).cloned());
                vec![call.app.next_command(set_hosts(&profile.name, &hosts))]
            }
            Self::Commands { shown, plan } => {
                let needed = printed(shown).and_then(|text| plan(&text, true).ok()).filter(|all| !all.is_empty());
                needed.map_or_else(|| plan("", true), Ok)?.iter().map(shell_line).collect()
            }
            Self::Members { file, object, names, value } => {
                let member = |name| format!("# in {}: {object} / {name} = \"{value}\"", file.display());
                names.iter().map(member).collect()
            }
            Self::Element { file, path, value, first } => {
                vec![format!("# in {}, [{}]: {} = [\"{first}\", \"{value}\"]", file.display(), path[0], path[1])]
            }
            Self::Block { file, text } => vec![format!("# in {}: {}", file.display(), text.trim_end())],
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
    fn link(&self) -> Result<PathBuf, Error> {
        match self {
            Self::LinkAt(path) => Ok(path.clone()),
            Self::Link { name, .. } => Ok(paths::home()?.join(".local/bin").join(name)),
            _ => Ok(PathBuf::new()),
        }
    }

    /// Returns what is to be done to make the change, or to undo it; `None` if nothing is. The hosts in `kept` are another
    /// tool's.
    fn step(&self, call: &Call<'_>, add: bool, kept: &[ToolHost]) -> Result<Option<Step>, Error> {
        let write = |file: &Path, text: Option<String>| text.map(|text| Step::Write { file: file.to_owned(), text });
        Ok(match self {
            Self::Note(_) => None,
            Self::Section { file, header, key, value, is_ours, others } => {
                let setting = ini::Setting { header, key, value, is_ours: *is_ours, others };
                write(file, ini::edit(file, &read(file)?, &setting, add)?)
            }
            Self::TokenFile(file) => file.is_change(call, add)?.then(|| Step::TokenFile { file: file.clone(), add }),
            Self::Hosts if call.args.hosts.is_empty() => None,
            Self::Hosts => {
                if add {
                    call.app.profile(None)?;
                }
                Some(Step::Hosts)
            }
            Self::Commands { shown, plan } => match (printed(shown), add) {
                (None, false) => None,
                (text, _) => Some(plan(&text.unwrap_or_default(), add)?).filter(|all| !all.is_empty()).map(Step::Run),
            },
            Self::Members { file, object, names, value } => {
                write(file, edit_members(file, &read(file)?, object, names, value, add)?)
            }
            // What the hosts share stays for the others.
            Self::Element { .. } | Self::Block { .. } | Self::LinkAt(_) | Self::Link { used_in: None, .. }
                if !add && has_other_hosts(call, kept)? =>
            {
                None
            }
            Self::Link { used_in: Some(file), .. } if !add && is_used_in(file)? => None,
            Self::Element { file, path, value, first } => {
                write(file, edit_array(file, &read(file)?, path, value, first, add)?)
            }
            Self::Block { file, text } => write(file, edit_lines(file, &read(file)?, text, add)?),
            Self::Link { .. } | Self::LinkAt(_) => {
                let link = self.link()?;
                let target = fs::read_link(&link).ok();
                let is_ours = target.as_ref().is_some_and(|target| is_authctl(target) || is_authctl(&link));
                match add {
                    false => is_ours.then_some(Step::Unlink(link)),
                    true if target == Some(program_path(call.app)?) => None,
                    true if is_ours || link.symlink_metadata().is_err() => Some(Step::Link(link)),
                    true => return Err(foreign(format!("{} is another program", link.display()), Hint::list(&link))),
                }
            }
        })
    }
}

impl Step {
    /// Does it; returns whether anything changed, and reports what.
    fn take(self, call: &Call<'_>, kept: &[ToolHost]) -> Result<bool, Error> {
        let done = match self {
            Self::Hosts => return change_hosts(call, kept),
            Self::TokenFile { file, add } => return file.set(call, add).map(|()| true),
            Self::Run(commands) => {
                commands.iter().try_for_each(|command| succeed(call, command))?;
                commands.last().map(|command| format!("ran {}", command.join(" "))).unwrap_or_default()
            }
            Self::Write { file, text } => {
                files::write(&file, &text)?;
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

/// Warns of a link to a program that is not found by its name.
fn warn_if_hidden(call: &Call<'_>, link: &Path) {
    let app = call.app;
    let mut dirs = std::env::split_paths(&app.environment.surroundings.search_path);
    let name = link.file_name().unwrap_or_default();
    let found = dirs.find(|dir| dir.join(name).exists());
    if link.parent().is_some_and(|dir| dir.ends_with(".local/bin")) && found.as_deref() != link.parent() {
        let dir = link.parent().unwrap_or(link).display();
        app.ui().notice(&format!("warning: put {dir} first in PATH, so that the tool finds {}", name.display()));
    }
}

/// Returns the command that gives a profile these hosts.
fn set_hosts(profile: &ProfileName, hosts: &[ToolHost]) -> Hint {
    let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
    Hint::command("profile set").with_argument(profile.as_str()).with_argument(format!("hosts={}", hosts.join(" ")))
}

/// Returns the hosts of the command that another tool may use: one that names authctl for the host, or for all hosts of the
/// profiles.
fn hosts_of_other_tools(call: &Call<'_>, setup_of: &SetupOf) -> Vec<ToolHost> {
    let config = call.app.config().unwrap_or_default();
    // So that what all hosts share counts as removable.
    let all: Vec<ToolHost> = config.profiles.values().flat_map(|profile| profile.hosts.clone()).collect();
    let is_set_up = |tool: Tool, host: &ToolHost| {
        let args = Helper { tool, hosts: vec![host.clone()], ..call.args.clone() };
        let call = Call { app: call.app, args: &args };
        let changes = setup_of(&call).unwrap_or_default();
        let is_for_hosts = changes.iter().any(|change| matches!(change, Change::Hosts));
        // A link that a file uses is for the hosts in that file.
        let mut uses =
            changes.iter().filter(|change| !matches!(change, Change::Hosts | Change::Link { used_in: Some(_), .. }));
        is_for_hosts && uses.any(|change| change.step(&call, false, &all).is_ok_and(|step| step.is_some()))
    };
    let others = || Tool::all().iter().filter(|tool| **tool != call.args.tool);
    call.args.hosts.iter().filter(|host| others().any(|tool| is_set_up(*tool, host))).cloned().collect()
}

/// Adds the named hosts to the profile, or removes all but `kept` from it; returns whether that changed it.
fn change_hosts(call: &Call<'_>, kept: &[ToolHost]) -> Result<bool, Error> {
    let (app, args) = (call.app, call.args);
    app.run(async {
        let _lock = app.lock_config().await?;
        let mut profile = match app.profile(None) {
            // Its hosts went with it.
            Err(error) if args.remove && error.code == ErrorCode::UnknownProfile => return Ok(false),
            profile => profile?,
        };
        let before = profile.hosts.clone();
        if args.write {
            profile.hosts.extend(args.hosts.iter().filter(|host| !before.contains(host)).cloned());
            for other in app.config()?.profiles.values().filter(|other| other.name != profile.name) {
                let (both, rest): (Vec<_>, Vec<_>) =
                    other.hosts.iter().cloned().partition(|host| args.hosts.contains(host));
                if let Some(host) = both.first() {
                    let command = app.next_command(set_hosts(&other.name, &rest));
                    app.ui().notice(&format!(
                        "warning: {host} is a host of {} too; to remove it there, run: {command}",
                        other.name
                    ));
                }
            }
        } else {
            for host in kept.iter().filter(|host| before.contains(host)) {
                let rest: Vec<ToolHost> = before.iter().filter(|other| *other != host).cloned().collect();
                let command = app.next_command(set_hosts(&profile.name, &rest));
                app.ui().notice(&format!(
                    "{host} still gets tokens: another tool is set up that may use them; to stop that, run: {command}"
                ));
            }
            profile.hosts.retain(|host| !args.hosts.contains(host) || kept.contains(host));
        }
        if profile.hosts == before {
            return Ok(false);
        }
        config::save(&app.paths()?.config, &profile)?;
        app.notify_agent(&profile.name);
        let hosts: Vec<&str> = profile.hosts.iter().map(|host| host.as_str()).collect();
        let hosts = if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") };
        app.ui().notice(&format!("hosts that get tokens of {}: {hosts}", profile.name));
        Ok(true)
    })
}

/// Returns whether hosts remain that get tokens, after those that the command names were removed, `kept` for other tools aside.
fn has_other_hosts(call: &Call<'_>, kept: &[ToolHost]) -> Result<bool, Error> {
    let config = call.app.config()?;
    let mut remaining = config.profiles.values().flat_map(|profile| &profile.hosts);
    Ok(!call.args.hosts.is_empty() && remaining.any(|host| !kept.contains(host)))
}

/// Returns whether the tool stays set up for the other hosts, after those that the command names were removed.
fn stays_for_other_hosts(call: &Call<'_>, changes: &[Change]) -> Result<bool, Error> {
    let args = Helper { hosts: Vec::new(), ..call.args.clone() };
    let all = Call { app: call.app, args: &args };
    // Without hosts, what they share is removed as well.
    let stays =
        |change: &Change| Ok::<_, Error>(!matches!(change, Change::Hosts) && change.step(&all, false, &[])?.is_some());
    let stay: Vec<bool> = changes.iter().map(stays).collect::<Result<_, _>>()?;
    Ok(!call.args.hosts.is_empty() && stay.contains(&true))
}

/// Returns what a command prints; `None` if it fails.
fn printed(words: &[String]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Runs a command of the tool.
fn succeed(call: &Call<'_>, words: &[String]) -> Result<(), Error> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|e| {
        let error = anyhow::Error::new(e).context(format!("cannot run `{program}`"));
        Error::new(ErrorCode::Configuration, error, Hint::shell("echo \"$PATH\""))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let line = shell_line(words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reason = stderr.trim().lines().next().unwrap_or_default();
    let reason = reason.trim_start_matches("error: ").trim_start_matches("fatal: ");
    let message = format!("`{line}` failed: {}", excerpt(reason, 300));
    let mut hint = Hint::command("helper").with_argument(call.args.tool.name()).with_flag("--setup");
    for host in &call.args.hosts {
        hint = hint.with_option("--host", host.as_str());
    }
    Err(Error::msg(ErrorCode::Configuration, message, call.for_profile(hint)?))
}

/// Returns whether docker's configuration uses authctl. The hosts that no longer do are removed from it before.
fn is_used_in(file: &Path) -> Result<bool, Error> {
    let document: Value = serde_json::from_str(&read(file)?).unwrap_or_default();
    let mut helpers = document["credHelpers"].as_object().into_iter().flatten().map(|(_, helper)| helper);
    Ok(document["credsStore"] == "authctl" || helpers.any(|helper| helper == "authctl"))
}
