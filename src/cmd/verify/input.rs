//! The tokens on stdin.

use std::io;

use crate::error::{Error, ErrorCode};
use crate::verify::{MAX_TOKEN_LENGTH, Reason, ReasonCode};

/// Returns the error that stdin cannot be read.
pub(super) fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorCode::Usage, anyhow::Error::new(error).context("reading stdin"), "pipe a token in")
}

/// Returns a token as text, without trailing white space.
pub(super) fn as_text(token: &[u8]) -> Result<&str, Reason> {
    let malformed = |why: &str| Reason::new(ReasonCode::Malformed, why);
    let token = token.trim_ascii_end();
    match std::str::from_utf8(token) {
        _ if token.len() > MAX_TOKEN_LENGTH => {
            Err(malformed(&format!("the token is longer than {MAX_TOKEN_LENGTH} bytes")))
        }
        Ok(text) => Ok(text),
        Err(_) => Err(malformed("the token is not text")),
    }
}
