//! The options that set a profile's settings, made from the table of settings.

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::{InvalidSetting, SETTINGS, Section, Setting, ValueForm, setting};
use crate::model::{IssuerUrl, Profile};

/// Every setting that was given, with its items.
#[derive(Clone, Debug, Default)]
pub struct SettingArgs {
    given: Vec<(&'static Setting, Vec<String>)>,
}

impl SettingArgs {
    /// Returns the items of a setting that was given.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[String]> {
        debug_assert!(setting(key).is_ok(), "`{key}` is a setting");
        self.given.iter().find(|(setting, _)| setting.key == key).map(|(_, items)| items.as_slice())
    }

    /// Returns whether a setting was given.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns the issuer that was given.
    #[must_use]
    pub fn issuer(&self) -> Option<IssuerUrl> {
        self.get("issuer")?.first()?.parse().ok()
    }

    /// Adds a setting, as if its option had been typed.
    pub fn add(&mut self, setting: &'static Setting, item: String) {
        self.given.push((setting, vec![item]));
    }

    /// Replaces the items of a setting, as if its option had been typed with these.
    pub fn set(&mut self, setting: &'static Setting, items: Vec<String>) {
        self.given.retain(|(given, _)| given.key != setting.key);
        self.given.push((setting, items));
    }

    /// Sets in `profile` every setting that was given.
    ///
    /// # Errors
    /// [`InvalidSetting`].
    pub fn apply(&self, profile: &mut Profile) -> Result<(), InvalidSetting> {
        self.given.iter().try_for_each(|(setting, items)| setting.set(profile, items))
    }
}

fn argument(setting: &'static Setting, option: &'static str) -> Arg {
    let parser: ValueParser = match setting.choices() {
        // The items of a list are parsed one by one.
        choices if choices.is_empty() => (move |text: &str| {
            setting.check_items(&[text.to_owned()]).map(|()| text.to_owned()).map_err(|error| error.reason)
        })
        .into(),
        choices => PossibleValuesParser::new(choices).into(),
    };
    let mut help = setting.help.to_owned();
    if setting.is_list() {
        help.push_str("; repeatable");
    }
    if let Some(default) = setting.default {
        help.push_str(&format!(" [default: {default}]"));
    }
    let argument = Arg::new(setting.key).long(option).value_name(setting.value_name).help(help).value_parser(parser);
    let argument = match setting.section {
        Section::Login | Section::Requirements | Section::Proxy | Section::Hooks => argument,
        section => argument.help_heading(section.heading()),
    };
    match setting.form() {
        ValueForm::Text | ValueForm::Path => argument,
        // A list item has no space in it, while a pair's value may.
        ValueForm::List => argument.action(ArgAction::Append).value_delimiter(' '),
        ValueForm::Pairs | ValueForm::Rules => argument.action(ArgAction::Append),
    }
}

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().filter_map(|setting| Some(argument(setting, setting.option?))))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.option.is_some()) {
            let Some(values) = matches.get_many::<String>(setting.key) else { continue };
            let items: Vec<String> = match setting.is_list() {
                true => values.filter(|item| !item.is_empty()).cloned().collect(),
                // Not a list: it cannot be split.
                false => values.flat_map(|text| setting.items(text).unwrap_or_default()).collect(),
            };
            if !items.is_empty() {
                given.push((setting, items));
            }
        }
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
