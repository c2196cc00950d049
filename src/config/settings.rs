//! The one table of settings. From it come the configuration file, `profile set` and `profile show`, the options of
//! `login`, and the manual.

mod table;
mod value;

pub use table::SETTINGS;
use value::SettingType;
pub use value::{Value, ValueForm, parse_pair};

use crate::model::{IssuerUrl, Profile};
use crate::text::shell_words;

/// The section of a setting in the help and in the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Settings of every login.
    Login,
    /// Settings that replace or complete the issuer's metadata.
    Server,
    /// A login API outside OAuth.
    LoginApi,
    /// What is required of a token before it is accepted offline.
    Requirements,
    /// What may pass a proxy.
    Proxy,
    /// Commands that run when something happens to the session. Only the user's own file sets them.
    Hooks,
}

impl Section {
    /// Every section, in the order of the table.
    pub const ALL: [Self; 6] =
        [Self::Login, Self::Server, Self::LoginApi, Self::Requirements, Self::Proxy, Self::Hooks];

    /// Returns the heading in the help.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Login => "Login settings",
            Self::Server => "Server settings",
            Self::LoginApi => "Settings of a login API",
            Self::Requirements => "Token requirements",
            Self::Proxy => "Proxy rules",
            Self::Hooks => "Hooks",
        }
    }
}

/// A setting of a profile.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key in the configuration and for `profile set`.
    pub key: &'static str,
    /// What the value is, such as `URL`.
    pub value_name: &'static str,
    /// What the setting does, as an imperative phrase.
    pub help: &'static str,
    /// Its section in the help.
    pub section: Section,
    /// The name of the `login` option that sets it.
    pub option: Option<&'static str>,
    /// The value that an unset setting has, as text.
    pub default: Option<&'static str>,
    /// Whether `profile set` may unset it. One that may not be unset is always written.
    pub removable: bool,
    /// Whether only a login may give it another value, since the session depends on it.
    pub login_only: bool,
    /// Whether a change to an issuer at another origin unsets it, so that nothing meant for the new issuer goes to a server
    /// of the old one.
    pub issuer_bound: bool,
    field: Field,
    check_item: fn(&str) -> Result<(), String>,
}

/// An invalid value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot set `{key}`: {reason}")]
pub struct InvalidSetting {
    /// The key of the setting.
    pub key: &'static str,
    /// What is wrong with the value.
    pub reason: String,
}

/// How a setting's field in a profile is read and written.
#[derive(Clone, Copy, Debug)]
struct Field {
    form: ValueForm,
    choices: fn() -> Vec<&'static str>,
    parse: fn(&[String]) -> Result<(), String>,
    get: fn(&Profile) -> Value,
    set: fn(&mut Profile, &[String]) -> Result<(), String>,
}

impl Field {
    const fn of<T: SettingType>(
        _type: fn(&Profile) -> &T,
        get: fn(&Profile) -> Value,
        set: fn(&mut Profile, &[String]) -> Result<(), String>,
    ) -> Self {
        let parse = |items: &[String]| T::parse(items).map(drop);
        Self { form: T::FORM, choices: T::choices, parse, get, set }
    }
}

impl Setting {
    const fn new(
        section: Section,
        key: &'static str,
        value_name: &'static str,
        help: &'static str,
        field: Field,
    ) -> Self {
        Self {
            key,
            value_name,
            help,
            section,
            option: None,
            default: None,
            removable: true,
            login_only: false,
            issuer_bound: false,
            field,
            check_item: |_| Ok(()),
        }
    }

    const fn option(mut self, name: &'static str) -> Self {
        self.option = Some(name);
        self
    }

    const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    const fn required(mut self) -> Self {
        self.removable = false;
        self
    }

    const fn login_only(mut self) -> Self {
        self.login_only = true;
        self
    }

    const fn issuer_bound(mut self) -> Self {
        self.issuer_bound = true;
        self
    }

    const fn check(mut self, item: fn(&str) -> Result<(), String>) -> Self {
        self.check_item = item;
        self
    }

    const fn on_set(mut self, set: fn(&mut Profile, &[String]) -> Result<(), String>) -> Self {
        self.field.set = set;
        self
    }

    const fn shown_as(mut self, get: fn(&Profile) -> Value) -> Self {
        self.field.get = get;
        self
    }

    /// Returns how the setting is written.
    #[must_use]
    pub fn form(&self) -> ValueForm {
        self.field.form
    }

    /// Returns whether the setting is a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.form(), ValueForm::List | ValueForm::Pairs | ValueForm::Rules)
    }

    /// Returns the possible values; empty if any text may be set.
    #[must_use]
    pub fn choices(&self) -> Vec<&'static str> {
        (self.field.choices)()
    }

    /// Returns what the setting is set to, or its default if it is one of a few words.
    #[must_use]
    pub fn value(&self, profile: &Profile) -> Value {
        (self.field.get)(profile)
    }

    /// Checks the items of a list, or the one item of a text.
    ///
    /// # Errors
    /// [`InvalidSetting`].
    pub fn check_items(&self, items: &[String]) -> Result<(), InvalidSetting> {
        let removal = if items.is_empty() && !self.removable { Err("it cannot be removed".to_owned()) } else { Ok(()) };
        removal
            .and_then(|()| items.iter().try_for_each(|item| (self.check_item)(item)))
            .and_then(|()| (self.field.parse)(items))
            .map_err(|reason| self.invalid(reason))
    }

    /// Sets the setting to the items of a list, or to the one item of a text. No item removes it.
    ///
    /// # Errors
    /// [`InvalidSetting`]; the profile is then unchanged.
    pub fn set(&self, profile: &mut Profile, items: &[String]) -> Result<(), InvalidSetting> {
        self.check_items(items)?;
        (self.field.set)(profile, items).map_err(|reason| self.invalid(reason))
    }

    /// Returns the items that a text on the command line stands for: a list is separated by spaces, which quotes keep in an
    /// item as in a shell, a rule has two words, and the path of a file is made absolute, since the agent reads it from
    /// another directory.
    ///
    /// # Errors
    /// [`InvalidSetting`] if a quote or backslash is not closed.
    pub fn items(&self, text: &str) -> Result<Vec<String>, InvalidSetting> {
        let text = text.trim();
        let words = || shell_words(text).ok_or_else(|| self.invalid("a quote or backslash is not closed".to_owned()));
        Ok(match self.form() {
            ValueForm::Rules => {
                let words = words()?;
                let words: Vec<&str> = words.iter().flat_map(|word| word.split_whitespace()).collect();
                words.chunks(2).map(|words| words.join(" ")).collect()
            }
            _ if self.is_list() => words()?,
            _ if text.is_empty() => Vec::new(),
            ValueForm::Path => {
                let absolute = std::path::absolute(text).unwrap_or_else(|_| text.into());
                vec![absolute.to_string_lossy().into_owned()]
            }
            _ => vec![text.to_owned()],
        })
    }

    fn invalid(&self, reason: String) -> InvalidSetting {
        InvalidSetting { key: self.key, reason }
    }
}

/// An unknown key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown setting `{key}`{}", super::error::did_you_mean(nearest.as_ref()))]
pub struct UnknownSetting {
    key: String,
    nearest: Option<&'static str>,
}

impl UnknownSetting {
    /// Creates the error for an unknown key, with the nearest key of `known`.
    pub(super) fn among(key: &str, known: impl Iterator<Item = &'static str>) -> Self {
        Self { key: key.to_owned(), nearest: super::error::nearest(key, known) }
    }
}

/// Returns the setting with this key.
///
/// # Errors
/// [`UnknownSetting`], with the nearest key.
pub fn setting(key: &str) -> Result<&'static Setting, UnknownSetting> {
    let found = SETTINGS.iter().find(|setting| setting.key == key);
    found.ok_or_else(|| UnknownSetting::among(key, SETTINGS.iter().map(|setting| setting.key)))
}

/// Changes the issuer. If the new one has another origin, the settings that are bound to the issuer are removed.
pub fn change_issuer(profile: &mut Profile, issuer: IssuerUrl) {
    if profile.issuer.url().origin() != issuer.url().origin() {
        remove_issuer_bound(profile);
    }
    profile.issuer = issuer;
}

/// Removes the settings that are bound to the issuer.
pub fn remove_issuer_bound(profile: &mut Profile) {
    for setting in SETTINGS.iter().filter(|setting| setting.issuer_bound) {
        if !setting.value(profile).is_empty() {
            // Removing a removable setting cannot fail.
            let _ = setting.set(profile, &[]);
        }
    }
}

#[cfg(test)]
mod tests;
