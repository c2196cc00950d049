//! The file of a key that a proxy keeps when it is started again.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{directory_of, is_private, regular_file};
use crate::oauth::random;
use crate::secret::Secret;

/// The largest file, in bytes.
const MAX_FILE: u64 = 4096;

/// The shortest key.
const MIN_KEY: usize = 16;

/// Reads the key in a file, or writes a new one to it, mode 0600.
///
/// # Errors
/// [`ErrorCode::Usage`] if the file cannot be read or written, if others can read it, or if its text is no key.
pub(super) fn read_or_create(path: &Path) -> Result<Secret, Error> {
    let failed = |error: io::Error| {
        let (context, kind) = (format!("cannot use the key file {}", path.display()), error.kind());
        Error::new(ErrorCode::Usage, anyhow::Error::new(error).context(context), Hint::access(path, kind))
    };
    let mode = match std::fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = random()?;
            if create(path, &key).map_err(failed)? {
                return Ok(Secret::new(key));
            }
            // Another proxy has just created it.
            std::fs::metadata(path).map_err(failed)?.permissions().mode()
        }
        Err(error) => return Err(failed(error)),
    };
    let shown = path.display().to_string();
    if !is_private(mode) {
        let hint = Hint::chmod("600", path);
        return Err(Error::msg(ErrorCode::Usage, format!("other users can read the key file {shown}"), hint));
    }
    let bytes = regular_file::check_path(path)
        .map_err(|e| e.to_string())
        .and_then(|()| regular_file::read(path, MAX_FILE))
        .map_err(|e| failed(io::Error::other(e)))?;
    let text = std::str::from_utf8(bytes.expose()).unwrap_or_default().trim();
    let is_key = text.len() >= MIN_KEY && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_key {
        let message = format!("the key file {shown} has no key of at least {MIN_KEY} visible ASCII characters");
        return Err(Error::msg(ErrorCode::Usage, message, Hint::command("proxy").with_flag("--help")));
    }
    Ok(Secret::new(text.to_owned()))
}

/// Creates the file whole; returns whether there was none.
fn create(path: &Path, key: &str) -> io::Result<bool> {
    let mut file = NamedTempFile::new_in(directory_of(path))?;
    file.write_all(key.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}
