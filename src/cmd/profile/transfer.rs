//! `authctl profile export` and `import`: profiles as a file for another machine or user, without secrets.

use std::io::{self, Read};
use std::path::Path;

use super::settings::{check_login_only, to_json};
use crate::app::App;
use crate::cmd::output;
use crate::config::{self, ConfigError, MAX_BYTES, SETTINGS};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::regular_file;
use crate::model::{AssertionAudience, Hooks, Profile, ProfileName, Workload};

/// Prints the named profiles, or all, as TOML.
pub(super) fn export(app: &App, mut names: Vec<ProfileName>) -> Result<u8, Error> {
    names.extend(app.common.profile.clone());
    names.sort();
    names.dedup();
    let config = app.config()?;
    let profiles: Vec<&Profile> = match names.as_slice() {
        [] => config.errors().next().map_or(Ok(config.profiles.values().collect()), Err)?,
        names => names.iter().map(|name| config.profile(name)).collect::<Result<_, ConfigError>>()?,
    };
    if profiles.is_empty() {
        return Err(ConfigError::Empty.into());
    }
    let mut text = String::from("# To add these profiles elsewhere: authctl profile import FILE\n");
    for profile in profiles {
        text.push_str(&missing(profile).map(|line| format!("# {line}\n")).collect::<String>());
        text.push_str(&config::exported(profile));
    }
    output::text(app.common.json, text.trim_end())
}

/// Returns what belongs to the profile and is not in the text, in sentences.
fn missing(profile: &Profile) -> impl Iterator<Item = String> {
    let name = &profile.name;
    let secret = profile.has_client_secret();
    let secret = secret.then(|| format!("{name}: the client secret is not included; the login asks for it."));
    let files = SETTINGS.iter().filter(|setting| setting.form() == config::ValueForm::Path);
    // authctl writes a token file itself.
    let files = files.filter(|setting| !setting.value(profile).is_empty() && !setting.key.ends_with("token_file"));
    let files = files.map(move |setting| format!("{name}: the file that `{}` names is not included.", setting.key));
    let has_hooks = profile.hooks != Hooks::default();
    let hooks = has_hooks.then(|| format!("{name}: the hooks are not included."));
    secret.into_iter().chain(files).chain(hooks)
}

/// Adds the profiles in a file, or on stdin. Checks all before it writes any.
pub(super) fn import(app: &App, file: &Path, replace: bool) -> Result<u8, Error> {
    let text = read(file)?;
    app.run(add(app, file, &text, replace))
}

async fn add(app: &App, file: &Path, text: &str, replace: bool) -> Result<u8, Error> {
    let unusable = |reason: &str| {
        let message = format!("cannot import {}: {reason}", shown(file));
        Error::msg(ErrorCode::Usage, message, Hint::command("profile import").with_flag("--help"))
    };
    let mut profiles = config::imported(text, file).map_err(|error| match error {
        ConfigError::Invalid { message, .. } => unusable(&message),
        error => error.into(),
    })?;
    if let Some(named) = &app.common.profile {
        profiles.retain(|profile| profile.name == *named);
        if profiles.is_empty() {
            return Err(unusable(&format!("it has no profile `{named}`")));
        }
    }
    // An identity token of this platform could be redeemed by the author of the file.
    let unsafe_part = |profile: &Profile| match &profile.server.workload {
        Some(Workload::Command(_)) => Some("runs a command"),
        Some(_) if matches!(profile.server.client_key.audience, AssertionAudience::Other(_)) => {
            Some("requests an identity token for another service")
        }
        Some(_) if profile.server.endpoints.token.is_some() => {
            Some("sends an identity token to an address that is not from the issuer's metadata")
        }
        Some(_) if profile.server.identity_provider.is_some() => {
            Some("sends an identity token to an identity provider")
        }
        _ => None,
    };
    if let Some((name, part)) = profiles.iter().find_map(|profile| Some((&profile.name, unsafe_part(profile)?))) {
        return Err(unusable(&format!("`{name}` {part}; log in to it here with --workload instead")));
    }
    let _lock = app.lock_config().await?;
    let before = app.config()?;
    let mut known = None;
    for profile in &mut profiles {
        let Some(existing) = before.existing(&profile.name)? else {
            app.sessions()?.delete_copy(profile, before.profiles.values()).await;
            continue;
        };
        profile.hooks.clone_from(&existing.hooks);
        profile.token_file.clone_from(&existing.token_file);
        profile.id_token_file.clone_from(&existing.id_token_file);
        before.check_locks(profile)?;
        SETTINGS.iter().try_for_each(|setting| check_login_only(existing, profile, setting))?;
        known.get_or_insert_with(|| profile.name.clone());
    }
    // Last: with `--replace`, all of the above is checked too.
    if let Some(name) = known.filter(|_| !replace) {
        let path = file.display().to_string();
        let path = if path.starts_with('-') { format!("./{path}") } else { path };
        let mut hint = Hint::command("profile import").with_argument(path).with_flag("--replace");
        if let Some(named) = &app.common.profile {
            hint = hint.with_option("--profile", named.as_str());
        }
        let hint = if is_stdin(file) { Hint::command("profile import").with_flag("--help") } else { hint };
        return Err(Error { hint, ..ConfigError::Exists(name).into() });
    }
    config::save_all(&app.paths()?.config, &profiles)?;
    let after = app.config()?;
    for profile in &profiles {
        let name = &profile.name;
        if let Some(before) = before.profiles.get(name) {
            app.move_token_files(before, profile).await?;
        }
        app.notify_agent(name);
        let login = app.next_command(Hint::login().about(name).without_typed_options());
        app.ui().notice(&format!("imported {name}; next: {login}"));
    }
    if app.common.json {
        let saved = profiles.iter().filter_map(|profile| after.profiles.get(&profile.name));
        output::json(&saved.map(|profile| to_json(&after, profile)).collect::<Vec<_>>())?;
    }
    Ok(0)
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn shown(file: &Path) -> String {
    if is_stdin(file) { "stdin".to_owned() } else { file.display().to_string() }
}

/// Reads the file, at most as much as a configuration may have.
fn read(file: &Path) -> Result<String, Error> {
    let unreadable = |reason: &str| {
        let message = format!("cannot import {}: {reason}", shown(file));
        Error::msg(ErrorCode::Usage, message, Hint::command("profile import").with_flag("--help"))
    };
    let input: Box<dyn Read> = match is_stdin(file) {
        true => Box::new(io::stdin()),
        false => Box::new(regular_file::open(file).map_err(|e| unreadable(&e.to_string()))?.0),
    };
    let mut bytes = Vec::new();
    let length = input.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e.to_string()))?;
    if length as u64 > MAX_BYTES {
        return Err(unreadable(&regular_file::too_large(MAX_BYTES)));
    }
    String::from_utf8(bytes).map_err(|_| unreadable("it is not text"))
}
