//! JSON-RPC messages, read only as far as the bridge needs: both sides get them byte for byte.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::oauth::Bytes;

/// The error code of a failure that the bridge reports (JSON-RPC 2.0, section 5.1: for implementations to define).
const BRIDGE_ERROR: i32 = -32000;
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
/// The member of `_meta` by which a request states its protocol version, from revision 2026-07-28 on.
const VERSION_MEMBER: &str = "io.modelcontextprotocol/protocolVersion";

/// The ID of a request: its JSON text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(String);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&RawValue> for Id {
    /// Two spellings of one string are one ID.
    fn from(raw: &RawValue) -> Self {
        let spelled = serde_json::from_str::<Value>(raw.get()).map(|value| value.to_string());
        Self(spelled.unwrap_or_else(|_| raw.get().to_owned()))
    }
}

/// A message of the client, or a batch of them (revision 2025-03-26).
#[derive(Debug)]
pub(super) struct Message {
    /// Its text.
    pub(super) body: Bytes,
    /// Whether it is a batch.
    pub(super) is_batch: bool,
    /// The requests in it, each of which expects a response.
    pub(super) requests: Vec<Id>,
    /// The method of a single request or notification.
    pub(super) method: Option<String>,
    /// What the request is about: the name of a tool or prompt, or the URI of a resource.
    pub(super) name: Option<String>,
    /// The protocol version that a single request states itself.
    pub(super) version: Option<String>,
    /// The request that a notification cancels.
    pub(super) cancels: Option<Id>,
    /// The arguments of a tool call.
    pub(super) arguments: Option<Value>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Params<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    uri: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "requestId")]
    request_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// Returns a JSON string as text.
fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

impl Message {
    /// Parses a line of the client; `None` if it is not a message.
    pub(super) fn parse(body: Bytes) -> Option<Self> {
        let source = std::str::from_utf8(&body).ok()?;
        let batch = source.trim_start().starts_with('[');
        let envelopes: Vec<Envelope<'_>> = match batch {
            true => serde_json::from_str(source).ok()?,
            false => vec![serde_json::from_str(source).ok()?],
        };
        let is_request = |one: &&Envelope<'_>| one.method.is_some();
        let requests = envelopes.iter().filter(is_request).filter_map(|one| one.id.map(Id::from)).collect();
        let mut parsed = Self {
            body: body.clone(),
            is_batch: batch,
            requests,
            method: None,
            name: None,
            version: None,
            cancels: None,
            arguments: None,
        };
        if let ([envelope], false) = (&envelopes[..], batch) {
            let params = envelope.params.and_then(|params| serde_json::from_str(params.get()).ok());
            let params: Params<'_> = params.unwrap_or_default();
            parsed.method = envelope.method.as_deref().map(str::to_owned);
            (parsed.name, parsed.cancels, parsed.arguments) = match parsed.method.as_deref() {
                Some("tools/call") => {
                    let arguments = params.arguments.and_then(|raw| serde_json::from_str(raw.get()).ok());
                    (text(params.name), None, arguments)
                }
                Some("prompts/get") => (text(params.name), None, None),
                Some("resources/read") => (text(params.uri), None, None),
                Some("notifications/cancelled") => (None, params.request_id.map(Id::from), None),
                _ => (None, None, None),
            };
            let meta = params.meta.and_then(|meta| serde_json::from_str::<Value>(meta.get()).ok());
            parsed.version = meta.and_then(|meta| meta.get(VERSION_MEMBER)?.as_str().map(str::to_owned));
        }
        if envelopes.is_empty() { None } else { Some(parsed) }
    }

    /// Returns whether it is a single message with this method.
    pub(super) fn is(&self, method: &str) -> bool {
        self.method.as_deref() == Some(method)
    }
}

/// A message of the server, or a batch of them.
#[derive(Debug)]
pub(super) struct ServerMessage {
    /// Its text on one line.
    pub(super) line: Vec<u8>,
    /// The requests that it responds to.
    pub(super) responses: Vec<Id>,
    /// Whether it is an error that names no request.
    pub(super) is_error_without_id: bool,
}

impl ServerMessage {
    /// Parses what the server has sent; `None` if it is not a message.
    pub(super) fn parse(mut data: Vec<u8>) -> Option<Self> {
        let source = std::str::from_utf8(&data).ok()?;
        let batch = source.trim_start().starts_with('[');
        let envelopes: Vec<Envelope<'_>> = match batch {
            true => serde_json::from_str(source).ok()?,
            false => vec![serde_json::from_str(source).ok()?],
        };
        let is_response = |one: &Envelope<'_>| one.method.is_none() && (one.error.is_some() || one.result.is_some());
        if envelopes.iter().any(|one| one.method.is_none() && !is_response(one)) {
            return None;
        }
        let answered = envelopes.iter().filter(|one| is_response(one));
        let responses = answered.filter_map(|one| one.id.map(Id::from)).collect();
        let is_error_without_id = matches!(&envelopes[..], [one] if !batch && one.id.is_none() && one.method.is_none() && one.error.is_some());
        // A line break in JSON can only be white space between two tokens.
        data.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        Some(Self { line: data, responses, is_error_without_id })
    }

    /// Adds the ID of the request to an error that names none, which the client could not match otherwise.
    pub(super) fn in_response_to(mut self, requests: &[Id]) -> Self {
        if let ([id], true) = (requests, self.is_error_without_id)
            && let Ok(Value::Object(mut object)) = serde_json::from_slice(&self.line)
        {
            object.insert("id".to_owned(), serde_json::from_str(&id.0).unwrap_or(Value::Null));
            self.line = Value::Object(object).to_string().into_bytes();
            self.responses = vec![id.clone()];
        }
        self
    }
}

/// Why a request gets no response of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFailure {
    /// The stable word of the error.
    pub code: &'static str,
    /// What failed, in one line.
    pub message: String,
    /// The command that helps, or nothing.
    pub hint: String,
}

impl RequestFailure {
    /// Creates the failure of a request to the server.
    pub(super) fn of_server(message: impl Into<String>) -> Self {
        Self { code: "server_failed", message: message.into(), hint: String::new() }
    }

    /// Returns the message with the hint, in one line.
    pub(super) fn line(&self) -> String {
        match self.hint.is_empty() {
            true => self.message.clone(),
            false => format!("{}; run: {}", self.message, self.hint),
        }
    }

    /// Returns the error responses to the requests of a message, on one line.
    pub(super) fn responses(&self, requests: &[Id], is_batch: bool) -> Vec<u8> {
        let mut data = json!({"code": self.code});
        if !self.hint.is_empty() {
            data["hint"] = json!(self.hint);
        }
        let response = |id: &Id| {
            let id: Value = serde_json::from_str(&id.0).unwrap_or(Value::Null);
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": BRIDGE_ERROR, "message": self.line(), "data": data}})
        };
        let responses: Vec<Value> = requests.iter().map(response).collect();
        match (responses.as_slice(), is_batch) {
            ([one], false) => one.to_string().into_bytes(),
            _ => Value::Array(responses).to_string().into_bytes(),
        }
    }
}

/// Returns the response to a line that is longer than any message.
pub(super) fn too_long_line() -> Vec<u8> {
    invalid(Value::Null, PARSE_ERROR, "the message is too long")
}

/// Returns the response to a line that is not a message (JSON-RPC 2.0, section 5.1): with the ID of the request if it has one.
pub(super) fn invalid_line(line: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(line) {
        Err(_) => invalid(Value::Null, PARSE_ERROR, "not JSON"),
        Ok(value) => {
            let id = value.get("id").filter(|id| id.is_string() || id.is_number()).cloned();
            invalid(id.unwrap_or_default(), INVALID_REQUEST, "not a JSON-RPC message")
        }
    }
}

fn invalid(id: Value, code: i32, message: &str) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).to_string().into_bytes()
}

/// Returns the protocol version of a response to `initialize`.
pub(super) fn negotiated_version(line: &[u8]) -> Option<String> {
    let response: Value = serde_json::from_slice(line).ok()?;
    response["result"]["protocolVersion"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Message> {
        Message::parse(line.as_bytes().to_vec().into())
    }

    fn id(text: &str) -> Id {
        Id(text.to_owned())
    }

    #[test]
    fn requests_notifications_responses_and_batches_are_distinguished() {
        for (line, requests) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, vec!["1"]),
            (r#"{"jsonrpc":"2.0","id":"a\u0062","method":"ping","params":[1]}"#, vec![r#""ab""#]),
            (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, vec![]),
            (r#"{"jsonrpc":"2.0","id":4,"result":{}}"#, vec![]),
            (r#"{"jsonrpc":"2.0","id":4,"error":{"code":1,"message":"x"}}"#, vec![]),
            (r#" [{"id":1,"method":"a"},{"method":"b"},{"id":2,"method":"c"},{"id":3,"result":1}]"#, vec!["1", "2"]),
        ] {
            let message = parse(line).expect(line);
            assert_eq!(message.requests, requests.into_iter().map(id).collect::<Vec<_>>(), "{line}");
            assert_eq!(message.is_batch, line.starts_with(" ["), "{line}");
        }
        for line in ["", "x", "1", "null", "[]", "[1]", "{", "{}x", "\u{feff}{}"] {
            assert!(parse(line).is_none(), "{line}");
        }
    }

    #[test]
    fn invalid_line_is_answered_with_the_id_that_it_has() {
        for (line, id, code) in [
            (r#"{"id":9,"method":7}"#, json!(9), -32600),
            (r#"{"id":"a","method":["x"],"params":{}}"#, json!("a"), -32600),
            (r#"{"id":{},"method":7}"#, json!(null), -32600),
            ("[]", json!(null), -32600),
            ("[1]", json!(null), -32600),
            ("7", json!(null), -32600),
            ("{", json!(null), -32700),
            ("x", json!(null), -32700),
            ("{}x", json!(null), -32700),
        ] {
            assert!(parse(line).is_none(), "{line}");
            let response: Value = serde_json::from_slice(&invalid_line(line.as_bytes())).expect("JSON");
            assert_eq!((&response["id"], &response["error"]["code"]), (&id, &json!(code)), "{line}");
        }
    }

    #[test]
    fn request_names_its_subject_and_version() {
        let line = r#"{"id":1,"method":"tools/call","params":{"name":"t","uri":"u","arguments":{"a":1},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let message = parse(line).expect("a message");
        assert_eq!((message.name.as_deref(), message.version.as_deref()), (Some("t"), Some("2026-07-28")));
        assert_eq!(message.arguments, Some(json!({"a": 1})));
        let read = parse(r#"{"id":1,"method":"resources/read","params":{"name":"t","uri":"u"}}"#).expect("a message");
        assert_eq!((read.name.as_deref(), read.version), (Some("u"), None));
        let other = parse(r#"{"id":1,"method":"ping","params":{"name":"t"}}"#).expect("a message");
        assert_eq!(other.name, None);
        let cancel = parse(r#"{"method":"notifications/cancelled","params":{"requestId":"x"}}"#).expect("a message");
        assert_eq!(cancel.cancels, Some(id(r#""x""#)));
    }

    #[test]
    fn server_message_becomes_one_line() {
        let data = b"{\r\n \"id\": 1,\n \"result\": {\"text\": \"a\\nb\"}\n}".to_vec();
        let message = ServerMessage::parse(data).expect("a message");
        assert!(!message.line.contains(&b'\n') && !message.line.contains(&b'\r'));
        assert_eq!(message.responses, [id("1")]);
        let value: Value = serde_json::from_slice(&message.line).expect("JSON");
        assert_eq!(value["result"]["text"], "a\nb");
        for data in ["", "<html>", "{}", "{\"id\":1}", "[{}]", "{\"result\":1} {\"result\":2}", "\"x\""] {
            assert!(ServerMessage::parse(data.as_bytes().to_vec()).is_none(), "{data}");
        }
    }

    #[test]
    fn error_without_id_gets_that_of_the_only_request() {
        let error = || {
            ServerMessage::parse(br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"x"}}"#.to_vec())
                .expect("a message")
        };
        let fixed = error().in_response_to(&[id("7")]);
        assert_eq!(serde_json::from_slice::<Value>(&fixed.line).expect("JSON")["id"], 7);
        assert_eq!(fixed.responses, [id("7")]);
        assert!(error().in_response_to(&[id("7"), id("8")]).responses.is_empty());
    }

    #[test]
    fn failure_names_the_command_in_message_and_data() {
        let failure =
            RequestFailure { code: "login_required", message: "no session".into(), hint: "authctl login".into() };
        let line = failure.responses(&[id("\"a\"")], false);
        let expected = json!({"jsonrpc": "2.0", "id": "a", "error": {"code": -32000, "message": "no session; run: authctl login", "data": {"code": "login_required", "hint": "authctl login"}}});
        assert_eq!(serde_json::from_slice::<Value>(&line).expect("JSON"), expected);
        let batch = failure.responses(&[id("1"), id("2")], true);
        assert_eq!(serde_json::from_slice::<Value>(&batch).expect("JSON").as_array().map(Vec::len), Some(2));
    }
}
