//! The agent as others see it: the words on its socket, where that socket is, and the client that asks.
//!
//! Only the standard library is used to ask: `authctl token` starts no runtime for it, and no HTTP client.

mod client;
mod messages;
mod socket;

pub use client::{AskError, Client, Reply};
pub use messages::{
    AgentState, Forgotten, LockRequest, Log, LogEntry, OPENAPI, Problem, Refreshed, Stopping, TokenAnswer, TokenReply,
    UnlockRequest, query_of,
};
pub use socket::{ListenError, Listening, home_mark, listen};
