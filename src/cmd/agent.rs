//! `authctl agent`: runs, starts, stops, locks and shows the background process that serves tokens.

mod install;
mod log;
mod run;
mod start;

use serde::Serialize;

use super::output::{self, ago, count, span};
use crate::agent::protocol::{AgentStatus, LockRequest, UnlockRequest, UnsavedStatus};
use crate::app::App;
use crate::cli::{AgentCommand, AgentLock};
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ProfileName;
use crate::secret::{Secret, SecretBytes};
use crate::status::SessionState;

/// Runs the command.
pub fn run(app: &App, command: AgentCommand) -> Result<u8, Error> {
    match command {
        AgentCommand::Run(args) => run::run(app, &args),
        AgentCommand::Start(args) => start::start(app, &args),
        AgentCommand::Stop => start::stop(app),
        AgentCommand::Status => status(app),
        AgentCommand::Lock(args) => lock(app, &args),
        AgentCommand::Unlock(args) => unlock(app, args.passphrase_stdin),
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
        for line in status_lines(&state, app.clock().now()) {
            output::line(&line)?;
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

/// Returns what is wrong with the agent, a line each.
pub(super) fn problems(state: &AgentStatus) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(other) = state.version.as_deref().filter(|version| *version != env!("CARGO_PKG_VERSION")) {
        problems.push(format!("it has version {other}; restart it to use {}", env!("CARGO_PKG_VERSION")));
    }
    if let Some(error) = &state.config_error {
        problems.push(format!("using the last valid configuration: {error}"));
    }
    for UnsavedStatus { profile, error, .. } in &state.unsaved {
        problems.push(format!("the refreshed session of {profile} is only in memory: {error}"));
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
        ];
        for (label, names) in listed.into_iter().filter(|(_, names)| !names.is_empty()) {
            let shown: Vec<&str> = names.iter().take(MAX_NAMES).map(ProfileName::as_str).collect();
            let more = if names.len() > MAX_NAMES { ", ..." } else { "" };
            lines.push(format!("{} {label}: {}{more}", names.len(), shown.join(", ")));
        }
    }
    lines.extend(problems(state));
    lines
}

/// The number of profiles that a line names.
const MAX_NAMES: usize = 10;

fn lock(app: &App, args: &AgentLock) -> Result<u8, Error> {
    let passphrase = passphrase(app, args.passphrase_stdin, true)?;
    let after = args.after.map(|after| after.as_secs());
    let reply = app.require_agent("POST", "/v1/lock", Some(&body(&LockRequest { passphrase, after })?))?;
    let state: AgentStatus = reply.read()??;
    let message = match (state.locked, state.locks_after) {
        (true, _) => "agent locked; unlock it with `authctl agent unlock`".to_owned(),
        (false, Some(after)) => {
            format!("the agent will lock after {} without use", span(std::time::Duration::from_secs(after)))
        }
        (false, None) => "the agent no longer locks itself".to_owned(),
    };
    output::done(app, &message, &state)
}

fn unlock(app: &App, from_stdin: bool) -> Result<u8, Error> {
    let state = app.agent_status()?;
    if state.running && !state.locked {
        return output::done(app, "the agent is not locked", &state);
    }
    let passphrase = passphrase(app, from_stdin, false)?;
    let reply = app.require_agent("POST", "/v1/unlock", Some(&body(&UnlockRequest { passphrase })?))?;
    output::done(app, "agent unlocked", &reply.read::<AgentStatus>()??)
}

/// Reads the passphrase from the terminal or stdin, if there is an agent to send it to. A new one is asked for twice.
fn passphrase(app: &App, from_stdin: bool, new: bool) -> Result<Secret, Error> {
    if app.agent()?.is_none() {
        return Err(app.agent_absent()?);
    }
    let hint = || Hint::command(if new { "agent lock" } else { "agent unlock" }).with_typed_options();
    if from_stdin {
        return super::login::secret_line("passphrase", hint());
    }
    let missing = || {
        let message = match app.ui().is_interactive() {
            true => "no passphrase was entered",
            false => "a passphrase is required, and there is no terminal",
        };
        Error::msg(ErrorCode::AgentUnavailable, message, hint())
    };
    let ask = |prompt: &str| app.run(async { Ok(app.ask_secret(prompt).await) });
    let first = ask("Passphrase: ")?.filter(|typed| !typed.is_empty()).ok_or_else(missing)?;
    if new {
        let second = ask("Repeat passphrase: ")?.ok_or_else(missing)?;
        if second.expose() != first.expose() {
            let message = "the passphrases differ; the agent is not locked";
            return Err(Error::msg(ErrorCode::Usage, message, hint()));
        }
    }
    Ok(first)
}

/// Returns the body of a request with a passphrase, in memory that is wiped.
fn body(request: &impl Serialize) -> Result<SecretBytes, Error> {
    let mut bytes = SecretBytes::default();
    serde_json::to_writer(&mut bytes, request).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))?;
    Ok(bytes)
}
