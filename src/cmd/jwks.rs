//! The file of `--jwks`: an issuer's public keys, to verify with or to pin.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::{Error, ErrorCode, Hint};
use crate::verify::KeySet;

/// Returns the keys in a file, and its text.
///
/// # Errors
/// [`ErrorCode::Usage`] if it contains no public key.
pub(super) fn read(path: &Path) -> Result<(KeySet, String), Error> {
    let unusable = |e: anyhow::Error| {
        Error::new(
            ErrorCode::Usage,
            e.context(format!("cannot use the keys in {} (--jwks)", path.display())),
            Hint::list(path),
        )
    };
    let file = File::open(path).map_err(|e| unusable(e.into()))?;
    let mut text = String::new();
    file.take(KeySet::MAX_LENGTH as u64 + 1).read_to_string(&mut text).map_err(|e| unusable(e.into()))?;
    let keys = KeySet::parse(&text).map_err(|e| unusable(e.into()))?;
    if keys.is_empty() {
        return Err(unusable(anyhow::anyhow!("none is a public signing key{}", keys.skipped_suffix())));
    }
    Ok((keys, text))
}
