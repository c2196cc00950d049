//! The settings of a profile: which are shown, where their values come from, and which only a login changes.

use serde_json::{Map, json};

use crate::config::{Config, SETTINGS, Section, Setting, Value};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::Profile;

/// Returns every setting with its value, but for hooks and those of the server that are not set: most profiles have none of
/// them.
pub(super) fn shown(profile: &Profile) -> impl Iterator<Item = (&'static Setting, Value)> + '_ {
    SETTINGS.iter().filter_map(|setting| {
        let value = setting.value(profile);
        let is_rare = !matches!(setting.section, Section::Login | Section::Requirements);
        let is_unset = value.is_empty() || setting.default == Some(value.to_text().as_str());
        (!is_rare || !is_unset).then_some((setting, value))
    })
}

/// Returns the profile as `profile show --json` prints it.
pub(super) fn to_json(config: &Config, profile: &Profile) -> serde_json::Value {
    let default = config.choose(None).ok().map(|profile| &profile.name);
    let mut members = Map::new();
    members.insert("profile".to_owned(), json!(profile.name));
    members.insert("default".to_owned(), json!(default == Some(&profile.name)));
    members.extend(shown(profile).map(|(setting, value)| (setting.key.to_owned(), json!(value))));
    if config.machine_file(&profile.name).is_some() {
        let sources = || SETTINGS.iter().filter_map(|s| Some((s.key, config.machine_source(profile, s)?)));
        let paths: Map<_, _> = sources().map(|(key, source)| (key.to_owned(), json!(source.path))).collect();
        members.insert("sources".to_owned(), paths.into());
        let locked: Vec<&str> = sources().filter(|(_, source)| source.is_locked).map(|(key, _)| key).collect();
        members.insert("locked".to_owned(), json!(locked));
    }
    members.into()
}

/// Checks that a setting is not changed to a value that only a login can give it.
pub(super) fn check_login_only(before: &Profile, after: &Profile, setting: &Setting) -> Result<(), Error> {
    let value = setting.value(after);
    if !setting.login_only || value.is_empty() || value == setting.value(before) {
        return Ok(());
    }
    let option = setting.option.unwrap_or_default();
    Err(Error::msg(
        ErrorCode::Usage,
        format!("cannot set `{}`: only a login can change it", setting.key),
        Hint::login().about(&after.name).with_option(format!("--{option}"), value.to_text()),
    ))
}
