//! `authctl token --challenge`: does what helps when an API has refused a token.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::app::App;
use crate::cli::Login;
use crate::cmd::login::log_in_again;
use crate::cmd::refresh::refresh_one;
use crate::config::setting;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Profile, format_duration};
use crate::oauth::ApiChallenge;
use crate::secret::Secret;
use crate::session::{Demand, Remedy, SessionError, StepUp, remedy};

/// The most that is read, in bytes.
const MAX_INPUT: u64 = 64 * 1024;

/// Reads a challenge from a file, or from stdin for `-`: the values of `WWW-Authenticate`, one a line, or the head of a response.
///
/// # Errors
/// [`ErrorCode::Usage`] if it has no challenge for a bearer or DPoP token.
pub(super) fn read(file: &Path) -> Result<ApiChallenge, Error> {
    let is_stdin = file == Path::new("-");
    let mut text = Vec::new();
    let read = match is_stdin {
        true => io::stdin().lock().take(MAX_INPUT).read_to_end(&mut text),
        false => File::open(file).and_then(|file| file.take(MAX_INPUT).read_to_end(&mut text)),
    };
    let hint = || Hint::command("token").with_flag("--help");
    let name = if is_stdin { "stdin".to_owned() } else { file.display().to_string() };
    read.map_err(|error| Error::new(ErrorCode::Usage, anyhow::Error::new(error).context(name.clone()), hint()))?;
    let text = String::from_utf8_lossy(&text);
    ApiChallenge::parse(values(&text)).ok_or_else(|| {
        Error::msg(ErrorCode::Usage, format!("{name} has no challenge for a bearer or DPoP token"), hint())
    })
}

/// Returns the values of `WWW-Authenticate` in a text: those of its header fields if it has any, else its lines.
fn values(text: &str) -> Vec<&str> {
    let field = |line: &'_ str| {
        let (name, value) = line.split_once(':')?;
        // curl marks the lines of a response with `<`.
        let name = name.trim_start_matches('<').trim();
        name.eq_ignore_ascii_case("www-authenticate").then(|| line.len() - value.len())
    };
    let fields: Vec<&str> = text.lines().filter_map(|line| Some(&line[field(line)?..])).collect();
    if fields.is_empty() { text.lines().collect() } else { fields }
}

/// Does what helps against `challenge`, with which the API refused the token `refused`, if that is known: refreshes, or logs in
/// where a user can. Nothing is done twice.
///
/// # Errors
/// [`ErrorCode::LoginRequired`] with the command to log in; [`ErrorCode::TokenDenied`] if nothing helps.
pub fn answer(
    app: &App,
    profile: &Profile,
    api: &ApiUrl,
    challenge: &ApiChallenge,
    refused: Option<&Secret>,
) -> Result<(), Error> {
    let session = match app.sessions()?.session_blocking(profile) {
        Ok(session) => Some(session),
        Err(SessionError::LoginRequired(_)) => None,
        Err(error) => return Err(Error::from(error).about(&profile.name)),
    };
    match remedy(profile, session.as_ref(), challenge, refused, app.clock().now()) {
        Remedy::StoredToken => Ok(()),
        Remedy::Nothing(reason) => {
            let hint = Hint::advice("ask the operator of the API for access, or log in with another account");
            Err(Error::msg(ErrorCode::TokenDenied, reason, hint))
        }
        Remedy::Login(step_up) => log_in(app, profile, api, challenge, step_up),
        Remedy::Refresh => match refresh_one(app, profile, Demand::New) {
            Ok(_) => Ok(()),
            Err(error) if error.code == ErrorCode::LoginRequired => {
                log_in(app, profile, api, challenge, StepUp::default())
            }
            Err(error) => Err(error),
        },
    }
}

/// Logs in once with these requirements, if there is a user.
fn log_in(app: &App, profile: &Profile, api: &ApiUrl, challenge: &ApiChallenge, step_up: StepUp) -> Result<(), Error> {
    let required = login_required(profile, api, &step_up);
    if !app.ui().is_interactive() {
        return Err(required);
    }
    app.ui().instruct(&required.message());
    let mut args = Login {
        profile: Some(profile.name.clone()),
        api: Some(api.clone()),
        challenge: Some(challenge.clone()),
        // Only an authorization request has the parameter.
        browser: step_up.acr_values.is_some(),
        acr_values: step_up.acr_values,
        max_age: step_up.max_age,
        ..Login::default()
    };
    if !step_up.scopes.is_empty() {
        args.settings.set(setting("scopes")?, step_up.scopes);
    }
    log_in_again(app, args)
}

/// Returns the error that a login with these requirements is needed, with its command.
fn login_required(profile: &Profile, api: &ApiUrl, step_up: &StepUp) -> Error {
    let mut hint = Hint::command("login").with_option("--for", api.to_string());
    for scope in &step_up.scopes {
        hint = hint.with_option("--scope", scope);
    }
    if let Some(values) = &step_up.acr_values {
        hint = hint.with_option("--acr-values", values);
    }
    if let Some(age) = step_up.max_age {
        hint = hint.with_option("--max-age", format_duration(age));
    }
    Error::msg(ErrorCode::LoginRequired, format!("{api} requires another login of `{}`", profile.name), hint)
}
