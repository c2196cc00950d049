//! The agent as others see it: the words on its socket, where that socket is, and the client that asks.
//!
//! Only the standard library is used to ask: `authctl token` starts no runtime for it, and no HTTP client.

mod client;
mod messages;
mod socket;

pub use client::{Client, ClientError, Reply};
pub use messages::{
    AgentStatus, AuditLogEntry, AuditLogResponse, ForgetResponse, LockRequest, OPENAPI, Problem, ReceivedToken,
    RefreshResponse, StopResponse, TokenResponse, UnlockRequest, token_query,
};
pub use socket::{ListenError, Listening, home_mark, listen};
