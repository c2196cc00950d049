//! The types of settings: how the text of each is parsed and shown.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};
use url::Url;

use crate::model::{
    AssertionAudience, ClientAuth, ClientRegistration, DecidingToken, Dpop, Grant, HookCommand, InvalidRule,
    InvalidToolHost, InvalidWorkload, IssuerUrl, PROVIDERS, Par, RedirectUri, RequestRule, StoreKind, ToolHost,
    Workload, format_duration, parse_duration, provider, secure_url,
};
use crate::text::joined_words;

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueForm {
    /// As one text.
    Text,
    /// As the path of a file.
    Path,
    /// As a list in the file, and as words on the command line.
    List,
    /// As a list of `NAME=VALUE` in the file, and as words on the command line.
    Pairs,
    /// As a list of `METHOD PATH` in the file, and as words on the command line.
    Rules,
}

/// What a setting is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Unset,
    /// A text.
    Text(String),
    /// A duration.
    Duration(Duration),
    /// A list, perhaps an empty one.
    List(Vec<String>),
}

impl Value {
    /// Returns the text that sets a setting to this value on the command line; empty if it is unset.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Unset => String::new(),
            Self::Text(text) => text.clone(),
            Self::Duration(duration) => format_duration(*duration),
            Self::List(items) => joined_words(items),
        }
    }

    /// Returns whether the value is unset or an empty list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Unset => true,
            Self::List(items) => items.is_empty(),
            Self::Text(_) | Self::Duration(_) => false,
        }
    }
}

/// In JSON a duration is a number of seconds.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unset => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Duration(duration) => serializer.serialize_u64(duration.as_secs()),
            Self::List(items) => items.serialize(serializer),
        }
    }
}

/// The type of a setting's field in a profile.
pub(super) trait SettingType: Sized {
    /// The notation of its values.
    const FORM: ValueForm = ValueForm::Text;

    /// Returns the accepted values; empty if any text is accepted.
    fn choices() -> Vec<&'static str> {
        Vec::new()
    }

    /// Parses the items of a list, or the one item of a text; none unsets the setting.
    fn parse(items: &[String]) -> Result<Self, String>;

    fn value(&self) -> Value;
}

/// A type that is written as one text.
trait Scalar: Sized {
    const FORM: ValueForm = ValueForm::Text;

    fn choices() -> Vec<&'static str> {
        Vec::new()
    }

    fn parse(text: &str) -> Result<Self, String>;

    fn value(&self) -> Value;
}

impl<T: Scalar> SettingType for Option<T> {
    const FORM: ValueForm = T::FORM;

    fn choices() -> Vec<&'static str> {
        T::choices()
    }

    fn parse(items: &[String]) -> Result<Self, String> {
        items.first().map(|text| T::parse(text)).transpose()
    }

    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Unset, T::value)
    }
}

impl Scalar for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn value(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl Scalar for Url {
    fn parse(text: &str) -> Result<Self, String> {
        secure_url(text).map_err(|e| e.to_string())
    }

    fn value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Scalar for IssuerUrl {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|e| e.to_string())
    }

    fn value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Scalar for PathBuf {
    const FORM: ValueForm = ValueForm::Path;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn value(&self) -> Value {
        Value::Text(self.to_string_lossy().into_owned())
    }
}

impl Scalar for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text).map_err(|e| e.to_string())
    }

    fn value(&self) -> Value {
        Value::Duration(*self)
    }
}

impl Scalar for Workload {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: InvalidWorkload| e.to_string())
    }

    fn value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Scalar for u64 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is not a whole number"))
    }

    fn value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

/// The name of a provider preset.
impl Scalar for &'static str {
    fn choices() -> Vec<&'static str> {
        PROVIDERS.iter().map(|known| known.name).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let known = provider(text).map(|preset| preset.name);
        known.ok_or_else(|| format!("unknown provider `{text}` (possible values: {})", Self::choices().join(", ")))
    }

    fn value(&self) -> Value {
        Value::Text((*self).to_owned())
    }
}

/// A type with a fixed set of words, of which one is the default.
macro_rules! keyword_settings {
    ($($name:ident),+) => { $(
        impl SettingType for $name {
            fn choices() -> Vec<&'static str> {
                Self::WORDS.to_vec()
            }

            fn parse(items: &[String]) -> Result<Self, String> {
                items.first().map_or(Ok(Self::default()), |text| text.parse()).map_err(|e| e.to_string())
            }

            fn value(&self) -> Value {
                Value::Text(self.as_str().to_owned())
            }
        }
    )+ };
}

keyword_settings!(ClientAuth, ClientRegistration, DecidingToken, Dpop, Grant, Par, StoreKind);

impl SettingType for String {
    fn parse(items: &[String]) -> Result<Self, String> {
        Ok(items.first().cloned().unwrap_or_default())
    }

    fn value(&self) -> Value {
        Value::Text(self.clone())
    }
}

/// The issuer, which is compared as text and so is shown exactly as it was written.
impl SettingType for IssuerUrl {
    fn parse(items: &[String]) -> Result<Self, String> {
        Self::parse(items.first().map_or("", String::as_str)).map_err(|e| e.to_string())
    }

    fn value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl SettingType for RedirectUri {
    fn parse(items: &[String]) -> Result<Self, String> {
        items.first().map_or(Ok(Self::default()), |text| text.parse()).map_err(|e| e.to_string())
    }

    fn value(&self) -> Value {
        if *self == Self::default() { Value::Unset } else { Value::Text(self.to_string()) }
    }
}

impl SettingType for AssertionAudience {
    fn parse(items: &[String]) -> Result<Self, String> {
        Ok(match items.first().map(String::as_str) {
            None | Some("issuer") => Self::Issuer,
            Some("token_endpoint") => Self::TokenEndpoint,
            Some(other) => Self::Other(other.to_owned()),
        })
    }

    fn value(&self) -> Value {
        match self {
            Self::Issuer => Value::Unset,
            Self::TokenEndpoint => Value::Text("token_endpoint".to_owned()),
            Self::Other(text) => Value::Text(text.clone()),
        }
    }
}

impl SettingType for Vec<String> {
    const FORM: ValueForm = ValueForm::List;

    fn parse(items: &[String]) -> Result<Self, String> {
        Ok(items.to_vec())
    }

    fn value(&self) -> Value {
        Value::List(self.clone())
    }
}

impl SettingType for HookCommand {
    const FORM: ValueForm = ValueForm::List;

    fn parse(items: &[String]) -> Result<Self, String> {
        Self::new(items).map_err(|e| e.to_string())
    }

    fn value(&self) -> Value {
        Value::List(self.words().to_vec())
    }
}

impl SettingType for Vec<ToolHost> {
    const FORM: ValueForm = ValueForm::List;

    fn parse(items: &[String]) -> Result<Self, String> {
        let mut hosts = Self::new();
        for item in items {
            let host = item.parse().map_err(|e: InvalidToolHost| e.to_string())?;
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Ok(hosts)
    }

    fn value(&self) -> Value {
        Value::List(self.iter().map(ToString::to_string).collect())
    }
}

impl SettingType for bool {
    fn choices() -> Vec<&'static str> {
        vec!["false", "true"]
    }

    fn parse(items: &[String]) -> Result<Self, String> {
        match items.first().map(String::as_str) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(format!("unknown value `{other}` (possible values: false, true)")),
        }
    }

    fn value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl SettingType for Vec<RequestRule> {
    const FORM: ValueForm = ValueForm::Rules;

    fn parse(items: &[String]) -> Result<Self, String> {
        items.iter().map(|item| item.parse().map_err(|e: InvalidRule| e.to_string())).collect()
    }

    fn value(&self) -> Value {
        Value::List(self.iter().map(ToString::to_string).collect())
    }
}

/// Parses `NAME=VALUE`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("invalid pair `{text}` (expected NAME=VALUE)")),
    }
}

impl SettingType for Vec<(String, String)> {
    const FORM: ValueForm = ValueForm::Pairs;

    fn parse(items: &[String]) -> Result<Self, String> {
        items.iter().map(|item| parse_pair(item)).collect()
    }

    fn value(&self) -> Value {
        Value::List(self.iter().map(|(name, value)| format!("{name}={value}")).collect())
    }
}
