//! Reads a JSON object that means the same to every reader: no member twice, not too deep, not too long.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep objects and arrays may nest. Real claims stay below ten; a bound keeps hostile ones off the stack.
const MAX_DEPTH: usize = 32;

/// A text that is not a JSON object as it should be. Quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAnObject {
    /// Longer than was allowed.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// The same member twice, which readers judge differently (RFC 8725, section 3.1 and RFC 7515, section 4).
    #[error("a member stands twice")]
    Twice,
    /// Too deeply nested.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Not UTF-8, not JSON, or JSON but not an object.
    #[error("not a JSON object")]
    NotJson,
}

/// Reads `text` as one JSON object of at most `longest` bytes.
pub(super) fn object(text: &[u8], longest: usize) -> Result<Map<String, Value>, NotAnObject> {
    if text.len() > longest {
        return Err(NotAnObject::TooLong(longest));
    }
    // serde_json checks the UTF-8 of strings only as it meets them; a whole text is checked here, once.
    let text = std::str::from_utf8(text).map_err(|_| NotAnObject::NotJson)?;
    let mut fault = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0, fault: &mut fault }.deserialize(&mut reader);
    match value.and_then(|v| reader.end().map(|()| v)) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(fault.unwrap_or(NotAnObject::NotJson)),
    }
}

struct Strict<'f> {
    depth: usize,
    fault: &'f mut Option<NotAnObject>,
}

impl Strict<'_> {
    fn fail<E: de::Error>(&mut self, fault: NotAnObject) -> E {
        *self.fault = Some(fault);
        E::custom(fault)
    }

    /// Asked before an object or array is opened, the empty ones too.
    fn may_nest<E: de::Error>(&mut self) -> Result<(), E> {
        if self.depth == MAX_DEPTH { Err(self.fail(NotAnObject::TooDeep)) } else { Ok(()) }
    }

    fn inner(&mut self) -> Strict<'_> {
        Strict { depth: self.depth + 1, fault: self.fault }
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
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom(NotAnObject::NotJson))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Value, A::Error> {
        self.may_nest()?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(self.inner())? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        self.may_nest()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.inner())?;
            if object.insert(name, value).is_some() {
                return Err(self.fail(NotAnObject::Twice));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Map<String, Value>, NotAnObject> {
        object(text.as_bytes(), 1000)
    }

    #[test]
    fn a_plain_object_comes_out_as_serde_json_would_read_it() {
        let text = r#"{"a":[1,-2,3.5,true,null,{"b":"é\n"}],"c":{}}"#;
        assert_eq!(Value::Object(read(text).expect("plain")), serde_json::from_str::<Value>(text).expect("plain"));
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth_and_however_it_is_spelt() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"a":2}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(read(text), Err(NotAnObject::Twice), "{text}");
        }
    }

    #[test]
    fn depth_and_length_have_an_end() {
        let arrays = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        let objects = |n: usize| format!("{}{{}}{}", "{\"a\":".repeat(n), "}".repeat(n));
        for deep in [arrays(MAX_DEPTH - 1), objects(MAX_DEPTH - 1)] {
            assert!(read(&deep).is_ok(), "{deep}");
        }
        for deep in [arrays(MAX_DEPTH), objects(MAX_DEPTH), arrays(100)] {
            assert_eq!(read(&deep), Err(NotAnObject::TooDeep), "{deep}");
        }
        assert_eq!(object(b"{}", 1), Err(NotAnObject::TooLong(1)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "[]", "1", "null", "{", "{}x", "{} {}", "{'a':1}", "{\"a\":1,}", "{\"a\":NaN}", "{\"a\":1e999}"]
        {
            assert_eq!(read(text), Err(NotAnObject::NotJson), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}", 100), Err(NotAnObject::NotJson));
        assert_eq!(object(b"{\"\xc0\xaf\":1}", 100), Err(NotAnObject::NotJson));
    }
}
