//! The agent: what both ends of its socket share, and the server.

pub mod protocol;
pub mod server;
