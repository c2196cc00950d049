//! `authctl exec`: verifies the session as `verify` does, then becomes the command, with the token in its environment.

mod child;
mod file;
mod inside;
mod proxy;
mod sandbox;
mod verified;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::token::require_bearer;
use super::verify::{DeniedToken, is_expired, report_denied};
use crate::agent::protocol::ReceivedToken;
use crate::app::App;
use crate::cli::Exec;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{DecidingToken, InvalidProfileName, Profile, ProfileName, Session};
use crate::paths::{AGENT_SOCKET_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, program_exists, without_tokens};
use crate::secret::{Secret, SecretBytes, limit_core_dumps};
use crate::session::SessionError;
use crate::session::refresh_policy::Validity;
use crate::text::shell_line;
use crate::verify::ReceivedVerdict;
use verified::{TokenCheck, verified};

/// What to run, and with whose token.
struct Run {
    profile: Option<ProfileName>,
    command: Vec<OsString>,
    /// What to try if there is no such profile: the first word may have been meant as the command.
    without_profile: Option<Hint>,
}

impl Run {
    /// Separates the profile from the command. Without `--`, the first word is the profile, unless `--profile` names it.
    fn of(app: &App, args: &Exec) -> Result<Self, Error> {
        let words: Vec<OsString> = args.first.iter().chain(&args.words).cloned().collect();
        // Without `--`, a command cannot begin like an option, which was probably mistyped.
        let begin = if app.common.profile.is_some() { args.first.as_ref() } else { args.words.first() };
        if let Some(option) = begin.filter(|word| args.command.is_empty() && word.as_encoded_bytes().starts_with(b"-"))
        {
            let message = format!("unknown option `{}`", option.to_string_lossy());
            return Err(Error::msg(ErrorCode::Usage, message, Hint::command("exec").with_flag("--help")));
        }
        if args.command.is_empty() && app.common.profile.is_some() {
            return Ok(Self { profile: None, command: words, without_profile: None });
        }
        let line = shell_line(words.iter().map(|word| word.to_string_lossy()));
        let is_program = |word: &OsString| {
            let mut directories = std::env::split_paths(&app.environment.surroundings.search_path);
            Path::new(word).components().count() > 1 || directories.any(|directory| directory.join(word).is_file())
        };
        let meant_as_command = args.command.is_empty() && words.first().is_some_and(is_program);
        let without_profile = meant_as_command.then(|| Hint::shell(format!("authctl exec -- {line}")));
        let name = |text: &OsString| {
            let hint = without_profile.clone().unwrap_or_else(|| Hint::command("profile list"));
            text.to_string_lossy().parse().map_err(|e: InvalidProfileName| Error::new(ErrorCode::Usage, e, hint))
        };
        let profile = args.first.as_ref().map(name).transpose()?;
        Ok(Self { profile, command: [&args.words[..], &args.command].concat(), without_profile })
    }
}

/// Runs the command; returns only if it cannot be started.
pub fn run(app: &App, args: Exec) -> Result<u8, Error> {
    if let Some(slot) = args.hook {
        return super::hook::run(slot, &args.command);
    }
    let run = Run::of(app, &args)?;
    let Some((program, rest)) = run.command.split_first() else {
        let is_profile = |name: &ProfileName| app.config().is_ok_and(|config| config.profiles.contains_key(name));
        let help = Hint::command("exec").with_flag("--help");
        let hint = run.without_profile.filter(|_| run.profile.as_ref().is_some_and(|name| !is_profile(name)));
        return Err(Error::msg(ErrorCode::Usage, "no command was given", hint.unwrap_or(help)));
    };
    if let Some(socket) = &args.inside {
        let mut command = Command::new(program);
        command.args(rest);
        return inside::run(app, socket, command, cannot_run);
    }
    if args.proxy {
        return proxy::run(app, &args, run.profile.as_ref(), &run.command, cannot_run);
    }
    let token = token(app, &run).map_err(|error| match (error.code, &run.without_profile) {
        (ErrorCode::UnknownProfile, Some(hint)) => Error { hint: hint.clone(), ..error },
        _ => error,
    })?;
    let (token, validity) = match token {
        Ok(token) => token,
        Err(denied) => return Ok(denied),
    };
    let env = match args.env.as_slice() {
        [] => None,
        [(name, None)] => Some(name.as_str()),
        _ => {
            let message = "without --proxy, --env is given once, as the name of a variable";
            return Err(Error::msg(ErrorCode::Usage, message, Hint::command("exec").with_flag("--help")));
        }
    };
    let mut command = Command::new(program);
    command.args(rest);
    without_tokens(&mut command);
    command.env(AGENT_SOCKET_VARIABLE, app.agent_socket()?);
    if let Some(path) = &args.file {
        let path = std::path::absolute(path)
            .map_err(|e| Error::new(ErrorCode::Usage, e, Hint::command("exec").with_flag("--help")))?;
        command.env(env.unwrap_or(TOKEN_FILE_VARIABLE), &path);
        let profile = validity.is_some().then(|| app.profile(run.profile.as_ref())).transpose()?;
        let source = profile.as_ref().zip(validity);
        return file::run(app, source, &path, token, command, cannot_run);
    }
    command.env(env.unwrap_or(TOKEN_VARIABLE), token.expose());
    drop(token);
    limit_core_dumps(false);
    let error = command.exec();
    Err(cannot_run(&command, error))
}

/// Returns the error of a command that cannot be started, with the exit codes of a shell.
fn cannot_run(command: &Command, error: io::Error) -> Error {
    let program = Path::new(command.get_program());
    let (code, reason) = match error.kind() {
        io::ErrorKind::NotFound if program_exists(program) => {
            (ErrorCode::CommandNotExecutable, anyhow::anyhow!("its interpreter does not exist"))
        }
        io::ErrorKind::NotFound if is_searched(program) => {
            (ErrorCode::CommandNotFound, anyhow::anyhow!("not found in PATH"))
        }
        io::ErrorKind::NotFound => (ErrorCode::CommandNotFound, error.into()),
        _ => (ErrorCode::CommandNotExecutable, error.into()),
    };
    let context = format!("cannot run `{}`", program.display());
    Error::new(code, reason.context(context), search_hint(program))
}

/// Suggests to look at a program that cannot be run, or at where it was looked for.
fn search_hint(program: &Path) -> Hint {
    if is_searched(program) { Hint::shell("echo \"$PATH\"") } else { Hint::list(program) }
}

/// Returns whether a program is looked for in the directories of PATH.
fn is_searched(program: &Path) -> bool {
    program.parent() == Some(Path::new(""))
}

/// Returns the token for the command, and how long it is valid if it is a profile's, or the exit code if it is denied.
fn token(app: &App, run: &Run) -> Result<Result<(Secret, Option<Validity>), u8>, Error> {
    let name = run.profile.as_ref();
    Ok(Ok(match app.supplied_token(name)? {
        Some(token) => (token, None),
        None => {
            let verified = match through_agent(app, name)? {
                Some(verified) => verified,
                None => without_agent(app, name)?,
            };
            match verified {
                TokenCheck::Granted(token, validity) => (token, Some(validity)),
                TokenCheck::Denied(reasons, Some(error)) if is_expired(&reasons) => return Err(error),
                TokenCheck::Denied(reasons, _) => {
                    let profile = app.profile(name).ok();
                    let session = profile.as_ref().and_then(|profile| stored_session(app, profile));
                    let denied = match (&profile, &session) {
                        (Some(profile), Some(session)) => DeniedToken::of(profile, session),
                        (profile, _) => {
                            DeniedToken { profile: profile.as_ref(), is_own: true, ..DeniedToken::default() }
                        }
                    };
                    let denied = DeniedToken { can_refresh: true, ..denied };
                    return report_denied(app, &reasons, denied).map(Err);
                }
            }
        }
    }))
}

/// Returns the profile's session, if this process can read it.
fn stored_session(app: &App, profile: &Profile) -> Option<Session> {
    app.sessions().ok()?.session_blocking(profile).ok()
}

/// Returns the agent's token, verified by the agent.
fn through_agent(app: &App, named: Option<&ProfileName>) -> Result<Option<TokenCheck>, Error> {
    let name = app.profile_name(named)?.map(|name| format!("/{name}")).unwrap_or_default();
    let mut login_required = None;
    if app.profile(named).is_ok_and(|profile| profile.requirements.token == DecidingToken::IdToken) {
        // Refreshes an expired ID token. Another error is reported by the next request.
        let refreshed: Result<Option<ReceivedToken>, Error> =
            app.try_agent("GET", &format!("/v1/id-token{name}"), None);
        login_required = refreshed.err().filter(|error| error.code == ErrorCode::LoginRequired);
    }
    let reply: Option<ReceivedToken> = app.try_agent("GET", &format!("/v1/token{name}"), None)?;
    let Some(ReceivedToken {
        access_token: Some(token), profile: Some(profile), warning, token_type, expires_at, ..
    }) = reply
    else {
        return Ok(None);
    };
    require_bearer(app, Some(&profile), &token_type)?;
    // Neither the name of a profile nor a valid token needs escaping in JSON.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if !token.expose().bytes().all(is_plain) {
        return Ok(None);
    }
    let mut body = SecretBytes::with_capacity(token.expose().len() + 128);
    body.extend(format!(r#"{{"profile":"{profile}","token":""#).as_bytes());
    body.extend(token.expose().as_bytes());
    body.extend(br#""}"#);
    let verdict: Option<ReceivedVerdict> = app.try_agent("POST", "/v1/verify", Some(&body))?;
    if let (Some(_), Some(warning)) = (&verdict, warning) {
        super::token::report_warning(app, &profile, &warning);
    }
    Ok(verdict.map(|verdict| match verdict.valid {
        true => TokenCheck::Granted(token, Validity { obtained_at: app.clock().now(), expires_at }),
        false => TokenCheck::Denied(verdict.reasons, login_required),
    }))
}

/// Returns the token from the store, refreshed first if necessary, and verified here.
fn without_agent(app: &App, named: Option<&ProfileName>) -> Result<TokenCheck, Error> {
    let profile = app.profile(named)?;
    let (token, warning) = app.run(verified(app, &profile))?;
    if let Some(SessionError::LoginRequired(reason)) = &warning {
        super::token::report_warning(app, &profile.name, &reason.to_string());
    }
    Ok(token)
}
