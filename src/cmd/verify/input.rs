//! The tokens on stdin.

use std::io;

use crate::error::{Error, ErrorCode};
use crate::verify::{Reason, ReasonCode};

/// The longest token, in bytes.
pub(super) const MAX_TOKEN_LENGTH: usize = 1024 * 1024;

/// Returns the error that stdin cannot be read.
pub(super) fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorCode::Usage, anyhow::Error::new(error).context("reading stdin"), "pipe a token in")
}

/// Returns a token as text, without trailing white space.
pub(super) fn as_text(token: &[u8]) -> Result<&str, Reason> {
    let malformed = |why| Reason::new(ReasonCode::Malformed, why);
    match std::str::from_utf8(token) {
        _ if token.len() > MAX_TOKEN_LENGTH => Err(malformed("the token is longer than 1 MiB")),
        Ok(text) => Ok(text.trim_ascii_end()),
        Err(_) => Err(malformed("the token is not text")),
    }
}
