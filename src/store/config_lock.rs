//! The configuration lock: one process at a time changes the configuration file.

use std::path::Path;
use std::time::Duration;

use super::{LockError, ProfileLock};
use crate::clock::Clock;
use crate::model::ProfileName;

/// Waits for the configuration lock in the directory `data` for at most `limit`.
///
/// # Errors
/// [`LockError`].
pub async fn lock_config(data: &Path, clock: &dyn Clock, limit: Duration) -> Result<ProfileLock, LockError> {
    #[allow(clippy::expect_used, reason = "a word is a valid profile name")]
    let name: ProfileName = "config".parse().expect("a name");
    ProfileLock::acquire(data, &name, clock, limit).await
}
