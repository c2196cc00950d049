//! The agent's interface: the messages on its socket, the path of the socket, and a client.
//!
//! The client uses only the standard library: `authctl token` starts no runtime and no HTTP client.

use std::time::Duration;

mod agent_status;
mod client;
mod messages;
mod socket;

/// How long a stopping agent may take, with its open requests, and a refresh whose reply has to be stored. Service managers kill it
/// then.
pub const STOP_LIMIT: Duration = Duration::from_secs(180);

#[cfg(target_os = "linux")]
pub use agent_status::Restriction;
pub use agent_status::{AgentStatus, Confinement, HookStatus, UnsavedStatus};
pub use client::{AgentClient, ClientError, Reply};
pub use messages::{
    AuditLogEntry, AuditLogResponse, ForgetResponse, HandoverItem, HandoverRequest, LockRequest, LogoutResponse,
    MAX_WAIT, OPENAPI, Problem, ProofRequest, ProofResponse, ProxyReport, ProxyReported, ReceivedToken,
    RefreshResponse, StopResponse, TokenResponse, UnlockRequest, refresh_query, token_query,
};
pub use socket::{ListenError, Listening, check_socket_path, home_id, listen, socket_lock};
