//! Edits of a reply that imitate another issuer, or a proxy that changes replies.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame};
use hyper::{StatusCode, header};
use miniz_oxide::deflate::compress_to_vec_zlib;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::http::{Reply, bytes_reply, set_header};

/// The chunk size of a chunked body, in bytes: small enough to split every JSON string.
const CHUNK_SIZE: usize = 7;

/// Changes to a reply. Fields that are not set leave the reply unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplyEdit {
    /// A replacement of the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// JSON members to set.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub set: Map<String, Value>,
    /// JSON members to remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// JSON members to repeat with the same value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub duplicate: Vec<String>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The `Content-Type` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Whether the body starts with a byte order mark.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub byte_order_mark: bool,
    /// The length in bytes up to which the body is padded with spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_to: Option<usize>,
    /// Whether the body is compressed (`Content-Encoding: deflate`), although the request does not offer that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deflate: bool,
    /// Whether the body is sent in small chunks without a content length.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub chunked: bool,
}

impl ReplyEdit {
    /// Applies the changes. Changes of members are ignored if the body is not a JSON object.
    pub(super) async fn apply(&self, reply: Reply) -> Reply {
        let (mut parts, body) = reply.into_parts();
        let sent = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        let mut bytes = match &self.body {
            Some(body) => body.clone().into_bytes(),
            None => sent.to_vec(),
        };
        let edits_members = !(self.set.is_empty() && self.remove.is_empty() && self.duplicate.is_empty());
        if edits_members && let Ok(Value::Object(object)) = serde_json::from_slice(&bytes) {
            bytes = self.edit_members(object).into_bytes();
        }
        if self.byte_order_mark {
            bytes.splice(0..0, *b"\xef\xbb\xbf");
        }
        if let Some(length) = self.pad_to {
            bytes.resize(length.max(bytes.len()), b' ');
        }
        if let Some(status) = self.status {
            parts.status = StatusCode::from_u16(status).unwrap_or(parts.status);
        }
        if self.deflate {
            bytes = compress_to_vec_zlib(&bytes, 6);
        }
        let bytes = Bytes::from(bytes);
        let body =
            if self.chunked { ChunkedBody(bytes).boxed() } else { bytes_reply(parts.status, "", bytes).into_body() };
        let mut reply = Reply::from_parts(parts, body);
        if let Some(content_type) = &self.content_type {
            set_header(&mut reply, header::CONTENT_TYPE, content_type);
        }
        if self.deflate {
            set_header(&mut reply, header::CONTENT_ENCODING, "deflate");
        }
        reply
    }

    fn edit_members(&self, mut object: Map<String, Value>) -> String {
        for name in &self.remove {
            object.remove(name);
        }
        object.extend(self.set.clone());
        let duplicates = self.duplicate.iter().filter_map(|name| object.get_key_value(name));
        let members: Vec<String> = object
            .iter()
            .chain(duplicates)
            .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

/// A body of unknown length in small chunks.
struct ChunkedBody(Bytes);

impl Body for ChunkedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.len().min(CHUNK_SIZE);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.0.split_to(length)))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::http::json as json_reply;
    use super::*;

    async fn apply(edit: &str) -> (Reply, String) {
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
    async fn edits_leave_other_parts_of_the_reply_unchanged() {
        for (edit, status, body) in [
            ("{}", 200, r#"{"a":1,"b":"x"}"#),
            (r#"{"set":{"b":null,"c":[2]},"remove":["a"]}"#, 200, r#"{"b":null,"c":[2]}"#),
            (r#"{"duplicate":["b","none"]}"#, 200, r#"{"a":1,"b":"x","b":"x"}"#),
            (r#"{"status":403,"byte_order_mark":true,"pad_to":20}"#, 403, "\u{feff}{\"a\":1,\"b\":\"x\"}  "),
            (r#"{"body":"{\"a\":1,\"a\":2 }"}"#, 200, r#"{"a":1,"a":2 }"#),
            (r#"{"body":"<p>","chunked":true,"set":{"a":1}}"#, 200, "<p>"),
        ] {
            let (reply, text) = apply(edit).await;
            assert_eq!((reply.status().as_u16(), text.as_str()), (status, body), "{edit}");
            assert_eq!(reply.headers()[header::CONTENT_TYPE], "application/json", "{edit}");
        }
        let (reply, _) = apply(r#"{"content_type":"text/html"}"#).await;
        assert_eq!(reply.headers()[header::CONTENT_TYPE], "text/html");
    }
}
