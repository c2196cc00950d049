//! The session with the server (revisions 2025-03-26 to 2025-11-25) and the headers of requests that name it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::message::Message;
use crate::oauth::Bytes;

/// The longest session ID.
const MAX_ID: usize = 1024;

/// The session as a request sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// How many sessions were begun before.
    pub(super) generation: u64,
    /// The ID that the server has assigned; `None` if it keeps no sessions.
    pub(super) id: Option<String>,
    /// The protocol version of the response to `initialize`; `None` before it.
    pub(super) version: Option<String>,
}

/// The session of the bridge.
#[derive(Default)]
pub(super) struct BridgeSession(Mutex<(View, Option<Bytes>)>);

impl BridgeSession {
    fn state(&self) -> MutexGuard<'_, (View, Option<Bytes>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the session as it is now.
    pub(super) fn view(&self) -> View {
        self.state().0.clone()
    }

    /// Returns the client's request that has begun the session.
    pub(super) fn initialize_request(&self) -> Option<Bytes> {
        self.state().1.clone()
    }

    /// Begins a session with the server's response to `initialize`.
    pub(super) fn begin(&self, request: &Message, id: Option<String>, version: Option<String>) {
        let mut state = self.state();
        let generation = state.0.generation + 1;
        *state = (View { generation, id, version }, Some(request.body.clone()));
    }
}

/// Returns a session ID that may be sent back: visible ASCII.
pub(super) fn valid_id(id: Option<&str>) -> Option<String> {
    let id = id.filter(|id| !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_graphic()))?;
    Some(id.to_owned())
}

/// Returns the headers that describe a message, or a stream without one.
pub(super) fn headers(view: &View, message: Option<&Message>) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    let is_first = message.is_some_and(|message| message.is("initialize"));
    let stated = message.and_then(|message| message.version.clone());
    if let Some(id) = view.id.clone().filter(|_| !is_first && stated.is_none()) {
        headers.push(("mcp-session-id", id));
    }
    if let Some(version) = stated.or_else(|| view.version.clone()).filter(|_| !is_first) {
        headers.push(("mcp-protocol-version", version));
    }
    headers
}
