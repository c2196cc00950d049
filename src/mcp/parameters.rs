//! Headers that repeat parts of a request, from revision 2026-07-28 on, for servers in between that do not read the body.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::message::Message;

/// The property of a parameter's schema that names its header.
const ANNOTATION: &str = "x-mcp-header";
/// The integers that every implementation represents exactly.
const SAFE_INTEGERS: std::ops::RangeInclusive<i64> = -9_007_199_254_740_991..=9_007_199_254_740_991;
/// How many tools with such parameters are remembered.
const MAX_TOOLS: usize = 10_000;

/// The headers of a tool, each with the path of its parameter.
type Parameters = BTreeMap<String, Vec<String>>;

/// The tools that the server has listed and whose parameters are repeated in headers.
#[derive(Default)]
pub(super) struct Tools(Mutex<HashMap<String, Parameters>>);

/// Returns the headers of a request that states its version itself.
pub(super) fn headers(message: &Message, tools: &Tools) -> Vec<(String, String)> {
    let (Some(method), Some(_)) = (&message.method, &message.version) else { return Vec::new() };
    let mut headers = vec![("mcp-method".to_owned(), encode(method))];
    let Some(name) = &message.name else { return headers };
    headers.push(("mcp-name".to_owned(), encode(name)));
    if let Some(arguments) = &message.arguments {
        let tools = tools.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (header, path) in tools.get(name).into_iter().flatten() {
            let value = path.iter().try_fold(arguments, |value, name| value.get(name));
            if let Some(value) = value.and_then(text) {
                headers.push((format!("mcp-param-{header}"), encode(&value)));
            }
        }
    }
    headers
}

/// Returns a primitive value as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Encodes a value that a header cannot hold, or that would be mistaken for an encoded one.
fn encode(value: &str) -> String {
    let is_plain = value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
        && value.trim_matches([' ', '\t']) == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if is_plain { value.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(value)) }
}

impl Tools {
    /// Takes the response to `tools/list`; returns it without the tools whose parameters have invalid header names, or `None`
    /// if there are none.
    pub(super) fn listed(&self, line: &[u8]) -> Option<Vec<u8>> {
        if !line.windows(ANNOTATION.len()).any(|part| part == ANNOTATION.as_bytes()) {
            return None;
        }
        let mut response: Value = serde_json::from_slice(line).ok()?;
        let tools = response.get_mut("result")?.get_mut("tools")?.as_array_mut()?;
        let before = tools.len();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tools.retain(|tool| {
            let name = tool["name"].as_str().unwrap_or_default();
            match parameters(&tool["inputSchema"]) {
                Ok(parameters) if parameters.is_empty() => {
                    known.remove(name);
                    true
                }
                Ok(parameters) => {
                    if known.len() < MAX_TOOLS || known.contains_key(name) {
                        known.insert(name.to_owned(), parameters);
                    }
                    true
                }
                Err(reason) => {
                    tracing::warn!("the tool {name:?} is left out: {reason}");
                    false
                }
            }
        });
        (tools.len() < before).then(|| response.to_string().into_bytes())
    }
}

/// Returns the headers that the schema of a tool names.
fn parameters(schema: &Value) -> Result<Parameters, &'static str> {
    let mut found = Parameters::new();
    if let Some(schema) = schema.as_object() {
        collect(schema, &mut Vec::new(), &mut found)?;
    }
    Ok(found)
}

/// Collects the headers of a schema that is reached by `properties` only.
fn collect(schema: &Map<String, Value>, path: &mut Vec<String>, found: &mut Parameters) -> Result<(), &'static str> {
    if let Some(annotation) = schema.get(ANNOTATION) {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let name = annotation.as_str().filter(|name| !name.is_empty() && name.bytes().all(is_token));
        let name = name.ok_or("invalid header name")?.to_ascii_lowercase();
        if path.is_empty()
            || !matches!(schema.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean"))
        {
            return Err("the parameter of a header is not a string, an integer or a boolean");
        }
        let bounds = ["minimum", "maximum"].iter().filter_map(|bound| schema.get(*bound)?.as_i64());
        if bounds.into_iter().any(|bound| !SAFE_INTEGERS.contains(&bound)) {
            return Err("the integer of a header is not exact everywhere");
        }
        if found.insert(name, path.clone()).is_some() {
            return Err("two parameters have the same header");
        }
    }
    for (keyword, value) in schema {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    path.push(name.clone());
                    if let Some(property) = property.as_object() {
                        collect(property, path, found)?;
                    }
                    path.pop();
                }
            }
            // Examples and defaults are values, not schemas.
            ("default" | "const" | "enum" | "examples" | ANNOTATION, _) => {}
            _ if is_annotated(value) => return Err("a header is named where no parameter is"),
            _ => {}
        }
    }
    Ok(())
}

/// Returns whether an annotation is anywhere in a value.
fn is_annotated(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.contains_key(ANNOTATION) || object.values().any(is_annotated),
        Value::Array(items) => items.iter().any(is_annotated),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(line: &Value) -> Message {
        Message::parse(line.to_string().into()).expect("a message")
    }

    fn call(name: &str, arguments: &Value) -> Message {
        let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
        let params = json!({"name": name, "arguments": arguments, "_meta": meta});
        message(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
    }

    fn tool(name: &str, schema: &Value) -> Value {
        json!({"name": name, "inputSchema": schema})
    }

    #[test]
    fn values_are_encoded_unless_a_header_can_hold_them() {
        for (value, header) in [
            ("us-west1", "us-west1"),
            ("a b\tc", "a b\tc"),
            ("Hello, \u{4e16}\u{754c}", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("=?base64?x", "=?base64?x"),
            ("", ""),
        ] {
            assert_eq!(encode(value), header, "{value:?}");
        }
    }

    #[test]
    fn only_requests_that_state_their_version_are_described() {
        let tools = Tools::default();
        let described = headers(&call("t", &json!({})), &tools);
        assert_eq!(described, [("mcp-method".into(), "tools/call".into()), ("mcp-name".into(), "t".into())]);
        let earlier = message(&json!({"id": 1, "method": "tools/call", "params": {"name": "t"}}));
        assert!(headers(&earlier, &tools).is_empty());
    }

    #[test]
    fn annotated_parameters_of_listed_tools_become_headers() {
        let tools = Tools::default();
        let schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "place": {"properties": {"level": {"type": "integer", "x-mcp-header": "Level"}}},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
        }});
        let list = json!({"id": 1, "result": {"tools": [tool("sql", &schema)]}}).to_string();
        assert_eq!(tools.listed(list.as_bytes()), None, "nothing is left out");
        let arguments = json!({"region": "\u{e9}", "place": {"level": -7}, "dry": null});
        let described = headers(&call("sql", &arguments), &tools);
        let expected = [("mcp-param-level", "-7"), ("mcp-param-region", "=?base64?w6k=?=")];
        assert_eq!(described[2..], expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(headers(&call("other", &arguments), &tools).len(), 2);
    }

    #[test]
    fn tools_with_invalid_annotations_are_left_out_of_the_list() {
        let annotated = |property: Value| json!({"properties": {"a": property}});
        let name = |name: &str| annotated(json!({"type": "string", "x-mcp-header": name}));
        let invalid = [
            name(""),
            name("a b"),
            name("a\r\nb"),
            name("\u{e9}"),
            annotated(json!({"type": "string", "x-mcp-header": 1})),
            annotated(json!({"type": "number", "x-mcp-header": "A"})),
            annotated(json!({"type": "object", "x-mcp-header": "A"})),
            annotated(json!({"x-mcp-header": "A"})),
            annotated(json!({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}})),
            json!({"properties": {"a": {"anyOf": [{"properties": {"b": {"type": "string", "x-mcp-header": "A"}}}]}}}),
            json!({"$defs": {"a": {"type": "string", "x-mcp-header": "A"}}}),
            json!({"type": "string", "x-mcp-header": "A"}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}}),
        ];
        for schema in invalid {
            let tools = Tools::default();
            let list = json!({"id": 1, "result": {"tools": [tool("bad", &schema), tool("good", &json!({}))]}});
            let listed = tools.listed(list.to_string().as_bytes()).expect("one is left out");
            let listed: Value = serde_json::from_slice(&listed).expect("JSON");
            assert_eq!(listed["result"]["tools"], json!([tool("good", &json!({}))]), "{schema}");
        }
    }
}
