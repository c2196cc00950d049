//! Calls a part of a command that needs much stack.

use crate::app::App;
use crate::error::Error;

/// Calls `run`, which is never inlined into the caller.
///
/// Inlined into one frame, the commands take 72 KB of stack. `token` through the agent, which needs little of it, touched 18
/// pages more for it, of 153 page faults in all.
#[inline(never)]
pub fn in_own_frame<A>(run: fn(&App, A) -> Result<u8, Error>, app: &App, args: A) -> Result<u8, Error> {
    run(app, args)
}
