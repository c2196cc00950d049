//! The tokens on stdin.

use std::io;
use std::path::Path;

use crate::error::{Error, ErrorCode, Hint};
use crate::text::bare_token;
use crate::verify::{MAX_TOKEN_LENGTH, Reason, ReasonCode};

/// Returns the error that stdin cannot be read.
pub(super) fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorCode::Usage, anyhow::Error::new(error).context("reading stdin"), help())
}

/// Suggests to look at how tokens are given.
pub(super) fn help() -> Hint {
    Hint::command("verify").with_flag("--help")
}

/// Suggests the typed command line with the token from stdin, if a file was named in place of a profile.
pub(super) fn read_from(file: &str) -> Option<Hint> {
    let hint = Hint::command("verify").with_argument("-").with_stdin(file).or_correction(file, "-");
    Path::new(file).is_file().then_some(hint)
}

/// How much of stdin, or of a line, is read: a token and what may be pasted along with it.
pub(super) const MAX_LENGTH: usize = MAX_TOKEN_LENGTH + 64;

/// Returns a token as text, without what is pasted along with it.
pub(super) fn as_text(token: &[u8]) -> Result<&str, Reason> {
    let malformed = |why: &str| Reason::new(ReasonCode::Malformed, why);
    let text = std::str::from_utf8(token).map(bare_token);
    match text {
        _ if token.len() == MAX_LENGTH || text.map_or(token.len(), str::len) > MAX_TOKEN_LENGTH => {
            Err(malformed(&format!("the token is longer than {MAX_TOKEN_LENGTH} bytes")))
        }
        Ok(text) => Ok(text),
        Err(_) => Err(malformed("the token is not text")),
    }
}
