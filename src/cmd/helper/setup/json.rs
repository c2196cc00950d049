//! Members of an object in a JSON file of a tool, changed in its text: all else stays as it is, byte by byte.

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member of an object: its name, and where key and value are in the text.
struct Member {
    name: String,
    key: Range<usize>,
    value: Range<usize>,
}

/// Returns the members of the object in this part of the text, also those with equal names.
fn members(text: &str, part: Range<usize>) -> anyhow::Result<Vec<Member>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(&'de str, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                found.push((key.get(), value.get()));
            }
            Ok(found)
        }
    }
    let mut json = serde_json::Deserializer::from_str(text.get(part).unwrap_or_default());
    let found = json.deserialize_map(Members)?;
    json.end()?;
    let place = |part: &str| {
        let start = part.as_ptr().addr() - text.as_ptr().addr();
        start..start + part.len()
    };
    let member = |(key, value): (&str, &str)| {
        Ok(Member { name: serde_json::from_str(key)?, key: place(key), value: place(value) })
    };
    found.into_iter().map(member).collect()
}

/// The members of the named object in the text, and of the text itself.
struct NamedObjects {
    root: Vec<Member>,
    /// Each object of that name with its members: a reader may merge them.
    objects: Vec<(usize, Vec<Member>)>,
}

impl NamedObjects {
    fn read(text: &str, object: &str) -> anyhow::Result<Self> {
        let root = members(text, 0..text.len())?;
        let named = root.iter().enumerate().filter(|(_, member)| member.name == object);
        let objects = named.map(|(at, member)| Ok((at, members(text, member.value.clone())?)));
        Ok(Self { objects: objects.collect::<anyhow::Result<_>>()?, root })
    }
}

/// What becomes of a text to which a member is added.
#[derive(Debug, PartialEq)]
pub(super) enum Added {
    /// The member is there.
    Already,
    /// It has another value.
    Other,
    /// The text with the member.
    Text(String),
}

/// Adds the member to the object.
///
/// # Errors
/// If the text is invalid.
pub(super) fn add(text: &str, object: &str, name: &str, value: impl Serialize) -> anyhow::Result<Added> {
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    let found = NamedObjects::read(text, object)?;
    let same_name = found.objects.iter().flat_map(|(_, members)| members).rfind(|member| member.name == name);
    let value = serde_json::to_string(&value)?;
    if let Some(member) = same_name {
        return Ok(if text[member.value.clone()] == value { Added::Already } else { Added::Other });
    }
    // As the file is laid out: what is before its first member is before each.
    let before = found.root.first().map_or("\n\t", |first| {
        let brace = text.find('{').unwrap_or_default();
        &text[brace + 1..first.key.start]
    });
    let (deeper, colon) = match before.rsplit_once('\n') {
        Some((_, indent)) => (format!("{before}{indent}"), ": "),
        None => (before.to_owned(), ":"),
    };
    let member = format!("{}{colon}{value}", serde_json::to_string(name)?);
    let alone = format!("{{{deeper}{member}{before}}}");
    let mut text = text.to_owned();
    match (found.objects.last(), found.root.last()) {
        (Some((_, members)), _) if !members.is_empty() => {
            let (first, last) = (&members[0], &members[members.len() - 1]);
            let start = text[..first.key.start].trim_end().len();
            let space = text[start..first.key.start].to_owned();
            text.insert_str(last.value.end, &format!(",{space}{member}"));
        }
        (Some((at, _)), _) => text.replace_range(found.root[*at].value.clone(), &alone),
        (None, last) => {
            let new = format!("{before}{}{colon}{alone}", serde_json::to_string(object)?);
            match last {
                Some(last) => text.insert_str(last.value.end, &format!(",{new}")),
                None => text = format!("{{{new}\n}}\n"),
            }
        }
    }
    Ok(Added::Text(text))
}

/// Returns the text without the members of the object that have this name and value, and without the object if it has no
/// others; `None` if there are none.
///
/// # Errors
/// If the text is invalid.
pub(super) fn remove(text: &str, object: &str, name: &str, value: impl Serialize) -> anyhow::Result<Option<String>> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let value = serde_json::to_string(&value)?;
    let mut changed: Option<String> = None;
    loop {
        let current = changed.as_deref().unwrap_or(text);
        let found = NamedObjects::read(current, object)?;
        let is_it = |member: &Member| member.name == name && current[member.value.clone()] == value;
        let place = found.objects.iter().find_map(|(at, members)| {
            let index = members.iter().position(is_it)?;
            Some(if members.len() == 1 { cut(&found.root, *at) } else { cut(members, index) })
        });
        let Some(place) = place else { return Ok(changed) };
        let mut shorter = current.to_owned();
        shorter.replace_range(place, "");
        changed = Some(shorter);
    }
}

/// Returns what goes with a member: the comma before it, or the one after the first.
fn cut(members: &[Member], index: usize) -> Range<usize> {
    match (index.checked_sub(1).map(|before| &members[before]), members.get(index + 1)) {
        (Some(before), _) => before.value.end..members[index].value.end,
        (None, Some(after)) => members[index].key.start..after.key.start,
        (None, None) => members[index].key.start..members[index].value.end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_is_added_and_removed_and_all_else_stays() {
        for (before, after) in [
            ("", "{\n\t\"helpers\": {\n\t\t\"a\": \"x\"\n\t}\n}\n"),
            ("{\"z\":1,\"b\":2}", r#"{"z":1,"b":2,"helpers":{"a":"x"}}"#),
            (
                "{\n  \"z\": 1.0,\n  \"z\": {\"b\":[ ]}\n}\n",
                "{\n  \"z\": 1.0,\n  \"z\": {\"b\":[ ]},\n  \"helpers\": {\n    \"a\": \"x\"\n  }\n}\n",
            ),
            (
                "{\n\t\"helpers\": {\n\t\t\"z\": \"y\",\n\t\t\"b\": \"y\"\n\t},\n\t\"c\": \"\\u0041\"\n}",
                "{\n\t\"helpers\": {\n\t\t\"z\": \"y\",\n\t\t\"b\": \"y\",\n\t\t\"a\": \"x\"\n\t},\n\t\"c\": \"\\u0041\"\n}",
            ),
            (
                r#"{"helpers":{"z":"y"},"c":0,"helpers":{"z":"y"}}"#,
                r#"{"helpers":{"z":"y"},"c":0,"helpers":{"z":"y","a":"x"}}"#,
            ),
        ] {
            let Added::Text(added) = add(before, "helpers", "a", "x").expect("valid") else { panic!("a change") };
            assert_eq!(added, after);
            assert_eq!(add(&added, "helpers", "a", "x").expect("valid"), Added::Already, "twice: {added}");
            let removed = remove(&added, "helpers", "a", "x").expect("valid").expect("a change");
            let tidy = removed.split_whitespace().collect::<String>();
            if before.is_empty() {
                assert_eq!(tidy, "{}");
            } else {
                assert_eq!(removed, before);
            }
            assert_eq!(remove(&removed, "helpers", "a", "x").expect("valid"), None, "twice: {removed}");
        }
        let empty = add("{\n \"helpers\": { }\n}", "helpers", "a", "x").expect("valid");
        assert_eq!(empty, Added::Text("{\n \"helpers\": {\n  \"a\": \"x\"\n }\n}".to_owned()));
    }

    #[test]
    fn only_the_members_with_the_value_are_removed() {
        let text = r#"{"helpers":{"a":"x","b":"x","a":"y","a":"x"}}"#;
        let removed = remove(text, "helpers", "a", "x").expect("valid");
        assert_eq!(removed.as_deref(), Some(r#"{"helpers":{"b":"x","a":"y"}}"#));
        let last_counts = add(r#"{"helpers":{"a":"x","a":"y"}}"#, "helpers", "a", "x");
        assert_eq!(last_counts.expect("valid"), Added::Other);
        for invalid in ["{", "[]", "1", "{} x", r#"{"helpers":[]}"#, r#"{"helpers":null}"#, "\0"] {
            assert!(add(invalid, "helpers", "a", "x").is_err(), "{invalid}");
            assert!(remove(invalid, "helpers", "a", "x").is_err(), "{invalid}");
        }
    }
}
