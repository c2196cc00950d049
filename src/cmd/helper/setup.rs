//! The set-up of a tool: shown with `--setup`, made with `--write`, undone with `--remove`. What is there already is not made
//! twice, and what belongs to others is neither replaced nor removed.

mod change;
mod commands;
mod files;
mod hosts;
mod ini;
mod json;
mod step;
mod token_file;

use std::time::Duration;

use super::call::Call;
use crate::cli::{Helper, Tool};
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{LockError, LockFile};
use crate::model::ToolHost;
pub(super) use change::Change;
pub(super) use commands::{TextEdit, printed};
pub(super) use files::read;
pub(super) use ini::values;
use step::SetupStep;
pub(super) use token_file::TokenFile;

/// How long to wait for another set-up.
const LOCK_LIMIT: Duration = Duration::from_secs(20);

/// Returns what the set-up of a call's tool changes.
pub(super) type SetupOf = dyn Fn(&Call<'_>) -> Result<Vec<Change>, Error>;

/// Shows, makes or undoes the changes; `setup_of` returns those of another call.
pub(super) fn run(call: &Call<'_>, changes: &[Change], setup_of: &SetupOf) -> Result<u8, Error> {
    let (app, args) = (call.app, call.args);
    // Others are set up for no file.
    if !args.words.is_empty() && !matches!(args.tool, Tool::File | Tool::Azure | Tool::Google) {
        return Err(call.unknown_words());
    }
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
    // Two at once would change the same files.
    let lock = app.paths()?.locks.join(".helper.lock");
    let lock = app.run(async {
        match LockFile::lock(lock, app.clock(), LOCK_LIMIT).await {
            Err(error @ LockError::TimedOut { .. }) => Err(error.into()),
            lock => Ok(lock.ok()),
        }
    })?;
    let mut any = false;
    let shared = if args.remove { hosts_of_other_tools(call, setup_of)? } else { Vec::new() };
    if args.write {
        // All are known before the first, so that nothing is changed by half.
        let steps: Vec<Option<SetupStep<'_>>> =
            changes.iter().map(|change| change.step(call, true, &shared)).collect::<Result<_, _>>()?;
        for step in steps.into_iter().flatten() {
            any |= step.apply(call, &shared)?;
        }
    } else {
        // In reverse: the host, which gives the tool a token, is added last and removed first.
        for change in changes.iter().rev() {
            if let Some(step) = change.step(call, false, &shared)? {
                any |= step.apply(call, &shared)?;
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
    // A refresh may take long.
    drop(lock);
    let filled = files.clone().try_for_each(|file| file.fill(call));
    if any && filled.is_ok() {
        files.for_each(|file| app.ui().notice(&file.done()));
    }
    let is_by_hand = changes.iter().all(|change| matches!(change, Change::Note(_)));
    if is_by_hand && args.remove {
        let shown = app.next_command(
            call.for_profile(Hint::command("helper").with_argument(args.tool.name()).with_flag("--setup"))?,
        );
        app.ui().notice(&format!("{} is set up by hand; remove what this shows: {shown}", args.tool.name()));
    } else if !any && !is_by_hand && filled.is_ok() && !shared.iter().any(keeps) {
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

/// Returns the hosts of the command that another tool may use: one that names authctl for the host, or for all hosts of the
/// profiles.
fn hosts_of_other_tools(call: &Call<'_>, setup_of: &SetupOf) -> Result<Vec<ToolHost>, Error> {
    let config = call.app.config().unwrap_or_default();
    // So that what all hosts share counts as removable.
    let all: Vec<ToolHost> = config.profiles.values().flat_map(|profile| profile.hosts.clone()).collect();
    let is_set_up = |tool: Tool, host: &ToolHost| {
        let args = Helper { tool, hosts: vec![host.clone()], ..call.args.clone() };
        let call = Call { app: call.app, args: &args };
        let changes = setup_of(&call).unwrap_or_default();
        let is_for_hosts = changes.iter().any(|change| matches!(change, Change::Hosts));
        // A link that a file uses is for the hosts in that file.
        let uses =
            changes.iter().filter(|change| !matches!(change, Change::Hosts | Change::Link { used_in: Some(_), .. }));
        for change in uses.filter(|_| is_for_hosts) {
            match change.step(&call, false, &all) {
                Ok(None) => {}
                Err(error) if error.code == ErrorCode::Interrupted => return Err(error),
                // What cannot be removed may use it too.
                _ => return Ok(true),
            }
        }
        Ok(false)
    };
    let mut used = Vec::new();
    for host in &call.args.hosts {
        for tool in Tool::all().iter().filter(|tool| **tool != call.args.tool) {
            if is_set_up(*tool, host)? {
                used.push(host.clone());
                break;
            }
        }
    }
    Ok(used)
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
