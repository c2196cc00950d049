//! The server's messages in a response: one in a JSON body, or many in a stream of events.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::events::{EventParser, Position, ServerEvent};
use super::message::ServerMessage;
use super::{MAX_MESSAGE, MAX_SHARE};
use crate::oauth::ApiResponse;

/// The permit to hold more than [`MAX_SHARE`] of an incomplete message, which one stream at a time has.
pub(super) type Large = Arc<Semaphore>;

/// Why a stream ended before its time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamError {
    /// The connection was lost; the text is the reason.
    Lost(String),
    /// A message is longer than [`MAX_MESSAGE`].
    TooLong,
    /// The body is not a message.
    Invalid,
}

/// The messages of a response.
pub(super) struct Messages {
    response: ApiResponse,
    body: Body,
    large: Large,
    permit: Option<OwnedSemaphorePermit>,
}

enum Body {
    /// A JSON body as far as it has arrived; `None` when it was returned.
    Json(Option<Vec<u8>>),
    Events {
        parser: EventParser,
        complete: VecDeque<ServerEvent>,
    },
}

impl Messages {
    /// Returns the messages of a response; `None` if its type is another.
    pub(super) fn of(response: ApiResponse, large: Large) -> Option<Self> {
        let body = match response.media_type().as_str() {
            "application/json" => Body::Json(Some(Vec::new())),
            "text/event-stream" => Body::Events { parser: EventParser::default(), complete: VecDeque::new() },
            _ => return None,
        };
        Some(Self { response, body, large, permit: None })
    }

    /// Returns where the stream goes on; nothing for a JSON body.
    pub(super) fn position(&self) -> Position {
        match &self.body {
            Body::Json(_) => Position::default(),
            Body::Events { parser, .. } => parser.position.clone(),
        }
    }

    /// Returns the next message; `None` at the end.
    ///
    /// # Errors
    /// [`StreamError`]. An event that is not a message is skipped.
    pub(super) async fn next(&mut self) -> Result<Option<ServerMessage>, StreamError> {
        loop {
            let held = match &mut self.body {
                Body::Json(None) => return Ok(None),
                Body::Json(Some(body)) => body.len(),
                Body::Events { parser, complete } => {
                    while let Some(event) = complete.pop_front() {
                        if !matches!(event.kind.as_str(), "" | "message") {
                            continue;
                        }
                        match ServerMessage::parse(event.data) {
                            Some(message) => return Ok(Some(message)),
                            None => tracing::warn!("an event that is not a JSON-RPC message is skipped"),
                        }
                    }
                    parser.held()
                }
            };
            if held > MAX_MESSAGE {
                return Err(StreamError::TooLong);
            }
            match (held > MAX_SHARE, &self.permit) {
                (true, None) => self.permit = Arc::clone(&self.large).acquire_owned().await.ok(),
                (false, Some(_)) => self.permit = None,
                _ => {}
            }
            let chunk = self.response.chunk().await.map_err(|error| StreamError::Lost(error.to_string()))?;
            match (&mut self.body, chunk) {
                (Body::Json(Some(body)), Some(chunk)) => body.extend_from_slice(&chunk),
                (Body::Json(body), None) => {
                    let body = body.take().unwrap_or_default();
                    return match ServerMessage::parse(body) {
                        Some(message) => Ok(Some(message)),
                        None => Err(StreamError::Invalid),
                    };
                }
                (Body::Events { parser, complete }, Some(chunk)) => complete.extend(parser.push(&chunk)),
                (Body::Events { .. } | Body::Json(None), _) => return Ok(None),
            }
        }
    }
}
