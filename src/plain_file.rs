//! Opens and reads a file that somebody named, such as a key: only a plain one, and no more of it than it can be.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::secret::SecretBytes;

/// The file at `path`, where it is a plain one of at most `most` bytes. Nobody waits for what a pipe may never bring, the
/// agent least of all.
///
/// # Errors
/// Why not, as the end of a sentence.
pub fn open(path: &Path, most: u64) -> Result<(File, Metadata), String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| std::io::Error::from(e).to_string())?.into();
    let about = file.metadata().map_err(|e| e.to_string())?;
    if !about.is_file() {
        return Err("it is no plain file".into());
    }
    if about.len() > most { Err(too_long(most)) } else { Ok((file, about)) }
}

/// All of it.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, most: u64) -> Result<SecretBytes, String> {
    let (file, _) = open(path, most)?;
    let mut bytes = SecretBytes::default();
    let length = std::io::copy(&mut file.take(most + 1), &mut bytes).map_err(|e| e.to_string())?;
    if length > most { Err(too_long(most)) } else { Ok(bytes) }
}

fn too_long(most: u64) -> String {
    format!("it is larger than {} KiB", most / 1024)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_but_a_plain_file_that_is_not_too_long() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (pipe, file) = (dir.path().join("pipe"), dir.path().join("file"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        std::fs::write(&file, "x".repeat(1024)).expect("written");
        for (path, most, why) in [
            (pipe.as_path(), 1024, Some("it is no plain file")),
            (dir.path(), 1024, Some("it is no plain file")),
            (Path::new("/dev/zero"), 1024, Some("it is no plain file")),
            (file.as_path(), 1023, Some("it is larger than 0 KiB")),
            (file.as_path(), 1024, None),
        ] {
            let (tell, told) = channel();
            let tried = path.to_owned();
            std::thread::spawn(move || tell.send(read(&tried, most).map(|bytes| bytes.expose().len())));
            let read = told.recv_timeout(Duration::from_secs(10)).expect("nobody waits for a pipe");
            assert_eq!(read, why.map_or(Ok(1024), |why| Err(why.to_owned())), "{}", path.display());
        }
    }
}
