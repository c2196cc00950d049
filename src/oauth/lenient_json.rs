//! JSON members that issuers write in several ways. Each type accepts any JSON value, and treats one that it cannot use as
//! absent.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::secret::Secret;

/// The longest lifetime of a token in seconds: a hundred years.
const MAX_LIFETIME: f64 = 100.0 * 365.25 * 86400.0;

/// A string that is not empty; anything else counts as absent.
#[derive(Debug, Default)]
pub(super) struct LenientString(pub(super) Option<String>);

impl<'de> Deserialize<'de> for LenientString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Ok(Self(text_of(raw).filter(|text| !text.is_empty())))
    }
}

/// Returns the text of a string; `None` for anything else, which is not parsed: each level of nesting would take stack, and the
/// parser's limit starts again with every value.
pub(super) fn text_of(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// Reads a secret without another copy of it in memory; anything but a string counts as absent. The input has to be borrowed.
pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// Reads an array of strings and skips its other elements; anything else counts as absent.
pub(super) fn string_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(match LenientValue::deserialize(deserializer)? {
        LenientValue::List(texts) => Some(texts),
        _ => None,
    })
}

/// Reads a boolean, also as a string; anything else is `false`.
pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(match LenientValue::deserialize(deserializer)? {
        LenientValue::Boolean(value) => value,
        LenientValue::Text(text) => text == "true",
        _ => false,
    })
}

/// A number of seconds such as `expires_in`, also as a fraction or a string. Anything else counts as absent, also 0 and a
/// negative number, with which some issuers state that there is no end.
#[derive(Default)]
pub(super) struct Lifetime(pub(super) Option<Duration>);

impl Lifetime {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.trim().parse().ok().and_then(Self::from_seconds))
    }

    fn from_seconds(seconds: f64) -> Option<Duration> {
        (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX_LIFETIME).floor()))
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match LenientValue::deserialize(deserializer)? {
            LenientValue::Number(seconds) => Self(Self::from_seconds(seconds)),
            LenientValue::Text(text) => Self::parse(&text),
            _ => Self(None),
        })
    }
}

/// Any JSON value, reduced to what the types above and those of error members use. Not for secrets.
pub(super) enum LenientValue {
    Nothing,
    Boolean(bool),
    Text(String),
    Number(f64),
    List(Vec<String>),
    Object { code: Option<String>, message: Option<String> },
}

/// A value that the parser refuses, such as a number beyond all limits, counts as absent. The input has to be borrowed.
impl<'de> Deserialize<'de> for LenientValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Ok(serde_json::from_str(raw.get()).map_or(Self::Nothing, |Parsed(value)| value))
    }
}

struct Parsed(LenientValue);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = LenientValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<LenientValue, E> {
                Ok(LenientValue::Nothing)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<LenientValue, E> {
                Ok(LenientValue::Boolean(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LenientValue, E> {
                Ok(LenientValue::Text(text.to_owned()))
            }

            #[allow(clippy::cast_precision_loss, reason = "a lifetime this long is capped anyway")]
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<LenientValue, E> {
                Ok(LenientValue::Number(number as f64))
            }

            #[allow(clippy::cast_precision_loss, reason = "a lifetime this long is capped anyway")]
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<LenientValue, E> {
                Ok(LenientValue::Number(number as f64))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<LenientValue, E> {
                Ok(LenientValue::Number(number))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<LenientValue, A::Error> {
                let mut texts = Vec::new();
                while let Some(element) = seq.next_element::<&'de RawValue>()? {
                    texts.extend(text_of(element));
                }
                Ok(LenientValue::List(texts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LenientValue, A::Error> {
                let (mut code, mut message) = (None, None);
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "type" => code = map.next_value::<LenientString>()?.0.or(code),
                        "status" => code = code.or(map.next_value::<LenientString>()?.0),
                        "message" => message = map.next_value::<LenientString>()?.0,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(LenientValue::Object { code, message })
            }
        }
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_takes_no_stack() {
        #[derive(Deserialize)]
        struct Lists(#[serde(deserialize_with = "string_list")] Option<Vec<String>>);
        let (opened, closed) = ("[".repeat(300_000), "]".repeat(300_000));
        let objects = format!("{}1{}", r#"{"type":"#.repeat(100_000), "}".repeat(100_000));
        for deep in [format!("{opened}{closed}"), format!(r#"{{"a":{opened}{closed}}}"#), objects] {
            assert_eq!(serde_json::from_str::<LenientString>(&deep).expect("any value").0, None);
            let listed = serde_json::from_str::<Lists>(&format!(r#"["a",{deep},""]"#)).expect("any value").0;
            assert_eq!(listed, Some(vec!["a".to_owned(), String::new()]));
            serde_json::from_str::<Lists>(&deep).expect("any value");
        }
    }

    #[test]
    fn boolean_is_also_read_as_a_string() {
        #[derive(Deserialize)]
        struct Promise(#[serde(deserialize_with = "boolean")] bool);
        for (text, expected) in [
            ("true", true),
            (r#""true""#, true),
            ("false", false),
            (r#""false""#, false),
            ("1", false),
            (r#""yes""#, false),
            ("null", false),
            ("[true]", false),
        ] {
            assert_eq!(serde_json::from_str::<Promise>(text).expect("any value").0, expected, "{text}");
        }
    }
}
