//! The profile lock of a session that is not stored.

use std::sync::Arc;

use crate::store::ProfileLock;

/// The profile lock of an unsaved session of the agent.
pub(super) enum UnsavedLock {
    Held(ProfileLock),
    /// Left to a login or logout, and taken again afterwards.
    Released {
        /// Whether the issuer is to revoke the unsaved session if that command deletes the stored one.
        revoke: bool,
    },
    /// The session is stored or replaced.
    Ended,
}

/// Locked during each attempt to store the session.
pub(super) type SharedLock = Arc<tokio::sync::Mutex<UnsavedLock>>;
