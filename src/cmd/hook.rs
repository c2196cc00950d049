//! Runs one hook, as `session/hooks.rs` starts it: in its turn, without a token, and for a limited time.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::agent::server::close_inherited_descriptors;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{FileLock, LockError, LockFile};
use crate::session::{RunningGroup, run_limited};

/// How long a hook may run, and how long it waits for its turn.
const LIMIT: Duration = Duration::from_secs(30);

/// How many hooks may wait for a turn.
const MAX_WAITING: usize = 8;

/// The maximum size of an event.
const MAX_EVENT: u64 = 32 * 1024;

/// Takes one of the places in which hooks wait for `slot`; `None` if there is none.
fn waiting_place(slot: &Path) -> Result<Option<FileLock>, LockError> {
    for place in 0..MAX_WAITING {
        if let Some(lock) = LockFile::open(slot.with_extension(format!("waiting{place}")))?.try_lock()? {
            return Ok(Some(lock));
        }
    }
    Ok(None)
}

/// Runs the command with the event on stdin, while `slot` is locked. Its process group is killed when it ends or after
/// [`LIMIT`].
///
/// # Errors
/// [`ErrorCode::Unexpected`] if it cannot be run, fails or is killed.
pub(super) fn run(slot: PathBuf, words: &[OsString]) -> Result<u8, Error> {
    close_inherited_descriptors(0);
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let mut event = Vec::new();
    let unexpected = |e: io::Error| Error::new(ErrorCode::Unexpected, e, Hint::None);
    io::stdin().take(MAX_EVENT).read_to_end(&mut event).map_err(unexpected)?;
    let name = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let failed = |what: String| Error::msg(ErrorCode::Unexpected, format!("the hook `{name}` {what}"), Hint::None);
    let place =
        waiting_place(&slot)?.ok_or_else(|| failed(format!("was not run: {MAX_WAITING} others are waiting")))?;
    let _slot = LockFile::open(slot)?.lock_blocking(LIMIT).map_err(|error| match error {
        LockError::TimedOut { .. } => failed(format!("was not run: others took {} s", LIMIT.as_secs())),
        error => error.into(),
    })?;
    drop(place);
    let Some((program, arguments)) = words.split_first() else { return Err(failed("is empty".into())) };
    let mut command = Command::new(program);
    command.args(arguments);
    let ended = run_limited(command, &event, LIMIT, None, &RunningGroup::default());
    match ended.map_err(|e| failed(format!("cannot be run: {e}")))?.status {
        Some(status) if status.success() => Ok(0),
        Some(status) => Err(failed(format!("failed: {status}"))),
        None => Err(failed(format!("was killed after {} s", LIMIT.as_secs()))),
    }
}
