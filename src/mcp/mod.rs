//! The bridge for MCP clients: JSON-RPC messages on stdin and stdout, passed on to a server over streamable HTTP.
//!
//! Each request of the client is a task that posts it and passes on what the response contains. One message at a time is
//! written to the client, so a client that reads slowly stops the streams of the server, not the bridge. Notifications and
//! responses of the client are posted one after another, in order.

mod bridge;
mod calls;
mod credential_requests;
mod events;
mod exchange;
mod message;
mod parameters;
mod session;
mod state;
mod stdio;
mod streams;

pub use credential_requests::{CredentialRequest, ServerRefusal};
pub use message::RequestFailure;
pub use state::Bridge;

/// The longest message, in bytes.
const MAX_MESSAGE: usize = 16 << 20;

/// How many bytes of incomplete messages each stream may hold while others hold as many.
const MAX_SHARE: usize = 256 << 10;
