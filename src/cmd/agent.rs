//! `authctl agent`: runs, starts, stops, locks and shows the background process that serves tokens.

mod install;
mod lock;
mod log;
mod run;
mod start;

use super::output::{self, ago, count, span};
use crate::agent::protocol::{AgentStatus, Confinement, HookStatus, UnsavedStatus};
use crate::app::App;
use crate::cli::AgentCommand;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ProfileName;
use crate::status::{SessionState, UNVERIFIED};
use crate::text::sanitize_line;
pub(super) use lock::share_passphrase;

/// Runs the command.
pub fn run(app: &App, command: AgentCommand) -> Result<u8, Error> {
    match command {
        AgentCommand::Run(args) => run::run(app, &args),
        AgentCommand::Start(args) => start::start(app, &args),
        AgentCommand::Stop => start::stop(app),
        AgentCommand::Status => status(app),
        AgentCommand::Lock(args) => lock::lock(app, &args),
        AgentCommand::Unlock(args) => lock::unlock(app, &args),
        AgentCommand::Log(args) => log::log(app, &args),
        AgentCommand::Install(args) => install::install(app, &args),
        AgentCommand::Uninstall => install::uninstall(app),
    }
}

fn status(app: &App) -> Result<u8, Error> {
    let state = app.agent_status()?;
    if app.common.json {
        output::json(&state)?;
    } else {
        let state_lines = status_lines(&state, app.clock().now()).into_iter().map(Need::Text);
        for need in state_lines.chain(problems(app, &state)) {
            need.lines("", 2).iter().try_for_each(|line| output::data(line))?;
        }
    }
    Ok(if state.running && !state.locked { 0 } else { ErrorCode::AgentUnavailable.exit_code() })
}

/// Returns whether the agent runs, in one line.
pub(super) fn status_line(state: &AgentStatus) -> String {
    let word = match (state.running, state.locked) {
        (false, _) => return "agent not running".to_owned(),
        (true, false) => "running",
        (true, true) => "locked",
    };
    let pid = state.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    format!("agent {word}{pid}")
}

/// What the user should know or do about a profile or the agent.
#[derive(PartialEq, Eq)]
pub(super) enum Need {
    /// A command to run.
    Command(String),
    /// What is wrong.
    Text(String),
}

impl Need {
    /// Returns the lines that begin with `label`. A command stays whole, so that it can be copied.
    pub(super) fn lines(&self, label: &str, indent: usize) -> Vec<String> {
        match self {
            Self::Command(command) => vec![sanitize_line(&format!("{label}run {command}")).into_owned()],
            Self::Text(text) => output::wrapped(&format!("{label}{text}"), indent),
        }
    }
}

/// Returns what is wrong with the agent.
pub(super) fn problems(app: &App, state: &AgentStatus) -> Vec<Need> {
    let mut problems = Vec::new();
    if state.locked {
        problems.push(Need::Command(app.next_command(Hint::command("agent unlock"))));
    }
    if let Some(other) = state.version.as_deref().filter(|version| *version != env!("CARGO_PKG_VERSION")) {
        problems.push(Need::Text(format!("it has version {other}; restart it to use {}", env!("CARGO_PKG_VERSION"))));
    }
    if let Some(error) = &state.config_error {
        problems.push(Need::Text(format!("using the last valid configuration: {error}")));
    }
    for UnsavedStatus { profile, error, .. } in &state.unsaved {
        problems.push(Need::Text(format!("the refreshed session of {profile} is only in memory: {error}")));
    }
    for HookStatus { profile, hook, error, .. } in &state.failed_hooks {
        problems.push(Need::Text(format!("`{hook}` of {profile}: {error}")));
    }
    problems
}

/// Returns the agent's status.
fn status_lines(state: &AgentStatus, now: UnixTime) -> Vec<String> {
    let mut first = status_line(state);
    if let Some(at) = state.started_at {
        first.push_str(&format!(", started {}", ago(at, now)));
    }
    if let Some(after) = state.locks_after {
        first.push_str(&format!(", locks after {} without use", span(std::time::Duration::from_secs(after))));
    }
    let mut lines = vec![first];
    if state.running && !state.locked {
        lines.push(format!("{} cached", count(state.sessions, "session")));
        let listed = [
            ("refreshing", &state.refreshing),
            (SessionState::RefreshFailing.label(), &state.failing),
            (SessionState::LoginRequired.label(), &state.login_required),
            (UNVERIFIED, &state.unverified),
        ];
        for (label, names) in listed.into_iter().filter(|(_, names)| !names.is_empty()) {
            let shown: Vec<&str> = names.iter().take(MAX_NAMES).map(ProfileName::as_str).collect();
            let more = if names.len() > MAX_NAMES { ", ..." } else { "" };
            lines.push(format!("{} {label}: {}{more}", names.len(), shown.join(", ")));
        }
    }
    if let Some(Confinement { refused, allowed }) = &state.confinement {
        let named = [("confined: no other", refused), ("not confined on this system:", allowed)];
        let shown = named.into_iter().filter(|(_, words)| !words.is_empty());
        lines.extend(shown.map(|(label, words)| format!("{label} {}", words.join(", "))));
    }
    lines
}

/// The number of profiles that a line names.
const MAX_NAMES: usize = 10;
