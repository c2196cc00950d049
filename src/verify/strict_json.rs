//! Parses a JSON object strictly: no duplicate members, and limits on nesting and length.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep objects and arrays may nest. Real claims stay below ten; deeper ones could exhaust the stack.
const MAX_DEPTH: usize = 32;

/// Why a text is rejected. Quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StrictJsonError {
    /// Longer than allowed.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// A duplicate member name, which parsers handle differently (RFC 7515, section 4; RFC 7519, section 4).
    #[error("duplicate member name")]
    DuplicateMember,
    /// Too deeply nested.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Not UTF-8, not JSON, or JSON but not an object.
    #[error("not a JSON object")]
    NotJson,
}

/// Parses `text` as one JSON object of at most `max_bytes`.
pub(super) fn object(text: &[u8], max_bytes: usize) -> Result<Map<String, Value>, StrictJsonError> {
    if text.len() > max_bytes {
        return Err(StrictJsonError::TooLong(max_bytes));
    }
    // Checked once for the whole text: serde_json checks each string where it finds it.
    let text = std::str::from_utf8(text).map_err(|_| StrictJsonError::NotJson)?;
    let mut error = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0, error: &mut error }.deserialize(&mut reader);
    match value.and_then(|v| reader.end().map(|()| v)) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(error.unwrap_or(StrictJsonError::NotJson)),
    }
}

struct Strict<'f> {
    depth: usize,
    error: &'f mut Option<StrictJsonError>,
}

impl Strict<'_> {
    fn fail<E: de::Error>(&mut self, error: StrictJsonError) -> E {
        *self.error = Some(error);
        E::custom(error)
    }

    /// Checks the depth; called for each object and array, even an empty one.
    fn check_depth<E: de::Error>(&mut self) -> Result<(), E> {
        if self.depth == MAX_DEPTH { Err(self.fail(StrictJsonError::TooDeep)) } else { Ok(()) }
    }

    fn inner(&mut self) -> Strict<'_> {
        Strict { depth: self.depth + 1, error: self.error }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom(StrictJsonError::NotJson))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(self.inner())? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.inner())?;
            if object.insert(name, value).is_some() {
                return Err(self.fail(StrictJsonError::DuplicateMember));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Map<String, Value>, StrictJsonError> {
        object(text.as_bytes(), 1000)
    }

    #[test]
    fn valid_object_is_parsed_as_serde_json_does() {
        let text = r#"{"a":[1,-2,3.5,true,null,{"b":"é\n"}],"c":{}}"#;
        assert_eq!(Value::Object(read(text).expect("plain")), serde_json::from_str::<Value>(text).expect("plain"));
    }

    #[test]
    fn duplicate_members_are_rejected_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"a":2}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(read(text), Err(StrictJsonError::DuplicateMember), "{text}");
        }
    }

    #[test]
    fn depth_and_length_are_limited() {
        let arrays = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        let objects = |n: usize| format!("{}{{}}{}", "{\"a\":".repeat(n), "}".repeat(n));
        for deep in [arrays(MAX_DEPTH - 1), objects(MAX_DEPTH - 1)] {
            assert!(read(&deep).is_ok(), "{deep}");
        }
        for deep in [arrays(MAX_DEPTH), objects(MAX_DEPTH), arrays(100)] {
            assert_eq!(read(&deep), Err(StrictJsonError::TooDeep), "{deep}");
        }
        assert_eq!((object(b"{}", 2), object(b"{}", 1)), (Ok(Map::new()), Err(StrictJsonError::TooLong(1))));
    }

    #[test]
    fn invalid_json_is_rejected() {
        for text in
            ["", "[]", "1", "null", "{", "{}x", "{} {}", "{'a':1}", "{\"a\":1,}", "{\"a\":NaN}", "{\"a\":1e999}"]
        {
            assert_eq!(read(text), Err(StrictJsonError::NotJson), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}", 100), Err(StrictJsonError::NotJson));
        assert_eq!(object(b"{\"\xc0\xaf\":1}", 100), Err(StrictJsonError::NotJson));
    }
}
