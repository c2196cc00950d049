//! `authctl agent log`: the audit log of the agent, as it is or as it grows.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::agent::protocol::{AuditLogEntry, AuditLogResponse};
use crate::app::App;
use crate::cli::AgentLog;
use crate::cmd::output;
use crate::error::{Error, ErrorCode};
use crate::text::sanitize_line;

/// How often `--follow` asks the agent for new entries.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the command.
pub(super) fn log(app: &App, args: &AgentLog) -> Result<u8, Error> {
    let mut log = entries(app)?;
    // The log may have entries of a profile that was removed.
    if let Some(name) = &app.common.profile
        && !log.entries.iter().any(|entry| is_shown(app, entry))
    {
        app.config()?.profile(name)?;
    }
    if app.common.json && !args.follow {
        log.entries.retain(|entry| is_shown(app, entry));
        output::json(&log)?;
        return Ok(0);
    }
    if log.dropped > 0 && !app.common.json {
        output::line(&format!("({} older entries were dropped)", log.dropped))?;
    }
    let mut shown = Shown::default();
    let dropped = log.dropped;
    let is_empty = !log.entries.iter().any(|entry| is_shown(app, entry));
    shown.print_new(app, args, log)?;
    if !args.follow {
        if is_empty && dropped == 0 {
            let of = app.common.profile.as_ref().map(|name| format!(" for {name}")).unwrap_or_default();
            app.ui().notice(&format!("no requests{of} since the agent was started"));
        }
        return Ok(0);
    }
    app.run(async {
        while !is_stdout_closed() {
            app.clock().sleep(FOLLOW_INTERVAL).await;
            shown.print_new(app, args, entries(app)?)?;
        }
        Ok(0)
    })
}

fn entries(app: &App) -> Result<AuditLogResponse, Error> {
    Ok(app.require_agent("GET", "/v1/log", None)?.read()??)
}

/// Returns whether the entry is about the profile of `--profile`, if that is given.
fn is_shown(app: &App, entry: &AuditLogEntry) -> bool {
    app.common.profile.is_none() || entry.profile == app.common.profile
}

/// How often each entry has been shown. An entry counts further actions of the same process for a minute.
#[derive(Default)]
struct Shown {
    /// The number of entries that the agent had dropped.
    dropped: u64,
    counts: VecDeque<u64>,
}

impl Shown {
    /// Prints what has happened since the last call.
    fn print_new(&mut self, app: &App, args: &AgentLog, log: AuditLogResponse) -> Result<(), Error> {
        if log.dropped < self.dropped || log.entries.len() < self.counts.len() {
            // The agent has been started again, with an empty log.
            self.counts.clear();
            self.dropped = 0;
        }
        let gone = log.dropped.saturating_sub(self.dropped);
        self.counts.drain(..usize::try_from(gone).unwrap_or(usize::MAX).min(self.counts.len()));
        self.dropped = log.dropped;
        for (index, entry) in log.entries.into_iter().enumerate() {
            if index == self.counts.len() {
                self.counts.push_back(0);
            }
            let Some(shown) = self.counts.get_mut(index) else { continue };
            let count = entry.count.saturating_sub(std::mem::replace(shown, entry.count));
            if count > 0 && is_shown(app, &entry) {
                print(app, args, &AuditLogEntry { count, ..entry })?;
            }
        }
        Ok(())
    }
}

fn print(app: &App, args: &AgentLog, entry: &AuditLogEntry) -> Result<(), Error> {
    if app.common.json {
        return output::json(entry);
    }
    let at = if args.utc { entry.last_at.to_string() } else { entry.last_at.to_local() };
    let denied = match entry.error {
        None => "",
        Some(_) if entry.action == "refused" => "",
        Some(ErrorCode::AgentLocked | ErrorCode::CallerNotPermitted | ErrorCode::AnotherHome) => "denied ",
        Some(_) => "failed ",
    };
    let error = entry.error.map(|code| format!(" ({})", code.as_str())).unwrap_or_default();
    let rule = entry.rule.map(|rule| format!(" by {rule}")).unwrap_or_default();
    let last = entry.request.as_deref().map(|request| format!(": {}", sanitize_line(request))).unwrap_or_default();
    let times = if entry.count > 1 { format!(", {} times", entry.count) } else { String::new() };
    let profile = entry.profile.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let by = entry.executable.as_deref().unwrap_or("unknown program");
    let from = entry.parent.as_deref().map(|exe| format!(", started by {exe}")).unwrap_or_default();
    let (action, pid, uid) = (&entry.action, entry.pid, entry.uid);
    output::line(&format!(
        "{at}  {denied}{action}{profile}{rule}{error}{last}{times}  {by} (process {pid}, user {uid}){from}"
    ))
}

/// Returns whether the reader of stdout has closed it, as `head` does.
fn is_stdout_closed() -> bool {
    let stdout = io::stdout();
    let mut descriptors = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut descriptors, Some(&now)), Ok(1)) && descriptors[0].revents().contains(PollFlags::ERR)
}
