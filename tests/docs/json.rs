//! The part of authctl-json(7) that is generated from the schemas in `man/json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use authctl::config::{SETTINGS, Section};
use serde_json::{Map, Value};

use crate::roff::{folded, prose};

/// The generated part is between these lines.
pub const BEGIN: &str = ".\\\" The documents are generated from man/json by tests/docs.\n";
pub const END: &str = ".\\\" End of the documents.\n";

/// Returns the schemas by their path.
fn schemas() -> BTreeMap<PathBuf, Value> {
    let read = |path: PathBuf| {
        let schema = serde_json::from_str(&crate::read(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, schema)
    };
    crate::files("man/json").map(read).collect()
}

/// Renders the documents.
pub fn rendered() -> String {
    folded(&schemas().iter().map(|(path, schema)| document(path, schema)).collect::<String>())
}

fn text<'a>(schema: &'a Value, member: &str) -> &'a str {
    schema[member].as_str().unwrap_or_default()
}

/// Renders a description, each sentence on a line of its own.
fn sentences(text: &str) -> String {
    prose(text).replace(". ", ".\n")
}

fn document(path: &Path, schema: &Value) -> String {
    let mut page = format!(".Ss {}\n", text(schema, "title"));
    let commands = schema["commands"].as_array().expect("commands");
    if !commands.is_empty() {
        let commands: Vec<&str> = commands.iter().filter_map(Value::as_str).collect();
        page.push_str(&format!("Printed by\n.Ic {} .\n", commands.join(" , ")));
    }
    page.push_str(&format!("{}\n", sentences(text(schema, "description"))));
    page.push_str(&format!("Schema:\n.Pa {} .\n", path.display()));
    let variants =
        schema["oneOf"].as_array().filter(|variants| variants.iter().any(|one| one["properties"].is_object()));
    match variants {
        Some(variants) => {
            for variant in variants {
                page.push_str(&members(variant));
            }
        }
        None if schema["items"].is_object() => match reference(&schema["items"]) {
            Some(document) => page.push_str(&format!(".Pp\nA list; each item is {document}.\n")),
            None => page.push_str(&format!(".Pp\nA list of objects:\n{}", members(&schema["items"]))),
        },
        None => page.push_str(&members(schema)),
    }
    page
}

fn members(schema: &Value) -> String {
    let mut page = String::from(".Pp\n.Bl -tag -width Ds -compact\n");
    list(schema, "", &mut page);
    page + ".El\n"
}

/// Renders the members of an object and of the objects in it, which `prefix` names.
fn list(schema: &Value, prefix: &str, page: &mut String) {
    let none = Map::new();
    let members = schema["properties"].as_object().unwrap_or(&none);
    // In the order of the schema, which the parsed object does not have.
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let others = members.keys().map(String::as_str).filter(|name| !required.contains(name));
    for name in required.iter().copied().chain(others) {
        let member = &members[name];
        let optional = if required.contains(&name) { "" } else { ", optional" };
        page.push_str(&format!(".It Va {prefix}{name} Pq {}{optional}\n", kind(member)));
        let (meaning, name) = (text(member, "description"), format!("{prefix}{name}"));
        if !meaning.is_empty() {
            page.push_str(&format!("{}\n", sentences(meaning)));
        }
        list(member, &format!("{name}."), page);
        list(&member["items"], &format!("{name}[]."), page);
    }
}

/// Describes a document that is part of another one.
fn reference(schema: &Value) -> Option<String> {
    let part = schemas().remove(&Path::new("man/json").join(schema["$ref"].as_str()?)).expect("the schema referred to");
    Some(format!("printed by `authctl {} --json`", part["commands"][0].as_str().expect("a command")))
        .map(|text| format!("as {}", prose(&text)))
}

/// Describes the type of a value.
fn kind(schema: &Value) -> String {
    if let Some(part) = reference(schema) {
        return part;
    }
    let quoted = |values: &Vec<Value>| values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    match (&schema["enum"], &schema["const"], &schema["type"]) {
        (Value::Array(values), _, _) => quoted(values),
        (_, value @ (Value::Bool(_) | Value::String(_)), _) => value.to_string(),
        (_, _, Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        (_, _, Value::String(kind)) if kind == "array" => match &schema["items"] {
            items if items["properties"].is_object() => "array of objects".to_owned(),
            items => format!("array of {}", kind_of_items(items)),
        },
        (_, _, kind) => kind.as_str().expect("a type").to_owned(),
    }
}

fn kind_of_items(items: &Value) -> String {
    if let Some(part) = reference(items) {
        return format!("objects, each {part}");
    }
    match &items["enum"] {
        Value::Array(_) => kind(items),
        _ => format!("{}s", kind(items)),
    }
}

#[test]
fn schema_of_a_profile_has_every_setting() {
    let schema = &schemas()[Path::new("man/json/profile.json")];
    let members: BTreeSet<&str> =
        schema["properties"].as_object().expect("members").keys().map(String::as_str).collect();
    let settings = SETTINGS.iter().map(|setting| setting.key);
    assert_eq!(members, settings.chain(["profile", "default", "sources", "locked"]).collect());
    let required: BTreeSet<&str> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let shown = SETTINGS.iter().filter(|setting| matches!(setting.section, Section::Login | Section::Requirements));
    assert_eq!(required, shown.map(|setting| setting.key).chain(["profile", "default"]).collect());
}

/// What the agent returns and the command prints of the same kind has the same members.
#[test]
fn schemas_agree_with_the_agents_description() {
    let description: Value = serde_json::from_str(&crate::read("src/agent/protocol/openapi.json")).expect("JSON");
    let components = &description["components"]["schemas"];
    let schemas = schemas();
    let schema = |name: &str| &schemas[&Path::new("man/json").join(name)];
    let members = |schema: &Value| -> BTreeSet<String> {
        schema["properties"].as_object().expect("members").keys().filter(|name| *name != "steps").cloned().collect()
    };
    let token: BTreeSet<String> =
        members(&components["Token"]).union(&members(&components["IdToken"])).cloned().collect();
    assert_eq!(members(schema("token.json")), token);
    let status = schema("status.json");
    let verdicts = &schema("verify.json")["oneOf"];
    for (component, document) in [
        ("Agent", schema("agent-status.json")),
        ("Status", status),
        ("ProfileStatus", &status["properties"]["profiles"]["items"]),
        ("Refreshed", schema("refresh.json")),
        ("Log", schema("agent-log.json")),
        ("LogEntry", schema("agent-log-entry.json")),
        ("Granted", &verdicts[0]),
        ("Denied", &verdicts[1]),
    ] {
        assert_eq!(members(document), members(&components[component]), "{component}");
    }
}
