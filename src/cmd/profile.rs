//! `authctl profile`: shows and changes the configured profiles.

mod other_names;
mod settings;
mod transfer;

use serde_json::json;

use super::output;
use crate::app::App;
use crate::cli::ProfileCommand;
use crate::config::{self, ConfigError, MachineSource, SETTINGS, Setting, parse_pair, setting};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::regular_file;
use crate::model::{InvalidProfileName, ProfileName, StoreKind};
use crate::status::AgentProfiles;
use crate::store::StoreError;
use crate::text::without_error_numbers;
use settings::{check_login_only, shown, to_json};

/// Runs the command.
pub fn run(app: &App, command: ProfileCommand) -> Result<u8, Error> {
    match command {
        ProfileCommand::List => list(app),
        ProfileCommand::Show { profile } => show(app, profile.as_ref()),
        ProfileCommand::Set { first, settings } => {
            let (profile, settings) = named_settings(app, &first, settings)?;
            app.run(set(app, &profile, &settings))
        }
        ProfileCommand::Remove { profile } => {
            let profile = app.required_profile(profile.as_ref())?;
            let removed = app.run(remove(app, &profile))?;
            if app.config()?.existing(&profile)?.is_none() {
                other_names::warn(app, &profile, None);
            }
            Ok(removed)
        }
        ProfileCommand::Rename { first, to } => {
            // With `--profile`, the only argument is the new name.
            let (profile, to) = match (to, &app.common.profile) {
                (None, Some(profile)) => (profile.clone(), first),
                (Some(to), _) => (app.required_profile(Some(&first))?, to),
                (None, None) => {
                    let hint = Hint::command("profile rename").with_flag("--help");
                    return Err(Error::msg(ErrorCode::Usage, "the new name is missing", hint));
                }
            };
            let renamed = app.run(rename(app, &profile, &to))?;
            other_names::warn(app, &profile, Some(&to));
            Ok(renamed)
        }
        ProfileCommand::Export { profiles } => transfer::export(app, profiles),
        ProfileCommand::Import { file, replace } => transfer::import(app, &file, replace),
        ProfileCommand::Use { profile } => {
            let profile = app.required_profile(profile.as_ref())?;
            app.run(async {
                let _lock = app.lock_config().await?;
                config::set_default(&app.paths()?.config, &profile)?;
                app.notify_agent(&profile);
                app.ui().notice(&format!("default profile: {profile}"));
                shown_after_change(app, &profile)
            })
        }
    }
}

/// Returns the profile and the settings of `profile set`. With `--profile`, the first argument may be a setting.
fn named_settings(
    app: &App,
    first: &str,
    mut settings: Vec<(String, String)>,
) -> Result<(ProfileName, Vec<(String, String)>), Error> {
    let help = || Hint::command("profile set").with_flag("--help");
    if app.common.profile.is_some()
        && let Ok(setting) = parse_pair(first)
    {
        settings.insert(0, setting);
        return Ok((app.required_profile(None)?, settings));
    }
    let name = first.parse().map_err(|e: InvalidProfileName| Error::new(ErrorCode::Usage, e, help()))?;
    if settings.is_empty() {
        return Err(Error::msg(ErrorCode::Usage, "the setting is missing: KEY=VALUE", help()));
    }
    Ok((app.required_profile(Some(&name))?, settings))
}

fn list(app: &App) -> Result<u8, Error> {
    let config = app.config()?;
    let default = config.choose(None).ok().map(|profile| &profile.name);
    if app.common.json {
        let all: Vec<_> = config.profiles.values().map(|profile| to_json(&config, profile)).collect();
        output::json(&all)?;
        return Ok(app.report_invalid_profiles(&config));
    }
    if config.profiles.is_empty() && config.errors().next().is_none() {
        app.ui().notice(&format!("no profiles; run `{}`", app.next_command(Hint::command("login"))));
    }
    let lines = config.profiles.values().map(|profile| {
        let mark = if default == Some(&profile.name) { '*' } else { ' ' };
        let source = config.machine_file(&profile.name).map(|path| format!("  ({})", path.display()));
        (format!("{mark} {}", profile.name), format!("{}{}", profile.issuer, source.unwrap_or_default()))
    });
    let lines: Vec<(String, String)> = lines.collect();
    let widest = |text: fn(&(String, String)) -> usize| lines.iter().map(text).max().unwrap_or(0);
    let (names, issuers) = (widest(|line| line.0.len()), widest(|line| line.1.len()));
    // Aligned only where the terminal breaks no line.
    let width = if names + 2 + issuers <= output::width() { names } else { 0 };
    for (name, issuer) in &lines {
        output::line(&format!("{name:<width$}  {issuer}"))?;
    }
    Ok(app.report_invalid_profiles(&config))
}

fn show(app: &App, named: Option<&ProfileName>) -> Result<u8, Error> {
    let config = app.config()?;
    let named = app.profile_name(named)?;
    let profile = config.choose(named.as_ref())?;
    if app.common.json {
        output::json(&to_json(&config, profile))?;
        return Ok(0);
    }
    let lines = shown(profile).map(|(setting, value)| {
        let source =
            match config.machine_source(profile, setting).filter(|source| source.is_locked || !value.is_empty()) {
                Some(MachineSource { path, is_locked: true }) => format!("  (locked by {})", path.display()),
                Some(MachineSource { path, .. }) => format!("  ({})", path.display()),
                None => String::new(),
            };
        (setting.key, format!("{}{source}", value.to_text()))
    });
    let lines: Vec<_> = [("profile", profile.name.to_string())].into_iter().chain(lines).collect();
    let width = lines.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        output::line(&format!("{key:<width$} {value}"))?;
    }
    Ok(0)
}

/// Prints the profile as `profile show --json` does, with `--json`.
fn shown_after_change(app: &App, name: &ProfileName) -> Result<u8, Error> {
    if app.common.json { show(app, Some(name)) } else { Ok(0) }
}

async fn set(app: &App, name: &ProfileName, settings: &[(String, String)]) -> Result<u8, Error> {
    let _lock = app.lock_config().await?;
    let config = app.config()?;
    let mut settings =
        settings.iter().map(|(key, text)| Ok((setting(key)?, text.as_str()))).collect::<Result<Vec<_>, Error>>()?;
    let before = match config.profile(name) {
        Err(ConfigError::Invalid { .. }) => {
            let values = settings.iter().map(|(setting, text)| Ok((*setting, setting.items(text)?)));
            let values = values.collect::<Result<Vec<_>, Error>>()?;
            config::repair(&app.paths()?.config, name, &values)?;
            app.notify_agent(name);
            app.ui().notice(&format!("updated profile {name}, which was invalid"));
            return shown_after_change(app, name);
        }
        found => found?.clone(),
    };
    let mut profile = before.clone();
    // The issuer first: a change of it removes settings that may be set again in the same command.
    settings.sort_by_key(|(setting, _)| setting.key != "issuer");
    for (setting, text) in &settings {
        setting.set(&mut profile, &setting.items(text)?)?;
    }
    config.check_locks(&profile)?;
    settings.iter().try_for_each(|(setting, _)| check_login_only(&before, &profile, setting))?;
    app.check_new_token_files(&before, &profile).await?;
    config::save(&app.paths()?.config, &profile)?;
    app.move_token_files(&before, &profile).await?;
    app.notify_agent(name);
    let removed = |setting: &&Setting| {
        let named = settings.iter().any(|(named, _)| named.key == setting.key);
        setting.issuer_bound && !named && setting.value(&before) != setting.value(&profile)
    };
    let removed: Vec<&str> = SETTINGS.iter().filter(removed).map(|setting| setting.key).collect();
    if !removed.is_empty() {
        app.ui().notice(&format!("removed the settings of the old issuer: {}", removed.join(", ")));
    }
    let unreadable = |file: &std::path::Path| regular_file::open(file).err().map(|error| (file.to_owned(), error));
    let named = profile.input_files().filter(|file| !before.input_files().any(|known| known == *file));
    for (file, error) in named.filter_map(unreadable) {
        let reason = without_error_numbers(&error.to_string());
        app.ui().warn(&format!("cannot read {}: {reason}", file.display()));
    }
    app.ui().notice(&format!("updated profile {name}"));
    shown_after_change(app, name)
}

async fn remove(app: &App, name: &ProfileName) -> Result<u8, Error> {
    let _lock = app.lock_config().await?;
    // Read only under the lock: a login that held it may have moved the profile to another store.
    let config = app.config()?;
    let files = app.paths()?.config;
    let removal = || config::remove(&files, name).map_err(Error::from);
    let removed = match config.profile(name) {
        Err(ConfigError::Invalid { .. }) => {
            removal()?;
            app.ui().warn("the profile was invalid; if it had a session, that is still stored");
            true
        }
        Err(error) => return Err(error.into()),
        Ok(profile) if profile.store == StoreKind::Memory => {
            config.check_removable(name)?;
            let is_free = !has_session_in_memory(app, name)?;
            if is_free {
                removal()?;
            }
            is_free
        }
        Ok(profile) => {
            config.check_removable(name)?;
            let profile = &profile.clone();
            let removed = app.sessions()?.without_session(profile, removal).await;
            let removed = removed.map_err(|error: Error| match error.code {
                ErrorCode::StoreAbsent => {
                    // Whether it has a session cannot be seen; its table can be removed all the same.
                    Error { hint: Hint::edit(&files.user), ..error }
                }
                _ => error.about(name),
            })?;
            if removed {
                super::logout::delete_registration(app, profile).await?;
            }
            removed
        }
    };
    if !removed {
        return Err(Error::msg(
            ErrorCode::Usage,
            format!("cannot remove `{name}`: it has a session"),
            Hint::profile_command("logout").about(name),
        ));
    }
    app.notify_agent(name);
    match config.machine_file(name) {
        Some(path) => app.ui().notice(&format!("removed your settings of {name}; it is as in {}", path.display())),
        None => app.ui().notice(&format!("removed profile {name}")),
    }
    if app.common.json {
        output::json(&json!({ "profile": name, "removed": true }))?;
    }
    Ok(0)
}

async fn rename(app: &App, from: &ProfileName, to: &ProfileName) -> Result<u8, Error> {
    let _lock = app.lock_config().await?;
    let config = app.config()?;
    let profile = config.profile(from)?.clone();
    config.check_renamable(from)?;
    if config.existing(to)?.is_some() {
        return Err(ConfigError::Exists(to.clone()).into());
    }
    let files = app.paths()?.config;
    let rename = || config::rename(&files, from, to).map_err(Error::from);
    if profile.store == StoreKind::Memory {
        // The agent gives the session to no other name.
        if has_session_in_memory(app, from)? {
            let message = format!("the session of `{from}` is in the memory of the agent, under this name");
            return Err(Error::msg(ErrorCode::AgentUnavailable, message, Hint::profile_command("logout")).about(from));
        }
        rename()?;
    } else {
        app.sessions()?.rename(&profile, to, rename).await?;
    }
    app.notify_agent(from);
    app.notify_agent(to);
    app.ui().notice(&format!("renamed {from} to {to}"));
    shown_after_change(app, to)
}

/// Returns whether the agent has a session of the profile in its memory. Without an agent of this home, there is none.
///
/// # Errors
/// If the agent does not show whether it has one: it is locked, or does not respond.
fn has_session_in_memory(app: &App, name: &ProfileName) -> Result<bool, Error> {
    match app.running_agent() {
        Ok(None) => return Ok(false),
        Ok(Some(agent)) if agent.locked => return Err(StoreError::AgentLocked.into()),
        Ok(Some(_)) => {}
        Err(error) if error.code == ErrorCode::AnotherHome => return Ok(false),
        Err(error) => return Err(error),
    }
    let of_agent: AgentProfiles = app.require_agent("GET", "/v1/status", None)?.read()??;
    Ok(of_agent.profiles.iter().any(|status| status.profile == *name && status.logged_in_at.is_some()))
}
