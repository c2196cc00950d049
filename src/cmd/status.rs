//! `authctl status`: shows the profiles, their sessions and the agent, without network access.

mod long;
mod watch;
mod words;

use std::io::{self, IsTerminal as _};

use super::agent::{Need, problems, status_line};
use super::output::{self, Style, wrapped};
use crate::app::{App, StoreAccess};
use crate::cli::Status;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{Profile, StoreKind};
use crate::session::SessionError;
use crate::status::{
    AgentProfiles, EffectiveProfile, ProfileStatus, SessionState, StatusReport, UNVERIFIED, profile_status,
    profile_statuses,
};
use crate::text::{excerpt, sanitize_line};
use watch::watch;
use words::{MAX_REASON, expiry, failure, login_command, look, token_file};

/// Runs the command.
pub fn run(app: &App, args: &Status) -> Result<u8, Error> {
    app.use_stores(StoreAccess::NoPrompt);
    if args.short {
        return short(app, args);
    }
    if args.check {
        return check(app, args);
    }
    if args.watch {
        // Ctrl-C is how it ends. The shell's prompt begins on a line of its own.
        return app
            .run(watch(app, || {
                let config = app.config()?;
                let (report, problem) = report(app, args, &config)?;
                Ok(screen(app, args, &config, &report, problem.as_ref()))
            }))
            .or_else(|error| match error.code {
                ErrorCode::Interrupted if io::stdout().is_terminal() => {
                    output::line("").map(|()| error.code.exit_code())
                }
                ErrorCode::Interrupted => Ok(error.code.exit_code()),
                _ => Err(error),
            });
    }
    let config = app.config()?;
    let (mut report, problem) = report(app, args, &config)?;
    let is_named = app.typed_profile(args.profile.as_ref())?.is_some();
    if app.common.json {
        // It is about all profiles.
        report.effective_profile = report.effective_profile.filter(|_| args.profile.is_none());
        report.profiles.iter_mut().filter(|_| report.agent.running && !report.agent.locked).for_each(plan_attempt);
        output::json(&report)?;
    } else {
        for line in screen(app, args, &config, &report, problem.as_ref()) {
            output::data(&line)?;
        }
    }
    // The status was shown, but a script must notice what cannot be read.
    let store_error = report.profiles.iter().find_map(|profile| profile.store_error);
    let invalid = if is_named { 0 } else { app.report_invalid_profiles(&config) };
    match (store_error, problem) {
        (Some(code), _) => Ok(code.exit_code()),
        (None, Some(SetupProblem::Directory(error))) => Err(error),
        (None, Some(SetupProblem::Unknown(error))) if app.common.json => Err(error),
        (None, Some(SetupProblem::Unknown(error))) => Ok(error.code.exit_code()),
        (None, _) => Ok(invalid),
    }
}

/// What is wrong besides the sessions.
enum SetupProblem {
    /// The directory's file, or `AUTHCTL_PROFILE`, is invalid.
    Directory(Error),
    /// The profile that is used if none is named does not exist.
    Unknown(Error),
    /// The agent belongs to another home.
    Agent(String),
}

/// Returns what is shown, and what is wrong besides the sessions.
fn report(app: &App, args: &Status, config: &Config) -> Result<(StatusReport, Option<SetupProblem>), Error> {
    let named = app.typed_profile(args.profile.as_ref())?;
    let mut profiles = profile_statuses(&*app.sessions()?, config, named)?;
    ask_agent(app, &mut profiles);
    for problem in profiles.iter_mut().filter_map(|status| status.problem.as_mut()) {
        problem.set_hint(&app.with_typed_options(problem.hint()));
    }
    let mut problem = None;
    let agent = match app.agent_status() {
        Err(error) if error.code == ErrorCode::AnotherHome => {
            let hint = app.next_command(error.hint.clone());
            problem = Some(SetupProblem::Agent(format!("agent not used: {}; run `{hint}`", error.message())));
            app.absent_agent_status()?
        }
        state => state?,
    };
    let effective = match app.effective_profile(config) {
        Ok(effective) => effective.map(|(profile, source)| EffectiveProfile { profile, source }),
        // What the named profile replaces does not matter.
        Err(_) if named.is_some() => None,
        Err(error) => {
            problem = Some(SetupProblem::Directory(error));
            None
        }
    };
    if let Some(EffectiveProfile { profile, source }) = effective.as_ref().filter(|_| named.is_none())
        && let Err(error) = config.profile(profile)
    {
        let error = Error::from(error);
        problem = Some(SetupProblem::Unknown(Error { error: error.error.context(source.clone()), ..error }));
    }
    let token_from_environment = app.environment.token.is_some();
    Ok((StatusReport { token_from_environment, agent, profiles, effective_profile: effective }, problem))
}

/// Has the last failure name the next attempt of the agent.
fn plan_attempt(status: &mut ProfileStatus) {
    let at = status.next_attempt();
    status.last_failure.iter_mut().for_each(|failure| failure.retry_at = at);
}

/// Replaces the status of the profiles whose sessions only the agent can read.
pub(super) fn ask_agent(app: &App, profiles: &mut [ProfileStatus]) {
    if !profiles.iter().any(ProfileStatus::is_for_agent) {
        return;
    }
    let Some(state) = app.agent_status().ok().filter(|state| state.running) else { return };
    if state.locked {
        let locked = profiles.iter_mut().filter(|status| status.is_for_agent());
        for problem in locked.filter_map(|status| status.problem.as_mut()) {
            problem.set_hint(&Hint::command("agent unlock"));
        }
        return;
    }
    let reply = app.require_agent("GET", "/v1/status", None).ok().and_then(|reply| reply.read::<AgentProfiles>().ok());
    for of_agent in reply.and_then(Result::ok).into_iter().flat_map(|answer| answer.profiles) {
        let is_same = |status: &&mut ProfileStatus| status.is_for_agent() && status.profile == of_agent.profile;
        if let Some(status) = profiles.iter_mut().find(is_same) {
            status.replace_with(of_agent);
        }
    }
}

/// Returns the lines of the screen.
fn screen(
    app: &App,
    args: &Status,
    config: &Config,
    report: &StatusReport,
    problem: Option<&SetupProblem>,
) -> Vec<String> {
    let now = app.clock().now();
    let is_long = args.long || args.profile.is_some() || app.common.profile.is_some();
    let mut lines = Vec::new();
    if report.profiles.is_empty() {
        lines.push(match config.errors().next() {
            Some(_) => "no valid profile".to_owned(),
            None => format!("no profiles; run `{}`", app.next_command(Hint::command("login"))),
        });
    } else if is_long {
        for status in &report.profiles {
            lines.extend(long::lines(app, status, report, now));
            lines.push(String::new());
        }
    } else {
        lines.extend(table(app, report, now));
    }
    let mut needs = if is_long { Vec::new() } else { profile_needs(app, report, now) };
    // The details of a profile, or its line, may have shown the same command.
    let hints = report.profiles.iter().filter_map(|status| status.problem.as_ref()).map(|problem| &problem.hint);
    let hints: Vec<Need> = hints.filter(|_| is_long).map(|hint| Need::Command(hint.clone())).collect();
    let of_agent = problems(app, &report.agent).into_iter();
    let of_agent: Vec<Need> = of_agent.filter(|need| !hints.contains(need) && !has(&needs, need)).collect();
    needs.extend(of_agent.into_iter().map(|need| ("agent".to_owned(), need)));
    if let Some(SetupProblem::Unknown(error)) = problem {
        needs.push(("profile".to_owned(), Need::Text(error.message())));
    }
    if !needs.is_empty() && !is_long {
        lines.push(String::new());
    }
    let width = needs.iter().map(|(subject, _)| subject.len()).max().unwrap_or(0) + 1;
    for (subject, need) in needs {
        let label = if subject.is_empty() { String::new() } else { format!("{subject}:") };
        lines.extend(need.lines(&format!("{label:<width$} "), width + 1));
    }
    if report.token_from_environment {
        let text = "AUTHCTL_TOKEN is set: `authctl token` and `authctl exec` use that token if no profile is named";
        lines.extend(wrapped(text, 0));
    }
    let agent = match problem {
        Some(SetupProblem::Agent(text)) => text.clone(),
        _ => status_line(&report.agent),
    };
    lines.extend(wrapped(&agent, 0));
    lines
}

fn table(app: &App, report: &StatusReport, now: UnixTime) -> Vec<String> {
    let effective = report.effective_profile.as_ref().map(|effective| &effective.profile);
    let is_shared = |status: &ProfileStatus| {
        let sub = |status: &ProfileStatus| status.subject.as_ref().map(|subject| subject.sub.clone());
        let others = |other: &&ProfileStatus| other.issuer == status.issuer && other.account() == status.account();
        report.profiles.iter().filter(others).any(|other| sub(other) != sub(status))
    };
    let rows = |notes: bool, accounts: bool| -> Vec<Vec<(Style, String)>> {
        let mut rows =
            vec![["  PROFILE", "STATE", "ACCOUNT", "EXPIRES"].map(|text| (Style::Bold, text.to_owned())).to_vec()];
        for status in &report.profiles {
            let (style, mark) = look(status.state);
            let mark = if effective == Some(&status.profile) { '*' } else { mark };
            let account = match (status.account(), &status.subject) {
                (None, _) => "-".to_owned(),
                // Two accounts of one name.
                (Some(account), Some(subject)) if is_shared(status) => {
                    excerpt(&format!("{account} ({})", subject.sub), 80)
                }
                (Some(account), _) => excerpt(account, 80),
            };
            let (expiry, note) = expiry(status, now);
            let expiry = if notes && !note.is_empty() { format!("{expiry}, {note}") } else { expiry };
            rows.push(vec![
                (Style::Plain, format!("{mark} {}", status.profile)),
                (style, status.label().to_owned()),
                (Style::Plain, sanitize_line(&account).into_owned()),
                (Style::Plain, expiry),
            ]);
        }
        for row in rows.iter_mut().filter(|_| !accounts) {
            row.remove(2);
        }
        rows
    };
    let (width, color) = (output::width(), app.has_color(&io::stdout()));
    // The notes are left out first; then long accounts are cut, or all left out; then names are cut.
    if let Some(fitting) =
        [true, false].map(|notes| rows(notes, true)).iter().find(|rows| output::table_width(rows) <= width)
    {
        return output::table(fitting, &[], width, color);
    }
    let (accounts, others) = (rows(false, true), rows(false, false));
    match output::table_width(&others) + MIN_ACCOUNT <= width {
        true => output::table(&accounts, &[ACCOUNT], width, color),
        false => output::table(&others, &[0], width, color),
    }
}

/// The column of the accounts.
const ACCOUNT: usize = 2;

/// The least width of the accounts, with the space before them.
const MIN_ACCOUNT: usize = 10;

/// Returns what each profile needs: its name, and the reason or the next command. Profiles of a keychain that cannot be
/// used, or of a locked file store, share a line.
fn profile_needs(app: &App, report: &StatusReport, now: UnixTime) -> Vec<(String, Need)> {
    let mut needs: Vec<(String, Need)> = Vec::new();
    for status in &report.profiles {
        let name = status.profile.to_string();
        let files = status.token_files.iter().filter(|file| !file.current);
        needs.extend(files.map(|file| (name.clone(), Need::Text(format!("token file {}", token_file(file))))));
        let need = match status.state {
            SessionState::Valid | SessionState::Refreshable => continue,
            SessionState::LoginRequired => (name, Need::Command(login_command(app, status))),
            SessionState::RefreshFailing => (name, Need::Text(failure(status, &report.agent, now))),
            SessionState::Unknown => {
                let shared = match (status.store, status.store_error) {
                    (_, Some(ErrorCode::SessionDamaged)) => None,
                    (StoreKind::Keychain, _) => Some("keychain"),
                    (StoreKind::File, Some(ErrorCode::PassphraseRequired)) => Some("file store"),
                    _ => None,
                };
                if needs.iter().any(|(subject, _)| Some(subject.as_str()) == shared) {
                    continue;
                }
                let subject = shared.map_or(name, str::to_owned);
                let Some(problem) = &status.problem else { continue };
                let text = [Some(problem.message.as_str()), problem.note.as_deref()];
                let text = text.into_iter().flatten().collect::<Vec<_>>().join("; ");
                needs.push((subject, Need::Text(excerpt(&text, MAX_REASON))));
                let hint = Need::Command(problem.hint.clone());
                if problem.hint.is_empty() || has(&needs, &hint) {
                    continue;
                }
                (String::new(), hint)
            }
        };
        needs.push(need);
    }
    needs
}

/// Returns whether this is among the needs.
fn has(needs: &[(String, Need)], need: &Need) -> bool {
    needs.iter().any(|(_, known)| known == need)
}

/// Prints the profile for a shell prompt, and its state unless it is signed in. The agent is asked first; without one, a
/// session in the file store is read, and a keychain is not.
fn short(app: &App, args: &Status) -> Result<u8, Error> {
    // A prompt shows no errors.
    let profile = match app.profile(args.profile.as_ref()) {
        Ok(profile) => profile,
        Err(error) => return Ok(error.code.exit_code()),
    };
    let state = match app.quick_agent_status() {
        Some(agent) if agent.locked => Some("agent locked"),
        Some(agent) if agent.login_required.contains(&profile.name) => Some(SessionState::LoginRequired.label()),
        Some(agent) if agent.failing.contains(&profile.name) => Some(SessionState::RefreshFailing.label()),
        Some(agent) if agent.unverified.contains(&profile.name) => Some(UNVERIFIED),
        Some(_) => None,
        None if profile.store == StoreKind::Keychain => None,
        None => needs_mention(app, &profile)?,
    };
    let state = state.map(|state| format!(" ({state})")).unwrap_or_default();
    output::line(&format!("{}{state}", profile.name))?;
    Ok(0)
}

fn needs_mention(app: &App, profile: &Profile) -> Result<Option<&'static str>, Error> {
    let status = profile_status(&*app.sessions()?, profile, false);
    let is_signed_in = matches!(status.state, SessionState::Valid | SessionState::Refreshable) && !status.unverified;
    Ok((!is_signed_in).then_some(status.label()))
}

/// Returns the exit code of `--check`: whether a token is available without a login.
fn check(app: &App, args: &Status) -> Result<u8, Error> {
    if app.supplied_token(args.profile.as_ref())?.is_some() {
        if app.common.json {
            let agent = app.agent_status()?;
            output::json(&StatusReport {
                token_from_environment: true,
                agent,
                profiles: Vec::new(),
                effective_profile: None,
            })?;
        }
        return Ok(0);
    }
    let profile = app.profile(args.profile.as_ref())?;
    let mut status = [profile_status(&*app.sessions()?, &profile, false)];
    ask_agent(app, &mut status);
    let [status] = status;
    if !status.has_token() {
        let code = status.store_error.unwrap_or(ErrorCode::LoginRequired);
        return match app.common.json {
            true => Err(no_token(&status, code)),
            false => Ok(code.exit_code()),
        };
    }
    if app.common.json {
        output::json(&StatusReport {
            token_from_environment: false,
            agent: app.agent_status()?,
            profiles: vec![status],
            effective_profile: None,
        })?;
    }
    Ok(0)
}

/// Returns why `--check` fails.
fn no_token(status: &ProfileStatus, code: ErrorCode) -> Error {
    let error = match (&status.problem, &status.last_failure) {
        (Some(problem), _) => Error::msg(code, problem.message.clone(), problem.hint()),
        (None, Some(failure)) => Error { code, ..Error::from(SessionError::RecentFailure(failure.clone())) },
        (None, None) => Error::msg(code, format!("not logged in to {}", status.profile), Hint::login()),
    };
    error.about(&status.profile)
}
