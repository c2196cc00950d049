//! Reads a file that the user named, such as a key: only a regular file, and only up to a size.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::secret::SecretBytes;

/// Opens the regular file at `path`, of at most `max_bytes`. Never waits for a writer, as opening a pipe would.
///
/// # Errors
/// The reason, to follow the path and a colon.
pub fn open(path: &Path, max_bytes: u64) -> Result<(File, Metadata), String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| std::io::Error::from(e).to_string())?.into();
    let metadata = file.metadata().map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".into());
    }
    if metadata.len() > max_bytes { Err(too_large(max_bytes)) } else { Ok((file, metadata)) }
}

/// Reads the regular file at `path`, of at most `max_bytes`.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, max_bytes: u64) -> Result<SecretBytes, String> {
    let (file, _) = open(path, max_bytes)?;
    let mut bytes = SecretBytes::default();
    let length = std::io::copy(&mut file.take(max_bytes + 1), &mut bytes).map_err(|e| e.to_string())?;
    if length > max_bytes { Err(too_large(max_bytes)) } else { Ok(bytes) }
}

fn too_large(max_bytes: u64) -> String {
    format!("larger than {} KiB", max_bytes / 1024)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read_and_pipes_do_not_block() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (pipe, file) = (dir.path().join("pipe"), dir.path().join("file"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        std::fs::write(&file, "x".repeat(1024)).expect("written");
        for (path, max_bytes, error) in [
            (pipe.as_path(), 1024, Some("not a regular file")),
            (dir.path(), 1024, Some("not a regular file")),
            (Path::new("/dev/zero"), 1024, Some("not a regular file")),
            (file.as_path(), 1023, Some("larger than 0 KiB")),
            (file.as_path(), 1024, None),
        ] {
            let (sender, receiver) = channel();
            let tried = path.to_owned();
            std::thread::spawn(move || sender.send(read(&tried, max_bytes).map(|bytes| bytes.expose().len())));
            let read = receiver.recv_timeout(Duration::from_secs(10)).expect("does not block");
            assert_eq!(read, error.map_or(Ok(1024), |error| Err(error.to_owned())), "{}", path.display());
        }
    }
}
