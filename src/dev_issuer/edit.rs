//! A reply changed on its way out: what another issuer, or something in between, would have sent instead.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame};
use hyper::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::wire::{Reply, bytes_reply, set};

/// A body that is sent in chunks comes in pieces of so many bytes, none of which ends where a word does.
const CHUNK: usize = 7;

/// How a reply is changed. What an edit does not name stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplyEdit {
    /// The whole body instead of the issuer's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Members that the JSON object in the body gets.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub set: Map<String, Value>,
    /// Members that it loses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Members that stand in it twice, with the same value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub double: Vec<String>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The `Content-Type` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Whether the body begins with a byte order mark.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub byte_order_mark: bool,
    /// Spaces follow until the body has so many bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_to: Option<usize>,
    /// Whether it is sent in chunks of a few bytes, without a length.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub chunked: bool,
}

impl ReplyEdit {
    /// `reply` with the changes. Members of a body that is no JSON object cannot be changed.
    pub(super) async fn apply(&self, reply: Reply) -> Reply {
        let (mut parts, body) = reply.into_parts();
        let sent = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        let mut text = match &self.body {
            Some(body) => body.clone().into_bytes(),
            None => sent.to_vec(),
        };
        let changes = !(self.set.is_empty() && self.remove.is_empty() && self.double.is_empty());
        if changes && let Ok(Value::Object(object)) = serde_json::from_slice(&text) {
            text = self.written(object).into_bytes();
        }
        if self.byte_order_mark {
            text.splice(0..0, *b"\xef\xbb\xbf");
        }
        if let Some(length) = self.pad_to {
            text.resize(length.max(text.len()), b' ');
        }
        if let Some(status) = self.status {
            parts.status = StatusCode::from_u16(status).unwrap_or(parts.status);
        }
        let text = Bytes::from(text);
        let body = if self.chunked { Chunks(text).boxed() } else { bytes_reply(parts.status, "", text).into_body() };
        let mut reply = Reply::from_parts(parts, body);
        if let Some(content_type) = &self.content_type {
            set(&mut reply, header::CONTENT_TYPE, content_type);
        }
        reply
    }

    fn written(&self, mut object: Map<String, Value>) -> String {
        for name in &self.remove {
            object.remove(name);
        }
        object.extend(self.set.clone());
        let again = self.double.iter().filter_map(|name| object.get_key_value(name));
        let members: Vec<String> =
            object.iter().chain(again).map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// A body whose length is not said beforehand.
struct Chunks(Bytes);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.len().min(CHUNK);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.0.split_to(length)))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::wire::json as json_reply;
    use super::*;

    async fn edited(edit: &str) -> (Reply, String) {
        let edit: ReplyEdit = serde_json::from_str(edit).expect("an edit");
        let reply = edit.apply(json_reply(StatusCode::OK, &json!({"a": 1, "b": "x"}))).await;
        let (parts, body) = reply.into_parts();
        let text = body.collect().await.expect("a body").to_bytes();
        (
            Reply::from_parts(parts, http_body_util::Empty::new().boxed()),
            String::from_utf8(text.to_vec()).expect("text"),
        )
    }

    #[tokio::test]
    async fn what_is_not_named_stays_as_it_was() {
        for (edit, status, body) in [
            ("{}", 200, r#"{"a":1,"b":"x"}"#),
            (r#"{"set":{"b":null,"c":[2]},"remove":["a"]}"#, 200, r#"{"b":null,"c":[2]}"#),
            (r#"{"double":["b","none"]}"#, 200, r#"{"a":1,"b":"x","b":"x"}"#),
            (r#"{"status":403,"byte_order_mark":true,"pad_to":20}"#, 403, "\u{feff}{\"a\":1,\"b\":\"x\"}  "),
            (r#"{"body":"{\"a\":1,\"a\":2 }"}"#, 200, r#"{"a":1,"a":2 }"#),
            (r#"{"body":"<p>","chunked":true,"set":{"a":1}}"#, 200, "<p>"),
        ] {
            let (reply, text) = edited(edit).await;
            assert_eq!((reply.status().as_u16(), text.as_str()), (status, body), "{edit}");
            assert_eq!(reply.headers()[header::CONTENT_TYPE], "application/json", "{edit}");
        }
        let (reply, _) = edited(r#"{"content_type":"text/html"}"#).await;
        assert_eq!(reply.headers()[header::CONTENT_TYPE], "text/html");
    }
}
