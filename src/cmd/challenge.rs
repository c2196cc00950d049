//! What an API asks for, as a caller passes it on, and the error that only a login answers it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Grant, Profile, format_duration};
use crate::oauth::ApiChallenge;
use crate::session::StepUp;

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

/// Returns whether the login that fulfils the requirements needs an option for that, because the profile's own grant cannot:
/// only an authorization request has an authentication context, and a password proves no time of a sign-in.
pub(super) fn needs_browser(profile: &Profile, step_up: &StepUp) -> bool {
    step_up.acr_values.is_some() && profile.grant != Grant::Browser
        || step_up.max_age.is_some() && profile.grant == Grant::Password
}

/// Returns the API that the login is for; `None` for a profile that is for any, which must not become one for this API alone
/// because the API wants another sign-in.
pub(super) fn api_to_log_in<'a>(profile: &Profile, api: &'a ApiUrl, step_up: &StepUp) -> Option<&'a ApiUrl> {
    (!profile.is_for_any_api() || *step_up == StepUp::default()).then_some(api)
}

/// Returns the error that a login with these requirements is needed, with its command.
pub(super) fn login_required(profile: &Profile, api: &ApiUrl, step_up: &StepUp) -> Error {
    let mut hint = Hint::login().without_typed_options().about(&profile.name);
    if let Some(api) = api_to_log_in(profile, api, step_up) {
        hint = hint.with_option("--for", api.to_string());
    }
    if needs_browser(profile, step_up) {
        hint = hint.with_flag("--browser");
    }
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
